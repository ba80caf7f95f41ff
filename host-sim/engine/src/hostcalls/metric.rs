//! Metrics: ids belong to the VM, values to the process.
//!
//! The two low bits of an id are its type, so counters are 4, 8, 12 ..., gauges 5, 9 ...,
//! histograms 6, 10 .... Defining a name again gives another id of the same value.

use crate::fault::Reply;
use crate::guest_memory::{Guest, put, put_u32, slice, split};
use crate::vm::Metrics;
use host_sim_abi::{MetricType, Status};

/// What Envoy puts before every plugin's metric.
const PREFIX: &str = "wasmcustom.";

/// `proxy_define_metric`.
pub(super) fn define(
    guest: &mut Guest<'_>,
    kind: u32,
    name: u32,
    name_len: u32,
    out: u32,
) -> Reply {
    let kind = MetricType::from_raw(kind).ok_or(Status::BadArgument)?;
    let (memory, state) = split(guest)?;
    let name = String::from_utf8_lossy(slice(memory, name, name_len)?);
    let name = format!("{PREFIX}{name}");
    let engine = state.shared.borrow().engine.clone();
    let stats = engine.stats();
    let defined = match kind {
        MetricType::Counter => push(&mut state.metrics.counters, stats.counter(&name)),
        MetricType::Gauge => push(&mut state.metrics.gauges, stats.gauge(&name)),
        MetricType::Histogram => push(&mut state.metrics.histograms, stats.histogram(&name)),
    };
    let id = (u32::try_from(defined).unwrap_or(u32::MAX >> 2) << 2) | kind.raw();
    Ok(put_u32(memory, out, id)?)
}

/// `proxy_increment_metric`.
pub(super) fn increment(guest: &mut Guest<'_>, id: u32, amount: i64) -> Reply {
    let metrics = &guest.data().metrics;
    match kind(id) {
        Some(MetricType::Counter) => {
            let counter = find(&metrics.counters, id)?;
            let amount = u64::try_from(amount).map_err(|_| Status::BadArgument)?;
            if amount == 0 {
                return Err(Status::BadArgument.into());
            }
            counter.add(amount);
        }
        Some(MetricType::Gauge) => find(&metrics.gauges, id)?.add(amount),
        // Whether there is such a histogram or not.
        Some(MetricType::Histogram) | None => return Err(Status::BadArgument.into()),
    }
    Ok(())
}

/// `proxy_record_metric`; on a counter it adds.
pub(super) fn record(guest: &mut Guest<'_>, id: u32, value: u64) -> Reply {
    let metrics = &guest.data().metrics;
    match kind(id) {
        Some(MetricType::Counter) => find(&metrics.counters, id)?.add(value),
        Some(MetricType::Gauge) => find(&metrics.gauges, id)?.set(value),
        Some(MetricType::Histogram) => find(&metrics.histograms, id)?.record(value),
        None => return Err(Status::NotFound.into()),
    }
    Ok(())
}

/// `proxy_get_metric`.
pub(super) fn get(guest: &mut Guest<'_>, id: u32, out: u32) -> Reply {
    let value = value(&guest.data().metrics, id)?;
    let (memory, _) = split(guest)?;
    Ok(put(memory, out, &value.to_le_bytes())?)
}

fn value(metrics: &Metrics, id: u32) -> Result<u64, Status> {
    match kind(id) {
        Some(MetricType::Counter) => find(&metrics.counters, id).map(|counter| counter.value()),
        Some(MetricType::Gauge) => find(&metrics.gauges, id).map(|gauge| gauge.value()),
        Some(MetricType::Histogram) | None => Err(Status::BadArgument),
    }
}

fn kind(id: u32) -> Option<MetricType> {
    MetricType::from_raw(id & 3)
}

fn find<T>(defined: &[T], id: u32) -> Result<&T, Status> {
    (id >> 2).checked_sub(1).and_then(|at| defined.get(at as usize)).ok_or(Status::NotFound)
}

/// Number of metrics after the push: the first id is 1 << 2.
fn push<T>(defined: &mut Vec<T>, metric: T) -> usize {
    defined.push(metric);
    defined.len()
}
