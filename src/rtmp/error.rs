//! What can be wrong with a publisher's bytes. Every variant is the publisher's fault: nothing
//! that we or the machine do wrong ends a session through this type.

use std::fmt;

use super::amf0::Amf0Error;
use super::chunk::ChunkError;

/// Why a session was closed for breaking the protocol, or a limit. The publisher's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RtmpError {
    /// The first byte is not 3: not RTMP, or an encrypted variant of it.
    Version(u8),
    /// The rest of the handshake was refused.
    Handshake,
    /// The bytes are no chunks.
    Chunk(ChunkError),
    /// A command is not AMF0.
    Amf0(Amf0Error),
    /// A command has no name.
    Nameless,
    /// A command came before `connect`.
    NotConnected,
    /// `connect` came twice.
    ConnectedTwice,
    /// More commands than [`crate::limits::RTMP_COMMANDS_BEFORE_PUBLISH_MAX`] or
    /// [`crate::limits::RTMP_COMMANDS_PER_SECOND_MAX`].
    TooManyCommands,
    /// More than [`crate::limits::RTMP_MESSAGE_STREAMS_MAX`] message streams.
    TooManyStreams,
    /// More messages in one read than [`crate::limits::RTMP_OUTPUTS_MAX`].
    TooManyMessages,
}

impl RtmpError {
    /// The word for logs and metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Version(_) => "version",
            Self::Handshake => "handshake",
            Self::Chunk(error) => error.reason(),
            Self::Amf0(_) => "amf0",
            Self::Nameless => "nameless_command",
            Self::NotConnected => "not_connected",
            Self::ConnectedTwice => "connected_twice",
            Self::TooManyCommands => "too_many_commands",
            Self::TooManyStreams => "too_many_streams",
            Self::TooManyMessages => "too_many_messages",
        }
    }
}

impl fmt::Display for RtmpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(byte) => write!(
                f,
                "not plain RTMP: the first byte is {byte:#04x}, not 0x03 (RTMPS and RTMPE are not spoken on this port)"
            ),
            Self::Handshake => f.write_str("the RTMP handshake failed"),
            Self::Chunk(error) => error.fmt(f),
            Self::Amf0(error) => write!(f, "a command is malformed: {error}"),
            Self::Nameless => f.write_str("a command has no name"),
            Self::NotConnected => f.write_str("a command came before connect"),
            Self::ConnectedTwice => f.write_str("connect came twice"),
            Self::TooManyCommands => f.write_str("too many commands"),
            Self::TooManyStreams => f.write_str("too many message streams"),
            Self::TooManyMessages => f.write_str("too many small messages at once"),
        }
    }
}

impl std::error::Error for RtmpError {}

impl From<ChunkError> for RtmpError {
    fn from(error: ChunkError) -> Self {
        Self::Chunk(error)
    }
}

impl From<Amf0Error> for RtmpError {
    fn from(error: Amf0Error) -> Self {
        Self::Amf0(error)
    }
}
