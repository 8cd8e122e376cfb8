//! The certificate's files: read, checked, looked at again and again for changes, and read anew
//! without touching a connection. PEM (RFC 7468).

use std::fmt;
use std::fs::{File, Metadata};
use std::io::Read;
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::{InconsistentKeys, ServerConfig};

use super::tls::{TlsProtocol, TlsTerms};
use super::tls_dates::{date, validity};
use crate::limits::{
    TLS_CHAIN_MAX, TLS_EXPIRY_WARNING, TLS_EXPIRY_WARNING_INTERVAL, TLS_FILE_BYTES_MAX,
    TLS_FILES_CHECK_INTERVAL, TLS_FILES_RETRY_INTERVAL,
};
use crate::media::time::Timebase;

/// The configuration's names of the two files.
const CERTIFICATE: &str = "tls.certificate";
const KEY: &str = "tls.key";
/// What anybody else than owner and group may do with a file.
const OTHERS: u32 = 0o007;

/// Where certificate and key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// `tls.certificate`: the chain, the server's own first.
    pub certificate: PathBuf,
    /// `tls.key`.
    pub key: PathBuf,
}

/// Why a certificate cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFilesError {
    /// The configuration key that names the file.
    pub key: &'static str,
    /// What is wrong and what to do.
    pub text: String,
}

impl fmt::Display for TlsFilesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.text)
    }
}

/// The certificate in use, and the files it came from.
#[derive(Debug)]
pub struct TlsKeeper {
    files: TlsFiles,
    timebase: Timebase,
    certificate: Certificate,
    watch: Watch,
    failure: Option<Failure>,
    next_look: Instant,
    /// When its end is looked at again.
    next_concern: Instant,
}

/// The files could not be used when they were last read.
#[derive(Debug)]
struct Failure {
    why: TlsFilesError,
    /// When they are tried again.
    again: Instant,
}

/// A certificate as it was read.
#[derive(Debug)]
struct Certificate {
    rtmps: TlsTerms,
    https: TlsTerms,
    /// Its first and its last moment, since the Unix epoch.
    validity: Option<RangeInclusive<Duration>>,
}

impl TlsKeeper {
    /// Reads the files for the first time. Warns on the log of what will not do for long.
    ///
    /// # Errors
    /// When one of them is missing or unreadable, or they are no certificate and its key.
    pub fn load(files: TlsFiles, timebase: Timebase, now: Instant) -> Result<Self, TlsFilesError> {
        let stamps = Stamps::of(&files);
        let certificate = read(&files, timebase.wall(now))?;
        Ok(Self {
            files,
            timebase,
            certificate,
            watch: Watch::new(stamps),
            failure: None,
            next_look: after(now, TLS_FILES_CHECK_INTERVAL),
            next_concern: after(now, TLS_EXPIRY_WARNING_INTERVAL),
        })
    }

    /// Terms for the next RTMPS connection.
    #[must_use]
    pub fn rtmps(&self) -> TlsTerms {
        self.certificate.rtmps.clone()
    }

    /// Terms for the next HTTPS connection.
    #[must_use]
    pub fn https(&self) -> TlsTerms {
        self.certificate.https.clone()
    }

    /// The certificate's last moment, since the Unix epoch; `None` if it cannot be read.
    #[must_use]
    pub fn expires(&self) -> Option<Duration> {
        let validity = self.certificate.validity.as_ref();
        validity.map(|validity| *validity.end())
    }

    /// When [`TlsKeeper::look`] wants to be called.
    pub(super) fn next_look(&self) -> Instant {
        self.next_look
    }

    /// Looks whether the files changed, if it is time, and reads them anew if they did, or could not be
    /// used a while ago. Warns of an end that has come nearer meanwhile.
    pub(super) fn look(&mut self, now: Instant) {
        if now < self.next_look {
            return;
        }
        self.next_look = after(now, TLS_FILES_CHECK_INTERVAL);
        let stamps = Stamps::of(&self.files);
        let changed = self.watch.is_to_be_read(&stamps);
        if changed {
            self.failure = None;
        }
        let failed = self.failure.as_ref();
        let again = failed.is_some_and(|failure| failure.again <= now) && self.watch.read == stamps;
        if changed || again {
            self.take(stamps, now);
        }
        if let Some(text) = self.concern_due(now) {
            log::warn!("{CERTIFICATE}: {} {text}", self.files.certificate.display());
        }
    }

    /// What there is to warn of, once in [`TLS_EXPIRY_WARNING_INTERVAL`].
    fn concern_due(&mut self, now: Instant) -> Option<String> {
        if now < self.next_concern {
            return None;
        }
        self.next_concern = after(now, TLS_EXPIRY_WARNING_INTERVAL);
        let validity = self.certificate.validity.as_ref()?;
        concern(validity, self.timebase.wall(now))
    }

    /// Reads the files anew, changed or not. If they cannot be used the ones before stay.
    pub(super) fn reload(&mut self, now: Instant) {
        let stamps = Stamps::of(&self.files);
        self.failure = None;
        self.take(stamps, now);
    }

    fn take(&mut self, stamps: Stamps, now: Instant) {
        self.watch = Watch::new(stamps);
        match read(&self.files, self.timebase.wall(now)) {
            Ok(certificate) => {
                self.certificate = certificate;
                self.failure = None;
                self.next_concern = after(now, TLS_EXPIRY_WARNING_INTERVAL);
            }
            Err(error) => {
                if self.note_failure(&error, now) {
                    log::warn!("the new certificate is not used, the one before stays: {error}");
                }
            }
        }
    }

    /// Has the files tried again in a while. Whether there is something to say that was not yet said.
    fn note_failure(&mut self, why: &TlsFilesError, now: Instant) -> bool {
        let failure = Failure {
            why: why.clone(),
            again: after(now, TLS_FILES_RETRY_INTERVAL),
        };
        let before = self.failure.replace(failure);
        before.is_none_or(|before| before.why != *why)
    }
}

fn after(now: Instant, time: Duration) -> Instant {
    now.checked_add(time).unwrap_or(now)
}

/// What tells one state of a file from another: where it is, its length, when it was written, and
/// when owner or mode last changed, in seconds and nanoseconds. `None`: it cannot be looked at.
type Stamp = Option<(u64, u64, u64, (i64, i64), (i64, i64))>;

/// The state of both files.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamps(Stamp, Stamp);

impl Stamps {
    fn of(files: &TlsFiles) -> Self {
        let stamp = |path: &Path| {
            let about = std::fs::metadata(path).ok()?;
            Some((
                about.dev(),
                about.ino(),
                about.len(),
                (about.mtime(), about.mtime_nsec()),
                (about.ctime(), about.ctime_nsec()),
            ))
        };
        Self(stamp(&files.certificate), stamp(&files.key))
    }
}

/// Decides when changed files are read: once they rest, since two files change one after the other.
#[derive(Debug)]
struct Watch {
    /// When they were read, whatever came of it.
    read: Stamps,
    /// When they were last looked at.
    seen: Stamps,
}

impl Watch {
    fn new(read: Stamps) -> Self {
        let seen = read.clone();
        Self { read, seen }
    }

    fn is_to_be_read(&mut self, stamps: &Stamps) -> bool {
        let rests = self.seen == *stamps;
        self.seen = stamps.clone();
        rests && self.read != *stamps
    }
}

/// Reads and checks both files. Warnings go to the log.
fn read(files: &TlsFiles, wall: Duration) -> Result<Certificate, TlsFilesError> {
    let chain = read_chain(&files.certificate)?;
    let (key, about_key) = read_key(&files.key)?;
    let validity = chain.first().and_then(|leaf| validity(leaf));
    let shown = files.certificate.display();
    let config = build(chain, key, files)?;
    if about_key.mode() & OTHERS != 0 {
        let shown = files.key.display();
        log::warn!("{KEY}: every user of this machine may read {shown}: chmod 640 {shown}");
    }
    if let Some(validity) = &validity {
        match concern(validity, wall) {
            Some(text) => log::warn!("{CERTIFICATE}: {shown} {text}"),
            None => {
                let until = date(*validity.end());
                log::info!("certificate is valid until {until} file={shown}");
            }
        }
    }
    let mut https = config.clone();
    https.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Certificate {
        rtmps: TlsTerms::new(config, TlsProtocol::Rtmps),
        https: TlsTerms::new(https, TlsProtocol::Https),
        validity,
    })
}

/// What is to be said of a certificate's time at `wall`, behind its name; `None`: it is well.
fn concern(validity: &RangeInclusive<Duration>, wall: Duration) -> Option<String> {
    let last = *validity.end();
    if wall > last {
        let until = date(last);
        return Some(format!(
            "ended on {until}: players and encoders will refuse it; renew it"
        ));
    }
    if wall < *validity.start() {
        let from = date(*validity.start());
        return Some(format!(
            "begins only on {from}: check the clock of this machine"
        ));
    }
    let is_soon = last.saturating_sub(wall) < TLS_EXPIRY_WARNING;
    is_soon.then(|| format!("ends soon, on {}: renew it", date(last)))
}

fn build(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    files: &TlsFiles,
) -> Result<ServerConfig, TlsFilesError> {
    let wrong = |key, text| TlsFilesError { key, text };
    let built = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key);
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the library's errors, not ours"
    )]
    let mut config = built.map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => wrong(
            KEY,
            format!(
                "{} is not the key of {}: name two files that belong together",
                files.key.display(),
                files.certificate.display()
            ),
        ),
        rustls::Error::InvalidCertificate(_) => wrong(
            CERTIFICATE,
            format!("{} cannot be used: {error}", files.certificate.display()),
        ),
        error => wrong(
            KEY,
            format!(
                "{} cannot be used: {error}; use an ECDSA P-256 or an RSA key",
                files.key.display()
            ),
        ),
    })?;
    // Tickets would save a viewer a signature, and cost a secret that all connections share.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFilesError> {
    let wrong = |text| TlsFilesError {
        key: CERTIFICATE,
        text,
    };
    let (pem, _) = read_file(path, CERTIFICATE)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem)
        .take(TLS_CHAIN_MAX)
        .collect();
    let shown = path.display();
    let chain = chain.map_err(|error| wrong(format!("{shown} is no good PEM file: {error}")))?;
    if chain.is_empty() {
        return Err(wrong(format!(
            "{shown} holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)"
        )));
    }
    Ok(chain)
}

fn read_key(path: &Path) -> Result<(PrivateKeyDer<'static>, Metadata), TlsFilesError> {
    let (pem, about) = read_file(path, KEY)?;
    let shown = path.display();
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| {
        let locked = String::from_utf8_lossy(&pem).contains("ENCRYPTED");
        let text = if locked {
            format!(
                "{shown} is locked by a passphrase: unlock it, openssl pkey -in {shown} -out \
                 FILE"
            )
        } else {
            format!(
                "{shown} holds no private key in PEM form (-----BEGIN PRIVATE KEY-----): {error}"
            )
        };
        TlsFilesError { key: KEY, text }
    })?;
    Ok((key, about))
}

fn read_file(path: &Path, key: &'static str) -> Result<(Vec<u8>, Metadata), TlsFilesError> {
    let shown = path.display();
    let failed = |error: std::io::Error| {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the system's errors, not ours"
        )]
        let advice = match error.kind() {
            std::io::ErrorKind::NotFound => {
                "name a file that is there; \"rtmpeer cert\" makes a certificate to begin with"
            }
            std::io::ErrorKind::PermissionDenied => "let the user that rtmpeer runs as read it",
            _ => "name a file that can be read",
        };
        let text = format!("{shown} cannot be read: {error}; {advice}");
        TlsFilesError { key, text }
    };
    let wrong = |what: &str| TlsFilesError {
        key,
        text: format!("{shown} {what}: name a PEM file"),
    };
    // Looked at first: opening a pipe would wait for its other end.
    let about = std::fs::metadata(path).map_err(failed)?;
    if !about.is_file() {
        return Err(wrong("is no file"));
    }
    if about.len() > TLS_FILE_BYTES_MAX {
        return Err(wrong("is too large"));
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(TLS_FILE_BYTES_MAX).read_to_end(&mut bytes))
        .map_err(failed)?;
    Ok((bytes, about))
}

#[cfg(test)]
mod tests;
