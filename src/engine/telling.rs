//! How often control is told what is known of a publish. It changes with what a publisher sends, a
//! few bytes at a time if it likes, and all cores' messages wait in one mailbox there.

use std::time::{Duration, Instant};

use super::{Engine, Timer};
use crate::ids::PublisherId;

/// Time that earns a description.
const STEP: Duration = Duration::from_millis(250);
/// Descriptions that are told at once after a quiet time: as a publish begins, its tracks, what they
/// are, and what is made of them come to be known one after the other.
const BURST: u32 = 8;

/// What is left of the descriptions that may be told.
#[derive(Debug, Default)]
pub(super) struct Telling {
    /// When as many as [`BURST`] may be told again.
    full_at: Option<Instant>,
    /// Whether there is news that was not told; [`Timer::Info`] says when it may be.
    waits: bool,
}

impl Telling {
    /// Whether something may be told now, which it then is; else when.
    fn admit(&mut self, now: Instant) -> Result<(), Instant> {
        let full_at = self.full_at.map_or(now, |at| at.max(now));
        let least = now + STEP * BURST.saturating_sub(1);
        let early = full_at.saturating_duration_since(least);
        if !early.is_zero() {
            return Err(now + early);
        }
        self.full_at = Some(full_at + STEP);
        Ok(())
    }
}

impl Engine {
    /// There is news of a publish. Control is told at once, or at the next time it may be: what it is
    /// told is how things stand then.
    pub(super) fn tell_stream_info(&mut self, publisher: PublisherId, now: Instant) {
        let Some(publish) = self.publish_mut(publisher) else {
            return;
        };
        let admitted = publish.telling.admit(now);
        publish.telling.waits = admitted.is_err();
        match admitted {
            Ok(()) => {
                self.deadlines.remove(Timer::Info(publisher));
                self.describe_stream(publisher);
            }
            Err(at) => self.deadlines.set(Timer::Info(publisher), at),
        }
    }

    /// The time has come for news that waits, if some does.
    pub(super) fn tell_waiting_info(&mut self, publisher: PublisherId, now: Instant) {
        let publish = self.publish_mut(publisher);
        if publish.is_some_and(|publish| publish.telling.waits) {
            self.tell_stream_info(publisher, now);
        }
    }

    /// What is told next counts on what is known: the verdict, which comes once a second, and the end.
    pub(super) fn tell_info_before(&mut self, publisher: PublisherId) {
        self.deadlines.remove(Timer::Info(publisher));
        let publish = self.publish_mut(publisher);
        if publish.is_some_and(|publish| std::mem::take(&mut publish.telling.waits)) {
            self.describe_stream(publisher);
        }
    }
}
