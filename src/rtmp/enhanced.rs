//! What an encoder and we tell each other at `connect` about newer codecs and headers (Enhanced
//! RTMP v2, "Enhancing NetConnection connect Command").

use super::amf0::Amf0Value;
use super::metadata::plain_text;
use crate::media::flv::{AUDIO_FOUR_CCS, VIDEO_FOUR_CCS};

/// Most codecs kept of what an encoder lists; eleven are defined.
const FOUR_CC_COUNT_MAX: usize = 32;
/// `FourCcInfoMask.CanDecode`.
const CAN_DECODE: f64 = 1.0;
/// `CapsExMask`: Multitrack 0x02, ModEx 0x04, TimestampNanoOffset 0x08; not Reconnect 0x01.
const CAPS_EX: f64 = (0x02 | 0x04 | 0x08) as f64;
/// Names of the properties, the same in the command and in the answer.
const FOUR_CC_LIST: &str = "fourCcList";
const VIDEO_MAP: &str = "videoFourCcInfoMap";
const AUDIO_MAP: &str = "audioFourCcInfoMap";
const CAPS_EX_NAME: &str = "capsEx";

/// FourCCs of `fourCcList`, and the names in both maps.
pub(super) fn four_cc_list(object: &Amf0Value) -> Vec<String> {
    let mut all = Vec::new();
    if let Some(Amf0Value::Array(values)) = object.property(FOUR_CC_LIST) {
        all.extend(values.iter().filter_map(Amf0Value::as_str).map(plain_text));
    }
    for map in [VIDEO_MAP, AUDIO_MAP] {
        if let Some(Amf0Value::Object(map)) = object.property(map) {
            all.extend(map.iter().map(|(name, _)| plain_text(name)));
        }
    }
    all.truncate(FOUR_CC_COUNT_MAX);
    all
}

/// Flags of `capsEx`, 0 if there are none.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be between 0 and 2^32"
)]
pub(super) fn caps_ex(object: &Amf0Value) -> u32 {
    let value = object.property(CAPS_EX_NAME).and_then(Amf0Value::as_number);
    let legal = value.filter(|value| (0.0..=f64::from(u32::MAX)).contains(value));
    legal.map_or(0, |value| value as u32)
}

/// What we say of ourselves, in the first object of the answer; nothing to an encoder that does
/// not speak of it, since old ones may not expect it.
pub(super) fn properties(object: &Amf0Value) -> Vec<(String, Amf0Value)> {
    let names = [FOUR_CC_LIST, VIDEO_MAP, AUDIO_MAP, CAPS_EX_NAME];
    if names.iter().all(|name| object.property(name).is_none()) {
        return Vec::new();
    }
    let (video, audio) = (VIDEO_FOUR_CCS.map(name), AUDIO_FOUR_CCS.map(name));
    let all = video.iter().chain(&audio);
    let list = all.map(|name| Amf0Value::String((*name).into())).collect();
    let map = |names: &[&str]| {
        let flags = |name: &&str| ((*name).into(), Amf0Value::Number(CAN_DECODE));
        Amf0Value::Object(names.iter().map(flags).collect())
    };
    vec![
        (FOUR_CC_LIST.into(), Amf0Value::Array(list)),
        (VIDEO_MAP.into(), map(&video)),
        (AUDIO_MAP.into(), map(&audio)),
        (CAPS_EX_NAME.into(), Amf0Value::Number(CAPS_EX)),
    ]
}

fn name<T>((name, _): (&'static str, T)) -> &'static str {
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(properties: Vec<(&str, Amf0Value)>) -> Amf0Value {
        let own = properties.into_iter();
        Amf0Value::Object(own.map(|(name, value)| (name.into(), value)).collect())
    }

    #[test]
    fn old_encoders_are_told_nothing_new() {
        let old = object(vec![("app", Amf0Value::String("live".into()))]);
        assert!(properties(&old).is_empty());
        assert!(four_cc_list(&old).is_empty());
        assert_eq!(caps_ex(&old), 0);
        assert!(properties(&Amf0Value::Null).is_empty());
    }

    #[test]
    fn maps_and_flags_of_the_encoder_are_read() {
        let map = |name: &str| object(vec![(name, Amf0Value::Number(4.0))]);
        let list = vec![Amf0Value::String("av01".into()), Amf0Value::Null];
        let new = object(vec![
            (FOUR_CC_LIST, Amf0Value::Array(list)),
            (VIDEO_MAP, map("*")),
            (AUDIO_MAP, map("Opus")),
            (CAPS_EX_NAME, Amf0Value::Number(6.0)),
        ]);
        assert_eq!(four_cc_list(&new), ["av01", "*", "Opus"]);
        assert_eq!(caps_ex(&new), 6);
    }

    #[test]
    fn flags_out_of_any_sense_are_none() {
        for value in [-1.0, f64::NAN, f64::INFINITY, 1e20] {
            let odd = object(vec![(CAPS_EX_NAME, Amf0Value::Number(value))]);
            assert_eq!(caps_ex(&odd), 0, "{value}");
        }
        let text = object(vec![(CAPS_EX_NAME, Amf0Value::String("3".into()))]);
        assert_eq!(caps_ex(&text), 0);
    }

    #[test]
    fn answer_names_every_codec_that_is_played() {
        let new = object(vec![(CAPS_EX_NAME, Amf0Value::Number(0.0))]);
        let answer = Amf0Value::Object(properties(&new));
        let flags = |map, name| answer.property(map)?.property(name)?.as_number();
        let (video, audio) = (VIDEO_FOUR_CCS.map(name), AUDIO_FOUR_CCS.map(name));
        for name in video {
            assert_eq!(flags(VIDEO_MAP, name), Some(1.0), "{name}");
        }
        for name in audio {
            assert_eq!(flags(AUDIO_MAP, name), Some(1.0), "{name}");
        }
        assert_eq!(four_cc_list(&answer).len(), 2 * (video.len() + audio.len()));
        assert_eq!(caps_ex(&answer), 0x0e);
    }
}
