//! The answer of Consul's health API: `/v1/health/service/<name>?passing`.
//!
//! ```json
//! [{"Node": {"Address": "10.0.0.1"},
//!   "Service": {"Address": "", "Port": 8080, "Tags": ["version=v2"], "Meta": {"zone": "a"},
//!               "Weights": {"Passing": 2, "Warning": 1}},
//!   "Checks": [{"Status": "passing"}]}]
//! ```
//!
//! An entry with a critical check is left out, whether or not the question said `passing`. One with
//! a warning has the weight that it has for that.

use crate::Label;
use plugin_config::Value;
use shared_state::{Listed, zone_id};

/// Deepest nesting of an answer. Consul's own is five.
const MAX_DEPTH: usize = 16;

/// Longest metadata are Consul's own affair; a weight beyond this is a slip.
const MAX_WEIGHT: f64 = 65_535.0;

/// One entry each, `None` for one that names no usable endpoint. `None` for what is no such answer.
pub(super) fn read(body: &[u8], canary: Option<&Label>) -> Option<Vec<Option<Listed>>> {
    let document = Value::from_json_within(body, MAX_DEPTH)?;
    let Value::Array(entries) = &document else { return None };
    // A service that nobody knows is an empty list, and that is an answer.
    let is_one = |entry: &Value| entry.get("Service").is_some();
    if !entries.iter().all(is_one) {
        return None;
    }
    let entries = entries.iter().filter(|entry| status(entry) != Status::Critical);
    Some(entries.map(|entry| listed(entry, canary)).collect())
}

fn listed(entry: &Value, canary: Option<&Label>) -> Option<Listed> {
    let (node, service) = (entry.get("Node"), entry.get("Service")?);
    let text = |place: Option<&Value>, name: &str| {
        let found = place?.get(name)?.as_str()?;
        (!found.is_empty()).then(|| found.to_owned())
    };
    let ip = text(Some(service), "Address").or_else(|| text(node, "Address"))?.parse().ok()?;
    let port = service.get("Port")?.as_f64().filter(|port| (1.0..=65_535.0).contains(port))?;
    let endpoint = shared_state::Endpoint::new(core::net::SocketAddr::new(ip, port as u16));
    let meta =
        |name: &str| text(service.get("Meta"), name).or_else(|| text(node?.get("Meta"), name));
    let zone = text(service.get("Locality"), "Zone")
        .or_else(|| text(node?.get("Locality"), "Zone"))
        .or_else(|| meta("zone"));
    Some(Listed {
        weight: weight(service, status(entry)),
        priority: meta("priority").and_then(|text| text.parse().ok()).unwrap_or(0),
        zone: zone_id(zone.as_deref().unwrap_or("")),
        is_canary: canary.is_some_and(|label| has(service, label)),
        ..Listed::new(endpoint)
    })
}

fn has(service: &Value, label: &Label) -> bool {
    let tags = service.get("Tags").map(Value::items).unwrap_or_default();
    let meta = service.get("Meta").map(Value::entries).unwrap_or_default();
    tags.iter().filter_map(Value::as_str).any(|tag| label.is_tag(tag))
        || meta.iter().any(|(name, value)| label.is(name, value.as_str().unwrap_or("")))
}

fn weight(service: &Value, status: Status) -> u16 {
    let name = if status == Status::Warning { "Warning" } else { "Passing" };
    let weight = service.get("Weights").and_then(|weights| weights.get(name)?.as_f64());
    weight.unwrap_or(1.0).clamp(1.0, MAX_WEIGHT) as u16
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    Passing,
    Warning,
    Critical,
}

/// The worst of its checks.
fn status(entry: &Value) -> Status {
    let checks = entry.get("Checks").map(Value::items).unwrap_or_default();
    let said = |status: &str| {
        checks.iter().any(|check| check.get("Status").and_then(Value::as_str) == Some(status))
    };
    if said("critical") || said("maintenance") {
        Status::Critical
    } else if said("warning") {
        Status::Warning
    } else {
        Status::Passing
    }
}
