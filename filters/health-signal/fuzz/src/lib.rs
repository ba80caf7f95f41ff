//! What the fuzzers do with their input: each function takes any bytes, and may not panic.

use health_signal_core::config::Active;
use health_signal_core::prometheus::Before;
use health_signal_core::{Agent, Config, Signal, healthz, orca, prometheus, query};
use shared_state::{Endpoint, EndpointHealth, LoadReport, UnixNanos, decode, encode};
use std::time::Duration;

const NOW: UnixNanos = UnixNanos::from_secs(1_395_066_363);
const OLD: Duration = Duration::from_secs(60);

/// A load report, in each of its forms.
pub fn orca(input: &[u8]) {
    let Some((form, rest)) = input.split_first() else { return };
    let text = String::from_utf8_lossy(rest);
    let strict = form & 1 == 1;
    let parsed = match form >> 1 & 3 {
        0 => orca::parse(None, Some(&text), strict, NOW),
        1 => orca::parse(Some(&text), None, strict, NOW),
        2 => Some(orca::parse_message(rest, strict, NOW)),
        _ => orca::parse(None, Some(&format!("TEXT {text}")), strict, NOW),
    };
    if let Some(Ok(accepted)) = parsed {
        fits(accepted.report);
    }
}

/// Two pages of metrics, one after the other.
pub fn prometheus(input: &[u8]) {
    let active = active(
        r#"{"kind":"prometheus","samples":[
            {"name":"queue","labels":{"kind":"work"},"labels_not":{"lane":"slow"},"as":"queue_depth"},
            {"name":"reqs_total","as":"rps"},{"name":"busy","type":"gauge","as":"cpu_utilization"},
            {"name":"took","quantile":0.9,"as":"custom.p90"}]}"#,
    );
    let mut before = Before::default();
    let text = String::from_utf8_lossy(input);
    for (nth, page) in text.split("\n---\n").take(2).enumerate() {
        let now = NOW.plus(Duration::from_secs(nth as u64 * 5));
        let read = prometheus::read(page.as_bytes(), &active.samples, &mut before, OLD, now);
        taken(read.unwrap_or_default());
    }
    let _ = prometheus::read(input, &active.samples, &mut before, OLD, NOW);
}

/// A line of an agent.
pub fn agent(input: &[u8]) {
    if let Some(agent) = Agent::read(input) {
        assert_eq!(Agent::unpack(agent.pack()), agent);
        assert!(agent.weight.is_none_or(|weight| weight <= 256));
    }
}

/// A health page.
pub fn health_page(input: &[u8]) {
    let active = active(
        r#"{"expect_json":{"/a/0":true},"extract":{"rif":"/a/1/b~1c","custom.x":"/~0","eps":"/"}}"#,
    );
    for status in [200, 503, 404] {
        if let Ok(said) = healthz::read(&active, status, input) {
            taken(said.signals);
        }
    }
}

/// The answer to a query.
pub fn query(input: &[u8]) {
    if let Ok(values) = query::read(200, input, "instance") {
        let endpoint = Endpoint::new(([127, 0, 0, 1], 80).into());
        taken(values.of(&[endpoint]).into_iter().map(|(_, value)| (Signal::Rif, value)).collect());
    }
}

fn active(json: &str) -> Active {
    let json = format!(r#"{{"clusters":[{{"name":"backend","active":{json}}}]}}"#);
    let config = Config::from_json(json.as_bytes()).expect("the text above is a configuration");
    config.value.clusters[0].active[0].clone()
}

/// Whatever was read goes into a report.
fn taken(signals: Vec<(Signal, f64)>) {
    let mut report = LoadReport::default();
    for (signal, value) in signals {
        // As the leader has it: what is no number or below zero is none.
        if value.is_finite() && value >= 0.0 {
            signal.report(value, &mut report);
        }
    }
    fits(report);
}

fn fits(report: LoadReport) {
    let record = EndpointHealth { report: Some(report), ..EndpointHealth::default() };
    assert_eq!(decode(&encode(&record)), Ok(record));
}
