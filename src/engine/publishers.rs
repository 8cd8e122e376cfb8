//! Publishers of this core: RTMP session, ingest, and the way into their room.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::guard::guarded;
use super::{Engine, EngineOutput, Timer, publish_end};
use crate::ids::{CoreId, Epoch, PublisherId, RoomId, RoomName};
use crate::ingest::{Ingest, IngestOutput};
use crate::media::codec::AudioConfig;
use crate::media::frame::{AudioFrame, StreamInfo, TrackKind};
use crate::media::time::MediaTime;
use crate::media::verdict::{Severity, Verdict};
use crate::messages::{ControlMsg, PublishEnd, PublishRejection, TranscodeMsg};
use crate::rtmp::{CloseReason, Rejection, RtmpConfig, RtmpEvent, RtmpOutput, RtmpSession};
use crate::webrtc::packetize::Packetizer;

/// `code` of the `onStatus` that tells a publisher what to change: encoders know none of that
/// name, so they log it.
const NOTICE_CODE: &str = "NetStream.Publish.Notice";

/// One RTMP connection.
pub(super) struct Publisher {
    session: RtmpSession,
    peer: SocketAddr,
    publish: Option<Publish>,
    dirty: bool,
    /// Whether the publish ended before the connection did, and control knows.
    finished: bool,
    /// Whether messages wait in the session because they came ahead of their time.
    held: bool,
    /// Whether it is being closed by us: nothing waits then.
    hurry: bool,
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

impl Publisher {
    /// When its next message is to be taken, if not now.
    fn resume_at(&self, now: Instant) -> Option<Instant> {
        let publish = self.publish.as_ref().filter(|_| !self.hurry);
        publish?.ingest.resume_at(now)
    }
}

/// What it publishes, once accepted.
struct Publish {
    room: RoomId,
    name: RoomName,
    epoch: Epoch,
    ingest: Ingest,
    video: Packetizer,
    audio: Packetizer,
    info: StreamInfo,
    /// How its audio is coded.
    audio_config: Option<AudioConfig>,
    /// Whether its audio is being transcoded.
    transcoding: bool,
    /// Codes of what the publisher itself was told to change.
    notified: BTreeSet<&'static str>,
}

impl Engine {
    /// Takes over a connection that control accepted.
    pub fn add_publisher(&mut self, publisher: PublisherId, peer: SocketAddr, now: Instant) {
        let session = RtmpSession::new(peer, RtmpConfig::default(), now);
        let state = Publisher {
            session,
            peer,
            publish: None,
            dirty: false,
            finished: false,
            held: false,
            hurry: false,
        };
        self.publishers.insert(publisher, state);
        self.mark_publisher(publisher);
        if self.draining {
            self.close_publisher(publisher, now);
        }
    }

    /// Takes bytes that a publisher sent.
    pub fn handle_publisher_input(&mut self, publisher: PublisherId, bytes: &[u8], now: Instant) {
        self.counters.rtmp_bytes.add_len(bytes.len());
        self.with_session(publisher, |session| session.handle_input(bytes, now));
    }

    /// A publisher closed its connection; `error` when it broke.
    pub fn handle_publisher_closed(&mut self, publisher: PublisherId, error: bool, now: Instant) {
        self.with_session(publisher, |session| session.handle_eof(error, now));
    }

    /// Whether nothing is to be read from a publisher for now: it is ahead of the clock, and what
    /// was read waits already. To be asked after [`Self::poll_output`] said `Timeout`.
    #[must_use]
    pub fn is_held(&self, publisher: PublisherId) -> bool {
        self.publishers
            .get(&publisher)
            .is_some_and(|state| state.held)
    }

    pub(super) fn publisher_timeout(&mut self, publisher: PublisherId, now: Instant) {
        if self.is_held(publisher) {
            self.with_session(publisher, |session| session.keep_alive(now));
        }
        self.with_session(publisher, |session| session.handle_timeout(now));
    }

    pub(super) fn close_publisher(&mut self, publisher: PublisherId, now: Instant) {
        if let Some(state) = self.publishers.get_mut(&publisher) {
            state.hurry = true;
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
        let timebase = self.timebase;
        let Some(state) = self.publishers.get_mut(&publisher) else {
            return;
        };
        state.publish = Some(Publish {
            room,
            name,
            epoch,
            ingest: Ingest::new(timebase, epoch),
            video: Packetizer::new(TrackKind::Video, epoch),
            audio: Packetizer::new(TrackKind::Audio, epoch),
            info: StreamInfo::default(),
            audio_config: None,
            transcoding: false,
            notified: BTreeSet::new(),
        });
        let room_state = self.room_entry(room);
        room_state.room.begin(epoch);
        room_state.publisher = Some(publisher);
        let cursor = room_state.room.join();
        room_state.links = links.iter().map(|&core| (core, cursor)).collect();
        self.with_session(publisher, |session| session.accept_publish(now));
    }

    /// Takes what came out of a publisher's session until it is idle.
    pub(super) fn serve_publisher(&mut self, publisher: PublisherId, now: Instant) {
        let Some(state) = self.publishers.get_mut(&publisher) else {
            return;
        };
        state.dirty = false;
        loop {
            let Some(state) = self.publishers.get_mut(&publisher) else {
                return;
            };
            state.held = false;
            if let Some(at) = state.resume_at(now) {
                state.held = true;
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
                            log::warn!("publisher broke the protocol: {error} peer={peer}");
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
                    self.forget_publisher(publisher, end);
                    return;
                }
                RtmpOutput::Timeout(at) => {
                    self.deadlines.set(Timer::Publisher(publisher), at);
                    return;
                }
            }
        }
    }

    /// Starts or stops a publish's audio transcoding as somebody listens or not.
    pub(super) fn update_transcoding(&mut self, publisher: PublisherId) {
        let Some(publish) = self.publish_mut(publisher) else {
            return;
        };
        let (room, was) = (publish.room, publish.transcoding);
        let config = publish.audio_config.clone();
        let watched = self
            .rooms
            .get(&room)
            .is_some_and(|state| state.is_watched());
        let wanted = watched && config.is_some();
        if wanted == was {
            return;
        }
        let message = match config.filter(|_| wanted) {
            Some(config) => TranscodeMsg::Open {
                core: self.core,
                publisher,
                config,
            },
            None => TranscodeMsg::Close { publisher },
        };
        self.outputs
            .push_back(EngineOutput::Transcode { publisher, message });
        if let Some(publish) = self.publish_mut(publisher) {
            publish.transcoding = wanted;
        }
    }

    /// Adds a transcoded audio packet to its room.
    pub(super) fn push_audio(
        &mut self,
        publisher: PublisherId,
        pts: MediaTime,
        data: Bytes,
        received: Instant,
    ) {
        let Some(publish) = self.publish_mut(publisher) else {
            return;
        };
        let frame = AudioFrame {
            pts,
            data,
            received,
        };
        let room = publish.room;
        if let Some(set) = publish.audio.audio(&frame) {
            self.push_frame(room, Arc::new(set));
        }
    }

    pub(super) fn audio_unplayable(&mut self, publisher: PublisherId, text: String, now: Instant) {
        let Some(publish) = self.publish_mut(publisher) else {
            return;
        };
        log::warn!("audio cannot be played: {text} room={}", publish.name);
        publish.audio_config = None;
        publish.transcoding = false;
        if !publish.info.advice.contains(&text) {
            publish.info.advice.push(text);
        }
        self.tell_stream_info(publisher, now);
    }

    fn publish_mut(&mut self, publisher: PublisherId) -> Option<&mut Publish> {
        self.publishers.get_mut(&publisher)?.publish.as_mut()
    }

    fn mark_publisher(&mut self, publisher: PublisherId) {
        if let Some(state) = self.publishers.get_mut(&publisher)
            && !state.dirty
        {
            state.dirty = true;
            self.dirty_publishers.push_back(publisher);
        }
    }

    /// Runs one step of a session under the guard, then marks it for [`Self::serve_publisher`].
    fn with_session(&mut self, publisher: PublisherId, step: impl FnOnce(&mut RtmpSession)) {
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

    fn forget_publisher(&mut self, publisher: PublisherId, end: PublishEnd) {
        self.end_publish(publisher);
        self.deadlines.remove(Timer::Publisher(publisher));
        if self
            .publishers
            .remove(&publisher)
            .is_some_and(|state| !state.finished)
        {
            self.control(ControlMsg::PublishEnded {
                publisher,
                reason: end,
            });
        }
        self.outputs.push_back(EngineOutput::CloseTcp { publisher });
    }

    /// The encoder said that it is done. Its connection stays open until it closes it, or the
    /// session's deadline does: an encoder whose last words meet a closed socket reports an error.
    fn publish_finished(&mut self, publisher: PublisherId) {
        self.end_publish(publisher);
        let Some(state) = self.publishers.get_mut(&publisher) else {
            return;
        };
        if !state.finished {
            state.finished = true;
            let reason = PublishEnd::Finished;
            self.control(ControlMsg::PublishEnded { publisher, reason });
        }
    }

    fn end_publish(&mut self, publisher: PublisherId) {
        let Some(state) = self.publishers.get_mut(&publisher) else {
            return;
        };
        let Some(publish) = state.publish.take() else {
            return;
        };
        if publish.transcoding {
            let message = TranscodeMsg::Close { publisher };
            self.outputs
                .push_back(EngineOutput::Transcode { publisher, message });
        }
        self.end_room(publish.room, publish.epoch);
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
                if state.finished {
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
            }
            RtmpEvent::PublishFinished => self.publish_finished(publisher),
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

    fn ingest_output(&mut self, publisher: PublisherId, output: IngestOutput, now: Instant) {
        let Some(publish) = self.publish_mut(publisher) else {
            return;
        };
        let room = publish.room;
        match output {
            IngestOutput::Video(frame) => {
                if let Some(set) = publish.video.video(&frame) {
                    self.push_frame(room, Arc::new(set));
                }
            }
            IngestOutput::VideoConfig(_) | IngestOutput::Coded(_) => {}
            IngestOutput::AudioConfig(config) => {
                let open = publish.transcoding;
                publish.audio_config = Some(config.clone());
                if open {
                    let message = TranscodeMsg::Configure { publisher, config };
                    self.outputs
                        .push_back(EngineOutput::Transcode { publisher, message });
                }
                self.update_transcoding(publisher);
            }
            IngestOutput::Audio(unit) => {
                if publish.transcoding {
                    let (pts, data, received) = (unit.pts, unit.data, unit.received);
                    let message = TranscodeMsg::Unit {
                        publisher,
                        pts,
                        data,
                        received,
                    };
                    self.outputs
                        .push_back(EngineOutput::Transcode { publisher, message });
                }
            }
            IngestOutput::Info(info) => {
                publish.info = info;
                self.tell_stream_info(publisher, now);
            }
            IngestOutput::Warning(warning) => {
                log::warn!("{warning} room={}", publish.name);
            }
            IngestOutput::Verdict(verdict) => {
                let epoch = publish.epoch;
                self.notify_publisher(publisher, &verdict);
                self.control(ControlMsg::StreamJudged {
                    room,
                    epoch,
                    verdict,
                });
            }
        }
    }

    /// Tells the publisher itself what it should change, each thing once.
    fn notify_publisher(&mut self, publisher: PublisherId, verdict: &Verdict) {
        // One that sends ahead may have closed already, and what is written then would cost us the
        // rest of what it sent.
        if verdict.figures.holds > 0 {
            return;
        }
        let Some(state) = self.publishers.get_mut(&publisher) else {
            return;
        };
        let Some(publish) = &mut state.publish else {
            return;
        };
        for item in &verdict.items {
            if item.severity > Severity::Info && publish.notified.insert(item.code) {
                state.session.notify(NOTICE_CODE, &item.to_string());
            }
        }
    }

    fn tell_stream_info(&mut self, publisher: PublisherId, _now: Instant) {
        let Some(publish) = self.publish_mut(publisher) else {
            return;
        };
        let (room, epoch, info) = (publish.room, publish.epoch, publish.info.clone());
        self.control(ControlMsg::StreamChanged { room, epoch, info });
    }
}
