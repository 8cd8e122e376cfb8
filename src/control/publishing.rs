//! Publishes: who may, what is known of them, and their end.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::directory::Live;
use super::status::stream_json;
use super::{Control, ControlOutput};
use crate::ids::{CoreId, Epoch, PublisherId, RoomId, RoomName, Secret};
use crate::limits::START_EVENT_WAIT;
use crate::media::frame::StreamInfo;
use crate::media::verdict::{Severity, Verdict};
use crate::messages::{CoreMsg, PublishEnd, PublishRejection};
use crate::signalling::ServerMessage;
use crate::webhook::{EventKind, WebhookEvent};

/// Characters of unguessable ids: 132 bits.
pub(super) const ID_CHARACTERS: usize = 22;

/// What viewers and operators read when the publisher said nothing better.
const REORDERING_ADVICE: &str = "the publisher sends B-frames, which browsers show wrongly: \
     turn them off in the encoder (OBS: B-frames 0; ffmpeg: -bf 0)";

impl Control {
    pub(super) fn publish_requested(
        &mut self,
        core: CoreId,
        publisher: PublisherId,
        key: &Secret,
        peer: SocketAddr,
        now: Instant,
    ) {
        let known = self.directory.publisher(publisher);
        if known.is_none_or(|known| known.core != core) {
            self.counters.unexpected_messages.inc();
            self.tell(core, CoreMsg::ClosePublisher { publisher });
            return;
        }
        match self.accept(core, publisher, key, now) {
            Ok(name) => {
                log::info!("publish started room={name} publisher={publisher} core={core}");
                log::debug!("publisher={publisher} peer={peer}");
            }
            Err(rejection) => {
                let counter = match rejection {
                    PublishRejection::Busy => &self.counters.publish_busy,
                    PublishRejection::BadName => &self.counters.publish_bad_name,
                    PublishRejection::Stopping => &self.counters.publish_stopping,
                    PublishRejection::Full => &self.counters.publish_full,
                };
                counter.inc();
                log::info!("publish refused reason={rejection:?} publisher={publisher}");
                let rejected = CoreMsg::PublishRejected {
                    publisher,
                    rejection,
                };
                self.tell(core, rejected);
            }
        }
    }

    fn accept(
        &mut self,
        core: CoreId,
        publisher: PublisherId,
        key: &Secret,
        now: Instant,
    ) -> Result<RoomName, PublishRejection> {
        if !self.is_serving() {
            return Err(PublishRejection::Stopping);
        }
        let name = RoomName::parse(key.expose()).ok_or(PublishRejection::BadName)?;
        let room = self.directory.room_named(&name);
        if room.is_some_and(|room| room.live.is_some()) {
            return Err(PublishRejection::Busy);
        }
        let epoch = self.directory.take_epoch().ok_or(PublishRejection::Full)?;
        let session = self.ids.url_text(ID_CHARACTERS);
        let live = Live {
            publisher,
            core,
            epoch,
            info: StreamInfo::default(),
            verdict: None,
            logged: BTreeSet::new(),
            session,
            since: now,
            since_wall: self.timebase.wall(now),
            announced: false,
            advised: false,
        };
        let begun = self.directory.begin(&name, live);
        let (room, links) = begun.ok_or(PublishRejection::Busy)?;
        self.counters.publishes.inc();
        let accepted = CoreMsg::PublishAccepted {
            publisher,
            room,
            name: name.clone(),
            epoch,
            links,
        };
        self.tell(core, accepted);
        self.tell_publishing(room, true);
        let at = now.checked_add(START_EVENT_WAIT).unwrap_or(now);
        self.unannounced.push_back((at, room, epoch));
        Ok(name)
    }

    pub(super) fn stream_changed(&mut self, id: RoomId, epoch: Epoch, info: StreamInfo) {
        let Some(room) = self.directory.room_mut(id) else {
            return;
        };
        // A message about the publish before this one, or about one that is over.
        let Some(live) = room.live.as_mut().filter(|live| live.epoch == epoch) else {
            return;
        };
        if live.info == info {
            return;
        }
        let name = &room.name;
        let video = info.video.as_deref().unwrap_or("no video yet");
        let audio = info.audio.as_deref().unwrap_or("no audio yet");
        let size = info
            .size
            .map(|(width, height)| format!(" {width}x{height}"));
        let size = size.unwrap_or_default();
        log::info!("stream is {video}{size}, {audio} room={name}");
        live.info = info;
        if live.info.reordering && !live.advised {
            live.advised = true;
            let text = advice(&live.info).join("; ");
            self.broadcast(id, &ServerMessage::Error { text });
        }
    }

    /// Takes the verdict on a publish; each item is logged once.
    pub(super) fn stream_judged(&mut self, id: RoomId, epoch: Epoch, verdict: Arc<Verdict>) {
        let Some(room) = self.directory.room_mut(id) else {
            return;
        };
        let Some(live) = room.live.as_mut().filter(|live| live.epoch == epoch) else {
            return;
        };
        let name = &room.name;
        for item in verdict.items.iter().filter(|item| !item.logged) {
            if live.logged.insert(item.code) {
                match item.severity {
                    Severity::Info => log::info!("encoder: {item} room={name}"),
                    Severity::Warning | Severity::Problem => {
                        log::warn!("encoder: {item} room={name}");
                    }
                }
            }
        }
        live.verdict = Some(verdict);
        self.announce(id);
    }

    /// Sends the start events that have waited long enough for a verdict.
    pub(super) fn announce_overdue(&mut self, now: Instant) {
        while let Some(&(at, room, epoch)) = self.unannounced.front()
            && at <= now
        {
            self.unannounced.pop_front();
            let live = self
                .directory
                .room(room)
                .and_then(|room| room.live.as_ref());
            if live.is_some_and(|live| live.epoch == epoch) {
                self.announce(room);
            }
        }
    }

    /// Sends the start event of a room's publish, once.
    fn announce(&mut self, id: RoomId) {
        let Some(room) = self.directory.room_mut(id) else {
            return;
        };
        let name = room.name.clone();
        let Some(live) = room.live.as_mut().filter(|live| !live.announced) else {
            return;
        };
        live.announced = true;
        let stream = stream_json(&live.info, live.verdict.as_deref());
        let (session, epoch, at) = (live.session.clone(), live.epoch, live.since_wall);
        self.notify(
            &name,
            session,
            epoch,
            EventKind::StreamStarted { stream },
            at,
        );
    }

    pub(super) fn publish_ended(&mut self, id: PublisherId, reason: PublishEnd, now: Instant) {
        let Some(publisher) = self.directory.publisher(id) else {
            self.counters.unexpected_messages.inc();
            return;
        };
        if let Some(room) = publisher.room {
            self.end_publish(room, reason, now);
        }
        self.directory.remove_publisher(id);
    }

    /// Ends the publish of a room: the one place where a started stream ends.
    pub(super) fn end_publish(&mut self, id: RoomId, reason: PublishEnd, now: Instant) {
        self.announce(id);
        let Some(live) = self.directory.end(id) else {
            return;
        };
        self.counters.publishes_ended.inc();
        self.tell_publishing(id, false);
        if let Some(room) = self.directory.room(id) {
            let name = room.name.clone();
            let duration = now.saturating_duration_since(live.since);
            let reason = reason.as_str();
            let seconds = duration.as_secs();
            log::info!("publish ended reason={reason} seconds={seconds} room={name}");
            let kind = EventKind::StreamEnded { reason, duration };
            let at = self.timebase.wall(now);
            self.notify(&name, live.session, live.epoch, kind, at);
        }
        self.directory.free_if_empty(id);
    }

    /// Tells a room's viewers whether somebody publishes.
    fn tell_publishing(&mut self, id: RoomId, live: bool) {
        let Some(room) = self.directory.room(id) else {
            return;
        };
        let room = room.name.clone();
        self.broadcast(id, &ServerMessage::IsPublishing { live, room });
    }

    fn notify(
        &mut self,
        room: &RoomName,
        session: String,
        epoch: Epoch,
        kind: EventKind,
        at: Duration,
    ) {
        let event = WebhookEvent {
            id: self.ids.url_text(ID_CHARACTERS),
            at,
            room: room.clone(),
            session,
            epoch,
            kind,
        };
        self.outputs.push_back(ControlOutput::Webhook(event));
    }
}

/// What the publisher should change; never empty while it reorders pictures.
pub(super) fn advice(info: &StreamInfo) -> Vec<String> {
    if info.reordering && info.advice.is_empty() {
        return vec![REORDERING_ADVICE.to_owned()];
    }
    info.advice.clone()
}
