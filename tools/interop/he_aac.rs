//! For `tools/interop`: HE-AAC in FLV (annex E.4.2), which Debian's ffmpeg has no encoder for.
//!
//! `he_aac v1|v1-implicit|v2|v2-implicit RATE` reads 16-bit stereo PCM from standard input and
//! writes FLV to standard output. Explicit: the sequence header tells of SBR and PS; implicit: it
//! tells of the AAC-LC core only (14496-3 §1.6.5).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "a tool for tests may stop where it stands"
)]

use std::io::{Read, Write};

use fdk_aac::enc::{AudioObjectType, BitRate, ChannelMode, Encoder, EncoderParams, Transport};

/// AAC, 44.1 kHz, 16 bit, stereo: what FLV says of any AAC.
const AUDIO_TAG_HEADER: u8 = 0xAF;
/// Samples a channel in one packet: 1,024 of the core, doubled by SBR.
const PACKET_SAMPLES: u64 = 2_048;
const BITS_PER_SECOND_V1: u32 = 64_000;
const BITS_PER_SECOND_V2: u32 = 32_000;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let kind = arguments
        .get(1)
        .expect("v1, v1-implicit, v2 or v2-implicit");
    let rate: u32 = arguments.get(2).expect("samples a second").parse().unwrap();
    let (object, bits) = if kind.starts_with("v2") {
        (AudioObjectType::Mpeg4HeAacV2, BITS_PER_SECOND_V2)
    } else {
        (AudioObjectType::Mpeg4HeAac, BITS_PER_SECOND_V1)
    };
    let encoder = Encoder::new(EncoderParams {
        bit_rate: BitRate::Cbr(bits),
        sample_rate: rate,
        transport: Transport::Raw,
        channels: ChannelMode::Stereo,
        audio_object_type: object,
    })
    .unwrap();
    let info = encoder.info().unwrap();
    let explicit = &info.confBuf[..info.confSize as usize];
    let channels = if kind.starts_with("v2") { 1 } else { 2 };
    let config = if kind.ends_with("implicit") {
        core_config(rate / 2, channels)
    } else {
        explicit.to_vec()
    };

    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes).unwrap();
    let samples: Vec<i16> = bytes
        .chunks_exact(2)
        .map(|pair| i16::from_le_bytes([pair[0], pair[1]]))
        .collect();

    let mut out = std::io::stdout().lock();
    out.write_all(b"FLV\x01\x04\x00\x00\x00\x09\x00\x00\x00\x00")
        .unwrap();
    write_tag(&mut out, 0, 0, &config);
    let mut packet = vec![0; 8_192];
    // The encoder's delay is left out at the beginning, so that sound and picture stay together.
    let (mut read, mut written) = (info.nDelay as usize * 2, 0_u64);
    while read < samples.len() {
        let end = (read + PACKET_SAMPLES as usize * 2).min(samples.len());
        let made = encoder.encode(&samples[read..end], &mut packet).unwrap();
        read += made.input_consumed;
        if made.output_size > 0 {
            let milliseconds = written * 1_000 / u64::from(rate);
            write_tag(
                &mut out,
                milliseconds as u32,
                1,
                &packet[..made.output_size],
            );
            written += PACKET_SAMPLES;
        }
    }
}

/// AudioSpecificConfig of AAC-LC: object type 2, frequency index, channels (14496-3 §1.6.2.1).
fn core_config(rate: u32, channels: u8) -> Vec<u8> {
    let index: u8 = match rate {
        24_000 => 6,
        22_050 => 7,
        16_000 => 8,
        _ => panic!("no core rate of {rate} Hz here"),
    };
    vec![2 << 3 | index >> 1, (index & 1) << 7 | channels << 3]
}

fn write_tag(out: &mut impl Write, milliseconds: u32, kind: u8, data: &[u8]) {
    let size = data.len() as u32 + 2;
    let time = milliseconds.to_be_bytes();
    out.write_all(&[8]).unwrap();
    out.write_all(&size.to_be_bytes()[1..]).unwrap();
    out.write_all(&[time[1], time[2], time[3], time[0], 0, 0, 0])
        .unwrap();
    out.write_all(&[AUDIO_TAG_HEADER, kind]).unwrap();
    out.write_all(data).unwrap();
    out.write_all(&(size + 11).to_be_bytes()).unwrap();
}
