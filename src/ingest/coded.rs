//! Video other than H.264, as published: its configuration, where decoding may begin, and the
//! bytes of each picture as a Matroska writer takes them.

use bytes::Bytes;

use super::gate::Gate;
use super::report::Report;
use super::stats::DropReason;
use super::video::{RECORD_BYTES_MAX, Timing};
use super::warning::IngestWarning;
use crate::media::av1::{self, Av1Config};
use crate::media::codec::{CodedFrame, TranscodeReason, VideoCodec, VideoConfig};
use crate::media::frame::StreamInfo;
use crate::media::hevc::{HevcConfig, HevcUnit};
use crate::media::part;
use crate::media::picture_header;

/// What stands in a sequence header, by codec.
enum Record {
    Hevc(HevcConfig),
    Av1(Av1Config),
    /// VP8's and VP9's are not needed; the others have none.
    Other,
}

/// The codec that was last heard of, and its state.
struct Stream {
    codec: VideoCodec,
    /// `None` before a sequence header.
    record: Option<(Bytes, Record)>,
    /// By the sequence header, or the last keyframe.
    size: Option<(u32, u32)>,
    gate: Gate,
}

#[derive(Default)]
pub(super) struct CodedTrack {
    stream: Option<Stream>,
}

impl CodedTrack {
    /// The codec, if one was heard of.
    pub(super) fn codec(&self) -> Option<VideoCodec> {
        self.stream.as_ref().map(|stream| stream.codec)
    }

    /// Fills in what is known of the video.
    pub(super) fn describe(&self, info: &mut StreamInfo, advice: &mut Vec<IngestWarning>) {
        let Some(stream) = &self.stream else { return };
        let codec = stream.codec;
        info.video = Some(match &stream.record {
            Some((_, Record::Hevc(config))) => format!("{codec} {}", config.profile_name()),
            Some((_, Record::Av1(config))) => {
                format!("{codec} {} {}-bit", config.profile_name(), config.bits)
            }
            Some((_, Record::Other)) | None => codec.to_string(),
        });
        info.size = stream.size;
        info.transcode = Some(TranscodeReason::Codec(codec));
        advice.push(IngestWarning::VideoCodec(codec));
        if stream.gate.keyframes_are_rare() {
            advice.push(IngestWarning::KeyframeInterval);
        }
    }

    /// What a decoder must know before the next frame, as the stream itself says.
    pub(super) fn config(&self) -> Option<VideoConfig> {
        let stream = self.stream.as_ref()?;
        let record = stream.record.as_ref().map(|(record, _)| record.clone());
        Some(VideoConfig {
            codec: stream.codec,
            record: record.unwrap_or_default(),
            size: stream.size,
            sample_aspect_ratio: None,
            interlaced: false,
            reordering_told: false,
            frames_per_1000_s: None,
        })
    }

    /// Takes a sequence header; the same again changes nothing.
    pub(super) fn configure(&mut self, codec: VideoCodec, record: &Bytes, report: &mut Report) {
        let known = self.stream.as_ref().filter(|stream| stream.codec == codec);
        let same = |(old, _): &(Bytes, Record)| old == record;
        if known.is_some_and(|stream| stream.record.as_ref().is_some_and(same)) {
            return;
        }
        let parsed = match codec {
            VideoCodec::Hevc => HevcConfig::parse(record).map(Record::Hevc),
            VideoCodec::Av1 => Av1Config::parse(record).map(Record::Av1),
            VideoCodec::Avc
            | VideoCodec::Vp9
            | VideoCodec::Vp8
            | VideoCodec::SorensonH263
            | VideoCodec::ScreenVideo
            | VideoCodec::Vp6
            | VideoCodec::Vp6Alpha
            | VideoCodec::ScreenVideo2 => Some(Record::Other),
        };
        let Some(parsed) = parsed.filter(|_| record.len() <= RECORD_BYTES_MAX) else {
            report.drop(DropReason::BadConfig);
            report.warn(IngestWarning::BadVideoConfig(codec));
            return;
        };
        let size = match &parsed {
            Record::Hevc(config) => config.sps.as_ref().map(|sps| sps.size),
            Record::Av1(config) => config.size,
            Record::Other => None,
        };
        let stream = self.begin(codec, report);
        stream.size = size.or(stream.size);
        // A copy, so that it does not hold on to its message.
        stream.record = Some((Bytes::copy_from_slice(record), parsed));
        stream.gate.close();
        stream.gate.configured();
        report.info_changed = true;
    }

    /// The state of a codec, begun anew if it was another.
    fn begin(&mut self, codec: VideoCodec, report: &mut Report) -> &mut Stream {
        if self.codec() != Some(codec) {
            self.stream = None;
            report.info_changed = true;
            report.warn(IngestWarning::VideoCodec(codec));
        }
        self.stream.get_or_insert_with(|| Stream {
            codec,
            record: None,
            size: None,
            gate: Gate::default(),
        })
    }

    /// A frame could not be passed on after all: what follows cannot be decoded.
    pub(super) fn lost_frame(&mut self) {
        if let Some(stream) = &mut self.stream {
            stream.gate.close();
        }
    }

    /// Takes a picture; `key` is what the publisher says of it.
    ///
    /// Returns `None` if it is not to be passed on, which is counted then.
    pub(super) fn frame(
        &mut self,
        codec: VideoCodec,
        key: bool,
        data: Bytes,
        timing: Timing,
        report: &mut Report,
    ) -> Option<CodedFrame> {
        let needs_record = matches!(codec, VideoCodec::Hevc | VideoCodec::Av1);
        if needs_record && (self.codec() != Some(codec) || !self.has_record()) {
            report.drop(DropReason::ConfigMissing);
            report.warn(IngestWarning::VideoConfigMissing);
            return None;
        }
        let stream = self.begin(codec, report);
        if !needs_record {
            stream.gate.configured();
        }
        let prepared = stream.prepare(key, data, report);
        let Prepared { key, data, size } = prepared?;
        stream.gate.watch(timing.dts, report);
        if key {
            stream.gate.open(timing.dts);
            if size.is_some() && size != stream.size {
                stream.size = size;
                report.info_changed = true;
            }
        } else if let Err(reason) = stream.gate.admit(timing.dts) {
            report.drop(reason);
            return None;
        }
        Some(CodedFrame {
            pts: timing.presentation_time(),
            dts: timing.dts,
            key,
            recovery: false,
            disposable: false,
            data,
            received: timing.received,
        })
    }

    fn has_record(&self) -> bool {
        let stream = self.stream.as_ref();
        stream.is_some_and(|stream| stream.record.is_some())
    }
}

/// A picture's bytes, and what they say.
struct Prepared {
    key: bool,
    data: Bytes,
    size: Option<(u32, u32)>,
}

impl Stream {
    fn prepare(&mut self, key: bool, data: Bytes, report: &mut Report) -> Option<Prepared> {
        let mut prepared = Prepared {
            key,
            data,
            size: None,
        };
        match (self.codec, &self.record) {
            (VideoCodec::Hevc, Some((_, Record::Hevc(config)))) => {
                let unit = match HevcUnit::scan(&prepared.data, config.nal_length_size) {
                    Ok(unit) => unit,
                    Err(error) => {
                        report.drop(DropReason::Malformed);
                        report.warn(IngestWarning::BadVideo(error));
                        self.gate.close();
                        return None;
                    }
                };
                // The publisher's word does not count: some call every intra picture a key.
                prepared.key = unit.random_access;
                prepared.size = unit.sps.map(|sps| sps.size);
                if !unit.picture {
                    report.drop(DropReason::Empty);
                    return None;
                }
            }
            (VideoCodec::Av1, _) => {
                let delimiter = av1::temporal_delimiter_bytes(&prepared.data);
                let (data, part) = part::kept(&prepared.data, delimiter..prepared.data.len());
                prepared.data = data.slice(part);
                prepared.size = av1::frame_size(&prepared.data).filter(|_| key);
            }
            (VideoCodec::Vp6 | VideoCodec::Vp6Alpha, _) => {
                let adjustment = *prepared.data.first().unwrap_or(&0);
                prepared.data = prepared.data.slice(prepared.data.len().min(1)..);
                self.adjust(adjustment, key);
                prepared.size = picture_header::frame_size(self.codec, &prepared.data, adjustment);
            }
            (codec, _) => {
                prepared.size =
                    picture_header::frame_size(codec, &prepared.data, 0).filter(|_| key);
            }
        }
        if prepared.data.is_empty() {
            report.drop(DropReason::Empty);
            return None;
        }
        Some(prepared)
    }

    /// VP6's adjustment is all the configuration it has; that of a keyframe counts.
    fn adjust(&mut self, adjustment: u8, key: bool) {
        let record = [adjustment];
        let same = |(old, _): &(Bytes, Record)| old.as_ref() == record;
        if key && !self.record.as_ref().is_some_and(same) {
            self.record = Some((Bytes::copy_from_slice(&record), Record::Other));
        }
    }
}
