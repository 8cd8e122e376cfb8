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
        config: &AudioConfig,
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
        config: &AudioConfig,
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

#[cfg(test)]
mod tests {
    use super::*;

    const CORE: CoreId = CoreId(3);
    const PUBLISHER: PublisherId = PublisherId(7);
    /// AAC-LC, 48 kHz, stereo (14496-3 §1.6.2.1), and a unit of it: silence.
    const CONFIG: [u8; 2] = [0x11, 0x90];
    const UNIT: [u8; 9] = [0x21, 0x00, 0x49, 0x90, 0x02, 0x19, 0x00, 0x23, 0x80];

    fn open(publisher: PublisherId, config: &'static [u8]) -> TranscodeMsg {
        TranscodeMsg::Open {
            core: CORE,
            publisher,
            config: AudioConfig::Aac(Bytes::from_static(config)),
        }
    }

    fn configure(config: &'static [u8]) -> TranscodeMsg {
        TranscodeMsg::Configure {
            publisher: PUBLISHER,
            config: AudioConfig::Aac(Bytes::from_static(config)),
        }
    }

    fn unit(index: i64, data: &'static [u8]) -> TranscodeMsg {
        TranscodeMsg::Unit {
            publisher: PUBLISHER,
            pts: MediaTime::from_micros(index * 64_000 / 3),
            data: Bytes::from_static(data),
            #[expect(clippy::disallowed_methods, reason = "any instant will do")]
            received: Instant::now(),
        }
    }

    /// The replies to a message: packets are counted, complaints kept.
    fn replies(worker: &mut Transcoder, msg: TranscodeMsg) -> (usize, Vec<String>) {
        let (mut packets, mut complaints) = (0, Vec::new());
        worker.handle(msg, &mut |core, reply| {
            assert_eq!(core, CORE);
            match reply {
                TranscodeReply::Packet { publisher, .. } => {
                    assert_eq!(publisher, PUBLISHER);
                    packets += 1;
                }
                TranscodeReply::Unplayable { text, .. } => complaints.push(text),
            }
        });
        (packets, complaints)
    }

    fn worker() -> Transcoder {
        let mut worker = Transcoder::new(AudioSettings::default());
        assert_eq!(replies(&mut worker, open(PUBLISHER, &CONFIG)), (0, vec![]));
        worker
    }

    #[test]
    fn stream_gives_packets_from_open_to_close() {
        let mut worker = worker();
        assert_eq!(replies(&mut worker, unit(0, &UNIT)), (1, vec![]));
        assert_eq!(worker.stats(PUBLISHER).map(|stats| stats.decoded), Some(1));
        let close = TranscodeMsg::Close {
            publisher: PUBLISHER,
        };
        replies(&mut worker, close.clone());
        assert_eq!(worker.streams(), 0);
        assert_eq!(replies(&mut worker, unit(1, &UNIT)), (0, vec![]));
        replies(&mut worker, close);
        assert_eq!(worker.strays(), 2);
    }

    #[test]
    fn unusable_configuration_is_told_and_a_good_one_mends_it() {
        let mut worker = worker();
        let (_, complaints) = replies(&mut worker, configure(&[0xff; 8]));
        assert_eq!(complaints.len(), 1);
        assert!(complaints[0].contains("publisher"), "{complaints:?}");
        assert_eq!(replies(&mut worker, unit(0, &UNIT)), (0, vec![]));
        assert_eq!(replies(&mut worker, configure(&CONFIG)), (0, vec![]));
        assert_eq!(replies(&mut worker, unit(1, &UNIT)).0, 1);
    }

    #[test]
    fn stream_is_not_mended_for_ever() {
        let mut worker = worker();
        for _ in 0..2 * AUDIO_FORMAT_CHANGES_MAX {
            replies(&mut worker, configure(&[0xff; 8]));
        }
        let (_, complaints) = replies(&mut worker, configure(&CONFIG));
        assert_eq!(complaints, [TranscodeError::TooManyChanges.to_string()]);
    }

    #[test]
    fn stream_of_nothing_but_garbage_is_told_once() {
        let mut worker = worker();
        let mut complaints = Vec::new();
        for index in 0..200 {
            complaints.extend(replies(&mut worker, unit(index, &[0x5a; 40])).1);
        }
        assert_eq!(complaints.len(), 1);
    }

    #[test]
    fn panic_ends_its_stream_only() {
        let mut worker = worker();
        let other = PublisherId(8);
        replies(&mut worker, open(other, &CONFIG));
        let mut complaints = 0;
        worker.handle(unit(0, &UNIT), &mut |_, reply| match reply {
            TranscodeReply::Packet { .. } => panic!("as a codec might"),
            TranscodeReply::Unplayable { publisher, .. } => {
                assert_eq!(publisher, PUBLISHER);
                complaints += 1;
            }
        });
        assert_eq!((complaints, worker.faults()), (1, 1));
        assert!(worker.stats(PUBLISHER).is_none());
        assert!(worker.stats(other).is_some());
    }

    #[test]
    fn streams_are_bounded() {
        // The real bound costs too much memory and time to reach: a broken stream counts as well.
        let mut worker = Transcoder::new(AudioSettings::default());
        let publisher = |index: usize| PublisherId(u64::try_from(index).unwrap());
        for index in 0..TRANSCODE_STREAMS_MAX {
            replies(&mut worker, open(publisher(index), &[]));
        }
        let (_, complaints) = replies(&mut worker, open(publisher(9_999), &CONFIG));
        assert!(complaints[0].contains("more workers"), "{complaints:?}");
        assert_eq!(worker.streams(), TRANSCODE_STREAMS_MAX);
        assert_eq!(
            replies(&mut worker, open(publisher(5), &CONFIG)),
            (0, vec![]),
            "an open stream may be opened again"
        );
    }
}
