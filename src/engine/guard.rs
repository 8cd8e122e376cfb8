//! The seat belt: a panic in one session's code ends that session and nothing else.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs one session's step. `None`: it panicked; the caller must drop the session, whose state
/// may be half changed, and count a bug.
pub(super) fn guarded<R>(step: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(step)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_contained() {
        assert_eq!(guarded(|| 7), Some(7));
        assert_eq!(guarded(|| -> u8 { panic!("a test's own panic") }), None);
    }
}
