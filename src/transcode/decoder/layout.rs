//! Which loudspeaker each channel of an AAC stream is for (14496-3 §4.5.1.2.1, table 1.19), as
//! encoders mean it, which is in two cases not what the standard says:
//!
//! - **`channelConfiguration` 7** is by the standard a screen with five channels before the listener
//!   and two behind. Encoders write ordinary 7.1 with it, the side channels in the place of the
//!   outer front: ffmpeg's before version 8, which is what people publish with, and Nero's. ffmpeg and
//!   FAAD decode it so. Real wide streams of this number are rare; played like this they have their
//!   outer front 3 dB lower and their inner front 3 dB higher, each on its side.
//! - **A single channel beside the listener** in a program config element without low-frequency
//!   effects: a place that no loudspeaker has. The same ffmpegs put the effects there, in 5.1 with
//!   side channels (what AC-3 becomes) as in 7.1(wide).

use super::downmix::Speaker;
use crate::media::aac::{AudioSpecificConfig, ChannelElement, ChannelLayout, ProgramConfig};

/// Where a channel is, by the decoder library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    /// Before the listener.
    Front,
    /// Beside.
    Side,
    /// Behind.
    Back,
}

/// The loudspeakers of each group, in the order of its channels.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Layout {
    channels: usize,
    front: Vec<Speaker>,
    side: Vec<Speaker>,
    back: Vec<Speaker>,
}

impl Layout {
    /// What a configuration says.
    pub(super) fn of(config: &AudioSpecificConfig) -> Self {
        use Speaker::{
            BackCentre, Centre, Left, Right, SurroundLeft as SLeft, SurroundRight as SRight,
        };
        let (front, back): (&[Speaker], &[Speaker]) = match &config.layout {
            ChannelLayout::Program(program) => return Self::of_program(program, config.channels),
            ChannelLayout::Configuration(number) => match number {
                1 => (&[Centre], &[]),
                2 => (&[Left, Right], &[]),
                3 => (&[Centre, Left, Right], &[]),
                4 => (&[Centre, Left, Right], &[BackCentre]),
                5 | 6 => (&[Centre, Left, Right], &[SLeft, SRight]),
                7 => (&[Centre, Left, Right, SLeft, SRight], &[SLeft, SRight]),
                11 => (&[Centre, Left, Right], &[SLeft, SRight, BackCentre]),
                12 => (&[Centre, Left, Right], &[SLeft, SRight, SLeft, SRight]),
                // 14: the heights have a group of their own, which the library tells.
                _ => (&[Centre, Left, Right], &[SLeft, SRight]),
            },
        };
        Self {
            channels: usize::from(config.channels),
            front: front.to_vec(),
            side: Vec::new(),
            back: back.to_vec(),
        }
    }

    fn of_program(program: &ProgramConfig, channels: u8) -> Self {
        let lone_side = match program.low_frequency_channels {
            0 => Speaker::Silent,
            _ => Speaker::BackCentre,
        };
        Self {
            channels: usize::from(channels),
            front: front(&program.front),
            side: around(&program.side, lone_side),
            back: around(&program.back, Speaker::BackCentre),
        }
    }

    /// How many channels it is for.
    pub(super) fn channels(&self) -> usize {
        self.channels
    }

    /// The loudspeaker of the channel with this number in its group.
    pub(super) fn speaker(&self, group: Group, number: u8) -> Option<Speaker> {
        let group = match group {
            Group::Front => &self.front,
            Group::Side => &self.side,
            Group::Back => &self.back,
        };
        group.get(usize::from(number)).copied()
    }
}

/// What a channel of a group is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Middle,
    /// Of the pair with this number, from the middle outwards.
    Left(usize),
    Right(usize),
}

/// Single channels are pairs two by two; of an odd number of them one is the middle, at the front the
/// first, else the last.
fn places(elements: &[ChannelElement], middle_first: bool) -> Vec<Place> {
    let is_single = |element: &&ChannelElement| **element == ChannelElement::Single;
    let singles = elements.iter().filter(is_single).count();
    let middle = match (singles % 2 == 1, middle_first) {
        (false, _) => None,
        (true, true) => Some(0),
        (true, false) => singles.checked_sub(1),
    };
    let (mut places, mut pairs, mut single, mut half) = (Vec::new(), 0, 0, None);
    for element in elements {
        match element {
            ChannelElement::Pair => {
                places.extend([Place::Left(pairs), Place::Right(pairs)]);
                pairs += 1;
            }
            ChannelElement::Single if middle == Some(single) => {
                places.push(Place::Middle);
                single += 1;
            }
            ChannelElement::Single => {
                single += 1;
                match half.take() {
                    Some(pair) => places.push(Place::Right(pair)),
                    None => {
                        places.push(Place::Left(pairs));
                        half = Some(pairs);
                        pairs += 1;
                    }
                }
            }
        }
    }
    places
}

fn front(elements: &[ChannelElement]) -> Vec<Speaker> {
    let places = places(elements, true);
    let is_left = |place: &&Place| matches!(place, Place::Left(_));
    let pairs = places.iter().filter(is_left).count();
    let outermost = |pair: usize| pair + 1 == pairs;
    let speaker = |place: &Place| match *place {
        Place::Middle => Speaker::Centre,
        Place::Left(pair) if outermost(pair) => Speaker::Left,
        Place::Right(pair) if outermost(pair) => Speaker::Right,
        Place::Left(_) => Speaker::InnerLeft,
        Place::Right(_) => Speaker::InnerRight,
    };
    places.iter().map(speaker).collect()
}

fn around(elements: &[ChannelElement], middle: Speaker) -> Vec<Speaker> {
    let speaker = |place| match place {
        Place::Middle => middle,
        Place::Left(_) => Speaker::SurroundLeft,
        Place::Right(_) => Speaker::SurroundRight,
    };
    places(elements, false).into_iter().map(speaker).collect()
}

#[cfg(test)]
mod tests {
    use super::Speaker::{
        BackCentre, Centre, InnerLeft, InnerRight, Left, Right, Silent, SurroundLeft, SurroundRight,
    };
    use super::*;
    use ChannelElement::{Pair, Single};

    fn layout(config: &[u8]) -> Layout {
        Layout::of(&AudioSpecificConfig::parse(config).unwrap())
    }

    fn program(front: &[ChannelElement], side: &[ChannelElement], lfe: u8) -> Layout {
        let program = ProgramConfig {
            front: front.to_vec(),
            side: side.to_vec(),
            back: vec![Pair, Single],
            low_frequency_channels: lfe,
        };
        Layout::of_program(&program, 8)
    }

    #[test]
    fn configuration_7_is_ordinary_7_1() {
        let layout = layout(&[0x11, 0xb8]);
        assert_eq!(
            layout.front,
            [Centre, Left, Right, SurroundLeft, SurroundRight]
        );
        assert_eq!(layout.back, [SurroundLeft, SurroundRight]);
        assert_eq!(layout.channels(), 8);
        assert_eq!(layout.speaker(Group::Front, 1), Some(Left));
        assert_eq!(layout.speaker(Group::Side, 0), None);
    }

    #[test]
    fn pairs_lie_from_the_middle_outwards() {
        let wide = program(&[Single, Pair, Pair], &[Pair], 1);
        assert_eq!(wide.front, [Centre, InnerLeft, InnerRight, Left, Right]);
        assert_eq!(wide.side, [SurroundLeft, SurroundRight]);
        assert_eq!(wide.back, [SurroundLeft, SurroundRight, BackCentre]);
    }

    #[test]
    fn centre_may_come_after_its_pair() {
        let ffmpeg = program(&[Pair, Single], &[Single], 0);
        assert_eq!(ffmpeg.front, [Left, Right, Centre]);
        assert_eq!(ffmpeg.side, [Silent]);
    }

    #[test]
    fn two_single_channels_are_a_pair() {
        let singles = program(&[Single, Single, Single], &[Single, Single], 1);
        assert_eq!(singles.front, [Centre, Left, Right]);
        assert_eq!(singles.side, [SurroundLeft, SurroundRight]);
        assert_eq!(program(&[Single, Single], &[], 0).front, [Left, Right]);
    }
}
