//! A room on this core: its media, its viewers, and the cores it is linked to.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Instant;

use super::turns::QueueId;
use super::{Engine, EngineOutput, Slot};
use crate::ids::{CoreId, Epoch, PublisherId, RoomId, ViewerId};
use crate::limits::FEED_AGAIN_INTERVAL;
use crate::media::frame::{FrameSet, TrackKind};
use crate::messages::{ControlMsg, MediaMsg};
use crate::room::{Feed, Room};

/// A room on this core. Kept while it is published here or watched from here.
#[derive(Debug)]
pub(super) struct RoomState {
    pub(super) room: Room,
    /// Who publishes it, if that is on this core.
    pub(super) publisher: Option<PublisherId>,
    /// This core's viewers.
    pub(super) viewers: BTreeMap<ViewerId, Slot>,
    /// Where they wait for their turn.
    pub(super) queue: QueueId,
    /// Cores with viewers of it, while it is published here.
    pub(super) links: BTreeMap<CoreId, Feed>,
    /// When a keyframe was last asked of another core.
    pub(super) keyframe_wanted: Option<Instant>,
    /// When another core was last asked to feed it from a keyframe on.
    feed_wanted: Option<Instant>,
    /// Who is served first, so that nobody is always the last.
    first: Option<ViewerId>,
}

impl RoomState {
    fn new(queue: QueueId) -> Self {
        Self {
            room: Room::default(),
            publisher: None,
            viewers: BTreeMap::new(),
            queue,
            links: BTreeMap::new(),
            keyframe_wanted: None,
            feed_wanted: None,
            first: None,
        }
    }

    pub(super) fn is_unused(&self) -> bool {
        self.publisher.is_none() && self.viewers.is_empty()
    }

    /// Whether anybody takes its frames.
    pub(super) fn is_watched(&self) -> bool {
        !self.viewers.is_empty() || !self.links.is_empty()
    }

    /// Its viewers, beginning with another one each time.
    fn viewers_in_turn(&mut self) -> impl Iterator<Item = Slot> {
        let from = self.first.unwrap_or(ViewerId(0));
        let after = self
            .viewers
            .range(from..)
            .nth(1)
            .or_else(|| self.viewers.first_key_value());
        self.first = after.map(|(&id, _)| id);
        let begin = self.first.unwrap_or(from);
        self.viewers
            .range(begin..)
            .chain(self.viewers.range(..begin))
            .map(|(_, &slot)| slot)
    }
}

impl Engine {
    pub(super) fn room_entry(&mut self, room: RoomId) -> &mut RoomState {
        let turns = &mut self.turns;
        self.rooms
            .entry(room)
            .or_insert_with(|| RoomState::new(turns.open()))
    }

    pub(super) fn free_room_if_unused(&mut self, room: RoomId) {
        if self.rooms.get(&room).is_some_and(RoomState::is_unused)
            && let Some(state) = self.rooms.remove(&room)
        {
            self.turns.close(state.queue);
        }
    }

    /// Adds a frame to a room and marks everybody who takes it.
    pub(super) fn push_frame(&mut self, room: RoomId, frame: Arc<FrameSet>, now: Instant) {
        let Some(state) = self.rooms.get_mut(&room) else {
            return;
        };
        let track = frame.track;
        let taken = state.room.push(Arc::clone(&frame));
        match (track, taken) {
            (TrackKind::Video, true) => self.counters.video_frames.inc(),
            (TrackKind::Audio, true) => self.counters.audio_frames.inc(),
            (TrackKind::Video, false) => self.counters.video_frames_refused.inc(),
            (TrackKind::Audio, false) => self.counters.audio_frames_refused.inc(),
        }
        if !taken {
            self.want_feed(room, &frame, now);
            return;
        }
        for slot in state.viewers_in_turn() {
            self.turns.push(slot, now);
        }
        self.feed_links(room);
    }

    /// Asks the core of the publish for what came before a frame, if this core never had it: it was
    /// fed before it had a viewer of the room, who came in later, or after its last one had gone.
    fn want_feed(&mut self, room: RoomId, frame: &FrameSet, now: Instant) {
        let Some(state) = self.rooms.get_mut(&room) else {
            return;
        };
        let since = |last| now.saturating_duration_since(last);
        let is_due = state
            .feed_wanted
            .is_none_or(|last| since(last) >= FEED_AGAIN_INTERVAL);
        if is_due && state.publisher.is_none() && state.room.lacks_start(frame) {
            state.feed_wanted = Some(now);
            // Only control knows which core it is.
            self.control(ControlMsg::FeedWanted {
                room,
                epoch: frame.epoch,
                core: self.core,
            });
        }
    }

    /// Feeds another core, or feeds it again.
    pub(super) fn link_room(&mut self, room: RoomId, to: CoreId) {
        let Some(state) = self.rooms.get_mut(&room) else {
            return;
        };
        let Some(publisher) = state.publisher else {
            return;
        };
        match state.links.entry(to) {
            Entry::Vacant(link) => {
                link.insert(state.room.feed());
            }
            Entry::Occupied(mut link) => state.room.feed_again(link.get_mut()),
        }
        self.feed_links(room);
        self.update_transcoding(publisher);
    }

    pub(super) fn unlink_room(&mut self, room: RoomId, to: CoreId) {
        let Some(state) = self.rooms.get_mut(&room) else {
            return;
        };
        state.links.remove(&to);
        if let Some(publisher) = state.publisher {
            self.update_transcoding(publisher);
        }
    }

    /// Ends the publish of a room on this core: nothing cached is shown as live any more.
    pub(super) fn end_room(&mut self, room: RoomId, epoch: Epoch, publisher: PublisherId) {
        let Some(state) = self.rooms.get_mut(&room) else {
            return;
        };
        if state.publisher != Some(publisher) {
            // Another has it by now.
            return;
        }
        state.room.end(epoch);
        state.publisher = None;
        for to in std::mem::take(&mut state.links).into_keys() {
            let message = MediaMsg::Ended { room, epoch };
            self.outputs.push_back(EngineOutput::Media { to, message });
        }
        self.free_room_if_unused(room);
    }

    /// Gives linked cores what they have not got yet.
    fn feed_links(&mut self, room: RoomId) {
        let Some(state) = self.rooms.get_mut(&room) else {
            return;
        };
        for (&to, feed) in &mut state.links {
            while let Some(frame) = state.room.next_for(feed) {
                let message = MediaMsg::Frame { room, frame };
                self.outputs.push_back(EngineOutput::Media { to, message });
            }
        }
    }
}

#[cfg(test)]
mod tests;
