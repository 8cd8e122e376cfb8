//! When a viewer's request for a keyframe is answered.
//!
//! RFC 4585 §6.3.1 (PLI), RFC 5104 §4.3.1 (FIR). The answer is the room's memory from its newest keyframe
//! on, at 40 Mbit/s: up to many times what the stream has. So who asks again and again is answered less
//! and less often.
//!
//! A browser that lost a picture for good asks every 200 ms until a keyframe comes. The first of these is
//! answered at once. The others cross the answer, or say that it was lost as well; then one of those that
//! follow is answered.

use std::time::{Duration, Instant};

/// Shortest time between two requests that are answered; it doubles with each …
const WAIT_FIRST: Duration = Duration::from_millis(500);
/// … up to this.
const WAIT_MAX: Duration = Duration::from_secs(4);
/// A request after so long is about another loss, and the time between them is the shortest again.
const FORGET_AFTER: Duration = Duration::from_secs(8);

/// The requests of one viewer.
#[derive(Debug)]
pub(super) struct KeyframeRequests {
    /// When one was answered last.
    last: Option<Instant>,
    /// How many were, since a keyframe came or none was asked for.
    answered: u32,
    /// Whether the last was answered by a burst that begins, or is under way.
    answering: bool,
}

impl KeyframeRequests {
    pub(super) fn new() -> Self {
        Self {
            last: None,
            answered: 0,
            answering: false,
        }
    }

    /// Whether a request is to be answered; `in_burst` tells that a burst is under way. What answers the
    /// last request is not begun anew: all it would bring is on its way. The burst of a join is: its first
    /// packets are lost where a player does not have its keys yet, and are then never asked for.
    pub(super) fn admit(&mut self, in_burst: bool, now: Instant) -> bool {
        if self.answering && in_burst {
            return false;
        }
        let since = self.last.map(|last| now.saturating_duration_since(last));
        if since.is_some_and(|since| since < self.wait()) {
            return false;
        }
        if since.is_some_and(|since| since >= FORGET_AFTER) {
            self.answered = 0;
        }
        self.answered = self.answered.saturating_add(1);
        self.last = Some(now);
        self.answering = true;
        true
    }

    /// Time from the last that was answered to the next.
    fn wait(&self) -> Duration {
        let doublings = self.answered.saturating_sub(1);
        let factor = 2_u32.saturating_pow(doublings);
        WAIT_FIRST.saturating_mul(factor).min(WAIT_MAX)
    }

    /// A burst is over.
    pub(super) fn burst_ended(&mut self) {
        self.answering = false;
    }

    /// A keyframe was sent that is new: what is asked for from now on is about it or later.
    pub(super) fn keyframe_sent(&mut self) {
        self.answered = 0;
    }
}
