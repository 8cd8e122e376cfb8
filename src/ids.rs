//! Names of things: what a message or a function means when it says "that viewer", and where
//! unguessable values come from.

use std::fmt;
use std::sync::Arc;

/// Position of a core in the server's list of cores, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CoreId(pub u16);

impl CoreId {
    /// Index into a per-core list.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for CoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

macro_rules! numeric_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

numeric_id!(
    /// One accepted TCP connection, unique in its loop's lifetime.
    ConnId
);
numeric_id!(
    /// One RTMP publisher connection, unique in the process: given by control when it accepts.
    PublisherId
);
numeric_id!(
    /// One viewer's peer connection, unique in the process: given by control.
    ViewerId
);
numeric_id!(
    /// One room, unique in the process: control maps a [`RoomName`] to it.
    RoomId
);

/// One publish of a room. Later publishes of any room have greater epochs, so frame numbers
/// derived from it never repeat in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub u32);

impl Epoch {
    /// The last one: frame numbers have 63 bits for epoch and count, the first bit says of which
    /// rendition they are.
    pub const LAST: Self = Self(u32::MAX >> 1);

    /// First frame number and first room sequence number of this publish: no publish reaches
    /// 2^32 frames, so the numbers of successive publishes never meet.
    #[must_use]
    pub fn first_number(self) -> u64 {
        u64::from(self.0) << 32
    }
}

/// Longest room name, in bytes.
pub const ROOM_NAME_BYTES_MAX: usize = 128;

/// A room's name as publishers and viewers say it: 1 to 128 of `[A-Za-z0-9._~-]`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomName(Arc<str>);

impl RoomName {
    /// Returns the name, or `None` if it is empty, too long, or holds another character.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
        let fits = (1..=ROOM_NAME_BYTES_MAX).contains(&text.len());
        (fits && text.bytes().all(legal)).then(|| Self(Arc::from(text)))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl fmt::Display for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A value that must not appear in a log or an error: prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    #[must_use]
    pub fn new(value: String) -> Self {
        Self(value)
    }

    /// The value itself, for the one place that must send or compare it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where unguessable values come from: the operating system, or in tests a seed, so that a
/// simulation repeats itself.
#[derive(Debug, Clone)]
pub struct IdSource(Source);

#[derive(Debug, Clone)]
enum Source {
    OperatingSystem,
    Seeded(u64),
}

impl IdSource {
    /// The operating system's random source.
    #[must_use]
    pub fn operating_system() -> Self {
        Self(Source::OperatingSystem)
    }

    /// A repeatable sequence (SplitMix64). For tests only: it is guessable.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(Source::Seeded(seed))
    }

    /// Fills `bytes`.
    ///
    /// # Panics
    /// If the operating system has no random source: nothing secure can be done then.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        match &mut self.0 {
            #[expect(clippy::expect_used, reason = "without randomness no key may be made")]
            Source::OperatingSystem => {
                getrandom::fill(bytes).expect("the operating system gives random bytes");
            }
            Source::Seeded(state) => {
                for chunk in bytes.chunks_mut(8) {
                    let value = split_mix(state).to_le_bytes();
                    for (to, from) in chunk.iter_mut().zip(value) {
                        *to = from;
                    }
                }
            }
        }
    }

    /// A random 32-bit number.
    pub fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    /// Text of `length` characters of `[A-Za-z0-9+/]`, 6 random bits each: legal in an ICE ufrag
    /// and password (RFC 8839 §5.4, `ice-char`).
    pub fn ice_text(&mut self, length: usize) -> String {
        const ALPHABET: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        self.text(length, ALPHABET)
    }

    /// Text of `length` characters of base64url, 6 random bits each: legal in a URL path.
    /// 22 characters hold 132 bits.
    pub fn url_text(&mut self, length: usize) -> String {
        const ALPHABET: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        self.text(length, ALPHABET)
    }

    fn text(&mut self, length: usize, alphabet: &[u8; 64]) -> String {
        let mut bytes = vec![0; length];
        self.fill(&mut bytes);
        let pick = |byte: u8| {
            alphabet
                .get(usize::from(byte & 63))
                .copied()
                .unwrap_or(b'A')
        };
        bytes
            .into_iter()
            .map(|byte| char::from(pick(byte)))
            .collect()
    }
}

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_name_takes_the_unreserved_characters_only() {
        assert!(RoomName::parse("A-z_.0").is_some());
        assert!(RoomName::parse("cam~1").is_some());
        for bad in ["", "a b", "a/b", "a?b", "a\r\nb", "\u{1b}[2J", "é"] {
            assert!(RoomName::parse(bad).is_none(), "{bad:?} was taken");
        }
        assert!(RoomName::parse(&"a".repeat(128)).is_some());
        assert!(RoomName::parse(&"a".repeat(129)).is_none());
    }

    #[test]
    fn secret_never_prints_itself() {
        assert_eq!(format!("{:?}", Secret::new("hunter2".into())), "***");
    }

    #[test]
    fn seeded_source_repeats_and_the_operating_system_does_not() {
        let text = |source: &mut IdSource| source.url_text(22);
        assert_eq!(
            text(&mut IdSource::seeded(7)),
            text(&mut IdSource::seeded(7))
        );
        let mut os = IdSource::operating_system();
        assert_ne!(text(&mut os), text(&mut os));
    }
}
