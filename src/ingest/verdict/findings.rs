//! What is said of what was found: one item for each thing to change, in plain words, with the
//! settings to touch.

use crate::ingest::IngestWarning;
use crate::media::avc::profile_name;
use crate::media::frame::StreamInfo;
use crate::media::verdict::{Figures, Severity, VerdictItem};

/// Keyframes further apart than this make viewers wait, in milliseconds; 4 s, and a little for
/// rounded timestamps.
const KEYFRAME_INTERVAL_MS_MAX: u64 = 4_100;
/// The longest of the last keyframe intervals that is not called uneven, in parts of the shortest.
const KEYFRAME_UNEVEN: u64 = 2;
/// A keyframe of more mean frames than this, and of more bytes than the next, comes as a burst.
const KEYFRAME_FRAMES_MAX: u64 = 20;
const KEYFRAME_BYTES_MIN: u64 = 150_000;
/// Deviation of the frame interval from its mean that is called uneven, in percent.
const FRAME_JITTER_PERCENT_MAX: u64 = 25;
/// Frames in 1,000 s below which motion is not fluent, and above which few displays follow.
const FRAMES_PER_1000_S_MIN: u64 = 14_500;
const FRAMES_PER_1000_S_MAX: u64 = 61_000;
/// Video bits a second that many viewers' links do not carry.
const VIDEO_BITS_PER_SECOND_MAX: u64 = 8_000_000;
/// Video bits for a pixel of a frame, in thousandths, below which a moving picture is blocky.
const MILLIBITS_PER_PIXEL_MIN: u64 = 20;
/// Width by height beyond which phones and older computers decode in software, in pixels.
const PIXELS_MAX: u64 = 1_920 * 1_088;
/// `level_idc` beyond which the same is so: 4.2.
const LEVEL_MAX: u8 = 42;
/// Arrival against timestamps, from the earliest to the latest, that no jitter buffer hides, in
/// milliseconds.
const ARRIVAL_SPREAD_MS_MAX: u64 = 600;
/// Video that arrives so much before or after its sound, in milliseconds.
const APART_MS_MAX: u64 = 500;
/// The rate that Opus and browsers work with.
const AUDIO_RATE: u32 = 48_000;
/// Clocks of quartz differ by less, in millionths.
const CLOCK_PPM_MAX: u64 = 250;

fn item(
    code: &'static str,
    severity: Severity,
    text: impl Into<String>,
    obs: &str,
    ffmpeg: &str,
) -> VerdictItem {
    VerdictItem {
        code,
        severity,
        text: text.into(),
        obs: obs.to_owned(),
        ffmpeg: ffmpeg.to_owned(),
        logged: false,
    }
}

/// The item of a warning, which the log has already.
pub(super) fn of_warning(warning: &IngestWarning) -> VerdictItem {
    let (code, severity) = match warning {
        IngestWarning::Reordering => ("b_frames", Severity::Warning),
        IngestWarning::KeyframeInterval => ("keyframe_interval", Severity::Warning),
        IngestWarning::PixelFormat { .. } => ("pixel_format", Severity::Warning),
        IngestWarning::Interlaced => ("interlaced", Severity::Warning),
        IngestWarning::PixelShape => ("pixel_shape", Severity::Warning),
        IngestWarning::Rotation => ("rotation", Severity::Warning),
        IngestWarning::VideoCodec(_) => ("video_codec", Severity::Warning),
        IngestWarning::UnknownVideo(_) => ("video_unknown", Severity::Problem),
        IngestWarning::UnknownAudio(_) => ("audio_unknown", Severity::Problem),
        IngestWarning::TransportStream => ("transport_stream", Severity::Problem),
        IngestWarning::VideoConfigMissing => ("video_header_missing", Severity::Info),
        IngestWarning::AudioConfigMissing => ("audio_header_missing", Severity::Info),
        IngestWarning::ParameterSetsMissing => ("parameter_sets_missing", Severity::Info),
        IngestWarning::BadTag(_) => ("bad_message", Severity::Info),
        IngestWarning::BadVideo(_) => ("bad_video", Severity::Info),
        IngestWarning::BadVideoConfig(_) => ("bad_video_header", Severity::Problem),
        IngestWarning::BadAudioConfig(_) | IngestWarning::BadAudioHeader(_) => {
            ("bad_audio_header", Severity::Problem)
        }
        IngestWarning::BadAudio => ("bad_audio", Severity::Info),
        IngestWarning::Multitrack => ("multitrack", Severity::Info),
        IngestWarning::TimestampJump => ("timestamp_jump", Severity::Info),
    };
    // A warning is one text for the log; here what was found and what to do are told apart.
    let text = warning.to_string();
    let (rest, ffmpeg) = text
        .split_once(" In ffmpeg: ")
        .unwrap_or((text.as_str(), ""));
    let (found, obs) = ["To avoid that, in OBS: ", "In OBS: "]
        .into_iter()
        .find_map(|mark| rest.split_once(mark))
        .unwrap_or((rest, ""));
    VerdictItem {
        code,
        severity,
        text: found.trim_end().trim_end_matches('.').to_owned(),
        obs: obs.trim_end_matches('.').to_owned(),
        ffmpeg: ffmpeg.to_owned(),
        logged: true,
    }
}

/// What follows from what is known of the stream.
pub(super) fn of_info(info: &StreamInfo, items: &mut Vec<VerdictItem>) {
    if let Some((width, height)) = info.size
        && u64::from(width).saturating_mul(height.into()) > PIXELS_MAX
    {
        items.push(item(
            "size",
            Severity::Info,
            format!("The picture is {width}x{height}; many phones do not decode that fluently"),
            "Settings → Video → Output (Scaled) Resolution: 1920x1080 or 1280x720",
            "-vf scale=-2:1080",
        ));
    }
    if let Some(id) = info.profile_level_id
        && id.get(2).is_some_and(|level| *level > LEVEL_MAX)
    {
        let level = level_name(id);
        let profile = profile_name(id);
        items.push(item(
            "level",
            Severity::Info,
            format!("The video is H.264 {profile} level {level}; many phones decode up to 4.2"),
            "Settings → Video: a smaller resolution or frame rate",
            "-level 4.1, with a size and rate that it allows",
        ));
    }
}

/// `level_idc` as users call it.
pub(super) fn level_name(profile_level_id: [u8; 3]) -> String {
    let [_, _, level] = profile_level_id;
    format!("{}.{}", level.div_euclid(10), level.rem_euclid(10))
}

/// What follows from what was measured.
pub(super) fn of_figures(figures: &Figures, info: &StreamInfo, items: &mut Vec<VerdictItem>) {
    keyframes(figures, items);
    frames(figures, items);
    bits(figures, info, items);
    arrival(figures, items);
    if let Some(rate) = figures.audio_sample_rate.filter(|rate| *rate != AUDIO_RATE) {
        items.push(item(
            "audio_rate",
            Severity::Info,
            format!("The sound has {rate} samples/s and is converted to 48,000"),
            "Settings → Audio → Sample Rate: 48 kHz",
            "-ar 48000",
        ));
    }
}

fn keyframes(figures: &Figures, items: &mut Vec<VerdictItem>) {
    if let Some(spread) = figures.keyframe_interval_ms {
        let obs = "Settings → Output → Keyframe Interval: 1 s or 2 s";
        if spread.max > KEYFRAME_INTERVAL_MS_MAX {
            items.push(item(
                "keyframe_interval",
                Severity::Warning,
                format!(
                    "Keyframes are up to {} ms apart, so viewers wait for their first picture",
                    spread.max
                ),
                obs,
                "-g with twice the frame rate",
            ));
        } else if spread.max > spread.min.saturating_mul(KEYFRAME_UNEVEN) {
            items.push(item(
                "keyframe_interval_uneven",
                Severity::Info,
                format!(
                    "Keyframes are {} to {} ms apart: the encoder adds some at changes of scene",
                    spread.min, spread.max
                ),
                "Settings → Output → x264 Options: scenecut=0",
                "-sc_threshold 0",
            ));
        }
    }
    if let (Some(key), Some(frame)) = (figures.keyframe_bytes, figures.frame_bytes)
        && key > KEYFRAME_BYTES_MIN
        && key > frame.saturating_mul(KEYFRAME_FRAMES_MAX)
    {
        items.push(item(
            "keyframe_size",
            Severity::Info,
            format!(
                "A keyframe has {key} bytes, {} times the mean of the other frames: on slow links \
                 the picture halts at each",
                key.checked_div(frame).unwrap_or_default()
            ),
            "Settings → Output → Rate Control: CBR, with a buffer of at most one second",
            "-maxrate and -bufsize as large as -b:v",
        ));
    }
}

fn frames(figures: &Figures, items: &mut Vec<VerdictItem>) {
    let Some(rate) = figures.frames_per_1000_s else {
        return;
    };
    let shown = format!(
        "{}.{}",
        rate.div_euclid(1_000),
        rate.rem_euclid(1_000) / 100
    );
    if rate < FRAMES_PER_1000_S_MIN {
        items.push(item(
            "frame_rate",
            Severity::Info,
            format!("The video has {shown} frames/s; motion is fluent from 25 on"),
            "Settings → Video → FPS: 30",
            "-r 30",
        ));
    } else if rate > FRAMES_PER_1000_S_MAX {
        items.push(item(
            "frame_rate",
            Severity::Info,
            format!("The video has {shown} frames/s; most displays show up to 60"),
            "Settings → Video → FPS: 60",
            "-r 60",
        ));
    }
    // What waited was pressed together at first: that is no fault of the encoder's.
    if figures.holds > 0 {
        return;
    }
    let mean = 1_000_000_000_u64.checked_div(rate).unwrap_or_default();
    let jitter = figures.frame_jitter_micros.unwrap_or_default();
    if jitter.saturating_mul(100) > mean.saturating_mul(FRAME_JITTER_PERCENT_MAX) {
        items.push(item(
            "frame_rate_uneven",
            Severity::Info,
            format!(
                "Frames are unevenly spaced: {} ms off the mean of {} ms. The source is of variable \
                 rate, or the encoder does not keep up",
                jitter.div_euclid(1_000),
                mean.div_euclid(1_000)
            ),
            "look at the frames missed and skipped in View → Stats",
            "-r 30 -fps_mode cfr",
        ));
    }
}

fn bits(figures: &Figures, info: &StreamInfo, items: &mut Vec<VerdictItem>) {
    let Some(rate) = figures.video_bits_per_second else {
        return;
    };
    if rate > VIDEO_BITS_PER_SECOND_MAX {
        items.push(item(
            "bitrate_high",
            Severity::Info,
            format!(
                "The video has {} kbit/s; viewers on mobile networks cannot take that",
                rate.div_euclid(1_000)
            ),
            "Settings → Output → Video Bitrate: 2500 to 6000 Kbps",
            "-b:v 4M -maxrate 4M -bufsize 4M",
        ));
    }
    let pixels = info
        .size
        .map(|(width, height)| u64::from(width).saturating_mul(height.into()));
    let per_frame = rate
        .saturating_mul(1_000_000)
        .checked_div(figures.frames_per_1000_s.unwrap_or_default());
    let per_pixel = pixels
        .zip(per_frame)
        .and_then(|(pixels, millibits)| millibits.checked_div(pixels));
    if let Some((width, height)) = info.size
        && per_pixel.is_some_and(|millibits| millibits < MILLIBITS_PER_PIXEL_MIN)
    {
        items.push(item(
            "bitrate_low",
            Severity::Info,
            format!(
                "The video has {} kbit/s, which is little for {width}x{height}: motion looks blocky",
                rate.div_euclid(1_000)
            ),
            "Settings → Output → Video Bitrate: 2500 Kbps or more; or a smaller resolution",
            "-b:v 2500k, or -vf scale=-2:720",
        ));
    }
}

fn arrival(figures: &Figures, items: &mut Vec<VerdictItem>) {
    if figures.holds > 0 {
        items.push(item(
            "faster_than_real_time",
            Severity::Warning,
            "The stream was sent faster than it plays, so that it had to wait: viewers see it late",
            "",
            "-re before -i, for files",
        ));
    } else if let Some(spread) = figures.arrival_spread_ms
        && spread > ARRIVAL_SPREAD_MS_MAX
    {
        items.push(item(
            "arrival_uneven",
            Severity::Warning,
            format!(
                "Frames arrive unevenly, up to {spread} ms late: the way from the encoder to the \
                 server is too slow or disturbed"
            ),
            "Settings → Output → Video Bitrate: less than half of what the uplink carries; Advanced \
             → Dynamically change bitrate",
            "a lower -b:v and -maxrate",
        ));
    }
    if let Some(apart) = figures.video_after_audio_ms
        && apart.unsigned_abs() > APART_MS_MAX
    {
        let (first, second) = match apart > 0 {
            true => ("sound", "picture"),
            false => ("picture", "sound"),
        };
        items.push(item(
            "av_offset",
            Severity::Warning,
            format!(
                "The {first} is sent {} ms before the {second} of the same moment: viewers wait for \
                 the later one, or lose the sync of lips",
                apart.unsigned_abs()
            ),
            "Settings → Output → x264: Tune zerolatency; Edit → Advanced Audio Properties → Sync \
             Offset: 0",
            "-tune zerolatency -max_interleave_delta 500000",
        ));
    }
    if figures.clock_slow_ppm.unsigned_abs() > CLOCK_PPM_MAX {
        items.push(item(
            "clock",
            Severity::Info,
            format!(
                "The encoder's clock is off by {} millionths, which is corrected; a source \
                 of another clock may be the cause",
                figures.clock_slow_ppm.unsigned_abs()
            ),
            "Settings → Audio: the same sample rate as the device's",
            "-af aresample=async=1000",
        ));
    }
}

/// Video comes, and no picture of it can be passed on.
pub(super) fn of_no_picture(happened: &[VerdictItem], items: &mut Vec<VerdictItem>) {
    const FAULTS: [&str; 5] = [
        "video_header_missing",
        "parameter_sets_missing",
        "bad_video_header",
        "bad_video",
        "bad_message",
    ];
    // Of a codec that is not played, this is said already.
    if happened.iter().any(|item| item.code == "video_unknown") {
        return;
    }
    let fault = happened.iter().find(|item| FAULTS.contains(&item.code));
    let why = fault.map_or("no keyframe comes", |item| item.text.as_str());
    items.retain(|item| item.code != "video_missing");
    items.push(item(
        "picture_missing",
        Severity::Problem,
        format!("No picture can be shown of the video that comes: {why}"),
        "stop and start the stream; Settings → Output → Video Encoder: x264",
        "-c:v libx264 -bf 0 -g with twice the frame rate",
    ));
}

/// What is missing.
pub(super) fn of_tracks(info: &StreamInfo, items: &mut Vec<VerdictItem>) {
    if info.video.is_some() && info.audio.is_none() {
        items.push(item(
            "audio_missing",
            Severity::Info,
            "The stream has no sound",
            "Audio Mixer: a source that is not muted",
            "-map 0:a, or -f lavfi -i anullsrc",
        ));
    }
    if info.audio.is_some() && info.video.is_none() {
        items.push(item(
            "video_missing",
            Severity::Info,
            "The stream has no picture",
            "Sources: one that shows something",
            "-map 0:v",
        ));
    }
}
