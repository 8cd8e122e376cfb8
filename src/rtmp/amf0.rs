//! AMF0, the encoding of RTMP's commands and metadata (Adobe, "AMF 0 File Format
//! Specification"): a reader for hostile input, and a writer for our answers.
//!
//! The reader does not recurse, allocates nothing by a declared count, and stops at
//! [`AMF0_DEPTH_MAX`] levels and [`AMF0_VALUES_MAX`] values.

use std::fmt;

use crate::limits::{AMF0_DEPTH_MAX, AMF0_VALUES_MAX};

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub enum Amf0Value {
    /// A double, the only kind of number (§2.2).
    Number(f64),
    /// A truth value (§2.3).
    Boolean(bool),
    /// A string, short or long (§2.4, §2.14); bytes that are not UTF-8 are replaced.
    String(String),
    /// An object (§2.5), typed object (§2.18) or ECMA array (§2.10), in the order it was sent.
    Object(Vec<(String, Self)>),
    /// A strict array (§2.12).
    Array(Vec<Self>),
    /// Milliseconds since the Unix epoch (§2.13).
    Date(f64),
    /// Null (§2.7).
    Null,
    /// Undefined (§2.8); also what stands for references and unsupported values.
    Undefined,
}

impl Amf0Value {
    /// The number, if it is one.
    #[must_use]
    pub fn as_number(&self) -> Option<f64> {
        if let Self::Number(number) = self {
            Some(*number)
        } else {
            None
        }
    }

    /// The text, if it is a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self {
            Some(text)
        } else {
            None
        }
    }

    /// A property of an object, by name.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&Self> {
        let Self::Object(properties) = self else {
            return None;
        };
        let found = properties.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value)
    }
}

/// What is wrong with AMF0 bytes. The sender's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amf0Error {
    /// They end inside a value.
    Truncated,
    /// A marker that AMF0 does not define, or that has no place where it stands.
    Marker(u8),
    /// Nested deeper than [`AMF0_DEPTH_MAX`].
    TooDeep,
    /// More values than [`AMF0_VALUES_MAX`].
    TooManyValues,
}

impl fmt::Display for Amf0Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("AMF0 ends inside a value"),
            Self::Marker(byte) => write!(f, "unexpected AMF0 marker {byte:#04x}"),
            Self::TooDeep => write!(f, "AMF0 nested deeper than {AMF0_DEPTH_MAX}"),
            Self::TooManyValues => write!(f, "more than {AMF0_VALUES_MAX} AMF0 values"),
        }
    }
}

impl std::error::Error for Amf0Error {}

/// Type markers (§2.1).
mod marker {
    pub(super) const NUMBER: u8 = 0x00;
    pub(super) const BOOLEAN: u8 = 0x01;
    pub(super) const STRING: u8 = 0x02;
    pub(super) const OBJECT: u8 = 0x03;
    pub(super) const NULL: u8 = 0x05;
    pub(super) const UNDEFINED: u8 = 0x06;
    pub(super) const REFERENCE: u8 = 0x07;
    pub(super) const ECMA_ARRAY: u8 = 0x08;
    pub(super) const OBJECT_END: u8 = 0x09;
    pub(super) const STRICT_ARRAY: u8 = 0x0a;
    pub(super) const DATE: u8 = 0x0b;
    pub(super) const LONG_STRING: u8 = 0x0c;
    pub(super) const UNSUPPORTED: u8 = 0x0d;
    pub(super) const XML_DOCUMENT: u8 = 0x0f;
    pub(super) const TYPED_OBJECT: u8 = 0x10;
}

/// Reads every value of a message.
///
/// # Errors
/// At the first byte that cannot be read; see [`Amf0Error`].
pub fn decode(bytes: &[u8]) -> Result<Vec<Amf0Value>, Amf0Error> {
    let (values, error) = decode_prefix(bytes);
    error.map_or(Ok(values), Err)
}

/// Reads values as far as they can be read: containers that are open at the fault are returned
/// with what they hold by then. For metadata, which some encoders send cut short.
#[must_use]
pub fn decode_prefix(bytes: &[u8]) -> (Vec<Amf0Value>, Option<Amf0Error>) {
    let mut reader = Reader {
        rest: bytes,
        top: Vec::new(),
        open: Vec::new(),
        values: 0,
    };
    let error = loop {
        match reader.step() {
            Ok(true) => {}
            Ok(false) => break None,
            Err(error) => break Some(error),
        }
    };
    while let Some(container) = reader.open.pop() {
        reader.put(container.into_value());
    }
    (reader.top, error)
}

enum Container {
    Object {
        done: Vec<(String, Amf0Value)>,
        key: String,
    },
    Array {
        done: Vec<Amf0Value>,
        left: u32,
    },
}

impl Container {
    fn into_value(self) -> Amf0Value {
        match self {
            Self::Object { done, key: _ } => Amf0Value::Object(done),
            Self::Array { done, left: _ } => Amf0Value::Array(done),
        }
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    top: Vec<Amf0Value>,
    open: Vec<Container>,
    values: usize,
}

impl<'a> Reader<'a> {
    /// Reads one value, or the end of a container; false at the end of the bytes.
    fn step(&mut self) -> Result<bool, Amf0Error> {
        match self.open.last_mut() {
            None if self.rest.is_empty() => return Ok(false),
            None => {}
            Some(Container::Array { left: 0, .. }) => {
                self.close();
                return Ok(true);
            }
            Some(Container::Array { left, .. }) => *left = left.saturating_sub(1),
            Some(Container::Object { .. }) => {
                let name = self.short_string()?;
                if name.is_empty() && self.rest.first() == Some(&marker::OBJECT_END) {
                    self.byte()?;
                    self.close();
                    return Ok(true);
                }
                if let Some(Container::Object { key, .. }) = self.open.last_mut() {
                    *key = name;
                }
            }
        }
        self.value()?;
        Ok(true)
    }

    fn value(&mut self) -> Result<(), Amf0Error> {
        self.values = self.values.saturating_add(1);
        if self.values > AMF0_VALUES_MAX {
            return Err(Amf0Error::TooManyValues);
        }
        let value = match self.byte()? {
            marker::NUMBER => Amf0Value::Number(self.number()?),
            marker::BOOLEAN => Amf0Value::Boolean(self.byte()? != 0),
            marker::STRING => Amf0Value::String(self.short_string()?),
            marker::LONG_STRING | marker::XML_DOCUMENT => {
                let length = self.u32()?;
                Amf0Value::String(self.text(usize::try_from(length).unwrap_or(usize::MAX))?)
            }
            marker::NULL => Amf0Value::Null,
            marker::UNDEFINED | marker::UNSUPPORTED => Amf0Value::Undefined,
            marker::REFERENCE => {
                self.take(2)?;
                Amf0Value::Undefined
            }
            marker::DATE => {
                let milliseconds = self.number()?;
                self.take(2)?; // time zone: reserved, not used (§2.13)
                Amf0Value::Date(milliseconds)
            }
            marker::OBJECT => return self.open_object(),
            marker::TYPED_OBJECT => {
                self.short_string()?;
                return self.open_object();
            }
            marker::ECMA_ARRAY => {
                self.u32()?; // a hint that encoders get wrong; the end marker counts
                return self.open_object();
            }
            marker::STRICT_ARRAY => {
                let left = self.u32()?;
                let shortest = usize::try_from(left).unwrap_or(usize::MAX);
                if shortest > self.rest.len() {
                    return Err(Amf0Error::Truncated);
                }
                let done = Vec::new();
                return self.open(Container::Array { done, left });
            }
            other => return Err(Amf0Error::Marker(other)),
        };
        self.put(value);
        Ok(())
    }

    fn open_object(&mut self) -> Result<(), Amf0Error> {
        self.open(Container::Object {
            done: Vec::new(),
            key: String::new(),
        })
    }

    fn open(&mut self, container: Container) -> Result<(), Amf0Error> {
        if self.open.len() >= AMF0_DEPTH_MAX {
            return Err(Amf0Error::TooDeep);
        }
        self.open.push(container);
        Ok(())
    }

    fn close(&mut self) {
        if let Some(container) = self.open.pop() {
            self.put(container.into_value());
        }
    }

    fn put(&mut self, value: Amf0Value) {
        match self.open.last_mut() {
            None => self.top.push(value),
            Some(Container::Object { done, key }) => done.push((std::mem::take(key), value)),
            Some(Container::Array { done, .. }) => done.push(value),
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Amf0Error> {
        let Some((taken, rest)) = self.rest.split_at_checked(length) else {
            return Err(Amf0Error::Truncated);
        };
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Amf0Error> {
        self.take(1)?.first().copied().ok_or(Amf0Error::Truncated)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Amf0Error> {
        let Some((taken, rest)) = self.rest.split_first_chunk() else {
            return Err(Amf0Error::Truncated);
        };
        self.rest = rest;
        Ok(*taken)
    }

    fn u32(&mut self) -> Result<u32, Amf0Error> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn number(&mut self) -> Result<f64, Amf0Error> {
        Ok(f64::from_be_bytes(self.array()?))
    }

    fn short_string(&mut self) -> Result<String, Amf0Error> {
        let length = u16::from_be_bytes(self.array()?);
        self.text(usize::from(length))
    }

    fn text(&mut self, length: usize) -> Result<String, Amf0Error> {
        Ok(String::from_utf8_lossy(self.take(length)?).into_owned())
    }
}

/// Writes values one after the other. Made for our own answers: strings beyond 65,535 bytes are
/// written as long strings, and names of properties are cut there.
#[must_use]
pub fn encode(values: &[Amf0Value]) -> Vec<u8> {
    let mut out = Vec::new();
    for value in values {
        encode_value(value, &mut out);
    }
    out
}

fn encode_value(value: &Amf0Value, out: &mut Vec<u8>) {
    match value {
        Amf0Value::Number(number) => {
            out.push(marker::NUMBER);
            out.extend(number.to_be_bytes());
        }
        Amf0Value::Boolean(truth) => out.extend([marker::BOOLEAN, u8::from(*truth)]),
        Amf0Value::String(text) => encode_string(text, out),
        Amf0Value::Object(properties) => {
            out.push(marker::OBJECT);
            for (name, value) in properties {
                let length = u16::try_from(name.len()).unwrap_or(u16::MAX);
                out.extend(length.to_be_bytes());
                out.extend(name.bytes().take(usize::from(length)));
                encode_value(value, out);
            }
            out.extend([0, 0, marker::OBJECT_END]);
        }
        Amf0Value::Array(values) => {
            out.push(marker::STRICT_ARRAY);
            let count = u32::try_from(values.len()).unwrap_or(u32::MAX);
            out.extend(count.to_be_bytes());
            for value in values {
                encode_value(value, out);
            }
        }
        Amf0Value::Date(milliseconds) => {
            out.push(marker::DATE);
            out.extend(milliseconds.to_be_bytes());
            out.extend([0, 0]);
        }
        Amf0Value::Null => out.push(marker::NULL),
        Amf0Value::Undefined => out.push(marker::UNDEFINED),
    }
}

fn encode_string(text: &str, out: &mut Vec<u8>) {
    if let Ok(length) = u16::try_from(text.len()) {
        out.push(marker::STRING);
        out.extend(length.to_be_bytes());
    } else {
        out.push(marker::LONG_STRING);
        out.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    }
    out.extend(text.bytes());
}

#[cfg(test)]
mod tests;
