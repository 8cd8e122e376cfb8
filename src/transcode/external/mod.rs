//! Codecs that only ffmpeg decodes: one child process for each stream, fed with packets, read for
//! PCM. Here is what goes in and comes out and when the child is started anew; the process itself
//! is `runtime`'s.
//!
//! The child says no times. So the packets' own durations are counted, and its output, which is in
//! their order and as long, is cut into theirs.

mod container;
mod frames;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use self::container::Container;
use self::frames::Content;
use super::CHANNELS;
use crate::limits::AUDIO_UNIT_BYTES_MAX;
use crate::media::codec::AudioConfig;
use crate::media::time::MediaTime;

/// Which run of a child: a new one each time it is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChildId(pub u64);

/// What is to be done with child processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChildAction {
    /// Start `ffmpeg` with these arguments, both ends of it pipes.
    Start {
        /// Its name from now on.
        child: ChildId,
        /// The arguments.
        arguments: Vec<String>,
    },
    /// Write to its input.
    Write {
        /// Whose.
        child: ChildId,
        /// What.
        bytes: Vec<u8>,
    },
    /// End it.
    Stop {
        /// Which.
        child: ChildId,
    },
}

/// Why a child is no more, if it was not stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// There is no such program.
    Missing,
    /// It was not started: there are as many as there may be.
    TooMany,
    /// It ended, or could not be started or fed.
    Gone,
}

/// PCM of one packet, as the child gives it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Piece {
    /// When its first sample is heard.
    pub(super) pts: MediaTime,
    /// When its packet was received.
    pub(super) received: Instant,
    /// Samples a second.
    pub(super) rate: u32,
    /// Little-endian 32-bit floating point, stereo.
    pub(super) bytes: Vec<u8>,
}

/// Packets that a child may have taken without giving sound: more than a second of the shortest.
const MARKS_MAX: usize = 128;
/// Most samples of a packet, per channel: a fifth of a second at the least.
const PACKET_SAMPLES_MAX: u64 = 8_192;
/// A child that was fed, but gave nothing for so long, is stuck.
const STUCK: Duration = Duration::from_secs(2);
/// Starts within [`STARTS_WITHIN`] after which a stream is given up.
const STARTS_MAX: usize = 5;
const STARTS_WITHIN: Duration = Duration::from_secs(60);
const _: () = assert!(8_192 * SAMPLE_BYTES <= AUDIO_UNIT_BYTES_MAX);
/// Bytes of a sample of all channels.
const SAMPLE_BYTES: usize = CHANNELS * size_of::<f32>();

/// One stream's child.
#[derive(Debug)]
pub(super) struct External {
    config: AudioConfig,
    container: Container,
    run: Option<Run>,
    actions: VecDeque<ChildAction>,
    has_begun: bool,
    given_up: bool,
}

/// When a stream's children were started lately, whatever they decode.
#[derive(Debug, Default)]
pub(super) struct Starts(VecDeque<Instant>);

impl Starts {
    /// Takes one of them; `false`: there were too many.
    fn take(&mut self, now: Instant) -> bool {
        let Self(starts) = self;
        starts.retain(|start| now.saturating_duration_since(*start) < STARTS_WITHIN);
        let is_left = starts.len() < STARTS_MAX;
        if is_left {
            starts.push_back(now);
        }
        is_left
    }
}

/// One run of the child.
#[derive(Debug)]
struct Run {
    child: ChildId,
    rate: u32,
    /// Samples that were put in.
    samples: u64,
    marks: VecDeque<Mark>,
    /// Output that is not yet a packet's.
    output: Vec<u8>,
    /// Since when it was fed and gave nothing.
    hungry: Option<Instant>,
}

/// A packet in the child.
#[derive(Debug, Clone, Copy)]
struct Mark {
    pts: MediaTime,
    received: Instant,
    samples: u64,
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fed {
    /// The child has it.
    Taken,
    /// It is broken.
    Broken,
    /// There were too many runs: tell it.
    GivenUp,
}

impl External {
    /// For a stream with this configuration; `None` if it needs no child.
    pub(super) fn new(config: &AudioConfig) -> Option<Self> {
        let container = match config {
            AudioConfig::Ac3 => Container::Matroska("A_AC3"),
            AudioConfig::Eac3 => Container::Matroska("A_EAC3"),
            // 16 kHz mono, 16 bits.
            AudioConfig::Speex => Container::Flv(0xb2),
            // The formats of 16, 8 and 22.05 kHz mono, 16 bits.
            AudioConfig::Nellymoser { rate: 16_000 } => Container::Flv(0x42),
            AudioConfig::Nellymoser { rate: 8_000 } => Container::Flv(0x52),
            AudioConfig::Nellymoser { .. } => Container::Flv(0x6a),
            AudioConfig::Aac(_)
            | AudioConfig::Mp3
            | AudioConfig::ALaw { .. }
            | AudioConfig::MuLaw { .. }
            | AudioConfig::Pcm { .. }
            | AudioConfig::Opus(_)
            | AudioConfig::Flac(_) => return None,
        };
        Some(Self {
            config: config.clone(),
            container,
            run: None,
            actions: VecDeque::new(),
            has_begun: false,
            given_up: false,
        })
    }

    /// The configuration it decodes.
    pub(super) fn config(&self) -> &AudioConfig {
        &self.config
    }

    /// Whether there was a run.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// The run that is on.
    #[cfg(test)]
    pub(super) fn child(&self) -> Option<ChildId> {
        self.run.as_ref().map(|run| run.child)
    }

    /// What is to be done next.
    pub(super) fn poll_action(&mut self) -> Option<ChildAction> {
        self.actions.pop_front()
    }

    /// Takes a packet, received at `now`; `next` is the name of the next run, which is one of the
    /// stream's `starts`.
    pub(super) fn feed(
        &mut self,
        packet: &[u8],
        pts: MediaTime,
        now: Instant,
        (next, starts): (&mut u64, &mut Starts),
    ) -> Fed {
        if self.given_up {
            return Fed::Broken;
        }
        let Some((content, parts)) = self.content(packet) else {
            return Fed::Broken;
        };
        if content.samples > PACKET_SAMPLES_MAX {
            return Fed::Broken;
        }
        let unfit = self.run.as_ref().is_some_and(|run| {
            let stuck = run
                .hungry
                .is_some_and(|since| now.saturating_duration_since(since) > STUCK);
            run.rate != content.rate || stuck || run.marks.len() >= MARKS_MAX
        });
        if unfit {
            self.stop();
        }
        if self.run.is_none() {
            if !starts.take(now) {
                self.given_up = true;
                return Fed::GivenUp;
            }
            self.start(content, next);
        }
        let Some(run) = &mut self.run else {
            return Fed::Broken;
        };
        let mut bytes = Vec::new();
        let each = content.samples / (parts.len().max(1) as u64);
        for (index, part) in parts.iter().enumerate() {
            let at = run.samples + each * index as u64;
            let millis = at * 1_000 / u64::from(run.rate.max(1));
            self.container.packet(millis, part, &mut bytes);
        }
        run.samples += content.samples;
        run.hungry.get_or_insert(now);
        run.marks.push_back(Mark {
            pts,
            received: now,
            samples: content.samples,
        });
        let child = run.child;
        self.actions.push_back(ChildAction::Write { child, bytes });
        Fed::Taken
    }

    /// Takes what the child wrote and gives what is whole to `sink`.
    pub(super) fn output(&mut self, bytes: &[u8], sink: &mut dyn FnMut(Piece)) {
        let Some(run) = &mut self.run else {
            return;
        };
        run.output.extend_from_slice(bytes);
        run.hungry = None;
        while let Some(mark) = run.marks.front().copied() {
            let length = usize::try_from(mark.samples).unwrap_or(usize::MAX);
            let length = length.saturating_mul(SAMPLE_BYTES);
            if run.output.len() < length {
                break;
            }
            run.marks.pop_front();
            let rest = run.output.split_off(length);
            sink(Piece {
                pts: mark.pts,
                received: mark.received,
                rate: run.rate,
                bytes: std::mem::replace(&mut run.output, rest),
            });
        }
        if run.marks.is_empty() {
            // More came out than went in.
            run.output.clear();
        }
    }

    /// Whether the child has packets whose sound has not come.
    pub(super) fn is_busy(&self) -> bool {
        self.run.as_ref().is_some_and(|run| !run.marks.is_empty())
    }

    /// The child ended by itself; the next packet starts it anew.
    pub(super) fn ended(&mut self) {
        self.run = None;
    }

    /// Ends the child, if there is one.
    pub(super) fn stop(&mut self) {
        if let Some(run) = self.run.take() {
            self.actions
                .push_back(ChildAction::Stop { child: run.child });
        }
    }

    /// What a packet holds, and its parts as they are to be written.
    fn content(&self, packet: &[u8]) -> Option<(Content, Vec<Vec<u8>>)> {
        let whole = |content| Some((content, vec![packet.to_vec()]));
        match &self.config {
            AudioConfig::Ac3 | AudioConfig::Eac3 => whole(frames::ac3(packet)?),
            AudioConfig::Nellymoser { rate } => whole(frames::nellymoser(packet, *rate)?),
            AudioConfig::Speex => {
                let parts = frames::speex(packet);
                let samples = frames::SPEEX_FRAME.samples * parts.len() as u64;
                let content = Content {
                    samples,
                    ..frames::SPEEX_FRAME
                };
                (samples > 0).then_some((content, parts))
            }
            AudioConfig::Aac(_)
            | AudioConfig::Mp3
            | AudioConfig::ALaw { .. }
            | AudioConfig::MuLaw { .. }
            | AudioConfig::Pcm { .. }
            | AudioConfig::Opus(_)
            | AudioConfig::Flac(_) => None,
        }
    }

    /// Starts a run.
    fn start(&mut self, content: Content, next: &mut u64) {
        self.has_begun = true;
        let child = ChildId(*next);
        *next = next.wrapping_add(1);
        self.actions.push_back(ChildAction::Start {
            child,
            arguments: arguments(self.container, content.rate),
        });
        self.actions.push_back(ChildAction::Write {
            child,
            bytes: self.container.head(content),
        });
        self.run = Some(Run {
            child,
            rate: content.rate,
            samples: 0,
            marks: VecDeque::new(),
            output: Vec::new(),
            hungry: None,
        });
    }
}

/// ffmpeg's arguments: it begins at once (no probing), gives each packet's sound when it has it,
/// and reads and writes nothing but its pipes. Floating point, since it would else turn a downmix
/// down.
fn arguments(container: Container, rate: u32) -> Vec<String> {
    let rate = rate.to_string();
    let arguments = [
        "-hide_banner",
        "-nostdin",
        "-nostats",
        "-loglevel",
        "quiet",
        "-protocol_whitelist",
        "pipe",
        "-probesize",
        "32",
        "-analyzeduration",
        "0",
        "-threads",
        "1",
        "-f",
        container.name(),
        "-i",
        "pipe:0",
        "-map",
        "0:a:0",
        "-ac",
        "2",
        "-ar",
        &rate,
        "-flush_packets",
        "1",
        "-f",
        "f32le",
        "pipe:1",
    ];
    arguments.map(str::to_owned).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: MediaTime = MediaTime::from_millis(1_000);

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn now() -> Instant {
        Instant::now()
    }

    fn nellymoser() -> External {
        External::new(&AudioConfig::Nellymoser { rate: 8_000 }).unwrap()
    }

    fn pieces(external: &mut External, bytes: &[u8]) -> Vec<(MediaTime, usize)> {
        let mut pieces = Vec::new();
        external.output(bytes, &mut |piece| {
            pieces.push((piece.pts, piece.bytes.len()));
        });
        pieces
    }

    #[test]
    fn output_is_cut_into_the_packets_it_came_from() {
        let (mut external, mut next, now) = (nellymoser(), 0, now());
        let mut starts = Starts::default();
        let later = SECOND.plus(MediaTime::from_millis(64));
        assert_eq!(
            external.feed(&[0; 128], SECOND, now, (&mut next, &mut starts)),
            Fed::Taken
        );
        assert_eq!(
            external.feed(&[0; 64], later, now, (&mut next, &mut starts)),
            Fed::Taken
        );
        let starts = std::iter::from_fn(|| external.poll_action()).count();
        assert_eq!(starts, 4, "start, head and two packets");
        assert_eq!(pieces(&mut external, &vec![0; 512 * 8 - 1]), []);
        assert_eq!(pieces(&mut external, &[0]), [(SECOND, 512 * 8)]);
        assert_eq!(pieces(&mut external, &vec![0; 256 * 8]), [(later, 256 * 8)]);
    }

    #[test]
    fn stuck_or_ended_child_is_started_anew_but_not_for_ever() {
        let (mut external, mut next, start) = (nellymoser(), 0, now());
        let mut starts = Starts::default();
        let mut fed = Vec::new();
        for second in 0..30 {
            let now = start + Duration::from_secs(second);
            fed.push(external.feed(&[0; 64], SECOND, now, (&mut next, &mut starts)));
        }
        assert_eq!(next, 5);
        let given_up = fed.iter().filter(|fed| **fed == Fed::GivenUp);
        assert_eq!(given_up.count(), 1);
        let (mut external, mut starts) = (nellymoser(), Starts::default());
        external.feed(&[0; 64], SECOND, start, (&mut next, &mut starts));
        let first = external.child();
        external.ended();
        external.feed(&[0; 64], SECOND, start, (&mut next, &mut starts));
        assert_ne!(external.child(), first);
    }

    #[test]
    fn broken_packets_start_nothing() {
        let mut external = External::new(&AudioConfig::Ac3).unwrap();
        let fed = external.feed(b"garbage", SECOND, now(), (&mut 0, &mut Starts::default()));
        assert_eq!(fed, Fed::Broken);
        assert_eq!(external.poll_action(), None);
    }
}
