//! Configuration, ticks, and what all streams of this worker share.

use crate::metrics::Metrics;
use crate::stream::Stream;
use core::cell::RefCell;
use metric_router_core::{Config, DebugHeader, Mode, Router, Steering};
use plugin_kit::{Draws, HostStore};
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;
use std::rc::Rc;

/// What streams need of the root.
pub(crate) struct Shared {
    pub(crate) router: RefCell<Router>,
    pub(crate) draws: RefCell<Draws>,
    pub(crate) steering: Steering,
    pub(crate) mode: Mode,
    pub(crate) debug: DebugHeader,
}

pub(crate) struct Root {
    context_id: u32,
    running: Option<(Rc<Shared>, Metrics)>,
}

impl Root {
    pub(crate) const fn new(context_id: u32) -> Self {
        Self { context_id, running: None }
    }
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        let parsed = plugin_kit::configure(Config::from_json, |config| &config.name);
        let Some(config) = parsed else { return false };
        let now = plugin_kit::now();
        let metrics = Metrics::new(&config.name);
        let (steering, mode) = (config.steering.clone(), config.mode);
        let debug = config.debug_header.clone();
        let router = Router::new(config, now);
        plugin_kit::set_tick_period(router.tick_period());
        let shared = Shared {
            router: RefCell::new(router),
            // Roots of different workers may have the same number; the moment differs.
            draws: RefCell::new(Draws::new(now, u64::from(self.context_id))),
            steering,
            mode,
            debug,
        };
        self.running = Some((Rc::new(shared), metrics));
        true
    }

    fn on_tick(&mut self) {
        let Some((shared, metrics)) = &self.running else { return };
        let (Ok(mut router), Ok(mut draws)) =
            (shared.router.try_borrow_mut(), shared.draws.try_borrow_mut())
        else {
            return;
        };
        let now = plugin_kit::now();
        router.tick(&HostStore, now, draws.next_u64());
        metrics.tell(&mut router, now);
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        let (shared, _) = self.running.as_ref()?;
        Some(Box::new(Stream::new(Rc::clone(shared))))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}
