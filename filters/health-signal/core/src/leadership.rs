//! Who of all VMs reads the workers' reports of a cluster, polls its endpoints and publishes.

use shared_state::{Key, Lease};

/// Where the lease of the leader of `cluster` is kept.
pub fn leader_key(cluster: &str) -> Key<Lease> {
    Key::new("health", &["leader", cluster])
}
