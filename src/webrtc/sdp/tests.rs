//! SDP of browsers and of nobody: what is answered, and what is refused before str0m reads it.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;
use crate::ids::{CoreId, IdSource, ViewerId};
use crate::media::time::Timebase;
use crate::webrtc::{Certificate, Viewer, ViewerFactory};

macro_rules! corpus {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../tools/fuzz/corpus/sdp_offer/", $name)))),*]
    };
}

/// Every committed seed of the fuzz target `sdp_offer`.
const CORPUS: &[(&str, &str)] = corpus![
    "aiortc",
    "apt_loop",
    "apt_shared",
    "chrome",
    "chrome_mdns",
    "chrome_sendonly",
    "chrome_sendrecv_data",
    "firefox",
    "gstreamer",
    "lite",
    "mid_twice",
    "no_bundle",
    "no_ice",
    "passive",
    "pt_128",
    "pt_shared",
    "pt_twice",
    "safari",
    "sha1",
    "vp8_only",
];
const HIGH: Option<[u8; 3]> = Some([0x64, 0x00, 0x1f]);
const MAIN: Option<[u8; 3]> = Some([0x4d, 0x40, 0x28]);
const CONSTRAINED_BASELINE: Option<[u8; 3]> = Some([0x42, 0xc0, 0x1f]);

fn seed(name: &str) -> &'static str {
    CORPUS.iter().find(|(known, _)| *known == name).unwrap().1
}

#[expect(clippy::disallowed_methods, reason = "any instant will do")]
fn start() -> Instant {
    Instant::now()
}

fn factory() -> ViewerFactory {
    let timebase = Timebase::new(start(), Duration::ZERO);
    let certificate = Certificate::generate().unwrap();
    ViewerFactory::new(CoreId(0), certificate, timebase, IdSource::seeded(1)).unwrap()
}

fn local() -> [SocketAddr; 2] {
    [
        SocketAddr::from(([192, 0, 2, 1], 8_189)),
        "[2001:db8::1]:8189".parse().unwrap(),
    ]
}

fn answer(offer: &str, profile: Option<[u8; 3]>) -> Result<(Viewer, String), ViewerError> {
    factory().answer(ViewerId(1), offer, &local(), profile, start())
}

/// The lines of section `index`, its `m=` line first.
fn section(sdp: &str, index: usize) -> Vec<&str> {
    let text = sdp.split("m=").nth(index + 1).unwrap_or_default();
    text.lines().collect()
}

/// The format that a section's first payload type stands for.
fn first_format(sdp: &str, index: usize) -> String {
    let section = section(sdp, index);
    let pt = section[0].split(' ').nth(3).unwrap();
    let prefix = format!("a=fmtp:{pt} ");
    let mut lines = section.iter();
    lines
        .find_map(|l| l.strip_prefix(&*prefix))
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn browsers_offers_are_answered_with_picture_and_sound() {
    for (name, video, audio) in [
        ("chrome", 0, 1),
        ("chrome_mdns", 0, 1),
        ("firefox", 0, 1),
        ("safari", 0, 1),
        ("aiortc", 1, 0),
        ("gstreamer", 0, 1),
        ("passive", 0, 1),
    ] {
        let (viewer, answer) = answer(seed(name), HIGH).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(
            viewer.plays(TrackKind::Video) && viewer.plays(TrackKind::Audio),
            "{name}"
        );
        for (index, media) in [(video, "video "), (audio, "audio ")] {
            let section = section(&answer, index);
            assert!(section[0].starts_with(media), "{name}: {}", section[0]);
            assert!(
                !section[0].starts_with(&format!("{media}0 ")),
                "{name}: {}",
                section[0]
            );
            let count = |line: &str| section.iter().filter(|l| l.starts_with(line)).count();
            assert_eq!(count("a=sendonly"), 1, "{name}");
            assert_eq!(count("a=msid:rtmpeer "), 1, "{name}");
            assert_eq!(count("a=rtcp-mux"), 1, "{name}");
            assert_eq!(count("a=fingerprint:sha-256 "), 1, "{name}");
            assert!(count("a=ssrc:") >= 2, "{name}");
            let setup = if name == "passive" {
                "a=setup:active"
            } else {
                "a=setup:passive"
            };
            assert_eq!(count(setup), 1, "{name}");
        }
        assert!(
            section(&answer, audio)
                .iter()
                .any(|line| line.contains("sprop-stereo=1"))
        );
        assert_eq!(answer.matches("a=ice-lite").count(), 1, "{name}");
        assert_eq!(answer.matches("a=end-of-candidates").count(), 1, "{name}");
        assert_eq!(answer.matches("a=candidate:").count(), 2, "{name}");
        assert!(
            !answer.contains("transport-cc") && !answer.contains("goog-remb"),
            "{name}"
        );
        assert!(answer.lines().all(|line| !line.ends_with(' ')), "{name}");
    }
}

#[test]
fn payload_type_follows_the_rooms_profile_and_falls_back() {
    for (name, profile, wanted) in [
        ("chrome", HIGH, "64001f"),
        ("chrome", MAIN, "4d001f"),
        ("chrome", CONSTRAINED_BASELINE, "42e01f"),
        ("chrome", Some([0x42, 0x00, 0x1e]), "42001f"),
        ("chrome", None, "42e01f"),
        ("safari", HIGH, "64001f"),
        ("firefox", HIGH, "42e01f"),
        ("aiortc", HIGH, "42e01f"),
    ] {
        let (_, answer) = answer(seed(name), profile).unwrap();
        let index = usize::from(name == "aiortc");
        let format = first_format(&answer, index);
        assert!(format.contains(wanted), "{name} {profile:?}: {format}");
        assert!(format.contains("packetization-mode=1"), "{format}");
    }
    // Safari without plain High has Constrained High.
    let safari = seed("safari").replace("64001f", "42001f");
    assert!(first_format(&answer(&safari, HIGH).unwrap().1, 0).contains("640c1f"));
}

#[test]
fn playout_delay_is_answered_under_the_viewers_own_id() {
    const URI: &str = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay";
    let (_, chrome) = answer(seed("chrome"), HIGH).unwrap();
    assert!(section(&chrome, 0).contains(&&*format!("a=extmap:5 {URI}")));
    let (_, safari) = answer(seed("safari"), HIGH).unwrap();
    assert!(!safari.contains(URI));
}

#[test]
fn retransmissions_are_announced_only_to_those_who_know_them() {
    let (_, chrome) = answer(seed("chrome"), HIGH).unwrap();
    assert_eq!(chrome.matches("a=ssrc-group:FID ").count(), 1);
    let (_, gstreamer) = answer(seed("gstreamer"), HIGH).unwrap();
    assert_eq!(gstreamer.matches("a=ssrc-group:FID ").count(), 0);
}

#[test]
fn sections_of_no_use_are_rejected_and_the_rest_is_sent_only() {
    let offer = seed("chrome_sendrecv_data");
    let (_, answer) = answer(offer, HIGH).unwrap();
    assert_eq!(
        section(&answer, 0)[0],
        "application 0 UDP/DTLS/SCTP webrtc-datachannel"
    );
    assert!(section(&answer, 0).contains(&"a=mid:0"));
    assert!(answer.contains("a=group:BUNDLE 1 2\r\n"));
    assert!(!answer.contains("a=sendrecv"));
    // The candidates stand in the first section that is carried.
    assert!(
        section(&answer, 1)
            .iter()
            .any(|line| line.starts_with("a=candidate:"))
    );
}

#[test]
fn rejected_section_has_the_fingerprint_of_the_session() {
    let fingerprints = |text: &str| -> Vec<String> {
        let lines = text
            .lines()
            .filter(|line| line.starts_with("a=fingerprint:"));
        lines.map(str::to_owned).collect()
    };
    let (_, answer) = answer(seed("chrome_sendrecv_data"), HIGH).unwrap();
    let session = fingerprints(answer.split("m=").next().unwrap());
    assert_eq!(session.len(), 1, "{answer}");
    let all = fingerprints(&answer);
    assert_eq!(all.len(), 3, "its own and one of each that is carried");
    assert!(all.iter().all(|line| *line == session[0]));
}

#[test]
fn second_picture_is_rejected() {
    let offer = seed("chrome");
    let video = format!("m={}", offer.split("m=").nth(1).unwrap());
    let again = video.replace("a=mid:0", "a=mid:2");
    let offer = offer.replace("BUNDLE 0 1", "BUNDLE 0 1 2") + &again;
    let (_, answer) = answer(&offer, HIGH).unwrap();
    assert!(section(&answer, 2)[0].starts_with("video 0 "));
    assert!(answer.contains("a=group:BUNDLE 0 1\r\n"));
}

#[test]
fn viewer_without_our_video_codec_gets_sound() {
    for offer in [
        seed("vp8_only").to_owned(),
        seed("chrome").replace("packetization-mode=1", "packetization-mode=0"),
    ] {
        let (viewer, answer) = answer(&offer, HIGH).unwrap();
        assert!(!viewer.plays(TrackKind::Video) && viewer.plays(TrackKind::Audio));
        assert!(section(&answer, 0)[0].starts_with("video 0 "));
        assert!(answer.contains("a=group:BUNDLE 1\r\n"));
        assert!(
            section(&answer, 1)
                .iter()
                .any(|line| line.starts_with("a=candidate:"))
        );
    }
}

#[test]
fn unusable_offers_are_refused_with_a_reason() {
    for (name, reason) in [
        ("apt_loop", "two meanings"),
        ("apt_shared", "two meanings"),
        ("pt_128", "0 to 127"),
        ("pt_twice", "two meanings"),
        ("pt_shared", "two meanings"),
        ("no_ice", "a=ice-ufrag"),
        ("sha1", "sha-256"),
        ("no_bundle", "BUNDLE"),
        ("chrome_sendonly", "recvonly"),
        ("mid_twice", "cannot be used"),
        ("lite", "cannot be used"),
    ] {
        let error = answer(seed(name), HIGH)
            .map(|_| name)
            .unwrap_err()
            .to_string();
        assert!(error.contains(reason), "{name}: {error}");
    }
}

#[test]
fn reason_names_no_address_of_memory() {
    let offer = seed("chrome").replace("m=video 9 UDP/TLS/RTP/SAVPF", "m=video 9 TCP/XXX");
    let error = answer(&offer, HIGH)
        .map(|_| "answered")
        .unwrap_err()
        .to_string();
    assert!(error.contains("cannot be used"), "{error}");
    assert!(
        !error.contains("0x") && !error.contains("PointerOffset"),
        "{error}"
    );
}

#[test]
fn str0m_reads_a_fifth_of_an_offer() {
    for name in ["chrome", "chrome_mdns", "safari", "firefox"] {
        let offer = SdpRole::Offer {
            profile_level_id: HIGH,
        };
        let remote = read_remote(seed(name), offer).unwrap();
        let lines = remote.text.lines().count();
        assert!(lines <= 29, "{name}: {lines}\n{}", remote.text);
        let video = section(&remote.text, 0);
        assert!(video.iter().filter(|l| l.starts_with("a=rtpmap:")).count() <= 2);
    }
}

#[test]
fn answer_takes_no_payload_type_that_was_not_offered() {
    for (name, text) in CORPUS {
        let Ok((_, answer)) = answer(text, HIGH) else {
            continue;
        };
        let sections = text.matches("m=").count();
        assert_eq!(answer.matches("\r\nm=").count(), sections, "{name}");
        for index in 0..sections {
            let words = |sdp| -> Vec<String> {
                let head = section(sdp, index)[0].to_owned();
                head.split(' ').skip(3).map(str::to_owned).collect()
            };
            let (offered, taken) = (words(text), words(&answer));
            assert!(
                taken.iter().all(|pt| offered.contains(pt)),
                "{name} {index}"
            );
            let mid = |sdp: &str| -> Vec<String> {
                let lines = section(sdp, index).into_iter();
                let mids = lines.filter(|l| l.starts_with("a=mid:"));
                mids.map(str::to_owned).collect()
            };
            assert_eq!(mid(text), mid(&answer), "{name} {index}");
        }
    }
}

#[test]
fn transport_may_stand_anywhere_in_a_bundle() {
    let chrome = seed("chrome");
    // RFC 9143 §7.1.3: what is the bundle's may stand in its first section alone.
    let (head, audio) = chrome.rsplit_once("m=").unwrap();
    let transport = ["a=ice-ufrag:", "a=ice-pwd:", "a=fingerprint:", "a=setup:"];
    let own = |line: &&str| !transport.iter().any(|prefix| line.starts_with(prefix));
    let audio: Vec<&str> = audio.lines().filter(own).collect();
    let offer = format!("{head}m={}\r\n", audio.join("\r\n"));
    let (viewer, _) = answer(&offer, HIGH).unwrap();
    assert!(viewer.plays(TrackKind::Video) && viewer.plays(TrackKind::Audio));
}

#[test]
fn feedback_beyond_ours_is_not_negotiated() {
    let remote = read_remote(
        seed("chrome"),
        SdpRole::Offer {
            profile_level_id: HIGH,
        },
    );
    let text = remote.unwrap().text;
    assert!(text.contains(" nack pli\r\n") && text.contains(" ccm fir\r\n"));
    assert!(!text.contains("transport-cc") && !text.contains("goog-remb"));
}

#[test]
fn bombs_are_refused_at_once_by_size() {
    let chrome = seed("chrome");
    let many = |line: &str, count: usize| format!("{chrome}{}", line.repeat(count));
    let long = format!("{chrome}a=x:{}\r\n", "a".repeat(1 << 20));
    for (what, offer) in [
        ("64 KiB and one", "v".repeat(64 * 1_024 + 1)),
        ("a line of 1 MiB", long),
        ("lines", many("a=x\r\n", 1_024)),
        ("sections", many("m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n", 31)),
        (
            "candidates",
            many("a=candidate:1 1 udp 1 192.0.2.9 9 typ host\r\n", 51),
        ),
        ("a million lines", many("a=\n", 1_000_000)),
    ] {
        let begin = start();
        let error = answer_error(&offer);
        assert!(
            matches!(error, ViewerError::SdpTooLarge(_)),
            "{what}: {error}"
        );
        assert!(begin.elapsed() < Duration::from_millis(500), "{what}");
    }
    for (what, offer) in [
        ("nothing", String::new()),
        ("NUL", chrome.replace("s=-", "s=\0")),
        ("escape", chrome.replace("s=-", "s=\u{1b}[2J")),
        ("only CR", chrome.replace("\r\n", "\r")),
        (
            "no section",
            "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\n".to_owned(),
        ),
    ] {
        let error = answer_error(&offer);
        assert!(matches!(error, ViewerError::Sdp(_)), "{what}: {error}");
    }
}

fn answer_error(offer: &str) -> ViewerError {
    read_remote(
        offer,
        SdpRole::Offer {
            profile_level_id: HIGH,
        },
    )
    .unwrap_err()
}

#[test]
fn lines_that_end_in_bare_newlines_are_read() {
    answer(&seed("chrome").replace("\r\n", "\n"), HIGH).unwrap();
}

#[test]
fn our_offer_names_one_stream_and_its_sources() {
    let (_, offer) = factory()
        .offer(ViewerId(1), &local(), HIGH, start())
        .unwrap();
    assert!(first_format(&offer, 0).contains("64001f"));
    assert_eq!(offer.matches("a=msid:rtmpeer ").count(), 2);
    assert_eq!(offer.matches("a=ssrc-group:FID ").count(), 1);
    assert_eq!(offer.matches("a=sendonly").count(), 2);
    assert_eq!(offer.matches("a=candidate:").count(), 2);
    let cnames: std::collections::BTreeSet<_> = offer
        .lines()
        .filter_map(|line| line.split_once(" cname:"))
        .map(|(_, cname)| cname)
        .collect();
    assert_eq!(cnames.len(), 1, "{cnames:?}");
}

/// One change of a line.
#[derive(Debug, Clone)]
enum Change {
    Drop,
    Repeat,
    Swap(usize),
    Number(u32),
    Cut(usize),
    Insert(usize, char),
    From(usize, usize),
}

fn change() -> impl Strategy<Value = (usize, Change)> {
    let kind = prop_oneof![
        Just(Change::Drop),
        Just(Change::Repeat),
        any::<usize>().prop_map(Change::Swap),
        (0u32..300).prop_map(Change::Number),
        any::<usize>().prop_map(Change::Cut),
        (any::<usize>(), any::<char>()).prop_map(|(at, c)| Change::Insert(at, c)),
        (any::<usize>(), any::<usize>()).prop_map(|(seed, line)| Change::From(seed, line)),
    ];
    (any::<usize>(), kind)
}

fn apply(lines: &mut Vec<String>, at: usize, change: &Change) {
    if lines.is_empty() {
        return;
    }
    let at = at % lines.len();
    match change {
        Change::Drop => {
            lines.remove(at);
        }
        Change::Repeat => lines.insert(at, lines[at].clone()),
        Change::Swap(other) => {
            let other = other % lines.len();
            lines.swap(at, other);
        }
        Change::Number(number) => {
            let line = &lines[at];
            if let Some(first) = line.find(|c: char| c.is_ascii_digit()) {
                let rest = &line[first..];
                let end = rest
                    .find(|c: char| !c.is_ascii_digit())
                    .unwrap_or(rest.len());
                lines[at] = format!("{}{number}{}", &line[..first], &rest[end..]);
            }
        }
        Change::Cut(length) => {
            let keep = length % (lines[at].chars().count() + 1);
            lines[at] = lines[at].chars().take(keep).collect();
        }
        Change::Insert(place, character) => {
            let place = place % (lines[at].chars().count() + 1);
            let mut characters: Vec<char> = lines[at].chars().collect();
            characters.insert(place, *character);
            lines[at] = characters.into_iter().collect();
        }
        Change::From(seed, line) => {
            let (_, text) = CORPUS[seed % CORPUS.len()];
            let other: Vec<_> = text.lines().collect();
            lines.insert(at, other[line % other.len()].to_owned());
        }
    }
}

/// Cases of [`broken_offers_never_panic`]; `SDP_CASES` asks for more.
const CASES: u32 = 256;

/// Broken offers of every browser: no panic, and an answer of the offer's shape or none.
#[test]
fn broken_offers_never_panic() {
    let asked = std::env::var("SDP_CASES").ok();
    let cases = asked.and_then(|text| text.parse().ok()).unwrap_or(CASES);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(cases));
    let strategy = (any::<usize>(), proptest::collection::vec(change(), 1..12));
    // One for all cases: a factory's self-tests take longer than an answer.
    let shared = RefCell::new(factory());
    let outcome = runner.run(&strategy, |(seed, changes)| {
        let (_, text) = CORPUS[seed % CORPUS.len()];
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        for (at, change) in &changes {
            apply(&mut lines, *at, change);
        }
        let offer = lines.join("\r\n");
        let count = |sdp: &str| sdp.lines().filter(|line| line.starts_with("m=")).count();
        let (mut factory, now) = (shared.borrow_mut(), start());
        if let Ok((_, answer)) = factory.answer(ViewerId(1), &offer, &local(), HIGH, now) {
            prop_assert_eq!(count(&offer), count(&answer));
        }
        let (mut viewer, _) = factory.offer(ViewerId(2), &local(), HIGH, now).unwrap();
        let _ = viewer.accept_answer(&offer, now);
        Ok(())
    });
    outcome.unwrap();
}
