//! Load reports in response headers: Open Request Cost Aggregation, in the forms Envoy takes.
//!
//! | header | value |
//! |---|---|
//! | `endpoint-load-metrics-bin` | base64 of an `xds.data.orca.v3.OrcaLoadReport` |
//! | `endpoint-load-metrics` | `TEXT cpu_utilization=0.3,named_metrics.rif=4` |
//! | `endpoint-load-metrics` | `JSON {"cpu_utilization":0.3,"named_metrics":{"rif":4}}` |
//! | `endpoint-load-metrics` | `BIN ` and base64 as above |
//!
//! The binary header wins. A report is taken whole or not at all: half a report would make an
//! overloaded endpoint look idle. What is refused is refused as Envoy's parser
//! (`source/common/orca/orca_parser.cc`) and validator do, so that an endpoint which Envoy's own
//! `client_side_weighted_round_robin` understands is understood here, and the other way round. The
//! lenient mode differs in one point: a metric of an unknown name is passed over and counted. Both
//! refuse what a record cannot hold, a negative or infinite number, in all three forms.
//!
//! Named values keep the name that Envoy's `metric_names_for_computing_utilization` uses:
//! `named_metrics.<key>` and `utilization.<key>`.

mod base64;
mod json;
mod protobuf;
mod text;

use shared_state::{LoadReport, MAX_NAMED_METRICS, UnixNanos, metric_id};

/// The header of all forms.
pub const HEADER: &str = "endpoint-load-metrics";

/// The header of the binary form, as gRPC servers send it.
pub const BINARY_HEADER: &str = "endpoint-load-metrics-bin";

/// A report that was accepted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Accepted {
    /// What it says.
    pub report: LoadReport,
    /// Metrics that were passed over: of unknown name, or more than a record holds.
    pub ignored: u32,
}

/// Why a report was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The header begins with neither `TEXT `, `JSON ` nor `BIN `.
    Format,
    /// A metric without a name.
    NoName,
    /// A metric without a value.
    NoValue,
    /// A value that is no number.
    NotANumber,
    /// A number that is not finite, negative, or above 1 where 1 means all.
    Range,
    /// A metric that stands twice.
    Duplicate,
    /// More metrics than any server has. Text form only.
    TooMany,
    /// A metric that the report does not have. Strict mode only.
    Unknown,
    /// Not JSON, or not of the report's shape.
    Json,
    /// Not base64, or empty.
    Base64,
    /// Not a protobuf message of the report's shape.
    Protobuf,
}

impl Refusal {
    /// A label for logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::NoName => "no_name",
            Self::NoValue => "no_value",
            Self::NotANumber => "not_a_number",
            Self::Range => "range",
            Self::Duplicate => "duplicate",
            Self::TooMany => "too_many",
            Self::Unknown => "unknown_metric",
            Self::Json => "json",
            Self::Base64 => "base64",
            Self::Protobuf => "protobuf",
        }
    }
}

/// The report in these two headers, or `None` if the response carries neither.
pub fn parse(
    binary: Option<&str>,
    formatted: Option<&str>,
    strict: bool,
    now: UnixNanos,
) -> Option<Result<Accepted, Refusal>> {
    let mut draft = Draft::new(strict, now);
    let parsed = match (binary, formatted) {
        (Some(text), _) => decode(text).and_then(|bytes| protobuf::read(&bytes, &mut draft)),
        (None, Some(value)) => read_formatted(value, &mut draft),
        (None, None) => return None,
    };
    Some(parsed.map(|()| draft.accepted))
}

/// The report that is this message, as a stream of reports has it. None of its fields is a report
/// too: that of an idle endpoint.
pub fn parse_message(message: &[u8], strict: bool, now: UnixNanos) -> Result<Accepted, Refusal> {
    let mut draft = Draft::new(strict, now);
    protobuf::read(message, &mut draft).map(|()| draft.accepted)
}

fn read_formatted(value: &str, draft: &mut Draft) -> Result<(), Refusal> {
    if let Some(text) = value.strip_prefix("TEXT ") {
        text::read(text, draft)
    } else if let Some(json) = value.strip_prefix("JSON ") {
        json::read(json, draft)
    } else if let Some(text) = value.strip_prefix("BIN ") {
        decode(text).and_then(|bytes| protobuf::read(&bytes, draft))
    } else {
        Err(Refusal::Format)
    }
}

fn decode(text: &str) -> Result<Vec<u8>, Refusal> {
    base64::decode(text.trim()).filter(|bytes| !bytes.is_empty()).ok_or(Refusal::Base64)
}

/// A report while it is read: every form ends in [`Draft::set`], so that all have the same rules.
#[derive(Debug)]
struct Draft {
    strict: bool,
    accepted: Accepted,
}

impl Draft {
    fn new(strict: bool, now: UnixNanos) -> Self {
        let report = LoadReport { received_at: now, ..LoadReport::default() };
        Self { strict, accepted: Accepted { report, ignored: 0 } }
    }

    /// Takes one value under its full name.
    fn set(&mut self, name: &str, value: f64) -> Result<(), Refusal> {
        let report = &mut self.accepted.report;
        let (field, most) = match name {
            "cpu_utilization" => (&mut report.cpu_utilization, f64::MAX),
            "mem_utilization" => (&mut report.mem_utilization, 1.0),
            "application_utilization" => (&mut report.application_utilization, f64::MAX),
            "eps" => (&mut report.eps, f64::MAX),
            "rps_fractional" => (&mut report.rps, f64::MAX),
            _ => return self.set_other(name, value),
        };
        *field = in_range(value, most)?;
        Ok(())
    }

    fn set_other(&mut self, name: &str, value: f64) -> Result<(), Refusal> {
        let (key, most) = if let Some(key) = name.strip_prefix("named_metrics.") {
            (Some(key), f64::MAX)
        } else if let Some(key) = name.strip_prefix("utilization.") {
            (Some(key), 1.0)
        } else {
            (None, f64::MAX)
        };
        let number = in_range(value, most)?;
        match key {
            Some("") => return Err(Refusal::NoName),
            Some(_) => self.set_named(name, number),
            None => return self.unknown(),
        }
        Ok(())
    }

    fn set_named(&mut self, name: &str, number: f32) {
        let id = metric_id(name);
        let named = &mut self.accepted.report.named;
        if let Some((_, value)) = named.iter_mut().find(|(other, _)| *other == id) {
            *value = number;
        } else if named.len() < usize::from(MAX_NAMED_METRICS) {
            named.push((id, number));
        } else {
            self.accepted.ignored += 1;
        }
    }

    /// Meets a metric that the report does not have.
    fn unknown(&mut self) -> Result<(), Refusal> {
        if self.strict {
            return Err(Refusal::Unknown);
        }
        self.accepted.ignored += 1;
        Ok(())
    }
}

/// The number as a record has it, if it is one that may be.
fn in_range(value: f64, most: f64) -> Result<f32, Refusal> {
    // Beyond what an f32 holds, the cast gives infinity, which no record holds.
    let number = (value as f32).min(f32::MAX);
    if (0.0..=most).contains(&value) { Ok(number) } else { Err(Refusal::Range) }
}

#[cfg(test)]
mod vectors;

#[cfg(test)]
mod tests {
    use super::*;
    use ::base64::Engine as _;
    use ::base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    const NOW: UnixNanos = UnixNanos::from_secs(7);

    fn formatted(value: &str, strict: bool) -> Result<Accepted, Refusal> {
        parse(None, Some(value), strict, NOW).unwrap()
    }

    /// Every field set: the report of all three vectors below.
    fn example() -> LoadReport {
        LoadReport {
            received_at: NOW,
            application_utilization: 0.8,
            cpu_utilization: 0.7,
            mem_utilization: 0.9,
            rps: 1000.0,
            eps: 2.0,
            named: vec![
                (metric_id("named_metrics.bar"), 0.2),
                (metric_id("named_metrics.foo"), 123.0),
            ],
        }
    }

    /// The example as a serialized message, in base64.
    const EXAMPLE_BASE64: &str = concat!(
        "CWZmZmZmZuY/Ec3MzMzMzOw/MQAAAAAAQI9AOQAAAAAAAABAQg4KA2JhchGamZmZmZnJP",
        "0IOCgNmb28RAAAAAADAXkBJmpmZmZmZ6T8="
    );

    #[test]
    fn all_three_forms_say_the_same() {
        let text = "TEXT cpu_utilization=0.7,application_utilization=0.8,mem_utilization=0.9,\
                    rps_fractional=1000,eps=2,named_metrics.bar=0.2,named_metrics.foo=123";
        let json = r#"JSON {"cpu_utilization": 0.7, "applicationUtilization": 0.8,
            "mem_utilization": 0.9, "rps_fractional": 1000, "eps": 2,
            "named_metrics": {"foo": 123, "bar": 0.2}}"#;
        for value in [text, json, &format!("BIN {EXAMPLE_BASE64}")] {
            let accepted = formatted(value, true).unwrap();
            assert_eq!((accepted.report, accepted.ignored), (example(), 0), "{value}");
        }
    }

    #[test]
    fn the_binary_header_wins_padded_or_not() {
        for base64 in [EXAMPLE_BASE64, EXAMPLE_BASE64.trim_end_matches('=')] {
            let parsed = parse(Some(base64), Some("TEXT cpu_utilization=0.1"), true, NOW);
            assert_eq!(parsed.unwrap().unwrap().report, example());
        }
    }

    #[test]
    fn a_response_without_a_report_is_no_error() {
        assert_eq!(parse(None, None, true, NOW), None);
    }

    #[test]
    fn an_unknown_form_is_refused() {
        for value in ["", "BAD random-value", "text cpu_utilization=1", "TEXT", "cpu_utilization=1"]
        {
            assert_eq!(formatted(value, false), Err(Refusal::Format), "{value}");
        }
    }

    #[test]
    fn what_is_no_base64_or_no_message_is_refused() {
        for (value, refusal) in [
            ("", Refusal::Base64),
            ("not-a-valid-binary-proto", Refusal::Base64),
            // The example cut in the middle of a number.
            ("CWZmZmZmZuY/Ec3MzMzM", Refusal::Protobuf),
        ] {
            assert_eq!(parse(Some(value), None, true, NOW), Some(Err(refusal)), "{value}");
        }
    }

    #[test]
    fn ranges_are_those_of_the_message() {
        for (metric, accepted) in [
            ("cpu_utilization=1.5", true),
            ("application_utilization=12", true),
            ("mem_utilization=1.01", false),
            ("utilization.gpu=1", true),
            ("utilization.gpu=1.1", false),
            ("cpu_utilization=-0.1", false),
            ("eps=-1", false),
            ("named_metrics.balance=-1", false),
        ] {
            assert_eq!(formatted(&format!("TEXT {metric}"), true).is_ok(), accepted, "{metric}");
        }
    }

    #[test]
    fn a_number_too_large_for_a_record_saturates() {
        assert_eq!(formatted("TEXT eps=1e300", true).unwrap().report.eps, f32::MAX);
    }

    #[test]
    fn more_named_metrics_than_a_record_holds_are_counted() {
        let list: Vec<_> = (0..10).map(|n| format!("named_metrics.m{n}=1")).collect();
        let accepted = formatted(&format!("TEXT {}", list.join(",")), true).unwrap();
        assert_eq!((accepted.report.named.len(), accepted.ignored), (8, 2));
    }

    proptest! {
        #[test]
        fn no_header_panics(value in ".{0,200}", form in 0usize..4, strict: bool) {
            let prefix = ["TEXT ", "JSON ", "BIN ", ""][form];
            let _ = formatted(&format!("{prefix}{value}"), strict);
            let _ = parse(Some(&value), None, strict, NOW);
        }

        #[test]
        fn no_message_panics_and_what_is_accepted_fits_a_record(
            bytes in proptest::collection::vec(any::<u8>(), 1..200)
        ) {
            if let Some(Ok(accepted)) = parse(Some(&STANDARD.encode(bytes)), None, true, NOW) {
                let record = shared_state::EndpointHealth {
                    report: Some(accepted.report),
                    ..Default::default()
                };
                let back = shared_state::decode(&shared_state::encode(&record));
                prop_assert_eq!(back, Ok(record));
            }
        }

        #[test]
        fn a_text_report_of_known_metrics_is_accepted(
            cpu in 0.0f64..10.0, mem in 0.0f64..=1.0, rps in 0.0f64..1e6,
        ) {
            let value =
                format!("TEXT cpu_utilization={cpu}, mem_utilization={mem},rps_fractional={rps}");
            let report = formatted(&value, true).unwrap().report;
            prop_assert_eq!(
                (report.cpu_utilization, report.mem_utilization, report.rps),
                (cpu as f32, mem as f32, rps as f32)
            );
        }
    }
}
