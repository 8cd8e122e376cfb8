//! What ffmpeg reads: AC-3 and E-AC-3 in Matroska (RFC 9559), which keeps packets whole, so that
//! none waits for the next; Speex and Nellymoser in FLV (annex E), as they came.

use super::frames::Content;

/// How packets are written for ffmpeg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    /// Matroska, with the track's `CodecID` (Matroska codec mappings §5).
    Matroska(&'static str),
    /// FLV, with the first byte of each audio tag (annex E.4.2.1).
    Flv(u8),
}

impl Container {
    /// Its name for `-f`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Matroska(_) => "matroska",
            Self::Flv(_) => "flv",
        }
    }

    /// What comes before the first packet.
    pub(super) fn head(self, content: Content) -> Vec<u8> {
        match self {
            Self::Matroska(codec) => matroska_head(codec, content.rate),
            // Version 1, audio only, a header of 9 bytes; no tag before.
            Self::Flv(_) => b"FLV\x01\x04\0\0\0\x09\0\0\0\0".to_vec(),
        }
    }

    /// A packet, `millis` after the first.
    pub(super) fn packet(self, millis: u64, data: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Matroska(_) => {
                let mut block = vec![0x81, 0, 0, 0x80];
                block.extend_from_slice(data);
                let mut cluster = element(&[0xe7], &millis.to_be_bytes());
                cluster.extend(element(&[0xa3], &block));
                out.extend(element(&[0x1f, 0x43, 0xb6, 0x75], &cluster));
            }
            Self::Flv(first) => {
                let length = data.len().saturating_add(1);
                let [_, _, _, _, _, size @ ..] = (length as u64).to_be_bytes();
                let [_, _, _, _, high, time @ ..] = millis.to_be_bytes();
                out.push(0x08);
                out.extend(size);
                out.extend(time);
                out.extend([high, 0, 0, 0, first]);
                out.extend_from_slice(data);
                let [_, _, _, _, previous @ ..] = (length as u64 + 11).to_be_bytes();
                out.extend(previous);
            }
        }
    }
}

fn matroska_head(codec: &str, rate: u32) -> Vec<u8> {
    let ebml = [
        element(&[0x42, 0x82], b"matroska"),
        element(&[0x42, 0x87], &[4]),
        element(&[0x42, 0x85], &[2]),
    ];
    let info = [
        // Timestamps are whole milliseconds.
        element(&[0x2a, 0xd7, 0xb1], &1_000_000_u32.to_be_bytes()),
        element(&[0x4d, 0x80], b"rtmpeer"),
        element(&[0x57, 0x41], b"rtmpeer"),
    ];
    let audio = [
        element(&[0xb5], &f64::from(rate).to_be_bytes()),
        element(&[0x9f], &[2]),
    ];
    let track = [
        element(&[0xd7], &[1]),
        element(&[0x73, 0xc5], &[1]),
        element(&[0x83], &[2]),
        element(&[0x86], codec.as_bytes()),
        element(&[0xe1], &audio.concat()),
    ];
    let mut head = element(&[0x1a, 0x45, 0xdf, 0xa3], &ebml.concat());
    // A segment of unknown length.
    head.extend([0x18, 0x53, 0x80, 0x67, 0x01]);
    head.extend([0xff; 7]);
    head.extend(element(&[0x15, 0x49, 0xa9, 0x66], &info.concat()));
    let entry = element(&[0xae], &track.concat());
    head.extend(element(&[0x16, 0x54, 0xae, 0x6b], &entry));
    head
}

/// An element with its length in eight bytes (RFC 8794 §4).
fn element(id: &[u8], data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64) | 1 << 56;
    [id, &length.to_be_bytes(), data].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flv_tags_hold_length_time_and_data() {
        let mut out = Vec::new();
        Container::Flv(0xb2).packet(0x0102_0304, &[9, 8, 7], &mut out);
        let tag = [8, 0, 0, 4, 2, 3, 4, 1, 0, 0, 0, 0xb2, 9, 8, 7, 0, 0, 0, 15];
        assert_eq!(out, tag);
    }

    #[test]
    fn matroska_clusters_hold_one_block() {
        let mut out = Vec::new();
        Container::Matroska("A_AC3").packet(5, &[9, 8], &mut out);
        assert_eq!(out[..4], [0x1f, 0x43, 0xb6, 0x75]);
        assert_eq!(out[12..14], [0xe7, 0x01]);
        assert_eq!(out[28], 5);
        assert_eq!(out[29], 0xa3);
        assert!(out.ends_with(&[0x81, 0, 0, 0x80, 9, 8]));
    }
}
