//! Viewers of this core: their peer connection, and what they get of their room.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::guard::guarded;
use super::turns::{Turns, Waiting};
use super::{Engine, Slot, Timer};
use crate::ids::{CoreId, RoomId, RoomName, ViewerId};
use crate::limits::{OVERLOAD_WARNING_INTERVAL, OVERLOADED_AFTER, PICTURE_LATE_AFTER};
use crate::media::frame::{FrameSet, Rendition, TrackKind};
use crate::messages::{ControlMsg, SdpFault, ViewerBegin, ViewerEnd};
use crate::metrics::CoreCounters;
use crate::room::{Cursor, Haste};
use crate::webrtc::{Sent, Viewer, ViewerError, ViewerEvent, ViewerOutput, ViewerStats};

/// What a viewer without H.264 is told.
const HEARS_ONLY: &str = "sound only: this player offered no H.264 video with packetization-mode 1; \
     use a browser with H.264, or ask for video";

/// One viewer and how far it has got.
#[derive(Debug)]
pub(super) struct ViewerState {
    id: ViewerId,
    slot: Slot,
    viewer: Viewer,
    pub(super) room: RoomId,
    cursor: Cursor,
    /// Whether media flows: connected, and heard of lately.
    live: bool,
    /// Whether it ever was: what it plays is settled.
    connected: bool,
    /// The video frame that is partly sent.
    pending: Option<Arc<FrameSet>>,
    /// What the core's counters know of it already.
    counted: ViewerStats,
    /// Whether its session may have something to say, or another deadline. The frames that flow
    /// need not ask.
    session_due: bool,
    /// Whether a frame was given to its session, which reports from then on.
    begun: bool,
    /// Whether the burst that it gets, or got last, is that of one who begins, and not of one who was
    /// left behind.
    begins: bool,
}

impl ViewerState {
    /// Whether it takes a rendition of the video: is bound to it, and may take video at all.
    pub(super) fn takes(&self, rendition: Rendition) -> bool {
        let listens_only = self.connected && !self.viewer.plays(TrackKind::Video);
        self.cursor.target() == rendition && !listens_only
    }

    /// Puts it into the queue of those to serve, once: something was done to its session.
    pub(super) fn mark(&mut self, turns: &mut Turns, now: Instant) {
        self.session_due = true;
        turns.push(self.slot, now);
    }

    /// Asks for what its state points to, and sending needs, to be brought into the cache.
    pub(super) fn prefetch(&self) {
        self.viewer.prefetch();
    }

    /// Whether it is given what there was before it came, which is not yet live.
    fn catches_up(&self) -> bool {
        self.begins && self.viewer.catches_up()
    }
}

/// A viewer that comes in.
#[derive(Debug)]
pub(super) struct Join {
    pub(super) viewer: ViewerId,
    pub(super) room: RoomId,
    pub(super) name: RoomName,
    pub(super) begin: ViewerBegin,
    pub(super) candidates: Vec<SocketAddr>,
    pub(super) profile_level_id: Option<[u8; 3]>,
}

impl Engine {
    pub(super) fn add_viewer(&mut self, join: Join, now: Instant) {
        let id = join.viewer;
        let made = guarded(|| self.negotiate(&join, now));
        let (viewer, sdp) = match made {
            Some(Ok(made)) => made,
            Some(Err(error)) => {
                if let Some(left_out) = self.offer_complaints.admit(now) {
                    log::info!(
                        "viewer refused: {error} room={} viewer={id}{left_out}",
                        join.name
                    );
                }
                self.control(ControlMsg::ViewerSdp {
                    viewer: id,
                    sdp: Err(fault_of(&error)),
                });
                return;
            }
            None => {
                self.counters.panics.inc();
                self.control(ControlMsg::ViewerSdp {
                    viewer: id,
                    sdp: Err(SdpFault::Bug),
                });
                return;
            }
        };
        self.demux.register(viewer.ufrag(), id);
        let room = self.room_entry(join.room);
        let cursor = room.room.join(Rendition::default());
        let (publisher, queue) = (room.publisher, room.queue);
        let slot = self.viewers.insert(id, |slot| ViewerState {
            id,
            slot,
            viewer,
            room: join.room,
            cursor,
            live: false,
            connected: false,
            pending: None,
            counted: ViewerStats::default(),
            session_due: false,
            begun: false,
            begins: true,
        });
        self.room_entry(join.room).viewers.insert(id, slot);
        self.turns.enter(slot, queue);
        if let Some(state) = self.viewers.at_mut(slot) {
            state.mark(&mut self.turns, now);
        }
        if let Some(publisher) = publisher {
            self.update_transcoding(publisher);
        }
        self.keyframe_wanted(join.room, now);
        self.control(ControlMsg::ViewerSdp {
            viewer: id,
            sdp: Ok(sdp),
        });
    }

    /// Binds a viewer to another rendition.
    pub(super) fn bind_viewer(&mut self, id: ViewerId, rendition: Rendition, now: Instant) {
        let Some(state) = self.viewers.get_mut(id) else {
            return;
        };
        let Some(room) = self.rooms.get(&state.room) else {
            return;
        };
        room.room.rebind(&mut state.cursor, rendition);
        state.mark(&mut self.turns, now);
        if let Some(publisher) = room.publisher {
            self.update_transcoding(publisher);
        }
    }

    fn negotiate(&mut self, join: &Join, now: Instant) -> Result<(Viewer, String), ViewerError> {
        let Join {
            viewer,
            candidates,
            profile_level_id,
            ..
        } = join;
        match &join.begin {
            ViewerBegin::Offer(offer) => {
                self.factory
                    .answer(*viewer, offer, candidates, *profile_level_id, now)
            }
            ViewerBegin::SendOffer => {
                self.factory
                    .offer(*viewer, candidates, *profile_level_id, now)
            }
        }
    }

    pub(super) fn viewer_answer(&mut self, id: ViewerId, sdp: &str, now: Instant) {
        self.negotiation_step(id, now, |viewer| viewer.accept_answer(sdp, now));
    }

    pub(super) fn add_candidate(&mut self, id: ViewerId, candidate: &str, now: Instant) {
        self.negotiation_step(id, now, |viewer| viewer.add_candidate(candidate, now));
    }

    /// Runs a step that the viewer may have got wrong: it is told, and its session goes on.
    fn negotiation_step(
        &mut self,
        id: ViewerId,
        now: Instant,
        step: impl FnOnce(&mut Viewer) -> Result<(), ViewerError>,
    ) {
        let Some(result) = self.with_viewer(id, now, step) else {
            return;
        };
        if let Err(error) = result {
            log::debug!("viewer's message refused: {error} viewer={id}");
            self.control(ControlMsg::ViewerComplaint {
                viewer: id,
                text: error.to_string(),
            });
        }
    }

    pub(super) fn remove_viewer(&mut self, id: ViewerId, reason: ViewerEnd, now: Instant) {
        let Some(state) = self.viewers.get_mut(id) else {
            return;
        };
        // A panic here changes nothing: the viewer goes either way.
        if guarded(|| state.viewer.close(now, &mut self.batch)).is_none() {
            self.counters.panics.inc();
        }
        self.forget_viewer(id, reason);
    }

    /// Whether a STUN request from a new address is the viewer's own; if so it is remembered.
    pub(super) fn bind_candidate(
        &mut self,
        id: ViewerId,
        from: SocketAddr,
        to: SocketAddr,
        datagram: &[u8],
        now: Instant,
    ) -> bool {
        let verify = |viewer: &mut Viewer| viewer.verify_stun(from, to, datagram, now);
        let verified = self.with_viewer(id, now, verify);
        let bound = verified == Some(true) && self.demux.bind(from, id, now);
        if !bound {
            self.counters.datagrams_dropped_unknown.inc();
        }
        bound
    }

    /// Gives a viewer a datagram, and takes at once what it makes of it.
    pub(super) fn viewer_datagram(
        &mut self,
        id: ViewerId,
        from: SocketAddr,
        to: SocketAddr,
        datagram: &[u8],
        now: Instant,
    ) {
        let take = |viewer: &mut Viewer| viewer.handle_datagram(from, to, datagram, now);
        if self.with_viewer(id, now, take).is_some() {
            self.drain_viewer(id, now);
        }
    }

    pub(super) fn viewer_timeout(&mut self, id: ViewerId, now: Instant) {
        self.with_viewer(id, now, |viewer| viewer.handle_timeout(now));
    }

    /// Takes a viewer's outputs if it may have some, and sends it the frames it has not got yet, as
    /// far as pacing and the batch allow.
    pub(super) fn serve_viewer(&mut self, turn: Waiting, now: Instant) {
        let slot = turn.slot;
        let Some(state) = self.viewers.at_mut(slot) else {
            return;
        };
        let id = state.id;
        if state.session_due && !self.drain_viewer(id, now) {
            return;
        }
        let sent = guarded(|| {
            self.send_pictures(turn, now);
            // Last, so that it leaves in the picture's train.
            self.send_sounds(slot, now);
        });
        if sent.is_none() {
            self.drop_viewer_for_bug(id);
            return;
        }
        if let Some(state) = self.viewers.at_mut(slot) {
            count_sent(&self.counters, state);
            if state.session_due {
                self.turns.push(slot, now);
            }
        }
    }

    /// Sends a viewer the sound that it has not got yet.
    fn send_sounds(&mut self, slot: Slot, now: Instant) {
        let Some(state) = self.viewers.at_mut(slot).filter(|state| state.live) else {
            return;
        };
        let Some(room) = self.rooms.get(&state.room) else {
            return;
        };
        while let Some(delivery) = room.room.next(&state.cursor, TrackKind::Audio) {
            state.session_due |= !std::mem::replace(&mut state.begun, true);
            self.counters.frames_skipped.add(delivery.skipped);
            let batch = &mut self.batch;
            state.viewer.send(&delivery.frame, false, now, batch);
            state.cursor.advance(&delivery.frame);
        }
    }

    /// Sends a viewer the pictures that it has not got yet, as far as pacing and the batch allow.
    fn send_pictures(&mut self, turn: Waiting, now: Instant) {
        let clock = self.clock.map_or(now, |clock| clock.max(now));
        let waited = clock.saturating_duration_since(turn.since);
        let busy = self.turns.busy_for(clock);
        let Some(state) = self.viewers.at_mut(turn.slot) else {
            return;
        };
        let Some(room) = self.rooms.get(&state.room) else {
            return;
        };
        if !state.live {
            return;
        }
        let sound_follows = room.room.next(&state.cursor, TrackKind::Audio).is_some();
        let live_edge = room.room.live_edge(&state.cursor);
        let haste = match state.catches_up() {
            // What it gets is old for another reason.
            true => Haste::None,
            false => haste(waited, busy),
        };
        if haste == Haste::ToKeyframe {
            tell_overload(&mut self.overload_told, waited, self.core, now);
        }
        loop {
            if self.batch.is_full() {
                self.turns.push(turn.slot, turn.since);
                return;
            }
            let frame = match state.pending.take() {
                Some(frame) => frame,
                None => {
                    if haste != Haste::None {
                        let left_out = room.room.hurry(&mut state.cursor, haste);
                        self.counters.frames_skipped.add(left_out);
                    }
                    let Some(delivery) = room.room.next(&state.cursor, TrackKind::Video) else {
                        return;
                    };
                    if let Some(newest) = &delivery.burst_to {
                        state.begins = state.cursor.begins();
                        state.viewer.begin_burst(&delivery.frame, newest);
                        self.turns.set_catching_up(turn.slot, state.catches_up());
                    }
                    self.counters.frames_skipped.add(delivery.skipped);
                    state.cursor.advance(&delivery.frame);
                    delivery.frame
                }
            };
            state.session_due |= !std::mem::replace(&mut state.begun, true);
            let batch = &mut self.batch;
            let was_behind = state.catches_up();
            let sent = state.viewer.send(&frame, sound_follows, now, batch);
            if was_behind {
                self.turns.set_catching_up(turn.slot, state.catches_up());
            }
            if let Sent::Paced(at) = sent {
                state.pending = Some(frame);
                self.deadlines.set_earlier(Timer::Viewer(state.id), at);
                return;
            }
            if live_edge == Some(frame.number) {
                let oldest = self.batch_oldest.get_or_insert(frame.received);
                *oldest = frame.received.min(*oldest);
            }
        }
    }

    /// Takes a viewer's outputs until it is idle. `false`: the viewer is gone.
    fn drain_viewer(&mut self, id: ViewerId, now: Instant) -> bool {
        loop {
            let Some(state) = self.viewers.get_mut(id) else {
                return false;
            };
            state.session_due = false;
            let batch = &mut self.batch;
            let Some(output) = guarded(|| state.viewer.poll_output(now, batch)) else {
                self.drop_viewer_for_bug(id);
                return false;
            };
            match output {
                ViewerOutput::Event(event) => self.viewer_event(id, event, now),
                ViewerOutput::Timeout(at) => {
                    self.deadlines.set(Timer::Viewer(id), at);
                    return true;
                }
            }
        }
    }

    fn viewer_event(&mut self, id: ViewerId, event: ViewerEvent, now: Instant) {
        let Some(state) = self.viewers.get_mut(id) else {
            return;
        };
        match event {
            ViewerEvent::Connected => {
                state.connected = true;
                set_live(&self.counters, state, true);
                if let Some(room) = self.rooms.get(&state.room) {
                    room.room.rejoin(&mut state.cursor);
                }
                state.mark(&mut self.turns, now);
                let plays_video = state.viewer.plays(TrackKind::Video);
                self.control(ControlMsg::ViewerConnected { viewer: id });
                if !plays_video {
                    self.viewer_hears_only(id);
                }
            }
            ViewerEvent::Silent => {
                log::debug!("viewer is silent, media stops viewer={id}");
                set_live(&self.counters, state, false);
                state.pending = None;
            }
            ViewerEvent::Back => {
                set_live(&self.counters, state, true);
                if let Some(room) = self.rooms.get(&state.room) {
                    room.room.rejoin(&mut state.cursor);
                }
                state.mark(&mut self.turns, now);
            }
            ViewerEvent::KeyframeWanted => {
                // It goes on at the newest cached one, at once; a transcoder makes a new one.
                state.cursor.await_key();
                state.pending = None;
                state.mark(&mut self.turns, now);
                let room = state.room;
                self.keyframe_wanted(room, now);
            }
            ViewerEvent::Resend { track, sequence } => self.resend(id, track, sequence, now),
            ViewerEvent::Ended(reason) => self.forget_viewer(id, reason),
        }
    }

    /// Its SDP has no H.264 that we could send: it gets the sound.
    fn viewer_hears_only(&mut self, id: ViewerId) {
        self.counters.viewers_without_video.inc();
        log::info!("viewer takes no H.264 and gets sound only viewer={id}");
        self.control(ControlMsg::ViewerComplaint {
            viewer: id,
            text: HEARS_ONLY.to_owned(),
        });
        let state = self.viewers.get(id);
        let room = state.and_then(|state| self.rooms.get(&state.room));
        if let Some(publisher) = room.and_then(|room| room.publisher) {
            self.update_transcoding(publisher);
        }
    }

    fn resend(&mut self, id: ViewerId, track: TrackKind, sequence: u64, now: Instant) {
        let Some(state) = self.viewers.get_mut(id) else {
            return;
        };
        let Some(room) = self.rooms.get(&state.room) else {
            return;
        };
        let Some((frame, packet)) = room.room.packet(track, sequence) else {
            self.counters.resend_misses.inc();
            return;
        };
        let batch = &mut self.batch;
        if guarded(|| state.viewer.resend(frame, packet, now, batch)).is_none() {
            self.drop_viewer_for_bug(id);
        }
    }

    fn with_viewer<R>(
        &mut self,
        id: ViewerId,
        now: Instant,
        step: impl FnOnce(&mut Viewer) -> R,
    ) -> Option<R> {
        let state = self.viewers.get_mut(id)?;
        let Some(result) = guarded(|| step(&mut state.viewer)) else {
            self.drop_viewer_for_bug(id);
            return None;
        };
        if let Some(state) = self.viewers.get_mut(id) {
            state.mark(&mut self.turns, now);
        }
        Some(result)
    }

    fn drop_viewer_for_bug(&mut self, id: ViewerId) {
        self.counters.panics.inc();
        log::error!("a bug ended a viewer's session, please report it viewer={id}");
        self.forget_viewer(id, ViewerEnd::Failed);
    }

    fn forget_viewer(&mut self, id: ViewerId, reason: ViewerEnd) {
        let Some(mut state) = self.viewers.remove(id) else {
            return;
        };
        set_live(&self.counters, &mut state, false);
        count_sent(&self.counters, &mut state);
        self.demux.remove(id);
        self.deadlines.remove(Timer::Viewer(id));
        if let Some(room) = self.rooms.get_mut(&state.room) {
            room.viewers.remove(&id);
            if let Some(publisher) = room.publisher {
                self.update_transcoding(publisher);
            }
        }
        self.free_room_if_unused(state.room);
        self.control(ControlMsg::ViewerLeft { viewer: id, reason });
    }
}

/// Whose fault it is that there is no session.
fn fault_of(error: &ViewerError) -> SdpFault {
    let text = error.to_string();
    match error {
        ViewerError::Setup(_) => SdpFault::Setup(text),
        ViewerError::SdpTooLarge(_)
        | ViewerError::Sdp(_)
        | ViewerError::NoCodec
        | ViewerError::AnswerUnexpected
        | ViewerError::Candidate
        | ViewerError::CandidatesTooMany => SdpFault::Viewer(text),
    }
}

/// What a viewer that waited so long for its turn is to do without, on a core that has been busy for so
/// long.
fn haste(waited: Duration, busy: Duration) -> Haste {
    match (waited > PICTURE_LATE_AFTER, busy > OVERLOADED_AFTER) {
        (false, _) => Haste::None,
        (true, false) => Haste::Spared,
        (true, true) => Haste::ToKeyframe,
    }
}

/// Says in the log that a core, or the network behind it, has too much to do; now and then.
fn tell_overload(told: &mut Option<Instant>, waited: Duration, core: CoreId, now: Instant) {
    let age = told.map(|told| now.saturating_duration_since(told));
    if age.is_none_or(|age| age >= OVERLOAD_WARNING_INTERVAL) {
        *told = Some(now);
        log::warn!(
            "overloaded: viewers wait {} ms for their turn, and some go without pictures up to the \
             next keyframe; fewer viewers or more cores help core={core}",
            waited.as_millis()
        );
    }
}

/// Media flows to a viewer from now on, or no more.
fn set_live(counters: &CoreCounters, state: &mut ViewerState, live: bool) {
    match (std::mem::replace(&mut state.live, live), live) {
        (false, true) => counters.viewers_connected.inc(),
        (true, false) => counters.viewers_connected.dec(),
        (true, true) | (false, false) => {}
    }
}

/// Adds what a viewer did since the last time to the core's counters.
fn count_sent(counters: &CoreCounters, state: &mut ViewerState) {
    let (before, after) = (state.counted, state.viewer.stats());
    if before == after {
        return;
    }
    state.counted = after;
    let since = |count: fn(&ViewerStats) -> u64| count(&after).saturating_sub(count(&before));
    counters.rtp_packets.add(since(|stats| stats.packets_sent));
    counters.rtp_bytes.add(since(|stats| stats.bytes_sent));
    counters.resends.add(since(|stats| stats.packets_resent));
    counters.nacks.add(since(|stats| stats.nacks));
    counters.plis.add(since(|stats| stats.plis));
    counters
        .media_suppressed
        .add(since(|stats| stats.media_suppressed));
}
