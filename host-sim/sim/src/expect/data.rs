//! Shared data.

use super::{Seen, compare};
use crate::scenario::expect::Expect;

pub(super) fn check(expect: &Expect, seen: &Seen<'_>, failures: &mut Vec<String>) {
    let shared = seen.host.engine().shared_data();
    if let Some(wanted) = expect.shared_keys {
        let keys: usize = seen.vm_ids.iter().map(|vm_id| shared.key_count(vm_id)).sum();
        compare("keys of shared data", wanted, keys as f64, failures);
    }
    for (vm_id, wanted) in &expect.shared_data {
        let count = shared.key_count(vm_id);
        let whose = format!("shared data of {vm_id:?}");
        if let Some(keys) = wanted.keys {
            compare(&format!("{whose}: keys"), keys, count as f64, failures);
        }
        if let Some(growth) = wanted.growth {
            let before = seen.before.keys.get(vm_id).copied().unwrap_or(0);
            let grown = count as f64 - before as f64;
            compare(&format!("{whose}: keys added"), growth, grown, failures);
        }
        for (key, text) in &wanted.values {
            match shared.get(vm_id, key.as_bytes()) {
                Some((value, _)) => {
                    if let Some(why) = text.mismatch(&value) {
                        failures.push(format!("{whose}, key {key}: {why}"));
                    }
                }
                None => {
                    let keys: Vec<_> = shared
                        .snapshot(vm_id)
                        .into_keys()
                        .take(20)
                        .map(|key| crate::difference::quoted(&key))
                        .collect();
                    let keys = keys.join(", ");
                    failures.push(format!("{whose}: no key {key}; there are: {keys}"));
                }
            }
        }
        for key in &wanted.absent {
            if let Some((value, _)) = shared.get(vm_id, key.as_bytes()) {
                let value = crate::difference::quoted(&value);
                failures.push(format!("{whose}: key {key}: expected none, its value is {value}"));
            }
        }
    }
}
