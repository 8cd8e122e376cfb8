//! A publish of any messages, through ingest and packetizer: what comes out keeps its promises.
//!
//! The input is messages back to back: a byte (odd: video, even: audio), the timestamp in 4
//! bytes, the length in 2 (all big-endian), and the payload.
use std::time::{Duration, Instant};

use bytes::Bytes;
use rtmpeer::ids::Epoch;
use rtmpeer::ingest::{Ingest, IngestOutput};
use rtmpeer::limits::RTP_PAYLOAD_BYTES_MAX;
use rtmpeer::media::codec::VideoCodec;
use rtmpeer::media::frame::{TrackKind, VideoFrame};
use rtmpeer::media::time::{MediaTime, Timebase};
use rtmpeer::webrtc::packetize::Packetizer;

/// One input.
pub fn fuzz(data: &[u8]) {
    run(data);
}

fn run(mut data: &[u8]) {
    let mut now = Instant::now();
    let mut ingest = Ingest::new(Timebase::new(now, Duration::ZERO), Epoch(1));
    let mut seen = Seen::new();
    while let Some((header, rest)) = data.split_first_chunk::<7>() {
        let &[kind, t3, t2, t1, t0, l1, l0] = header;
        let length = usize::from(u16::from_be_bytes([l1, l0])).min(rest.len());
        let (payload, rest) = rest.split_at(length);
        data = rest;
        now += Duration::from_millis(10);
        let timestamp = u32::from_be_bytes([t3, t2, t1, t0]);
        let payload = Bytes::copy_from_slice(payload);
        match kind % 2 {
            1 => ingest.handle_video(timestamp, payload, now),
            _ => ingest.handle_audio(timestamp, payload, now),
        }
        while let Some(output) = ingest.poll_output() {
            seen.check(output);
        }
    }
}

/// What came out so far.
struct Seen {
    packetizer: Packetizer,
    video: Option<MediaTime>,
    audio: Option<MediaTime>,
    configured: bool,
    video_codec: Option<VideoCodec>,
    /// No frame came yet with the configuration in force.
    fresh: bool,
}

impl Seen {
    fn new() -> Self {
        Self {
            packetizer: Packetizer::new(TrackKind::Video, Epoch(1)),
            video: None,
            audio: None,
            configured: false,
            video_codec: None,
            fresh: true,
        }
    }

    fn check(&mut self, output: IngestOutput) {
        match output {
            IngestOutput::Video(frame) => self.check_video(&frame),
            IngestOutput::VideoConfig(config) => {
                assert!(config.record.len() <= 1 << 20, "a record without bound");
                self.video_codec = Some(config.codec);
                self.fresh = true;
            }
            IngestOutput::Coded(frame) => {
                let codec = self.video_codec.expect("a configuration came first");
                assert_ne!(codec, VideoCodec::Avc);
                assert!(!frame.data.is_empty());
                self.check_order(frame.key, frame.dts);
            }
            IngestOutput::AudioConfig(_) => self.configured = true,
            IngestOutput::Audio(unit) => {
                assert!(self.configured, "audio before its configuration");
                assert!(!unit.data.is_empty());
                assert!(self.audio <= Some(unit.pts), "audio went back");
                self.audio = Some(unit.pts);
            }
            IngestOutput::Info(info) => {
                assert!(info.tracks.len() <= 18, "tracks without bound");
                if let Some((width, height)) = info.size {
                    assert!((1..=8_192).contains(&width) && (1..=8_192).contains(&height));
                }
            }
            IngestOutput::Warning(warning) => {
                let line = warning.to_string();
                assert!(!line.is_empty() && !line.contains(char::is_control));
            }
            IngestOutput::Verdict(_) => {}
        }
    }

    fn check_order(&mut self, key: bool, dts: MediaTime) {
        assert!(!self.fresh || key, "began without a keyframe");
        assert!(self.video < Some(dts), "video went back");
        (self.fresh, self.video) = (false, Some(dts));
    }

    fn check_video(&mut self, frame: &VideoFrame) {
        assert_eq!(self.video_codec, Some(VideoCodec::Avc));
        assert!(!frame.key || frame.parameter_sets.is_some());
        self.check_order(frame.key, frame.dts);
        let set = self.packetizer.video(frame).expect("a frame has packets");
        for index in 0..set.packet_count() {
            let payload = set.payload(index).expect("within the count");
            assert!(payload.len() <= RTP_PAYLOAD_BYTES_MAX);
        }
    }
}
