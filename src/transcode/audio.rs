//! One stream: any codec's packets in, Opus packets out, on one timeline that is exact to the sample.

use bytes::Bytes;

use super::decoder::{Decoded, Decoder, Format};
use super::fade::{fade_in, fade_out, fade_samples};
use super::packetizer::{Packetizer, samples_time};
use super::pass::{Passed, Passer};
use super::resample::Resampler;
use super::timeline::{Placement, SilenceBudget, Timeline};
use super::{CHANNELS, TranscodeError};
use crate::limits::{
    AUDIO_FORMAT_CHANGES_MAX, AUDIO_UNIT_BYTES_MAX, AUDIO_UNITS_PER_FORMAT_CHANGE,
};
use crate::media::codec::AudioConfig;
use crate::media::time::{AUDIO_CLOCK_RATE, MediaTime};

/// How Opus is encoded: stereo, 48 kHz, 20 ms, variable bitrate, no DTX.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioSettings {
    /// Average bitrate, in bit/s: 6,000 to 510,000.
    pub bitrate: u32,
    /// Effort, 0 to 10.
    pub complexity: u8,
    /// Whether a packet may carry the one before it again, coarsely (RFC 6716 §2.1.7). Only sound
    /// coded as speech can, so only below 64 kbit/s.
    pub in_band_fec: bool,
    /// Loss to be ready for, in percent: the more, the less a packet relies on those before.
    pub expected_loss_percent: u8,
}

impl Default for AudioSettings {
    /// 128 kbit/s, as music needs; effort 5: twice the speed of 9 for about 1 dB (table in
    /// `docs/PERFORMANCE.md`); ready for 5 % loss.
    fn default() -> Self {
        Self {
            bitrate: 128_000,
            complexity: 5,
            in_band_fec: true,
            expected_loss_percent: 5,
        }
    }
}

/// An Opus packet: of 20 ms, stereo, 48 kHz; or, of a stream that is published as Opus, as
/// published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpusPacket {
    /// When the first sample that it decodes to is heard.
    pub pts: MediaTime,
    /// The packet (RFC 6716 §3).
    pub data: Bytes,
}

/// What became of a stream's sound so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TranscodeStats {
    /// Packets that came.
    pub units: u64,
    /// Packets that were decoded, or passed as they are.
    pub decoded: u64,
    /// Packets that were broken and became a substitute.
    pub concealed: u64,
    /// Packets that gave no sound: empty, too long, before the first configuration, only a part
    /// of a frame, or broken with nothing before them.
    pub ignored: u64,
    /// Gaps that became silence.
    pub gaps: u64,
    /// The silence they became, in all.
    pub silence: MediaTime,
    /// Overlaps that were left out.
    pub overlaps: u64,
    /// Times that the timeline began anew.
    pub jumps: u64,
    /// Changes of the format.
    pub format_changes: u64,
    /// Packets that came out.
    pub packets: u64,
    /// Packets that the encoder refused to make.
    pub packets_failed: u64,
    /// How far the sound is behind its timestamps now (before them, if negative), on average.
    pub skew: MediaTime,
}

/// Transcodes one stream.
pub struct AudioTranscoder {
    source: Option<Source>,
    /// Takes over from `source` at the next packet.
    next_source: Option<Source>,
    resampler: Option<Resampler>,
    packetizer: Packetizer,
    phase: Phase,
    stats: TranscodeStats,
    /// Changes of the format that are still allowed.
    changes_left: u32,
    /// Units until one more is.
    units_to_change: u32,
    /// A decoded frame, and 48 kHz of it: kept for their memory.
    pcm: Vec<f32>,
    resampled: Vec<f32>,
}

/// What becomes of packets.
enum Source {
    /// They are decoded and encoded anew.
    Decode(Decoder),
    /// They pass as they are; the configuration is Opus's.
    Pass(Passer, AudioConfig),
}

impl Source {
    fn new(config: &AudioConfig) -> Result<Self, TranscodeError> {
        if let AudioConfig::Opus(head) = config
            && let Some(passer) = Passer::new(head.as_deref())
        {
            return Ok(Self::Pass(passer, config.clone()));
        }
        Ok(Self::Decode(Decoder::new(config)?))
    }

    fn config(&self) -> &AudioConfig {
        match self {
            Self::Decode(decoder) => decoder.config(),
            Self::Pass(_, config) => config,
        }
    }
}

/// What the next decoded sample continues.
enum Phase {
    /// Nothing: it begins a timeline.
    Begin(SilenceBudget),
    /// Sound that was ended: it is set where it belongs after it.
    Between(Timeline, Decoding),
    /// The sound before it.
    Running(Timeline, Edge),
}

impl Default for Phase {
    fn default() -> Self {
        Self::Begin(SilenceBudget::default())
    }
}

/// What a decoder gives first, after sound was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decoding {
    /// It begins: what is before the packet's first sample is nothing.
    Anew,
    /// It goes on in another format: what is before is sound.
    On,
}

/// What is to be done to a piece of sound at its beginning.
#[derive(Debug, Clone, Copy, Default)]
struct Edge {
    /// Samples, per channel, to leave out.
    skip: usize,
    /// Samples, per channel, of fading in that have been.
    faded: usize,
}

impl AudioTranscoder {
    /// Makes a transcoder that waits for its configuration.
    ///
    /// # Errors
    /// If a setting is out of range, or memory is short.
    pub fn new(settings: AudioSettings) -> Result<Self, TranscodeError> {
        Ok(Self {
            source: None,
            next_source: None,
            resampler: None,
            packetizer: Packetizer::new(settings)?,
            phase: Phase::default(),
            stats: TranscodeStats::default(),
            changes_left: AUDIO_FORMAT_CHANGES_MAX,
            units_to_change: AUDIO_UNITS_PER_FORMAT_CHANGE,
            pcm: Vec::new(),
            resampled: Vec::new(),
        })
    }

    /// Takes a configuration for the packets that follow; the timeline goes on. The one in force,
    /// sent again, changes nothing.
    ///
    /// # Errors
    /// If the configuration cannot be used, or changes too often: what was in force remains so.
    pub fn configure(&mut self, config: &AudioConfig) -> Result<(), TranscodeError> {
        let in_force = self.next_source.as_ref().or(self.source.as_ref());
        if in_force.is_some_and(|source| source.config() == config) {
            return Ok(());
        }
        self.change_to(|| Source::new(config))
    }

    /// Takes note that the packets that follow are PCM that a child process decoded: little-endian
    /// 32-bit floating point at `rate` hertz, stereo. The stream's own configuration is `config`.
    ///
    /// # Errors
    /// If the rate is absurd, or the format changes too often.
    pub(super) fn configure_feed(
        &mut self,
        config: &AudioConfig,
        rate: u32,
    ) -> Result<(), TranscodeError> {
        let same = |source: &Source| match source {
            Source::Decode(decoder) => {
                decoder.config() == config && decoder.fed_rate() == Some(rate)
            }
            Source::Pass(..) => false,
        };
        let in_force = self.next_source.as_ref().or(self.source.as_ref());
        if in_force.is_some_and(same) {
            return Ok(());
        }
        self.change_to(|| Ok(Source::Decode(Decoder::feed(config, rate)?)))
    }

    /// Makes a new source if the format may change; the timeline goes on.
    fn change_to(
        &mut self,
        make: impl FnOnce() -> Result<Source, TranscodeError>,
    ) -> Result<(), TranscodeError> {
        if !self.may_change() {
            return Err(TranscodeError::TooManyChanges);
        }
        let source = make()?;
        if self.source.is_none() {
            self.source = Some(source);
        } else {
            self.next_source = Some(source);
            self.stats.format_changes += 1;
        }
        Ok(())
    }

    /// Takes a packet whose first sample is heard at `pts` and gives the packets that are full to
    /// `sink`. Broken packets, gaps and overlaps are smoothed over and counted.
    pub fn push(&mut self, packet: &[u8], pts: MediaTime, sink: &mut dyn FnMut(OpusPacket)) {
        self.stats.units += 1;
        self.units_to_change = self.units_to_change.saturating_sub(1);
        if self.units_to_change == 0 {
            self.units_to_change = AUDIO_UNITS_PER_FORMAT_CHANGE;
            self.changes_left = (self.changes_left + 1).min(AUDIO_FORMAT_CHANGES_MAX);
        }
        if !(1..=AUDIO_UNIT_BYTES_MAX).contains(&packet.len()) {
            self.stats.ignored += 1;
            return;
        }
        self.change_source(sink);
        if !self.pass(packet, pts, sink) {
            self.decode(packet, pts, sink);
        }
    }

    /// Nothing more comes: gives the packet that is not full, filled up with silence.
    pub(super) fn finish(&mut self, sink: &mut dyn FnMut(OpusPacket)) {
        self.end_piece(sink);
        self.packetizer.finish(sink);
    }

    /// Passes a packet on as it is, if the stream is such.
    fn pass(&mut self, packet: &[u8], pts: MediaTime, sink: &mut dyn FnMut(OpusPacket)) -> bool {
        let Some(Source::Pass(passer, config)) = &mut self.source else {
            return false;
        };
        let packet = match passer.push(packet, pts) {
            Passed::Packet(packet) => Some(packet),
            Passed::AfterGap(packet) => {
                self.stats.gaps += 1;
                Some(packet)
            }
            Passed::AfterJump(packet) => {
                self.stats.jumps += 1;
                Some(packet)
            }
            Passed::LeftOut => {
                self.stats.overlaps += 1;
                None
            }
            Passed::Broken => {
                self.stats.ignored += 1;
                return true;
            }
            Passed::Unfit => {
                let decoder = Decoder::new(config).ok();
                self.leave_pass();
                self.source = decoder.map(Source::Decode);
                self.stats.format_changes += 1;
                return false;
            }
        };
        self.stats.decoded += 1;
        self.stats.packets += u64::from(packet.is_some());
        packet.into_iter().for_each(sink);
        true
    }

    /// Decodes a packet and has it encoded anew.
    fn decode(&mut self, packet: &[u8], pts: MediaTime, sink: &mut dyn FnMut(OpusPacket)) {
        let pts = self.place(pts, sink);
        let mut pcm = std::mem::take(&mut self.pcm);
        let before = self.decoder().and_then(|decoder| decoder.format());
        let decoded = self
            .decoder()
            .map_or(Decoded::Nothing, |decoder| decoder.decode(packet, &mut pcm));
        let format = match decoded {
            Decoded::Clean(format) | Decoded::Concealed(format) => Some(format),
            Decoded::Nothing => None,
        };
        if let Some(format) = format.filter(|format| self.prepare(before, *format, sink)) {
            let clean = decoded == Decoded::Clean(format);
            self.stats.decoded += u64::from(clean);
            self.stats.concealed += u64::from(!clean);
            self.begin_piece(pts, format, sink);
            self.observe(pts, format, pcm.len() / CHANNELS);
            self.play(&pcm, format.rate, sink);
        } else {
            self.stats.ignored += 1;
        }
        self.pcm = pcm;
    }

    fn decoder(&mut self) -> Option<&mut Decoder> {
        match &mut self.source {
            Some(Source::Decode(decoder)) => Some(decoder),
            Some(Source::Pass(..)) | None => None,
        }
    }

    /// What became of the sound so far.
    #[must_use]
    pub fn stats(&self) -> TranscodeStats {
        let skew = match (&self.source, &self.phase) {
            (Some(Source::Pass(passer, _)), _) => passer.skew(),
            (_, Phase::Begin(_)) => MediaTime::ZERO,
            (_, Phase::Between(timeline, _) | Phase::Running(timeline, _)) => timeline.skew(),
        };
        TranscodeStats {
            packets: self.packetizer.packets() + self.stats.packets,
            packets_failed: self.packetizer.failures(),
            skew,
            ..self.stats
        }
    }

    /// Uses up one change of format, if there is one left.
    fn may_change(&mut self) -> bool {
        let left = self.changes_left.checked_sub(1);
        self.changes_left = left.unwrap_or_default();
        left.is_some()
    }

    /// Lets the new configuration take over, if there is one.
    fn change_source(&mut self, sink: &mut dyn FnMut(OpusPacket)) {
        let Some(next) = self.next_source.take() else {
            return;
        };
        self.end_piece(sink);
        self.leave_pass();
        let mut next = next;
        if let Source::Pass(passer, _) = &mut next {
            self.packetizer.finish(sink);
            if let Phase::Between(..) = self.phase {
                passer.begin_at(self.packetizer.next_pts());
            }
            self.begin_anew();
        }
        self.source = Some(next);
    }

    /// Has sound that is encoded anew follow on what has passed.
    fn leave_pass(&mut self) {
        if let Some(Source::Pass(passer, _)) = &self.source
            && let Some(end) = passer.end()
        {
            // Where the encoder's first packet begins where the last one ended.
            let origin = self.packetizer.begin_at_packet(end);
            let silence_left = match &self.phase {
                Phase::Begin(silence_left) => *silence_left,
                Phase::Between(timeline, _) | Phase::Running(timeline, _) => {
                    timeline.silence_left()
                }
            };
            let timeline = Timeline::new(origin, silence_left);
            self.phase = Phase::Between(timeline, Decoding::Anew);
        }
    }

    /// Ends the sound so far if a packet that says `pts` does not go on where it ends. Returns when
    /// the sound that it will give begins.
    fn place(&mut self, pts: MediaTime, sink: &mut dyn FnMut(OpusPacket)) -> MediaTime {
        let known = self.decoder().and_then(|decoder| decoder.format());
        let carried = self
            .decoder()
            .map_or(MediaTime::ZERO, |decoder| decoder.carried());
        let begins = pts.minus(carried);
        let placement = match &self.phase {
            Phase::Begin(_) => return begins,
            Phase::Between(timeline, _) => timeline.place(begins.minus(timeline.end())),
            Phase::Running(timeline, edge) => match known {
                Some(format) => timeline.place(self.distance(timeline, *edge, begins, format)),
                None => return begins,
            },
        };
        match placement {
            Placement::Continues => return begins,
            Placement::Cut => self.end_piece(sink),
            Placement::Jump => {
                self.end_piece(sink);
                self.packetizer.finish(sink);
                self.stats.jumps += 1;
                self.begin_anew();
            }
        }
        if let Some(decoder) = self.decoder() {
            decoder.restart();
        }
        pts
    }

    fn begin_anew(&mut self) {
        self.phase = match std::mem::take(&mut self.phase) {
            Phase::Between(timeline, _) | Phase::Running(timeline, _) => {
                Phase::Begin(timeline.silence_left())
            }
            begin @ Phase::Begin(_) => begin,
        };
    }

    /// How much later a unit's first sample says it is heard than it would be by count.
    fn distance(
        &self,
        timeline: &Timeline,
        edge: Edge,
        pts: MediaTime,
        format: Format,
    ) -> MediaTime {
        let pending = self.resampler.as_ref().map_or(0, Resampler::pending);
        let by_count = timeline
            .end()
            .plus(samples_time(pending, AUDIO_CLOCK_RATE))
            .minus(samples_time(edge.skip as u64, format.rate));
        heard_at(pts, format).minus(by_count)
    }

    /// Is ready for sound in `format`, after sound in the format `before`, or returns false if
    /// that cannot be.
    fn prepare(
        &mut self,
        before: Option<Format>,
        format: Format,
        sink: &mut dyn FnMut(OpusPacket),
    ) -> bool {
        let rate = self.resampler.as_ref().map(Resampler::rate);
        if rate != Some(format.rate) {
            // The first one is part of the first configuration.
            if rate.is_some() && !self.may_change() {
                return false;
            }
            let Ok(new) = Resampler::new(format.rate) else {
                return false;
            };
            self.drain(sink);
            self.resampler = Some(new);
        } else if before.is_none_or(|before| before == format) {
            return true;
        }
        // A decoder that found out more, as of HE-AAC that was not announced.
        self.drain(sink);
        self.phase = match std::mem::take(&mut self.phase) {
            Phase::Running(timeline, _) => Phase::Between(timeline, Decoding::On),
            other @ (Phase::Begin(_) | Phase::Between(..)) => other,
        };
        true
    }

    /// Sets the first frame of a piece of sound where it belongs.
    fn begin_piece(&mut self, pts: MediaTime, format: Format, sink: &mut dyn FnMut(OpusPacket)) {
        self.phase = match std::mem::take(&mut self.phase) {
            Phase::Running(timeline, edge) => Phase::Running(timeline, edge),
            Phase::Begin(silence_left) => {
                let origin = heard_at(pts, format);
                self.packetizer.begin(origin);
                Phase::Running(Timeline::new(origin, silence_left), Edge::default())
            }
            Phase::Between(mut timeline, decoding) => {
                let (begins, before) = match decoding {
                    Decoding::Anew => (pts, format.delay as u64),
                    Decoding::On => (heard_at(pts, format), 0),
                };
                let distance = begins.minus(timeline.end());
                let gap = distance.max(MediaTime::ZERO);
                let silence = time_samples(gap, AUDIO_CLOCK_RATE);
                self.packetizer.push_silence(silence, sink);
                timeline.advance(silence);
                timeline.cut(gap);
                let overlap = distance.minus(gap);
                let twice = time_samples(MediaTime::ZERO.minus(overlap), format.rate);
                let skip = usize::try_from(before.saturating_add(twice)).unwrap_or(usize::MAX);
                if decoding == Decoding::Anew {
                    self.stats.gaps += u64::from(silence > 0);
                    self.stats.overlaps += u64::from(twice > 0);
                    self.stats.silence = self.stats.silence.plus(gap);
                }
                Phase::Running(timeline, Edge { skip, faded: 0 })
            }
        };
    }

    /// Lets the timeline see the time of a packet of so many samples, and the resampler follow it.
    fn observe(&mut self, pts: MediaTime, format: Format, samples: usize) {
        let (distance, edge) = match &self.phase {
            Phase::Begin(_) | Phase::Between(..) => return,
            Phase::Running(timeline, edge) => (self.distance(timeline, *edge, pts, format), *edge),
        };
        if let Phase::Running(timeline, _) = &mut self.phase
            && edge.skip == 0
        {
            timeline.observe(distance, samples_time(samples as u64, format.rate));
            if let Some(resampler) = &mut self.resampler {
                resampler.set_trim(timeline.trim());
            }
        }
    }

    /// Fades out what the decoder still keeps and lets everything through to the packetizer.
    fn end_piece(&mut self, sink: &mut dyn FnMut(OpusPacket)) {
        if !matches!(self.phase, Phase::Running(..)) {
            return;
        }
        let fade = self
            .resampler
            .as_ref()
            .map_or(0, |resampler| fade_samples(resampler.rate()));
        let tail = self.decoder().and_then(|decoder| decoder.tail(fade));
        if let Some((mut tail, rate)) = tail
            && self
                .resampler
                .as_ref()
                .is_some_and(|now| now.rate() == rate)
        {
            fade_out(&mut tail, rate);
            self.play(&tail, rate, sink);
        }
        self.drain(sink);
        self.phase = match std::mem::take(&mut self.phase) {
            Phase::Running(timeline, _) => Phase::Between(timeline, Decoding::Anew),
            other @ (Phase::Begin(_) | Phase::Between(..)) => other,
        };
    }

    /// Sends PCM through edge, resampler and packetizer.
    fn play(&mut self, pcm: &[f32], rate: u32, sink: &mut dyn FnMut(OpusPacket)) {
        let (Phase::Running(timeline, edge), Some(resampler)) =
            (&mut self.phase, &mut self.resampler)
        else {
            return;
        };
        let skip = edge.skip.min(pcm.len() / CHANNELS);
        edge.skip -= skip;
        let pcm = pcm.get(skip * CHANNELS..).unwrap_or_default();
        self.resampled.clear();
        let fade = fade_samples(rate);
        if edge.faded < fade {
            let mut faded = pcm.to_vec();
            fade_in(&mut faded, edge.faded, fade);
            edge.faded = edge.faded.saturating_add(faded.len() / CHANNELS);
            resampler.push(&faded, &mut self.resampled);
        } else {
            resampler.push(pcm, &mut self.resampled);
        }
        timeline.advance((self.resampled.len() / CHANNELS) as u64);
        self.packetizer.push(&self.resampled, sink);
    }

    /// Lets out what the resampler keeps.
    fn drain(&mut self, sink: &mut dyn FnMut(OpusPacket)) {
        let (Phase::Running(timeline, _), Some(resampler)) = (&mut self.phase, &mut self.resampler)
        else {
            return;
        };
        self.resampled.clear();
        resampler.drain(&mut self.resampled);
        timeline.advance((self.resampled.len() / CHANNELS) as u64);
        self.packetizer.push(&self.resampled, sink);
    }
}

/// When the first sample of a unit's frame, as it comes out of the decoder, is heard.
fn heard_at(pts: MediaTime, format: Format) -> MediaTime {
    pts.minus(samples_time(format.delay as u64, format.rate))
}

/// How many samples at `rate` hertz `time` has, to the nearest; 0 if it is negative.
fn time_samples(time: MediaTime, rate: u32) -> u64 {
    const MICROS: i128 = 1_000_000;
    let samples = (i128::from(time.as_micros()) * i128::from(rate) + MICROS / 2).div_euclid(MICROS);
    u64::try_from(samples).unwrap_or_default()
}
