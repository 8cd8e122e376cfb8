//! The supervisor in virtual time: a scripted child, and what becomes of its stream.

mod failures;

use std::sync::Arc;

use super::*;
use crate::ids::{CoreId, PublisherId, RoomName};
use crate::media::codec::CodedFrame;
use crate::messages::{VideoMsg, VideoReply};

const PUBLISHER: PublisherId = PublisherId(7);
const FRAME: Duration = Duration::from_millis(33);

struct World {
    transcoder: VideoTranscoder,
    now: Instant,
    /// Children started so far; the last runs.
    started: Vec<ChildId>,
    killed: Vec<ChildId>,
    replies: Vec<VideoReply>,
    /// Number of the next frame.
    next: i64,
    input: Vec<u8>,
}

impl World {
    fn new(settings: VideoSettings) -> Self {
        Self {
            transcoder: VideoTranscoder::new(settings),
            now: instant(),
            started: Vec::new(),
            killed: Vec::new(),
            replies: Vec::new(),
            next: 0,
            input: Vec::new(),
        }
    }

    fn open(settings: VideoSettings) -> Self {
        let mut world = Self::new(settings);
        world.open_stream(PUBLISHER);
        world
    }

    fn open_stream(&mut self, publisher: PublisherId) {
        self.send(VideoMsg::Open {
            core: CoreId(0),
            publisher,
            name: RoomName::parse("cam").unwrap(),
            config: Arc::new(config(VideoCodec::Avc)),
            bit_rate: None,
        });
    }

    fn send(&mut self, message: VideoMsg) {
        self.transcoder.handle_message(message, self.now);
        self.settle();
    }

    fn settle(&mut self) -> Option<Instant> {
        loop {
            match self.transcoder.poll_output() {
                VideoOutput::Start { child, .. } => self.started.push(child),
                VideoOutput::Kill { child, .. } => self.killed.push(child),
                VideoOutput::Reply { core, reply } => {
                    assert_eq!(core, CoreId(0));
                    self.replies.push(reply);
                }
                VideoOutput::Wait(deadline) => return deadline,
            }
        }
    }

    fn child(&self) -> ChildId {
        *self.started.last().unwrap()
    }

    /// Sends the frame with a number, the keyframes being the multiples of 60.
    fn frame_number(&mut self, number: i64, decode_only: bool) {
        let time = MediaTime::from_millis(number * 33);
        self.frame_at(number, [time, time], decode_only);
    }

    /// Sends the frame with a number, shown and decoded at these times.
    fn frame_at(&mut self, number: i64, [pts, dts]: [MediaTime; 2], decode_only: bool) {
        let frame = CodedFrame {
            pts,
            dts,
            key: number % 60 == 0,
            recovery: false,
            disposable: false,
            data: Bytes::from(format!("<{number}>")),
            received: self.now,
        };
        self.send(VideoMsg::Frame {
            publisher: PUBLISHER,
            frame,
            decode_only,
        });
    }

    /// Sends the next frame with the time of another.
    fn frame_timed_as(&mut self, number: i64) {
        let times = [number, self.next].map(|it| MediaTime::from_millis(it * 33));
        self.frame_at(self.next, times, false);
        self.next += 1;
        self.read();
    }

    /// Sends the frame with a number, shown so long after it is decoded.
    fn frame_shown_after(&mut self, number: i64, offset_ms: i64) {
        let dts = MediaTime::from_millis(number * 33);
        let pts = dts.plus(MediaTime::from_millis(offset_ms));
        self.frame_at(number, [pts, dts], false);
        self.read();
    }

    /// The stream is of another picture size from here on, or of the first again.
    fn configure(&mut self, other: bool) {
        let mut config = config(VideoCodec::Avc);
        if other {
            config.size = Some((640, 480));
        }
        self.send(VideoMsg::Configure {
            publisher: PUBLISHER,
            config: Arc::new(config),
        });
    }

    /// Sends `count` frames in real time, each read by the child at once.
    fn run(&mut self, count: usize) {
        for _ in 0..count {
            self.frame_number(self.next, false);
            self.next += 1;
            self.read();
            self.pass(FRAME);
        }
    }

    /// The child reads all there is.
    fn read(&mut self) {
        let child = self.child();
        loop {
            let input = self.transcoder.input(child);
            if input.is_empty() {
                return;
            }
            self.input.extend_from_slice(input);
            let count = input.len();
            self.transcoder.input_taken(child, count);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.transcoder.handle_timeout(self.now);
        self.settle();
    }

    /// The child writes the fixture, whose pictures the transcoder takes as they are timed.
    fn write(&mut self) {
        self.write_bytes(&shifted_flv());
    }

    /// The child gives its first pictures within a second; those of the fixture last for 1.1 s.
    fn begin(&mut self) {
        self.run(28);
        self.write();
        self.next = 40;
    }

    fn write_bytes(&mut self, bytes: &[u8]) {
        let child = self.child();
        self.transcoder.handle_stdout(child, bytes, self.now);
        self.settle();
    }

    fn die(&mut self, said: &str) {
        let end = ChildEnd::Exited {
            status: "exit status: 1".into(),
            said: said.into(),
        };
        let child = self.child();
        self.transcoder.handle_ended(child, &end, self.now);
        self.settle();
    }

    fn restarts(&self) -> usize {
        let restart = |reply: &&VideoReply| matches!(reply, VideoReply::Restart { .. });
        self.replies.iter().filter(restart).count()
    }

    fn frames(&self) -> usize {
        let frame = |reply: &&VideoReply| matches!(reply, VideoReply::Frame { .. });
        self.replies.iter().filter(frame).count()
    }

    fn failure(&self) -> Option<(&str, Option<Duration>)> {
        self.replies.iter().find_map(|reply| match reply {
            VideoReply::Failed {
                text, retry_after, ..
            } => Some((text.as_str(), *retry_after)),
            VideoReply::Frame { .. } | VideoReply::Finished { .. } | VideoReply::Restart { .. } => {
                None
            }
        })
    }

    /// What the child was told of each frame: its text and its command's digit.
    fn commands(&self) -> Vec<(String, i64)> {
        matroska::blocks(&self.input)
            .into_iter()
            .map(|(ticks, _, frame)| (String::from_utf8(frame).unwrap(), ticks % 10))
            .collect()
    }
}

/// The fixture with its times moved to where a child's begin.
fn shifted_flv() -> Vec<u8> {
    const FIRST_MS: u32 = 10_000;
    let mut bytes = CHILD_FLV.to_vec();
    let mut at = 13;
    while at < bytes.len() {
        let size = u32::from_be_bytes([0, bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if bytes[at] == 9 {
            let time =
                u32::from_be_bytes([bytes[at + 7], bytes[at + 4], bytes[at + 5], bytes[at + 6]]);
            let [high, rest @ ..] = (time + FIRST_MS).to_be_bytes();
            bytes[at + 4..at + 7].copy_from_slice(&rest);
            bytes[at + 7] = high;
        }
        at += 11 + size as usize + 4;
    }
    bytes
}

#[test]
fn frames_before_a_keyframe_are_not_fed() {
    let mut world = World::open(VideoSettings::default());
    world.next = 57;
    world.run(5);
    let commands = world.commands();
    assert_eq!(commands[0].0, "<60>");
    assert_eq!(commands.len(), 2);
    assert_eq!(world.transcoder.stats().dropped, 3);
}

#[test]
fn what_the_child_makes_goes_to_the_core() {
    let mut world = World::open(VideoSettings::default());
    world.begin();
    assert_eq!(world.frames(), 12);
    let Some(VideoReply::Frame { publisher, frame }) = world.replies.first() else {
        panic!("a frame");
    };
    assert_eq!(
        (*publisher, frame.pts, frame.key),
        (PUBLISHER, MediaTime::ZERO, true)
    );
    assert_eq!(world.transcoder.stats().frames_out, 12);
}

#[test]
fn cached_frames_are_marked_to_be_decoded_only() {
    let mut world = World::open(VideoSettings::default());
    world.frame_number(0, true);
    world.frame_number(1, true);
    world.frame_number(2, false);
    world.read();
    let digits: Vec<i64> = world.commands().iter().map(|(_, digit)| *digit).collect();
    assert_eq!(digits, [2, 2, 0]);
}

/// A stream whose times go to and fro would else cost a child for each frame.
#[test]
fn a_frame_whose_time_is_past_is_decoded_only_and_costs_no_child() {
    let mut world = World::open(VideoSettings::default());
    world.begin();
    world.input.clear();
    for _ in 0..5 {
        world.frame_timed_as(2);
        world.run(1);
    }
    let digits: Vec<i64> = world.commands().iter().map(|(_, digit)| *digit).collect();
    assert_eq!(digits, [2, 0, 2, 0, 2, 0, 2, 0, 2, 0]);
    assert_eq!((world.started.len(), world.restarts()), (1, 0));
}

#[test]
fn a_dead_child_is_replaced_at_once_and_the_cached_frames_are_asked_for() {
    let mut world = World::open(VideoSettings::default());
    world.run(10);
    world.die("Killed");
    assert_eq!((world.started.len(), world.restarts()), (2, 1));
    assert!(world.killed.is_empty(), "it is dead already");
    // Live frames on their way are of no use to the new child; the cached ones are.
    world.input.clear();
    world.run(2);
    for number in 0..12 {
        world.frame_number(number, number < 11);
    }
    world.run(1);
    let texts: Vec<String> = world.commands().into_iter().map(|(text, _)| text).collect();
    let expected: Vec<String> = (0..13).map(|number| format!("<{number}>")).collect();
    assert_eq!(texts, expected);
}

#[test]
fn frames_sent_once_more_are_fed_once() {
    let mut world = World::open(VideoSettings::default());
    world.run(3);
    for number in 0..5 {
        world.frame_number(number, true);
    }
    world.read();
    let texts: Vec<String> = world.commands().into_iter().map(|(text, _)| text).collect();
    assert_eq!(texts, ["<0>", "<1>", "<2>", "<3>", "<4>"]);
}

#[test]
fn a_child_that_writes_nonsense_is_killed_and_replaced() {
    let mut world = World::open(VideoSettings::default());
    let before = world.child();
    world.write_bytes(b"#!/bin/sh");
    assert_eq!(world.killed, [before]);
    assert_eq!(world.restarts(), 1);
    // What it wrote before it died is not taken for the next one's.
    let now = world.now;
    world.transcoder.handle_stdout(before, b"more", now);
    assert_eq!(world.restarts(), 1);
}

#[test]
fn above_the_budget_a_stream_is_refused_with_words() {
    let settings = VideoSettings {
        max_transcodes: 1,
        ..VideoSettings::default()
    };
    let mut world = World::open(settings);
    world.open_stream(PublisherId(8));
    let (text, retry_after) = world.failure().unwrap();
    assert!(text.contains("1 videos already") && text.contains("video.max_transcodes"));
    assert!(retry_after.is_some());
    world.send(VideoMsg::Close {
        publisher: PUBLISHER,
    });
    world.replies.clear();
    world.open_stream(PublisherId(8));
    assert_eq!(world.failure(), None);
    assert_eq!(world.started.len(), 2);
}

#[test]
fn an_operator_who_says_never_is_obeyed() {
    let settings = VideoSettings {
        mode: VideoMode::Never,
        ..VideoSettings::default()
    };
    let world = World::open(settings);
    let (text, retry_after) = world.failure().unwrap();
    assert!(text.contains("video.transcode"));
    assert_eq!(retry_after, None);
    assert!(world.started.is_empty());
}

#[test]
fn without_ffmpeg_the_words_say_what_to_install() {
    let mut world = World::open(VideoSettings::default());
    let child = world.child();
    world
        .transcoder
        .handle_ended(child, &ChildEnd::NotFound, world.now);
    world.settle();
    assert!(world.failure().unwrap().0.contains("apt install ffmpeg"));
    assert_eq!(world.transcoder.stats().streams, 0);
}

#[test]
fn a_keyframe_request_is_told_with_the_next_frame_once() {
    let mut world = World::open(VideoSettings::default());
    world.begin();
    world.run(20);
    world.input.clear();
    for _ in 0..3 {
        world.send(VideoMsg::Keyframe {
            publisher: PUBLISHER,
        });
    }
    world.run(4);
    let digits: Vec<i64> = world.commands().iter().map(|(_, digit)| *digit).collect();
    assert_eq!(digits, [1, 0, 0, 0]);
}

#[test]
fn keyframe_requests_are_granted_twice_a_second_at_most() {
    let mut world = World::open(VideoSettings::default());
    world.begin();
    world.input.clear();
    for _ in 0..29 {
        world.send(VideoMsg::Keyframe {
            publisher: PUBLISHER,
        });
        world.run(1);
    }
    let forced = world
        .commands()
        .iter()
        .filter(|(_, digit)| *digit == 1)
        .count();
    assert_eq!(forced, 1, "within a second of a keyframe");
}

#[test]
fn a_child_that_does_not_read_loses_frames_up_to_a_keyframe() {
    let mut world = World::open(VideoSettings::default());
    world.begin();
    // Not enough in silence to say that it hangs: one frame in 150 ms.
    for number in 40..62 {
        world.frame_number(number, false);
        world.now += Duration::from_millis(150);
    }
    let dropped = world.transcoder.stats().dropped;
    assert!(dropped > 10, "{dropped}");
    world.input.clear();
    world.read();
    let texts: Vec<String> = world.commands().into_iter().map(|(text, _)| text).collect();
    assert_eq!(texts, ["<60>", "<61>"]);
}

#[test]
fn another_configuration_gets_another_child() {
    let mut world = World::open(VideoSettings::default());
    world.run(10);
    let before = world.child();
    let mut other = config(VideoCodec::Avc);
    other.size = Some((640, 480));
    let configure = |config: &VideoConfig| VideoMsg::Configure {
        publisher: PUBLISHER,
        config: Arc::new(config.clone()),
    };
    let mut better_known = config(VideoCodec::Avc);
    better_known.frames_per_1000_s = Some(29_970);
    world.send(configure(&better_known));
    assert!(world.killed.is_empty(), "nothing that matters changed");
    world.send(configure(&other));
    assert_eq!(world.killed, [before]);
    assert_eq!(
        (world.restarts(), world.transcoder.stats().restarts),
        (0, 0)
    );
}

#[test]
fn what_a_child_still_has_comes_out_before_its_stream_is_over() {
    let mut world = World::open(VideoSettings::default());
    for number in 0..12 {
        world.frame_number(number, false);
    }
    let child = world.child();
    world.send(VideoMsg::Finish {
        publisher: PUBLISHER,
    });
    assert!(!world.transcoder.input_is_over(child), "frames wait");
    world.read();
    assert!(world.transcoder.input_is_over(child));
    world.write();
    world.die("");
    assert_eq!(world.frames(), 12);
    let last = world.replies.last();
    assert!(
        matches!(last, Some(VideoReply::Finished { .. })),
        "{last:?}"
    );
    assert_eq!((world.started.len(), world.restarts()), (1, 0));
    assert_eq!(world.transcoder.stats().streams, 0);
}

#[test]
fn a_child_that_hangs_at_the_end_ends_its_stream_all_the_same() {
    let mut world = World::open(VideoSettings::default());
    world.run(25);
    world.send(VideoMsg::Finish {
        publisher: PUBLISHER,
    });
    world.pass(Duration::from_secs(2));
    let last = world.replies.last();
    assert!(
        matches!(last, Some(VideoReply::Finished { .. })),
        "{last:?}"
    );
    assert_eq!((world.started.len(), world.killed.len()), (1, 1));
}

#[test]
fn messages_about_unknown_streams_do_nothing() {
    let mut world = World::new(VideoSettings::default());
    world.frame_number(0, false);
    world.send(VideoMsg::Keyframe {
        publisher: PUBLISHER,
    });
    world.send(VideoMsg::Close {
        publisher: PUBLISHER,
    });
    world.transcoder.handle_stdout(ChildId(9), b"x", world.now);
    assert_eq!(world.transcoder.input(ChildId(9)), b"");
    assert!(world.replies.is_empty());
}
