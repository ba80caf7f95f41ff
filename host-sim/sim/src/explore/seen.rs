//! What can be seen of a run at its end, to compare with that of another.

use crate::run::Run;
use crate::scenario::explore::Aspect;
use std::collections::BTreeMap;

/// Names and values, by aspect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen(Vec<(Aspect, BTreeMap<String, String>)>);

impl Seen {
    /// Looks at these aspects.
    pub(super) fn of(run: &Run, aspects: &[Aspect]) -> Self {
        Self(aspects.iter().map(|aspect| (*aspect, look(run, *aspect))).collect())
    }

    /// What differs from `other`, a line each.
    pub(super) fn differences(&self, other: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        for ((aspect, was), (_, is)) in self.0.iter().zip(&other.0) {
            let names = was.keys().chain(is.keys().filter(|name| !was.contains_key(*name)));
            for name in names.filter(|name| was.get(*name) != is.get(*name)) {
                let value = |of: &BTreeMap<_, String>| of.get(name).cloned();
                let text = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
                lines.push(format!(
                    "{}: {name}: {} when workers run one after the other, now {}",
                    match aspect {
                        Aspect::Statuses => "statuses",
                        Aspect::Bodies => "bodies",
                        Aspect::Metrics => "metrics",
                        Aspect::SharedData => "shared data",
                    },
                    text(value(was)),
                    text(value(is)),
                ));
            }
        }
        lines
    }
}

fn look(run: &Run, aspect: Aspect) -> BTreeMap<String, String> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    match aspect {
        Aspect::Statuses => {
            for reply in run.host.replies() {
                let status = reply.map_or(0, |reply| reply.status);
                *counts.entry(status.to_string()).or_default() += 1;
            }
        }
        Aspect::Bodies => {
            for reply in run.host.replies().flatten() {
                let body = String::from_utf8_lossy(&reply.body).into_owned();
                *counts.entry(format!("{body:?}")).or_default() += 1;
            }
        }
        Aspect::Metrics => {
            let all = run.host.engine().stats().snapshot().into_iter();
            let own = all.filter(|(name, _)| name.starts_with("wasmcustom."));
            return own.map(|(name, value)| (name.to_string(), format!("{value:?}"))).collect();
        }
        Aspect::SharedData => {
            let data = run.host.engine().shared_data();
            let of = |vm_id: &String| data.snapshot(vm_id);
            let all = run.vm_ids.iter().flat_map(of);
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).escape_debug().to_string();
            return all.map(|(key, (value, _))| (text(&key), text(&value))).collect();
        }
    }
    counts.into_iter().map(|(name, count)| (name, count.to_string())).collect()
}
