//! The tracks of a publish as they are listed: the one video and the one audio that are played, and
//! those that are not, which have another number than 0 (Enhanced RTMP v2, multitrack).

use std::collections::BTreeMap;

use bytes::Bytes;

use super::audio::AudioTrack;
use super::report::Report;
use super::stats::DropReason;
use super::video::{VideoTrack, frames_per_1000_s};
use super::warning::IngestWarning;
use crate::media::av1;
use crate::media::codec::VideoCodec;
use crate::media::flv::{AudioBody, AudioTag, VideoBody, VideoTag};
use crate::media::frame::{StreamInfo, TrackInfo, TrackKind};
use crate::media::picture_header;

/// Most tracks that are listed besides those played: OBS sends up to six of each kind.
const TRACKS_MAX: usize = 16;

/// The video that is played, as its description says; `None` if there is none.
pub(super) fn played_video(info: &StreamInfo, frames_per_second: Option<f64>) -> Option<TrackInfo> {
    let codec = info.video.clone()?;
    Some(TrackInfo {
        size: info.size,
        frames_per_1000_s: frames_per_second.and_then(frames_per_1000_s),
        ..TrackInfo::new(TrackKind::Video, 0, codec)
    })
}

/// The audio that is played; `None` if there is none.
pub(super) fn played_audio(audio: &AudioTrack) -> Option<TrackInfo> {
    audio_track(0, audio)
}

fn audio_track(number: u8, audio: &AudioTrack) -> Option<TrackInfo> {
    let sound = audio.sound();
    Some(TrackInfo {
        sample_rate: sound.map(|sound| sound.rate),
        channels: sound.map(|sound| sound.channels),
        ..TrackInfo::new(TrackKind::Audio, number, audio.codec()?)
    })
}

/// The tracks that are not played.
#[derive(Default)]
pub(super) struct OtherTracks {
    known: BTreeMap<(TrackKind, u8), TrackInfo>,
}

impl OtherTracks {
    /// What is known of those of a kind, in the order of their numbers.
    pub(super) fn of_kind(&self, kind: TrackKind) -> impl Iterator<Item = TrackInfo> + '_ {
        let all = self.known.values().filter(move |track| track.kind == kind);
        all.cloned()
    }

    pub(super) fn advice(&self) -> Option<IngestWarning> {
        (!self.known.is_empty()).then_some(IngestWarning::Multitrack)
    }

    /// Takes what a message holds of such a track.
    pub(super) fn video(&mut self, message: &Bytes, tag: &VideoTag, report: &mut Report) {
        let new =
            |codec: &dyn ToString| TrackInfo::new(TrackKind::Video, tag.track, codec.to_string());
        match &tag.body {
            VideoBody::Config { codec, data } => {
                let track = described(*codec, tag.track, &message.slice(data.clone()));
                self.announced(track.unwrap_or_else(|| new(codec)), report);
            }
            VideoBody::Frame {
                codec, key, data, ..
            } => {
                self.heard_of(TrackKind::Video, tag.track, || new(codec), report);
                if *key {
                    let data = message.get(data.clone()).unwrap_or_default();
                    self.picture(tag.track, *codec, data, report);
                }
            }
            VideoBody::Unknown(codec) => {
                self.heard_of(TrackKind::Video, tag.track, || new(codec), report);
            }
            VideoBody::NoMedia | VideoBody::TransportStream => {}
        }
    }

    /// As [`Self::video`].
    pub(super) fn audio(&mut self, message: &Bytes, tag: &AudioTag, report: &mut Report) {
        let new =
            |codec: &dyn ToString| TrackInfo::new(TrackKind::Audio, tag.track, codec.to_string());
        // Nothing of it is played: what a track of its own would say is not said.
        let (mut alone, mut unsaid) = (AudioTrack::default(), Report::default());
        match &tag.body {
            AudioBody::Config { codec, data } => {
                alone.configure(*codec, &message.slice(data.clone()), &mut unsaid);
                let track = audio_track(tag.track, &alone);
                self.announced(track.unwrap_or_else(|| new(codec)), report);
            }
            AudioBody::Packet { codec, data } => {
                let new = || {
                    let packet = message.get(data.clone()).unwrap_or_default();
                    alone.admits(*codec, packet, &mut unsaid);
                    audio_track(tag.track, &alone).unwrap_or_else(|| new(codec))
                };
                self.heard_of(TrackKind::Audio, tag.track, new, report);
            }
            AudioBody::Unknown(codec) => {
                self.heard_of(TrackKind::Audio, tag.track, || new(codec), report);
            }
            AudioBody::NoMedia => {}
        }
    }

    /// A track says what it is, for the first time or anew.
    fn announced(&mut self, track: TrackInfo, report: &mut Report) {
        not_played(report);
        let place = (track.kind, track.number);
        let is_full = self.known.len() >= TRACKS_MAX && !self.known.contains_key(&place);
        if !is_full && self.known.get(&place) != Some(&track) {
            self.known.insert(place, track);
            report.info_changed = true;
        }
    }

    /// There is something of a track, which may be known.
    fn heard_of(
        &mut self,
        kind: TrackKind,
        number: u8,
        new: impl FnOnce() -> TrackInfo,
        report: &mut Report,
    ) {
        if self.known.contains_key(&(kind, number)) {
            not_played(report);
        } else {
            self.announced(new(), report);
        }
    }

    /// A picture where decoding may begin: some codecs say there, and nowhere else, how large it is.
    fn picture(&mut self, number: u8, codec: VideoCodec, data: &[u8], report: &mut Report) {
        let track = self.known.get_mut(&(TrackKind::Video, number));
        let Some(track) = track.filter(|track| track.size.is_none()) else {
            return;
        };
        track.size = match codec {
            VideoCodec::Av1 => av1::frame_size(data),
            // Their sequence headers say it.
            VideoCodec::Avc | VideoCodec::Hevc => None,
            VideoCodec::Vp9
            | VideoCodec::Vp8
            | VideoCodec::SorensonH263
            | VideoCodec::ScreenVideo
            | VideoCodec::Vp6
            | VideoCodec::Vp6Alpha
            | VideoCodec::ScreenVideo2 => picture_header::frame_size(codec, data, 0),
        };
        report.info_changed |= track.size.is_some();
    }
}

/// What a sequence header says, read as that of the played track is.
fn described(codec: VideoCodec, number: u8, record: &Bytes) -> Option<TrackInfo> {
    let (mut alone, mut unsaid) = (VideoTrack::default(), Report::default());
    alone.configure(codec, record, &mut unsaid);
    let mut info = StreamInfo::default();
    alone.describe(&mut info, &mut Vec::new());
    let track = played_video(&info, alone.frames_per_second())?;
    Some(TrackInfo { number, ..track })
}

fn not_played(report: &mut Report) {
    report.drop(DropReason::Multitrack);
    report.warn(IngestWarning::Multitrack);
}
