//! The video transcoder's part of the wiring.

use std::sync::Arc;

use mio::Poll;

use super::{Job, StartError, environment};
use crate::config::{self, Config};
use crate::limits::{VIDEO_CHILD_THREADS_MAX, VIDEO_MAILBOX_MESSAGES};
use crate::metrics::VideoCounters;
use crate::runtime::{
    Containment, CoreMail, DOORBELL, Doorbell, Placement, Postbox, VideoLoop, VideoLoopConfig,
    VideoMail, allowed_cpus, mailbox,
};
use crate::transcode::video::{VideoEncoder, VideoMode, VideoSettings};

/// Makes its thread ready.
///
/// # Errors
/// When the system gives no poll.
pub(super) fn prepare(
    config: &Config,
    placement: &Placement,
    cores: &[Postbox<CoreMail>],
) -> Result<(Postbox<VideoMail>, Arc<VideoCounters>, Job), StartError> {
    let poll = Poll::new().map_err(environment("poll"))?;
    let doorbell = Doorbell::new(poll.registry(), DOORBELL).map_err(environment("waker"))?;
    let (postbox, inbox) = mailbox(VIDEO_MAILBOX_MESSAGES, Some(doorbell.clone()));
    let counters = Arc::<VideoCounters>::default();
    let allowed = allowed_cpus();
    let settings = settings(&config.video, allowed.len());
    let taken = |cpu: &usize| placement.cores.contains(&Some(*cpu));
    let containment = Containment {
        cpus: allowed.into_iter().filter(|cpu| !taken(cpu)).collect(),
        limit_memory: settings.encoder.is_software(),
    };
    let video = VideoLoop::new(VideoLoopConfig {
        settings,
        containment,
        poll,
        doorbell,
        mailbox: inbox,
        cores: cores.to_vec(),
        counters: Arc::clone(&counters),
    });
    let job = Job::new("video", None, move || video.run());
    Ok((postbox, counters, job))
}

/// The operator's choice of what is transcoded.
pub(super) fn mode(video: &config::Video) -> VideoMode {
    match video.transcode {
        config::VideoTranscode::Auto => VideoMode::Auto,
        config::VideoTranscode::Never => VideoMode::Never,
        config::VideoTranscode::Always => VideoMode::Always,
    }
}

/// The operator's choice for a machine with so many CPUs.
fn settings(video: &config::Video, cpus: usize) -> VideoSettings {
    let mode = mode(video);
    let encoder = match video.encoder {
        config::VideoEncoder::X264 => VideoEncoder::X264,
        config::VideoEncoder::Nvenc => VideoEncoder::Nvenc,
        config::VideoEncoder::Vaapi => VideoEncoder::Vaapi,
        config::VideoEncoder::Qsv => VideoEncoder::Qsv,
        config::VideoEncoder::V4l2 => VideoEncoder::V4l2,
        config::VideoEncoder::OpenH264 => VideoEncoder::OpenH264,
    };
    VideoSettings {
        mode,
        ffmpeg: video.ffmpeg.clone(),
        encoder,
        preset: video.preset.to_owned(),
        bitrate_max: video.bitrate_max,
        height_max: video.height_max,
        frame_rate_max: video.frame_rate_max,
        keyframe_interval: video.keyframe_interval,
        // A 1080p30 stream takes about 0.8 of a core: one a core leaves nothing for viewers, and
        // smaller ones take half.
        max_transcodes: video.max_transcodes.map_or(cpus.max(1), usize::from),
        threads: cpus.min(VIDEO_CHILD_THREADS_MAX),
    }
}
