//! The JSON form: proto3 JSON, in which names may be in snake or camel case, a number may be a
//! string, and `null` is the default.

use super::{Draft, Refusal};
use plugin_config::{Value, parse_decimal};

pub(super) fn read(json: &str, draft: &mut Draft) -> Result<(), Refusal> {
    let Some(Value::Object(report)) = Value::from_json(json.as_bytes()) else {
        return Err(Refusal::Json);
    };
    for (name, value) in &report {
        match name.as_str() {
            "cpu_utilization" | "cpuUtilization" => scalar("cpu_utilization", value, draft)?,
            "mem_utilization" | "memUtilization" => scalar("mem_utilization", value, draft)?,
            "application_utilization" | "applicationUtilization" => {
                scalar("application_utilization", value, draft)?;
            }
            "rps_fractional" | "rpsFractional" => scalar("rps_fractional", value, draft)?,
            "eps" => scalar("eps", value, draft)?,
            "named_metrics" | "namedMetrics" => map("named_metrics.", value, draft)?,
            "utilization" => map("utilization.", value, draft)?,
            // Fields of the message that no weight is made of.
            "rps" | "request_cost" | "requestCost" => {}
            _ => draft.unknown()?,
        }
    }
    Ok(())
}

fn map(prefix: &str, value: &Value, draft: &mut Draft) -> Result<(), Refusal> {
    match value {
        Value::Null => Ok(()),
        Value::Object(entries) => entries
            .iter()
            .try_for_each(|(key, value)| scalar(&[prefix, key].concat(), value, draft)),
        _ => Err(Refusal::Json),
    }
}

fn scalar(name: &str, value: &Value, draft: &mut Draft) -> Result<(), Refusal> {
    let number = match value {
        Value::Null => return Ok(()),
        Value::Integer(_) | Value::Number(_) => value.as_f64(),
        Value::String(text) => parse_decimal(text),
        _ => return Err(Refusal::Json),
    };
    draft.set(name, number.ok_or(Refusal::NotANumber)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared_state::{LoadReport, UnixNanos};

    fn outcome(json: &str, strict: bool) -> Result<LoadReport, Refusal> {
        let mut draft = Draft::new(strict, UnixNanos::ZERO);
        read(json, &mut draft).map(|()| draft.accepted.report)
    }

    #[test]
    fn a_number_may_be_a_string_and_null_is_the_default() {
        let report = outcome(r#"{"eps":"2.5","cpuUtilization":null,"utilization":null}"#, true);
        assert_eq!(report, Ok(LoadReport { eps: 2.5, ..LoadReport::default() }));
    }

    #[test]
    fn what_has_another_shape_is_refused() {
        for (json, refusal) in [
            ("", Refusal::Json),
            ("[]", Refusal::Json),
            ("JSON not-a-valid-json-string", Refusal::Json),
            (r#"{"cpu_utilization": "0.7""#, Refusal::Json),
            (r#"{"cpu_utilization": true}"#, Refusal::Json),
            (r#"{"named_metrics": [1]}"#, Refusal::Json),
            (r#"{"eps": "many"}"#, Refusal::NotANumber),
            (r#"{"eps": "NaN"}"#, Refusal::Range),
            (r#"{"named_metrics": {"": 1}}"#, Refusal::NoName),
        ] {
            assert_eq!(outcome(json, false), Err(refusal), "{json}");
        }
    }

    #[test]
    fn only_strict_mode_refuses_an_unknown_field() {
        let json = r#"{"eps": 2, "unknown_field": 2}"#;
        assert_eq!(outcome(json, true), Err(Refusal::Unknown));
        assert_eq!(outcome(json, false).unwrap().eps, 2.0);
    }

    #[test]
    fn fields_that_weigh_nothing_are_known_all_the_same() {
        assert!(outcome(r#"{"rps": "12", "request_cost": {"x": 1}}"#, true).is_ok());
    }
}
