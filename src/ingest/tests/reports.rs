//! Times, and what is said of a publish.

use super::*;

#[test]
fn time_is_dts_plus_composition_time() {
    let mut rig = Rig::configured();
    rig.video(100, &access_unit(66, &[IDR]));
    rig.video(133, &access_unit(66, &[P]));
    let times: Vec<_> = rig
        .frames()
        .iter()
        .map(|frame| (frame.dts.as_millis(), frame.pts.as_millis()))
        .collect();
    assert_eq!(times, [(100, 166), (133, 199)]);
    assert!(!rig.ingest.info().reordering, "a constant offset is fine");
    assert!(rig.warnings().is_empty());
}

#[test]
fn presentation_time_is_never_negative_and_nonsense_is_ignored() {
    let mut rig = Rig::configured();
    rig.video(0, &access_unit(-500, &[IDR]));
    rig.video(40, &access_unit(8_000_000, &[P]));
    assert_eq!(rig.frames()[0].pts, MediaTime::ZERO);
    assert_eq!(rig.frames()[1].pts.as_millis(), 40);
}

#[test]
fn b_slices_are_reported_once_with_advice() {
    let mut rig = Rig::configured();
    rig.picture(0, &[IDR]);
    rig.picture(40, &[B]);
    rig.picture(80, &[B]);
    assert_eq!(rig.warnings(), [IngestWarning::Reordering]);
    let info = rig.ingest.info();
    assert!(info.reordering);
    assert!(info.advice[0].contains("bframes=0") && info.advice[0].contains("-bf 0"));
    let disposable: Vec<bool> = rig.frames().iter().map(|it| it.disposable).collect();
    assert_eq!(disposable, [false, true, true]);
}

#[test]
fn presentation_times_that_go_back_are_reordering() {
    let mut rig = Rig::configured();
    rig.video(0, &access_unit(80, &[IDR]));
    rig.video(40, &access_unit(160, &[P]));
    assert!(!rig.ingest.info().reordering);
    rig.video(80, &access_unit(40, &[P]));
    assert!(rig.ingest.info().reordering);
}

#[test]
fn reordering_announced_by_the_sps_is_reported() {
    let mut rig = Rig::new();
    rig.video(0, &record(OTHER_SPS, PPS));
    rig.picture(0, &[IDR]);
    assert!(rig.ingest.info().reordering);
    rig.video(40, &record(SPS, PPS));
    rig.picture(40, &[IDR]);
    assert!(!rig.ingest.info().reordering, "the new SPS has none");
}

#[test]
fn rare_keyframes_are_reported() {
    let mut rig = Rig::configured();
    for step in 0..4 {
        rig.picture(step * 4_000, &[IDR]);
        rig.picture(step * 4_000 + 2_000, &[P]);
    }
    assert!(rig.warnings().is_empty(), "4 s are not too many");
    rig.picture(16_200, &[P]);
    assert_eq!(rig.warnings(), [IngestWarning::KeyframeInterval]);
    assert!(rig.ingest.info().advice[0].contains("Keyframe Interval"));
    let mut rig = Rig::configured();
    rig.picture(0, &[P]);
    rig.picture(4_200, &[P]);
    assert_eq!(rig.warnings(), [IngestWarning::KeyframeInterval]);
}

#[test]
fn info_comes_before_the_frames_it_is_about_and_only_when_it_changes() {
    let mut rig = Rig::configured();
    rig.picture(0, &[IDR]);
    rig.audio(0, AAC_CONFIG);
    rig.audio(0, AAC_UNIT);
    rig.audio(5, AAC_CONFIG);
    rig.picture(40, &[P]);
    let kinds: Vec<&str> = rig
        .outputs
        .iter()
        .map(|output| match output {
            IngestOutput::Video(_) => "video",
            IngestOutput::VideoConfig(_) => "video config",
            IngestOutput::Coded(_) => "coded",
            IngestOutput::AudioConfig(_) => "config",
            IngestOutput::Audio(_) => "audio",
            IngestOutput::Info(_) => "info",
            IngestOutput::Warning(_) => "warning",
            IngestOutput::Verdict(_) => "verdict",
        })
        .collect();
    let expected = [
        "info",
        "video config",
        "video",
        "config",
        "info",
        "audio",
        "video",
    ];
    assert_eq!(kinds, expected);
    let info = rig.ingest.info();
    assert_eq!(info.profile_level_id, Some([0x42, 0xc0, 0x0d]));
    assert_eq!(info.video.as_deref(), Some("H.264 Constrained Baseline"));
    assert_eq!(info.audio.as_deref(), Some("AAC-LC 48 kHz stereo"));
}

#[test]
fn pixels_that_browsers_do_not_decode_are_reported() {
    let mut sps = OTHER_SPS.to_vec();
    sps[1] = 110;
    let mut rig = Rig::new();
    rig.video(0, &record(&sps, PPS));
    assert!(rig.warnings()[0].to_string().contains("High 10"));
    assert!(rig.ingest.info().advice[0].contains("NV12"));
}

#[test]
fn timestamp_jump_is_told_and_is_no_reordering() {
    let mut rig = Rig::configured();
    rig.video(60_000, &access_unit(100, &[IDR]));
    let before = rig.frames()[0].dts;
    rig.ingest.handle_video(
        3,
        access_unit(0, &[P]).into(),
        rig.start + Duration::from_millis(60_040),
    );
    rig.drain();
    let step = rig.frames()[1].dts.minus(before);
    assert_eq!(step, MediaTime::from_millis(40));
    assert_eq!(rig.warnings(), [IngestWarning::TimestampJump]);
    assert!(!rig.ingest.info().reordering);
    assert_eq!(rig.ingest.stats().timestamp_jumps, 1);
}

#[test]
fn metadata_gives_the_size_only_where_the_sps_does_not() {
    let mut rig = Rig::new();
    let metadata = Metadata {
        width: Some(640),
        height: Some(360),
        framerate: Some(f64::NAN),
    };
    rig.ingest.handle_metadata(metadata);
    rig.drain();
    assert!(rig.outputs.is_empty(), "nothing is known without video");
    rig.video(0, &record(&SPS[..7], PPS));
    assert_eq!(rig.ingest.info().size, Some((640, 360)));
    rig.video(0, &record(SPS, PPS));
    assert_eq!(rig.ingest.info().size, Some((320, 180)));
    assert_eq!(rig.ingest.frames_per_second(), Some(30.0));
}
