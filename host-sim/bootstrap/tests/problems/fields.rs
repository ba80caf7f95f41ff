//! Field by field: what is said of each mistake, and what is none.

use super::{CLUSTER, HCM, ROUTE, VHOST, with};

/// Hole, fragment, and the one problem it makes; `{HCM}` and its like stand for paths.
const REFUSED: &[(&str, &str, &str)] = &[
    // Fields.
    ("top", "dynamic_resources: {}", "field 'dynamic_resources' is not simulated by host-sim"),
    (
        "top",
        "static_resource: {}",
        "no such field 'static_resource'; did you mean 'static_resources'?",
    ),
    ("top", "zzz: 1", "no such field 'zzz'"),
    (
        "listener",
        "udpListenerConfig: {}",
        "static_resources.listeners[0]: field 'udp_listener_config' is not simulated by host-sim",
    ),
    (
        "chain",
        "filter_chain_match: {}",
        "static_resources.listeners[0].filter_chains[0]: field 'filter_chain_match' is not simulated by host-sim",
    ),
    ("hcm", "tracing: {}", "{HCM}: field 'tracing' is not simulated by host-sim"),
    (
        "hcm",
        "stream_idle_timout: 1s",
        "{HCM}: no such field 'stream_idle_timout'; did you mean 'stream_idle_timeout'?",
    ),
    ("route", "hash_policy: []", "{ROUTE}: field 'hash_policy' is not simulated by host-sim"),
    ("route", "timeOut: 1s", "{ROUTE}: no such field 'timeOut'; did you mean 'timeout'?"),
    (
        "cluster",
        "health_checks: [{}]",
        "{CLUSTER}: field 'health_checks' is not simulated by host-sim yet",
    ),
    (
        "cluster",
        "outlier_detection: {}",
        "{CLUSTER}: field 'outlier_detection' is not simulated by host-sim yet",
    ),
    (
        "chain",
        r#"transport_socket: {name: tls, typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, require_client_certificate: true, common_tls_context: {tls_certificates: [{certificate_chain: {inline_string: a}, private_key: {inline_string: b}}]}}}"#,
        "static_resources.listeners[0].filter_chains[0].transport_socket.typed_config.common_tls_context: host-sim asks clients for certificates only with 'trusted_ca' in 'validation_context'",
    ),
    (
        "chain",
        r#"transport_socket: {name: tls, typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, common_tls_context: {tls_certificates: [{certificate_chain: {inline_string: a}, private_key: {inline_string: b}}], validation_context: {match_typed_subject_alt_names: [{san_type: DNS, matcher: {exact: a}}]}}}}"#,
        "static_resources.listeners[0].filter_chains[0].transport_socket.typed_config.common_tls_context: names of clients are not matched by host-sim, only 'trusted_ca' is looked at",
    ),
    // Types.
    (
        "hcm",
        "server_name: 5",
        "{HCM}.server_name: expected a string, got the number 5 (put it in quotes)",
    ),
    (
        "hcm",
        "use_remote_address: \"yes\"",
        "{HCM}.use_remote_address: expected true or false, got the string \"yes\"",
    ),
    (
        "hcm",
        "xff_num_trusted_hops: -1",
        "{HCM}.xff_num_trusted_hops: expected an integer from 0 to 4294967295, got the number -1",
    ),
    ("hcm", "access_log: {}", "{HCM}.access_log[0]: field 'typed_config' is required"),
    (
        "route",
        "retry_policy: {retriable_status_codes: many}",
        "{ROUTE}.retry_policy.retriable_status_codes[0]: expected an integer from 100 to 999, got the string \"many\"",
    ),
    (
        "hcm",
        "http2_protocol_options: [1]",
        "{HCM}.http2_protocol_options: expected an object, got a list",
    ),
    (
        "hcm",
        "http2_protocol_options: {max_concurrent_streams: 0}",
        "{HCM}.http2_protocol_options.max_concurrent_streams: expected an integer from 1 to 2147483647, got the number 0",
    ),
    ("hcm", "codec_type: HTTP3", "{HCM}.codec_type: HTTP3 is not simulated by host-sim"),
    (
        "hcm",
        "codec_type: HTTP9",
        "{HCM}.codec_type: expected one of 'AUTO', 'HTTP1', 'HTTP2', 'HTTP3', got the string \"HTTP9\"",
    ),
    (
        "hcm",
        "request_timeout: 5",
        "{HCM}.request_timeout: expected a duration such as \"0.5s\", got the number 5",
    ),
    (
        "hcm",
        "request_timeout: 5m",
        "{HCM}.request_timeout: expected a duration such as \"0.5s\", got the string \"5m\"",
    ),
    (
        "hcm",
        "request_timeout: -1s",
        "{HCM}.request_timeout: expected a duration such as \"0.5s\", got the string \"-1s\"",
    ),
    ("cluster", "connect_timeout: 0s", "{CLUSTER}.connect_timeout: must be greater than 0s"),
    (
        "cluster",
        "common_lb_config: {healthy_panic_threshold: {value: 101}}",
        "{CLUSTER}.common_lb_config.healthy_panic_threshold.value: expected a number from 0 to 100, got the number 101",
    ),
    // Extensions.
    (
        "hcm",
        "access_log: [{name: a, typed_config: {\"@type\": type.googleapis.com/envoy.x.Y}}]",
        "{HCM}.access_log[0].typed_config: @type 'envoy.x.Y' is not simulated by host-sim; simulated here: envoy.extensions.access_loggers.file.v3.FileAccessLog, envoy.extensions.access_loggers.stream.v3.StdoutAccessLog, envoy.extensions.access_loggers.stream.v3.StderrAccessLog",
    ),
    (
        "hcm",
        "access_log: [{name: a, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccesLog}}]",
        "{HCM}.access_log[0].typed_config: @type 'envoy.extensions.access_loggers.file.v3.FileAccesLog' is not simulated by host-sim; did you mean 'envoy.extensions.access_loggers.file.v3.FileAccessLog'?",
    ),
    (
        "hcm",
        "access_log: [{name: a, typed_config: {}}]",
        "{HCM}.access_log[0].typed_config: expected an object with '@type', got an object",
    ),
    ("hcm", "access_log: [{name: a}]", "{HCM}.access_log[0]: field 'typed_config' is required"),
    (
        "cluster",
        "load_balancing_policy: {policies: [{typed_extension_config: {name: a, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.load_balancing_policies.client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin, blackout_period: 1s}}}]}",
        "{CLUSTER}.load_balancing_policy.policies[0].typed_extension_config.typed_config: client_side_weighted_round_robin is not simulated by host-sim yet",
    ),
    (
        "cluster",
        "load_balancing_policy: {policies: []}",
        "{CLUSTER}.load_balancing_policy: field 'policies' needs at least one policy",
    ),
    // Routes.
    (
        "vhost",
        "retry_policy: {retry_on: 5x}",
        "{VHOST}.retry_policy.retry_on: '5x' is no retry condition; did you mean '5xx'?",
    ),
    (
        "vhost",
        "retry_policy: {retry_back_off: {}}",
        "{VHOST}.retry_policy.retry_back_off: field 'base_interval' is required",
    ),
    (
        "vhost",
        "retry_policy: {retry_back_off: {base_interval: 2s, max_interval: 1s}}",
        "{VHOST}.retry_policy.retry_back_off.max_interval: must not be below 'base_interval'",
    ),
    (
        "vhost",
        "request_headers_to_remove: [\":path\"]",
        "{VHOST}.request_headers_to_remove: ':path' may not be removed",
    ),
    (
        "vhost",
        "request_headers_to_add: [{header: {key: \"a b\"}}]",
        "{VHOST}.request_headers_to_add[0].header.key: 'a b' is no header name",
    ),
    (
        "vhost",
        "request_headers_to_add: [{header: {}}]",
        "{VHOST}.request_headers_to_add[0].header: field 'key' is required",
    ),
    ("route", "cluster_header: x", "{ROUTE}: only one of 'cluster', 'cluster_header' may be set"),
    // Clusters.
    ("cluster", "type: EDS", "{CLUSTER}.type: EDS is not simulated by host-sim"),
    (
        "cluster",
        "type: ORIGINAL_DST",
        "{CLUSTER}.lb_policy: a cluster of type ORIGINAL_DST needs CLUSTER_PROVIDED",
    ),
    ("cluster", "lb_policy: MAGLEV", "{CLUSTER}.lb_policy: MAGLEV is not simulated by host-sim"),
    (
        "cluster",
        "load_assignment: {cluster_name: shop, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: backend, port_value: 80}}}}]}]}",
        "{CLUSTER}.load_assignment: 'backend' is no IP address; set 'type' to STRICT_DNS or LOGICAL_DNS",
    ),
    (
        "cluster",
        "load_assignment: {cluster_name: shop, endpoints: [{priority: 1}]}",
        "{CLUSTER}.load_assignment.endpoints[0].priority: priorities above 0 are not simulated by host-sim",
    ),
    (
        "cluster",
        "load_assignment: {endpoints: []}",
        "{CLUSTER}.load_assignment: field 'cluster_name' is required",
    ),
    (
        "hcm",
        "xff_num_trusted_hops: 1",
        "{HCM}.xff_num_trusted_hops: host-sim trusts no proxy in front of it; only 0 is simulated",
    ),
    (
        "cluster",
        "typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {\"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {http_protocol_options: {}}, common_http_protocol_options: {max_stream_duration: 1s}}}",
        "{CLUSTER}.typed_extension_protocol_options[\"envoy.extensions.upstreams.http.v3.HttpProtocolOptions\"].common_http_protocol_options: of a cluster, host-sim simulates 'idle_timeout' and 'max_requests_per_connection' only",
    ),
    (
        "cluster",
        "circuit_breakers: {thresholds: [{max_requests: 100, max_pending_requests: 10}]}",
        "{CLUSTER}.circuit_breakers.thresholds[0].max_pending_requests: 10 is below max_requests (100), and host-sim limits requests, not connections: set it to 100 or more",
    ),
    (
        "cluster",
        "circuit_breakers: {thresholds: [{track_remaining: true}]}",
        "{CLUSTER}.circuit_breakers.thresholds[0]: field 'track_remaining' is not simulated by host-sim",
    ),
    (
        "cluster",
        "circuit_breakers: {thresholds: [{retry_budget: {}}]}",
        "{CLUSTER}.circuit_breakers.thresholds[0]: field 'retry_budget' is not simulated by host-sim",
    ),
    (
        "cluster",
        "typed_extension_protocol_options: {other: {\"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, use_downstream_protocol_config: {}}}",
        "{CLUSTER}.typed_extension_protocol_options[\"other\"]: the key must be 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions'",
    ),
    ("clusters", "  - name: shop", "static_resources.clusters: name 'shop' is given twice"),
    // Stats, admin, services.
    (
        "top",
        "stats_config: {stats_tags: [{tag_name: a, regex: \"(\"}]}",
        "stats_config.stats_tags[0].regex: invalid regular expression: unclosed group",
    ),
    (
        "top",
        "stats_config: {stats_tags: [{tag_name: a, regex: \"a\"}]}",
        "stats_config.stats_tags[0].regex: needs a group: what group 1 matches is cut out",
    ),
    (
        "top",
        "stats_config: {stats_tags: [{tag_name: a, regex: \"(a)\", fixed_value: b}]}",
        "stats_config.stats_tags[0]: only one of 'regex', 'fixed_value' may be set",
    ),
    (
        "top",
        "admin: {address: {socket_address: {address: localhost, port_value: 1}}}",
        "admin.address: 'localhost' is no IP address",
    ),
    (
        "top",
        "admin: {address: {socket_address: {address: 127.0.0.1, port_value: 65536}}}",
        "admin.address.socket_address.port_value: expected an integer from 0 to 65535, got the number 65536",
    ),
    (
        "top",
        "admin: {address: {pipe: {path: /x}}}",
        "admin.address: field 'pipe' is not simulated by host-sim",
    ),
    (
        "top",
        "bootstrap_extensions: [{name: w, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.wasm.v3.WasmService, config: {vm_config: {code: {local: {filename: a, inline_string: b}}}}}}]",
        "bootstrap_extensions[0].typed_config.config.vm_config.code.local: only one of 'filename', 'inline_string' may be set",
    ),
    (
        "top",
        "bootstrap_extensions: [{name: w, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.wasm.v3.WasmService, config: {fail_open: true, failure_policy: FAIL_OPEN, vm_config: {code: {local: {filename: a}}}}}}]",
        "bootstrap_extensions[0].typed_config.config: only one of 'fail_open', 'failure_policy' may be set",
    ),
];

/// What loads: hole and fragment.
const ACCEPTED: &[(&str, &str)] = &[
    ("top", ""),
    ("top", "node: ~"),
    ("top", "stats_flush_interval: 5s"),
    ("hcm", "codec_type: 1"),
    ("hcm", "xffNumTrustedHops: \"0\""),
    ("hcm", "http2_protocol_options: {max_concurrent_streams: 2.0}"),
    ("hcm", "tracing: ~"),
    ("hcm", "drain_timeout: 0.000000001s"),
    ("vhost", "retry_policy: {retry_on: \" 5xx ,reset\"}"),
    ("vhost", "requestHeadersToAdd: [{header: {key: X-A, value: \"\"}, keepEmptyValue: true}]"),
    ("route", "retry_policy: {num_retries: 0}"),
    ("route", "timeout: 1.5s"),
    ("cluster", "lb_policy: LEAST_REQUEST"),
    ("cluster", "least_request_lb_config: {choice_count: 5}"),
    ("cluster", "alt_stat_name: other"),
    (
        "cluster",
        "load_assignment: {cluster_name: shop, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: \"::1\", port_value: 80}}}}]}]}",
    ),
    ("clusters", "  - name: other"),
    // What stands alone where there may be several, as in the examples of the Rust SDK.
    (
        "hcm",
        "access_log: {name: a, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog}}",
    ),
    ("vhost", "request_headers_to_remove: x-a"),
    ("vhost", "request_headers_to_add: {header: {key: x-a, value: b}}"),
    ("route", "retry_policy: {retry_on: retriable-status-codes, retriable_status_codes: 503}"),
];

#[test]
fn each_problem_is_told_in_its_own_words() {
    for (hole, fragment, expected) in REFUSED {
        let expected = expected
            .replace("{HCM}", HCM)
            .replace("{VHOST}", VHOST)
            .replace("{ROUTE}", ROUTE)
            .replace("{CLUSTER}", CLUSTER);
        match with(&[(hole, fragment)]) {
            Err(problems) => assert_eq!(problems.to_string(), expected, "{fragment}"),
            Ok(_) => panic!("accepted: {fragment}"),
        }
    }
}

#[test]
fn what_protobufs_json_allows_is_accepted() {
    for (hole, fragment) in ACCEPTED {
        if let Err(problems) = with(&[(hole, fragment)]) {
            panic!("{fragment}: {problems}");
        }
    }
}
