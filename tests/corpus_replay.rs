//! Every committed fuzz input, through its target: what once crashed never does again.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    clippy::wildcard_enum_match_arm,
    reason = "the bodies of fuzz targets are test code"
)]

use std::fs;
use std::path::Path;

#[path = "../tools/fuzz/bodies/aac_config.rs"]
mod aac_config;
#[path = "../tools/fuzz/bodies/amf0.rs"]
mod amf0;
#[path = "../tools/fuzz/bodies/avcc_sps.rs"]
mod avcc_sps;
#[path = "../tools/fuzz/bodies/codec_headers.rs"]
mod codec_headers;
#[path = "../tools/fuzz/bodies/flv_video.rs"]
mod flv_video;
#[path = "../tools/fuzz/bodies/http_head.rs"]
mod http_head;
#[path = "../tools/fuzz/bodies/rtmp_chunk.rs"]
mod rtmp_chunk;
#[path = "../tools/fuzz/bodies/rtmp_session.rs"]
mod rtmp_session;
#[path = "../tools/fuzz/bodies/sdp_offer.rs"]
mod sdp_offer;
#[path = "../tools/fuzz/bodies/udp_demux.rs"]
mod udp_demux;
#[path = "../tools/fuzz/bodies/ws_frame.rs"]
mod ws_frame;

/// A target by the name of its corpus.
type Target = (&'static str, fn(&[u8]));

/// Every target.
const TARGETS: &[Target] = &[
    ("aac_config", aac_config::fuzz),
    ("amf0", amf0::fuzz),
    ("avcc_sps", avcc_sps::fuzz),
    ("codec_headers", codec_headers::fuzz),
    ("flv_video", flv_video::fuzz),
    ("http_head", http_head::fuzz),
    ("rtmp_chunk", rtmp_chunk::fuzz),
    ("rtmp_session", rtmp_session::fuzz),
    ("sdp_offer", sdp_offer::fuzz),
    ("udp_demux", udp_demux::fuzz),
    ("ws_frame", ws_frame::fuzz),
];

#[test]
fn committed_inputs_crash_nothing() {
    for (name, fuzz) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tools/fuzz/corpus")
            .join(name);
        let mut inputs: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        inputs.sort();
        assert!(!inputs.is_empty(), "{name} has no corpus");
        for input in inputs {
            let bytes = fs::read(&input).unwrap();
            let sound = std::panic::catch_unwind(|| fuzz(&bytes)).is_ok();
            assert!(sound, "{} crashes {name}", input.display());
        }
    }
}

#[test]
fn every_target_is_replayed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/fuzz/fuzz_targets");
    let targets = fs::read_dir(folder).unwrap().count();
    assert_eq!(targets, TARGETS.len());
}

/// The targets are built by nothing that runs here: what their bodies use, their package must have.
#[test]
fn bodies_use_only_what_the_fuzz_package_has() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/fuzz");
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    for body in fs::read_dir(fuzz.join("bodies")).unwrap() {
        let text = fs::read_to_string(body.unwrap().path()).unwrap();
        let used = text.lines().filter_map(|line| line.strip_prefix("use "));
        for name in used.filter_map(|path| path.split("::").next()) {
            let own = ["std", "core", "super", "crate"].contains(&name);
            let has = manifest.contains(&format!("\n{name} = "));
            assert!(own || has, "{name} is missing in tools/fuzz/Cargo.toml");
        }
    }
}
