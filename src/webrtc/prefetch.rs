//! Asks the CPU to fetch memory that is needed soon. What a thousand viewers have does not stay in a
//! core's cache from one frame to the next, and waiting for it was a twentieth of what a viewer costs.

#![allow(
    unsafe_code,
    reason = "the instruction has no safe wrapper, and no unsafe code where there is no instruction"
)]

/// Bytes that a CPU fetches at once.
const LINE_BYTES: usize = 64;

/// Asks for a value to be brought into the cache, without waiting for it. What it points to is not.
/// Changes nothing but the time that the next look at it takes; on CPUs other than x86-64 not even that.
pub fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

        let start = std::ptr::from_ref(value).cast::<i8>();
        for offset in (0..size_of::<T>()).step_by(LINE_BYTES) {
            // SAFETY: a hint that never faults and reads nothing that the program sees; the address
            // lies within `value`.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(start.add(offset)) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (value, LINE_BYTES);
}
