//! What every ring of tests is made of: players, publishers and servers in this process.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "shared test code: each ring uses a part of it, and may fail loudly"
)]

pub mod clip;
pub mod publisher;
pub mod server;
pub mod tls;
pub mod udp_viewer;
pub mod viewer;
pub mod websocket;
