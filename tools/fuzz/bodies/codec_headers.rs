//! FLV tags of several tracks, and the records and headers of every codec but H.264 and AAC, all
//! over the same bytes.
use bytes::Bytes;
use rtmpeer::media::audio_header::{Sound, flac_format, flac_header};
use rtmpeer::media::av1::{self, Av1Config};
use rtmpeer::media::avc::NalLengthSize;
use rtmpeer::media::codec::VideoCodec;
use rtmpeer::media::flv::{AudioBody, AudioTags, VideoBody, VideoTags};
use rtmpeer::media::hevc::{HevcConfig, HevcUnit};
use rtmpeer::media::picture_header;

/// Codecs whose keyframes say their size.
const CODECS: [VideoCodec; 6] = [
    VideoCodec::Vp9,
    VideoCodec::Vp8,
    VideoCodec::Vp6,
    VideoCodec::Vp6Alpha,
    VideoCodec::SorensonH263,
    VideoCodec::ScreenVideo,
];

/// One input.
pub fn fuzz(data: &[u8]) {
    tags(data);
    pictures(data);
    sounds(data);
}

fn tags(data: &[u8]) {
    let mut end = 0;
    for tag in VideoTags::new(data).flatten() {
        assert!(tag.nanoseconds < 1_000_000);
        if let VideoBody::Config { data: range, .. } | VideoBody::Frame { data: range, .. } =
            tag.body
        {
            assert!(range.start > end && data.get(range.clone()).is_some());
            end = range.end;
        }
    }
    let mut end = 0;
    for tag in AudioTags::new(data).flatten() {
        assert!(tag.nanoseconds < 1_000_000);
        if let AudioBody::Config { data: range, .. } | AudioBody::Packet { data: range, .. } =
            tag.body
        {
            assert!(range.start > end && data.get(range.clone()).is_some());
            end = range.end;
        }
    }
}

fn pictures(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let mut sizes = vec![av1::frame_size(data)];
    sizes.push(Av1Config::parse(data).and_then(|it| it.size));
    sizes.push(HevcConfig::parse(data).and_then(|it| it.sps.map(|sps| sps.size)));
    for size in [NalLengthSize::One, NalLengthSize::Two, NalLengthSize::Four] {
        let unit = HevcUnit::scan(&bytes, size).unwrap_or_default();
        sizes.push(unit.sps.map(|sps| sps.size));
    }
    let adjustment = data.first().copied().unwrap_or_default();
    for codec in CODECS {
        sizes.push(picture_header::frame_size(codec, data, adjustment));
    }
    for (width, height) in sizes.into_iter().flatten() {
        assert!((1..=8_192).contains(&width) && (1..=8_192).contains(&height));
    }
    assert!(av1::temporal_delimiter_bytes(data) <= data.len());
}

fn sounds(data: &[u8]) {
    let header = flac_header(&Bytes::copy_from_slice(data));
    if let Some(header) = &header {
        assert!(flac_format(header).is_some());
        assert_eq!(flac_header(header).as_ref(), Some(header));
    }
    for sound in [
        Sound::of_mp3(data),
        Sound::of_ac3(data),
        Sound::of_opus_header(data),
        Sound::of_opus_packet(data),
        header.and_then(|it| Sound::of_flac(&it)),
    ]
    .into_iter()
    .flatten()
    {
        assert!(sound.rate > 0 && sound.channels > 0);
        assert!(!sound.to_string().is_empty());
    }
}
