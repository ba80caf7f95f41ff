//! How the proxy runs, apart from what the bootstrap says.

use crate::SteadyClock;
use host_sim_engine::EngineOptions;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Options of [`crate::Proxy::start`].
#[derive(Clone)]
pub struct ProxyOptions {
    /// Number of workers. Default: the processors this process may use.
    pub concurrency: NonZeroU32,
    /// How long requests in flight may go on after a drain began. Default 10 s.
    pub drain_timeout: Duration,
    /// Clock, logs and seed; its `concurrency` is overwritten with the number of workers.
    pub engine: EngineOptions,
}

impl Default for ProxyOptions {
    fn default() -> Self {
        let processors = thread::available_parallelism().ok();
        let concurrency = processors.and_then(|n| u32::try_from(n.get()).ok());
        Self {
            concurrency: concurrency.and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN),
            drain_timeout: Duration::from_secs(10),
            engine: EngineOptions {
                clock: Arc::new(SteadyClock::start()),
                ..EngineOptions::default()
            },
        }
    }
}
