//! The child's arguments. Measured on ffmpeg 5.1 and 9.0; what each is for stands beside it, as
//! most of them are there because without it a frame, or the time of one, is lost.

use super::{VideoEncoder, VideoSettings};
use crate::media::codec::{VideoCodec, VideoConfig};
use crate::transcode::video::BlockKind;

/// Bits a second where nothing tells how many.
const BITRATE_UNKNOWN: u32 = 2_500_000;
/// Fewest bits a second that make a picture.
const BITRATE_MIN: u32 = 200_000;
/// Thousandths of a bit for each pixel, where only size and frame rate are known: 2.5 Mbit/s at
/// 720p30.
const MILLIBITS_PER_PIXEL: u64 = 90;
/// Frames in 1,000 s where nothing tells how many.
pub(super) const FRAME_RATE_UNKNOWN: u32 = 30_000;
/// Frames from one keyframe to the next that the encoder makes by itself: never, in practice.
const KEYFRAMES_NEVER: u32 = 600;
/// Widest picture that is made of one with a pixel shape, in pixels: what H.264 level 5.1 allows.
const WIDTH_MAX: u32 = 4_096;
/// How far two frames may be closer than the frame rate's cap allows, in seconds: a publisher
/// rounds to milliseconds.
const FRAME_RATE_SLACK: f64 = 0.002;
/// How much earlier than the keyframe interval a keyframe comes, in seconds: half a millisecond,
/// so that rounding does not make it a frame later.
const KEYFRAME_SLACK: f64 = 0.000_5;

/// The arguments for a stream of `config` that is published with `bit_rate` bits a second.
#[must_use]
pub fn arguments(
    settings: &VideoSettings,
    config: &VideoConfig,
    bit_rate: Option<u32>,
) -> Vec<String> {
    let mut all = Arguments::default();
    all.add("-hide_banner -nostdin -nostats -loglevel warning");
    // The publisher's times, and no look-ahead before the first frame.
    all.add("-copyts -probesize 32 -analyzeduration 0 -fpsprobesize 0");
    // Whatever the stream says, no file and no address is opened.
    all.add("-protocol_whitelist pipe");
    if settings.encoder == VideoEncoder::Vaapi {
        all.add("-init_hw_device vaapi=card:/dev/dri/renderD128 -filter_hw_device card");
    }
    // A second decoder thread costs a frame of delay, automatic ones two.
    all.add("-f matroska -threads 1");
    if let Some(decoder) = decoder(config.codec) {
        all.pair("-c:v", decoder.to_owned());
    }
    all.add("-i pipe:0 -map 0:v:0 -fps_mode passthrough");
    all.pair("-filter_threads", settings.threads.to_string());
    all.pair("-vf", filters(settings, config));
    encoder(&mut all, settings);
    let bit_rate = output_bit_rate(settings, config, bit_rate).to_string();
    for option in ["-b:v", "-maxrate", "-bufsize"] {
        all.pair(option, bit_rate.clone());
    }
    // Without this, times of variable frame rates are rounded to a guessed one.
    all.add("-enc_time_base 1:10000");
    all.pair("-force_key_frames", keyframes(settings));
    all.add("-flush_packets 1 -f flv -flvflags no_duration_filesize pipe:1");
    all.0
}

/// ffmpeg's name of the decoder, where Matroska's FourCC may not tell it.
fn decoder(codec: VideoCodec) -> Option<&'static str> {
    match codec {
        VideoCodec::Avc
        | VideoCodec::Hevc
        | VideoCodec::Av1
        | VideoCodec::Vp9
        | VideoCodec::Vp8 => None,
        VideoCodec::SorensonH263 => Some("flv"),
        VideoCodec::ScreenVideo => Some("flashsv"),
        VideoCodec::ScreenVideo2 => Some("flashsv2"),
        VideoCodec::Vp6 => Some("vp6f"),
        VideoCodec::Vp6Alpha => Some("vp6a"),
    }
}

/// Bits a second of the output: as many as the input's, more for codecs that need fewer than
/// H.264, at most what the operator allows.
#[must_use]
pub(super) fn output_bit_rate(
    settings: &VideoSettings,
    config: &VideoConfig,
    bit_rate: Option<u32>,
) -> u32 {
    let percent: u64 = match config.codec {
        VideoCodec::Hevc | VideoCodec::Vp9 => 200,
        VideoCodec::Av1 => 300,
        VideoCodec::Avc
        | VideoCodec::Vp8
        | VideoCodec::SorensonH263
        | VideoCodec::ScreenVideo
        | VideoCodec::ScreenVideo2
        | VideoCodec::Vp6
        | VideoCodec::Vp6Alpha => 100,
    };
    let published = match bit_rate {
        Some(bit_rate) => u64::from(bit_rate) * percent / 100,
        None => guessed_bit_rate(config),
    };
    let bit_rate = u32::try_from(published).unwrap_or(u32::MAX);
    bit_rate.max(BITRATE_MIN).min(settings.bitrate_max)
}

fn guessed_bit_rate(config: &VideoConfig) -> u64 {
    let Some((width, height)) = config.size else {
        return BITRATE_UNKNOWN.into();
    };
    let frames = config.frames_per_1000_s.unwrap_or(FRAME_RATE_UNKNOWN);
    let pixels = u64::from(width).saturating_mul(height.into());
    let pixels_per_second = pixels.saturating_mul(frames.into()) / 1_000;
    pixels_per_second.saturating_mul(MILLIBITS_PER_PIXEL) / 1_000
}

/// The filters: which frames are encoded, fields to frames, size and pixel shape.
fn filters(settings: &VideoSettings, config: &VideoConfig) -> String {
    let mut filters = format!("select='{}'", selected(settings, config));
    if config.interlaced {
        // Looks at the next frame too, which costs a frame of delay: only where it is needed.
        filters.push_str(",yadif=mode=send_frame:deint=interlaced");
    }
    // Browsers show what they decode with square pixels, so those are made here. The shorter side
    // is measured against the cap, so that a phone's upright picture keeps as much as a lying one;
    // encoders want even sizes.
    let cap = settings.height_max;
    let factor = format!("min(1,{cap}/min(iw*sar,ih))");
    let side = |length: &str| format!("clip(trunc({length}*{factor}/2)*2,16,{WIDTH_MAX})");
    let (width, height) = (side("iw*sar"), side("ih"));
    filters.push_str(&format!(",scale=w='{width}':h='{height}',setsar=1"));
    if settings.encoder == VideoEncoder::Vaapi {
        filters.push_str(",format=nv12,hwupload");
    }
    filters
}

/// The expression that is true of a frame to encode: not those that are only decoded, and of a
/// stream that may be faster than the cap, not those that follow the one before too closely.
fn selected(settings: &VideoSettings, config: &VideoConfig) -> String {
    let wanted = format!("not({})", has_digit(BlockKind::DecodeOnly));
    let cap = settings.frame_rate_max;
    let slow = config
        .frames_per_1000_s
        .is_some_and(|frames| frames <= cap.saturating_mul(1_000));
    if slow {
        return wanted;
    }
    let apart = (1.0 / f64::from(cap.max(1)) - FRAME_RATE_SLACK).max(0.0);
    let forced = has_digit(BlockKind::ForceKey);
    format!("{wanted}*gt(isnan(prev_selected_t)+gte(t-prev_selected_t,{apart:.4})+{forced},0)")
}

/// The expression that is true of a frame to make a keyframe of.
fn keyframes(settings: &VideoSettings) -> String {
    let interval = settings.keyframe_interval.as_secs_f64() - KEYFRAME_SLACK;
    let forced = has_digit(BlockKind::ForceKey);
    format!("expr:if(isnan(prev_forced_t),1,gte(t,prev_forced_t+{interval:.4}))+{forced}")
}

/// True of a frame whose time ends with this command (`matroska`).
fn has_digit(kind: BlockKind) -> String {
    format!("eq(mod(round(t*10000),10),{})", kind.digit())
}

/// The encoder and what makes it give each frame at once. Only libx264 has been run; the rest
/// follows ffmpeg's documentation of each encoder.
fn encoder(all: &mut Arguments, settings: &VideoSettings) {
    let encoder = settings.encoder;
    all.pair("-c:v", encoder.as_str().to_owned());
    match encoder {
        VideoEncoder::X264 => {
            all.pair("-preset", settings.preset.clone());
            // So tuned, it goes by the frame rate that it is told: with `force-cfr=0` it would go by the
            // timestamps, but keep each frame back until the next one comes.
            all.add("-tune zerolatency -pix_fmt yuv420p");
            all.pair("-threads", settings.threads.to_string());
            all.pair(
                "-x264-params",
                format!("scenecut=0:keyint={KEYFRAMES_NEVER}"),
            );
        }
        VideoEncoder::Nvenc => {
            all.add("-preset p4 -tune ull -zerolatency 1 -delay 0 -rc cbr -bf 0 -no-scenecut 1");
            all.add("-forced-idr 1 -pix_fmt yuv420p");
        }
        VideoEncoder::Vaapi => all.add("-rc_mode CBR -bf 0 -async_depth 1"),
        VideoEncoder::Qsv => {
            all.add("-preset veryfast -async_depth 1 -bf 0 -look_ahead 0 -forced_idr 1");
            all.add("-pix_fmt nv12");
        }
        VideoEncoder::V4l2 => all.add("-num_capture_buffers 16 -bf 0 -pix_fmt yuv420p"),
        VideoEncoder::OpenH264 => {
            all.add("-rc_mode bitrate -allow_skip_frames 0 -pix_fmt yuv420p");
        }
    }
    if encoder != VideoEncoder::X264 {
        all.pair("-g", KEYFRAMES_NEVER.to_string());
    }
}

#[derive(Default)]
struct Arguments(Vec<String>);

impl Arguments {
    /// Several, apart by spaces.
    fn add(&mut self, words: &str) {
        self.0.extend(words.split(' ').map(str::to_owned));
    }

    fn pair(&mut self, option: &str, value: String) {
        self.0.push(option.to_owned());
        self.0.push(value);
    }
}
