//! The root context: one filter for all streams of this worker, and the tick that stores what
//! waits.

use crate::report::Report;
use crate::stream::Stream;
use circuit_breaker_core::{Config, Filter, Mode};
use core::cell::RefCell;
use core::time::Duration;
use plugin_kit::Draws;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;
use std::rc::Rc;

/// As long as an outcome may wait.
const TICK: Duration = Duration::from_millis(100);

/// What all streams of a worker share.
pub(crate) struct Worker {
    pub(crate) filter: RefCell<Filter>,
    pub(crate) draws: RefCell<Draws>,
    pub(crate) report: Report,
    pub(crate) mode: Mode,
    pub(crate) steering_header: Option<String>,
    pub(crate) guards_routes: bool,
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
        let is_by_route = |guard: &circuit_breaker_core::GuardScope| {
            guard.by == circuit_breaker_core::GuardedBy::Route
        };
        Self {
            draws: RefCell::new(Draws::new(plugin_kit::now(), u64::from(salt))),
            report: Report::new(&config),
            mode: config.mode,
            steering_header: config.endpoints.is_some().then(|| config.steering_header.clone()),
            guards_routes: config.guard.as_ref().is_some_and(is_by_route),
            filter: RefCell::new(Filter::new(config)),
        }
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
        if config.mode != Mode::Off {
            plugin_kit::set_tick_period(TICK);
        }
        self.worker = Some(Rc::new(Worker::new(config, self.context_id)));
        true
    }

    fn on_tick(&mut self) {
        let Some(worker) = &self.worker else { return };
        let (Ok(mut filter), Ok(mut draws)) =
            (worker.filter.try_borrow_mut(), worker.draws.try_borrow_mut())
        else {
            return;
        };
        filter.tick(&plugin_kit::HostStore, plugin_kit::now(), &mut || draws.next_u64());
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
