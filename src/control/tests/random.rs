//! Random orders of everything that can happen, with a model of what cores and connections saw.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Place,
    Publish {
        publisher: usize,
        room: usize,
    },
    EndPublisher(usize),
    Alive(usize),
    Changed {
        room: u64,
        epoch: u32,
        reordering: bool,
    },
    Whep {
        room: usize,
    },
    Socket {
        room: usize,
    },
    Sdp {
        viewer: usize,
        good: bool,
    },
    Connected(usize),
    Left(usize),
    Complain(usize),
    Close(usize),
    Answer(usize),
    Candidate(usize),
    Chat(usize),
    Delete(usize),
    Patch {
        session: usize,
        room: usize,
    },
    AskAgain(usize),
    Wait(u64),
    Drain,
    Drained(u16),
}

fn step() -> impl Strategy<Value = Step> {
    let (room, many) = (0..3_usize, 0..12_usize);
    prop_oneof![
        3 => Just(Step::Place),
        4 => (many.clone(), room.clone()).prop_map(|(publisher, room)| Step::Publish { publisher, room }),
        3 => many.clone().prop_map(Step::EndPublisher),
        2 => many.clone().prop_map(Step::Alive),
        2 => (1..6_u64, 1..6_u32, any::<bool>())
            .prop_map(|(room, epoch, reordering)| Step::Changed { room, epoch, reordering }),
        5 => room.clone().prop_map(|room| Step::Whep { room }),
        5 => room.clone().prop_map(|room| Step::Socket { room }),
        8 => (many.clone(), prop::bool::weighted(0.9))
            .prop_map(|(viewer, good)| Step::Sdp { viewer, good }),
        4 => many.clone().prop_map(Step::Connected),
        3 => many.clone().prop_map(Step::Left),
        1 => many.clone().prop_map(Step::Complain),
        3 => many.clone().prop_map(Step::Close),
        3 => many.clone().prop_map(Step::Answer),
        2 => many.clone().prop_map(Step::Candidate),
        1 => many.clone().prop_map(Step::Chat),
        2 => many.clone().prop_map(Step::Delete),
        1 => (many.clone(), room).prop_map(|(session, room)| Step::Patch { session, room }),
        1 => many.prop_map(Step::AskAgain),
        2 => (0..6_000_u64).prop_map(Step::Wait),
        1 => prop::bool::weighted(0.03).prop_map(|drain| match drain {
            true => Step::Drain,
            false => Step::Wait(1),
        }),
        1 => (0..3_u16).prop_map(Step::Drained),
    ]
}

/// What the world saw.
#[derive(Default)]
struct World {
    publishers: Vec<(CoreId, PublisherId)>,
    viewers: Vec<Joined>,
    conns: Vec<ConnId>,
    sessions: Vec<String>,
    /// Connections whose request is not answered.
    asked: BTreeSet<ConnId>,
    /// Connections that speak WebSocket.
    sockets: BTreeSet<ConnId>,
    /// Cores that each room's publisher feeds.
    links: BTreeMap<RoomId, (CoreId, BTreeSet<CoreId>)>,
    of_publisher: BTreeMap<PublisherId, RoomId>,
    started: BTreeSet<String>,
    drained: bool,
}

impl World {
    fn take(&mut self, outputs: &[ControlOutput], conn: Option<ConnId>) {
        for output in outputs {
            match output {
                ControlOutput::Core { to, message } => self.core(*to, message, conn),
                ControlOutput::Respond { conn, response } => {
                    assert!(self.asked.remove(conn), "{conn} did not ask");
                    if let Some(url) = response.field("Location") {
                        self.sessions.push(url.into());
                    }
                }
                ControlOutput::Upgrade { conn, .. } => {
                    assert!(self.asked.remove(conn), "{conn} did not ask");
                    assert!(self.sockets.insert(*conn));
                }
                ControlOutput::WebSocket { conn, .. } => {
                    assert!(self.sockets.contains(conn), "{conn} is no WebSocket");
                }
                ControlOutput::CloseWebSocket { conn, .. } => {
                    assert!(self.sockets.remove(conn), "{conn} is no WebSocket");
                }
                ControlOutput::Webhook(event) => match event.kind {
                    EventKind::StreamStarted { .. } => {
                        assert!(self.started.insert(event.session.clone()));
                    }
                    EventKind::StreamEnded { .. } => {
                        assert!(self.started.remove(&event.session), "ended twice");
                    }
                },
                ControlOutput::Drained => {
                    assert!(!self.drained, "said twice");
                    assert!(self.started.is_empty(), "a stream did not end");
                    self.drained = true;
                }
                ControlOutput::Timeout(_) => {}
            }
        }
    }

    fn core(&mut self, to: CoreId, message: &CoreMsg, conn: Option<ConnId>) {
        match message {
            CoreMsg::PublishAccepted {
                publisher,
                room,
                links,
                ..
            } => {
                self.links
                    .insert(*room, (to, links.iter().copied().collect()));
                self.of_publisher.insert(*publisher, *room);
            }
            CoreMsg::LinkRoom { room, to: other } => {
                let (home, links) = self.links.get_mut(room).unwrap();
                assert_eq!(*home, to);
                assert!(links.insert(*other), "linked twice");
            }
            CoreMsg::UnlinkRoom { room, to: other } => {
                let (home, links) = self.links.get_mut(room).unwrap();
                assert_eq!(*home, to);
                assert!(links.remove(other), "was not linked");
            }
            CoreMsg::AddViewer { viewer, .. } => self.viewers.push(Joined {
                conn: conn.unwrap(),
                viewer: *viewer,
                core: to,
            }),
            CoreMsg::PublishRejected { .. }
            | CoreMsg::ClosePublisher { .. }
            | CoreMsg::QuestionPublisher { .. }
            | CoreMsg::ViewerAnswer { .. }
            | CoreMsg::AddCandidate { .. }
            | CoreMsg::RemoveViewer { .. }
            | CoreMsg::BindViewer { .. }
            | CoreMsg::KeyframeWanted { .. }
            | CoreMsg::Drain { .. }
            | CoreMsg::Datagram { .. } => {}
        }
    }

    /// The links that cores were told of are those that the viewers need.
    fn check(&self, rig: &Rig) {
        let directory = &rig.control.directory;
        for id in directory.live_rooms() {
            let room = directory.room(id).unwrap();
            let home = room.live.as_ref().unwrap().core;
            let mut needed: BTreeSet<CoreId> = room.by_core.keys().copied().collect();
            needed.remove(&home);
            assert_eq!(self.links.get(&id), Some(&(home, needed)));
        }
        let announced = |id: &RoomId| {
            let room = directory.room(*id).unwrap();
            room.live.as_ref().unwrap().announced
        };
        let streams = directory.live_rooms();
        let streams = streams.iter().filter(|id| announced(id)).count();
        assert_eq!(self.started.len(), streams, "events and rooms disagree");
    }
}

fn pick<T: Clone>(list: &[T], index: usize) -> Option<T> {
    (!list.is_empty()).then(|| list[index % list.len()].clone())
}

fn room_name(index: usize) -> String {
    format!("room-{index}")
}

#[expect(clippy::too_many_lines, reason = "one short arm per step")]
fn apply(rig: &mut Rig, world: &mut World, step: Step) {
    let mut asking = None;
    let mut ask = |rig: &mut Rig, world: &mut World, conn: ConnId, request| {
        asking = Some(conn);
        world.conns.push(conn);
        // A connection that asks again gave up its first request.
        world.asked.insert(conn);
        rig.request(conn, request)
    };
    let outputs = match step {
        Step::Place => {
            world.publishers.extend(rig.control.place_publisher(peer()));
            Vec::new()
        }
        Step::Publish { publisher, room } => match pick(&world.publishers, publisher) {
            Some((core, publisher)) => rig.request_publish_on(core, publisher, &room_name(room)),
            None => Vec::new(),
        },
        Step::EndPublisher(publisher) => match pick(&world.publishers, publisher) {
            Some((_, publisher)) => {
                let reason = PublishEnd::Reset;
                let outputs = rig.tell(ControlMsg::PublishEnded { publisher, reason });
                if let Some(room) = world.of_publisher.remove(&publisher) {
                    world.links.remove(&room);
                }
                outputs
            }
            None => Vec::new(),
        },
        Step::Alive(publisher) => match pick(&world.publishers, publisher) {
            Some((_, publisher)) => rig.tell(ControlMsg::PublisherAlive { publisher }),
            None => Vec::new(),
        },
        Step::Changed {
            room,
            epoch,
            reordering,
        } => rig.tell(ControlMsg::StreamChanged {
            room: RoomId(room),
            epoch: Epoch(epoch),
            info: StreamInfo {
                reordering,
                ..StreamInfo::default()
            },
        }),
        Step::Whep { room } => {
            let conn = rig.conn();
            ask(rig, world, conn, post(&room_name(room)))
        }
        Step::Socket { room } => {
            let conn = rig.conn();
            ask(rig, world, conn, upgrade(&room_name(room), "same"))
        }
        Step::Delete(session) => match pick(&world.sessions, session) {
            Some(url) => {
                let conn = rig.conn();
                ask(rig, world, conn, request(Method::Delete, &url))
            }
            None => Vec::new(),
        },
        Step::Patch { session, room } => match pick(&world.sessions, session) {
            Some(url) => {
                let url = format!(
                    "/{}/whep/{}",
                    room_name(room),
                    url.rsplit('/').next().unwrap()
                );
                let conn = rig.conn();
                ask(rig, world, conn, request(Method::Patch, &url))
            }
            None => Vec::new(),
        },
        Step::AskAgain(conn) => match pick(&world.conns, conn) {
            Some(conn) if !world.sockets.contains(&conn) => {
                ask(rig, world, conn, post(&room_name(0)))
            }
            Some(_) | None => Vec::new(),
        },
        Step::Close(conn) => match pick(&world.conns, conn) {
            Some(conn) => {
                world.asked.remove(&conn);
                world.sockets.remove(&conn);
                rig.closed(conn)
            }
            None => Vec::new(),
        },
        Step::Wait(millis) => rig.wait(Duration::from_millis(millis)),
        Step::Drain => {
            rig.control.drain(rig.now);
            rig.outputs()
        }
        Step::Drained(core) => rig.tell(ControlMsg::Drained { core: CoreId(core) }),
        Step::Sdp { .. }
        | Step::Connected(_)
        | Step::Left(_)
        | Step::Complain(_)
        | Step::Answer(_)
        | Step::Candidate(_)
        | Step::Chat(_) => of_viewer(rig, world, &step),
    };
    world.take(&outputs, asking);
}

/// Steps of and about one viewer, gone or not.
fn of_viewer(rig: &mut Rig, world: &World, step: &Step) -> Vec<ControlOutput> {
    let viewer = |index: &usize| pick(&world.viewers, *index);
    let line = "candidate:1 1 udp 1 192.0.2.1 9 typ host".to_owned();
    match step {
        Step::Sdp { viewer: v, good } => viewer(v).map(|joined| {
            rig.tell(ControlMsg::ViewerSdp {
                viewer: joined.viewer,
                sdp: good
                    .then(|| SERVER_OFFER.to_owned())
                    .ok_or_else(|| SdpFault::Viewer("bad".to_owned())),
            })
        }),
        Step::Connected(v) => viewer(v).map(|joined| {
            rig.connected(joined);
            Vec::new()
        }),
        Step::Left(v) => viewer(v).map(|joined| rig.left(joined, ViewerEnd::Consent)),
        Step::Complain(v) => viewer(v).map(|joined| {
            let viewer = joined.viewer;
            let text = "bad".to_owned();
            rig.tell(ControlMsg::ViewerComplaint { viewer, text })
        }),
        Step::Answer(v) => {
            viewer(v).map(|joined| rig.say(joined, ClientMessage::Answer("v=0".into())))
        }
        Step::Candidate(v) => {
            viewer(v).map(|joined| rig.say(joined, ClientMessage::Candidate(line)))
        }
        Step::Chat(v) => viewer(v).map(|joined| rig.say(joined, ClientMessage::Chat("x".into()))),
        _ => None,
    }
    .unwrap_or_default()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn no_order_of_events_breaks_the_maps_or_the_links(
        cores in 1..4_u16,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut rig = Rig::new(cores);
        let mut world = World::default();
        for step in steps {
            apply(&mut rig, &mut world, step);
            world.check(&rig);
        }
        // When everyone has gone, nothing is left.
        for (_, publisher) in world.publishers.clone() {
            let reason = PublishEnd::Closed;
            let outputs = rig.tell(ControlMsg::PublishEnded { publisher, reason });
            world.take(&outputs, None);
        }
        world.links.clear();
        for joined in world.viewers.clone() {
            let outputs = rig.left(joined, ViewerEnd::Closed);
            world.take(&outputs, None);
        }
        prop_assert!(rig.control.rooms().is_empty());
        prop_assert_eq!(rig.control.directory.viewer_count(), 0);
        prop_assert!(world.started.is_empty());
        prop_assert!(world.asked.is_empty(), "somebody was never answered");
        prop_assert!(world.sockets.is_empty(), "a WebSocket was never closed");
    }
}
