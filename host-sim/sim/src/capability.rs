//! Capabilities of a plugin, told by what is missing. Envoy's configuration lists what is allowed;
//! a scenario is about the one thing that is not.

use host_sim_abi::HOSTCALLS;

/// What a host may call in a module.
const CALLBACKS: [&str; 23] = [
    "proxy_on_vm_start",
    "proxy_on_configure",
    "proxy_on_context_create",
    "proxy_on_tick",
    "proxy_on_queue_ready",
    "proxy_on_new_connection",
    "proxy_on_downstream_data",
    "proxy_on_downstream_connection_close",
    "proxy_on_upstream_data",
    "proxy_on_upstream_connection_close",
    "proxy_on_request_headers",
    "proxy_on_request_body",
    "proxy_on_request_trailers",
    "proxy_on_response_headers",
    "proxy_on_response_body",
    "proxy_on_response_trailers",
    "proxy_on_http_call_response",
    "proxy_on_grpc_receive_initial_metadata",
    "proxy_on_grpc_receive",
    "proxy_on_grpc_receive_trailing_metadata",
    "proxy_on_grpc_close",
    "proxy_on_log",
    "proxy_on_done",
];

/// What the standard libraries of the usual languages import of WASI, and the last callback.
const OTHERS: [&str; 10] = [
    "proxy_on_delete",
    "args_get",
    "args_sizes_get",
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
    "fd_fdstat_get",
    "fd_write",
    "proc_exit",
    "random_get",
];

/// Every callback.
pub(crate) fn callbacks() -> impl Iterator<Item = &'static str> {
    CALLBACKS.into_iter().chain(["proxy_on_delete"])
}

/// Every capability but these.
pub(crate) fn all_but(denied: &[String]) -> Result<Vec<&'static str>, String> {
    let all = || {
        let hostcalls = HOSTCALLS.iter().map(|hostcall| hostcall.name);
        hostcalls.chain(CALLBACKS).chain(OTHERS)
    };
    if let Some(unknown) = denied.iter().find(|name| !all().any(|known| known == *name)) {
        return Err(format!("denied_capabilities: no capability is called '{unknown}'"));
    }
    Ok(all().filter(|name| !denied.iter().any(|denied| denied == name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_denied_is_missing() {
        let allowed = all_but(&["proxy_get_shared_data".to_owned()]).unwrap();
        assert!(!allowed.contains(&"proxy_get_shared_data"));
        assert!(
            ["proxy_set_shared_data", "proxy_on_tick", "fd_write"]
                .iter()
                .all(|name| allowed.contains(name))
        );
    }

    #[test]
    fn a_slip_is_named_instead_of_denying_nothing() {
        let error = all_but(&["get_shared_data".to_owned()]).unwrap_err();
        assert!(error.contains("'get_shared_data'"), "{error}");
    }
}
