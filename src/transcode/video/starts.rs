//! How often children may be started for a publish: several at once, so that an encoder that changes
//! its configuration a few times is served at once, and then one now and then, so that one that
//! never stops changing costs the server no process for each change.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::ids::PublisherId;
use crate::limits::{VIDEO_START_INTERVAL, VIDEO_STARTS_MAX};

/// What is left to each publish. It outlives a stream, which a publisher can end and begin anew.
#[derive(Debug, Default)]
pub(super) struct Starts {
    /// When a publish will have all its starts again.
    whole_at: BTreeMap<PublisherId, Instant>,
}

impl Starts {
    /// Takes one of a publish's starts; `false`: none is left for now.
    pub(super) fn take(&mut self, publisher: PublisherId, now: Instant) -> bool {
        self.whole_at.retain(|_, whole_at| *whole_at > now);
        let whole_at = self.whole_at.get(&publisher).copied().unwrap_or(now);
        let next = whole_at + VIDEO_START_INTERVAL;
        let is_left =
            next.saturating_duration_since(now) <= VIDEO_START_INTERVAL * VIDEO_STARTS_MAX;
        if is_left {
            self.whole_at.insert(publisher, next);
        }
        is_left
    }
}
