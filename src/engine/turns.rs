//! Whose turn it is. Rooms take turns, so that a keyframe to a thousand viewers of one does not delay
//! the pictures of another; viewers at the live edge come before those that catch up, so that a
//! thousand who join at once do not delay those who watch; and a turn of the loop ends after some
//! batches, so that what arrives meanwhile is looked at.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::viewer_table::Slot;
use crate::limits::{
    BATCHES_PER_TURN, BURSTS_PER_BUSY_TURN, BURSTS_PER_TURN, VIEWERS_PER_ROOM_TURN,
};

/// After a turn so long as much media waits in front of the core: it is not at rest.
const LONG_TURN: Duration = Duration::from_millis(100);

/// A room's queue of viewers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct QueueId(usize);

/// A viewer to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) slot: Slot,
    /// Since when it waits.
    pub(super) since: Instant,
}

/// Viewers to serve.
#[derive(Debug)]
pub(super) struct Turns {
    /// Live viewers, by room.
    queues: Vec<VecDeque<Waiting>>,
    free: Vec<QueueId>,
    /// Queues that are not empty, the one whose turn it is first.
    order: VecDeque<QueueId>,
    /// Viewers of the first one that were served in a row.
    served: usize,
    catching_up: VecDeque<Waiting>,
    batches_left: usize,
    bursts_left: usize,
    /// Since when somebody at the live edge has been waiting all the time.
    busy_since: Option<Instant>,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            queues: Vec::new(),
            free: Vec::new(),
            order: VecDeque::new(),
            served: 0,
            catching_up: VecDeque::new(),
            batches_left: BATCHES_PER_TURN,
            bursts_left: BURSTS_PER_TURN,
            busy_since: None,
        }
    }
}

impl Turns {
    /// A queue for a room.
    pub(super) fn open(&mut self) -> QueueId {
        self.free.pop().unwrap_or_else(|| {
            self.queues.push(VecDeque::new());
            QueueId(self.queues.len().saturating_sub(1))
        })
    }

    /// The room is gone, and with it all of its viewers.
    pub(super) fn close(&mut self, queue: QueueId) {
        if let Some(waiting) = self.queues.get_mut(queue.0) {
            *waiting = VecDeque::new();
            self.leave_order(queue);
            self.free.push(queue);
        }
    }

    /// A turn of the core's loop begins.
    pub(super) fn begin(&mut self) {
        self.batches_left = BATCHES_PER_TURN;
        self.bursts_left = BURSTS_PER_TURN;
    }

    /// A batch was sent.
    pub(super) fn batch_sent(&mut self) {
        self.batches_left = self.batches_left.saturating_sub(1);
        if self.batches_left == 0 && !self.order.is_empty() {
            // Those who join get their share of a core that never comes to an end.
            self.bursts_left = self.bursts_left.min(BURSTS_PER_BUSY_TURN);
        }
    }

    /// Queues a viewer of a room, which is not queued yet.
    pub(super) fn push(&mut self, queue: QueueId, viewer: Waiting, catches_up: bool) {
        if catches_up {
            self.catching_up.push_back(viewer);
            return;
        }
        let Some(waiting) = self.queues.get_mut(queue.0) else {
            return;
        };
        self.busy_since.get_or_insert(viewer.since);
        if waiting.is_empty() {
            self.order.push_back(queue);
        }
        waiting.push_back(viewer);
    }

    /// Who is served after so many others, if they are of the same room.
    pub(super) fn ahead(&self, others: usize) -> Option<Slot> {
        let waiting = self.queues.get(self.order.front()?.0)?;
        Some(waiting.get(others)?.slot)
    }

    /// The next viewer to serve in this turn.
    pub(super) fn pop(&mut self) -> Option<Waiting> {
        if self.batches_left > 0
            && let Some(viewer) = self.pop_live()
        {
            return Some(viewer);
        }
        if self.bursts_left == 0 {
            return None;
        }
        let viewer = self.catching_up.pop_front()?;
        self.bursts_left = self.bursts_left.saturating_sub(1);
        Some(viewer)
    }

    fn pop_live(&mut self) -> Option<Waiting> {
        let &queue = self.order.front()?;
        let waiting = self.queues.get_mut(queue.0)?;
        let viewer = waiting.pop_front();
        let is_empty = waiting.is_empty();
        self.served = self.served.saturating_add(1);
        if is_empty || self.served >= VIEWERS_PER_ROOM_TURN {
            self.served = 0;
            self.order.pop_front();
            if !is_empty {
                self.order.push_back(queue);
            }
        }
        viewer
    }

    /// Whether some wait for the next turn.
    pub(super) fn is_waiting(&self) -> bool {
        self.is_behind() || !self.catching_up.is_empty()
    }

    /// All was done that this turn may do, in so much time. If nobody at the live edge waits, and no long
    /// turn let more pile up in front of the core, it is not busy.
    pub(super) fn end(&mut self, took: Duration) {
        if !self.is_behind() && took < LONG_TURN {
            self.busy_since = None;
        }
    }

    /// For how long somebody at the live edge has been waiting all the time.
    pub(super) fn busy_for(&self, now: Instant) -> Duration {
        self.busy_since
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Whether some of those at the live edge do.
    pub(super) fn is_behind(&self) -> bool {
        !self.order.is_empty()
    }

    fn leave_order(&mut self, queue: QueueId) {
        if self.order.front() == Some(&queue) {
            self.served = 0;
        }
        self.order.retain(|other| *other != queue);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::viewer_table::Slot;

    fn waiting(number: usize) -> Waiting {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let since = Instant::now();
        Waiting {
            slot: Slot::of(number),
            since,
        }
    }

    fn popped(turns: &mut Turns) -> Vec<Slot> {
        std::iter::from_fn(|| turns.pop().map(|it| it.slot)).collect()
    }

    #[test]
    fn who_catches_up_comes_after_all_others_and_not_too_often_in_one_turn() {
        let mut turns = Turns::default();
        let room = turns.open();
        turns.begin();
        for number in 0..=BURSTS_PER_TURN {
            turns.push(room, waiting(number), true);
        }
        turns.push(room, waiting(1_000), false);
        let first = popped(&mut turns);
        assert_eq!(first[0], Slot::of(1_000));
        assert_eq!(first.len(), 1 + BURSTS_PER_TURN);
        assert!(turns.is_waiting());
        turns.begin();
        assert_eq!(popped(&mut turns), [Slot::of(BURSTS_PER_TURN)]);
        assert!(!turns.is_waiting());
    }

    #[test]
    fn rooms_take_turns_whatever_their_size() {
        let mut turns = Turns::default();
        turns.begin();
        let (large, small) = (turns.open(), turns.open());
        for number in 0..1_000 {
            turns.push(large, waiting(number), false);
        }
        turns.push(small, waiting(5_000), false);
        let order = popped(&mut turns);
        let place = order.iter().position(|it| *it == Slot::of(5_000));
        assert_eq!(place, Some(VIEWERS_PER_ROOM_TURN));
        assert_eq!(order.len(), 1_001);
        let of_large: Vec<Slot> = order
            .into_iter()
            .filter(|it| *it != Slot::of(5_000))
            .collect();
        assert_eq!(of_large, (0..1_000).map(Slot::of).collect::<Vec<_>>());
    }

    #[test]
    fn turn_ends_after_its_batches_and_those_who_join_have_their_share_of_a_busy_core() {
        let mut turns = Turns::default();
        let room = turns.open();
        for number in 0..100 {
            turns.push(room, waiting(number), false);
            turns.push(room, waiting(1_000 + number), true);
        }
        turns.begin();
        assert_eq!(turns.pop().map(|it| it.slot), Some(Slot::of(0)));
        for _ in 0..BATCHES_PER_TURN {
            turns.batch_sent();
        }
        let joining = popped(&mut turns);
        assert_eq!(joining.len(), BURSTS_PER_BUSY_TURN);
        assert_eq!(joining[0], Slot::of(1_000));
        turns.begin();
        assert_eq!(turns.pop().map(|it| it.slot), Some(Slot::of(1)));
    }

    #[test]
    fn core_is_busy_from_the_first_that_waits_until_none_does() {
        let mut turns = Turns::default();
        let room = turns.open();
        let first = waiting(1);
        let at = |millis| first.since + Duration::from_millis(millis);
        turns.push(room, first, false);
        turns.begin();
        turns.pop();
        let second = Waiting {
            since: at(500),
            ..waiting(2)
        };
        turns.push(room, second, false);
        assert_eq!(turns.busy_for(at(700)), Duration::from_millis(700));
        turns.end(Duration::from_millis(5));
        assert_eq!(turns.busy_for(at(800)), Duration::from_millis(800));
        turns.pop();
        assert_eq!(turns.pop(), None);
        turns.end(LONG_TURN);
        assert_eq!(turns.busy_for(at(800)), Duration::from_millis(800));
        turns.end(Duration::from_millis(5));
        assert_eq!(turns.busy_for(at(800)), Duration::ZERO);
        let joining = Waiting {
            since: at(800),
            ..waiting(3)
        };
        turns.push(room, joining, true);
        assert_eq!(turns.busy_for(at(900)), Duration::ZERO, "nobody watches");
        let third = Waiting {
            since: at(900),
            ..waiting(4)
        };
        turns.push(room, third, false);
        assert_eq!(turns.busy_for(at(1_000)), Duration::from_millis(100));
    }

    #[test]
    fn room_that_is_gone_leaves_nobody_behind() {
        let mut turns = Turns::default();
        turns.begin();
        let (gone, stays) = (turns.open(), turns.open());
        turns.push(gone, waiting(1), false);
        turns.push(stays, waiting(2), false);
        turns.close(gone);
        assert_eq!(popped(&mut turns), [Slot::of(2)]);
        assert!(!turns.is_waiting());
        assert_eq!(turns.open(), gone, "its queue is used again");
    }
}
