//! What happens to the world: people come and go, networks and encoders fail, strangers knock.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use rtmpeer::ids::ConnId;
use rtmpeer::signalling::Method;

use super::chance::Chance;
use super::kit::viewer::KitViewer;
use super::network::{Link, Quality};
use super::publisher::{Fate, SimPublisher};
use super::viewer::{SimViewer, Stage, Way, request, websocket_request, whep_request};
use super::watch::Watch;
use super::world::{ControlInput, CoreInput, Due, SILENCE_MAX, SimRoom, World};

/// After a stall so long, what it held up is not heard any more.
const SOUND_LEFT_OUT_AFTER: Duration = Duration::from_secs(2);
/// str0m checks its connection this often; until then the server cannot know of a new address.
const PLAYER_CHECKS: Duration = Duration::from_secs(9);

/// How a viewer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goodbye {
    /// DELETE, or the WebSocket closes.
    Signalling,
    /// DTLS close_notify.
    Dtls,
}

impl World {
    /// A viewer comes to a room.
    pub fn join(&mut self, room: usize, way: Way, quality: Quality) -> usize {
        let index = self.viewers.len();
        let number = u32::try_from(index).unwrap();
        let ip = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 2)) + number);
        let address = SocketAddr::new(IpAddr::V4(ip), 40_000);
        let conn = ConnId(1_000 + u64::from(number));
        let mut kit = KitViewer::new(address, self.now);
        let name = &self.rooms[room].name;
        let request = match way {
            Way::Whep => whep_request(name, kit.offer()),
            Way::WebSocket => websocket_request(name),
        };
        let seed = self.plan.seed;
        let link = |direction| Link::new(seed, number.into(), direction);
        self.viewers.push(SimViewer {
            kit,
            room,
            way,
            conn,
            stage: Stage::Asking,
            session: None,
            id: None,
            quality,
            up: link(0),
            down: link(1),
            next: self.now,
            watch: Watch::new(self.now),
            accepted: false,
            told_live: None,
            told: Vec::new(),
            asked_key: None,
            first_ticks: [None; 2],
        });
        self.addresses.insert(address, index);
        self.every_address.insert(address);
        self.conns.insert(conn, index);
        self.trace.note(
            self.now,
            format_args!("viewer {index} joins room {room} {way:?} {quality:?}"),
        );
        self.post_control(ControlInput::Request {
            conn,
            peer: address,
            request,
        });
        index
    }

    /// A viewer goes.
    pub fn leave(&mut self, index: usize, goodbye: Goodbye) {
        self.trace
            .note(self.now, format_args!("viewer {index} leaves {goodbye:?}"));
        let viewer = &mut self.viewers[index];
        viewer.stage = Stage::Leaving;
        viewer.next = self.now;
        let (conn, peer) = (viewer.conn, viewer.kit.address());
        match (goodbye, viewer.way, viewer.session.clone()) {
            (Goodbye::Signalling, Way::Whep, Some(session)) => {
                let request = request(Method::Delete, &session);
                let conn = ConnId(conn.0 + 1_000_000);
                self.post_control(ControlInput::Request {
                    conn,
                    peer,
                    request,
                });
            }
            (Goodbye::Signalling, _, _) => self.post_control(ControlInput::Closed { conn }),
            (Goodbye::Dtls, _, _) => viewer.kit.close(),
        }
        self.expect_end(index);
    }

    /// A viewer is dead from now on.
    pub fn silence(&mut self, index: usize) {
        self.trace
            .note(self.now, format_args!("viewer {index} is silent"));
        self.viewers[index].stage = Stage::Silent;
        self.expect_end(index);
    }

    fn expect_end(&mut self, index: usize) {
        if let Some((id, _)) = self.viewers[index].id {
            self.must_leave.insert(id, self.now + SILENCE_MAX);
        }
    }

    /// A viewer's NAT gives it another port, or another address.
    pub fn rebind(&mut self, index: usize) {
        let before = self.viewers[index].kit.address();
        let mut after = before;
        after.set_port(before.port() + 1);
        self.trace
            .note(self.now, format_args!("viewer {index} is {after} now"));
        self.addresses.remove(&before);
        self.addresses.insert(after, index);
        self.every_address.insert(after);
        let viewer = &mut self.viewers[index];
        viewer.kit.rebind(after);
        viewer.watch.excuse(self.now + PLAYER_CHECKS);
    }

    /// Nothing gets through between a viewer and the server for a while.
    pub fn cut_off(&mut self, index: usize, time: Duration) {
        self.trace.note(
            self.now,
            format_args!("viewer {index} is cut off for {time:?}"),
        );
        let until = self.now + time;
        let viewer = &mut self.viewers[index];
        viewer.up.out_until = Some(until);
        viewer.down.out_until = Some(until);
        viewer.watch.excuse(until);
    }

    /// A publisher connects.
    pub fn publish(&mut self, room: usize) -> usize {
        let index = self.publishers.len();
        let number = u16::try_from(index).unwrap();
        let peer = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1)), 20_000 + number);
        let chance = Chance::of(&[self.plan.seed, 4, number.into()]);
        let SimRoom { name, clip, .. } = &self.rooms[room];
        self.publishers
            .push(SimPublisher::new(room, name, clip, peer, chance));
        self.trace.note(
            self.now,
            format_args!("publisher {index} comes to room {room}"),
        );
        self.post_control(ControlInput::Accept { publisher: index });
        index
    }

    /// A publisher's connection ends: in the middle of a message, or in order.
    pub fn end_publisher(&mut self, index: usize, reset: bool) {
        self.trace.note(
            self.now,
            format_args!("publisher {index} ends, reset={reset}"),
        );
        let publisher = &mut self.publishers[index];
        publisher.fate = Fate::Gone;
        let Some((core, _)) = publisher.id else {
            return;
        };
        let is_segment = |due: &Due| {
            let Due::Core(_, CoreInput::Tcp { publisher, .. }) = due else {
                return false;
            };
            *publisher == index
        };
        let on_the_way = self.due.iter().filter(|(_, due)| is_segment(due));
        let keys: Vec<_> = on_the_way.map(|(key, _)| *key).collect();
        // A reset overtakes what is under way.
        let arrive = if reset {
            self.chance.below(keys.len() + 1)
        } else {
            keys.len()
        };
        for key in &keys[arrive..] {
            self.due.remove(key);
        }
        let last = keys[..arrive].last().map_or(self.now, |(at, _)| *at);
        let input = CoreInput::TcpClosed {
            publisher: index,
            error: reset,
        };
        self.post(last, Due::Core(core.index(), input));
    }

    /// Nothing comes from a publisher for a while; then all of it.
    pub fn stall_publisher(&mut self, index: usize, time: Duration) {
        self.trace.note(
            self.now,
            format_args!("publisher {index} stalls for {time:?}"),
        );
        let publisher = &mut self.publishers[index];
        publisher.stalled_until = Some(self.now + time);
        let place = publisher.room;
        if time >= SOUND_LEFT_OUT_AFTER {
            // What was held up is not heard any more.
            let viewers = self.viewers.iter_mut().filter(|it| it.room == place);
            viewers.for_each(|viewer| viewer.watch.causes += 1);
        }
        let room = &mut self.rooms[place];
        room.fault = room.fault.max(self.now + time);
    }

    /// A publisher's network is gone, and nobody says so.
    pub fn half_open(&mut self, index: usize) {
        self.trace
            .note(self.now, format_args!("publisher {index} is half open"));
        self.publishers[index].fate = Fate::HalfOpen;
        // Not live any more: whoever waits for frames waits in vain.
        let room = &mut self.rooms[self.publishers[index].room];
        room.fault = self.now + Duration::from_secs(12);
    }

    /// A core's loop does not run for a while.
    pub fn stall_core(&mut self, index: usize, time: Duration) {
        self.trace
            .note(self.now, format_args!("core {index} stalls for {time:?}"));
        let until = self.now + time;
        self.cores[index].stalled_until = until;
        for room in &mut self.rooms {
            room.fault = room.fault.max(until);
        }
    }

    /// Datagrams that make no sense, from strangers and under viewers' addresses.
    pub fn garbage_datagrams(&mut self) {
        for _ in 0..20 {
            let stranger = SocketAddr::new(
                IpAddr::V4(Ipv4Addr::new(10, 9, 0, self.chance.next().to_le_bytes()[0])),
                1_024,
            );
            let viewers: Vec<SocketAddr> = self.addresses.keys().copied().collect();
            let spoofs = self.chance.hits(500) && !viewers.is_empty();
            let from = if spoofs {
                viewers[self.chance.below(viewers.len())]
            } else {
                stranger
            };
            let length = self.chance.below(1_600);
            let mut data = self.chance.bytes(length);
            // STUN, DTLS, RTP and RTCP begin so.
            let begin = [0_u8, 1, 22, 23, 128, 200, 255][self.chance.below(7)];
            if let [first, second, ..] = data.as_mut_slice() {
                (*first, *second) = (begin, *second & 0x7f | if begin == 128 { 200 } else { 0 });
            }
            let core = self.core_of(from);
            self.post(
                self.now,
                Due::Core(core, CoreInput::Datagram { from, data }),
            );
        }
        self.trace.note(self.now, format_args!("garbage datagrams"));
    }

    /// A connection to the RTMP port that speaks something else.
    pub fn garbage_publisher(&mut self) {
        let index = self.publish(0);
        // It says what chance says, and nothing of its own.
        self.publishers[index].fate = Fate::Gone;
        let length = 1 + self.chance.below(6_000);
        let mut bytes = self.chance.bytes(length);
        if self.chance.hits(700) {
            bytes[0] = 3;
        }
        self.publishers[index].garbage = Some(bytes);
    }

    /// Everyone goes; then nothing may be left.
    pub fn end(&mut self) {
        for index in 0..self.publishers.len() {
            if self.publishers[index].is_active() {
                self.end_publisher(index, index % 2 == 0);
            }
        }
        for index in 0..self.viewers.len() {
            match (self.viewers[index].stage, index % 3) {
                (Stage::Playing, 0) => self.leave(index, Goodbye::Signalling),
                (Stage::Playing, 1) => self.leave(index, Goodbye::Dtls),
                (Stage::Asking | Stage::Playing, _) => self.silence(index),
                (Stage::Leaving | Stage::Silent | Stage::Gone, _) => {}
            }
        }
        self.run_for(SILENCE_MAX);
        assert_eq!(
            self.must_leave.len(),
            0,
            "sessions go on without their viewers"
        );
        for core in &self.cores {
            assert_eq!(
                core.engine.sizes(),
                (0, 0, 0),
                "publishers, rooms, viewers are left"
            );
        }
        let counters = self.control.counters();
        let gauges = [
            &counters.rooms_known,
            &counters.rooms_live,
            &counters.whep_sessions,
            &counters.websocket_sessions,
        ];
        assert_eq!(
            gauges.map(|gauge| gauge.get()),
            [0; 4],
            "control keeps something"
        );
        assert_eq!(self.control.rooms(), [], "control keeps a room");
        assert_eq!(
            self.transcoder.streams(),
            0,
            "the transcoder keeps a stream"
        );
        assert_eq!(self.encoder.streams(), 0, "the encoder keeps a stream");
        assert!(
            self.webhooks.is_settled(),
            "a stream started and never ended"
        );
        // As many as one address may have: had control kept one, the last would be refused.
        let peer = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1)), 9);
        for _ in 0..rtmpeer::limits::RTMP_CONNECTIONS_PER_ADDRESS_MAX {
            assert!(
                self.control.place_publisher(peer).is_ok(),
                "control keeps a publisher"
            );
        }
    }
}
