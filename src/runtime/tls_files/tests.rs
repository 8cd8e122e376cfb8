//! Certificate files: what is refused, with which words, and when they are read anew.

use std::os::unix::fs::PermissionsExt;

use super::super::clock::{Clock, now};
use super::super::tls_make::{NewCertificate, make_certificate};
use super::*;

/// A folder of its own with a good pair.
fn pair(name: &str) -> TlsFiles {
    let folder = std::env::temp_dir().join(format!("rtmpeer-{}-{name}", std::process::id()));
    let wanted = NewCertificate {
        folder,
        names: Vec::new(),
        replace: true,
    };
    let wall = Clock::start().timebase().wall(now());
    make_certificate(&wanted, wall).unwrap().files
}

fn load(files: &TlsFiles) -> Result<TlsKeeper, TlsFilesError> {
    // An earlier test may have done so.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    TlsKeeper::load(files.clone(), Clock::start().timebase(), now())
}

fn refusal(files: &TlsFiles) -> String {
    load(files).unwrap_err().to_string()
}

#[test]
fn good_pair_is_taken() {
    let keeper = load(&pair("good")).unwrap();
    assert!(keeper.rtmps().config_of().alpn_protocols.is_empty());
    assert_eq!(keeper.https().config_of().alpn_protocols, [b"http/1.1"]);
}

#[test]
fn each_fault_names_its_key_and_says_what_to_do() {
    let good = pair("faults");
    let other = pair("faults-other");
    let folder = good.key.parent().unwrap().to_path_buf();
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let certificate = |certificate: PathBuf| TlsFiles {
        certificate,
        ..good.clone()
    };
    let key = |key: PathBuf| TlsFiles {
        key,
        ..good.clone()
    };
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let locked =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    for (files, names, advises) in [
        (
            certificate(folder.join("none")),
            "tls.certificate: ",
            "rtmpeer cert",
        ),
        (
            certificate(folder.clone()),
            "tls.certificate: ",
            "is no file",
        ),
        (
            certificate(file("empty", "")),
            "tls.certificate: ",
            "BEGIN CERTIFICATE",
        ),
        (
            certificate(good.key.clone()),
            "tls.certificate: ",
            "BEGIN CERTIFICATE",
        ),
        (
            certificate(file("broken", broken)),
            "tls.certificate: ",
            "cannot be used",
        ),
        (
            key(folder.join("none")),
            "tls.key: ",
            "name a file that is there",
        ),
        (
            key(good.certificate.clone()),
            "tls.key: ",
            "BEGIN PRIVATE KEY",
        ),
        (key(file("locked", locked)), "tls.key: ", "openssl pkey"),
        (key(other.key), "tls.key: ", "belong together"),
    ] {
        let text = refusal(&files);
        assert!(text.starts_with(names) && text.contains(advises), "{text}");
        assert!(!text.contains('\n'), "{text}");
    }
}

#[test]
fn changed_files_are_read_once_they_rest_and_only_once() {
    let stamps = |size| {
        let stamp = Some((1, 2, size, (0, 0), (0, 0)));
        Stamps(stamp, stamp)
    };
    let mut watch = Watch::new(stamps(1));
    assert!(!watch.is_to_be_read(&stamps(1)));
    assert!(!watch.is_to_be_read(&stamps(2)), "it may still change");
    assert!(!watch.is_to_be_read(&stamps(3)), "it did");
    assert!(watch.is_to_be_read(&stamps(3)));
    watch = Watch::new(stamps(3));
    assert!(!watch.is_to_be_read(&stamps(3)), "whatever came of it");
    assert!(!watch.is_to_be_read(&Stamps(None, None)));
    assert!(
        watch.is_to_be_read(&Stamps(None, None)),
        "they were removed"
    );
}

#[test]
fn bad_new_files_leave_the_old_certificate_in_use() {
    let files = pair("reload");
    let mut keeper = load(&files).unwrap();
    let before = keeper.https();
    std::fs::write(&files.certificate, "broken").unwrap();
    keeper.reload(now());
    assert!(Arc::ptr_eq(before.config_of(), keeper.https().config_of()));
    pair("reload");
    keeper.reload(now());
    assert!(!Arc::ptr_eq(before.config_of(), keeper.https().config_of()));
}

#[test]
fn files_that_others_may_read_now_are_looked_at_again() {
    let files = pair("mode");
    let before = Stamps::of(&files);
    let mode = std::fs::Permissions::from_mode(0o640);
    // The file system's clock has ticks.
    let is_noticed = (0..100_000).any(|_| {
        std::fs::set_permissions(&files.key, mode.clone()).unwrap();
        Stamps::of(&files) != before
    });
    assert!(is_noticed);
}

#[test]
fn files_that_could_not_be_read_are_tried_each_minute_though_nothing_about_them_changes() {
    let files = pair("again");
    let mut keeper = load(&files).unwrap();
    let (before, start) = (keeper.https(), now());
    std::fs::write(&files.certificate, "broken").unwrap();
    keeper.reload(start);
    pair("again");
    // As if they were the same: a folder on the way to them was opened.
    keeper.watch = Watch::new(Stamps::of(&files));
    keeper.look(start + Duration::from_secs(59));
    assert!(Arc::ptr_eq(before.config_of(), keeper.https().config_of()));
    keeper.look(start + Duration::from_secs(63));
    assert!(!Arc::ptr_eq(before.config_of(), keeper.https().config_of()));
    // Not any more.
    let after = keeper.https();
    keeper.look(start + Duration::from_secs(180));
    assert!(Arc::ptr_eq(after.config_of(), keeper.https().config_of()));
}

#[test]
fn a_failure_is_warned_of_once_however_often_the_files_are_tried() {
    let files = pair("once");
    let mut keeper = load(&files).unwrap();
    let why = |text: &str| TlsFilesError {
        key: KEY,
        text: text.to_owned(),
    };
    assert!(keeper.note_failure(&why("a"), now()));
    assert!(!keeper.note_failure(&why("a"), now()));
    assert!(keeper.note_failure(&why("b"), now()));
    // Who sends SIGHUP wants to know.
    std::fs::write(&files.certificate, "broken").unwrap();
    keeper.reload(now());
    let told = keeper.failure.as_ref().map(|failure| failure.why.clone());
    assert!(!keeper.note_failure(&told.unwrap(), now()));
    pair("once");
    keeper.reload(now());
    assert!(keeper.failure.is_none());
}

const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn ends_that_are_near_or_past_and_beginnings_to_come_are_worth_a_word() {
    let validity = 100 * DAY..=190 * DAY;
    let said = |day: u32| concern(&validity, day * DAY);
    assert!(said(99).unwrap().contains("begins only on"));
    assert_eq!((said(100), said(176)), (None, None));
    let soon = said(177).unwrap();
    assert!(soon.contains("ends soon, on Fri, 10 Jul 1970"), "{soon}");
    assert!(said(191).unwrap().contains("ended on"));
}

#[test]
fn an_end_that_comes_nearer_while_the_server_runs_is_warned_of_once_a_day() {
    let mut keeper = load(&pair("nearer")).unwrap();
    let (start, wall) = (now(), Clock::start().timebase().wall(now()));
    let left = keeper.expires().unwrap() - wall;
    assert!(left > 396 * DAY && left <= 397 * DAY, "{left:?}");
    let days = (0..400).filter(|day| keeper.concern_due(start + *day * DAY).is_some());
    let days: Vec<u32> = days.collect();
    assert_eq!(days.len(), 17, "{days:?}");
    assert_eq!(days[0], 383);
    let last = start + 399 * DAY;
    assert_eq!(keeper.concern_due(last), None, "again only tomorrow");
}
