//! The tracks of a publish that are not played: those other than 0 (Enhanced RTMP v2, multitrack).

use std::collections::BTreeMap;

use super::report::Report;
use super::stats::DropReason;
use super::warning::IngestWarning;
use crate::media::flv::{AudioBody, AudioTag, VideoBody, VideoTag};
use crate::media::frame::TrackKind;

/// Most tracks that are listed: OBS sends up to six of each kind.
const TRACKS_MAX: usize = 16;

#[derive(Default)]
pub(super) struct OtherTracks {
    /// Codec by kind and number.
    codecs: BTreeMap<(TrackKind, u8), String>,
}

impl OtherTracks {
    /// Their names, in order.
    pub(super) fn names(&self) -> Vec<String> {
        let name = |((kind, number), codec): (&(TrackKind, u8), &String)| match kind {
            TrackKind::Video => format!("video {number}: {codec}"),
            TrackKind::Audio => format!("audio {number}: {codec}"),
        };
        self.codecs.iter().map(name).collect()
    }

    pub(super) fn advice(&self) -> Option<IngestWarning> {
        (!self.codecs.is_empty()).then_some(IngestWarning::Multitrack)
    }

    pub(super) fn video(&mut self, tag: &VideoTag, report: &mut Report) {
        match &tag.body {
            VideoBody::Config { codec, .. } | VideoBody::Frame { codec, .. } => {
                self.note((TrackKind::Video, tag.track), codec, report);
            }
            VideoBody::Unknown(codec) => self.note((TrackKind::Video, tag.track), codec, report),
            VideoBody::NoMedia | VideoBody::TransportStream => {}
        }
    }

    pub(super) fn audio(&mut self, tag: &AudioTag, report: &mut Report) {
        match &tag.body {
            AudioBody::Config { codec, .. } | AudioBody::Packet { codec, .. } => {
                self.note((TrackKind::Audio, tag.track), codec, report);
            }
            AudioBody::Unknown(codec) => self.note((TrackKind::Audio, tag.track), codec, report),
            AudioBody::NoMedia => {}
        }
    }

    fn note(&mut self, track: (TrackKind, u8), codec: &impl ToString, report: &mut Report) {
        report.drop(DropReason::Multitrack);
        report.warn(IngestWarning::Multitrack);
        if self.codecs.contains_key(&track) || self.codecs.len() >= TRACKS_MAX {
            return;
        }
        self.codecs.insert(track, codec.to_string());
        report.info_changed = true;
    }
}
