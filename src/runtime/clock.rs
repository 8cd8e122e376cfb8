//! The only reader of a clock. Everything else takes `now` as an argument.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::media::time::Timebase;

/// Reads the monotonic clock.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one reader")]
pub fn now() -> Instant {
    Instant::now()
}

/// The process's clock: read once at the start, it ties the monotonic clock to the wall clock.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    timebase: Timebase,
}

impl Clock {
    /// Starts the media timeline now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one reader")]
    pub fn start() -> Self {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        Self {
            timebase: Timebase::new(now(), wall),
        }
    }

    /// The timebase every engine uses.
    #[must_use]
    pub fn timebase(&self) -> Timebase {
        self.timebase
    }
}
