//! What one packet to one viewer costs until it is ready to be sent, beside the floor: the
//! cipher alone over the same bytes. No socket. Every time shown is that of one packet.
//!
//! Run with `cargo bench --bench fan_out`; `-- 'gcm_256'` for one profile.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench stops at the first surprise"
)]

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use rtmpeer::webrtc::batch::{BATCH_BYTES_MAX, BATCH_TRAINS_MAX, SendBatch};
use rtmpeer::webrtc::rtp::{HeaderExtensions, RtpHeader};
use rtmpeer::webrtc::srtp::{SrtpError, SrtpKeys, SrtpProfile, SrtpSender};

/// A frame of 2.5 Mbit/s at 30 frames a second, cut evenly.
const FRAME_PACKETS: usize = 9;
const PAYLOAD_BYTES: usize = 1_157;
const VIEWERS: [usize; 3] = [1, 100, 1_000];

struct Viewer {
    to: SocketAddr,
    ssrc: u32,
    sequence: u64,
    sender: SrtpSender,
}

fn viewers(count: usize, profile: SrtpProfile) -> Vec<Viewer> {
    let viewer = |n: usize| {
        let [.., a, b, c] = n.to_be_bytes();
        let material: Vec<u8> = (0..profile.keying_material_bytes())
            .map(|at| u8::try_from(at).unwrap() ^ b ^ c)
            .collect();
        let keys = SrtpKeys::from_dtls(profile, &material).unwrap();
        Viewer {
            to: SocketAddr::from(([127, a, b, c], 4_000)),
            ssrc: 0x1000 + u32::try_from(n).unwrap(),
            sequence: 0,
            sender: SrtpSender::new(&keys).unwrap(),
        }
    };
    (0..count).map(viewer).collect()
}

/// Writes, seals and batches one frame for one viewer.
fn send_frame(viewer: &mut Viewer, frame: &[u8], batch: &mut SendBatch) {
    for (number, payload) in frame.chunks(PAYLOAD_BYTES).enumerate() {
        let index = viewer.sequence;
        viewer.sequence += 1;
        let header = RtpHeader {
            marker: number + 1 == frame.len() / PAYLOAD_BYTES,
            payload_type: 96,
            sequence: u16::try_from(index & 0xffff).unwrap(),
            timestamp: 3_000,
            ssrc: viewer.ssrc,
        };
        let header = header.write(&HeaderExtensions::NONE);
        let sender = &viewer.sender;
        let ssrc = viewer.ssrc;
        batch
            .push(viewer.to, None, |out| -> Result<(), SrtpError> {
                sender.seal_rtp(header.as_bytes(), ssrc, index, payload, out)
            })
            .unwrap();
    }
    if batch.is_full() {
        black_box(batch.trains().count());
        batch.clear();
    }
}

/// Runs `frame` often enough for `packets` packets and says how long so many took.
fn per_packet(packets: u64, mut frame: impl FnMut()) -> Duration {
    let packets = u32::try_from(packets).unwrap();
    let frame_packets = u32::try_from(FRAME_PACKETS).unwrap();
    let frames = packets.div_ceil(frame_packets);
    #[expect(clippy::disallowed_methods, reason = "a bench measures time")]
    let began = Instant::now();
    for _ in 0..frames {
        frame();
    }
    let share = f64::from(packets) / (f64::from(frames) * f64::from(frame_packets));
    began.elapsed().mul_f64(share)
}

fn fan_out(criterion: &mut Criterion) {
    let frame: Vec<u8> = (0..PAYLOAD_BYTES * FRAME_PACKETS)
        .map(|at| u8::try_from(at % 251).unwrap())
        .collect();
    let profiles = [
        ("gcm_256", SrtpProfile::AeadAes256Gcm),
        ("gcm_128", SrtpProfile::AeadAes128Gcm),
        ("cm_sha1_80", SrtpProfile::Aes128CmSha1_80),
    ];
    let mut group = criterion.benchmark_group("fan_out");
    for (name, profile) in profiles {
        for count in VIEWERS {
            let mut viewers = viewers(count, profile);
            let mut batch = SendBatch::with_capacity(BATCH_TRAINS_MAX, 2 * BATCH_BYTES_MAX);
            let mut turn = 0;
            group.bench_function(BenchmarkId::new(name, count), |bencher| {
                bencher.iter_custom(|packets| {
                    per_packet(packets, || {
                        turn = (turn + 1) % count;
                        send_frame(&mut viewers[turn], &frame, &mut batch);
                    })
                });
            });
        }
    }
    for count in VIEWERS {
        let key = |n: usize| {
            let [.., high, low] = n.to_be_bytes();
            let bytes = [high ^ low; 32];
            LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &bytes).unwrap())
        };
        let keys: Vec<_> = (0..count).map(key).collect();
        let mut bytes = frame.clone();
        let mut turn = 0;
        let mut number = 0_u64;
        group.bench_function(BenchmarkId::new("floor_gcm_256", count), |bencher| {
            bencher.iter_custom(|packets| {
                per_packet(packets, || {
                    turn = (turn + 1) % count;
                    for payload in bytes.chunks_mut(PAYLOAD_BYTES) {
                        number += 1;
                        let mut nonce = [0; 12];
                        nonce[..8].copy_from_slice(&number.to_le_bytes());
                        let nonce = Nonce::assume_unique_for_key(nonce);
                        let sealed = keys[turn].seal_in_place_separate_tag(
                            nonce,
                            Aad::from([0; 12]),
                            payload,
                        );
                        let _ = black_box(sealed.unwrap());
                    }
                })
            });
        });
    }
    group.finish();
}

criterion_group!(benches, fan_out);
criterion_main!(benches);
