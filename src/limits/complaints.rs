//! Lines of the log that strangers cause: so many a second and no more, so that nobody can fill a
//! disk with them.

use std::fmt;
use std::time::{Duration, Instant};

/// Lines of one kind in a second, on each thread; the rest is counted.
const LINES_PER_SECOND: u32 = 10;
const SECOND: Duration = Duration::from_secs(1);

/// Lines of one kind.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    /// When the second began that is counted.
    since: Option<Instant>,
    written: u32,
    left_out: u64,
}

/// How many lines were left out since the last; to be written behind the next, prints as nothing
/// if there were none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeftOut(u64);

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            lines => write!(f, " lines_left_out={lines}"),
        }
    }
}

impl Complaints {
    /// Whether a line may be written at `now`, and what belongs behind it.
    pub(crate) fn admit(&mut self, now: Instant) -> Option<LeftOut> {
        let age = |since| now.saturating_duration_since(since);
        if self.since.is_none_or(|since| age(since) >= SECOND) {
            self.since = Some(now);
            self.written = 0;
        }
        if self.written >= LINES_PER_SECOND {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        self.written = self.written.saturating_add(1);
        Some(LeftOut(std::mem::take(&mut self.left_out)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flood_of_lines_is_cut_and_its_size_is_told() {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let start = Instant::now();
        let mut complaints = Complaints::default();
        let mut written = 0;
        // A thousand a second for two seconds and a half.
        for millis in 0..2_500 {
            let told = complaints.admit(start + Duration::from_millis(millis));
            written += u32::from(told.is_some());
            let expected = match millis % 1_000 {
                0 if millis > 0 => Some(" lines_left_out=990"),
                0..10 => Some(""),
                _ => None,
            };
            let told = told.map(|left_out| left_out.to_string());
            assert_eq!(told.as_deref(), expected, "at {millis} ms");
        }
        assert_eq!(written, 30);
    }
}
