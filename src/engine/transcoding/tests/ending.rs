//! When a publish ends whose publisher is done.

use super::*;

#[test]
fn publish_ends_when_what_it_brought_was_shown() {
    let mut rig = rig(false);
    rig.join(1);
    rig.publishes(VideoCodec::Avc, Some(TranscodeReason::Reordering));
    rig.sounds(&AudioConfig::Mp3);
    rig.avc(1);
    rig.engine
        .handle_publisher_closed(PUBLISHER, false, rig.now);
    let said = rig.said();
    assert_eq!((said.words().as_str(), said.ended.len()), ("ofe", 0));
    let publisher = PUBLISHER;
    let finished = TranscodeReply::Finished { publisher };
    rig.engine.handle_transcoded(finished, rig.now);
    rig.wait(PUBLISH_TAIL_MIN);
    rig.made(true);
    assert!(rig.has_safe_entry(), "the encoder's last picture");
    let finished = VideoReply::Finished { publisher };
    rig.engine.handle_video_reply(finished, rig.now);
    assert_eq!(rig.said().ended, [], "it is yet to be sent");
    rig.wait(PUBLISH_TAIL_MIN);
    assert_eq!(rig.said().ended, [PublishEnd::Finished]);
    assert!(!rig.has_safe_entry());
    assert_eq!(rig.engine.sizes().0, 0);
    rig.made(true);
    rig.fails("too late", None);
    assert!(!rig.has_safe_entry());
}

#[test]
fn publish_that_is_ahead_of_the_clock_ends_when_its_time_has_come() {
    let mut rig = rig(false);
    rig.join(1);
    rig.publishes(VideoCodec::Avc, None);
    let ahead = Duration::from_millis(900);
    rig.next += 900 / 40;
    rig.avc(1);
    rig.engine
        .handle_publisher_closed(PUBLISHER, false, rig.now);
    rig.wait(ahead - 2 * PUBLISH_TAIL_MIN);
    assert_eq!(rig.said().ended, []);
    rig.wait(2 * PUBLISH_TAIL_MIN);
    assert_eq!(rig.said().ended, [PublishEnd::Finished]);
}

#[test]
fn publish_ends_in_bounded_time_whatever_the_transcoders_do() {
    let mut rig = rig(false);
    rig.join(1);
    rig.publishes(VideoCodec::Avc, Some(TranscodeReason::Reordering));
    rig.avc(1);
    rig.engine.handle_publisher_closed(PUBLISHER, true, rig.now);
    assert_eq!(rig.said().words(), "ofe");
    rig.wait(PUBLISH_TAIL_MAX);
    let said = rig.said();
    assert_eq!(said.words(), "x");
    assert_eq!(said.ended, [PublishEnd::Reset]);
}

#[test]
fn publish_ends_at_once_if_nobody_watches_or_somebody_else_is_to_have_the_room() {
    let mut unwatched = rig(false);
    unwatched.publishes(VideoCodec::Avc, None);
    unwatched.avc(1);
    let now = unwatched.now;
    unwatched
        .engine
        .handle_publisher_closed(PUBLISHER, false, now);
    assert_eq!(unwatched.said().ended, [PublishEnd::Finished]);
    let mut rig = rig(false);
    rig.join(1);
    rig.publishes(VideoCodec::Avc, None);
    rig.avc(1);
    rig.engine
        .handle_publisher_closed(PUBLISHER, false, rig.now);
    assert_eq!(rig.said().ended, []);
    let question = CoreMsg::QuestionPublisher {
        publisher: PUBLISHER,
        silence: Duration::from_secs(1),
    };
    rig.engine.handle_message(question, rig.now);
    assert_eq!(rig.said().ended, [PublishEnd::Finished]);
    assert_eq!(rig.engine.sizes().0, 0);
}
