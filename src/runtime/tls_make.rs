//! `rtmpeer cert`: a self-signed certificate to begin with (RFC 5280), ECDSA P-256, and its key in a
//! file that only its owner reads.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};

use super::interfaces::interface_addresses;
use super::tls_dates::date;
use super::tls_files::TlsFiles;

/// How long it is valid: browsers take no certificate for longer than 398 days.
const VALID_FOR: Duration = Duration::from_secs(397 * 86_400);
/// How long before now it begins, for clocks that are behind.
const VALID_BEFORE: Duration = Duration::from_secs(3_600);
/// Names that one certificate may hold.
const NAMES_MAX: usize = 100;
/// Where Linux tells the machine's name.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// What to make.
#[derive(Debug, Clone)]
pub struct NewCertificate {
    /// The folder to write `cert.pem` and `key.pem` into; made if it is not there.
    pub folder: PathBuf,
    /// Host names and addresses, besides those of this machine.
    pub names: Vec<String>,
    /// Whether files that are there may be replaced.
    pub replace: bool,
}

/// What was made.
#[derive(Debug, Clone)]
pub struct MadeCertificate {
    /// The two files.
    pub files: TlsFiles,
    /// Everything it is valid for.
    pub names: Vec<String>,
    /// When it ends, as people read it.
    pub until: String,
}

/// Why no certificate was made.
#[derive(Debug)]
pub enum NewCertificateError {
    /// A file is there already.
    Exists(PathBuf),
    /// A file or folder cannot be written.
    File(PathBuf, io::Error),
    /// A name cannot be in a certificate, or the library refused.
    Refused(String),
}

impl fmt::Display for NewCertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists(path) => write!(
                f,
                "{} is there already: choose another folder by --out, or replace it by --force",
                path.display()
            ),
            Self::File(path, error) => {
                write!(f, "{} cannot be written: {error}", path.display())
            }
            Self::Refused(text) => write!(f, "no certificate was made: {text}"),
        }
    }
}

impl std::error::Error for NewCertificateError {}

/// Makes a certificate and writes it. `wall` is the time since the Unix epoch.
///
/// # Errors
/// See [`NewCertificateError`]. Files that were there are untouched then.
pub fn make_certificate(
    wanted: &NewCertificate,
    wall: Duration,
) -> Result<MadeCertificate, NewCertificateError> {
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |error| NewCertificateError::File(path, error)
    };
    std::fs::create_dir_all(&wanted.folder).map_err(failed(&wanted.folder))?;
    let folder = wanted
        .folder
        .canonicalize()
        .map_err(failed(&wanted.folder))?;
    let files = TlsFiles {
        certificate: folder.join("cert.pem"),
        key: folder.join("key.pem"),
    };
    for path in [&files.certificate, &files.key] {
        if path.symlink_metadata().is_ok() && !wanted.replace {
            return Err(NewCertificateError::Exists(path.clone()));
        }
    }
    let names = all_names(&wanted.names)?;
    let refused = |error: rcgen::Error| NewCertificateError::Refused(error.to_string());
    let mut params = CertificateParams::new(names.clone()).map_err(refused)?;
    params.not_before = (UNIX_EPOCH + wall.saturating_sub(VALID_BEFORE)).into();
    params.not_after = (UNIX_EPOCH + wall.saturating_add(VALID_FOR)).into();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "rtmpeer");
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(refused)?;
    let certificate = params.self_signed(&key).map_err(refused)?;
    // The key first: a server that watches the files reads them once both rest.
    write_file(&files.key, 0o600, &key.serialize_pem()).map_err(failed(&files.key))?;
    write_file(&files.certificate, 0o644, &certificate.pem())
        .map_err(failed(&files.certificate))?;
    Ok(MadeCertificate {
        files,
        names,
        until: date(wall.saturating_add(VALID_FOR)),
    })
}

/// The machine's names and addresses and those asked for, each once.
fn all_names(asked: &[String]) -> Result<Vec<String>, NewCertificateError> {
    let mut names = vec!["localhost".to_owned()];
    let host = std::fs::read_to_string(HOST_NAME).unwrap_or_default();
    names.extend(Some(host.trim().to_ascii_lowercase()).filter(|host| is_name(host)));
    let loopback = [
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    ];
    let addresses = loopback.into_iter().chain(interface_addresses());
    names.extend(addresses.map(|address| address.to_string()));
    for name in asked {
        let lower = name.trim().to_ascii_lowercase();
        let is_address = lower.parse::<IpAddr>().is_ok();
        if !is_address && !is_name(lower.strip_prefix("*.").unwrap_or(&lower)) {
            return Err(NewCertificateError::Refused(format!(
                "{name:?} is no host name and no IP address"
            )));
        }
        names.push(lower);
    }
    let mut known = std::collections::BTreeSet::new();
    names.retain(|name| known.insert(name.clone()));
    names.truncate(NAMES_MAX);
    Ok(names)
}

/// Whether a text is a host name (RFC 1123 §2.1).
fn is_name(text: &str) -> bool {
    /// RFC 1035 §2.3.4.
    const NAME_BYTES_MAX: usize = 253;
    const LABEL_BYTES_MAX: usize = 63;
    let label = |label: &str| {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(legal)
    };
    text.len() <= NAME_BYTES_MAX && text.split('.').all(label)
}

/// Writes a file beside its place and moves it there: nobody sees a half of it.
fn write_file(path: &Path, mode: u32, text: &str) -> io::Result<()> {
    let beside = path.with_extension("pem.new");
    // One that an earlier try left.
    let _ = std::fs::remove_file(&beside);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn wanted(name: &str, names: &[&str], replace: bool) -> NewCertificate {
        let folder = format!("rtmpeer-{}-make-{name}", std::process::id());
        NewCertificate {
            folder: std::env::temp_dir().join(folder),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            replace,
        }
    }

    const NOW: Duration = Duration::from_secs(1_795_558_137);

    #[test]
    fn key_is_its_owners_alone_and_what_is_there_stays() {
        let made = make_certificate(&wanted("own", &["Live.example.org"], false), NOW).unwrap();
        let mode = made.files.key.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(made.until, "Sun, 26 Dec 2027 22:08:57 GMT");
        for name in ["localhost", "127.0.0.1", "::1", "live.example.org"] {
            assert!(made.names.iter().any(|known| known == name), "{name}");
        }
        let key = std::fs::read(&made.files.key).unwrap();
        let again = make_certificate(&wanted("own", &[], false), NOW);
        assert!(matches!(again, Err(NewCertificateError::Exists(_))));
        assert_eq!(std::fs::read(&made.files.key).unwrap(), key);
        make_certificate(&wanted("own", &[], true), NOW).unwrap();
        assert_ne!(std::fs::read(&made.files.key).unwrap(), key);
    }

    #[test]
    fn names_that_are_none_are_refused_before_anything_is_written() {
        for name in ["", "a b", "http://a", "-a", "a..b", "a/b", "é"] {
            let asked = wanted("names", &[name], false);
            let refused = make_certificate(&asked, NOW);
            assert!(
                matches!(refused, Err(NewCertificateError::Refused(_))),
                "{name:?}"
            );
            assert!(!asked.folder.join("key.pem").exists());
        }
        let good = wanted(
            "names",
            &["*.example.org", "192.0.2.1", "2001:db8::1"],
            true,
        );
        make_certificate(&good, NOW).unwrap();
    }
}
