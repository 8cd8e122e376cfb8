//! Publishes that do not come in real time: what was held up comes at once, and what is sent
//! faster than it plays must wait.
//!
//! - **A stall**: nothing comes for [`STALL`], then what had gathered, in a burst. Viewers have
//!   seen a still picture all that time. What they missed keeps its times, which are past: its
//!   pictures are decoded as they come, to show the last, and its sound is left out. If the publish
//!   does not catch up (the encoder was stopped, its timestamps too), it is put where the clock is.
//!   If it does so slowly, it is put there as well, and what it gains then is pressed together; where
//!   that may not be, it keeps its times as long as it gains, and its sound is heard.
//! - **A head start**: a relay sends at once what it had gathered before it connected. Up to
//!   [`SKIP_MAX`] of that are pressed together: the stream begins at its live edge. Not if its
//!   pictures are reordered, since the order of their times would be lost.
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
/// Within this, a burst has brought half as much media more than it took.
const CATCH_UP_SEEN: Duration = Duration::from_millis(500);
/// After so long it will not any more.
const CATCH_UP_MAX: Duration = Duration::from_secs(10);
/// What part of the time a burst gains.
const BURST_GAIN: u32 = 2;
/// What part of it a slow uplink gains.
const SLOW_GAIN: u32 = 8;
/// How long that is watched for: that part of it is more than jitter feigns.
const GAIN_SEEN: Duration = Duration::from_secs(2);
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
    backlog: Option<Backlog>,
    skip_left: MediaTime,
    last: Option<Instant>,
    /// Until when what comes is taken to belong to a burst.
    burst_until: Option<Instant>,
    keep_order: bool,
    held_until: Option<Instant>,
    holds: u64,
}

/// What a stall held up is still coming.
#[derive(Debug, Clone, Copy)]
struct Backlog {
    since: Instant,
    /// The lead of the first message after the stall, or the greatest before `since`.
    lead: MediaTime,
    /// The greatest lead so far.
    best: MediaTime,
    /// The lead of messages before the stall.
    usual: MediaTime,
    /// It gains less than a burst does.
    slow: bool,
}

impl Backlog {
    /// Goes on behind, as long as the publish gains: what it was moved by now could not be pressed
    /// together later, and would be its delay for good.
    fn go_on(mut self, now: Instant) -> Option<Self> {
        let seen = now.saturating_duration_since(self.since) >= GAIN_SEEN;
        if self.slow && !seen {
            return Some(self);
        }
        if !self.gains(SLOW_GAIN, now) {
            return None;
        }
        self.slow = !self.gains(BURST_GAIN, now);
        if seen {
            (self.since, self.lead) = (now, self.best);
        }
        Some(self)
    }

    /// Whether it gained the `fraction`th part of the time from `since` to `now`.
    fn gains(&self, fraction: u32, now: Instant) -> bool {
        let wanted = now
            .saturating_duration_since(self.since)
            .checked_div(fraction);
        let wanted = i64::try_from(wanted.unwrap_or_default().as_micros()).unwrap_or(i64::MAX);
        self.best.minus(self.lead).as_micros() >= wanted
    }
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            shift: MediaTime::ZERO,
            backlog: None,
            skip_left: SKIP_MAX,
            last: None,
            burst_until: None,
            keep_order: false,
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

    /// Whether what a stall held up is still coming, and so fast that its sound cannot be heard.
    pub(super) fn is_behind(&self) -> bool {
        self.backlog.is_some_and(|backlog| !backlog.slow)
    }

    /// The order of pictures' times must not change: nothing is pressed together.
    pub(super) fn keep_order(&mut self, keep: bool) {
        self.keep_order = keep;
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
            let usual = self.backlog.map_or(usual, |backlog| backlog.usual);
            self.backlog = Some(Backlog {
                since: now,
                lead,
                best: lead,
                usual,
                slow: false,
            });
            return None;
        }
        if let Some(backlog) = self.backlog {
            return self.catch_up(backlog, lead, now);
        }
        if lead <= AHEAD_MAX {
            return None;
        }
        if lead <= self.skip_left && !self.keep_order {
            self.skip_left = self.skip_left.minus(lead);
            return self.press(lead, now);
        }
        let micros = u64::try_from(lead.minus(AHEAD_MAX).as_micros()).unwrap_or_default();
        self.held_until = now.checked_add(Duration::from_micros(micros).min(HOLD_MAX));
        self.holds = self.holds.saturating_add(1);
        None
    }

    fn catch_up(
        &mut self,
        mut backlog: Backlog,
        lead: MediaTime,
        now: Instant,
    ) -> Option<MediaTime> {
        let behind = backlog.usual.minus(lead);
        if behind <= CAUGHT_UP {
            self.backlog = None;
            return None;
        }
        backlog.best = backlog.best.max(lead);
        let took = now.saturating_duration_since(backlog.since);
        let catches_up = took < CATCH_UP_SEEN || backlog.gains(BURST_GAIN, now);
        let is_burst = !backlog.slow && catches_up && took < CATCH_UP_MAX;
        self.backlog = match (is_burst, self.keep_order) {
            (true, _) => Some(backlog),
            (false, true) => backlog.go_on(now),
            (false, false) => None,
        };
        if self.backlog.is_some() {
            return None;
        }
        // It may still catch up slowly: that much is to be left out then.
        self.skip_left = self.skip_left.plus(behind);
        self.move_by(behind)
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
