//! rtmpeer: RTMP in, WebRTC out, with sound, in well under a second.
//!
//! Media flows one way, `rtmp` → `ingest` → (`transcode`) → `room` → `webrtc`; `engine` joins
//! these on each core, `control` decides who is where, and only `runtime` touches sockets,
//! clocks and threads. ARCHITECTURE.md has the picture and the rules.

pub mod config;
pub mod control;
pub mod engine;
pub mod ids;
pub mod ingest;
pub mod limits;
pub mod logging;
pub mod media;
pub mod messages;
pub mod metrics;
pub mod room;
pub mod rtmp;
pub mod runtime;
pub mod server;
pub mod signalling;
pub mod transcode;
pub mod web;
pub mod webhook;
pub mod webrtc;
