//! What all proxies share: endpoints, the network, what is on its way, and the heap of events.

use super::events::Events;
use super::failure::Answers;
use super::load_report::LoadReport;
use super::record::Shares;
use super::server::{Arrived, AttemptId, EffectId, Ending, Server};
use super::service_time::Work;
use super::spec::Experiment;
use std::collections::VecDeque;
use std::time::Duration;

/// From a connection attempt to its refusal, besides the way there and back.
const REFUSAL_LATENCY: Duration = Duration::from_micros(200);

/// One try of a client: number of the request, and the how-manieth try, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Try {
    pub(crate) request: usize,
    pub(crate) number: u32,
}

/// Something that happens at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Event {
    /// The next request comes.
    Arrive,
    /// A try has reached its proxy.
    Forwarded(Try),
    /// A client has waited long enough.
    TimedOut(Try),
    /// A client tries again.
    TriesAgain(Try),
    /// What a proxy answered has reached its client.
    Replied(Try, u16),
    /// An attempt has reached its endpoint.
    Reached(AttemptId),
    /// A job ends, if its generation is still this one.
    Finished(AttemptId, u64),
    /// An answer has reached its proxy.
    Answered(AttemptId),
    /// A failure begins.
    Begins(usize),
    /// A failure ends.
    Ends(usize),
    /// An effect on an endpoint fades.
    Fades(usize, EffectId),
    /// An antagonist chooses whom it hits.
    Strikes(usize),
    /// A timer of a proxy.
    Wakes(usize),
}

/// What becomes of an attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// The endpoint answered.
    Answer(u16, Option<LoadReport>),
    /// Nobody listens there.
    Refused,
    /// The connection broke.
    Reset,
}

/// What an attempt carries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Load {
    /// A client's request, by its number.
    Request(usize),
    /// A call of a plugin's own, which takes no slot.
    Poll,
}

#[derive(Clone, Copy, Debug)]
struct Attempt {
    proxy: usize,
    endpoint: usize,
    load: Load,
    work: Work,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    OnTheWay,
    There,
    /// There, and nobody waits for the answer.
    Abandoned,
    OnTheWayBack(Outcome),
    Over,
}

/// See the module.
pub(crate) struct World {
    now: Duration,
    pub(crate) events: Events<Event>,
    servers: Vec<Server>,
    /// One way, by proxy and endpoint.
    latencies: Vec<Vec<Duration>>,
    attempts: Vec<Attempt>,
    /// How many tries each request had at endpoints.
    tries: Vec<u64>,
    seed: u64,
    /// What proxies have answered and nobody has seen yet.
    pub(crate) replies: VecDeque<(Try, u16)>,
    pub(crate) shares: Shares,
}

impl World {
    /// At time zero, idle.
    pub(crate) fn new(experiment: &Experiment, seed: u64) -> Self {
        let (proxies, network) = (&experiment.proxies, &experiment.network);
        let servers: Vec<_> =
            experiment.servers().map(|(group, at)| Server::new(group, at)).collect();
        let row = |proxy| {
            let from = proxies.zone(proxy);
            experiment.servers().map(|(group, _)| network.latency(from, &group.zone)).collect()
        };
        Self {
            now: Duration::ZERO,
            events: Events::default(),
            latencies: (0..proxies.count).map(row).collect(),
            shares: Shares::new(experiment, servers.len()),
            servers,
            attempts: Vec::new(),
            tries: Vec::new(),
            seed,
            replies: VecDeque::new(),
        }
    }

    /// Time since the start.
    pub(crate) fn now(&self) -> Duration {
        self.now
    }

    pub(crate) fn advance_to(&mut self, now: Duration) {
        self.now = self.now.max(now);
    }

    /// The endpoints as they really are: for the oracle alone.
    pub(crate) fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// A proxy sends something to an endpoint.
    pub(crate) fn start(&mut self, proxy: usize, endpoint: usize, load: Load) -> AttemptId {
        let id = self.attempts.len();
        let mut work = Work::of(self.seed, u64::MAX, 0);
        if let Load::Request(request) = load {
            if self.tries.len() <= request {
                self.tries.resize(request + 1, 0);
            }
            work = Work::of(self.seed, request as u64, self.tries[request]);
            self.tries[request] += 1;
            self.servers[endpoint].assign();
            self.shares.count(self.now, endpoint);
        }
        self.attempts.push(Attempt { proxy, endpoint, load, work, state: State::OnTheWay });
        self.events.schedule(self.now + self.latencies[proxy][endpoint], Event::Reached(id));
        id
    }

    /// A proxy does not want the answer any more.
    pub(crate) fn cancel(&mut self, id: AttemptId) {
        let attempt = self.attempts[id];
        if attempt.state == State::There && self.servers[attempt.endpoint].keeps_working() {
            self.attempts[id].state = State::Abandoned;
            return;
        }
        self.attempts[id].state = State::Over;
        if matches!(attempt.state, State::OnTheWay | State::There) {
            self.release(attempt);
        }
        if attempt.state == State::There {
            let next = self.servers[attempt.endpoint].abandon(self.now, id);
            self.expect(next);
        }
    }

    /// A proxy answers a client; 0 is a reset.
    pub(crate) fn reply(&mut self, to: Try, status: u16) {
        self.replies.push_back((to, status));
    }

    /// An attempt reaches its endpoint.
    pub(crate) fn reached(&mut self, id: AttemptId) {
        let attempt = self.attempts[id];
        if attempt.state != State::OnTheWay {
            return;
        }
        let server = &mut self.servers[attempt.endpoint];
        if attempt.load == Load::Poll {
            let status = server.poll();
            let answer = |status| {
                let report = server.answer_to_poll(self.now);
                (Outcome::Answer(status, report), Duration::ZERO)
            };
            let (outcome, after) = status.map_or((Outcome::Refused, REFUSAL_LATENCY), answer);
            return self.send_back(id, outcome, after);
        }
        match server.arrive(self.now, id, attempt.work) {
            Arrived::Refused => self.send_back(id, Outcome::Refused, REFUSAL_LATENCY),
            Arrived::Answered(status, after) => {
                let report = server.answer(self.now, status);
                self.send_back(id, Outcome::Answer(status, report), after);
            }
            Arrived::Queued => self.attempts[id].state = State::There,
            Arrived::Started(ending) => {
                self.attempts[id].state = State::There;
                self.expect(Some(ending));
            }
        }
    }

    /// A job may be done.
    pub(crate) fn finished(&mut self, id: AttemptId, generation: u64) {
        let server = &mut self.servers[self.attempts[id].endpoint];
        let Some(next) = server.finish(self.now, id, generation) else { return };
        let status = server.status();
        let report = server.answer(self.now, status);
        self.send_back(id, Outcome::Answer(status, report), Duration::ZERO);
        self.expect(next);
    }

    /// What a proxy gets back, and which proxy; nothing if it does not want it any more.
    pub(crate) fn answered(&mut self, id: AttemptId) -> Option<(usize, Outcome)> {
        let attempt = &mut self.attempts[id];
        let State::OnTheWayBack(outcome) = attempt.state else { return None };
        attempt.state = State::Over;
        Some((attempt.proxy, outcome))
    }

    /// An endpoint's process dies.
    pub(crate) fn take_down(&mut self, endpoint: usize) {
        for id in self.servers[endpoint].take_down(self.now) {
            self.send_back(id, Outcome::Reset, Duration::ZERO);
        }
    }

    /// It is there again.
    pub(crate) fn bring_up(&mut self, endpoint: usize) {
        self.servers[endpoint].bring_up(self.now);
    }

    /// Multiplies an endpoint's speed.
    pub(crate) fn set_factor(&mut self, endpoint: usize, id: EffectId, factor: f64) {
        let endings = self.servers[endpoint].set_factor(self.now, id, factor);
        endings.into_iter().for_each(|ending| self.expect(Some(ending)));
    }

    /// Lifts that.
    pub(crate) fn clear_factor(&mut self, endpoint: usize, id: EffectId) {
        let endings = self.servers[endpoint].clear_factor(self.now, id);
        endings.into_iter().for_each(|ending| self.expect(Some(ending)));
    }

    /// Lifts that later.
    pub(crate) fn clear_factor_after(&mut self, span: Duration, endpoint: usize, id: EffectId) {
        self.events.schedule(self.now + span, Event::Fades(endpoint, id));
    }

    /// Has an endpoint answer without working.
    pub(crate) fn set_answer(&mut self, at: usize, id: EffectId, answers: &Answers) {
        self.servers[at].set_answer(id, answers);
    }

    /// Lifts that.
    pub(crate) fn clear_answer(&mut self, endpoint: usize, id: EffectId) {
        self.servers[endpoint].clear_answer(id);
    }

    fn expect(&mut self, ending: Option<Ending>) {
        if let Some(Ending { attempt, at, generation }) = ending {
            self.events.schedule(at, Event::Finished(attempt, generation));
        }
    }

    fn send_back(&mut self, id: AttemptId, outcome: Outcome, after: Duration) {
        let attempt = self.attempts[id];
        self.release(attempt);
        if attempt.state == State::Abandoned {
            self.attempts[id].state = State::Over;
            return;
        }
        self.attempts[id].state = State::OnTheWayBack(outcome);
        let back = self.latencies[attempt.proxy][attempt.endpoint];
        self.events.schedule(self.now + after + back, Event::Answered(id));
    }

    fn release(&mut self, attempt: Attempt) {
        if matches!(attempt.load, Load::Request(_)) {
            self.servers[attempt.endpoint].release();
        }
    }
}
