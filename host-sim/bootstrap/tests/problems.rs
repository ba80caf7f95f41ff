//! What is refused, and in which words: the words are the interface to whoever mends the file.

use host_sim_bootstrap::{Bootstrap, Problems, UpstreamProtocol};
use proptest::prelude::*;

/// A small bootstrap with holes: `(hole, what to put there)`. An empty hole leaves a valid file.
fn with(holes: &[(&str, &str)]) -> Result<Bootstrap, Problems> {
    let mut text = TEMPLATE.to_owned();
    for (hole, fragment) in holes {
        let marker = format!("#{hole}#");
        assert!(text.contains(&marker), "no hole {hole}");
        text = text.replace(&marker, fragment);
    }
    let text: Vec<&str> = text.lines().map(|line| line.split('#').next().unwrap_or("")).collect();
    Bootstrap::from_yaml(&text.join("\n"))
}

const TEMPLATE: &str = r##"
static_resources:
  listeners:
  - address: {socket_address: {address: 127.0.0.1, port_value: 80}}
    #listener#
    filter_chains:
    - name: chain
      #chain#
      filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: x
          #hcm#
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              #vhost#
              routes:
              - match: {prefix: /}
                route:
                  cluster: shop
                  #route#
          http_filters:
          - name: router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
          #filters#
  clusters:
  - name: shop
    #cluster#
#clusters#
#top#
"##;

const HCM: &str = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config";
const VHOST: &str = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config\
                     .route_config.virtual_hosts[0]";
const ROUTE: &str = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config\
                     .route_config.virtual_hosts[0].routes[0].route";
const CLUSTER: &str = "static_resources.clusters[0]";

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

#[test]
fn all_problems_are_reported_at_once() {
    let holes = [
        ("hcm", "server_name: 5"),
        ("route", "timeout: 3"),
        ("cluster", "type: EDS"),
        ("top", "x: 1"),
    ];
    let Err(Problems(problems)) = with(&holes) else { panic!("accepted") };
    let paths: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
    let route = format!("{ROUTE}.timeout");
    let name = format!("{HCM}.server_name");
    assert_eq!(paths.len(), 4, "{problems:?}");
    for path in [route.as_str(), name.as_str(), "static_resources.clusters[0].type", ""] {
        assert!(paths.contains(&path), "{path} in {paths:?}");
    }
}

#[test]
fn one_field_in_both_spellings_is_given_twice() {
    let holes = [("cluster", "connect_timeout: 1s\n    connectTimeout: 2s")];
    let expected =
        format!("{CLUSTER}: 'connect_timeout' and 'connectTimeout' are one field, given twice");
    assert_eq!(with(&holes).unwrap_err().to_string(), expected);
}

#[test]
fn a_key_given_twice_is_an_error_in_yaml_and_in_json() {
    for text in ["node: {}\nnode: {}", r#"{"node": {}, "node": {}}"#] {
        let problems = Bootstrap::from_yaml(text).unwrap_err().to_string();
        assert!(problems.contains("duplicate entry with key \"node\""), "{problems}");
    }
}

#[test]
fn json_is_accepted_even_where_it_is_no_yaml() {
    let text = "{\n\t\"node\": {\"id\": \"a\"}\n}";
    assert_eq!(Bootstrap::from_yaml(text).unwrap().node.id, "a");
}

#[test]
fn the_terminal_filter_comes_last_and_only_there() {
    let router = r#"{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}"#;
    let second = format!("- {{name: again, typed_config: {router}}}");
    let problems = with(&[("filters", &second)]).unwrap_err().to_string();
    let expected = format!("{HCM}.http_filters[0]: terminal filter 'router' must be the last");
    assert_eq!(problems, expected);

    let mutation =
        "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation";
    let last = format!("- {{name: m, typed_config: {{\"@type\": {mutation}, mutations: {{}}}}}}");
    let problems = with(&[("filters", &last)]).unwrap_err().to_string();
    let terminal = "the last filter must be the terminal 'envoy.filters.http.router'";
    assert!(problems.starts_with(&format!("{HCM}.http_filters: {terminal}")), "{problems}");
}

#[test]
fn a_route_to_a_cluster_that_is_not_there_is_an_error() {
    let text = TEMPLATE.replace("- name: shop", "- name: other");
    let problems = Bootstrap::from_yaml(&text.replace('#', "# ")).unwrap_err().to_string();
    let expected =
        "static_resources.listeners: listener '127.0.0.1:80' routes to unknown cluster 'shop'";
    assert_eq!(problems, expected);
}

#[test]
fn an_unreadable_file_is_named() {
    let problems = Bootstrap::from_file("no/such/file.yaml".as_ref()).unwrap_err().to_string();
    assert!(problems.starts_with("cannot read no/such/file.yaml: "), "{problems}");
}

#[test]
fn what_is_no_yaml_says_so_with_its_place() {
    let problems = Bootstrap::from_yaml("a: [").unwrap_err().to_string();
    assert!(problems.starts_with("not valid YAML: ") && problems.contains("line"), "{problems}");
    let tagged = Bootstrap::from_yaml("node: !custom {}").unwrap_err().to_string();
    assert_eq!(tagged, "node: the YAML tag !custom is not supported");
    let empty = Bootstrap::from_yaml("").unwrap_err().to_string();
    assert_eq!(empty, "expected an object, got null");
}

/// Any YAML that is made of names this schema knows, and of values of every kind.
fn yaml() -> impl Strategy<Value = serde_json::Value> {
    let names = include_str!("../src/envoy_fields.txt");
    let names: Vec<String> = names.split_whitespace().map(|name| name.replace(':', "")).collect();
    let scalar = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        ".{0,8}".prop_map(Into::into),
        Just("1s".into()),
    ];
    scalar.prop_recursive(6, 64, 5, move |inner| {
        let key = prop::sample::select(names.clone());
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map(key, inner, 0..5)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in ".{0,200}") {
        let _ = Bootstrap::from_yaml(&text);
    }

    #[test]
    fn any_tree_is_read_or_refused(tree in yaml(), at in 0usize..5) {
        // Into a place where it is looked at, not only named.
        let text = match at {
            0 => tree.to_string(),
            1 => format!(r#"{{"static_resources": {{"clusters": [{tree}]}}}}"#),
            2 => format!(r#"{{"static_resources": {{"listeners": [{tree}]}}}}"#),
            3 => format!(r#"{{"stats_config": {tree}}}"#),
            _ => format!(r#"{{"admin": {tree}, "node": {tree}}}"#),
        };
        if let Err(Problems(problems)) = Bootstrap::from_yaml(&text) {
            prop_assert!(!problems.is_empty());
        }
    }
}

/// A listener whose only chain holds these filters.
fn listener_of(filters: &str) -> Result<Bootstrap, Problems> {
    Bootstrap::from_yaml(&format!(
        r#"
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: 80}}}}
    filter_chains:
    - filters: [{filters}]
"#
    ))
}

const NETWORK: &str = "type.googleapis.com/envoy.extensions.filters.network";

fn tcp_proxy(fields: &str) -> String {
    format!(
        r#"{{name: tcp, typed_config: {{"@type": {NETWORK}.tcp_proxy.v3.TcpProxy, {fields}}}}}"#
    )
}

fn network_plugin() -> String {
    let vm = "vm_config: {code: {local: {filename: a.wasm}}}";
    let wasm = "wasm.v3.Wasm";
    format!(
        r#"{{name: w, typed_config: {{"@type": {NETWORK}.{wasm}, config: {{name: tap, {vm}}}}}}}"#
    )
}

#[test]
fn plugins_come_before_the_tcp_proxy_and_its_settings_have_envoys_defaults() {
    let proxy = tcp_proxy("stat_prefix: x, cluster: shop");
    let bootstrap = listener_of(&format!("{}, {proxy}", network_plugin())).unwrap();
    let listener = &bootstrap.listeners[0];
    assert_eq!(listener.network_filters[0].name, "tap");
    let tcp = listener.tcp().unwrap();
    assert_eq!(tcp.clusters, [("shop".to_owned(), 1)]);
    assert_eq!(tcp.idle_timeout, Some(std::time::Duration::from_secs(3600)));
    assert_eq!((tcp.max_connect_attempts, tcp.max_downstream_connection_duration), (1, None));
    assert!(listener.http().is_none() && listener.access_logs().is_empty());
}

#[test]
fn a_tcp_proxy_says_what_it_does_not_understand() {
    let filters = "static_resources.listeners[0].filter_chains[0].filters";
    let last = "the last filter must be the HTTP connection manager or the TCP proxy";
    let good = tcp_proxy("stat_prefix: x, cluster: shop");
    for (given, problem) in [
        (
            tcp_proxy("stat_prefix: x, cluster: a, tunneling_config: {}"),
            format!(
                "{filters}[0].typed_config: field 'tunneling_config' is not simulated by host-sim"
            ),
        ),
        (
            tcp_proxy("stat_prefix: x, cluster: a, idle_timout: 1s"),
            format!(
                "{filters}[0].typed_config: no such field 'idle_timout'; did you mean 'idle_timeout'?"
            ),
        ),
        (
            tcp_proxy("stat_prefix: x"),
            format!("{filters}[0].typed_config: one of 'cluster', 'weighted_clusters' is required"),
        ),
        (
            tcp_proxy("stat_prefix: x, weighted_clusters: {clusters: [{name: a}]}"),
            format!(
                "{filters}[0].typed_config.weighted_clusters.clusters[0]: field 'weight' is required"
            ),
        ),
        (network_plugin(), format!("{filters}: {last}")),
        (String::new(), format!("{filters}: {last}")),
        (
            format!("{good}, {good}"),
            format!("{filters}[0]: ends the chain and must be its last filter"),
        ),
    ] {
        let problems = listener_of(&given).unwrap_err().to_string();
        assert_eq!(problems, problem, "{given}");
    }
}

/// A listener for HTTP with this filter before the router.
fn http_filter(config: &str) -> Result<Bootstrap, Problems> {
    listener_of(&format!(
        r#"{{name: hcm, typed_config: {{"@type": {NETWORK}.http_connection_manager.v3.HttpConnectionManager,
          stat_prefix: x, route_config: {{virtual_hosts: []}}, http_filters: [
          {{name: first, typed_config: {config}}},
          {{name: router, typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}}}]}}}}"#
    ))
}

#[test]
fn a_typed_struct_is_the_message_that_it_names() {
    let url = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";
    let value = "{config: {name: tap, vm_config: {code: {local: {filename: a.wasm}}}}}";
    let plain = http_filter(&format!(r#"{{"@type": {url}, {}"#, &value[1..])).unwrap();
    for wrapper in ["udpa.type.v1.TypedStruct", "xds.type.v3.TypedStruct"] {
        let config = format!(
            r#"{{"@type": type.googleapis.com/{wrapper}, type_url: {url}, value: {value}}}"#
        );
        let wrapped = http_filter(&config).unwrap();
        assert_eq!(wrapped.listeners, plain.listeners, "{wrapper}");
    }
}

#[test]
fn a_typed_struct_says_what_it_does_not_understand() {
    let first = format!("{HCM}.http_filters[0].typed_config");
    let wasm = "type_url: envoy.extensions.filters.http.wasm.v3.Wasm";
    for (fields, problem) in [
        ("value: {}".to_owned(), ": field 'type_url' is required"),
        (wasm.to_owned(), ".value: field 'config' is required"),
        (format!("{wasm}, values: {{}}"), ": no such field 'values'; did you mean 'value'?"),
        (format!("{wasm}, value: 5"), ".value: expected an object, got the number 5"),
        (
            "type_url: envoy.extensions.filters.http.wasm.v3.Wsm".to_owned(),
            ".type_url: 'envoy.extensions.filters.http.wasm.v3.Wsm' is not simulated by host-sim; \
             did you mean 'envoy.extensions.filters.http.wasm.v3.Wasm'?",
        ),
    ] {
        let config =
            format!(r#"{{"@type": type.googleapis.com/xds.type.v3.TypedStruct, {fields}}}"#);
        let problems = http_filter(&config).unwrap_err().to_string();
        assert!(problems.starts_with(&format!("{first}{problem}")), "{fields}: {problems}");
    }
}

#[test]
fn a_clusters_older_way_to_say_http_2_counts_where_there_is_no_newer_one() {
    let older = "http2_protocol_options: {max_concurrent_streams: 7}";
    let cluster = with(&[("cluster", older)]).unwrap().clusters.remove(0);
    assert_eq!(cluster.http.protocol, UpstreamProtocol::Http2);
    assert_eq!(cluster.http.http2.max_concurrent_streams, Some(7));

    let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let newer = format!(
        r#"typed_extension_protocol_options: {{{options}: {{"@type": type.googleapis.com/{options},
      explicit_http_config: {{http_protocol_options: {{}}}}}}}}"#
    );
    let both = with(&[("cluster", &format!("{older}\n    {newer}"))]).unwrap();
    assert_eq!(both.clusters[0].http.protocol, UpstreamProtocol::Http1);
}
