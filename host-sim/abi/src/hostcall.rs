//! The hostcall table: every function a module may import from `env`, and since when.

use crate::Status;

/// A version of the ABI, as the marker export `proxy_abi_version_*` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AbiVersion {
    /// `proxy_abi_version_0_1_0`
    V0_1_0,
    /// `proxy_abi_version_0_2_0`
    V0_2_0,
    /// `proxy_abi_version_0_2_1`
    V0_2_1,
}

impl AbiVersion {
    /// Every version, oldest first.
    pub const ALL: &'static [Self] = &[Self::V0_1_0, Self::V0_2_0, Self::V0_2_1];

    /// Name of the marker export.
    #[must_use]
    pub const fn marker(self) -> &'static str {
        match self {
            Self::V0_1_0 => "proxy_abi_version_0_1_0",
            Self::V0_2_0 => "proxy_abi_version_0_2_0",
            Self::V0_2_1 => "proxy_abi_version_0_2_1",
        }
    }

    /// The version of a module, by the names of the functions it exports, in their order: of two
    /// markers the first counts.
    pub fn detect<'a>(functions: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let version = |name| Self::ALL.iter().copied().find(|v| v.marker() == name);
        functions.into_iter().find_map(version)
    }
}

/// One importable function. All but `proxy_get_log_level`'s elders exist in every version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hostcall {
    /// Import name in module `env`.
    pub name: &'static str,
    /// Parameters, one letter each: `i` = i32, `I` = i64. Every hostcall returns an i32 status, also
    /// those of 0.1.0 that the specification gives none.
    pub params: &'static str,
    /// First version that has it.
    pub since: AbiVersion,
    /// Last version that has it; `None` = still there.
    pub until: Option<AbiVersion>,
}

impl Hostcall {
    /// Whether a version has the function.
    #[must_use]
    pub fn is_in(&self, version: AbiVersion) -> bool {
        self.since <= version && self.until.is_none_or(|last| version <= last)
    }

    /// Where bytes of the guest go into the hostcall of that name: positions of the arguments that
    /// are a pointer, each followed by its length. What comes out is not among them.
    #[must_use]
    pub fn inputs(name: &str) -> &'static [usize] {
        match name.strip_prefix("proxy_").unwrap_or(name) {
            "get_property" | "get_shared_data" | "register_shared_queue" => &[0],
            "set_property"
            | "set_shared_data"
            | "resolve_shared_queue"
            | "call_foreign_function" => &[0, 2],
            "log"
            | "get_header_map_value"
            | "remove_header_map_value"
            | "set_header_map_pairs"
            | "enqueue_shared_queue"
            | "define_metric"
            | "grpc_send" => &[1],
            "add_header_map_value" | "replace_header_map_value" => &[1, 3],
            "set_buffer_bytes" => &[3],
            "send_local_response" => &[1, 3, 5],
            "http_call" | "grpc_stream" => &[0, 2, 4, 6],
            "grpc_call" => &[0, 2, 4, 6, 8],
            _ => &[],
        }
    }

    /// The hostcall of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        HOSTCALLS.iter().find(|hostcall| hostcall.name == name)
    }
}

const fn always(name: &'static str, params: &'static str) -> Hostcall {
    Hostcall { name, params, since: AbiVersion::V0_1_0, until: None }
}

const fn from(name: &'static str, params: &'static str, since: AbiVersion) -> Hostcall {
    Hostcall { name, params, since, until: None }
}

const fn old(name: &'static str, params: &'static str) -> Hostcall {
    Hostcall { name, params, since: AbiVersion::V0_1_0, until: Some(AbiVersion::V0_1_0) }
}

/// Every hostcall of 0.1.0, 0.2.0 and 0.2.1, and the one that Envoy adds.
pub const HOSTCALLS: &[Hostcall] = &[
    always("proxy_log", "iii"),
    from("proxy_get_log_level", "i", AbiVersion::V0_2_1),
    always("proxy_get_current_time_nanoseconds", "i"),
    always("proxy_set_tick_period_milliseconds", "i"),
    always("proxy_set_effective_context", "i"),
    always("proxy_done", ""),
    always("proxy_get_status", "iii"),
    always("proxy_get_property", "iiii"),
    always("proxy_set_property", "iiii"),
    always("proxy_get_header_map_value", "iiiii"),
    always("proxy_add_header_map_value", "iiiii"),
    always("proxy_replace_header_map_value", "iiiii"),
    always("proxy_remove_header_map_value", "iii"),
    always("proxy_get_header_map_pairs", "iii"),
    always("proxy_set_header_map_pairs", "iii"),
    always("proxy_get_header_map_size", "ii"),
    always("proxy_get_buffer_bytes", "iiiii"),
    always("proxy_get_buffer_status", "iii"),
    always("proxy_set_buffer_bytes", "iiiii"),
    always("proxy_send_local_response", "iiiiiiii"),
    from("proxy_continue_stream", "i", AbiVersion::V0_2_0),
    from("proxy_close_stream", "i", AbiVersion::V0_2_0),
    always("proxy_http_call", "iiiiiiiiii"),
    always("proxy_grpc_call", "iiiiiiiiiiii"),
    always("proxy_grpc_stream", "iiiiiiiii"),
    always("proxy_grpc_send", "iiii"),
    always("proxy_grpc_cancel", "i"),
    always("proxy_grpc_close", "i"),
    always("proxy_get_shared_data", "iiiii"),
    always("proxy_set_shared_data", "iiiii"),
    always("proxy_register_shared_queue", "iii"),
    always("proxy_resolve_shared_queue", "iiiii"),
    always("proxy_enqueue_shared_queue", "iii"),
    always("proxy_dequeue_shared_queue", "iii"),
    always("proxy_define_metric", "iiii"),
    always("proxy_increment_metric", "iI"),
    always("proxy_record_metric", "iI"),
    always("proxy_get_metric", "ii"),
    always("proxy_call_foreign_function", "iiiiii"),
    old("proxy_continue_request", ""),
    old("proxy_continue_response", ""),
    old("proxy_clear_route_cache", ""),
    old("proxy_get_configuration", "ii"),
    always("envoy_resolve_dns", "iii"),
];

/// Why a hostcall answered so, in one sentence for a plugin's author; `None` for `Ok` and for
/// pairs that do not occur.
#[must_use]
pub fn why(status: Status, hostcall: &str) -> Option<&'static str> {
    let short = hostcall.strip_prefix("proxy_").unwrap_or(hostcall);
    if status == Status::InvalidMemoryAccess {
        return Some("a pointer with its length points outside of the module's memory");
    }
    Some(match (short, status) {
        (_, Status::Ok) => return None,
        (
            "get_header_map_value"
            | "add_header_map_value"
            | "replace_header_map_value"
            | "remove_header_map_value"
            | "set_header_map_pairs"
            | "get_header_map_size",
            Status::BadArgument,
        ) => {
            "this map is not available in this phase: request headers only from \
             on_request_headers until it returns Continue, response headers likewise, call \
             response headers only in on_http_call_response, and nothing is writable in on_log"
        }
        ("get_header_map_value", Status::NotFound) => "the map has no header of that name",
        ("get_header_map_pairs", Status::BadArgument) => "there are map types 0 to 7 only",
        ("get_buffer_bytes" | "get_buffer_status", Status::NotFound) => {
            "the plugin configuration is there only in on_configure and on_context_create of the \
             root, the call's body only in on_http_call_response"
        }
        ("get_buffer_bytes" | "get_buffer_status", Status::BadArgument) => {
            "there are buffer types 0 to 8 only"
        }
        ("set_buffer_bytes", Status::BadArgument) => {
            "the body is not writable in this phase, or `start` lies inside of it: Envoy can only \
             prepend (start 0) and append (start >= length)"
        }
        ("get_property", Status::NotFound) => "this attribute is not known in this phase",
        ("get_property", Status::SerializationFailure) => {
            "the path is empty or names a map of attributes instead of one"
        }
        ("set_property", Status::NotFound) => "a root context has no stream to set it on",
        ("http_call", Status::BadArgument) => {
            "the cluster is unknown, or :method, :path or :authority is missing"
        }
        ("http_call", Status::InternalFailure) => {
            "the cluster has no endpoint that may be used; no callback will come"
        }
        ("set_shared_data", Status::CasMismatch) => {
            "another context wrote the key since its CAS number was read: read again and retry"
        }
        ("get_shared_data", Status::NotFound) => "nobody wrote this key under this vm_id yet",
        ("resolve_shared_queue" | "enqueue_shared_queue", Status::NotFound) => {
            "no such queue: register it first, under this vm_id"
        }
        ("dequeue_shared_queue", Status::Empty) => "the queue is empty",
        ("dequeue_shared_queue", Status::NotFound) => "no queue has this token",
        ("increment_metric", Status::BadArgument) => {
            "counters grow by at least 1, and histograms are recorded, not incremented"
        }
        ("increment_metric" | "record_metric" | "get_metric", Status::NotFound) => {
            "this VM has defined no metric of that id"
        }
        ("get_metric", Status::BadArgument) => "a histogram has no single value",
        ("define_metric", Status::BadArgument) => "there are metric types 0 to 2 only",
        ("set_effective_context", Status::BadArgument) => {
            "there is no such context: its stream is over"
        }
        ("done", Status::NotFound) => "only a root that returned false from on_done is pending",
        ("continue_stream" | "close_stream", Status::BadArgument) => {
            "there are stream types 0 to 3 only"
        }
        ("continue_stream", Status::Unimplemented) => "Envoy cannot resume TCP from the upstream",
        ("log", Status::BadArgument) => "there are log levels 0 to 5 only",
        ("call_foreign_function", Status::NotFound) => "the host has no such function",
        ("grpc_call" | "grpc_stream", Status::ParseFailure) => {
            "neither a known cluster name nor a serialized GrpcService"
        }
        ("grpc_call" | "grpc_stream", Status::InternalFailure) => {
            "the gRPC service's cluster is unknown or has no endpoint; a close callback follows"
        }
        ("grpc_send" | "grpc_cancel" | "grpc_close", Status::NotFound) => {
            "no gRPC call or stream of that id is open"
        }
        ("grpc_send" | "grpc_cancel" | "grpc_close", Status::BadArgument) => {
            "the id is of another kind of call"
        }
        (_, Status::InternalFailure) => "the plugin's capability restriction blocks this hostcall",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_marker_counts_and_dialects_are_unknown() {
        let detect = |names: &[&str]| AbiVersion::detect(names.iter().copied());
        assert_eq!(
            detect(&["malloc", "proxy_abi_version_0_1_0", "proxy_abi_version_0_2_1"]),
            Some(AbiVersion::V0_1_0)
        );
        assert_eq!(
            detect(&["proxy_abi_version_0_2_1", "proxy_abi_version_0_1_0"]),
            Some(AbiVersion::V0_2_1)
        );
        assert_eq!(detect(&["proxy_abi_version_0_2_100"]), None);
    }

    #[test]
    fn log_level_came_with_0_2_1() {
        let call = Hostcall::named("proxy_get_log_level").unwrap();
        assert!(!call.is_in(AbiVersion::V0_2_0));
        assert!(call.is_in(AbiVersion::V0_2_1));
    }

    #[test]
    fn the_old_calls_are_gone_since_0_2_0() {
        for name in ["proxy_continue_request", "proxy_clear_route_cache"] {
            let call = Hostcall::named(name).unwrap();
            assert!(call.is_in(AbiVersion::V0_1_0) && !call.is_in(AbiVersion::V0_2_0));
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = HOSTCALLS.iter().map(|h| h.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), HOSTCALLS.len());
    }

    #[test]
    fn ok_needs_no_explanation_and_the_usual_traps_have_one() {
        assert_eq!(why(Status::Ok, "proxy_log"), None);
        assert!(why(Status::BadArgument, "proxy_get_header_map_value").is_some());
        assert!(why(Status::InternalFailure, "proxy_http_call").unwrap().contains("endpoint"));
        assert!(why(Status::InvalidMemoryAccess, "proxy_log").is_some());
    }
}
