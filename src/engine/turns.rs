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

/// Where a viewer waits when there is something for it. A new frame looks at these alone, one beside the
/// other: the viewers' own states lie on as many pages of memory as there are viewers, and to find a
/// page takes a CPU longer than all else that marking a viewer does.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Its room's.
    queue: QueueId,
    /// Whether it is among those to serve.
    waits: bool,
    /// Whether it is given what there was before it came, which is not yet live.
    catches_up: bool,
}

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
    /// By the viewers' slots.
    places: Vec<Place>,
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
            places: Vec::new(),
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

    /// A viewer comes in, into a slot that may have been another's.
    pub(super) fn enter(&mut self, slot: Slot, queue: QueueId) {
        let place = Place {
            queue,
            waits: false,
            catches_up: false,
        };
        if slot.index() >= self.places.len() {
            let count = slot.index().saturating_add(1);
            self.places.resize(count, place);
        }
        if let Some(entry) = self.places.get_mut(slot.index()) {
            *entry = place;
        }
    }

    /// Says whether a viewer is given what there was before it came.
    pub(super) fn set_catching_up(&mut self, slot: Slot, catches_up: bool) {
        if let Some(place) = self.places.get_mut(slot.index()) {
            place.catches_up = catches_up;
        }
    }

    /// Queues a viewer, which waits since `since`, if it is not queued yet.
    pub(super) fn push(&mut self, slot: Slot, since: Instant) {
        let Some(place) = self.places.get_mut(slot.index()) else {
            return;
        };
        if std::mem::replace(&mut place.waits, true) {
            return;
        }
        let viewer = Waiting { slot, since };
        if place.catches_up {
            self.catching_up.push_back(viewer);
            return;
        }
        let queue = place.queue;
        let Some(waiting) = self.queues.get_mut(queue.0) else {
            return;
        };
        self.busy_since.get_or_insert(since);
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
        let viewer = self.pop_waiting()?;
        if let Some(place) = self.places.get_mut(viewer.slot.index()) {
            place.waits = false;
        }
        Some(viewer)
    }

    fn pop_waiting(&mut self) -> Option<Waiting> {
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

    /// A viewer of a room has something to be sent.
    fn push(turns: &mut Turns, room: QueueId, viewer: Waiting, catches_up: bool) {
        turns.enter(viewer.slot, room);
        turns.set_catching_up(viewer.slot, catches_up);
        turns.push(viewer.slot, viewer.since);
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
            push(&mut turns, room, waiting(number), true);
        }
        push(&mut turns, room, waiting(1_000), false);
        let first = popped(&mut turns);
        assert_eq!(first[0], Slot::of(1_000));
        assert_eq!(first.len(), 1 + BURSTS_PER_TURN);
        assert!(turns.is_waiting());
        turns.begin();
        assert_eq!(popped(&mut turns), [Slot::of(BURSTS_PER_TURN)]);
        assert!(!turns.is_waiting());
    }

    #[test]
    fn viewer_waits_once_however_much_there_is_for_it() {
        let mut turns = Turns::default();
        let room = turns.open();
        turns.begin();
        let Waiting { slot, since } = waiting(3);
        turns.enter(slot, room);
        turns.push(slot, since);
        turns.push(slot, since + Duration::from_millis(20));
        assert_eq!(turns.pop(), Some(Waiting { slot, since }));
        assert_eq!(turns.pop(), None);
        turns.push(slot, since);
        assert_eq!(popped(&mut turns), [slot], "there is more for it");
    }

    #[test]
    fn rooms_take_turns_whatever_their_size() {
        let mut turns = Turns::default();
        turns.begin();
        let (large, small) = (turns.open(), turns.open());
        for number in 0..1_000 {
            push(&mut turns, large, waiting(number), false);
        }
        push(&mut turns, small, waiting(5_000), false);
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
            push(&mut turns, room, waiting(number), false);
            push(&mut turns, room, waiting(1_000 + number), true);
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
        push(&mut turns, room, first, false);
        turns.begin();
        turns.pop();
        let second = Waiting {
            since: at(500),
            ..waiting(2)
        };
        push(&mut turns, room, second, false);
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
        push(&mut turns, room, joining, true);
        assert_eq!(turns.busy_for(at(900)), Duration::ZERO, "nobody watches");
        let third = Waiting {
            since: at(900),
            ..waiting(4)
        };
        push(&mut turns, room, third, false);
        assert_eq!(turns.busy_for(at(1_000)), Duration::from_millis(100));
    }

    #[test]
    fn room_that_is_gone_leaves_nobody_behind() {
        let mut turns = Turns::default();
        turns.begin();
        let (gone, stays) = (turns.open(), turns.open());
        push(&mut turns, gone, waiting(1), false);
        push(&mut turns, stays, waiting(2), false);
        turns.close(gone);
        assert_eq!(popped(&mut turns), [Slot::of(2)]);
        assert!(!turns.is_waiting());
        assert_eq!(turns.open(), gone, "its queue is used again");
    }
}
