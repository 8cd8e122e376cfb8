//! What a frame is: time, codecs, access units, and the formats they arrive in.
//!
//! Plain data and pure parsers; knows nothing of RTMP sessions, rooms or viewers.

pub mod aac;
pub mod audio_header;
pub mod av1;
pub mod avc;
mod bits;
pub mod codec;
pub mod flv;
pub mod frame;
pub mod hevc;
pub mod part;
pub mod picture_header;
pub mod time;
pub mod verdict;
