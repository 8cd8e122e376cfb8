//! The Fraunhofer FDK AAC decoder (its `aacdecoder_lib.h`), as far as this program needs it.
//!
//! The usual wrapper cannot turn off the library's limiter, nor choose its concealment, which
//! together delay the sound by 36 ms at 48 kHz, and it hides which channel is which.
#![expect(
    unsafe_code,
    reason = "a C library without a wrapper that can do this; each call says why it is sound"
)]

use std::ffi::{c_int, c_uint};
use std::ptr::NonNull;

use fdk_aac_sys as sys;

use super::downmix::{CHANNELS_MAX, Speaker};
use super::layout::{Group, Layout};
use crate::transcode::TranscodeError;

/// Longest frame, in samples per channel: USAC with 4:1 SBR (23003-3 §4.2).
const FRAME_SAMPLES_MAX: usize = 4_096;
/// Longest delay that is believed, in samples per channel: HE-AAC has about a thousand.
const DELAY_SAMPLES_MAX: usize = 16_384;

/// What the library is told once. The limiter and the default concealment look ahead; noise
/// substitution does not.
const SETTINGS: [(sys::AACDEC_PARAM, c_int); 5] = [
    (sys::AACDEC_PARAM_AAC_PCM_LIMITER_ENABLE, 0),
    (sys::AACDEC_PARAM_AAC_CONCEAL_METHOD, 1),
    // As in WAV files: left, right, centre, ...; the channels' types say so as well.
    (sys::AACDEC_PARAM_AAC_PCM_OUTPUT_CHANNEL_MAPPING, 1),
    // As many as there are: it would mix 7.1 down to 5.1 by itself, in its own way.
    (sys::AACDEC_PARAM_AAC_PCM_MAX_OUTPUT_CHANNELS, 0),
    // The level stays as published: else it would bring whatever a stream says of its own loudness
    // (14496-3 §4.5.2.7, dynamic range control) to that of a television set, -24 dBFS.
    (sys::AACDEC_PARAM_AAC_DRC_REFERENCE_LEVEL, -1),
];

/// The first error of the class after which the library's output is a usable substitute, which
/// its header calls "output buffer is valid but concealed", and the last of those after it, whose
/// output is sound.
const CONCEALED: std::ops::Range<sys::AAC_DECODER_ERROR> =
    sys::AAC_DECODER_ERROR_aac_dec_decode_error_start
        ..sys::AAC_DECODER_ERROR_aac_dec_anc_data_error_start;
const ANCILLARY: std::ops::RangeInclusive<sys::AAC_DECODER_ERROR> =
    sys::AAC_DECODER_ERROR_aac_dec_anc_data_error_start
        ..=sys::AAC_DECODER_ERROR_aac_dec_anc_data_error_end;

/// One decoder of the library, for raw access units.
pub(super) struct Fdk {
    /// Never freed but by `drop`, never shared.
    handle: NonNull<sys::AAC_DECODER_INSTANCE>,
    /// What the library writes into: interleaved.
    samples: Vec<i16>,
    /// What the channels are, by the configuration.
    layout: Layout,
}

/// What the library made of an access unit.
pub(super) struct Frame<'a> {
    /// Whether the unit was sound; else this is a substitute.
    pub(super) clean: bool,
    /// Sample rate, in hertz.
    pub(super) rate: u32,
    /// Samples, per channel, by which the output lags behind the units.
    pub(super) delay: usize,
    /// What the channels are.
    pub(super) speakers: ([Speaker; CHANNELS_MAX], usize),
    /// Interleaved.
    pub(super) samples: &'a [i16],
}

impl Fdk {
    /// Opens a decoder for an AudioSpecificConfig whose channels are those of `layout`, as long as
    /// there are as many.
    ///
    /// # Errors
    /// If the configuration cannot be used, or memory is short.
    pub(super) fn open(config: &[u8], layout: Layout) -> Result<Self, TranscodeError> {
        // SAFETY: takes two numbers and returns a decoder of our own, or null.
        let handle = unsafe { sys::aacDecoder_Open(sys::TRANSPORT_TYPE_TT_MP4_RAW, 1) };
        let start = |detail: &str| TranscodeError::Start {
            library: "the AAC decoder",
            detail: detail.to_owned(),
        };
        let handle = NonNull::new(handle).ok_or_else(|| start("no memory"))?;
        let fdk = Self {
            handle,
            samples: vec![0; FRAME_SAMPLES_MAX * CHANNELS_MAX],
            layout,
        };
        for (parameter, value) in SETTINGS {
            // SAFETY: the handle is open; the call takes numbers only.
            let result = unsafe { sys::aacDecoder_SetParam(handle.as_ptr(), parameter, value) };
            if result != sys::AAC_DECODER_ERROR_AAC_DEC_OK {
                return Err(start("it refuses a setting"));
            }
        }
        let mut bytes = config.as_ptr().cast_mut();
        let length = c_uint::try_from(config.len()).unwrap_or_default();
        // SAFETY: the handle is open; the library reads `length` bytes, which `config` has, and
        // does not write them although its pointer is not to const.
        let result = unsafe {
            sys::aacDecoder_ConfigRaw(handle.as_ptr(), &raw mut bytes, &raw const length)
        };
        if result != sys::AAC_DECODER_ERROR_AAC_DEC_OK {
            return Err(TranscodeError::Config {
                codec: "AAC",
                detail: format!("the decoder refuses its configuration, error {result:#x}"),
            });
        }
        Ok(fdk)
    }

    /// Decodes a unit; `None` if nothing came out.
    pub(super) fn decode(&mut self, unit: &[u8]) -> Option<Frame<'_>> {
        let mut bytes = unit.as_ptr().cast_mut();
        let length = c_uint::try_from(unit.len()).ok()?;
        let mut left = length;
        // SAFETY: the handle is open; the library copies at most `length` bytes, which `unit`
        // has, and does not write them although its pointer is not to const.
        let filled = unsafe {
            sys::aacDecoder_Fill(
                self.handle.as_ptr(),
                &raw mut bytes,
                &raw const length,
                &raw mut left,
            )
        };
        if filled != sys::AAC_DECODER_ERROR_AAC_DEC_OK || left != 0 {
            return None;
        }
        self.run(0)
    }

    /// Makes a substitute for a lost unit; `None` if nothing came before.
    pub(super) fn conceal(&mut self) -> Option<Frame<'_>> {
        self.run(sys::AACDEC_CONCEAL)
    }

    fn run(&mut self, flags: c_uint) -> Option<Frame<'_>> {
        let room = c_int::try_from(self.samples.len()).ok()?;
        // SAFETY: the handle is open; the library writes at most `room` samples, which the buffer
        // has.
        let result = unsafe {
            sys::aacDecoder_DecodeFrame(
                self.handle.as_ptr(),
                self.samples.as_mut_ptr(),
                room,
                flags,
            )
        };
        let clean = result == sys::AAC_DECODER_ERROR_AAC_DEC_OK || ANCILLARY.contains(&result);
        if !clean && !CONCEALED.contains(&result) {
            return None;
        }
        // SAFETY: the handle is open; the result is null or points into the decoder, which lives
        // and is not called while this reference is used.
        let info = unsafe { sys::aacDecoder_GetStreamInfo(self.handle.as_ptr()).as_ref() }?;
        let channels = usize::try_from(info.numChannels).ok()?;
        let frame = usize::try_from(info.frameSize).ok()?;
        let delay = usize::try_from(info.outputDelay).ok()?;
        let believable = (1..=CHANNELS_MAX).contains(&channels)
            && (1..=FRAME_SAMPLES_MAX).contains(&frame)
            && delay <= DELAY_SAMPLES_MAX
            && !info.pChannelType.is_null()
            && !info.pChannelIndices.is_null();
        if !believable {
            return None;
        }
        // SAFETY: both point to arrays of the decoder with at least `channels` elements, which
        // nobody writes while the decoder is not called.
        let (types, indices) = unsafe {
            (
                std::slice::from_raw_parts(info.pChannelType, channels),
                std::slice::from_raw_parts(info.pChannelIndices, channels),
            )
        };
        Some(Frame {
            clean: clean && flags == 0,
            rate: u32::try_from(info.sampleRate).ok()?,
            delay,
            speakers: (speakers(types, indices, &self.layout), channels),
            samples: self.samples.get(..frame * channels)?,
        })
    }
}

impl Drop for Fdk {
    fn drop(&mut self) {
        // SAFETY: the handle is open and not used again.
        unsafe { sys::aacDecoder_Close(self.handle.as_ptr()) };
    }
}

/// What each channel is: by the layout, if it has as many; else, as where the stream itself says
/// something else than its configuration, by the library's types and the channels' numbers among
/// those of a type.
fn speakers(
    types: &[sys::AUDIO_CHANNEL_TYPE],
    indices: &[u8],
    layout: &Layout,
) -> [Speaker; CHANNELS_MAX] {
    let mut speakers = [Speaker::Silent; CHANNELS_MAX];
    let fits = types.len() == layout.channels();
    for (at, (kind, index)) in types.iter().zip(indices).enumerate() {
        let group = match *kind {
            sys::AUDIO_CHANNEL_TYPE_ACT_FRONT => Some(Group::Front),
            sys::AUDIO_CHANNEL_TYPE_ACT_SIDE => Some(Group::Side),
            sys::AUDIO_CHANNEL_TYPE_ACT_BACK => Some(Group::Back),
            _ => None,
        };
        let known = group
            .filter(|_| fits)
            .and_then(|group| layout.speaker(group, *index));
        if let Some(place) = speakers.get_mut(at) {
            *place = known.unwrap_or_else(|| guess(types, indices, *kind, *index));
        }
    }
    speakers
}

/// What a channel is by its type alone: an odd front has its centre first, an odd back last, and
/// pairs go from the middle outwards.
fn guess(
    types: &[sys::AUDIO_CHANNEL_TYPE],
    indices: &[u8],
    kind: sys::AUDIO_CHANNEL_TYPE,
    index: u8,
) -> Speaker {
    let same = types
        .iter()
        .zip(indices)
        .filter(|(other, _)| **other == kind);
    let count = same.clone().count();
    let rank = same.filter(|(_, other)| **other < index).count();
    let left = |rank: usize| rank.is_multiple_of(2);
    // Height does not matter for two loudspeakers.
    match kind & 0x0f {
        sys::AUDIO_CHANNEL_TYPE_ACT_FRONT => {
            let odd = count % 2;
            let Some(rank) = rank.checked_sub(odd) else {
                return Speaker::Centre;
            };
            let outermost = rank + 2 + odd >= count;
            match (left(rank), outermost) {
                (true, true) => Speaker::Left,
                (false, true) => Speaker::Right,
                (true, false) => Speaker::InnerLeft,
                (false, false) => Speaker::InnerRight,
            }
        }
        sys::AUDIO_CHANNEL_TYPE_ACT_SIDE | sys::AUDIO_CHANNEL_TYPE_ACT_BACK => {
            let single = count % 2 == 1 && rank + 1 == count;
            match (single, left(rank)) {
                (true, _) => Speaker::BackCentre,
                (false, true) => Speaker::SurroundLeft,
                (false, false) => Speaker::SurroundRight,
            }
        }
        _ => Speaker::Silent,
    }
}
