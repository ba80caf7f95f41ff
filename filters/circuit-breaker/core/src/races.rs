//! Four workers over one store, in any order, each losing races to the others.

use crate::breaker::{Admission, Outcome, Permit, Rules, Verdict, admit, record};
use crate::worker::{Clock, Degradation, Event, Subject, WorkerBreakers};
use crate::{Backoff, Change, Jitter, OnFull, Ramp, Slots};
use core::time::Duration;
use proptest::prelude::*;
use shared_state::{
    BreakerRecord, BreakerState, Expected, Key, MemoryStore, SharedStore, UnixNanos, read, update,
};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

const WORKERS: usize = 4;

fn rules() -> Rules {
    Rules {
        minimum_number_of_calls: 4,
        consecutive_failures: 3,
        backoff: Backoff {
            base: Duration::from_secs(1),
            max: Duration::from_secs(8),
            multiplier: 2.0,
            jitter: Jitter::Equal,
        },
        decay_interval: Duration::from_secs(5),
        permitted_calls: 3,
        max_concurrent: 2,
        permit_lease: Duration::from_secs(2),
        ramp: Ramp { window: Duration::from_secs(2), ..Ramp::NONE },
        ..Rules::DEFAULT
    }
}

fn key() -> Key<BreakerRecord> {
    subject_key(&subject())
}

fn subject_key(subject: &Subject) -> Key<BreakerRecord> {
    BreakerRecord::key("endpoint", &[&subject.name, &subject.endpoint.unwrap().to_string()])
}

fn subject() -> Subject {
    Subject { name: "backend".into(), endpoint: Some("10.0.0.1:80".parse().unwrap()), key: None }
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Admit,
    Fail,
    Succeed,
    ResolveOldest(bool),
    ForgetOldest,
}

#[derive(Clone, Debug)]
enum Happening {
    Wait(u64),
    StepBack(u64),
    One(Act),
    /// The second act happens between the first one's read and write.
    Interrupted(Act, Act),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => Just(Act::Admit),
        3 => Just(Act::Fail),
        2 => Just(Act::Succeed),
        3 => any::<bool>().prop_map(Act::ResolveOldest),
        1 => Just(Act::ForgetOldest),
    ]
}

fn script(steps_back: bool) -> impl Strategy<Value = Vec<Happening>> {
    let event = prop_oneof![
        3 => (1u64..1500).prop_map(Happening::Wait),
        u32::from(steps_back) => (1u64..20_000).prop_map(Happening::StepBack),
        6 => act().prop_map(Happening::One),
        4 => (act(), act()).prop_map(|(one, two)| Happening::Interrupted(one, two)),
    ];
    proptest::collection::vec(event, 1..120)
}

/// What all workers together did.
#[derive(Default)]
struct World {
    now_ms: u64,
    held: Vec<Permit>,
    granted: BTreeSet<(u32, u32)>,
    epochs: Vec<u32>,
    draws: u64,
}

impl World {
    fn now(&self) -> UnixNanos {
        UnixNanos::from_millis(self.now_ms)
    }

    fn noticed(&mut self, change: Option<Change>) {
        self.epochs.extend(change.map(|change| change.epoch));
    }
}

fn perform(store: &MemoryStore, world: &RefCell<World>, act: Act) {
    let (now, draw) = {
        let mut world = world.borrow_mut();
        world.draws = world.draws.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (world.now(), world.draws)
    };
    let (permit, verdict) = match act {
        Act::Admit => {
            let step = update(store, &key(), |prior| admit(&rules(), prior, now, draw)).unwrap();
            let mut world = world.borrow_mut();
            world.noticed(step.value.change);
            if let Admission::Probe(permit) = step.value.value {
                assert!(world.granted.insert((permit.epoch, permit.id)), "granted twice");
                world.held.push(permit);
            }
            return;
        }
        Act::ForgetOldest => {
            let mut world = world.borrow_mut();
            let lost = usize::from(!world.held.is_empty());
            world.held.drain(..lost);
            return;
        }
        Act::Fail => (None, Verdict::Failure),
        Act::Succeed => (None, Verdict::Success),
        Act::ResolveOldest(good) => {
            let mut world = world.borrow_mut();
            if world.held.is_empty() {
                return;
            }
            let verdict = if good { Verdict::Success } else { Verdict::Failure };
            (Some(world.held.remove(0)), verdict)
        }
    };
    let outcome = [Outcome::new(now, permit, verdict)];
    let step = update(store, &key(), |prior| record(&rules(), prior, &outcome, now, draw)).unwrap();
    world.borrow_mut().noticed(step.value.change);
}

fn play(script: Vec<Happening>) -> (Rc<MemoryStore>, Rc<RefCell<World>>) {
    let store = Rc::new(MemoryStore::default());
    let world = Rc::new(RefCell::new(World { now_ms: 1_000_000, ..World::default() }));
    for event in script {
        match event {
            Happening::Wait(ms) => world.borrow_mut().now_ms += ms,
            Happening::StepBack(ms) => world.borrow_mut().now_ms -= ms,
            Happening::One(act) => perform(&store, &world, act),
            Happening::Interrupted(act, by) => {
                let other = Rc::clone(&world);
                store.before_next_set(move |store| perform(store, &other, by));
                perform(&store, &world, act);
                store.before_next_set(|_| {});
            }
        }
        check(&store);
    }
    (store, world)
}

fn check(store: &MemoryStore) {
    let Some(record) = read(store, &key()).unwrap() else { return };
    let live = record.half_open.leases.len();
    assert!(live <= usize::from(rules().max_concurrent), "{live} permits live");
    assert_eq!(record.state == BreakerState::HalfOpen, record.half_open.total > 0);
}

/// Requests that all succeed close the breaker, whatever happened before.
fn heals(store: &MemoryStore, world: &RefCell<World>) -> bool {
    world.borrow_mut().held.clear();
    (0..100).any(|_| {
        world.borrow_mut().now_ms += 1000;
        perform(store, world, Act::Admit);
        while !world.borrow().held.is_empty() {
            perform(store, world, Act::ResolveOldest(true));
        }
        let record = read(store, &key()).unwrap();
        record.is_none_or(|record| record.state == BreakerState::Closed)
    })
}

proptest! {
    #[test]
    fn each_epoch_begins_exactly_once_and_in_order(script in script(true)) {
        let (store, world) = play(script);
        let expected: Vec<u32> = (1..).take(world.borrow().epochs.len()).collect();
        prop_assert_eq!(&world.borrow().epochs, &expected);
        let epoch = read(&*store, &key()).unwrap().map_or(0, |record| record.epoch);
        prop_assert_eq!(epoch as usize, expected.len());
    }

    #[test]
    fn no_history_leaves_a_breaker_stuck(script in script(true)) {
        let (store, world) = play(script);
        prop_assert!(heals(&store, &world));
    }

    #[test]
    fn no_more_permits_are_granted_in_an_epoch_than_decide(script in script(false)) {
        // Without lost permits that come back: those would be granted anew.
        let (_, world) = play(script);
        let world = world.borrow();
        for epoch in world.granted.iter().map(|(epoch, _)| *epoch) {
            let of_epoch = world.granted.range((epoch, 0)..=(epoch, u32::MAX)).count();
            prop_assert!(of_epoch <= usize::from(rules().permitted_calls));
        }
    }
}

#[test]
fn two_keys_that_race_for_one_slot_do_not_share_it() {
    let store = MemoryStore::default();
    let slots = Slots { count: 1, on_full: OnFull::Allow };
    let worker = || WorkerBreakers::new("tenant", rules()).with_slots(Some(slots));
    let (mut one, mut two) = (worker(), worker());
    let key = |key| Subject { name: "".into(), endpoint: None, key: Some(key) };
    let now = UnixNanos::from_secs(1000);
    // Both find the slot free, then both write.
    one.view(&store, &key(8), now);
    two.view(&store, &key(9), now);
    let failure = Outcome::new(now, None, Verdict::Failure);
    for _ in 0..3 {
        one.record(&store, &key(8), failure, now, 0);
        two.record(&store, &key(9), failure, now, 0);
    }
    assert!(matches!(one.admit(&store, &key(8), now, 0), Admission::Reject { .. }));
    assert_eq!(two.admit(&store, &key(9), now, 0), Admission::Allow);
    let full = Event::Degraded(Degradation::NoSlot);
    assert!(two.take_events().contains(&full) && !one.take_events().contains(&full));
}

struct Fleet {
    store: MemoryStore,
    workers: Vec<WorkerBreakers>,
    now_ms: u64,
}

impl Fleet {
    fn new() -> Self {
        let worker = || WorkerBreakers::new("endpoint", rules());
        let workers = (0..WORKERS).map(|_| worker()).collect();
        Self { store: MemoryStore::default(), workers, now_ms: 1_000_000 }
    }

    fn now(&self) -> UnixNanos {
        UnixNanos::from_millis(self.now_ms)
    }

    fn admit(&mut self, worker: usize) -> Admission {
        let now = self.now();
        self.workers[worker].admit(&self.store, &subject(), now, 0)
    }

    fn end(&mut self, worker: usize, permit: Option<Permit>, verdict: Verdict) {
        let now = self.now();
        let outcome = Outcome::new(now, permit, verdict);
        self.workers[worker].record(&self.store, &subject(), outcome, now, 0);
    }

    fn tick(&mut self) {
        let now = self.now();
        for worker in &mut self.workers {
            worker.tick(&self.store, now, || 0);
        }
    }

    fn events(&mut self) -> Vec<Event> {
        self.workers.iter_mut().flat_map(WorkerBreakers::take_events).collect()
    }

    fn changes(&mut self) -> Vec<(BreakerState, BreakerState)> {
        let change = |event| match event {
            Event::Changed { change, .. } => Some((change.from, change.to)),
            _ => None,
        };
        self.events().into_iter().filter_map(change).collect()
    }

    fn degraded(&mut self) -> Vec<Degradation> {
        let why = |event| match event {
            Event::Degraded(why) => Some(why),
            _ => None,
        };
        self.events().into_iter().filter_map(why).collect()
    }

    fn trip(&mut self) {
        for worker in 0..3 {
            self.end(worker, None, Verdict::Failure);
        }
        assert_eq!(self.changes(), [(BreakerState::Closed, BreakerState::Open)]);
    }
}

#[test]
fn failures_seen_by_three_workers_trip_the_breaker_of_the_fourth() {
    let mut fleet = Fleet::new();
    assert_eq!(fleet.admit(3), Admission::Allow);
    fleet.trip();
    assert_eq!(fleet.admit(3), Admission::Allow, "its cache is not old enough");
    fleet.now_ms += 100;
    assert!(matches!(fleet.admit(3), Admission::Reject { .. }));
}

/// A clock that a tick has read, some time ago.
#[derive(Clone, Copy)]
struct Ticked(UnixNanos, UnixNanos);

impl Clock for Ticked {
    fn recent(self) -> UnixNanos {
        self.0
    }

    fn now(self) -> UnixNanos {
        self.1
    }

    fn patience(self) -> Duration {
        Duration::ZERO
    }
}

#[test]
fn what_was_read_before_the_last_tick_is_not_believed_and_what_was_read_since_is() {
    let mut fleet = Fleet::new();
    let ticked = fleet.now();
    let clock = |ms| Ticked(ticked, ticked.plus(Duration::from_millis(ms)));
    let admit =
        |fleet: &mut Fleet, clock| fleet.workers[3].admit(&fleet.store, &subject(), clock, 0);
    admit(&mut fleet, clock(10));
    fleet.trip();
    assert_eq!(admit(&mut fleet, clock(90)), Admission::Allow, "read since the tick");
    let next = ticked.plus(Duration::from_millis(100));
    let rejected = admit(&mut fleet, Ticked(next, next));
    assert!(matches!(rejected, Admission::Reject { .. }), "{rejected:?}");
}

#[test]
fn where_no_tick_comes_a_request_looks_for_itself() {
    let mut fleet = Fleet::new();
    fleet.admit(3);
    fleet.trip();
    fleet.now_ms += 99;
    assert_eq!(fleet.admit(3), Admission::Allow);
    fleet.now_ms += 1;
    assert!(matches!(fleet.admit(3), Admission::Reject { .. }));
}

#[test]
fn all_workers_together_get_the_permits_of_one() {
    let mut fleet = Fleet::new();
    fleet.trip();
    fleet.now_ms += 1000;
    let admissions: Vec<_> = (0..WORKERS).map(|worker| fleet.admit(worker)).collect();
    let probes = admissions.iter().filter(|a| matches!(a, Admission::Probe(_))).count();
    assert_eq!(probes, usize::from(rules().max_concurrent));
    assert_eq!(fleet.changes(), [(BreakerState::Open, BreakerState::HalfOpen)]);
}

#[test]
fn successes_wait_for_a_batch_and_failures_do_not() {
    let mut fleet = Fleet::new();
    for _ in 0..255 {
        fleet.end(0, None, Verdict::Success);
    }
    assert_eq!(fleet.store.sets_tried(), 0);
    fleet.end(0, None, Verdict::Success);
    assert_eq!(fleet.store.sets_tried(), 1);
    fleet.end(0, None, Verdict::Success);
    fleet.end(0, None, Verdict::Failure);
    assert_eq!(fleet.store.sets_tried(), 2);
}

#[test]
fn a_tick_stores_what_has_waited_for_its_time() {
    let mut fleet = Fleet::new();
    fleet.end(0, None, Verdict::Success);
    fleet.now_ms += 99;
    fleet.tick();
    assert_eq!(fleet.store.sets_tried(), 0);
    fleet.now_ms += 1;
    fleet.tick();
    assert_eq!(fleet.store.sets_tried(), 1);
}

#[test]
fn a_success_before_a_run_of_failures_does_not_break_it() {
    let mut fleet = Fleet::new();
    fleet.end(0, None, Verdict::Success);
    for _ in 0..3 {
        fleet.end(0, None, Verdict::Failure);
    }
    assert_eq!(fleet.changes(), [(BreakerState::Closed, BreakerState::Open)]);
}

#[test]
fn a_success_that_waits_in_another_worker_breaks_a_run_once_and_no_more() {
    let mut fleet = Fleet::new();
    // Many, for the share of failures to open nothing.
    for _ in 0..20 {
        fleet.end(0, None, Verdict::Success);
    }
    fleet.end(1, None, Verdict::Success);
    for _ in 0..2 {
        fleet.end(0, None, Verdict::Failure);
    }
    fleet.now_ms += 100;
    fleet.tick();
    for _ in 0..2 {
        fleet.end(0, None, Verdict::Failure);
        fleet.now_ms += 100;
        fleet.tick();
    }
    assert_eq!(fleet.changes(), []);
    fleet.end(0, None, Verdict::Failure);
    assert_eq!(fleet.changes(), [(BreakerState::Closed, BreakerState::Open)]);
}

#[test]
fn a_failing_store_lets_everything_pass_and_is_counted() {
    let mut fleet = Fleet::new();
    fleet.trip();
    fleet.store.fail_with(10);
    fleet.now_ms += 100;
    assert_eq!(fleet.admit(0), Admission::Allow);
    fleet.end(0, None, Verdict::Failure);
    assert_eq!(fleet.degraded(), [Degradation::Store; 2]);
}

#[test]
fn a_garbage_record_is_a_closed_breaker_and_is_counted() {
    let mut fleet = Fleet::new();
    fleet.store.set(key().as_str(), b"garbage", Expected::Any).unwrap();
    assert_eq!(fleet.admit(0), Admission::Allow);
    assert_eq!(fleet.degraded(), [Degradation::Corrupt]);
    fleet.trip();
}

#[test]
fn outcomes_that_lost_every_race_are_stored_later() {
    let mut fleet = Fleet::new();
    fleet.store.refuse_sets(3 * shared_state::MAX_CAS_ATTEMPTS);
    for _ in 0..3 {
        fleet.end(0, None, Verdict::Failure);
    }
    assert_eq!(fleet.degraded(), [Degradation::Contended; 3]);
    fleet.now_ms += 100;
    fleet.tick();
    assert_eq!(fleet.changes(), [(BreakerState::Closed, BreakerState::Open)]);
}

#[test]
fn a_probe_that_lost_every_race_passes() {
    let mut fleet = Fleet::new();
    fleet.trip();
    fleet.now_ms += 1000;
    fleet.store.refuse_sets(u32::MAX);
    assert_eq!(fleet.admit(0), Admission::Allow);
    assert_eq!(fleet.degraded(), [Degradation::Contended]);
}

#[test]
fn a_list_that_anyone_may_write_makes_no_more_records_than_the_cluster_has_endpoints() {
    let mut fleet = Fleet::new();
    let now = fleet.now();
    let outcome = Outcome::new(now, None, Verdict::Failure);
    for port in 1..100 {
        let endpoint = Some(format!("10.9.9.9:{port}").parse().unwrap());
        let invented = Subject { endpoint, ..subject() };
        fleet.workers[0].record_unconfirmed(&fleet.store, &invented, outcome, 3, (now, 0));
    }
    assert_eq!(fleet.store.keys().len(), 3);
    assert!(fleet.degraded().contains(&Degradation::UnconfirmedEndpoint));
    fleet.end(0, None, Verdict::Failure);
    assert_eq!(fleet.store.keys().len(), 4, "who has answered is real");
}

#[test]
fn a_worker_follows_a_bounded_number_of_breakers() {
    let mut fleet = Fleet::new();
    let now = fleet.now();
    let outcome = Outcome::new(now, None, Verdict::Success);
    for port in 1..2000u16 {
        let endpoint = Some(format!("10.9.9.9:{port}").parse().unwrap());
        let answered = Subject { endpoint, ..subject() };
        fleet.workers[0].record(&fleet.store, &answered, outcome, now, 0);
    }
    assert_eq!(fleet.degraded().len(), 1999 - 1024);
    // The clock may step back meanwhile: what is idle is known from then on.
    fleet.now_ms -= 900_000;
    fleet.tick();
    fleet.now_ms += 600_000;
    fleet.tick();
    fleet.admit(0);
    assert!(fleet.degraded().is_empty(), "idle ones are forgotten");
}

#[test]
fn what_was_only_named_in_lists_makes_room_for_what_answers() {
    let mut fleet = Fleet::new();
    fleet.trip();
    let now = fleet.now();
    for port in 1..2000u16 {
        let endpoint = Some(format!("10.9.9.9:{port}").parse().unwrap());
        fleet.workers[3].view(&fleet.store, &Subject { endpoint, ..subject() }, now);
    }
    assert!(matches!(fleet.admit(3), Admission::Allow), "no room to follow it");
    fleet.tick();
    assert!(matches!(fleet.admit(3), Admission::Reject { .. }));
}

#[test]
fn a_clock_that_steps_back_refreshes_the_cache() {
    let mut fleet = Fleet::new();
    fleet.admit(3);
    fleet.trip();
    fleet.now_ms -= 600;
    assert!(matches!(fleet.admit(3), Admission::Reject { .. }));
}
