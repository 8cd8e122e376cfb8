//! One worker: opening, closing, faults, and children.

use super::*;

const CORE: CoreId = CoreId(3);
const PUBLISHER: PublisherId = PublisherId(7);
/// AAC-LC, 48 kHz, stereo (14496-3 §1.6.2.1), and a unit of it: silence.
const CONFIG: [u8; 2] = [0x11, 0x90];
const UNIT: [u8; 9] = [0x21, 0x00, 0x49, 0x90, 0x02, 0x19, 0x00, 0x23, 0x80];

fn open(publisher: PublisherId, config: &'static [u8]) -> TranscodeMsg {
    TranscodeMsg::Open {
        core: CORE,
        publisher,
        config: AudioConfig::Aac(Bytes::from_static(config)),
    }
}

fn configure(config: &'static [u8]) -> TranscodeMsg {
    TranscodeMsg::Configure {
        publisher: PUBLISHER,
        config: AudioConfig::Aac(Bytes::from_static(config)),
    }
}

fn unit(index: i64, data: &'static [u8]) -> TranscodeMsg {
    TranscodeMsg::Unit {
        publisher: PUBLISHER,
        pts: MediaTime::from_micros(index * 64_000 / 3),
        data: Bytes::from_static(data),
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        received: Instant::now(),
    }
}

/// The replies to a message: packets are counted, complaints kept.
fn replies(worker: &mut Transcoder, msg: TranscodeMsg) -> (usize, Vec<String>) {
    let (mut packets, mut complaints) = (0, Vec::new());
    worker.handle(msg, &mut |core, reply| {
        assert_eq!(core, CORE);
        match reply {
            TranscodeReply::Packet { publisher, .. } => {
                assert_eq!(publisher, PUBLISHER);
                packets += 1;
            }
            TranscodeReply::Finished { .. } => complaints.push("finished".to_owned()),
            TranscodeReply::Unplayable { text, .. } => complaints.push(text),
        }
    });
    (packets, complaints)
}

/// It was said that sound cannot be played for a reason that passes, and what to do.
fn assert_passes(told: &[TranscodeReply], advice: &str) {
    let [
        TranscodeReply::Unplayable {
            text, retry_after, ..
        },
    ] = told
    else {
        panic!("{told:?}");
    };
    assert!(text.contains(advice) && retry_after.is_some(), "{told:?}");
}

fn worker() -> Transcoder {
    let mut worker = Transcoder::new(AudioSettings::default());
    assert_eq!(replies(&mut worker, open(PUBLISHER, &CONFIG)), (0, vec![]));
    worker
}

#[test]
fn stream_gives_packets_from_open_to_close() {
    let mut worker = worker();
    assert_eq!(replies(&mut worker, unit(0, &UNIT)), (1, vec![]));
    assert_eq!(worker.stats(PUBLISHER).map(|stats| stats.decoded), Some(1));
    let close = TranscodeMsg::Close {
        publisher: PUBLISHER,
    };
    replies(&mut worker, close.clone());
    assert_eq!(worker.streams(), 0);
    assert_eq!(replies(&mut worker, unit(1, &UNIT)), (0, vec![]));
    replies(&mut worker, close);
    assert_eq!(worker.strays(), 2);
}

#[test]
fn units_that_cannot_be_decoded_are_counted_for_all_streams_and_for_good() {
    let mut worker = worker();
    replies(&mut worker, unit(0, &UNIT));
    replies(&mut worker, unit(1, &[0xff; 9]));
    assert_eq!(worker.concealed(), 1);
    // A stream that ends takes nothing back.
    let publisher = PUBLISHER;
    replies(&mut worker, TranscodeMsg::Close { publisher });
    replies(&mut worker, open(PUBLISHER, &CONFIG));
    replies(&mut worker, unit(2, &UNIT));
    replies(&mut worker, unit(3, &[0xff; 9]));
    assert_eq!(worker.concealed(), 2);
}

#[test]
fn last_of_a_stream_comes_before_its_end() {
    let mut worker = worker();
    let packets: usize = (0..3)
        .map(|index| replies(&mut worker, unit(index, &UNIT)).0)
        .sum();
    // 3,072 samples less than three packets of 20 ms, and one more.
    assert_eq!(packets, 3);
    let finish = TranscodeMsg::Finish {
        publisher: PUBLISHER,
    };
    assert_eq!(
        replies(&mut worker, finish),
        (1, vec!["finished".to_owned()])
    );
    let close = TranscodeMsg::Close {
        publisher: PUBLISHER,
    };
    replies(&mut worker, close);
    assert_eq!((worker.streams(), worker.strays()), (0, 0));
}

#[test]
fn unusable_configuration_is_told_and_a_good_one_mends_it() {
    let mut worker = worker();
    let (_, complaints) = replies(&mut worker, configure(&[0xff; 8]));
    assert_eq!(complaints.len(), 1);
    assert!(complaints[0].contains("publisher"), "{complaints:?}");
    assert_eq!(replies(&mut worker, unit(0, &UNIT)), (0, vec![]));
    assert_eq!(replies(&mut worker, configure(&CONFIG)), (0, vec![]));
    assert_eq!(replies(&mut worker, unit(1, &UNIT)).0, 1);
}

#[test]
fn stream_is_not_mended_for_ever() {
    let mut worker = worker();
    for _ in 0..2 * AUDIO_FORMAT_CHANGES_MAX {
        replies(&mut worker, configure(&[0xff; 8]));
    }
    let (_, complaints) = replies(&mut worker, configure(&CONFIG));
    assert_eq!(complaints, [TranscodeError::TooManyChanges.to_string()]);
    assert_eq!(TranscodeError::TooManyChanges.retry_after(), None);
}

#[test]
fn stream_of_nothing_but_garbage_is_told_once() {
    let mut worker = worker();
    let mut complaints = Vec::new();
    for index in 0..200 {
        complaints.extend(replies(&mut worker, unit(index, &[0x5a; 40])).1);
    }
    assert_eq!(complaints.len(), 1);
}

#[test]
fn panic_ends_its_stream_only() {
    let mut worker = worker();
    let other = PublisherId(8);
    replies(&mut worker, open(other, &CONFIG));
    let mut complaints = 0;
    worker.handle(unit(0, &UNIT), &mut |_, reply| match reply {
        TranscodeReply::Packet { .. } | TranscodeReply::Finished { .. } => {
            panic!("as a codec might")
        }
        TranscodeReply::Unplayable { publisher, .. } => {
            assert_eq!(publisher, PUBLISHER);
            complaints += 1;
        }
    });
    assert_eq!((complaints, worker.faults()), (1, 1));
    assert!(worker.stats(PUBLISHER).is_none());
    assert!(worker.stats(other).is_some());
}

#[test]
fn streams_are_bounded() {
    // The real bound costs too much memory and time to reach: a broken stream counts as well.
    let mut worker = Transcoder::new(AudioSettings::default());
    let publisher = |index: usize| PublisherId(u64::try_from(index).unwrap());
    for index in 0..TRANSCODE_STREAMS_MAX {
        replies(&mut worker, open(publisher(index), &[]));
    }
    let mut told = Vec::new();
    worker.handle(open(publisher(9_999), &CONFIG), &mut |_, reply| {
        told.push(reply);
    });
    assert_passes(&told, "transcode.workers");
    assert_eq!(worker.streams(), TRANSCODE_STREAMS_MAX);
    assert_eq!(
        replies(&mut worker, open(publisher(5), &CONFIG)),
        (0, vec![]),
        "an open stream may be opened again"
    );
}

/// An AC-3 frame by its header: 48 kHz, 192 kbit/s (TS 102 366 §5.3).
fn ac3_unit() -> TranscodeMsg {
    let mut frame = vec![0x0b, 0x77, 0, 0, 0x14, 0x40];
    frame.resize(768, 0);
    let TranscodeMsg::Unit {
        publisher,
        pts,
        received,
        ..
    } = unit(0, &UNIT)
    else {
        panic!("a unit")
    };
    TranscodeMsg::Unit {
        publisher,
        pts,
        data: frame.into(),
        received,
    }
}

fn ac3_worker() -> (Transcoder, ChildId) {
    let mut worker = Transcoder::new(AudioSettings::default());
    let open = TranscodeMsg::Open {
        core: CORE,
        publisher: PUBLISHER,
        config: AudioConfig::Ac3,
    };
    assert_eq!(replies(&mut worker, open), (0, vec![]));
    assert_eq!(worker.poll_child(), None, "nothing to decode yet");
    replies(&mut worker, ac3_unit());
    let Some(ChildAction::Start { child, .. }) = worker.poll_child() else {
        panic!("no child is started");
    };
    (worker, child)
}

#[test]
fn child_is_fed_and_read_and_ended_with_its_stream() {
    let (mut worker, child) = ac3_worker();
    let writes = std::iter::from_fn(|| worker.poll_child()).count();
    assert_eq!(writes, 2, "the head and a packet");
    let mut packets = 0;
    worker.child_output(child, &vec![0; 1_536 * 8], &mut |_, reply| {
        assert!(matches!(reply, TranscodeReply::Packet { .. }), "{reply:?}");
        packets += 1;
    });
    assert_eq!(packets, 1);
    worker.handle(configure(&CONFIG), &mut |_, _| {});
    assert_eq!(worker.poll_child(), Some(ChildAction::Stop { child }));
    assert_eq!(replies(&mut worker, unit(5, &UNIT)).1, Vec::<String>::new());
}

/// The starts that are to be made, and what is said meanwhile, of AC-3 that is now and then called
/// something else.
fn starts_with_changes(config: &AudioConfig, changes: usize) -> (usize, Vec<String>) {
    let (mut worker, _) = ac3_worker();
    let (mut starts, mut told) = (1, Vec::new());
    for config in [config, &AudioConfig::Ac3].iter().cycle().take(changes) {
        let configure = TranscodeMsg::Configure {
            publisher: PUBLISHER,
            config: (*config).clone(),
        };
        told.extend(replies(&mut worker, configure).1);
        told.extend(replies(&mut worker, ac3_unit()).1);
        let actions = std::iter::from_fn(|| worker.poll_child());
        let start = |action: &ChildAction| matches!(action, ChildAction::Start { .. });
        starts += actions.filter(start).count();
    }
    (starts, told)
}

#[test]
fn format_that_changes_again_and_again_starts_no_child_each_time() {
    let few = starts_with_changes(&AudioConfig::Eac3, 4);
    assert_eq!(few, (5, Vec::new()));
    for other in [
        AudioConfig::Eac3,
        // Between two of them the stream needs no child.
        AudioConfig::Aac(Bytes::from_static(&CONFIG)),
    ] {
        let (starts, told) = starts_with_changes(&other, 40);
        assert_eq!(starts, 5);
        assert_eq!(
            told.first(),
            Some(&TranscodeError::TooManyChanges.to_string())
        );
    }
}

#[test]
fn ffmpeg_that_is_missing_or_too_busy_is_told_with_what_to_do() {
    for (ended, advice) in [
        (Ended::Missing, "install ffmpeg"),
        (Ended::TooMany, "transcode.workers"),
    ] {
        let (mut worker, child) = ac3_worker();
        let mut told = Vec::new();
        worker.child_ended(child, ended, &mut |_, reply| told.push(reply));
        assert_passes(&told, advice);
        // It is not started for each packet.
        while worker.poll_child().is_some() {}
        replies(&mut worker, ac3_unit());
        assert_eq!(worker.poll_child(), None);
    }
}

#[test]
fn stream_ends_when_its_child_has_given_all() {
    let (mut worker, child) = ac3_worker();
    let finish = TranscodeMsg::Finish {
        publisher: PUBLISHER,
    };
    assert_eq!(replies(&mut worker, finish), (0, vec![]));
    let mut last = None;
    worker.child_output(child, &vec![0; 1_536 * 8], &mut |_, reply| {
        last = Some(reply);
    });
    assert!(
        matches!(last, Some(TranscodeReply::Finished { .. })),
        "{last:?}"
    );
}

#[test]
fn stream_that_ends_takes_its_child_with_it() {
    let (mut worker, child) = ac3_worker();
    while worker.poll_child().is_some() {}
    let close = TranscodeMsg::Close {
        publisher: PUBLISHER,
    };
    replies(&mut worker, close);
    assert_eq!(worker.poll_child(), Some(ChildAction::Stop { child }));
    assert_eq!(worker.strays(), 0);
}
