use host_sim_bootstrap::{Pattern, StatsTag, StatsTagSource};

use super::*;

fn tag(name: &str) -> StatsTag {
    let pattern = Pattern::search(&format!(r"({name}\.=\.(.*?);\.;)")).unwrap();
    StatsTag { name: name.into(), source: StatsTagSource::Regex(pattern) }
}

fn rendered(stats: &[(&str, StatValue)]) -> String {
    prometheus(stats, &TagExtractor::new(&[tag("plugin"), tag("endpoint")], true))
}

fn histogram(samples: &[u64]) -> StatValue {
    let histogram = crate::Histogram::default();
    samples.iter().for_each(|sample| histogram.record(*sample));
    histogram.value()
}

#[test]
fn envoys_own_stats_get_envoys_labels() {
    let one = |name| rendered(&[(name, StatValue::Counter(3))]);
    let cases = [
        (
            "cluster.shop.upstream_rq_200",
            r#"envoy_cluster_upstream_rq{envoy_response_code="200",envoy_cluster_name="shop"} 3"#,
        ),
        (
            "cluster.shop.external.upstream_rq_2xx",
            r#"envoy_cluster_external_upstream_rq_xx{envoy_response_code_class="2",envoy_cluster_name="shop"} 3"#,
        ),
        (
            "http.edge.downstream_rq_5xx",
            r#"envoy_http_downstream_rq_xx{envoy_response_code_class="5",envoy_http_conn_manager_prefix="edge"} 3"#,
        ),
        (
            "native.http_local_rate_limit.ok",
            r#"envoy_http_local_rate_limit_ok{envoy_local_http_ratelimit_prefix="native"} 3"#,
        ),
        (
            "listener.127.0.0.1_29902.downstream_cx_total",
            r#"envoy_listener_downstream_cx_total{envoy_listener_address="127.0.0.1_29902"} 3"#,
        ),
        (
            "tcp.edge.downstream_cx_total",
            r#"envoy_tcp_downstream_cx_total{envoy_tcp_prefix="edge"} 3"#,
        ),
        ("listener.admin.downstream_cx_total", "envoy_listener_admin_downstream_cx_total{} 3"),
        ("cluster_manager.cluster_added", "envoy_cluster_manager_cluster_added{} 3"),
    ];
    for (name, line) in cases {
        assert_eq!(one(name).lines().nth(1), Some(line), "{name}");
    }
}

#[test]
fn a_plugins_metric_is_its_own_series_with_its_labels() {
    let name = "wasmcustom.plugin.=.router;.;endpoint.=.127.0.0.1:9001;.;weir_picks_total";
    let expected = "# TYPE weir_picks_total counter\n\
                    weir_picks_total{plugin=\"router\",endpoint=\"127.0.0.1:9001\"} 4\n";
    assert_eq!(rendered(&[(name, StatValue::Counter(4))]), expected);
}

#[test]
fn a_label_value_keeps_dots_and_pipes_and_is_escaped() {
    let name = "wasmcustom.plugin.=.outbound|80||a.b.svc\\\"x\";.;weir_x";
    let line = rendered(&[(name, StatValue::Gauge(1))]);
    assert!(line.ends_with("weir_x{plugin=\"outbound|80||a.b.svc\\\\\\\"x\\\"\"} 1\n"), "{line}");
}

#[test]
fn a_custom_name_that_begins_with_a_digit_is_left_out() {
    assert_eq!(rendered(&[("wasmcustom.5xx", StatValue::Counter(1))]), "");
}

#[test]
fn one_family_has_one_type_line() {
    let stats = [
        ("http.b.downstream_rq_2xx", StatValue::Counter(2)),
        ("http.a.downstream_rq_2xx", StatValue::Counter(1)),
    ];
    let text = rendered(&stats);
    assert_eq!(text.matches("# TYPE").count(), 1);
    assert!(text.find("\"a\"") < text.find("\"b\""));
}

#[test]
fn a_histogram_has_buckets_sum_and_count() {
    let text = rendered(&[("wasmcustom.plugin.=.p;.;weir_wait_ms", histogram(&[0, 7, 9]))]);
    assert!(text.starts_with("# TYPE weir_wait_ms histogram\n"));
    for line in [
        r#"weir_wait_ms_bucket{plugin="p",le="0.5"} 1"#,
        r#"weir_wait_ms_bucket{plugin="p",le="10"} 3"#,
        r#"weir_wait_ms_bucket{plugin="p",le="3600000"} 3"#,
        r#"weir_wait_ms_bucket{plugin="p",le="+Inf"} 3"#,
        r#"weir_wait_ms_sum{plugin="p"} 16"#,
        r#"weir_wait_ms_count{plugin="p"} 3"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[test]
fn a_fixed_tag_is_on_every_series() {
    let fixed = StatsTag { name: "region".into(), source: StatsTagSource::Fixed("eu".into()) };
    let text = prometheus(&[("a", StatValue::Counter(1))], &TagExtractor::new(&[fixed], false));
    assert_eq!(text.lines().nth(1), Some(r#"envoy_a{region="eu"} 1"#));
}

#[test]
fn without_default_tags_only_the_named_ones_are_cut_out() {
    let named = StatsTag { name: "envoy.cluster_name".into(), source: StatsTagSource::BuiltIn };
    let extractor = TagExtractor::new(&[named], false);
    let (plain, labels) = extractor.extract("cluster.shop.upstream_rq_200");
    assert_eq!(plain, "cluster.upstream_rq_200");
    assert_eq!(labels, [("envoy.cluster_name".to_owned(), "shop".to_owned())]);
}

#[test]
fn the_text_lists_numbers_first_and_histograms_last() {
    let stats = [
        ("b.hist", histogram(&[])),
        ("c.count", StatValue::Counter(2)),
        ("a.hist", histogram(&[1, 1])),
        ("d.gauge", StatValue::Gauge(0)),
    ];
    let text = text(&stats);
    let names: Vec<_> = text.lines().filter_map(|line| line.split(':').next()).collect();
    assert_eq!(names, ["c.count", "d.gauge", "a.hist", "b.hist"]);
    assert!(text.contains("a.hist: P0("), "{text}");
    assert!(text.contains("b.hist: No recorded values\n"));
}

#[test]
fn quantiles_lie_within_their_bucket_and_grow() {
    let StatValue::Histogram { count, buckets, .. } = histogram(&[2, 3, 20, 700]) else {
        panic!("a histogram")
    };
    let values = QUANTILES.map(|percent| quantile(percent, count, &buckets));
    assert!(values.is_sorted(), "{values:?}");
    assert!((1.0..=5.0).contains(&values[1]), "{values:?}");
    assert!((500.0..=1000.0).contains(&values[9]), "{values:?}");
}
