//! A viewer's media: its tracks and keys, the pace of its video, its reports and its feedback.
//!
//! RFC 3550 §6.2 and §6.3 (when reports are sent), RFC 4585 §6 (NACK, PLI), RFC 4588
//! (retransmission).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::batch::SendBatch;
use super::factory::Tracks;
use super::keyframes::KeyframeRequests;
use super::output::{Sent, ViewerEvent, ViewerStats, push_event};
use super::pacing::{ResendBudget, VideoPacer};
use super::rtcp::{self, NtpTime, RtcpItem};
use super::srtp::{SrtcpReceiver, SrtpSender};
use super::track::{PACKET_OVERHEAD_BYTES, Target, Track};
use crate::media::frame::{FrameSet, TrackKind};
use crate::media::time::{MediaTime, Timebase};

/// Sender reports come this often on average: players align picture and sound by them.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// They come by up to half of this earlier or later (RFC 3550 §6.3.1), so that those of viewers
/// who joined together drift apart.
const REPORT_SPREAD: Duration = Duration::from_millis(400);
/// After a join's burst, players are told to show frames at once for so long: when they are let
/// go at its very end, those that are still behind stall.
const RELAX_AFTER: Duration = Duration::from_millis(1_500);

/// The keys at work.
struct Sealing {
    sender: SrtpSender,
    receiver: SrtcpReceiver,
}

/// How far the video frame in hand has come.
#[derive(Debug, Clone, Copy)]
struct Progress {
    frame: u64,
    next_packet: usize,
}

/// Whether players may hold frames back.
#[derive(Debug, Clone, Copy)]
enum Catching {
    /// No frame was sent.
    Begin,
    /// A join's burst is under way, up to this frame.
    Burst { newest: u64 },
    /// The burst is over; to be relaxed then.
    Settling { until: Instant },
    /// Relaxed.
    Live,
}

/// A viewer's media.
pub(super) struct Media {
    /// Boxed: not needed until the handshake is over.
    sealing: Option<Box<Sealing>>,
    video: Option<Track>,
    audio: Option<Track>,
    cname: String,
    timebase: Timebase,
    jitter: u32,
    pacer: VideoPacer,
    budget: ResendBudget,
    progress: Option<Progress>,
    catching: Catching,
    last_pts: Option<MediaTime>,
    next_report: Option<Instant>,
    keyframe_requests: KeyframeRequests,
    stats: ViewerStats,
}

impl Media {
    pub(super) fn new(
        tracks: Tracks,
        cname: String,
        timebase: Timebase,
        jitter: u32,
        now: Instant,
    ) -> Self {
        let Tracks { video, audio } = tracks;
        Self {
            sealing: None,
            video,
            audio,
            cname,
            timebase,
            // A shift register never leaves 0.
            jitter: jitter | 1,
            pacer: VideoPacer::new(now),
            budget: ResendBudget::new(now),
            progress: None,
            catching: Catching::Begin,
            last_pts: None,
            next_report: None,
            keyframe_requests: KeyframeRequests::new(),
            stats: ViewerStats::default(),
        }
    }

    pub(super) fn set_tracks(&mut self, tracks: Tracks) {
        let Tracks { video, audio } = tracks;
        self.video = video;
        self.audio = audio;
    }

    pub(super) fn set_keys(&mut self, sender: SrtpSender, receiver: SrtcpReceiver) {
        self.sealing = Some(Box::new(Sealing { sender, receiver }));
    }

    pub(super) fn has_keys(&self) -> bool {
        self.sealing.is_some()
    }

    pub(super) fn plays(&self, track: TrackKind) -> bool {
        match track {
            TrackKind::Video => self.video.is_some(),
            TrackKind::Audio => self.audio.is_some(),
        }
    }

    pub(super) fn stats(&self) -> ViewerStats {
        self.stats
    }

    /// Whether a burst of the room's memory is under way.
    pub(super) fn catches_up(&self) -> bool {
        matches!(self.catching, Catching::Burst { .. })
    }

    pub(super) fn begin_burst(&mut self, first: &FrameSet, newest: &FrameSet) {
        if let Some(video) = &mut self.video {
            video.begin_burst(first, newest);
            self.catching = Catching::Burst {
                newest: newest.number,
            };
            self.progress = None;
        }
    }

    /// Asks for the keys to be brought into the cache.
    pub(super) fn prefetch_keys(&self) {
        if let Some(sealing) = &self.sealing {
            sealing.sender.prefetch();
        }
    }

    /// Sends a frame, or what the pace allows of it.
    pub(super) fn send(
        &mut self,
        frame: &FrameSet,
        sound_follows: bool,
        now: Instant,
        target: Target,
        batch: &mut SendBatch,
    ) -> Sent {
        let Some(track) = self.track(frame.track) else {
            return Sent::Done;
        };
        let first = !track.started();
        let packet = match frame.track {
            TrackKind::Video => self.begin_frame(frame, now),
            TrackKind::Audio => 0,
        };
        let sent = self.send_from((packet, sound_follows), frame, now, target, batch);
        if sent == Sent::Done && frame.track == TrackKind::Video {
            self.end_frame(frame, now);
        }
        if first {
            // Players align picture and sound by reports: the first is not to be waited for.
            self.report(now, target, batch);
        }
        sent
    }

    /// Sends a packet again, if it was sent before and the budget allows.
    pub(super) fn resend(
        &mut self,
        frame: &FrameSet,
        packet: usize,
        now: Instant,
        target: Target,
        batch: &mut SendBatch,
    ) {
        let track = match frame.track {
            TrackKind::Video => self.video.as_mut(),
            TrackKind::Audio => self.audio.as_mut(),
        };
        let (Some(track), Some(sealing)) = (track, self.sealing.as_deref()) else {
            return;
        };
        let bytes = frame.payload(packet).map_or(0, <[u8]>::len);
        let wire_bytes = bytes.saturating_add(PACKET_OVERHEAD_BYTES);
        if bytes == 0 || !self.budget.take(wire_bytes, now) {
            return;
        }
        if let Ok(1..) = track.resend(frame, packet, &sealing.sender, target, batch) {
            self.stats.packets_resent = self.stats.packets_resent.saturating_add(1);
            self.stats.bytes_resent = self.stats.bytes_resent.saturating_add(bytes as u64);
        }
    }

    /// Writes the reports that are due.
    pub(super) fn poll_reports(&mut self, now: Instant, target: Target, batch: &mut SendBatch) {
        if self.next_report.is_some_and(|next| now >= next) {
            self.report(now, target, batch);
        }
    }

    /// When the next report is due; `None` before the first packet.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.next_report
    }

    /// Writes a BYE for the tracks that were sent.
    pub(super) fn say_goodbye(&mut self, target: Target, batch: &mut SendBatch) {
        let tracks = self.video.iter().chain(&self.audio);
        let sources: Vec<u32> = tracks
            .filter(|track| track.started())
            .map(Track::ssrc)
            .collect();
        let mut compound = Vec::new();
        rtcp::write_goodbye(&mut compound, &sources, &self.cname);
        self.seal_compound(&compound, target, batch);
    }

    /// Takes a datagram of feedback; `false` if it is not the viewer's, or was seen before.
    pub(super) fn handle_rtcp(
        &mut self,
        datagram: &[u8],
        now: Instant,
        events: &mut VecDeque<ViewerEvent>,
    ) -> bool {
        let Some(sealing) = self.sealing.as_deref_mut() else {
            return false;
        };
        let mut compound = Vec::with_capacity(datagram.len());
        if sealing.receiver.open(datagram, &mut compound).is_err() {
            return false;
        }
        // What stands before an error is good.
        for item in rtcp::parse(&compound).map_while(Result::ok) {
            self.handle_item(item, now, events);
        }
        true
    }

    fn handle_item(
        &mut self,
        item: RtcpItem<'_>,
        now: Instant,
        events: &mut VecDeque<ViewerEvent>,
    ) {
        match item {
            RtcpItem::ReceiverReport {
                ssrc,
                fraction_lost,
                lost: _,
                highest_seq: _,
                jitter: _,
                lsr,
                dlsr,
            } => self.handle_report(ssrc, fraction_lost, (lsr, dlsr), now),
            RtcpItem::Nack { ssrc, seqs } => {
                let Some(kind) = self.kind_of(ssrc) else {
                    return;
                };
                for sequence in seqs {
                    self.stats.nacks = self.stats.nacks.saturating_add(1);
                    if self.budget.is_spent(now) {
                        // Nothing of it would be sent: a storm is not even looked up.
                        continue;
                    }
                    let track = self.track(kind);
                    if let Some(sequence) = track.and_then(|t| t.room_sequence(sequence)) {
                        let track = kind;
                        push_event(events, ViewerEvent::Resend { track, sequence });
                    }
                }
            }
            RtcpItem::Pli { ssrc } | RtcpItem::Fir { ssrc } => {
                if self.kind_of(ssrc) == Some(TrackKind::Video) {
                    self.stats.plis = self.stats.plis.saturating_add(1);
                    let in_burst = self.catches_up();
                    if self.keyframe_requests.admit(in_burst, now) {
                        push_event(events, ViewerEvent::KeyframeWanted);
                    }
                }
            }
            RtcpItem::Remb { bitrate_bps } => self.stats.estimate_bps = Some(bitrate_bps),
            RtcpItem::SenderReport(_) | RtcpItem::Bye { .. } | RtcpItem::Other { .. } => {}
        }
    }

    fn handle_report(&mut self, ssrc: u32, fraction_lost: u8, echo: (u32, u32), now: Instant) {
        let Some(kind) = self.kind_of(ssrc) else {
            return;
        };
        if kind == TrackKind::Video || self.video.is_none() {
            self.stats.fraction_lost = fraction_lost;
        }
        let (lsr, dlsr) = echo;
        let round_trip = rtcp::round_trip(NtpTime(self.timebase.ntp(now)), lsr, dlsr);
        self.stats.round_trip = round_trip.or(self.stats.round_trip);
    }

    fn track(&self, kind: TrackKind) -> Option<&Track> {
        match kind {
            TrackKind::Video => self.video.as_ref(),
            TrackKind::Audio => self.audio.as_ref(),
        }
    }

    fn kind_of(&self, ssrc: u32) -> Option<TrackKind> {
        [TrackKind::Video, TrackKind::Audio]
            .into_iter()
            .find(|&kind| self.track(kind).map(Track::ssrc) == Some(ssrc))
    }

    /// The first packet of a video frame that is still to be sent.
    fn begin_frame(&mut self, frame: &FrameSet, now: Instant) -> usize {
        if let Some(progress) = self.progress
            && progress.frame == frame.number
        {
            return progress.next_packet;
        }
        self.progress = None;
        if let Catching::Settling { until } = self.catching
            && now >= until
            && let Some(video) = &mut self.video
        {
            video.relax();
            self.catching = Catching::Live;
        }
        let live = match self.catching {
            Catching::Burst { newest } => frame.number > newest,
            Catching::Begin | Catching::Settling { .. } | Catching::Live => true,
        };
        let since_last = self.last_pts.map(|last| frame.pts.minus(last).as_micros());
        let since_last = since_last.and_then(|micros| u64::try_from(micros).ok());
        self.last_pts = Some(frame.pts);
        let overhead = frame.packet_count().saturating_mul(PACKET_OVERHEAD_BYTES);
        let bytes = frame.payload_bytes().saturating_add(overhead);
        let since_last = since_last.map(Duration::from_micros);
        self.pacer.begin_frame(bytes, live, since_last);
        0
    }

    fn end_frame(&mut self, frame: &FrameSet, now: Instant) {
        self.progress = None;
        let (caught_up, new) = match self.catching {
            Catching::Begin => (true, true),
            Catching::Burst { newest } => (frame.number >= newest, frame.number > newest),
            Catching::Settling { .. } | Catching::Live => (false, true),
        };
        if frame.key && new {
            self.keyframe_requests.keyframe_sent();
        }
        if caught_up {
            self.keyframe_requests.burst_ended();
            self.catching = Catching::Settling {
                until: now + RELAX_AFTER,
            };
        }
    }

    fn send_from(
        &mut self,
        (first, fill_up): (usize, bool),
        frame: &FrameSet,
        now: Instant,
        target: Target,
        batch: &mut SendBatch,
    ) -> Sent {
        let (track, paced) = match frame.track {
            TrackKind::Video => (self.video.as_mut(), true),
            TrackKind::Audio => (self.audio.as_mut(), false),
        };
        let (Some(track), Some(sealing)) = (track, self.sealing.as_deref()) else {
            return Sent::Done;
        };
        let total = frame.packet_count();
        let wire_bytes = |packet| {
            let bytes = frame.payload(packet).map_or(0, <[u8]>::len);
            bytes.saturating_add(PACKET_OVERHEAD_BYTES)
        };
        let end = match paced {
            true => {
                let sizes = (first..total).map(wire_bytes);
                first.saturating_add(self.pacer.take(sizes, now))
            }
            false => total,
        };
        let count = end.saturating_sub(first);
        let sender = &sealing.sender;
        let Ok(bytes) = track.send(frame, first..end, fill_up, sender, target, batch) else {
            // The numbers of these keys are used up: only a new session goes on.
            return Sent::Done;
        };
        let overhead = count.saturating_mul(PACKET_OVERHEAD_BYTES);
        self.budget.sent(bytes.saturating_add(overhead));
        self.stats.packets_sent = self.stats.packets_sent.saturating_add(count as u64);
        self.stats.bytes_sent = self.stats.bytes_sent.saturating_add(bytes as u64);
        if end >= total {
            return Sent::Done;
        }
        self.progress = Some(Progress {
            frame: frame.number,
            next_packet: end,
        });
        let left_bytes = total.saturating_sub(end).saturating_mul(wire_bytes(end));
        Sent::Paced(self.pacer.next(left_bytes, now))
    }

    /// Writes a report of every track that was sent, and sets the time of the next.
    fn report(&mut self, now: Instant, target: Target, batch: &mut SendBatch) {
        let tracks = self.video.iter().chain(&self.audio);
        let reports: Vec<_> = tracks
            .filter(|track| track.started())
            .map(|track| track.report(&self.timebase, now))
            .collect();
        if !reports.is_empty() {
            let mut compound = Vec::new();
            rtcp::write_sender_reports(&mut compound, &reports, &self.cname);
            self.seal_compound(&compound, target, batch);
        }
        self.next_report = Some(now + self.report_interval());
    }

    fn seal_compound(&mut self, compound: &[u8], target: Target, batch: &mut SendBatch) {
        let Some(sealing) = self.sealing.as_deref_mut() else {
            return;
        };
        if compound.is_empty() {
            return;
        }
        let (to, from) = target;
        // A report that cannot be sealed is left out: the next one says the same.
        let _ = batch.push(to, from, |out| sealing.sender.seal_rtcp(compound, out));
    }

    fn report_interval(&mut self) -> Duration {
        // Xorshift (Marsaglia 2003): even enough to spread reports.
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 17;
        self.jitter ^= self.jitter << 5;
        let spread_micros = u64::try_from(REPORT_SPREAD.as_micros()).unwrap_or(1);
        let offset = u64::from(self.jitter) % spread_micros.saturating_mul(2).max(1);
        (REPORT_INTERVAL - REPORT_SPREAD) + Duration::from_micros(offset)
    }
}

#[cfg(test)]
mod tests;
