//! One HTTP exchange.

use crate::answer::{Told, refuse};
use crate::attributes::HostAttributes;
use crate::global;
use crate::root::Worker;
use plugin_kit::HostStore;
use plugin_kit::headers::{self, Map};
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use shared_state::UnixNanos;
use std::rc::Rc;
use token_bucket_core::{Admission, Settlement, Verdict, whole};

/// Name of the filter state.
const FILTER_STATE: &str = "weir.token_bucket";

/// A request that waits for the answer to its verdict's first question.
struct Asking {
    call: u32,
    verdict: Verdict,
}

pub(crate) struct Stream {
    context_id: u32,
    /// Nothing if the plugin is off.
    worker: Option<Rc<Worker>>,
    /// Headers that tell of the limits, kept for the response of a request that passed.
    told: Told,
    /// Headers that a rate limit service wants on the response.
    response_headers: Vec<(String, String)>,
    /// What the request holds, until it is over.
    admission: Admission,
    /// What it has cost in the end, by policy, as far as the origin tells.
    costs: Vec<(usize, u32)>,
    /// Seldom there, so in a box.
    asking: Option<Box<Asking>>,
    /// Until when it has to wait for its tokens.
    due: Option<UnixNanos>,
    /// It had to wait; whether it still does is known to the queue.
    was_held: bool,
}

impl Stream {
    pub(crate) fn new(worker: Option<Rc<Worker>>, context_id: u32) -> Self {
        Self {
            context_id,
            worker,
            told: Told::default(),
            response_headers: Vec::new(),
            admission: Admission::default(),
            costs: Vec::new(),
            asking: None,
            due: None,
            was_held: false,
        }
    }

    /// Asks the services what is to be asked. Gives the verdict back when that is all; until then
    /// the request waits.
    fn ask(&mut self, worker: &Worker, mut verdict: Verdict) -> Option<Verdict> {
        while let Some(question) = verdict.questions.first() {
            let Ok(mut limiter) = worker.limiter.try_borrow_mut() else { return Some(verdict) };
            match global::send(question, limiter.config()) {
                Ok(call) => {
                    self.asking = Some(Box::new(Asking { call, verdict }));
                    return None;
                }
                Err(_) => limiter.answered(&HostStore, &mut verdict, None, plugin_kit::now()),
            }
        }
        Some(verdict)
    }

    /// Acts on a verdict that leaves no questions. False if the request has been answered, or waits
    /// for its tokens.
    fn act(&mut self, worker: &Worker, mut verdict: Verdict) -> bool {
        let Ok(limiter) = worker.limiter.try_borrow() else { return true };
        let config = limiter.config();
        worker.metrics.count(&verdict.tally);
        self.admission = core::mem::take(&mut verdict.admission);
        if let Some(line) = verdict.summary(config) {
            plugin_kit::set_filter_state(FILTER_STATE, &line);
        }
        let told = Told::of(&verdict, config);
        if let Some(refusal) = &verdict.refusal {
            return !refuse(worker, config, refusal, &verdict, &told);
        }
        self.told = told;
        for (name, value) in &verdict.fleet.request_headers {
            headers::add(Map::Request, name, value);
        }
        self.response_headers = verdict.fleet.response_headers;
        let Some(due) = self.due.take() else { return true };
        let (admission, now) = (core::mem::take(&mut self.admission), plugin_kit::now());
        let held = if due > now {
            worker.holds.hold(self.context_id, due, admission, now)
        } else {
            Err(admission)
        };
        match held {
            Ok(()) => self.was_held = true,
            // A host that takes no ticks gets to forward it: nobody would let it go.
            Err(admission) => self.admission = admission,
        }
        !self.was_held
    }

    /// Reads what the request has cost. A header that is no whole number tells nothing.
    fn read_costs(&mut self) {
        let Some(worker) = self.worker.as_ref() else { return };
        // One that was held has gone on: what it holds is its own again.
        if self.was_held
            && let Some(its) = worker.holds.take(self.context_id)
        {
            (self.admission, self.was_held) = (its, false);
        }
        let Ok(limiter) = worker.limiter.try_borrow() else { return };
        for (policy, header) in self.admission.settled_by(limiter.config()) {
            let told = headers::get(Map::Response, header).and_then(|value| whole(&value));
            self.costs.extend(told.map(|cost| (policy, cost)));
        }
    }

    /// Ends the admission, if there still is one.
    fn end(&mut self, settlement: Settlement<'_>) {
        let mut settlement = settlement;
        if let (Some(asking), Some(worker)) = (self.asking.take(), &self.worker) {
            if let Ok(mut limiter) = worker.limiter.try_borrow_mut() {
                limiter.abandoned(&asking.verdict);
            }
            self.admission = asking.verdict.admission;
            settlement = Settlement::Undone;
        }
        let mut admission = core::mem::take(&mut self.admission);
        let Some(worker) = self.worker.as_ref() else { return };
        if core::mem::take(&mut self.was_held) {
            if let Some(unused) = worker.holds.cancel(self.context_id) {
                // It has reached nobody.
                (admission, settlement) = (unused, Settlement::Undone);
            } else if let Some(its) = worker.holds.take(self.context_id) {
                admission = its;
            }
        }
        let Ok(mut limiter) = worker.limiter.try_borrow_mut() else { return };
        let Err(admission) = limiter.end_at_hand(admission, &settlement) else { return };
        let tally = limiter.end(&HostStore, admission, settlement, plugin_kit::now());
        worker.metrics.count(&tally);
    }
}

impl Drop for Stream {
    /// A stream that the host forgot before it logged it.
    fn drop(&mut self) {
        self.end(Settlement::Undone);
    }
}

impl Context for Stream {
    fn on_grpc_call_response(&mut self, call: u32, status: u32, _size: usize) {
        let Some(asking) = self.asking.take_if(|asking| asking.call == call) else { return };
        let mut verdict = asking.verdict;
        let Some(worker) = self.worker.clone() else { return };
        let message = global::message(status);
        if let Ok(mut limiter) = worker.limiter.try_borrow_mut() {
            let now = plugin_kit::now();
            limiter.answered(&HostStore, &mut verdict, message.as_deref(), now);
        }
        let Some(verdict) = self.ask(&worker, verdict) else { return };
        if self.act(&worker, verdict) {
            plugin_kit::resume_request();
        }
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        let Some(worker) = self.worker.clone() else { return Action::Continue };
        // Nobody else holds it: one VM runs one callback at a time, and no hostcall below calls back.
        let Ok(mut limiter) = worker.limiter.try_borrow_mut() else { return Action::Continue };
        let request = HostAttributes::new(!end_of_stream, &worker.draws);
        let now = plugin_kit::now();
        // What is due goes on before anything that came later.
        worker.holds.let_go(now);
        limiter.may_hold(worker.holds.has_room());
        let verdict = limiter.decide(&HostStore, &request, now);
        worker.holds.tick_within(limiter.tick_within());
        drop(limiter);
        self.due = verdict.hold.map(|wait| now.plus(wait));
        let Some(verdict) = self.ask(&worker, verdict) else { return Action::Pause };
        if self.act(&worker, verdict) { Action::Continue } else { Action::Pause }
    }

    fn on_http_response_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        self.read_costs();
        // Our own reply comes by here too, with its headers already in it.
        core::mem::take(&mut self.told).merge_into_response();
        for (name, value) in core::mem::take(&mut self.response_headers) {
            headers::add(Map::Response, &name, &value);
        }
        Action::Continue
    }

    fn on_log(&mut self) {
        let costs = core::mem::take(&mut self.costs);
        self.end(Settlement::Served(&costs));
    }
}
