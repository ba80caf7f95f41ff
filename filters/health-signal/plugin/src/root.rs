//! The root context: configuration, ticks, answers to polls.

use crate::attempt::AttemptContext;
use crate::leader::{Leader, Sent};
use crate::shared::Shared;
use crate::stream::Stream;
use crate::worker::{self, Slot};
use health_signal_core::Config;
use health_signal_core::config::Position;
use plugin_kit::Draws;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;
use shared_state::UnixNanos;
use std::rc::Rc;

pub(crate) struct Root {
    id: u32,
    shared: Option<Rc<Shared>>,
    slot: Slot,
    leaders: Vec<Leader>,
    sent: Vec<Sent>,
    draws: Option<Draws>,
}

impl Root {
    pub(crate) fn new(id: u32) -> Self {
        Self {
            id,
            shared: None,
            slot: Slot::default(),
            leaders: Vec::new(),
            sent: Vec::new(),
            draws: None,
        }
    }

    /// Hands what happened on a stream to the leader that opened it, if it still leads.
    fn with_stream(&mut self, token: u32, act: impl FnOnce(&mut Leader, &Shared, u64, UnixNanos)) {
        let (Some(shared), Some(draws)) = (self.shared.clone(), &mut self.draws) else { return };
        let own = |leader: &&mut Leader| leader.stream_endpoint(token).is_some();
        if let Some(leader) = self.leaders.iter_mut().find(own) {
            act(leader, &shared, draws.next_u64(), plugin_kit::now());
        }
    }

    fn lead(&mut self, shared: &Shared, now: UnixNanos) {
        let Some(slot) = shared.slot.get() else { return };
        let salt = slot.owner ^ (u64::from(self.id) << 32);
        let draws = self.draws.get_or_insert_with(|| Draws::new(now, salt));
        for cluster in shared.clusters() {
            if !self.leaders.iter().any(|leader| leader.is_of(&cluster)) {
                self.leaders.push(Leader::new(cluster));
            }
        }
        for leader in &mut self.leaders {
            for sent in leader.tick(shared, slot, draws, now) {
                // An endpoint is asked again only when the poll before was answered or given up.
                self.sent.retain(|before| !before.is_of_target(&sent));
                self.sent.push(sent);
            }
        }
    }
}

impl Context for Root {
    fn on_http_call_response(
        &mut self,
        token: u32,
        num_headers: usize,
        _body_size: usize,
        _num_trailers: usize,
    ) {
        let Some(shared) = self.shared.clone() else { return };
        let Some(at) = self.sent.iter().position(|sent| sent.token == token) else { return };
        let sent = self.sent.swap_remove(at);
        if let Some(leader) = self.leaders.iter_mut().find(|leader| leader.is_of(&sent.cluster)) {
            leader.answer(&shared, &sent, num_headers, plugin_kit::now());
        }
    }

    fn on_grpc_stream_initial_metadata(&mut self, token: u32, _num_elements: u32) {
        self.with_stream(token, |leader, shared, draw, now| {
            leader.stream_began(shared, token, draw, now);
        });
    }

    fn on_grpc_stream_message(&mut self, token: u32, message_size: usize) {
        self.with_stream(token, |leader, shared, draw, now| {
            leader.stream_said(shared, (token, message_size), draw, now);
        });
    }

    fn on_grpc_stream_close(&mut self, token: u32, status: u32) {
        self.with_stream(token, |leader, shared, draw, now| {
            leader.stream_closed(shared, (token, status), draw, now);
        });
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        let Some(config) = plugin_kit::configure(Config::from_json, |config| &config.name) else {
            return false;
        };
        let shared = Shared::new(config, plugin_kit::now());
        if shared.is_on() {
            plugin_kit::set_tick_period(shared.config.publish_interval);
        }
        // What the former configuration's streams still report stands in the slot they have. A new
        // one is claimed at the next tick.
        self.slot = Slot::default();
        self.leaders.iter_mut().for_each(Leader::end);
        self.leaders.clear();
        self.shared = Some(Rc::new(shared));
        true
    }

    fn on_tick(&mut self) {
        let Some(shared) = self.shared.clone().filter(|shared| shared.is_on()) else { return };
        let now = plugin_kit::now();
        shared.ticked(now);
        self.slot.keep(&shared, now);
        for cluster in shared.clusters() {
            worker::report(&shared, &cluster, now);
            worker::sightings(&shared, &cluster, now);
        }
        if shared.config.position == Position::Downstream {
            self.lead(&shared, now);
        }
    }

    fn create_http_context(&self, _context_id: u32) -> Option<Box<dyn HttpContext>> {
        let shared = Rc::clone(self.shared.as_ref()?);
        Some(match shared.config.position {
            Position::Downstream => Box::new(Stream::new(shared)),
            Position::Upstream => Box::new(AttemptContext::new(shared)),
        })
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}
