//! Configuration, ticks, and what all streams of this worker share.

use crate::metrics::Metrics;
use crate::questions::Questions;
use crate::registry;
use crate::stream::Stream;
use core::cell::RefCell;
use metric_router_core::{
    AccessLog, ClusterId, Config, DebugHeader, Mode, Router, Steering, Unusable,
};
use plugin_kit::{Draws, HostStore, property};
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;
use shared_state::UnixNanos;
use std::rc::Rc;

/// What streams need of the root.
pub(crate) struct Shared {
    pub(crate) router: RefCell<Router>,
    pub(crate) draws: RefCell<Draws>,
    pub(crate) steering: Steering,
    pub(crate) mode: Mode,
    pub(crate) access_log: AccessLog,
    pub(crate) debug: DebugHeader,
    pub(crate) has_services: bool,
    pub(crate) questions: Questions,
    /// A request costs so much without it that its time is to be known with its answer only.
    pub(crate) is_thrifty: bool,
}

pub(crate) struct Root {
    context_id: u32,
    running: Option<(Rc<Shared>, Metrics)>,
    /// Calls under way: their number, and whose registry was asked.
    asked: Vec<(u32, ClusterId)>,
}

impl Root {
    pub(crate) const fn new(context_id: u32) -> Self {
        Self { context_id, running: None, asked: Vec::new() }
    }
}

impl Root {
    /// Asks the registries that are due, and hears of those that cannot be asked.
    fn ask(&mut self, shared: &Shared, now: UnixNanos) {
        let questions = match shared.router.try_borrow_mut() {
            Ok(mut router) => router.questions(&HostStore, now),
            Err(_) => return,
        };
        // The router is free while the host makes the calls.
        for (cluster, registry) in questions {
            self.asked.retain(|(_, other)| *other != cluster);
            match registry::ask(&registry) {
                Ok(token) => self.asked.push((token, cluster)),
                Err(_) => {
                    if let Ok(mut router) = shared.router.try_borrow_mut() {
                        router.answered(&HostStore, cluster, Err(Unusable::NotAsked), now);
                    }
                }
            }
        }
    }
}

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, headers: usize, _: usize, _: usize) {
        let Some(at) = self.asked.iter().position(|(asked, _)| *asked == token) else { return };
        let (_, cluster) = self.asked.swap_remove(at);
        let Some((shared, metrics)) = &self.running else { return };
        let Ok(mut router) = shared.router.try_borrow_mut() else { return };
        let body = registry::body();
        let answer = registry::answer(headers, &body);
        let told = router.answered(&HostStore, cluster, Ok(answer), plugin_kit::now());
        if let Some(cluster) = router.cluster(cluster) {
            metrics.registry(cluster.name(), told);
        }
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        let parsed = plugin_kit::configure(Config::from_json, |config| &config.name);
        let Some(config) = parsed else { return false };
        let now = plugin_kit::now();
        let metrics = Metrics::new(&config.name);
        let (steering, mode) = (config.steering.clone(), config.mode);
        let (access_log, debug) = (config.access_log, config.debug_header.clone());
        let has_services = !config.services.is_empty();
        let questions = Questions::new(&config);
        let is_thrifty = config.is_thrifty();
        let minds_zones = config.clusters.iter().any(|entry| entry.locality.is_some());
        let mut router = Router::new(config, now);
        if minds_zones {
            router.set_home(&property::node_zone().unwrap_or_default());
        }
        plugin_kit::set_tick_period(router.tick_period());
        // Roots of different workers may have the same number; the moment differs.
        let mut draws = Draws::new(now, u64::from(self.context_id));
        // The next request may come before the first tick.
        router.tick(&HostStore, now, draws.next_u64());
        let shared = Shared {
            router: RefCell::new(router),
            draws: RefCell::new(draws),
            steering,
            mode,
            access_log,
            debug,
            has_services,
            questions,
            is_thrifty,
        };
        self.asked.clear();
        self.running = Some((Rc::new(shared), metrics));
        true
    }

    fn on_tick(&mut self) {
        let now = plugin_kit::now();
        if let Some((shared, _)) = &self.running {
            let shared = Rc::clone(shared);
            self.ask(&shared, now);
        }
        let Some((shared, metrics)) = &self.running else { return };
        let (Ok(mut router), Ok(mut draws)) =
            (shared.router.try_borrow_mut(), shared.draws.try_borrow_mut())
        else {
            return;
        };
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
