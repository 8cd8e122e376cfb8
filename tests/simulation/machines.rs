//! The world's machines: what reaches cores, the transcode worker and control, and what comes out of
//! them. Each is drained as its loop in `runtime` does it.

use std::time::Duration;

use rtmpeer::control::{ControlOutput, Ends};
use rtmpeer::engine::EngineOutput;
use rtmpeer::ids::CoreId;
use rtmpeer::limits::{CONTROL_MAILBOX_MESSAGES, CORE_MAILBOX_MESSAGES, TRANSCODE_INBOX_UNITS};
use rtmpeer::messages::{ControlMsg, CoreMsg, MediaMsg, TranscodeMsg, TranscodeReply, VideoMsg};
use rtmpeer::webrtc::batch::{BATCH_BYTES_MAX, BATCH_TRAINS_MAX};

use super::publisher::Anchor;
use super::viewer::{SimViewer, Stage};
use super::world::{
    ControlInput, CoreInput, Due, PublisherInput, SERVER, SILENCE_MAX, ViewerInput, World,
};

/// Outputs of one turn apart from datagrams: more were piled up.
const OUTPUTS_PER_TURN_MAX: u32 = 10_000;
/// A batch may be so much larger than full: one viewer's frame is not cut.
const BATCH_EXCESS_BYTES: usize = 64 * 1_024;
/// Answers to the datagrams of one turn, of which a core's loop takes 512, each a train.
const BATCH_EXCESS_TRAINS: usize = 512;

impl World {
    // -- cores --

    pub(super) fn deliver_to_core(&mut self, index: usize, input: CoreInput) {
        let now = self.now;
        let core = &mut self.cores[index];
        core.is_due = true;
        match input {
            CoreInput::Mail(message) => {
                core.mail_waiting -= 1;
                core.engine.handle_message(message, now);
            }
            CoreInput::Accepted {
                publisher,
                id,
                peer,
            } => {
                core.mail_waiting -= 1;
                core.engine.add_publisher(id, peer, now);
                self.post(now, Due::Publisher(publisher, PublisherInput::Connected));
            }
            CoreInput::Transcoded(reply) => {
                core.mail_waiting -= 1;
                core.engine.handle_transcoded(reply, now);
            }
            CoreInput::VideoMade(reply) => {
                core.mail_waiting -= 1;
                core.engine.handle_video_reply(reply, now);
            }
            CoreInput::Media(message) => {
                core.media_waiting -= 1;
                core.engine.handle_media(message, now);
            }
            CoreInput::Datagram { from, data } => {
                core.engine.handle_datagram(from, SERVER, &data, now);
            }
            CoreInput::Tcp {
                publisher,
                bytes,
                completes,
            } => {
                let publisher = &mut self.publishers[publisher];
                let (false, Some((_, id))) = (publisher.closed_by_server, publisher.id) else {
                    return;
                };
                if let Some(clip_ms) = completes {
                    publisher.anchor.get_or_insert(Anchor { at: now, clip_ms });
                }
                core.engine.handle_publisher_input(id, &bytes, now);
            }
            CoreInput::TcpClosed { publisher, error } => {
                let publisher = &self.publishers[publisher];
                if let (false, Some((_, id))) = (publisher.closed_by_server, publisher.id) {
                    core.engine.handle_publisher_closed(id, error, now);
                }
            }
        }
    }

    pub(super) fn turn_core(&mut self, index: usize) {
        let (now, start) = (self.now, self.start);
        let core = &mut self.cores[index];
        if core.stalled_until > now || !(core.is_due || core.next <= now) {
            return;
        }
        core.is_due = false;
        core.turns.count("a core", now - start);
        core.engine.handle_timeout(now);
        let mut outputs = 0;
        let mut spent = Duration::ZERO;
        loop {
            let core = &mut self.cores[index];
            match core.engine.poll_output(now) {
                EngineOutput::Datagrams => spent += self.send_batch(index, spent),
                EngineOutput::Timeout(next) => {
                    core.next = next;
                    break;
                }
                other @ (EngineOutput::Tcp { .. }
                | EngineOutput::CloseTcp { .. }
                | EngineOutput::Control(_)
                | EngineOutput::Core { .. }
                | EngineOutput::Media { .. }
                | EngineOutput::Transcode { .. }
                | EngineOutput::TranscodeVideo { .. }) => {
                    outputs += 1;
                    assert!(outputs <= OUTPUTS_PER_TURN_MAX, "outputs pile up");
                    self.core_output(index, other);
                }
            }
        }
        let core = &mut self.cores[index];
        assert_eq!(core.counters.panics.get(), 0, "a session panicked");
        if spent > Duration::ZERO {
            core.stalled_until = core.stalled_until.max(now + spent);
        }
    }

    /// Sends a core's batch, when its turn has taken so long already; how long it takes.
    fn send_batch(&mut self, index: usize, spent: Duration) -> Duration {
        let datagram_cost = self.cores[index].datagram_cost;
        let engine = &mut self.cores[index].engine;
        let batch = engine.batch();
        assert!(
            batch.bytes_len() <= BATCH_BYTES_MAX + BATCH_EXCESS_BYTES,
            "the batch grew"
        );
        assert!(
            batch.len() <= BATCH_TRAINS_MAX + BATCH_EXCESS_TRAINS,
            "the batch grew"
        );
        let mut datagrams = Vec::with_capacity(batch.datagrams());
        for (train, bytes) in batch.trains() {
            self.sounds_in_trains +=
                usize::from(ends_in_another_source(train.segment_bytes, bytes));
            for datagram in bytes.chunks(train.segment_bytes) {
                datagrams.push((train.to, datagram.to_vec()));
            }
        }
        let cost = datagram_cost * u32::try_from(datagrams.len()).unwrap();
        let sent_at = self.now + spent + cost;
        engine.batch_sent(sent_at);
        for (to, datagram) in datagrams {
            assert!(
                self.every_address.contains(&to),
                "{to} never was a viewer, but got something"
            );
            let Some(&viewer) = self.addresses.get(&to) else {
                continue;
            };
            let state = &mut self.viewers[viewer];
            let quality = state.quality_now();
            for at in state.down.carry(&quality, sent_at).into_iter().flatten() {
                let input = ViewerInput::Datagram(datagram.clone());
                self.post(at, Due::Viewer(viewer, input));
            }
        }
        cost
    }

    fn core_output(&mut self, index: usize, output: EngineOutput) {
        match output {
            EngineOutput::Tcp { publisher, bytes } => {
                if let Some(publisher) = self.publisher_of(publisher) {
                    let at = self.now + Duration::from_millis(5);
                    self.post(at, Due::Publisher(publisher, PublisherInput::Bytes(bytes)));
                }
            }
            EngineOutput::CloseTcp { publisher } => {
                if let Some(publisher) = self.publisher_of(publisher) {
                    self.trace
                        .note(self.now, format_args!("publisher {publisher} is closed"));
                    self.publishers[publisher].closed_by_server = true;
                    let at = self.now + Duration::from_millis(5);
                    self.post(at, Due::Publisher(publisher, PublisherInput::Closed));
                }
            }
            EngineOutput::Control(message) => {
                self.note_control_message(&message);
                self.post_control(ControlInput::Mail(message));
            }
            EngineOutput::Core { to, message } => {
                assert!(
                    matches!(message, CoreMsg::Datagram { .. }),
                    "cores only pass datagrams"
                );
                self.post_core(to, CoreInput::Mail(message));
            }
            EngineOutput::Media { to, message } => self.post_media(index, to, message),
            EngineOutput::Transcode {
                publisher: _,
                message,
            } => self.post_transcode(message),
            EngineOutput::TranscodeVideo { message } => {
                let delay = self.chance.micros(2_000, 15_000);
                self.last_video = self.last_video.max(self.now + delay);
                self.post(self.last_video, Due::TranscodeVideo(message));
            }
            EngineOutput::Datagrams | EngineOutput::Timeout(_) => unreachable!(),
        }
    }

    fn post_core(&mut self, to: CoreId, input: CoreInput) {
        let delay = self.chance.micros(5, 300);
        let core = &mut self.cores[to.index()];
        core.mail_waiting += 1;
        assert!(
            core.mail_waiting <= CORE_MAILBOX_MESSAGES,
            "a core's mailbox is full"
        );
        core.last_mail = core.last_mail.max(self.now + delay);
        let joins = matches!(input, CoreInput::Mail(CoreMsg::AddViewer { .. }));
        let wait = if joins {
            core.joins_wait
        } else {
            Duration::ZERO
        };
        let at = core.last_mail + wait;
        self.post(at, Due::Core(to.index(), input));
    }

    fn post_media(&mut self, from: usize, to: CoreId, message: MediaMsg) {
        let delay = self.chance.micros(5, 2_000);
        let core = &mut self.cores[to.index()];
        if core.media_waiting >= self.plan.media_frames {
            self.trace
                .note(self.now, format_args!("media mailbox of core {to} is full"));
            self.cores[from].engine.media_refused(to, &message);
            let (now, affected) = (self.now, Some(to));
            let viewers = self.viewers.iter_mut();
            let on_core = |viewer: &&mut SimViewer| viewer.id.map(|(_, core)| core) == affected;
            viewers
                .filter(on_core)
                .for_each(|viewer| viewer.watch.excuse(now));
            return;
        }
        core.media_waiting += 1;
        core.last_media = core.last_media.max(self.now + delay);
        let at = core.last_media;
        self.post(at, Due::Core(to.index(), CoreInput::Media(message)));
    }

    // -- the transcode worker --

    fn post_transcode(&mut self, message: TranscodeMsg) {
        self.transcode_waiting += 1;
        assert!(
            self.transcode_waiting <= TRANSCODE_INBOX_UNITS,
            "the transcoder's inbox is full"
        );
        let delay = self.chance.micros(200, 5_000);
        self.last_transcode = self.last_transcode.max(self.now + delay);
        self.post(self.last_transcode, Due::Transcode(message));
    }

    pub(super) fn transcode(&mut self, message: TranscodeMsg) {
        self.transcode_waiting -= 1;
        let mut replies = Vec::new();
        self.transcoder
            .handle(message, &mut |core, reply| replies.push((core, reply)));
        for (core, reply) in replies {
            if let TranscodeReply::Unplayable { text, .. } = &reply {
                panic!("good sound is called unplayable: {text}");
            }
            self.post_core(core, CoreInput::Transcoded(reply));
        }
        assert_eq!(self.transcoder.faults(), 0, "the transcoder panicked");
        assert_eq!(
            self.transcoder.strays(),
            0,
            "the transcoder is sent what it cannot place"
        );
    }

    pub(super) fn transcode_video(&mut self, message: VideoMsg) {
        for (core, reply) in self.encoder.handle(message) {
            self.post_core(core, CoreInput::VideoMade(reply));
        }
    }

    /// Every video encoder dies and begins anew.
    pub fn restart_encoders(&mut self) {
        self.trace.note(self.now, format_args!("encoders restart"));
        for (core, reply) in self.encoder.restart() {
            self.post_core(core, CoreInput::VideoMade(reply));
        }
        for room in &mut self.rooms {
            room.fault = self.now;
        }
    }

    // -- control --

    pub(super) fn post_control(&mut self, input: ControlInput) {
        let delay = self.chance.micros(5, 300);
        self.control_waiting += 1;
        assert!(
            self.control_waiting <= CONTROL_MAILBOX_MESSAGES,
            "control's mailbox is full"
        );
        self.last_control = self.last_control.max(self.now + delay);
        self.post(self.last_control, Due::Control(Box::new(input)));
    }

    pub(super) fn deliver_to_control(&mut self, input: ControlInput) {
        let now = self.now;
        self.control_waiting -= 1;
        self.control_is_due = true;
        match input {
            ControlInput::Mail(message) => self.control.handle_message(message, now),
            ControlInput::Accept { publisher } => {
                let peer = self.publishers[publisher].peer;
                let Ok((core, id)) = self.control.place_publisher(peer) else {
                    panic!("a publisher is not accepted");
                };
                self.trace.note(
                    now,
                    format_args!("publisher {publisher} is {id} on core {core}"),
                );
                self.publishers[publisher].id = Some((core, id));
                self.post_core(
                    core,
                    CoreInput::Accepted {
                        publisher,
                        id,
                        peer,
                    },
                );
            }
            ControlInput::Request {
                conn,
                peer,
                request,
            } => {
                self.asking = Some(conn);
                let ends = Ends {
                    peer: peer.ip(),
                    local: None,
                };
                self.control.handle_request(conn, ends, request, now);
            }
            ControlInput::WebSocket { conn, message } => {
                self.control.handle_websocket(conn, message, now);
            }
            ControlInput::Closed { conn } => self.control.handle_closed(conn, now),
        }
        // At once, so that it is known whose viewer was added.
        self.drain_control();
    }

    pub(super) fn drain_control(&mut self) {
        self.control_is_due = false;
        self.control_turns.count("control", self.now - self.start);
        loop {
            match self.control.poll_output(self.now) {
                ControlOutput::Core { to, message } => {
                    self.note_core_message(to, &message);
                    self.post_core(to, CoreInput::Mail(message));
                }
                ControlOutput::Respond { conn, response } => {
                    self.post_viewer(conn, ViewerInput::Response(response));
                }
                ControlOutput::Upgrade { .. } => {}
                ControlOutput::WebSocket { conn, message } => {
                    let message = message.message().clone();
                    self.post_viewer(conn, ViewerInput::WebSocket(message));
                }
                ControlOutput::CloseWebSocket { conn, .. } => {
                    self.post_viewer(conn, ViewerInput::Closed);
                }
                ControlOutput::Webhook(event) => {
                    let (room, kind) = (event.room.to_string(), event.kind.as_str());
                    self.trace
                        .note(self.now, format_args!("webhook {kind} {room}"));
                    if self.webhooks.take(&event) {
                        let room = self.rooms.iter_mut().find(|known| known.name == room);
                        let room = room.expect("a room of this world");
                        room.live = None;
                        room.fault = self.now;
                    }
                }
                ControlOutput::Timeout(next) => {
                    self.control_next = next;
                    return;
                }
                ControlOutput::Drained => panic!("nobody told it to stop"),
            }
        }
    }

    /// What control says to cores tells the world who was placed where.
    fn note_core_message(&mut self, to: CoreId, message: &CoreMsg) {
        let now = self.now;
        match message {
            CoreMsg::PublishAccepted {
                publisher,
                room,
                epoch,
                links,
                ..
            } => {
                let (id, links) = (publisher, links.len());
                self.trace.note(
                    now,
                    format_args!("{id} accepted {room} {epoch:?} links {links}"),
                );
                let publisher = self.publisher_of(*publisher).unwrap();
                let room = self.publishers[publisher].room;
                assert!(self.rooms[room].live.is_none(), "two publish to one room");
                self.rooms[room].live = Some(publisher);
                self.rooms[room].fault = now;
                let viewers = self.viewers.iter_mut().filter(|viewer| viewer.room == room);
                viewers.for_each(|viewer| viewer.watch.causes += 1);
            }
            CoreMsg::AddViewer { viewer, .. } => {
                // Control reads one request at a time.
                let asking = self.asking.and_then(|conn| self.conns.get(&conn));
                let asking = &mut self.viewers[*asking.expect("someone asked")];
                asking.id = Some((*viewer, to));
                if asking.stage != Stage::Asking {
                    self.must_leave.insert(*viewer, now + SILENCE_MAX);
                }
                self.trace
                    .note(now, format_args!("viewer {viewer} is added to core {to}"));
            }
            CoreMsg::LinkRoom { .. } | CoreMsg::UnlinkRoom { .. } => {
                self.trace.note(now, format_args!("core {to}: {message:?}"));
            }
            CoreMsg::PublishRejected { .. }
            | CoreMsg::QuestionPublisher { .. }
            | CoreMsg::ClosePublisher { .. }
            | CoreMsg::ViewerAnswer { .. }
            | CoreMsg::AddCandidate { .. }
            | CoreMsg::RemoveViewer { .. }
            | CoreMsg::BindViewer { .. }
            | CoreMsg::KeyframeWanted { .. }
            | CoreMsg::Drain { .. }
            | CoreMsg::Datagram { .. } => {}
        }
    }

    fn note_control_message(&mut self, message: &ControlMsg) {
        let now = self.now;
        match message {
            ControlMsg::ViewerLeft { viewer, reason } => {
                let reason = reason.as_str();
                self.trace
                    .note(now, format_args!("viewer {viewer} left: {reason}"));
                *self.ended.entry(reason).or_default() += 1;
                self.must_leave.remove(viewer);
                let has_id = |known: &&mut SimViewer| known.id.map(|(id, _)| id) == Some(*viewer);
                let Some(known) = self.viewers.iter_mut().find(has_id) else {
                    return;
                };
                if known.stage == Stage::Playing {
                    panic!("viewer {viewer} is well, and its session ended: {reason}");
                }
                known.stage = Stage::Gone;
            }
            ControlMsg::ViewerConnected { viewer } => {
                self.trace
                    .note(now, format_args!("viewer {viewer} is connected"));
                let has_id = |known: &&mut SimViewer| known.id.map(|(id, _)| id) == Some(*viewer);
                if let Some(known) = self.viewers.iter_mut().find(has_id) {
                    known.accepted = true;
                }
            }
            ControlMsg::PublishEnded { publisher, reason } => {
                self.trace
                    .note(now, format_args!("publish ended {publisher}: {reason:?}"));
            }
            ControlMsg::FeedWanted { .. } => {
                self.trace.note(now, format_args!("{message:?}"));
            }
            ControlMsg::PublishRequested { .. }
            | ControlMsg::PublishEnding { .. }
            | ControlMsg::PublisherAlive { .. }
            | ControlMsg::StreamChanged { .. }
            | ControlMsg::StreamJudged { .. }
            | ControlMsg::PictureTrouble { .. }
            | ControlMsg::KeyframeWanted { .. }
            | ControlMsg::ViewerSdp { .. }
            | ControlMsg::ViewerComplaint { .. }
            | ControlMsg::Drained { .. } => {}
        }
    }
}

/// Whether the last datagram of a train has another SSRC than the first; both are RTP (RFC 5761 §4).
fn ends_in_another_source(segment_bytes: usize, train: &[u8]) -> bool {
    let source = |datagram: &[u8]| match datagram {
        [128..=191, second, ..] if !(192..=223).contains(second) => {
            datagram.get(8..12).map(<[u8]>::to_vec)
        }
        _ => None,
    };
    let mut datagrams = train.chunks(segment_bytes);
    let first = datagrams.next().and_then(source);
    let last = datagrams.next_back().and_then(source);
    first.is_some() && last.is_some() && first != last
}
