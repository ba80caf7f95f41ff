//! `/server_info`.

use super::Admin;
use serde_json::{Value, json};

pub(super) fn value(admin: &Admin) -> Value {
    let uptime = format!("{}s", admin.started.elapsed().as_secs());
    let node = &admin.engine.bootstrap().node;
    json!({
        "version": concat!("host-sim/", env!("CARGO_PKG_VERSION")),
        "state": admin.state(),
        "uptime_current_epoch": uptime,
        "uptime_all_epochs": uptime,
        "command_line_options": { "concurrency": admin.engine.options().concurrency },
        "node": { "id": node.id, "cluster": node.cluster, "metadata": node.metadata },
    })
}
