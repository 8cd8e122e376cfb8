//! The video transcoder with the real ffmpeg: exact times, no reordering, keyframes on request,
//! frames that are only decoded, and children that die, hang or write nonsense.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test may stop where it stands"
)]

#[path = "../kit/video.rs"]
mod video;

mod children;
mod pictures;

use std::time::Duration;

use rtmpeer::media::frame::VideoFrame;
use rtmpeer::messages::VideoReply;

use video::{KitVideo, SourceVideo};

/// Longest wait for what must happen, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(20);

/// After this long without a frame there will be none.
const QUIET: Duration = Duration::from_secs(2);

/// Feeds frames as fast as they are taken, and gathers what comes meanwhile.
fn feed(video: &KitVideo, source: &SourceVideo, range: std::ops::Range<usize>) -> Vec<VideoFrame> {
    let count = range.len();
    for index in range {
        video.frame(&source.frames[index], false);
    }
    let mut frames = Vec::new();
    while frames.len() + 3 < count {
        match video.reply(Duration::from_secs(3)) {
            Some(VideoReply::Frame { frame, .. }) => frames.push(frame),
            Some(_) | None => break,
        }
    }
    frames
}
