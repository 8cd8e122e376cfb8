//! One transcode worker's streams: what its thread runs, without the thread.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::external::{ChildAction, ChildId, Ended, External, Fed, Piece, Starts};
use super::{AudioSettings, AudioTranscoder, OpusPacket, TranscodeError, TranscodeStats};
use crate::ids::{CoreId, PublisherId};
use crate::limits::{
    AUDIO_FAILURES_BEFORE_VERDICT, AUDIO_FORMAT_CHANGES_MAX, AUDIO_RETRY_AFTER_REFUSAL,
    RTMP_CONNECTIONS_MAX, TRANSCODE_STREAMS_MAX,
};
use crate::media::codec::AudioConfig;
use crate::media::time::MediaTime;
use crate::messages::{TranscodeMsg, TranscodeReply};

const _: () = assert!(
    TRANSCODE_STREAMS_MAX <= RTMP_CONNECTIONS_MAX,
    "a stream has a publisher"
);

/// The streams of one worker. One stream's fault, even a panic, ends nothing but that stream.
pub struct Transcoder {
    settings: AudioSettings,
    streams: BTreeMap<PublisherId, Stream>,
    children: BTreeMap<ChildId, PublisherId>,
    /// Number of the next child.
    next_child: u64,
    actions: VecDeque<ChildAction>,
    strays: u64,
    faults: u64,
    concealed: u64,
}

/// A stream that a core has opened and not closed.
struct Stream {
    core: CoreId,
    /// What its core wants decoded.
    config: AudioConfig,
    /// `None` after a fault, until a new configuration.
    transcoder: Option<AudioTranscoder>,
    /// With a codec that a child process decodes.
    external: Option<External>,
    /// Of its children, whatever codec each decodes: a publisher may change it with each packet.
    starts: Starts,
    /// Packets that were broken before a child saw them.
    broken: u64,
    /// Times that a new configuration may still mend it.
    mends_left: u32,
    /// Whether the core was told that nothing can be decoded.
    told: bool,
    /// Whether nothing more comes.
    finishing: bool,
    /// When what came last was received.
    received: Option<Instant>,
}

impl Stream {
    /// Its units that could not be decoded and were replaced, since its transcoder was made.
    fn concealed(&self) -> u64 {
        let transcoder = self.transcoder.as_ref();
        transcoder.map_or(0, |transcoder| transcoder.stats().concealed)
    }
}

/// How a stream's work ended: why not well, and when it may be tried again.
enum Outcome {
    Done,
    Failed(String, Option<Duration>),
}

impl Transcoder {
    /// Makes a worker without streams.
    #[must_use]
    pub fn new(settings: AudioSettings) -> Self {
        Self {
            settings,
            streams: BTreeMap::new(),
            children: BTreeMap::new(),
            next_child: 0,
            actions: VecDeque::new(),
            strays: 0,
            faults: 0,
            concealed: 0,
        }
    }

    /// Takes a core's message and gives the replies to `sink`, each with the core it is for.
    pub fn handle(&mut self, msg: TranscodeMsg, sink: &mut dyn FnMut(CoreId, TranscodeReply)) {
        match msg {
            TranscodeMsg::Open {
                core,
                publisher,
                config,
            } => self.open(core, publisher, &config, sink),
            TranscodeMsg::Configure { publisher, config } => {
                self.configure(publisher, &config, sink);
            }
            TranscodeMsg::Unit {
                publisher,
                pts,
                data,
                received,
            } => self.unit(publisher, pts, &data, received, sink),
            TranscodeMsg::Finish { publisher } => self.finish(publisher, sink),
            TranscodeMsg::Close { publisher } => {
                self.strays += u64::from(!self.end_child(publisher));
                self.streams.remove(&publisher);
            }
        }
    }

    /// What is to be done next with child processes.
    pub fn poll_child(&mut self) -> Option<ChildAction> {
        self.actions.pop_front()
    }

    /// Takes what a child wrote.
    pub fn child_output(
        &mut self,
        child: ChildId,
        bytes: &[u8],
        sink: &mut dyn FnMut(CoreId, TranscodeReply),
    ) {
        let Some(publisher) = self.children.get(&child).copied() else {
            return;
        };
        self.work(publisher, sink, |stream, sink| {
            let Stream {
                external: Some(external),
                transcoder: Some(transcoder),
                core,
                ..
            } = stream
            else {
                return Ok(());
            };
            let config = external.config().clone();
            let mut outcome = Ok(());
            external.output(bytes, &mut |piece: Piece| {
                let configured = transcoder.configure_feed(&config, piece.rate);
                if configured.is_ok() {
                    let mut sink = packets(*core, publisher, piece.received, sink);
                    transcoder.push(&piece.bytes, piece.pts, &mut sink);
                }
                outcome = configured.and_then(|()| outcome.clone());
            });
            outcome
        });
        self.finish_when_idle(publisher, sink);
    }

    /// A child ended by itself, or could not be started.
    pub fn child_ended(
        &mut self,
        child: ChildId,
        ended: Ended,
        sink: &mut dyn FnMut(CoreId, TranscodeReply),
    ) {
        let Some(publisher) = self.children.remove(&child) else {
            return;
        };
        self.work(publisher, sink, |stream, _| {
            if let Some(external) = &mut stream.external {
                external.ended();
            }
            match ended {
                Ended::Missing => Err(TranscodeError::NeedsFfmpeg),
                Ended::TooMany => Err(TranscodeError::TooManyChildren),
                Ended::Gone => Ok(()),
            }
        });
        self.finish_when_idle(publisher, sink);
    }

    /// Nothing more comes of a stream: gives what is left of it.
    fn finish(&mut self, publisher: PublisherId, sink: &mut dyn FnMut(CoreId, TranscodeReply)) {
        let Some(stream) = self.streams.get_mut(&publisher) else {
            self.strays += 1;
            return;
        };
        stream.finishing = true;
        self.finish_when_idle(publisher, sink);
    }

    /// Gives the last of a stream of which nothing more comes, once its child has given all there
    /// is.
    fn finish_when_idle(
        &mut self,
        publisher: PublisherId,
        sink: &mut dyn FnMut(CoreId, TranscodeReply),
    ) {
        let Some(stream) = self.streams.get(&publisher) else {
            return;
        };
        let busy = stream.external.as_ref().is_some_and(External::is_busy);
        if !stream.finishing || busy {
            return;
        }
        let core = stream.core;
        self.work(publisher, sink, |stream, sink| {
            stream.finishing = false;
            if let (Some(transcoder), Some(received)) = (&mut stream.transcoder, stream.received) {
                transcoder.finish(&mut packets(core, publisher, received, sink));
            }
            Ok(())
        });
        self.end_child(publisher);
        sink(core, TranscodeReply::Finished { publisher });
    }

    /// Streams that are open.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// What became of a stream's sound so far, if it is open and sound.
    #[must_use]
    pub fn stats(&self, publisher: PublisherId) -> Option<TranscodeStats> {
        let transcoder = self.streams.get(&publisher)?.transcoder.as_ref()?;
        Some(transcoder.stats())
    }

    /// Messages about streams that are not open.
    #[must_use]
    pub fn strays(&self) -> u64 {
        self.strays
    }

    /// Panics that ended a stream: each is a bug.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.faults
    }

    /// Units of all streams so far that could not be decoded and were replaced.
    #[must_use]
    pub fn concealed(&self) -> u64 {
        self.concealed
    }

    fn open(
        &mut self,
        core: CoreId,
        publisher: PublisherId,
        config: &AudioConfig,
        sink: &mut dyn FnMut(CoreId, TranscodeReply),
    ) {
        let known = self.streams.contains_key(&publisher);
        if !known && self.streams.len() >= TRANSCODE_STREAMS_MAX {
            let text = format!(
                "the server transcodes the sound of {TRANSCODE_STREAMS_MAX} streams on one worker \
                 already, as many as it may: raise transcode.workers"
            );
            let config = config.clone();
            let reply = TranscodeReply::Unplayable {
                publisher,
                config,
                text,
                retry_after: Some(AUDIO_RETRY_AFTER_REFUSAL),
            };
            sink(core, reply);
            return;
        }
        self.end_child(publisher);
        let stream = Stream {
            core,
            config: config.clone(),
            transcoder: None,
            external: None,
            starts: Starts::default(),
            broken: 0,
            mends_left: AUDIO_FORMAT_CHANGES_MAX,
            told: false,
            finishing: false,
            received: None,
        };
        self.streams.insert(publisher, stream);
        self.configure(publisher, config, sink);
    }

    fn configure(
        &mut self,
        publisher: PublisherId,
        config: &AudioConfig,
        sink: &mut dyn FnMut(CoreId, TranscodeReply),
    ) {
        let settings = self.settings;
        let other = |external: &External| external.config() != config;
        let stream = self.streams.get(&publisher);
        if stream.is_some_and(|stream| stream.external.as_ref().is_some_and(other)) {
            self.end_child(publisher);
        }
        self.work(publisher, sink, |stream, _| {
            stream.config = config.clone();
            let transcoder = match stream.transcoder.take() {
                Some(transcoder) => transcoder,
                None => {
                    stream.mends_left = stream
                        .mends_left
                        .checked_sub(1)
                        .ok_or(TranscodeError::TooManyChanges)?;
                    AudioTranscoder::new(settings)?
                }
            };
            let transcoder = stream.transcoder.insert(transcoder);
            if stream.external.is_none() {
                stream.external = External::new(config);
            }
            match stream.external {
                // Its transcoder learns the format from what the child gives.
                Some(_) => Ok(()),
                None => transcoder.configure(config),
            }
        });
    }

    fn unit(
        &mut self,
        publisher: PublisherId,
        pts: MediaTime,
        data: &Bytes,
        received: Instant,
        sink: &mut dyn FnMut(CoreId, TranscodeReply),
    ) {
        let mut next_child = self.next_child;
        self.work(publisher, sink, |stream, sink| {
            let core = stream.core;
            stream.received = Some(received);
            let Some(transcoder) = &mut stream.transcoder else {
                return Ok(());
            };
            if let Some(external) = &mut stream.external {
                let runs = (&mut next_child, &mut stream.starts);
                match external.feed(data, pts, received, runs) {
                    Fed::Taken => {}
                    Fed::Broken => stream.broken += 1,
                    Fed::GivenUp if external.has_begun() => {
                        return Err(TranscodeError::ChildFails);
                    }
                    // What other codecs were decoded by has used all up.
                    Fed::GivenUp => return Err(TranscodeError::TooManyChanges),
                }
            } else {
                transcoder.push(data, pts, &mut packets(core, publisher, received, sink));
            }
            let TranscodeStats { units, decoded, .. } = transcoder.stats();
            let failed = units + stream.broken;
            if decoded == 0 && failed >= AUDIO_FAILURES_BEFORE_VERDICT && !stream.told {
                stream.told = true;
                let text = "none of the publisher's audio can be decoded: choose AAC-LC, mono or \
                            stereo, in the encoder"
                    .to_owned();
                let config = stream.config.clone();
                let reply = TranscodeReply::Unplayable {
                    publisher,
                    config,
                    text,
                    retry_after: None,
                };
                sink(core, reply);
            }
            Ok(())
        });
        self.next_child = next_child;
    }

    /// Ends a stream's child, if it has one; whether there is such a stream.
    fn end_child(&mut self, publisher: PublisherId) -> bool {
        let Some(stream) = self.streams.get_mut(&publisher) else {
            return false;
        };
        if let Some(mut external) = stream.external.take() {
            external.stop();
            self.take_actions(publisher, &mut external);
        }
        true
    }

    /// Takes over what a stream wants done with its child.
    fn take_actions(&mut self, publisher: PublisherId, external: &mut External) {
        while let Some(action) = external.poll_action() {
            match &action {
                ChildAction::Start { child, .. } => {
                    self.children.insert(*child, publisher);
                }
                ChildAction::Stop { child } => {
                    self.children.remove(child);
                }
                ChildAction::Write { .. } => {}
            }
            self.actions.push_back(action);
        }
    }

    /// Does a stream's work; if it fails or panics, the stream is unplayable until its next
    /// configuration.
    fn work(
        &mut self,
        publisher: PublisherId,
        sink: &mut dyn FnMut(CoreId, TranscodeReply),
        work: impl FnOnce(
            &mut Stream,
            &mut dyn FnMut(CoreId, TranscodeReply),
        ) -> Result<(), TranscodeError>,
    ) {
        let Some(stream) = self.streams.get_mut(&publisher) else {
            self.strays += 1;
            return;
        };
        let before = stream.concealed();
        // After a panic the stream's codecs are dropped, so nobody sees them half changed.
        let outcome = match catch_unwind(AssertUnwindSafe(|| work(stream, sink))) {
            Ok(Ok(())) => Outcome::Done,
            Ok(Err(error)) => Outcome::Failed(error.to_string(), error.retry_after()),
            Err(_) => {
                self.faults += 1;
                log::error!("transcoding panicked: the stream is silent publisher={publisher}");
                Outcome::Failed(
                    "the server failed at this audio, which is a bug of the server: please \
                     report it"
                        .to_owned(),
                    None,
                )
            }
        };
        self.concealed += stream.concealed().saturating_sub(before);
        match outcome {
            Outcome::Done => {}
            Outcome::Failed(text, retry_after) => {
                stream.transcoder = None;
                if let Some(external) = &mut stream.external {
                    external.stop();
                }
                let reply = TranscodeReply::Unplayable {
                    publisher,
                    config: stream.config.clone(),
                    text,
                    retry_after,
                };
                sink(stream.core, reply);
            }
        }
        if let Some(mut external) = stream.external.take() {
            self.take_actions(publisher, &mut external);
            if let Some(stream) = self.streams.get_mut(&publisher) {
                stream.external = Some(external);
            }
        }
    }
}

/// Makes replies of a stream's packets.
fn packets(
    core: CoreId,
    publisher: PublisherId,
    received: Instant,
    sink: &mut dyn FnMut(CoreId, TranscodeReply),
) -> impl FnMut(OpusPacket) {
    move |OpusPacket { pts, data }| {
        let packet = TranscodeReply::Packet {
            publisher,
            pts,
            data,
            received,
        };
        sink(core, packet);
    }
}

#[cfg(test)]
mod tests;
