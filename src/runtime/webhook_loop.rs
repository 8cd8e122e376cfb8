//! The webhook thread: blocking, apart from everything that carries media.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ureq::Agent;
use ureq::config::Config as AgentConfig;
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};

use super::clock;
use super::mailbox::{Mailbox, Postbox};
use crate::ids::Secret;
use crate::metrics::{ControlCounters, WebhookCounters};
use crate::webhook::{Due, Outbox, Outcome, Verdict, WebhookEvent};

/// Time to reach the receiver.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Time for a whole delivery.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);
/// After the server stopped: time to deliver what is left.
const FLUSH_TIME: Duration = Duration::from_secs(3);
/// Between two lines on the log that say the same of a receiver.
const LINE_INTERVAL: Duration = Duration::from_secs(60);

/// Gives an event of control's to the webhook thread. One that finds no place is lost, and counted
/// with those that the thread itself gives up.
pub(super) fn post_event(
    webhooks: &Postbox<WebhookEvent>,
    event: WebhookEvent,
    counters: &ControlCounters,
) {
    if webhooks.post(event).is_err() {
        counters.mailbox_drops.inc();
        counters.webhooks_lost.inc();
        log::error!("the webhook queue is full: an event is lost");
    }
}

/// The webhook thread.
#[derive(Debug)]
pub struct WebhookLoop {
    /// May hold a token.
    url: Secret,
    inbox: Mailbox<WebhookEvent>,
    agent: Agent,
    counters: Arc<WebhookCounters>,
    /// Attempts that failed, for the log.
    failures: Seldom,
    /// Events that found no room, for the log.
    losses: Seldom,
}

impl WebhookLoop {
    /// A thread that posts what comes into `inbox` to `url`.
    #[must_use]
    pub fn new(url: String, inbox: Mailbox<WebhookEvent>, counters: Arc<WebhookCounters>) -> Self {
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(RootCerts::PlatformVerifier)
            .build();
        let config = AgentConfig::builder()
            .tls_config(tls)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .max_redirects(0)
            .http_status_as_error(false)
            .user_agent(concat!("rtmpeer/", env!("CARGO_PKG_VERSION")))
            .build();
        Self {
            url: Secret::new(url),
            inbox,
            agent: Agent::new_with_config(config),
            counters,
            failures: Seldom::default(),
            losses: Seldom::default(),
        }
    }

    /// Delivers until all senders are gone, then what is left for a short time.
    pub fn run(mut self) {
        let mut outbox = Outbox::new();
        let mut stop_by: Option<Instant> = None;
        loop {
            let ended = self.take_mail(&mut outbox);
            let now = clock::now();
            if ended && stop_by.is_none() {
                stop_by = Some(now + FLUSH_TIME);
                // The receiver may be back, and a pause may be longer than the time that is left.
                outbox.hurry();
            }
            self.count(&outbox);
            match next_step(&outbox, stop_by, now) {
                Step::Deliver(event) => {
                    let left = stop_by.map(|by| by.saturating_duration_since(now));
                    let timeout = left.map_or(DELIVERY_TIMEOUT, |left| left.min(DELIVERY_TIMEOUT));
                    self.attempt(&mut outbox, &event, timeout);
                }
                // Nothing more comes in: only the retry is waited for.
                Step::Pause(at) => std::thread::park_timeout(at.saturating_duration_since(now)),
                Step::Wait(until) => {
                    let event = match until {
                        Some(at) => self.inbox.wait_until(at).ok(),
                        None => self.inbox.wait(),
                    };
                    if let Some(event) = event {
                        self.push(&mut outbox, event, clock::now());
                    }
                }
                Step::End => {
                    if !outbox.is_empty() {
                        let count = outbox.len();
                        log::error!("webhooks not delivered before the stop count={count}");
                    }
                    return;
                }
            }
        }
    }

    /// Moves what has come into the outbox. `true`: nothing more will come.
    fn take_mail(&mut self, outbox: &mut Outbox) -> bool {
        loop {
            let now = clock::now();
            match self.inbox.wait_until(now) {
                Ok(event) => self.push(outbox, event, now),
                Err(ended) => return ended,
            }
        }
    }

    fn push(&mut self, outbox: &mut Outbox, event: WebhookEvent, now: Instant) {
        let before = outbox.dropped();
        outbox.push(event, now);
        if outbox.dropped() > before
            && let Some(left_out) = self.losses.admit(now)
        {
            let waiting = outbox.len();
            log::error!("a webhook is lost: too many wait waiting={waiting}{left_out}");
        }
    }

    fn count(&self, outbox: &Outbox) {
        self.counters.outbox.set_len(outbox.len());
        self.counters.dropped.set(outbox.dropped());
    }

    fn attempt(&mut self, outbox: &mut Outbox, event: &WebhookEvent, timeout: Duration) {
        let (outcome, why) = self.deliver(event, timeout);
        let now = clock::now();
        if let Some(why) = why
            && let Some(left_out) = self.failures.admit(now)
        {
            let (id, waiting) = (&event.id, outbox.len());
            log::warn!("a webhook {why} event={id} waiting={waiting}{left_out}");
        }
        match outcome {
            Outcome::Delivered => {
                self.counters.delivered.inc();
                outbox.delivered(&event.id);
            }
            Outcome::Failed => {
                self.counters.failed.inc();
                tell_if_lost(outbox.failed(&event.id, now), event);
            }
            Outcome::Away => {
                self.counters.failed.inc();
                tell_if_lost(outbox.away(&event.id, now), event);
            }
            Outcome::Refused => {
                self.counters.failed.inc();
                log::warn!(
                    "the webhook receiver wants no such events (410) event={}",
                    event.id
                );
                outbox.refused(&event.id);
            }
        }
    }

    /// What came of an attempt, and what is to be said of it if it failed.
    fn deliver(&self, event: &WebhookEvent, timeout: Duration) -> (Outcome, Option<String>) {
        let request = self.agent.post(self.url.expose());
        let mut request = request.config().timeout_global(Some(timeout)).build();
        for (name, value) in event.headers(clock::system_time()) {
            request = request.header(name, value);
        }
        match request.send(event.json()) {
            Ok(response) => {
                let outcome = Outcome::of_status(response.status().as_u16());
                let why = format!("got {}", response.status());
                (outcome, (outcome != Outcome::Delivered).then_some(why))
            }
            Err(error) => {
                let why = format!("was not delivered: {}", in_words(&error));
                (Outcome::Away, Some(why))
            }
        }
    }
}

/// Lines of one kind for the log: one in a while, with the count of those left out.
#[derive(Debug, Default)]
struct Seldom {
    last: Option<Instant>,
    left_out: u64,
}

impl Seldom {
    /// What belongs behind the line, if one may be written at `now`.
    fn admit(&mut self, now: Instant) -> Option<String> {
        let age = |last| now.saturating_duration_since(last);
        if self.last.is_some_and(|last| age(last) < LINE_INTERVAL) {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        self.last = Some(now);
        Some(match std::mem::take(&mut self.left_out) {
            0 => String::new(),
            lines => format!(" lines_left_out={lines}"),
        })
    }
}

fn tell_if_lost(verdict: Verdict, event: &WebhookEvent) {
    match verdict {
        Verdict::GivenUp => log::error!("a webhook is given up event={}", event.id),
        Verdict::RetryAt(_) | Verdict::Unknown => {}
    }
}

/// What the thread does next.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Tries to deliver this event.
    Deliver(WebhookEvent),
    /// Waits for an event, until a moment if there is one.
    Wait(Option<Instant>),
    /// Waits for a moment and for nothing else.
    Pause(Instant),
    /// Ends, whatever is left.
    End,
}

/// `stop_by`: the server has stopped, and does not wait for longer than that.
fn next_step(outbox: &Outbox, stop_by: Option<Instant>, now: Instant) -> Step {
    match (outbox.next_due(now), stop_by) {
        (Due::Idle, Some(_)) => Step::End,
        // A receiver that takes its time gets no more of ours.
        (Due::Send(_) | Due::Wait(_), Some(by)) if by <= now => Step::End,
        (Due::Wait(at), Some(by)) if at > by => Step::End,
        (Due::Send(event), _) => Step::Deliver(event.clone()),
        (Due::Wait(at), Some(_)) => Step::Pause(at),
        (Due::Wait(at), None) => Step::Wait(Some(at)),
        (Due::Idle, None) => Step::Wait(None),
    }
}

/// An error for the log. What is said of the URL is left out: it may hold a token.
fn in_words(error: &ureq::Error) -> String {
    if matches!(error, ureq::Error::BadUri(_)) {
        return "webhook.url cannot be used: it names no host".to_owned();
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::counters::SampleValue;

    #[test]
    fn a_slow_receiver_does_not_hold_up_the_stop_of_the_server() {
        let (mut outbox, now) = (Outbox::new(), clock::now());
        for id in ["a", "b", "c"] {
            outbox.push(WebhookEvent::sample(id), now);
        }
        let by = now + FLUSH_TIME;
        assert_eq!(
            next_step(&outbox, Some(by), now),
            Step::Deliver(WebhookEvent::sample("a"))
        );
        // It took it, after nine seconds.
        outbox.delivered("a");
        let late = now + Duration::from_secs(9);
        assert_eq!(next_step(&outbox, Some(by), late), Step::End);
        assert_eq!(
            next_step(&outbox, None, late),
            Step::Deliver(WebhookEvent::sample("b"))
        );
    }

    #[test]
    fn retries_are_waited_for_as_long_as_the_server_waits() {
        let (mut outbox, now) = (Outbox::new(), clock::now());
        assert_eq!(next_step(&outbox, None, now), Step::Wait(None));
        assert_eq!(next_step(&outbox, Some(now), now), Step::End);
        outbox.push(WebhookEvent::sample("a"), now);
        outbox.away("a", now);
        let again = now + Duration::from_secs(1);
        assert_eq!(next_step(&outbox, None, now), Step::Wait(Some(again)));
        let by = now + FLUSH_TIME;
        assert_eq!(next_step(&outbox, Some(by), now), Step::Pause(again));
        let too_soon = now + Duration::from_millis(900);
        assert_eq!(next_step(&outbox, Some(too_soon), now), Step::End);
    }

    #[test]
    fn a_receiver_that_is_away_for_long_fills_no_log() {
        let (mut lines, start, mut told) = (Seldom::default(), clock::now(), Vec::new());
        for seconds in 0..=120 {
            told.extend(lines.admit(start + Duration::from_secs(seconds)));
        }
        assert_eq!(told, ["", " lines_left_out=59", " lines_left_out=59"]);
    }

    #[test]
    fn an_event_that_does_not_reach_the_thread_is_counted_as_dropped() {
        let counters = ControlCounters::default();
        let dropped = |counters: &ControlCounters| {
            let samples = counters.samples();
            let of_drops = samples
                .iter()
                .filter(|sample| sample.metric.name == "rtmpeer_webhook_dropped_total");
            let values = of_drops.map(|sample| match sample.value {
                SampleValue::Number(number) => number,
                SampleValue::Histogram(_) => panic!("it is a number"),
            });
            values.sum::<u64>()
        };
        let (postbox, _inbox) = super::super::mailbox::mailbox(1, None);
        post_event(&postbox, WebhookEvent::sample("a"), &counters);
        assert_eq!(dropped(&counters), 0);
        post_event(&postbox, WebhookEvent::sample("lost"), &counters);
        assert_eq!(dropped(&counters), 1);
    }

    #[test]
    fn the_url_is_in_no_line_of_the_log() {
        let url = "http:///hook?token=SECRET".to_owned();
        let error = ureq::Error::BadUri(format!("{url} is missing host"));
        assert!(!in_words(&error).contains("SECRET"));
        let (_, inbox) = super::super::mailbox::mailbox(1, None);
        let webhooks = WebhookLoop::new(url, inbox, Arc::default());
        assert!(!format!("{webhooks:?}").contains("SECRET"));
    }
}
