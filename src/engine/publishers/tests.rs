//! Publishers that cross what control decides about them.

use std::time::Duration;

use super::*;
use crate::engine::tests::engine;
use crate::media::frame::{ParameterSets, VideoFrame};
use crate::media::time::MediaTime;
use crate::messages::{CoreMsg, MediaMsg};
use crate::rtmp::tests::wire::{self, Wire};

const FIRST: PublisherId = PublisherId(1);
const SECOND: PublisherId = PublisherId(2);
const ROOM: RoomId = RoomId(9);
const OTHER_CORE: CoreId = CoreId(1);

struct Rig {
    engine: Engine,
    now: Instant,
}

impl Rig {
    fn new() -> Self {
        let (engine, now) = engine();
        Self { engine, now }
    }

    /// A publisher connects and asks to publish.
    fn asks(&mut self, publisher: PublisherId) {
        let peer = "192.0.2.7:5000".parse().unwrap();
        self.engine.add_publisher(publisher, peer, self.now);
        self.says(publisher, &wire::handshake());
        self.says(publisher, &wire::connect("live"));
        self.says(publisher, &wire::command("createStream", 4.0, &[]));
        self.says(publisher, &wire::publish("room"));
        let (control, _) = self.outputs();
        assert!(
            matches!(control[..], [ControlMsg::PublishRequested { .. }]),
            "{control:?}"
        );
    }

    fn says(&mut self, publisher: PublisherId, bytes: &[u8]) {
        self.engine
            .handle_publisher_input(publisher, bytes, self.now);
    }

    fn accepted(&mut self, publisher: PublisherId, epoch: u32) {
        let accepted = CoreMsg::PublishAccepted {
            publisher,
            room: ROOM,
            name: RoomName::parse("room").unwrap(),
            epoch: Epoch(epoch),
            links: vec![OTHER_CORE],
        };
        self.engine.handle_message(accepted, self.now);
    }

    /// A publisher's first picture.
    fn publishes(&mut self, publisher: PublisherId) {
        let sets = ParameterSets {
            nal_units: vec![vec![0x67, 0x42, 0xc0, 0x1e].into()],
        };
        let frame = VideoFrame {
            pts: MediaTime::ZERO,
            dts: MediaTime::ZERO,
            key: true,
            recovery: false,
            disposable: false,
            parameter_sets: Some(Arc::new(sets)),
            data: vec![0x17, 1, 0, 0, 0, 0, 0, 0, 2, 0x65, 9].into(),
            start: 5,
            nal_units: std::iter::once(9..11).collect(),
            received: self.now,
        };
        self.engine
            .ingest_output(publisher, IngestOutput::Video(frame), self.now);
    }

    /// What comes out for control, and for the other core.
    fn outputs(&mut self) -> (Vec<ControlMsg>, Vec<MediaMsg>) {
        let (mut control, mut media) = (Vec::new(), Vec::new());
        loop {
            match self.engine.poll_output(self.now) {
                EngineOutput::Control(message) => control.push(message),
                EngineOutput::Media { to, message } => {
                    assert_eq!(to, OTHER_CORE);
                    media.push(message);
                }
                EngineOutput::Datagrams => self.engine.batch_sent(self.now),
                EngineOutput::Tcp { .. }
                | EngineOutput::CloseTcp { .. }
                | EngineOutput::Core { .. }
                | EngineOutput::Transcode { .. }
                | EngineOutput::TranscodeVideo { .. } => {}
                EngineOutput::Timeout(_) => return (control, media),
            }
        }
    }
}

#[test]
fn publish_that_was_taken_back_before_it_was_accepted_is_none() {
    let mut rig = Rig::new();
    rig.asks(FIRST);
    rig.says(
        FIRST,
        &wire::command("FCUnpublish", 6.0, &[wire::text("room")]),
    );
    let (control, _) = rig.outputs();
    assert!(
        matches!(control[..], [ControlMsg::PublishEnded { .. }]),
        "{control:?}"
    );
    // Control had accepted it before it heard of that, and gave the room to another since.
    rig.accepted(FIRST, 1);
    rig.asks(SECOND);
    rig.accepted(SECOND, 2);
    rig.outputs();
    rig.engine.handle_publisher_closed(FIRST, false, rig.now);
    let (control, media) = rig.outputs();
    assert!(
        control.is_empty() && media.is_empty(),
        "{control:?} {media:?}"
    );
    rig.publishes(SECOND);
    let (_, media) = rig.outputs();
    let feeds = matches!(media[..], [MediaMsg::Frame { room: ROOM, .. }]);
    assert!(
        feeds,
        "the other core gets the second's pictures: {media:?}"
    );
}

#[test]
fn publisher_that_is_not_read_because_it_is_ahead_is_not_silent() {
    let mut rig = Rig::new();
    rig.asks(FIRST);
    rig.accepted(FIRST, 1);
    rig.outputs();
    rig.engine.publishers.get_mut(&FIRST).unwrap().held = true;
    let silence = Duration::from_secs(1);
    rig.now += silence * 3;
    let question = CoreMsg::QuestionPublisher {
        publisher: FIRST,
        silence,
    };
    rig.engine.handle_message(question, rig.now);
    rig.engine.handle_timeout(rig.now);
    let (control, _) = rig.outputs();
    assert!(
        matches!(
            control[..],
            [ControlMsg::PublisherAlive { publisher: FIRST }]
        ),
        "{control:?}"
    );
}

/// The watchdog takes a core that does not turn for seconds for one that is stuck.
#[test]
fn core_wakes_though_the_next_thing_to_do_is_far_off() {
    let mut rig = Rig::new();
    rig.asks(FIRST);
    rig.accepted(FIRST, 1);
    rig.outputs();
    for _ in 0..10 {
        let EngineOutput::Timeout(at) = rig.engine.poll_output(rig.now) else {
            panic!("nothing is left to do");
        };
        let sleeps = at.saturating_duration_since(rig.now);
        assert!(sleeps <= Duration::from_secs(1), "{sleeps:?}");
        rig.now = at;
        rig.engine.handle_timeout(rig.now);
        rig.outputs();
    }
}

/// A bug was: of a relay that does not wait for the answer to `publish`, and sends its headers once,
/// viewers never saw a picture.
#[test]
fn publisher_that_sends_its_headers_before_it_is_accepted_is_seen() {
    const SPS: &[u8] = &[
        0x67, 0x42, 0xc0, 0x0d, 0xda, 0x05, 0x06, 0x7e, 0x7c, 0x04, 0x40, 0x00, 0x00, 0x03, 0x00,
        0x40, 0x00, 0x00, 0x0f, 0x03, 0xc5, 0x0a, 0xa8,
    ];
    const PPS: &[u8] = &[0x68, 0xce, 0x04, 0x72];
    const VIDEO: u8 = 9;
    let mut header = vec![0x17, 0, 0, 0, 0, 1, 0x42, 0xc0, 0x0d, 0xff];
    for unit in [SPS, PPS] {
        header.push(1);
        header.extend(u16::try_from(unit.len()).unwrap().to_be_bytes());
        header.extend(unit);
    }
    let keyframe = [0x17, 1, 0, 0, 0, 0, 0, 0, 4, 0x65, 0x88, 0x84, 0x01];
    let mut rig = Rig::new();
    rig.asks(FIRST);
    rig.says(FIRST, &Wire::new(6, VIDEO, 0, &header).bytes());
    rig.says(FIRST, &Wire::new(6, VIDEO, 0, &keyframe).bytes());
    rig.accepted(FIRST, 1);
    rig.says(FIRST, &Wire::new(6, VIDEO, 40, &keyframe).bytes());
    let (_, media) = rig.outputs();
    let feeds = matches!(media[..], [MediaMsg::Frame { room: ROOM, .. }]);
    assert!(feeds, "{media:?}");
}
