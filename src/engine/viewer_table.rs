//! A core's viewers: by their ids for whoever names one, and by their slots for the path of every
//! frame, where a search for each of a thousand viewers would cost more than what it finds.

use std::collections::BTreeMap;

use super::viewers::ViewerState;
use crate::ids::ViewerId;
use crate::webrtc::prefetch;

/// Where a viewer's state is, while it is there. The slot of one that left may be given to
/// another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot(usize);

impl Slot {
    /// Counts from 0: for what else is kept by slots.
    pub(super) fn index(self) -> usize {
        self.0
    }

    #[cfg(test)]
    pub(super) fn of(number: usize) -> Self {
        Self(number)
    }
}

/// The viewers.
#[derive(Debug, Default)]
pub(super) struct ViewerTable {
    by_id: BTreeMap<ViewerId, Slot>,
    slots: Vec<Option<Box<ViewerState>>>,
    free: Vec<Slot>,
}

impl ViewerTable {
    /// Takes a viewer in. Its id must be new.
    pub(super) fn insert(&mut self, id: ViewerId, make: impl FnOnce(Slot) -> ViewerState) -> Slot {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            Slot(self.slots.len().saturating_sub(1))
        });
        let before = self.by_id.insert(id, slot);
        debug_assert!(before.is_none(), "viewer {id} is here already");
        if let Some(place) = self.slots.get_mut(slot.0) {
            *place = Some(Box::new(make(slot)));
        }
        slot
    }

    /// Lets a viewer go.
    pub(super) fn remove(&mut self, id: ViewerId) -> Option<Box<ViewerState>> {
        let slot = self.by_id.remove(&id)?;
        self.free.push(slot);
        self.slots.get_mut(slot.0)?.take()
    }

    /// The viewer with an id.
    pub(super) fn get_mut(&mut self, id: ViewerId) -> Option<&mut ViewerState> {
        let slot = *self.by_id.get(&id)?;
        self.at_mut(slot)
    }

    /// The viewer with an id, to look at.
    pub(super) fn get(&self, id: ViewerId) -> Option<&ViewerState> {
        let slot = self.by_id.get(&id)?;
        self.slots.get(slot.0)?.as_deref()
    }

    /// The viewer in a slot.
    pub(super) fn at_mut(&mut self, slot: Slot) -> Option<&mut ViewerState> {
        self.slots.get_mut(slot.0)?.as_deref_mut()
    }

    /// Asks for the state in a slot to be brought into the cache.
    pub(super) fn prefetch(&self, slot: Slot) {
        if let Some(Some(state)) = self.slots.get(slot.0) {
            prefetch(&**state);
        }
    }

    /// Asks for what that state points to. It is to be there already.
    pub(super) fn prefetch_session(&self, slot: Slot) {
        if let Some(Some(state)) = self.slots.get(slot.0) {
            state.prefetch();
        }
    }

    /// The ids, in order.
    pub(super) fn ids(&self) -> impl Iterator<Item = ViewerId> {
        self.by_id.keys().copied()
    }

    /// Ids and viewers, in the order of the ids.
    pub(super) fn iter(&self) -> impl Iterator<Item = (ViewerId, &ViewerState)> {
        self.by_id.iter().filter_map(|(&id, slot)| {
            let state = self.slots.get(slot.0)?.as_deref()?;
            Some((id, state))
        })
    }

    pub(super) fn contains(&self, id: ViewerId) -> bool {
        self.by_id.contains_key(&id)
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}
