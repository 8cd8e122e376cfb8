//! What the kernel says of this process, for the metrics page.

use std::fs;

/// Resident memory in bytes and CPU time in seconds, from `/proc`; zeros where there is none.
pub(super) fn usage() -> (u64, f64) {
    let resident = fs::read_to_string("/proc/self/status").ok().and_then(|text| {
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
    // USER_HZ is 100 on every Linux this runs on.
    let seconds = ticks.map_or(0.0, |ticks| f64::from(u32::try_from(ticks).unwrap_or(u32::MAX)));
    (resident.unwrap_or(0) * 1_024, seconds / 100.0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_process_uses_memory() {
        assert!(super::usage().0 > 1_000_000);
    }
}
