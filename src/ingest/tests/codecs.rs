//! Every codec: files as ffmpeg writes them, and what can go wrong with each.

use super::*;
use crate::media::codec::{TranscodeReason, VideoCodec};

/// `hvcC` and an IDR slice of 160 × 90, by x265.
const HVCC: &[u8] = &[
    0x01, 0x01, 0x60, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 0x1e, 0xf0, 0, 0xfc, 0xfd, 0xf8, 0xf8, 0, 0,
    0x0f, 1, 0x21, 0, 1, 0, 42, 0x42, 0x01, 0x01, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00,
    0x00, 0x03, 0x00, 0x00, 0x03, 0x00, 0x1e, 0xa0, 0x14, 0x20, 0x61, 0xf2, 0x65, 0x95, 0x92, 0x49,
    0x32, 0xbc, 0x05, 0xa0, 0x20, 0x00, 0x00, 0x03, 0x00, 0x20, 0x00, 0x00, 0x03, 0x01, 0xe1,
];
const HEVC_IDR: &[u8] = &[0, 0, 0, 4, 0x28, 0x01, 0xaf, 0x19];
const HEVC_P: &[u8] = &[0, 0, 0, 4, 0x02, 0x01, 0xd0, 0x19];
fn hevc(first: u8, rest: &[u8]) -> Vec<u8> {
    [&[first], &b"hvc1"[..], rest].concat()
}

impl Rig {
    pub(super) fn coded(&self) -> Vec<&CodedFrame> {
        let mut frames = Vec::new();
        for output in &self.outputs {
            if let IngestOutput::Coded(frame) = output {
                frames.push(frame);
            }
        }
        frames
    }

    fn configs(&self) -> Vec<&VideoConfig> {
        let mut configs = Vec::new();
        for output in &self.outputs {
            if let IngestOutput::VideoConfig(config) = output {
                configs.push(&**config);
            }
        }
        configs
    }
}

/// What a sample of six coded frames leads to.
fn check_coded(rig: &Rig, codec: VideoCodec, name: &str) {
    assert_eq!(rig.coded().len(), 6, "{codec}");
    assert!(rig.coded()[0].key, "{codec}");
    let keys = rig.coded().iter().filter(|it| it.key).count();
    assert!(keys >= 1, "{codec}");
    let [config] = rig.configs()[..] else {
        panic!("{codec}: {:?}", rig.configs());
    };
    assert_eq!((config.codec, config.size), (codec, Some((96, 64))));
    let place = |wanted: fn(&IngestOutput) -> bool| rig.outputs.iter().position(wanted);
    let config_at = place(|it| matches!(it, IngestOutput::VideoConfig(_)));
    assert!(config_at < place(|it| matches!(it, IngestOutput::Coded(_))));
    let info = rig.ingest.info();
    assert_eq!(info.video.as_deref(), Some(name));
    assert_eq!(info.transcode, Some(TranscodeReason::Codec(codec)));
    assert_eq!(info.size, Some((96, 64)));
    assert_eq!(rig.warnings(), [IngestWarning::VideoCodec(codec)]);
    assert!(info.advice[0].contains("converted to H.264"));
    assert_eq!(rig.ingest.stats().dropped_total(), 0, "{codec}");
    assert_eq!(rig.ingest.stats().video_frames, 6);
}

#[test]
fn every_video_codec_of_ffmpeg_is_given_on_with_its_configuration() {
    let hevc = sample!("hevc");
    check_coded(&hevc, VideoCodec::Hevc, "H.265 Main");
    assert_eq!(hevc.configs()[0].record[..2], [1, 1]);
    assert!(hevc.coded().iter().any(|it| it.pts != it.dts), "B-frames");
    let av1 = sample!("av1");
    check_coded(&av1, VideoCodec::Av1, "AV1 Main 8-bit");
    assert_eq!(av1.configs()[0].record[0], 0x81);
    let delimited = |frame: &&CodedFrame| frame.data.starts_with(&[0x12, 0]);
    assert!(!av1.coded().iter().any(delimited));
    check_coded(&sample!("vp9"), VideoCodec::Vp9, "VP9");
    let sorenson = sample!("sorenson");
    check_coded(&sorenson, VideoCodec::SorensonH263, "Sorenson H.263");
    assert!(sorenson.configs()[0].record.is_empty());
    check_coded(&sample!("screen"), VideoCodec::ScreenVideo, "Screen Video");
    check_coded(
        &sample!("screen2"),
        VideoCodec::ScreenVideo2,
        "Screen Video 2",
    );
}

#[test]
fn h264_has_its_record_before_its_first_frame() {
    let mut rig = Rig::configured();
    rig.picture(0, &[IDR]);
    rig.video(40, &record(SPS, PPS));
    rig.picture(40, &[SPS, PPS, IDR]);
    let [config] = rig.configs()[..] else {
        panic!("{:?}", rig.configs());
    };
    assert_eq!(config.record, record(SPS, PPS)[5..]);
    assert_eq!(config.size, Some((320, 180)));
    assert_eq!(config.frames_per_1000_s, Some(30_000));
    assert!(!config.interlaced);
    assert_eq!(config.sample_aspect_ratio, None);
}

#[test]
fn sets_that_change_in_band_make_a_new_record() {
    let mut rig = Rig::configured();
    rig.picture(0, &[IDR]);
    rig.picture(40, &[OTHER_PPS, P]);
    assert_eq!(rig.configs().len(), 1, "not before a keyframe");
    rig.picture(80, &[IDR]);
    rig.picture(120, &[IDR]);
    let configs = rig.configs();
    assert_eq!(configs.len(), 2);
    let written = configs[1].record.clone();
    let config = crate::media::avc::DecoderConfig::parse(&written).unwrap();
    assert_eq!(config.parameter_sets, [SPS, OTHER_PPS]);
    assert_eq!(written[..4], [1, SPS[1], SPS[2], SPS[3]]);
    rig.video(160, &record(SPS, PPS));
    rig.picture(160, &[IDR]);
    assert_eq!(rig.configs()[2].record, record(SPS, PPS)[5..]);
}

#[test]
fn sets_in_band_alone_make_a_record() {
    let mut rig = Rig::new();
    rig.video(0, &[0x17, 0, 0, 0, 0, 1, 0x42, 0xc0, 0x0d, 0xff, 0, 0]);
    rig.picture(0, &[SPS, PPS, IDR]);
    let record = rig.configs()[0].record.clone();
    let config = crate::media::avc::DecoderConfig::parse(&record).unwrap();
    assert_eq!(config.parameter_sets, [SPS, PPS]);
}

#[test]
fn metadata_fills_in_what_the_stream_does_not_say() {
    let mut rig = Rig::new();
    rig.ingest.handle_metadata(Metadata {
        width: Some(640),
        height: Some(360),
        framerate: Some(25.0),
    });
    let mut bare = HVCC[..23].to_vec();
    bare[22] = 0;
    rig.video(0, &hevc(0x90, &bare));
    rig.video(0, &hevc(0x93, HEVC_IDR));
    let config = rig.configs()[0];
    assert_eq!(config.size, Some((640, 360)));
    assert_eq!(config.frames_per_1000_s, Some(25_000));
    assert_eq!(rig.ingest.info().size, Some((640, 360)));
    assert_eq!(rig.ingest.frames_per_second(), Some(25.0));
}

#[test]
fn pixels_and_fields_need_transcoding_and_are_said() {
    let rig = sample!("high422");
    let info = rig.ingest.info();
    assert_eq!(info.transcode, Some(TranscodeReason::PixelFormat));
    assert!(rig.warnings()[0].to_string().contains("converted"));
    assert_eq!(rig.frames().len(), 6);
    let rig = sample!("interlaced");
    let info = rig.ingest.info();
    assert_eq!(info.transcode, Some(TranscodeReason::Interlaced));
    assert_eq!(rig.warnings(), [IngestWarning::Interlaced]);
    assert!(rig.configs()[0].interlaced);
    assert_eq!(rig.frames().len(), 6);
}

#[test]
fn pictures_to_be_turned_and_pixels_that_are_not_square_need_transcoding() {
    for (rig, reason, warning) in [
        (
            sample!("turned"),
            TranscodeReason::Rotation,
            IngestWarning::Rotation,
        ),
        (
            sample!("anamorphic"),
            TranscodeReason::PixelShape,
            IngestWarning::PixelShape,
        ),
    ] {
        assert_eq!(rig.ingest.info().transcode, Some(reason));
        assert_eq!(rig.warnings(), [warning]);
        assert_eq!(rig.frames().len(), 6);
    }
}

/// 320 × 192, `frame_mbs_only_flag` 0 without MBAFF: SPS 0, `log2_max_frame_num` 4,
/// `pic_order_cnt_type` 2, one reference, 20 × 6 map units, no cropping, no VUI.
const FIELDS_SPS: &[u8] = &[0x67, 77, 0, 30, 0xda, 0x05, 0x0c, 0x48];

#[test]
fn fields_that_are_allowed_but_not_used_are_fine() {
    // Slices: macroblock 0, I, PPS 0, frame_num 0, then field_pic_flag.
    let (frame, field) = (&[0x65, 0x88, 0x80, 0x80][..], &[0x65, 0x88, 0x84, 0x80][..]);
    let mut rig = Rig::new();
    rig.video(0, &record(FIELDS_SPS, PPS));
    rig.picture(0, &[frame]);
    assert_eq!(rig.ingest.info().transcode, None);
    assert!(rig.configs()[0].interlaced, "they may come");
    rig.picture(40, &[field]);
    let interlaced = Some(TranscodeReason::Interlaced);
    assert_eq!(rig.ingest.info().transcode, interlaced);
    rig.picture(80, &[frame]);
    assert_eq!(rig.ingest.info().transcode, interlaced, "it stays");
}

#[test]
fn reordering_is_known_before_the_first_frame_where_the_sps_says_so() {
    let mut rig = Rig::new();
    rig.video(0, &record(OTHER_SPS, PPS));
    let reordering = Some(TranscodeReason::Reordering);
    assert_eq!(rig.ingest.info().transcode, reordering);
    let mut rig = Rig::configured();
    rig.picture(0, &[IDR]);
    assert_eq!(rig.ingest.info().transcode, None);
    rig.picture(40, &[B]);
    assert_eq!(rig.ingest.info().transcode, reordering);
    rig.picture(80, &[IDR]);
    assert_eq!(rig.ingest.info().transcode, reordering, "it stays");
    rig.video(120, &record(OTHER_SPS, PPS));
    rig.video(160, &record(SPS, PPS));
    rig.picture(160, &[IDR]);
    assert_eq!(rig.ingest.info().transcode, None, "another SPS");
}

#[test]
fn hevc_begins_with_a_random_access_picture_and_never_before_its_record() {
    let mut rig = Rig::new();
    rig.video(0, &hevc(0x93, HEVC_IDR));
    assert_eq!(rig.warnings(), [IngestWarning::VideoConfigMissing]);
    rig.video(40, &hevc(0x90, HVCC));
    rig.video(40, &hevc(0x93, HEVC_P));
    assert!(rig.coded().is_empty(), "the tag's word does not count");
    rig.video(80, &hevc(0xa3, HEVC_IDR));
    rig.video(120, &hevc(0xa1, &[&[0, 0, 33], HEVC_P].concat()));
    let [first, second] = rig.coded()[..] else {
        panic!("{:?}", rig.coded());
    };
    assert!(first.key && !second.key);
    assert_eq!(second.pts.minus(second.dts), MediaTime::from_millis(33));
    assert_eq!(second.data, HEVC_P);
    rig.video(160, &hevc(0x90, HVCC));
    rig.video(160, &hevc(0xa3, HEVC_P));
    assert_eq!(rig.coded().len(), 3, "repeated: nothing happens");
    assert_eq!(rig.configs().len(), 1);
    let mut other = HVCC.to_vec();
    other[1] = 2;
    rig.video(200, &hevc(0x90, &other));
    rig.video(200, &hevc(0xa3, HEVC_P));
    assert_eq!(rig.coded().len(), 3, "waits for a keyframe");
    rig.video(240, &hevc(0x93, HEVC_IDR));
    assert_eq!(rig.configs().len(), 2);
    assert_eq!(rig.ingest.info().video.as_deref(), Some("H.265 Main 10"));
}

#[test]
fn malformed_hevc_picture_is_dropped_and_video_resumes_with_a_keyframe() {
    let mut rig = Rig::new();
    rig.video(0, &hevc(0x90, HVCC));
    rig.video(0, &hevc(0x93, HEVC_IDR));
    rig.video(40, &hevc(0xa3, &HEVC_P[..7]));
    rig.video(80, &hevc(0xa3, HEVC_P));
    assert_eq!(rig.coded().len(), 1, "what follows refers to it");
    rig.video(120, &hevc(0x93, HEVC_IDR));
    rig.video(160, &hevc(0xa3, HEVC_P));
    assert_eq!(rig.coded().len(), 3);
    assert_eq!(rig.dropped(DropReason::Malformed), 1);
    assert_eq!(rig.dropped(DropReason::KeyframeMissing), 1);
}

#[test]
fn hevc_and_av1_in_legacy_tags_are_the_same() {
    let mut rig = Rig::new();
    let message = |first: u8, kind: u8, rest: &[u8]| {
        let header = [first, kind, 0, 0, 0];
        [&header, rest].concat()
    };
    rig.video(0, &message(0x1c, 0, HVCC));
    rig.video(0, &message(0x1c, 1, HEVC_IDR));
    assert_eq!(rig.configs()[0].codec, VideoCodec::Hevc);
    rig.video(40, &message(0x1d, 0, &[0x81, 0, 0x0c, 0]));
    rig.video(40, &message(0x1d, 1, &[0x12, 0, 0x32, 1, 0x10]));
    assert_eq!(rig.configs()[1].codec, VideoCodec::Av1);
    assert_eq!(rig.coded()[1].data[..], [0x32, 1, 0x10]);
}

#[test]
fn vp6_gives_its_adjustment_as_its_record() {
    for (number, codec) in [(4, VideoCodec::Vp6), (5, VideoCodec::Vp6Alpha)] {
        let mut rig = Rig::new();
        let alpha: &[u8] = if number == 5 { &[0, 1, 2] } else { &[] };
        let picture = [&[0x10 | number, 0x06], alpha, &[0x20, 0x36, 6, 10, 6, 10]].concat();
        rig.video(0, &picture);
        rig.video(40, &[0x20 | number, 0x06, 0xa0, 1]);
        let config = rig.configs()[0];
        assert_eq!((config.codec, &config.record[..]), (codec, &[0x06][..]));
        assert_eq!(config.size, Some((160, 90)));
        assert_eq!(rig.coded()[0].data, picture[2..]);
        assert_eq!(rig.coded()[1].data[..], [0xa0, 1]);
        assert_eq!(rig.configs().len(), 1);
    }
}

#[test]
fn size_that_changes_at_a_keyframe_is_a_new_configuration() {
    let vp8 = |width: u8| {
        let mut message = b"\x91vp08".to_vec();
        message.extend([0x70, 0x43, 0, 0x9d, 0x01, 0x2a, width, 0, 0x5a, 0]);
        message
    };
    let mut rig = Rig::new();
    rig.video(0, b"\xa1vp08\x71");
    assert!(rig.coded().is_empty());
    for (at, width) in [(40, 160), (80, 160), (120, 80)] {
        rig.video(at, &vp8(width));
        rig.video(at + 20, b"\xa1vp08\x71");
    }
    let sizes: Vec<_> = rig.configs().iter().map(|it| it.size).collect();
    assert_eq!(sizes, [Some((160, 90)), Some((80, 90))]);
    assert_eq!(rig.coded().len(), 6);
}

#[test]
fn change_of_codec_begins_with_a_keyframe_of_the_new_one() {
    let mut rig = Rig::configured();
    rig.picture(0, &[IDR]);
    rig.video(40, &hevc(0x90, HVCC));
    rig.picture(40, &[P]);
    rig.video(80, &hevc(0xa3, HEVC_P));
    assert_eq!(rig.frames().len(), 2, "until the first keyframe of H.265");
    rig.video(120, &hevc(0x93, HEVC_IDR));
    rig.picture(160, &[P]);
    assert_eq!((rig.frames().len(), rig.coded().len()), (2, 1));
    assert_eq!(rig.ingest.info().video.as_deref(), Some("H.265 Main"));
    rig.picture(200, &[IDR]);
    rig.picture(240, &[P]);
    assert_eq!(rig.frames().len(), 4);
    let codecs: Vec<_> = rig.configs().iter().map(|it| it.codec).collect();
    let (avc, hevc) = (VideoCodec::Avc, VideoCodec::Hevc);
    assert_eq!(codecs, [avc, hevc, avc]);
    assert_eq!(rig.ingest.info().transcode, None);
}

#[test]
fn bad_and_tiny_messages_of_every_codec_are_counted_and_the_stream_goes_on() {
    let mut rig = Rig::new();
    rig.video(0, &hevc(0x90, HVCC));
    rig.video(0, &hevc(0x93, HEVC_IDR));
    for tiny in [&b"\x91hvc1"[..], b"\x91hvc", b"\x9f", b"\x96", b"\x90hvc1"] {
        rig.video(10, tiny);
    }
    rig.video(10, &hevc(0xa3, &[]));
    rig.video(10, &hevc(0xa3, &[0, 0, 0, 9, 2]));
    rig.video(10, &hevc(0xa3, &[0, 0, 0, 2, 0x4e, 1]));
    rig.video(20, &hevc(0x95, &[1]));
    rig.video(40, &hevc(0x93, HEVC_IDR));
    assert_eq!(rig.coded().len(), 2);
    assert_eq!(rig.dropped(DropReason::BadTag), 4);
    assert_eq!(rig.dropped(DropReason::BadConfig), 1);
    assert_eq!(rig.dropped(DropReason::Malformed), 1);
    assert_eq!(rig.dropped(DropReason::Empty), 2);
    assert!(rig.warnings().contains(&IngestWarning::TransportStream));
    for first in [0x12, 0x13, 0x14, 0x15, 0x16] {
        rig.video(80, &[first]);
    }
    assert_eq!(rig.dropped(DropReason::Empty), 7);
    for first in [0x2f, 0x3f, 0x4f, 0x7f, 0x8f, 0xbf] {
        rig.audio(80, &[first]);
    }
    rig.audio(80, b"\x91ac-3");
    assert_eq!(rig.dropped(DropReason::Empty), 14);
    assert!(rig.units().is_empty() && rig.audio_configs().is_empty());
}

/// The tracks of a kind: number, codec, and what else is known.
fn listed(rig: &Rig, kind: TrackKind) -> Vec<(u8, &str, [Option<u32>; 5])> {
    let tracks = rig.ingest.info().tracks.iter();
    tracks
        .filter(|track| track.kind == kind)
        .map(|track| {
            let size = track.size;
            let facts = [
                size.map(|(width, _)| width),
                size.map(|(_, height)| height),
                track.frames_per_1000_s,
                track.sample_rate,
                track.channels.map(u32::from),
            ];
            (track.number, track.codec.as_str(), facts)
        })
        .collect()
}

#[test]
fn track_0_plays_and_the_others_are_listed() {
    let rig = sample!("multitrack");
    assert_eq!(rig.frames().len(), 6);
    assert!(rig.coded().is_empty());
    assert!(rig.units().len() > 10);
    let info = rig.ingest.info();
    assert_eq!(info.video.as_deref(), Some("H.264 High"));
    assert_eq!(info.audio.as_deref(), Some("AAC-LC 48 kHz mono"));
    let size = |width, height, rate| [Some(width), Some(height), rate, None, None];
    assert_eq!(
        listed(&rig, TrackKind::Video),
        [
            (0, "H.264 High", size(96, 64, Some(10_000))),
            (1, "H.265 Main", size(96, 64, None))
        ]
    );
    let sound = |rate, channels| [None, None, None, Some(rate), Some(channels)];
    assert_eq!(
        listed(&rig, TrackKind::Audio),
        [
            (0, "AAC-LC", sound(48_000, 1)),
            (1, "Opus", sound(48_000, 1))
        ]
    );
    let order: Vec<_> = info.tracks.iter().map(|track| track.number).collect();
    assert_eq!(order, [0, 1, 0, 1], "pictures, then sounds");
    assert_eq!(rig.warnings(), [IngestWarning::Multitrack]);
    let stats = rig.ingest.stats();
    assert_eq!(stats.dropped(DropReason::Multitrack), stats.dropped_total());
}

#[test]
fn tracks_in_one_message_are_told_apart_and_bounded() {
    let mut rig = Rig::new();
    let many = |kind: u8, tracks: &[(u8, &[u8])]| {
        let mut message = vec![0x96, 0x10 | kind];
        message.extend(b"hvc1");
        for (track, data) in tracks {
            message.push(*track);
            message.extend(&u32::try_from(data.len()).unwrap().to_be_bytes()[1..]);
            message.extend_from_slice(data);
        }
        message
    };
    rig.video(0, &many(0, &[(1, HVCC), (0, HVCC)]));
    rig.video(0, &many(3, &[(1, HEVC_P), (0, HEVC_IDR), (2, HEVC_P)]));
    assert_eq!(rig.coded().len(), 1);
    assert_eq!(rig.coded()[0].data, HEVC_IDR);
    let tracks: Vec<(u8, &[u8])> = (1..31).map(|track| (track, HEVC_P)).collect();
    rig.video(40, &many(3, &tracks));
    let listed = listed(&rig, TrackKind::Video);
    assert_eq!(
        listed[1],
        (1, "H.265 Main", [Some(160), Some(90), None, None, None])
    );
    assert_eq!(
        listed[2],
        (2, "H.265", [None; 5]),
        "no sequence header came"
    );
    assert_eq!(listed.len(), 1 + 16);
}

#[test]
fn track_that_is_not_played_is_listed_anew_when_it_changes() {
    let mut rig = Rig::new();
    let audio = |packet_type: u8, four_cc: &[u8; 4], data: &[u8]| {
        // Multitrack, one track: number 3.
        [&[0x95, packet_type], &four_cc[..], &[3], data].concat()
    };
    rig.audio(0, &audio(1, b".mp3", &[0xff, 0xfb, 0x90, 0x44, 0, 0]));
    let sound = |rate, channels| [None, None, None, Some(rate), Some(channels)];
    assert_eq!(
        listed(&rig, TrackKind::Audio),
        [(3, "MP3", sound(44_100, 2))]
    );
    rig.audio(0, &audio(0, b"mp4a", &[0x11, 0x90]));
    let expected = [(3, "AAC-LC", sound(48_000, 2))];
    assert_eq!(listed(&rig, TrackKind::Audio), expected);
    let told = |rig: &Rig| {
        let outputs = rig.outputs.iter();
        outputs
            .filter(|it| matches!(it, IngestOutput::Info(_)))
            .count()
    };
    let before = told(&rig);
    rig.audio(20, &audio(0, b"mp4a", &[0x11, 0x90]));
    rig.audio(40, &audio(1, b"mp4a", &[0x21, 0x22]));
    assert_eq!(listed(&rig, TrackKind::Audio), expected);
    assert_eq!(told(&rig), before, "no news");
}

#[test]
fn nanoseconds_are_added_and_time_never_goes_back() {
    let mut rig = Rig::new();
    let message = |nanoseconds: u32, first: u8, rest: &[u8]| {
        let [_, a, b, c] = nanoseconds.to_be_bytes();
        let mut message = vec![(first & 0xf0) | 7, 2, a, b, c, first & 0x0f];
        message.extend(b"hvc1");
        message.extend(rest);
        message
    };
    rig.video(0, &message(0, 0x90, HVCC));
    rig.video(0, &message(0, 0x93, HEVC_IDR));
    rig.video(40, &message(666_999, 0xa3, HEVC_P));
    rig.video(40, &message(1_000, 0xa3, HEVC_P));
    let micros: Vec<_> = rig.coded().iter().map(|it| it.dts.as_micros()).collect();
    assert_eq!(micros, [0, 40_666, 40_678]);
    rig.audio(40, b"\x97\x02\x01\x00\x00\x01Opus\x78");
    rig.audio(60, b"\x91Opus\x78");
    let micros: Vec<_> = rig.units().iter().map(|it| it.pts.as_micros()).collect();
    assert_eq!(micros, [40_065, 60_000]);
}

fn any_coded_message() -> impl Strategy<Value = (bool, u32, Vec<u8>)> {
    let start = prop::sample::select(vec![
        hevc(0x90, HVCC),
        hevc(0x93, HEVC_IDR),
        hevc(0xa3, HEVC_P),
        b"\x91hvc1\0\0".to_vec(),
        b"\x90av01\x81\0\x0c\0".to_vec(),
        b"\x91av01\x12\0".to_vec(),
        b"\x91vp09\x82\x49\x83\x42".to_vec(),
        b"\x91vp08\x70\x43\0\x9d\x01\x2a".to_vec(),
        b"\x96\x11hvc1\0\0\0\x05".to_vec(),
        vec![0x12, 0, 0, 0x84],
        vec![0x14, 0],
        record(SPS, PPS),
        access_unit(0, &[IDR]),
        b"\x90fLaC".to_vec(),
        b"\x91Opus".to_vec(),
        vec![0x2f, 0xff, 0xfb],
        vec![0x3e],
    ]);
    let noise = proptest::collection::vec(any::<u8>(), 0..20);
    (any::<bool>(), 0_u32..5_000, start, noise).prop_map(|(video, at, start, noise)| {
        let is_video = video || start.first() == Some(&0x17);
        (is_video, at, [start, noise].concat())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_comes_each_codec_begins_with_its_configuration_and_a_keyframe(
        messages in proptest::collection::vec(any_coded_message(), 0..40)
    ) {
        let mut rig = Rig::new();
        for (is_video, at, message) in messages {
            match is_video {
                true => rig.video(at, &message),
                false => rig.audio(at, &message),
            }
        }
        let (mut codec, mut fresh, mut last) = (None, false, None);
        for output in &rig.outputs {
            let (frame_codec, key, dts) = match output {
                IngestOutput::VideoConfig(config) => {
                    (codec, fresh) = (Some(config.codec), true);
                    continue;
                }
                IngestOutput::Video(frame) => (Some(VideoCodec::Avc), frame.key, frame.dts),
                IngestOutput::Coded(frame) => {
                    prop_assert!(!frame.data.is_empty());
                    (codec, frame.key, frame.dts)
                }
                IngestOutput::AudioConfig(_)
                | IngestOutput::Audio(_)
                | IngestOutput::Info(_)
                | IngestOutput::Warning(_)
                | IngestOutput::Verdict(_) => continue,
            };
            prop_assert!(codec.is_some() && frame_codec == codec);
            prop_assert!(key || !fresh, "begins with a keyframe");
            prop_assert!(last < Some(dts));
            (fresh, last) = (false, Some(dts));
        }
    }
}
