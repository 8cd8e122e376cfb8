//! The only reader of a clock. Everything else takes `now` as an argument.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::media::time::Timebase;

/// Reads the monotonic clock.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one reader")]
pub fn now() -> Instant {
    Instant::now()
}

/// Reads the system's clock, since the Unix epoch. Unlike [`Timebase::wall`] it follows when the system's
/// clock is set: for what somebody compares with a clock of his own.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one reader")]
pub(super) fn system_time() -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO)
}

/// The process's clock: read once at the start, it ties the monotonic clock to the wall clock.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    timebase: Timebase,
}

impl Clock {
    /// Starts the media timeline now.
    #[must_use]
    pub fn start() -> Self {
        Self {
            timebase: Timebase::new(now(), system_time()),
        }
    }

    /// The timebase every engine uses.
    #[must_use]
    pub fn timebase(&self) -> Timebase {
        self.timebase
    }
}
