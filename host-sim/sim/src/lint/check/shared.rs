//! Shared data: races, and keys without bound.

use crate::lint::call::quoted;
use crate::lint::scene::{Hit, Scene, Seen};
use host_sim_abi::Status;

/// So many keys with clients' values in them are no accident.
const CLIENT_KEYS: usize = 3;

/// So many keys made by stream callbacks have no bound.
const STREAM_KEYS: usize = 64;

pub(super) fn check(seen: &Seen<'_>, scene: &mut Scene<'_>, hits: &mut Vec<Hit>) {
    let key = seen.bytes(0);
    scene.running.mismatched.remove(key);
    if seen.name() == "get_shared_data" {
        if seen.is_ok() {
            scene.running.got.insert(key.to_vec());
        }
        return;
    }
    let shown = quoted(key);
    if seen.is(Status::CasMismatch) {
        scene.running.mismatched.insert(key.to_vec());
        return;
    }
    if !seen.is_ok() {
        return;
    }
    if seen.number(4) == 0 && scene.running.got.contains(key) {
        let message = format!("key {shown} is read, then written with CAS number 0");
        hits.push(Hit::new("lost-update", shown.clone(), message));
    }
    if seen.plugin.vm_id.is_empty() {
        let message = format!("key {shown} is written under the empty vm_id");
        hits.push(Hit::new("empty-vm-id", "", message));
    }
    keys(seen, scene, key, hits);
}

fn keys(seen: &Seen<'_>, scene: &mut Scene<'_>, key: &[u8], hits: &mut Vec<Hit>) {
    if !seen.in_stream_callback() {
        return;
    }
    let plugin = &mut *scene.plugin;
    if let Some(value) = scene.stream.client_value_in(key) {
        plugin.client_keys.insert(key.to_vec());
        if plugin.client_keys.len() == CLIENT_KEYS {
            let (key, value) = (quoted(key), quoted(value));
            let message = format!("keys contain what clients send: {key} contains {value}");
            hits.push(Hit::new("unbounded-shared-keys", "", message));
            plugin.stream_keys.clear();
        }
    }
    if plugin.client_keys.len() < CLIENT_KEYS && plugin.stream_keys.len() < STREAM_KEYS {
        plugin.stream_keys.insert(key.to_vec());
        if plugin.stream_keys.len() == STREAM_KEYS {
            let key = quoted(key);
            let message = format!("streams have made {STREAM_KEYS} keys, the last is {key}");
            hits.push(Hit::new("unbounded-shared-keys", "", message));
        }
    }
}
