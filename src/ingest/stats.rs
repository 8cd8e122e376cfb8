//! What a publish brought, in numbers.

/// Why a message, or what it held, went no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DropReason {
    /// Empty, cut off, or of an undefined packet type.
    BadTag,
    /// A codec that is not played.
    UnsupportedCodec,
    /// Several tracks in one message.
    Multitrack,
    /// A sequence header that cannot be read.
    BadConfig,
    /// Media before its sequence header.
    ConfigMissing,
    /// Video before the first keyframe, or after a new SPS without one.
    KeyframeMissing,
    /// A keyframe whose SPS or PPS never came.
    ParameterSetsMissing,
    /// An access unit or parameter set that breaks the specification.
    Malformed,
    /// An access unit without a picture, or empty audio.
    Empty,
    /// Nobody polled the output.
    Backlog,
    /// Audio whose time is past: it was held up, and the stream has gone on without it.
    Late,
}

impl DropReason {
    /// Every reason.
    pub const ALL: [Self; 11] = [
        Self::BadTag,
        Self::UnsupportedCodec,
        Self::Multitrack,
        Self::BadConfig,
        Self::ConfigMissing,
        Self::KeyframeMissing,
        Self::ParameterSetsMissing,
        Self::Malformed,
        Self::Empty,
        Self::Backlog,
        Self::Late,
    ];

    /// The word for logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadTag => "bad_tag",
            Self::UnsupportedCodec => "unsupported_codec",
            Self::Multitrack => "multitrack",
            Self::BadConfig => "bad_config",
            Self::ConfigMissing => "config_missing",
            Self::KeyframeMissing => "keyframe_missing",
            Self::ParameterSetsMissing => "parameter_sets_missing",
            Self::Malformed => "malformed",
            Self::Empty => "empty",
            Self::Backlog => "backlog",
            Self::Late => "late",
        }
    }

    fn index(self) -> usize {
        match self {
            Self::BadTag => 0,
            Self::UnsupportedCodec => 1,
            Self::Multitrack => 2,
            Self::BadConfig => 3,
            Self::ConfigMissing => 4,
            Self::KeyframeMissing => 5,
            Self::ParameterSetsMissing => 6,
            Self::Malformed => 7,
            Self::Empty => 8,
            Self::Backlog => 9,
            Self::Late => 10,
        }
    }
}

/// Totals of one publish since it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IngestStats {
    /// Video frames passed on.
    pub video_frames: u64,
    /// Keyframes among them.
    pub keyframes: u64,
    /// Bytes of video messages, passed on or not.
    pub video_bytes: u64,
    /// Audio access units passed on.
    pub audio_units: u64,
    /// Bytes of audio messages, passed on or not.
    pub audio_bytes: u64,
    /// Times that a track's timestamps jumped.
    pub timestamp_jumps: u64,
    dropped: [u64; DropReason::ALL.len()],
}

impl IngestStats {
    /// How often something was dropped for a reason.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped
            .get(reason.index())
            .copied()
            .unwrap_or_default()
    }

    /// How often something was dropped.
    #[must_use]
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().sum()
    }

    pub(super) fn count_drop(&mut self, reason: DropReason) {
        if let Some(count) = self.dropped.get_mut(reason.index()) {
            *count = count.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_count() {
        let mut stats = IngestStats::default();
        for (times, reason) in DropReason::ALL.into_iter().enumerate() {
            for _ in 0..=times {
                stats.count_drop(reason);
            }
        }
        for (times, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(stats.dropped(reason), times as u64 + 1);
        }
        assert_eq!(stats.dropped_total(), 66);
    }
}
