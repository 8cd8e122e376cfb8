//! Parameter sets: where they come from, and when others are in force.

use super::*;
use crate::media::codec::TranscodeReason;

#[test]
fn units_that_viewers_do_not_need_are_left_out() {
    let mut rig = Rig::configured();
    let (delimiter, filler, end) = (&[0x09, 0xf0][..], &[0x0c, 0xff, 0x80][..], &[0x0a][..]);
    let (extension, stap_a) = (&[0x0d, 0x80][..], &[0x78, 0, 1, 0x41][..]);
    rig.picture(
        0,
        &[
            delimiter,
            SPS,
            PPS,
            extension,
            SEI,
            &[],
            IDR,
            filler,
            stap_a,
            end,
        ],
    );
    assert_eq!(nal_units(rig.frames()[0]), [SEI, IDR]);
    assert_eq!(rig.ingest.stats().dropped_total(), 0);
}

#[test]
fn video_before_its_sequence_header_is_dropped_and_said_once() {
    let mut rig = Rig::new();
    rig.picture(0, &[IDR]);
    rig.picture(40, &[P]);
    assert_eq!(rig.warnings(), [IngestWarning::VideoConfigMissing]);
    assert_eq!(rig.dropped(DropReason::ConfigMissing), 2);
    rig.video(5_000, &record(SPS, PPS));
    rig.video(5_000, &record(SPS, PPS));
    rig.picture(5_000, &[IDR]);
    assert_eq!(rig.frames().len(), 1);
}

#[test]
fn sets_may_come_in_band_alone() {
    let mut rig = Rig::new();
    rig.video(0, &[0x17, 0, 0, 0, 0, 1, 0x42, 0xc0, 0x0d, 0xff, 0, 0]);
    rig.picture(0, &[IDR]);
    assert_eq!(rig.warnings(), [IngestWarning::ParameterSetsMissing]);
    rig.picture(40, &[P]);
    rig.picture(80, &[SPS, PPS]);
    rig.picture(80, &[IDR]);
    assert_eq!(rig.frames().len(), 1);
    assert_eq!(rig.dropped(DropReason::ParameterSetsMissing), 1);
    assert_eq!(rig.dropped(DropReason::KeyframeMissing), 1);
    assert_eq!(rig.ingest.info().size, Some((320, 180)));
}

#[test]
fn new_sps_waits_for_its_keyframe() {
    let mut rig = Rig::configured();
    rig.picture(0, &[IDR]);
    rig.video(20, &record(OTHER_SPS, PPS));
    rig.picture(40, &[P]);
    rig.picture(80, &[IDR]);
    let frames = rig.frames();
    assert_eq!(frames.len(), 2);
    let sets = frames[1].parameter_sets.as_ref().unwrap();
    assert_eq!(sets.nal_units, [OTHER_SPS, PPS]);
    assert_eq!(rig.dropped(DropReason::KeyframeMissing), 1);
    assert_eq!(rig.ingest.info().video.as_deref(), Some("H.264 High"));
}

#[test]
fn repeated_sets_change_nothing() {
    let mut rig = Rig::configured();
    rig.picture(0, &[SPS, PPS, IDR]);
    rig.picture(40, &[SPS, PPS, P]);
    rig.video(80, &record(SPS, PPS));
    rig.picture(80, &[P]);
    assert_eq!(rig.frames().len(), 3);
    assert!(rig.frames()[1].parameter_sets.is_none());
}

#[test]
fn pps_that_changes_between_keyframes_comes_alone_with_the_next_frame() {
    // PPS 1 of SPS 0.
    let second = &[0x68, 0x5c, 0x04, 0x72][..];
    let mut rig = Rig::configured();
    rig.picture(0, &[IDR]);
    rig.picture(40, &[OTHER_PPS, P]);
    rig.picture(80, &[P]);
    rig.picture(120, &[second]);
    rig.picture(120, &[PPS]);
    rig.picture(120, &[OTHER_PPS, P]);
    rig.picture(160, &[PPS, B]);
    rig.picture(200, &[IDR]);
    let frames = rig.frames();
    let sets = |index: usize| {
        let sets = frames[index].parameter_sets.as_ref();
        sets.map(|sets| sets.nal_units.clone()).unwrap_or_default()
    };
    assert_eq!(sets(1), [OTHER_PPS]);
    assert!(!frames[1].key);
    assert!(frames[2].parameter_sets.is_none());
    assert_eq!(sets(3), [OTHER_PPS, second], "the last of each id");
    assert_eq!(sets(4), [PPS]);
    assert!(!frames[4].disposable, "its sets are not");
    assert_eq!(sets(5), [SPS, PPS, second], "all that a decoder needs");
}

#[test]
fn sps_with_an_id_not_in_use_interrupts_nothing() {
    let mut rig = Rig::configured();
    rig.picture(0, &[IDR]);
    // Id 1 is 010.
    let second = [0x67, 66, 0, 30, 0b0101_0111, 0b0100_0010, 0b1000_0010];
    rig.picture(40, &[&second, P]);
    assert_eq!(rig.frames().len(), 2);
    let sets = rig.frames()[1].parameter_sets.as_ref().unwrap();
    assert_eq!(sets.nal_units, [&second[..]]);
}

#[test]
fn bad_sequence_headers_leave_the_old_in_force() {
    let mut rig = Rig::configured();
    rig.audio(0, AAC_CONFIG);
    rig.picture(0, &[IDR]);
    rig.video(20, &[0x17, 0, 0, 0, 0, 9]);
    rig.audio(20, &[0xaf, 0, 0xff, 0xff]);
    rig.picture(40, &[P]);
    rig.audio(40, AAC_UNIT);
    assert_eq!((rig.frames().len(), rig.units().len()), (2, 1));
    assert_eq!(rig.dropped(DropReason::BadConfig), 2);
}

/// A recovery point: in 60 pictures (14496-10 §D.1.8).
const RECOVERY_POINT: &[u8] = &[0x06, 0x06, 0x03, 0x02, 0x1e, 0x80, 0x80];

/// Ten pictures a second, a recovery point each two seconds.
fn refreshed(rig: &mut Rig, seconds: std::ops::Range<u32>) {
    for tenth in seconds.start * 10..seconds.end * 10 {
        match tenth % 20 {
            0 => rig.picture(tenth * 100, &[RECOVERY_POINT, P]),
            _ => rig.picture(tenth * 100, &[P]),
        }
    }
}

/// The times of the pictures where a decoder may begin though they are no keyframes, in seconds.
fn recoveries(rig: &Rig) -> Vec<i64> {
    let frames = rig.frames().into_iter().filter(|frame| frame.recovery);
    frames.map(|frame| frame.dts.as_millis() / 1_000).collect()
}

#[test]
fn stream_that_has_one_keyframe_only_is_transcoded_from_its_recovery_points() {
    let mut rig = Rig::configured();
    rig.picture(0, &[IDR]);
    refreshed(&mut rig, 1..10);
    assert_eq!(rig.ingest.info().transcode, None, "it may still come");
    assert_eq!(recoveries(&rig), [6, 8]);
    refreshed(&mut rig, 10..13);
    let reason = Some(TranscodeReason::KeyframesMissing);
    assert_eq!(rig.ingest.info().transcode, reason);
    assert_eq!(recoveries(&rig), [6, 8, 10, 12]);
    assert_eq!(rig.frames().len(), 121, "none is lost");
}

#[test]
fn stream_whose_keyframe_never_came_is_transcoded_from_a_recovery_point() {
    let mut rig = Rig::configured();
    refreshed(&mut rig, 0..6);
    assert!(rig.frames().is_empty());
    refreshed(&mut rig, 6..9);
    let reason = Some(TranscodeReason::KeyframesMissing);
    assert_eq!(rig.ingest.info().transcode, reason);
    assert_eq!(recoveries(&rig), [6, 8]);
    assert_eq!(rig.frames().len(), 30);
}

#[test]
fn recovery_points_do_not_matter_where_keyframes_come() {
    let mut rig = Rig::configured();
    for second in (0..30).step_by(4) {
        rig.picture(second * 1_000, &[RECOVERY_POINT, IDR]);
        refreshed(&mut rig, second + 1..second + 4);
    }
    assert_eq!(rig.ingest.info().transcode, None);
    assert_eq!(recoveries(&rig), [0_i64; 0]);
}

#[test]
fn timing_of_decoder_buffers_is_not_passed_on_and_users_data_is() {
    const TIMING: &[u8] = &[0x06, 0x01, 0x03, 0x00, 0x00, 0x03, 0x01, 0x80];
    const USER_DATA: &[u8] = &[0x06, 0x05, 0x02, 0xaa, 0xbb, 0x80];
    let mut rig = Rig::configured();
    rig.picture(0, &[TIMING, USER_DATA, IDR]);
    rig.picture(33, &[TIMING, P]);
    let passed: Vec<_> = rig.frames().into_iter().map(nal_units).collect();
    assert_eq!(passed, [vec![USER_DATA, IDR], vec![P]]);
}
