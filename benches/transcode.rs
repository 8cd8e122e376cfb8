//! Transcoding AAC to Opus: seconds of sound per second of one core, that is × real time (the
//! figure after `thrpt`), and what a format change costs. By the thread's CPU time, so that a busy
//! machine does not change it much.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a bench may stop, and makes its own signal"
)]
#![allow(missing_docs, reason = "criterion's macros make a public function")]

use std::f64::consts::TAU;
use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fdk_aac::enc;
use rtmpeer::media::codec::AudioConfig;
use rtmpeer::media::time::MediaTime;
use rtmpeer::transcode::{AudioSettings, AudioTranscoder};

/// The CPU time of this thread, as the kernel counts it.
struct CpuTime;

impl CpuTime {
    fn nanos() -> u64 {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        text.split_whitespace().next().unwrap().parse().unwrap()
    }
}

impl Measurement for CpuTime {
    type Intermediate = u64;
    type Value = Duration;

    fn start(&self) -> u64 {
        Self::nanos()
    }

    fn end(&self, start: u64) -> Duration {
        // The kernel counts in ticks: nothing is as short as none.
        Duration::from_nanos((Self::nanos() - start).max(1))
    }

    fn add(&self, one: &Duration, other: &Duration) -> Duration {
        *one + *other
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

/// Length of the sound of one run.
const SECONDS: u32 = 5;

struct Aac {
    config: AudioConfig,
    units: Vec<(MediaTime, Vec<u8>)>,
}

/// A chord with a beat and some noise: neither silence nor a single tone, which are cheap.
fn music(rate: u32) -> Vec<i16> {
    let mut noise = 1_u32;
    (0..rate * SECONDS)
        .flat_map(|index| {
            let second = f64::from(index) / f64::from(rate);
            let beat = (1.0 - (second * 2.0).fract()).powi(2);
            let chord: f64 = [220.0, 277.2, 329.6, 1_760.0, 5_000.0]
                .iter()
                .map(|hertz| (TAU * hertz * second).sin())
                .sum();
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let hiss = f64::from(noise >> 16) / 32_768.0 - 1.0;
            let left = beat * (0.1 * chord + 0.05 * hiss);
            let right = beat * (0.1 * chord - 0.05 * hiss);
            [left, right].map(|value| (value * 32_767.0) as i16)
        })
        .collect()
}

fn aac(rate: u32) -> Aac {
    let encoder = enc::Encoder::new(enc::EncoderParams {
        bit_rate: enc::BitRate::Cbr(160_000),
        sample_rate: rate,
        transport: enc::Transport::Raw,
        channels: enc::ChannelMode::Stereo,
        audio_object_type: enc::AudioObjectType::Mpeg4LowComplexity,
    })
    .unwrap();
    let info = encoder.info().unwrap();
    let frame = info.frameLength as usize;
    let mut buffer = vec![0; 8_192];
    let mut units = Vec::new();
    for chunk in music(rate).chunks_exact(frame * 2) {
        let made = encoder.encode(chunk, &mut buffer).unwrap().output_size;
        if made > 0 {
            let millis = units.len() as f64 * frame as f64 * 1_000.0 / f64::from(rate);
            let pts = MediaTime::from_millis(millis.round() as i64);
            units.push((pts, buffer[..made].to_vec()));
        }
    }
    Aac {
        config: AudioConfig::Aac(info.confBuf[..info.confSize as usize].to_vec().into()),
        units,
    }
}

fn real_time(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("transcode");
    group.throughput(Throughput::Elements(u64::from(SECONDS)));
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(3));
    for rate in [48_000, 44_100] {
        let aac = aac(rate);
        for complexity in [5, 7, 9] {
            let settings = AudioSettings {
                complexity,
                ..AudioSettings::default()
            };
            let id = BenchmarkId::new(format!("{rate} Hz stereo"), complexity);
            group.bench_function(id, |bencher| {
                bencher.iter(|| {
                    let mut transcoder = AudioTranscoder::new(settings).unwrap();
                    transcoder.configure(&aac.config).unwrap();
                    for (pts, unit) in &aac.units {
                        transcoder.push(unit, *pts, &mut |packet| {
                            black_box(packet);
                        });
                    }
                });
            });
        }
    }
    group.finish();
}

fn beginning(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("begin");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(2));
    for rate in [48_000, 44_100] {
        let aac = aac(rate);
        let (pts, unit) = &aac.units[0];
        group.bench_function(format!("{rate} Hz stereo, to the first unit"), |bencher| {
            bencher.iter(|| {
                let mut transcoder = AudioTranscoder::new(AudioSettings::default()).unwrap();
                transcoder.configure(&aac.config).unwrap();
                transcoder.push(unit, *pts, &mut |packet| {
                    black_box(packet);
                });
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = real_time, beginning
}
criterion_main!(benches);
