//! One stream: AAC access units in, Opus packets out, on one timeline that is exact to the sample.

use bytes::Bytes;

use super::decoder::{Decoded, Decoder, Format};
use super::packetizer::{Packetizer, samples_time};
use super::resample::Resampler;
use super::timeline::{Placement, SilenceBudget, Timeline};
use super::{CHANNELS, TranscodeError};
use crate::limits::{AAC_UNIT_BYTES_MAX, AUDIO_FORMAT_CHANGES_MAX, AUDIO_UNITS_PER_FORMAT_CHANGE};
use crate::media::time::{AUDIO_CLOCK_RATE, MediaTime};

/// How Opus is encoded: stereo, 48 kHz, 20 ms, variable bitrate, no DTX.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioSettings {
    /// Average bitrate, in bit/s: 6,000 to 510,000.
    pub bitrate: u32,
    /// Effort, 0 to 10.
    pub complexity: u8,
    /// Whether a packet may carry the one before it again, coarsely (RFC 6716 §2.1.7). The
    /// encoder does so for speech.
    pub in_band_fec: bool,
    /// Loss to be ready for, in percent. With in-band FEC and more than 8, the encoder codes
    /// everything as speech, and music suffers badly.
    pub expected_loss_percent: u8,
}

impl Default for AudioSettings {
    /// 128 kbit/s, as music needs; effort 9; ready for 5 % loss, which leaves music coded as
    /// music.
    fn default() -> Self {
        Self {
            bitrate: 128_000,
            complexity: 9,
            in_band_fec: true,
            expected_loss_percent: 5,
        }
    }
}

/// An Opus packet of 20 ms: stereo, 48 kHz.
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
    /// Access units that came.
    pub units: u64,
    /// Units that were decoded.
    pub decoded: u64,
    /// Units that were broken and became a substitute.
    pub concealed: u64,
    /// Units that could not be used at all: empty, too long, before the first configuration, or
    /// broken with nothing before them.
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

/// Length of the fades at the edges of silence, in milliseconds.
const FADE_MS: u32 = 5;

/// Transcodes one stream.
pub struct AudioTranscoder {
    decoder: Option<Decoder>,
    /// Takes over from `decoder` at the next unit.
    next_decoder: Option<Decoder>,
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

/// What the next decoded sample continues.
enum Phase {
    /// Nothing: it begins a timeline.
    Begin(SilenceBudget),
    /// Sound that was faded out: it is set where it belongs after it.
    Between(Timeline),
    /// The sound before it.
    Running(Timeline, Edge),
}

impl Default for Phase {
    fn default() -> Self {
        Self::Begin(SilenceBudget::default())
    }
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
            decoder: None,
            next_decoder: None,
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

    /// Takes an AudioSpecificConfig (14496-3 §1.6.2.1) for the units that follow; the timeline
    /// goes on. The one in force, sent again, changes nothing.
    ///
    /// # Errors
    /// If the configuration cannot be used, or changes too often: what was in force remains so.
    pub fn configure(&mut self, audio_specific_config: &[u8]) -> Result<(), TranscodeError> {
        let in_force = self.next_decoder.as_ref().or(self.decoder.as_ref());
        if in_force.is_some_and(|decoder| decoder.config() == audio_specific_config) {
            return Ok(());
        }
        if !self.may_change() {
            return Err(TranscodeError::TooManyChanges);
        }
        let decoder = Decoder::new(audio_specific_config)?;
        if self.decoder.is_none() {
            self.decoder = Some(decoder);
        } else {
            self.next_decoder = Some(decoder);
            self.stats.format_changes += 1;
        }
        Ok(())
    }

    /// Takes an access unit whose first sample is heard at `pts` and gives the packets that are
    /// full to `sink`. Broken units, gaps and overlaps are smoothed over and counted.
    pub fn push(&mut self, access_unit: &[u8], pts: MediaTime, sink: &mut dyn FnMut(OpusPacket)) {
        self.stats.units += 1;
        self.units_to_change = self.units_to_change.saturating_sub(1);
        if self.units_to_change == 0 {
            self.units_to_change = AUDIO_UNITS_PER_FORMAT_CHANGE;
            self.changes_left = (self.changes_left + 1).min(AUDIO_FORMAT_CHANGES_MAX);
        }
        let usable = (1..=AAC_UNIT_BYTES_MAX).contains(&access_unit.len());
        if !usable || self.decoder.is_none() {
            self.stats.ignored += 1;
            return;
        }
        self.change_decoder(sink);
        self.place(pts, sink);
        let decoder = self.decoder.as_mut();
        let decoded = decoder.map_or(Decoded::Nothing, |decoder| {
            decoder.decode(access_unit, &mut self.pcm)
        });
        let format = match decoded {
            Decoded::Clean(format) | Decoded::Concealed(format) => Some(format),
            Decoded::Nothing => None,
        };
        let Some(format) = format.filter(|format| self.prepare_resampler(format.rate, sink)) else {
            self.stats.ignored += 1;
            return;
        };
        let clean = decoded == Decoded::Clean(format);
        self.stats.decoded += u64::from(clean);
        self.stats.concealed += u64::from(!clean);
        self.begin_piece(pts, format, sink);
        self.observe(pts, format);
        let pcm = std::mem::take(&mut self.pcm);
        self.play(&pcm, format.rate, sink);
        self.pcm = pcm;
    }

    /// What became of the sound so far.
    #[must_use]
    pub fn stats(&self) -> TranscodeStats {
        let skew = match &self.phase {
            Phase::Begin(_) => MediaTime::ZERO,
            Phase::Between(timeline) | Phase::Running(timeline, _) => timeline.skew(),
        };
        TranscodeStats {
            packets: self.packetizer.packets(),
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

    /// Lets the decoder of the new configuration take over, if there is one.
    fn change_decoder(&mut self, sink: &mut dyn FnMut(OpusPacket)) {
        let Some(next) = self.next_decoder.take() else {
            return;
        };
        self.end_piece(sink);
        self.decoder = Some(next);
    }

    /// Ends the sound so far if a unit that says `pts` does not go on where it ends.
    fn place(&mut self, pts: MediaTime, sink: &mut dyn FnMut(OpusPacket)) {
        let placement = match &self.phase {
            Phase::Begin(_) => return,
            Phase::Between(timeline) => timeline.place(pts.minus(timeline.end())),
            Phase::Running(timeline, edge) => {
                let Some(format) = self.decoder.as_ref().and_then(Decoder::format) else {
                    return;
                };
                timeline.place(self.distance(timeline, *edge, pts, format))
            }
        };
        match placement {
            Placement::Continues => return,
            Placement::Cut => self.end_piece(sink),
            Placement::Jump => {
                self.end_piece(sink);
                self.packetizer.finish(sink);
                self.begin_anew();
            }
        }
        if let Some(decoder) = &mut self.decoder {
            decoder.restart();
        }
    }

    fn begin_anew(&mut self) {
        self.stats.jumps += 1;
        self.phase = match std::mem::take(&mut self.phase) {
            Phase::Between(timeline) | Phase::Running(timeline, _) => {
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

    /// Has a resampler for `rate` hertz ready, or returns false if there can be none.
    fn prepare_resampler(&mut self, rate: u32, sink: &mut dyn FnMut(OpusPacket)) -> bool {
        if self
            .resampler
            .as_ref()
            .is_some_and(|old| old.rate() == rate)
        {
            return true;
        }
        // The first one is part of the first configuration.
        if self.resampler.is_some() && !self.may_change() {
            return false;
        }
        let Ok(new) = Resampler::new(rate) else {
            return false;
        };
        self.drain(sink);
        self.resampler = Some(new);
        if let Phase::Running(_, edge) = &mut self.phase {
            *edge = Edge::default();
        }
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
            Phase::Between(mut timeline) => {
                let distance = pts.minus(timeline.end());
                let gap = distance.max(MediaTime::ZERO);
                let silence = time_samples(gap, AUDIO_CLOCK_RATE);
                self.packetizer.push_silence(silence, sink);
                timeline.advance(silence);
                timeline.cut(gap);
                let overlap = distance.minus(gap);
                // What a new decoder gives first was before the unit: nothing.
                let before = format.delay as u64;
                let twice = time_samples(MediaTime::ZERO.minus(overlap), format.rate);
                let skip = usize::try_from(before.saturating_add(twice)).unwrap_or(usize::MAX);
                self.stats.gaps += u64::from(silence > 0);
                self.stats.silence = self.stats.silence.plus(gap);
                self.stats.overlaps += u64::from(twice > 0);
                Phase::Running(timeline, Edge { skip, faded: 0 })
            }
        };
    }

    /// Lets the timeline see a unit's time, and the resampler follow it.
    fn observe(&mut self, pts: MediaTime, format: Format) {
        let (distance, edge) = match &self.phase {
            Phase::Begin(_) | Phase::Between(_) => return,
            Phase::Running(timeline, edge) => (self.distance(timeline, *edge, pts, format), *edge),
        };
        if let Phase::Running(timeline, _) = &mut self.phase
            && edge.skip == 0
        {
            timeline.observe(distance, samples_time(format.frame as u64, format.rate));
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
        let tail = self.decoder.as_mut().and_then(decoder_tail);
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
            Phase::Running(timeline, _) => Phase::Between(timeline),
            other @ (Phase::Begin(_) | Phase::Between(_)) => other,
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

/// The samples that a decoder has taken but not yet given, and their rate.
fn decoder_tail(decoder: &mut Decoder) -> Option<(Vec<f32>, u32)> {
    let format = decoder.format()?;
    let wanted = format.delay * CHANNELS;
    let mut tail = Vec::with_capacity(wanted);
    let mut pcm = Vec::new();
    while tail.len() < wanted {
        if decoder.conceal(&mut pcm)? != format || pcm.is_empty() {
            return None;
        }
        tail.extend_from_slice(&pcm);
    }
    tail.truncate(wanted);
    Some((tail, format.rate))
}

/// How many samples at `rate` hertz `time` has, to the nearest; 0 if it is negative.
fn time_samples(time: MediaTime, rate: u32) -> u64 {
    const MICROS: i128 = 1_000_000;
    let samples = (i128::from(time.as_micros()) * i128::from(rate) + MICROS / 2).div_euclid(MICROS);
    u64::try_from(samples).unwrap_or_default()
}

fn fade_samples(rate: u32) -> usize {
    usize::try_from(rate * FADE_MS / 1_000).unwrap_or_default()
}

/// Fades in samples of which `faded` of `fade` (per channel) went before.
fn fade_in(pcm: &mut [f32], faded: usize, fade: usize) {
    let left = fade.saturating_sub(faded);
    for (index, frame) in pcm.chunks_exact_mut(CHANNELS).take(left).enumerate() {
        let gain = gain(faded + index, fade);
        frame.iter_mut().for_each(|sample| *sample *= gain);
    }
}

/// Fades out the end.
fn fade_out(pcm: &mut [f32], rate: u32) {
    let fade = fade_samples(rate);
    for (index, frame) in pcm.chunks_exact_mut(CHANNELS).rev().take(fade).enumerate() {
        let gain = gain(index, fade);
        frame.iter_mut().for_each(|sample| *sample *= gain);
    }
}

/// A raised cosine: both ends are smooth.
#[expect(clippy::cast_precision_loss, reason = "a few hundred samples")]
fn gain(index: usize, fade: usize) -> f32 {
    let phase = (index as f32 + 0.5) / fade.max(1) as f32;
    0.5 - 0.5 * (std::f32::consts::PI * phase).cos()
}
