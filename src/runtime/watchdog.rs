//! Tells the service manager that the server is ready, stopping, and alive: alive only while
//! every loop turns (sd_notify(3)).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// A loop that has not turned for this long is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(5);

/// One loop's sign of life: written by it in every turn, read by the watchdog.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    origin: Instant,
    last_ms: Arc<AtomicU64>,
}

impl Heartbeat {
    /// A heartbeat that begins now.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            origin: now,
            last_ms: Arc::new(AtomicU64::new(0)),
        }
    }

    /// The loop turned.
    pub fn beat(&self, now: Instant) {
        let ms = now.saturating_duration_since(self.origin).as_millis();
        self.last_ms
            .store(u64::try_from(ms).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn is_stuck(&self, now: Instant) -> bool {
        let last = self.origin + Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
        now.saturating_duration_since(last) > STUCK_AFTER
    }
}

/// Speaks to the service manager, if one started us.
#[derive(Debug)]
pub struct Watchdog {
    loops: Vec<Heartbeat>,
    interval: Option<Duration>,
    next: Instant,
}

impl Watchdog {
    /// Watches the given loops. Silent unless the service manager asked for a watchdog.
    #[must_use]
    pub fn new(cores: Vec<Heartbeat>, control: Heartbeat, now: Instant) -> Self {
        let loops = cores.into_iter().chain([control]).collect();
        let interval = sd_notify::watchdog_enabled().map(|timeout| timeout / 3);
        Self {
            loops,
            interval,
            next: now,
        }
    }

    /// Says that all sockets are bound and all loops run.
    pub fn ready(&self) {
        notify(&[NotifyState::Ready]);
    }

    /// Says that the server is stopping.
    pub fn stopping(&self) {
        notify(&[NotifyState::Stopping]);
    }

    /// Pings if it is time to and every loop turns; gives the time to call again.
    pub fn tick(&mut self, now: Instant) -> Option<Instant> {
        let interval = self.interval?;
        if now >= self.next {
            self.next = now + interval;
            if self.loops.iter().any(|heartbeat| heartbeat.is_stuck(now)) {
                log::error!("a loop is stuck: no sign of life to the service manager");
            } else {
                notify(&[NotifyState::Watchdog]);
            }
        }
        Some(self.next)
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::debug!("cannot reach the service manager: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_stops_turning_is_stuck() {
        let start = super::super::now();
        let heartbeat = Heartbeat::new(start);
        assert!(!heartbeat.is_stuck(start + Duration::from_secs(4)));
        assert!(heartbeat.is_stuck(start + Duration::from_secs(6)));
        heartbeat.beat(start + Duration::from_secs(6));
        assert!(!heartbeat.is_stuck(start + Duration::from_secs(10)));
    }
}
