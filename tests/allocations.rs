//! What the hot path allocates: one frame is packetized in two allocations, and costs none per
//! viewer and packet.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests may stop where they stand"
)]

#[path = "kit/viewer.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "shared test code, of which a part is used here"
)]
mod kit_viewer;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kit_viewer::KitViewer;
use rtmpeer::ids::{CoreId, Epoch, IdSource, ViewerId};
use rtmpeer::media::frame::{FrameSet, TrackKind, VideoFrame};
use rtmpeer::media::time::{MediaTime, Timebase};
use rtmpeer::runtime::now;
use rtmpeer::webrtc::batch::SendBatch;
use rtmpeer::webrtc::packetize::Packetizer;
use rtmpeer::webrtc::{Certificate, Sent, Viewer, ViewerFactory, ViewerOutput};

const TICK: Duration = Duration::from_millis(1);
const FRAME_INTERVAL: Duration = Duration::from_millis(33);

/// A connected viewer, and the virtual time.
fn connected() -> (Viewer, SendBatch, Instant) {
    let mut now = now();
    let server = SocketAddr::from(([192, 0, 2, 1], 8_189));
    let address = SocketAddr::from(([198, 51, 100, 7], 40_000));
    let timebase = Timebase::new(now, Duration::from_secs(1_700_000_000));
    let certificate = Certificate::generate().unwrap();
    let ids = IdSource::seeded(1);
    let mut factory = ViewerFactory::new(CoreId(0), certificate, timebase, ids).unwrap();
    let mut player = KitViewer::new(address, now);
    let offer = player.offer();
    let (mut viewer, answer) = factory
        .answer(ViewerId(1), &offer, &[server], None, now)
        .unwrap();
    player.accept(&answer);
    let mut batch = SendBatch::with_capacity(256, 1 << 20);
    for _ in 0..5_000 {
        let mut outgoing = Vec::new();
        player.poll(|to, datagram| outgoing.push((to, datagram.to_vec())));
        for (to, datagram) in &outgoing {
            viewer.handle_datagram(address, *to, datagram, now);
            drain(&mut viewer, now, &mut batch);
        }
        for (train, bytes) in batch.trains() {
            for datagram in bytes.chunks(train.segment_bytes) {
                player.handle(server, datagram, now);
            }
        }
        batch.clear();
        if viewer.ready() && player.connected {
            return (viewer, batch, now);
        }
        now += TICK;
        player.handle_timeout(now);
        viewer.handle_timeout(now);
        drain(&mut viewer, now, &mut batch);
    }
    panic!("the viewer never connected");
}

fn drain(viewer: &mut Viewer, now: Instant, batch: &mut SendBatch) {
    while let ViewerOutput::Event(_) = viewer.poll_output(now, batch) {}
}

fn picture(number: u32, received: Instant) -> VideoFrame {
    let slice = [&[0x41_u8][..], &[7; 10_000]].concat();
    let pts = MediaTime::from_millis(33 * i64::from(number));
    VideoFrame {
        pts,
        dts: pts,
        key: false,
        recovery: false,
        disposable: false,
        parameter_sets: None,
        start: 0,
        nal_units: std::iter::once(0..slice.len()).collect(),
        data: Bytes::from(slice),
        received,
    }
}

fn sets(packetizer: &mut Packetizer, count: u32, now: Instant) -> Vec<FrameSet> {
    (0..count)
        .map(|number| packetizer.video(&picture(number, now)).unwrap())
        .collect()
}

#[test]
fn a_frame_is_packetized_in_two_allocations() {
    let mut packetizer = Packetizer::new(TrackKind::Video, Epoch(1));
    let picture = picture(0, now());
    let allocated = allocation_counter::measure(|| {
        packetizer.video(&picture).unwrap();
    });
    assert_eq!(allocated.count_total, 2, "payloads and their ends");
}

#[test]
fn sending_a_frame_to_a_viewer_allocates_nothing() {
    let (mut viewer, mut batch, mut now) = connected();
    let mut packetizer = Packetizer::new(TrackKind::Video, Epoch(1));
    let frames = sets(&mut packetizer, 200, now);
    let (warm_up, measured) = frames.split_at(20);
    let mut packets = 0;
    let mut send = |frames: &[FrameSet]| {
        for frame in frames {
            now += FRAME_INTERVAL;
            assert_eq!(viewer.send(frame, false, now, &mut batch), Sent::Done);
            packets += batch.datagrams();
            batch.clear();
        }
    };
    send(warm_up);
    let allocated = allocation_counter::measure(|| send(measured));
    assert!(packets > 1_500, "only {packets} packets were sent");
    assert_eq!(allocated.count_total, 0, "{allocated:?}");
}
