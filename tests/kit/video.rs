//! Video that browsers cannot decode, made by the real ffmpeg at the first use and kept below
//! `target/`, and the transcoder's thread to put it through.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::wildcard_enum_match_arm,
    reason = "shared by tests and benches, each of which uses a part of it"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use mio::Poll;
use rtmpeer::ids::{CoreId, PublisherId, RoomName};
use rtmpeer::limits::{CORE_MAILBOX_MESSAGES, VIDEO_MAILBOX_MESSAGES};
use rtmpeer::media::avc::DecoderConfig;
use rtmpeer::media::codec::{CodedFrame, VideoCodec, VideoConfig};
use rtmpeer::media::flv::VideoTag;
use rtmpeer::media::flv::file::{TagKind, tags};
use rtmpeer::media::frame::VideoFrame;
use rtmpeer::media::time::MediaTime;
use rtmpeer::messages::{VideoMsg, VideoReply};
use rtmpeer::metrics::VideoCounters;
use rtmpeer::runtime::{
    Containment, CoreMail, DOORBELL, Doorbell, Mailbox, Postbox, VideoLoop, VideoLoopConfig,
    VideoMail, mailbox, now,
};
use rtmpeer::transcode::video::VideoSettings;

/// A stream as ingest would give it, in decoding order.
pub struct SourceVideo {
    /// What it is coded with.
    pub config: Arc<VideoConfig>,
    /// Its frames.
    pub frames: Vec<CodedFrame>,
}

/// 4 s of 320×180 at 30 fps: High profile, three B-frames with pyramid, keyframes 2 s apart.
pub fn b_frames() -> SourceVideo {
    source(
        "b-frames",
        "320x180",
        30,
        4,
        "-x264-params keyint=60:min-keyint=60:scenecut=0",
    )
}

/// H.264 as encoders at their defaults make it, with B-frames in a pyramid.
pub fn source(name: &str, size: &str, rate: u32, seconds: u32, options: &str) -> SourceVideo {
    let path = made(name, size, rate, seconds, options);
    let mut record = None;
    let mut frames = Vec::new();
    for tag in tags(Bytes::from(fs::read(&path).unwrap())).unwrap() {
        if tag.kind != TagKind::Video {
            continue;
        }
        match VideoTag::parse(&tag.payload).unwrap() {
            VideoTag::AvcConfig { offset } => record = Some(tag.payload.slice(offset..)),
            VideoTag::AvcAccessUnit {
                offset,
                composition_time_ms,
            } => {
                let dts = i64::from(tag.timestamp_ms);
                frames.push(CodedFrame {
                    pts: MediaTime::from_millis(dts + i64::from(composition_time_ms)),
                    dts: MediaTime::from_millis(dts),
                    key: tag.payload[0] >> 4 == 1,
                    data: tag.payload.slice(offset..),
                    received: now(),
                });
            }
            _ => {}
        }
    }
    let record = record.expect("a sequence header");
    DecoderConfig::parse(&record).unwrap();
    let (width, height) = size.split_once('x').unwrap();
    SourceVideo {
        config: Arc::new(VideoConfig {
            codec: VideoCodec::Avc,
            record,
            size: Some((width.parse().unwrap(), height.parse().unwrap())),
            sample_aspect_ratio: None,
            interlaced: false,
            frames_per_1000_s: Some(rate * 1_000),
        }),
        frames,
    }
}

fn made(name: &str, size: &str, rate: u32, seconds: u32, options: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join(format!("{name}-{size}-{rate}-{seconds}.flv"));
    if path.exists() {
        return path;
    }
    let partial = folder.join(format!("{name}-{}.part", std::process::id()));
    let source = format!("testsrc2=size={size}:rate={rate}:duration={seconds}");
    let output = Command::new("ffmpeg")
        .args([
            "-hide_banner",
            "-loglevel",
            "error",
            "-nostdin",
            "-f",
            "lavfi",
            "-i",
            &source,
        ])
        .args([
            "-c:v",
            "libx264",
            "-preset",
            "veryfast",
            "-profile:v",
            "high",
            "-bf",
            "3",
        ])
        .args(["-b_strategy", "0", "-pix_fmt", "yuv420p"])
        .args(options.split_whitespace())
        .args(["-f", "flv", "-y"])
        .arg(&partial)
        .stdout(Stdio::null())
        .output()
        .expect("these tests need ffmpeg: apt install ffmpeg");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    fs::rename(&partial, &path).unwrap();
    path
}

/// The transcoder's thread with one core's mailbox.
pub struct KitVideo {
    /// The way in.
    pub inbox: Postbox<VideoMail>,
    /// What came out.
    pub mail: Mailbox<CoreMail>,
    /// What it counts.
    pub counters: Arc<VideoCounters>,
    thread: Option<JoinHandle<()>>,
}

impl KitVideo {
    /// Starts it.
    pub fn start(settings: VideoSettings) -> Self {
        let poll = Poll::new().unwrap();
        let doorbell = Doorbell::new(poll.registry(), DOORBELL).unwrap();
        let (inbox, mailbox_in) = mailbox(VIDEO_MAILBOX_MESSAGES, Some(doorbell.clone()));
        let (core, mail) = mailbox(CORE_MAILBOX_MESSAGES, None);
        let counters = Arc::<VideoCounters>::default();
        let config = VideoLoopConfig {
            settings,
            containment: Containment {
                cpus: Vec::new(),
                limit_memory: true,
            },
            poll,
            doorbell,
            mailbox: mailbox_in,
            cores: vec![core],
            counters: Arc::clone(&counters),
        };
        let thread = thread::spawn(move || VideoLoop::new(config).run());
        Self {
            inbox,
            mail,
            counters,
            thread: Some(thread),
        }
    }

    /// Sends a message.
    pub fn send(&self, message: VideoMsg) {
        self.inbox.post(VideoMail::Message(message)).unwrap();
    }

    /// Opens a stream for the first publisher.
    pub fn open(&self, source: &SourceVideo) {
        self.send(VideoMsg::Open {
            core: CoreId(0),
            publisher: PUBLISHER,
            name: RoomName::parse("cam").unwrap(),
            config: Arc::clone(&source.config),
            bit_rate: Some(1_000_000),
        });
    }

    /// Sends a frame of the first publisher.
    pub fn frame(&self, frame: &CodedFrame, decode_only: bool) {
        self.send(VideoMsg::Frame {
            publisher: PUBLISHER,
            frame: CodedFrame {
                received: now(),
                ..frame.clone()
            },
            decode_only,
        });
    }

    /// The next reply, or `None` after `patience`.
    pub fn reply(&self, patience: Duration) -> Option<VideoReply> {
        match self.mail.wait_until(now() + patience) {
            Ok(CoreMail::VideoTranscoded(reply)) => Some(reply),
            Ok(other) => panic!("{other:?}"),
            Err(_) => None,
        }
    }

    /// Frames until none comes for `patience`.
    pub fn frames(&self, patience: Duration) -> Vec<VideoFrame> {
        std::iter::from_fn(|| match self.reply(patience)? {
            VideoReply::Frame { frame, .. } => Some(frame),
            other => panic!("{other:?}"),
        })
        .collect()
    }
}

impl Drop for KitVideo {
    fn drop(&mut self) {
        self.inbox.post(VideoMail::Stop).unwrap();
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || thread::panicking());
    }
}

/// Publisher of the streams that [`KitVideo::open`] opens.
pub const PUBLISHER: PublisherId = PublisherId(1);
