//! Publishes that do not come in real time: what was held up comes at once, and what is sent
//! faster than it plays must wait.
//!
//! - **A stall**: nothing comes for [`STALL`], then what had gathered, in a burst. Viewers have
//!   seen a still picture all that time; to play what they missed would be to play it fast, or to
//!   be late for good. So the first message is put where the clock is, and the rest of the burst
//!   is pressed together there until the publish has caught up with its old place, which it then
//!   takes again. If it never does (the encoder was stopped, its timestamps too), it stays.
//! - **A head start**: a relay sends at once what it had gathered before it connected. Up to
//!   [`SKIP_MAX`] of that are pressed together too: the stream begins at its live edge.
//! - **A file sent at full speed**: once that is used up, a publish that is more than
//!   [`AHEAD_MAX`] ahead is not read on until it no longer is ([`Pace::resume_at`]). What waits is
//!   in the publisher's hands, and the window of its connection bounds the rest.

use std::time::{Duration, Instant};

use crate::media::time::MediaTime;

/// Nothing came for so long: viewers' buffers ran dry, and the sound began anew (the longest gap
/// that becomes silence is as long).
const STALL: Duration = Duration::from_secs(2);
/// A publish has stalled if its timestamps are behind by this after it, too, and has not merely
/// paused.
const STALL_DELAY: MediaTime = MediaTime::from_millis(1_000);
/// As near to its old place, the publish has caught up.
const CAUGHT_UP: MediaTime = MediaTime::from_millis(200);
/// A burst is over when nothing came ahead of the clock for so long.
const BURST: Duration = Duration::from_millis(100);
/// After so long it will not any more.
const CATCH_UP_MAX: Duration = Duration::from_secs(10);
/// How far a publish may be ahead of the clock: more than encoders and relays put into one burst,
/// and what a viewer's jitter buffer takes.
const AHEAD_MAX: MediaTime = MediaTime::from_millis(1_000);
/// Longest wait for one message: half of what ends a connection that sends nothing.
const HOLD_MAX: Duration = Duration::from_secs(5);
/// How much may be left out of a head start, in all of a publish: what relays gather while they
/// look for a stream's codecs, and little of a file.
const SKIP_MAX: MediaTime = MediaTime::from_millis(3_000);

/// Where the whole publish is set on the timeline, both tracks alike.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    shift: MediaTime,
    detour: Option<Detour>,
    skip_left: MediaTime,
    last: Option<Instant>,
    /// Until when what comes is taken to belong to a burst.
    burst_until: Option<Instant>,
    held_until: Option<Instant>,
    holds: u64,
}

/// The publish is away from its place since a stall.
#[derive(Debug, Clone, Copy)]
struct Detour {
    /// The shift that it had.
    place: MediaTime,
    /// How far it used to be ahead.
    usual: MediaTime,
    until: Instant,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            shift: MediaTime::ZERO,
            detour: None,
            skip_left: SKIP_MAX,
            last: None,
            burst_until: None,
            held_until: None,
            holds: 0,
        }
    }

    /// What is added to every position.
    pub(super) fn shift(&self) -> MediaTime {
        self.shift
    }

    /// When the publish may be read on, if not now.
    pub(super) fn resume_at(&self, now: Instant) -> Option<Instant> {
        self.held_until.filter(|at| *at > now)
    }

    /// How many messages came too far ahead.
    pub(super) fn holds(&self) -> u64 {
        self.holds
    }

    /// Whether what comes `now` is part of a burst that is pressed together.
    pub(super) fn is_pressing(&self, now: Instant) -> bool {
        self.burst_until.is_some_and(|until| now < until)
    }

    /// Whether what comes `now` was held up by a stall, so that its sound is left out.
    pub(super) fn is_skipping(&self, now: Instant) -> bool {
        self.detour.is_some() && self.is_pressing(now)
    }

    /// A message came `now`, `lead` before its position, which its track's last was by `usual`.
    /// Gives by how much the shift changes, if it does.
    pub(super) fn observe(
        &mut self,
        lead: MediaTime,
        usual: Option<MediaTime>,
        now: Instant,
    ) -> Option<MediaTime> {
        let last = self.last.replace(now);
        let silence = last.map(|last| now.saturating_duration_since(last));
        if let Some(usual) = usual
            && silence.is_some_and(|silence| silence >= STALL)
            && usual.minus(lead) >= STALL_DELAY
        {
            let place = self.detour.map_or(self.shift, |detour| detour.place);
            self.detour = Some(Detour {
                place,
                usual,
                until: now.checked_add(CATCH_UP_MAX).unwrap_or(now),
            });
            return self.move_by(usual.minus(lead));
        }
        if let Some(detour) = self.detour {
            return self.catch_up(detour, lead, now);
        }
        if lead <= AHEAD_MAX {
            return None;
        }
        if lead <= self.skip_left {
            self.skip_left = self.skip_left.minus(lead);
            return self.press(lead, now);
        }
        let micros = u64::try_from(lead.minus(AHEAD_MAX).as_micros()).unwrap_or_default();
        self.held_until = now.checked_add(Duration::from_micros(micros).min(HOLD_MAX));
        self.holds = self.holds.saturating_add(1);
        None
    }

    fn catch_up(&mut self, detour: Detour, lead: MediaTime, now: Instant) -> Option<MediaTime> {
        let away = self.shift.minus(detour.place);
        if lead.minus(away).plus(CAUGHT_UP) >= detour.usual {
            self.detour = None;
            return self.move_by(MediaTime::ZERO.minus(away));
        }
        if now >= detour.until {
            // It may still catch up slowly: that much is to be left out then.
            self.skip_left = self.skip_left.plus(away.max(MediaTime::ZERO));
            self.detour = None;
            return None;
        }
        let ahead = lead.minus(detour.usual);
        if ahead <= CAUGHT_UP {
            return None;
        }
        self.press(ahead, now)
    }

    /// Moves back by what the publish is ahead: what comes now is pressed together.
    fn press(&mut self, ahead: MediaTime, now: Instant) -> Option<MediaTime> {
        self.burst_until = now.checked_add(BURST);
        self.move_by(MediaTime::ZERO.minus(ahead))
    }

    fn move_by(&mut self, step: MediaTime) -> Option<MediaTime> {
        self.shift = self.shift.plus(step);
        self.held_until = None;
        Some(step)
    }
}
