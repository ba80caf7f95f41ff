//! The mistakes, one small plugin each, with the plugin that makes it right.

use super::Setup;

/// One mistake.
pub(crate) struct Mistake {
    /// What it is called.
    pub(crate) lint: &'static str,
    /// Part of what is said.
    pub(crate) says: &'static str,
    pub(crate) setup: Setup,
    pub(crate) wrong: Code,
    pub(crate) right: Code,
}

/// A plugin's code.
pub(crate) enum Code {
    /// Callbacks with bodies, see `plant`.
    Callbacks(&'static [(&'static str, &'static str)]),
    /// A whole module.
    Module(&'static str),
}

macro_rules! mistakes {
    ($($lint:literal $says:literal $(($setup:expr))?
        wrong { $($wrong:tt)* } right { $($right:tt)* })+) => {
        /// The table.
        pub(crate) const MISTAKES: &[Mistake] = &[$(Mistake {
            lint: $lint,
            says: $says,
            setup: mistakes!(@setup $($setup)?),
            wrong: mistakes!(@code $($wrong)*),
            right: mistakes!(@code $($right)*),
        }),+];
    };
    (@setup) => { Setup::Plain };
    (@setup $setup:expr) => { $setup };
    (@code module $text:literal) => { Code::Module($text) };
    (@code $($callback:ident: $body:literal),*) => {
        Code::Callbacks(&[$((stringify!($callback), $body)),*])
    };
}

mistakes! {
    "abi-marker" "Higress"
    wrong { module r#"(module (memory (export "memory") 1)
        (func (export "proxy_abi_version_0_2_100"))
        (func (export "malloc") (param i32) (result i32) (i32.const 8))
        (func (export "proxy_on_log") (param i32)))"# }
    right { module r#"(module (memory (export "memory") 1)
        (func (export "proxy_abi_version_0_2_1"))
        (func (export "malloc") (param i32) (result i32) (i32.const 8))
        (func (export "proxy_on_log") (param i32)))"# }

    "abi-marker" "for no plugin"
    wrong { module r#"(module (memory (export "memory") 1)
        (func (export "malloc") (param i32) (result i32) (i32.const 8))
        (func (export "proxy_on_log") (param i32)))"# }
    right { module r#"(module (memory (export "memory") 1)
        (func (export "proxy_abi_version_0_2_0"))
        (func (export "malloc") (param i32) (result i32) (i32.const 8))
        (func (export "proxy_on_log") (param i32)))"# }

    "unknown-import" "did you mean proxy_get_header_map_value"
    wrong { module r#"(module
        (import "env" "proxy_get_header_map_values" (func (param i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "proxy_abi_version_0_2_1"))
        (func (export "malloc") (param i32) (result i32) (i32.const 8))
        (func (export "proxy_on_log") (param i32)))"# }
    right { module r#"(module
        (import "env" "proxy_get_header_map_value"
          (func (param i32 i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "proxy_abi_version_0_2_1"))
        (func (export "malloc") (param i32) (result i32) (i32.const 8))
        (func (export "proxy_on_log") (param i32)))"# }

    "import-signature" "(i32 i32) -> (i32)"
    wrong { module r#"(module (import "env" "proxy_log" (func (param i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "proxy_abi_version_0_2_1"))
        (func (export "malloc") (param i32) (result i32) (i32.const 8))
        (func (export "proxy_on_log") (param i32)))"# }
    right { module r#"(module (import "env" "proxy_log" (func (param i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "proxy_abi_version_0_2_1"))
        (func (export "malloc") (param i32) (result i32) (i32.const 8))
        (func (export "proxy_on_log") (param i32)))"# }

    "no-memory" "exports no memory"
    wrong { module r#"(module (memory 1)
        (func (export "proxy_abi_version_0_2_1"))
        (func (export "malloc") (param i32) (result i32) (i32.const 8))
        (func (export "proxy_on_log") (param i32)))"# }
    right { on_log: "" }

    "no-allocator" "neither malloc"
    wrong { module r#"(module (memory (export "memory") 1)
        (func (export "proxy_abi_version_0_2_1"))
        (func (export "proxy_on_log") (param i32)))"# }
    right { module r#"(module (memory (export "memory") 1)
        (func (export "proxy_abi_version_0_2_1"))
        (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 8))
        (func (export "proxy_on_log") (param i32)))"# }

    "no-callbacks" "no callback"
    wrong {}
    right { on_request_headers: "" }

    "no-stream-callbacks" "proxy_on_configure only"
    wrong { on_configure: "" }
    right { on_configure: "", on_response_headers: "" }

    "unused-callback" "proxy_set_tick_period_milliseconds not used"
    wrong { on_request_headers: "", on_tick: "" }
    right {
        on_request_headers: "",
        on_configure: "(drop (call $set_tick_period_milliseconds @1000))",
        on_tick: ""
    }

    "refused" "proxy_on_vm_start returned false"
    wrong {
        on_request_headers: "",
        on_vm_start: "(drop (call $log @4 {no licence})) (return @0)"
    }
    right {
        on_request_headers: "",
        on_vm_start: "(drop (call $log @4 {no licence, everything passes}))"
    }

    "trap" "unreachable"
    wrong { on_request_headers: "(unreachable)" }
    right { on_request_headers: "" }

    "borrow-panic" "already borrowed"
    wrong {
        on_request_headers:
            "(drop (call $log @5 {panicked at src/lib.rs:7:5:\nalready borrowed: BorrowMutError}))
             (unreachable)"
    }
    right { on_request_headers: "(drop (call $log @2 {fine}))" }

    "trap" "request headers cannot be read in a response callback"
    wrong {
        on_response_headers:
            "(if (call $get_header_map_value @0 {:path} @4096 @4100) (then
               (drop (call $log @5 {panicked at proxy-wasm/hostcalls.rs:1:1:\nunexpected status: 2}))
               (unreachable)))"
    }
    right {
        on_request_headers:
            "(if (call $get_header_map_value @0 {:path} @4096 @4100) (then (unreachable)))"
    }

    "envoy-aborts" "close_stream in proxy_on_log"
    wrong { on_log: "(drop (call $close_stream @0))" }
    right { on_response_headers: "(drop (call $close_stream @1))" }

    "envoy-aborts" "a local reply in proxy_on_log"
    wrong { on_log: "(drop (call $send_local_response @500 @0 @0 @0 @0 @0 @0 @-1))" }
    right {
        on_request_headers: "(drop (call $send_local_response @500 @0 @0 @0 @0 @0 @0 @-1)) (return @1)"
    }

    "envoy-aborts" "for the response in proxy_on_request_headers"
    wrong { on_request_headers: "(drop (call $continue_stream @1))" }
    right { on_request_headers: "" }

    "bad-pointer" "proxy_log"
    wrong { on_request_headers: "(drop (call $log @2 @-1 @10))" }
    right { on_request_headers: "(drop (call $log @2 {fine}))" }

    "unknown-enum-value" "no map 9"
    wrong { on_request_headers: "(drop (call $get_header_map_value @9 {a} @4096 @4100))" }
    right { on_request_headers: "(drop (call $get_header_map_value @0 {a} @4096 @4100))" }

    "unknown-action" "returned 2"
    wrong { on_request_headers: "(return @2)" }
    right { on_request_headers: "(return @0)" }

    "phase-invalid-read" "request headers cannot be read in a response callback"
    wrong { on_response_headers: "(drop (call $get_header_map_value @0 {:path} @4096 @4100))" }
    right {
        on_request_headers: "(drop (call $get_header_map_value @0 {:path} @4096 @4100))",
        on_response_headers: "(drop (call $get_header_map_value @2 {:status} @4096 @4100))"
    }

    "phase-invalid-read" "request headers cannot be read in a request callback such as proxy_on_request_body"
    wrong { on_request_body: "(drop (call $get_header_map_value @0 {:path} @4096 @4100))" }
    right { on_request_headers: "(drop (call $get_header_map_value @0 {:path} @4096 @4100))" }

    "phase-invalid-read" "request headers cannot be read in a response callback"
    wrong { on_response_headers: "(drop (call $get_header_map_pairs @0 @4096 @4100))" }
    right { on_response_headers: "(drop (call $get_header_map_pairs @2 @4096 @4100))" }

    "phase-invalid-read" "request body cannot be read in a request callback such as proxy_on_request_headers"
    wrong { on_request_headers: "(drop (call $get_buffer_bytes @0 @0 @1000 @4096 @4100))" }
    right { on_request_body: "(drop (call $get_buffer_bytes @0 @0 @1000 @4096 @4100))" }

    "phase-invalid-read" "plugin configuration cannot be read in"
    wrong { on_request_headers: "(drop (call $get_buffer_bytes @7 @0 @1000 @4096 @4100))" }
    right {
        on_request_headers: "",
        on_configure: "(drop (call $get_buffer_bytes @7 @0 @1000 @4096 @4100))"
    }

    "phase-invalid-write" "request headers cannot be changed"
    wrong { on_response_headers: "(drop (call $replace_header_map_value @0 {x-a} {b}))" }
    right { on_request_headers: "(drop (call $replace_header_map_value @0 {x-a} {b}))" }

    "phase-invalid-write" "response headers cannot be changed in proxy_on_log"
    wrong { on_log: "(drop (call $add_header_map_value @2 {x-a} {b}))" }
    right { on_response_headers: "(drop (call $add_header_map_value @2 {x-a} {b}))" }

    "phase-invalid-write" "response body cannot be changed"
    wrong { on_response_headers: "(drop (call $set_buffer_bytes @1 @0 @0 {x}))" }
    right { on_log: "" }

    "phase-invalid-attribute" "request.path"
    wrong { on_response_headers: "(drop (call $get_property {request|path} @4096 @4100))" }
    right { on_request_headers: "(drop (call $get_property {request|path} @4096 @4100))" }

    "dotted-property-path" "with dots in it"
    wrong { on_request_headers: "(drop (call $get_property {request.path} @4096 @4100))" }
    right { on_request_headers: "(drop (call $get_property {request|path} @4096 @4100))" }

    "legacy-attribute" "route_name"
    wrong { on_request_headers: "(drop (call $get_property {route_name} @4096 @4100))" }
    right { on_request_headers: "(drop (call $get_property {xds|route_name} @4096 @4100))" }

    "property-on-root" "without a stream"
    wrong {
        on_request_headers: "",
        on_configure: "(drop (call $set_property {mine} {1}))"
    }
    right { on_request_headers: "(drop (call $set_property {mine} {1}))" }

    "buffer-middle" "2 bytes at 3"
    wrong { on_request_body: "(drop (call $set_buffer_bytes @0 @3 @2 {xx}))" }
    right {
        on_request_body:
            "(if (local.get 2) (then (drop (call $set_buffer_bytes @0 @0 @99999 {new})))
               (else (return @1)))",
        on_request_headers: "(drop (call $remove_header_map_value @0 {content-length}))"
    }

    "content-length-kept" "response body has another length"
    wrong { on_response_body: "(drop (call $set_buffer_bytes @1 @0 @99999 {other}))" }
    right {
        on_response_headers: "(drop (call $remove_header_map_value @2 {content-length}))",
        on_response_body: "(drop (call $set_buffer_bytes @1 @0 @99999 {other}))"
    }

    "uppercase-header" "X-User"
    wrong { on_request_headers: "(drop (call $replace_header_map_value @0 {X-User} {b}))" }
    right { on_request_headers: "(drop (call $replace_header_map_value @0 {x-user} {b}))" }

    "hop-by-hop-header" "transfer-encoding"
    wrong { on_response_headers: "(drop (call $add_header_map_value @2 {transfer-encoding} {chunked}))" }
    right { on_response_headers: "(drop (call $add_header_map_value @2 {x-chunks} {many}))" }

    "invalid-header" "no valid header"
    wrong { on_request_headers: "(drop (call $add_header_map_value @0 {x user} {b}))" }
    right { on_request_headers: "(drop (call $add_header_map_value @0 {x-user} {b}))" }

    "malformed-pairs" "local reply's headers"
    wrong {
        on_request_headers:
            "(drop (call $send_local_response @403 @0 @0 @0 @0 {x-a: b, x-c: d} @-1)) (return @1)"
    }
    right {
        on_request_headers:
            "(drop (call $send_local_response @403 @0 @0 @0 @0 [x-a=b;x-c=d] @-1)) (return @1)"
    }

    "resume-before-pause" "then returns Pause"
    wrong { on_request_headers: "(drop (call $continue_stream @0)) (return @1)" }
    right { on_request_headers: "(return @0)" }

    "resume-without-pause" "not paused"
    wrong { on_response_headers: "(drop (call $continue_stream @1))" }
    right { on_response_headers: "(return @0)" }

    "never-resumed" "nothing resumed the stream"
    wrong { on_request_headers: "(return @1)" }
    right {
        on_request_headers: "(if (i32.eqz (call $http_call {backend}
            [:method=GET;:path=/;:authority=a] @0 @0 @0 @0 @500 @4096)) (then (return @1)))",
        on_http_call_response: "(drop (call $continue_stream @0))"
    }

    "pause-after-failed-call" "returns Pause after proxy_http_call(\"empty\""
    wrong {
        on_request_headers: "(drop (call $http_call {empty}
            [:method=GET;:path=/;:authority=a] @0 @0 @0 @0 @500 @4096)) (return @1)",
        on_http_call_response: "(drop (call $continue_stream @0))"
    }
    right {
        on_request_headers: "(if (i32.eqz (call $http_call {empty}
            [:method=GET;:path=/;:authority=a] @0 @0 @0 @0 @500 @4096)) (then (return @1)))",
        on_http_call_response: "(drop (call $continue_stream @0))"
    }

    "reply-in-response-body" "truncates the response"
    wrong { on_response_body: "(drop (call $send_local_response @500 @0 @0 @0 @0 @0 @0 @-1))" }
    right {
        on_response_headers:
            "(drop (call $send_local_response @500 @0 @0 @0 @0 @0 @0 @-1)) (return @1)"
    }

    "reply-from-root" "for no stream"
    wrong {
        on_request_headers: "",
        on_configure: "(drop (call $set_tick_period_milliseconds @1000))",
        on_tick: "(drop (call $send_local_response @500 @0 @0 @0 @0 @0 @0 @-1))"
    }
    right {
        on_request_headers:
            "(drop (call $send_local_response @500 @0 @0 @0 @0 @0 @0 @-1)) (return @1)"
    }

    "reply-twice" "answered by a local reply before"
    wrong {
        on_request_headers:
            "(drop (call $send_local_response @401 @0 @0 @0 @0 @0 @0 @-1))
             (drop (call $send_local_response @403 @0 @0 @0 @0 @0 @0 @-1)) (return @1)"
    }
    right {
        on_request_headers:
            "(drop (call $send_local_response @401 @0 @0 @0 @0 @0 @0 @-1)) (return @1)"
    }

    "dead-context" "context 900000 is over"
    wrong {
        on_request_headers: "",
        on_configure: "(drop (call $set_tick_period_milliseconds @1000))",
        on_tick: "(drop (call $set_effective_context @900000))"
    }
    right {
        on_request_headers: "",
        on_configure: "(drop (call $set_tick_period_milliseconds @1000))",
        on_tick: "(drop (call $set_effective_context (local.get 0)))"
    }

    "unknown-cluster" "no cluster \"nowhere\""
    wrong {
        on_request_headers: "(drop (call $http_call {nowhere}
            [:method=GET;:path=/;:authority=a] @0 @0 @0 @0 @500 @4096))",
        on_http_call_response: ""
    }
    right {
        on_request_headers: "(drop (call $http_call {backend}
            [:method=GET;:path=/;:authority=a] @0 @0 @0 @0 @500 @4096))",
        on_http_call_response: ""
    }

    "call-headers" "lacks :authority"
    wrong {
        on_request_headers: "(drop (call $http_call {backend}
            [:method=GET;:path=/] @0 @0 @0 @0 @500 @4096))",
        on_http_call_response: ""
    }
    right {
        on_request_headers: "(drop (call $http_call {backend}
            [:method=GET;:path=/;:authority=a] @0 @0 @0 @0 @500 @4096))",
        on_http_call_response: ""
    }

    "call-without-timeout" "has no timeout"
    wrong {
        on_request_headers: "(drop (call $http_call {backend}
            [:method=GET;:path=/;:authority=a] @0 @0 @0 @0 @0 @4096))",
        on_http_call_response: ""
    }
    right {
        on_request_headers: "(drop (call $http_call {backend}
            [:method=GET;:path=/;:authority=a] @0 @0 @0 @0 @500 @4096))",
        on_http_call_response: ""
    }

    "call-without-callback" "proxy_on_http_call_response is not exported"
    wrong {
        on_request_headers: "(drop (call $http_call {backend}
            [:method=GET;:path=/;:authority=a] @0 @0 @0 @0 @500 @4096))"
    }
    right {
        on_request_headers: "(drop (call $http_call {backend}
            [:method=GET;:path=/;:authority=a] @0 @0 @0 @0 @500 @4096))",
        on_http_call_response: ""
    }

    "tick-without-callback" "proxy_on_tick is not exported"
    wrong {
        on_request_headers: "",
        on_configure: "(drop (call $set_tick_period_milliseconds @1000))"
    }
    right {
        on_request_headers: "",
        on_configure: "(drop (call $set_tick_period_milliseconds @1000))",
        on_tick: ""
    }

    "queue-without-callback" "\"jobs\" is registered"
    wrong {
        on_request_headers: "",
        on_configure: "(drop (call $register_shared_queue {jobs} @4096))"
    }
    right {
        on_request_headers: "",
        on_configure: "(drop (call $register_shared_queue {jobs} @4096))",
        on_queue_ready: ""
    }

    "tick-too-short" "the period is 1 ms"
    wrong {
        on_request_headers: "",
        on_configure: "(drop (call $set_tick_period_milliseconds @1))",
        on_tick: "(drop (call $set_tick_period_milliseconds @60000))"
    }
    right {
        on_request_headers: "",
        on_configure: "(drop (call $set_tick_period_milliseconds @100))",
        on_tick: ""
    }

    "tick-zero" "a period of 0"
    wrong {
        on_request_headers: "",
        on_configure: "(drop (call $set_tick_period_milliseconds @0))",
        on_tick: ""
    }
    right {
        on_request_headers: "",
        on_configure: "(drop (call $set_tick_period_milliseconds @1000))",
        on_tick: "(drop (call $set_tick_period_milliseconds @0))"
    }

    "queue-unknown" "no queue has the token 77"
    wrong { on_request_headers: "(drop (call $enqueue_shared_queue @77 {job}))" }
    right {
        on_request_headers: "(drop (call $register_shared_queue {jobs} @4096))
            (drop (call $enqueue_shared_queue (i32.load @4096) {job}))",
        on_queue_ready: ""
    }

    "struct-configuration" "bytes of protobuf" (Setup::Struct)
    wrong {
        on_request_headers: "",
        on_configure: "(drop (call $get_buffer_bytes @7 @0 @1000 @4096 @4100))"
    }
    right {
        on_request_headers: "",
        on_configure: "(drop (call $get_buffer_bytes @7 @0 @1000 @4096 @4100))"
    }

    "configuration-unread" "is not read" (Setup::Configured("{}"))
    wrong { on_request_headers: "", on_configure: "" }
    right {
        on_request_headers: "",
        on_configure: "(drop (call $get_buffer_bytes @7 @0 @1000 @4096 @4100))"
    }

    "silent-rejection" "proxy_on_configure refuses" (Setup::Configured("rate=10"))
    wrong {
        on_request_headers: "",
        on_configure: "(drop (call $get_buffer_bytes @7 @0 @1000 @4096 @4100)) (return @0)"
    }
    right {
        on_request_headers: "",
        on_configure: "(drop (call $get_buffer_bytes @7 @0 @1000 @4096 @4100))
            (drop (call $log @4 {no JSON, the default counts}))"
    }

    "counter-in-configure" "\"starts\" is incremented in proxy_on_configure"
    wrong {
        on_request_headers: "",
        on_configure: "(drop (call $define_metric @0 {starts} @4096))
            (drop (call $increment_metric (i32.load @4096) (i64.const 1)))"
    }
    right {
        on_configure: "(drop (call $define_metric @0 {requests} @4096))
            (global.set $count (i32.load @4096))",
        on_request_headers: "(drop (call $increment_metric (global.get $count) (i64.const 1)))"
    }

    "metric-redefined" "\"requests\" is defined again"
    wrong {
        on_request_headers: "(drop (call $define_metric @0 {requests} @4096))
            (drop (call $increment_metric (i32.load @4096) (i64.const 1)))"
    }
    right {
        on_vm_start: "(drop (call $define_metric @0 {requests} @4096))
            (global.set $count (i32.load @4096))",
        on_request_headers: "(drop (call $increment_metric (global.get $count) (i64.const 1)))"
    }

    "unbounded-metrics" "contain what clients send"
    wrong {
        on_request_headers: "(drop (call $get_header_map_value @0 {x-user} @4096 @4100))
            (drop (call $define_metric @0 VALUE @4104))"
    }
    right {
        on_vm_start: "(drop (call $define_metric @0 {users} @4104))",
        on_request_headers: "(drop (call $get_header_map_value @0 {x-user} @4096 @4100))"
    }

    "gauge-record" "each with a value of its own"
    wrong {
        on_vm_start: "(drop (call $define_metric @1 {since} @4104))",
        on_request_headers: "(if (i32.eqz (global.get $count)) (then
              (drop (call $get_current_time_nanoseconds @4112))
              (global.set $count
                (i32.wrap_i64 (i64.div_u (i64.load @4112) (i64.const 1000000))))))
            (drop (call $record_metric (i32.load @4104) (i64.extend_i32_u (global.get $count))))"
    }
    right {
        on_vm_start: "(drop (call $define_metric @1 {streams} @4104))",
        on_request_headers: "(drop (call $increment_metric (i32.load @4104) (i64.const 1)))",
        on_log: "(drop (call $increment_metric (i32.load @4104) (i64.const -1)))"
    }

    "histogram-value" "\"latency\" is asked for a value"
    wrong {
        on_vm_start: "(drop (call $define_metric @2 {latency} @4104))",
        on_request_headers: "(drop (call $get_metric (i32.load @4104) @4112))"
    }
    right {
        on_vm_start: "(drop (call $define_metric @2 {latency} @4104))",
        on_request_headers: "(drop (call $record_metric (i32.load @4104) (i64.const 5)))"
    }

    "counter-not-positive" "less than 1"
    wrong {
        on_vm_start: "(drop (call $define_metric @0 {bytes} @4104))",
        on_request_headers: "(drop (call $increment_metric (i32.load @4104) (i64.const 0)))"
    }
    right {
        on_vm_start: "(drop (call $define_metric @0 {bytes} @4104))",
        on_request_headers: "(drop (call $increment_metric (i32.load @4104) (i64.const 7)))"
    }

    "unknown-metric" "no metric with the id 400"
    wrong { on_request_headers: "(drop (call $increment_metric @400 (i64.const 1)))" }
    right {
        on_vm_start: "(drop (call $define_metric @0 {requests} @4104))",
        on_request_headers: "(drop (call $increment_metric (i32.load @4104) (i64.const 1)))"
    }

    "unbounded-shared-keys" "contain what clients send"
    wrong {
        on_request_headers: "(drop (call $get_header_map_value @0 {x-user} @4096 @4100))
            (drop (call $set_shared_data VALUE {1} @0))"
    }
    right {
        on_request_headers: "(drop (call $get_header_map_value @0 {x-user} @4096 @4100))
            (drop (call $set_shared_data {last-user} VALUE @0))"
    }

    "unbounded-shared-keys" "streams have made 64 keys"
    wrong {
        on_request_headers: "(i32.store @4200 (global.get $count))
            (global.set $count (i32.add (global.get $count) @1))
            (drop (call $set_shared_data @4200 @4 {1} @0))"
    }
    right {
        on_request_headers: "(i32.store @4200 (i32.rem_u (global.get $count) @16))
            (global.set $count (i32.add (global.get $count) @1))
            (drop (call $set_shared_data @4200 @4 {1} @0))"
    }

    "lost-update" "\"total\" is read, then written"
    wrong {
        on_request_headers: "(drop (call $get_shared_data {total} @4096 @4100 @4104))
            (drop (call $set_shared_data {total} {2} @0))"
    }
    right {
        on_request_headers: "(drop (call $get_shared_data {total} @4096 @4100 @4104))
            (if (call $set_shared_data {total} {2} (i32.load @4104)) (then
              (drop (call $get_shared_data {total} @4096 @4100 @4104))
              (drop (call $set_shared_data {total} {2} (i32.load @4104)))))"
    }

    "cas-ignored" "\"total\" was not written"
    wrong {
        on_request_headers: "(drop (call $set_shared_data {total} {2} @900000))"
    }
    right {
        on_request_headers: "(if (call $set_shared_data {total} {2} @900000) (then
              (drop (call $get_shared_data {total} @4096 @4100 @4104))
              (drop (call $set_shared_data {total} {2} (i32.load @4104)))))"
    }

    "empty-vm-id" "under the empty vm_id" (Setup::Shared)
    wrong { on_request_headers: "(drop (call $set_shared_data {total} {2} @0))" }
    right { on_request_headers: "(drop (call $set_shared_data {total} {2} @0))" }

    "trace-per-request" "at debug level"
    wrong { on_request_headers: "(drop (call $log @1 {a request}))" }
    right {
        on_request_headers: "(drop (call $get_log_level @4096))
            (if (i32.le_u (i32.load @4096) @1) (then (drop (call $log @1 {a request}))))"
    }

    "secret-logged" "a credential"
    wrong {
        on_request_headers: "(drop (call $get_header_map_value @0 {authorization} @4096 @4100))
            (drop (call $log @2 VALUE))"
    }
    right {
        on_request_headers: "(drop (call $get_header_map_value @0 {authorization} @4096 @4100))
            (drop (call $log @2 {somebody is authorised}))"
    }

    "context-leak" "memory has grown"
    wrong {
        on_request_headers: "(drop (memory.grow @1)) (drop (call $log @2 {a request}))"
    }
    right { on_request_headers: "(drop (call $log @2 {a request}))" }

    "unknown-foreign-function" "\"fly\""
    wrong { on_request_headers: "(drop (call $call_foreign_function {fly} @0 @0 @4096 @4100))" }
    right {
        on_request_headers:
            "(drop (call $call_foreign_function {clear_route_cache} @0 @0 @4096 @4100))"
    }

    "surprising-status" "pending"
    wrong { on_request_headers: "(drop (call $done ))" }
    right { on_request_headers: "" }
}
