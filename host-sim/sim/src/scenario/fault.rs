//! Faults in the host's place.

use crate::fault::{self, Effect, Fault, Point, Thread};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

/// The n-th call of a plugin goes wrong. One of `hostcall` and `trap` is needed.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FaultSpec {
    /// A hostcall, such as `proxy_set_shared_data`, or `any`.
    #[schemars(schema_with = "hostcall_schema")]
    pub hostcall: Option<String>,
    /// What the hostcall answers: a status such as `cas_mismatch`, and the host does nothing; or
    /// `trap`.
    #[schemars(schema_with = "answer_schema")]
    pub answer: Option<String>,
    /// Count only hostcalls within this callback.
    #[schemars(schema_with = "callback_schema")]
    pub within: Option<String>,
    /// A callback, such as `proxy_on_request_headers`, that traps.
    #[schemars(schema_with = "callback_schema")]
    pub trap: Option<String>,
    /// Only of this plugin. Default any.
    pub plugin: Option<String>,
    /// Only on this worker, from 0; or `main`. Default any.
    #[schemars(schema_with = "worker_schema")]
    pub worker: Option<serde_json::Value>,
    /// Which call, from 1. Default 1.
    pub nth: Option<u64>,
    /// How many from there on. Default 1.
    pub times: Option<u64>,
}

/// Every status a fault can answer, and `trap`.
fn answers() -> impl Iterator<Item = &'static str> {
    fault::STATUSES.iter().map(|(name, _)| *name).chain(["trap"])
}

fn answer_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": ["string", "null"], "enum": answers().collect::<Vec<_>>()})
}

fn hostcall_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": ["string", "null"], "format": "hostcall"})
}

fn callback_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": ["string", "null"], "format": "callback"})
}

fn worker_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": ["integer", "string", "null"], "format": "worker"})
}

impl FaultSpec {
    /// # Errors
    /// When the fields do not fit together.
    pub(crate) fn fault(&self) -> Result<Fault, String> {
        let (point, effect) = match (&self.hostcall, &self.trap) {
            (Some(hostcall), None) => {
                let name = Some(hostcall.clone()).filter(|name| name != "any");
                let effect = match self.answer.as_deref() {
                    None => return Err("`hostcall` needs an `answer`".to_owned()),
                    Some("trap") => Effect::Trap,
                    Some(name) => Effect::Answer(
                        fault::status_named(name).ok_or_else(|| format!("no status '{name}'"))?,
                    ),
                };
                (Point::Hostcall { name, within: self.within.clone() }, effect)
            }
            (None, Some(callback)) if self.answer.is_none() && self.within.is_none() => {
                (Point::Callback(callback.clone()), Effect::Trap)
            }
            (None, Some(_)) => return Err("`trap` takes no `answer` and no `within`".to_owned()),
            _ => return Err("a fault needs one of `hostcall` and `trap`".to_owned()),
        };
        let thread = self.worker.as_ref().and_then(|worker| match worker.as_u64() {
            Some(worker) => Some(Thread::Worker(u32::try_from(worker).unwrap_or(u32::MAX))),
            None => worker.as_str().map(|_| Thread::Main),
        });
        Ok(Fault {
            plugin: self.plugin.clone(),
            thread,
            point,
            nth: self.nth.unwrap_or(1),
            times: self.times.unwrap_or(1),
            effect,
        })
    }
}
