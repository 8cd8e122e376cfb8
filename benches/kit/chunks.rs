//! A keyframe as encoders that care send it, in RTMP chunks of 4 KiB (Adobe RTMP 1.0 §5.3.1), and its
//! reader.
//!
//! Shared by `benches/ingest.rs`, which takes the time, and `tools/callgrind`, which counts
//! instructions.

use std::hint::black_box;

use rtmpeer::rtmp::chunk::{Admission, ChunkReader};

/// The chunk size of those encoders.
pub(crate) const CHUNK_BYTES: usize = 4_096;
/// Payload of the message.
pub(crate) const MESSAGE_BYTES: usize = 16 * CHUNK_BYTES;
/// What a core reads from a socket at once.
const READ_BYTES: usize = 64 * 1_024;

/// A reader that takes chunks of so many bytes.
pub(crate) fn reader(chunk_bytes: usize) -> ChunkReader {
    let mut reader = ChunkReader::new();
    reader.set_admission(Admission::Media);
    let size = u32::try_from(chunk_bytes).unwrap().to_be_bytes();
    // Chunk stream 2, format 0; a Set Chunk Size of 4 bytes (§5.3.1.2.1, §5.4.1), which is obeyed and
    // not given out.
    let set_size = [&[0x02, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0][..], &size].concat();
    let given_out = reader.next_message(&mut &set_size[..]).unwrap();
    assert!(given_out.is_none());
    reader
}

/// The message: chunk stream 4, format 0, video, message stream 1; the rest in format 3.
pub(crate) fn message(chunk_bytes: usize) -> Vec<u8> {
    let [_, l2, l1, l0] = u32::try_from(MESSAGE_BYTES).unwrap().to_be_bytes();
    let mut bytes = vec![0x04, 0, 0, 0, l2, l1, l0, 9, 1, 0, 0, 0];
    for number in 0..MESSAGE_BYTES / chunk_bytes {
        if number > 0 {
            bytes.push(0xc4);
        }
        bytes.resize(bytes.len() + chunk_bytes, 0x27);
    }
    bytes
}

/// Reads it as a core does; the payload bytes that come out.
pub(crate) fn read(reader: &mut ChunkReader, message: &[u8]) -> usize {
    let mut got = 0;
    for mut read in message.chunks(READ_BYTES) {
        while let Some(message) = reader.next_message(&mut read).unwrap() {
            got += black_box(message.payload).len();
        }
    }
    got
}
