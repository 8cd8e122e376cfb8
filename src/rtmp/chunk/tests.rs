//! T-01 to T-06 and T-10 of the chunk reader, and its invariance under splitting.

mod random_stream;

use proptest::prelude::*;

use self::random_stream::{Dice, random_stream};
use super::*;
use crate::rtmp::tests::wire::{IdForm, Wire, basic, control};

const AUDIO: u8 = message_type::AUDIO;
const VIDEO: u8 = message_type::VIDEO;

fn media_reader() -> ChunkReader {
    let mut reader = ChunkReader::new();
    reader.set_admission(Admission::Media);
    reader
}

fn read_all(reader: &mut ChunkReader, bytes: &[u8]) -> Result<Vec<Message>, ChunkError> {
    let mut input = bytes;
    let mut messages = Vec::new();
    while let Some(message) = reader.next_message(&mut input)? {
        messages.push(message);
    }
    assert!(input.is_empty(), "input left behind");
    Ok(messages)
}

fn read(bytes: &[u8]) -> Result<Vec<Message>, ChunkError> {
    read_all(&mut media_reader(), bytes)
}

fn read_by_bytes(bytes: &[u8]) -> Result<Vec<Message>, ChunkError> {
    let mut reader = media_reader();
    let mut messages = Vec::new();
    for byte in bytes.chunks(1) {
        messages.extend(read_all(&mut reader, byte)?);
    }
    Ok(messages)
}

fn payload(length: usize, seed: u8) -> Vec<u8> {
    let byte = |index: usize| u8::try_from(index % 251).unwrap().wrapping_add(seed);
    (0..length).map(byte).collect()
}

fn alternate(a: &Wire, b: &Wire) -> Vec<u8> {
    let (mut a, mut b) = (a.chunks().into_iter(), b.chunks().into_iter());
    let mut bytes = Vec::new();
    loop {
        let (x, y) = (a.next(), b.next());
        if x.is_none() && y.is_none() {
            return bytes;
        }
        bytes.extend(x.unwrap_or_default());
        bytes.extend(y.unwrap_or_default());
    }
}

#[test]
fn t01_alternating_chunks_of_two_messages_are_both_whole() {
    for (first, second) in [(3, 4), (64, 3), (319, 64), (65_599, 319), (320, 65_599)] {
        for length in [1, 128, 129, 65_535] {
            for form in [IdForm::Shortest, IdForm::ThreeBytes] {
                let mut a = Wire::new(first, VIDEO, 40, &payload(length, 1));
                let mut b = Wire::new(second, AUDIO, 41, &payload(300, 2));
                a.form = form;
                b.form = form;
                let messages = read(&alternate(&a, &b)).unwrap();
                let found = |type_id| messages.iter().find(|message| message.type_id == type_id);
                let (video, audio) = (found(VIDEO).unwrap(), found(AUDIO).unwrap());
                assert_eq!(messages.len(), 2);
                assert_eq!(
                    (&video.payload[..], video.timestamp_ms),
                    (&a.payload[..], 40)
                );
                assert_eq!(
                    (&audio.payload[..], audio.timestamp_ms),
                    (&b.payload[..], 41)
                );
                assert_eq!((video.stream_id, audio.stream_id), (1, 1));
            }
        }
    }
}

#[test]
fn each_header_type_repeats_what_it_leaves_out() {
    let mut bytes = Wire::new(4, VIDEO, 1_000, b"abc").stream(7).bytes();
    bytes.extend(Wire::new(4, AUDIO, 20, b"de").format(1).bytes());
    bytes.extend(Wire::new(4, 0, 30, b"fg").format(2).bytes());
    bytes.extend(Wire::new(4, 0, 0, b"hi").format(3).bytes());
    let messages = read(&bytes).unwrap();
    let seen: Vec<_> = messages
        .iter()
        .map(|m| (m.type_id, m.timestamp_ms, m.stream_id, &m.payload[..]))
        .collect();
    assert_eq!(
        seen,
        [
            (VIDEO, 1_000, 7, &b"abc"[..]),
            (AUDIO, 1_020, 7, b"de"),
            (AUDIO, 1_050, 7, b"fg"),
            (AUDIO, 1_080, 7, b"hi"),
        ]
    );
}

#[test]
fn type_3_after_type_0_takes_its_timestamp_as_the_delta() {
    let mut bytes = Wire::new(4, AUDIO, 1_000, b"a").bytes();
    bytes.extend(Wire::new(4, 0, 0, b"b").format(3).bytes());
    let messages = read(&bytes).unwrap();
    assert_eq!(messages[1].timestamp_ms, 2_000);
}

#[test]
fn first_header_of_a_chunk_stream_must_be_whole_but_type_1_is_taken() {
    for format in [2, 3] {
        let bytes = Wire::new(9, AUDIO, 1, b"a").format(format).bytes();
        assert_eq!(read(&bytes), Err(ChunkError::NoEarlierHeader));
    }
    let messages = read(&Wire::new(9, AUDIO, 5, b"a").format(1).bytes()).unwrap();
    assert_eq!((messages[0].timestamp_ms, messages[0].stream_id), (5, 0));
}

#[test]
fn messages_without_bytes_are_given_out() {
    let messages = read(&Wire::new(4, AUDIO, 5, b"").bytes()).unwrap();
    assert_eq!(messages.len(), 1);
    assert!(messages[0].payload.is_empty());
}

#[test]
fn t03_new_header_inside_a_message_is_an_error() {
    for format in [0, 1, 2] {
        let mut bytes = Wire::new(4, VIDEO, 0, &payload(200, 0)).chunks().remove(0);
        bytes.extend(
            Wire::new(4, VIDEO, 0, &payload(50, 0))
                .format(format)
                .bytes(),
        );
        let mut reader = media_reader();
        let result = read_all(&mut reader, &bytes);
        assert_eq!(result, Err(ChunkError::HeaderInsideMessage));
        assert!(reader.buffered_bytes() <= 64 * 1_024);
    }
}

#[test]
fn t04_declared_length_is_refused_at_the_header_and_nothing_is_allocated() {
    for type_id in [VIDEO, AUDIO, 18, 20, 22, 99] {
        let mut reader = ChunkReader::new();
        let header = Wire::new(4, type_id, 0, b"").header(16_777_215);
        let result = read_all(&mut reader, &header);
        let length = 16_777_215;
        assert_eq!(result, Err(ChunkError::MessageTooLong { type_id, length }));
        assert_eq!(reader.buffered_bytes(), 0);
    }
}

#[test]
fn lengths_are_limited_by_kind_and_by_how_far_the_publisher_is() {
    let limit = |admission, type_id, length: usize| {
        let mut reader = ChunkReader::new();
        reader.set_admission(admission);
        let length = u32::try_from(length).unwrap();
        let mut header = Wire::new(4, type_id, 0, b"").header(length);
        header.push(0);
        read_all(&mut reader, &header).is_ok()
    };
    let video = RTMP_VIDEO_MESSAGE_BYTES_MAX;
    let audio = RTMP_AUDIO_MESSAGE_BYTES_MAX;
    let small = RTMP_MESSAGE_BYTES_MAX;
    for (admission, type_id, most) in [
        (Admission::Small, VIDEO, small),
        (Admission::Small, 20, small),
        (Admission::Headers, VIDEO, video),
        (Admission::Headers, AUDIO, audio),
        (Admission::Headers, 18, small),
        (Admission::Skip, VIDEO, video),
        (Admission::Media, VIDEO, video),
        (Admission::Media, 22, video),
        (Admission::Small, AUDIO, small),
        (Admission::Skip, AUDIO, audio),
        (Admission::Media, AUDIO, audio),
        (Admission::Media, 20, small),
        (Admission::Media, 18, small),
    ] {
        assert!(limit(admission, type_id, most), "{admission:?} {type_id}");
        assert!(
            !limit(admission, type_id, most + 1),
            "{admission:?} {type_id}"
        );
    }
}

#[test]
fn memory_follows_the_bytes_that_came_not_the_declared_length() {
    let mut reader = media_reader();
    let mut bytes = control(message_type::SET_CHUNK_SIZE, 0x00ff_ffff);
    let whole = RTMP_VIDEO_MESSAGE_BYTES_MAX;
    bytes.extend(Wire::new(4, VIDEO, 0, b"").header(u32::try_from(whole).unwrap()));
    read_all(&mut reader, &bytes).unwrap();
    assert_eq!(reader.buffered_bytes(), 0);
    let part = payload(10_000, 0);
    for count in 1..=100 {
        read_all(&mut reader, &part).unwrap();
        let most = (2 * count * part.len()).max(FIRST_BUFFER_BYTES);
        assert!(reader.buffered_bytes() <= most);
    }
}

#[test]
fn payload_is_frozen_without_being_moved() {
    let mut reader = media_reader();
    let data = payload(100, 0);
    let wire = Wire::new(4, VIDEO, 0, &data).bytes();
    assert_eq!(read_all(&mut reader, &wire[..50]).unwrap(), []);
    let stream = reader.streams.first().unwrap();
    let address = stream.assembly.as_ref().unwrap().buffer.as_ptr();
    let messages = read_all(&mut reader, &wire[50..]).unwrap();
    assert_eq!(messages[0].payload.as_ptr(), address);
    assert_eq!(reader.buffered_bytes(), 0);
}

#[test]
fn t05_65th_chunk_stream_is_refused_and_the_others_hold_little() {
    let mut reader = media_reader();
    let whole = u32::try_from(RTMP_VIDEO_MESSAGE_BYTES_MAX).unwrap();
    let mut opened = 0;
    let error = (3..65_600).find_map(|id| {
        let mut bytes = Wire::new(id, VIDEO, 0, b"").header(whole);
        bytes.push(0);
        // A new chunk may begin only after 128 bytes of the one before it.
        bytes.resize(bytes.len() + 127, 0);
        opened += 1;
        read_all(&mut reader, &bytes).err()
    });
    assert_eq!(error, Some(ChunkError::TooManyChunkStreams));
    assert_eq!(opened, 65);
    assert!(reader.buffered_bytes() < 17 * 1_024 * 1_024);
}

#[test]
fn incomplete_messages_together_are_limited_before_and_after_publish() {
    for (admission, type_id, length, most) in [
        (Admission::Small, 20, RTMP_MESSAGE_BYTES_MAX, 128 * 1_024),
        (
            Admission::Media,
            VIDEO,
            RTMP_VIDEO_MESSAGE_BYTES_MAX,
            16 * 1_024 * 1_024,
        ),
    ] {
        let mut reader = ChunkReader::new();
        reader.set_admission(admission);
        let mut bytes = control(
            message_type::SET_CHUNK_SIZE,
            u32::try_from(length).unwrap() - 1,
        );
        read_all(&mut reader, &bytes).unwrap();
        let error = (3..60).find_map(|id| {
            bytes = Wire::new(id, type_id, 0, b"").header(u32::try_from(length).unwrap());
            bytes.resize(bytes.len() + length - 1, 0);
            let error = read_all(&mut reader, &bytes).err();
            assert!(error.is_some() || reader.buffered_bytes() <= most);
            error
        });
        assert_eq!(error, Some(ChunkError::TooManyPartialBytes));
    }
}

#[test]
fn t06_illegal_chunk_sizes_are_refused_and_legal_ones_read_on() {
    for size in [0, 0x8000_0000, u32::MAX] {
        let bytes = control(message_type::SET_CHUNK_SIZE, size);
        assert_eq!(read(&bytes), Err(ChunkError::ChunkSize(size)));
    }
    let data = payload(70_000, 3);
    for size in [1_u32, 127, 128, 4_096, 134_217_728, 0x7fff_ffff] {
        let mut bytes = control(message_type::SET_CHUNK_SIZE, size);
        let cut = usize::try_from(size).unwrap();
        bytes.extend(Wire::new(4, VIDEO, 0, &data).chunk_size(cut).bytes());
        let messages = read(&bytes).unwrap();
        assert_eq!(messages.len(), 1);
        assert_eq!(messages[0].payload, data);
    }
}

#[test]
fn chunk_size_changes_between_chunks_of_a_message() {
    let data = payload(1_000, 3);
    let mut bytes = Wire::new(4, VIDEO, 0, &data).chunks().remove(0);
    bytes.extend(control(message_type::SET_CHUNK_SIZE, 600));
    bytes.push(0xc4);
    bytes.extend(&data[128..728]);
    bytes.push(0xc4);
    bytes.extend(&data[728..]);
    assert_eq!(read(&bytes).unwrap()[0].payload, data);
}

#[test]
fn control_messages_without_their_number_are_refused() {
    for type_id in [message_type::SET_CHUNK_SIZE, message_type::ABORT] {
        let bytes = Wire::new(2, type_id, 0, &[0, 0, 1]).bytes();
        assert_eq!(read(&bytes), Err(ChunkError::ShortControlMessage));
    }
}

#[test]
fn abort_forgets_the_incomplete_message_of_its_chunk_stream_only() {
    let mut reader = media_reader();
    let video = Wire::new(4, VIDEO, 10, &payload(300, 1));
    let audio = Wire::new(5, AUDIO, 11, &payload(300, 2));
    let mut bytes = video.chunks().remove(0);
    bytes.extend(audio.chunks().remove(0));
    bytes.extend(control(message_type::ABORT, 4));
    bytes.extend(control(message_type::ABORT, 77));
    bytes.extend(audio.chunks().split_off(1).concat());
    bytes.extend(Wire::new(4, VIDEO, 10, b"next").format(1).bytes());
    let messages = read_all(&mut reader, &bytes).unwrap();
    assert_eq!(messages.len(), 2);
    assert_eq!(messages[0].payload, audio.payload);
    assert_eq!(
        (&messages[1].payload[..], messages[1].timestamp_ms),
        (&b"next"[..], 20)
    );
    assert_eq!(reader.buffered_bytes(), 0);
}

#[test]
fn t10_extended_timestamps_are_read_with_both_habits_of_type_3() {
    for time in [16_777_214, 16_777_215, 16_777_216, 0x0102_0304, u32::MAX] {
        for repeats_time in [true, false] {
            for length in [129, 130, 131, 132, 300, 1_000] {
                let mut wire = Wire::new(4, VIDEO, time, &payload(length, 9));
                wire.repeats_time = repeats_time;
                let mut bytes = wire.bytes();
                bytes.extend(Wire::new(4, VIDEO, 40, b"z").format(1).bytes());
                for messages in [read(&bytes).unwrap(), read_by_bytes(&bytes).unwrap()] {
                    let context = format!("{time} {repeats_time} {length}");
                    assert_eq!(messages.len(), 2, "{context}");
                    assert_eq!(messages[0].payload, wire.payload, "{context}");
                    assert_eq!(messages[0].timestamp_ms, time, "{context}");
                    assert_eq!(messages[1].timestamp_ms, time.wrapping_add(40), "{context}");
                }
            }
        }
    }
}

#[test]
fn t10_payload_that_begins_like_the_left_out_timestamp_stays_payload() {
    let time = 0x0102_0304_u32;
    for equal in 0..4 {
        for rest in 1..6 {
            let mut data = payload(128, 0);
            let mut tail = time.to_be_bytes()[..equal].to_vec();
            tail.resize(tail.len() + rest, 0xee);
            data.extend(tail);
            let mut wire = Wire::new(4, VIDEO, time, &data);
            wire.repeats_time = false;
            let mut bytes = wire.bytes();
            bytes.extend(Wire::new(5, AUDIO, 1, b"q").bytes());
            for messages in [read(&bytes).unwrap(), read_by_bytes(&bytes).unwrap()] {
                assert_eq!(messages[0].payload, data, "{equal} {rest}");
                assert_eq!(&messages[1].payload[..], b"q", "{equal} {rest}");
            }
        }
    }
}

#[test]
fn t10_next_header_that_continues_the_left_out_timestamp_stays_a_header() {
    let mut data = payload(128, 0);
    data.push(0x01);
    let mut wire = Wire::new(4, VIDEO, 0x0102_0304, &data);
    wire.repeats_time = false;
    let mut bytes = wire.bytes();
    bytes.extend(Wire::new(2, message_type::USER_CONTROL, 9, b"q").bytes());
    for messages in [read(&bytes).unwrap(), read_by_bytes(&bytes).unwrap()] {
        assert_eq!(messages[0].payload, data);
        assert_eq!(&messages[1].payload[..], b"q");
    }
}

#[test]
fn t10_extended_delta_may_be_small_and_time_wraps() {
    let mut bytes = Wire::new(4, AUDIO, u32::MAX, b"a").bytes();
    let mut small = vec![0x44, 0xff, 0xff, 0xff, 0, 0, 1, AUDIO, 0, 0, 0, 5];
    small.push(b'b');
    bytes.extend(small);
    bytes.extend([0xc4, 0, 0, 0, 5, b'c']);
    let messages = read(&bytes).unwrap();
    let times: Vec<u32> = messages.iter().map(|m| m.timestamp_ms).collect();
    assert_eq!(times, [u32::MAX, 4, 9]);
}

#[test]
fn t10_absolute_time_repeated_on_a_delta_message_is_taken_for_a_timestamp() {
    let mut bytes = Wire::new(4, VIDEO, 0x0100_0000, b"a").bytes();
    let data = payload(200, 7);
    let second = Wire::new(4, VIDEO, 0x0200_0000, &data).format(1).chunks();
    bytes.extend(&second[0]);
    bytes.push(0xc4);
    bytes.extend(0x0300_0000_u32.to_be_bytes());
    bytes.extend(&data[128..]);
    let messages = read(&bytes).unwrap();
    assert_eq!(messages[1].payload, data);
    assert_eq!(messages[1].timestamp_ms, 0x0300_0000);
}

#[test]
fn media_is_read_past_without_memory_until_it_is_admitted() {
    let mut reader = ChunkReader::new();
    reader.set_admission(Admission::Skip);
    let video = Wire::new(4, VIDEO, 7, &payload(100_000, 1)).bytes();
    let mut most = 0;
    let mut messages = Vec::new();
    for part in video.chunks(1_000) {
        messages.extend(read_all(&mut reader, part).unwrap());
        most = most.max(reader.buffered_bytes());
    }
    assert_eq!((messages.len(), most), (1, 0));
    assert!(messages[0].payload.is_empty());
    reader.set_admission(Admission::Media);
    let kept = read_all(&mut reader, &Wire::new(4, VIDEO, 8, b"abc").bytes()).unwrap();
    assert_eq!(&kept[0].payload[..], b"abc");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn t02_any_split_of_any_legal_stream_gives_the_same_messages(seed: u64, cuts: u64) {
        let (bytes, expected) = random_stream(seed);
        prop_assert_eq!(&read(&bytes).unwrap(), &expected);
        let mut dice = Dice(cuts);
        let mut reader = media_reader();
        let mut rest = &bytes[..];
        let mut messages = Vec::new();
        while !rest.is_empty() {
            let most = dice.pick(&[1, 2, 5, 20, 5_000]);
            let cut = (1 + dice.below(most)).min(rest.len());
            messages.extend(read_all(&mut reader, &rest[..cut]).unwrap());
            rest = &rest[cut..];
        }
        prop_assert_eq!(&messages, &expected);
        prop_assert_eq!(reader.buffered_bytes(), 0);
    }

    #[test]
    fn t02_one_byte_at_a_time_gives_the_same_messages(seed: u64) {
        let (bytes, expected) = random_stream(seed);
        prop_assert_eq!(read_by_bytes(&bytes).unwrap(), expected);
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_splits_agree(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let whole = read(&bytes);
        prop_assert_eq!(read_by_bytes(&bytes), whole);
    }
}
