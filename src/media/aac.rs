//! AudioSpecificConfig: what an AAC stream is (ISO/IEC 14496-3 §1.6.2.1, §4.4.1).

use std::fmt;

/// Sampling frequencies in Hz by `samplingFrequencyIndex` (14496-3 table 1.18).
const SAMPLING_FREQUENCIES: [u32; 13] = [
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000,
    7_350,
];
/// `samplingFrequencyIndex` that says the frequency itself follows.
const EXPLICIT_FREQUENCY: u32 = 0x0f;
/// Frequencies that an explicit one may lie between, in Hz: those of the table.
const SAMPLING_FREQUENCY_MIN: u32 = 7_350;
const SAMPLING_FREQUENCY_MAX: u32 = 96_000;
/// Audio object types (14496-3 table 1.17).
const TYPE_LC: u8 = 2;
const TYPE_SBR: u8 = 5;
const TYPE_BSAC: u8 = 22;
const TYPE_PS: u8 = 29;
/// Sync words of backward-compatible signalling (14496-3 §1.6.5.3, §1.6.5.4).
const SYNC_SBR: u32 = 0x2b7;
const SYNC_PS: u32 = 0x548;

/// An AudioSpecificConfig that says nothing useful. Always the publisher's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AacError {
    /// It ends too early.
    Truncated,
    /// Its sampling frequency is reserved or out of bounds.
    SamplingFrequency,
    /// Its channel configuration is reserved, or names no channels.
    Channels,
    /// Its object type is 0.
    ObjectType,
}

impl fmt::Display for AacError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "the AAC configuration ends too early",
            Self::SamplingFrequency => "the AAC configuration has no legal sampling frequency",
            Self::Channels => "the AAC configuration has no legal channel layout",
            Self::ObjectType => "the AAC configuration has no object type",
        })
    }
}

impl std::error::Error for AacError {}

/// An element of sound in an access unit (14496-3 §4.4.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelElement {
    /// One channel.
    Single,
    /// Two channels, left and right.
    Pair,
}

impl ChannelElement {
    fn channels(self) -> u32 {
        match self {
            Self::Single => 1,
            Self::Pair => 2,
        }
    }
}

/// What a program config element says of its channels (14496-3 table 4.2): the elements before,
/// beside and behind the listener, each from the middle outwards.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProgramConfig {
    /// Before the listener.
    pub front: Vec<ChannelElement>,
    /// Beside.
    pub side: Vec<ChannelElement>,
    /// Behind.
    pub back: Vec<ChannelElement>,
    /// Channels of low-frequency effects.
    pub low_frequency_channels: u8,
}

impl ProgramConfig {
    fn channels(&self) -> Result<u8, AacError> {
        let elements = self.front.iter().chain(&self.side).chain(&self.back);
        let full: u32 = elements.map(|element| element.channels()).sum();
        match u8::try_from(full + u32::from(self.low_frequency_channels)) {
            Ok(channels) if channels > 0 => Ok(channels),
            Ok(_) | Err(_) => Err(AacError::Channels),
        }
    }
}

/// How the channels lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelLayout {
    /// By a `channelConfiguration` (14496-3 table 1.19), which is not 0.
    Configuration(u8),
    /// By a program config element.
    Program(ProgramConfig),
}

/// What an AudioSpecificConfig says. `Display` says it as users do: "AAC-LC 48 kHz stereo".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioSpecificConfig {
    /// Audio object type of the core coder: 2 is AAC-LC (14496-3 table 1.17).
    pub object_type: u8,
    /// Sampling frequency of the core coder, in Hz; without SBR, of the sound.
    pub sampling_frequency: u32,
    /// Channels of the core coder.
    pub channels: u8,
    /// Where they belong.
    pub layout: ChannelLayout,
    /// With explicit SBR (HE-AAC), the sampling frequency of the sound, in Hz. SBR may also be
    /// there unannounced; only the decoder can tell.
    pub sbr_sampling_frequency: Option<u32>,
    /// Whether explicit parametric stereo (HE-AACv2) makes two channels of one.
    pub parametric_stereo: bool,
    /// Samples of the core coder in each access unit: 1,024 or 960 (`frameLengthFlag`), for
    /// AAC-LD and AAC-ELD 512 or 480.
    pub samples_per_unit: u16,
}

impl AudioSpecificConfig {
    /// Parses a config; what follows the fields of interest is ignored.
    ///
    /// # Errors
    /// [`AacError`] if a field is missing or has no meaning.
    pub fn parse(config: &[u8]) -> Result<Self, AacError> {
        let mut bits = Bits::new(config);
        let mut object_type = read_object_type(&mut bits)?;
        let sampling_frequency = read_sampling_frequency(&mut bits)?;
        let channel_configuration = bits.read(4)?;
        let mut sbr_sampling_frequency = None;
        let parametric_stereo = object_type == TYPE_PS;
        if object_type == TYPE_SBR || object_type == TYPE_PS {
            sbr_sampling_frequency = Some(read_sampling_frequency(&mut bits)?);
            object_type = read_object_type(&mut bits)?;
            if object_type == TYPE_BSAC {
                bits.read(4)?;
            }
        }
        let general = read_specific(&mut bits, object_type, channel_configuration)?;
        let mut parsed = Self {
            object_type,
            sampling_frequency,
            channels: general.channels,
            layout: general.layout,
            sbr_sampling_frequency,
            parametric_stereo,
            samples_per_unit: general.samples_per_unit,
        };
        // The extension cannot be found behind a program config element, whose length varies.
        if sbr_sampling_frequency.is_none() && channel_configuration != 0 {
            parsed.read_extension(&mut bits);
        }
        Ok(parsed)
    }

    /// Reads backward-compatible signalling of SBR and PS; what is not there or makes no sense
    /// changes nothing, as for a decoder that does not know it.
    fn read_extension(&mut self, bits: &mut Bits<'_>) {
        let mut read = || -> Result<(u32, bool), AacError> {
            let is_sbr = bits.read(11)? == SYNC_SBR
                && read_object_type(bits)? == TYPE_SBR
                && bits.read(1)? == 1;
            if !is_sbr {
                return Err(AacError::Truncated);
            }
            let frequency = read_sampling_frequency(bits)?;
            let ps = bits.read(11) == Ok(SYNC_PS) && bits.read(1) == Ok(1);
            Ok((frequency, ps))
        };
        if let Ok((frequency, ps)) = read() {
            self.sbr_sampling_frequency = Some(frequency);
            self.parametric_stereo = ps;
        }
    }

    /// Sampling frequency of the sound, in Hz, as far as it is announced.
    #[must_use]
    pub fn output_sampling_frequency(&self) -> u32 {
        self.sbr_sampling_frequency
            .unwrap_or(self.sampling_frequency)
    }

    /// Channels of the sound, as far as they are announced.
    #[must_use]
    pub fn output_channels(&self) -> u8 {
        match self.parametric_stereo {
            true => 2,
            false => self.channels,
        }
    }

    /// The codec as users call it: "HE-AAC".
    #[must_use]
    pub fn codec(&self) -> String {
        let unknown = || format!("MPEG-4 audio type {}", self.object_type);
        self.codec_name().map_or_else(unknown, str::to_owned)
    }

    fn codec_name(&self) -> Option<&'static str> {
        match self.object_type {
            TYPE_LC if self.parametric_stereo => Some("HE-AACv2"),
            TYPE_LC if self.sbr_sampling_frequency.is_some() => Some("HE-AAC"),
            1 => Some("AAC Main"),
            TYPE_LC => Some("AAC-LC"),
            3 => Some("AAC-SSR"),
            4 => Some("AAC-LTP"),
            TYPE_LD => Some("AAC-LD"),
            TYPE_ELD => Some("AAC-ELD"),
            42 => Some("xHE-AAC"),
            _ => None,
        }
    }
}

impl fmt::Display for AudioSpecificConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.codec())?;
        let kilohertz = f64::from(self.output_sampling_frequency()) / 1_000.0;
        write!(f, " {kilohertz} kHz ")?;
        match self.output_channels() {
            1 => f.write_str("mono"),
            2 => f.write_str("stereo"),
            6 => f.write_str("5.1"),
            8 => f.write_str("7.1"),
            channels => write!(f, "{channels} channels"),
        }
    }
}

/// Object types with their own frame lengths.
const TYPE_LD: u8 = 23;
const TYPE_ELD: u8 = 39;

struct Specific {
    channels: u8,
    layout: ChannelLayout,
    samples_per_unit: u16,
}

/// Reads what follows the common fields: GASpecificConfig (14496-3 §4.4.1) or, for AAC-ELD,
/// the first flag of ELDSpecificConfig (§4.6.20); of other types only the channels are known.
fn read_specific(
    bits: &mut Bits<'_>,
    object_type: u8,
    channel_configuration: u32,
) -> Result<Specific, AacError> {
    let is_general = matches!(object_type, 1..=4 | 6 | 7 | 17 | 19..=23);
    let mut short = false;
    if is_general {
        short = bits.read(1)? == 1;
        let depends_on_core_coder = bits.read(1)? == 1;
        if depends_on_core_coder {
            bits.read(14)?;
        }
        bits.read(1)?;
    } else if object_type == TYPE_ELD {
        short = bits.read(1)? == 1;
    }
    let layout = match u8::try_from(channel_configuration) {
        Ok(0) if is_general => ChannelLayout::Program(read_program_config(bits)?),
        Ok(number) => ChannelLayout::Configuration(number),
        Err(_) => return Err(AacError::Channels),
    };
    let channels = match &layout {
        ChannelLayout::Program(program) => program.channels()?,
        ChannelLayout::Configuration(count @ 1..=6) => *count,
        ChannelLayout::Configuration(7 | 12 | 14) => 8,
        ChannelLayout::Configuration(11) => 7,
        ChannelLayout::Configuration(_) => return Err(AacError::Channels),
    };
    let samples_per_unit = match (object_type, short) {
        (TYPE_LD | TYPE_ELD, false) => 512,
        (TYPE_LD | TYPE_ELD, true) => 480,
        (_, false) => 1_024,
        (_, true) => 960,
    };
    Ok(Specific {
        channels,
        layout,
        samples_per_unit,
    })
}

/// Reads a program_config_element (14496-3 table 4.2) up to its channels.
fn read_program_config(bits: &mut Bits<'_>) -> Result<ProgramConfig, AacError> {
    bits.read(4 + 2 + 4)?;
    let (front, side, back) = (bits.read(4)?, bits.read(4)?, bits.read(4)?);
    let low_frequency = bits.read(2)?;
    bits.read(3 + 4)?;
    for mixdown_bits in [4, 4, 3] {
        if bits.read(1)? == 1 {
            bits.read(mixdown_bits)?;
        }
    }
    let mut group = |count: u32| {
        let element = |_| {
            let is_pair = bits.read(1)? == 1;
            bits.read(4)?;
            Ok(match is_pair {
                true => ChannelElement::Pair,
                false => ChannelElement::Single,
            })
        };
        (0..count)
            .map(element)
            .collect::<Result<Vec<_>, AacError>>()
    };
    Ok(ProgramConfig {
        front: group(front)?,
        side: group(side)?,
        back: group(back)?,
        low_frequency_channels: u8::try_from(low_frequency).unwrap_or_default(),
    })
}

fn read_object_type(bits: &mut Bits<'_>) -> Result<u8, AacError> {
    const ESCAPE: u32 = 31;
    let value = match bits.read(5)? {
        ESCAPE => 32 + bits.read(6)?,
        value => value,
    };
    match u8::try_from(value) {
        Ok(value) if value > 0 => Ok(value),
        Ok(_) | Err(_) => Err(AacError::ObjectType),
    }
}

fn read_sampling_frequency(bits: &mut Bits<'_>) -> Result<u32, AacError> {
    let index = bits.read(4)?;
    let frequency = if index == EXPLICIT_FREQUENCY {
        Some(bits.read(24)?)
    } else {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        SAMPLING_FREQUENCIES.get(index).copied()
    };
    let legal = SAMPLING_FREQUENCY_MIN..=SAMPLING_FREQUENCY_MAX;
    frequency
        .filter(|frequency| legal.contains(frequency))
        .ok_or(AacError::SamplingFrequency)
}

struct Bits<'a> {
    data: &'a [u8],
    position: usize,
}

impl<'a> Bits<'a> {
    fn new(data: &'a [u8]) -> Self {
        Self { data, position: 0 }
    }

    /// The next `count` bits, at most 24.
    fn read(&mut self, count: usize) -> Result<u32, AacError> {
        let mut value = 0;
        for _ in 0..count {
            let byte = self
                .data
                .get(self.position / 8)
                .ok_or(AacError::Truncated)?;
            let bit = (byte >> (7 - self.position % 8)) & 1;
            value = (value << 1) | u32::from(bit);
            self.position = self.position.saturating_add(1);
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn named(config: &[u8]) -> String {
        AudioSpecificConfig::parse(config).unwrap().to_string()
    }

    #[test]
    fn encoders_usual_configs_are_named() {
        assert_eq!(named(&[0x11, 0x90]), "AAC-LC 48 kHz stereo");
        assert_eq!(named(&[0x12, 0x10]), "AAC-LC 44.1 kHz stereo");
        assert_eq!(named(&[0x12, 0x08]), "AAC-LC 44.1 kHz mono");
        assert_eq!(named(&[0x11, 0xb0]), "AAC-LC 48 kHz 5.1");
        assert_eq!(named(&[0x15, 0x88]), "AAC-LC 8 kHz mono");
    }

    #[test]
    fn sbr_and_ps_are_seen_when_announced_first() {
        // Type 5, core index 6 (24 kHz), 2 channels, extension index 3, type 2.
        let config = AudioSpecificConfig::parse(&[0x2b, 0x11, 0x88, 0x00]).unwrap();
        assert_eq!(config.sampling_frequency, 24_000);
        assert_eq!(config.sbr_sampling_frequency, Some(48_000));
        assert_eq!(config.object_type, TYPE_LC);
        assert_eq!(config.to_string(), "HE-AAC 48 kHz stereo");
        // Type 29, core index 6, 1 channel, extension index 3, type 2.
        assert_eq!(named(&[0xeb, 0x09, 0x88, 0x00]), "HE-AACv2 48 kHz stereo");
    }

    #[test]
    fn sbr_and_ps_are_seen_when_announced_last() {
        // Type 2, index 6, 2 channels; sync 0x2b7, type 5, flag 1, index 3.
        let sbr = [0x13, 0x10, 0x56, 0xe5, 0x98];
        assert_eq!(named(&sbr), "HE-AAC 48 kHz stereo");
        let ps = [0x13, 0x08, 0x56, 0xe5, 0x9d, 0x48, 0x80];
        assert_eq!(named(&ps), "HE-AACv2 48 kHz stereo");
    }

    #[test]
    fn explicit_sampling_frequency_is_read() {
        // Type 2, index 15, 24 bits: 44,100; 2 channels.
        let config = AudioSpecificConfig::parse(&[0x17, 0x80, 0x56, 0x22, 0x10]).unwrap();
        assert_eq!(config.sampling_frequency, 44_100);
        let zero = AudioSpecificConfig::parse(&[0x17, 0x80, 0x00, 0x00, 0x10]);
        assert_eq!(zero, Err(AacError::SamplingFrequency));
    }

    #[test]
    fn escaped_object_type_is_read() {
        // 31, then 10: type 42; index 3, 2 channels.
        let config = AudioSpecificConfig::parse(&[0xf9, 0x46, 0x40]).unwrap();
        assert_eq!(config.object_type, 42);
        assert_eq!(config.to_string(), "xHE-AAC 48 kHz stereo");
    }

    #[test]
    fn frame_length_flag_gives_960_samples() {
        let config = AudioSpecificConfig::parse(&[0x11, 0x94]).unwrap();
        assert_eq!(config.samples_per_unit, 960);
    }

    #[test]
    fn channels_are_counted_in_a_program_config_element() {
        // Type 2, index 3, configuration 0, three flags 0; tag 0, profile 1, index 3; 1 front,
        // 0 side, 0 back, 0 lfe, 0 assoc, 0 cc; no mixdowns; a pair with tag 0.
        let config = [0x11, 0x80, 0x04, 0xc4, 0x00, 0x00, 0x20, 0x00];
        assert_eq!(named(&config), "AAC-LC 48 kHz stereo");
    }

    #[test]
    fn elements_of_a_program_config_element_keep_their_groups_and_order() {
        use ChannelElement::{Pair, Single};
        // As ffmpeg 5 writes 7.1(wide): 2 front, 1 side, 2 back, 0 lfe.
        let config = [
            0x11, 0x80, 0x04, 0xc8, 0x48, 0x00, 0x20, 0x00, 0xc6, 0x40, 0x00,
        ];
        let parsed = AudioSpecificConfig::parse(&config).unwrap();
        let program = ProgramConfig {
            front: vec![Pair, Single],
            side: vec![Single],
            back: vec![Pair, Pair],
            low_frequency_channels: 0,
        };
        assert_eq!(parsed.layout, ChannelLayout::Program(program));
        assert_eq!(parsed.to_string(), "AAC-LC 48 kHz 7.1");
        let plain = AudioSpecificConfig::parse(&[0x11, 0xb8]).unwrap();
        assert_eq!(plain.layout, ChannelLayout::Configuration(7));
    }

    #[test]
    fn malformed_configs_are_typed_errors() {
        for (config, error) in [
            (&[][..], AacError::Truncated),
            (&[0x11], AacError::Truncated),
            (&[0x16, 0x90], AacError::SamplingFrequency),
            (&[0x01, 0x90], AacError::ObjectType),
            (&[0x11, 0xc0], AacError::Channels),
            (&[0x11, 0x80], AacError::Truncated),
            (&[0x11, 0x80, 0, 0, 0, 0, 0, 0, 0], AacError::Channels),
        ] {
            assert_eq!(
                AudioSpecificConfig::parse(config),
                Err(error),
                "{config:02x?}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn any_bytes_give_a_legal_config_or_an_error(
            config in proptest::collection::vec(any::<u8>(), 0..16)
        ) {
            if let Ok(parsed) = AudioSpecificConfig::parse(&config) {
                let legal = SAMPLING_FREQUENCY_MIN..=SAMPLING_FREQUENCY_MAX;
                prop_assert!(legal.contains(&parsed.output_sampling_frequency()));
                prop_assert!(parsed.channels > 0);
                prop_assert!(!parsed.to_string().is_empty());
            }
        }
    }
}
