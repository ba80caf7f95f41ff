//! What is refused, and in which words: the words are the interface to whoever mends the file.

mod fields;

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
    let names = include_str!("../../src/envoy_fields.txt");
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
