//! A viewer against a stock str0m player: one thread, virtual time, a network that can lose.

#![expect(
    clippy::cast_possible_truncation,
    reason = "made-up bytes and small numbers"
)]

use std::cell::Cell;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use str0m::ice::{StunMessage, TransId};
use str0m::media::MediaKind;

use super::batch::SendBatch;
use super::*;
use crate::ids::{CoreId, Epoch, IdSource, ViewerId};
use crate::media::frame::{FrameSet, FrameSetHead, Rendition, TrackKind};
use crate::media::time::{MediaTime, Timebase};
use crate::messages::ViewerEnd;
use kit::{KitViewer, KitWishes};

#[path = "../../tests/kit/viewer.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "shared with the other rings, each of which uses a part of it"
)]
mod kit;

const HIGH: Option<[u8; 3]> = Some([0x64, 0x00, 0x1f]);
const FRAME_MICROS: i64 = 33_333;
const OPUS_MICROS: i64 = 20_000;

fn server() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 8_189))
}

fn player_address() -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 7], 40_000))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the virtual clock begins anywhere"
)]
fn start() -> Instant {
    Instant::now()
}

fn factory(seed: u64, now: Instant) -> ViewerFactory {
    let timebase = Timebase::new(now, Duration::from_secs(1_700_000_000));
    let certificate = Certificate::generate().unwrap();
    ViewerFactory::new(CoreId(3), certificate, timebase, IdSource::seeded(seed)).unwrap()
}

/// A room's two tracks, packetized.
struct Room {
    start: Instant,
    frames: Vec<Arc<FrameSet>>,
    next: [(u64, u64); 2],
}

impl Room {
    fn new(start: Instant) -> Self {
        let first = Epoch(1).first_number();
        Self {
            start,
            frames: Vec::new(),
            next: [(first, first); 2],
        }
    }

    fn push(
        &mut self,
        track: TrackKind,
        key: bool,
        micros: i64,
        payloads: &[Vec<u8>],
    ) -> Arc<FrameSet> {
        let (number, first_sequence) = self.next[track as usize];
        self.next[track as usize] = (number + 1, first_sequence + payloads.len() as u64);
        let head = FrameSetHead {
            track,
            rendition: Rendition::of_number(number),
            safe: true,
            epoch: Epoch(1),
            number,
            first_sequence,
            key,
            disposable: false,
            pts: MediaTime::from_micros(micros),
            received: self.start,
        };
        let ends = payloads.iter().scan(0, |end, payload| {
            *end += payload.len() as u32;
            Some(*end)
        });
        let set = Arc::new(FrameSet::new(head, payloads.concat(), ends.collect()).unwrap());
        self.frames.push(Arc::clone(&set));
        set
    }

    fn picture(&mut self, micros: i64, key: bool, bytes: usize) -> Arc<FrameSet> {
        let number = self.next[TrackKind::Video as usize].0;
        self.push(TrackKind::Video, key, micros, &h264(number, key, bytes))
    }

    fn sound(&mut self, micros: i64) -> Arc<FrameSet> {
        let number = self.next[TrackKind::Audio as usize].0;
        self.push(TrackKind::Audio, true, micros, &[opus(number)])
    }

    fn packet(&self, track: TrackKind, sequence: u64) -> Option<(&Arc<FrameSet>, usize)> {
        let mut frames = self.frames.iter().filter(|frame| frame.track == track);
        frames.find_map(|frame| Some((frame, frame.packet_index(sequence)?)))
    }
}

fn opus(number: u64) -> Vec<u8> {
    let mut packet = vec![0xfc];
    packet.extend((0..120).map(|i| (number.wrapping_mul(31) + i) as u8));
    packet
}

const SPS: &[u8] = &[0x67, 0x42, 0xc0, 0x1f, 0xda, 0x01];
const PPS: &[u8] = &[0x68, 0xce, 0x3c, 0x80];

fn nal(number: u64, key: bool, bytes: usize) -> Vec<u8> {
    let header = if key { 0x65 } else { 0x41 };
    let body = (0..bytes as u64).map(|i| (number.wrapping_mul(17) + i * 7) as u8 | 1);
    std::iter::once(header).chain(body).collect()
}

/// RFC 6184: STAP-A of the parameter sets, then FU-A fragments of one size.
fn h264(number: u64, key: bool, bytes: usize) -> Vec<Vec<u8>> {
    let nal = nal(number, key, bytes);
    let mut payloads = Vec::new();
    if key {
        let mut stap = vec![0x78];
        for set in [SPS, PPS] {
            stap.extend((set.len() as u16).to_be_bytes());
            stap.extend(set);
        }
        payloads.push(stap);
    }
    let (header, body) = nal.split_first().unwrap();
    let pieces = body.chunks(1_100);
    let last = pieces.len() - 1;
    if last == 0 {
        payloads.push(nal.clone());
        return payloads;
    }
    for (index, piece) in pieces.enumerate() {
        let flags = match index {
            0 => 0x80,
            _ if index == last => 0x40,
            _ => 0,
        };
        let mut payload = vec![(header & 0xe0) | 28, flags | (header & 0x1f)];
        payload.extend(piece);
        payloads.push(payload);
    }
    payloads
}

fn annex_b(number: u64, key: bool, bytes: usize) -> Vec<u8> {
    let sets: &[&[u8]] = if key { &[SPS, PPS] } else { &[] };
    let nal = nal(number, key, bytes);
    let units = sets.iter().copied().chain([nal.as_slice()]);
    units
        .flat_map(|unit| [&[0, 0, 0, 1], unit].concat())
        .collect()
}

/// Says of a datagram whether it is lost.
type Loss = Box<dyn FnMut(&[u8]) -> bool>;

/// A viewer and a player, and the network between them.
struct World {
    now: Instant,
    viewer: Viewer,
    player: KitViewer,
    batch: SendBatch,
    bound: BTreeSet<SocketAddr>,
    events: Vec<ViewerEvent>,
    /// Whether the datagram from the server is lost.
    loses: Loss,
    /// Whether the player's datagrams are lost.
    mute: bool,
    /// Where the player's DTLS seems to come from instead.
    divert: Option<SocketAddr>,
    room: Room,
    /// Size and destination of everything that the server sent.
    sent: Vec<(SocketAddr, usize)>,
    next_viewer: Instant,
    next_player: Instant,
}

impl World {
    fn answering() -> Self {
        let now = start();
        let mut player = KitViewer::new(player_address(), now);
        let offer = player.offer();
        let (viewer, answer) = factory(1, now)
            .answer(ViewerId(1), &offer, &[server()], HIGH, now)
            .unwrap();
        player.accept(&answer);
        Self::of(viewer, player, now)
    }

    fn offering() -> Self {
        let now = start();
        let mut player = KitViewer::new(player_address(), now);
        let (mut viewer, offer) = factory(1, now)
            .offer(ViewerId(1), &[server()], HIGH, now)
            .unwrap();
        viewer.accept_answer(&player.answer(&offer), now).unwrap();
        Self::of(viewer, player, now)
    }

    fn of(viewer: Viewer, player: KitViewer, now: Instant) -> Self {
        Self {
            now,
            viewer,
            player,
            batch: SendBatch::default(),
            bound: BTreeSet::new(),
            events: Vec::new(),
            loses: Box::new(|_| false),
            mute: false,
            divert: None,
            room: Room::new(now),
            sent: Vec::new(),
            next_viewer: now,
            next_player: now,
        }
    }

    fn connected(mut self) -> Self {
        self.run(Duration::from_secs(1));
        assert!(self.viewer.ready(), "not connected: {:?}", self.events);
        assert!(self.player.connected);
        assert_eq!(self.events, [ViewerEvent::Connected]);
        self.events.clear();
        self
    }

    /// Delivers everything until nobody has anything to say.
    fn settle(&mut self) {
        loop {
            loop {
                match self.viewer.poll_output(self.now, &mut self.batch) {
                    ViewerOutput::Timeout(next) => {
                        self.next_viewer = next;
                        break;
                    }
                    ViewerOutput::Event(ViewerEvent::Resend { track, sequence }) => {
                        if let Some((frame, packet)) = self.room.packet(track, sequence) {
                            self.viewer.resend(frame, packet, self.now, &mut self.batch);
                        }
                    }
                    ViewerOutput::Event(event) => self.events.push(event),
                }
            }
            let moved = self.deliver();
            let mut outgoing = Vec::new();
            self.next_player = self
                .player
                .poll(|to, data| outgoing.push((to, data.to_vec())));
            if outgoing.is_empty() && !moved {
                return;
            }
            for (to, datagram) in outgoing {
                self.arrive(self.player.address(), to, &datagram);
            }
        }
    }

    /// From the batch to the player.
    fn deliver(&mut self) -> bool {
        let moved = !self.batch.is_empty();
        for (train, bytes) in self.batch.trains() {
            for datagram in bytes.chunks(train.segment_bytes) {
                self.sent.push((train.to, datagram.len()));
                let there = train.to == self.player.address();
                if there && !(self.loses)(datagram) {
                    self.player.handle(server(), datagram, self.now);
                }
            }
        }
        self.batch.clear();
        moved
    }

    /// A datagram comes to the server, which asks its tables first.
    fn arrive(&mut self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        if self.mute {
            return;
        }
        let dtls = matches!(datagram, [20..=63, ..]);
        if let (true, Some(stranger)) = (dtls, self.divert) {
            assert!(!self.viewer.verify_stun(stranger, to, datagram, self.now));
            // Even a core whose tables were wrong would do no harm.
            self.viewer
                .handle_datagram(stranger, to, datagram, self.now);
            return;
        }
        if !self.bound.contains(&from) {
            if !self.viewer.verify_stun(from, to, datagram, self.now) {
                return;
            }
            self.bound.insert(from);
        }
        self.viewer.handle_datagram(from, to, datagram, self.now);
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.settle();
            let next = self.next_viewer.min(self.next_player);
            if next > end {
                self.now = end;
                return;
            }
            self.now = next.max(self.now + Duration::from_micros(100)).min(end);
            self.viewer.handle_timeout(self.now);
            self.player.handle_timeout(self.now);
        }
    }

    fn send(&mut self, frame: &FrameSet) {
        while let Sent::Paced(at) = self.viewer.send(frame, self.now, &mut self.batch) {
            assert!(at > self.now, "the pace must let time pass");
            self.run(at - self.now);
        }
        self.settle();
    }

    fn micros(&self) -> i64 {
        i64::try_from((self.now - self.room.start).as_micros()).unwrap()
    }

    /// Plays live for so many frames; every 30th is a keyframe.
    fn play(&mut self, pictures: i64) {
        let begin = self.micros();
        let mut sounds = 0;
        for picture in 0..pictures {
            let at = begin + picture * FRAME_MICROS;
            let wait = u64::try_from(at - self.micros()).unwrap_or(0);
            self.run(Duration::from_micros(wait));
            while sounds * OPUS_MICROS <= picture * FRAME_MICROS {
                let sound = self.room.sound(begin + sounds * OPUS_MICROS);
                self.send(&sound);
                sounds += 1;
            }
            let key = picture % 30 == 0;
            let bytes = if key { 20_000 } else { 4_000 };
            let frame = self.room.picture(at, key, bytes);
            self.send(&frame);
        }
        self.run(Duration::from_millis(100));
    }

    /// Every frame of the room arrived whole, in order, with its timestamp.
    fn assert_all_arrived(&self) {
        let first = Epoch(1).first_number();
        let room = |track| self.room.frames.iter().filter(move |f| f.track == track);
        let pictures: Vec<_> = self.player.pictures().collect();
        assert_eq!(pictures.len(), room(TrackKind::Video).count());
        for (index, (got, sent)) in pictures.iter().zip(room(TrackKind::Video)).enumerate() {
            let bytes = if sent.key { 20_000 } else { 4_000 };
            let number = first + index as u64;
            assert_eq!(
                got.data,
                annex_b(number, sent.key, bytes),
                "picture {index}"
            );
            assert!(got.contiguous, "picture {index}");
        }
        let sounds: Vec<_> = self.player.sounds().collect();
        assert_eq!(sounds.len(), room(TrackKind::Audio).count());
        for (index, got) in sounds.iter().enumerate() {
            assert_eq!(got.data, opus(first + index as u64), "sound {index}");
        }
    }
}

fn is_media(datagram: &[u8]) -> bool {
    matches!(datagram, [128..=191, second, ..] if !(192..=223).contains(second))
}

#[test]
fn player_that_offers_gets_picture_and_sound_unchanged() {
    let mut world = World::answering().connected();
    world.play(60);
    world.assert_all_arrived();
    let stats = world.viewer.stats();
    assert_eq!(stats.packets_resent, 0);
    assert_eq!(stats.datagrams_ignored, 0);
}

#[test]
fn player_that_answers_gets_picture_and_sound_unchanged() {
    let mut world = World::offering().connected();
    world.play(60);
    world.assert_all_arrived();
}

#[test]
fn timestamps_follow_the_frames() {
    let mut world = World::answering().connected();
    world.play(20);
    let steps = |ticks: Vec<u64>| -> BTreeSet<u64> {
        ticks.iter().zip(&ticks[1..]).map(|(a, b)| b - a).collect()
    };
    let pictures = steps(world.player.pictures().map(|f| f.ticks).collect());
    assert!(
        pictures.iter().all(|step| (2_999..=3_000).contains(step)),
        "{pictures:?}"
    );
    let sounds = steps(world.player.sounds().map(|f| f.ticks).collect());
    assert_eq!(sounds, BTreeSet::from([960]));
}

#[test]
fn lost_packets_are_sent_again_and_every_frame_is_whole() {
    for mut world in [
        World::answering().connected(),
        World::offering().connected(),
    ] {
        let mut state = 9_u32;
        world.loses = Box::new(move |datagram| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Sound is not asked for again.
            is_media(datagram) && datagram.len() > 200 && state >> 24 < 13
        });
        world.play(150);
        world.loses = Box::new(|_| false);
        world.play(15);
        world.run(Duration::from_millis(500));
        world.assert_all_arrived();
        let stats = world.viewer.stats();
        assert!(stats.packets_resent > 20, "{stats:?}");
        assert!(stats.nacks >= stats.packets_resent);
    }
}

#[test]
fn reports_of_both_tracks_come_every_second_from_one_clock() {
    let mut world = World::answering().connected();
    assert!(
        world.player.reports.is_empty(),
        "none before the first packet"
    );
    world.play(300);
    for kind in [MediaKind::Video, MediaKind::Audio] {
        let reports: Vec<_> = world
            .player
            .reports
            .iter()
            .filter(|r| r.kind == kind)
            .collect();
        assert!(
            (8..=18).contains(&reports.len()),
            "{} of {kind:?}",
            reports.len()
        );
        // Against the frames: a frame's timestamp is its place on the wall clock.
        let frames: Vec<_> = world
            .player
            .frames
            .iter()
            .filter(|f| f.kind == kind)
            .collect();
        let (frame, report) = (frames.last().unwrap(), reports.last().unwrap());
        let rate = if kind == MediaKind::Video {
            90_000.0
        } else {
            48_000.0
        };
        let frame_wall = report.wall.as_secs_f64()
            + (frame.ticks as u32).wrapping_sub(report.rtp.numer() as u32) as i32 as f64 / rate;
        let sent = world
            .room
            .frames
            .iter()
            .rfind(|f| (f.track == TrackKind::Video) == (kind == MediaKind::Video));
        let true_wall = 1_700_000_000.0 + sent.unwrap().pts.as_micros() as f64 / 1e6;
        assert!(
            (frame_wall - true_wall).abs() < 0.001,
            "{kind:?}: {frame_wall} {true_wall}"
        );
    }
    assert!(world.viewer.stats().round_trip.is_some());
}

#[test]
fn burst_is_compressed_and_playout_delay_lets_go_later() {
    let mut world = World::answering().connected();
    let begin = world.micros() - 3_000_000;
    let cached: Vec<_> = (0..90)
        .map(|i| world.room.picture(begin + i * FRAME_MICROS, i == 0, 8_000))
        .collect();
    world
        .viewer
        .begin_burst(cached.first().unwrap(), cached.last().unwrap());
    let started = world.now;
    for frame in &cached {
        world.send(frame);
    }
    let took = world.now - started;
    let megabits = 90.0 * 8_000.0 * 8.0 / took.as_secs_f64() / 1e6;
    assert!((25.0..50.0).contains(&megabits), "{megabits} Mbit/s");
    world.play(90);
    let pictures: Vec<_> = world.player.pictures().collect();
    assert_eq!(pictures.len(), 180);
    for pair in pictures[..90].windows(2) {
        assert_eq!(pair[1].ticks - pair[0].ticks, 90);
    }
    assert!(pictures[90].ticks - pictures[89].ticks >= 2_999);
    let delay = |most| Some((Duration::ZERO, Duration::from_millis(most)));
    for picture in &pictures {
        let since = picture.received - (started + took);
        let most = if since < Duration::from_millis(1_500) {
            0
        } else {
            10_000
        };
        assert_eq!(
            picture.playout_delay,
            delay(most),
            "{since:?} after the burst"
        );
    }
    assert_eq!(pictures.last().unwrap().playout_delay, delay(10_000));
}

#[test]
fn loss_in_the_burst_is_asked_for_and_sent_again() {
    let mut world = World::answering().connected();
    let begin = world.micros() - 1_000_000;
    let cached: Vec<_> = (0..30)
        .map(|i| world.room.picture(begin + i * FRAME_MICROS, i == 0, 8_000))
        .collect();
    world
        .viewer
        .begin_burst(cached.first().unwrap(), cached.last().unwrap());
    let lost = Rc::new(Cell::new(0));
    let (counted, mut count) = (Rc::clone(&lost), 0);
    world.loses = Box::new(move |datagram| {
        let large = is_media(datagram) && datagram.len() > 200;
        count += u32::from(large);
        let loses = large && count % 11 == 5;
        counted.set(counted.get() + u64::from(loses));
        loses
    });
    for frame in &cached {
        world.send(frame);
    }
    world.loses = Box::new(|_| false);
    world.play(30);
    // How long a player waits for what it asked for is its own affair.
    let stats = world.viewer.stats();
    assert!(lost.get() > 10);
    assert!(stats.nacks > 5, "{stats:?} of {}", lost.get());
    assert_eq!(stats.packets_resent, stats.nacks);
    assert_eq!(world.player.pictures().last().unwrap().data, {
        let last = world
            .room
            .frames
            .iter()
            .rfind(|f| f.track == TrackKind::Video);
        annex_b(last.unwrap().number, false, 4_000)
    });
}

#[test]
fn skipped_frames_leave_no_hole_in_the_numbers() {
    let mut world = World::answering().connected();
    world.play(31);
    for _ in 0..40 {
        let at = world.micros();
        world.room.picture(at, false, 4_000);
        world.run(Duration::from_micros(FRAME_MICROS.unsigned_abs()));
    }
    world.play(31);
    let pictures: Vec<_> = world.player.pictures().collect();
    assert_eq!(pictures.len(), 62);
    assert!(pictures.iter().all(|picture| picture.contiguous));
    assert_eq!(world.viewer.stats().nacks, 0);
}

#[test]
fn keyframe_request_reaches_us_once_in_half_a_second() {
    let mut world = World::answering().connected();
    world.play(5);
    for _ in 0..4 {
        world.player.request_keyframe();
        world.run(Duration::from_millis(100));
    }
    assert_eq!(world.events, [ViewerEvent::KeyframeWanted]);
    assert!(world.viewer.stats().plis >= 2);
}

#[test]
fn closing_reaches_the_player_and_sends_nothing_after() {
    let mut world = World::answering().connected();
    world.play(5);
    world.viewer.close(world.now, &mut world.batch);
    world.settle();
    assert!(world.player.closed);
    world.sent.clear();
    world.play(5);
    world.run(Duration::from_secs(60));
    assert!(world.sent.is_empty());
    assert!(world.events.is_empty(), "{:?}", world.events);
}

#[test]
fn player_that_closes_has_left() {
    let mut world = World::answering().connected();
    world.player.close();
    world.run(Duration::from_millis(100));
    assert_eq!(world.events, [ViewerEvent::Ended(ViewerEnd::Left)]);
}

#[test]
fn silent_player_is_not_sent_to_after_15_seconds_and_gone_after_30() {
    let mut world = World::answering().connected();
    world.mute = true;
    let muted = world.now;
    world.run(Duration::from_millis(15_400));
    assert_eq!(world.events, [ViewerEvent::Silent]);
    world.sent.clear();
    world.play(10);
    assert!(world.sent.is_empty());
    world.run(muted + Duration::from_millis(30_400) - world.now);
    assert_eq!(
        world.events,
        [ViewerEvent::Silent, ViewerEvent::Ended(ViewerEnd::Consent)]
    );
}

#[test]
fn player_that_comes_back_goes_on_without_a_handshake() {
    let mut world = World::answering().connected();
    world.play(10);
    world.mute = true;
    world.run(Duration::from_millis(15_500));
    world.mute = false;
    world.run(Duration::from_secs(5));
    assert_eq!(world.events, [ViewerEvent::Silent, ViewerEvent::Back]);
    let before = world.player.pictures().count();
    world.play(30);
    assert_eq!(world.player.pictures().count(), before + 30);
}

#[test]
fn media_follows_a_nat_that_binds_anew() {
    let mut world = World::answering().connected();
    world.play(10);
    let moved = SocketAddr::from(([198, 51, 100, 7], 50_000));
    world.player.rebind(moved);
    world.run(Duration::from_secs(6));
    world.sent.clear();
    world.play(30);
    let astray = world.sent.iter().filter(|(to, _)| *to != moved).count();
    assert_eq!(astray, 0);
}

#[test]
fn stranger_gets_nothing_and_changes_nothing() {
    let mut world = World::answering();
    let stranger = SocketAddr::from(([203, 0, 113, 66], 1_234));
    // A record that looks like a ClientHello, a report and a picture.
    let mut hello = vec![0x16, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0];
    hello.resize(200, 0);
    for first in 0..=255_u8 {
        let mut datagram = hello.clone();
        datagram[0] = first;
        let now = world.now;
        assert!(!world.viewer.verify_stun(stranger, server(), &datagram, now));
        world
            .viewer
            .handle_datagram(stranger, server(), &datagram, now);
    }
    world.settle();
    world = world.connected();
    world.play(30);
    assert!(world.sent.iter().all(|(to, _)| *to != stranger));
    world.assert_all_arrived();
}

#[test]
fn client_hello_from_another_address_is_not_answered() {
    let mut world = World::answering();
    world.divert = Some(SocketAddr::from(([203, 0, 113, 66], 1_234)));
    world.run(Duration::from_secs(3));
    assert!(world.viewer.stats().datagrams_ignored > 0);
    assert!(!world.viewer.ready());
    // Checks are answered with 64 bytes and less than 100; a flight of DTLS is larger.
    let most = world.sent.iter().map(|(_, bytes)| *bytes).max();
    assert!(most < Some(100), "{most:?}");
    world.divert = None;
    // The player repeats its flight after 1, 2 and 4 s, give or take a random part.
    world.run(Duration::from_secs(6));
    assert!(world.viewer.ready());
}

/// A binding request as the player would send it, sealed with `password`.
fn binding_request(username: &str, password: &str) -> Vec<u8> {
    let hmac = str0m_aws_lc_rs::default_provider().sha1_hmac_provider;
    let sha1 = |key: &[u8], parts: &[&[u8]]| hmac.sha1_hmac(key, parts);
    let request = StunMessage::binding_request(username, TransId::new(), true, 1, 100, true);
    let mut datagram = vec![0; 400];
    let sealed = request.to_bytes(Some(password.as_bytes()), &mut datagram, sha1);
    datagram.truncate(sealed.unwrap());
    datagram
}

#[test]
fn forged_binding_requests_are_not_taken() {
    let now = start();
    let mut player = KitViewer::new(player_address(), now);
    let offer = player.offer();
    let mut factory = factory(1, now);
    let (mut viewer, answer) = factory
        .answer(ViewerId(1), &offer, &[server()], HIGH, now)
        .unwrap();
    let value = |sdp: &str, name: &str| {
        let line = sdp.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().to_owned()
    };
    let (ours, theirs) = (
        value(&answer, "a=ice-ufrag:"),
        value(&offer, "a=ice-ufrag:"),
    );
    let password = value(&answer, "a=ice-pwd:");
    let username = format!("{ours}:{theirs}");
    let genuine = binding_request(&username, &password);
    let mut forged = vec![
        binding_request(&username, "another password, as long as ours"),
        binding_request(&format!("{ours}:another"), &password),
        binding_request(&format!("another:{theirs}"), &password),
    ];
    forged.extend((0..genuine.len()).map(|length| genuine[..length].to_vec()));
    // The header's length, type and cookie, and everything that integrity covers. The last 8
    // bytes are the fingerprint, which proves nothing.
    forged.extend((0..genuine.len() - 8).map(|place| {
        let mut datagram = genuine.clone();
        datagram[place] ^= 1;
        datagram
    }));
    let mut batch = SendBatch::default();
    for datagram in &forged {
        assert!(!viewer.verify_stun(player_address(), server(), datagram, now));
        viewer.handle_datagram(player_address(), server(), datagram, now);
        while let ViewerOutput::Event(_) = viewer.poll_output(now, &mut batch) {}
    }
    assert!(
        batch.is_empty(),
        "nothing goes out before the address is proved"
    );
    assert!(viewer.verify_stun(player_address(), server(), &genuine, now));
    viewer.handle_datagram(player_address(), server(), &genuine, now);
    while let ViewerOutput::Event(_) = viewer.poll_output(now, &mut batch) {}
    let (train, bytes) = batch.trains().next().unwrap();
    assert_eq!(train.to, player_address());
    assert!(bytes.len() <= genuine.len(), "no amplification");
}

#[test]
fn wrong_fingerprint_gets_no_media() {
    let now = start();
    let mut player = KitViewer::new(player_address(), now);
    let offer = player.offer();
    let at = offer.find("a=fingerprint:sha-256 ").unwrap() + "a=fingerprint:sha-256 ".len();
    let digit = if &offer[at..=at] == "A" { "B" } else { "A" };
    let line_end = at + offer[at..].find('\r').unwrap();
    let old = &offer[at..line_end];
    let forged = offer.replace(old, &format!("{digit}{}", &old[1..]));
    assert_ne!(offer, forged);
    let mut factory = factory(1, now);
    let (viewer, answer) = factory
        .answer(ViewerId(1), &forged, &[server()], HIGH, now)
        .unwrap();
    player.accept(&answer);
    let mut world = World::of(viewer, player, now);
    world.run(Duration::from_secs(2));
    assert!(!world.viewer.ready());
    assert_eq!(world.events, [ViewerEvent::Ended(ViewerEnd::Failed)]);
    world.play(5);
    assert_eq!(world.player.media_datagrams, 0);
}

#[test]
fn viewer_that_never_connects_ends_in_ten_seconds() {
    let mut world = World::answering();
    world.mute = true;
    world.run(Duration::from_millis(9_900));
    assert!(world.events.is_empty());
    world.run(Duration::from_millis(200));
    assert_eq!(
        world.events,
        [ViewerEvent::Ended(ViewerEnd::ConnectTimeout)]
    );
}

#[test]
fn offer_waits_thirty_seconds_for_its_answer_and_ten_more_for_the_connection() {
    let now = start();
    let mut factory = factory(1, now);
    let (mut viewer, offer) = factory.offer(ViewerId(1), &[server()], HIGH, now).unwrap();
    let mut player = KitViewer::new(player_address(), now);
    let answer = player.answer(&offer);
    let mut batch = SendBatch::default();
    let mut ended = |viewer: &mut Viewer, at: Duration| {
        viewer.handle_timeout(now + at);
        matches!(
            viewer.poll_output(now + at, &mut batch),
            ViewerOutput::Event(ViewerEvent::Ended(ViewerEnd::ConnectTimeout))
        )
    };
    assert!(!ended(&mut viewer, Duration::from_secs(29)));
    viewer
        .accept_answer(&answer, now + Duration::from_secs(29))
        .unwrap();
    assert_eq!(
        viewer.accept_answer(&answer, now + Duration::from_secs(29)),
        Err(ViewerError::AnswerUnexpected)
    );
    assert!(!ended(&mut viewer, Duration::from_secs(38)));
    assert!(ended(&mut viewer, Duration::from_secs(39)));
    let (mut other, _) = factory.offer(ViewerId(2), &[server()], HIGH, now).unwrap();
    assert!(ended(&mut other, Duration::from_secs(30)));
}

#[test]
fn credentials_come_from_the_id_source() {
    let now = start();
    let credentials = |seed| {
        let (viewer, offer) = factory(seed, now)
            .offer(ViewerId(1), &[server()], None, now)
            .unwrap();
        let value = |name: &str| {
            let line = offer.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap().to_owned()
        };
        assert_eq!(viewer.ufrag(), value("a=ice-ufrag:"));
        assert_eq!(demux::core_of_ufrag(viewer.ufrag()), Some(CoreId(3)));
        (value("a=ice-ufrag:"), value("a=ice-pwd:"))
    };
    assert_eq!(credentials(5), credentials(5), "two factories of one seed");
    let (ufrag, password) = credentials(6);
    assert_ne!(credentials(5), (ufrag, password.clone()));
    assert!(password.len() >= 24);
}

#[test]
fn candidates_are_checked_counted_and_never_used() {
    let mut world = World::answering();
    let now = world.now;
    let line = "candidate:1 1 udp 2122260223 203.0.113.9 50000 typ host";
    let mdns = "a=candidate:1 1 udp 2122260223 0bb0-4e.local 50000 typ host";
    assert_eq!(world.viewer.add_candidate(line, now), Ok(()));
    assert_eq!(world.viewer.add_candidate(mdns, now), Ok(()));
    assert_eq!(world.viewer.add_candidate("", now), Ok(()));
    assert_eq!(
        world.viewer.add_candidate("hello", now),
        Err(ViewerError::Candidate)
    );
    let taken = (0..1_000)
        .filter(|_| world.viewer.add_candidate(line, now).is_ok())
        .count();
    assert!(taken < 50, "{taken}");
    world = world.connected();
    assert!(world.sent.iter().all(|(to, _)| *to == player_address()));
}

#[test]
fn player_without_a_track_gets_the_other() {
    for (video, audio) in [(true, false), (false, true)] {
        let now = start();
        let wishes = KitWishes {
            video,
            audio,
            playout_delay: false,
        };
        let mut player = KitViewer::with(player_address(), wishes, now);
        let offer = player.offer();
        let (viewer, answer) = factory(1, now)
            .answer(ViewerId(1), &offer, &[server()], None, now)
            .unwrap();
        player.accept(&answer);
        assert_eq!(viewer.plays(TrackKind::Video), video);
        assert_eq!(viewer.plays(TrackKind::Audio), audio);
        let mut world = World::of(viewer, player, now).connected();
        world.play(10);
        assert_eq!(world.player.pictures().count() > 0, video);
        assert_eq!(world.player.sounds().count() > 0, audio);
        assert!(
            world
                .player
                .frames
                .iter()
                .all(|f| f.playout_delay.is_none())
        );
    }
}

#[test]
fn one_core_makes_many_viewers_each_with_its_own_keys() {
    let now = start();
    let mut factory = factory(1, now);
    let mut worlds: Vec<World> = (0..4_u16)
        .map(|i| {
            let address = SocketAddr::from(([198, 51, 100, 7], 40_000 + i));
            let mut player = KitViewer::new(address, now);
            let offer = player.offer();
            let viewer = ViewerId(u64::from(i));
            let made = factory.answer(viewer, &offer, &[server()], HIGH, now);
            let (viewer, answer) = made.unwrap();
            player.accept(&answer);
            World::of(viewer, player, now)
        })
        .collect();
    // An offer that fails in between must not mix up the keys.
    assert!(
        factory
            .answer(ViewerId(9), "v=0", &[server()], HIGH, now)
            .is_err()
    );
    for world in worlds.drain(..) {
        let mut world = world.connected();
        world.play(5);
        world.assert_all_arrived();
    }
}

#[test]
fn str0m_reports_are_suppressed_and_counted() {
    let mut world = World::answering().connected();
    world.play(30);
    world.viewer.close(world.now, &mut world.batch);
    // At its end str0m says goodbye for sources that it never sent.
    assert!(world.viewer.stats().media_suppressed > 0);
}

#[test]
fn player_that_insists_on_being_dtls_server_is_served_too() {
    let now = start();
    let mut player = KitViewer::new(player_address(), now);
    let offer = player.offer().replace("a=setup:actpass", "a=setup:passive");
    let (viewer, answer) = factory(1, now)
        .answer(ViewerId(1), &offer, &[server()], HIGH, now)
        .unwrap();
    assert!(answer.contains("a=setup:active"));
    player.accept(&answer);
    let mut world = World::of(viewer, player, now).connected();
    world.play(30);
    world.assert_all_arrived();
}
