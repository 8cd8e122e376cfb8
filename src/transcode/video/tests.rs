//! Tests of the pure parts: the command line, Matroska, FLV, times, and in a file of its own the
//! supervisor.

mod matroska;
mod supervisor;

use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;

use super::frames::{Feed, FrameMaker, Source};
use super::*;
use crate::media::codec::{VideoCodec, VideoConfig};
use crate::media::time::MediaTime;

/// What ffmpeg 5.1 makes of 12 frames 100 ms apart of 64×48 pixels, with keyframes at 0 and 8.
const CHILD_FLV: &[u8] = include_bytes!("tests/child.flv");

fn instant() -> Instant {
    crate::runtime::now()
}

fn config(codec: VideoCodec) -> VideoConfig {
    VideoConfig {
        codec,
        record: Bytes::from_static(b"\x01record"),
        size: Some((1_280, 720)),
        sample_aspect_ratio: None,
        interlaced: false,
        reordering_told: false,
        frames_per_1000_s: Some(30_000),
    }
}

fn line(settings: &VideoSettings, config: &VideoConfig) -> String {
    arguments(settings, config, Some(2_500_000)).join(" ")
}

fn items(pieces: impl Iterator<Item = Vec<u8>>) -> Result<Vec<FlvItem>, FlvReadError> {
    let mut reader = FlvReader::default();
    let mut items = Vec::new();
    for piece in pieces {
        reader.push(&piece);
        while let Some(item) = reader.next_item()? {
            items.push(item);
        }
    }
    Ok(items)
}

#[test]
fn the_measured_command_line_is_what_h264_gets() {
    let expected = "-hide_banner -nostdin -nostats -loglevel warning \
        -copyts -probesize 32 -analyzeduration 0 -fpsprobesize 0 -protocol_whitelist pipe \
        -f matroska -threads 1 -i pipe:0 -map 0:v:0 -fps_mode passthrough -filter_threads 2 \
        -vf select='not(eq(mod(round(t*10000),10),2))',\
        scale=w='clip(trunc(iw*sar*min(1,2160/min(iw*sar,ih))/2)*2,16,4096)'\
        :h='clip(trunc(ih*min(1,2160/min(iw*sar,ih))/2)*2,16,4096)',setsar=1 \
        -c:v libx264 -preset superfast -tune zerolatency -pix_fmt yuv420p -threads 2 \
        -x264-params scenecut=0:keyint=600 -b:v 2500000 -maxrate 2500000 -bufsize 2500000 \
        -enc_time_base 1:10000 \
        -force_key_frames expr:if(isnan(prev_forced_t),1,gte(t,prev_forced_t+1.9995))\
        +eq(mod(round(t*10000),10),1) \
        -flush_packets 1 -f flv -flvflags no_duration_filesize pipe:1";
    assert_eq!(
        line(&VideoSettings::default(), &config(VideoCodec::Avc)),
        expected
    );
}

#[test]
fn every_encoder_is_told_to_keep_nothing_back() {
    let with = |encoder| {
        let settings = VideoSettings {
            encoder,
            ..VideoSettings::default()
        };
        line(&settings, &config(VideoCodec::Avc))
    };
    for (encoder, options) in [
        (VideoEncoder::X264, "-preset superfast -tune zerolatency"),
        (
            VideoEncoder::Nvenc,
            "-c:v h264_nvenc -preset p4 -tune ull -zerolatency 1 -delay 0 -rc cbr -bf 0 \
             -no-scenecut 1 -forced-idr 1 -pix_fmt yuv420p -g 600",
        ),
        (
            VideoEncoder::Vaapi,
            "-c:v h264_vaapi -rc_mode CBR -bf 0 -async_depth 1 -g 600",
        ),
        (
            VideoEncoder::Qsv,
            "-c:v h264_qsv -preset veryfast -async_depth 1 -bf 0 -look_ahead 0 -forced_idr 1 \
             -pix_fmt nv12 -g 600",
        ),
        (
            VideoEncoder::V4l2,
            "-c:v h264_v4l2m2m -num_capture_buffers 16 -bf 0 -pix_fmt yuv420p -g 600",
        ),
        (
            VideoEncoder::OpenH264,
            "-c:v libopenh264 -rc_mode bitrate -allow_skip_frames 0 -pix_fmt yuv420p -g 600",
        ),
    ] {
        let line = with(encoder);
        assert!(line.contains(options), "{line}");
        assert!(line.contains("-enc_time_base 1:10000"), "{line}");
    }
    let vaapi = with(VideoEncoder::Vaapi);
    assert!(vaapi.contains("-init_hw_device vaapi=card:/dev/dri/renderD128"));
    assert!(vaapi.contains("setsar=1,format=nv12,hwupload "));
}

#[test]
fn only_interlaced_video_is_deinterlaced() {
    let mut config = config(VideoCodec::Avc);
    assert!(!line(&VideoSettings::default(), &config).contains("yadif"));
    config.interlaced = true;
    assert!(
        line(&VideoSettings::default(), &config)
            .contains(",yadif=mode=send_frame:deint=interlaced,scale")
    );
}

#[test]
fn frames_are_left_out_only_of_a_stream_that_may_be_too_fast() {
    let settings = VideoSettings {
        frame_rate_max: 30,
        ..VideoSettings::default()
    };
    let mut config = config(VideoCodec::Avc);
    assert!(!line(&settings, &config).contains("prev_selected_t"));
    for fast in [Some(60_000), None] {
        config.frames_per_1000_s = fast;
        assert!(line(&settings, &config).contains("gte(t-prev_selected_t,0.0313)"));
    }
}

#[test]
fn the_bitrate_follows_the_input_up_to_the_cap() {
    let settings = VideoSettings {
        bitrate_max: 4_000_000,
        ..VideoSettings::default()
    };
    let of = |codec, bit_rate| command::output_bit_rate(&settings, &config(codec), bit_rate);
    assert_eq!(of(VideoCodec::Avc, Some(2_000_000)), 2_000_000);
    assert_eq!(of(VideoCodec::Hevc, Some(1_500_000)), 3_000_000);
    assert_eq!(of(VideoCodec::Avc, Some(u32::MAX)), 4_000_000);
    assert_eq!(of(VideoCodec::Avc, Some(0)), 200_000);
    // 720p30 of which nothing is known but that.
    assert_eq!(of(VideoCodec::Avc, None), 2_488_320);
}

#[test]
fn a_child_s_output_is_read_whatever_pieces_it_comes_in() {
    let whole = items(std::iter::once(CHILD_FLV.to_vec())).unwrap();
    let bytes = items(CHILD_FLV.iter().map(|byte| vec![*byte])).unwrap();
    assert_eq!(whole, bytes);
    let times: Vec<u32> = whole
        .iter()
        .filter_map(|item| match item {
            FlvItem::Picture { pts_ms, .. } => Some(*pts_ms),
            FlvItem::Config(_) => None,
        })
        .collect();
    assert_eq!(times, (0..12).map(|frame| frame * 100).collect::<Vec<_>>());
}

#[test]
fn what_is_not_h264_in_flv_ends_the_reading_for_good() {
    let damaged = |at: usize, value: u8| {
        let mut bytes = CHILD_FLV.to_vec();
        bytes[at] = value;
        items(std::iter::once(bytes)).unwrap_err()
    };
    assert_eq!(damaged(0, b'G'), FlvReadError::FileHeader);
    assert_eq!(damaged(8, 10), FlvReadError::FileHeader);
    assert_eq!(damaged(13, 8), FlvReadError::TagType(8));
    assert_eq!(
        damaged(14, 0xff),
        FlvReadError::TagSize(
            0xff_0000 | u32::from(u16::from_be_bytes([CHILD_FLV[15], CHILD_FLV[16]]))
        )
    );
    assert_eq!(
        damaged(16, CHILD_FLV[16] ^ 1),
        FlvReadError::PreviousTagSize
    );
    let mut reader = FlvReader::default();
    reader.push(b"GET / HTTP/1.1");
    assert_eq!(reader.next_item(), Err(FlvReadError::FileHeader));
    reader.push(CHILD_FLV);
    assert_eq!(reader.next_item(), Err(FlvReadError::FileHeader));
}

/// Feeds sources at these times, in microseconds, and gives the milliseconds they were fed with.
fn feed_all(maker: &mut FrameMaker, times: &[i64]) -> Vec<u32> {
    let received = instant();
    let feed = |(number, pts): (usize, &i64)| {
        let source = Source {
            pts: MediaTime::from_micros(*pts),
            received: received + Duration::from_micros(number as u64),
        };
        match maker.feed(source, true) {
            Feed::At(ms) => ms,
            other @ (Feed::Late(_) | Feed::Spent) => panic!("{other:?}"),
        }
    };
    times.iter().enumerate().map(feed).collect()
}

#[test]
fn times_come_back_to_the_microsecond() {
    let mut maker = FrameMaker::new(None);
    let base = 3_600_000_123_i64;
    let times: Vec<i64> = (0..12)
        .map(|frame| base + frame * 100_000 + frame % 3 * 7)
        .collect();
    let fed = feed_all(&mut maker, &times);
    let first = fed[0];
    let mut out = Vec::new();
    for item in items(std::iter::once(CHILD_FLV.to_vec())).unwrap() {
        let item = match item {
            FlvItem::Picture {
                pts_ms,
                body,
                start,
            } => FlvItem::Picture {
                pts_ms: pts_ms + first,
                body,
                start,
            },
            config @ FlvItem::Config(_) => config,
        };
        out.extend(maker.take(item).unwrap());
    }
    assert_eq!(
        out.iter()
            .map(|frame| frame.pts.as_micros())
            .collect::<Vec<_>>(),
        times
    );
    assert!(
        out.windows(2)
            .all(|pair| pair[0].received < pair[1].received)
    );
    let keys: Vec<usize> = (0..12).filter(|at| out[*at].key).collect();
    assert_eq!(keys, [0, 8]);
    for frame in &out {
        assert_eq!(frame.parameter_sets.is_some(), frame.key);
        // x264 writes a message about itself before the first picture: slices only are passed on.
        for range in &frame.nal_units {
            assert!(matches!(frame.data[range.start] & 0x1f, 1 | 5));
        }
    }
}

#[test]
fn two_frames_of_one_millisecond_are_fed_apart() {
    let mut maker = FrameMaker::new(None);
    let fed = feed_all(&mut maker, &[0, 400, 999, 1_000]);
    assert_eq!(
        fed.iter().map(|ms| ms - fed[0]).collect::<Vec<_>>(),
        [0, 1, 2, 3]
    );
}

#[test]
fn a_time_that_flv_cannot_tell_spends_the_child() {
    let mut maker = FrameMaker::new(None);
    feed_all(&mut maker, &[0]);
    for days in [-1_i64, 13] {
        let source = Source {
            pts: MediaTime::from_millis(days * 86_400_000),
            received: instant(),
        };
        assert_eq!(maker.feed(source, true), Feed::Spent);
    }
}

/// A keyframe that says it is shown 8 s after its decoding, and then a picture as long before its own.
#[test]
fn a_time_before_what_the_child_can_be_told_is_late() {
    let mut maker = FrameMaker::new(None);
    feed_all(&mut maker, &[16_000_000]);
    let source = Source {
        pts: MediaTime::ZERO,
        received: instant(),
    };
    for encoded in [true, false] {
        assert_eq!(maker.feed(source, encoded), Feed::Late(0));
    }
}

/// Gives the child's pictures out as if they were of these milliseconds; the first of `told` is `first`'s.
fn take_all(maker: &mut FrameMaker, first: u32, told: &[u32]) -> Vec<Result<i64, FlvReadError>> {
    let all = items(std::iter::once(CHILD_FLV.to_vec())).unwrap();
    let mut told = told.iter();
    let taken = all.into_iter().filter_map(|item| match item {
        FlvItem::Picture { body, start, .. } => {
            let pts_ms = first + told.next()?;
            let item = FlvItem::Picture {
                pts_ms,
                body,
                start,
            };
            let taken = maker.take(item);
            Some(taken.map(|frame| frame.unwrap().pts.as_millis()))
        }
        FlvItem::Config(_) => maker.take(item).err().map(Err),
    });
    taken.collect()
}

#[test]
fn a_picture_that_goes_back_in_time_is_an_error() {
    let mut maker = FrameMaker::new(None);
    let fed = feed_all(&mut maker, &[0, 100_000]);
    let taken = take_all(&mut maker, fed[0], &[1, 0]);
    assert_eq!(taken, [Ok(1), Err(FlvReadError::Order)]);
}

/// As GStreamer's flvmux sends B-frames beside sound, one in four comes too late by its time.
#[test]
fn times_that_contradict_the_order_of_pictures_are_given_out_in_order() {
    let mut maker = FrameMaker::new(None);
    let ms = [0, 145, 78, 117, 140, 278, 211, 230, 256];
    let fed = feed_all(&mut maker, &ms.map(|ms| ms * 1_000));
    // The child cannot go back: it repeats what it said last.
    let told = [0, 117, 117, 140, 145, 230, 230, 256, 278];
    let expected = [0, 117, 118, 140, 145, 211, 230, 256, 278].map(Ok);
    assert_eq!(take_all(&mut maker, fed[0], &told), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..2_048), keep in 0_usize..CHILD_FLV.len()) {
        let mut child = CHILD_FLV[..keep].to_vec();
        child.extend_from_slice(&bytes);
        let _ = items(std::iter::once(bytes));
        let mut maker = FrameMaker::new(None);
        feed_all(&mut maker, &[0, 100_000, 200_000]);
        for item in items(child.chunks(100).map(<[u8]>::to_vec)).unwrap_or_default() {
            if maker.take(item).is_err() {
                break;
            }
        }
    }

    #[test]
    fn one_changed_byte_never_panics(at in 0_usize..CHILD_FLV.len(), value: u8) {
        let mut child = CHILD_FLV.to_vec();
        child[at] = value;
        let mut maker = FrameMaker::new(None);
        feed_all(&mut maker, &[0, 100_000, 200_000]);
        for item in items(std::iter::once(child)).unwrap_or_default() {
            if maker.take(item).is_err() {
                break;
            }
        }
    }
}
