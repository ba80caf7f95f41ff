//! One HTTP exchange.

use crate::root::Shared;
use metric_router_core::{
    Answered, Attributes, Course, DebugHeader, Journey, Mechanism, Mode, Outcome, Pick, Response,
    Steered,
};
use plugin_kit::headers::{self, Map};
use plugin_kit::{HostStore, property};
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use std::rc::Rc;

pub(crate) struct Stream {
    shared: Rc<Shared>,
    journey: Option<Journey>,
    /// What the client is told of the pick, if it may be.
    explanation: Option<String>,
    course: Option<Course>,
}

impl Stream {
    pub(crate) const fn new(shared: Rc<Shared>) -> Self {
        Self { shared, journey: None, explanation: None, course: None }
    }

    /// Chooses the cluster, where several offer the service, and has the route chosen anew.
    fn set_course(&mut self) {
        if !self.shared.has_services {
            return;
        }
        let (Ok(mut router), Ok(mut draws)) =
            (self.shared.router.try_borrow_mut(), self.shared.draws.try_borrow_mut())
        else {
            return;
        };
        let route = if router.minds_routes() { property::route_name() } else { None };
        self.course = router.choose_cluster(route.as_deref(), plugin_kit::now(), draws.next_u64());
        if let Some((header, cluster)) = self.course.as_ref().and_then(|it| router.course(it)) {
            headers::set(Map::Request, header, cluster);
            plugin_kit::clear_route_cache();
        }
    }

    /// Accounts for what came of the choice, once.
    fn arrive(&mut self) {
        let Some(course) = self.course.take() else { return };
        let status = property::response_code();
        let flags = match status {
            Some(..500) => 0,
            _ => property::response_flags(),
        };
        if let Ok(mut router) = self.shared.router.try_borrow_mut() {
            router.arrive(&course, Answered::of(status, flags), plugin_kit::now());
        }
    }

    fn pick(&mut self) -> Option<Pick> {
        let mut router = self.shared.router.try_borrow_mut().ok()?;
        let draw = self.shared.draws.try_borrow_mut().ok()?.next_u64();
        let now = plugin_kit::now();
        let cluster = property::cluster_name();
        let size = cluster
            .as_deref()
            .filter(|name| router.wants_size(name, now))
            .and_then(|_| property::num_endpoints());
        let (pick, journey) = router.pick(cluster.as_deref(), size, &Request, now, draw);
        self.journey = journey;
        Some(pick)
    }

    /// True if this request is to be explained. Whether or not it is, the secret goes no further.
    fn is_debugged(&self) -> bool {
        let debug = &self.shared.debug;
        let asked = debug.enabled.then(|| headers::get(Map::Request, &debug.request_header));
        asked.flatten().is_some_and(|value| {
            headers::remove(Map::Request, &debug.request_header);
            debug.asks(&value)
        })
    }

    /// Tells the proxy where to go, or that nobody does.
    fn steer(&self, steered: Option<&Steered>) {
        let steering = &self.shared.steering;
        let value = steered.map(|steered| steering.mechanism.value(steered));
        match value {
            Some(value) if steering.mechanism.uses_header() => {
                headers::set(Map::Request, &steering.header, &value);
            }
            Some(address) => {
                plugin_kit::set_original_dst(&address);
            }
            // A client's own copy never gets through: it would choose its endpoint itself.
            None if steering.mechanism.uses_header() => {
                headers::remove(Map::Request, &steering.header);
            }
            None => {}
        }
    }

    /// Accounts for the response, or for its absence.
    fn respond(&mut self) {
        let Some(journey) = self.journey.as_mut().filter(|at| at.flight.awaits_response()) else {
            return;
        };
        let served = property::upstream_address();
        let astray = journey.flight.went_astray(served);
        // Where the first endpoint served, there was one attempt that matters.
        let attempts = match served {
            Some(_) if astray || !journey.flight.is_steered() => property::attempt_count(),
            _ => 1,
        };
        let list = if astray { property::edited_list() } else { None };
        let edited = journey.flight.is_edited(list.as_deref());
        let status = property::response_code();
        let flags = match status {
            Some(..500) => 0,
            _ => property::response_flags(),
        };
        let outcome = Outcome::of(status, flags);
        let response = Response { served, attempts, edited, outcome };
        if let Ok(mut router) = self.shared.router.try_borrow_mut() {
            let now = plugin_kit::now();
            if let Some(served) = served
                && router.wants_report(journey)
                && let Some(report) = property::load_report()
            {
                router.report(journey, served, &report, now);
            }
            router.respond(&HostStore, journey, response, now);
            if let Some(served) = served.filter(|served| router.wants_zone(journey, *served)) {
                let zone = property::upstream_zone().unwrap_or_default();
                router.set_zone(journey, served, &zone);
            }
        }
    }

    fn finish(&mut self) {
        if let (Some(mut journey), Ok(mut router)) =
            (self.journey.take(), self.shared.router.try_borrow_mut())
        {
            router.finish(&mut journey);
        }
    }
}

/// The request of the callback that runs.
struct Request;

impl Attributes for Request {
    fn header(&self, name: &str) -> Option<String> {
        headers::joined(Map::Request, name)
    }

    fn source_address(&self) -> Option<String> {
        property::source_address()
    }
}

impl Context for Stream {
    /// The end even where there is no access log.
    fn on_done(&mut self) -> bool {
        self.finish();
        true
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        self.set_course();
        let pick = self.pick();
        let steered = match (&pick, self.shared.mode) {
            (Some(Pick::Steer(steered)), Mode::Enforce) => Some(steered),
            _ => None,
        };
        self.steer(steered);
        if let Some(pick) = pick.as_ref().filter(|_| self.is_debugged()) {
            self.explanation = Some(DebugHeader::explain(pick));
        }
        if let Some(pick) = pick {
            let shadow = if self.shared.mode == Mode::Shadow { " mode=shadow" } else { "" };
            plugin_kit::set_filter_state("weir.metric_router", &format!("{pick}{shadow}"));
        }
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        self.arrive();
        self.respond();
        if let Some(explanation) = self.explanation.take() {
            headers::set(Map::Response, &self.shared.debug.response_header, &explanation);
        }
        if self.shared.steering.mechanism == Mechanism::StatefulSession {
            // The session filter names the endpoint where it was not the one that was asked for.
            headers::remove(Map::Response, &self.shared.steering.header);
        }
        Action::Continue
    }

    fn on_log(&mut self) {
        self.arrive();
        self.respond();
        self.finish();
    }
}
