//! From RTMP chunks to messages, and from FLV message to packetized `FrameSet`: MiB/s of one core,
//! no sockets.
//!
//! `cargo bench --bench ingest`
#![allow(missing_docs, reason = "criterion's macros make public functions")]
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a bench may stop at a broken sample"
)]

#[path = "kit/chunks.rs"]
mod kit_chunks;

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

use rtmpeer::ids::Epoch;
use rtmpeer::ingest::{Ingest, IngestOutput};
use rtmpeer::media::flv::file::{self, Tag, TagKind};
use rtmpeer::media::frame::TrackKind;
use rtmpeer::media::time::Timebase;
use rtmpeer::webrtc::packetize::Packetizer;

/// 2 s of 320×180 with sound: small frames, so the cost of each shows.
const SAMPLE: &[u8] = include_bytes!("../tests/data/baseline.flv");
/// Payload of a slice that makes a frame large, so the cost of its bytes shows.
const LARGE_SLICE_BYTES: usize = 100_000;

fn sample() -> Vec<Tag> {
    let tags = file::tags(Bytes::from_static(SAMPLE)).expect("the sample is an FLV file");
    tags.collect()
}

/// The sample with each video frame followed by bytes of a large slice.
fn large() -> Vec<Tag> {
    let mut tags = sample();
    let is_frame = |tag: &Tag| tag.kind == TagKind::Video && tag.payload.get(1) == Some(&1);
    for tag in tags.iter_mut().filter(|tag| is_frame(tag)) {
        let mut slice = vec![0x41, 0x9a];
        slice.resize(LARGE_SLICE_BYTES, 0x55);
        let length = u32::try_from(slice.len())
            .expect("it is small enough")
            .to_be_bytes();
        tag.payload = [&tag.payload[..], &length, &slice].concat().into();
    }
    tags
}

/// Takes every message of a publish; returns how many packets it came to.
fn publish(tags: Vec<Tag>, start: Instant) -> usize {
    let mut ingest = Ingest::new(Timebase::new(start, Duration::ZERO), Epoch(1));
    let mut packetizer = Packetizer::new(TrackKind::Video, Epoch(1));
    let mut packets = 0;
    for tag in tags {
        let now = start + Duration::from_millis(tag.timestamp_ms.into());
        match tag.kind {
            TagKind::Video => ingest.handle_video(tag.timestamp_ms, tag.payload, now),
            TagKind::Audio => ingest.handle_audio(tag.timestamp_ms, tag.payload, now),
            TagKind::Script | TagKind::Other(_) => {}
        }
        while let Some(output) = ingest.poll_output() {
            if let IngestOutput::Video(frame) = output {
                let set = packetizer.video(&frame).expect("a frame has packets");
                packets += black_box(set).packet_count();
            }
        }
    }
    assert_eq!(ingest.stats().dropped_total(), 0, "dropped is not measured");
    packets
}

fn ingest(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ingest");
    #[allow(clippy::disallowed_methods, reason = "a bench may read the clock")]
    let start = Instant::now();
    for (name, tags) in [("small_frames", sample()), ("large_frames", large())] {
        let bytes: usize = tags.iter().map(|tag| tag.payload.len()).sum();
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(name, |bencher| {
            let input = || tags.clone();
            bencher.iter_batched(input, |tags| publish(tags, start), BatchSize::SmallInput);
        });
    }
    group.finish();
}

fn chunks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ingest");
    // The last is the smallest there may be, as only a stranger with bad intent chooses it.
    for (name, size) in [
        ("chunks_of_4_kib", kit_chunks::CHUNK_BYTES),
        ("chunks_of_1_byte", 1),
    ] {
        let mut reader = kit_chunks::reader(size);
        let message = kit_chunks::message(size);
        group.throughput(Throughput::Bytes(kit_chunks::MESSAGE_BYTES as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let got = kit_chunks::read(&mut reader, &message);
                assert_eq!(got, kit_chunks::MESSAGE_BYTES);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, ingest, chunks);
criterion_main!(benches);
