//! One engine with a publisher, viewers that wait, and a video transcoder that the test plays.

mod changes;
mod ending;
mod sound;
mod told;

use std::time::Duration;

use super::*;
use crate::engine::tests::{engine, joins};
use crate::ids::{CoreId, Epoch, RoomName, ViewerId};
use crate::ingest::IngestOutput;
use crate::limits::{PUBLISH_TAIL_MAX, PUBLISH_TAIL_MIN, TRANSCODE_LINGER};
use crate::media::codec::{AudioConfig, VideoCodec};
use crate::media::frame::{ParameterSets, TrackKind};
use crate::media::time::MediaTime;
use crate::messages::{CoreMsg, MediaMsg, PublishEnd, TranscodeMsg, TranscodeReply};

const PUBLISHER: PublisherId = PublisherId(5);
const ROOM: RoomId = RoomId(9);
const EPOCH: Epoch = Epoch(2);

struct Rig {
    engine: Engine,
    now: Instant,
    next: i64,
    timeout: Instant,
}

/// What came out, apart from what these tests are not about.
#[derive(Debug, Default)]
struct Said {
    video: Vec<VideoMsg>,
    info: Vec<StreamInfo>,
    troubles: Vec<Option<String>>,
    verdicts: Vec<Arc<Verdict>>,
    audio: Vec<TranscodeMsg>,
    /// Ends of publishes, as control is told.
    ended: Vec<PublishEnd>,
    keyframes_asked: usize,
    /// Numbers of video frames for another core.
    fed: Vec<u64>,
}

impl Said {
    /// `o`pen, `c`onfigure, `d`ecode only, `f`rame, `k`eyframe, `e`nd, `x` close.
    fn words(&self) -> String {
        let word = |message: &VideoMsg| match message {
            VideoMsg::Open { .. } => 'o',
            VideoMsg::Configure { .. } => 'c',
            VideoMsg::Frame { decode_only, .. } if *decode_only => 'd',
            VideoMsg::Frame { .. } => 'f',
            VideoMsg::Keyframe { .. } => 'k',
            VideoMsg::Finish { .. } => 'e',
            VideoMsg::Close { .. } => 'x',
        };
        self.video.iter().map(word).collect()
    }
}

/// A rig on which somebody publishes; core 1 is linked or not.
fn rig(linked: bool) -> Rig {
    let (engine, now) = engine();
    let mut rig = Rig {
        engine,
        now,
        next: 0,
        timeout: now,
    };
    let peer = "192.0.2.7:5000".parse().unwrap();
    rig.engine.add_publisher(PUBLISHER, peer, now);
    let accepted = CoreMsg::PublishAccepted {
        publisher: PUBLISHER,
        room: ROOM,
        name: RoomName::parse("room").unwrap(),
        epoch: EPOCH,
        links: if linked { vec![CoreId(1)] } else { Vec::new() },
    };
    rig.engine.handle_message(accepted, now);
    rig
}

impl Rig {
    fn ingest(&mut self, output: IngestOutput) {
        self.engine.ingest_output(PUBLISHER, output, self.now);
    }

    /// What ingest says of a codec, and why it cannot be played.
    fn publishes(&mut self, codec: VideoCodec, transcode: Option<TranscodeReason>) {
        self.ingest(IngestOutput::Info(StreamInfo {
            profile_level_id: (codec == VideoCodec::Avc).then_some([0x64, 0, 0x28]),
            transcode,
            video: Some(codec.to_string()),
            ..StreamInfo::default()
        }));
        self.ingest(IngestOutput::VideoConfig(Arc::new(VideoConfig {
            codec,
            record: vec![1].into(),
            size: None,
            sample_aspect_ratio: None,
            interlaced: false,
            reordering_told: false,
            frames_per_1000_s: None,
        })));
    }

    fn frame(&mut self, key: bool) -> VideoFrame {
        let at = MediaTime::from_millis(40 * self.next);
        self.next += 1;
        self.now += Duration::from_millis(40);
        let sets = ParameterSets {
            nal_units: vec![vec![0x67, 0x42, 0xc0, 0x1e].into()],
        };
        VideoFrame {
            pts: at,
            dts: at,
            key,
            recovery: false,
            disposable: false,
            parameter_sets: key.then(|| Arc::new(sets)),
            data: vec![0x17, 1, 0, 0, 0, 0, 0, 0, 2, 0x65, 9].into(),
            start: 5,
            nal_units: std::iter::once(9..11).collect(),
            received: self.now,
        }
    }

    fn avc(&mut self, count: usize) {
        for index in 0..count {
            let frame = self.frame(index == 0);
            self.ingest(IngestOutput::Video(frame));
        }
    }

    fn coded(&mut self, count: usize) {
        for index in 0..count {
            let frame = self.frame(index == 0);
            self.ingest(IngestOutput::Coded(coded(&frame)));
        }
    }

    fn made(&mut self, key: bool) {
        let frame = self.frame(key);
        let publisher = PUBLISHER;
        let reply = VideoReply::Frame { publisher, frame };
        self.engine.handle_video_reply(reply, self.now);
    }

    fn fails(&mut self, text: &str, retry_after: Option<Duration>) {
        let reply = VideoReply::Failed {
            publisher: PUBLISHER,
            text: text.into(),
            retry_after,
        };
        self.engine.handle_video_reply(reply, self.now);
    }

    fn join(&mut self, viewer: u64) {
        self.engine.handle_message(joins(viewer, ROOM), self.now);
    }

    fn leave(&mut self, viewer: u64) {
        let viewer = ViewerId(viewer);
        self.engine
            .handle_message(CoreMsg::RemoveViewer { viewer }, self.now);
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        // Its session has no encoder that shakes hands.
        self.engine.deadlines.remove(Timer::Publisher(PUBLISHER));
        self.engine.handle_timeout(self.now);
    }

    fn said(&mut self) -> Said {
        let mut said = Said::default();
        loop {
            match self.engine.poll_output(self.now) {
                EngineOutput::TranscodeVideo { message } => said.video.push(message),
                EngineOutput::Control(ControlMsg::StreamChanged { info, .. }) => {
                    said.info.push(info);
                }
                EngineOutput::Control(ControlMsg::PictureTrouble { trouble, .. }) => {
                    said.troubles.push(trouble);
                }
                EngineOutput::Control(ControlMsg::PublishEnded { reason, .. }) => {
                    said.ended.push(reason);
                }
                EngineOutput::Control(ControlMsg::StreamJudged { verdict, .. }) => {
                    said.verdicts.push(verdict);
                }
                EngineOutput::Control(ControlMsg::KeyframeWanted { room }) => {
                    assert_eq!(room, ROOM);
                    said.keyframes_asked += 1;
                }
                EngineOutput::Media { message, .. } => {
                    if let MediaMsg::Frame { frame, .. } = message
                        && frame.track == TrackKind::Video
                    {
                        said.fed.push(frame.number);
                    }
                }
                EngineOutput::Datagrams => self.engine.batch_sent(self.now),
                EngineOutput::Transcode { message, .. } => said.audio.push(message),
                EngineOutput::Tcp { .. }
                | EngineOutput::CloseTcp { .. }
                | EngineOutput::Control(_)
                | EngineOutput::Core { .. } => {}
                EngineOutput::Timeout(at) => {
                    self.timeout = at;
                    return said;
                }
            }
        }
    }

    fn sounds(&mut self, config: &AudioConfig) {
        self.ingest(IngestOutput::AudioConfig(config.clone()));
    }

    /// The worker cannot decode the sound as configured.
    fn cannot_decode(&mut self, config: &AudioConfig) {
        let reply = TranscodeReply::Unplayable {
            publisher: PUBLISHER,
            config: config.clone(),
            text: "choose AAC".into(),
            retry_after: None,
        };
        self.engine.handle_transcoded(reply, self.now);
    }

    /// What was said to the audio worker: `o`pen, `c`onfigure, `u`nit, `e`nd, `x` close.
    fn audio(&mut self) -> String {
        let word = |message: &TranscodeMsg| match message {
            TranscodeMsg::Open { .. } => 'o',
            TranscodeMsg::Configure { .. } => 'c',
            TranscodeMsg::Unit { .. } => 'u',
            TranscodeMsg::Finish { .. } => 'e',
            TranscodeMsg::Close { .. } => 'x',
        };
        self.said().audio.iter().map(word).collect()
    }

    /// What the verdict says of the conversion, and how grave that is.
    fn judged(&mut self) -> Option<(Severity, String)> {
        self.ingest(IngestOutput::Verdict(Arc::default()));
        let said = self.said();
        let item = said.verdicts[0].items.first()?;
        assert_eq!(item.code, "transcoding");
        Some((item.severity, item.text.clone()))
    }

    fn source_is_safe(&self) -> bool {
        self.engine.rooms[&ROOM].room.is_source_safe()
    }

    fn has_safe_entry(&self) -> bool {
        self.engine.rooms[&ROOM].room.has_entry(Rendition::Safe)
    }
}

#[test]
fn safe_source_is_never_transcoded() {
    let mut rig = rig(true);
    rig.publishes(VideoCodec::Avc, None);
    rig.join(1);
    rig.avc(5);
    let said = rig.said();
    assert_eq!(said.words(), "");
    let first = Rendition::Source.first_number(EPOCH);
    assert_eq!(said.fed, (first..first + 5).collect::<Vec<_>>());
    assert_eq!(said.info[0].profile_level_id, Some([0x64, 0, 0x28]));
    assert!(rig.source_is_safe() && rig.has_safe_entry());
}

#[test]
fn unsafe_source_is_transcoded_while_somebody_watches() {
    let mut rig = rig(false);
    rig.publishes(VideoCodec::Avc, Some(TranscodeReason::Reordering));
    rig.avc(4);
    assert_eq!(rig.said().words(), "", "nobody watches");
    rig.join(1);
    let said = rig.said();
    assert_eq!(said.words(), "odddf");
    let VideoMsg::Frame { frame, .. } = &said.video[1] else {
        panic!("no frame");
    };
    assert_eq!(frame.data, [0_u8, 0, 0, 2, 0x65, 9][..]);
    rig.avc(1);
    assert_eq!(rig.said().words(), "f");
    assert!(!rig.has_safe_entry(), "nothing of the source is shown");
    rig.made(true);
    assert!(rig.has_safe_entry());

    rig.leave(1);
    rig.said();
    assert!(rig.timeout <= rig.now + TRANSCODE_LINGER);
    rig.wait(TRANSCODE_LINGER / 2);
    assert_eq!(rig.said().words(), "");
    rig.wait(TRANSCODE_LINGER / 2);
    assert_eq!(rig.said().words(), "x");
    assert!(!rig.has_safe_entry(), "it is not live any more");
}

#[test]
fn other_cores_count_as_viewers_and_get_both_renditions() {
    let mut rig = rig(true);
    rig.publishes(VideoCodec::Avc, Some(TranscodeReason::Interlaced));
    rig.avc(1);
    rig.made(true);
    let said = rig.said();
    assert_eq!(said.words(), "of");
    let firsts = [Rendition::Source, Rendition::Safe].map(|it| it.first_number(EPOCH));
    assert_eq!(said.fed, firsts);
    let to = CoreId(1);
    let room = ROOM;
    rig.engine
        .handle_message(CoreMsg::UnlinkRoom { room, to }, rig.now);
    rig.said();
    rig.wait(TRANSCODE_LINGER);
    assert_eq!(rig.said().words(), "x");
    rig.engine
        .handle_message(CoreMsg::LinkRoom { room, to }, rig.now);
    assert_eq!(rig.said().words(), "od", "what was shown is past");
}

#[test]
fn source_that_turns_unsafe_in_mid_stream_and_back() {
    let mut rig = rig(false);
    rig.publishes(VideoCodec::Avc, None);
    rig.join(1);
    rig.avc(3);
    assert!(rig.source_is_safe());
    rig.publishes(VideoCodec::Avc, Some(TranscodeReason::Reordering));
    let frame = rig.frame(false);
    rig.ingest(IngestOutput::Video(frame));
    assert_eq!(rig.said().words(), "odddf");
    assert!(!rig.source_is_safe());
    rig.made(true);
    rig.publishes(VideoCodec::Avc, None);
    let frame = rig.frame(false);
    rig.ingest(IngestOutput::Video(frame));
    assert_eq!(rig.said().words(), "f", "not before a keyframe");
    assert!(!rig.source_is_safe() && rig.has_safe_entry());
    rig.avc(1);
    assert_eq!(rig.said().words(), "fx");
    assert!(rig.source_is_safe());
    rig.made(false);
}

#[test]
fn safe_source_that_goes_on_in_another_codec_and_back_keeps_its_viewers() {
    let mut rig = rig(true);
    let (avc, hevc) = (VideoCodec::Avc, VideoCodec::Hevc);
    rig.publishes(avc, None);
    rig.join(1);
    rig.avc(3);
    rig.publishes(hevc, Some(TranscodeReason::Codec(hevc)));
    rig.said();
    rig.coded(2);
    assert_eq!(rig.said().words(), "off");
    assert!(!rig.source_is_safe() && !rig.has_safe_entry(), "it is past");
    rig.made(true);
    rig.made(false);
    let first = Rendition::Safe.first_number(EPOCH);
    assert_eq!(rig.said().fed, [first, first + 1]);
    assert!(rig.has_safe_entry());

    rig.publishes(avc, None);
    rig.avc(2);
    assert!(rig.said().words().ends_with('x'));
    assert!(rig.source_is_safe() && rig.has_safe_entry());
}

#[test]
fn codec_without_a_source_to_show_is_transcoded_and_its_joiners_are_told_a_common_profile() {
    let mut rig = rig(false);
    rig.join(1);
    let hevc = VideoCodec::Hevc;
    rig.publishes(hevc, Some(TranscodeReason::Codec(hevc)));
    rig.coded(2);
    let said = rig.said();
    assert_eq!(said.words(), "off");
    assert_eq!(said.info[0].profile_level_id, Some([0x42, 0xe0, 0x1f]));
    rig.made(true);
    let said = rig.said();
    assert_eq!(said.info[0].profile_level_id, Some([0x42, 0xc0, 0x1e]));
    rig.made(true);
    assert_eq!(rig.said().info.len(), 0, "no news");
}

#[test]
fn failure_is_told_with_its_reason_and_tried_again() {
    let mut rig = rig(false);
    rig.join(1);
    rig.publishes(VideoCodec::Avc, Some(TranscodeReason::Reordering));
    rig.avc(2);
    rig.made(true);
    rig.said();
    let after = Duration::from_secs(20);
    rig.fails("install ffmpeg", Some(after));
    let said = rig.said();
    let text = Some("install ffmpeg".to_owned());
    assert_eq!(said.troubles, std::slice::from_ref(&text));
    assert_eq!(said.info.last().unwrap().advice, ["install ffmpeg"]);
    assert!(!rig.has_safe_entry(), "what was made is over");
    assert!(rig.timeout <= rig.now + after);
    rig.made(false);
    rig.avc(2);
    assert_eq!(rig.said().words(), "");
    rig.wait(after);
    assert_eq!(rig.said().words(), "odf");
    rig.fails("install ffmpeg", Some(after));
    assert_eq!(rig.said().troubles, [], "told once");
    rig.wait(after);
    rig.made(true);
    let said = rig.said();
    assert_eq!(said.words(), "odf");
    assert_eq!(said.troubles, [None]);
    assert!(said.info.last().unwrap().advice.is_empty());
}

#[test]
fn verdict_says_what_really_becomes_of_the_video() {
    let mut rig = rig(false);
    rig.publishes(VideoCodec::Avc, None);
    assert_eq!(rig.judged(), None);
    rig.publishes(VideoCodec::Avc, Some(TranscodeReason::Reordering));
    let (severity, text) = rig.judged().unwrap();
    assert_eq!(severity, Severity::Info);
    assert!(text.contains("is encoded anew"), "{text}");
    rig.join(1);
    rig.avc(2);
    rig.fails("install ffmpeg", Some(Duration::from_secs(10)));
    let (severity, text) = rig.judged().unwrap();
    assert_eq!(severity, Severity::Problem);
    assert!(
        text.contains("does not encode it anew: install ffmpeg"),
        "{text}"
    );
    rig.engine.set_video_mode(VideoMode::Never);
    let (severity, text) = rig.judged().unwrap();
    assert_eq!(severity, Severity::Warning);
    assert!(text.contains("video.transcode is \"never\""), "{text}");
    let hevc = VideoCodec::Hevc;
    rig.publishes(hevc, Some(TranscodeReason::Codec(hevc)));
    assert_eq!(rig.judged().unwrap().0, Severity::Problem);
}

#[test]
fn restarted_encoder_gets_the_cached_frames() {
    let mut rig = rig(false);
    rig.join(1);
    rig.publishes(VideoCodec::Avc, Some(TranscodeReason::PixelFormat));
    rig.avc(3);
    assert_eq!(rig.said().words(), "offf");
    let publisher = PUBLISHER;
    rig.engine
        .handle_video_reply(VideoReply::Restart { publisher }, rig.now);
    assert_eq!(rig.said().words(), "ddf");
}

#[test]
fn never_shows_h264_as_it_is_and_says_what_it_cannot_show() {
    let mut rig = rig(false);
    rig.engine.set_video_mode(VideoMode::Never);
    rig.join(1);
    rig.publishes(VideoCodec::Avc, Some(TranscodeReason::Reordering));
    rig.avc(3);
    let said = rig.said();
    assert_eq!(said.words(), "");
    let text = said.troubles[0].as_deref().unwrap();
    assert!(text.contains("B-frames"), "{text}");
    assert!(rig.source_is_safe());
    let hevc = VideoCodec::Hevc;
    rig.publishes(hevc, Some(TranscodeReason::Codec(hevc)));
    rig.coded(2);
    let said = rig.said();
    assert_eq!(said.words(), "");
    let text = said.troubles[0].as_deref().unwrap();
    assert!(
        text.contains("H.265") && text.contains("video.transcode"),
        "{text}"
    );
}

#[test]
fn always_transcodes_what_could_be_shown_too() {
    let mut rig = rig(false);
    rig.engine.set_video_mode(VideoMode::Always);
    rig.join(1);
    rig.publishes(VideoCodec::Avc, None);
    rig.avc(2);
    let said = rig.said();
    assert_eq!(said.words(), "off");
    assert_eq!(said.info[0].profile_level_id, Some([0x42, 0xe0, 0x1f]));
    assert!(!rig.source_is_safe());
}

#[test]
fn keyframes_that_viewers_need_are_asked_of_the_transcoder() {
    let mut rig = rig(false);
    rig.join(1);
    rig.publishes(VideoCodec::Avc, Some(TranscodeReason::Reordering));
    rig.avc(1);
    rig.said();
    rig.join(2);
    assert_eq!(rig.said().words(), "", "the first frame is a keyframe");
    rig.wait(TRANSCODE_KEYFRAME_INTERVAL);
    rig.join(3);
    rig.join(4);
    assert_eq!(rig.said().words(), "k");
    rig.wait(TRANSCODE_KEYFRAME_INTERVAL);
    let wanted = CoreMsg::KeyframeWanted { room: ROOM };
    rig.engine.handle_message(wanted, rig.now);
    assert_eq!(rig.said().words(), "k", "of another core's viewer");
}

#[test]
fn keyframe_of_another_core_s_publish_is_asked_of_control_if_it_is_made_there() {
    let mut rig = rig(false);
    rig.engine.handle_publisher_closed(PUBLISHER, true, rig.now);
    rig.said();
    rig.join(1);
    rig.join(2);
    assert_eq!(rig.said().keyframes_asked, 1);
    let mut packetizer = crate::webrtc::packetize::Packetizer::new(TrackKind::Video, Epoch(3));
    let frame = Arc::new(packetizer.video(&rig.frame(true)).unwrap());
    rig.engine
        .handle_media(MediaMsg::Frame { room: ROOM, frame }, rig.now);
    rig.wait(TRANSCODE_KEYFRAME_INTERVAL);
    rig.join(3);
    assert_eq!(rig.said().keyframes_asked, 0, "the source is what it gets");
}

#[test]
fn viewer_bound_to_the_source_needs_no_transcoding() {
    let mut rig = rig(false);
    rig.join(1);
    let bind = |rendition| CoreMsg::BindViewer {
        viewer: ViewerId(1),
        rendition,
    };
    rig.engine.handle_message(bind(Rendition::Source), rig.now);
    rig.publishes(VideoCodec::Avc, Some(TranscodeReason::Reordering));
    rig.avc(2);
    assert_eq!(rig.said().words(), "");
    rig.engine.handle_message(bind(Rendition::Safe), rig.now);
    assert_eq!(rig.said().words(), "odf");
}
