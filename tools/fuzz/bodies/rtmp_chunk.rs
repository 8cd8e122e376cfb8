//! The RTMP chunk reader: no input panics it, memory stays bounded, and how the input was cut
//! into reads changes nothing.
//!
//! Byte 0 chooses what is admitted, byte 1 the size of the reads; the rest is the chunk stream.

use rtmpeer::limits::RTMP_PARTIAL_BYTES_MAX;
use rtmpeer::rtmp::chunk::{Admission, ChunkError, ChunkReader, Message};

fn read(
    admission: Admission,
    parts: impl Iterator<Item = impl AsRef<[u8]>>,
) -> (Vec<Message>, Option<ChunkError>) {
    let mut reader = ChunkReader::new();
    reader.set_admission(admission);
    let mut messages = Vec::new();
    for part in parts {
        let mut input = part.as_ref();
        loop {
            match reader.next_message(&mut input) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
            assert!(reader.buffered_bytes() <= RTMP_PARTIAL_BYTES_MAX);
        }
        assert!(input.is_empty());
    }
    (messages, None)
}

/// One input.
pub fn fuzz(data: &[u8]) {
    let [mode, size, bytes @ ..] = data else {
        return;
    };
    let admission = match mode % 3 {
        0 => Admission::Small,
        1 => Admission::Skip,
        _ => Admission::Media,
    };
    let whole = read(admission, std::iter::once(bytes));
    let cut = read(admission, bytes.chunks(usize::from(*size).max(1)));
    assert_eq!(whole, cut);
}
