//! Pure work a fixed number of times, for `tools/callgrind/run` to count its instructions.
//!
//! `counts NAME ROUNDS`; only what [`measured`] calls is counted. No clock, no socket, no thread;
//! random numbers are seeded where they are ours.
#![allow(missing_docs, reason = "a program has no public items to speak of")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a measuring tool stops at the first surprise"
)]

#[path = "../../benches/kit/chunks.rs"]
mod kit_chunks;
#[path = "../../benches/kit/join.rs"]
mod kit_join;
#[path = "../../tests/kit/viewer.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    clippy::expect_used,
    clippy::wildcard_enum_match_arm,
    reason = "shared test code, of which a part is used here"
)]
mod kit_viewer;

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kit_join::{CHROME, Meter, PROFILE, factory, join, server};
use rtmpeer::ids::{Epoch, ViewerId};
use rtmpeer::ingest::{Ingest, IngestOutput};
use rtmpeer::media::flv::file::{Tag, TagKind, tags};
use rtmpeer::media::frame::TrackKind;
use rtmpeer::media::time::Timebase;
use rtmpeer::rtmp::amf0;
use rtmpeer::runtime::mailbox;
use rtmpeer::webrtc::batch::{BATCH_BYTES_MAX, BATCH_TRAINS_MAX, SendBatch};
use rtmpeer::webrtc::packetize::Packetizer;
use rtmpeer::webrtc::rtp::{HeaderExtensions, RtpHeader};
use rtmpeer::webrtc::srtp::{SrtpKeys, SrtpProfile, SrtpSender};

/// 2 s of 320x180 with sound.
const SAMPLE: &[u8] = include_bytes!("../../tests/data/baseline.flv");
/// An encoder's `onMetaData` and `connect`.
const AMF0: &[u8] = include_bytes!("../fuzz/corpus/amf0/values");
/// A frame of 2.5 Mbit/s at 30 frames a second, cut evenly.
const FRAME_PACKETS: usize = 9;
const PAYLOAD_BYTES: usize = 1_157;

/// All that is counted, and nothing else.
#[inline(never)]
fn measured<R>(work: impl FnOnce() -> R) -> R {
    black_box(work())
}

struct Counted;

impl Meter for Counted {
    fn run<R>(&mut self, work: impl FnOnce() -> R) -> R {
        measured(work)
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    let rounds = arguments.next().and_then(|text| text.parse().ok());
    let rounds: u32 = rounds.unwrap_or(1);
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    let start = Instant::now();
    match name.as_str() {
        "seal_and_batch" => seal_and_batch(rounds),
        "ingest_and_packetize" => ingest_and_packetize(rounds, start),
        "chunk_read" => chunk_read(rounds),
        "amf0" => amf0_values(rounds),
        "mailbox" => mailbox_messages(rounds),
        "sdp_answer" => sdp_answer(rounds, start),
        "join" => whole_join(rounds, start),
        _ => panic!("no such work: {name}"),
    }
}

/// A round: a frame's packets to one viewer.
fn seal_and_batch(rounds: u32) {
    let profile = SrtpProfile::AeadAes256Gcm;
    let material = vec![7; profile.keying_material_bytes()];
    let sender = SrtpSender::new(&SrtpKeys::from_dtls(profile, &material).unwrap()).unwrap();
    let frame = vec![0x5a; PAYLOAD_BYTES * FRAME_PACKETS];
    let to = SocketAddr::from(([127, 0, 0, 1], 4_000));
    let mut batch = SendBatch::with_capacity(BATCH_TRAINS_MAX, 2 * BATCH_BYTES_MAX);
    let mut index = 0_u64;
    for round in 0..rounds {
        measured(|| {
            for payload in frame.chunks(PAYLOAD_BYTES) {
                let header = RtpHeader {
                    marker: false,
                    payload_type: 96,
                    sequence: u16::try_from(index & 0xffff).unwrap(),
                    timestamp: round,
                    ssrc: 0x1000,
                };
                let header = header.write(&HeaderExtensions::NONE);
                let sealed = batch.push(to, None, |out| {
                    sender.seal_rtp(header.as_bytes(), 0x1000, index, payload, out)
                });
                sealed.unwrap();
                index += 1;
            }
            if batch.is_full() {
                batch.clear();
            }
        });
    }
}

/// A round: the whole sample, message by message.
fn ingest_and_packetize(rounds: u32, start: Instant) {
    let sample: Vec<Tag> = tags(Bytes::from_static(SAMPLE)).unwrap().collect();
    for _ in 0..rounds {
        let sample = sample.clone();
        let packets = measured(|| publish(sample, start));
        assert!(packets > 0);
    }
}

fn publish(sample: Vec<Tag>, start: Instant) -> usize {
    let mut ingest = Ingest::new(Timebase::new(start, Duration::ZERO), Epoch(1));
    let mut packetizer = Packetizer::new(TrackKind::Video, Epoch(1));
    let mut packets = 0;
    for tag in sample {
        let now = start + Duration::from_millis(tag.timestamp_ms.into());
        match tag.kind {
            TagKind::Video => ingest.handle_video(tag.timestamp_ms, tag.payload, now),
            TagKind::Audio => ingest.handle_audio(tag.timestamp_ms, tag.payload, now),
            TagKind::Script | TagKind::Other(_) => {}
        }
        while let Some(output) = ingest.poll_output() {
            if let IngestOutput::Video(frame) = output {
                packets += packetizer.video(&frame).map_or(0, |set| set.packet_count());
            }
        }
    }
    packets
}

/// A round: one message of 64 KiB in chunks of 4 KiB, in reads of 64 KiB.
fn chunk_read(rounds: u32) {
    let mut reader = kit_chunks::reader(kit_chunks::CHUNK_BYTES);
    let message = kit_chunks::message(kit_chunks::CHUNK_BYTES);
    for _ in 0..rounds {
        let got = measured(|| kit_chunks::read(&mut reader, &message));
        assert_eq!(got, kit_chunks::MESSAGE_BYTES);
    }
}

/// A round: values read, and written.
fn amf0_values(rounds: u32) {
    for _ in 0..rounds {
        let (values, _) = measured(|| amf0::decode_prefix(AMF0));
        assert!(!values.is_empty());
        measured(|| amf0::encode(&values));
    }
}

/// A round: one message put and taken.
fn mailbox_messages(rounds: u32) {
    let (postbox, mailbox) = mailbox(1_024, None);
    for round in 0..rounds {
        let taken = measured(|| {
            postbox.put(round).unwrap();
            mailbox.take()
        });
        assert_eq!(taken, Some(round));
    }
}

/// A round: Chrome's offer answered.
fn sdp_answer(rounds: u32, start: Instant) {
    let mut factory = factory(start);
    for _ in 0..rounds {
        let made = measured(|| factory.answer(ViewerId(1), CHROME, &[server()], PROFILE, start));
        assert!(made.is_ok());
    }
}

/// A round: a stock client's offer, ICE and DTLS to the end; the server's part.
fn whole_join(rounds: u32, start: Instant) {
    let mut factory = factory(start);
    for _ in 0..rounds {
        join(&mut factory, start, &mut Counted);
    }
}
