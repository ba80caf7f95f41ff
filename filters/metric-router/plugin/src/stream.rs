//! One HTTP exchange.

use crate::questions::{Request, Said};
use crate::root::Shared;
use core::cell::OnceCell;
use metric_router_core::{
    AccessLog, Answered, Course, DebugHeader, Journey, Mechanism, Mode, Outcome, Pick, Response,
    Router, Steered,
};
use plugin_kit::headers::{self, Map};
use plugin_kit::{HostStore, Moment, property};
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use shared_state::{Endpoint, ReportedResponse, UnixNanos};
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
    /// What is not urgent is asked with the answer: when the request came, and how many endpoints
    /// there are.
    is_late: bool,
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
            is_late: false,
        }
    }

    /// Chooses the cluster, where several offer the service, has the route chosen anew, and says
    /// which cluster that leads to: the proxy itself knows it only when it goes there.
    fn set_course(&mut self, request: &Request<'_>) -> Option<String> {
        if !self.shared.has_services {
            return None;
        }
        let mut router = self.shared.router.try_borrow_mut().ok()?;
        let draw = self.shared.draws.try_borrow_mut().ok()?.next_u64();
        let route = if router.minds_routes() { request.route_name() } else { None };
        let now = plugin_kit::recently();
        let course = router.choose_cluster(route.as_deref(), now, draw)?;
        let (header, cluster) = router.course(&course)?;
        // Nothing else is to be called: the proxy chooses the route anew when a plugin of this ABI has
        // changed a header of the request.
        headers::set(Map::Request, header, cluster);
        self.course = Some(course);
        self.has_course = true;
        Some(cluster.to_owned())
    }

    /// Accounts for what came of the choice, once.
    fn arrive(&mut self, answer: &Answer) {
        let Some(mut course) = self.course.take() else { return };
        if let Ok(mut router) = self.shared.router.try_borrow_mut() {
            let answered = Answered::of(answer.status(), answer.flags());
            let is_measured = course.is_measured();
            if is_measured && self.is_late {
                course.begin_after(answer.came_at());
            }
            let now = if is_measured { answer.clock.now() } else { plugin_kit::recently() };
            router.arrive(&course, answered, now);
        }
    }

    fn pick(
        &mut self,
        request: &Request<'_>,
        chosen: Option<String>,
        clock: &Moment,
    ) -> Option<Pick> {
        let shared = Rc::clone(&self.shared);
        let mut router = shared.router.try_borrow_mut().ok()?;
        let draw = shared.draws.try_borrow_mut().ok()?.next_u64();
        let cluster = chosen.or_else(|| request.cluster_name());
        let name = cluster.as_deref();
        let known = name.and_then(|name| router.find(name));
        let looks_at_all = || router.looks_at_all(known);
        self.is_late = shared.questions.tell_the_time() && (shared.is_thrifty || looks_at_all());
        // Where nothing is steered all answers are looked at: the last one was not long ago.
        let is_recent = self.is_late && !router.config().is_enforced();
        let wants_time = !is_recent && router.wants_time(known);
        let now = if wants_time { clock.now() } else { plugin_kit::recently() };
        let can_wait = self.has_course || self.is_late && known.is_some();
        let asks = |name: &&str| !can_wait && router.wants_size(name, known, now);
        let size = name.filter(asks).and_then(|_| property::num_endpoints());
        // A name that only the client knows is not met before the proxy has confirmed it.
        if let Some(name) = name.filter(|_| self.has_course || size.is_some()) {
            router.meet(&HostStore, name, now, draw);
        }
        let (pick, mut journey) = router.pick(name, size, request, now, draw);
        if let Some(journey) = journey.as_mut().filter(|at| !at.flight.is_routine()) {
            if self.is_late && !router.wants_report(journey) {
                router.reads_clock_once(journey);
            } else {
                journey.flight.begin(clock.now());
            }
        }
        if let Some(course) = &mut self.course {
            router.measure(course, journey.as_ref());
            if course.is_measured() {
                course.begin(if self.is_late { plugin_kit::recently() } else { clock.now() });
            }
        }
        if let Some(journey) = &journey {
            router.exchange(&HostStore, journey, plugin_kit::recently());
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
    fn is_debugged(&self, request: &Request<'_>) -> bool {
        let debug = &self.shared.debug;
        let may_ask = debug.enabled && !request.lacks(&debug.request_header);
        let asked = may_ask.then(|| headers::get(Map::Request, &debug.request_header));
        asked.flatten().is_some_and(|value| {
            headers::remove(Map::Request, &debug.request_header);
            debug.asks(&value)
        })
    }

    /// Tells the proxy where to go, or that nobody does.
    fn steer(&self, request: &Request<'_>, steered: Option<&Steered>) {
        let steering = &self.shared.steering;
        let value = steered.map(|steered| steering.mechanism.value(steered));
        let says_spare = steered.filter(|steered| steered.says_spare);
        if let Some(spare) = says_spare.and_then(|steered| steered.spare) {
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
            None if steering.mechanism.uses_header() && !request.lacks(&steering.header) => {
                headers::remove(Map::Request, &steering.header);
            }
            None => {}
        }
    }

    /// True if it is to be known with the answer how many endpoints there are.
    fn wants_size(&self, router: &Router, journey: &Journey) -> bool {
        let is_asked = self.has_course || self.is_late;
        is_asked && router.wants_size_of(journey, plugin_kit::recently())
    }

    /// The response, with what is wanted of it. Where hostcalls are to be saved, the host is asked for
    /// all that at once if there are headers, and if more is wanted than the status.
    fn answer(&self, has_headers: bool) -> Answer {
        let mut answer = Answer::default();
        let Ok(router) = self.shared.router.try_borrow() else { return answer };
        let journey = self.journey.as_ref().filter(|at| at.flight.awaits_response());
        if journey.is_some_and(|journey| router.wants_report(journey)) {
            answer.take_report();
        }
        let is_looked_at =
            |journey: &Journey| !journey.flight.is_routine() || self.wants_size(&router, journey);
        let is_measured = self.course.is_some_and(|course| course.is_measured());
        let is_asked = self.is_late && (is_measured || journey.is_some_and(is_looked_at))
            || self.shared.steering.mechanism == Mechanism::StatefulSession;
        if is_asked && has_headers {
            answer.ask(&self.shared);
        }
        answer
    }

    /// True if this is a response of which nothing is asked.
    fn overlook(&mut self) -> bool {
        let is_measured = self.course.is_some_and(|course| course.is_measured());
        let has_session = self.shared.steering.mechanism == Mechanism::StatefulSession;
        let journey = self.journey.as_mut().filter(|at| at.flight.is_overlooked());
        let Some(journey) = journey.filter(|_| !is_measured && !has_session) else { return false };
        journey.flight.overlook();
        self.course = None;
        true
    }

    /// Accounts for the response, or for its absence.
    fn respond(&mut self, answer: &Answer) {
        let Ok(mut router) = self.shared.router.try_borrow_mut() else { return };
        let wants_size = self.journey.as_ref().is_some_and(|at| self.wants_size(&router, at));
        let Some(journey) = self.journey.as_mut().filter(|at| at.flight.awaits_response()) else {
            return;
        };
        if wants_size && let Some(size) = answer.size() {
            router.set_size(journey, size, plugin_kit::recently());
        }
        let is_routine = journey.flight.is_routine() && matches!(answer.status(), Some(..500));
        if is_routine && answer.reported().is_none() {
            router.pass(journey, plugin_kit::recently());
            return;
        }
        if self.is_late && !journey.flight.is_routine() {
            journey.flight.begin_after(answer.came_at());
        }
        let served = answer.served();
        let astray = journey.flight.went_astray(served);
        // Where the first endpoint served, there was one attempt that matters.
        let attempts = match served {
            Some(_) if astray || !journey.flight.is_steered() => answer.attempts(),
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
    said: Option<Said>,
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

    /// Asks for everything at once.
    fn ask(&mut self, shared: &Shared) {
        self.said = shared.questions.answer();
        if let Some(status) = self.said.as_ref().and_then(|said| said.status) {
            let _ = self.status.set(Some(status));
        }
    }

    /// When the request came.
    fn came_at(&self) -> UnixNanos {
        let said = self.said.as_ref().map(|said| said.came_at);
        said.or_else(property::request_time).unwrap_or_default()
    }

    /// How many endpoints the cluster has.
    fn size(&self) -> Option<u32> {
        self.said.as_ref().map_or_else(property::num_endpoints, |said| said.size)
    }

    fn attempts(&self) -> u32 {
        let said = self.said.as_ref().and_then(|said| said.attempts);
        said.unwrap_or_else(property::attempt_count)
    }

    fn reported(&self) -> Option<&ReportedResponse> {
        self.reported.get()
    }

    fn served(&self) -> Option<Endpoint> {
        match (self.reported(), &self.said) {
            (Some(reported), _) => Some(reported.endpoint),
            (None, Some(said)) => said.served,
            (None, None) => property::upstream_address(),
        }
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
        let shared = Rc::clone(&self.shared);
        let request = Request::new(&shared.questions);
        let chosen = self.set_course(&request);
        let pick = self.pick(&request, chosen, &clock);
        let steered = match (&pick, self.shared.mode) {
            (Some(Pick::Steer(steered)), Mode::Enforce) => Some(steered),
            _ => None,
        };
        self.steer(&request, steered);
        let is_debugged = self.is_debugged(&request);
        if let Some(pick) = pick.as_ref().filter(|_| is_debugged) {
            self.explanation = Some(DebugHeader::explain(pick));
        }
        self.untold = pick;
        self.tell(is_debugged);
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        let mut answer = Answer::default();
        if !self.overlook() {
            answer = self.answer(true);
            self.arrive(&answer);
            self.respond(&answer);
        }
        if let Some(explanation) = self.explanation.take() {
            headers::set(Map::Response, &self.shared.debug.response_header, &explanation);
        }
        let has_session = answer.said.and_then(|said| said.names_session).unwrap_or(true);
        if has_session && self.shared.steering.mechanism == Mechanism::StatefulSession {
            // The session filter names the endpoint where it was not the one that was asked for.
            headers::remove(Map::Response, &self.shared.steering.header);
        }
        Action::Continue
    }

    fn on_log(&mut self) {
        let answer = self.answer(false);
        self.arrive(&answer);
        self.respond(&answer);
        self.finish();
    }
}
