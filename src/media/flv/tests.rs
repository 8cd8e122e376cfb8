//! Tests of tag headers, byte by byte.

use proptest::prelude::*;

use super::*;

fn video(message: &[u8]) -> Result<Vec<VideoTag>, FlvError> {
    VideoTags::new(message).collect()
}

fn audio(message: &[u8]) -> Result<Vec<AudioTag>, FlvError> {
    AudioTags::new(message).collect()
}

/// The one tag of a video message of track 0 without an offset.
fn video_body(message: &[u8]) -> Result<VideoBody, FlvError> {
    let tags = video(message)?;
    let [tag] = <[VideoTag; 1]>::try_from(tags).unwrap();
    assert_eq!((tag.track, tag.nanoseconds), (0, 0));
    Ok(tag.body)
}

fn audio_body(message: &[u8]) -> Result<AudioBody, FlvError> {
    let tags = audio(message)?;
    let [tag] = <[AudioTag; 1]>::try_from(tags).unwrap();
    assert_eq!((tag.track, tag.nanoseconds), (0, 0));
    Ok(tag.body)
}

fn frame(codec: VideoCodec, key: bool, time: i32, data: Range<usize>) -> VideoBody {
    VideoBody::Frame {
        codec,
        key,
        composition_time_ms: time,
        data,
    }
}

fn config(codec: VideoCodec, data: Range<usize>) -> VideoBody {
    VideoBody::Config { codec, data }
}

#[test]
fn legacy_avc_sequence_header_begins_after_five_bytes() {
    let body = video_body(&[0x17, 0, 0, 0, 0, 1, 0x64]);
    assert_eq!(body, Ok(config(VideoCodec::Avc, 5..7)));
}

#[test]
fn composition_time_is_signed() {
    for (bytes, expected) in [
        ([0x00, 0x00, 0x21], 33),
        ([0xff, 0xff, 0xff], -1),
        ([0x7f, 0xff, 0xff], 8_388_607),
        ([0x80, 0x00, 0x00], -8_388_608),
    ] {
        let [a, b, c] = bytes;
        let body = video_body(&[0x27, 1, a, b, c]);
        assert_eq!(body, Ok(frame(VideoCodec::Avc, false, expected, 5..5)));
    }
}

#[test]
fn short_messages_are_errors() {
    assert_eq!(video(&[]), Err(FlvError::Empty));
    assert_eq!(audio(&[]), Err(FlvError::Empty));
    for short in [
        &[0x17][..],
        &[0x1c],
        &[0x17, 1],
        &[0x17, 1, 0, 0],
        &[0x91, b'a', b'v'],
        b"\x91hvc1\0\0",
        &[0x97],
        &[0x97, 0, 0],
        &[0x96],
        b"\x96\x00hvc1",
        b"\x96\x10hvc1",
        b"\x96\x11hvc1\x00\0\0",
        b"\x96\x11hvc1\x00\0\0\x01",
        b"\x96\x21hvc",
    ] {
        assert_eq!(video(short), Err(FlvError::Truncated), "{short:?}");
    }
    for short in [&[0xaf][..], &[0x90], &[0x90, b'm', b'p', b'4'], &[0x95]] {
        assert_eq!(audio(short), Err(FlvError::Truncated), "{short:?}");
    }
}

#[test]
fn every_legacy_video_codec_is_known() {
    for (number, codec) in [
        (2, VideoCodec::SorensonH263),
        (3, VideoCodec::ScreenVideo),
        (4, VideoCodec::Vp6),
        (5, VideoCodec::Vp6Alpha),
        (6, VideoCodec::ScreenVideo2),
    ] {
        let body = |first: u8| video_body(&[first | number, 1, 2, 3]);
        assert_eq!(body(0x10), Ok(frame(codec, true, 0, 1..4)));
        assert_eq!(body(0x20), Ok(frame(codec, false, 0, 1..4)));
        assert_eq!(body(0x30), Ok(frame(codec, false, 0, 1..4)), "disposable");
        assert_eq!(body(0x40), Ok(frame(codec, true, 0, 1..4)), "generated");
        assert_eq!(body(0x50), Ok(VideoBody::NoMedia), "command");
        assert_eq!(
            video_body(&[0x10 | number]),
            Ok(frame(codec, true, 0, 1..1))
        );
    }
    for (number, codec) in [(12, VideoCodec::Hevc), (13, VideoCodec::Av1)] {
        let tag = [0x10 | number, 0, 0, 0, 0, 1];
        assert_eq!(video_body(&tag), Ok(config(codec, 5..6)));
        let tag = [0x20 | number, 1, 0, 0, 9, 1];
        assert_eq!(video_body(&tag), Ok(frame(codec, false, 9, 5..6)));
    }
}

#[test]
fn enhanced_video_packet_types_are_told_apart() {
    for (code, codec, has_time) in [
        (b"avc1", VideoCodec::Avc, true),
        (b"hvc1", VideoCodec::Hevc, true),
        (b"hev1", VideoCodec::Hevc, true),
        (b"av01", VideoCodec::Av1, false),
        (b"vp09", VideoCodec::Vp9, false),
        (b"vp08", VideoCodec::Vp8, false),
    ] {
        let body = |first: u8, rest: &[u8]| {
            let message = [&[first], &code[..], rest].concat();
            video_body(&message)
        };
        assert_eq!(body(0x90, &[1]), Ok(config(codec, 5..6)), "SequenceStart");
        let expected = match has_time {
            true => frame(codec, false, -2, 8..9),
            false => frame(codec, false, 0, 5..9),
        };
        assert_eq!(body(0xa1, &[0xff, 0xff, 0xfe, 0]), Ok(expected));
        let expected = frame(codec, true, 0, 5..6);
        assert_eq!(body(0x93, &[0]), Ok(expected), "CodedFramesX");
        assert_eq!(body(0x92, &[]), Ok(VideoBody::NoMedia), "SequenceEnd");
        assert_eq!(body(0xd4, &[2]), Ok(VideoBody::NoMedia), "Metadata");
        assert_eq!(body(0x95, &[]), Ok(VideoBody::TransportStream));
        assert_eq!(body(0x98, &[]), Err(FlvError::PacketType(8)));
        assert_eq!(body(0xd0, &[0]), Ok(VideoBody::NoMedia), "command");
    }
}

#[test]
fn nanoseconds_come_from_modifiers_and_others_are_skipped() {
    let tags = video(b"\x97\x02\x01\x02\x03\x00avc1\x01").unwrap();
    assert_eq!(tags[0].nanoseconds, 0x01_0203);
    assert_eq!(tags[0].body, config(VideoCodec::Avc, 10..11));
    let tags = video(b"\x97\x02\xff\xff\xff\x00avc1\x01").unwrap();
    assert_eq!(tags[0].nanoseconds, 999_999, "never a millisecond");
    // Another kind, then one that is too short.
    let tags = video(b"\x97\x02\x01\x02\x03\x17\x00\xff\x00avc1\x01").unwrap();
    assert_eq!(tags[0].nanoseconds, 0);
    let mut long = vec![0x97, 0xff, 0x01, 0x00];
    long.extend([0; 257]);
    long.extend(b"\x10avc1");
    assert_eq!(video_body(&long), Ok(config(VideoCodec::Avc, 266..266)));
    let endless = [0x97, 0, 0, 7, 0, 0, 7, 0, 0, 7, 0, 0, 7, 0, 0, 7];
    assert_eq!(video(&endless), Err(FlvError::Modifiers));
    let tags = audio(b"\x97\x02\x00\x00\x09\x01Opus\x01").unwrap();
    assert_eq!(tags[0].nanoseconds, 9);
}

#[test]
fn one_track_has_no_size() {
    let tags = video(b"\x96\x00hvc1\x01\xaa\xbb").unwrap();
    assert_eq!(tags.len(), 1);
    assert_eq!(tags[0].track, 1);
    assert_eq!(tags[0].body, config(VideoCodec::Hevc, 7..9));
}

#[test]
fn many_tracks_of_one_codec_follow_each_other() {
    let tags = video(b"\xa6\x11hvc1\x00\0\0\x04\0\0\x05X\x02\0\0\x03\0\0\0").unwrap();
    assert_eq!(tags.len(), 2);
    assert_eq!(tags[0].track, 0);
    assert_eq!(tags[0].body, frame(VideoCodec::Hevc, false, 5, 13..14));
    assert_eq!(tags[1].track, 2);
    assert_eq!(tags[1].body, frame(VideoCodec::Hevc, false, 0, 21..21));
    let tags = audio(b"\x95\x11mp4a\x00\0\0\x01\x21\x01\0\0\x00").unwrap();
    assert_eq!(tags.len(), 2);
}

#[test]
fn many_tracks_of_many_codecs_follow_each_other() {
    let message = b"\x95\x21mp4a\x00\0\0\x01\x21Opus\x01\0\0\x02\xfc\xff";
    let tags = audio(message).unwrap();
    let codec = |tag: &AudioTag| {
        let AudioBody::Packet { codec, data } = &tag.body else {
            panic!("{tag:?}");
        };
        (tag.track, *codec, data.len())
    };
    let found: Vec<_> = tags.iter().map(codec).collect();
    assert_eq!(found, [(0, AudioCodec::Aac, 1), (1, AudioCodec::Opus, 2)]);
}

#[test]
fn multitrack_is_bounded_and_not_nested() {
    assert_eq!(video(b"\x96\x06hvc1\x00"), Err(FlvError::Multitrack(6)));
    assert_eq!(video(b"\x96\x30hvc1\x00"), Err(FlvError::Multitrack(3)));
    assert_eq!(audio(b"\x95\x15mp4a"), Err(FlvError::Multitrack(0x15)));
    let mut message = b"\x96\x11hvc1".to_vec();
    message.extend([0, 0, 0, 3, 0, 0, 0].repeat(33));
    assert_eq!(VideoTags::new(&message).count(), 33);
    assert_eq!(video(&message), Err(FlvError::TooManyTracks));
}

#[test]
fn codecs_that_are_not_played_are_named() {
    let name = |bytes: &[u8]| match video_body(bytes) {
        Ok(VideoBody::Unknown(codec)) => codec.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(name(b"\x90vvc1"), "H.266 (VVC)");
    assert_eq!(name(b"\x90\x1b[2J"), "codec \"?[2J\"");
    assert_eq!(name(&[0x18]), "video codec number 8");
    let name = |bytes: &[u8]| match audio_body(bytes) {
        Ok(AudioBody::Unknown(codec)) => codec.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(name(&[0x12, 0]), "ADPCM");
    assert_eq!(name(&[0xf2, 0]), "audio codec number 15");
    assert_eq!(name(b"\x91abcd"), "codec \"abcd\"");
}

#[test]
fn every_legacy_audio_codec_is_known() {
    let codec = |first: u8| match audio_body(&[first, 1, 2]) {
        Ok(AudioBody::Packet { codec, data }) => (codec, data),
        other => panic!("{other:?}"),
    };
    for (first, expected) in [
        (0x2e, AudioCodec::Mp3),
        (0xe2, AudioCodec::Mp3),
        (0x72, AudioCodec::ALaw { channels: 1 }),
        (0x83, AudioCodec::MuLaw { channels: 2 }),
        (0xb6, AudioCodec::Speex),
        (0x42, AudioCodec::Nellymoser { rate: 16_000 }),
        (0x52, AudioCodec::Nellymoser { rate: 8_000 }),
        (0x6a, AudioCodec::Nellymoser { rate: 22_050 }),
    ] {
        assert_eq!(codec(first), (expected, 1..3), "{first:#04x}");
    }
    let pcm = |rate, channels, bits| AudioCodec::Pcm {
        rate,
        channels,
        bits,
    };
    assert_eq!(codec(0x3e).0, pcm(44_100, 1, 16));
    assert_eq!(codec(0x05).0, pcm(11_025, 2, 8));
    assert_eq!(codec(0x3a).0, pcm(22_050, 1, 16));
}

#[test]
fn aac_tags_are_told_apart() {
    let codec = AudioCodec::Aac;
    assert_eq!(
        audio_body(&[0xaf, 0, 0x11, 0x90]),
        Ok(AudioBody::Config { codec, data: 2..4 })
    );
    assert_eq!(
        audio_body(&[0xaf, 1, 0x21]),
        Ok(AudioBody::Packet { codec, data: 2..3 })
    );
    assert_eq!(
        audio_body(b"\x91mp4a\x21"),
        Ok(AudioBody::Packet { codec, data: 5..6 })
    );
    assert_eq!(audio(&[0xaf, 2]), Err(FlvError::PacketType(2)));
}

#[test]
fn enhanced_audio_packet_types_are_told_apart() {
    for (code, codec) in [
        (b"mp4a", AudioCodec::Aac),
        (b".mp3", AudioCodec::Mp3),
        (b"Opus", AudioCodec::Opus),
        (b"fLaC", AudioCodec::Flac),
        (b"ac-3", AudioCodec::Ac3),
        (b"ec-3", AudioCodec::Eac3),
    ] {
        let body = |first: u8| audio_body(&[&[first], &code[..], &[9]].concat());
        assert_eq!(body(0x90), Ok(AudioBody::Config { codec, data: 5..6 }));
        assert_eq!(body(0x91), Ok(AudioBody::Packet { codec, data: 5..6 }));
        assert_eq!(body(0x92), Ok(AudioBody::NoMedia), "SequenceEnd");
        assert_eq!(body(0x94), Ok(AudioBody::NoMedia), "MultichannelConfig");
        assert_eq!(body(0x93), Err(FlvError::PacketType(3)));
    }
}

fn any_message() -> impl Strategy<Value = Vec<u8>> {
    let start = prop::sample::select(vec![
        &b""[..],
        b"\x96\x11hvc1",
        b"\x96\x21hvc1\x00\0\0\x02ab",
        b"\x95\x11mp4a",
        b"\x97\x02\0\0\x01",
        b"\x91hvc1",
        b"\x17",
    ]);
    let noise = proptest::collection::vec(prop_oneof![Just(0), Just(1), any::<u8>()], 0..60);
    (start, noise).prop_map(|(start, noise)| [start, &noise].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn ranges_lie_in_the_message_one_after_the_other(message in any_message()) {
        let mut end = 0;
        for tag in VideoTags::new(&message).flatten() {
            prop_assert!(tag.nanoseconds < 1_000_000);
            if let VideoBody::Config { data, .. } | VideoBody::Frame { data, .. } = tag.body {
                prop_assert!(message.get(data.clone()).is_some() && data.start > end);
                end = data.end;
            }
        }
        let mut end = 0;
        for tag in AudioTags::new(&message).flatten() {
            prop_assert!(tag.nanoseconds < 1_000_000);
            if let AudioBody::Config { data, .. } | AudioBody::Packet { data, .. } = tag.body {
                prop_assert!(message.get(data.clone()).is_some() && data.start > end);
                end = data.end;
            }
        }
        prop_assert!(VideoTags::new(&message).count() <= 33);
        prop_assert!(AudioTags::new(&message).count() <= 33);
    }
}
