//! The switches over HTTP: `POST /rig/<command>?<parameters>` on the endpoint's own port.
//!
//! | command | parameters (default) | does |
//! |---|---|---|
//! | `fail` | `status` (503), `after` (0s), `fraction` (1), `on` | answers with the status, no slot taken |
//! | `hang` | `on` | never answers |
//! | `reset` | `when` (before \| after headers), `on` | resets the connection |
//! | `slow` | `factor` (2) | multiplies service times |
//! | `cold` | `factor` (4), `for` (5s) | the same for a while |
//! | `ready` | `value` (true) | readiness in `/healthz` |
//! | `degraded` | `value` (true) | status in `/healthz` |
//! | `freeze` | `value` (true) | repeats the timestamp in `/healthz` |
//! | `grpc` | `status` (absent: off) | trailers-only answers to gRPC requests |
//! | `report` | `format` (text) | encoding of the load report |
//! | `kill` | `for` (absent: for good), `factor`, `cold_for` (0s) | closes the listener and all connections, then revives |
//! | `recover` | | undoes all of the above but `kill` |
//!
//! `on` is `work` (default), `health` or `all`. `GET /rig` shows counters and switches,
//! `GET /rig/requests` the last requests received.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use tokio::time::{Instant, sleep};

use super::Shared;
use super::body::AnswerBody;
use super::switches::{Cold, Fault, Switches};
use crate::sync::lock;
use crate::{duration, rfc3339};

const COMMANDS: &str =
    "fail, hang, reset, slow, cold, ready, degraded, freeze, grpc, report, kill, recover";

/// Answers a request to `/rig` or below.
pub(super) fn answer(shared: &Arc<Shared>, head: &Parts) -> Response<AnswerBody> {
    let command = head.uri.path().trim_start_matches("/rig").trim_start_matches('/');
    let outcome = match (&head.method, command) {
        (&Method::GET, "") => Ok(state(shared)),
        (&Method::GET, "requests") => {
            let requests = lock(&shared.ledger).requests();
            Ok(serde_json::json!(requests))
        }
        (&Method::POST, _) => Parameters::parse(head.uri.query().unwrap_or_default())
            .and_then(|parameters| apply(shared, command, parameters))
            .map(|()| state(shared)),
        _ => Err(format!("GET /rig, GET /rig/requests, or POST one of: {COMMANDS}")),
    };
    let (status, body) = match outcome {
        Ok(json) => (StatusCode::OK, json),
        Err(message) => (StatusCode::BAD_REQUEST, serde_json::json!({ "error": message })),
    };
    let mut response = Response::new(AnswerBody::whole(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn state(shared: &Shared) -> serde_json::Value {
    let load = shared.slots.load();
    serde_json::json!({
        "endpoint": shared.name,
        "counters": lock(&shared.ledger).counters,
        "slots": { "count": shared.slots.count(), "busy": load.busy, "waiting": load.waiting },
        "switches": lock(&shared.switches).view(Instant::now()),
    })
}

fn apply(shared: &Arc<Shared>, command: &str, mut given: Parameters) -> Result<(), String> {
    let mut next = lock(&shared.switches).clone();
    let mut kill = None;
    match command {
        "fail" | "hang" | "reset" => {
            let on = given.take("on", "work".to_owned())?;
            let fault = fault(command, &mut given)?;
            set_fault(&mut next, &on, fault)?;
        }
        "slow" => next.slow_factor = factor(&mut given, 2.0)?,
        "cold" => {
            let factor = factor(&mut given, 4.0)?;
            let duration = given.take_duration("for", Duration::from_secs(5))?;
            next.cold = Some((factor, Instant::now() + duration));
        }
        "ready" => next.ready = given.take("value", true)?,
        "degraded" => next.degraded = given.take("value", true)?,
        "freeze" => {
            let freeze = given.take("value", true)?;
            next.frozen_timestamp = freeze.then(|| rfc3339::format(SystemTime::now()));
        }
        "grpc" => next.grpc_status = given.take_optional("status")?,
        "report" => next.report_format = given.take("format", Default::default())?,
        "recover" => next = Switches::healthy(next.report_format),
        "kill" => kill = Some(Kill::read(&mut given)?),
        _ => return Err(format!("no command {command:?}: write one of {COMMANDS}")),
    }
    given.finish()?;
    *lock(&shared.switches) = next;
    if let Some(kill) = kill {
        tokio::spawn(kill.perform(Arc::clone(shared)));
    }
    Ok(())
}

fn fault(command: &str, given: &mut Parameters) -> Result<Fault, String> {
    match command {
        "hang" => Ok(Fault::Hang),
        "reset" => match given.take("when", "before".to_owned())?.as_str() {
            "before" => Ok(Fault::ResetBeforeHeaders),
            "after" => Ok(Fault::ResetAfterHeaders),
            other => Err(format!("when={other}: write before or after (the headers)")),
        },
        _ => {
            let status = given.take("status", 503)?;
            if !(200..=999).contains(&status) {
                return Err(format!("status={status}: write a final HTTP status, 200 or above"));
            }
            let after = given.take_duration("after", Duration::ZERO)?;
            let fraction = given.take("fraction", 1.0)?;
            if !(0.0..=1.0).contains(&fraction) {
                return Err(format!("fraction={fraction}: write a number from 0 to 1"));
            }
            Ok(Fault::Respond { status, after, fraction })
        }
    }
}

fn set_fault(switches: &mut Switches, on: &str, fault: Fault) -> Result<(), String> {
    match on {
        "work" => switches.work = fault,
        "health" => switches.health = fault,
        "all" => {
            switches.work = fault.clone();
            switches.health = fault;
        }
        _ => return Err(format!("on={on}: write work, health or all")),
    }
    Ok(())
}

fn factor(given: &mut Parameters, default: f64) -> Result<f64, String> {
    let factor = given.take("factor", default)?;
    if (0.0..=1e6).contains(&factor) {
        Ok(factor)
    } else {
        Err(format!("factor={factor}: write a number from 0 to 1000000"))
    }
}

struct Kill {
    dead_for: Option<Duration>,
    cold: Option<Cold>,
}

impl Kill {
    fn read(given: &mut Parameters) -> Result<Self, String> {
        let dead_for = match given.0.remove("for") {
            Some(text) => Some(duration::parse(&text)?),
            None => None,
        };
        let factor = factor(given, 1.0)?;
        let duration = given.take_duration("cold_for", Duration::ZERO)?;
        Ok(Self { dead_for, cold: (!duration.is_zero()).then_some(Cold { factor, duration }) })
    }

    async fn perform(self, shared: Arc<Shared>) {
        if let Err(error) = shared.kill().await {
            log::error!("{}: kill: {error}", shared.name);
        }
        let Some(dead_for) = self.dead_for else { return };
        sleep(dead_for).await;
        if let Err(error) = shared.revive(self.cold).await {
            log::error!("{}: revive: {error}", shared.name);
        }
    }
}

/// Query parameters, taken one by one so that what is left over is an error.
struct Parameters(BTreeMap<String, String>);

impl Parameters {
    fn parse(query: &str) -> Result<Self, String> {
        let pair = |part: &str| {
            let (name, value) = part.split_once('=').ok_or(format!("{part}: write name=value"))?;
            Ok((name.to_owned(), value.to_owned()))
        };
        query
            .split('&')
            .filter(|part| !part.is_empty())
            .map(pair)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    fn take_optional<T: FromStr>(&mut self, name: &str) -> Result<Option<T>, String> {
        let Some(text) = self.0.remove(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| format!("{name}={text} does not fit"))
    }

    fn take<T: FromStr>(&mut self, name: &str, default: T) -> Result<T, String> {
        Ok(self.take_optional(name)?.unwrap_or(default))
    }

    fn take_duration(&mut self, name: &str, default: Duration) -> Result<Duration, String> {
        self.0.remove(name).map_or(Ok(default), |text| duration::parse(&text))
    }

    fn finish(self) -> Result<(), String> {
        match self.0.keys().next() {
            Some(name) => Err(format!("no parameter {name:?} here")),
            None => Ok(()),
        }
    }
}
