//! One core's publishers, rooms and viewers: joins the protocol modules, which do not know each
//! other. Pure: sockets, clocks and threads are `runtime`'s.
//!
//! The shell hands in bytes, datagrams and messages, then calls [`Engine::poll_output`] until it
//! says [`EngineOutput::Timeout`]. Viewers are served one at a time there, so a keyframe for a
//! thousand viewers is never in memory a thousand times.

mod deadlines;
mod ending;
mod gop;
mod guard;
mod pace;
mod publishers;
mod rooms;
mod safe_video;
mod sound;
mod spread;
mod takeover;
mod telling;
#[cfg(test)]
mod tests;
mod transcoding;
mod turns;
mod viewer_table;
mod viewers;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::ids::{CoreId, IdSource, PublisherId, RoomId, ViewerId};
pub(crate) use crate::limits::complaints::Complaints;
pub use crate::media::codec::VideoMode;
use crate::media::frame::AudioFrame;
use crate::media::time::Timebase;
use crate::messages::{
    ControlMsg, CoreMsg, MediaMsg, PublishEnd, TranscodeMsg, TranscodeReply, VideoMsg, ViewerEnd,
};
use crate::metrics::CoreCounters;
pub use crate::webrtc::Certificate;
pub use crate::webrtc::batch::{SendBatch, Train};
use crate::webrtc::demux::{Demux, DropReason, Route};
use crate::webrtc::{ViewerError, ViewerFactory};
use deadlines::Deadlines;
use ending::Tail;
use publishers::Publisher;
use rooms::RoomState;
use turns::Turns;
use viewer_table::{Slot, ViewerTable};

/// Wake this often even if nothing comes due for longer, to show the watchdog life.
const IDLE_WAKE: Duration = Duration::from_secs(1);

/// What the shell is to do.
#[derive(Debug)]
pub enum EngineOutput {
    /// Send the datagrams of [`Engine::batch`], then call [`Engine::batch_sent`].
    Datagrams,
    /// Write to a publisher's connection.
    Tcp {
        /// Whose.
        publisher: PublisherId,
        /// The bytes.
        bytes: Bytes,
    },
    /// Close a publisher's connection once all was written.
    CloseTcp {
        /// Whose.
        publisher: PublisherId,
    },
    /// A message for control.
    Control(ControlMsg),
    /// A message for another core's engine.
    Core {
        /// Which core.
        to: CoreId,
        /// The message.
        message: CoreMsg,
    },
    /// Media for another core. If its mailbox is full, call [`Engine::media_refused`].
    Media {
        /// Which core.
        to: CoreId,
        /// The message.
        message: MediaMsg,
    },
    /// Work for the transcode worker of this publisher.
    Transcode {
        /// Whose audio.
        publisher: PublisherId,
        /// The message.
        message: TranscodeMsg,
    },
    /// Work for the video transcoders.
    TranscodeVideo {
        /// The message.
        message: VideoMsg,
    },
    /// Nothing more until input or this moment.
    Timeout(Instant),
}

/// What has a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Publisher(PublisherId),
    Viewer(ViewerId),
    /// What is known of a publish, to be told.
    Info(PublisherId),
    /// A publisher that another would replace.
    Question(PublisherId),
    /// A publish's video transcoding.
    Video(PublisherId),
    /// A publish's sound that waits for its time.
    Sound(PublisherId),
    /// A publish's audio transcoding, to be tried again.
    Audio(PublisherId),
    /// A publish whose publisher is done.
    Ending(PublisherId),
    Drain,
}

/// How an engine is made.
#[derive(Debug)]
pub struct EngineConfig {
    /// The core it runs on.
    pub core: CoreId,
    /// How many cores there are.
    pub cores: u16,
    /// The server's clock.
    pub timebase: Timebase,
    /// The process's DTLS certificate.
    pub certificate: Certificate,
    /// Where its secrets come from.
    pub ids: IdSource,
    /// Where it counts.
    pub counters: Arc<CoreCounters>,
}

/// One core's work. See the module's documentation.
#[derive(Debug)]
pub struct Engine {
    core: CoreId,
    timebase: Timebase,
    factory: ViewerFactory,
    demux: Demux,
    publishers: BTreeMap<PublisherId, Publisher>,
    rooms: BTreeMap<RoomId, RoomState>,
    viewers: ViewerTable,
    deadlines: Deadlines<Timer>,
    dirty_publishers: VecDeque<PublisherId>,
    turns: Turns,
    outputs: VecDeque<EngineOutput>,
    batch: SendBatch,
    /// When the oldest live picture in the batch was received.
    batch_oldest: Option<Instant>,
    /// The clock as it was read last: a turn may be long.
    clock: Option<Instant>,
    /// When it was last said that this core has too much to do.
    overload_told: Option<Instant>,
    counters: Arc<CoreCounters>,
    /// About publishers that broke the protocol.
    protocol_complaints: Complaints,
    /// About offers that could not be used.
    offer_complaints: Complaints,
    video_mode: VideoMode,
    notices: bool,
    draining: bool,
    drained_told: bool,
}

impl Engine {
    /// An engine without sessions.
    ///
    /// # Errors
    /// If the cryptography library refuses to work.
    pub fn new(config: EngineConfig) -> Result<Self, ViewerError> {
        let EngineConfig {
            core,
            cores,
            timebase,
            certificate,
            ids,
            counters,
        } = config;
        Ok(Self {
            core,
            timebase,
            factory: ViewerFactory::new(core, certificate, timebase, ids)?,
            demux: Demux::new(core, cores),
            publishers: BTreeMap::new(),
            rooms: BTreeMap::new(),
            viewers: ViewerTable::default(),
            deadlines: Deadlines::default(),
            dirty_publishers: VecDeque::new(),
            turns: Turns::default(),
            outputs: VecDeque::new(),
            batch: SendBatch::default(),
            batch_oldest: None,
            clock: None,
            overload_told: None,
            counters,
            protocol_complaints: Complaints::default(),
            offer_complaints: Complaints::default(),
            video_mode: VideoMode::default(),
            notices: false,
            draining: false,
            drained_told: false,
        })
    }

    /// Takes a message from control, or a datagram that another core forwards.
    pub fn handle_message(&mut self, message: CoreMsg, now: Instant) {
        match message {
            CoreMsg::PublishAccepted {
                publisher,
                room,
                name,
                epoch,
                links,
            } => {
                self.publish_accepted(publisher, room, name, epoch, &links, now);
            }
            CoreMsg::PublishRejected {
                publisher,
                rejection,
            } => {
                self.publish_rejected(publisher, rejection, now);
            }
            CoreMsg::ClosePublisher { publisher } => self.close_publisher(publisher, now),
            CoreMsg::QuestionPublisher { publisher, silence } => {
                self.question_publisher(publisher, silence);
            }
            CoreMsg::AddViewer {
                viewer,
                room,
                name,
                begin,
                candidates,
                profile_level_id,
            } => {
                let join = viewers::Join {
                    viewer,
                    room,
                    name,
                    begin,
                    candidates,
                    profile_level_id,
                };
                self.add_viewer(join, now);
            }
            CoreMsg::ViewerAnswer { viewer, sdp } => self.viewer_answer(viewer, &sdp, now),
            CoreMsg::AddCandidate { viewer, candidate } => {
                self.add_candidate(viewer, &candidate, now);
            }
            CoreMsg::RemoveViewer { viewer } => self.remove_viewer(viewer, ViewerEnd::Left, now),
            CoreMsg::LinkRoom { room, to } => self.link_room(room, to),
            CoreMsg::UnlinkRoom { room, to } => self.unlink_room(room, to),
            CoreMsg::BindViewer { viewer, rendition } => self.bind_viewer(viewer, rendition, now),
            CoreMsg::KeyframeWanted { room } => self.keyframe_wanted(room, now),
            CoreMsg::Drain { deadline } => self.drain(deadline, now),
            CoreMsg::Datagram { from, to, data } => self.handle_forwarded(from, to, &data, now),
        }
        self.check_invariants();
    }

    /// Takes media of a room that another core publishes.
    pub fn handle_media(&mut self, message: MediaMsg, now: Instant) {
        match message {
            MediaMsg::Frame { room, frame } => self.push_frame(room, frame, now),
            MediaMsg::Ended { room, epoch } => {
                if let Some(state) = self.rooms.get_mut(&room) {
                    state.room.end(epoch);
                }
            }
        }
    }

    /// Takes what a transcode worker made.
    pub fn handle_transcoded(&mut self, reply: TranscodeReply, now: Instant) {
        match reply {
            TranscodeReply::Packet {
                publisher,
                pts,
                data,
                received,
            } => {
                let frame = AudioFrame {
                    pts,
                    data,
                    received,
                };
                self.push_audio(publisher, frame, now);
            }
            TranscodeReply::Finished { publisher } => {
                self.tail_came(publisher, Tail::Audio, now);
            }
            TranscodeReply::Unplayable {
                publisher,
                config,
                text,
                retry_after,
            } => {
                self.audio_unplayable(publisher, &config, (text, retry_after), now);
                self.tail_came(publisher, Tail::Audio, now);
            }
        }
    }

    /// Whether an address has proved to be one of this core's viewers'.
    #[must_use]
    pub fn knows(&self, address: SocketAddr) -> bool {
        self.demux.knows(address)
    }

    /// Takes one datagram from the socket.
    pub fn handle_datagram(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        datagram: &[u8],
        now: Instant,
    ) {
        if let Some(core) = self.take_datagram(from, to, datagram, now) {
            self.counters.datagrams_forwarded.inc();
            let data = Bytes::copy_from_slice(datagram);
            let message = CoreMsg::Datagram { from, to, data };
            self.outputs
                .push_back(EngineOutput::Core { to: core, message });
        }
    }

    /// Takes one datagram that another core passed on: it is for a viewer of this core, or for
    /// nobody. Two cores that each take a stranger's address for the other's would else pass what
    /// comes from it back and forth, until their limits end it.
    pub fn handle_forwarded(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        datagram: &[u8],
        now: Instant,
    ) {
        if self.take_datagram(from, to, datagram, now).is_some() {
            self.count_dropped(DropReason::UnknownAddress);
        }
    }

    /// Gives a datagram to the viewer it is for. If that is another core's, which.
    fn take_datagram(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        datagram: &[u8],
        now: Instant,
    ) -> Option<CoreId> {
        match self.demux.route(from, datagram, now) {
            Route::Viewer(viewer) => self.viewer_datagram(viewer, from, to, datagram, now),
            Route::Candidate(viewer) => {
                if self.bind_candidate(viewer, from, to, datagram, now) {
                    self.viewer_datagram(viewer, from, to, datagram, now);
                }
            }
            Route::OtherCore(core) => return Some(core),
            Route::Drop(reason) => self.count_dropped(reason),
        }
        None
    }

    /// Does what has come due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.turns.begin();
        while let Some(timer) = self.deadlines.pop_due(now) {
            match timer {
                Timer::Publisher(publisher) => self.publisher_timeout(publisher, now),
                Timer::Viewer(viewer) => self.viewer_timeout(viewer, now),
                Timer::Info(publisher) => self.tell_waiting_info(publisher, now),
                Timer::Question(publisher) => self.question_unanswered(publisher),
                Timer::Video(publisher) => self.update_video(publisher, now),
                Timer::Sound(publisher) => self.release_audio(publisher, now),
                Timer::Audio(publisher) => self.retry_audio(publisher),
                Timer::Ending(publisher) => self.end_ending(publisher),
                Timer::Drain => self.close_everything(now),
            }
        }
    }

    /// Gives the next thing to do; call until [`EngineOutput::Timeout`] after any `handle_*`.
    pub fn poll_output(&mut self, now: Instant) -> EngineOutput {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return output;
            }
            if let Some(publisher) = self.dirty_publishers.pop_front() {
                self.serve_publisher(publisher, now);
                continue;
            }
            if self.batch.is_full() {
                return EngineOutput::Datagrams;
            }
            if let Some(viewer) = self.turns.pop() {
                self.prefetch_viewers();
                self.serve_viewer(viewer, now);
                continue;
            }
            if !self.batch.is_empty() {
                return EngineOutput::Datagrams;
            }
            if self.drained() {
                self.drained_told = true;
                return EngineOutput::Control(ControlMsg::Drained { core: self.core });
            }
            let took = self.clock.map(|clock| clock.saturating_duration_since(now));
            self.turns.end(took.unwrap_or_default());
            if self.turns.is_waiting() {
                return EngineOutput::Timeout(now);
            }
            let idle = now + IDLE_WAKE;
            return EngineOutput::Timeout(self.deadlines.next().map_or(idle, |at| at.min(idle)));
        }
    }

    /// Has what the next viewers need fetched while one is served: the state of the third, and what the
    /// state of the first points to, which was fetched two viewers ago.
    fn prefetch_viewers(&self) {
        if let Some(third) = self.turns.ahead(2) {
            self.viewers.prefetch(third);
        }
        if let Some(first) = self.turns.ahead(0) {
            self.viewers.prefetch_session(first);
        }
    }

    /// The datagrams to send.
    #[must_use]
    pub fn batch(&self) -> &SendBatch {
        &self.batch
    }

    /// The datagrams were sent, or dropped; `now` is read after that, for the time that live
    /// pictures spent here, and viewers in the queue.
    pub fn batch_sent(&mut self, now: Instant) {
        self.batch.clear();
        self.turns.batch_sent();
        self.clock = Some(now);
        if let Some(received) = self.batch_oldest.take() {
            self.counters
                .latency
                .observe(now.saturating_duration_since(received));
        }
    }

    /// Another core's media mailbox was full: its viewers go on at the next keyframe, because
    /// its ring refuses what does not continue it. Nothing is sent again: that would fill the
    /// mailbox further, a whole group of pictures for each frame.
    pub fn media_refused(&mut self, _to: CoreId, _message: &MediaMsg) {
        self.counters.media_mailbox_drops.inc();
    }

    /// Whether viewers at the live edge wait for the next turn.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.turns.is_behind()
    }

    /// Number of RTMP connections, rooms and viewers, for metrics and tests.
    #[must_use]
    pub fn sizes(&self) -> (usize, usize, usize) {
        (self.publishers.len(), self.rooms.len(), self.viewers.len())
    }

    fn control(&mut self, message: ControlMsg) {
        self.outputs.push_back(EngineOutput::Control(message));
    }

    fn drain(&mut self, deadline: Instant, now: Instant) {
        self.draining = true;
        if deadline > now {
            self.deadlines.set(Timer::Drain, deadline);
        }
        self.close_everything(now);
    }

    fn close_everything(&mut self, now: Instant) {
        let publishers: Vec<_> = self.publishers.keys().copied().collect();
        for publisher in publishers {
            self.close_publisher(publisher, now);
        }
        let viewers: Vec<_> = self.viewers.ids().collect();
        for viewer in viewers {
            self.remove_viewer(viewer, ViewerEnd::Closed, now);
        }
    }

    fn drained(&self) -> bool {
        self.draining && !self.drained_told && self.publishers.is_empty() && self.viewers.is_empty()
    }

    fn count_dropped(&self, reason: DropReason) {
        let counters = &self.counters;
        match reason {
            DropReason::Length | DropReason::Kind | DropReason::Malformed => {
                counters.datagrams_dropped_malformed.inc();
            }
            DropReason::UnknownAddress | DropReason::UnknownUfrag => {
                counters.datagrams_dropped_unknown.inc();
            }
            DropReason::RateLimited => counters.datagrams_dropped_limit.inc(),
        }
    }

    /// Holds in every state between calls; a debug build stops where it does not.
    fn check_invariants(&self) {
        if cfg!(debug_assertions) {
            for (id, state) in self.viewers.iter() {
                let room = self.rooms.get(&state.room);
                debug_assert!(room.is_some_and(|room| room.viewers.contains_key(&id)));
            }
            for (id, state) in &self.rooms {
                debug_assert!(!state.is_unused(), "room {id} is kept for nobody");
                for &viewer in state.viewers.keys() {
                    debug_assert!(self.viewers.contains(viewer));
                }
            }
            debug_assert!(!self.viewers.is_empty() || self.demux.is_empty());
        }
    }
}

/// How a closed RTMP session is called elsewhere.
fn publish_end(reason: &crate::rtmp::CloseReason) -> PublishEnd {
    use crate::rtmp::CloseReason;
    match reason {
        CloseReason::PeerClosed => PublishEnd::Finished,
        CloseReason::Reset => PublishEnd::Reset,
        CloseReason::Idle | CloseReason::SetupTimeout => PublishEnd::Idle,
        CloseReason::Protocol(_) => PublishEnd::Protocol,
        CloseReason::Rejected => PublishEnd::Rejected,
        CloseReason::Closed => PublishEnd::Closed,
    }
}
