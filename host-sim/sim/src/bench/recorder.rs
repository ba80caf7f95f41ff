//! An observer that adds up hostcalls and instructions by plugin and callback.

use super::BenchOptions;
use super::cost::{Background, CallbackCost, Costs, Instructions, PerRequest};
use host_sim_abi::Status;
use host_sim_engine::{CallbackEnd, ExchangeId, HostcallView, Observer, Origin};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Counts since the last [`Recorder::clear`].
#[derive(Default)]
pub(super) struct Recorder(Mutex<Ledger>);

#[derive(Default)]
struct Ledger {
    /// Hostcalls of the callback that runs, by worker: guests do not nest on a worker.
    running: BTreeMap<Option<u32>, Tally>,
    /// In the order they first ran; a few dozen, so that a scan will do.
    costs: Vec<Cost>,
    /// Instructions so far by exchange.
    exchanges: BTreeMap<(Option<u32>, ExchangeId), u64>,
}

/// Totals of a plugin's callback.
struct Cost {
    plugin: String,
    callback: &'static str,
    /// It ran for a request.
    request: bool,
    instructions: Distribution,
    tally: Tally,
}

#[derive(Clone, Debug, Default)]
struct Tally {
    hostcalls: BTreeMap<&'static str, u64>,
    bytes: u64,
}

/// How often each value occurred: callbacks take few distinct numbers of instructions.
#[derive(Debug, Default)]
struct Distribution(BTreeMap<u64, u64>);

impl Recorder {
    /// Forgets what was counted.
    pub(super) fn clear(&self) {
        *self.ledger() = Ledger::default();
    }

    /// The report on everything since.
    pub(super) fn costs(
        &self,
        options: &BenchOptions,
        statuses: BTreeMap<u16, u64>,
        span: Duration,
    ) -> Costs {
        let ledger = self.ledger();
        let report = |request| ledger.of(request).map(Cost::report).collect();
        let instructions: u64 = ledger.of(false).map(|cost| cost.instructions.total()).sum();
        let seconds = span.as_secs_f64().max(f64::MIN_POSITIVE);
        Costs {
            requests: options.requests,
            workers: options.workers.max(1),
            seed: options.seed,
            rate: options.rate.max(1),
            statuses,
            per_request: ledger.per_request(options.requests),
            callbacks: report(true),
            background: Background {
                instructions_per_second: rounded(instructions, seconds),
                hostcalls_per_second: rounded(ledger.total(false).count(), seconds),
                callbacks: report(false),
            },
        }
    }

    /// Nothing below leaves the ledger half-written if it panics.
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Recorder {
    fn hostcall(&self, origin: Origin<'_>, call: &HostcallView<'_>, _status: Option<Status>) {
        let mut ledger = self.ledger();
        let tally = ledger.running.entry(origin.worker).or_default();
        *tally.hostcalls.entry(call.name).or_default() += 1;
    }

    fn given(&self, origin: Origin<'_>, bytes: usize) {
        self.ledger().running.entry(origin.worker).or_default().bytes += bytes as u64;
    }

    fn callback(&self, origin: Origin<'_>, name: &'static str, end: CallbackEnd) {
        let ledger = &mut *self.ledger();
        let tally = ledger.running.remove(&origin.worker).unwrap_or_default();
        let request = origin.exchange.is_some();
        let cost = ledger.cost(origin.plugin, name, request);
        cost.instructions.add(end.fuel);
        cost.tally.add(&tally);
        if let Some(exchange) = origin.exchange {
            *ledger.exchanges.entry((origin.worker, exchange)).or_default() += end.fuel;
        }
    }
}

impl Ledger {
    fn cost(&mut self, plugin: &str, callback: &'static str, request: bool) -> &mut Cost {
        let known = self.costs.iter().position(|cost| {
            cost.callback == callback && cost.request == request && cost.plugin == plugin
        });
        let at = known.unwrap_or_else(|| {
            let (instructions, tally) = (Distribution::default(), Tally::default());
            let plugin = plugin.to_owned();
            self.costs.push(Cost { plugin, callback, request, instructions, tally });
            self.costs.len() - 1
        });
        &mut self.costs[at]
    }

    fn of(&self, request: bool) -> impl Iterator<Item = &Cost> {
        self.costs.iter().filter(move |cost| cost.request == request)
    }

    fn total(&self, request: bool) -> Tally {
        let mut total = Tally::default();
        self.of(request).for_each(|cost| total.add(&cost.tally));
        total
    }

    fn per_request(&self, requests: usize) -> PerRequest {
        let mut instructions = Distribution::default();
        self.exchanges.values().for_each(|fuel| instructions.add(*fuel));
        let total = self.total(true);
        let per = |count: u64| mean(count, requests as u64);
        let named = |name: &str| per(total.hostcalls.get(name).copied().unwrap_or(0));
        PerRequest {
            instructions: instructions.report(),
            hostcalls: per(total.count()),
            hostcalls_by_name: total.by_name(requests as u64),
            shared_data_reads: named("proxy_get_shared_data"),
            shared_data_writes: named("proxy_set_shared_data"),
            bytes_given: per(total.bytes),
        }
    }
}

impl Cost {
    fn report(&self) -> CallbackCost {
        let calls = self.instructions.count();
        CallbackCost {
            plugin: self.plugin.clone(),
            callback: self.callback,
            calls,
            instructions: self.instructions.report(),
            hostcalls: mean(self.tally.count(), calls),
            hostcalls_by_name: self.tally.by_name(calls),
            bytes_given: mean(self.tally.bytes, calls),
        }
    }
}

impl Tally {
    fn add(&mut self, other: &Self) {
        for (name, count) in &other.hostcalls {
            *self.hostcalls.entry(name).or_default() += count;
        }
        self.bytes += other.bytes;
    }

    fn count(&self) -> u64 {
        self.hostcalls.values().sum()
    }

    fn by_name(&self, per: u64) -> Vec<(&'static str, f64)> {
        let mut all: Vec<_> = self.hostcalls.iter().map(|(name, count)| (*name, *count)).collect();
        all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        all.into_iter().map(|(name, count)| (name, mean(count, per))).collect()
    }
}

impl Distribution {
    fn add(&mut self, value: u64) {
        *self.0.entry(value).or_default() += 1;
    }

    fn count(&self) -> u64 {
        self.0.values().sum()
    }

    fn total(&self) -> u64 {
        self.0.iter().map(|(value, times)| value * times).sum()
    }

    fn report(&self) -> Instructions {
        Instructions { mean: mean(self.total(), self.count()), p99: self.percentile(99) }
    }

    /// The least value that `percent` of 100 do not exceed.
    fn percentile(&self, percent: u64) -> u64 {
        let wanted = (self.count() * percent).div_ceil(100);
        let mut seen = 0;
        for (value, times) in &self.0 {
            seen += times;
            if seen >= wanted {
                return *value;
            }
        }
        0
    }
}

fn mean(total: u64, count: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    rounded(total, count.max(1) as f64)
}

/// A thousandth is more than anybody compares.
fn rounded(total: u64, by: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let quotient = total as f64 / by;
    (quotient * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_value_that_occurred() {
        let mut distribution = Distribution::default();
        (0..98).for_each(|_| distribution.add(10));
        distribution.add(50);
        distribution.add(1000);
        assert_eq!(distribution.report(), Instructions { mean: 20.3, p99: 50 });
        assert_eq!(Distribution::default().report(), Instructions { mean: 0.0, p99: 0 });
    }
}
