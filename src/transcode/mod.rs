//! One stream's sound, from whatever it is published as to Opus (RFC 6716), and one worker's
//! streams.
//!
//! ```text
//! packet ─▶ decoder ─▶ PCM ─▶ resampler ─▶ 48 kHz ─▶ packetizer ─▶ Opus, 20 ms
//!    pts ──▶ timeline: trims the resampler, asks for silence, leaves samples out
//! Opus ───▶ pass: new times ─▶ the same packet
//! ```
//!
//! All of it is pure: no clock, no thread. `runtime` owns the worker threads that run it.

mod audio;
mod decoder;
mod error;
mod exact;
mod external;
mod fade;
mod opus_packet;
mod packetizer;
mod pass;
mod resample;
mod timeline;
pub mod video;
mod worker;

pub use audio::{AudioSettings, AudioTranscoder, OpusPacket, TranscodeStats};
pub use error::TranscodeError;
pub use external::{ChildAction, ChildId, Ended};
pub use worker::Transcoder;

#[cfg(test)]
mod tests;

/// Channels of everything behind the decoder: mono is heard on both sides.
const CHANNELS: usize = 2;
