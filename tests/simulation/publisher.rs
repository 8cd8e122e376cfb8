//! A publisher of the simulation: an RTMP client at the far end of a TCP connection.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rtmpeer::ids::{CoreId, PublisherId};
use rtmpeer::media::flv::file::TagKind;

use super::chance::Chance;
use super::clip::Clip;
use super::kit::publisher::{KitPublisher, Progress};

/// How a publisher's life goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It connects and publishes.
    Alive,
    /// It sends nothing more, and its network says nothing.
    HalfOpen,
    /// Its connection is over.
    Gone,
}

/// The first media message of a publish: ties its timestamps to the server's clock.
#[derive(Debug, Clone, Copy)]
pub struct Anchor {
    /// When it had arrived.
    pub at: Instant,
    /// Its timestamp, as counted in the clip.
    pub clip_ms: u32,
}

/// A segment on its way to the server.
#[derive(Debug)]
pub struct Segment {
    /// When it arrives.
    pub at: Instant,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Position in the clip of the media message that it completes.
    pub completes: Option<u32>,
}

/// A publisher.
pub struct SimPublisher {
    /// The protocol.
    pub rtmp: KitPublisher,
    /// The room it publishes to, by its place in the world.
    pub room: usize,
    /// What it plays.
    pub clip: &'static Clip,
    /// Where it connects from.
    pub peer: SocketAddr,
    /// What it is to the server.
    pub id: Option<(CoreId, PublisherId)>,
    /// Whether it still sends.
    pub fate: Fate,
    /// Whether the server has closed the connection.
    pub closed_by_server: bool,
    /// Whether the server knows the connection.
    pub connected: bool,
    /// What it says in place of RTMP.
    pub garbage: Option<Vec<u8>>,
    /// When and where its timeline began at the server.
    pub anchor: Option<Anchor>,
    chance: Chance,
    /// Where its timestamps begin.
    base_ms: u32,
    began: Option<Instant>,
    heads_sent: bool,
    /// Next tag, and the turn of the clip.
    next: usize,
    turn: u32,
    first_ms: u32,
    delay: Duration,
    last_arrival: Option<Instant>,
    /// Nothing arrives until then.
    pub stalled_until: Option<Instant>,
}

impl SimPublisher {
    /// Begins somewhere in the clip.
    pub fn new(
        room: usize,
        name: &str,
        clip: &'static Clip,
        peer: SocketAddr,
        mut chance: Chance,
    ) -> Self {
        let next = chance.below(clip.begin_before);
        let base_ms = match chance.below(4) {
            0 => 0,
            1 => (1 << 24) - 1_000,
            2 => (1 << 31) - 1_500,
            _ => u32::try_from(chance.below(1 << 30)).unwrap(),
        };
        Self {
            rtmp: KitPublisher::new("live", name),
            room,
            clip,
            peer,
            id: None,
            fate: Fate::Alive,
            closed_by_server: false,
            connected: false,
            garbage: None,
            anchor: None,
            base_ms,
            began: None,
            heads_sent: false,
            first_ms: clip.tags[next].timestamp_ms,
            next,
            turn: 0,
            delay: chance.millis(1, 40),
            last_arrival: None,
            stalled_until: None,
            chance,
        }
    }

    /// Whether it publishes, or still tries to.
    pub fn is_active(&self) -> bool {
        let refused = matches!(self.rtmp.progress(), Progress::Refused(_));
        self.fate == Fate::Alive && !self.closed_by_server && !refused
    }

    /// When its next tag is due.
    pub fn next_time(&self) -> Option<Instant> {
        if !self.is_active() || *self.rtmp.progress() != Progress::Publishing {
            return None;
        }
        // Sound and picture are not quite in the order of their times.
        let since_first = self.clip_ms().saturating_sub(self.first_ms);
        Some(self.began? + Duration::from_millis(since_first.into()))
    }

    /// Sends what is due and gives the segments on their way.
    pub fn step(&mut self, now: Instant) -> Vec<Segment> {
        let mut segments = Vec::new();
        if !self.connected || self.fate != Fate::Alive || self.closed_by_server {
            return segments;
        }
        self.flush(now, None, &mut segments);
        if *self.rtmp.progress() == Progress::Publishing && self.began.is_none() {
            self.began = Some(now);
        }
        while self.next_time().is_some_and(|due| due <= now) {
            self.send_heads(now, &mut segments);
            let (clip_ms, tag) = (self.clip_ms(), &self.clip.tags[self.next]);
            self.send(tag.kind, clip_ms, tag.payload.clone());
            let is_media = tag.payload.get(1) == Some(&1);
            self.flush(now, is_media.then_some(clip_ms), &mut segments);
            self.next += 1;
            if self.next == self.clip.tags.len() {
                (self.next, self.turn, self.heads_sent) = (0, self.turn + 1, false);
            }
        }
        segments
    }

    /// Position of the next tag, turns counted.
    fn clip_ms(&self) -> u32 {
        self.turn * self.clip.round_ms + self.clip.tags[self.next].timestamp_ms
    }

    fn send_heads(&mut self, now: Instant, segments: &mut Vec<Segment>) {
        if std::mem::replace(&mut self.heads_sent, true) {
            return;
        }
        for head in &self.clip.heads {
            self.send(head.kind, self.clip_ms(), head.payload.clone());
        }
        self.flush(now, None, segments);
    }

    fn send(&mut self, kind: TagKind, clip_ms: u32, body: bytes::Bytes) {
        let timestamp = self.base_ms.wrapping_add(clip_ms);
        match kind {
            TagKind::Video => self.rtmp.video(timestamp, body),
            TagKind::Audio => self.rtmp.audio(timestamp, body),
            TagKind::Script | TagKind::Other(_) => {}
        }
    }

    /// Cuts what the protocol wants to say into segments.
    fn flush(&mut self, now: Instant, completes: Option<u32>, segments: &mut Vec<Segment>) {
        while let Some(bytes) = self.rtmp.poll_transmit() {
            let cuts = [self.chance.next(), self.chance.next()];
            let mut at = cuts.map(|cut| usize::try_from(cut % (bytes.len() as u64 + 1)).unwrap());
            at.sort_unstable();
            let [first, second] = at;
            let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
            for (index, piece) in pieces.into_iter().enumerate() {
                let arrival = now + self.delay + self.chance.micros(0, 1_500);
                let stalled = self.stalled_until.filter(|until| *until > now);
                let arrival = [Some(arrival), self.last_arrival, stalled]
                    .into_iter()
                    .flatten();
                let arrival = arrival.max().unwrap();
                self.last_arrival = Some(arrival);
                let completes = completes.filter(|_| index == 2);
                segments.push(Segment {
                    at: arrival,
                    bytes: piece.to_vec(),
                    completes,
                });
            }
        }
    }
}
