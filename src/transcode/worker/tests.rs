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
            TranscodeReply::Unplayable { text, .. } => complaints.push(text),
        }
    });
    (packets, complaints)
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
        TranscodeReply::Packet { .. } => panic!("as a codec might"),
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
    let (_, complaints) = replies(&mut worker, open(publisher(9_999), &CONFIG));
    assert!(complaints[0].contains("more workers"), "{complaints:?}");
    assert_eq!(worker.streams(), TRANSCODE_STREAMS_MAX);
    assert_eq!(
        replies(&mut worker, open(publisher(5), &CONFIG)),
        (0, vec![]),
        "an open stream may be opened again"
    );
}
