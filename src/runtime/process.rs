//! What the kernel says of this process, for the metrics page.

use std::fs;
use std::time::Duration;

use crate::metrics::ProcessUsage;

/// Resident memory and CPU time, from `/proc`; zeros where there is none.
pub(super) fn usage() -> ProcessUsage {
    let resident = fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("VmRSS:"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        });
    let ticks = fs::read_to_string("/proc/self/stat").ok().and_then(|text| {
        // After the command in parentheses, utime and stime are fields 14 and 15 (proc(5)).
        let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
        let user: u64 = fields.next()?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        Some(user + system)
    });
    // USER_HZ is 100 on every Linux this runs on: a tick is 10 ms.
    ProcessUsage {
        resident_memory_bytes: resident.unwrap_or(0).saturating_mul(1_024),
        cpu: Duration::from_millis(ticks.unwrap_or(0).saturating_mul(10)),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_process_uses_memory() {
        assert!(super::usage().resident_memory_bytes > 1_000_000);
    }
}
