//! Sound that its worker cannot decode, for good or for now.

use super::*;

const WHY: &str = "raise transcode.workers";
const AFTER: Duration = Duration::from_secs(10);

/// The worker cannot decode the sound now, but may later.
fn refuses(rig: &mut Rig, config: &AudioConfig) {
    let reply = TranscodeReply::Unplayable {
        publisher: PUBLISHER,
        config: config.clone(),
        text: WHY.into(),
        retry_after: Some(AFTER),
    };
    rig.engine.handle_transcoded(reply, rig.now);
}

/// The worker gives a packet.
fn sounds(rig: &mut Rig) {
    let reply = TranscodeReply::Packet {
        publisher: PUBLISHER,
        pts: MediaTime::from_millis(40 * rig.next),
        data: vec![0xfc].into(),
        received: rig.now,
    };
    rig.engine.handle_transcoded(reply, rig.now);
}

/// The last that was said of the stream, if something was.
fn advice(rig: &mut Rig) -> Option<Vec<String>> {
    Some(rig.said().info.pop()?.advice)
}

/// Of each stream that the worker was told of, it is told the end: it keeps those it has.
#[test]
fn undecodable_audio_is_closed_at_its_worker_and_another_configuration_opens_it() {
    let mut rig = rig(false);
    let (bad, good) = (AudioConfig::Speex, AudioConfig::Mp3);
    rig.join(1);
    rig.sounds(&bad);
    assert_eq!(rig.audio(), "o");
    rig.cannot_decode(&bad);
    assert_eq!(rig.audio(), "x");
    rig.sounds(&good);
    assert_eq!(rig.audio(), "o");
    rig.cannot_decode(&bad);
    assert_eq!(rig.audio(), "", "what was before does not count");
    rig.engine.handle_publisher_closed(PUBLISHER, true, rig.now);
    assert_eq!(rig.audio(), "e");
    rig.wait(PUBLISH_TAIL_MAX);
    assert_eq!(rig.audio(), "x");
}

#[test]
fn audio_that_stays_undecodable_is_not_opened_for_ever() {
    let mut rig = rig(false);
    rig.join(1);
    let mut said = String::new();
    for rate in 0..40 {
        let config = AudioConfig::Nellymoser { rate };
        rig.sounds(&config);
        said.push_str(&rig.audio());
        rig.cannot_decode(&config);
        said.push_str(&rig.audio());
    }
    assert_eq!(said, "ox".repeat(8));
}

/// A bug was: sound that was refused for a passing reason was not tried again in the whole publish.
#[test]
fn sound_that_was_refused_for_now_is_tried_again_until_it_works() {
    // Another core listens.
    let mut rig = rig(true);
    let config = AudioConfig::Ac3;
    rig.sounds(&config);
    assert_eq!(rig.audio(), "o");
    // More often than configurations may fail.
    for _ in 0..20 {
        refuses(&mut rig, &config);
        assert_eq!(rig.audio(), "x");
        rig.wait(AFTER / 2);
        assert_eq!(rig.audio(), "", "not yet");
        rig.wait(AFTER / 2);
        assert_eq!(rig.audio(), "o");
    }
    rig.wait(2 * AFTER);
    assert_eq!(rig.audio(), "", "it is open");
}

#[test]
fn sound_that_was_refused_for_now_is_opened_for_who_comes_later_and_not_for_who_comes_too_soon() {
    let mut rig = rig(false);
    let config = AudioConfig::Ac3;
    rig.join(1);
    rig.sounds(&config);
    refuses(&mut rig, &config);
    assert_eq!(rig.audio(), "ox");
    rig.join(2);
    assert_eq!(rig.audio(), "", "too soon");
    rig.leave(1);
    rig.leave(2);
    rig.wait(AFTER);
    assert_eq!(rig.audio(), "", "for nobody");
    rig.join(3);
    assert_eq!(rig.audio(), "o");
    refuses(&mut rig, &config);
    rig.sounds(&AudioConfig::Mp3);
    assert_eq!(rig.audio(), "xo", "another configuration waits for nothing");
    rig.wait(AFTER);
    assert_eq!(rig.audio(), "");
}

/// A bug was: the next that was learned of the stream took the reason away.
#[test]
fn why_there_is_no_sound_is_told_until_there_is_some() {
    let mut rig = rig(false);
    let config = AudioConfig::Ac3;
    rig.join(1);
    rig.sounds(&config);
    rig.said();
    for _ in 0..2 {
        refuses(&mut rig, &config);
        assert_eq!(advice(&mut rig), Some(vec![WHY.to_owned()]));
        rig.publishes(VideoCodec::Avc, None);
        assert_eq!(advice(&mut rig), Some(vec![WHY.to_owned()]));
        rig.wait(AFTER);
    }
    assert_eq!(advice(&mut rig), None, "it may be as before");
    sounds(&mut rig);
    assert_eq!(advice(&mut rig), Some(vec![]));
    sounds(&mut rig);
    assert_eq!(advice(&mut rig), None, "no news");

    rig.cannot_decode(&config);
    sounds(&mut rig);
    let text = "choose AAC".to_owned();
    assert_eq!(advice(&mut rig), Some(vec![text]), "what was on its way");
    rig.sounds(&AudioConfig::Mp3);
    assert_eq!(advice(&mut rig), Some(vec![]));
}

#[test]
fn publish_that_ends_takes_its_next_try_with_it() {
    let mut rig = rig(false);
    rig.join(1);
    rig.sounds(&AudioConfig::Ac3);
    refuses(&mut rig, &AudioConfig::Ac3);
    assert_eq!(rig.audio(), "ox");
    rig.engine.handle_publisher_closed(PUBLISHER, true, rig.now);
    assert_eq!(rig.audio(), "");
    rig.wait(AFTER);
    assert_eq!(rig.audio(), "");
    assert!(rig.engine.publishers.is_empty());
}
