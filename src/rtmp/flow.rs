//! How much and how often: acknowledgements (Adobe RTMP 1.0 §5.4.3, §5.4.4) and the number of
//! commands a publisher may send.

use std::time::Instant;

use super::error::RtmpError;
use crate::limits::{
    RTMP_ACK_WINDOW_BYTES, RTMP_ACK_WINDOW_BYTES_MAX, RTMP_ACK_WINDOW_BYTES_MIN,
    RTMP_COMMANDS_BEFORE_PUBLISH_MAX, RTMP_COMMANDS_PER_SECOND_MAX, RTMP_LATE_ACK_AFTER,
};

/// Counts received bytes and says when to acknowledge them.
#[derive(Debug)]
pub(super) struct Acknowledger {
    /// Bytes received, modulo 2^32 as the wire has it.
    total: u32,
    since_last: u64,
    window: u32,
    /// Whether acknowledgements wait until nothing comes any more.
    is_late: bool,
    /// Whether they wait until all that came was read.
    waits_for_drain: bool,
    /// When the last bytes came, if one waits.
    owed_since: Option<Instant>,
}

impl Acknowledger {
    pub(super) fn new() -> Self {
        Self {
            total: 0,
            since_last: 0,
            window: RTMP_ACK_WINDOW_BYTES,
            is_late: false,
            waits_for_drain: false,
            owed_since: None,
        }
    }

    /// Acknowledges from here on only when nothing comes any more.
    pub(super) fn be_late(&mut self) {
        self.is_late = true;
    }

    /// Acknowledges from here on only what [`Self::take_drained`] asks for, or when nothing comes.
    pub(super) fn wait_for_drain(&mut self) {
        self.waits_for_drain = true;
    }

    /// The sequence number to acknowledge now that all that came was read, if one waits for that.
    pub(super) fn take_drained(&mut self) -> Option<u32> {
        if self.is_late {
            return None;
        }
        self.owed_since.take().map(|_| self.total)
    }

    /// Bytes came, or nobody looked whether some did.
    pub(super) fn heard(&mut self, now: Instant) {
        if let Some(since) = &mut self.owed_since {
            *since = now;
        }
    }

    /// When to send what waits, if something does.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.owed_since?.checked_add(RTMP_LATE_ACK_AFTER)
    }

    /// The sequence number to acknowledge late, if it is time.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<u32> {
        self.due_at().filter(|at| *at <= now)?;
        self.owed_since = None;
        Some(self.total)
    }

    /// Takes the window that the publisher asked for, within our bounds.
    pub(super) fn set_window(&mut self, bytes: u32) {
        self.window = bytes.clamp(RTMP_ACK_WINDOW_BYTES_MIN, RTMP_ACK_WINDOW_BYTES_MAX);
    }

    /// Counts one read, of `now`. Returns the sequence number to acknowledge, if it is time: after
    /// half a window, since some encoders stop sending at a whole one.
    pub(super) fn received(&mut self, bytes: usize, now: Instant) -> Option<u32> {
        let bytes = bytes as u64;
        let wrapped = u32::try_from(bytes & u64::from(u32::MAX)).unwrap_or_default();
        self.total = self.total.wrapping_add(wrapped);
        self.since_last = self.since_last.saturating_add(bytes);
        if self.since_last < u64::from(self.window / 2) {
            return None;
        }
        self.since_last = 0;
        if self.is_late || self.waits_for_drain {
            self.owed_since = Some(now);
            return None;
        }
        Some(self.total)
    }
}

/// How many commands a publisher may still send.
#[derive(Debug)]
pub(super) enum CommandBudget {
    /// Before the first accepted publish: so many in all.
    Setup { left: u32 },
    /// After it: so many at once, refilled with time.
    Rate { left: u32, refilled: Instant },
}

impl CommandBudget {
    pub(super) fn new() -> Self {
        Self::Setup {
            left: RTMP_COMMANDS_BEFORE_PUBLISH_MAX,
        }
    }

    /// A publish was accepted: from now on the rate counts.
    pub(super) fn accepted(&mut self, now: Instant) {
        if let Self::Setup { .. } = self {
            *self = Self::Rate {
                left: RTMP_COMMANDS_PER_SECOND_MAX,
                refilled: now,
            };
        }
    }

    /// Spends one command.
    pub(super) fn spend(&mut self, now: Instant) -> Result<(), RtmpError> {
        let left = match self {
            Self::Setup { left } => left,
            Self::Rate { left, refilled } => {
                let elapsed = now.saturating_duration_since(*refilled).as_millis();
                let earned =
                    elapsed.saturating_mul(u128::from(RTMP_COMMANDS_PER_SECOND_MAX)) / 1_000;
                if earned > 0 {
                    let earned = u32::try_from(earned).unwrap_or(u32::MAX);
                    *left = left
                        .saturating_add(earned)
                        .min(RTMP_COMMANDS_PER_SECOND_MAX);
                    *refilled = now;
                }
                left
            }
        };
        *left = left.checked_sub(1).ok_or(RtmpError::TooManyCommands)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn now() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let now = Instant::now();
        now
    }

    #[test]
    fn acknowledgement_carries_the_running_total_and_wraps_at_32_bits() {
        let (mut acknowledger, now) = (Acknowledger::new(), now());
        acknowledger.set_window(1_000_000);
        acknowledger.total = u32::MAX - 499_999;
        assert_eq!(acknowledger.received(499_999, now), None);
        assert_eq!(acknowledger.received(1, now), Some(0));
        assert_eq!(acknowledger.received(500_000, now), Some(500_000));
        assert_eq!(acknowledger.received(700_000, now), Some(1_200_000));
    }

    #[test]
    fn acknowledgements_come_at_half_a_window_and_tiny_windows_are_widened() {
        let now = now();
        for asked in [0, 1, 65_536] {
            let mut acknowledger = Acknowledger::new();
            acknowledger.set_window(asked);
            assert_eq!(acknowledger.received(32_767, now), None);
            assert_eq!(acknowledger.received(1, now), Some(32_768));
        }
        for asked in [1 << 31, u32::MAX] {
            let mut acknowledger = Acknowledger::new();
            acknowledger.set_window(asked);
            assert_eq!(acknowledger.received(8 * 1_024 * 1_024 - 1, now), None);
            assert!(acknowledger.received(1, now).is_some());
        }
    }

    #[test]
    fn acknowledgement_waits_until_all_that_came_was_read() {
        let (mut acknowledger, now) = (Acknowledger::new(), now());
        acknowledger.set_window(100_000);
        acknowledger.wait_for_drain();
        assert_eq!(acknowledger.received(60_000, now), None);
        assert_eq!(acknowledger.received(60_000, now), None);
        assert_eq!(acknowledger.take_drained(), Some(120_000));
        assert_eq!(acknowledger.take_drained(), None);
        assert_eq!(acknowledger.received(60_000, now), None);
        acknowledger.be_late();
        assert_eq!(acknowledger.take_drained(), None, "it is ahead");
        let later = now + RTMP_LATE_ACK_AFTER;
        assert_eq!(acknowledger.take_due(later), Some(180_000));
    }

    #[test]
    fn a_late_acknowledgement_waits_until_nothing_comes() {
        let (mut acknowledger, start) = (Acknowledger::new(), now());
        let at = |ms| start + Duration::from_millis(ms);
        acknowledger.set_window(100_000);
        acknowledger.be_late();
        assert_eq!(acknowledger.received(60_000, start), None);
        acknowledger.heard(at(400));
        assert_eq!(acknowledger.received(10_000, at(400)), None);
        assert_eq!(acknowledger.due_at(), Some(at(900)));
        assert_eq!(acknowledger.take_due(at(899)), None);
        assert_eq!(acknowledger.take_due(at(900)), Some(70_000));
        assert_eq!(
            (acknowledger.due_at(), acknowledger.take_due(at(9_000))),
            (None, None)
        );
    }

    #[test]
    fn command_budget_is_a_number_first_and_a_rate_after_the_first_publish() {
        let start = now();
        let mut budget = CommandBudget::new();
        for _ in 0..RTMP_COMMANDS_BEFORE_PUBLISH_MAX {
            budget.spend(start + Duration::from_secs(100)).unwrap();
        }
        let now = start + Duration::from_secs(200);
        assert_eq!(budget.spend(now), Err(RtmpError::TooManyCommands));
        budget.accepted(now);
        for _ in 0..RTMP_COMMANDS_PER_SECOND_MAX {
            budget.spend(now).unwrap();
        }
        assert_eq!(budget.spend(now), Err(RtmpError::TooManyCommands));
        let later = now + Duration::from_millis(100);
        budget.spend(later).unwrap();
        assert_eq!(budget.spend(later), Err(RtmpError::TooManyCommands));
    }
}
