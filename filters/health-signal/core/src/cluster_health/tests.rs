//! A cluster's life, played on a clock of our own.

use super::*;
use crate::Config;
use shared_state::{LoadReport, MAX_MEMBERS, decode, encode};

const GOOD: &[u8] = br#"{"status":"healthy","ready":true,"queue_depth":3,"connections":7}"#;

fn endpoint(port: u16) -> Endpoint {
    format!("127.0.0.1:{port}").parse().unwrap()
}

fn at(secs: u64) -> UnixNanos {
    UnixNanos::from_secs(secs)
}

fn table(active: &str, ports: &[u16]) -> ClusterHealth {
    let json = format!(r#"{{"clusters":[{{"name":"backend"{active}}}]}}"#);
    let config = Config::from_json(json.as_bytes()).unwrap().value;
    let mut table = ClusterHealth::new(Rc::new(config.clusters[0].clone()));
    table.set_members(ports.iter().map(|port| endpoint(*port)), at(100), |_| None, || 0);
    table
}

fn polled(ports: &[u16]) -> ClusterHealth {
    table(r#","active":{}"#, ports)
}

fn passive() -> ClusterHealth {
    table("", &[1])
}

fn answer(body: &[u8]) -> Answer<'_> {
    Answer { status: Some(200), served: None, proxied: true, body }
}

/// Polls the endpoint on port 1 at this second.
fn poll(table: &mut ClusterHealth, secs: u64, answer: &Answer<'_>) -> PollOutcome {
    table.sent(endpoint(1), Some(9), at(secs), 0);
    table.answered(endpoint(1), 9, answer, at(secs))
}

fn state(table: &mut ClusterHealth, secs: u64) -> &'static str {
    table.publications(at(secs));
    table.rows.get(endpoint(1)).unwrap().state.name()
}

fn only(evidence: Evidence) -> EndpointMap<Evidence> {
    let mut map = EndpointMap::default();
    map.get_or_insert_with(endpoint(1), || evidence);
    map
}

fn failing(run: u32, secs: u64) -> EndpointMap<Evidence> {
    let evidence =
        Evidence { consecutive_failures: run, last_failure: at(secs), ..Evidence::default() };
    only(evidence)
}

fn answering(secs: u64) -> EndpointMap<Evidence> {
    let evidence = Evidence {
        succeeded: 1,
        last_success: at(secs),
        latency_us: 900,
        in_flight: 2,
        ..Evidence::default()
    };
    only(evidence)
}

#[test]
fn a_cold_table_publishes_unknown() {
    let mut table = passive();
    let publications = table.publications(at(100));
    assert_eq!(publications.len(), 1);
    assert_eq!(publications[0].record.state, HealthState::Unknown);
    assert_eq!(publications[0].change, None);
}

#[test]
fn a_record_is_written_when_it_changes_and_once_a_heartbeat() {
    let mut table = passive();
    assert_eq!(table.publications(at(100)).len(), 1);
    let half = at(100).plus(Duration::from_millis(500));
    assert_eq!(table.publications(half).len(), 0);
    table.absorb(answering(100), half);
    assert_eq!(table.publications(half).len(), 1);
    assert_eq!(table.publications(at(101)).len(), 0);
    assert_eq!(table.publications(at(102)).len(), 1);
    assert_eq!(table.publications(at(50)).len(), 1, "the clock stepped back");
}

#[test]
fn what_a_worker_saw_after_the_leader_read_the_clock_is_fresh() {
    let mut table = passive();
    let moment_before = at(100).minus(Duration::from_micros(50));
    table.absorb(answering(100), moment_before);
    let record = table.publications(moment_before).remove(0).record;
    assert_eq!((record.state, record.latency_us), (HealthState::Healthy, 900));
}

#[test]
fn a_record_that_could_not_be_written_is_due_again() {
    let mut table = passive();
    table.publications(at(100));
    table.publication_failed(endpoint(1));
    assert_eq!(table.publications(at(100)).len(), 1);
}

#[test]
fn a_good_poll_fills_the_record() {
    let mut table = polled(&[1]);
    assert_eq!(poll(&mut table, 100, &answer(GOOD)), PollOutcome::Good);
    let publications = table.publications(at(100));
    let record = &publications[0].record;
    assert_eq!(record.state, HealthState::Healthy);
    assert_eq!((record.queue_depth, record.connections), (Some(3), Some(7)));
    assert_eq!(publications[0].change, Some((HealthState::Unknown, DecidedBy::Polls)));
}

#[test]
fn three_failed_polls_take_it_down_and_two_good_ones_bring_it_back() {
    let mut table = polled(&[1]);
    poll(&mut table, 100, &answer(GOOD));
    let refused = Answer { status: Some(503), ..Answer::default() };
    let mut states = Vec::new();
    for secs in [105, 110, 115] {
        let outcome = poll(&mut table, secs, &refused);
        assert_eq!(outcome, PollOutcome::Failed(PollFailure::Connect));
        states.push(state(&mut table, secs));
    }
    for secs in [120, 125] {
        poll(&mut table, secs, &answer(GOOD));
        states.push(state(&mut table, secs));
    }
    assert_eq!(states, ["healthy", "healthy", "down", "down", "healthy"]);
}

#[test]
fn when_the_polls_stop_it_becomes_unknown_and_not_worse() {
    let mut table = polled(&[1]);
    poll(&mut table, 100, &answer(GOOD));
    assert_eq!(state(&mut table, 115), "healthy");
    assert_eq!(state(&mut table, 116), "unknown");
}

#[test]
fn failing_requests_beat_a_good_poll_until_as_many_polls_as_it_takes_are_good() {
    let mut table = polled(&[1]);
    poll(&mut table, 100, &answer(GOOD));
    table.absorb(failing(3, 101), at(101));
    assert_eq!(state(&mut table, 101), "down");
    poll(&mut table, 105, &answer(GOOD));
    table.absorb(failing(3, 101), at(105));
    assert_eq!(state(&mut table, 105), "down");
    poll(&mut table, 110, &answer(GOOD));
    table.absorb(failing(3, 101), at(110));
    assert_eq!(state(&mut table, 110), "healthy");
    table.absorb(failing(4, 112), at(112));
    assert_eq!(state(&mut table, 112), "down", "one more failure is enough");
}

#[test]
fn without_polls_requests_alone_decide() {
    let mut table = passive();
    table.absorb(answering(100), at(100));
    assert_eq!(state(&mut table, 100), "healthy");
    table.absorb(failing(3, 101), at(101));
    assert_eq!(state(&mut table, 101), "down");
    table.absorb(failing(3, 101), at(162));
    assert_eq!(state(&mut table, 162), "unknown");
}

#[test]
fn a_load_report_is_kept_until_it_is_stale() {
    let mut table = passive();
    let report = LoadReport { received_at: at(100), rps: 5.0, ..LoadReport::default() };
    let evidence = Evidence { report: Some(report.clone()), ..Evidence::default() };
    let evidence = only(evidence);
    table.absorb(evidence.clone(), at(100));
    assert_eq!(table.publications(at(280))[0].record.report, Some(report));
    table.absorb(evidence, at(281));
    let record = &table.publications(at(281))[0].record;
    assert_eq!((record.state, &record.report), (HealthState::Unknown, &None));
}

#[test]
fn a_drain_holds_at_once() {
    let mut table = polled(&[1]);
    poll(&mut table, 100, &answer(GOOD));
    poll(&mut table, 105, &answer(br#"{"ready":false}"#));
    assert_eq!(state(&mut table, 105), "unready");
}

#[test]
fn a_stand_in_is_no_evidence_and_shows_that_the_endpoint_left() {
    let mut table = polled(&[1]);
    assert!(!table.is_steering(at(100)));
    let stand_in = Answer { served: Some("127.0.0.1:2"), ..answer(GOOD) };
    assert_eq!(poll(&mut table, 100, &stand_in), PollOutcome::Misattributed);
    assert_eq!(state(&mut table, 100), "unknown");
    assert!(!table.is_steering(at(100)), "steering may not work at all");
    poll(&mut table, 105, &Answer { served: Some("127.0.0.1:1"), ..answer(GOOD) });
    assert!(table.is_steering(at(105)));
    assert!(!table.is_steering(at(116)));
    let nameless = poll(&mut table, 117, &answer(GOOD));
    assert_eq!(nameless, PollOutcome::Unattributed, "answers are known to name their endpoint");
}

#[test]
fn an_endpoint_has_one_poll_at_a_time_and_a_new_draw_for_the_next() {
    let mut table = polled(&[1, 2]);
    assert_eq!(table.due(at(100)), [endpoint(1), endpoint(2)]);
    table.sent(endpoint(1), Some(1), at(100), 0);
    table.sent(endpoint(2), None, at(100), 0);
    assert_eq!(table.due(at(104)), [endpoint(2)], "refused: tried again, at its next turn");
    table.answered(endpoint(1), 1, &answer(GOOD), at(104));
    assert_eq!(table.due(at(104)), [endpoint(1), endpoint(2)]);
}

#[test]
fn a_poll_that_nobody_answers_is_given_up_and_its_answer_then_comes_too_late() {
    let mut table = polled(&[1]);
    table.sent(endpoint(1), Some(1), at(100), 0);
    assert!(table.give_up(at(102)).is_empty());
    assert_eq!(table.give_up(at(103)), [endpoint(1)]);
    assert_eq!(table.answered(endpoint(1), 1, &answer(GOOD), at(103)), PollOutcome::Late);
    table.sent(endpoint(1), Some(2), at(105), 0);
    assert_eq!(table.answered(endpoint(1), 1, &answer(GOOD), at(105)), PollOutcome::Late);
    assert_eq!(table.answered(endpoint(1), 2, &answer(GOOD), at(105)), PollOutcome::Good);
}

#[test]
fn a_clock_that_steps_back_neither_stops_the_polls_nor_makes_failures() {
    let mut table = polled(&[1]);
    poll(&mut table, 1000, &answer(GOOD));
    table.sent(endpoint(1), Some(1), at(1005), 0);
    assert!(table.give_up(at(500)).is_empty());
    assert_eq!(table.due(at(500)), [endpoint(1)]);
    poll(&mut table, 500, &answer(GOOD));
    assert_eq!(state(&mut table, 500), "healthy");
}

#[test]
fn a_clock_far_ahead_makes_everything_stale_and_nothing_worse() {
    let mut table = polled(&[1]);
    poll(&mut table, 100, &answer(GOOD));
    table.absorb(failing(3, 100), UnixNanos::from_nanos(u64::MAX));
    assert_eq!(state(&mut table, u64::MAX), "unknown");
}

#[test]
fn polls_are_spread_when_there_are_many() {
    let ports: Vec<u16> = (1..=MAX_MEMBERS).collect();
    assert_eq!(polled(&ports).due(at(100)).len(), MAX_POLLS_PER_TICK);
}

#[test]
fn members_come_and_go() {
    let mut table = polled(&[1, 2]);
    let left = table.set_members([endpoint(2), endpoint(3)].into_iter(), at(101), |_| None, || 0);
    assert_eq!(left, [endpoint(1)]);
    let told: Vec<_> = table.publications(at(101)).into_iter().map(|p| p.endpoint).collect();
    assert_eq!(told, [endpoint(2), endpoint(3)]);
    assert_eq!(table.answered(endpoint(1), 9, &answer(GOOD), at(101)), PollOutcome::Late);
}

#[test]
fn a_new_leader_goes_on_from_the_records() {
    let mut old = polled(&[1]);
    for secs in [100, 105, 110] {
        poll(&mut old, secs, &Answer { status: Some(504), ..Answer::default() });
    }
    let record = old.publications(at(110)).remove(0).record;
    let record: EndpointHealth = decode(&encode(&record)).unwrap();
    let mut heir = polled(&[]);
    heir.set_members([endpoint(1)].into_iter(), at(114), |_| Some(record.clone()), || 0);
    let first = heir.publications(at(114)).remove(0);
    assert_eq!((first.record.state, first.change), (HealthState::Down, None));
    assert_eq!(first.record.state_since, at(110));
}
