//! Whose turn it is: viewers at the live edge before those that catch up, so that a thousand who
//! join at once do not delay the frames of those who watch.

use std::collections::VecDeque;

use super::viewer_table::Slot;
use crate::limits::BURSTS_PER_TURN;

/// Viewers to serve.
#[derive(Debug, Default)]
pub(super) struct Turns {
    live: VecDeque<Slot>,
    catching_up: VecDeque<Slot>,
    bursts_left: usize,
}

impl Turns {
    /// A turn of the core's loop begins.
    pub(super) fn begin(&mut self) {
        self.bursts_left = BURSTS_PER_TURN;
    }

    /// Queues a viewer, which is not queued yet.
    pub(super) fn push(&mut self, slot: Slot, catches_up: bool) {
        if catches_up {
            self.catching_up.push_back(slot);
        } else {
            self.live.push_back(slot);
        }
    }

    /// The next viewer to serve in this turn.
    pub(super) fn pop(&mut self) -> Option<Slot> {
        if let Some(slot) = self.live.pop_front() {
            return Some(slot);
        }
        self.bursts_left = self.bursts_left.checked_sub(1)?;
        self.catching_up.pop_front()
    }

    /// Whether some wait for the next turn.
    pub(super) fn is_waiting(&self) -> bool {
        !self.live.is_empty() || !self.catching_up.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::viewer_table::Slot;

    #[test]
    fn who_catches_up_comes_after_all_others_and_not_too_often_in_one_turn() {
        let mut turns = Turns::default();
        turns.begin();
        for number in 0..=BURSTS_PER_TURN {
            turns.push(Slot::of(number), true);
        }
        turns.push(Slot::of(1_000), false);
        assert_eq!(turns.pop(), Some(Slot::of(1_000)));
        let bursts = std::iter::from_fn(|| turns.pop()).count();
        assert_eq!(bursts, BURSTS_PER_TURN);
        assert!(turns.is_waiting());
        turns.begin();
        assert_eq!(turns.pop(), Some(Slot::of(BURSTS_PER_TURN)));
        assert!(!turns.is_waiting());
    }
}
