//! What one packet to one viewer costs, beside the floor. Every time shown is that of one packet.
//!
//! - `fan_out`: until it is ready to be sent; the floor is the cipher alone over the same bytes.
//! - `sent`: until the kernel has delivered it over loopback to a socket that drops it, in software
//!   segmentation; a second of 2.5 Mbit/s video and 50 audio packets to each of 1,000 viewers. The
//!   floor is the cipher over the same bytes, and the sending of the same trains. CPU time of the
//!   thread, with what the kernel does in its name.
//!
//! Run with `cargo bench --bench fan_out`; `-- 'gcm_256'` for one profile, `-- sent` for the sockets.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench stops at the first surprise"
)]

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rtmpeer::runtime::{SendPlace, UdpSocket, bind_udp_group};
use rtmpeer::webrtc::batch::{BATCH_BYTES_MAX, BATCH_TRAINS_MAX, SendBatch};
use rtmpeer::webrtc::rtp::{HeaderExtensions, RtpHeader};
use rtmpeer::webrtc::srtp::{SrtpError, SrtpKeys, SrtpProfile, SrtpSender};
use socket2::{Domain, SockFilter, Socket, Type};

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
    seal_frame(viewer, frame, batch);
    if batch.is_full() {
        black_box(batch.trains().count());
        batch.clear();
    }
}

fn seal_frame(viewer: &mut Viewer, frame: &[u8], batch: &mut SendBatch) {
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
        let keys: Vec<_> = (0..count).map(key).collect();
        let mut bytes = frame.clone();
        let mut turn = 0;
        let mut number = 0_u64;
        group.bench_function(BenchmarkId::new("floor_gcm_256", count), |bencher| {
            bencher.iter_custom(|packets| {
                per_packet(packets, || {
                    turn = (turn + 1) % count;
                    seal_raw(&keys[turn], &mut bytes, &mut number);
                })
            });
        });
    }
    group.finish();
}

/// A part of a second, again and again: video frames at 30 a second, audio packets at 50.
const MIX: [Kind; 8] = [
    Kind::Video,
    Kind::Audio,
    Kind::Audio,
    Kind::Video,
    Kind::Audio,
    Kind::Video,
    Kind::Audio,
    Kind::Audio,
];
/// A packet of 128 kbit/s.
const AUDIO_BYTES: usize = 320;

#[derive(Clone, Copy)]
enum Kind {
    Video,
    Audio,
}

/// CPU time of this thread so far (`proc_pid_schedstat(5)`).
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// A socket on every address of loopback whose filter drops all.
fn sink() -> Socket {
    let sink = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    sink.bind(&SocketAddr::from(([0, 0, 0, 0], 0)).into())
        .unwrap();
    let drop_all = SockFilter::new(0x06, 0, 0, 0);
    sink.attach_filter(&[drop_all]).unwrap();
    sink
}

/// Sends what is there, waiting for the kernel.
fn flush(socket: &mut UdpSocket, batch: &mut SendBatch) {
    let mut done = SendPlace::default();
    while done.train < batch.len() {
        let outcome = socket.send(batch, done);
        assert_eq!(outcome.failed, 0);
        done = outcome.place;
    }
    batch.clear();
}

/// One part of the mix to every viewer; the packets that are.
fn send_to_all(
    viewers: &mut [Viewer],
    frame: &[u8],
    batch: &mut SendBatch,
    mut full: impl FnMut(&mut SendBatch),
) -> usize {
    for viewer in &mut *viewers {
        seal_frame(viewer, frame, batch);
        if batch.is_full() {
            full(batch);
        }
    }
    full(batch);
    viewers.len() * frame.len().div_ceil(PAYLOAD_BYTES)
}

#[expect(clippy::too_many_lines, reason = "one set-up for three measurements")]
fn sent(criterion: &mut Criterion) {
    const COUNT: usize = 1_000;
    let sink = sink();
    let port = sink.local_addr().unwrap().as_socket().unwrap().port();
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut socket = bind_udp_group(local, 1).unwrap().remove(0);
    let mut viewers = viewers(COUNT, SrtpProfile::AeadAes256Gcm);
    for viewer in &mut viewers {
        viewer.to.set_port(port);
    }
    let video = vec![7; PAYLOAD_BYTES * FRAME_PACKETS];
    let audio = vec![9; AUDIO_BYTES];
    let bytes = |kind| match kind {
        Kind::Video => &video[..],
        Kind::Audio => &audio[..],
    };
    let mut batch = SendBatch::with_capacity(BATCH_TRAINS_MAX, 2 * BATCH_BYTES_MAX);
    // Adds to the time what `one` takes for a part of the mix, until there are enough packets.
    let measure = |packets: u64, one: &mut dyn FnMut(Kind) -> usize| {
        let (mut count, began) = (0_u64, cpu_time());
        for kind in MIX.into_iter().cycle() {
            if count >= packets {
                break;
            }
            count += one(kind) as u64;
        }
        let share = packets as f64 / count as f64;
        (cpu_time() - began).mul_f64(share)
    };
    let mut group = criterion.benchmark_group("sent");
    group.sample_size(20);
    group.bench_function("own_gcm_256/1000", |bencher| {
        bencher.iter_custom(|packets| {
            measure(packets, &mut |kind| {
                let full = |batch: &mut SendBatch| flush(&mut socket, batch);
                send_to_all(&mut viewers, bytes(kind), &mut batch, full)
            })
        });
    });
    // The trains of each kind, made once.
    let mut prepared = |kind| {
        let mut batches = Vec::new();
        send_to_all(&mut viewers, bytes(kind), &mut batch, |batch| {
            batches.push(std::mem::take(batch));
        });
        batches
    };
    let (trains_of_video, trains_of_audio) = (prepared(Kind::Video), prepared(Kind::Audio));
    let count_of = |batches: &[SendBatch]| batches.iter().map(SendBatch::datagrams).sum::<usize>();
    group.bench_function("floor_send/1000", |bencher| {
        bencher.iter_custom(|packets| {
            measure(packets, &mut |kind| {
                let batches = match kind {
                    Kind::Video => &trains_of_video,
                    Kind::Audio => &trains_of_audio,
                };
                for batch in batches {
                    let mut done = SendPlace::default();
                    while done.train < batch.len() {
                        done = socket.send(batch, done).place;
                    }
                }
                count_of(batches)
            })
        });
    });
    let keys: Vec<_> = (0..COUNT).map(key).collect();
    let mut number = 0;
    let (mut video, mut audio) = (video.clone(), audio.clone());
    group.bench_function("floor_seal/1000", |bencher| {
        bencher.iter_custom(|packets| {
            measure(packets, &mut |kind| {
                let bytes = match kind {
                    Kind::Video => &mut video,
                    Kind::Audio => &mut audio,
                };
                for key in &keys {
                    seal_raw(key, bytes, &mut number);
                }
                COUNT * bytes.len().div_ceil(PAYLOAD_BYTES)
            })
        });
    });
    group.finish();
}

fn key(n: usize) -> LessSafeKey {
    let [.., high, low] = n.to_be_bytes();
    let bytes = [high ^ low; 32];
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &bytes).unwrap())
}

/// The cipher alone.
fn seal_raw(key: &LessSafeKey, bytes: &mut [u8], number: &mut u64) {
    for payload in bytes.chunks_mut(PAYLOAD_BYTES) {
        *number += 1;
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&number.to_le_bytes());
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealed = key.seal_in_place_separate_tag(nonce, Aad::from([0; 12]), payload);
        let _ = black_box(sealed.unwrap());
    }
}

criterion_group!(benches, fan_out, sent);
criterion_main!(benches);
