//! What Envoy's own parser is tested with (`test/common/orca/orca_parser_test.cc`), and what comes of
//! it: the strict mode accepts and refuses the same.

use super::*;
use ::base64::Engine as _;
use ::base64::engine::general_purpose::STANDARD;

/// The report of Envoy's tests, in its binary form.
fn example() -> Vec<u8> {
    let double = |field: u8, value: f64| [&[field << 3 | 1][..], &value.to_le_bytes()].concat();
    let named = |key: &str, value: f64| {
        let entry = [&[0x0a, key.len() as u8], key.as_bytes(), &double(2, value)].concat();
        [&[8 << 3 | 2, entry.len() as u8][..], &entry].concat()
    };
    [
        double(1, 0.7),
        double(2, 0.9),
        double(6, 1000.0),
        double(7, 2.0),
        named("foo", 123.0),
        named("bar", 0.2),
        double(9, 0.8),
    ]
    .concat()
}

/// Headers; what comes of them: nothing, a report, or a refusal.
type Vector<'a> = (&'a [(&'a str, &'a str)], Option<Option<Refusal>>);

const NAME: &str = "endpoint-load-metrics";
const BIN: &str = "endpoint-load-metrics-bin";

fn outcome(headers: &[(&str, &str)], strict: bool) -> Option<Result<LoadReport, Refusal>> {
    let header =
        |name| headers.iter().find_map(|(other, value)| (*other == name).then_some(*value));
    let parsed = parse(header(BIN), header(NAME), strict, UnixNanos::ZERO)?;
    Some(parsed.map(|accepted| accepted.report))
}

#[test]
fn the_strict_mode_does_with_envoys_own_vectors_what_envoy_does() {
    let whole = STANDARD.encode(example());
    let half = STANDARD.encode(&example()[..example().len() / 2]);
    let json = r#"JSON {"cpu_utilization": 0.7, "application_utilization": 0.8, "mem_utilization": 0.9,
        "rps_fractional": 1000, "eps": 2, "named_metrics": {"foo": 123,"bar": 0.2}}"#;
    let unknown = json.replacen(r#""eps": 2,"#, r#""eps": 2, "unknown_field": 2,"#, 1);
    let text = "TEXT cpu_utilization:0.7,application_utilization:0.8,mem_utilization:0.9,\
                rps_fractional:1000,eps:2,named_metrics.foo:123,named_metrics.bar:0.2";
    let binary = format!("BIN {whole}");
    let accepted = Some(None);
    let refused = |refusal| Some(Some(refusal));
    let vectors: [Vector<'_>; 21] = [
        (&[], None),
        (&[("wrong-header", "wrong-value")], None),
        (&[(NAME, "BAD random-value")], refused(Refusal::Format)),
        (&[(NAME, "")], refused(Refusal::Format)),
        (&[(NAME, text)], accepted),
        (&[(NAME, "TEXT cpu_utilization:\"0.7\"")], refused(Refusal::NotANumber)),
        (&[(NAME, "TEXT cpu_utilization:nan")], refused(Refusal::Range)),
        (&[(NAME, "TEXT cpu_utilization:inf")], refused(Refusal::Range)),
        (&[(NAME, "TEXT cpu_utilization:0.7,cpu_utilization:0.8")], refused(Refusal::Duplicate)),
        (&[(NAME, "TEXT cpu_utilization:0.7,unsupported_metric:0.8")], refused(Refusal::Unknown)),
        (
            &[(
                NAME,
                "TEXT named_metrics.foo:123,named_metrics.duplicate:123,named_metrics.duplicate:0.2",
            )],
            refused(Refusal::Duplicate),
        ),
        (&[(NAME, "TEXT named_metrics.:123")], refused(Refusal::NoName)),
        (&[(NAME, "TEXT not-a-list-of-key-value-pairs")], refused(Refusal::NoValue)),
        (&[(NAME, json)], accepted),
        (&[(NAME, "JSON JSON not-a-valid-json-string")], refused(Refusal::Json)),
        (&[(NAME, &unknown)], refused(Refusal::Unknown)),
        (&[(NAME, "JSON {\"cpu_utilization\": \"0.7\"")], refused(Refusal::Json)),
        (&[(NAME, &binary)], accepted),
        (&[(NAME, "cpu_utilization:0.7"), (BIN, &whole)], accepted),
        (&[(BIN, &half)], refused(Refusal::Protobuf)),
        (&[(BIN, "not-a-valid-binary-proto")], refused(Refusal::Base64)),
    ];
    let expected = LoadReport {
        cpu_utilization: 0.7,
        application_utilization: 0.8,
        mem_utilization: 0.9,
        rps: 1000.0,
        eps: 2.0,
        ..LoadReport::default()
    };
    for (headers, wanted) in vectors {
        let found = outcome(headers, true);
        assert_eq!(found.clone().map(Result::err), wanted, "{headers:?}");
        if let Some(Ok(report)) = found {
            let named = [report.named("named_metrics.foo"), report.named("named_metrics.bar")];
            assert_eq!(named, [Some(123.0), Some(0.2)], "{headers:?}");
            assert_eq!(LoadReport { named: Vec::new(), ..report }, expected, "{headers:?}");
        }
    }
    assert_eq!(outcome(&[(BIN, "")], true), Some(Err(Refusal::Base64)));
    // The lenient mode differs where a name is not known, and nowhere else.
    for headers in [[(NAME, "TEXT cpu_utilization:0.7,unsupported_metric:0.8")], [(NAME, &unknown)]]
    {
        assert!(outcome(&headers, false).is_some_and(|found| found.is_ok()), "{headers:?}");
    }
}
