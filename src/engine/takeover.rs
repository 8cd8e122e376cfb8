//! A publisher that another would replace: it stays if it still sends, and goes if it is silent, as
//! the connection of an encoder is whose network or power failed.

use std::time::{Duration, Instant};

use super::{Engine, Timer};
use crate::ids::PublisherId;
use crate::messages::{ControlMsg, PublishEnd};

impl Engine {
    /// Control has another publisher for this one's room. Its next byte makes it stay; without one
    /// until `silence` after its last one it goes.
    pub(super) fn question_publisher(&mut self, publisher: PublisherId, silence: Duration) {
        if self
            .publishers
            .get(&publisher)
            .is_some_and(|state| state.ending.is_some())
        {
            self.end_ending(publisher);
            return;
        }
        // If it is gone already, control has been told.
        if let Some(state) = self.publishers.get_mut(&publisher) {
            if state.held {
                // It sent so much that it is not read now: silent are we.
                self.control(ControlMsg::PublisherAlive { publisher });
                return;
            }
            state.questioned = true;
            let until = state.heard.checked_add(silence).unwrap_or(state.heard);
            self.deadlines.set(Timer::Question(publisher), until);
        }
    }

    /// Bytes came from a publisher.
    pub(super) fn publisher_heard(&mut self, publisher: PublisherId, now: Instant) {
        let Some(state) = self.publishers.get_mut(&publisher) else {
            return;
        };
        state.heard = now;
        if std::mem::take(&mut state.questioned) {
            self.deadlines.remove(Timer::Question(publisher));
            self.control(ControlMsg::PublisherAlive { publisher });
        }
    }

    /// A questioned publisher stayed silent.
    pub(super) fn question_unanswered(&mut self, publisher: PublisherId) {
        let questioned = |state: &super::Publisher| state.questioned;
        if self.publishers.get(&publisher).is_some_and(questioned) {
            log::info!("publisher is silent and another takes its room publisher={publisher}");
            self.forget_publisher(publisher, PublishEnd::Idle);
        }
    }
}
