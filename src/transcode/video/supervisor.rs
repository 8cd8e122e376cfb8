//! Which streams are transcoded, and by which child: starts, watches, restarts and gives up.
//!
//! A stream has one child at a time. It is started with the stream, so that it is ready when the
//! first frames come; it is fed from a keyframe on. A child that ends, hangs, or writes what is no
//! FLV is replaced at once, and the core is asked for its cached frames once more; one that cannot
//! show another picture size is replaced at the keyframe that brings it, without asking. After
//! [`VIDEO_RESTARTS_MAX`] restarts within [`VIDEO_RESTART_WINDOW`] the stream is given up, with
//! words for whoever looks; so it is, for a while, when it has had all the children it may (`starts`).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::child::{Child, ChildId, Fed};
use super::command::arguments;
use super::starts::Starts;
use super::{VideoMode, VideoSettings};
use crate::ids::{CoreId, PublisherId, RoomName};
use crate::limits::{
    VIDEO_RESTART_WINDOW, VIDEO_RESTARTS_MAX, VIDEO_RETRY_AFTER_FAILURES, VIDEO_RETRY_AFTER_REFUSAL,
};
use crate::media::avc::{DecoderConfig, NalHeader, NalType, NalUnits, SpsInfo};
use crate::media::codec::{CodedFrame, VideoCodec, VideoConfig};
use crate::messages::{VideoMsg, VideoReply};

/// How a child ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChildEnd {
    /// There is no such program.
    NotFound,
    /// It could not be started; the system says why.
    NotStarted(String),
    /// It ended by itself, or was killed by somebody else.
    Exited {
        /// How, as the system says it.
        status: String,
        /// The last it wrote to its standard error.
        said: String,
    },
}

/// What the shell is to do.
#[derive(Debug)]
pub enum VideoOutput {
    /// Start a child.
    Start {
        /// Its number.
        child: ChildId,
        /// Its stream's room, for the log.
        name: RoomName,
        /// The program: a name to look for, or a path.
        program: String,
        /// Its arguments.
        arguments: Vec<String>,
    },
    /// Kill a child. Nothing more is to be told of it.
    Kill {
        /// Its number.
        child: ChildId,
        /// Whether what it wrote to its standard error is worth a line in the log.
        failed: bool,
    },
    /// Tell a core.
    Reply {
        /// Which.
        core: CoreId,
        /// What.
        reply: VideoReply,
    },
    /// Nothing more until input, or until this moment.
    Wait(Option<Instant>),
}

/// What was done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VideoStats {
    /// Streams that are transcoded now.
    pub streams: usize,
    /// Children that replaced one that failed.
    pub restarts: u64,
    /// Streams refused or given up.
    pub failures: u64,
    /// Frames fed to children.
    pub frames_in: u64,
    /// Frames that came out.
    pub frames_out: u64,
    /// Frames left out because a child did not read fast enough, or because none could be decoded.
    pub dropped: u64,
}

/// One stream.
#[derive(Debug)]
struct Stream {
    core: CoreId,
    name: RoomName,
    config: Arc<VideoConfig>,
    bit_rate: Option<u32>,
    /// Picture size by the SPS in force, if it is H.264 and says so.
    size: Option<(u32, u32)>,
    child: Child,
    restarts: VecDeque<Instant>,
    /// Whether nothing more comes: the child is to give what it has, and to end.
    finishing: bool,
}

/// All streams. See the module's documentation.
#[derive(Debug)]
pub struct VideoTranscoder {
    settings: VideoSettings,
    streams: BTreeMap<PublisherId, Stream>,
    children: BTreeMap<ChildId, PublisherId>,
    next_child: u64,
    starts: Starts,
    outputs: VecDeque<VideoOutput>,
    stats: VideoStats,
}

impl VideoTranscoder {
    /// Without streams.
    #[must_use]
    pub fn new(settings: VideoSettings) -> Self {
        Self {
            settings,
            streams: BTreeMap::new(),
            children: BTreeMap::new(),
            next_child: 0,
            starts: Starts::default(),
            outputs: VecDeque::new(),
            stats: VideoStats::default(),
        }
    }

    /// Takes a core's message; those about streams that are not open are left unheard.
    pub fn handle_message(&mut self, message: VideoMsg, now: Instant) {
        match message {
            VideoMsg::Open {
                core,
                publisher,
                name,
                config,
                bit_rate,
            } => self.open(core, publisher, name, (config, bit_rate), now),
            VideoMsg::Configure { publisher, config } => self.configure(publisher, &config, now),
            VideoMsg::Frame {
                publisher,
                frame,
                decode_only,
            } => self.frame(publisher, &frame, decode_only, now),
            VideoMsg::Keyframe { publisher } => {
                if let Some(stream) = self.streams.get_mut(&publisher) {
                    stream.child.want_key();
                }
            }
            VideoMsg::Finish { publisher } => {
                if let Some(stream) = self.streams.get_mut(&publisher) {
                    stream.finishing = true;
                }
            }
            VideoMsg::Close { publisher } => self.close(publisher, false),
        }
    }

    /// Takes what a child wrote to its standard output.
    pub fn handle_stdout(&mut self, child: ChildId, bytes: &[u8], now: Instant) {
        let Some((publisher, stream)) = self.stream_of(child) else {
            return;
        };
        let core = stream.core;
        stream.child.push_output(bytes);
        let mut made = Vec::new();
        let broken = loop {
            match stream.child.next_frame(now) {
                Ok(Some(frame)) => made.push(frame),
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        self.stats.frames_out = self.stats.frames_out.saturating_add(made.len() as u64);
        let replies = made.into_iter().map(|frame| VideoOutput::Reply {
            core,
            reply: VideoReply::Frame { publisher, frame },
        });
        self.outputs.extend(replies);
        if let Some(error) = broken {
            self.restart(publisher, &error.to_string(), now);
        }
    }

    /// A child ended, or did not begin.
    pub fn handle_ended(&mut self, child: ChildId, end: &ChildEnd, now: Instant) {
        let Some((publisher, stream)) = self.stream_of(child) else {
            return;
        };
        let has_begun = stream.child.has_begun();
        let finishing = stream.finishing;
        self.children.remove(&child);
        if finishing {
            self.finished(publisher);
            return;
        }
        let program = &self.settings.ffmpeg;
        let encoder = self.settings.encoder.as_str();
        match end {
            ChildEnd::NotFound => {
                let text = format!(
                    "there is no program {program:?} on the server: apt install ffmpeg, or set \
                     video.ffmpeg to its path"
                );
                self.fail(publisher, text, Some(VIDEO_RETRY_AFTER_REFUSAL));
            }
            ChildEnd::NotStarted(error) => {
                let text = format!(
                    "{program:?} cannot be started on the server ({error}): see video.ffmpeg"
                );
                self.fail(publisher, text, Some(VIDEO_RETRY_AFTER_REFUSAL));
            }
            ChildEnd::Exited { said, .. } if !has_begun && lacks_encoder(said) => {
                let text = format!(
                    "the server's ffmpeg has no encoder {encoder}: install one that has, or set \
                     video.encoder"
                );
                self.fail(publisher, text, Some(VIDEO_RETRY_AFTER_FAILURES));
            }
            ChildEnd::Exited { status, said } => {
                let why = match said.lines().next_back() {
                    Some(line) => format!("{status}, having said: {line}"),
                    None => status.clone(),
                };
                self.restart(publisher, &why, now);
            }
        }
    }

    /// The children that [`Self::handle_timeout`] would replace because they are silent. Those
    /// that compute still are to be spared first.
    #[must_use]
    pub fn suspects(&self, now: Instant) -> Vec<ChildId> {
        let children = self.streams.values().map(|stream| &stream.child);
        let silent = children.filter(|child| child.hangs_at().is_some_and(|at| now >= at));
        silent.map(|child| child.id).collect()
    }

    /// A suspect computes still: it gets a little more time, though not for ever.
    pub fn spare(&mut self, child: ChildId, now: Instant) {
        if let Some((_, stream)) = self.stream_of(child) {
            stream.child.spare(now);
        }
    }

    /// Does what has come due.
    pub fn handle_timeout(&mut self, now: Instant) {
        for child in self.suspects(now) {
            if let Some(publisher) = self.children.get(&child).copied() {
                self.restart(publisher, "it takes frames and gives none", now);
            }
        }
    }

    /// Gives the next thing to do; call until [`VideoOutput::Wait`] after any `handle_*`.
    pub fn poll_output(&mut self) -> VideoOutput {
        if let Some(output) = self.outputs.pop_front() {
            return output;
        }
        let hangs = self.streams.values().filter_map(|it| it.child.hangs_at());
        VideoOutput::Wait(hangs.min())
    }

    /// What is to be written to a child next; empty: nothing.
    #[must_use]
    pub fn input(&self, child: ChildId) -> &[u8] {
        let publisher = self.children.get(&child);
        let stream = publisher.and_then(|publisher| self.streams.get(publisher));
        stream.map_or(&[], |stream| stream.child.input())
    }

    /// So many bytes of [`Self::input`] were written.
    pub fn input_taken(&mut self, child: ChildId, count: usize) {
        if let Some((_, stream)) = self.stream_of(child) {
            stream.child.input_taken(count);
        }
    }

    /// Whether a child has been given all it will be: its input is to be closed.
    #[must_use]
    pub fn input_is_over(&self, child: ChildId) -> bool {
        let publisher = self.children.get(&child);
        let stream = publisher.and_then(|publisher| self.streams.get(publisher));
        stream.is_some_and(|stream| stream.finishing && stream.child.input().is_empty())
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> VideoStats {
        VideoStats {
            streams: self.streams.len(),
            ..self.stats
        }
    }

    fn stream_of(&mut self, child: ChildId) -> Option<(PublisherId, &mut Stream)> {
        let publisher = *self.children.get(&child)?;
        Some((publisher, self.streams.get_mut(&publisher)?))
    }

    fn open(
        &mut self,
        core: CoreId,
        publisher: PublisherId,
        name: RoomName,
        (config, bit_rate): (Arc<VideoConfig>, Option<u32>),
        now: Instant,
    ) {
        self.close(publisher, false);
        let refusal = self
            .refusal()
            .or_else(|| self.starts_no_more(publisher, now));
        if let Some((text, retry_after)) = refusal {
            self.stats.failures = self.stats.failures.saturating_add(1);
            log::warn!("video is not transcoded: {text} room={name}");
            let reply = VideoReply::Failed {
                publisher,
                text,
                retry_after,
            };
            self.outputs.push_back(VideoOutput::Reply { core, reply });
            return;
        }
        let child = self.start(publisher, &name, &config, bit_rate);
        let stream = Stream {
            core,
            name,
            size: size_of_record(&config),
            config,
            bit_rate,
            child,
            restarts: VecDeque::new(),
            finishing: false,
        };
        self.streams.insert(publisher, stream);
    }

    /// Why no stream may be opened now, and when one may.
    fn refusal(&self) -> Option<(String, Option<Duration>)> {
        if self.settings.mode == VideoMode::Never {
            let text = "browsers cannot play it, and the server is told not to transcode video: \
                        set video.transcode = \"auto\", or let the encoder send H.264 without \
                        B-frames";
            return Some((text.into(), None));
        }
        let max = self.settings.max_transcodes;
        (self.streams.len() >= max).then(|| {
            let text = format!(
                "the server transcodes {max} videos already, as many as it may: let the encoder \
                 send H.264 without B-frames, or raise video.max_transcodes"
            );
            (text, Some(VIDEO_RETRY_AFTER_REFUSAL))
        })
    }

    /// Takes one of the publish's starts; or why it is to have no child for now, and until when.
    fn starts_no_more(
        &mut self,
        publisher: PublisherId,
        now: Instant,
    ) -> Option<(String, Option<Duration>)> {
        (!self.starts.take(publisher, now)).then(|| {
            let text = "it needs another ffmpeg again and again, and has had as many as it may of \
                        late: let the encoder keep one codec, one picture size and steady times";
            (text.into(), Some(VIDEO_RETRY_AFTER_REFUSAL))
        })
    }

    fn start(
        &mut self,
        publisher: PublisherId,
        name: &RoomName,
        config: &VideoConfig,
        bit_rate: Option<u32>,
    ) -> Child {
        let child = ChildId(self.next_child);
        self.next_child = self.next_child.saturating_add(1);
        self.children.insert(child, publisher);
        self.outputs.push_back(VideoOutput::Start {
            child,
            name: name.clone(),
            program: self.settings.ffmpeg.clone(),
            arguments: arguments(&self.settings, config, bit_rate),
        });
        Child::new(child, config, self.settings.encoder)
    }

    /// Puts a new child in place of a stream's, or gives the stream up if it has had too many of late;
    /// whether there is one.
    fn replace(&mut self, publisher: PublisherId, failed: bool, now: Instant) -> bool {
        if let Some((text, retry_after)) = self.starts_no_more(publisher, now) {
            self.fail(publisher, text, retry_after);
            return false;
        }
        let Some(stream) = self.streams.get(&publisher) else {
            return false;
        };
        let (name, config) = (stream.name.clone(), Arc::clone(&stream.config));
        let (old, bit_rate) = (stream.child.id, stream.bit_rate);
        if self.children.remove(&old).is_some() {
            self.outputs
                .push_back(VideoOutput::Kill { child: old, failed });
        }
        let child = self.start(publisher, &name, &config, bit_rate);
        if let Some(stream) = self.streams.get_mut(&publisher) {
            stream.child = child;
        }
        true
    }

    fn configure(&mut self, publisher: PublisherId, config: &Arc<VideoConfig>, now: Instant) {
        let Some(stream) = self.streams.get_mut(&publisher) else {
            return;
        };
        let same = is_same_stream(&stream.config, config);
        stream.config = Arc::clone(config);
        if same {
            return;
        }
        stream.size = size_of_record(config);
        self.replace(publisher, false, now);
    }

    fn frame(
        &mut self,
        publisher: PublisherId,
        frame: &CodedFrame,
        decode_only: bool,
        now: Instant,
    ) {
        let Some(stream) = self.streams.get_mut(&publisher) else {
            return;
        };
        if stream.child.had(frame) {
            return;
        }
        if frame.key && stream.config.codec == VideoCodec::Avc {
            let size = size_of_picture(&stream.config, frame);
            let other = size.is_some() && stream.size.is_some() && size != stream.size;
            stream.size = size.or(stream.size);
            if other {
                self.replace(publisher, false, now);
            }
        }
        let Some(stream) = self.streams.get_mut(&publisher) else {
            return;
        };
        match stream.child.feed(frame, decode_only, now) {
            Fed::Queued => self.stats.frames_in = self.stats.frames_in.saturating_add(1),
            Fed::Dropped { frames } => {
                self.stats.dropped = self.stats.dropped.saturating_add(frames);
            }
            Fed::Spent => {
                if self.replace(publisher, false, now) {
                    self.ask_again(publisher);
                }
            }
        }
    }

    fn ask_again(&mut self, publisher: PublisherId) {
        if let Some(stream) = self.streams.get(&publisher) {
            self.outputs.push_back(VideoOutput::Reply {
                core: stream.core,
                reply: VideoReply::Restart { publisher },
            });
        }
    }

    /// Replaces a child that failed, unless too many did.
    fn restart(&mut self, publisher: PublisherId, why: &str, now: Instant) {
        let Some(stream) = self.streams.get_mut(&publisher) else {
            return;
        };
        if stream.finishing {
            self.finished(publisher);
            return;
        }
        let name = stream.name.clone();
        let recent = |at: &Instant| now.saturating_duration_since(*at) < VIDEO_RESTART_WINDOW;
        stream.restarts.retain(recent);
        if stream.restarts.len() >= VIDEO_RESTARTS_MAX {
            let text = format!(
                "the server's ffmpeg failed {VIDEO_RESTARTS_MAX} times in a minute ({why}): let \
                 the encoder send H.264 without B-frames; the server's log tells more"
            );
            self.fail(publisher, text, Some(VIDEO_RETRY_AFTER_FAILURES));
            return;
        }
        stream.restarts.push_back(now);
        if self.replace(publisher, true, now) {
            self.stats.restarts = self.stats.restarts.saturating_add(1);
            log::warn!("the video transcoder is restarted: {why} room={name}");
            self.ask_again(publisher);
        }
    }

    /// All that a stream was to give has come, or cannot.
    fn finished(&mut self, publisher: PublisherId) {
        if let Some(stream) = self.streams.get(&publisher) {
            let core = stream.core;
            self.close(publisher, false);
            let reply = VideoReply::Finished { publisher };
            self.outputs.push_back(VideoOutput::Reply { core, reply });
        }
    }

    fn fail(&mut self, publisher: PublisherId, text: String, retry_after: Option<Duration>) {
        let Some(stream) = self.streams.get(&publisher) else {
            return;
        };
        log::error!("video is not transcoded: {text} room={}", stream.name);
        self.stats.failures = self.stats.failures.saturating_add(1);
        let core = stream.core;
        self.close(publisher, true);
        let reply = VideoReply::Failed {
            publisher,
            text,
            retry_after,
        };
        self.outputs.push_back(VideoOutput::Reply { core, reply });
    }

    fn close(&mut self, publisher: PublisherId, failed: bool) {
        let Some(stream) = self.streams.remove(&publisher) else {
            return;
        };
        let child = stream.child.id;
        if self.children.remove(&child).is_some() {
            self.outputs.push_back(VideoOutput::Kill { child, failed });
        }
    }
}

/// Whether a child for the one configuration decodes frames of the other: a frame rate that is
/// known better now is no reason to begin anew.
fn is_same_stream(old: &VideoConfig, new: &VideoConfig) -> bool {
    let better_known = VideoConfig {
        frames_per_1000_s: new.frames_per_1000_s,
        ..old.clone()
    };
    better_known == *new
}

/// Whether ffmpeg said that it does not know the encoder.
fn lacks_encoder(said: &str) -> bool {
    said.contains("Unknown encoder")
}

/// Picture size by the first SPS of an H.264 stream's configuration record.
fn size_of_record(config: &VideoConfig) -> Option<(u32, u32)> {
    if config.codec != VideoCodec::Avc {
        return None;
    }
    let record = DecoderConfig::parse(&config.record).ok()?;
    record.parameter_sets.iter().find_map(|unit| size_of(unit))
}

/// Picture size by an SPS within a picture.
fn size_of_picture(config: &VideoConfig, frame: &CodedFrame) -> Option<(u32, u32)> {
    let record = DecoderConfig::parse(&config.record).ok()?;
    NalUnits::new(&frame.data, 0, record.nal_length_size)
        .map_while(Result::ok)
        .find_map(|range| size_of(frame.data.get(range)?))
}

fn size_of(nal_unit: &[u8]) -> Option<(u32, u32)> {
    let header = NalHeader::parse(*nal_unit.first()?).ok()?;
    if header.nal_type != NalType::Sps {
        return None;
    }
    SpsInfo::parse(nal_unit).ok()?.size
}
