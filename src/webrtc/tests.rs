//! A viewer against a stock str0m player: one thread, virtual time, a network that can lose.

#![expect(
    clippy::cast_possible_truncation,
    reason = "made-up bytes and small numbers"
)]

mod media;
mod sessions;
mod strangers;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::batch::SendBatch;
use super::*;
use crate::ids::{CoreId, Epoch, IdSource, ViewerId};
use crate::media::frame::{FrameSet, FrameSetHead, Rendition, TrackKind};
use crate::media::time::{MediaTime, Timebase};
use kit::KitViewer;

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

fn is_rtcp(datagram: &[u8]) -> bool {
    matches!(datagram, [128..=191, 192..=223, ..])
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
    /// Whether its STUN is.
    checks_lost: bool,
    /// The last RTCP that it sent.
    reported: Vec<u8>,
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
            checks_lost: false,
            reported: Vec::new(),
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
        if self.mute || self.checks_lost && matches!(datagram, [0..=3, ..]) {
            return;
        }
        if is_rtcp(datagram) {
            self.reported = datagram.to_vec();
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
        // Pictures as if sound came next: what is filled up must reach the player unchanged.
        let sound_follows = frame.track == TrackKind::Video;
        while let Sent::Paced(at) =
            self.viewer
                .send(frame, sound_follows, self.now, &mut self.batch)
        {
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
