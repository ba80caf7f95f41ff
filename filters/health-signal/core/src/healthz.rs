//! The composite health answer: a status, and a JSON document with what the endpoint says of
//! itself.
//!
//! ```json
//! {"status": "healthy", "ready": true, "queue_depth": 3, "connections": 41,
//!  "timestamp": "2026-01-05T10:00:00Z"}
//! ```
//!
//! The HTTP status decides first. One that is not expected is a failed poll, with one exception:
//! many servers answer 503 while they drain or are degraded, so that simpler checks see it too, and
//! say so in the body. A 503 whose document gives such a reason is read for what it says; a 503 with
//! any other body is a failure.
//!
//! Then `ready: false` means that the endpoint drains, which is no failure. Then the word in
//! `status` is looked up; a word that is not in the map leaves what the HTTP status said. A field
//! that is absent or of another type says nothing.

use crate::active::Said;
use crate::config::{Active, Extract, PollKind, ReportedState};
use crate::{MAX_BODY_BYTES, PollFailure};
use plugin_config::Value;

/// What a server answers that drains or is degraded, and has read how health checks work.
const SERVICE_UNAVAILABLE: u16 = 503;

/// Longest timestamp that is compared, in bytes.
const MAX_TIMESTAMP_BYTES: usize = 64;

/// Reads an answer of the endpoint that was asked.
pub fn read(config: &Active, status: u16, body: &[u8]) -> Result<Said, PollFailure> {
    let expected = config.expect_statuses.contains(status);
    if !expected && (status != SERVICE_UNAVAILABLE || config.kind == PollKind::Http) {
        return Err(PollFailure::Status);
    }
    let document = match config.kind {
        PollKind::Http => Value::Null,
        _ => parse(body).map_err(|failure| if expected { failure } else { PollFailure::Status })?,
    };
    let state = state(config, &document);
    match state {
        ReportedState::Down => return Err(PollFailure::Unhealthy),
        ReportedState::Healthy if !expected => return Err(PollFailure::Status),
        // Who drains says so at once, and need not look well besides.
        ReportedState::Unready => {}
        _ if !is_as_expected(config, &document) => return Err(PollFailure::Unexpected),
        _ => {}
    }
    let Extract { signals, timestamp, .. } = &config.extract;
    let number = |(signal, pointer): &(_, String)| {
        let number = document.pointer(pointer).and_then(Value::as_f64)?;
        // Below zero nothing waits and nothing is in use.
        Some((*signal, number.max(0.0)))
    };
    Ok(Said {
        state: Some(state),
        signals: signals.iter().filter_map(number).collect(),
        timestamp: stamp(&document, timestamp),
    })
}

/// Whether all that must be there is there. A number is equal to a number, whole or not.
fn is_as_expected(config: &Active, document: &Value) -> bool {
    config.expect_json.iter().all(|(pointer, wanted)| {
        let found = document.pointer(pointer);
        match (found.and_then(Value::as_f64), wanted.as_f64()) {
            (Some(found), Some(wanted)) => found == wanted,
            _ => found == Some(wanted),
        }
    })
}

fn parse(body: &[u8]) -> Result<Value, PollFailure> {
    if body.len() > MAX_BODY_BYTES {
        return Err(PollFailure::Body);
    }
    match Value::from_json(body) {
        Some(document @ Value::Object(_)) => Ok(document),
        _ => Err(PollFailure::Body),
    }
}

fn state(config: &Active, document: &Value) -> ReportedState {
    let word = document.pointer(&config.extract.status).and_then(Value::as_str);
    let mapped = word.map(str::to_ascii_lowercase).and_then(|word| {
        config.status_map.iter().find_map(|(other, state)| (*other == word).then_some(*state))
    });
    let ready = document.pointer(&config.extract.ready).and_then(Value::as_bool);
    match mapped {
        Some(ReportedState::Down) => ReportedState::Down,
        _ if ready == Some(false) => ReportedState::Unready,
        Some(state) => state,
        None => ReportedState::Healthy,
    }
}

fn stamp(document: &Value, pointer: &str) -> Option<String> {
    let text = match document.pointer(pointer)? {
        Value::String(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        // It is compared and never shown.
        Value::Number(number) => number.to_bits().to_string(),
        _ => return None,
    };
    (text.len() <= MAX_TIMESTAMP_BYTES).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Signal};
    use proptest::prelude::*;

    fn active(json: &str) -> Active {
        let config = format!(r#"{{"clusters":[{{"name":"backend","active":{json}}}]}}"#);
        let config = Config::from_json(config.as_bytes()).unwrap().value;
        config.clusters[0].active[0].clone()
    }

    fn reads(json: &str) -> Result<Said, PollFailure> {
        read(&active("{}"), 200, json.as_bytes())
    }

    fn says(json: &str) -> Result<ReportedState, PollFailure> {
        reads(json).map(|said| said.state.unwrap())
    }

    #[test]
    fn a_full_answer_is_read() {
        let json = r#"{"status":"degraded","timestamp":"2026-01-05T10:00:00Z","connections":41,
            "queue_depth":3.0,"ready":true,"something":"else"}"#;
        let healthz = reads(json).unwrap();
        assert_eq!(
            healthz,
            Said {
                state: Some(ReportedState::Degraded),
                signals: vec![(Signal::QueueDepth, 3.0), (Signal::Connections, 41.0)],
                timestamp: Some("2026-01-05T10:00:00Z".into()),
            }
        );
    }

    #[test]
    fn the_http_status_decides_before_the_body() {
        let good = br#"{"status":"healthy","ready":true}"#;
        assert_eq!(read(&active("{}"), 503, good), Err(PollFailure::Status));
        let lenient = active(r#"{"expect_statuses":["200-299","503"]}"#);
        let drains = br#"{"status":"healthy","ready":false}"#;
        assert_eq!(read(&lenient, 503, drains).unwrap().state.unwrap(), ReportedState::Unready);
    }

    #[test]
    fn a_503_with_a_reason_is_read_for_what_it_says() {
        let says =
            |body: &str| read(&active("{}"), 503, body.as_bytes()).map(|said| said.state.unwrap());
        assert_eq!(says(r#"{"status":"healthy","ready":false}"#), Ok(ReportedState::Unready));
        assert_eq!(says(r#"{"status":"degraded","ready":true}"#), Ok(ReportedState::Degraded));
        assert_eq!(says(r#"{"status":"unhealthy"}"#), Err(PollFailure::Unhealthy));
        assert_eq!(says("upstream connect error"), Err(PollFailure::Status));
        let other = read(&active("{}"), 500, br#"{"ready":false}"#);
        assert_eq!(other, Err(PollFailure::Status));
    }

    #[test]
    fn not_ready_drains_and_is_no_failure() {
        assert_eq!(says(r#"{"status":"healthy","ready":false}"#), Ok(ReportedState::Unready));
        assert_eq!(says(r#"{"status":"unhealthy","ready":false}"#), Err(PollFailure::Unhealthy));
    }

    #[test]
    fn words_are_mapped_in_any_case_and_a_stranger_says_nothing() {
        assert_eq!(says(r#"{"status":"Degraded"}"#), Ok(ReportedState::Degraded));
        assert_eq!(says(r#"{"status":"splendid"}"#), Ok(ReportedState::Healthy));
        assert_eq!(says("{}"), Ok(ReportedState::Healthy));
    }

    #[test]
    fn a_field_of_another_type_says_nothing() {
        let healthz = reads(r#"{"ready":"no","queue_depth":"7","connections":-1,"status":5}"#);
        let healthz = healthz.unwrap();
        assert_eq!(healthz.state, Some(ReportedState::Healthy));
        assert_eq!(healthz.signals, [(Signal::Connections, 0.0)]);
    }

    #[test]
    fn what_is_no_document_is_a_failed_poll() {
        let large = format!(r#"{{"x":"{}"}}"#, "y".repeat(MAX_BODY_BYTES));
        let deep = format!("{{\"x\":{}{}}}", "[".repeat(1000), "]".repeat(1000));
        for body in ["", "OK", "[]", "null", "{", &large, &deep] {
            assert_eq!(says(body), Err(PollFailure::Body));
        }
    }

    #[test]
    fn a_poll_for_the_status_alone_reads_no_body() {
        let http = active(r#"{"kind":"http"}"#);
        assert_eq!(read(&http, 204, b"OK").unwrap().state.unwrap(), ReportedState::Healthy);
    }

    #[test]
    fn pointers_reach_nested_fields() {
        let nested = active(
            r#"{"extract":{"queue_depth":"/queue/0/depth","cpu_utilization":"/a~1b","custom.x":"/x"}}"#,
        );
        let healthz = read(&nested, 200, br#"{"queue":[{"depth":9}],"a/b":0.5,"x":2}"#).unwrap();
        let custom = Signal::named("custom.x").unwrap();
        let expected = [(Signal::QueueDepth, 9.0), (Signal::CpuUtilization, 0.5), (custom, 2.0)];
        assert_eq!(healthz.signals, expected);
    }

    #[test]
    fn what_must_be_there_is_looked_for_unless_the_endpoint_drains() {
        let strict = active(r#"{"expect_json":{"/db":"up","/replicas":3,"/ok":true}}"#);
        let says = |body: &str| read(&strict, 200, body.as_bytes()).map(|said| said.state.unwrap());
        assert_eq!(says(r#"{"db":"up","replicas":3.0,"ok":true}"#), Ok(ReportedState::Healthy));
        for body in [
            "{}",
            r#"{"db":"down","replicas":3,"ok":true}"#,
            r#"{"db":"up","replicas":3,"ok":"true"}"#,
        ] {
            assert_eq!(says(body), Err(PollFailure::Unexpected), "{body}");
        }
        assert_eq!(says(r#"{"ready":false}"#), Ok(ReportedState::Unready));
    }

    proptest! {
        #[test]
        fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..300), status: u16) {
            let _ = read(&active("{}"), status, &body);
        }
    }
}
