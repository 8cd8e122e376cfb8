//! The slow correction of an encoder's clock against ours: a line through the earliest arrivals.
//!
//! What arrives earliest was delayed least, so the greatest lead of a window says how the clocks
//! stand, whatever the network does to the rest. A lasting distance from none is undone in
//! proportion, never faster than [`RATE_PPM_MAX`], and for both tracks alike.

use std::time::{Duration, Instant};

use crate::media::time::MediaTime;

/// How long arrivals are collected until the correction's rate is set anew: long enough that at
/// least one message of any stream comes through undelayed.
const WINDOW: Duration = Duration::from_secs(15);
/// A lead or a delay up to this, in microseconds, is left alone: a stream whose clock is ours
/// keeps its timestamps as they are.
const TOLERANCE_MICROS: i64 = 5_000;
/// What is beyond is undone within about this, in seconds. Clocks 200 ppm apart thus settle at
/// 5 + 12 ms.
const SETTLE_SECONDS: i64 = 60;
/// Greatest rate of correction, in millionths: four times what quartz clocks differ by, less than
/// a hundredth of a semitone, a frame in a minute.
const RATE_PPM_MAX: i64 = 500;
/// Longest time between two messages that counts: after a longer one the correction does not step.
const STEP_MAX: Duration = Duration::from_secs(1);

/// Windows after which the rate's average says something of the clock: five minutes, in which any
/// other distance is undone.
const AVERAGED_MIN: i64 = 20;
/// Windows that it is averaged over.
const AVERAGED_MAX: i64 = 40;

const PICOS_PER_MICRO: i64 = 1_000_000;

/// The correction of one publish.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Drift {
    /// In picoseconds: a millionth of a microsecond, so that no rate is rounded.
    correction_picos: i64,
    rate_ppm: i64,
    /// The rate averaged over the windows in which it was within its bounds, in billionths.
    average_ppb: i64,
    /// How many there were in a row.
    windows: i64,
    last: Option<Instant>,
    window: Option<Window>,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    ends: Instant,
    lead: MediaTime,
}

impl Drift {
    /// What is added to every position now.
    pub(super) fn correction(&self) -> MediaTime {
        MediaTime::from_micros(self.correction_picos.div_euclid(PICOS_PER_MICRO))
    }

    /// What the encoder's clock is slower than ours by, in millionths; 0 until that is known.
    pub(super) fn clock_slow_ppm(&self) -> i64 {
        match self.windows >= AVERAGED_MIN {
            true => self.average_ppb.div_euclid(1_000),
            false => 0,
        }
    }

    /// Moves the correction on to `now`.
    pub(super) fn advance(&mut self, now: Instant) {
        let passed = self.last.map(|last| now.saturating_duration_since(last));
        self.last = Some(now);
        let passed = passed.unwrap_or_default().min(STEP_MAX).as_micros();
        let micros = i64::try_from(passed).unwrap_or_default();
        let step = self.rate_ppm.saturating_mul(micros);
        self.correction_picos = self.correction_picos.saturating_add(step);
    }

    /// A message arrived `now`, and `lead` before its position.
    pub(super) fn observe(&mut self, lead: MediaTime, now: Instant) {
        let window = self.window.get_or_insert(Window {
            ends: now.checked_add(WINDOW).unwrap_or(now),
            lead,
        });
        window.lead = window.lead.max(lead);
        if now < window.ends {
            return;
        }
        let lead = window.lead.as_micros();
        let beyond = lead.saturating_abs().saturating_sub(TOLERANCE_MICROS);
        let rate = beyond.max(0).div_euclid(SETTLE_SECONDS).min(RATE_PPM_MAX);
        self.rate_ppm = rate.saturating_mul(lead.signum()).saturating_neg();
        self.window = None;
        if rate >= RATE_PPM_MAX {
            // It catches up with something else than a clock.
            (self.average_ppb, self.windows) = (0, 0);
            return;
        }
        self.windows = self.windows.saturating_add(1);
        let weight = self.windows.clamp(1, AVERAGED_MAX);
        let apart = self.rate_ppm.saturating_mul(1_000) - self.average_ppb;
        self.average_ppb = self.average_ppb.saturating_add(apart.div_euclid(weight));
    }

    /// The positions were set anew: what was collected says nothing of them. The rate stays: the
    /// clock is the same.
    pub(super) fn forget(&mut self) {
        self.window = None;
    }
}
