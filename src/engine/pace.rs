//! What the server's clock and the verdict mean for a publisher's connection: one that is ahead
//! waits, and one may be told what to change.

use std::time::Instant;

use super::Engine;
use super::publishers::Publisher;
use crate::ids::PublisherId;
use crate::media::verdict::{Severity, Verdict};

/// `code` of the `onStatus` that tells a publisher what to change.
const NOTICE_CODE: &str = "NetStream.Publish.Notice";

impl Publisher {
    /// When its next message is to be taken, if not now.
    pub(super) fn resume_at(&self, now: Instant) -> Option<Instant> {
        let publish = self.publish.as_ref().filter(|_| !self.hurry);
        publish?.ingest.resume_at(now)
    }
}

impl Engine {
    /// Says whether publishers are told by `onStatus` what to change. Encoders of librtmp and
    /// ffmpeg pass over it; others may take a code that they do not know for a refusal.
    pub fn set_notices(&mut self, notices: bool) {
        self.notices = notices;
    }

    /// Whether nothing is to be read from a publisher for now: it is ahead of the clock, and what
    /// was read waits already. To be asked after [`Self::poll_output`] said `Timeout`.
    #[must_use]
    pub fn is_held(&self, publisher: PublisherId) -> bool {
        self.publishers
            .get(&publisher)
            .is_some_and(|state| state.held)
    }

    /// Time passed in which nothing was read of a publisher because it is held: it is not silent.
    pub(super) fn keep_held_alive(&mut self, publisher: PublisherId, now: Instant) {
        if !self.is_held(publisher) {
            return;
        }
        self.with_session(publisher, |session| session.keep_alive(now));
        let state = self.publishers.get(&publisher);
        if state.is_some_and(|state| !state.session.is_closed()) {
            self.publisher_heard(publisher, now);
        }
    }

    /// Tells the publisher itself what it should change, each thing once.
    pub(super) fn notify_publisher(&mut self, publisher: PublisherId, verdict: &Verdict) {
        if !self.notices {
            return;
        }
        // One that sends ahead may have closed already, and what is written then would cost us the
        // rest of what it sent.
        if verdict.figures.holds > 0 {
            return;
        }
        let Some(state) = self.publishers.get_mut(&publisher) else {
            return;
        };
        let Some(publish) = &mut state.publish else {
            return;
        };
        for item in &verdict.items {
            if item.severity > Severity::Info && publish.notified.insert(item.code) {
                state.session.notify(NOTICE_CODE, &item.to_string());
            }
        }
    }
}
