//! Publishes: who may, what is known of them, and their end.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::directory::Live;
use super::status::stream_json;
use super::{Control, ControlOutput};
use crate::ids::{CoreId, Epoch, PublisherId, RoomId, RoomName, Secret};
use crate::limits::{PUBLISHER_QUESTION_DEADLINE, PUBLISHER_SILENT_AFTER, START_EVENT_WAIT};
use crate::media::frame::StreamInfo;
use crate::media::verdict::{Severity, Verdict};
use crate::messages::{CoreMsg, PublishEnd, PublishRejection};
use crate::signalling::{ServerMessage, SharedMessage};
use crate::webhook::{EventKind, WebhookEvent};

/// Characters of unguessable ids: 132 bits.
pub(super) const ID_CHARACTERS: usize = 22;

/// What operators read when ingest said nothing better.
const REORDERING_ADVICE: &str = "the publisher sends B-frames, which browsers cannot show as they \
     are: turn them off in the encoder (OBS: B-frames 0; ffmpeg: -bf 0)";

/// A publisher that waits until the one that has its room proves silent.
#[derive(Debug)]
pub(super) struct Waiting {
    core: CoreId,
    publisher: PublisherId,
    name: RoomName,
    /// When it is refused if nothing was said.
    pub(super) until: Instant,
}

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
        let Some(name) = RoomName::parse(key.expose()) else {
            self.refuse(core, publisher, PublishRejection::BadName);
            return;
        };
        log::debug!("publisher={publisher} peer={peer}");
        if let Some(holder) = self.holder_to_question(&name, publisher) {
            log::info!("publish waits: is the one before still there? room={name}");
            let (holder_core, holder) = holder;
            let question = CoreMsg::QuestionPublisher {
                publisher: holder,
                silence: PUBLISHER_SILENT_AFTER,
            };
            self.tell(holder_core, question);
            let until = now.checked_add(PUBLISHER_QUESTION_DEADLINE).unwrap_or(now);
            let waiting = Waiting {
                core,
                publisher,
                name,
                until,
            };
            self.waiting.insert(holder, waiting);
            return;
        }
        self.answer_publish(core, publisher, &name, now);
    }

    /// Whose silence would give a room to `publisher`: that of the room's publisher if both come
    /// from one address, as an encoder does that lost its connection and makes a new one, or if that
    /// one is done. Anybody else is refused while the room is taken.
    fn holder_to_question(
        &self,
        name: &RoomName,
        publisher: PublisherId,
    ) -> Option<(CoreId, PublisherId)> {
        let live = self.directory.room_named(name)?.live.as_ref()?;
        let newcomer = self.directory.publisher(publisher)?;
        let holder = self.directory.publisher(live.publisher)?;
        let is_waiting = |waiting: &Waiting| waiting.publisher == publisher;
        let may_wait = self.is_serving()
            && live.publisher != publisher
            && newcomer.room.is_none()
            && (self.ending.contains(&live.publisher) || newcomer.network == holder.network)
            && !self.waiting.contains_key(&live.publisher)
            && !self.waiting.values().any(is_waiting);
        may_wait.then_some((live.core, live.publisher))
    }

    /// The publisher that somebody waits for sends: the one who waits is refused.
    pub(super) fn publisher_alive(&mut self, publisher: PublisherId) {
        // If nobody waits any more, that is no news.
        if let Some(waiting) = self.waiting.remove(&publisher) {
            self.refuse(waiting.core, waiting.publisher, PublishRejection::Busy);
        }
    }

    /// Refuses those who wait for too long: a core did not answer.
    pub(super) fn end_waiting(&mut self, now: Instant) {
        let due = |waiting: &Waiting| waiting.until <= now;
        let due: Vec<_> = (self.waiting.iter())
            .filter_map(|(holder, waiting)| due(waiting).then_some(*holder))
            .collect();
        for holder in due {
            self.publisher_alive(holder);
        }
    }

    fn answer_publish(
        &mut self,
        core: CoreId,
        publisher: PublisherId,
        name: &RoomName,
        now: Instant,
    ) {
        match self.accept(core, publisher, name, now) {
            Ok(()) => {
                log::info!("publish started room={name} publisher={publisher} core={core}");
            }
            Err(rejection) => self.refuse(core, publisher, rejection),
        }
    }

    fn refuse(&mut self, core: CoreId, publisher: PublisherId, rejection: PublishRejection) {
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

    fn accept(
        &mut self,
        core: CoreId,
        publisher: PublisherId,
        name: &RoomName,
        now: Instant,
    ) -> Result<(), PublishRejection> {
        if !self.is_serving() {
            return Err(PublishRejection::Stopping);
        }
        let room = self.directory.room_named(name);
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
            trouble: None,
        };
        let begun = self.directory.begin(name, live);
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
        Ok(())
    }

    pub(super) fn stream_changed(
        &mut self,
        id: RoomId,
        epoch: Epoch,
        info: StreamInfo,
        now: Instant,
    ) {
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
        let (before, after) = (in_words(&live.info), in_words(&info));
        if before != after
            && let Some(left_out) = self.stream_lines.admit(now)
        {
            log::info!("stream is {after} room={}{left_out}", room.name);
        }
        live.info = info;
    }

    /// Viewers of a room have no picture, or have one again. Those of them that can be told are:
    /// nobody is to look at a black picture without a word.
    pub(super) fn picture_trouble(&mut self, id: RoomId, epoch: Epoch, trouble: Option<String>) {
        let room = self.directory.room_mut(id);
        let Some((room, live)) = room.and_then(|it| Some((&it.name, it.live.as_mut()?))) else {
            return;
        };
        if live.epoch != epoch || live.trouble == trouble {
            return;
        }
        match &trouble {
            Some(text) => log::warn!("viewers have no picture: {text} room={room}"),
            None => log::info!("viewers have a picture again room={room}"),
        }
        live.trouble.clone_from(&trouble);
        if let Some(text) = trouble {
            self.broadcast(id, &SharedMessage::new(ServerMessage::Error { text }));
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

    /// A publisher is done; its publish is, too, as soon as somebody else is to have its room.
    pub(super) fn publish_ending(&mut self, id: PublisherId) {
        if self.directory.publisher(id).is_some() {
            self.ending.insert(id);
        }
    }

    /// A viewer needs a keyframe of a room that another core publishes.
    pub(super) fn keyframe_wanted(&mut self, id: RoomId) {
        let live = self.directory.room(id).and_then(|room| room.live.as_ref());
        if let Some(core) = live.map(|live| live.core) {
            self.tell(core, CoreMsg::KeyframeWanted { room: id });
        }
    }

    /// A core missed the beginning of what it is fed: its viewer was still on the way to it, or it had
    /// let go of the room with another viewer's end. It is fed again, unless it has no viewers any
    /// more, or the publish is over.
    pub(super) fn feed_wanted(&mut self, id: RoomId, epoch: Epoch, core: CoreId) {
        let Some(room) = self.directory.room(id) else {
            return;
        };
        let live = room.live.as_ref().filter(|live| live.epoch == epoch);
        let home = live.map(|live| live.core).filter(|home| *home != core);
        if let Some(home) = home.filter(|_| room.by_core.contains_key(&core)) {
            self.tell(home, CoreMsg::LinkRoom { room: id, to: core });
        }
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
        self.ending.remove(&id);
        self.waiting.retain(|_, waiting| waiting.publisher != id);
        if let Some(waiting) = self.waiting.remove(&id) {
            self.answer_publish(waiting.core, waiting.publisher, &waiting.name, now);
        }
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
        let message = ServerMessage::IsPublishing { live, room };
        self.broadcast(id, &SharedMessage::new(message));
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

/// What is published, for the log.
fn in_words(info: &StreamInfo) -> String {
    let video = info.video.as_deref().unwrap_or("no video yet");
    let audio = info.audio.as_deref().unwrap_or("no audio yet");
    let size = info
        .size
        .map(|(width, height)| format!(" {width}x{height}"));
    format!("{video}{}, {audio}", size.unwrap_or_default())
}

/// What the publisher should change; never empty while it reorders pictures.
pub(super) fn advice(info: &StreamInfo) -> Vec<String> {
    if info.reordering && info.advice.is_empty() {
        return vec![REORDERING_ADVICE.to_owned()];
    }
    info.advice.clone()
}
