//! One file with everything in it, and what it means.

use std::path::PathBuf;
use std::time::Duration;

use host_sim_bootstrap::*;

fn full() -> Bootstrap {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/full.yaml");
    Bootstrap::from_file(&path).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn the_top_level_is_read() {
    let bootstrap = full();
    assert_eq!(bootstrap.node.id, "edge-1");
    assert_eq!(bootstrap.node.metadata["zone"], "a");
    assert_eq!(bootstrap.admin.as_ref().map(ToString::to_string), Some("127.0.0.1:0".into()));
    assert_eq!(bootstrap.stats_tags.len(), 2);
    assert_eq!(bootstrap.stats_tags[1].source, StatsTagSource::Fixed("eu".into()));
    let [service] = &bootstrap.wasm_services[..] else { panic!("one service") };
    assert!(service.singleton);
    assert_eq!(service.plugin.vm.code, DataSource::File("health_signal.wasm".into()));
}

#[test]
fn a_listener_folds_its_chain_and_an_alias_is_a_copy() {
    let bootstrap = full();
    let listener = &bootstrap.listeners[0];
    assert_eq!(Some(&listener.address), bootstrap.admin.as_ref());
    let tls = listener.tls.as_ref().unwrap();
    assert_eq!((tls.min_version, tls.max_version), (TlsVersion::V1_3, TlsVersion::V1_3));
    assert_eq!(tls.alpn_protocols, ["h2", "http/1.1"]);
    assert_eq!(tls.certificates[0].private_key, DataSource::File("edge.key".into()));
    assert_eq!(tls.trusted_ca, Some(DataSource::File("clients.pem".into())));
    assert!(tls.require_client_certificate);
}

#[test]
fn the_connection_manager_has_its_settings_and_envoys_defaults() {
    let http = full().listeners[0].http().unwrap().clone();
    assert_eq!(http.codec, CodecType::Auto);
    assert_eq!(http.http2.max_concurrent_streams, Some(100));
    assert_eq!(http.common.idle_timeout, Some(Duration::from_secs(60)));
    assert_eq!(http.common.max_headers_count, 100);
    assert_eq!(http.stream_idle_timeout, None, "0s is off");
    assert_eq!(http.request_timeout, Some(Duration::from_secs(30)));
    assert_eq!(http.access_logs[0].sink, AccessLogSink::Stdout);
    assert_eq!(http.access_logs[0].format, AccessLogFormat::Text("%RESPONSE_CODE%\n".into()));
    assert_eq!(http.access_logs[1].sink, AccessLogSink::File("access.json".into()));
    assert!(http.access_logs[1].omit_empty_values);
    assert_eq!(http.access_logs[2].format, AccessLogFormat::Default);
}

#[test]
fn filters_come_in_order_with_their_configuration() {
    let http = full().listeners[0].http().unwrap().clone();
    let [wasm, limit, mutate, router] = &http.http_filters[..] else { panic!("four filters") };
    let HttpFilterConfig::Wasm(plugin) = &wasm.config else { panic!("wasm") };
    assert!(plugin.configuration.bytes.starts_with(br#"{"policies": [{"name": "all","#));
    assert_eq!(plugin.vm.configuration.kind, ConfigurationKind::Struct);
    assert_eq!(plugin.failure_policy, FailurePolicy::FailReload);
    assert_eq!(plugin.reload_base_interval, Duration::from_millis(500));
    assert_eq!(plugin.vm.environment.key_values["MODE"], "edge");
    let HttpFilterConfig::LocalRateLimit(limit) = &limit.config else { panic!("limit") };
    assert_eq!(limit.status, 503);
    assert_eq!(limit.filter_enforced, FractionalPercent { numerator: 5, denominator: 10_000 });
    assert_eq!(limit.response_headers_to_add[0].name, "x-limited");
    let HttpFilterConfig::HeaderMutation(mutations) = &mutate.config else { panic!("mutate") };
    let removed = HeaderMutation::Remove("x-gateway-destination-endpoint".into());
    assert_eq!(mutations.request[0], removed);
    assert_eq!(router.config, HttpFilterConfig::Router);
}

#[test]
fn routes_keep_their_order_and_names_fold_to_lower_case() {
    let table = full().listeners[0].http().unwrap().route_config.clone();
    let host = &table.virtual_hosts[0];
    assert_eq!(host.domains, ["shop.example.com", "*.shop.example.com"]);
    let body = b"ok".to_vec();
    let healthz = RouteAction::Respond(DirectResponse { status: 200, body });
    assert_eq!(host.routes[0].action, healthz);
    let RouteAction::Forward(second) = &host.routes[1].action else { panic!("forward") };
    assert_eq!(second.cluster, ClusterSpecifier::Header("x-cluster".into()));
    assert_eq!(second.timeout, None, "0s is off");
    let headers = &host.routes[1].matcher.headers;
    assert_eq!(headers[0].value, HeaderMatch::Exact("yes".into(), true));
    assert_eq!(headers[1].value, HeaderMatch::Range { start: 0, end: 10 });
    let PathMatch::Regex(pattern) = &host.routes[1].matcher.path else { panic!("regex") };
    assert!(pattern.is_match("/v1/x") && !pattern.is_match("/a/v1/x"));
}

#[test]
fn a_retry_policy_is_read_in_full() {
    let table = full().listeners[0].http().unwrap().route_config.clone();
    let RouteAction::Forward(forward) = &table.virtual_hosts[0].routes[2].action else {
        panic!("forward")
    };
    let retry = forward.retry_policy.as_ref().unwrap();
    assert_eq!((retry.num_retries, retry.host_selection_retry_max_attempts), (2, 5));
    assert!(retry.previous_hosts);
    assert_eq!(retry.per_try_timeout, Some(Duration::from_millis(250)));
    assert_eq!(retry.back_off.max_interval, Duration::from_secs(1));
    assert_eq!(retry.retriable_status_codes, [429]);
    let add = &table.virtual_hosts[0].routes[2].headers.request_add[0];
    assert_eq!(add.action, AppendAction::OverwriteIfExistsOrAdd, "append: false");
}

#[test]
fn clusters_have_their_policy_limits_and_endpoints() {
    let bootstrap = full();
    let shop = bootstrap.cluster("shop").unwrap();
    let LoadBalancingPolicy::OverrideHost { sources, fallback } = &shop.load_balancing else {
        panic!("override_host")
    };
    assert_eq!(sources[..], [OverrideSource::Header("x-gateway-destination-endpoint".into())]);
    let least = LoadBalancingPolicy::LeastRequest {
        choice_count: 3,
        active_request_bias: 1.5,
        selection_method: SelectionMethod::FullScan,
    };
    assert_eq!(**fallback, least);
    assert_eq!(shop.circuit_breakers.default.max_requests, 50);
    assert_eq!(shop.circuit_breakers.default.max_connections, 1024);
    assert_eq!(shop.circuit_breakers.high.max_requests, 500);
    assert!(shop.healthy_panic_threshold_percent.abs() < f64::EPSILON);
    assert_eq!(shop.http.protocol, UpstreamProtocol::Http2);
    assert_eq!(shop.http.http_filters.len(), 2);
    assert_eq!(shop.tls.as_ref().unwrap().subject_alt_names, ["shop.internal"]);
    assert_eq!(shop.endpoints[0].weight, 3);
    assert_eq!(shop.endpoints[1].health, HealthStatus::Unhealthy);
    assert_eq!(shop.endpoints[1].address.to_string(), "[::1]:8080");
}

#[test]
fn dns_and_original_destination_clusters_are_told_apart() {
    let bootstrap = full();
    let names = bootstrap.cluster("names").unwrap();
    assert_eq!(names.discovery, Discovery::StrictDns { refresh_rate: Duration::from_secs(5) });
    assert_eq!(names.dns_lookup_family, DnsLookupFamily::V4Only);
    assert_eq!(names.connect_timeout, Duration::from_secs(5));
    let anywhere = bootstrap.cluster("anywhere").unwrap();
    let header = Some("x-envoy-original-dst-host".to_owned());
    assert_eq!(anywhere.discovery, Discovery::OriginalDst { header });
    assert_eq!(anywhere.load_balancing, LoadBalancingPolicy::ClusterProvided);
}
