//! Pictures, sounds and what is said about them.

use std::cell::Cell;
use std::rc::Rc;

use str0m::media::MediaKind;

use super::kit::KitWishes;
use super::*;
use crate::limits::{IP_PACKET_BYTES_MAX, RTP_PAYLOAD_BYTES_MAX};

fn is_media(datagram: &[u8]) -> bool {
    matches!(datagram, [128..=191, second, ..] if !(192..=223).contains(second))
}

#[test]
fn player_that_offers_gets_picture_and_sound_unchanged() {
    let mut world = World::answering().connected();
    world.play(60);
    world.assert_all_arrived();
    let stats = world.viewer.stats();
    assert_eq!(stats.packets_resent, 0);
    assert_eq!(stats.datagrams_ignored, 0);
}

#[test]
fn player_that_answers_gets_picture_and_sound_unchanged() {
    let mut world = World::offering().connected();
    world.play(60);
    world.assert_all_arrived();
}

#[test]
fn timestamps_follow_the_frames() {
    let mut world = World::answering().connected();
    world.play(20);
    let steps = |ticks: Vec<u64>| -> BTreeSet<u64> {
        ticks.iter().zip(&ticks[1..]).map(|(a, b)| b - a).collect()
    };
    let pictures = steps(world.player.pictures().map(|f| f.ticks).collect());
    assert!(
        pictures.iter().all(|step| (2_999..=3_000).contains(step)),
        "{pictures:?}"
    );
    let sounds = steps(world.player.sounds().map(|f| f.ticks).collect());
    assert_eq!(sounds, BTreeSet::from([960]));
}

#[test]
fn lost_packets_are_sent_again_and_every_frame_is_whole() {
    for mut world in [
        World::answering().connected(),
        World::offering().connected(),
    ] {
        let mut state = 9_u32;
        world.loses = Box::new(move |datagram| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Sound is not asked for again.
            is_media(datagram) && datagram.len() > 200 && state >> 24 < 13
        });
        world.play(150);
        world.loses = Box::new(|_| false);
        world.play(15);
        world.run(Duration::from_millis(500));
        world.assert_all_arrived();
        let stats = world.viewer.stats();
        assert!(stats.packets_resent > 20, "{stats:?}");
        assert!(stats.nacks >= stats.packets_resent);
    }
}

#[test]
fn reports_of_both_tracks_come_every_second_from_one_clock() {
    let mut world = World::answering().connected();
    assert!(
        world.player.reports.is_empty(),
        "none before the first packet"
    );
    world.play(300);
    for kind in [MediaKind::Video, MediaKind::Audio] {
        let reports: Vec<_> = world
            .player
            .reports
            .iter()
            .filter(|r| r.kind == kind)
            .collect();
        assert!(
            (8..=18).contains(&reports.len()),
            "{} of {kind:?}",
            reports.len()
        );
        // Against the frames: a frame's timestamp is its place on the wall clock.
        let frames: Vec<_> = world
            .player
            .frames
            .iter()
            .filter(|f| f.kind == kind)
            .collect();
        let (frame, report) = (frames.last().unwrap(), reports.last().unwrap());
        let rate = if kind == MediaKind::Video {
            90_000.0
        } else {
            48_000.0
        };
        let frame_wall = report.wall.as_secs_f64()
            + (frame.ticks as u32).wrapping_sub(report.rtp.numer() as u32) as i32 as f64 / rate;
        let sent = world
            .room
            .frames
            .iter()
            .rfind(|f| (f.track == TrackKind::Video) == (kind == MediaKind::Video));
        let true_wall = 1_700_000_000.0 + sent.unwrap().pts.as_micros() as f64 / 1e6;
        assert!(
            (frame_wall - true_wall).abs() < 0.001,
            "{kind:?}: {frame_wall} {true_wall}"
        );
    }
    assert!(world.viewer.stats().round_trip.is_some());
}

#[test]
fn burst_is_compressed_and_playout_delay_lets_go_later() {
    let mut world = World::answering().connected();
    let begin = world.micros() - 3_000_000;
    let cached: Vec<_> = (0..90)
        .map(|i| world.room.picture(begin + i * FRAME_MICROS, i == 0, 8_000))
        .collect();
    world
        .viewer
        .begin_burst(cached.first().unwrap(), cached.last().unwrap());
    let started = world.now;
    for frame in &cached {
        world.send(frame);
    }
    let took = world.now - started;
    let megabits = 90.0 * 8_000.0 * 8.0 / took.as_secs_f64() / 1e6;
    assert!((25.0..50.0).contains(&megabits), "{megabits} Mbit/s");
    world.play(90);
    let pictures: Vec<_> = world.player.pictures().collect();
    assert_eq!(pictures.len(), 180);
    for pair in pictures[..90].windows(2) {
        assert_eq!(pair[1].ticks - pair[0].ticks, 90);
    }
    assert!(pictures[90].ticks - pictures[89].ticks >= 2_999);
    let delay = |most| Some((Duration::ZERO, Duration::from_millis(most)));
    for picture in &pictures {
        let since = picture.received - (started + took);
        let most = if since < Duration::from_millis(1_500) {
            0
        } else {
            10_000
        };
        assert_eq!(
            picture.playout_delay,
            delay(most),
            "{since:?} after the burst"
        );
    }
    assert_eq!(pictures.last().unwrap().playout_delay, delay(10_000));
}

#[test]
fn loss_in_the_burst_is_asked_for_and_sent_again() {
    let mut world = World::answering().connected();
    let begin = world.micros() - 1_000_000;
    let cached: Vec<_> = (0..30)
        .map(|i| world.room.picture(begin + i * FRAME_MICROS, i == 0, 8_000))
        .collect();
    world
        .viewer
        .begin_burst(cached.first().unwrap(), cached.last().unwrap());
    let lost = Rc::new(Cell::new(0));
    let (counted, mut count) = (Rc::clone(&lost), 0);
    world.loses = Box::new(move |datagram| {
        let large = is_media(datagram) && datagram.len() > 200;
        count += u32::from(large);
        let loses = large && count % 11 == 5;
        counted.set(counted.get() + u64::from(loses));
        loses
    });
    for frame in &cached {
        world.send(frame);
    }
    world.loses = Box::new(|_| false);
    world.play(30);
    // How long a player waits for what it asked for is its own affair.
    let stats = world.viewer.stats();
    assert!(lost.get() > 10);
    assert!(stats.nacks > 5, "{stats:?} of {}", lost.get());
    assert_eq!(stats.packets_resent, stats.nacks);
    assert_eq!(world.player.pictures().last().unwrap().data, {
        let last = world
            .room
            .frames
            .iter()
            .rfind(|f| f.track == TrackKind::Video);
        annex_b(last.unwrap().number, false, 4_000)
    });
}

#[test]
fn skipped_frames_leave_no_hole_in_the_numbers() {
    let mut world = World::answering().connected();
    world.play(31);
    for _ in 0..40 {
        let at = world.micros();
        world.room.picture(at, false, 4_000);
        world.run(Duration::from_micros(FRAME_MICROS.unsigned_abs()));
    }
    world.play(31);
    let pictures: Vec<_> = world.player.pictures().collect();
    assert_eq!(pictures.len(), 62);
    assert!(pictures.iter().all(|picture| picture.contiguous));
    assert_eq!(world.viewer.stats().nacks, 0);
}

#[test]
fn keyframe_request_reaches_us_once_in_half_a_second() {
    let mut world = World::answering().connected();
    world.play(5);
    for _ in 0..4 {
        world.player.request_keyframe();
        world.run(Duration::from_millis(100));
    }
    assert_eq!(world.events, [ViewerEvent::KeyframeWanted]);
    assert!(world.viewer.stats().plis >= 2);
}

#[test]
fn largest_packets_and_retransmissions_fit_the_narrowest_way_of_ipv6() {
    let mut world = World::answering().connected();
    world.play(5);
    world.sent.clear();
    let mut large = 0;
    world.loses = Box::new(move |datagram| {
        large += u32::from(datagram.len() > RTP_PAYLOAD_BYTES_MAX);
        large == 2 && datagram.len() > RTP_PAYLOAD_BYTES_MAX
    });
    let payload = nal(9, false, RTP_PAYLOAD_BYTES_MAX - 1);
    let at = world.micros();
    let picture = world
        .room
        .push(TrackKind::Video, false, at, &vec![payload; 4]);
    world.send(&picture);
    world.play(10);
    assert!(world.viewer.stats().packets_resent > 0);
    let most = world.sent.iter().map(|&(_, bytes)| bytes).max();
    // IPv6 and UDP have headers of 40 and 8 bytes.
    let fits = RTP_PAYLOAD_BYTES_MAX + 1..=IP_PACKET_BYTES_MAX - 48;
    assert!(fits.contains(&most.unwrap()), "{most:?} bytes");
}

#[test]
fn player_without_a_track_gets_the_other() {
    for (video, audio) in [(true, false), (false, true)] {
        let now = start();
        let wishes = KitWishes {
            video,
            audio,
            playout_delay: false,
        };
        let mut player = KitViewer::with(player_address(), wishes, now);
        let offer = player.offer();
        let (viewer, answer) = factory(1, now)
            .answer(ViewerId(1), &offer, &[server()], None, now)
            .unwrap();
        player.accept(&answer);
        assert_eq!(viewer.plays(TrackKind::Video), video);
        assert_eq!(viewer.plays(TrackKind::Audio), audio);
        let mut world = World::of(viewer, player, now).connected();
        world.play(10);
        assert_eq!(world.player.pictures().count() > 0, video);
        assert_eq!(world.player.sounds().count() > 0, audio);
        assert!(
            world
                .player
                .frames
                .iter()
                .all(|f| f.playout_delay.is_none())
        );
    }
}

#[test]
fn str0m_reports_are_suppressed_and_counted() {
    let mut world = World::answering().connected();
    world.play(30);
    world.viewer.close(world.now, &mut world.batch);
    // At its end str0m says goodbye for sources that it never sent.
    assert!(world.viewer.stats().media_suppressed > 0);
}
