//! YAML (or JSON) text to a JSON value: what Envoy's own loader does before protobuf sees it.

use serde_json::{Map, Number, Value};
use serde_yaml_ng::Value as Yaml;

use crate::problem::Problem;

/// Parses a document. YAML first, as it also finds duplicate keys in JSON; JSON itself only where
/// YAML is no superset (tabs as indentation).
pub(crate) fn parse(text: &str) -> Result<Value, Vec<Problem>> {
    let yaml: Result<Yaml, _> = serde_yaml_ng::from_str(text);
    match yaml {
        Ok(yaml) => convert_document(yaml),
        Err(error) => {
            let json = text.contains('\t').then(|| serde_json::from_str(text).ok()).flatten();
            json.ok_or_else(|| vec![problem(String::new(), format!("not valid YAML: {error}"))])
        }
    }
}

fn convert_document(yaml: Yaml) -> Result<Value, Vec<Problem>> {
    let mut problems = Vec::new();
    let value = convert(yaml, "", &mut problems);
    if problems.is_empty() { Ok(value) } else { Err(problems) }
}

fn convert(yaml: Yaml, path: &str, problems: &mut Vec<Problem>) -> Value {
    match yaml {
        Yaml::Null => Value::Null,
        Yaml::Bool(flag) => Value::Bool(flag),
        Yaml::String(text) => Value::String(text),
        Yaml::Number(number) => convert_number(&number).unwrap_or_else(|| {
            let message = format!("{number} is no number that JSON knows");
            problems.push(problem(path.to_owned(), message));
            Value::Null
        }),
        Yaml::Sequence(values) => {
            let values = values.into_iter().enumerate();
            values.map(|(i, value)| convert(value, &format!("{path}[{i}]"), problems)).collect()
        }
        Yaml::Mapping(entries) => {
            let mut fields = Map::new();
            for (key, value) in entries {
                let Some(key) = key_text(&key) else {
                    let message = "a key must be a string".to_owned();
                    problems.push(problem(path.to_owned(), message));
                    continue;
                };
                let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                fields.insert(key, convert(value, &below, problems));
            }
            Value::Object(fields)
        }
        Yaml::Tagged(tagged) => {
            let message = format!("the YAML tag {} is not supported", tagged.tag);
            problems.push(problem(path.to_owned(), message));
            Value::Null
        }
    }
}

fn convert_number(number: &serde_yaml_ng::Number) -> Option<Value> {
    let integer = number.as_i64().map(Number::from).or_else(|| number.as_u64().map(Number::from));
    integer.or_else(|| Number::from_f64(number.as_f64()?)).map(Value::Number)
}

fn key_text(key: &Yaml) -> Option<String> {
    match key {
        Yaml::String(text) => Some(text.clone()),
        Yaml::Number(number) => Some(number.to_string()),
        Yaml::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

fn problem(path: String, message: String) -> Problem {
    Problem { path, message }
}
