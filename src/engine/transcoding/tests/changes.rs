//! Streams that change what they are again and again: what is said of them to others is limited.

use super::*;
use crate::ingest::AudioUnit;
use crate::limits::{
    AUDIO_FORMAT_CHANGES_MAX, AUDIO_RETRY_AFTER_REFUSAL, AUDIO_UNITS_PER_FORMAT_CHANGE,
};

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

fn described(sound: impl ToString) -> IngestOutput {
    IngestOutput::Info(StreamInfo {
        audio: Some(sound.to_string()),
        ..StreamInfo::default()
    })
}

/// The sounds that control was told of.
fn told(rig: &mut Rig) -> Vec<String> {
    let infos = rig.said().info.into_iter();
    infos.filter_map(|info| info.audio).collect()
}

#[test]
fn description_that_changes_without_end_is_told_a_few_times_a_second_and_the_last_is_told() {
    let mut rig = rig(false);
    let mut heard = Vec::new();
    for number in 0..1_000 {
        rig.ingest(described(number));
        heard.extend(told(&mut rig));
        rig.wait(MILLI);
        heard.extend(told(&mut rig));
    }
    assert!(heard.len() <= 16, "{heard:?}");
    assert_eq!(heard.first().map(String::as_str), Some("0"), "at once");
    rig.wait(SECOND);
    heard.extend(told(&mut rig));
    assert_eq!(heard.last().map(String::as_str), Some("999"));
    rig.wait(SECOND);
    assert_eq!(told(&mut rig), [] as [&str; 0], "once");
    rig.ingest(described("after a while"));
    assert_eq!(told(&mut rig), ["after a while"], "at once");
}

#[test]
fn description_that_waits_is_told_before_the_verdict_and_before_the_end() {
    let mut rig = rig(false);
    for number in 0..100 {
        rig.ingest(described(number));
    }
    told(&mut rig);
    rig.ingest(IngestOutput::Verdict(Arc::default()));
    assert_eq!(told(&mut rig), ["99"]);
    for number in 100..200 {
        rig.ingest(described(number));
    }
    assert_eq!(told(&mut rig), [] as [&str; 0]);
    rig.engine.handle_publisher_closed(PUBLISHER, true, rig.now);
    let said = rig.said();
    assert_eq!(said.ended.len(), 1);
    let last = said.info.last().and_then(|info| info.audio.clone());
    assert_eq!(last.as_deref(), Some("199"));
}

/// A publish whose sound is G.711, of one or two channels.
fn sounds(rig: &mut Rig, number: u8) -> AudioConfig {
    let channels = 1 + number % 2;
    let config = AudioConfig::ALaw { channels };
    rig.sounds(&config);
    config
}

fn unit(rig: &mut Rig) {
    rig.next += 1;
    let unit = AudioUnit {
        pts: MediaTime::from_millis(rig.next),
        data: vec![0x55; 8].into(),
        received: rig.now,
    };
    rig.ingest(IngestOutput::Audio(unit));
}

/// A bug was: each change went to the worker, which all publishes of a core share, and into the half
/// of its mailbox that is kept for what must not be lost.
#[test]
fn sound_that_changes_without_end_is_left_alone_for_a_while_and_then_tried_as_it_is() {
    let mut rig = rig(false);
    rig.join(1);
    let (mut all, mut advice) = (String::new(), Vec::new());
    for number in 0..1_000_u32 {
        sounds(&mut rig, u8::try_from(number % 200).unwrap());
        unit(&mut rig);
        rig.wait(MILLI);
        let said = rig.said();
        advice.extend(said.info.into_iter().map(|info| info.advice));
        all.extend(said.audio.iter().map(|message| match message {
            TranscodeMsg::Open { .. } => 'o',
            TranscodeMsg::Configure { .. } => 'c',
            TranscodeMsg::Unit { .. } => 'u',
            TranscodeMsg::Finish { .. } => 'e',
            TranscodeMsg::Close { .. } => 'x',
        }));
    }
    let changes = "cu".repeat(AUDIO_FORMAT_CHANGES_MAX as usize);
    assert_eq!(all, format!("ou{changes}x"));
    let last = advice.last().unwrap();
    assert!(last[0].contains("format"), "{last:?}");
    let config = sounds(&mut rig, 1);
    rig.wait(AUDIO_RETRY_AFTER_REFUSAL);
    let said = rig.said();
    let [TranscodeMsg::Open { config: opened, .. }] = &said.audio[..] else {
        panic!("{:?}", said.audio);
    };
    assert_eq!(*opened, config);
}

#[test]
fn sound_that_changes_now_and_then_may_change_for_ever_and_unheard_as_it_likes() {
    let mut rig = rig(false);
    for number in 0..100 {
        sounds(&mut rig, number);
    }
    rig.join(1);
    assert_eq!(rig.audio(), "o");
    for number in 0..40 {
        sounds(&mut rig, number);
        for _ in 0..AUDIO_UNITS_PER_FORMAT_CHANGE {
            unit(&mut rig);
        }
        let said = rig.audio();
        assert!(said.starts_with("cu"), "{number}: {said}");
    }
}
