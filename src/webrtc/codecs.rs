//! Which codecs we offer and which payload type a viewer gets: H.264 by the room's profile, Opus
//! in stereo.
//!
//! RFC 6184 §8.1 and §8.2.2 (H.264), RFC 7587 §6.1 (Opus), RFC 4588 §8 (retransmission), RFC 7742
//! §6.2 and RFC 7874 §3 (what every browser has).

use str0m::Rtc;
use str0m::format::{Codec, CodecConfig, CodecSpec, FormatParams, PayloadParams};
use str0m::media::{Frequency, Mid};
use str0m::rtp::{Extension, ExtensionMap};

/// Payload type of Opus in our offers.
const OPUS: u8 = 111;
/// Id of the playout delay extension in our offers.
const PLAYOUT_DELAY_ID: u8 = 1;
/// Shortest Opus packet we take, in milliseconds (RFC 7587 §6.1).
const OPUS_MIN_PTIME_MS: u8 = 10;

/// `constraint_set1_flag`: also decodable as Constrained Baseline.
const SET1: u8 = 0x40;
/// `constraint_set4_flag` and `constraint_set5_flag`: progressive without B slices.
const SET4_AND_5: u8 = 0x0c;

/// An H.264 profile that a payload type can stand for (14496-10 §A.2). Levels are all 3.1, as
/// browsers write it, with asymmetry allowed: they decode what the parameter sets say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Profile {
    ConstrainedBaseline,
    Baseline,
    Main,
    High,
    ConstrainedHigh,
}

impl Profile {
    const ALL: [Self; 5] = [
        Self::ConstrainedBaseline,
        Self::Baseline,
        Self::Main,
        Self::High,
        Self::ConstrainedHigh,
    ];

    /// The profile that a `profile-level-id` stands for (RFC 6184 §8.1, table 5); `None` if it is
    /// none of these.
    pub(super) fn from_profile_level_id(value: u32) -> Option<Self> {
        /// `constraint_set0_flag`, `constraint_set2_flag`, and bits that must be zero.
        const SET0: u8 = 0x80;
        const SET2: u8 = 0x20;
        const LOW: u8 = 0x0f;
        let [0, idc, flags, _level] = value.to_be_bytes() else {
            return None;
        };
        let set = |flag| flags & flag != 0;
        match idc {
            66 | 77 | 88 if flags & LOW != 0 => None,
            66 if set(SET1) => Some(Self::ConstrainedBaseline),
            66 => Some(Self::Baseline),
            77 if set(SET0) => Some(Self::ConstrainedBaseline),
            77 if !set(SET2) => Some(Self::Main),
            88 if set(SET0) && set(SET1) => Some(Self::ConstrainedBaseline),
            88 if set(SET0) => Some(Self::Baseline),
            100 if flags == 0 => Some(Self::High),
            100 if flags == SET4_AND_5 => Some(Self::ConstrainedHigh),
            _ => None,
        }
    }

    fn profile_level_id(self) -> u32 {
        match self {
            Self::ConstrainedBaseline => 0x0042_e01f,
            Self::Baseline => 0x0042_001f,
            Self::Main => 0x004d_001f,
            Self::High => 0x0064_001f,
            Self::ConstrainedHigh => 0x0064_0c1f,
        }
    }

    /// Payload types in our offers: of the media and of its retransmissions.
    fn payload_types(self) -> (u8, u8) {
        match self {
            Self::ConstrainedBaseline => (102, 103),
            Self::Baseline => (104, 105),
            Self::Main => (106, 107),
            Self::High => (108, 109),
            Self::ConstrainedHigh => (112, 113),
        }
    }

    /// Profiles as which a stream may be announced, best first: its own, then those that every
    /// browser has, then the rest. Browsers decode by the parameter sets, whatever was announced.
    pub(super) fn preference(profile_level_id: Option<[u8; 3]>) -> Vec<Self> {
        let own: &[Self] = match profile_level_id {
            Some([66, flags, _]) if flags & SET1 == 0 => &[Self::Baseline],
            Some([77, _, _]) => &[Self::Main],
            Some([100, flags, _]) if flags & SET4_AND_5 == SET4_AND_5 => {
                &[Self::ConstrainedHigh, Self::High]
            }
            Some([100, _, _]) => &[Self::High, Self::ConstrainedHigh],
            Some(_) | None => &[],
        };
        let mut order = own.to_vec();
        let missing = Self::ALL.into_iter().filter(|p| !own.contains(p));
        order.extend(missing);
        order
    }
}

/// How a viewer takes video.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct VideoFormat {
    pub(super) payload_type: u8,
    /// Of retransmissions, if the viewer takes them apart from the media.
    pub(super) rtx_payload_type: Option<u8>,
    /// Id of the playout delay extension, if the viewer knows it.
    pub(super) playout_delay_id: Option<u8>,
}

/// How a viewer takes audio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AudioFormat {
    pub(super) payload_type: u8,
}

/// What we can send: H.264 as one of these profiles, the best first, and Opus.
pub(super) fn codec_config(profiles: &[Profile]) -> CodecConfig {
    let video = profiles.iter().copied().map(h264);
    CodecConfig::new_from_payload_params(video.chain([opus()]).collect())
}

fn h264(profile: Profile) -> PayloadParams {
    let (payload_type, rtx) = profile.payload_types();
    let spec = CodecSpec {
        codec: Codec::H264,
        clock_rate: Frequency::NINETY_KHZ,
        channels: None,
        format: FormatParams {
            level_asymmetry_allowed: Some(true),
            packetization_mode: Some(1),
            profile_level_id: Some(profile.profile_level_id()),
            ..FormatParams::default()
        },
    };
    without_estimation(PayloadParams::new(
        payload_type.into(),
        Some(rtx.into()),
        spec,
    ))
}

fn opus() -> PayloadParams {
    let spec = CodecSpec {
        codec: Codec::Opus,
        clock_rate: Frequency::FORTY_EIGHT_KHZ,
        channels: Some(2),
        format: FormatParams {
            min_p_time: Some(OPUS_MIN_PTIME_MS),
            stereo: Some(true),
            sprop_stereo: Some(true),
            use_inband_fec: Some(true),
            ..FormatParams::default()
        },
    };
    without_estimation(PayloadParams::new(OPUS.into(), None, spec))
}

/// One rendition leaves nothing to adapt, and feedback for an estimate costs more than media.
fn without_estimation(mut params: PayloadParams) -> PayloadParams {
    params.set_fb_transport_cc(false);
    params.set_fb_remb(false);
    params
}

/// Header extensions that we can write.
pub(super) fn extensions() -> ExtensionMap {
    let mut extensions = ExtensionMap::empty();
    extensions.set(PLAYOUT_DELAY_ID, Extension::PlayoutDelay);
    extensions
}

/// The payload type that a negotiated section is to be sent with: the first we prefer of those
/// its viewer takes.
fn negotiated(rtc: &Rtc, mid: Mid) -> Option<&PayloadParams> {
    let media = rtc.media(mid)?;
    if media.disabled() || !media.direction().is_sending() {
        return None;
    }
    let mut ours = rtc.codec_config().params().iter();
    ours.find(|params| media.remote_pts().contains(&params.pt()))
}

/// How video is to be sent in a negotiated section; `None` if it is not.
pub(super) fn video_format(rtc: &Rtc, mid: Mid) -> Option<VideoFormat> {
    let params = negotiated(rtc, mid).filter(|params| params.spec().codec == Codec::H264)?;
    let extensions = rtc.media(mid)?.remote_extmap();
    Some(VideoFormat {
        payload_type: *params.pt(),
        rtx_payload_type: params.resend().map(|pt| *pt),
        playout_delay_id: extensions.id_of(Extension::PlayoutDelay),
    })
}

/// How audio is to be sent in a negotiated section; `None` if it is not.
pub(super) fn audio_format(rtc: &Rtc, mid: Mid) -> Option<AudioFormat> {
    let params = negotiated(rtc, mid).filter(|params| params.spec().codec == Codec::Opus)?;
    Some(AudioFormat {
        payload_type: *params.pt(),
    })
}
