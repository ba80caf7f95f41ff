//! Metrics: ids, kinds, names without bound, and who counts.

use crate::lint::call::quoted;
use crate::lint::scene::{Hit, Scene, Seen, Vm};
use host_sim_abi::{MetricType, Status};

/// So many names with clients' values in them are no accident.
const CLIENT_NAMES: usize = 3;

/// So many names made by stream callbacks have no bound.
const STREAM_NAMES: usize = 64;

/// So often a worker has come back to its own value after another one's.
const OWN_VALUES: u64 = 8;

pub(super) fn check(seen: &Seen<'_>, scene: &mut Scene<'_>, hits: &mut Vec<Hit>) {
    if seen.name() == "define_metric" {
        return define(seen, scene, hits);
    }
    let id = seen.number(0);
    // The low two bits of an id are its kind.
    let kind = MetricType::from_raw(id & 3);
    let name = name_of(scene.vm, id).map_or_else(|| id.to_string(), quoted);
    if seen.is(Status::NotFound) {
        let message = format!("this VM has no metric with the id {id}");
        return hits.push(Hit::new("unknown-metric", "", message));
    }
    if seen.is(Status::BadArgument) {
        match kind {
            Some(MetricType::Histogram) => {
                let message = format!("histogram {name} is asked for a value, or incremented");
                hits.push(Hit::new("histogram-value", name, message));
            }
            Some(MetricType::Counter) => {
                let message = format!("counter {name} is incremented by less than 1");
                hits.push(Hit::new("counter-not-positive", name, message));
            }
            _ => {}
        }
        return;
    }
    if !seen.is_ok() {
        return;
    }
    match (seen.name(), kind) {
        ("increment_metric" | "record_metric", Some(MetricType::Counter)) if seen.in_start() => {
            let message = format!("counter {name} is incremented in {}", seen.callback);
            hits.push(Hit::new("counter-in-configure", name, message));
        }
        ("record_metric", Some(MetricType::Gauge)) => gauge(seen, scene, id, name, hits),
        _ => {}
    }
}

fn define(seen: &Seen<'_>, scene: &mut Scene<'_>, hits: &mut Vec<Hit>) {
    let (kind, name) = (seen.number(0), seen.bytes(1));
    let shown = quoted(name);
    if seen.is(Status::BadArgument) {
        let message = format!("there is no kind {kind} of metrics");
        return hits.push(Hit::new("unknown-enum-value", seen.call.name, message));
    }
    let Some(id) = seen.out(3).filter(|_| seen.is_ok()) else { return };
    let before = scene.vm.metrics.insert((kind, name.to_vec()), id);
    // A new VM begins with the ids of the last one.
    if before.is_some_and(|before| before < id) && seen.in_stream_callback() {
        let message = format!("metric {shown} is defined again in {}", seen.callback);
        hits.push(Hit::new("metric-redefined", "", message));
    }
    if !seen.in_stream_callback() {
        return;
    }
    let plugin = &mut *scene.plugin;
    if let Some(value) = scene.stream.client_value_in(name) {
        plugin.client_metrics.insert(name.to_vec());
        if plugin.client_metrics.len() == CLIENT_NAMES {
            let value = quoted(value);
            let message = format!("names contain what clients send: {shown} contains {value}");
            return hits.push(Hit::new("unbounded-metrics", "", message));
        }
    }
    if plugin.client_metrics.len() < CLIENT_NAMES && plugin.stream_metrics.len() < STREAM_NAMES {
        plugin.stream_metrics.insert(name.to_vec());
        if plugin.stream_metrics.len() == STREAM_NAMES {
            let message = format!("streams have defined {STREAM_NAMES} metrics, {shown} the last");
            hits.push(Hit::new("unbounded-metrics", "", message));
        }
    }
}

/// Workers that record one shared truth agree: each comes near to what the last one has recorded.
/// Workers that record a number of their own come near to their own last one.
fn gauge(seen: &Seen<'_>, scene: &mut Scene<'_>, id: u32, shown: String, hits: &mut Vec<Hit>) {
    let (Some(worker), Some(name)) = (seen.origin.worker, name_of(scene.vm, id)) else { return };
    let gauge = scene.plugin.gauges.entry(name.to_vec()).or_default();
    let value = seen.call.args.get(1).copied().unwrap_or(0);
    let own = gauge.values.insert(worker, value);
    let last = gauge.last.replace((worker, value));
    if let (Some(own), Some((other, last))) = (own, last.filter(|(other, _)| *other != worker)) {
        gauge.switches += 1;
        gauge.own += u64::from(value.abs_diff(own) < value.abs_diff(last));
        if gauge.own >= OWN_VALUES && gauge.own * 2 >= gauge.switches {
            let message = format!(
                "gauge {shown} is recorded by several workers, each with a value of its own: \
                 {value} by worker {worker} after {last} by worker {other}"
            );
            hits.push(Hit::new("gauge-record", shown, message));
        }
    }
}

fn name_of(vm: &Vm, id: u32) -> Option<&[u8]> {
    vm.metrics.iter().find(|(_, own)| **own == id).map(|((_, name), _)| name.as_slice())
}
