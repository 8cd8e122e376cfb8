//! Where decoding may begin: lets nothing through before a keyframe, and notices when keyframes
//! are rare.

use super::report::Report;
use super::stats::DropReason;
use super::warning::IngestWarning;
use crate::media::time::MediaTime;

/// Keyframes further apart than this make viewers wait; 4 s, and a little for rounded timestamps.
const KEYFRAME_INTERVAL_MAX: MediaTime = MediaTime::from_millis(4_100);

/// Whether frames may be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Decoding {
    /// Not before a keyframe; waiting since the frame with this DTS, if there was one.
    AwaitKeyframe(Option<MediaTime>),
    /// The last keyframe had this DTS.
    From(MediaTime),
    #[default]
    NotConfigured,
}

#[derive(Debug, Default)]
pub(super) struct Gate {
    decoding: Decoding,
    keyframes_are_rare: bool,
}

impl Gate {
    /// A configuration came: a keyframe may follow.
    pub(super) fn configured(&mut self) {
        if self.decoding == Decoding::NotConfigured {
            self.decoding = Decoding::AwaitKeyframe(None);
        }
    }

    /// What follows cannot be decoded before the next keyframe.
    pub(super) fn close(&mut self) {
        if let Decoding::From(since) = self.decoding {
            self.decoding = Decoding::AwaitKeyframe(Some(since));
        }
    }

    /// Whether keyframes were too far apart. Once so, it stays: a scene cut's keyframe proves
    /// nothing.
    pub(super) fn keyframes_are_rare(&self) -> bool {
        self.keyframes_are_rare
    }

    /// Notices a frame, passed on or not.
    pub(super) fn watch(&mut self, dts: MediaTime, report: &mut Report) {
        let since = match self.decoding {
            Decoding::From(since) | Decoding::AwaitKeyframe(Some(since)) => since,
            Decoding::AwaitKeyframe(None) | Decoding::NotConfigured => return,
        };
        if dts.minus(since) > KEYFRAME_INTERVAL_MAX && !self.keyframes_are_rare {
            self.keyframes_are_rare = true;
            report.info_changed = true;
            report.warn(IngestWarning::KeyframeInterval);
        }
    }

    /// How long ago the last keyframe came, or else the first frame that would have needed one.
    pub(super) fn since_keyframe(&self, dts: MediaTime) -> MediaTime {
        match self.decoding {
            Decoding::From(since) | Decoding::AwaitKeyframe(Some(since)) => dts.minus(since),
            Decoding::AwaitKeyframe(None) | Decoding::NotConfigured => MediaTime::ZERO,
        }
    }

    /// Goes on without a keyframe. `true`: it had not.
    pub(super) fn open_without(&mut self) -> bool {
        let Decoding::AwaitKeyframe(Some(since)) = self.decoding else {
            return false;
        };
        self.decoding = Decoding::From(since);
        true
    }

    /// Begins with a keyframe that can be decoded.
    pub(super) fn open(&mut self, dts: MediaTime) {
        self.decoding = Decoding::From(dts);
    }

    /// Whether a frame that is no keyframe may be passed on.
    pub(super) fn admit(&mut self, dts: MediaTime) -> Result<(), DropReason> {
        match self.decoding {
            Decoding::From(_) => Ok(()),
            Decoding::AwaitKeyframe(since) => {
                self.decoding = Decoding::AwaitKeyframe(since.or(Some(dts)));
                Err(DropReason::KeyframeMissing)
            }
            Decoding::NotConfigured => Err(DropReason::ConfigMissing),
        }
    }
}
