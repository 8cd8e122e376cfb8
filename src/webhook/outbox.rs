//! Events that wait to be delivered: in order, in memory, bounded. Decides when to try, when to
//! try again and when to give up; sends nothing itself.

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use super::event::WebhookEvent;
use crate::limits::{
    WEBHOOK_KEPT_FOR, WEBHOOK_OUTBOX_EVENTS_MAX, WEBHOOK_RETRY_FIRST, WEBHOOK_RETRY_MAX,
};

/// Events in the order in which they happened. Of each room only the oldest is ever due, so that a
/// receiver sees no end before its start; an event that it does not take holds up no other room. Of
/// the rooms that are due, the one comes first whose event was not tried for the longest time.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: VecDeque<Waiting>,
    /// The first event that was not taken since the receiver was last there. The fault may be the
    /// event's own: only with a second one the receiver counts as away.
    suspect: Option<String>,
    /// Attempts of whatever event since then.
    failures: u32,
    /// When anything may be tried again: a receiver that is away is not asked for each room.
    not_before: Option<Instant>,
    dropped: u64,
}

/// An event that waits.
#[derive(Debug)]
struct Waiting {
    event: WebhookEvent,
    /// When it is given up if it fails.
    until: Instant,
    /// Attempts that failed.
    failures: u32,
    /// When it was last tried.
    tried: Option<Instant>,
    /// When it may be tried again.
    not_before: Option<Instant>,
}

/// What there is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due<'a> {
    /// Send this event, then say [`Outbox::delivered`], [`Outbox::failed`], [`Outbox::away`] or
    /// [`Outbox::refused`].
    Send(&'a WebhookEvent),
    /// Nothing before this moment.
    Wait(Instant),
    /// Nothing at all.
    Idle,
}

/// What follows a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is tried again at this moment, or after others that are due then.
    RetryAt(Instant),
    /// It is given up.
    GivenUp,
    /// It does not wait (it was dropped meanwhile).
    Unknown,
}

/// What an HTTP status means for the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver has it.
    Delivered,
    /// The receiver is there, but did not take this event: try again later.
    Failed,
    /// It gave no answer, or says that it can take nothing now: try again later.
    Away,
    /// The receiver wants no such events (410): try no more.
    Refused,
}

impl Outcome {
    /// Of a response's status. Redirects are not followed and count as failed. A request timeout, too
    /// many requests, and what is the server's fault (RFC 9110 §15.5.9, §15.6; RFC 6585 §4) are not
    /// about the event.
    #[must_use]
    pub fn of_status(status: u16) -> Self {
        /// Gone (RFC 9110 §15.5.11).
        const GONE: u16 = 410;
        match status {
            200..=299 => Self::Delivered,
            GONE => Self::Refused,
            408 | 429 | 500..=599 => Self::Away,
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
    pub fn push(&mut self, event: WebhookEvent, now: Instant) {
        if self.waiting.len() >= WEBHOOK_OUTBOX_EVENTS_MAX {
            self.waiting.pop_front();
            self.dropped = self.dropped.saturating_add(1);
        }
        self.waiting.push_back(Waiting {
            event,
            until: now.checked_add(WEBHOOK_KEPT_FOR).unwrap_or(now),
            failures: 0,
            tried: None,
            not_before: None,
        });
    }

    /// What there is to do now.
    #[must_use]
    pub fn next_due(&self, now: Instant) -> Due<'_> {
        let (mut rooms, mut first) = (BTreeSet::new(), None::<Instant>);
        let mut due: Option<&Waiting> = None;
        for waiting in &self.waiting {
            if !rooms.insert(&waiting.event.room) {
                continue;
            }
            // `None` is before every moment.
            match waiting.not_before.max(self.not_before) {
                Some(later) if later > now => {
                    first = Some(first.map_or(later, |first| first.min(later)));
                }
                Some(_) | None if due.is_none_or(|due| waiting.tried < due.tried) => {
                    due = Some(waiting);
                }
                Some(_) | None => {}
            }
        }
        match due {
            Some(due) => Due::Send(&due.event),
            None => first.map_or(Due::Idle, Due::Wait),
        }
    }

    /// The receiver has the event.
    pub fn delivered(&mut self, id: &str) {
        self.is_there();
        self.remove(id);
    }

    /// The attempt failed: the event waits twice as long each time, up to [`WEBHOOK_RETRY_MAX`], or
    /// is given up and counted after [`WEBHOOK_KEPT_FOR`].
    pub fn failed(&mut self, id: &str, now: Instant) -> Verdict {
        self.is_there();
        self.retry(id, now)
    }

    /// The same, because the receiver is away: if it is so for more than one event, no other is tried
    /// sooner.
    pub fn away(&mut self, id: &str, now: Instant) -> Verdict {
        let suspect = self.suspect.get_or_insert_with(|| id.to_owned());
        if self.failures > 0 || suspect.as_str() != id {
            self.failures = self.failures.saturating_add(1);
            self.not_before = later(now, self.failures);
        }
        self.retry(id, now)
    }

    fn retry(&mut self, id: &str, now: Instant) -> Verdict {
        let waiting = self.waiting.iter_mut().find(|w| w.event.id == id);
        let Some(waiting) = waiting else {
            return Verdict::Unknown;
        };
        if waiting.until <= now {
            return self.give_up(id);
        }
        waiting.failures = waiting.failures.saturating_add(1);
        waiting.tried = Some(now);
        waiting.not_before = later(now, waiting.failures);
        match waiting.not_before.max(self.not_before) {
            Some(at) => Verdict::RetryAt(at),
            None => Verdict::RetryAt(now),
        }
    }

    /// The receiver refused the event for good: it is given up and counted.
    pub fn refused(&mut self, id: &str) -> Verdict {
        self.is_there();
        self.give_up(id)
    }

    fn give_up(&mut self, id: &str) -> Verdict {
        if !self.remove(id) {
            return Verdict::Unknown;
        }
        self.dropped = self.dropped.saturating_add(1);
        Verdict::GivenUp
    }

    /// Lets everything be tried at once: there is little time left.
    pub fn hurry(&mut self) {
        self.is_there();
        for waiting in &mut self.waiting {
            waiting.failures = 0;
            waiting.not_before = None;
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

    /// The receiver answers.
    fn is_there(&mut self) {
        self.suspect = None;
        self.failures = 0;
        self.not_before = None;
    }

    /// `false`: it was dropped meanwhile.
    fn remove(&mut self, id: &str) -> bool {
        let at = self.waiting.iter().position(|w| w.event.id == id);
        at.and_then(|at| self.waiting.remove(at)).is_some()
    }
}

/// When to try again after so many failures in a row.
fn later(now: Instant, failures: u32) -> Option<Instant> {
    let doublings = failures.saturating_sub(1);
    let pause = WEBHOOK_RETRY_FIRST.saturating_mul(2_u32.saturating_pow(doublings));
    now.checked_add(pause.min(WEBHOOK_RETRY_MAX))
}

const _: () = assert!(WEBHOOK_RETRY_MAX.as_secs() < WEBHOOK_KEPT_FOR.as_secs());

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
        outbox.delivered("a");
        assert_eq!(outbox.next_due(now), Due::Send(&WebhookEvent::sample("b")));
        outbox.delivered("b");
        assert_eq!(outbox.next_due(now), Due::Idle);
        assert_eq!(outbox.dropped(), 0);
    }

    #[test]
    fn a_receiver_that_is_away_for_an_hour_gets_every_event_within_a_minute_of_its_return() {
        let (mut outbox, start) = (Outbox::new(), start());
        outbox.push(WebhookEvent::sample("started"), start);
        outbox.push(WebhookEvent::sample("ended"), start);
        let (mut now, mut pauses) = (start, Vec::new());
        while now < start + Duration::from_secs(3_600) {
            assert_eq!(
                outbox.next_due(now),
                Due::Send(&WebhookEvent::sample("started"))
            );
            let Verdict::RetryAt(later) = outbox.away("started", now) else {
                panic!("given up after {pauses:?}")
            };
            assert_eq!(outbox.next_due(now), Due::Wait(later));
            pauses.push((later - now).as_secs());
            now = later;
        }
        assert_eq!(pauses[..8], [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pauses.iter().max(), Some(&60));
        outbox.delivered("started");
        assert_eq!(
            outbox.next_due(now),
            Due::Send(&WebhookEvent::sample("ended"))
        );
        outbox.delivered("ended");
        assert_eq!((outbox.dropped(), outbox.len()), (0, 0));
    }

    #[test]
    fn an_event_that_is_not_taken_holds_up_its_own_room_only_and_is_given_up_after_three_days() {
        let (mut outbox, mut now) = (Outbox::new(), start());
        let given_up = now + WEBHOOK_KEPT_FOR;
        outbox.push(WebhookEvent::sample("bad"), now);
        outbox.push(WebhookEvent::sample("behind"), now);
        let (mut others, mut attempts) = (0, 0);
        while outbox.dropped() == 0 {
            let due = match outbox.next_due(now) {
                Due::Send(event) => event.id.clone(),
                Due::Wait(at) => {
                    // It comes in the midst of the pause, and need not wait for its end.
                    now = at - Duration::from_millis(100);
                    let other = WebhookEvent::sample_of("other", "elsewhere");
                    outbox.push(other, now);
                    continue;
                }
                Due::Idle => panic!("an event is forgotten"),
            };
            match due.as_str() {
                "bad" => {
                    attempts += 1;
                    outbox.failed("bad", now);
                }
                "other" => {
                    others += 1;
                    outbox.delivered("other");
                    now += Duration::from_millis(100);
                }
                _ => panic!("it overtook an event of its room"),
            }
        }
        assert!(now >= given_up && now <= given_up + WEBHOOK_RETRY_MAX);
        assert!(attempts > 4_000, "{attempts} attempts");
        assert!(others >= attempts - 1, "{others} of {attempts}");
        let behind = WebhookEvent::sample("behind");
        assert_eq!(outbox.next_due(now + WEBHOOK_RETRY_MAX), Due::Send(&behind));
    }

    #[test]
    fn an_event_that_is_answered_with_an_error_holds_up_its_own_room_only() {
        let (mut outbox, start) = (Outbox::new(), start());
        outbox.push(WebhookEvent::sample_of("bad", "a"), start);
        outbox.push(WebhookEvent::sample_of("behind", "a"), start);
        let (mut attempts, mut others) = (0, 0);
        for second in 0..3_600 {
            let now = start + Duration::from_secs(second);
            if second % 10 == 5 {
                outbox.push(WebhookEvent::sample_of("other", "b"), now);
            }
            while let Due::Send(event) = outbox.next_due(now) {
                match event.id.clone().as_str() {
                    "bad" => {
                        attempts += 1;
                        outbox.away("bad", now);
                    }
                    "other" => {
                        others += 1;
                        outbox.delivered("other");
                    }
                    _ => panic!("it overtook an event of its room"),
                }
            }
            assert_eq!(outbox.len(), 2, "another room's event waits at {second} s");
        }
        assert_eq!(others, 360);
        assert!((60..70).contains(&attempts), "{attempts} attempts");
    }

    #[test]
    fn rooms_are_tried_by_turns_until_one_event_is_taken() {
        let (mut outbox, mut now) = (Outbox::new(), start());
        for room in ["a", "b", "c"] {
            outbox.push(WebhookEvent::sample_of(room, room), now);
        }
        let mut tried = String::new();
        while tried.len() < 9 {
            match outbox.next_due(now) {
                Due::Send(event) => {
                    let id = event.id.clone();
                    tried.push_str(&id);
                    outbox.away(&id, now);
                }
                Due::Wait(at) => now = at,
                Due::Idle => panic!("an event is forgotten"),
            }
        }
        assert_eq!(tried, "abcabcabc");
        now += WEBHOOK_RETRY_MAX;
        outbox.delivered("a");
        let rest = ["b", "c"].map(|room| {
            let due = outbox.next_due(now);
            assert_eq!(due, Due::Send(&WebhookEvent::sample_of(room, room)));
            outbox.delivered(room);
        });
        assert!(rest.len() == 2 && outbox.is_empty());
    }

    #[test]
    fn a_receiver_that_is_away_is_asked_once_a_minute_and_not_for_each_room() {
        let (mut outbox, start) = (Outbox::new(), start());
        for room in 0..100 {
            let name = room.to_string();
            outbox.push(WebhookEvent::sample_of(&name, &name), start);
        }
        let (mut now, mut attempts) = (start, 0);
        while now < start + Duration::from_secs(3_600) {
            let id = match outbox.next_due(now) {
                Due::Send(event) => event.id.clone(),
                Due::Wait(at) => {
                    now = at;
                    continue;
                }
                Due::Idle => panic!("an event is forgotten"),
            };
            attempts += 1;
            outbox.away(&id, now);
        }
        assert!(attempts < 70, "{attempts} attempts in an hour");
        outbox.hurry();
        assert!(matches!(outbox.next_due(now), Due::Send(_)));
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
        let later = now + WEBHOOK_RETRY_MAX;
        assert_eq!(
            outbox.next_due(later),
            Due::Send(&WebhookEvent::sample("1"))
        );
    }

    #[test]
    fn a_receiver_that_says_gone_gets_the_event_no_more() {
        let (mut outbox, now) = (Outbox::new(), start());
        outbox.push(WebhookEvent::sample("a"), now);
        assert_eq!(Outcome::of_status(410), Outcome::Refused);
        assert_eq!(outbox.refused("a"), Verdict::GivenUp);
        assert!(outbox.is_empty());
        assert_eq!(Outcome::of_status(204), Outcome::Delivered);
        for status in [199, 301, 404, 0] {
            assert_eq!(Outcome::of_status(status), Outcome::Failed);
        }
        for status in [408, 429, 500, 503, 599] {
            assert_eq!(Outcome::of_status(status), Outcome::Away);
        }
    }
}
