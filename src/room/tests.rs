//! What subscribers get of a room, rendition by rendition.

use std::time::Instant;

use super::*;
use crate::media::frame::FrameSetHead;
use crate::media::time::MediaTime;

/// Number of the first frame that is made anew, of the first publish.
const MADE: u64 = 1 << 63;

fn frame(track: TrackKind, number: u64, key: bool) -> Arc<FrameSet> {
    frame_of(track, number, key, true)
}

fn video(number: u64, key: bool, safe: bool) -> Arc<FrameSet> {
    frame_of(TrackKind::Video, number, key, safe)
}

/// A frame as if it had been received so many milliseconds after `start`.
fn at(start: Instant, ms: u64, frame: Arc<FrameSet>) -> Arc<FrameSet> {
    let mut frame = Arc::into_inner(frame).unwrap();
    frame.received = start + Duration::from_millis(ms);
    Arc::new(frame)
}

fn frame_of(track: TrackKind, number: u64, key: bool, safe: bool) -> Arc<FrameSet> {
    let head = FrameSetHead {
        track,
        rendition: Rendition::of_number(number),
        safe,
        epoch: Epoch(u32::try_from(number << 1 >> 33).unwrap()),
        number,
        first_sequence: number,
        key,
        disposable: false,
        pts: MediaTime::ZERO,
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        received: Instant::now(),
    };
    Arc::new(FrameSet::new(head, vec![1], vec![1]).unwrap())
}

fn drain(room: &Room, cursor: &mut Cursor, track: TrackKind) -> Vec<u64> {
    let mut numbers = Vec::new();
    while let Some(delivery) = room.next(cursor, track) {
        cursor.advance(&delivery.frame);
        numbers.push(delivery.frame.number);
    }
    numbers
}

#[test]
fn viewer_joining_mid_gop_starts_at_keyframe() {
    let mut room = Room::default();
    for number in 0..5 {
        room.push(frame(TrackKind::Video, number, number == 0 || number == 2));
    }
    let mut cursor = room.join(Rendition::Safe);
    let first = room.next(&cursor, TrackKind::Video).unwrap();
    assert_eq!(first.frame.number, 2);
    assert_eq!(first.burst_to.unwrap().number, 4);
    assert_eq!(drain(&room, &mut cursor, TrackKind::Video), [2, 3, 4]);
    room.push(frame(TrackKind::Video, 5, false));
    assert!(
        room.next(&cursor, TrackKind::Video)
            .unwrap()
            .burst_to
            .is_none()
    );
}

#[test]
fn viewer_before_the_publisher_waits_and_gets_the_first_key() {
    let mut room = Room::default();
    let mut cursor = room.join(Rendition::Safe);
    assert!(room.next(&cursor, TrackKind::Video).is_none());
    room.push(frame(TrackKind::Video, 0, true));
    room.push(frame(TrackKind::Audio, 0, true));
    assert_eq!(drain(&room, &mut cursor, TrackKind::Video), [0]);
    assert_eq!(drain(&room, &mut cursor, TrackKind::Audio), [0]);
}

#[test]
fn audio_starts_at_the_live_edge() {
    let mut room = Room::default();
    for number in 0..10 {
        room.push(frame(TrackKind::Audio, number, true));
    }
    let mut cursor = room.join(Rendition::Safe);
    assert!(room.next(&cursor, TrackKind::Audio).is_none());
    room.push(frame(TrackKind::Audio, 10, true));
    assert_eq!(drain(&room, &mut cursor, TrackKind::Audio), [10]);
}

#[test]
fn viewer_left_behind_jumps_to_the_newest_key() {
    let mut room = Room::default();
    room.push(frame(TrackKind::Video, 0, true));
    let mut cursor = room.join(Rendition::Safe);
    drain(&room, &mut cursor, TrackKind::Video);
    for number in 1..20 {
        room.push(frame(TrackKind::Video, number, number == 15));
    }
    assert_eq!(
        drain(&room, &mut cursor, TrackKind::Video),
        [15, 16, 17, 18, 19]
    );
}

#[test]
fn frames_that_a_jump_leaves_out_are_counted_and_those_of_a_new_publish_are_not() {
    let mut room = Room::default();
    room.push(frame(TrackKind::Video, 0, true));
    room.push(frame(TrackKind::Audio, 0, true));
    let mut cursor = room.join(Rendition::Safe);
    cursor.audio = Some(0);
    let skipped = |room: &Room, cursor: &mut Cursor, track| {
        let delivery = room.next(cursor, track).unwrap();
        cursor.advance(&delivery.frame);
        delivery.skipped
    };
    for track in [TrackKind::Video, TrackKind::Audio] {
        assert_eq!(skipped(&room, &mut cursor, track), 0, "it joins");
    }
    for number in 1..20 {
        room.push(frame(TrackKind::Video, number, number == 15));
    }
    assert_eq!(skipped(&room, &mut cursor, TrackKind::Video), 14);
    assert_eq!(skipped(&room, &mut cursor, TrackKind::Video), 0);
    let next = 7 << 32;
    room.push(frame(TrackKind::Video, next, true));
    room.push(frame(TrackKind::Audio, next, true));
    assert_eq!(skipped(&room, &mut cursor, TrackKind::Video), 0);
    assert_eq!(skipped(&room, &mut cursor, TrackKind::Audio), 0);
}

#[test]
fn viewer_two_frames_behind_a_key_gets_them_all() {
    let mut room = Room::default();
    room.push(frame(TrackKind::Video, 0, true));
    let mut cursor = room.join(Rendition::Safe);
    drain(&room, &mut cursor, TrackKind::Video);
    for number in 1..4 {
        room.push(frame(TrackKind::Video, number, number == 3));
    }
    assert_eq!(drain(&room, &mut cursor, TrackKind::Video), [1, 2, 3]);
}

#[test]
fn next_publish_goes_on_at_its_first_key() {
    let mut room = Room::default();
    room.push(frame(TrackKind::Video, 0, true));
    room.push(frame(TrackKind::Audio, 0, true));
    let mut cursor = room.join(Rendition::Safe);
    drain(&room, &mut cursor, TrackKind::Video);
    room.end(Epoch(0));
    assert!(room.next(&cursor, TrackKind::Video).is_none());
    let start = Epoch(1).first_number();
    room.push(frame(TrackKind::Video, start, true));
    room.push(frame(TrackKind::Audio, start, true));
    assert_eq!(drain(&room, &mut cursor, TrackKind::Video), [start]);
    assert_eq!(drain(&room, &mut cursor, TrackKind::Audio), [start]);
}

#[test]
fn what_is_late_of_an_older_publish_changes_nothing() {
    let mut room = Room::default();
    room.push(frame(TrackKind::Video, 0, true));
    let start = Epoch(1).first_number();
    room.begin(Epoch(1));
    assert!(!room.push(frame(TrackKind::Video, 1, true)));
    room.push(frame(TrackKind::Video, start, true));
    room.end(Epoch(0));
    let mut cursor = room.join(Rendition::Safe);
    assert_eq!(drain(&room, &mut cursor, TrackKind::Video), [start]);
}

/// A room whose source is unsafe from number 3 on, with what is made of it from 4 on.
fn unsafe_room() -> Room {
    let mut room = Room::default();
    for number in 0..6 {
        assert!(room.push(video(number, number % 5 == 0, number < 3)));
        if number >= 4 {
            let made = MADE + number - 4;
            assert!(room.push(video(made, made == MADE, true)));
        }
    }
    room
}

#[test]
fn nothing_of_an_unsafe_source_reaches_a_cursor_bound_to_safe() {
    let mut room = Room::default();
    let mut cursor = room.join(Rendition::Safe);
    room.push(video(0, true, false));
    room.push(video(1, false, false));
    assert!(room.next(&cursor, TrackKind::Video).is_none());
    assert!(!room.is_source_safe() && !room.has_entry(Rendition::Safe));
    room.push(video(MADE, true, true));
    assert_eq!(drain(&room, &mut cursor, TrackKind::Video), [MADE]);
    let mut source = room.join(Rendition::Source);
    assert_eq!(drain(&room, &mut source, TrackKind::Video), [0, 1]);
}

#[test]
fn cursor_goes_to_what_is_made_when_the_source_turns_unsafe_and_back_when_it_is_safe() {
    let mut room = Room::default();
    room.push(video(0, true, true));
    room.push(video(1, false, true));
    let mut cursor = room.join(Rendition::Safe);
    assert_eq!(drain(&room, &mut cursor, TrackKind::Video), [0, 1]);
    room.push(video(2, false, false));
    room.push(video(3, true, false));
    assert!(room.next(&cursor, TrackKind::Video).is_none(), "it waits");
    room.push(video(MADE, true, true));
    let first = room.next(&cursor, TrackKind::Video).unwrap();
    assert_eq!(first.frame.number, MADE);
    let burst_to = first
        .burst_to
        .expect("another rendition is a burst of its own");
    assert_eq!(burst_to.number, MADE);
    room.push(video(MADE + 1, false, true));
    assert_eq!(
        drain(&room, &mut cursor, TrackKind::Video),
        [MADE, MADE + 1]
    );

    room.push(video(4, false, true));
    assert!(room.next(&cursor, TrackKind::Video).is_none(), "not yet");
    room.push(video(5, true, true));
    assert!(room.is_source_safe());
    assert!(
        !room.push(video(MADE + 2, false, true)),
        "late, and of no use"
    );
    room.push(video(6, false, true));
    let first = room.next(&cursor, TrackKind::Video).unwrap();
    assert_eq!((first.frame.number, first.burst_to.unwrap().number), (5, 6));
    assert_eq!(drain(&room, &mut cursor, TrackKind::Video), [5, 6]);
}

#[test]
fn cursor_that_slept_through_an_unsafe_stretch_gets_nothing_of_it() {
    let mut room = Room::default();
    room.push(video(0, true, true));
    let mut cursor = room.join(Rendition::Safe);
    assert_eq!(drain(&room, &mut cursor, TrackKind::Video), [0]);
    room.push(video(1, false, false));
    room.push(video(2, true, true));
    assert_eq!(drain(&room, &mut cursor, TrackKind::Video), [2]);
}

#[test]
fn what_was_made_in_an_earlier_unsafe_stretch_is_not_shown_in_the_next() {
    let mut room = unsafe_room();
    room.push(video(6, true, true));
    room.push(video(7, true, false));
    let cursor = room.join(Rendition::Safe);
    assert!(room.next(&cursor, TrackKind::Video).is_none());
}

#[test]
fn what_is_made_is_no_entry_once_it_has_fallen_behind() {
    let mut room = unsafe_room();
    assert!(room.has_entry(Rendition::Safe));
    let mut late = Arc::into_inner(video(6, false, false)).unwrap();
    late.received += BEHIND_MAX + Duration::from_secs(1);
    room.push(Arc::new(late));
    assert!(!room.has_entry(Rendition::Safe) && room.has_entry(Rendition::Source));
}

#[test]
fn viewer_is_moved_to_another_rendition_and_back_at_its_next_keyframe() {
    let mut room = unsafe_room();
    let mut cursor = room.join(Rendition::Safe);
    let made = |offset: u64| MADE + offset;
    assert_eq!(
        drain(&room, &mut cursor, TrackKind::Video),
        [made(0), made(1)]
    );
    room.rebind(&mut cursor, Rendition::Source);
    room.push(video(6, false, false));
    room.push(video(made(2), false, true));
    assert_eq!(drain(&room, &mut cursor, TrackKind::Video), [made(2)]);
    assert_eq!(cursor.rendition(), Rendition::Safe);
    room.push(video(7, true, false));
    room.push(video(made(3), false, true));
    assert_eq!(drain(&room, &mut cursor, TrackKind::Video), [7]);
    assert_eq!(cursor.rendition(), Rendition::Source);

    room.rebind(&mut cursor, Rendition::Safe);
    room.push(video(8, false, false));
    room.push(video(made(4), false, true));
    assert_eq!(drain(&room, &mut cursor, TrackKind::Video), [8]);
    room.push(video(9, false, false));
    room.push(video(made(5), true, true));
    assert_eq!(drain(&room, &mut cursor, TrackKind::Video), [made(5)]);
    assert_eq!(cursor.rendition(), Rendition::Safe);
}

#[test]
fn move_between_renditions_that_are_one_happens_at_once_and_skips_nothing() {
    let mut room = Room::default();
    room.push(video(0, true, true));
    let mut cursor = room.join(Rendition::Safe);
    drain(&room, &mut cursor, TrackKind::Video);
    room.rebind(&mut cursor, Rendition::Source);
    assert_eq!(cursor.rendition(), Rendition::Source);
    room.push(video(1, false, false));
    assert_eq!(drain(&room, &mut cursor, TrackKind::Video), [1]);
}

#[test]
fn move_to_a_rendition_that_becomes_one_with_the_source_meanwhile() {
    let mut room = unsafe_room();
    let mut cursor = room.join(Rendition::Source);
    drain(&room, &mut cursor, TrackKind::Video);
    room.rebind(&mut cursor, Rendition::Safe);
    room.push(video(6, true, true));
    room.push(video(7, false, true));
    assert_eq!(drain(&room, &mut cursor, TrackKind::Video), [6, 7]);
    assert_eq!(cursor.rendition(), Rendition::Safe);
}

/// A bug was: nothing that is made of H.265 after safe H.264 was shown, since nothing of it is kept that
/// says that the source is safe no more.
#[test]
fn what_is_made_of_a_source_that_is_not_kept_follows_a_safe_source_and_one_follows_it() {
    let (mut room, mut there) = (Room::default(), Room::default());
    let mut feed = room.feed();
    let (mut here, mut shown_here) = (room.join(Rendition::Safe), Vec::new());
    let (mut linked, mut shown_there) = (there.join(Rendition::Safe), Vec::new());
    let start = video(0, true, true).received;
    let pushed = [
        (0, video(0, true, true)),
        (40, video(1, false, true)),
        (120, video(MADE, true, true)),
        (160, video(MADE + 1, false, true)),
        (240, video(2, true, true)),
        (280, video(3, false, true)),
        (360, video(MADE + 2, true, true)),
    ];
    for (ms, frame) in pushed {
        let number = frame.number;
        assert!(room.push(at(start, ms, frame)), "{number}");
        while let Some(frame) = room.next_for(&mut feed) {
            assert!(there.push(frame), "{number} there");
        }
        let is_made = Rendition::of_number(number) == Rendition::Safe;
        for (room, cursor, shown) in [
            (&room, &mut here, &mut shown_here),
            (&there, &mut linked, &mut shown_there),
        ] {
            assert_eq!(room.is_source_safe(), !is_made);
            let mut joiner = room.join(Rendition::Safe);
            let of_joiner = drain(room, &mut joiner, TrackKind::Video);
            assert_eq!(of_joiner.last(), Some(&number));
            shown.extend(drain(room, cursor, TrackKind::Video));
        }
    }
    let expected = [0, 1, MADE, MADE + 1, 2, 3, MADE + 2];
    assert_eq!(
        (&shown_here[..], &shown_there[..]),
        (&expected[..], &expected[..])
    );
}

#[test]
fn what_was_made_before_the_source_turned_safe_is_late_even_if_it_begins_anew() {
    let mut room = Room::default();
    let first = video(0, true, false);
    let start = first.received;
    room.push(first);
    room.push(at(start, 40, video(1, true, true)));
    for ms in [0, 40] {
        assert!(!room.push(at(start, ms, video(MADE, true, true))));
    }
    assert!(room.is_source_safe());
    let later = at(start, 80, video(MADE, false, true));
    assert!(!room.push(later), "it begins nothing");
    let same_read = at(start, 40, video(MADE, true, true));
    let mut same_read = Arc::into_inner(same_read).unwrap();
    same_read.pts = MediaTime::from_millis(40);
    assert!(room.push(Arc::new(same_read)), "of what comes after it");
    assert!(!room.is_source_safe());
}

#[test]
fn source_that_is_left_is_shown_to_nobody_and_a_late_word_of_it_changes_nothing() {
    let mut room = Room::default();
    room.begin(Epoch(1));
    let start = Epoch(1).first_number();
    room.push(video(start, true, true));
    room.leave_source(Epoch(0));
    assert!(room.is_source_safe());
    let mut cursor = room.join(Rendition::Safe);
    room.leave_source(Epoch(1));
    assert!(!room.is_source_safe() && !room.has_entry(Rendition::Safe));
    assert!(room.next(&cursor, TrackKind::Video).is_none());
    room.push(frame(TrackKind::Audio, start, true));
    assert!(room.push(video(MADE + start, true, true)));
    assert_eq!(drain(&room, &mut cursor, TrackKind::Video), [MADE + start]);
    let newest = frame(TrackKind::Audio, start + 1, true);
    let ms = u64::try_from((BEHIND_MAX * 2).as_millis()).unwrap();
    room.push(at(newest.received, ms, newest));
    assert!(
        !room.has_entry(Rendition::Safe),
        "the sound says how late it is"
    );
}

#[test]
fn packets_of_every_rendition_are_found_by_their_numbers() {
    let mut room = unsafe_room();
    for number in [0, 5, MADE, MADE + 1] {
        let (found, index) = room.packet(TrackKind::Video, number).unwrap();
        assert_eq!((found.number, index), (number, 0));
    }
    assert!(room.packet(TrackKind::Video, MADE + 2).is_none());
    room.clear_safe();
    assert!(
        room.packet(TrackKind::Video, MADE).is_none(),
        "a clean miss"
    );
    assert!(room.packet(TrackKind::Audio, 0).is_none());
}

#[test]
fn other_core_gets_every_rendition_once_and_in_an_order_that_it_understands() {
    let mut room = Room::default();
    let (mut feed, mut there) = (room.feed(), Room::default());
    let mut cursor = there.join(Rendition::Safe);
    let (mut taken, mut shown) = (Vec::new(), Vec::new());
    for turn in 0..12 {
        let (number, key, safe) = (turn, turn % 4 == 0, !(2..8).contains(&turn));
        room.push(video(number, key, safe));
        if (4..9).contains(&turn) {
            room.push(video(MADE + turn - 4, turn == 4, true));
        }
        room.push(frame(TrackKind::Audio, turn, true));
        while let Some(frame) = room.next_for(&mut feed) {
            taken.push(frame.number);
            assert!(there.push(frame), "refused in turn {turn}");
        }
        shown.extend(drain(&there, &mut cursor, TrackKind::Video));
    }
    assert_eq!(taken.len(), 12 + 4 + 12, "{taken:?}");
    let made = (0..4).map(|number| MADE + number);
    let expected: Vec<u64> = (0..2).chain(made).chain(8..12).collect();
    assert_eq!(shown, expected);
}

#[test]
fn unsafe_frame_that_does_not_fit_says_all_the_same_that_the_source_is_unsafe() {
    let mut room = Room::default();
    room.push(video(0, true, true));
    let mut cursor = room.join(Rendition::Safe);
    drain(&room, &mut cursor, TrackKind::Video);
    assert!(!room.push(video(2, false, false)), "1 was lost");
    assert!(room.push(video(MADE, true, true)));
    assert_eq!(drain(&room, &mut cursor, TrackKind::Video), [MADE]);
}

/// Frames of which each third is a reference for nobody.
fn with_spares(room: &mut Room, numbers: std::ops::Range<u64>, key: u64) {
    for number in numbers {
        let frame = frame(TrackKind::Video, number, number == key);
        let head = FrameSetHead {
            track: frame.track,
            rendition: frame.rendition,
            safe: frame.safe,
            epoch: frame.epoch,
            number,
            first_sequence: number,
            key: frame.key,
            disposable: number % 3 == 2,
            pts: frame.pts,
            received: frame.received,
        };
        assert!(room.push(Arc::new(FrameSet::new(head, vec![1], vec![1]).unwrap())));
    }
}

/// What a hurried cursor gets, and how many frames it was said to leave out.
fn hurried(room: &Room, cursor: &mut Cursor, haste: Haste) -> (Vec<u64>, u64) {
    let (mut numbers, mut left_out) = (Vec::new(), 0);
    loop {
        left_out += room.hurry(cursor, haste);
        let Some(delivery) = room.next(cursor, TrackKind::Video) else {
            return (numbers, left_out);
        };
        assert!(delivery.burst_to.is_none() || numbers.is_empty());
        left_out += delivery.skipped;
        cursor.advance(&delivery.frame);
        numbers.push(delivery.frame.number);
    }
}

#[test]
fn hurried_viewer_is_spared_what_no_other_picture_needs() {
    let mut room = Room::default();
    with_spares(&mut room, 0..1, 0);
    let mut cursor = room.join(Rendition::Safe);
    drain(&room, &mut cursor, TrackKind::Video);
    with_spares(&mut room, 1..10, 0);
    let (got, left_out) = hurried(&room, &mut cursor, Haste::Spared);
    assert_eq!((got, left_out), (vec![1, 3, 4, 6, 7, 9], 3));
}

#[test]
fn hurried_viewer_goes_on_at_a_newer_keyframe_however_near_without_a_burst() {
    for haste in [Haste::Spared, Haste::ToKeyframe] {
        let mut room = Room::default();
        with_spares(&mut room, 0..1, 0);
        let mut cursor = room.join(Rendition::Safe);
        drain(&room, &mut cursor, TrackKind::Video);
        with_spares(&mut room, 1..5, 3);
        assert_eq!(room.hurry(&mut cursor, haste), 2);
        let next = room.next(&cursor, TrackKind::Video).unwrap();
        assert_eq!((next.frame.number, next.burst_to.is_none()), (3, true));
        assert_eq!(room.hurry(&mut cursor, haste), 0, "the keyframe stays");
    }
}

#[test]
fn late_viewer_gets_nothing_until_a_keyframe_that_it_has_not_had() {
    let mut room = Room::default();
    with_spares(&mut room, 0..3, 0);
    let mut cursor = room.join(Rendition::Safe);
    drain(&room, &mut cursor, TrackKind::Video);
    with_spares(&mut room, 3..6, 0);
    let (got, left_out) = hurried(&room, &mut cursor, Haste::ToKeyframe);
    assert_eq!((got, left_out), (vec![], 0), "not even the keyframe again");
    with_spares(&mut room, 6..8, 0);
    assert!(drain(&room, &mut cursor, TrackKind::Video).is_empty());
    with_spares(&mut room, 8..10, 8);
    let next = room.next(&cursor, TrackKind::Video).unwrap();
    assert_eq!((next.frame.number, next.skipped), (8, 5));
    assert!(next.burst_to.is_none(), "it goes on, it does not begin");
    assert_eq!(drain(&room, &mut cursor, TrackKind::Video), [8, 9]);
}

#[test]
fn late_viewer_that_asks_for_a_keyframe_gets_the_one_there_is_and_a_new_publish_at_once() {
    let mut room = Room::default();
    with_spares(&mut room, 0..3, 0);
    let mut cursor = room.join(Rendition::Safe);
    drain(&room, &mut cursor, TrackKind::Video);
    with_spares(&mut room, 3..6, 0);
    room.hurry(&mut cursor, Haste::ToKeyframe);
    let mut asking = cursor;
    asking.await_key();
    assert_eq!(
        drain(&room, &mut asking, TrackKind::Video),
        [0, 1, 2, 3, 4, 5]
    );
    let next = 7 << 32;
    room.begin(Epoch(7));
    room.push(frame(TrackKind::Video, next, true));
    assert_eq!(drain(&room, &mut cursor, TrackKind::Video), [next]);
}

#[test]
fn who_waits_for_the_first_keyframe_or_moves_to_another_rendition_is_not_hurried() {
    let mut room = Room::default();
    with_spares(&mut room, 0..6, 0);
    let mut cursor = room.join(Rendition::Safe);
    assert_eq!(room.hurry(&mut cursor, Haste::ToKeyframe), 0);
    assert_eq!(drain(&room, &mut cursor, TrackKind::Video).len(), 6);
    assert_eq!(room.hurry(&mut cursor, Haste::ToKeyframe), 0);
    with_spares(&mut room, 6..8, 0);
    assert_eq!(drain(&room, &mut cursor, TrackKind::Video), [6, 7]);
}
