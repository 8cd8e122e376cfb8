//! Publishers of this core: RTMP session, ingest, and the way into their room.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::ending::Ending;
use super::guard::guarded;
use super::safe_video::{SafeVideo, Whose};
use super::sound::Sound;
use super::spread::Spread;
use super::telling::Telling;
use super::transcoding::{coded, is_source_safe};
use super::{Engine, EngineOutput, Timer, publish_end};
use crate::ids::{CoreId, Epoch, PublisherId, RoomId, RoomName};
use crate::ingest::{Ingest, IngestOutput};
use crate::media::codec::TranscodeState;
use crate::media::frame::{StreamInfo, TrackKind};
use crate::media::time::MediaTime;
use crate::messages::{ControlMsg, PublishEnd, PublishRejection};
use crate::rtmp::{CloseReason, Rejection, RtmpConfig, RtmpEvent, RtmpOutput, RtmpSession};
use crate::webrtc::packetize::Packetizer;

/// One RTMP connection.
pub(super) struct Publisher {
    pub(super) session: RtmpSession,
    peer: SocketAddr,
    pub(super) publish: Option<Publish>,
    dirty: bool,
    /// Whether the publish ended before the connection did, and control knows.
    pub(super) finished: bool,
    /// Whether messages wait in the session because they came ahead of their time.
    pub(super) held: bool,
    /// Whether it is being closed by us: nothing waits then.
    pub(super) hurry: bool,
    /// When its last bytes came.
    pub(super) heard: Instant,
    /// Whether its next bytes must be told to control.
    pub(super) questioned: bool,
    /// What its publish waits for, once it is done.
    pub(super) ending: Option<Ending>,
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

impl Publisher {
    /// Whether its connection is gone, and only its publish is to end.
    fn is_gone(&self) -> bool {
        self.ending.as_ref().is_some_and(|ending| ending.gone)
    }
}

/// What it publishes, once accepted.
pub(super) struct Publish {
    pub(super) room: RoomId,
    pub(super) name: RoomName,
    pub(super) epoch: Epoch,
    pub(super) ingest: Ingest,
    video: Packetizer,
    pub(super) audio: Packetizer,
    /// Its sound on the way to the room.
    pub(super) spread: Spread,
    pub(super) info: StreamInfo,
    /// How often control may be told of that.
    pub(super) telling: Telling,
    /// What is made of its video where browsers cannot play it.
    pub(super) safe: SafeVideo,
    /// What becomes of its video where browsers cannot play it.
    pub(super) transcoding: TranscodeState,
    /// Why its viewers have no picture, as control knows it.
    pub(super) told_trouble: Option<String>,
    /// Its audio on the way to the transcode worker.
    pub(super) sound: Sound,
    /// When what came last is shown or heard, if not before something else.
    pub(super) newest: MediaTime,
    /// Codes of what the publisher itself was told to change.
    pub(super) notified: BTreeSet<&'static str>,
}

impl Engine {
    /// Takes over a connection that control accepted.
    pub fn add_publisher(&mut self, publisher: PublisherId, peer: SocketAddr, now: Instant) {
        let mut session = RtmpSession::new(peer, RtmpConfig::default(), now);
        session.acknowledge_when_drained();
        let state = Publisher {
            session,
            peer,
            publish: None,
            dirty: false,
            finished: false,
            held: false,
            hurry: false,
            heard: now,
            questioned: false,
            ending: None,
        };
        self.publishers.insert(publisher, state);
        self.counters.rtmp_accepted.inc();
        self.mark_publisher(publisher);
        if self.draining {
            self.close_publisher(publisher, now);
        }
    }

    /// Takes bytes that a publisher sent.
    pub fn handle_publisher_input(&mut self, publisher: PublisherId, bytes: &[u8], now: Instant) {
        self.counters.rtmp_bytes.add_len(bytes.len());
        self.publisher_heard(publisher, now);
        self.with_session(publisher, |session| session.handle_input(bytes, now));
    }

    /// All that a publisher sent so far was handed in.
    pub fn handle_publisher_drained(&mut self, publisher: PublisherId) {
        self.with_session(publisher, RtmpSession::handle_drained);
    }

    /// A publisher closed its connection; `error` when it broke.
    pub fn handle_publisher_closed(&mut self, publisher: PublisherId, error: bool, now: Instant) {
        self.with_session(publisher, |session| session.handle_eof(error, now));
    }

    pub(super) fn publisher_timeout(&mut self, publisher: PublisherId, now: Instant) {
        self.keep_held_alive(publisher, now);
        self.with_session(publisher, |session| session.handle_timeout(now));
    }

    pub(super) fn close_publisher(&mut self, publisher: PublisherId, now: Instant) {
        let Some(state) = self.publishers.get_mut(&publisher) else {
            return;
        };
        state.hurry = true;
        if state.is_gone() {
            self.forget_publisher(publisher, PublishEnd::Closed);
            return;
        }
        self.with_session(publisher, |session| session.close(now));
    }

    pub(super) fn publish_rejected(
        &mut self,
        publisher: PublisherId,
        rejection: PublishRejection,
        now: Instant,
    ) {
        let rejection = match rejection {
            PublishRejection::Busy => Rejection::Busy,
            PublishRejection::BadName => Rejection::BadName,
            PublishRejection::Stopping => Rejection::Stopping,
            PublishRejection::Full => Rejection::Full,
        };
        self.with_session(publisher, |session| session.reject_publish(rejection, now));
    }

    pub(super) fn publish_accepted(
        &mut self,
        publisher: PublisherId,
        room: RoomId,
        name: RoomName,
        epoch: Epoch,
        links: &[CoreId],
        now: Instant,
    ) {
        let (timebase, core) = (self.timebase, self.core);
        let Some(state) = self.publishers.get_mut(&publisher) else {
            return;
        };
        if state.finished {
            // It took its request back meanwhile, and control has been told: the room is another's.
            return;
        }
        let whose = Whose {
            core,
            publisher,
            name: name.clone(),
        };
        let before = state.publish.replace(Publish {
            room,
            name,
            epoch,
            ingest: Ingest::new(timebase, epoch),
            video: Packetizer::new(TrackKind::Video, epoch),
            audio: Packetizer::new(TrackKind::Audio, epoch),
            spread: Spread::default(),
            info: StreamInfo::default(),
            telling: Telling::default(),
            safe: SafeVideo::new(whose, epoch),
            transcoding: TranscodeState::default(),
            told_trouble: None,
            sound: Sound::default(),
            newest: MediaTime::ZERO,
            notified: BTreeSet::new(),
        });
        if before.is_none() {
            self.counters.publishers.inc();
        }
        let room_state = self.room_entry(room);
        room_state.room.begin(epoch);
        room_state.publisher = Some(publisher);
        let feed = room_state.room.feed();
        room_state.links = links.iter().map(|&core| (core, feed)).collect();
        self.with_session(publisher, |session| session.accept_publish(now));
    }

    /// Takes what came out of a publisher's session until it is idle.
    pub(super) fn serve_publisher(&mut self, publisher: PublisherId, now: Instant) {
        let Some(state) = self.publishers.get_mut(&publisher) else {
            return;
        };
        state.dirty = false;
        if state.is_gone() {
            return;
        }
        self.update_video(publisher, now);
        loop {
            let Some(state) = self.publishers.get_mut(&publisher) else {
                return;
            };
            state.held = false;
            if let Some(at) = state.resume_at(now) {
                state.held = true;
                state.session.acknowledge_late();
                self.deadlines.set(Timer::Publisher(publisher), at);
                return;
            }
            let Some(output) = guarded(|| state.session.poll_output(now)) else {
                self.drop_publisher_for_bug(publisher);
                return;
            };
            match output {
                RtmpOutput::Transmit(bytes) => {
                    self.outputs
                        .push_back(EngineOutput::Tcp { publisher, bytes });
                }
                RtmpOutput::Event(event) => self.publisher_event(publisher, event, now),
                RtmpOutput::Close(reason) => {
                    let peer = state.peer;
                    let end = publish_end(&reason);
                    match &reason {
                        CloseReason::Protocol(error) => {
                            self.counters.rtmp_errors.inc();
                            if let Some(left_out) = self.protocol_complaints.admit(now) {
                                log::warn!(
                                    "publisher broke the protocol: {error} peer={peer}{left_out}"
                                );
                            }
                        }
                        CloseReason::PeerClosed
                        | CloseReason::Reset
                        | CloseReason::Idle
                        | CloseReason::SetupTimeout
                        | CloseReason::Rejected
                        | CloseReason::Closed => {
                            log::debug!("publisher closed: {} peer={peer}", end.as_str());
                        }
                    }
                    self.publisher_gone(publisher, end, now);
                    return;
                }
                RtmpOutput::Timeout(at) => {
                    self.deadlines.set(Timer::Publisher(publisher), at);
                    return;
                }
            }
        }
    }

    /// Whether a publish goes on only for what it brought.
    pub(super) fn is_ending(&self, publisher: PublisherId) -> bool {
        let state = self.publishers.get(&publisher);
        state.is_some_and(|state| state.ending.is_some())
    }

    pub(super) fn publish_mut(&mut self, publisher: PublisherId) -> Option<&mut Publish> {
        self.publishers.get_mut(&publisher)?.publish.as_mut()
    }

    pub(super) fn mark_publisher(&mut self, publisher: PublisherId) {
        if let Some(state) = self.publishers.get_mut(&publisher)
            && !state.dirty
        {
            state.dirty = true;
            self.dirty_publishers.push_back(publisher);
        }
    }

    /// Runs one step of a session under the guard, then marks it for [`Self::serve_publisher`].
    pub(super) fn with_session(
        &mut self,
        publisher: PublisherId,
        step: impl FnOnce(&mut RtmpSession),
    ) {
        let Some(state) = self.publishers.get_mut(&publisher) else {
            return;
        };
        if guarded(|| step(&mut state.session)).is_none() {
            self.drop_publisher_for_bug(publisher);
            return;
        }
        self.mark_publisher(publisher);
    }

    fn drop_publisher_for_bug(&mut self, publisher: PublisherId) {
        self.counters.panics.inc();
        log::error!("a bug ended a publisher's session, please report it publisher={publisher}");
        self.forget_publisher(publisher, PublishEnd::Protocol);
    }

    pub(super) fn forget_publisher(&mut self, publisher: PublisherId, end: PublishEnd) {
        self.end_publish(publisher);
        self.deadlines.remove(Timer::Publisher(publisher));
        let Some(state) = self.publishers.remove(&publisher) else {
            return;
        };
        if !state.finished {
            let reason = state.ending.as_ref().map_or(end, |ending| ending.reason);
            self.control(ControlMsg::PublishEnded { publisher, reason });
        }
        if !state.is_gone() {
            self.outputs.push_back(EngineOutput::CloseTcp { publisher });
        }
    }

    pub(super) fn end_publish(&mut self, publisher: PublisherId) {
        let Some(state) = self.publishers.get_mut(&publisher) else {
            return;
        };
        if state.publish.is_none() {
            return;
        }
        self.tell_info_before(publisher);
        self.stop_video(publisher);
        self.flush_audio(publisher);
        self.deadlines.remove(Timer::Ending(publisher));
        let Some(publish) = self
            .publishers
            .get_mut(&publisher)
            .and_then(|state| state.publish.take())
        else {
            return;
        };
        self.counters.publishers.dec();
        self.end_sound(publisher, &publish.sound);
        self.end_room(publish.room, publish.epoch, publisher);
    }

    fn publisher_event(&mut self, publisher: PublisherId, event: RtmpEvent, now: Instant) {
        match event {
            RtmpEvent::PublishRequested {
                app,
                key,
                query,
                info,
            } => {
                let Some(state) = self.publishers.get(&publisher) else {
                    return;
                };
                if state.finished || state.ending.is_some() {
                    // Control has let go of this connection: an encoder that publishes again
                    // connects again.
                    self.close_publisher(publisher, now);
                    return;
                }
                let peer = state.peer;
                log::debug!("publish requested app={app:?} encoder={:?}", info.flash_ver);
                let core = self.core;
                self.control(ControlMsg::PublishRequested {
                    core,
                    publisher,
                    app,
                    key,
                    query,
                    peer,
                });
            }
            RtmpEvent::Video {
                timestamp_ms,
                payload,
            } => {
                self.ingest(publisher, now, |ingest| {
                    ingest.handle_video(timestamp_ms, payload, now);
                });
            }
            RtmpEvent::Audio {
                timestamp_ms,
                payload,
            } => {
                self.ingest(publisher, now, |ingest| {
                    ingest.handle_audio(timestamp_ms, payload, now);
                });
            }
            RtmpEvent::Metadata(metadata) => {
                log::debug!("metadata publisher={publisher} {metadata:?}");
                let (width, height) = (metadata.width, metadata.height);
                let metadata = crate::ingest::Metadata::new(width, height, metadata.framerate);
                self.ingest(publisher, now, |ingest| ingest.handle_metadata(metadata));
            }
            RtmpEvent::PublishFinished => self.publish_finished(publisher, now),
        }
    }

    /// Runs one step of ingest under the guard and carries on what comes out.
    fn ingest(&mut self, publisher: PublisherId, now: Instant, step: impl FnOnce(&mut Ingest)) {
        let Some(publish) = self.publish_mut(publisher) else {
            return;
        };
        let outputs = guarded(|| {
            step(&mut publish.ingest);
            std::iter::from_fn(|| publish.ingest.poll_output()).collect::<Vec<_>>()
        });
        let Some(outputs) = outputs else {
            self.drop_publisher_for_bug(publisher);
            return;
        };
        for output in outputs {
            self.ingest_output(publisher, output, now);
        }
    }

    pub(super) fn ingest_output(
        &mut self,
        publisher: PublisherId,
        output: IngestOutput,
        now: Instant,
    ) {
        let mode = self.video_mode;
        let Some(publish) = self.publish_mut(publisher) else {
            return;
        };
        let (room, is_safe) = (publish.room, is_source_safe(mode, &publish.info));
        match output {
            IngestOutput::Video(frame) => {
                publish.newest = publish.newest.max(frame.pts);
                publish.video.set_safe(is_safe);
                if let Some(set) = publish.video.video(&frame) {
                    self.push_frame(room, Arc::new(set), now);
                }
                self.video_coded(publisher, coded(&frame), now);
            }
            IngestOutput::VideoConfig(config) => self.video_configured(publisher, config),
            IngestOutput::Coded(frame) => self.video_not_kept(publisher, frame, now),
            IngestOutput::AudioConfig(config) => self.audio_configured(publisher, config, now),
            IngestOutput::Audio(unit) => self.audio_unit(publisher, unit),
            IngestOutput::Info(info) => {
                publish.info = info;
                self.tell_stream_info(publisher, now);
            }
            IngestOutput::Warning(warning) => {
                log::warn!("{warning} room={}", publish.name);
            }
            IngestOutput::Verdict(verdict) => {
                let epoch = publish.epoch;
                self.tell_info_before(publisher);
                let verdict = self.with_conversion(publisher, verdict);
                self.notify_publisher(publisher, &verdict);
                self.control(ControlMsg::StreamJudged {
                    room,
                    epoch,
                    verdict,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests;
