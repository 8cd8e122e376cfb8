//! Opus packets (RFC 6716) that cannot pass as they are: other durations or more channels than
//! browsers take.

use opus::{Channels, Decoder as Single, MSDecoder as Multi};

use super::downmix::{Downmix, Speaker};
use super::{Codec, Decoded, Format};
use crate::media::time::AUDIO_CLOCK_RATE;
use crate::transcode::opus_packet::{Head, PACKET_SAMPLES_MAX};
use crate::transcode::{CHANNELS, TranscodeError};

/// Samples of a substitute, per channel: 20 ms.
const CONCEAL_SAMPLES: usize = 960;

/// Decodes Opus.
pub(super) struct OpusDecoder {
    head: Head,
    decoder: Decoder,
    /// Which channels come out.
    speakers: &'static [Speaker],
    downmix: Downmix,
    /// Whether anything was decoded.
    heard: bool,
    samples: Vec<f32>,
}

/// For packets of one stream, or of several.
enum Decoder {
    Single(Single),
    Multi(Multi),
}

impl OpusDecoder {
    /// Makes a decoder for an identification header (RFC 7845 §5.1); without one, for mono and
    /// stereo.
    ///
    /// # Errors
    /// If the header is malformed or its channel mapping is not supported, or memory is short.
    pub(super) fn new(head: Option<&[u8]>) -> Result<Self, TranscodeError> {
        let head = Head::parse_or_default(head)?;
        let decoder = open(&head)?;
        let speakers = match &decoder {
            Decoder::Single(_) => speakers(CHANNELS),
            Decoder::Multi(_) => speakers(usize::from(head.channels)),
        };
        let room = PACKET_SAMPLES_MAX * usize::from(head.channels).max(CHANNELS);
        Ok(Self {
            head,
            decoder,
            speakers,
            downmix: Downmix::default(),
            heard: false,
            samples: vec![0.0; room],
        })
    }

    /// Decodes a packet, or, if it is empty, makes `samples` (per channel) of a substitute.
    fn run(&mut self, packet: &[u8], samples: usize, pcm: &mut Vec<f32>) -> Option<Format> {
        let room = self.samples.get_mut(..samples * self.speakers.len())?;
        let made = match &mut self.decoder {
            Decoder::Single(decoder) => decoder.decode_float(packet, room, false),
            Decoder::Multi(decoder) => decoder.decode_float(packet, room, false),
        };
        let made = made.ok().filter(|made| *made > 0)?;
        let samples = room.get(..made * self.speakers.len())?;
        let rate = AUDIO_CLOCK_RATE;
        self.downmix
            .mix(self.speakers, rate, samples.iter().copied(), pcm);
        self.heard = true;
        Some(Format { rate, delay: 0 })
    }
}

impl Codec for OpusDecoder {
    fn decode(&mut self, packet: &[u8], pcm: &mut Vec<f32>) -> Decoded {
        if let Some(format) = self.run(packet, PACKET_SAMPLES_MAX, pcm) {
            return Decoded::Clean(format);
        }
        self.conceal(pcm)
            .map_or(Decoded::Nothing, Decoded::Concealed)
    }

    fn conceal(&mut self, pcm: &mut Vec<f32>) -> Option<Format> {
        if !self.heard {
            return None;
        }
        self.run(&[], CONCEAL_SAMPLES, pcm)
    }

    fn restart(&mut self) {
        if let Ok(decoder) = open(&self.head) {
            self.decoder = decoder;
            self.heard = false;
        }
    }
}

fn open(head: &Head) -> Result<Decoder, TranscodeError> {
    let rate = AUDIO_CLOCK_RATE;
    let gain = i32::from(head.gain);
    let opened = match &head.streams {
        None => Single::new(rate, Channels::Stereo).and_then(|mut decoder| {
            decoder.set_gain(gain)?;
            Ok(Decoder::Single(decoder))
        }),
        Some(streams) => {
            let (count, coupled) = (streams.count, streams.coupled);
            Multi::new(rate, count, coupled, &streams.mapping).and_then(|mut decoder| {
                decoder.set_gain(gain)?;
                Ok(Decoder::Multi(decoder))
            })
        }
    };
    opened.map_err(|error| TranscodeError::Config {
        codec: "Opus",
        detail: error.to_string(),
    })
}

/// Which channels a count means (RFC 7845 §5.1.1.2: as in Vorbis).
fn speakers(channels: usize) -> &'static [Speaker] {
    use Speaker::{
        BackCentre, Centre, Left, Right, Silent, SurroundLeft as SLeft, SurroundRight as SRight,
    };
    match channels {
        1 => &[Centre],
        3 => &[Left, Centre, Right],
        4 => &[Left, Right, SLeft, SRight],
        5 => &[Left, Centre, Right, SLeft, SRight],
        6 => &[Left, Centre, Right, SLeft, SRight, Silent],
        7 => &[Left, Centre, Right, SLeft, SRight, BackCentre, Silent],
        8 => &[Left, Centre, Right, SLeft, SRight, SLeft, SRight, Silent],
        _ => &[Left, Right],
    }
}
