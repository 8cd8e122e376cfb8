//! One transcode worker's streams: what its thread runs, without the thread.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use bytes::Bytes;

use super::{AudioSettings, AudioTranscoder, OpusPacket, TranscodeError, TranscodeStats};
use crate::ids::{CoreId, PublisherId};
use crate::limits::{
    AAC_FAILURES_BEFORE_VERDICT, AUDIO_FORMAT_CHANGES_MAX, RTMP_CONNECTIONS_MAX,
    TRANSCODE_STREAMS_MAX,
};
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
    strays: u64,
    faults: u64,
}

/// A stream that a core has opened and not closed.
struct Stream {
    core: CoreId,
    /// `None` after a fault, until a new configuration.
    transcoder: Option<AudioTranscoder>,
    /// Times that a new configuration may still mend it.
    mends_left: u32,
    /// Whether the core was told that nothing can be decoded.
    told: bool,
}

/// How a stream's work ended.
enum Outcome {
    Done,
    Failed(String),
}

impl Transcoder {
    /// Makes a worker without streams.
    #[must_use]
    pub fn new(settings: AudioSettings) -> Self {
        Self {
            settings,
            streams: BTreeMap::new(),
            strays: 0,
            faults: 0,
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
            TranscodeMsg::Close { publisher } => {
                self.strays += u64::from(self.streams.remove(&publisher).is_none());
            }
        }
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

    fn open(
        &mut self,
        core: CoreId,
        publisher: PublisherId,
        config: &[u8],
        sink: &mut dyn FnMut(CoreId, TranscodeReply),
    ) {
        let known = self.streams.contains_key(&publisher);
        if !known && self.streams.len() >= TRANSCODE_STREAMS_MAX {
            let text = format!(
                "the server transcodes {TRANSCODE_STREAMS_MAX} streams on one worker already: \
                 give it more workers"
            );
            sink(core, TranscodeReply::Unplayable { publisher, text });
            return;
        }
        let stream = Stream {
            core,
            transcoder: None,
            mends_left: AUDIO_FORMAT_CHANGES_MAX,
            told: false,
        };
        self.streams.insert(publisher, stream);
        self.configure(publisher, config, sink);
    }

    fn configure(
        &mut self,
        publisher: PublisherId,
        config: &[u8],
        sink: &mut dyn FnMut(CoreId, TranscodeReply),
    ) {
        let settings = self.settings;
        self.work(publisher, sink, |stream, _| {
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
            stream.transcoder.insert(transcoder).configure(config)
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
        self.work(publisher, sink, |stream, sink| {
            let core = stream.core;
            let Some(transcoder) = &mut stream.transcoder else {
                return Ok(());
            };
            transcoder.push(data, pts, &mut |OpusPacket { pts, data }| {
                let packet = TranscodeReply::Packet {
                    publisher,
                    pts,
                    data,
                    received,
                };
                sink(core, packet);
            });
            let TranscodeStats { units, decoded, .. } = transcoder.stats();
            if decoded == 0 && units >= AAC_FAILURES_BEFORE_VERDICT && !stream.told {
                stream.told = true;
                let text = "none of the publisher's AAC can be decoded: choose AAC-LC, mono or \
                            stereo, in the encoder"
                    .to_owned();
                sink(core, TranscodeReply::Unplayable { publisher, text });
            }
            Ok(())
        });
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
        // After a panic the stream's codecs are dropped, so nobody sees them half changed.
        let outcome = match catch_unwind(AssertUnwindSafe(|| work(stream, sink))) {
            Ok(Ok(())) => Outcome::Done,
            Ok(Err(error)) => Outcome::Failed(error.to_string()),
            Err(_) => {
                self.faults += 1;
                log::error!("transcoding panicked: the stream is silent publisher={publisher}");
                Outcome::Failed(
                    "the server failed at this audio, which is a bug of the server: please \
                     report it"
                        .to_owned(),
                )
            }
        };
        match outcome {
            Outcome::Done => {}
            Outcome::Failed(text) => {
                stream.transcoder = None;
                let core = stream.core;
                sink(core, TranscodeReply::Unplayable { publisher, text });
            }
        }
    }
}
