//! What the webhook is told: in each room, starts and ends in turn, in pairs.

use std::collections::{BTreeMap, BTreeSet};

use rtmpeer::ids::Epoch;
use rtmpeer::webhook::{EventKind, WebhookEvent};

/// The events so far.
#[derive(Debug, Default)]
pub struct Webhooks {
    open: BTreeMap<String, (String, Epoch)>,
    /// Of those that started, in whatever order: a start event waits for what it says.
    epochs: BTreeSet<Epoch>,
    /// How many publishes began, and how each ended.
    pub started: u32,
    /// See `started`.
    pub ended: BTreeMap<&'static str, u32>,
}

impl Webhooks {
    /// Takes an event; `true` if a stream ended.
    pub fn take(&mut self, event: &WebhookEvent) -> bool {
        let room = event.room.to_string();
        match &event.kind {
            EventKind::StreamStarted { .. } => {
                let begun = (event.session.clone(), event.epoch);
                let before = self.open.insert(room, begun);
                assert!(before.is_none(), "{} started twice: {before:?}", event.room);
                assert!(self.epochs.insert(event.epoch), "an epoch came again");
                self.started += 1;
                false
            }
            EventKind::StreamEnded { reason, .. } => {
                let begun = self.open.remove(&room);
                let same = Some((event.session.clone(), event.epoch));
                assert_eq!(begun, same, "{} ended, but not as it started", event.room);
                *self.ended.entry(*reason).or_default() += 1;
                true
            }
        }
    }

    /// Whether every start has its end.
    pub fn is_settled(&self) -> bool {
        self.open.is_empty()
    }
}
