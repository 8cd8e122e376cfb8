//! 48 kHz stereo PCM to Opus packets of 20 ms (RFC 6716 §2.1.4), numbered by samples.

use bytes::Bytes;
use opus::{Application, Bitrate, Channels, Encoder, Signal};

use super::{AudioSettings, CHANNELS, OpusPacket, TranscodeError};
use crate::limits::RTP_PAYLOAD_BYTES_MAX;
use crate::media::time::{AUDIO_CLOCK_RATE, MediaTime};

/// Samples of a packet, per channel: 20 ms.
const PACKET_SAMPLES: usize = 960;
/// Duration of a packet.
const PACKET_TIME: MediaTime = MediaTime::from_millis(20);
/// Bits a second from which the encoder is told that everything is music. Left alone, with in-band
/// FEC and a complexity of 7 or more, it codes speech, noise and the first second of anything as
/// narrow speech: at 128 kbit/s that costs 14 dB of fidelity and twice the time.
const MUSIC_BITRATE_MIN: u32 = 64_000;
/// Precision of the decoder's output, in bits: tells the encoder where noise ends.
const SOURCE_BITS: i32 = 16;

/// An Opus encoder and the samples that wait for their packet to be full.
pub(super) struct Packetizer {
    encoder: Encoder,
    /// What the encoder keeps back: a packet's first sound is this much older than its input.
    lookahead: MediaTime,
    /// Interleaved; less than a packet between calls.
    waiting: Vec<f32>,
    /// When the first sample of the next packet is heard.
    pts: MediaTime,
    packet: Box<[u8; RTP_PAYLOAD_BYTES_MAX]>,
    packets: u64,
    failures: u64,
}

impl Packetizer {
    /// Makes an encoder.
    ///
    /// # Errors
    /// If a setting is out of range, or memory is short.
    pub(super) fn new(settings: AudioSettings) -> Result<Self, TranscodeError> {
        let encoder = encoder(settings)?;
        let mut packetizer = Self {
            encoder,
            lookahead: MediaTime::ZERO,
            waiting: Vec::with_capacity(PACKET_SAMPLES * CHANNELS),
            pts: MediaTime::ZERO,
            packet: Box::new([0; RTP_PAYLOAD_BYTES_MAX]),
            packets: 0,
            failures: 0,
        };
        let samples = packetizer.encoder.get_lookahead().map_err(start_error)?;
        packetizer.lookahead = u64::try_from(samples)
            .map(|samples| samples_time(samples, AUDIO_CLOCK_RATE))
            .unwrap_or_default();
        Ok(packetizer)
    }

    /// The next sample is heard at `time`. Call it at the beginning, or after [`Self::finish`].
    pub(super) fn begin(&mut self, time: MediaTime) {
        debug_assert!(self.waiting.is_empty(), "samples of another time wait");
        self.pts = time.minus(self.lookahead);
    }

    /// The next packet begins at `pts`. Returns when the next sample is heard.
    pub(super) fn begin_at_packet(&mut self, pts: MediaTime) -> MediaTime {
        self.begin(pts.plus(self.lookahead));
        pts.plus(self.lookahead)
    }

    /// When the first sample of the next packet is heard.
    pub(super) fn next_pts(&self) -> MediaTime {
        self.pts
    }

    /// Takes interleaved stereo samples.
    pub(super) fn push(&mut self, pcm: &[f32], sink: &mut dyn FnMut(OpusPacket)) {
        self.waiting.extend_from_slice(pcm);
        let mut waiting = std::mem::take(&mut self.waiting);
        let mut packets = waiting.chunks_exact(PACKET_SAMPLES * CHANNELS);
        for packet in &mut packets {
            self.encode(packet, sink);
        }
        let rest = packets.remainder().len();
        waiting.drain(..waiting.len().saturating_sub(rest));
        self.waiting = waiting;
    }

    /// Takes `samples` (per channel) of silence.
    pub(super) fn push_silence(&mut self, samples: u64, sink: &mut dyn FnMut(OpusPacket)) {
        const SILENCE: [f32; PACKET_SAMPLES * CHANNELS] = [0.0; PACKET_SAMPLES * CHANNELS];
        let mut left = samples;
        while left > 0 {
            let now = usize::try_from(left).map_or(PACKET_SAMPLES, |left| left.min(PACKET_SAMPLES));
            self.push(SILENCE.get(..now * CHANNELS).unwrap_or(&SILENCE), sink);
            left = left.saturating_sub(now as u64);
        }
    }

    /// Fills the packet that is not full with silence, if there is one.
    pub(super) fn finish(&mut self, sink: &mut dyn FnMut(OpusPacket)) {
        let waiting = self.waiting.len() / CHANNELS;
        if waiting > 0 {
            self.push_silence(PACKET_SAMPLES.saturating_sub(waiting) as u64, sink);
        }
    }

    /// Packets made so far.
    pub(super) fn packets(&self) -> u64 {
        self.packets
    }

    /// Packets that the encoder refused to make.
    pub(super) fn failures(&self) -> u64 {
        self.failures
    }

    fn encode(&mut self, pcm: &[f32], sink: &mut dyn FnMut(OpusPacket)) {
        let pts = self.pts;
        self.pts = pts.plus(PACKET_TIME);
        let made = self.encoder.encode_float(pcm, self.packet.as_mut_slice());
        let Some(data) = made.ok().and_then(|length| self.packet.get(..length)) else {
            self.failures += 1;
            return;
        };
        self.packets += 1;
        let data = Bytes::copy_from_slice(data);
        sink(OpusPacket { pts, data });
    }
}

/// How long `samples` last at `rate` hertz, in whole microseconds, rounded down.
pub(super) fn samples_time(samples: u64, rate: u32) -> MediaTime {
    let micros = u128::from(samples) * 1_000_000 / u128::from(rate.max(1));
    MediaTime::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
}

fn encoder(settings: AudioSettings) -> Result<Encoder, TranscodeError> {
    let AudioSettings {
        bitrate,
        complexity,
        in_band_fec,
        expected_loss_percent,
    } = settings;
    // RFC 6716 §2.1.1 and §2.1.5; the library would take other values for its own defaults.
    let checks = [
        (
            (6_000..=510_000).contains(&bitrate),
            "bitrate",
            "6000 to 510000 bit/s",
        ),
        (complexity <= 10, "complexity", "0 to 10"),
        (
            expected_loss_percent <= 100,
            "expected loss",
            "0 to 100 percent",
        ),
    ];
    if let Some((_, name, range)) = checks.into_iter().find(|(legal, ..)| !legal) {
        return Err(TranscodeError::Setting { name, range });
    }
    let bits = i32::try_from(bitrate).unwrap_or(i32::MAX);
    let configured = || {
        let mut encoder = Encoder::new(AUDIO_CLOCK_RATE, Channels::Stereo, Application::Audio)?;
        encoder.set_bitrate(Bitrate::Bits(bits))?;
        if bitrate >= MUSIC_BITRATE_MIN {
            encoder.set_signal(Signal::Music)?;
        }
        encoder.set_vbr(true)?;
        encoder.set_complexity(i32::from(complexity))?;
        encoder.set_inband_fec(in_band_fec)?;
        encoder.set_packet_loss_perc(i32::from(expected_loss_percent))?;
        encoder.set_dtx(false)?;
        encoder.set_lsb_depth(SOURCE_BITS)?;
        Ok(encoder)
    };
    configured().map_err(start_error)
}

fn start_error(error: opus::Error) -> TranscodeError {
    TranscodeError::Start {
        library: "the Opus encoder",
        detail: error.to_string(),
    }
}
