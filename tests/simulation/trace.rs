//! What happened, as one number: two runs of a seed must come to the same. Bytes do not count,
//! since keys are random; times, ids and decisions do.

use std::fmt::Arguments;
use std::io::Write;
use std::time::{Duration, Instant};

/// Offset and prime of FNV-1a.
const FNV: (u64, u64) = (0xcbf2_9ce4_8422_2325, 0x0100_0000_01b3);

/// The trace of a world.
#[derive(Debug)]
pub struct Trace {
    start: Instant,
    hash: u64,
    print: bool,
}

impl Trace {
    /// Begins; `print` shows it on stderr.
    pub fn new(start: Instant, print: bool) -> Self {
        Self {
            start,
            hash: FNV.0,
            print,
        }
    }

    /// Notes an event.
    pub fn note(&mut self, now: Instant, event: Arguments<'_>) {
        let at = now - self.start;
        let line = format!("{:>10} {event}", Micros(at));
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(FNV.1);
        }
        if self.print {
            // Nobody may be reading.
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }

    /// The number so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

struct Micros(Duration);

impl std::fmt::Display for Micros {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0.as_micros().to_string())
    }
}
