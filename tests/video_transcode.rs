//! The video transcoder with the real ffmpeg: exact times, no reordering, keyframes on request,
//! frames that are only decoded, and children that die, hang or write nonsense.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test may stop where it stands"
)]

#[path = "kit/video.rs"]
mod video;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rtmpeer::media::avc::{
    DecoderConfig, NalLengthSize, NalUnits, SliceHeader, SpsInfo, is_recovery_point,
};
use rtmpeer::media::codec::{CodedFrame, VideoCodec};
use rtmpeer::media::frame::VideoFrame;
use rtmpeer::media::time::MediaTime;
use rtmpeer::messages::{VideoMsg, VideoReply};
use rtmpeer::runtime::now;
use rtmpeer::transcode::video::VideoSettings;

use video::{KitVideo, PUBLISHER, SourceVideo, b_frames};

/// Longest wait for what must happen, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(20);
/// After this long without a frame there will be none.
const QUIET: Duration = Duration::from_secs(2);

#[test]
fn every_frame_comes_out_at_its_time_and_in_order() {
    let source = b_frames();
    let video = KitVideo::start(VideoSettings::default());
    video.open(&source);
    for frame in &source.frames {
        video.frame(frame, false);
    }
    let frames = video.frames(QUIET);
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
    let frames = video.frames(QUIET);
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
    for (index, frame) in source.frames.iter().enumerate() {
        video.frame(frame, index < 50);
    }
    let frames = video.frames(QUIET);
    assert!(frames[0].key);
    let mut expected: Vec<_> = source.frames[50..].iter().map(|frame| frame.pts).collect();
    expected.sort_unstable();
    let times: Vec<_> = frames.iter().map(|frame| frame.pts).collect();
    assert_eq!(times, expected[..times.len()]);
    assert!(times.len() >= expected.len() - 3);
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

#[test]
fn a_killed_child_is_restarted_from_the_cached_frames() {
    let source = b_frames();
    let program = own_ffmpeg("kill");
    let video = KitVideo::start(settings(&program));
    video.open(&source);
    feed(&video, &source, 0..60);
    signal(child_of(&program), "KILL");
    let killed = now();
    await_restart(&video);
    assert!(killed.elapsed() < PATIENCE);
    let frames = feed(&video, &source, 0..120);
    let frames: Vec<_> = frames.into_iter().chain(video.frames(QUIET)).collect();
    assert!(frames.iter().any(|frame| frame.key));
    assert!(frames.len() >= 117, "{} frames", frames.len());
    assert_eq!(video.counters.restarts.get(), 1);
}

#[test]
fn a_stopped_child_is_killed_and_restarted() {
    let source = b_frames();
    let program = own_ffmpeg("stop");
    let video = KitVideo::start(settings(&program));
    video.open(&source);
    feed(&video, &source, 0..30);
    let child = child_of(&program);
    signal(child, "STOP");
    for frame in &source.frames[30..60] {
        video.frame(frame, false);
    }
    await_restart(&video);
    wait_until("the stopped child is gone", || !alive(child));
    assert_ne!(child_of(&program), child);
}

#[test]
fn a_program_that_says_nothing_is_replaced_within_two_seconds_and_given_up_with_words() {
    let source = b_frames();
    let program = script("mute", "exec sleep 60");
    let video = KitVideo::start(settings(&program));
    video.open(&source);
    let mut restarts = 0;
    let text = loop {
        for frame in &source.frames[..30] {
            video.frame(frame, false);
        }
        // A second of silence, a quarter to see that it does not compute, and what a busy machine
        // adds.
        match video.reply(Duration::from_millis(2_500)) {
            Some(VideoReply::Restart { .. }) => restarts += 1,
            Some(VideoReply::Failed { text, .. }) => break text,
            other => panic!("{other:?} after {restarts} restarts"),
        }
    };
    assert_eq!(restarts, 5);
    assert!(text.contains("gives none"), "{text}");
    wait_until("none is left", || children_of(&program).is_empty());
}

#[test]
fn a_program_that_prints_garbage_is_given_up_with_words() {
    let program = script("garbage", "head -c 100000 /dev/urandom; sleep 60");
    let video = KitVideo::start(settings(&program));
    video.open(&b_frames());
    let mut restarts = 0;
    let text = loop {
        match video.reply(PATIENCE).expect("a verdict") {
            VideoReply::Restart { .. } => restarts += 1,
            VideoReply::Failed {
                text, retry_after, ..
            } => {
                assert!(retry_after.is_some());
                break text;
            }
            VideoReply::Frame { .. } | VideoReply::Finished { .. } => {
                panic!("nothing can come of it")
            }
        }
    };
    assert_eq!(restarts, 5);
    assert!(text.contains("failed 5 times"), "{text}");
    assert!(text.contains("not FLV"), "{text}");
    wait_until("none is left", || children_of(&program).is_empty());
}

#[test]
fn a_missing_program_is_told_with_what_to_do() {
    let video = KitVideo::start(VideoSettings {
        ffmpeg: "no-such-ffmpeg".into(),
        ..VideoSettings::default()
    });
    video.open(&b_frames());
    let Some(VideoReply::Failed { text, .. }) = video.reply(PATIENCE) else {
        panic!("it must fail");
    };
    assert!(text.contains("apt install ffmpeg"), "{text}");
}

#[test]
fn an_encoder_that_ffmpeg_lacks_is_told_at_once() {
    let program = script("encoder", "echo \"Unknown encoder 'libx264'\" >&2; exit 1");
    let video = KitVideo::start(settings(&program));
    video.open(&b_frames());
    let Some(VideoReply::Failed { text, .. }) = video.reply(PATIENCE) else {
        panic!("it must fail");
    };
    assert!(text.contains("no encoder libx264"), "{text}");
}

#[test]
fn a_closed_stream_has_no_child() {
    let source = b_frames();
    let program = own_ffmpeg("close");
    let video = KitVideo::start(settings(&program));
    video.open(&source);
    feed(&video, &source, 0..30);
    let child = child_of(&program);
    video.send(VideoMsg::Close {
        publisher: PUBLISHER,
    });
    wait_until("the child is gone", || !alive(child));
}

#[test]
fn children_are_contained() {
    let seen = scratch("seen");
    let program = script(
        "contained",
        &format!(
            "(env; ls /proc/self/fd; cat /proc/net/dev) > {0}.part; mv {0}.part {0}; sleep 60",
            seen.display()
        ),
    );
    // What is opened without close-on-exec must not reach a child all the same.
    let open = fs::File::open("/dev/zero").unwrap();
    rustix::io::fcntl_setfd(&open, rustix::io::FdFlags::empty()).unwrap();
    let video = KitVideo::start(settings(&program));
    video.open(&b_frames());
    wait_until("it has looked around", || seen.exists());
    let child = child_of(&program);
    let status = fs::read_to_string(format!("/proc/{child}/status")).unwrap();
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    assert_eq!(
        stat_field(child, 2),
        i64::from(child),
        "a process group of its own"
    );
    let own = stat_field(std::process::id(), 16);
    assert_eq!(stat_field(child, 16), (own + 5).min(19), "niceness");
    let limits = fs::read_to_string(format!("/proc/{child}/limits")).unwrap();
    let limit = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        line[26..].split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!(limit("Max address space"), (4_u64 << 30).to_string());
    assert_eq!(limit("Max cpu time"), "60");
    assert_eq!(limit("Max open files"), "64");
    let score = fs::read_to_string(format!("/proc/{child}/oom_score_adj")).unwrap();
    assert_eq!(score.trim(), "500", "it dies before the server");
    let seen = fs::read_to_string(seen).unwrap();
    let lines = || seen.lines().map(str::trim);
    assert!(lines().any(|line| line.starts_with("PATH=")), "{seen}");
    assert!(!seen.contains("CARGO"), "{seen}");
    // The three pipes, and the folder that `ls` reads.
    let descriptors = lines().filter(|line| line.parse::<u32>().is_ok());
    assert_eq!(
        descriptors.collect::<Vec<_>>(),
        ["0", "1", "2", "3"],
        "{seen}"
    );
    if namespaces_are_allowed() {
        let names = lines().filter_map(|line| line.split_once(':')?.0.into());
        let names: Vec<&str> = names.filter(|name: &&str| !name.contains('=')).collect();
        assert_eq!(names, ["lo"], "{seen}");
    }
}

#[test]
fn children_end_with_the_thread_that_started_them() {
    let program = own_ffmpeg("orphan");
    let video = KitVideo::start(settings(&program));
    video.open(&b_frames());
    let child = child_of(&program);
    drop(video);
    wait_until("the child is gone", || !alive(child));
}

/// Whether a process without privileges may make a network namespace here.
fn namespaces_are_allowed() -> bool {
    let tried = Command::new("unshare").args(["-Un", "true"]).output();
    tried.is_ok_and(|output| output.status.success())
}

/// A field of `/proc/PID/stat`, counted from 0 after the name in parentheses (proc(5)).
fn stat_field(pid: u32, index: usize) -> i64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = stat.rsplit_once(')').unwrap().1;
    fields
        .split_whitespace()
        .nth(index)
        .unwrap()
        .parse()
        .unwrap()
}

/// Feeds frames as fast as they are taken, and gathers what comes meanwhile.
fn feed(video: &KitVideo, source: &SourceVideo, range: std::ops::Range<usize>) -> Vec<VideoFrame> {
    let count = range.len();
    for index in range {
        video.frame(&source.frames[index], false);
    }
    let mut frames = Vec::new();
    while frames.len() + 3 < count {
        match video.reply(Duration::from_secs(3)) {
            Some(VideoReply::Frame { frame, .. }) => frames.push(frame),
            Some(_) | None => break,
        }
    }
    frames
}

fn await_restart(video: &KitVideo) {
    let deadline = now() + PATIENCE;
    while now() < deadline {
        if let Some(VideoReply::Restart { .. }) = video.reply(PATIENCE) {
            return;
        }
    }
    panic!("no restart was asked for");
}

fn is_bidirectional(frame: &VideoFrame) -> bool {
    frame.nal_units.iter().any(|range| {
        let unit = &frame.data[range.clone()];
        SliceHeader::parse(unit).is_ok_and(|slice| slice.bidirectional)
    })
}

fn settings(program: &Path) -> VideoSettings {
    VideoSettings {
        ffmpeg: program.display().to_string(),
        ..VideoSettings::default()
    }
}

/// The real ffmpeg by a name of its own, so that a test knows its child.
fn own_ffmpeg(name: &str) -> PathBuf {
    let found = Command::new("sh")
        .args(["-c", "command -v ffmpeg"])
        .output()
        .unwrap();
    let real = String::from_utf8(found.stdout).unwrap();
    let link = scratch(name);
    symlink(real.trim(), &link).unwrap();
    link
}

fn script(name: &str, body: &str) -> PathBuf {
    let path = scratch(name);
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(std::process::id().to_string());
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join(format!("ffmpeg-{name}"));
    let _ = fs::remove_file(&path);
    path
}

/// Processes that run a program.
fn children_of(program: &Path) -> Vec<u32> {
    let program = program.display().to_string();
    let runs = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        line.split('\0').take(2).any(|word| word == program) && alive(*pid)
    };
    let processes = fs::read_dir("/proc").unwrap();
    processes
        .filter_map(|entry| entry.unwrap().file_name().to_string_lossy().parse().ok())
        .filter(runs)
        .collect()
}

fn child_of(program: &Path) -> u32 {
    wait_until("the child runs", || children_of(program).len() == 1);
    children_of(program)[0]
}

fn alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(')').unwrap().1.starts_with(" Z"))
}

fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline: Instant = now() + PATIENCE;
    while !done() {
        assert!(now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::yield_now();
    }
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
        let mut expected = Vec::new();
        for (index, frame) in source.frames.iter().enumerate().skip(from) {
            let past = index < shown_from && frame.pts < newest;
            if !past {
                expected.push(frame.pts);
            }
            let frame = CodedFrame {
                key: index == from,
                ..frame.clone()
            };
            video.frame(&frame, past);
        }
        let frames = video.frames(QUIET);
        let times: Vec<_> = frames.iter().map(|frame| frame.pts).collect();
        expected.sort_unstable();
        assert!(
            times.len() + 4 >= expected.len(),
            "{name}: {} of {}",
            times.len(),
            expected.len()
        );
        assert_eq!(times, expected[..times.len()], "{name}");
    }
}
