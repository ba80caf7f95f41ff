//! An endpoint at work: slots, a FIFO queue, a speed that changes, and what may befall it.
//!
//! Work already begun goes on at the new speed when the speed changes: every job knows how much of
//! it is left. So an antagonist of 100 ms costs a long request 100 ms of slowness and not its whole
//! service time, and the order in which things happen at one moment does not matter.

use super::failure::{Answers, Report};
use super::load_report::LoadReport;
use super::meter::{Level, Rate};
use super::service_time::{ServiceTime, Work, span};
use super::spec::EndpointGroup;
use std::collections::VecDeque;
use std::time::Duration;

/// How fast reported utilization and rates follow.
const REPORT_TAU: Duration = Duration::from_secs(1);

/// The number of an attempt, see the world.
pub(crate) type AttemptId = usize;

/// Names an effect on an endpoint, so that whoever set it can lift it.
pub(crate) type EffectId = usize;

/// One endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    service_time: ServiceTime,
    slots: usize,
    queue_bound: usize,
    orca: bool,
    keeps_working: bool,
    status: u16,
    speed: f64,
    factors: Vec<(EffectId, f64)>,
    answers: Vec<(EffectId, Answers)>,
    /// How many failures keep it down.
    down: usize,
    running: Vec<Job>,
    queue: VecDeque<(AttemptId, Work)>,
    /// Requests that proxies have sent here and that have not ended, those on the way among them.
    assigned: usize,
    generation: u64,
    cpu: Level,
    demand: Level,
    rps: Rate,
    eps: Rate,
}

#[derive(Clone, Copy, Debug)]
struct Job {
    attempt: AttemptId,
    /// At speed 1, as of `since`, in seconds.
    left: f64,
    since: Duration,
    generation: u64,
}

/// What becomes of a request that arrives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Arrived {
    /// It is answered now, or after a time, without a slot.
    Answered(u16, Duration),
    /// Nobody listens.
    Refused,
    /// It waits for a slot.
    Queued,
    /// It is worked on.
    Started(Ending),
}

/// When a job ends, unless the speed changes before: then the generation is another one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ending {
    pub(crate) attempt: AttemptId,
    pub(crate) at: Duration,
    pub(crate) generation: u64,
}

impl Server {
    /// The `number`-th of a group, idle.
    pub(crate) fn new(group: &EndpointGroup, number: usize) -> Self {
        Self {
            service_time: group.service_time.clone(),
            slots: group.slots,
            queue_bound: group.queue.unwrap_or(usize::MAX),
            orca: group.orca,
            keeps_working: group.keeps_working,
            status: group.status,
            speed: group.speed(number),
            factors: Vec::new(),
            answers: Vec::new(),
            down: 0,
            running: Vec::new(),
            queue: VecDeque::new(),
            assigned: 0,
            generation: 0,
            cpu: Level::new(REPORT_TAU),
            demand: Level::new(REPORT_TAU),
            rps: Rate::new(REPORT_TAU),
            eps: Rate::new(REPORT_TAU),
        }
    }

    /// The speed it works at now.
    pub(crate) fn speed(&self) -> f64 {
        self.factors.iter().fold(self.speed, |speed, (_, factor)| speed * factor)
    }

    /// Requests a second it can serve, with all its slots and no effect on it.
    pub(crate) fn capacity(&self) -> f64 {
        self.slots as f64 * self.speed / self.service_time.mean()
    }

    /// Whether it serves: neither down nor answering something else.
    pub(crate) fn serves(&self) -> bool {
        self.down == 0 && self.answers.is_empty() && self.status < 500
    }

    /// Whether requests stay when their clients have gone.
    pub(crate) fn keeps_working(&self) -> bool {
        self.keeps_working
    }

    /// The time that one more request would take here on average, with perfect knowledge of what was
    /// sent here and of the speed: until a slot is free, and then its service.
    pub(crate) fn expected_delay(&self) -> f64 {
        let ahead = (self.assigned + 1).saturating_sub(self.slots) as f64 / self.slots as f64;
        (ahead + 1.0) * self.service_time.mean() / self.speed()
    }

    /// A proxy has sent a request here.
    pub(crate) fn assign(&mut self) {
        self.assigned += 1;
    }

    /// A request that was sent here has ended, one way or another.
    pub(crate) fn release(&mut self) {
        self.assigned = self.assigned.saturating_sub(1);
    }

    /// A request arrives.
    pub(crate) fn arrive(&mut self, now: Duration, attempt: AttemptId, work: Work) -> Arrived {
        if self.down > 0 {
            return Arrived::Refused;
        }
        self.settle(now);
        if let Some((_, answers)) = self.answers.last() {
            return Arrived::Answered(answers.status, answers.after.0);
        }
        if self.running.len() < self.slots {
            return Arrived::Started(self.begin(now, attempt, work));
        }
        if self.queue.len() >= self.queue_bound {
            return Arrived::Answered(503, Duration::ZERO);
        }
        self.queue.push_back((attempt, work));
        Arrived::Queued
    }

    /// A poll arrives: what it is answered, at once and without a slot. `None` is refused.
    pub(crate) fn poll(&self) -> Option<u16> {
        let failing = self.answers.last().map(|(_, answers)| answers.status);
        (self.down == 0).then(|| failing.unwrap_or(self.status))
    }

    /// A job is done, if the generation is still its own: then the next may begin.
    pub(crate) fn finish(
        &mut self,
        now: Duration,
        attempt: AttemptId,
        generation: u64,
    ) -> Option<Option<Ending>> {
        let is_it = |job: &Job| job.attempt == attempt && job.generation == generation;
        let at = self.running.iter().position(is_it)?;
        self.settle(now);
        self.running.swap_remove(at);
        Some(self.next(now))
    }

    /// A client has gone: its request gives back its slot or its place in the queue.
    pub(crate) fn abandon(&mut self, now: Duration, attempt: AttemptId) -> Option<Ending> {
        self.settle(now);
        self.queue.retain(|(queued, _)| *queued != attempt);
        let at = self.running.iter().position(|job| job.attempt == attempt)?;
        self.running.swap_remove(at);
        self.next(now)
    }

    /// The status of its usual answer.
    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    /// Notes an answer, and says what the endpoint tells about its load with it.
    pub(crate) fn answer(&mut self, now: Duration, status: u16) -> Option<LoadReport> {
        self.rps.count(now);
        if status >= 500 {
            self.eps.count(now);
        }
        self.report(now, 1)
    }

    /// What it tells whoever polls it.
    pub(crate) fn answer_to_poll(&mut self, now: Duration) -> Option<LoadReport> {
        self.report(now, 0)
    }

    fn report(&mut self, now: Duration, in_hand: usize) -> Option<LoadReport> {
        self.settle(now);
        let rps = self.rps.per_second(now);
        if self.answers.last().is_some_and(|(_, answers)| answers.report == Report::Idle) {
            return self.orca.then(|| LoadReport::idle(rps));
        }
        self.orca.then(|| LoadReport {
            cpu_utilization: self.cpu.value(),
            application_utilization: self.demand.value(),
            rps,
            eps: self.eps.per_second(now),
            rif: self.running.len() + self.queue.len() + in_hand,
            queue: self.queue.len(),
        })
    }

    /// Changes the speed; every job ends at another time.
    pub(crate) fn set_factor(&mut self, now: Duration, id: EffectId, factor: f64) -> Vec<Ending> {
        self.progress(now);
        self.factors.retain(|(own, _)| *own != id);
        self.factors.push((id, factor));
        self.reschedule(now)
    }

    /// Lifts what [`Server::set_factor`] did.
    pub(crate) fn clear_factor(&mut self, now: Duration, id: EffectId) -> Vec<Ending> {
        self.progress(now);
        self.factors.retain(|(own, _)| *own != id);
        self.reschedule(now)
    }

    /// Answers everything that arrives from now on without working.
    pub(crate) fn set_answer(&mut self, id: EffectId, answers: &Answers) {
        self.answers.push((id, answers.clone()));
    }

    /// Lifts what [`Server::set_answer`] did.
    pub(crate) fn clear_answer(&mut self, id: EffectId) {
        self.answers.retain(|(own, ..)| *own != id);
    }

    /// The process dies. What was in it is lost.
    pub(crate) fn take_down(&mut self, now: Duration) -> Vec<AttemptId> {
        self.settle(now);
        self.down += 1;
        let running = self.running.drain(..).map(|job| job.attempt);
        running.chain(self.queue.drain(..).map(|(attempt, _)| attempt)).collect()
    }

    /// It listens again.
    pub(crate) fn bring_up(&mut self, now: Duration) {
        self.settle(now);
        self.down = self.down.saturating_sub(1);
    }

    fn next(&mut self, now: Duration) -> Option<Ending> {
        let (attempt, work) = self.queue.pop_front()?;
        Some(self.begin(now, attempt, work))
    }

    fn begin(&mut self, now: Duration, attempt: AttemptId, work: Work) -> Ending {
        self.generation += 1;
        let left = self.service_time.seconds(work);
        let job = Job { attempt, left, since: now, generation: self.generation };
        self.running.push(job);
        self.ending(job)
    }

    fn ending(&self, job: Job) -> Ending {
        let at = job.since.saturating_add(span(job.left / self.speed()));
        Ending { attempt: job.attempt, at, generation: job.generation }
    }

    /// Notes what was done since the speed changed last.
    fn progress(&mut self, now: Duration) {
        let speed = self.speed();
        for job in &mut self.running {
            let done = now.saturating_sub(job.since).as_secs_f64() * speed;
            job.left = (job.left - done).max(0.0);
            job.since = now;
        }
    }

    fn reschedule(&mut self, now: Duration) -> Vec<Ending> {
        self.settle(now);
        for at in 0..self.running.len() {
            self.generation += 1;
            self.running[at].generation = self.generation;
        }
        self.running.iter().map(|job| self.ending(*job)).collect()
    }

    /// Accounts for the time up to now, before anything changes.
    fn settle(&mut self, now: Duration) {
        let slots = self.slots as f64;
        let busy = self.running.len() as f64;
        self.cpu.advance(now, busy / slots);
        self.demand.advance(now, (busy + self.queue.len() as f64) / slots);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(text: &str) -> Server {
        let json: serde_json::Value = serde_yaml(text);
        Server::new(&serde_json::from_value(json).unwrap(), 0)
    }

    fn serde_yaml(text: &str) -> serde_json::Value {
        crate::yaml::Node::parse(text).unwrap().to_json()
    }

    fn fixed(more: &str) -> Server {
        server(&format!("{{name: e, service_time: {{distribution: fixed, mean: 10ms}}{more}}}"))
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn started(arrived: Arrived) -> Ending {
        match arrived {
            Arrived::Started(ending) => ending,
            other => panic!("{other:?}"),
        }
    }

    const WORK: u64 = 0;

    fn work() -> Work {
        Work::of(1, WORK, 0)
    }

    #[test]
    fn requests_beyond_the_slots_wait_in_the_order_of_their_arrival() {
        let mut server = fixed(", slots: 1, queue: 2");
        let first = started(server.arrive(ms(0), 0, work()));
        assert_eq!(first.at, ms(10));
        assert_eq!(server.arrive(ms(1), 1, work()), Arrived::Queued);
        assert_eq!(server.arrive(ms(2), 2, work()), Arrived::Queued);
        assert_eq!(server.arrive(ms(3), 3, work()), Arrived::Answered(503, Duration::ZERO));
        let second = server.finish(ms(10), 0, first.generation).unwrap().unwrap();
        assert_eq!((second.attempt, second.at), (1, ms(20)));
    }

    #[test]
    fn a_change_of_speed_moves_the_end_of_work_that_has_begun() {
        let mut server = fixed(", slots: 1");
        let first = started(server.arrive(ms(0), 0, work()));
        // Half is done, the rest takes twice as long; then a tenth of it at full speed again.
        let slowed = server.set_factor(ms(5), 9, 0.5);
        assert_eq!(slowed[0].at, ms(15));
        assert_eq!(server.finish(ms(10), 0, first.generation), None);
        let back = server.clear_factor(ms(13), 9);
        assert_eq!(back[0].at, ms(14));
        assert!(server.finish(ms(14), 0, back[0].generation).is_some());
    }

    #[test]
    fn a_request_whose_client_has_gone_gives_its_place_back() {
        let mut server = fixed(", slots: 1");
        started(server.arrive(ms(0), 0, work()));
        server.arrive(ms(0), 1, work());
        server.arrive(ms(0), 2, work());
        assert_eq!(server.abandon(ms(1), 1), None);
        let next = server.abandon(ms(2), 0).unwrap();
        assert_eq!((next.attempt, next.at), (2, ms(12)));
    }

    #[test]
    fn a_dead_endpoint_loses_what_it_had_and_refuses() {
        let mut server = fixed(", slots: 1");
        started(server.arrive(ms(0), 0, work()));
        server.arrive(ms(0), 1, work());
        assert_eq!(server.take_down(ms(1)), [0, 1]);
        assert_eq!(server.arrive(ms(2), 2, work()), Arrived::Refused);
        assert_eq!(server.poll(), None);
        server.bring_up(ms(3));
        started(server.arrive(ms(4), 3, work()));
    }

    #[test]
    fn a_report_tells_of_slots_queue_and_rates() {
        let mut server = fixed(", slots: 2");
        (0..4).for_each(|attempt| {
            server.arrive(ms(0), attempt, work());
        });
        let report = server.answer(ms(60_000), 503).unwrap();
        assert!((report.cpu_utilization - 1.0).abs() < 1e-6, "{report:?}");
        assert!((report.application_utilization - 2.0).abs() < 1e-6, "{report:?}");
        assert_eq!((report.rif, report.queue), (5, 2));
        assert!((report.eps - 1.0).abs() < 1e-6, "{report:?}");
        assert_eq!(fixed(", orca: false").answer(ms(0), 200), None);
    }

    #[test]
    fn a_report_may_be_a_lie() {
        let mut server = fixed(", slots: 2");
        let answers = serde_yaml("{status: 503, report: idle}");
        server.set_answer(0, &serde_json::from_value(answers).unwrap());
        let after = Duration::from_millis(1);
        assert_eq!(server.arrive(ms(0), 0, work()), Arrived::Answered(503, after));
        let report = server.answer(ms(1), 503).unwrap();
        assert!(report.rps > 0.0 && report.application_utilization < 0.05, "{report:?}");
        assert_eq!((report.eps, report.rif), (0.0, 1));
    }

    #[test]
    fn expected_delay_counts_what_is_on_the_way() {
        let mut server = fixed(", slots: 2, speeds: [0.5]");
        assert!((server.expected_delay() - 0.020).abs() < 1e-9);
        (0..3).for_each(|_| server.assign());
        // One of two slots' worth of work more: (4 - 2) / 2 + 1 = 2 service times.
        assert!((server.expected_delay() - 0.040).abs() < 1e-9);
    }
}
