//! How often an endpoint is polled, and how long a poll may take.

use super::*;

#[test]
fn requests_that_work_spare_polls_for_five_intervals() {
    let mut table = table(r#","active":{"skip_if_fresh":true,"jitter_percent":0}"#, &[1]);
    let mut sent_at = Vec::new();
    for secs in 100..160 {
        table.absorb(answering(secs), at(secs));
        for due in due(&mut table, at(secs)) {
            table.sent(due, Some(1), at(secs), 0);
            table.answered(due, 1, &answer(GOOD), at(secs));
            sent_at.push(secs);
        }
        assert_eq!(state(&mut table, secs), "healthy");
    }
    // Postponed until five intervals are over, then at its next turn.
    assert_eq!(sent_at, [100, 130]);
    // Without requests it is polled as usual.
    let quiet: Vec<_> = (160..180).filter(|secs| !due(&mut table, at(*secs)).is_empty()).collect();
    assert_eq!(quiet.first(), Some(&160));
}

#[test]
fn a_failing_endpoint_is_polled_however_many_requests_work() {
    let mut table = table(r#","active":{"skip_if_fresh":true,"jitter_percent":0,"fall":1}"#, &[1]);
    let mut sent = 0;
    for secs in 100..130 {
        table.absorb(answering(secs), at(secs));
        for due in due(&mut table, at(secs)) {
            table.sent(due, Some(1), at(secs), 0);
            table.answered(due, 1, &Answer { status: Some(404), ..answer(b"") }, at(secs));
            sent += 1;
        }
    }
    assert_eq!(sent, 6);
}

#[test]
fn a_cluster_without_traffic_is_polled_less_and_with_its_return_at_once_as_usual() {
    let config = r#","active":{"no_traffic_interval":"60s","jitter_percent":0}"#;
    let mut table = table(config, &[1]);
    let mut sent_at = Vec::new();
    for secs in 100..320 {
        if secs >= 290 {
            table.absorb(answering(secs), at(secs));
        }
        for due in due(&mut table, at(secs)) {
            table.sent(due, Some(1), at(secs), 0);
            table.answered(due, 1, &answer(GOOD), at(secs));
            sent_at.push(secs);
        }
        assert_eq!(state(&mut table, secs), "healthy", "not stale between two such polls");
    }
    assert_eq!(sent_at, [100, 160, 220, 280, 290, 295, 300, 305, 310, 315]);
}

#[test]
fn the_timeout_of_a_poll_follows_the_endpoints_answers() {
    let mut table = table(r#","active":{"min_timeout":"0.1s","timeout":"2s"}"#, &[1]);
    for secs in (100..150).step_by(5) {
        let due = due(&mut table, at(secs))[0];
        table.sent(due, Some(1), at(secs), 0);
        let soon = at(secs).plus(Duration::from_millis(4));
        table.answered(due, 1, &answer(GOOD), soon);
    }
    let quick = due(&mut table, at(150))[0];
    assert_eq!(quick.timeout, Duration::from_millis(100));
    table.sent(quick, Some(1), at(150), 0);
    table.answered(quick, 1, &Answer { status: Some(504), ..Answer::default() }, at(151));
    assert_eq!(due(&mut table, at(155))[0].timeout, Duration::from_secs(2));
}
