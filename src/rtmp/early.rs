//! What comes between a request to publish and its acceptance. Some relays and client
//! libraries do not wait for the answer, and send what describes their stream only once, at once:
//! without it, nothing of the whole publish could be decoded.

use super::event::RtmpEvent;
use super::{RtmpSession, State};
use crate::limits::RTMP_EARLY_BYTES_MAX;
use crate::media::flv::{AudioBody, AudioTags, VideoBody, VideoTags};

/// The last metadata and the last sequence header of each kind, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Early {
    kept: Vec<(Kind, RtmpEvent)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Metadata,
    Video,
    Audio,
}

impl Early {
    /// Keeps what is not sent again; gives what is left out, be it this or what it stands in for.
    pub(super) fn keep(&mut self, event: RtmpEvent) -> Option<RtmpEvent> {
        let Some(kind) = kind(&event) else {
            return Some(event);
        };
        let before = self.kept.iter().position(|(known, _)| *known == kind);
        let before = before.map(|place| self.kept.remove(place).1);
        self.kept.push((kind, event));
        before
    }

    /// What was kept.
    pub(super) fn into_events(self) -> impl Iterator<Item = RtmpEvent> {
        self.kept.into_iter().map(|(_, event)| event)
    }
}

impl RtmpSession {
    /// What came before the publish is accepted waits for that, if it is not sent again.
    pub(super) fn keep_early(&mut self, event: RtmpEvent) {
        let left_out = match &mut self.state {
            State::Requested { early, .. } => early.keep(event),
            State::Handshake { .. }
            | State::Setup { .. }
            | State::Publishing { .. }
            | State::Closed => Some(event),
        };
        if left_out.is_some() {
            self.ignore();
        }
    }
}

/// Whether something is kept, and as what. Only headers of the tracks that are played are: what the
/// others are is told by their media as well.
fn kind(event: &RtmpEvent) -> Option<Kind> {
    match event {
        RtmpEvent::Metadata(_) => Some(Kind::Metadata),
        RtmpEvent::Video { payload, .. } if payload.len() <= RTMP_EARLY_BYTES_MAX => {
            let mut tags = VideoTags::new(payload).flatten();
            let is_header =
                tags.any(|tag| tag.track == 0 && matches!(tag.body, VideoBody::Config { .. }));
            is_header.then_some(Kind::Video)
        }
        RtmpEvent::Audio { payload, .. } if payload.len() <= RTMP_EARLY_BYTES_MAX => {
            let mut tags = AudioTags::new(payload).flatten();
            let is_header =
                tags.any(|tag| tag.track == 0 && matches!(tag.body, AudioBody::Config { .. }));
            is_header.then_some(Kind::Audio)
        }
        RtmpEvent::Video { .. }
        | RtmpEvent::Audio { .. }
        | RtmpEvent::PublishRequested { .. }
        | RtmpEvent::PublishFinished => None,
    }
}
