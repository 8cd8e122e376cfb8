//! What encoders do that is not in the book.

use std::time::Duration;

use rtmpeer::media::flv::file::TagKind;
use rtmpeer::runtime::now;

use crate::kit::clip::{LiveClip, clip};
use crate::kit::publisher::{Progress, TcpPublisher};
use crate::kit::server::{KitServer, wait_for};
use crate::{playing, plays, wait_live};

/// An AMF0 command of four values in one chunk, as librtmp and OBS send it.
fn command(name: &str, argument: &str) -> Vec<u8> {
    let text = |text: &str| {
        let length = u16::try_from(text.len()).unwrap();
        let mut bytes = vec![2];
        bytes.extend(length.to_be_bytes());
        bytes.extend(text.as_bytes());
        bytes
    };
    let mut payload = text(name);
    payload.extend([0, 0x40, 0x14, 0, 0, 0, 0, 0, 0, 5]);
    payload.extend(text(argument));
    let length = u8::try_from(payload.len()).unwrap();
    let mut bytes = vec![3, 0, 0, 0, 0, 0, length, 20, 0, 0, 0, 0];
    bytes.extend(payload);
    bytes
}

/// Publishes, and sends the clip's first second.
fn publisher_with_a_second(server: &KitServer, room: &str) -> TcpPublisher {
    let mut publisher = TcpPublisher::publish(server.addresses.rtmp, "live", room);
    assert_eq!(*publisher.rtmp.progress(), Progress::Publishing);
    for tag in clip("baseline.flv") {
        if tag.timestamp_ms < 1_000 {
            match tag.kind {
                TagKind::Video => {
                    publisher.video(tag.timestamp_ms, tag.payload);
                }
                TagKind::Audio => {
                    publisher.audio(tag.timestamp_ms, tag.payload);
                }
                TagKind::Script | TagKind::Other(_) => {}
            }
        }
    }
    publisher
}

#[test]
fn applications_and_keys_of_every_shape_reach_their_room() {
    let server = KitServer::start(1, &[]);
    for (app, key, room) in [
        ("live/a/b", "one", "one"),
        ("live/", "two", "two"),
        ("live?vhost=example.org", "three", "three"),
        ("live", "four?token=x&expires=1", "four"),
        ("live/instance?a=1", "five?b=2", "five"),
        ("", "six", "six"),
    ] {
        let publisher = TcpPublisher::publish(server.addresses.rtmp, app, key);
        let progress = publisher.rtmp.progress();
        assert_eq!(*progress, Progress::Publishing, "{app} {key}");
        wait_live(&server, room, true);
        drop(publisher);
        wait_live(&server, room, false);
    }
}

#[test]
fn publish_ends_by_fcunpublish_alone() {
    let server = KitServer::start(1, &[]);
    let mut publisher = publisher_with_a_second(&server, "unpublished");
    wait_live(&server, "unpublished", true);
    publisher.raw(&command("FCUnpublish", "unpublished"));
    wait_live(&server, "unpublished", false);
    assert!(!publisher.closed_within(Duration::from_millis(300)));
    let next = TcpPublisher::publish(server.addresses.rtmp, "live", "unpublished");
    assert_eq!(*next.rtmp.progress(), Progress::Publishing);
}

#[test]
fn publisher_that_is_killed_and_returns_at_once_is_accepted() {
    let (server, clip, mut viewer) = playing(2, "killed");
    drop(clip);
    for _ in 0..10 {
        let publisher = TcpPublisher::publish(server.addresses.rtmp, "live", "killed");
        assert_eq!(*publisher.rtmp.progress(), Progress::Publishing);
    }
    let _clip = LiveClip::publish(server.addresses.rtmp, "killed");
    plays(&mut viewer, "the return");
}

#[test]
fn connection_that_ends_in_the_middle_of_a_message_ends_its_publish() {
    let (server, clip, mut viewer) = playing(2, "cut");
    drop(clip);
    wait_live(&server, "cut", false);
    let mut publisher = publisher_with_a_second(&server, "cut");
    // A video message of 65,536 bytes, of which five come.
    publisher.raw(&[6, 0, 4, 0, 1, 0, 0, 9, 1, 0, 0, 0, 0x17, 1, 0, 0, 0]);
    wait_live(&server, "cut", true);
    drop(publisher);
    let _clip = LiveClip::publish(server.addresses.rtmp, "cut");
    plays(&mut viewer, "the return");
}

#[test]
fn publisher_whose_network_failed_takes_its_room_back() {
    let (server, clip, mut viewer) = playing(2, "frozen");
    drop(clip);
    let mut frozen = publisher_with_a_second(&server, "frozen");
    wait_live(&server, "frozen", true);
    let began = now();
    // Its old connection is open and silent. While the server has some of the second that it sent at
    // once before it, it counts as alive, so that the first try may be refused, as encoders try again.
    let publisher = wait_for("its room", || {
        let publisher = TcpPublisher::publish(server.addresses.rtmp, "live", "frozen");
        (*publisher.rtmp.progress() == Progress::Publishing).then_some(publisher)
    });
    let _clip = LiveClip::play(publisher, "baseline.flv");
    let took = now() - began;
    assert!(took < Duration::from_secs(3), "after {took:?}");
    assert!(frozen.closed_within(Duration::from_secs(1)), "two publish");
    plays(&mut viewer, "the return");
}

#[test]
fn publisher_that_still_sends_keeps_its_room() {
    let (server, _clip, mut viewer) = playing(2, "kept");
    let began = now();
    for _ in 0..3 {
        let second = TcpPublisher::publish(server.addresses.rtmp, "live", "kept");
        assert!(matches!(second.rtmp.progress(), Progress::Refused(_)));
    }
    let took = now() - began;
    assert!(took < Duration::from_secs(2), "refused only after {took:?}");
    plays(&mut viewer, "the first publisher");
}
