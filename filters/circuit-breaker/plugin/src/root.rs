//! The root context: one filter for all streams of this worker, and the tick that stores what
//! waits and reads what requests will ask for.

use crate::report::Report;
use crate::stream::Stream;
use circuit_breaker_core::{Config, Filter, Mode};
use core::cell::{Cell, RefCell};
use core::time::Duration;
use plugin_kit::{Draws, draw_seed};
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;
use shared_state::UnixNanos;
use std::rc::Rc;

/// As long as an outcome may wait.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// Callbacks after which the clock is read though no tick came.
const CALLBACKS_A_TICK: u32 = 4096;

/// What all streams of a worker share.
pub(crate) struct Worker {
    pub(crate) filter: RefCell<Filter>,
    pub(crate) draws: RefCell<Draws>,
    pub(crate) report: Report,
    pub(crate) mode: Mode,
    pub(crate) steering_header: String,
    pub(crate) edits_list: bool,
    /// The clock as the last tick read it.
    clock: Cell<UnixNanos>,
    /// The host ticks.
    ticks: Cell<bool>,
    asked: Cell<u32>,
}

pub(crate) struct Root {
    context_id: u32,
    worker: Option<Rc<Worker>>,
}

impl Root {
    pub(crate) fn new(context_id: u32) -> Self {
        Self { context_id, worker: None }
    }
}

impl Worker {
    fn new(config: Config, salt: u32) -> Self {
        let now = plugin_kit::now();
        Self {
            draws: RefCell::new(Draws::new(now, u64::from(salt))),
            report: Report::new(&config),
            mode: config.mode,
            steering_header: config.steering_header.clone(),
            edits_list: config.endpoints.is_some(),
            filter: RefCell::new(Filter::new(config, draw_seed())),
            clock: Cell::new(now),
            ticks: Cell::new(false),
            asked: Cell::new(0),
        }
    }

    /// What the last tick read of the clock; `None` where none comes. Asked once a callback: one that
    /// is asked for too long without a tick is read anew.
    pub(crate) fn ticked(&self) -> Option<UnixNanos> {
        if !self.ticks.get() {
            return None;
        }
        let asked = self.asked.get().saturating_add(1);
        self.asked.set(asked);
        if asked >= CALLBACKS_A_TICK {
            self.tick(plugin_kit::now());
        }
        Some(self.clock.get())
    }

    /// True if the host ticks.
    pub(crate) fn ticks(&self) -> bool {
        self.ticks.get()
    }

    fn tick(&self, now: UnixNanos) {
        self.ticks.set(true);
        self.clock.set(now);
        self.asked.set(0);
    }
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        let Some(config) =
            plugin_kit::configure(Config::from_json, |config: &Config| config.name.as_str())
        else {
            return false;
        };
        let is_on = config.mode != Mode::Off;
        let worker = Worker::new(config, self.context_id);
        if is_on {
            plugin_kit::set_tick_period(TICK);
        }
        self.worker = Some(Rc::new(worker));
        true
    }

    fn on_tick(&mut self) {
        let Some(worker) = &self.worker else { return };
        let now = plugin_kit::now();
        worker.tick(now);
        let (Ok(mut filter), Ok(mut draws)) =
            (worker.filter.try_borrow_mut(), worker.draws.try_borrow_mut())
        else {
            return;
        };
        filter.tick(&plugin_kit::HostStore, now, &mut || draws.next_u64());
        worker.report.events(filter.take_events());
    }

    fn create_http_context(&self, _context_id: u32) -> Option<Box<dyn HttpContext>> {
        let worker = self.worker.as_ref().filter(|worker| worker.mode != Mode::Off);
        Some(Box::new(Stream::new(worker.cloned())))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}
