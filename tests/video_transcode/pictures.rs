//! What comes out: which pictures, when, and how they look.

use std::sync::Arc;
use std::time::Duration;

use rtmpeer::media::avc::{
    DecoderConfig, NalLengthSize, NalUnits, SliceHeader, SpsInfo, is_recovery_point,
};
use rtmpeer::media::codec::{CodedFrame, VideoCodec};
use rtmpeer::media::frame::VideoFrame;
use rtmpeer::media::time::MediaTime;
use rtmpeer::messages::{VideoMsg, VideoReply};
use rtmpeer::runtime::now;
use rtmpeer::transcode::video::VideoSettings;

use crate::video::{self, KitVideo, PUBLISHER, SourceVideo, b_frames};
use crate::{PATIENCE, QUIET, feed};

#[test]
fn every_frame_comes_out_at_its_time_and_in_order() {
    let source = b_frames();
    let video = KitVideo::start(VideoSettings::default());
    video.open(&source);
    for frame in &source.frames {
        video.frame(frame, false);
    }
    let frames = video.all_frames(PATIENCE, QUIET);
    // Some are still in the decoder, since the input goes on: as many as it reorders.
    let expected = source.times();
    let times: Vec<_> = frames.iter().map(|frame| frame.pts).collect();
    assert!(expected.len() - times.len() <= 3, "{} frames", times.len());
    assert_eq!(times, expected[..times.len()]);
    for frame in &frames {
        assert_eq!(frame.dts, frame.pts);
        assert!(!is_bidirectional(frame));
        assert_eq!(frame.key, frame.parameter_sets.is_some());
    }
    let keys: Vec<_> = frames
        .iter()
        .filter(|frame| frame.key)
        .map(|frame| frame.pts.as_millis() - frames[0].pts.as_millis())
        .collect();
    assert_eq!(keys, [0, 2_000]);
}

#[test]
fn every_codec_that_rtmp_carries_comes_out_as_h264() {
    const X264: &str = "-c:v libx264 -preset ultrafast -bf 2";
    const VPX: &str = "-deadline realtime -cpu-used 8";
    const X265: &str = "-c:v libx265 -preset ultrafast -x265-params log-level=error:bframes=3";
    for (codec, name, options) in [
        (
            VideoCodec::Avc,
            "yuv444",
            &*format!("{X264} -pix_fmt yuv444p"),
        ),
        (
            VideoCodec::Avc,
            "yuv422p10",
            &format!("{X264} -pix_fmt yuv422p10le"),
        ),
        (
            VideoCodec::Avc,
            "interlaced",
            &format!("{X264} -flags +ildct+ilme -pix_fmt yuv420p"),
        ),
        (
            VideoCodec::Hevc,
            "hevc10",
            &format!("{X265} -pix_fmt yuv420p10le"),
        ),
        (VideoCodec::Av1, "av1", "-c:v libsvtav1 -preset 12"),
        (VideoCodec::Vp9, "vp9", &format!("-c:v libvpx-vp9 {VPX}")),
        (VideoCodec::Vp8, "vp8", &format!("-c:v libvpx {VPX}")),
        (VideoCodec::SorensonH263, "flv1", "-c:v flv"),
        (VideoCodec::ScreenVideo, "flashsv", "-c:v flashsv"),
        (VideoCodec::ScreenVideo2, "flashsv2", "-c:v flashsv2"),
    ] {
        let mut source = video::source(codec, name, "176x144", 25, 2, &format!("{options} -g 25"));
        // Not every sequence header tells it.
        Arc::make_mut(&mut source.config).size = None;
        assert_eq!(source.frames.len(), 50, "{name}");
        let video = KitVideo::start(VideoSettings::default());
        video.open(&source);
        for frame in &source.frames {
            video.frame(frame, false);
        }
        // The decoder and the deinterlacer keep some back, since the input goes on.
        let mut expected = source.times();
        expected.truncate(46);
        let frames: Vec<_> = (0..46).map_while(|_| video.reply(PATIENCE)).collect();
        let times: Vec<_> = frames.iter().filter_map(shown).collect();
        assert_eq!(times, expected, "{name}");
    }
}

#[test]
fn what_ffmpeg_keeps_back_comes_out_when_the_publish_ends() {
    let source = b_frames();
    let video = KitVideo::start(VideoSettings::default());
    video.open(&source);
    for frame in &source.frames {
        video.frame(frame, false);
    }
    video.send(VideoMsg::Finish {
        publisher: PUBLISHER,
    });
    let mut times = Vec::new();
    loop {
        match video.reply(PATIENCE) {
            Some(VideoReply::Frame { frame, .. }) => times.push(frame.pts),
            Some(VideoReply::Finished { .. }) => break,
            other => panic!("{other:?} after {} pictures", times.len()),
        }
    }
    assert_eq!(times, source.times());
}

fn shown(reply: &VideoReply) -> Option<MediaTime> {
    match reply {
        VideoReply::Frame { frame, .. } => Some(frame.pts),
        VideoReply::Restart { .. } | VideoReply::Finished { .. } | VideoReply::Failed { .. } => {
            None
        }
    }
}

#[test]
fn pixels_that_are_not_square_turned_pictures_and_odd_sizes_become_what_browsers_show_right() {
    let square = |source: &SourceVideo, settings| {
        let video = KitVideo::start(settings);
        video.open(source);
        for frame in &source.frames {
            video.frame(frame, false);
        }
        let Some(VideoReply::Frame { frame, .. }) = video.reply(PATIENCE) else {
            panic!("no frame");
        };
        SpsInfo::parse(&frame.parameter_sets.unwrap().nal_units[0])
            .unwrap()
            .size
    };
    let x264 = "-c:v libx264 -preset ultrafast -bf 2";
    let wide = format!("{x264} -pix_fmt yuv420p -vf setsar=16/11");
    let wide = video::source(VideoCodec::Avc, "sar", "176x144", 25, 1, &wide);
    assert_eq!(square(&wide, VideoSettings::default()), Some((256, 144)));
    let odd = format!("{x264} -pix_fmt yuv444p");
    let odd = video::source(VideoCodec::Avc, "odd", "177x145", 25, 1, &odd);
    assert_eq!(square(&odd, VideoSettings::default()), Some((176, 144)));
    let small = VideoSettings {
        height_max: 90,
        ..VideoSettings::default()
    };
    assert_eq!(square(&b_frames(), small.clone()), Some((160, 90)));
    let turned = format!(
        "{x264} -pix_fmt yuv420p -bsf:v h264_metadata=display_orientation=insert:rotate=90"
    );
    let turned = video::source(VideoCodec::Avc, "turned", "320x180", 25, 1, &turned);
    assert_eq!(square(&turned, VideoSettings::default()), Some((180, 320)));
    let upright = format!("{x264} -pix_fmt yuv420p");
    let upright = video::source(VideoCodec::Avc, "upright", "180x320", 25, 1, &upright);
    assert_eq!(square(&upright, small), Some((90, 160)));
}

#[test]
fn another_picture_size_within_the_stream_is_followed() {
    let source = b_frames();
    let other = video::source(
        VideoCodec::Avc,
        "other",
        "160x120",
        30,
        2,
        video::X264_B_FRAMES,
    );
    let sets = DecoderConfig::parse(&other.config.record)
        .unwrap()
        .parameter_sets;
    let video = KitVideo::start(VideoSettings::default());
    video.open(&source);
    let first = feed(&video, &source, 0..60);
    assert!(first.len() >= 57);
    let end = source.frames[70].dts;
    for frame in &other.frames {
        let mut data = Vec::new();
        for set in sets.iter().filter(|_| frame.key) {
            data.extend_from_slice(&u32::try_from(set.len()).unwrap().to_be_bytes());
            data.extend_from_slice(set);
        }
        data.extend_from_slice(&frame.data);
        let moved = CodedFrame {
            pts: frame.pts.plus(end),
            dts: frame.dts.plus(end),
            data: data.into(),
            ..frame.clone()
        };
        video.frame(&moved, false);
    }
    let frames: Vec<_> = (0..57).map_while(|_| video.reply(PATIENCE)).collect();
    let sizes = frames.iter().filter_map(|reply| match reply {
        VideoReply::Frame { frame, .. } => {
            let sets = frame.parameter_sets.as_ref()?;
            SpsInfo::parse(&sets.nal_units[0]).unwrap().size
        }
        other => panic!("{other:?}"),
    });
    assert_eq!(sizes.last(), Some((160, 120)));
    assert_eq!(video.counters.restarts.get(), 0);
}

#[test]
fn a_frame_tells_when_its_source_was_received() {
    let source = b_frames();
    let video = KitVideo::start(VideoSettings::default());
    let before = now();
    video.open(&source);
    for frame in &source.frames {
        video.frame(frame, false);
    }
    let after = now();
    let frames = video.all_frames(PATIENCE, QUIET);
    assert!(frames.len() > 100);
    assert!(
        frames
            .iter()
            .all(|frame| (before..=after).contains(&frame.received))
    );
    let received: Vec<_> = frames
        .iter()
        .filter(|frame| !frame.key)
        .map(|frame| frame.received)
        .collect();
    assert!(received.windows(2).any(|pair| pair[0] < pair[1]));
}

#[test]
fn cached_frames_are_only_decoded_and_what_follows_begins_with_a_keyframe() {
    let source = b_frames();
    let video = KitVideo::start(VideoSettings::default());
    video.open(&source);
    for (index, frame) in source.frames[..60].iter().enumerate() {
        video.frame(frame, index < 50);
    }
    let Some(VideoReply::Frame { frame: first, .. }) = video.reply(PATIENCE) else {
        panic!("no frame");
    };
    assert!(first.key);
    assert_eq!(
        first.pts, source.frames[50].pts,
        "what was newest comes first"
    );
    // What came while it decoded the cache is past, and mostly left out; then nothing is.
    for frame in &source.frames[60..] {
        video.frame(frame, false);
    }
    let times: Vec<_> = video.frames(QUIET).iter().map(|frame| frame.pts).collect();
    assert!(times.is_sorted() && times[0] > first.pts);
    let mut live: Vec<_> = source.frames[60..].iter().map(|frame| frame.pts).collect();
    live.sort_unstable();
    let shown = live.iter().filter(|time| times.contains(time)).count();
    assert!(shown >= live.len() - 3, "{shown} of {}", live.len());
    assert!(times.len() < shown + 8, "{} more", times.len() - shown);
}

#[test]
fn a_requested_keyframe_comes_before_the_next_regular_one() {
    let source = b_frames();
    let video = KitVideo::start(VideoSettings::default());
    video.open(&source);
    let mut frames = feed(&video, &source, 0..30);
    // Keyframes are not made more often than twice a second.
    let first = now();
    while now() < first + Duration::from_millis(600) {
        frames.extend(video.frames(Duration::from_millis(50)));
    }
    for _ in 0..3 {
        video.send(VideoMsg::Keyframe {
            publisher: PUBLISHER,
        });
    }
    frames.extend(feed(&video, &source, 30..60));
    frames.extend(video.frames(QUIET));
    let keys: Vec<_> = frames.iter().filter(|frame| frame.key).collect();
    assert_eq!(keys.len(), 2, "the first and the requested one");
    assert_eq!(keys[1].pts, source.frames[30].pts);
}

fn is_bidirectional(frame: &VideoFrame) -> bool {
    frame.nal_units.iter().any(|range| {
        let unit = &frame.data[range.clone()];
        SliceHeader::parse(unit).is_ok_and(|slice| slice.bidirectional)
    })
}

/// Streams that have one keyframe, or none: what the cache keeps of them begins at a recovery point.
#[test]
fn streams_without_keyframes_are_decoded_from_a_recovery_point() {
    for (name, options) in [
        ("refresh", "-bf 0 -x264-params intra-refresh=1:keyint=30"),
        (
            "open-gop",
            "-bf 2 -x264-params open-gop=1:keyint=30:scenecut=0",
        ),
        (
            "open-gop-3",
            "-bf 3 -x264-params open-gop=1:keyint=30:scenecut=0",
        ),
    ] {
        let options = format!("-c:v libx264 -preset veryfast -pix_fmt yuv420p {options}");
        let source = video::source(VideoCodec::Avc, name, "320x180", 30, 5, &options);
        let recovers = |frame: &CodedFrame| {
            let units = NalUnits::new(&frame.data, 0, NalLengthSize::Four);
            let units: Vec<_> = units.map(|range| &frame.data[range.unwrap()]).collect();
            let has = |kind: u8| units.iter().any(|unit| unit[0] & 0x1f == kind);
            has(6) && !has(5) && units.iter().any(|unit| is_recovery_point(unit))
        };
        let points: Vec<_> = (0..source.frames.len())
            .filter(|&index| recovers(&source.frames[index]))
            .collect();
        let (from, shown_from) = (points[0], points[1] + 15);
        let video = KitVideo::start(VideoSettings::default());
        video.open(&source);
        let newest = source.frames[shown_from].pts;
        let (mut live, mut times) = (Vec::new(), Vec::new());
        for (index, frame) in source.frames.iter().enumerate().skip(from) {
            let past = index < shown_from && frame.pts < newest;
            if past && frame.disposable {
                continue;
            }
            if index > shown_from + 4 {
                live.push(frame.pts);
            }
            let frame = CodedFrame {
                key: index == from,
                ..frame.clone()
            };
            video.frame(&frame, past);
            if index == shown_from + 4 {
                // Until then it catches up, and does not show all that comes meanwhile.
                times.extend(video.reply(PATIENCE).as_ref().and_then(shown));
                assert_eq!(times.len(), 1, "{name}");
            }
        }
        times.extend(video.frames(QUIET).iter().map(|frame| frame.pts));
        assert!(times.is_sorted(), "{name}: {times:?}");
        live.sort_unstable();
        // Some are still in the decoder, since the input goes on.
        let shown = live.iter().filter(|time| times.contains(time)).count();
        assert!(shown + 4 >= live.len(), "{name}: {shown} of {}", live.len());
    }
}
