use super::*;
use proptest::prelude::*;
use shared_state::{Expected, MemoryStore, read};

const LEASE: Duration = Duration::from_secs(60);
const AHEAD: Duration = Duration::from_millis(50);

fn at(secs: u64) -> UnixNanos {
    UnixNanos::from_secs(1_000_000 + secs)
}

fn at_millis(millis: u64) -> UnixNanos {
    at(0).plus(Duration::from_millis(millis))
}

fn scope(max: u32) -> Scope<'static> {
    let limit = Concurrency { max, lease: LEASE };
    let (plugin, policy, on_full) = ("p", "in-flight", OnFull::Share);
    Scope { plugin, policy, at: 0, shards: 4, limit, room: 64, on_full, ahead: AHEAD }
}

fn take(
    worker: &mut Permits,
    store: &MemoryStore,
    scope: &Scope<'_>,
    key: u64,
    now: UnixNanos,
) -> Option<Permit> {
    match worker.take(store, scope, key, now) {
        Ok(Updated { value: Taken::Granted { permit, .. }, .. }) => Some(permit),
        _ => None,
    }
}

fn told(store: &MemoryStore, scope: &Scope<'_>, key: u64) -> u32 {
    let table = read(store, &Permits::key(scope, key)).unwrap().unwrap_or_default();
    table.in_flight(key)
}

#[test]
fn a_key_has_at_most_so_many_in_flight_over_all_workers() {
    let (store, scope) = (MemoryStore::default(), scope(3));
    let mut workers = [Permits::new(1), Permits::new(2)];
    let granted: Vec<_> =
        (0..6).filter_map(|n| take(&mut workers[n % 2], &store, &scope, 7, at(0))).collect();
    assert_eq!(granted.len(), 3);
    assert!(take(&mut workers[0], &store, &scope, 8, at(0)).is_some(), "of another key");
}

#[test]
fn what_ends_makes_room_at_once() {
    let (store, scope) = (MemoryStore::default(), scope(1));
    let (mut one, mut other) = (Permits::new(1), Permits::new(2));
    let permit = take(&mut one, &store, &scope, 7, at(0)).unwrap();
    assert_eq!(take(&mut other, &store, &scope, 7, at(1)), None);
    one.release(&store, &scope, &permit, at(2));
    assert!(take(&mut other, &store, &scope, 7, at(2)).is_some());
    assert_eq!(one.in_flight(), 0);
}

#[test]
fn the_answer_tells_how_many_are_left() {
    let (store, scope) = (MemoryStore::default(), scope(3));
    let mut worker = Permits::new(1);
    let mut left = || match worker.take(&store, &scope, 7, at(0)).unwrap().value {
        Taken::Granted { left, overflow, .. } => (left, overflow),
        other => panic!("{other:?}"),
    };
    assert_eq!([left(), left(), left()], [(2, false), (1, false), (0, false)]);
}

#[test]
fn a_worker_that_has_all_of_them_itself_asks_nobody() {
    let (store, scope) = (MemoryStore::default(), scope(1));
    let mut worker = Permits::new(1);
    let _permit = take(&mut worker, &store, &scope, 7, at(0)).unwrap();
    store.fail_with(10);
    assert_eq!(
        worker.take(&store, &scope, 7, at(0)).unwrap().value,
        Taken::Refused { full: false }
    );
}

#[test]
fn a_refusal_stores_nothing() {
    let (store, scope) = (MemoryStore::default(), scope(1));
    let (mut one, mut other) = (Permits::new(1), Permits::new(2));
    let _permit = take(&mut one, &store, &scope, 7, at(0)).unwrap();
    for _ in 0..5 {
        assert_eq!(take(&mut other, &store, &scope, 7, at(0)), None);
    }
    assert_eq!(store.sets_tried(), 1);
}

#[test]
fn the_permits_of_a_vm_that_died_come_back_with_the_lease_and_not_before() {
    let (store, scope) = (MemoryStore::default(), scope(2));
    let (mut dead, mut heir) = (Permits::new(1), Permits::new(2));
    let _lost =
        (take(&mut dead, &store, &scope, 7, at(0)), take(&mut dead, &store, &scope, 7, at(0)));
    assert_eq!(take(&mut heir, &store, &scope, 7, at(59)), None);
    assert!(take(&mut heir, &store, &scope, 7, at(60)).is_some());
}

#[test]
fn a_stream_that_outlives_its_lease_is_renewed_at_half_of_it() {
    let (store, scope) = (MemoryStore::default(), scope(1));
    let (mut one, mut other) = (Permits::new(1), Permits::new(2));
    let _permit = take(&mut one, &store, &scope, 7, at(0)).unwrap();
    for now in 1..300 {
        one.tick(&store, |_| Some(scope), at(now));
        assert_eq!(take(&mut other, &store, &scope, 7, at(now)), None, "at {now}");
    }
    assert!(store.sets_tried() <= 11, "one write for each half of a lease");
}

#[test]
fn a_release_that_could_not_be_written_is_written_by_the_next_tick() {
    let (store, scope) = (MemoryStore::default(), scope(1));
    let (mut one, mut other) = (Permits::new(1), Permits::new(2));
    let permit = take(&mut one, &store, &scope, 7, at(0)).unwrap();
    store.refuse_sets(u32::MAX);
    one.release(&store, &scope, &permit, at(1));
    store.refuse_sets(0);
    assert_eq!(take(&mut other, &store, &scope, 7, at(1)), None);
    one.tick(&store, |_| Some(scope), at(2));
    assert!(take(&mut other, &store, &scope, 7, at(2)).is_some());
}

#[test]
fn a_permit_that_could_not_be_asked_for_counts_from_the_next_tick() {
    let (store, scope) = (MemoryStore::default(), scope(1));
    let (mut one, mut other) = (Permits::new(1), Permits::new(2));
    let permit = one.take_unasked(&scope, 7);
    one.tick(&store, |_| Some(scope), at(1));
    assert_eq!(take(&mut other, &store, &scope, 7, at(1)), None);
    one.release(&store, &scope, &permit, at(2));
    assert!(take(&mut other, &store, &scope, 7, at(2)).is_some());
}

#[test]
fn a_record_that_a_stranger_destroyed_is_made_good_by_who_has_requests_in_flight() {
    let (store, scope) = (MemoryStore::default(), scope(2));
    let mut one = Permits::new(1);
    let first = take(&mut one, &store, &scope, 7, at(0)).unwrap();
    let key = Permits::key(&scope, 7);
    store.set(key.as_str(), b"a stranger's value", Expected::Any).unwrap();
    let taken = one.take(&store, &scope, 7, at(1)).unwrap();
    assert!(taken.corrupt.is_some());
    assert_eq!(told(&store, &scope, 7), 2, "with what it had before");
    one.release(&store, &scope, &first, at(2));
    assert_eq!(told(&store, &scope, 7), 1);
}

#[test]
fn keys_without_a_row_share_one_and_never_have_more_than_their_own_would_give() {
    let store = MemoryStore::default();
    let scope = Scope { shards: 1, room: 1, ..scope(2) };
    let mut worker = Permits::new(1);
    let own = take(&mut worker, &store, &scope, 1, at(0)).unwrap();
    let shared =
        [take(&mut worker, &store, &scope, 2, at(0)), take(&mut worker, &store, &scope, 3, at(0))];
    assert!(shared.iter().all(Option::is_some));
    assert_eq!(take(&mut worker, &store, &scope, 4, at(0)), None);
    worker.release(&store, &scope, &own, at(1));
    // There is a row for key 2 now, but both permits of the overflow may be its own.
    assert_eq!(take(&mut worker, &store, &scope, 2, at(1)), None);
    for permit in shared.into_iter().flatten() {
        worker.release(&store, &scope, &permit, at(2));
    }
    assert!(take(&mut worker, &store, &scope, 2, at(2)).is_some());
}

#[test]
fn a_full_table_refuses_or_lets_pass_where_so_configured() {
    for (on_full, answer) in
        [(OnFull::Deny, Taken::Refused { full: true }), (OnFull::Allow, Taken::Uncounted)]
    {
        let store = MemoryStore::default();
        let scope = Scope { shards: 1, room: 1, on_full, ..scope(2) };
        let mut worker = Permits::new(1);
        let _permit = take(&mut worker, &store, &scope, 1, at(0)).unwrap();
        assert_eq!(worker.take(&store, &scope, 2, at(0)).unwrap().value, answer);
    }
}

#[test]
fn policies_of_one_worker_do_not_mix() {
    let (store, one) = (MemoryStore::default(), scope(1));
    let other = Scope { policy: "other", at: 1, ..one };
    let mut worker = Permits::new(1);
    let _permit = take(&mut worker, &store, &one, 7, at(0)).unwrap();
    let second = take(&mut worker, &store, &other, 7, at(0)).unwrap();
    worker.release(&store, &other, &second, at(0));
    assert_eq!((told(&store, &one, 7), told(&store, &other, 7)), (1, 0));
}

/// Takes so many, one each millisecond from then on.
fn take_many(
    worker: &mut Permits,
    store: &MemoryStore,
    scope: &Scope<'_>,
    count: u64,
    from: UnixNanos,
) -> Vec<Permit> {
    let step = |turn| from.plus(Duration::from_millis(turn));
    (0..count).filter_map(|turn| take(worker, store, scope, 7, step(turn))).collect()
}

#[test]
fn a_busy_key_far_from_its_edge_takes_one_write_for_sixteen_requests_or_more() {
    let (store, scope) = (MemoryStore::default(), scope(1_000));
    let mut worker = Permits::new(1);
    let mut open = std::collections::VecDeque::new();
    // 2 000 a second, of which each takes 20 ms.
    for turn in 0..10_000_u64 {
        let now = at(0).plus(Duration::from_micros(turn * 500));
        open.push_back(take(&mut worker, &store, &scope, 7, now).unwrap());
        if open.len() > 40 {
            let permit = open.pop_front().unwrap();
            worker.release(&store, &scope, &permit, now);
        }
    }
    let writes = store.sets_tried();
    assert!(writes <= 10_000 / 16, "{writes} writes");
    println!("{writes} writes for 10000 requests");
}

#[test]
fn near_the_edge_permits_are_taken_and_given_back_one_by_one() {
    let (store, scope) = (MemoryStore::default(), scope(100));
    let (mut one, mut other) = (Permits::new(1), Permits::new(2));
    let _busy = take_many(&mut one, &store, &scope, 80, at(0));
    one.tick(&store, |_| Some(scope), at(1));
    let last = take_many(&mut other, &store, &scope, 40, at(1));
    assert_eq!((last.len(), told(&store, &scope, 7)), (20, 100));
    other.release(&store, &scope, &last[0], at(2));
    assert_eq!(told(&store, &scope, 7), 99);
}

#[test]
fn what_a_worker_has_ahead_is_at_most_a_quarter_of_what_is_free() {
    let (store, scope) = (MemoryStore::default(), scope(400));
    let mut worker = Permits::new(1);
    for permit in take_many(&mut worker, &store, &scope, 200, at(0)) {
        let free = 400 - worker.in_flight();
        let idle = told(&store, &scope, 7) - worker.in_flight();
        assert!(idle <= free / 4, "{idle} of {free}");
        worker.release(&store, &scope, &permit, at_millis(200));
    }
}

#[test]
fn what_is_idle_goes_back_with_the_tick_after_its_time() {
    let (store, scope) = (MemoryStore::default(), scope(100));
    let mut worker = Permits::new(1);
    let open = take_many(&mut worker, &store, &scope, 5, at(0));
    assert!(worker.has_drawn() && told(&store, &scope, 7) > 5);
    for permit in &open[1..] {
        worker.release(&store, &scope, permit, at_millis(5));
    }
    worker.tick(&store, |_| Some(scope), at_millis(6));
    assert!(worker.has_drawn());
    worker.tick(&store, |_| Some(scope), at_millis(100));
    assert_eq!((told(&store, &scope, 7), worker.has_drawn()), (1, false));
}

#[test]
fn a_worker_that_retires_keeps_what_is_in_flight_and_nothing_else() {
    let (store, scope) = (MemoryStore::default(), scope(100));
    let mut worker = Permits::new(1);
    let open = take_many(&mut worker, &store, &scope, 5, at(0));
    worker.retire(&store, |_| Some(scope), at(0));
    assert_eq!(told(&store, &scope, 7), 5);
    for (left, permit) in open.iter().enumerate().rev() {
        worker.release(&store, &scope, permit, at(0));
        assert_eq!(told(&store, &scope, 7), left as u32);
    }
}

#[test]
fn idle_permits_are_not_handed_out_after_their_time_nor_when_the_clock_has_stepped_back() {
    let (store, scope) = (MemoryStore::default(), scope(100));
    let mut worker = Permits::new(1);
    let _open = take_many(&mut worker, &store, &scope, 5, at(9));
    let then = at(9).plus(Duration::from_millis(4));
    assert!(worker.is_at_hand(&scope, 7, then));
    assert!(!worker.is_at_hand(&scope, 7, at(10)) && !worker.is_at_hand(&scope, 7, at(8)));
    assert!(!worker.is_at_hand(&scope, 8, then), "of another key");
}

/// What happens to a proxy of three workers.
#[derive(Clone, Debug)]
enum Step {
    /// Worker, key.
    Request(usize, u64),
    /// Worker, which of its streams.
    End(usize, usize),
    /// The clock moves, by less than half a lease less a tick.
    Wait(u64),
    /// The clock moves by so many milliseconds, and whose ticks are due come or do not.
    Blink(u64, bool),
    /// A VM dies with all of its streams, and another takes its place.
    Die(usize),
    /// So many of the next writes are lost to somebody else.
    Contend(u32),
    /// Between the next reading and its write, the next worker asks for this key.
    Race(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let worker = || 0usize..3;
    let step = prop_oneof![
        12 => (worker(), 0u64..3).prop_map(|(worker, key)| Step::Request(worker, key)),
        6 => (worker(), 0usize..8).prop_map(|(worker, stream)| Step::End(worker, stream)),
        1 => (1u64..25).prop_map(Step::Wait),
        2 => (1u64..40, any::<bool>()).prop_map(|(millis, tick)| Step::Blink(millis, tick)),
        1 => worker().prop_map(Step::Die),
        1 => (0u32..40).prop_map(Step::Contend),
        1 => (0u64..3).prop_map(Step::Race),
    ];
    proptest::collection::vec(step, 1..250)
}

proptest! {
    /// Whatever happens in whatever order, no key ever has more in flight than allowed, dead VMs
    /// included until their lease is over; and when all has ended, all permits are back.
    #[test]
    fn no_key_ever_has_more_in_flight_than_allowed_and_nothing_leaks(
        steps in steps(), max in prop_oneof![1u32..4, 4u32..12], room in 1usize..4,
        greedy in any::<bool>(),
    ) {
        let permits = |owner| {
            let wish = if greedy { Wish::GREEDY } else { Wish::MODEST };
            Permits { wish, ..Permits::new(owner) }
        };
        let store = MemoryStore::default();
        let scope = Scope { shards: 1, room, ..scope(max) };
        let mut workers: Vec<Permits> = (0..3).map(permits).collect();
        let mut streams: Vec<Vec<(u64, Permit)>> = vec![Vec::new(), Vec::new(), Vec::new()];
        // Requests of VMs that died: key, and until when they count.
        let mut ghosts: Vec<(u64, u64)> = Vec::new();
        let (mut now, mut born) = (0, 3);
        for step in steps {
            match step {
                Step::Request(worker, key) => {
                    let permit = take(&mut workers[worker], &store, &scope, key, at_millis(now));
                    streams[worker].extend(permit.map(|permit| (key, permit)));
                }
                Step::End(worker, stream) if stream < streams[worker].len() => {
                    let (_, permit) = streams[worker].swap_remove(stream);
                    workers[worker].release(&store, &scope, &permit, at_millis(now));
                }
                Step::End(..) => {}
                Step::Wait(secs) => {
                    now += secs * 1_000;
                    store.refuse_sets(0);
                    for worker in &mut workers {
                        worker.tick(&store, |_| Some(scope), at_millis(now));
                    }
                }
                Step::Blink(passed, ticks) => {
                    now += passed;
                    for worker in workers.iter_mut().filter(|_| ticks) {
                        worker.tick(&store, |_| Some(scope), at_millis(now));
                    }
                }
                Step::Die(worker) => {
                    let lost = streams[worker].drain(..).map(|(key, _)| (key, now));
                    ghosts.extend(lost);
                    workers[worker] = permits(born);
                    born += 1;
                }
                Step::Contend(writes) => store.refuse_sets(writes),
                Step::Race(key) => store.before_next_set(move |store| {
                    // A stream of another proxy thread that ends at once.
                    let mut other = Permits::new(1_000);
                    let scope = Scope { shards: 1, room, ..super::tests::scope(max) };
                    if let Some(permit) = take(&mut other, store, &scope, key, at_millis(now)) {
                        other.release(store, &scope, &permit, at_millis(now));
                    }
                }),
            }
            ghosts.retain(|(_, died)| now < died + 5_000);
            for key in 0..3 {
                let live = streams.iter().flatten().filter(|(of, _)| *of == key).count();
                let dead = ghosts.iter().filter(|(of, _)| *of == key).count();
                prop_assert!(live + dead <= max as usize, "key {key}: {live} + {dead}");
            }
        }
        store.refuse_sets(0);
        now += 1_000;
        for (worker, streams) in workers.iter_mut().zip(&mut streams) {
            for (_, permit) in streams.drain(..) {
                worker.release(&store, &scope, &permit, at_millis(now));
            }
            worker.tick(&store, |_| Some(scope), at_millis(now));
            prop_assert_eq!(worker.in_flight(), 0);
        }
        let mut last = Permits::new(born);
        now += LEASE.as_millis() as u64;
        for _ in 0..max {
            prop_assert!(take(&mut last, &store, &scope, 0, at_millis(now)).is_some());
        }
        prop_assert!(take(&mut last, &store, &scope, 0, at_millis(now)).is_none());
    }
}
