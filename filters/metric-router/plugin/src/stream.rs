//! One HTTP exchange.

use crate::root::Shared;
use core::cell::OnceCell;
use metric_router_core::{
    AccessLog, Answered, Attributes, Course, DebugHeader, Journey, Mechanism, Mode, Outcome, Pick,
    Response, Steered,
};
use plugin_kit::headers::{self, Map};
use plugin_kit::{HostStore, Moment, property};
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use shared_state::{Endpoint, ReportedResponse};
use std::rc::Rc;

pub(crate) struct Stream {
    shared: Rc<Shared>,
    journey: Option<Journey>,
    /// The pick, as long as no line tells of it.
    untold: Option<Pick>,
    /// What the client is told of the pick, if it may be.
    explanation: Option<String>,
    course: Option<Course>,
    /// The cluster was chosen here.
    has_course: bool,
}

impl Stream {
    pub(crate) const fn new(shared: Rc<Shared>) -> Self {
        Self {
            shared,
            journey: None,
            untold: None,
            explanation: None,
            course: None,
            has_course: false,
        }
    }

    /// Chooses the cluster, where several offer the service, has the route chosen anew, and says
    /// which cluster that leads to: the proxy itself knows it only when it goes there.
    fn set_course(&mut self, clock: &Moment) -> Option<String> {
        if !self.shared.has_services {
            return None;
        }
        let mut router = self.shared.router.try_borrow_mut().ok()?;
        let draw = self.shared.draws.try_borrow_mut().ok()?.next_u64();
        let route = if router.minds_routes() { property::route_name() } else { None };
        let now = plugin_kit::recently();
        let mut course = router.choose_cluster(route.as_deref(), now, draw)?;
        if course.is_measured() {
            course.begin(clock.now());
        }
        let (header, cluster) = router.course(&course)?;
        headers::set(Map::Request, header, cluster);
        plugin_kit::clear_route_cache();
        self.course = Some(course);
        self.has_course = true;
        Some(cluster.to_owned())
    }

    /// Accounts for what came of the choice, once.
    fn arrive(&mut self, answer: &Answer) {
        let Some(course) = self.course.take() else { return };
        if let Ok(mut router) = self.shared.router.try_borrow_mut() {
            let answered = Answered::of(answer.status(), answer.flags());
            let is_measured = course.is_measured();
            let now = if is_measured { answer.clock.now() } else { plugin_kit::recently() };
            router.arrive(&course, answered, now);
        }
    }

    fn pick(&mut self, chosen: Option<String>, clock: &Moment) -> Option<Pick> {
        let mut router = self.shared.router.try_borrow_mut().ok()?;
        let draw = self.shared.draws.try_borrow_mut().ok()?.next_u64();
        let cluster = chosen.or_else(property::cluster_name);
        let name = cluster.as_deref();
        let wants_time = name.is_none_or(|name| router.wants_time(name));
        let now = if wants_time { clock.now() } else { plugin_kit::recently() };
        let asks = |name: &&str| !self.has_course && router.wants_size(name, now);
        let size = name.filter(asks).and_then(|_| property::num_endpoints());
        // A name that only the client knows is not met before the proxy has confirmed it.
        if let Some(name) = name.filter(|_| self.has_course || size.is_some()) {
            router.meet(&HostStore, name, now, draw);
        }
        let (pick, mut journey) = router.pick(name, size, &Request, now, draw);
        if let Some(Journey { flight, .. }) = journey.as_mut().filter(|at| !at.flight.is_routine())
        {
            flight.begin(clock.now());
        }
        self.journey = journey;
        Some(pick)
    }

    /// Leaves a line for access logs, if there is one to be left by now.
    fn tell(&mut self, is_notable: bool) {
        let Shared { mode, access_log, .. } = *self.shared;
        let is_notable = is_notable || access_log == AccessLog::All || mode == Mode::Shadow;
        let notable = |pick: &mut Pick| is_notable || !pick.is_ordinary();
        if let Some(pick) = self.untold.take_if(notable) {
            let shadow = if mode == Mode::Shadow { " mode=shadow" } else { "" };
            plugin_kit::set_filter_state("weir.metric_router", &format!("{pick}{shadow}"));
        }
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
        if let Some(spare) = steered.and_then(|steered| steered.spare) {
            property::set_spare(spare);
        }
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
    fn respond(&mut self, answer: &Answer) {
        let Some(journey) = self.journey.as_mut().filter(|at| at.flight.awaits_response()) else {
            return;
        };
        let Ok(mut router) = self.shared.router.try_borrow_mut() else { return };
        let recently = plugin_kit::recently();
        if self.has_course
            && router.wants_size_of(journey, recently)
            && let Some(size) = property::num_endpoints()
        {
            router.set_size(journey, size, recently);
        }
        if router.wants_report(journey) {
            answer.take_report();
        }
        let is_routine = journey.flight.is_routine() && matches!(answer.status(), Some(..500));
        if is_routine && answer.reported().is_none() {
            router.pass(journey, plugin_kit::recently());
            return;
        }
        let served = answer.served();
        let astray = journey.flight.went_astray(served);
        // Where the first endpoint served, there was one attempt that matters.
        let attempts = match served {
            Some(_) if astray || !journey.flight.is_steered() => property::attempt_count(),
            _ => 1,
        };
        let list = if astray { property::edited_list() } else { None };
        let edited = journey.flight.is_edited(list.as_deref());
        let outcome = answer.outcome();
        let response = Response { served, attempts, edited, outcome };
        let now = if is_routine { plugin_kit::recently() } else { answer.clock.now() };
        if let Some(reported) = answer.reported() {
            router.report(journey, reported.endpoint, &reported.report, now);
        }
        router.respond(&HostStore, journey, response, now);
        if let Some(served) = served.filter(|served| router.wants_zone(journey, *served)) {
            let zone = property::upstream_zone().unwrap_or_default();
            router.set_zone(journey, served, &zone);
        }
        drop(router);
        self.tell(astray || attempts > 1 || outcome != Outcome::Success);
    }

    fn finish(&mut self) {
        if let (Some(mut journey), Ok(mut router)) =
            (self.journey.take(), self.shared.router.try_borrow_mut())
        {
            router.finish(&mut journey);
        }
    }
}

/// The response of the callback that runs, or its absence. What is asked twice costs one hostcall.
#[derive(Default)]
struct Answer {
    clock: Moment,
    status: OnceCell<Option<u16>>,
    flags: OnceCell<u64>,
    reported: OnceCell<ReportedResponse>,
}

impl Answer {
    fn status(&self) -> Option<u16> {
        *self.status.get_or_init(property::response_code)
    }

    /// Of a response that failed, or is none; others have no flags that matter.
    fn flags(&self) -> u64 {
        match self.status() {
            Some(..500) => 0,
            _ => *self.flags.get_or_init(property::response_flags),
        }
    }

    fn outcome(&self) -> Outcome {
        let outcome = Outcome::of(self.status(), self.flags());
        outcome.unless_of_the_proxy(self.flags(), || {
            let details = property::response_code_details();
            details.is_some_and(|details| details != property::VIA_UPSTREAM)
        })
    }

    /// The load report, if the response has one. With it comes the rest.
    fn take_report(&self) {
        let Some(reported) = property::load_report() else { return };
        plugin_kit::heard(reported.report.received_at);
        // Each is set here first, or holds the same.
        let _ = self.status.set(Some(reported.status));
        let _ = self.reported.set(reported);
    }

    fn reported(&self) -> Option<&ReportedResponse> {
        self.reported.get()
    }

    fn served(&self) -> Option<Endpoint> {
        match self.reported() {
            Some(reported) => Some(reported.endpoint),
            None => property::upstream_address(),
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
        let clock = Moment::default();
        let chosen = self.set_course(&clock);
        let pick = self.pick(chosen, &clock);
        let steered = match (&pick, self.shared.mode) {
            (Some(Pick::Steer(steered)), Mode::Enforce) => Some(steered),
            _ => None,
        };
        self.steer(steered);
        let is_debugged = self.is_debugged();
        if let Some(pick) = pick.as_ref().filter(|_| is_debugged) {
            self.explanation = Some(DebugHeader::explain(pick));
        }
        self.untold = pick;
        self.tell(is_debugged);
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        let answer = Answer::default();
        self.arrive(&answer);
        self.respond(&answer);
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
        let answer = Answer::default();
        self.arrive(&answer);
        self.respond(&answer);
        self.finish();
    }
}
