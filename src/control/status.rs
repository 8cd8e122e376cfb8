//! What is said of a room to those who look: `GET /v1/rooms` and `GET /v1/rooms/ROOM`.

use std::time::Duration;

use serde_json::{Value, json};

use super::directory::{Directory, Room};
use super::publishing::advice;
use crate::ids::RoomName;
use crate::media::frame::StreamInfo;
use crate::webhook::timestamp::rfc3339;

/// A room as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomStatus {
    /// Its name.
    pub room: RoomName,
    /// Whether somebody publishes to it.
    pub live: bool,
    /// Viewers that were connected: those that watch, or wait for a publisher.
    pub viewers: usize,
    /// When the publish began, since the Unix epoch.
    pub since: Option<Duration>,
    /// What is published; nothing while nobody does.
    pub info: StreamInfo,
}

impl RoomStatus {
    pub(super) fn of(room: &Room, directory: &Directory) -> Self {
        let viewers = room.viewers.iter().filter_map(|id| directory.viewer(*id));
        let live = room.live.as_ref();
        Self {
            room: room.name.clone(),
            live: live.is_some(),
            viewers: viewers.filter(|viewer| viewer.connected).count(),
            since: live.map(|live| live.since_wall),
            info: live.map(|live| live.info.clone()).unwrap_or_default(),
        }
    }

    /// As JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let size = self.info.size;
        json!({
            "room": self.room.as_str(),
            "live": self.live,
            "viewers": self.viewers,
            "since": self.since.map(rfc3339),
            "video": self.info.video,
            "audio": self.info.audio,
            "width": size.map(|(width, _)| width),
            "height": size.map(|(_, height)| height),
            "advice": advice(&self.info),
        })
    }
}
