//! What control is told of a publish's video.

use super::*;

/// The last word on what becomes of the video, if there was one.
fn last_state(said: &Said) -> Option<TranscodeState> {
    said.info.last().map(|info| info.transcoding.clone())
}

#[test]
fn what_becomes_of_the_video_is_told_at_each_step() {
    let mut rig = rig(false);
    rig.publishes(VideoCodec::Avc, Some(TranscodeReason::Reordering));
    rig.avc(2);
    assert_eq!(last_state(&rig.said()), Some(TranscodeState::Needed));
    rig.join(1);
    assert_eq!(last_state(&rig.said()), Some(TranscodeState::Waiting));
    rig.made(true);
    assert_eq!(last_state(&rig.said()), Some(TranscodeState::Running));
    rig.made(false);
    rig.avc(1);
    assert_eq!(last_state(&rig.said()), None, "no news");
    let publisher = PUBLISHER;
    let restart = VideoReply::Restart { publisher };
    rig.engine.handle_video_reply(restart, rig.now);
    assert_eq!(last_state(&rig.said()), Some(TranscodeState::Waiting));
    rig.made(true);
    rig.said();
    rig.leave(1);
    assert_eq!(last_state(&rig.said()), None, "it goes on for a while");
    rig.wait(TRANSCODE_LINGER / 2);
    assert_eq!(last_state(&rig.said()), None);
    rig.wait(TRANSCODE_LINGER / 2);
    assert_eq!(last_state(&rig.said()), Some(TranscodeState::Needed));
    rig.join(2);
    assert_eq!(last_state(&rig.said()), Some(TranscodeState::Waiting));
    rig.fails("install ffmpeg", Some(Duration::from_secs(20)));
    let refused = TranscodeState::Refused("install ffmpeg".into());
    assert_eq!(last_state(&rig.said()), Some(refused));
    rig.publishes(VideoCodec::Avc, None);
    rig.avc(1);
    assert_eq!(last_state(&rig.said()), Some(TranscodeState::Off));
}

#[test]
fn video_that_may_not_be_transcoded_is_refused_and_sound_alone_waits_for_nothing() {
    let mut never = rig(false);
    never.engine.set_video_mode(VideoMode::Never);
    never.join(1);
    never.publishes(VideoCodec::Avc, Some(TranscodeReason::Reordering));
    let state = last_state(&never.said()).unwrap();
    assert!(
        state.problem().unwrap().contains("video.transcode"),
        "{state:?}"
    );
    let mut always = rig(false);
    always.engine.set_video_mode(VideoMode::Always);
    always.join(1);
    always.ingest(IngestOutput::Info(StreamInfo {
        audio: Some("AAC-LC".into()),
        ..StreamInfo::default()
    }));
    assert_eq!(last_state(&always.said()), Some(TranscodeState::Off));
}
