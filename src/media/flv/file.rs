//! FLV files: their header and tags (Adobe FLV 10.1 annex E.2 to E.4.1). For tests, benches and
//! tools; the server itself never reads one.

use bytes::Bytes;

/// Bytes of a tag's header, before its body.
const TAG_HEADER_BYTES: usize = 11;
/// Bytes of the size field that follows each tag and the file's header.
const PREVIOUS_TAG_SIZE_BYTES: usize = 4;

/// What a tag's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagKind {
    /// An audio message (type 8).
    Audio,
    /// A video message (type 9).
    Video,
    /// Script data, such as onMetaData (type 18).
    Script,
    /// Another type, or an encrypted tag.
    Other(u8),
}

/// One tag; its body is what an RTMP message of the same type holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// What it is.
    pub kind: TagKind,
    /// Its time (for video the DTS), in milliseconds.
    pub timestamp_ms: u32,
    /// Its body, a part of the file's bytes.
    pub payload: Bytes,
}

/// The tags of a file in order; ends at the first that is not complete.
#[derive(Debug, Clone)]
pub struct Tags {
    rest: Bytes,
}

/// Begins to read a file that is in memory, or returns `None` if it has no FLV header.
#[must_use]
pub fn tags(file: Bytes) -> Option<Tags> {
    let header = file.first_chunk::<9>()?;
    let [b'F', b'L', b'V', _version, _flags, a, b, c, d] = *header else {
        return None;
    };
    let header_bytes = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
    let start = header_bytes.checked_add(PREVIOUS_TAG_SIZE_BYTES)?;
    (start <= file.len()).then(|| Tags {
        rest: file.slice(start..),
    })
}

impl Iterator for Tags {
    type Item = Tag;

    fn next(&mut self) -> Option<Tag> {
        let header = self.rest.first_chunk::<TAG_HEADER_BYTES>()?;
        let [kind, s2, s1, s0, t2, t1, t0, t3, _, _, _] = *header;
        let size = usize::try_from(u32::from_be_bytes([0, s2, s1, s0])).ok()?;
        let end = TAG_HEADER_BYTES.checked_add(size)?;
        if end > self.rest.len() {
            return None;
        }
        let payload = self.rest.slice(TAG_HEADER_BYTES..end);
        let next = end
            .saturating_add(PREVIOUS_TAG_SIZE_BYTES)
            .min(self.rest.len());
        self.rest = self.rest.slice(next..);
        let kind = match kind {
            8 => TagKind::Audio,
            9 => TagKind::Video,
            18 => TagKind::Script,
            other => TagKind::Other(other),
        };
        Some(Tag {
            kind,
            timestamp_ms: u32::from_be_bytes([t3, t2, t1, t0]),
            payload,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &[u8] = b"FLV\x01\x05\0\0\0\x09\0\0\0\0";

    #[test]
    fn tags_come_with_their_extended_timestamp() {
        let mut file = HEADER.to_vec();
        file.extend([9, 0, 0, 2, 0x02, 0x03, 0x04, 0x01, 0, 0, 0, 0xaa, 0xbb]);
        file.extend([0, 0, 0, 13]);
        file.extend([8, 0, 0, 1, 0, 0, 5, 0, 0, 0, 0, 0xcc]);
        let tags: Vec<Tag> = tags(file.into()).unwrap().collect();
        assert_eq!(tags.len(), 2);
        assert_eq!(tags[0].kind, TagKind::Video);
        assert_eq!(tags[0].timestamp_ms, 0x0102_0304);
        assert_eq!(&tags[0].payload[..], [0xaa, 0xbb]);
        assert_eq!(tags[1].kind, TagKind::Audio);
        assert_eq!(tags[1].timestamp_ms, 5);
    }

    #[test]
    fn incomplete_last_tag_is_left_out() {
        let mut file = HEADER.to_vec();
        file.extend([9, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0xaa]);
        assert_eq!(tags(file.into()).unwrap().count(), 0);
    }

    #[test]
    fn other_files_are_refused() {
        assert!(tags(Bytes::from_static(b"RIFF\0\0\0\0WAVE")).is_none());
        assert!(tags(Bytes::from_static(b"FLV\x01\x05\xff\xff\xff\xff\0\0\0\0")).is_none());
        assert!(tags(Bytes::new()).is_none());
    }
}
