//! Parts of messages that are kept for longer than their message is looked at.

use std::ops::Range;

use bytes::Bytes;

/// What a part may keep in memory besides itself, however small it is, in bytes.
const REST_BYTES_MAX: usize = 4 * 1_024;

/// A part of a message, to be kept: what to keep, and where the part is in it. That is the message
/// itself, not copied, unless most of it would be kept for nothing: what is kept is counted by the
/// bytes of its parts.
#[must_use]
pub fn kept(message: &Bytes, part: Range<usize>) -> (Bytes, Range<usize>) {
    let rest = message.len().saturating_sub(part.len());
    if rest <= REST_BYTES_MAX.max(part.len()) {
        return (message.clone(), part);
    }
    let copy = Bytes::copy_from_slice(message.get(part).unwrap_or_default());
    let whole = 0..copy.len();
    (copy, whole)
}
