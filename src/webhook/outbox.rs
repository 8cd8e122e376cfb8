//! Events that wait to be delivered: in order, in memory, bounded. Decides when to try, when to
//! try again and when to give up; sends nothing itself.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::event::WebhookEvent;
use crate::limits::{WEBHOOK_ATTEMPTS_MAX, WEBHOOK_OUTBOX_EVENTS_MAX, WEBHOOK_RETRY_FIRST};

/// Events in the order in which they happened. Only the oldest is ever due, so that a receiver
/// sees no end before its start.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: VecDeque<WebhookEvent>,
    /// Attempts made of the oldest.
    attempts: u32,
    /// When the oldest may be tried again.
    not_before: Option<Instant>,
    dropped: u64,
}

/// What there is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due<'a> {
    /// Send this event, then say [`Outbox::delivered`] or [`Outbox::failed`].
    Send(&'a WebhookEvent),
    /// Nothing before this moment.
    Wait(Instant),
    /// Nothing at all.
    Idle,
}

/// What follows a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is tried again at this moment.
    RetryAt(Instant),
    /// It is given up.
    GivenUp,
    /// It is not the event that was due (it was dropped meanwhile).
    Unknown,
}

/// What an HTTP status means for the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver has it.
    Delivered,
    /// Try again later.
    Failed,
    /// The receiver wants no such events (410): try no more.
    Refused,
}

impl Outcome {
    /// Of a response's status. Redirects are not followed and count as failed.
    #[must_use]
    pub fn of_status(status: u16) -> Self {
        /// Gone (RFC 9110 §15.5.11).
        const GONE: u16 = 410;
        match status {
            200..=299 => Self::Delivered,
            GONE => Self::Refused,
            _ => Self::Failed,
        }
    }
}

impl Outbox {
    /// An empty outbox.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends an event; beyond [`WEBHOOK_OUTBOX_EVENTS_MAX`] the oldest is dropped and counted.
    pub fn push(&mut self, event: WebhookEvent, _now: Instant) {
        if self.waiting.len() >= WEBHOOK_OUTBOX_EVENTS_MAX {
            self.remove_oldest();
            self.dropped = self.dropped.saturating_add(1);
        }
        self.waiting.push_back(event);
    }

    /// What there is to do now.
    #[must_use]
    pub fn next_due(&self, now: Instant) -> Due<'_> {
        match (self.waiting.front(), self.not_before) {
            (None, _) => Due::Idle,
            (Some(_), Some(later)) if later > now => Due::Wait(later),
            (Some(event), _) => Due::Send(event),
        }
    }

    /// The receiver has the event.
    pub fn delivered(&mut self, id: &str) {
        if self.is_oldest(id) {
            self.remove_oldest();
        }
    }

    /// The attempt failed: the event waits twice as long each time, or is given up and counted
    /// after [`WEBHOOK_ATTEMPTS_MAX`].
    pub fn failed(&mut self, id: &str, now: Instant) -> Verdict {
        if !self.is_oldest(id) {
            return Verdict::Unknown;
        }
        self.attempts = self.attempts.saturating_add(1);
        if self.attempts >= WEBHOOK_ATTEMPTS_MAX {
            return self.give_up();
        }
        let doublings = self.attempts.saturating_sub(1);
        let wait = WEBHOOK_RETRY_FIRST.saturating_mul(2_u32.saturating_pow(doublings));
        let later = now.checked_add(wait).unwrap_or(now);
        self.not_before = Some(later);
        Verdict::RetryAt(later)
    }

    /// The receiver refused the event for good: it is given up and counted.
    pub fn refused(&mut self, id: &str) -> Verdict {
        match self.is_oldest(id) {
            true => self.give_up(),
            false => Verdict::Unknown,
        }
    }

    /// Events that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Events given up or dropped since the start.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn is_oldest(&self, id: &str) -> bool {
        self.waiting.front().is_some_and(|event| event.id == id)
    }

    fn give_up(&mut self) -> Verdict {
        self.remove_oldest();
        self.dropped = self.dropped.saturating_add(1);
        Verdict::GivenUp
    }

    fn remove_oldest(&mut self) {
        self.waiting.pop_front();
        self.attempts = 0;
        self.not_before = None;
    }
}

/// Longest time that one event holds up the next, without the attempts' own time.
const HELD_UP_MAX: Duration = Duration::from_secs(60);
const _: () = assert!(
    WEBHOOK_RETRY_FIRST.as_secs() << (WEBHOOK_ATTEMPTS_MAX - 1) <= HELD_UP_MAX.as_secs(),
    "the retries of one event must end within a minute"
);

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        Instant::now()
    }

    #[test]
    fn events_come_out_in_the_order_they_went_in() {
        let (mut outbox, now) = (Outbox::new(), start());
        outbox.push(WebhookEvent::sample("a"), now);
        outbox.push(WebhookEvent::sample("b"), now);
        assert_eq!(outbox.next_due(now), Due::Send(&WebhookEvent::sample("a")));
        outbox.delivered("b");
        assert_eq!(outbox.next_due(now), Due::Send(&WebhookEvent::sample("a")));
        outbox.delivered("a");
        assert_eq!(outbox.next_due(now), Due::Send(&WebhookEvent::sample("b")));
        outbox.delivered("b");
        assert_eq!(outbox.next_due(now), Due::Idle);
        assert_eq!(outbox.dropped(), 0);
    }

    #[test]
    fn a_failing_event_is_tried_five_times_with_doubling_pauses_and_holds_up_the_next() {
        let (mut outbox, mut now) = (Outbox::new(), start());
        outbox.push(WebhookEvent::sample("a"), now);
        outbox.push(WebhookEvent::sample("b"), now);
        for seconds in [1, 2, 4, 8] {
            assert_eq!(outbox.next_due(now), Due::Send(&WebhookEvent::sample("a")));
            let later = now + Duration::from_secs(seconds);
            assert_eq!(outbox.failed("a", now), Verdict::RetryAt(later));
            assert_eq!(outbox.next_due(now), Due::Wait(later));
            now = later;
        }
        assert_eq!(outbox.failed("a", now), Verdict::GivenUp);
        assert_eq!(outbox.dropped(), 1);
        assert_eq!(outbox.next_due(now), Due::Send(&WebhookEvent::sample("b")));
        assert!(matches!(outbox.failed("b", now), Verdict::RetryAt(_)));
    }

    #[test]
    fn beyond_the_bound_the_oldest_is_dropped_even_while_it_is_being_sent() {
        let (mut outbox, now) = (Outbox::new(), start());
        for number in 0..WEBHOOK_OUTBOX_EVENTS_MAX {
            outbox.push(WebhookEvent::sample(&number.to_string()), now);
        }
        assert!(matches!(outbox.failed("0", now), Verdict::RetryAt(_)));
        outbox.push(WebhookEvent::sample("new"), now);
        assert_eq!(outbox.len(), WEBHOOK_OUTBOX_EVENTS_MAX);
        assert_eq!(outbox.dropped(), 1);
        assert_eq!(outbox.failed("0", now), Verdict::Unknown);
        assert_eq!(outbox.next_due(now), Due::Send(&WebhookEvent::sample("1")));
    }

    #[test]
    fn a_receiver_that_says_gone_gets_the_event_no_more() {
        let (mut outbox, now) = (Outbox::new(), start());
        outbox.push(WebhookEvent::sample("a"), now);
        assert_eq!(Outcome::of_status(410), Outcome::Refused);
        assert_eq!(outbox.refused("a"), Verdict::GivenUp);
        assert!(outbox.is_empty());
        assert_eq!(Outcome::of_status(204), Outcome::Delivered);
        for status in [199, 301, 404, 429, 500, 0] {
            assert_eq!(Outcome::of_status(status), Outcome::Failed);
        }
    }
}
