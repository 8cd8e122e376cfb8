//! A tool in the form of a test: what a viewer would get of H.264 streams, for a decoder to judge.
//! `tools/picture_oracle` runs it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "a tool may stop where it stands, and prints what it found"
)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use rtmpeer::ids::Epoch;
use rtmpeer::ingest::{Ingest, IngestOutput};
use rtmpeer::media::flv::file::{TagKind, tags};
use rtmpeer::media::frame::{FrameSet, TrackKind};
use rtmpeer::media::time::Timebase;
use rtmpeer::runtime::now;
use rtmpeer::webrtc::packetize::Packetizer;

const START_CODE: [u8; 4] = [0, 0, 0, 1];
/// NAL unit types of aggregates and fragments (RFC 6184 §5.2).
const STAP_A: u8 = 24;
const FU_A: u8 = 28;

/// Appends the NAL units of a frame's packets, as a viewer puts them together (RFC 6184 §5.7, §5.8).
fn depacketize(set: &FrameSet, stream: &mut Vec<u8>) {
    for index in 0..set.packet_count() {
        let payload = set.payload(index).unwrap();
        match payload[0] & 0x1f {
            STAP_A => {
                let mut rest = &payload[1..];
                while let [high, low, after @ ..] = rest {
                    let (unit, after) = after.split_at(usize::from(*high) << 8 | usize::from(*low));
                    stream.extend([&START_CODE, unit].concat());
                    rest = after;
                }
            }
            FU_A => {
                let (indicator, header) = (payload[0], payload[1]);
                if header & 0x80 != 0 {
                    stream.extend(START_CODE);
                    stream.push(indicator & 0xe0 | header & 0x1f);
                }
                stream.extend(&payload[2..]);
            }
            _ => stream.extend([&START_CODE, payload].concat()),
        }
    }
}

/// Publishes a file's video; what a viewer of it as published gets, and what is known of it.
fn watch(file: Vec<u8>) -> (Vec<u8>, String) {
    let start = now();
    let mut ingest = Ingest::new(Timebase::new(start, Duration::from_secs(1)), Epoch(1));
    let mut packetizer = Packetizer::new(TrackKind::Video, Epoch(1));
    let (mut stream, mut frames) = (Vec::new(), 0);
    let mut warnings = Vec::new();
    for tag in tags(Bytes::from(file)).unwrap() {
        if tag.kind != TagKind::Video {
            continue;
        }
        let at = start + Duration::from_millis(tag.timestamp_ms.into());
        ingest.handle_video(tag.timestamp_ms, tag.payload, at);
        while let Some(output) = ingest.poll_output() {
            match output {
                IngestOutput::Video(frame) => {
                    frames += 1;
                    if let Some(set) = packetizer.video(&frame) {
                        depacketize(&set, &mut stream);
                    }
                }
                IngestOutput::Warning(warning) => warnings.push(format!("{warning:?}")),
                _ => {}
            }
        }
    }
    let info = ingest.info();
    let reason = info.transcode.as_ref().map(ToString::to_string);
    let codec = info.video.as_deref().unwrap_or("nothing");
    let reason = reason.as_deref().unwrap_or("as it is");
    (
        stream,
        format!("{frames} frames\t{codec}\t{reason}\t{}", warnings.join(" ")),
    )
}

#[test]
#[ignore = "a tool: tools/picture_oracle runs it"]
fn published_streams_are_written_as_viewers_get_them() {
    let folder = |name| std::env::var_os(name).unwrap();
    let (from, to) = (folder("H264_STREAMS"), folder("H264_ORACLE"));
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let (stream, known) = watch(fs::read(&path).unwrap());
        fs::write(Path::new(&to).join(format!("{name}.264")), stream).unwrap();
        println!("{name}\t{known}");
    }
}
