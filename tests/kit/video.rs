//! Video that browsers cannot decode, made by the real ffmpeg at the first use and kept below
//! `target/`, and the transcoder's thread to put it through.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::wildcard_enum_match_arm,
    reason = "shared by tests and benches, each of which uses a part of it"
)]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use mio::Poll;
use rtmpeer::ids::{CoreId, PublisherId, RoomName};
use rtmpeer::limits::{CORE_MAILBOX_MESSAGES, VIDEO_MAILBOX_MESSAGES};
use rtmpeer::media::codec::{CodedFrame, VideoCodec, VideoConfig};
use rtmpeer::media::flv::file::{Tag, TagKind, tags};
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

impl SourceVideo {
    /// When its frames are shown, in order.
    pub fn times(&self) -> Vec<MediaTime> {
        let mut times: Vec<_> = self.frames.iter().map(|frame| frame.pts).collect();
        times.sort_unstable();
        times
    }
}

/// 4 s of 320×180 at 30 fps: High profile, three B-frames with pyramid, keyframes 2 s apart.
pub fn b_frames() -> SourceVideo {
    source(VideoCodec::Avc, "b-frames", "320x180", 30, 4, X264_B_FRAMES)
}

/// How encoders at their defaults make H.264, with keyframes 2 s apart.
pub const X264_B_FRAMES: &str = "-c:v libx264 -preset veryfast -profile:v high -bf 3 \
     -b_strategy 0 -pix_fmt yuv420p -x264-params keyint=60:min-keyint=60:scenecut=0";

/// A moving test picture, encoded by `options`.
pub fn source(
    codec: VideoCodec,
    name: &str,
    size: &str,
    rate: u32,
    seconds: u32,
    options: &str,
) -> SourceVideo {
    let legacy = matches!(
        codec,
        VideoCodec::SorensonH263 | VideoCodec::ScreenVideo | VideoCodec::ScreenVideo2
    );
    let container = if legacy { "flv" } else { "matroska" };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join(format!("{name}-{size}-{rate}-{seconds}.{container}"));
    if !path.exists() {
        let input = format!("testsrc2=size={size}:rate={rate}:duration={seconds}");
        let thread = thread::current().id();
        let partial = folder.join(format!("{name}-{}-{thread:?}.part", std::process::id()));
        let mut arguments = vec!["-y", "-f", "lavfi", "-i", &input];
        arguments.extend(options.split_whitespace());
        arguments.extend(["-f", container]);
        ffmpeg(&arguments, Some(&partial));
        fs::rename(&partial, &path).unwrap();
    }
    let (record, mut frames) = if legacy {
        (Bytes::new(), flv_frames(&path))
    } else {
        let private = !matches!(codec, VideoCodec::Vp8 | VideoCodec::Vp9);
        let record = private.then(|| codec_private(&path));
        (record.unwrap_or_default(), matroska_frames(&path))
    };
    if codec == VideoCodec::Avc {
        for frame in &mut frames {
            frame.disposable = is_disposable(&frame.data);
        }
    }
    let (width, height) = size.split_once('x').unwrap();
    SourceVideo {
        config: Arc::new(VideoConfig {
            codec,
            record,
            size: Some((width.parse().unwrap(), height.parse().unwrap())),
            sample_aspect_ratio: None,
            interlaced: options.contains("+ildct"),
            // x264 does.
            reordering_told: codec == VideoCodec::Avc,
            frames_per_1000_s: Some(rate * 1_000),
        }),
        frames,
    }
}

/// Whether nothing refers to a picture of H.264: `nal_ref_idc` of its first slice is 0 (14496-10 §7.4.1).
fn is_disposable(data: &[u8]) -> bool {
    let mut rest = data;
    while let [a, b, c, d, header, ..] = rest {
        if (1..=5).contains(&(header & 0x1f)) {
            return header & 0x60 == 0;
        }
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        rest = rest.get(4 + length..).unwrap_or_default();
    }
    false
}

/// Runs ffmpeg and gives what it writes.
pub fn ffmpeg(arguments: &[&str], file: Option<&Path>) -> Vec<u8> {
    let output = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "error", "-nostdin"])
        .args(arguments)
        .args(file)
        .stdin(Stdio::null())
        .output()
        .expect("these tests need ffmpeg: apt install ffmpeg");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ffmpeg {arguments:?}: {said}");
    output.stdout
}

/// The frames of a Matroska file as they lie in it: their times, sizes and flags are listed by
/// `framecrc`, their bytes come one after the other by `data`.
fn matroska_frames(path: &Path) -> Vec<CodedFrame> {
    let path = path.to_str().unwrap();
    let copied = |format| {
        ffmpeg(
            &[
                "-i", path, "-map", "0:v", "-c", "copy", "-copyts", "-f", format, "-",
            ],
            None,
        )
    };
    let list = String::from_utf8(copied("framecrc")).unwrap();
    let mut bytes = Bytes::from(copied("data"));
    let frames = list.lines().filter(|line| !line.starts_with('#'));
    frames
        .map(|line| {
            let fields: Vec<&str> = line.split(',').map(str::trim).collect();
            CodedFrame {
                dts: MediaTime::from_millis(fields[1].parse().unwrap()),
                pts: MediaTime::from_millis(fields[2].parse().unwrap()),
                key: !line.contains("F=0x0"),
                recovery: false,
                disposable: false,
                data: bytes.split_to(fields[4].parse().unwrap()),
                received: now(),
            }
        })
        .collect()
}

/// The content of a Matroska file's first CodecPrivate.
fn codec_private(path: &Path) -> Bytes {
    let file = fs::read(path).unwrap();
    let at = file
        .windows(2)
        .position(|pair| pair == [0x63, 0xa2])
        .unwrap();
    let length = file[at + 2].leading_zeros() as usize + 1;
    let start = at + 2 + length;
    let size = file[at + 2..start]
        .iter()
        .fold(0, |size, byte| size << 8 | usize::from(*byte));
    let size = size & ((1 << (7 * length)) - 1);
    Bytes::copy_from_slice(&file[start..start + size])
}

fn flv_frames(path: &Path) -> Vec<CodedFrame> {
    let file = tags(Bytes::from(fs::read(path).unwrap())).unwrap();
    let frame = |tag: Tag| {
        let time = MediaTime::from_millis(tag.timestamp_ms.into());
        CodedFrame {
            pts: time,
            dts: time,
            key: tag.payload[0] >> 4 == 1,
            recovery: false,
            disposable: false,
            data: tag.payload.slice(1..),
            received: now(),
        }
    };
    file.filter(|tag| tag.kind == TagKind::Video)
        .map(frame)
        .collect()
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
        std::iter::from_fn(|| self.frame_within(patience)).collect()
    }

    /// The same of a child that was just started, which has `start` for its first.
    pub fn all_frames(&self, start: Duration, patience: Duration) -> Vec<VideoFrame> {
        let first = self.frame_within(start);
        first.into_iter().chain(self.frames(patience)).collect()
    }

    fn frame_within(&self, patience: Duration) -> Option<VideoFrame> {
        match self.reply(patience)? {
            VideoReply::Frame { frame, .. } => Some(frame),
            other => panic!("{other:?}"),
        }
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
