//! The video transcoder in real time: what it adds to a stream's own delay, how long a late start
//! takes, how many cores a stream costs, and how much its picture loses (SSIM). Streams as OBS
//! makes them at its defaults: x264 veryfast, High, three B-frames with pyramid, 250 frames from
//! one keyframe to the next, constant bitrate. Run by `cargo bench --bench video`; it needs ffmpeg.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "a bench may stop, and prints its figures"
)]

#[path = "../tests/kit/video.rs"]
mod video;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rtmpeer::media::codec::VideoCodec;
use rtmpeer::media::frame::VideoFrame;
use rtmpeer::media::time::MediaTime;
use rtmpeer::messages::{VideoMsg, VideoReply};
use rtmpeer::runtime::now;
use rtmpeer::transcode::video::VideoSettings;

use video::{KitVideo, PUBLISHER, SourceVideo};

/// Length of each stream, and of its part that is not counted, in seconds.
const SECONDS: u32 = 12;
const WARM_UP: Duration = Duration::from_secs(1);
/// Frames in the cache at a late start: 4 s.
const CACHED: usize = 120;
/// A stream is live again when a frame comes no later than this.
const LIVE: Duration = Duration::from_millis(67);

fn main() {
    println!("stream | added delay p50 / p95 / max | cores | SSIM | late start: first / live");
    for (name, size, bit_rate) in [
        ("720p30", "1280x720", "2500k"),
        ("1080p30", "1920x1080", "4500k"),
    ] {
        let options = format!(
            "-c:v libx264 -preset veryfast -profile:v high -bf 3 -pix_fmt yuv420p -g 250 \
             -b:v {bit_rate} -maxrate {bit_rate} -bufsize {bit_rate} -x264-params nal-hrd=cbr"
        );
        let source = video::source(VideoCodec::Avc, "obs-defaults", size, 30, SECONDS, &options);
        let bit_rate = bit_rate.trim_end_matches('k').parse::<u32>().unwrap() * 1_000;
        let run = live(&source, bit_rate, 0);
        let late = live(&source, bit_rate, CACHED);
        let [p50, p95, max] = run.delays();
        let ssim = ssim(&run.frames, name, size);
        let (first, live) = late.late_start();
        println!(
            "{name} | {p50:.1} / {p95:.1} / {max:.1} ms | {:.2} | {ssim:.4} | {first} / {live} ms",
            run.cores
        );
    }
}

struct Run {
    frames: Vec<VideoFrame>,
    /// How long after its time each frame came.
    added: Vec<(MediaTime, Duration)>,
    /// From the opening to each frame.
    since_open: Vec<Duration>,
    cores: f64,
}

/// Feeds a stream at its pace; with `cached`, its first frames at once and only to be decoded.
fn live(source: &SourceVideo, bit_rate: u32, cached: usize) -> Run {
    let video = KitVideo::start(VideoSettings::default());
    let cpu = children_cpu();
    let opened = now();
    video.send(VideoMsg::Open {
        core: rtmpeer::ids::CoreId(0),
        publisher: PUBLISHER,
        name: rtmpeer::ids::RoomName::parse("bench").unwrap(),
        config: source.config.clone(),
        bit_rate: Some(bit_rate),
    });
    // The moment at which media time is zero, if frames come at their decoding time.
    let origin = opened - micros(source.frames[cached].dts);
    let tightest = source
        .frames
        .iter()
        .map(|frame| frame.pts.minus(frame.dts))
        .min()
        .unwrap();
    let due: BTreeMap<MediaTime, Instant> = source
        .frames
        .iter()
        .map(|frame| (frame.pts, origin + micros(frame.pts.minus(tightest))))
        .collect();
    let mut run = Run {
        frames: Vec::new(),
        added: Vec::new(),
        since_open: Vec::new(),
        cores: 0.0,
    };
    let mut take = |until: Instant| {
        while let Some(reply) = video.reply(until.saturating_duration_since(now())) {
            let came = now();
            let VideoReply::Frame { frame, .. } = reply else {
                panic!("{reply:?}");
            };
            run.added
                .push((frame.pts, came.saturating_duration_since(due[&frame.pts])));
            run.since_open.push(came - opened);
            run.frames.push(frame);
        }
    };
    for (index, frame) in source.frames.iter().enumerate() {
        if index > cached || cached == 0 {
            take(origin + micros(frame.dts));
        } else if index < cached && frame.disposable {
            // The cache leaves it out.
            continue;
        }
        video.frame(frame, index < cached);
    }
    take(now() + Duration::from_millis(500));
    let seconds = opened.elapsed().as_secs_f64();
    drop(video);
    run.cores = (children_cpu() - cpu) / seconds;
    run
}

impl Run {
    /// The 50th and 95th percentile and the most of the added delay, in ms.
    fn delays(&self) -> [f64; 3] {
        let from = self.added[0]
            .0
            .plus(MediaTime::from_millis(WARM_UP.as_millis() as i64));
        let counted = self.added.iter().filter(|(pts, _)| *pts >= from);
        let mut ms: Vec<f64> = counted
            .map(|(_, added)| added.as_secs_f64() * 1_000.0)
            .collect();
        ms.sort_by(f64::total_cmp);
        let at = |part: f64| ms[((ms.len() - 1) as f64 * part) as usize];
        [at(0.5), at(0.95), at(1.0)]
    }

    /// From opening to the first frame, and to the first that is live, in ms.
    fn late_start(&self) -> (u128, u128) {
        let live = self
            .added
            .iter()
            .position(|(_, added)| *added <= LIVE)
            .unwrap();
        (
            self.since_open[0].as_millis(),
            self.since_open[live].as_millis(),
        )
    }
}

fn micros(time: MediaTime) -> Duration {
    Duration::from_micros(u64::try_from(time.as_micros()).unwrap_or(0))
}

/// CPU time of children that ended, in seconds: `cutime` and `cstime` (proc(5)), in ticks of 10 ms.
fn children_cpu() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
    let ticks: f64 = fields
        .skip(13)
        .take(2)
        .map(|ticks| ticks.parse::<f64>().unwrap())
        .sum();
    ticks / 100.0
}

/// How alike input and output are, by ffmpeg's filter: 1 is the same.
fn ssim(frames: &[VideoFrame], name: &str, size: &str) -> f64 {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let output = folder.join(format!("{name}.h264"));
    let mut stream = Vec::new();
    for frame in frames {
        let sets = frame.parameter_sets.iter().flat_map(|sets| &sets.nal_units);
        let units = frame
            .nal_units
            .iter()
            .map(|range| &frame.data[range.clone()]);
        for unit in sets.map(|unit| &unit[..]).chain(units) {
            stream.extend_from_slice(&[0, 0, 0, 1]);
            stream.extend_from_slice(unit);
        }
    }
    fs::write(&output, stream).unwrap();
    let source = folder.join(format!("obs-defaults-{size}-30-{SECONDS}.matroska"));
    let graph = "[0:v]setpts=N[a];[1:v]setpts=N[b];[a][b]ssim=shortest=1";
    let said = Command::new("ffmpeg")
        .args(["-hide_banner", "-nostdin", "-f", "h264", "-i"])
        .arg(&output)
        .arg("-i")
        .arg(&source)
        .args(["-lavfi", graph, "-f", "null", "-"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    let all = said
        .rsplit_once("All:")
        .map(|(_, rest)| rest.split(' ').next().unwrap());
    all.unwrap_or_else(|| panic!("{said}")).parse().unwrap()
}
