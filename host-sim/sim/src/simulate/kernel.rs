//! One run: an arm with a seed. Clients are here; proxies and endpoints are told what happens.

use super::arrivals::{Arrival, Arrivals};
use super::draws::Draws;
use super::failure::{Effect, Site};
use super::notices;
use super::proxy::Proxy;
use super::record::{Ending, Record, Sample};
use super::spec::{Clients, Experiment};
use super::world::{Event, Try, World};
use std::time::Duration;

/// How long answers are waited for after the last request was sent.
const PATIENCE: Duration = Duration::from_secs(60);

/// See the module.
pub(crate) struct Kernel<'a> {
    experiment: &'a Experiment,
    world: World,
    proxies: Vec<Box<dyn Proxy + 'a>>,
    /// When each proxy's next event to wake it is due.
    wakes: Vec<Option<Duration>>,
    arrivals: Arrivals,
    next: Option<Arrival>,
    requests: Vec<Request>,
    incomplete: usize,
    samples: Vec<Sample>,
    antagonists: Vec<Strikes>,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    arrival: Arrival,
    tries: u32,
    done: bool,
}

/// Whom an antagonist may hit, and until when it has hit whom.
struct Strikes {
    draws: Draws,
    targets: Vec<usize>,
    hit: Vec<(usize, Duration)>,
}

impl<'a> Kernel<'a> {
    /// Ready to run.
    pub(crate) fn new(
        experiment: &'a Experiment,
        seed: u64,
        proxies: Vec<Box<dyn Proxy + 'a>>,
    ) -> Self {
        let antagonist = |(number, spec): (usize, &super::spec::Antagonists)| Strikes {
            draws: Draws::new(seed, "antagonist", number as u64),
            targets: named(experiment, &spec.endpoints),
            hit: Vec::new(),
        };
        Self {
            experiment,
            world: World::new(experiment, seed),
            wakes: vec![None; proxies.len()],
            proxies,
            arrivals: Arrivals::new(experiment, seed),
            next: None,
            requests: Vec::new(),
            incomplete: 0,
            samples: Vec::new(),
            antagonists: experiment.antagonists.iter().enumerate().map(antagonist).collect(),
        }
    }

    /// Runs to the end. `tick` is called now and then with the time that has passed.
    pub(crate) fn run(mut self, mut tick: impl FnMut(Duration)) -> Record {
        let begin = self.experiment.warmup.0;
        for (number, failure) in self.experiment.failures.iter().enumerate() {
            self.world.events.schedule(begin + failure.at.0, Event::Begins(number));
        }
        for number in 0..self.antagonists.len() {
            self.world.events.schedule(Duration::ZERO, Event::Strikes(number));
        }
        (0..self.proxies.len()).for_each(|proxy| self.mind(proxy));
        self.expect_next();
        let end = self.experiment.end();
        let mut told = Duration::ZERO;
        while self.next.is_some() || self.incomplete > 0 {
            let Some((at, event)) = self.world.events.next() else { break };
            if at > end + PATIENCE {
                self.world.advance_to(end + PATIENCE);
                break;
            }
            self.world.advance_to(at);
            self.happen(event);
            if at >= told + Duration::from_millis(500) {
                told = at;
                tick(at.min(end));
            }
        }
        self.give_up();
        let proxies = self.proxies.into_iter();
        let notices = notices::merged(proxies.flat_map(|mut proxy| proxy.notices()));
        Record { samples: self.samples, shares: self.world.shares, notices }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive => self.arrive(),
            Event::Forwarded(id) => self.forward(id),
            Event::TriesAgain(id) => self.send(id),
            Event::TimedOut(id) => self.time_out(id),
            Event::Replied(id, status) => self.replied(id, status),
            Event::Reached(attempt) => self.world.reached(attempt),
            Event::Finished(attempt, generation) => self.world.finished(attempt, generation),
            Event::Answered(attempt) => {
                if let Some((proxy, outcome)) = self.world.answered(attempt) {
                    self.proxies[proxy].answered(attempt, outcome, &mut self.world);
                    self.mind(proxy);
                }
            }
            Event::Begins(number) => self.begin_failure(number),
            Event::Ends(number) => self.end_failure(number),
            Event::Fades(endpoint, id) => self.world.clear_factor(endpoint, id),
            Event::Strikes(number) => self.strike(number),
            Event::Wakes(proxy) => {
                // Of several wakes the earliest counts, and the proxy knows best whether it is due.
                if self.wakes[proxy] == Some(self.world.now()) {
                    self.wakes[proxy] = None;
                    self.proxies[proxy].wake(&mut self.world);
                    self.mind(proxy);
                }
            }
        }
    }

    fn expect_next(&mut self) {
        self.next = self.arrivals.next();
        if let Some(arrival) = &self.next {
            self.world.events.schedule(arrival.at, Event::Arrive);
        }
    }

    fn arrive(&mut self) {
        let Some(arrival) = self.next else { return };
        let request = self.requests.len();
        self.requests.push(Request { arrival, tries: 1, done: false });
        self.incomplete += 1;
        self.expect_next();
        self.send(Try { request, number: 0 });
    }

    fn clients(&self, request: usize) -> &'a Clients {
        &self.experiment.clients[self.requests[request].arrival.client]
    }

    /// From a client to its proxy.
    fn way(&self, request: usize) -> Duration {
        let proxy = self.requests[request].arrival.proxy;
        let zone = self.experiment.proxies.zone(proxy);
        let from = &self.clients(request).zone;
        // Clients without a zone stand beside their proxy.
        if from.is_empty() { Duration::ZERO } else { self.experiment.network.latency(from, zone) }
    }

    fn send(&mut self, id: Try) {
        let now = self.world.now();
        if let Some(timeout) = self.clients(id.request).timeout {
            self.world.events.schedule(now + timeout.0, Event::TimedOut(id));
        }
        let way = self.way(id.request);
        if way.is_zero() {
            self.forward(id);
        } else {
            self.world.events.schedule(now + way, Event::Forwarded(id));
        }
    }

    fn is_current(&self, id: Try) -> bool {
        let request = &self.requests[id.request];
        !request.done && request.tries == id.number + 1
    }

    fn forward(&mut self, id: Try) {
        if !self.is_current(id) {
            return;
        }
        let arrival = self.requests[id.request].arrival;
        let client = self.clients(id.request);
        self.proxies[arrival.proxy].request(id, client, arrival.worker, &mut self.world);
        self.mind(arrival.proxy);
    }

    fn time_out(&mut self, id: Try) {
        if !self.is_current(id) {
            return;
        }
        let proxy = self.requests[id.request].arrival.proxy;
        self.proxies[proxy].abort(id, &mut self.world);
        self.end_try(id, Ending::TimedOut);
        self.mind(proxy);
    }

    fn replied(&mut self, id: Try, status: u16) {
        if self.is_current(id) {
            let good = (200..400).contains(&status);
            self.end_try(id, if good { Ending::Good } else { Ending::Failed(status) });
        }
    }

    fn end_try(&mut self, id: Try, ending: Ending) {
        let clients = self.clients(id.request);
        let request = &mut self.requests[id.request];
        if ending != Ending::Good && id.number < clients.retries {
            request.tries += 1;
            let again = Try { number: id.number + 1, ..id };
            let at = self.world.now() + clients.backoff.0;
            return self.world.events.schedule(at, Event::TriesAgain(again));
        }
        request.done = true;
        self.incomplete -= 1;
        let sent = request.arrival.at;
        if let Some(at) = sent.checked_sub(self.experiment.warmup.0) {
            self.samples.push(Sample { at, latency: self.world.now() - sent, ending });
        }
    }

    /// After a proxy has done something: passes on what it answered, and minds its timer.
    fn mind(&mut self, proxy: usize) {
        while let Some((id, status)) = self.world.replies.pop_front() {
            let way = self.way(id.request);
            if way.is_zero() {
                self.replied(id, status);
            } else {
                let at = self.world.now() + way;
                self.world.events.schedule(at, Event::Replied(id, status));
            }
        }
        let Some(due) = self.proxies[proxy].deadline() else { return };
        let due = due.max(self.world.now());
        if self.wakes[proxy].is_none_or(|at| due < at) {
            self.wakes[proxy] = Some(due);
            self.world.events.schedule(due, Event::Wakes(proxy));
        }
    }

    fn begin_failure(&mut self, number: usize) {
        let failure = &self.experiment.failures[number];
        let now = self.world.now();
        self.affect(number, |effect, site| effect.begin(site, number));
        if let Some(lasts) = failure.lasts {
            self.world.events.schedule(now + lasts.0, Event::Ends(number));
        }
        if let Some(every) = failure.every
            && now + every.0 < self.experiment.end()
        {
            self.world.events.schedule(now + every.0, Event::Begins(number));
        }
    }

    fn end_failure(&mut self, number: usize) {
        self.affect(number, |effect, site| effect.end(site, number));
    }

    /// Shows the effects of a failure what they are meant for.
    fn affect(&mut self, number: usize, act: impl Fn(&dyn Effect, &mut Site<'_, 'a>)) {
        let failure = &self.experiment.failures[number];
        let endpoints = match failure.endpoints.as_slice() {
            [] => Vec::new(),
            names => named(self.experiment, names),
        };
        let (world, proxies) = (&mut self.world, &mut self.proxies);
        let mut site = Site { world, endpoints: &endpoints, proxies };
        failure.effects().into_iter().for_each(|effect| act(effect, &mut site));
    }

    fn strike(&mut self, number: usize) {
        let spec = &self.experiment.antagonists[number];
        let now = self.world.now();
        let id = self.experiment.failures.len() + number;
        let Strikes { draws, targets, hit } = &mut self.antagonists[number];
        hit.retain(|(_, until)| *until > now);
        let free = |target: &&usize| hit.iter().all(|(own, _)| own != *target);
        let free: Vec<usize> = targets.iter().filter(free).copied().collect();
        // Drawn even when nobody is left, so that the next is the same.
        let at = draws.below(free.len());
        if let Some(endpoint) = free.get(at) {
            hit.push((*endpoint, now + spec.lasts.0));
            self.world.set_factor(*endpoint, id, spec.factor);
            self.world.clear_factor_after(spec.lasts.0, *endpoint, id);
        }
        if now + spec.every.0 < self.experiment.end() {
            self.world.events.schedule(now + spec.every.0, Event::Strikes(number));
        }
    }

    /// What has not been answered by now never will.
    fn give_up(&mut self) {
        let now = self.world.now();
        for request in self.requests.iter().filter(|request| !request.done) {
            let sent = request.arrival.at;
            if let Some(at) = sent.checked_sub(self.experiment.warmup.0) {
                self.samples.push(Sample { at, latency: now - sent, ending: Ending::TimedOut });
            }
        }
    }
}

/// The endpoints that names stand for; all without any.
fn named(experiment: &Experiment, names: &[String]) -> Vec<usize> {
    if names.is_empty() {
        return (0..experiment.servers().count()).collect();
    }
    let mut all: Vec<usize> =
        names.iter().flat_map(|name| experiment.endpoints_named(name)).collect();
    all.sort_unstable();
    all.dedup();
    all
}
