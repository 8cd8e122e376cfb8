//! The webhook thread: blocking, apart from everything that carries media.

use std::time::{Duration, Instant};

use ureq::Agent;
use ureq::config::Config as AgentConfig;
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};

use super::clock;
use super::mailbox::Mailbox;
use crate::media::time::Timebase;
use crate::webhook::{Outbox, WebhookEvent};

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
}

impl WebhookLoop {
    /// A thread that posts what comes into `inbox` to `url`.
    #[must_use]
    pub fn new(url: String, inbox: Mailbox<WebhookEvent>, timebase: Timebase) -> Self {
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
        Self { url, inbox, timebase, agent: Agent::new_with_config(config) }
    }

    /// Delivers until all senders are gone, then what is left for a short time.
    pub fn run(self) {
        let mut outbox = Outbox::new();
        let mut stop_by: Option<Instant> = None;
        loop {
            let now = clock::now();
            self.deliver_due(&mut outbox, now);
            if outbox.is_empty() && stop_by.is_some() {
                return;
            }
            if stop_by.is_some_and(|by| now >= by) {
                log::error!("webhooks not delivered before the stop count={}", outbox.len());
                return;
            }
            let due = outbox.next_due(now);
            match (due, stop_by) {
                (Some(at), Some(by)) => {
                    // Nothing more comes in: wait for the retry, but not past the end.
                    if at > by {
                        stop_by = Some(now);
                    } else {
                        std::thread::park_timeout(at.saturating_duration_since(now));
                    }
                }
                (Some(at), None) => match self.inbox.wait_until(at) {
                    Ok(event) => outbox.push(event, clock::now()),
                    Err(ended) => stop_by = ended.then(|| clock::now() + FLUSH_TIME),
                },
                (None, None) => match self.inbox.wait() {
                    Some(event) => outbox.push(event, clock::now()),
                    None => stop_by = Some(clock::now() + FLUSH_TIME),
                },
                (None, Some(_)) => return,
            }
        }
    }

    fn deliver_due(&self, outbox: &mut Outbox, now: Instant) {
        while let Some(event) = outbox.due(now) {
            match self.deliver(&event) {
                Ok(()) => outbox.delivered(&event.id),
                Err(error) => {
                    log::warn!("webhook not delivered: {error} event={}", event.id);
                    outbox.failed(&event.id, clock::now());
                    return;
                }
            }
        }
    }

    fn deliver(&self, event: &WebhookEvent) -> Result<(), String> {
        let timestamp = self.timebase.wall(clock::now()).as_secs();
        let response = self
            .agent
            .post(&self.url)
            .header("Content-Type", "application/json")
            .header("webhook-id", &event.id)
            .header("webhook-timestamp", timestamp.to_string())
            .send(event.to_json())
            .map_err(|error| error.to_string())?;
        let status = response.status();
        if status.is_success() { Ok(()) } else { Err(format!("the receiver said {status}")) }
    }
}
