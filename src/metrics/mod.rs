//! Counters and gauges: what is counted ([`names`]), who counts it ([`counters`]), and the page
//! that shows it ([`prometheus`], text exposition format 0.0.4).

pub mod counters;
pub mod names;
pub mod prometheus;

pub use counters::{
    ControlCounters, CoreCounters, Counter, Histogram, TranscodeCounters, VideoCounters,
    WebhookCounters,
};
pub use prometheus::{Page, ProcessUsage};
