//! The video transcoder's thread: one poll over all children's pipes and the mailbox. It lives as
//! long as the server, since its children are killed when it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use super::child::{ChildProcess, Containment, PipeTokens, Piped};
use super::clock;
use super::core_loop::{CoreMail, DOORBELL};
use super::mailbox::{Doorbell, Mailbox, Postbox};
use crate::ids::{CoreId, PublisherId, RoomName};
use crate::limits::{MESSAGES_PER_TURN, VIDEO_READ_BYTES_PER_TURN};
use crate::media::codec::CodedFrame;
use crate::messages::{VideoMsg, VideoReply};
use crate::metrics::VideoCounters;
use crate::transcode::video::{ChildEnd, ChildId, VideoOutput, VideoSettings, VideoTranscoder};

/// Tokens of children's pipes begin here, three for each.
const FIRST_PIPE: usize = 16;
const PIPES: usize = 3;
/// Events taken from one poll.
const EVENTS_PER_TURN: usize = 256;
/// One read from a child, in bytes: what a pipe holds.
const READ_BYTES: usize = 64 * 1_024;
/// How often children that were killed, or closed their pipes, are asked whether they ended.
const REAP_INTERVAL: Duration = Duration::from_millis(5);
/// How long a child that has closed its output may take to end by itself.
const EXIT_GRACE: Duration = Duration::from_millis(50);
/// How often the CPU time that children may use is renewed.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(10);

/// What comes to the video transcoder's mailbox.
#[derive(Debug)]
pub enum VideoMail {
    /// From a core.
    Message(VideoMsg),
    /// End all children and the loop.
    Stop,
}

/// Publishers of which a frame did not reach the video transcoder: what follows refers to it, up to
/// a frame that decoding may begin at.
#[derive(Debug, Default)]
pub(super) struct Torn(BTreeSet<PublisherId>);

impl Torn {
    /// Whether a frame is of no use, since one before it was lost.
    pub(super) fn refuses(&self, publisher: PublisherId, frame: &CodedFrame) -> bool {
        self.0.contains(&publisher) && !frame.key && !frame.recovery
    }

    /// The next frame was lost, or was not.
    pub(super) fn note(&mut self, publisher: PublisherId, lost: bool) {
        if lost {
            self.0.insert(publisher);
        } else {
            self.0.remove(&publisher);
        }
    }

    /// What comes begins anew.
    pub(super) fn mend(&mut self, publisher: PublisherId) {
        self.0.remove(&publisher);
    }
}

/// What the loop is made of.
#[derive(Debug)]
pub struct VideoLoopConfig {
    /// What the operator chose.
    pub settings: VideoSettings,
    /// What its children may do.
    pub containment: Containment,
    /// The poll its doorbell belongs to.
    pub poll: Poll,
    /// Its doorbell, with the token [`DOORBELL`].
    pub doorbell: Doorbell,
    /// Its mailbox.
    pub mailbox: Mailbox<VideoMail>,
    /// The way to every core.
    pub cores: Vec<Postbox<CoreMail>>,
    /// Where it counts.
    pub counters: Arc<VideoCounters>,
}

/// The loop.
#[derive(Debug)]
pub struct VideoLoop {
    io: VideoLoopConfig,
    transcoder: VideoTranscoder,
    children: BTreeMap<ChildId, Running>,
    /// Children that were killed and are not yet waited for.
    dying: Vec<ChildProcess>,
    buffer: Vec<u8>,
    mail_waits: bool,
    renew_at: Instant,
    /// Publishers of which a frame was lost on the way to their core: nothing goes there until a
    /// keyframe.
    torn: BTreeSet<PublisherId>,
    rung: BTreeSet<CoreId>,
}

#[derive(Debug)]
struct Running {
    process: ChildProcess,
    name: RoomName,
    started: Instant,
    readable: bool,
    writable: bool,
    speaks: bool,
    /// It wrote something since its CPU time was last renewed.
    productive: bool,
    /// CPU time it had used when it was last found silent, in ticks.
    suspected: Option<u64>,
    /// When its output was closed.
    closed: Option<Instant>,
}

impl VideoLoop {
    /// A loop that is ready to run.
    #[must_use]
    pub fn new(config: VideoLoopConfig) -> Self {
        Self {
            transcoder: VideoTranscoder::new(config.settings.clone()),
            io: config,
            children: BTreeMap::new(),
            dying: Vec::new(),
            buffer: vec![0; READ_BYTES],
            mail_waits: true,
            renew_at: clock::now(),
            torn: BTreeSet::new(),
            rung: BTreeSet::new(),
        }
    }

    /// Runs until it is told to stop.
    pub fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        let mut deadline = None;
        loop {
            let timeout = self.timeout(deadline);
            if let Err(error) = self.io.poll.poll(&mut events, timeout)
                && error.kind() != io::ErrorKind::Interrupted
            {
                log::error!("the video transcoder cannot wait for its children: {error}");
                return;
            }
            let now = clock::now();
            for event in &events {
                self.note(event.token());
            }
            if !self.take_mail(now) {
                return;
            }
            self.read_children(now);
            self.look_after_children(now);
            self.spare_those_that_compute(now);
            self.transcoder.handle_timeout(now);
            deadline = self.drain(now);
            self.write_children();
            self.count();
        }
    }

    fn timeout(&self, deadline: Option<Instant>) -> Option<Duration> {
        if self.mail_waits || self.children.values().any(|child| child.readable) {
            return Some(Duration::ZERO);
        }
        let now = clock::now();
        let leaving = self.children.values().any(|child| child.closed.is_some());
        let reap = (leaving || !self.dying.is_empty()).then(|| now + REAP_INTERVAL);
        let renew = (!self.children.is_empty()).then_some(self.renew_at);
        let next = deadline.into_iter().chain(reap).chain(renew).min();
        next.map(|next| next.saturating_duration_since(now))
    }

    fn note(&mut self, token: Token) {
        if token == DOORBELL {
            self.mail_waits = true;
            return;
        }
        let Some(pipe) = token.0.checked_sub(FIRST_PIPE) else {
            return;
        };
        let child = ChildId((pipe / PIPES) as u64);
        if let Some(child) = self.children.get_mut(&child) {
            match pipe % PIPES {
                0 => child.writable = true,
                1 => child.readable = child.closed.is_none(),
                _ => child.speaks = true,
            }
        }
    }

    /// Empties the mailbox, up to the budget. `false`: stop.
    fn take_mail(&mut self, now: Instant) -> bool {
        if !self.mail_waits {
            return true;
        }
        self.io.doorbell.silence();
        for _ in 0..MESSAGES_PER_TURN {
            match self.io.mailbox.take() {
                Some(VideoMail::Message(message)) => {
                    if let VideoMsg::Close { publisher } = &message {
                        self.torn.remove(publisher);
                    }
                    self.transcoder.handle_message(message, now);
                }
                Some(VideoMail::Stop) => return false,
                None => break,
            }
        }
        self.mail_waits = !self.io.mailbox.is_empty();
        true
    }

    fn read_children(&mut self, now: Instant) {
        for (id, child) in &mut self.children {
            if std::mem::take(&mut child.speaks) {
                child.process.listen();
            }
            let mut left = VIDEO_READ_BYTES_PER_TURN;
            while child.readable && left > 0 {
                match child.process.read(&mut self.buffer) {
                    Piped::Bytes(count) => {
                        let bytes = self.buffer.get(..count).unwrap_or_default();
                        self.transcoder.handle_stdout(*id, bytes, now);
                        child.productive = true;
                        child.suspected = None;
                        left = left.saturating_sub(count);
                    }
                    Piped::Blocked => child.readable = false,
                    Piped::Closed => {
                        child.readable = false;
                        child.closed = Some(now);
                    }
                }
            }
        }
    }

    /// Waits for those that ended, and renews the CPU time of those that work.
    fn look_after_children(&mut self, now: Instant) {
        self.dying.retain_mut(|process| process.ended().is_none());
        let mut ended = Vec::new();
        for (id, child) in &mut self.children {
            let Some(since) = child.closed else {
                continue;
            };
            if now.saturating_duration_since(since) > EXIT_GRACE {
                child.process.kill();
            }
            if let Some(status) = child.process.ended() {
                ended.push((*id, status));
            }
        }
        for (id, status) in ended {
            self.child_ended(id, status, now);
        }
        if now >= self.renew_at {
            self.renew_at = now + RENEWAL_INTERVAL;
            let cpus = std::thread::available_parallelism().map_or(1, usize::from);
            for child in self.children.values_mut() {
                if std::mem::take(&mut child.productive) {
                    let elapsed = now.saturating_duration_since(child.started);
                    child.process.renew_cpu_time(elapsed, cpus);
                }
            }
        }
    }

    /// A silent child is looked at twice: if it used CPU time meanwhile, or waits for some, the
    /// machine is slow, and a restart would make it slower.
    fn spare_those_that_compute(&mut self, now: Instant) {
        for id in self.transcoder.suspects(now) {
            let Some(child) = self.children.get_mut(&id) else {
                continue;
            };
            let Some((waits, ticks)) = child.process.cpu_use() else {
                continue;
            };
            let before = child.suspected.replace(ticks);
            if waits || before.is_none_or(|before| ticks > before) {
                self.transcoder.spare(id, now);
            }
        }
    }

    fn child_ended(&mut self, id: ChildId, status: ExitStatus, now: Instant) {
        let Some(mut child) = self.children.remove(&id) else {
            return;
        };
        child.process.listen();
        let said = child.process.said();
        log_said(&child.name, &said);
        let status = status.to_string();
        let end = ChildEnd::Exited { status, said };
        self.transcoder.handle_ended(id, &end, now);
    }

    /// Does what the transcoder says until it waits; gives the time until when.
    fn drain(&mut self, now: Instant) -> Option<Instant> {
        let deadline = loop {
            match self.transcoder.poll_output() {
                VideoOutput::Start {
                    child,
                    name,
                    program,
                    arguments,
                } => self.start(child, name, &program, &arguments, now),
                VideoOutput::Kill { child, failed } => {
                    if let Some(mut child) = self.children.remove(&child) {
                        if failed {
                            child.process.listen();
                            log_said(&child.name, &child.process.said());
                        }
                        child.process.kill();
                        self.dying.push(child.process);
                    }
                }
                VideoOutput::Reply { core, reply } => self.reply(core, reply, now),
                VideoOutput::Wait(deadline) => break deadline,
            }
        };
        for core in std::mem::take(&mut self.rung) {
            if let Some(postbox) = self.io.cores.get(core.index()) {
                postbox.ring();
            }
        }
        deadline
    }

    fn start(
        &mut self,
        id: ChildId,
        name: RoomName,
        program: &str,
        arguments: &[String],
        now: Instant,
    ) {
        log::debug!("ffmpeg is started room={name} arguments={arguments:?}");
        let tokens = tokens(id);
        let registry = self.io.poll.registry();
        match ChildProcess::start(program, arguments, &self.io.containment, registry, tokens) {
            Ok(process) => {
                let child = Running {
                    process,
                    name,
                    started: now,
                    readable: true,
                    writable: true,
                    speaks: true,
                    productive: false,
                    suspected: None,
                    closed: None,
                };
                self.children.insert(id, child);
            }
            Err(error) => {
                let end = if error.kind() == io::ErrorKind::NotFound {
                    ChildEnd::NotFound
                } else {
                    ChildEnd::NotStarted(error.to_string())
                };
                self.transcoder.handle_ended(id, &end, now);
            }
        }
    }

    fn write_children(&mut self) {
        for (id, child) in &mut self.children {
            while child.writable {
                let input = self.transcoder.input(*id);
                if input.is_empty() {
                    break;
                }
                match child.process.write(input) {
                    Piped::Bytes(count) => self.transcoder.input_taken(*id, count),
                    // Where it was closed, the closed output tells.
                    Piped::Blocked | Piped::Closed => child.writable = false,
                }
            }
            if self.transcoder.input_is_over(*id) {
                child.process.end_input();
            }
        }
    }

    fn reply(&mut self, core: CoreId, reply: VideoReply, now: Instant) {
        let Some(postbox) = self.io.cores.get(core.index()) else {
            return;
        };
        self.rung.insert(core);
        let VideoReply::Frame { publisher, frame } = &reply else {
            if postbox.put(CoreMail::VideoTranscoded(reply)).is_err() {
                log::error!("a core's mailbox is full core={core}");
                self.io.counters.reply_drops.inc();
            }
            return;
        };
        let publisher = *publisher;
        if frame.key {
            self.torn.remove(&publisher);
        }
        let lost = self.torn.contains(&publisher)
            || postbox
                .put_if_roomy(CoreMail::VideoTranscoded(reply))
                .is_err();
        if lost {
            // What follows refers to it: the stream goes on at a keyframe.
            self.io.counters.reply_drops.inc();
            self.torn.insert(publisher);
            let again = VideoMsg::Keyframe { publisher };
            self.transcoder.handle_message(again, now);
        }
    }

    fn count(&self) {
        let stats = self.transcoder.stats();
        let counters = &self.io.counters;
        counters.streams.set_len(stats.streams);
        counters.children.set_len(self.children.len());
        counters.restarts.set(stats.restarts);
        counters.failures.set(stats.failures);
        counters.frames_in.set(stats.frames_in);
        counters.frames_out.set(stats.frames_out);
        counters.dropped.set(stats.dropped);
    }
}

fn tokens(child: ChildId) -> PipeTokens {
    let number = usize::try_from(child.0).unwrap_or(usize::MAX);
    let first = number.saturating_mul(PIPES).saturating_add(FIRST_PIPE);
    PipeTokens {
        stdin: Token(first),
        stdout: Token(first.saturating_add(1)),
        stderr: Token(first.saturating_add(2)),
    }
}

fn log_said(name: &RoomName, said: &str) {
    for line in said.lines() {
        log::warn!("ffmpeg: {line} room={name}");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::media::time::MediaTime;

    /// A bug was: a stream of which one frame was lost stood still for good if it has recovery points in
    /// place of keyframes.
    #[test]
    fn after_a_lost_frame_a_stream_goes_on_where_decoding_may_begin() {
        let frame = |key, recovery| CodedFrame {
            pts: MediaTime::ZERO,
            dts: MediaTime::ZERO,
            key,
            recovery,
            disposable: false,
            data: vec![1].into(),
            #[expect(clippy::disallowed_methods, reason = "any instant will do")]
            received: Instant::now(),
        };
        let (torn, other) = (PublisherId(1), PublisherId(2));
        let mut streams = Torn::default();
        assert!(!streams.refuses(torn, &frame(false, false)));
        streams.note(torn, true);
        assert!(streams.refuses(torn, &frame(false, false)));
        assert!(!streams.refuses(other, &frame(false, false)));
        assert!(!streams.refuses(torn, &frame(true, false)));
        assert!(!streams.refuses(torn, &frame(false, true)));
        streams.note(torn, false);
        assert!(!streams.refuses(torn, &frame(false, false)));
        streams.note(torn, true);
        streams.mend(torn);
        assert!(!streams.refuses(torn, &frame(false, false)));
    }
}
