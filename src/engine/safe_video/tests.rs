//! The machine, message by message.

use std::ops::RangeInclusive;

use super::*;
use crate::media::codec::VideoCodec;
use crate::media::frame::{ParameterSets, Rendition};

struct Rig {
    safe: SafeVideo,
    now: Instant,
    out: Vec<VideoMsg>,
    next: i64,
}

fn rig() -> Rig {
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    let now = Instant::now();
    let whose = Whose {
        core: CoreId(1),
        publisher: PublisherId(7),
        name: RoomName::parse("room").unwrap(),
    };
    let mut rig = Rig {
        safe: SafeVideo::new(whose, Epoch(3)),
        now,
        out: Vec::new(),
        next: 0,
    };
    rig.configure(1);
    rig
}

impl Rig {
    fn configure(&mut self, record: u8) {
        self.configure_with(record, true);
    }

    fn configure_with(&mut self, record: u8, reordering_told: bool) {
        let config = VideoConfig {
            codec: VideoCodec::Hevc,
            record: vec![record].into(),
            size: None,
            sample_aspect_ratio: None,
            interlaced: false,
            reordering_told,
            frames_per_1000_s: None,
        };
        self.safe.configure(Arc::new(config), &mut self.out);
    }

    fn frames(&mut self, count: u32, key_first: bool) {
        self.frames_of(count, key_first, |_| false);
    }

    fn frames_of(&mut self, count: u32, key_first: bool, disposable: fn(u32) -> bool) {
        for index in 0..count {
            let at = MediaTime::from_millis(40 * self.next);
            let frame = CodedFrame {
                pts: at,
                dts: at,
                key: key_first && index == 0,
                recovery: false,
                disposable: disposable(index),
                data: vec![0; 100].into(),
                received: self.now,
            };
            self.next += 1;
            self.safe.frame(frame, &mut self.out);
        }
    }

    fn update(&mut self, needed: bool) -> Updated {
        self.safe.update(true, needed, self.now, &mut self.out)
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    /// What was said: `o`pen, `c`onfigure, `d`ecode only, `f`rame, `k`eyframe, `e`nd, `x` close.
    fn said(&mut self) -> String {
        let word = |message: VideoMsg| match message {
            VideoMsg::Open { .. } => 'o',
            VideoMsg::Configure { .. } => 'c',
            VideoMsg::Frame { decode_only, .. } => {
                if decode_only {
                    'd'
                } else {
                    'f'
                }
            }
            VideoMsg::Keyframe { .. } => 'k',
            VideoMsg::Finish { .. } => 'e',
            VideoMsg::Close { .. } => 'x',
        };
        self.out.drain(..).map(word).collect()
    }
}

fn made(key: bool) -> VideoFrame {
    let sets = ParameterSets {
        nal_units: vec![vec![0x67, 0x4d, 0x40, 0x1f, 9].into(), vec![0x68, 1].into()],
    };
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    let received = Instant::now();
    VideoFrame {
        pts: MediaTime::ZERO,
        dts: MediaTime::ZERO,
        key,
        recovery: false,
        disposable: false,
        parameter_sets: key.then(|| Arc::new(sets)),
        data: vec![if key { 0x65 } else { 0x41 }, 1, 2].into(),
        start: 0,
        nal_units: std::iter::once(0..3).collect(),
        received,
    }
}

#[test]
fn what_is_past_and_nothing_refers_to_is_not_even_decoded() {
    let mut rig = rig();
    rig.frames_of(9, true, |index| index % 2 == 1);
    rig.update(true);
    // Of nine, four past ones that others refer to, and the newest.
    assert_eq!(rig.said(), "oddddf");
    // What is to be shown is sent, whatever it is.
    rig.frames_of(2, false, |_| true);
    assert_eq!(rig.said(), "ff");
}

#[test]
fn decoder_that_is_not_told_the_reordering_gets_every_cached_frame() {
    let mut rig = rig();
    rig.configure_with(2, false);
    rig.frames_of(9, true, |index| index % 2 == 1);
    rig.update(true);
    assert_eq!(rig.said(), "oddddddddf");
}

#[test]
fn begins_with_the_cached_frames_and_goes_on_with_every_new_one() {
    let mut rig = rig();
    rig.frames(4, true);
    assert_eq!(rig.update(false), Updated::default());
    assert_eq!(rig.said(), "", "nobody needs it");
    rig.update(true);
    assert_eq!(rig.said(), "odddf");
    rig.frames(2, false);
    rig.update(true);
    assert_eq!(rig.said(), "ff");
}

#[test]
fn frame_rate_that_nothing_tells_is_measured() {
    let mut rig = rig();
    rig.frames(20, true);
    rig.update(true);
    let Some(VideoMsg::Open { config, .. }) = rig.out.first() else {
        panic!("it is not opened");
    };
    assert_eq!(config.frames_per_1000_s, Some(25_000));
}

#[test]
fn before_a_keyframe_there_is_nothing_to_begin_with() {
    let mut rig = rig();
    rig.frames(3, false);
    rig.update(true);
    assert_eq!(rig.said(), "");
    rig.frames(1, true);
    rig.update(true);
    assert_eq!(rig.said(), "of");
}

#[test]
fn goes_on_for_a_while_without_need_and_then_closes() {
    let mut rig = rig();
    rig.frames(1, true);
    rig.update(true);
    let end = rig.now + TRANSCODE_LINGER;
    assert_eq!(rig.update(false).deadline, Some(end));
    rig.wait(TRANSCODE_LINGER / 2);
    rig.frames(1, false);
    assert_eq!(rig.update(false).deadline, Some(end), "not put off");
    assert_eq!(rig.said(), "off");
    assert_eq!(rig.update(true), Updated::default());
    rig.update(false);
    rig.wait(TRANSCODE_LINGER);
    let updated = rig.update(false);
    assert!(updated.closed && updated.deadline.is_none());
    assert_eq!(rig.said(), "x");
    rig.frames(1, false);
    assert_eq!(rig.said(), "");
}

#[test]
fn source_that_became_safe_ends_it_at_once() {
    let mut rig = rig();
    rig.frames(1, true);
    rig.update(true);
    let (now, out) = (rig.now, &mut rig.out);
    assert!(rig.safe.update(false, true, now, out).closed);
    assert_eq!(rig.said(), "ofx");
    assert_eq!(rig.safe.made(&made(true)).map(|set| set.number), None);
}

#[test]
fn new_configuration_is_followed_by_its_first_keyframe_and_the_same_is_no_news() {
    let mut rig = rig();
    rig.frames(2, true);
    rig.update(true);
    rig.configure(1);
    rig.frames(1, false);
    assert_eq!(rig.said(), "odff");
    rig.configure(2);
    rig.frames(2, false);
    rig.frames(2, true);
    assert_eq!(rig.said(), "cff");
}

#[test]
fn keyframes_are_asked_for_only_so_often() {
    let mut rig = rig();
    rig.safe.want_keyframe(rig.now, &mut rig.out);
    assert_eq!(rig.said(), "", "it is not open");
    rig.frames(1, true);
    rig.update(true);
    for _ in 0..50 {
        rig.wait(TRANSCODE_KEYFRAME_INTERVAL / 10);
        rig.safe.want_keyframe(rig.now, &mut rig.out);
    }
    assert_eq!(rig.said(), "ofkkkkk", "the first frame is a keyframe");
}

#[test]
fn restarted_encoder_gets_the_cached_frames_again() {
    let mut rig = rig();
    rig.frames(3, true);
    rig.update(true);
    rig.said();
    rig.frames(1, false);
    rig.safe.restart(&mut rig.out);
    rig.frames(1, false);
    assert_eq!(rig.said(), "fdddff");
}

#[test]
fn restarted_encoder_does_not_make_again_what_was_shown() {
    let mut rig = rig();
    rig.frames(3, true);
    rig.update(true);
    let mut shown = made(true);
    shown.pts = MediaTime::from_millis(80);
    rig.safe.made(&shown);
    rig.said();
    rig.safe.restart(&mut rig.out);
    rig.frames(1, false);
    assert_eq!(rig.said(), "dddf");
}

#[test]
fn encoder_restarted_when_too_much_is_cached_waits_for_the_next_keyframe() {
    let mut rig = rig();
    rig.frames(1, true);
    rig.update(true);
    rig.frames(2_000, false);
    rig.said();
    rig.safe.restart(&mut rig.out);
    rig.frames(3, false);
    assert_eq!(rig.said(), "");
    rig.frames(2, true);
    assert_eq!(rig.said(), "ff");
}

#[test]
fn failure_is_told_and_tried_again_when_it_makes_sense() {
    let mut rig = rig();
    rig.frames(1, true);
    rig.update(true);
    let after = Duration::from_secs(20);
    rig.safe.fail("no ffmpeg".into(), Some(after), rig.now);
    rig.said();
    assert_eq!(rig.safe.trouble(), Some("no ffmpeg"));
    assert_eq!(rig.update(true).deadline, Some(rig.now + after));
    rig.frames(5, true);
    rig.update(true);
    assert_eq!(rig.said(), "", "too early");
    rig.wait(after);
    rig.update(true);
    assert_eq!(rig.said(), "oddddf");
    assert_eq!(
        rig.safe.trouble(),
        Some("no ffmpeg"),
        "until there is a picture"
    );
    assert!(rig.safe.made(&made(true)).is_some());
    assert_eq!(rig.safe.trouble(), None);
}

#[test]
fn failure_for_good_lasts_until_the_configuration_changes() {
    let mut rig = rig();
    rig.frames(1, true);
    rig.update(true);
    rig.safe.fail("not H.265".into(), None, rig.now);
    rig.wait(Duration::from_secs(3_600));
    rig.frames(1, true);
    assert_eq!(rig.update(true), Updated::default());
    assert_eq!(rig.said(), "of");
    rig.configure(2);
    rig.frames(1, true);
    rig.update(true);
    assert_eq!(rig.said(), "of");
}

#[test]
fn what_is_made_is_numbered_on_through_restarts_and_says_its_profile() {
    let mut rig = rig();
    assert_eq!(rig.safe.profile_level_id(), PROFILE_DEFAULT);
    assert!(rig.safe.made(&made(true)).is_none(), "late");
    rig.frames(1, true);
    rig.update(true);
    let first = Rendition::Safe.first_number(Epoch(3));
    let mut numbers: RangeInclusive<u64> = first..=first + 3;
    for key in [true, false, true, false] {
        let set = rig.safe.made(&made(key)).unwrap();
        assert_eq!(Some(set.number), numbers.next());
        assert_eq!((set.rendition, set.safe), (Rendition::Safe, true));
        rig.safe.restart(&mut rig.out);
    }
    assert_eq!(rig.safe.profile_level_id(), [0x4d, 0x40, 0x1f]);
}

#[test]
fn bit_rate_is_told_as_measured() {
    let mut rig = rig();
    for _ in 0..100 {
        rig.frames(1, true);
        rig.wait(Duration::from_millis(40));
    }
    rig.update(true);
    let Some(VideoMsg::Open { bit_rate, .. }) = rig.out.first() else {
        panic!("not opened");
    };
    assert_eq!(*bit_rate, Some(20_000));
}
