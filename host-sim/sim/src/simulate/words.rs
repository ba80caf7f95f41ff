//! The setting of an experiment in words: figures mean nothing without it.

use super::service_time::Distribution;
use super::spec::{EndpointGroup, Experiment};

/// `1 proxy`, `2 proxies`.
pub(crate) fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// `20 endpoints of 4 slots at speeds 0.5, 1, 1, 1.5, lognormal work with mean 40 ms and CV 1`.
pub(crate) fn group(group: &EndpointGroup) -> String {
    let count = counted(group.count, "endpoint", "endpoints");
    let slots = counted(group.slots, "slot", "slots");
    let speeds = match group.speeds.as_slice() {
        [] => String::new(),
        [all] => format!(" at speed {all}"),
        several => {
            let several: Vec<String> = several.iter().map(f64::to_string).collect();
            format!(" at speeds {}", several.join(", "))
        }
    };
    let mean = group.service_time.mean() * 1e3;
    let work = match group.service_time.distribution {
        Distribution::Lognormal => {
            let cv = group.service_time.cv;
            format!("lognormal work with mean {mean} ms and CV {cv}")
        }
        Distribution::Exponential => format!("exponential work with mean {mean} ms"),
        Distribution::Fixed => format!("work of {mean} ms"),
    };
    format!("{count} of {slots}{speeds}, {work}")
}

/// `1500 rps (rho 0.75)`, and what it changes to.
pub(crate) fn load(experiment: &Experiment) -> String {
    let capacity = experiment.capacity();
    let phase = |rate: Option<f64>, rho: Option<f64>| {
        let rate = rate.or_else(|| rho.map(|rho| rho * capacity)).unwrap_or(0.0);
        format!("{:.0} rps (rho {})", rate, (rate / capacity * 1e3).round() / 1e3)
    };
    let load = &experiment.load;
    if !experiment.cases.is_empty() {
        return "load and failures by case".to_owned();
    }
    let steps = load.steps.iter().map(|step| {
        format!(", from {} s on {}", step.at.0.as_secs_f64(), phase(step.rate, step.rho))
    });
    std::iter::once(phase(load.rate, load.rho)).chain(steps).collect()
}
