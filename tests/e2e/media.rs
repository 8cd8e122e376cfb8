//! Picture and sound, from a publisher's socket to a player's decoder.

use std::time::Duration;

use crate::kit::clip::LiveClip;
use crate::kit::publisher::{Progress, TcpPublisher};
use crate::kit::server::KitServer;
use crate::kit::udp_viewer::UdpViewer;
use crate::{play_for, playing, plays, wait_live};

/// NAL unit types of an Annex B picture.
fn nal_types(picture: &[u8]) -> Vec<u8> {
    let starts = picture
        .windows(4)
        .enumerate()
        .filter(|(_, bytes)| bytes[..3] == [0, 0, 1]);
    starts.map(|(_, bytes)| bytes[3] & 0x1f).collect()
}

#[test]
fn first_picture_has_parameter_sets_and_an_idr() {
    let (_server, _clip, viewer) = playing(1, "first");
    let first = viewer.player.pictures().next().unwrap();
    let types = nal_types(&first.data);
    for wanted in [7, 8, 5] {
        assert!(
            types.contains(&wanted),
            "NAL unit type {wanted} is missing in {types:?}"
        );
    }
}

#[test]
fn pictures_and_sounds_flow_without_a_hole() {
    let (_server, _clip, mut viewer) = playing(1, "flow");
    play_for(&mut viewer, Duration::from_secs(3));
    let frames: Vec<_> = viewer.player.pictures().collect();
    assert!(frames.len() > 80, "only {} pictures", frames.len());
    assert!(frames.iter().skip(1).all(|frame| frame.contiguous));
    let sounds: Vec<_> = viewer.player.sounds().collect();
    assert!(
        sounds
            .windows(2)
            .all(|pair| pair[1].ticks - pair[0].ticks == 960)
    );
}

#[test]
fn two_rooms_on_two_cores_play_at_once() {
    let (server, _clip, mut viewer) = playing(2, "one");
    let _other_clip = LiveClip::publish(server.addresses.rtmp, "two");
    wait_live(&server, "two", true);
    let mut other = UdpViewer::new();
    other.join_by_whep(&server, "two");
    plays(&mut other, "the second room");
    plays(&mut viewer, "the first room again");
}

#[test]
fn many_viewers_on_two_cores_all_play() {
    let (server, _clip, _viewer) = playing(2, "crowd");
    // More than one core takes before it shares: some sit where the publisher is not.
    let mut viewers: Vec<_> = (0..40)
        .map(|_| {
            let mut viewer = UdpViewer::new();
            viewer.join_by_whep(&server, "crowd");
            viewer
        })
        .collect();
    let deadline = rtmpeer::runtime::now() + Duration::from_secs(30);
    while viewers
        .iter()
        .any(|viewer| viewer.counts().0 < 5 || viewer.counts().1 < 5)
    {
        assert!(
            rtmpeer::runtime::now() < deadline,
            "some viewers see or hear nothing"
        );
        viewers.iter_mut().for_each(UdpViewer::step);
    }
    let metrics = crate::kit::server::http(server.addresses.metrics, "GET", "/metrics", &[], "");
    let on = |core: u8| {
        let name = format!("rtmpeer_viewers{{core=\"{core}\"}} ");
        let line = metrics
            .body
            .lines()
            .find_map(|line| line.strip_prefix(&name))
            .unwrap();
        line.parse::<u32>().unwrap()
    };
    assert!(
        on(0) > 0 && on(1) > 0,
        "viewers on the cores: {} and {}",
        on(0),
        on(1)
    );
}

#[test]
fn viewer_that_came_first_plays_when_the_publisher_comes() {
    let server = KitServer::start(2, &[]);
    let mut viewer = UdpViewer::new();
    viewer.join_by_whep(&server, "early");
    viewer.play_until("the connection", Duration::from_secs(10), |player| {
        player.connected
    });
    let _clip = LiveClip::publish(server.addresses.rtmp, "early");
    plays(&mut viewer, "the publish");
}

#[test]
fn publisher_that_returns_plays_again_to_the_same_viewer() {
    let (server, clip, mut viewer) = playing(2, "again");
    let before = viewer.player.pictures().last().unwrap().ticks;
    drop(clip);
    wait_live(&server, "again", false);
    play_for(&mut viewer, Duration::from_millis(500));
    let _clip = LiveClip::publish(server.addresses.rtmp, "again");
    plays(&mut viewer, "the publisher's return");
    let after = viewer.player.pictures().last().unwrap().ticks;
    assert!(
        after > before + 45_000,
        "time stood still: {before} then {after}"
    );
    assert!(!viewer.player.closed);
}

#[test]
fn second_publisher_of_a_live_room_is_refused_and_the_first_goes_on() {
    let (server, _clip, mut viewer) = playing(2, "busy");
    let second = TcpPublisher::publish(server.addresses.rtmp, "live", "busy");
    let Progress::Refused(why) = second.rtmp.progress() else {
        panic!("it was accepted")
    };
    assert!(why.contains("BadName"), "refused with {why}");
    plays(&mut viewer, "the first publisher");
}

#[test]
fn illegal_room_name_is_refused() {
    let server = KitServer::start(1, &[]);
    let publisher = TcpPublisher::publish(server.addresses.rtmp, "live", "no/such room");
    let Progress::Refused(why) = publisher.rtmp.progress() else {
        panic!("it was accepted")
    };
    assert!(why.contains("BadName"), "refused with {why}");
}

#[test]
fn b_frames_are_reported() {
    let server = KitServer::start(1, &[]);
    let _clip = LiveClip::publish_clip(server.addresses.rtmp, "reordered", "high-b-frames.flv");
    let advice = crate::kit::server::wait_for("the advice", || {
        let room = server.http("GET", "/v1/rooms/reordered", &[], "").body;
        room.contains("-frames").then_some(room)
    });
    assert!(
        advice.contains("bframes=0"),
        "no word of what to do: {advice}"
    );
}

#[test]
fn server_says_goodbye_when_it_stops() {
    let (server, _clip, mut viewer) = playing(2, "bye");
    let stopping = std::thread::spawn(move || server.stop());
    viewer.play_until("the goodbye", Duration::from_secs(10), |player| {
        player.closed
    });
    assert!(stopping.join().unwrap(), "a thread died");
}
