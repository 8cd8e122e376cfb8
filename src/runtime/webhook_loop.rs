//! The webhook thread: blocking, apart from everything that carries media.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ureq::Agent;
use ureq::config::Config as AgentConfig;
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};

use super::clock;
use super::mailbox::Mailbox;
use crate::media::time::Timebase;
use crate::metrics::WebhookCounters;
use crate::webhook::{Due, Outbox, Outcome, Verdict, WebhookEvent};

/// Time to reach the receiver.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Time for a whole delivery.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);
/// After the server stopped: time to deliver what is left.
const FLUSH_TIME: Duration = Duration::from_secs(3);

/// The webhook thread.
#[derive(Debug)]
pub struct WebhookLoop {
    url: String,
    inbox: Mailbox<WebhookEvent>,
    timebase: Timebase,
    agent: Agent,
    counters: Arc<WebhookCounters>,
}

impl WebhookLoop {
    /// A thread that posts what comes into `inbox` to `url`.
    #[must_use]
    pub fn new(
        url: String,
        inbox: Mailbox<WebhookEvent>,
        timebase: Timebase,
        counters: Arc<WebhookCounters>,
    ) -> Self {
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(RootCerts::PlatformVerifier)
            .build();
        let config = AgentConfig::builder()
            .tls_config(tls)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(DELIVERY_TIMEOUT))
            .max_redirects(0)
            .http_status_as_error(false)
            .user_agent(concat!("rtmpeer/", env!("CARGO_PKG_VERSION")))
            .build();
        Self {
            url,
            inbox,
            timebase,
            agent: Agent::new_with_config(config),
            counters,
        }
    }

    /// Delivers until all senders are gone, then what is left for a short time.
    pub fn run(self) {
        let mut outbox = Outbox::new();
        let mut stop_by: Option<Instant> = None;
        loop {
            let now = clock::now();
            self.count(&outbox);
            let due = match outbox.next_due(now) {
                Due::Send(event) => {
                    let event = event.clone();
                    self.attempt(&mut outbox, &event);
                    continue;
                }
                Due::Wait(at) => Some(at),
                Due::Idle => None,
            };
            match (due, stop_by) {
                (None, Some(_)) => return,
                (Some(at), Some(by)) if at > by => {
                    log::error!(
                        "webhooks not delivered before the stop count={}",
                        outbox.len()
                    );
                    return;
                }
                // Nothing more comes in: only the retry is waited for.
                (Some(at), Some(_)) => std::thread::park_timeout(at.duration_since(now)),
                (Some(at), None) => match self.inbox.wait_until(at) {
                    Ok(event) => outbox.push(event, clock::now()),
                    Err(ended) => stop_by = ended.then(|| clock::now() + FLUSH_TIME),
                },
                (None, None) => match self.inbox.wait() {
                    Some(event) => outbox.push(event, clock::now()),
                    None => stop_by = Some(clock::now() + FLUSH_TIME),
                },
            }
        }
    }

    fn count(&self, outbox: &Outbox) {
        self.counters.outbox.set_len(outbox.len());
        self.counters.dropped.set(outbox.dropped());
    }

    fn attempt(&self, outbox: &mut Outbox, event: &WebhookEvent) {
        let outcome = self.deliver(event);
        let now = clock::now();
        match outcome {
            Outcome::Delivered => {
                self.counters.delivered.inc();
                outbox.delivered(&event.id);
            }
            Outcome::Failed => {
                self.counters.failed.inc();
                if outbox.failed(&event.id, now) == Verdict::GivenUp {
                    log::error!("a webhook is given up event={}", event.id);
                }
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

    fn deliver(&self, event: &WebhookEvent) -> Outcome {
        let mut request = self.agent.post(&self.url);
        for (name, value) in event.headers(self.timebase.wall(clock::now())) {
            request = request.header(name, value);
        }
        match request.send(event.json()) {
            Ok(response) => {
                let outcome = Outcome::of_status(response.status().as_u16());
                if outcome != Outcome::Delivered {
                    log::warn!("a webhook got {} event={}", response.status(), event.id);
                }
                outcome
            }
            Err(error) => {
                log::warn!("a webhook was not delivered: {error} event={}", event.id);
                Outcome::Failed
            }
        }
    }
}
