//! What an Opus packet and an identification header say of themselves (RFC 6716 §3.1 and §3.2,
//! RFC 7845 §5.1), without decoding.

use super::TranscodeError;

/// Longest packet, in samples of 48 kHz per channel: 120 ms (RFC 6716 §3.2.5).
pub(super) const PACKET_SAMPLES_MAX: usize = 5_760;
/// Most channels of mapping family 1.
const CHANNELS_MAX: u8 = 8;

/// An identification header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    /// Channels of the sound.
    pub(super) channels: u8,
    /// What the decoder's output is to be amplified by, in 1/256 dB.
    pub(super) gain: i16,
    /// With mapping family 1, the streams of each packet; else a packet is one stream.
    pub(super) streams: Option<Streams>,
}

/// Streams of a packet, and which channel is in which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Streams {
    /// How many.
    pub(super) count: u8,
    /// How many of them are stereo.
    pub(super) coupled: u8,
    /// For each channel, its place.
    pub(super) mapping: Vec<u8>,
}

impl Head {
    /// Reads a header; without one, mono or stereo as the packets say.
    ///
    /// # Errors
    /// If it is malformed, or not mono, stereo or surround: [`TranscodeError::Config`].
    pub(super) fn parse_or_default(head: Option<&[u8]>) -> Result<Self, TranscodeError> {
        let Some(head) = head.filter(|head| !head.is_empty()) else {
            return Ok(Self {
                channels: 2,
                gain: 0,
                streams: None,
            });
        };
        Self::parse(head).ok_or_else(|| TranscodeError::Config {
            codec: "Opus",
            detail: "its header is malformed, or neither mono, stereo nor surround".to_owned(),
        })
    }

    fn parse(head: &[u8]) -> Option<Self> {
        let head = head.strip_prefix(b"OpusHead")?;
        let (fields, mapping) = head.split_first_chunk::<11>()?;
        let [
            version,
            channels,
            _,
            _,
            _,
            _,
            _,
            _,
            gain_low,
            gain_high,
            family,
        ] = *fields;
        // The upper half of the version is the incompatible one.
        if version >> 4 != 0 {
            return None;
        }
        let streams = match family {
            0 => {
                (1..=2).contains(&channels).then_some(())?;
                None
            }
            1 => {
                (1..=CHANNELS_MAX).contains(&channels).then_some(())?;
                let (counts, mapping) = mapping.split_first_chunk::<2>()?;
                let [count, coupled] = *counts;
                Some(Streams {
                    count,
                    coupled,
                    mapping: mapping.get(..usize::from(channels))?.to_vec(),
                })
            }
            _ => return None,
        };
        Some(Self {
            channels,
            gain: i16::from_le_bytes([gain_low, gain_high]),
            streams,
        })
    }
}

/// Samples of a packet, at 48 kHz per channel; `None` if it is no packet.
pub(super) fn packet_samples(packet: &[u8]) -> Option<u64> {
    let (toc, rest) = packet.split_first()?;
    let frames = match toc & 0x03 {
        0 => 1,
        1 | 2 => 2,
        _ => u64::from(rest.first()? & 0x3f),
    };
    let samples = frames * frame_samples(*toc);
    let legal = samples > 0 && samples <= PACKET_SAMPLES_MAX as u64;
    legal.then_some(samples)
}

/// Samples of each frame by the configuration number (RFC 6716 table 2), at 48 kHz.
fn frame_samples(toc: u8) -> u64 {
    let config = toc >> 3;
    match (config, config & 0x03) {
        // SILK: 10, 20, 40, 60 ms.
        (0..=11, 0) => 480,
        (0..=11, 1) => 960,
        (0..=11, 2) => 1_920,
        (0..=11, _) => 2_880,
        // Hybrid: 10, 20 ms.
        (12..=15, 0 | 2) => 480,
        (12..=15, _) => 960,
        // CELT: 2.5, 5, 10, 20 ms.
        (_, 0) => 120,
        (_, 1) => 240,
        (_, 2) => 480,
        (_, _) => 960,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head(channels: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut head = b"OpusHead".to_vec();
        head.extend([1, channels, 0x38, 0x01, 0x80, 0xbb, 0, 0, 0, 0, family]);
        head.extend(rest);
        head
    }

    #[test]
    fn heads_of_stereo_and_surround_are_read() {
        let stereo = Head::parse(&head(2, 0, &[])).unwrap();
        assert_eq!((stereo.channels, stereo.gain, stereo.streams), (2, 0, None));
        let surround = Head::parse(&head(6, 1, &[4, 2, 0, 4, 1, 2, 3, 5])).unwrap();
        let streams = surround.streams.unwrap();
        assert_eq!((streams.count, streams.coupled), (4, 2));
        assert_eq!(streams.mapping, [0, 4, 1, 2, 3, 5]);
    }

    #[test]
    fn heads_that_no_decoder_knows_are_refused() {
        for bad in [
            head(3, 0, &[]),
            head(0, 0, &[]),
            head(6, 1, &[4, 2, 0]),
            head(9, 1, &[9, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]),
            head(4, 2, &[4, 0, 0, 1, 2, 3]),
            b"OpusHead".to_vec(),
        ] {
            assert_eq!(Head::parse(&bad), None, "{bad:02x?}");
        }
        assert!(Head::parse_or_default(Some(b"nonsense")).is_err());
        assert!(Head::parse_or_default(None).is_ok());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn duration_is_what_the_library_says(
            packet in proptest::collection::vec(any::<u8>(), 0..4)
        ) {
            let by_library = opus::packet::get_nb_samples(&packet, 48_000).ok();
            let ours = packet_samples(&packet);
            prop_assert_eq!(ours, by_library.filter(|s| *s > 0).map(|s| s as u64));
        }
    }
}
