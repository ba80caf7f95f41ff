//! One worker runs at a time; the stage says which.
//!
//! Every worker has a thread of its own, because a hostcall cannot be left in the middle otherwise,
//! but no two ever run: a turn is passed from thread to thread, before hostcalls on what workers
//! share, between the events of a worker, and where it has nothing to do. So a run depends on the
//! plan alone, not on the machine's scheduler.
//!
//! Time stands still while anybody can run. When nobody can, it moves to the next event or timer.

use super::access::{self, Access};
use super::plan::{Decision, Place, Plan};
use crate::{Reply, Request, RequestId, VirtualClock};
use host_sim_abi::Status;
use host_sim_engine::{CallbackEnd, Clock, HostcallView, Observer, Origin, UnixNanos, Verdict};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Steps in which no callback begins and nobody gets done. More is guests that wait for each other.
const MOST_STEPS: u64 = 3_000;

/// See the module.
pub(crate) struct Stage {
    clock: Arc<VirtualClock>,
    state: Mutex<State>,
    /// One for each lane, and the director's last.
    bells: Vec<Condvar>,
    quiet: Arc<Quiet>,
    recording: bool,
}

/// What a first run has shown that the order of hostcalls cannot matter for.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    /// Keys that are read and never written.
    pub(super) keys: HashSet<Vec<u8>>,
    /// Nobody reads metrics.
    pub(super) metrics: bool,
}

struct State {
    plan: Plan,
    /// Whose turn it is; `lanes.len()` is the director's.
    turn: usize,
    lanes: Vec<Lane>,
    /// Hostcalls wait for their turn; false while workers start.
    running: bool,
    over: bool,
    end: UnixNanos,
    /// Time need not move when every request has its response.
    settling: bool,
    incomplete: usize,
    steps: u64,
    /// Steps since somebody got further.
    idling: u64,
    in_a_row: u64,
    decisions: Vec<Decision>,
    record: Vec<Access>,
    replies: Vec<(RequestId, Option<Reply>, bool)>,
    failures: Vec<String>,
    contended: u64,
    /// Keys of shared data, and whether somebody wrote them.
    touched: HashMap<Vec<u8>, bool>,
    metrics_read: bool,
}

/// A worker, or (the last) the main thread.
#[derive(Default)]
struct Lane {
    /// In the middle of something, or not known to be done.
    busy: bool,
    woken: bool,
    next: Option<UnixNanos>,
    requests: VecDeque<(RequestId, Request)>,
    steps: u64,
    callback: &'static str,
    invocations: u64,
}

/// What a run came to, besides what can be seen of the host.
#[derive(Debug, Default)]
pub(super) struct Course {
    pub(super) decisions: Vec<Decision>,
    pub(super) record: Vec<Access>,
    pub(super) failures: Vec<String>,
    /// Steps whose order can matter.
    pub(super) contended: u64,
    pub(super) quiet: Quiet,
}

impl Stage {
    pub(super) fn new(workers: usize, plan: Plan, quiet: Arc<Quiet>, recording: bool) -> Self {
        let lanes: Vec<_> = (0..=workers).map(|_| Lane::default()).collect();
        let bells = (0..=lanes.len()).map(|_| Condvar::new()).collect();
        let state = State {
            plan,
            turn: lanes.len(),
            lanes,
            running: false,
            over: false,
            end: UnixNanos::default(),
            settling: false,
            incomplete: 0,
            steps: 0,
            idling: 0,
            in_a_row: 0,
            decisions: Vec::new(),
            record: Vec::new(),
            replies: Vec::new(),
            failures: Vec::new(),
            contended: 0,
            touched: HashMap::new(),
            metrics_read: false,
        };
        let clock = Arc::new(VirtualClock::default());
        Self { clock, state: Mutex::new(state), bells, quiet, recording }
    }

    pub(crate) fn clock(&self) -> &Arc<VirtualClock> {
        &self.clock
    }

    pub(super) fn course(&self) -> Course {
        let state = &mut *self.state();
        let touched = std::mem::take(&mut state.touched);
        let keys = touched.into_iter().filter(|(_, written)| !written).map(|(key, _)| key);
        let quiet = Quiet { keys: keys.collect(), metrics: !state.metrics_read };
        Course {
            quiet,
            decisions: std::mem::take(&mut state.decisions),
            record: std::mem::take(&mut state.record),
            failures: std::mem::take(&mut state.failures),
            contended: state.contended,
        }
    }

    // What the director does: the thread that holds the simulated host.

    /// Lets a lane run alone until it is idle.
    pub(crate) fn start(&self, lane: usize) {
        let mut state = self.state();
        state.turn = lane;
        self.ring(lane);
        drop(self.await_turn(state, self.director()));
    }

    /// Hands a request to a lane, for the time that comes.
    pub(crate) fn send(&self, lane: usize, id: RequestId, request: Request) {
        let mut state = self.state();
        state.incomplete += 1;
        if let Some(lane) = state.lanes.get_mut(lane) {
            lane.requests.push_back((id, request));
        }
    }

    /// Runs all lanes until `end`, or until every request has its response. Answers what came.
    pub(crate) fn run(
        &self,
        end: UnixNanos,
        settling: bool,
    ) -> Vec<(RequestId, Option<Reply>, bool)> {
        let mut state = self.state();
        (state.end, state.settling, state.running) = (end, settling, !state.over);
        let director = self.director();
        let turn = state.next(&self.clock, director, Place::Idle);
        state.turn = turn;
        if turn != director {
            self.ring(turn);
            state = self.await_turn(state, director);
        }
        state.running = false;
        std::mem::take(&mut state.replies)
    }

    /// Ends everything: who waits in a hostcall traps.
    pub(crate) fn stop(&self) {
        self.state().over = true;
        self.bells.iter().for_each(Condvar::notify_all);
    }

    // What lanes do.

    /// The first thing a lane does. False: all is over.
    pub(crate) fn enter(&self, lane: usize) -> bool {
        !self.await_turn(self.state(), lane).over
    }

    /// A lane has started and waits for work.
    pub(crate) fn started(&self, lane: usize, next: Option<UnixNanos>) -> bool {
        let mut state = self.state();
        if let Some(lane) = state.lanes.get_mut(lane) {
            lane.next = next;
        }
        state.turn = self.director();
        self.ring(self.director());
        let mut state = self.await_turn(state, lane);
        state.wake(lane);
        !state.over
    }

    /// The next request for a lane.
    pub(crate) fn take(&self, lane: usize) -> Option<(RequestId, Request)> {
        self.state().lanes.get_mut(lane)?.requests.pop_front()
    }

    /// A lane has done one thing, and perhaps has more to do.
    pub(crate) fn between(&self, lane: usize) -> bool {
        self.pass(self.state(), lane, Place::Between)
    }

    /// A lane has nothing to do until `next`; these replies have come.
    pub(crate) fn idle(
        &self,
        lane: usize,
        next: Option<UnixNanos>,
        replies: Vec<(RequestId, Option<Reply>, bool)>,
    ) -> bool {
        let mut state = self.state();
        let complete = replies.iter().filter(|(_, _, complete)| *complete).count();
        state.incomplete = state.incomplete.saturating_sub(complete);
        state.replies.extend(replies);
        if let Some(lane) = state.lanes.get_mut(lane) {
            (lane.busy, lane.next) = (false, next);
        }
        self.pass(state, lane, Place::Idle)
    }

    /// Something has come for a lane from another.
    pub(crate) fn wake(&self, lane: usize) {
        if let Some(lane) = self.state().lanes.get_mut(lane) {
            lane.woken = true;
        }
    }

    /// A lane cannot go on: a fault of the host, not of a guest.
    pub(crate) fn broken(&self, why: String) {
        let mut state = self.state();
        state.failures.push(why);
        state.over = true;
        state.turn = self.director();
        drop(state);
        self.bells.iter().for_each(Condvar::notify_all);
    }

    /// Gives the turn to whom the plan says, and waits until it is back. False: all is over.
    fn pass(&self, mut state: MutexGuard<'_, State>, lane: usize, place: Place) -> bool {
        if state.over {
            return false;
        }
        let turn = state.next(&self.clock, lane, place);
        if turn == lane {
            state.wake(lane);
            return !state.over;
        }
        state.turn = turn;
        self.ring(turn);
        let mut state = self.await_turn(state, lane);
        state.wake(lane);
        !state.over
    }

    fn await_turn<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        who: usize,
    ) -> MutexGuard<'a, State> {
        let Some(bell) = self.bells.get(who) else { return state };
        while state.turn != who && !state.over {
            state = bell.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    fn ring(&self, who: usize) {
        if let Some(bell) = self.bells.get(who) {
            bell.notify_one();
        }
    }

    fn director(&self) -> usize {
        self.bells.len() - 1
    }

    fn lane_of(&self, origin: Origin<'_>) -> usize {
        let main = self.bells.len() - 2;
        origin.worker.and_then(|worker| usize::try_from(worker).ok()).unwrap_or(main)
    }

    /// Every change below is whole before anything can panic.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A lane has its turn, and finds out itself what it has to do.
    fn wake(&mut self, lane: usize) {
        if let Some(lane) = self.lanes.get_mut(lane) {
            (lane.busy, lane.woken) = (true, false);
        }
    }

    /// Who is next; moves time when nobody can run. Nobody and no time left: the director.
    fn next(&mut self, clock: &VirtualClock, from: usize, place: Place) -> usize {
        let director = self.lanes.len();
        let at = match self.lanes.get_mut(from) {
            Some(lane) => {
                lane.steps += 1;
                lane.steps
            }
            None => self.steps,
        };
        self.steps += 1;
        self.idling = if place == Place::Idle { 0 } else { self.idling + 1 };
        if self.idling > MOST_STEPS {
            let what = format!("a hang: {MOST_STEPS} hostcalls, and nobody gets further");
            self.failures.push(what);
            self.over = true;
            return director;
        }
        let mut runnable = self.runnable(clock.now());
        if runnable.is_empty() {
            if self.settling && self.incomplete == 0 {
                return director;
            }
            let next = self.lanes.iter().filter_map(|lane| lane.next).min();
            let Some(time) = next.filter(|time| *time <= self.end) else {
                if !self.settling {
                    clock.advance_to(self.end);
                }
                return director;
            };
            clock.advance_to(time);
            runnable = self.runnable(clock.now());
        }
        let (to, usual) = self.plan.choose(place, (from, at), self.in_a_row, &runnable);
        if to != usual {
            self.decisions.push(Decision { from, at, to });
        }
        self.in_a_row = if to == from { self.in_a_row + 1 } else { 0 };
        to
    }

    fn runnable(&self, now: UnixNanos) -> Vec<usize> {
        let can = |lane: &Lane| {
            lane.busy
                || lane.woken
                || !lane.requests.is_empty()
                || lane.next.is_some_and(|next| next <= now)
        };
        self.lanes.iter().enumerate().filter(|(_, lane)| can(lane)).map(|(at, _)| at).collect()
    }
}

impl Observer for Stage {
    fn enter(&self, origin: Origin<'_>, name: &'static str) {
        let lane = self.lane_of(origin);
        let state = &mut *self.state();
        state.idling = 0;
        if let Some(lane) = state.lanes.get_mut(lane) {
            lane.callback = name;
            lane.invocations += 1;
        }
    }

    fn before(&self, origin: Origin<'_>, call: &HostcallView<'_>) -> Verdict {
        if !access::is_shared(call.name) {
            return Verdict::Proceed;
        }
        let mut state = self.state();
        if state.running {
            let quiet = match access::data_key(call) {
                Some(key) => self.quiet.keys.contains(key),
                None => self.quiet.metrics && call.name.ends_with("_metric"),
            };
            state.contended += u64::from(!quiet);
            let place = if quiet { Place::Quiet } else { Place::Hostcall };
            self.pass(state, self.lane_of(origin), place);
            state = self.state();
        }
        if state.over {
            return Verdict::Trap("the search has ended this run".to_owned());
        }
        Verdict::Proceed
    }

    fn hostcall(&self, origin: Origin<'_>, call: &HostcallView<'_>, status: Option<Status>) {
        if !self.recording || !access::is_shared(call.name) {
            return;
        }
        let state = &mut *self.state();
        if !state.running || state.over {
            return;
        }
        if let Some(key) = access::data_key(call) {
            let written = call.name == "proxy_set_shared_data";
            *state.touched.entry(key.to_vec()).or_default() |= written;
        }
        state.metrics_read |= matches!(call.name, "proxy_get_metric" | "proxy_record_metric");
        let (key, detail) = access::describe(call, status);
        let Some(lane) = state.lanes.get(self.lane_of(origin)) else { return };
        state.record.push(Access {
            worker: origin.worker,
            plugin: origin.plugin.to_owned(),
            callback: lane.callback,
            invocation: lane.invocations,
            hostcall: call.name,
            key,
            detail,
            status,
            times: 1,
        });
    }

    fn callback(&self, origin: Origin<'_>, name: &'static str, end: CallbackEnd) {
        let mut state = self.state();
        if end.trapped && state.running && !state.over {
            let worker = origin.worker.map_or("main".to_owned(), |worker| worker.to_string());
            state.failures.push(format!("worker {worker}: {} trapped in {name}", origin.plugin));
        }
    }
}
