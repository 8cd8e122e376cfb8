//! What the engine's tests begin with.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Certificate, Engine, EngineConfig};
use crate::ids::{CoreId, IdSource};
use crate::media::time::Timebase;

/// The first of two cores, and the instant at which its timeline begins.
pub(super) fn engine() -> (Engine, Instant) {
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    let now = Instant::now();
    (engine_of(CoreId(0), now), now)
}

/// One of two cores.
pub(super) fn engine_of(core: CoreId, now: Instant) -> Engine {
    let engine = Engine::new(EngineConfig {
        core,
        cores: 2,
        timebase: Timebase::new(now, Duration::from_secs(1_700_000_000)),
        certificate: Certificate::generate().unwrap(),
        ids: IdSource::seeded(1),
        counters: Arc::default(),
    });
    engine.unwrap()
}
