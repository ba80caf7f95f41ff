//! The thread that moves wasmtime's epoch on, so that callbacks with a deadline end.
//!
//! Code with deadlines compares two words at every loop and call; this thread adds one to the first
//! every [`TICK`]. It lives as long as an engine that wants it.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

/// How exact a deadline is.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// Keeps the thread alive.
pub(crate) struct Ticker;

impl Ticker {
    /// The one ticker there is, or a new one. All engines with deadlines share one wasmtime engine
    /// for each kind of code; each kind has its own ticker.
    pub(crate) fn shared(engine: &wasmtime::Engine) -> Arc<Self> {
        static TICKERS: Mutex<Vec<(wasmtime::EngineWeak, Weak<Ticker>)>> = Mutex::new(Vec::new());
        let mut tickers = TICKERS.lock().unwrap_or_else(PoisonError::into_inner);
        tickers.retain(|(_, ticker)| ticker.strong_count() > 0);
        for (of, ticker) in tickers.iter() {
            let same = of.upgrade().is_some_and(|of| wasmtime::Engine::same(&of, engine));
            if let Some(ticker) = ticker.upgrade().filter(|_| same) {
                return ticker;
            }
        }
        let ticker = Arc::new(Self);
        tickers.push((engine.weak(), Arc::downgrade(&ticker)));
        let (engine, alive) = (engine.weak(), Arc::downgrade(&ticker));
        let tick = move || {
            while alive.strong_count() > 0 {
                thread::sleep(TICK);
                let Some(engine) = engine.upgrade() else { return };
                engine.increment_epoch();
            }
        };
        // Without a thread there is no deadline, as without the option.
        let _ = thread::Builder::new().name("deadline".to_owned()).spawn(tick);
        ticker
    }
}

/// Ticks until a deadline has passed for certain.
pub(crate) fn ticks(deadline: Duration) -> u64 {
    u64::try_from(deadline.as_nanos().div_ceil(TICK.as_nanos())).unwrap_or(u64::MAX >> 1) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_callback_is_stopped_before_its_deadline() {
        assert_eq!(ticks(Duration::from_millis(1)), 2);
        assert_eq!(ticks(Duration::from_millis(10)), 2);
        assert_eq!(ticks(Duration::from_millis(11)), 3);
        assert!(ticks(Duration::MAX) > 1 << 40);
    }

    #[test]
    fn engines_of_one_kind_share_a_ticker() {
        let (one, other) = (wasmtime::Engine::default(), wasmtime::Engine::default());
        let ticker = Ticker::shared(&one);
        assert!(Arc::ptr_eq(&ticker, &Ticker::shared(&one)));
        assert!(!Arc::ptr_eq(&ticker, &Ticker::shared(&other)));
    }
}
