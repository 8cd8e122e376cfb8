//! `onMetaData`: what an encoder says about its stream (Adobe FLV 10.1 §E.5, Enhanced RTMP v2).

use super::amf0::Amf0Value;

/// Longest text kept of a publisher's words, in characters.
pub(super) const TEXT_CHARACTERS_MAX: usize = 128;

/// An encoder's word on its stream; what it left out or said in a wrong type is `None`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metadata {
    /// Width, in pixels.
    pub width: Option<f64>,
    /// Height, in pixels.
    pub height: Option<f64>,
    /// Frames a second.
    pub framerate: Option<f64>,
    /// Video bitrate, in kbit/s.
    pub videodatarate: Option<f64>,
    /// Audio bitrate, in kbit/s.
    pub audiodatarate: Option<f64>,
    /// Video codec.
    pub videocodecid: Option<CodecName>,
    /// Audio codec.
    pub audiocodecid: Option<CodecName>,
    /// Name of the encoder, at most 128 characters, none of them control.
    pub encoder: Option<String>,
}

/// A codec in metadata: a number, which for Enhanced RTMP is a FourCC, or a name ("avc1").
#[derive(Debug, Clone, PartialEq)]
pub enum CodecName {
    /// An FLV codec id or a FourCC.
    Number(f64),
    /// A name, at most 128 characters, none of them control.
    Name(String),
}

impl Metadata {
    /// Reads a data message's values: `onMetaData` with an object, `@setDataFrame` before it or
    /// not. `None` if it is another data message.
    pub(super) fn from_values(values: &[Amf0Value]) -> Option<Self> {
        let values = match values {
            [Amf0Value::String(name), rest @ ..] if name == "@setDataFrame" => rest,
            all => all,
        };
        let [Amf0Value::String(name), object, ..] = values else {
            return None;
        };
        if name != "onMetaData" {
            return None;
        }
        let number = |name| {
            let value = object.property(name)?.as_number()?;
            (value.is_finite() && value >= 0.0).then_some(value)
        };
        let codec = |name| match object.property(name)? {
            Amf0Value::Number(number) => Some(CodecName::Number(*number)),
            Amf0Value::String(text) => Some(CodecName::Name(plain_text(text))),
            Amf0Value::Boolean(_)
            | Amf0Value::Object(_)
            | Amf0Value::Array(_)
            | Amf0Value::Date(_)
            | Amf0Value::Null
            | Amf0Value::Undefined => None,
        };
        let encoder = object.property("encoder").and_then(Amf0Value::as_str);
        Some(Self {
            width: number("width"),
            height: number("height"),
            framerate: number("framerate"),
            videodatarate: number("videodatarate"),
            audiodatarate: number("audiodatarate"),
            videocodecid: codec("videocodecid"),
            audiocodecid: codec("audiocodecid"),
            encoder: encoder.map(plain_text),
        })
    }
}

/// A publisher's words, safe to log: short, without control characters.
pub(super) fn plain_text(text: &str) -> String {
    let visible = text.chars().filter(|character| !character.is_control());
    visible.take(TEXT_CHARACTERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Amf0Value {
        Amf0Value::String(text.into())
    }

    fn object() -> Amf0Value {
        Amf0Value::Object(vec![
            ("width".into(), Amf0Value::Number(1280.0)),
            ("height".into(), Amf0Value::Number(f64::NAN)),
            ("framerate".into(), text("30")),
            ("videocodecid".into(), text("avc1")),
            ("audiocodecid".into(), Amf0Value::Number(10.0)),
            ("encoder".into(), text("Lavf\u{1b}[2J59")),
        ])
    }

    #[test]
    fn metadata_is_read_with_and_without_set_data_frame() {
        let with = [text("@setDataFrame"), text("onMetaData"), object()];
        let metadata = Metadata::from_values(&with).unwrap();
        assert_eq!(metadata.width, Some(1280.0));
        assert_eq!(metadata.videocodecid, Some(CodecName::Name("avc1".into())));
        assert_eq!(metadata.audiocodecid, Some(CodecName::Number(10.0)));
        assert_eq!(Metadata::from_values(&with[1..]), Some(metadata));
    }

    #[test]
    fn values_of_a_wrong_type_are_left_out_and_text_is_made_plain() {
        let metadata = Metadata::from_values(&[text("onMetaData"), object()]).unwrap();
        assert_eq!(metadata.height, None);
        assert_eq!(metadata.framerate, None);
        assert_eq!(metadata.encoder.as_deref(), Some("Lavf[2J59"));
    }

    #[test]
    fn other_data_messages_are_no_metadata() {
        assert_eq!(Metadata::from_values(&[]), None);
        assert_eq!(Metadata::from_values(&[text("@setDataFrame")]), None);
        assert_eq!(Metadata::from_values(&[text("onMetaData")]), None);
        assert_eq!(Metadata::from_values(&[text("onTextData"), object()]), None);
    }
}
