//! The root context: configuration, and what all streams of this VM share.

use crate::hold::Holds;
use crate::metrics::{Metrics, PERIOD};
use crate::stream::Stream;
use core::cell::RefCell;
use plugin_kit::{Draws, HostStore, draw_seed};
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;
use std::rc::Rc;
use token_bucket_core::{Config, Limiter, Mode};

/// What the streams of one VM share. Replaced as a whole by a new configuration.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) limiter: RefCell<Limiter>,
    pub(crate) draws: RefCell<Draws>,
    pub(crate) metrics: Metrics,
    pub(crate) holds: Holds,
}

pub(crate) struct Root {
    context_id: u32,
    worker: Option<Rc<Worker>>,
}

impl Root {
    pub(crate) fn new(context_id: u32) -> Self {
        Self { context_id, worker: None }
    }

    /// Another configuration takes over. Requests in flight keep what they hold.
    fn retire(&self) {
        if let Some(worker) = &self.worker
            && let Ok(mut limiter) = worker.limiter.try_borrow_mut()
        {
            limiter.retire(&HostStore, plugin_kit::now());
        }
    }
}

impl Context for Root {
    fn on_done(&mut self) -> bool {
        self.retire();
        true
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        let config = plugin_kit::configure(Config::from_json, |config| config.name.as_str());
        let Some(config) = config else { return false };
        config.notes.iter().for_each(|note| plugin_kit::warn(note));
        self.retire();
        self.worker = (config.mode != Mode::Off).then(|| {
            let metrics = Metrics::new(&config);
            let limiter = Limiter::new(config, draw_seed());
            Rc::new(Worker {
                metrics,
                draws: RefCell::new(Draws::new(plugin_kit::now(), self.context_id.into())),
                holds: Holds::new(limiter.queue()),
                limiter: RefCell::new(limiter),
            })
        });
        if let Some(worker) = &self.worker
            && !plugin_kit::set_tick_period(PERIOD)
            && let Ok(mut limiter) = worker.limiter.try_borrow_mut()
        {
            limiter.without_ticks();
        }
        true
    }

    fn on_tick(&mut self) {
        let Some(worker) = &self.worker else { return };
        let now = plugin_kit::now();
        worker.holds.let_go(now);
        let Ok(mut limiter) = worker.limiter.try_borrow_mut() else { return };
        if worker.holds.is_second_over(now) {
            worker.metrics.count(&limiter.tick(&HostStore, now));
            worker.metrics.tell_capacity(|policy| limiter.capacity_percent(policy));
            worker.metrics.flush();
        } else {
            limiter.give_back_idle(&HostStore, now);
        }
        worker.holds.tick_next(now, limiter.tick_within());
    }

    fn create_http_context(&self, context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream::new(self.worker.clone(), context_id)))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}
