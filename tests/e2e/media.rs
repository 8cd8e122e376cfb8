//! Picture and sound, from a publisher's socket to a player's decoder.

use std::time::Duration;

use rtmpeer::media::flv::file::{Tag, TagKind};

use crate::kit::clip::{LiveClip, clip};
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

/// Sends the baseline clip so often at full speed, in large messages, closes the connection, and gives
/// the player that waited for it, once the publish has ended.
fn file_at_full_speed(rounds: u32) -> UdpViewer {
    // Chunk stream 2, time 0, four bytes of type 5 (Adobe RTMP 1.0 §5.4.4): 65,536.
    const ACKNOWLEDGE_OFTEN: [u8; 16] = [2, 0, 0, 0, 0, 0, 4, 5, 0, 0, 0, 0, 0, 1, 0, 0];
    /// A NAL unit of filler data, which goes no further (14496-10 §7.3.2.7).
    const FILLER_BYTES: u32 = 20_000;
    let server = KitServer::start(1, &[]);
    let mut viewer = UdpViewer::new();
    viewer.join_by_whep(&server, "file");
    viewer.play_until("the connection", Duration::from_secs(10), |player| {
        player.connected
    });
    let tags = clip("baseline.flv");
    let round = tags.iter().map(|tag| tag.timestamp_ms).max().unwrap() + 33;
    let mut filler = FILLER_BYTES.to_be_bytes().to_vec();
    filler.push(0x0c);
    filler.resize(4 + FILLER_BYTES as usize, 0xff);
    let mut publisher = TcpPublisher::publish(server.addresses.rtmp, "live", "file");
    publisher.raw(&ACKNOWLEDGE_OFTEN);
    for turn in 0..rounds {
        for tag in &tags {
            let time = turn * round + tag.timestamp_ms;
            match tag.kind {
                TagKind::Video if is_picture(tag) => {
                    publisher.video(time, [&tag.payload[..], &filler].concat().into());
                }
                TagKind::Video => publisher.video(time, tag.payload.clone()),
                TagKind::Audio => publisher.audio(time, tag.payload.clone()),
                TagKind::Script | TagKind::Other(_) => {}
            }
        }
    }
    publisher.rtmp.finish();
    publisher.flush();
    // Encoders read what the server says before they close.
    publisher.closed_within(Duration::from_millis(1));
    drop(publisher);
    let patience = rtmpeer::runtime::now() + Duration::from_secs(20);
    let live = || {
        let room = server.http("GET", "/v1/rooms/file", &[], "");
        room.body.contains(r#""live":true"#)
    };
    while live() {
        let now = rtmpeer::runtime::now();
        assert!(now < patience, "the publish does not end");
        play_for(&mut viewer, Duration::from_millis(50));
    }
    viewer
}

fn is_picture(tag: &Tag) -> bool {
    tag.kind == TagKind::Video && tag.payload[1] == 1
}

fn assert_shown_to_its_end(viewer: &UdpViewer) {
    let tags = clip("baseline.flv");
    let end = &tags.iter().rfind(|tag| is_picture(tag)).unwrap().payload;
    assert!(viewer.counts().0 > 0, "no picture at all");
    let shown = viewer.player.pictures().last().unwrap();
    assert!(
        shown.data.ends_with(&end[end.len() - 40..]),
        "it ends after {:?}",
        viewer.counts()
    );
}

/// All of it is a head start, and its end comes with the publisher's last words.
#[test]
fn shortest_file_sent_at_full_speed_is_shown_to_its_end() {
    assert_shown_to_its_end(&file_at_full_speed(1));
}

/// The encoder has closed its connection long before all of the file is read.
#[test]
fn file_sent_at_full_speed_is_shown_and_heard_to_its_end() {
    let viewer = file_at_full_speed(3);
    assert_shown_to_its_end(&viewer);
    let picture = viewer.player.pictures().last().unwrap().received;
    let sound = viewer.player.sounds().last().unwrap().received;
    let apart = picture.max(sound) - picture.min(sound);
    assert!(
        apart < Duration::from_millis(300),
        "the sound ends {apart:?} apart"
    );
}

#[test]
fn encoder_that_is_done_may_say_its_last_words() {
    let server = KitServer::start(1, &[]);
    let mut publisher = TcpPublisher::publish(server.addresses.rtmp, "live", "done");
    assert_eq!(*publisher.rtmp.progress(), Progress::Publishing);
    wait_live(&server, "done", true);
    publisher.rtmp.finish();
    publisher.flush();
    wait_live(&server, "done", false);
    // ffmpeg calls a publish failed whose connection is closed before it has closed it.
    assert!(!publisher.closed_within(Duration::from_millis(500)));
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
