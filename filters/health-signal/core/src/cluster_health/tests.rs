//! A cluster's life, played on a clock of our own.

mod pace;

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
    let mut table = ClusterHealth::new(Rc::new(config.clusters[0].clone()), at(100), &mut || 0);
    table.set_members(ports.iter().map(|port| endpoint(*port)), at(100), |_| None, &mut || 0);
    table
}

/// The first poll, of the endpoint on this port.
fn first(port: u16) -> Due {
    Due { poll: 0, endpoint: Some(endpoint(port)), timeout: Duration::from_secs(1) }
}

fn due(table: &mut ClusterHealth, now: UnixNanos) -> Vec<Due> {
    table.due(now, &mut || 0).0
}

fn due_endpoints(table: &mut ClusterHealth, now: UnixNanos) -> Vec<Endpoint> {
    due(table, now).into_iter().filter_map(|due| due.endpoint).collect()
}

fn polled(ports: &[u16]) -> ClusterHealth {
    table(r#","active":{}"#, ports)
}

fn passive() -> ClusterHealth {
    table("", &[1])
}

fn answer(body: &[u8]) -> Answer<'_> {
    Answer { status: Some(200), proxied: true, body, ..Answer::default() }
}

/// Polls the endpoint on port 1 at this second.
fn poll(table: &mut ClusterHealth, secs: u64, answer: &Answer<'_>) -> PollOutcome {
    table.sent(first(1), Some(9), at(secs), 0);
    table.answered(first(1), 9, answer, at(secs))
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
    assert_eq!(due_endpoints(&mut table, at(100)), [endpoint(1), endpoint(2)]);
    table.sent(first(1), Some(1), at(100), 0);
    table.sent(first(2), None, at(100), 0);
    assert_eq!(
        due_endpoints(&mut table, at(104)),
        [endpoint(2)],
        "refused: tried again, at its next turn"
    );
    table.answered(first(1), 1, &answer(GOOD), at(104));
    assert_eq!(due_endpoints(&mut table, at(104)), [endpoint(1), endpoint(2)]);
}

#[test]
fn a_poll_that_nobody_answers_is_given_up_and_its_answer_then_comes_too_late() {
    let mut table = polled(&[1]);
    table.sent(first(1), Some(1), at(100), 0);
    assert!(table.give_up(at(102)).is_empty());
    assert_eq!(table.give_up(at(103)), [first(1)]);
    assert_eq!(table.answered(first(1), 1, &answer(GOOD), at(103)), PollOutcome::Late);
    table.sent(first(1), Some(2), at(105), 0);
    assert_eq!(table.answered(first(1), 1, &answer(GOOD), at(105)), PollOutcome::Late);
    assert_eq!(table.answered(first(1), 2, &answer(GOOD), at(105)), PollOutcome::Good);
}

#[test]
fn a_clock_that_steps_back_neither_stops_the_polls_nor_makes_failures() {
    let mut table = polled(&[1]);
    poll(&mut table, 1000, &answer(GOOD));
    table.sent(first(1), Some(1), at(1005), 0);
    assert!(table.give_up(at(500)).is_empty());
    assert_eq!(due_endpoints(&mut table, at(500)), [endpoint(1)]);
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
fn polls_are_spread_when_there_are_many_and_those_that_wait_for_longest_go_first() {
    let ports: Vec<u16> = (1..=MAX_MEMBERS).collect();
    let mut table = table(r#","active":{},"max_probe_rps":40"#, &ports);
    assert!(table.is_over_budget());
    let mut seen = Vec::new();
    for tick in 0..ports.len() as u64 / 10 {
        let now = at(100).plus(Duration::from_millis(250 * tick));
        let sent = due(&mut table, now);
        assert_eq!(sent.len(), 10, "a quarter of a second's worth");
        for due in sent {
            table.sent(due, Some(1), now, 0);
            table.answered(due, 1, &answer(GOOD), now);
            seen.extend(due.endpoint);
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), ports.len() / 10 * 10, "nobody is polled twice before all were");
    assert!(!polled(&[1, 2, 3]).is_over_budget());
}

#[test]
fn members_come_and_go() {
    let mut table = polled(&[1, 2]);
    let left =
        table.set_members([endpoint(2), endpoint(3)].into_iter(), at(101), |_| None, &mut || 0);
    assert_eq!(left, [endpoint(1)]);
    let told: Vec<_> = table.publications(at(101)).into_iter().map(|p| p.endpoint).collect();
    assert_eq!(told, [endpoint(2), endpoint(3)]);
    assert_eq!(table.answered(first(1), 9, &answer(GOOD), at(101)), PollOutcome::Late);
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
    heir.set_members([endpoint(1)].into_iter(), at(114), |_| Some(record.clone()), &mut || 0);
    let first = heir.publications(at(114)).remove(0);
    assert_eq!((first.record.state, first.change), (HealthState::Down, None));
    assert_eq!(first.record.state_since, at(110));
}

const TWO: &str = r#","active":[{"path":"/a"},{"path":"/b","interval":"10s","rise":1,"fall":1}]"#;

/// Polls the endpoint on port 1 by the poll at this place.
fn poll_by(
    table: &mut ClusterHealth,
    at_place: usize,
    secs: u64,
    answer: &Answer<'_>,
) -> PollOutcome {
    let due = Due { poll: at_place, ..first(1) };
    table.sent(due, Some(9), at(secs), 0);
    table.answered(due, 9, answer, at(secs))
}

#[test]
fn of_several_polls_the_worst_fresh_one_decides() {
    let mut table = table(TWO, &[1]);
    assert_eq!(due(&mut table, at(100)).len(), 2);
    poll_by(&mut table, 0, 100, &answer(GOOD));
    poll_by(&mut table, 1, 100, &answer(br#"{"status":"degraded"}"#));
    assert_eq!(state(&mut table, 100), "degraded");
    let missing = Answer { status: Some(404), ..answer(b"") };
    assert_eq!(poll_by(&mut table, 1, 105, &missing), PollOutcome::Failed(PollFailure::Status));
    assert_eq!(state(&mut table, 105), "down");
    poll_by(&mut table, 0, 130, &answer(GOOD));
    assert_eq!(state(&mut table, 135), "down", "three of its own intervals are not over");
    assert_eq!(state(&mut table, 136), "healthy");
}

#[test]
fn a_page_of_metrics_feeds_limits_and_the_report_and_its_failures_are_none() {
    let config = r#","active":{"kind":"prometheus","samples":[
            {"name":"queue","as":"queue_depth"},{"name":"busy","as":"cpu_utilization","scale":0.01},
            {"name":"reqs_total","as":"rps"}]},
        "limits":{"queue_depth":{"degraded_above":10,"unready_above":50}}"#;
    let mut table = table(config, &[1]);
    let page = |secs, text: &str, table: &mut ClusterHealth| {
        assert_eq!(poll(table, secs, &answer(text.as_bytes())), PollOutcome::Good);
    };
    page(100, "queue 5\nbusy 70\nreqs_total 100\n", &mut table);
    assert_eq!(state(&mut table, 100), "unknown", "numbers alone are no sign of health");
    page(105, "queue 30\nbusy 70\nreqs_total 600\n", &mut table);
    let record = table.publications(at(105)).remove(0).record;
    let report = record.report.unwrap();
    assert_eq!((record.state, record.queue_depth), (HealthState::Degraded, Some(30)));
    assert_eq!((report.cpu_utilization, report.rps, report.received_at), (0.7, 100.0, at(105)));
    page(110, "queue 900\n", &mut table);
    assert_eq!(state(&mut table, 110), "unready");
    for secs in [115, 120, 125] {
        let failed = poll(&mut table, secs, &Answer { status: Some(504), ..Answer::default() });
        assert_eq!(failed, PollOutcome::Failed(PollFailure::Timeout));
    }
    assert_eq!(state(&mut table, 126), "unknown", "stale and not down");
}

#[test]
fn one_query_tells_of_all_endpoints() {
    let config = r#","active":[{"kind":"prometheus_query","cluster":"prom","query":"x","as":"rif"},
        {"kind":"http"}],"limits":{"rif":{"degraded_above":10}}"#;
    let mut table = table(config, &[1, 2, 3]);
    let all = due(&mut table, at(100));
    let queries: Vec<_> = all.iter().filter(|due| due.endpoint.is_none()).copied().collect();
    assert_eq!((all.len(), queries.len()), (4, 1));
    table.sent(queries[0], Some(7), at(100), 0);
    let value = |port, rif| {
        format!(r#"{{"metric":{{"instance":"127.0.0.1:{port}"}},"value":[1,"{rif}"]}}"#)
    };
    let result = [value(1, 4), value(2, 40)].join(",");
    let body =
        format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{result}]}}}}"#);
    assert_eq!(table.answered(queries[0], 7, &answer(body.as_bytes()), at(100)), PollOutcome::Good);
    assert_eq!(table.answered(queries[0], 7, &answer(body.as_bytes()), at(100)), PollOutcome::Late);
    let told: Vec<_> = table.publications(at(100)).into_iter().map(|p| p.record).collect();
    let rif =
        |record: &EndpointHealth| record.report.as_ref().and_then(|r| r.named("named_metrics.rif"));
    assert_eq!(told.iter().map(rif).collect::<Vec<_>>(), [Some(4.0), Some(40.0), None]);
    assert_eq!(told[1].state, HealthState::Degraded);
    table.sent(queries[0], Some(8), at(105), 0);
    let refused = Answer { status: Some(503), ..Answer::default() };
    let outcome = table.answered(queries[0], 8, &refused, at(105));
    assert_eq!(outcome, PollOutcome::Failed(PollFailure::Connect));
}

#[test]
fn what_an_agent_has_said_holds_until_it_says_otherwise() {
    let mut table = table(r#","active":[{"kind":"agent"},{"kind":"http"}]"#, &[1]);
    let says = |table: &mut ClusterHealth, secs, words: &str| {
        poll_by(table, 1, secs, &answer(b""));
        let outcome = poll_by(table, 0, secs, &answer(words.as_bytes()));
        let record = table.publications(at(secs)).remove(0).record;
        (outcome, record.state.name(), record.weight)
    };
    assert_eq!(says(&mut table, 100, "50%"), (PollOutcome::Good, "healthy", 0.5));
    assert_eq!(says(&mut table, 105, "drain"), (PollOutcome::Good, "unready", 0.5));
    let bad = PollOutcome::Failed(PollFailure::Body);
    assert_eq!(says(&mut table, 110, "hello"), (bad, "unready", 0.5));
    assert_eq!(says(&mut table, 200, "100%"), (PollOutcome::Good, "unready", 1.0));
    assert_eq!(says(&mut table, 205, "ready"), (PollOutcome::Good, "healthy", 1.0));
    assert_eq!(says(&mut table, 210, "down#disk"), (PollOutcome::Good, "down", 1.0));
}

#[test]
fn an_agent_may_speak_in_any_answer_and_in_responses() {
    let mut table = polled(&[1]);
    poll(&mut table, 100, &Answer { agent: Some("maxconn:2 75%"), ..answer(GOOD) });
    let record = table.publications(at(100)).remove(0).record;
    assert_eq!((record.weight, record.max_connections), (0.75, Some(2)));
    let heard = |secs, words: &str| (at(secs), Agent::read(words.as_bytes()).unwrap());
    let evidence = |agent| only(Evidence { agent, ..Evidence::default() });
    table.absorb(evidence(vec![heard(101, "drain")]), at(102));
    assert_eq!(state(&mut table, 102), "unready");
    table.absorb(evidence(vec![heard(101, "drain"), heard(103, "ready")]), at(104));
    assert_eq!(state(&mut table, 104), "healthy");
    table.absorb(evidence(vec![heard(101, "drain"), heard(103, "ready")]), at(105));
    assert_eq!(state(&mut table, 105), "healthy", "what was heard is not heard again");
    let full = Evidence { in_flight: 2, ..Evidence::default() };
    table.absorb(only(full), at(106));
    assert_eq!(state(&mut table, 106), "degraded", "as many as it wants");
}

#[test]
fn an_open_breaker_is_told() {
    let mut table = polled(&[1]);
    poll(&mut table, 100, &answer(GOOD));
    table.set_breaker(endpoint(1), true);
    assert_eq!(state(&mut table, 100), "breaker_open");
    table.set_breaker(endpoint(1), false);
    assert_eq!(state(&mut table, 101), "healthy");
}

#[test]
fn endpoints_are_looked_at_in_turns() {
    let mut table = polled(&[1, 2, 3, 4, 5]);
    let mut turns = |most| table.some_endpoints(most).len();
    assert_eq!([turns(2), turns(2), turns(2), turns(2), turns(9), turns(9)], [2, 2, 1, 2, 3, 5]);
}

#[test]
fn an_endpoint_that_comes_and_goes_is_suppressed_and_the_next_leader_knows() {
    let mut table = polled(&[1]);
    let mut states = Vec::new();
    for (secs, body) in [
        (100, GOOD),
        (101, br#"{"ready":false}"#),
        (102, GOOD),
        (103, br#"{"ready":false}"#),
        (104, GOOD),
    ] {
        poll(&mut table, secs, &answer(body));
        states.push(state(&mut table, secs));
    }
    assert_eq!(states, ["healthy", "unready", "healthy", "unready", "suppressed"]);
    let record = table.publications(at(106)).remove(0).record;
    let mut heir = polled(&[]);
    heir.set_members([endpoint(1)].into_iter(), at(107), |_| Some(record.clone()), &mut || 0);
    assert_eq!(state(&mut heir, 107), "suppressed");
    poll(&mut heir, 140, &answer(GOOD));
    assert_eq!(state(&mut heir, 140), "healthy");
}

#[test]
fn with_a_ramp_recovery_is_told_and_its_end_is_no_new_beginning() {
    let mut table = table(r#","active":{"rise":1},"ramp":"20s""#, &[1]);
    poll(&mut table, 100, &answer(GOOD));
    assert_eq!(state(&mut table, 100), "healthy", "a stranger does not ramp");
    poll(&mut table, 105, &answer(br#"{"ready":false}"#));
    assert_eq!(state(&mut table, 105), "unready");
    for secs in [110, 120, 130] {
        poll(&mut table, secs, &answer(GOOD));
        assert_eq!(state(&mut table, secs), "ramping");
    }
    poll(&mut table, 131, &answer(GOOD));
    let record = table.publications(at(131)).remove(0).record;
    assert_eq!((record.state, record.state_since), (HealthState::Healthy, at(110)));
}

#[test]
fn totals_add_up_what_was_written() {
    let mut table = polled(&[1, 2]);
    let mut evidence = answering(100);
    evidence.get_or_insert_with(endpoint(2), || Evidence {
        in_flight: 5,
        report: Some(LoadReport {
            received_at: at(100),
            cpu_utilization: 0.25,
            ..LoadReport::default()
        }),
        ..Evidence::default()
    });
    table.absorb(evidence, at(100));
    poll(&mut table, 100, &answer(br#"{"queue_depth":3}"#));
    assert_eq!(table.totals(), Totals::default(), "nothing is written yet");
    table.publications(at(100));
    let totals = table.totals();
    assert_eq!((totals.in_flight, totals.queue_depth, totals.utilization), (7, 3, 0.25));
    assert_eq!(totals.states[usize::from(HealthState::Healthy.number())], 2);
}

#[test]
fn reports_on_a_stream_are_as_good_as_those_in_responses_and_the_newest_counts() {
    let mut table = table(r#","orca":{"oob_reporting_period":"10s"}"#, &[1, 2]);
    assert_eq!(table.streams_due(9, at(100)), [endpoint(1), endpoint(2)]);
    table.stream_opened(endpoint(1), Some(7), at(100), 0);
    table.stream_opened(endpoint(2), None, at(100), 0);
    assert_eq!((table.stream_endpoint(7), table.stream_endpoint(8)), (Some(endpoint(1)), None));
    let report = |secs, rps| LoadReport { received_at: at(secs), rps, ..LoadReport::default() };
    table.stream_said(endpoint(1), report(105, 3.0), at(105));
    table.absorb(EndpointMap::default(), at(105));
    let rps = |table: &mut ClusterHealth, secs| {
        let record = table.publications(at(secs)).into_iter().find(|p| p.endpoint == endpoint(1));
        let record = record.unwrap().record;
        (record.state.name(), record.report.map(|report| report.rps))
    };
    assert_eq!(rps(&mut table, 105), ("healthy", Some(3.0)));
    let newer = Evidence { report: Some(report(110, 4.0)), ..Evidence::default() };
    table.absorb(only(newer.clone()), at(110));
    assert_eq!(rps(&mut table, 110), ("healthy", Some(4.0)));
    table.stream_said(endpoint(1), report(115, 5.0), at(115));
    table.absorb(only(newer), at(115));
    assert_eq!(rps(&mut table, 115), ("healthy", Some(5.0)));
}

#[test]
fn a_stream_that_is_silent_or_whose_endpoint_left_is_ended() {
    let mut table = table(r#","orca":{"oob_reporting_period":"10s"}"#, &[1, 2]);
    table.stream_opened(endpoint(1), Some(7), at(100), 0);
    table.stream_opened(endpoint(2), Some(8), at(100), 0);
    assert_eq!(table.streams(), [7, 8]);
    assert_eq!(table.totals().streams, 2);
    table.set_members([endpoint(2)].into_iter(), at(101), |_| None, &mut || 0);
    assert_eq!(table.dead_streams(at(101), &mut || 0), [7]);
    assert!(table.dead_streams(at(130), &mut || 0).is_empty());
    assert_eq!(table.dead_streams(at(131), &mut || 0), [8]);
    assert_eq!(table.streams_due(9, at(132)), [endpoint(2)]);
    assert!(table.stream_ended(endpoint(2), Some(12), at(133), 0), "unimplemented");
    assert_eq!(table.streams_due(9, at(999)), []);
}
