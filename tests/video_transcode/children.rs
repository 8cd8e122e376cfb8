//! Children that die, hang, write nonsense or are missing; and what none of them may do.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rtmpeer::messages::{VideoMsg, VideoReply};
use rtmpeer::runtime::now;
use rtmpeer::transcode::video::VideoSettings;

use crate::video::{KitVideo, PUBLISHER, b_frames};
use crate::{PATIENCE, QUIET, feed};

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

fn await_restart(video: &KitVideo) {
    let deadline = now() + PATIENCE;
    while now() < deadline {
        if let Some(VideoReply::Restart { .. }) = video.reply(PATIENCE) {
            return;
        }
    }
    panic!("no restart was asked for");
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
