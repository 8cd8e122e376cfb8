//! The wall clock, which the kernel stamps datagrams with (SO_TIMESTAMPNS).

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "the one reader; the kernel's stamps are of it"
)]
pub(crate) fn wall_nanos() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
