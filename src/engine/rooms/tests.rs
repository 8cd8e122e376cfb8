//! Two cores, one with a publisher, one with viewers; the test is control and the way between them.

use std::time::Duration;

use super::*;
use crate::engine::tests::{engine, engine_of, joins};
use crate::ids::RoomName;
use crate::media::frame::{FrameSetHead, Rendition};
use crate::media::time::MediaTime;
use crate::messages::CoreMsg;

const ROOM: RoomId = RoomId(9);
const EPOCH: Epoch = Epoch(2);
const AWAY: CoreId = CoreId(1);
const PICTURE: Duration = Duration::from_millis(40);

struct Rig {
    home: Engine,
    away: Engine,
    now: Instant,
    /// Numbers of the next frame: of the source, and of what is made of it.
    next: [u64; 2],
    safe: bool,
}

/// A rig on whose first core somebody publishes.
fn rig() -> Rig {
    let (mut home, now) = engine();
    let publisher = PublisherId(5);
    home.add_publisher(publisher, "192.0.2.7:5000".parse().unwrap(), now);
    let accepted = CoreMsg::PublishAccepted {
        publisher,
        room: ROOM,
        name: RoomName::parse("room").unwrap(),
        epoch: EPOCH,
        links: Vec::new(),
    };
    home.handle_message(accepted, now);
    Rig {
        home,
        away: engine_of(AWAY, now),
        now,
        next: [Rendition::Source, Rendition::Safe].map(|it| it.first_number(EPOCH)),
        safe: true,
    }
}

impl Rig {
    /// So many frames, with a keyframe in front or not, of a rendition; the other core gets what is
    /// for it.
    fn publish(&mut self, rendition: Rendition, key: bool, count: usize) {
        for index in 0..count {
            let next = match rendition {
                Rendition::Source => &mut self.next[0],
                Rendition::Safe => &mut self.next[1],
            };
            self.now += PICTURE;
            let head = FrameSetHead {
                track: TrackKind::Video,
                rendition,
                safe: self.safe || rendition == Rendition::Safe,
                epoch: EPOCH,
                number: *next,
                first_sequence: *next,
                key: key && index == 0,
                disposable: false,
                pts: MediaTime::ZERO,
                received: self.now,
            };
            *next += 1;
            let frame = Arc::new(FrameSet::new(head, vec![1], vec![1]).unwrap());
            self.home.push_frame(ROOM, frame, self.now);
            self.carry();
        }
    }

    /// Brings media to the other core; how many frames that were.
    fn carry(&mut self) -> usize {
        let mut count = 0;
        while let Some(output) = self.home.outputs.pop_front() {
            let asks = matches!(output, EngineOutput::Control(ControlMsg::FeedWanted { .. }));
            assert!(!asks, "the core of the publish asks");
            if let EngineOutput::Media { to, message } = output {
                assert_eq!(to, AWAY);
                count += 1;
                self.away.handle_media(message, self.now);
            }
        }
        count
    }

    /// How often the other core has asked to be fed again.
    fn asked(&mut self) -> usize {
        let mut count = 0;
        while let Some(output) = self.away.outputs.pop_front() {
            if let EngineOutput::Control(ControlMsg::FeedWanted { room, epoch, core }) = output {
                assert_eq!((room, epoch, core), (ROOM, EPOCH, AWAY));
                count += 1;
            }
        }
        count
    }

    /// Links the other core, for the first time or again; how many frames that gets.
    fn link(&mut self) -> usize {
        let (room, to) = (ROOM, AWAY);
        let link = CoreMsg::LinkRoom { room, to };
        self.home.handle_message(link, self.now);
        self.carry()
    }

    fn join(&mut self, viewer: u64) {
        self.away.handle_message(joins(viewer, ROOM), self.now);
    }

    fn leave(&mut self, viewer: u64) {
        let viewer = ViewerId(viewer);
        let remove = CoreMsg::RemoveViewer { viewer };
        self.away.handle_message(remove, self.now);
    }

    /// Whether the other core's viewers can begin with a rendition, and are then as far as the publisher.
    fn shows(&self, rendition: Rendition) -> bool {
        let [home, away] = [&self.home, &self.away].map(|it| &it.rooms[&ROOM].room);
        let cursor = away.join(rendition);
        away.has_entry(rendition) && away.live_edge(&cursor) == home.live_edge(&cursor)
    }
}

#[test]
fn keyframe_that_came_before_the_viewer_is_fed_again() {
    let mut rig = rig();
    rig.publish(Rendition::Source, true, 10);
    assert_eq!(rig.link(), 10);
    rig.join(1);
    assert!(!rig.shows(Rendition::Safe), "the room was not known");
    rig.publish(Rendition::Source, false, 2);
    assert_eq!(rig.asked(), 1);
    assert_eq!(rig.link(), 12);
    assert!(rig.shows(Rendition::Safe));
    rig.now += FEED_AGAIN_INTERVAL;
    rig.publish(Rendition::Source, false, 5);
    assert!(rig.shows(Rendition::Safe));
    assert_eq!(rig.asked(), 0);
}

#[test]
fn core_that_let_go_of_the_room_between_two_viewers_is_fed_again() {
    let mut rig = rig();
    rig.publish(Rendition::Source, true, 3);
    rig.join(1);
    rig.link();
    assert!(rig.shows(Rendition::Safe));
    // Control has sent another there, and so keeps the link.
    rig.leave(1);
    rig.publish(Rendition::Source, false, 1);
    rig.join(2);
    rig.publish(Rendition::Source, false, 1);
    assert_eq!(rig.asked(), 1);
    assert_eq!(rig.link(), 5);
    assert!(rig.shows(Rendition::Safe));
}

#[test]
fn both_renditions_are_fed_again() {
    let mut rig = rig();
    rig.safe = false;
    rig.publish(Rendition::Source, true, 4);
    rig.publish(Rendition::Safe, true, 3);
    rig.link();
    rig.join(1);
    rig.publish(Rendition::Safe, false, 1);
    rig.publish(Rendition::Source, false, 1);
    assert_eq!(rig.asked(), 1);
    assert_eq!(rig.link(), 9);
    assert!(rig.shows(Rendition::Safe) && rig.shows(Rendition::Source));
}

#[test]
fn core_that_gets_no_answer_asks_now_and_then_and_not_after_a_keyframe() {
    let mut rig = rig();
    rig.publish(Rendition::Source, true, 1);
    rig.link();
    rig.join(1);
    let second = 25;
    rig.publish(Rendition::Source, false, 2 * second);
    let asked = rig.asked();
    assert!((3..=4).contains(&asked), "asked {asked} times in 2 s");
    for viewer in 2..20 {
        rig.join(viewer);
    }
    rig.publish(Rendition::Source, true, 1);
    rig.publish(Rendition::Source, false, 2 * second);
    assert_eq!(rig.asked(), 0);
    assert!(rig.shows(Rendition::Safe));
}

#[test]
fn what_is_fed_again_for_nothing_changes_nothing() {
    let mut rig = rig();
    rig.join(1);
    rig.publish(Rendition::Source, true, 2);
    rig.link();
    rig.publish(Rendition::Source, true, 3);
    let before = rig.next[0] - 5;
    assert_eq!(rig.link(), 3);
    assert_eq!(rig.asked(), 0);
    let room = &rig.away.rooms[&ROOM].room;
    let kept = room.packet(TrackKind::Video, before);
    assert!(kept.is_some(), "what is kept to be sent again was dropped");
    rig.publish(Rendition::Source, false, 2);
    assert!(rig.shows(Rendition::Safe));
}

#[test]
fn core_of_the_publish_asks_nobody() {
    let mut rig = rig();
    rig.publish(Rendition::Source, false, 2);
    rig.publish(Rendition::Safe, false, 2);
}
