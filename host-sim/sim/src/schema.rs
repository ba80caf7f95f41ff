//! Holding a file against the JSON Schema of the structs that read it.
//!
//! serde tells one fault and stops; here every fault is told at its place, with the name that was
//! probably meant. The schema is generated from the same structs, so there is no second description
//! of the format to forget. Only the keywords that schemars writes are understood.

use crate::problem::{Place, Problem, did_you_mean};
use crate::scenario::value;
use crate::yaml::{Entry, Kind, Node};
use crate::{capability, fault};
use serde_json::Value;

/// Everything in `node` that `schema` does not allow, in the file's order.
pub(crate) fn check(node: &Node, schema: &Value) -> Vec<Problem> {
    let mut problems = Vec::new();
    Checker { root: schema }.check(node, schema, &mut problems);
    problems.sort();
    problems.dedup();
    problems
}

struct Checker<'a> {
    root: &'a Value,
}

impl<'a> Checker<'a> {
    fn check(&self, node: &Node, schema: &'a Value, problems: &mut Vec<Problem>) {
        let schema = self.resolve(schema);
        for keyword in ["anyOf", "oneOf"] {
            if let Some(alternatives) = schema[keyword].as_array() {
                return self.one_of(node, alternatives, problems);
            }
        }
        if !self.right_type(node, schema) {
            let wanted = list(&types(schema).into_iter().map(kind_name).collect::<Vec<_>>());
            let mut text = format!("expected {wanted}, got {}", describe(node));
            if types(schema).contains(&"string") && is_quotable(node) {
                text += ": write it in quotes";
            }
            return problems.push(Problem { place: node.place, text });
        }
        match &node.kind {
            Kind::Scalar(value) => self.scalar(node.place, value, schema, problems),
            Kind::List(items) => {
                let schema = &schema["items"];
                items.iter().for_each(|item| self.check(item, schema, problems));
            }
            Kind::Map(entries) => self.map(node, entries, schema, problems),
        }
    }

    fn scalar(&self, place: Place, value: &Value, schema: &'a Value, problems: &mut Vec<Problem>) {
        if value.is_null() {
            return;
        }
        let mut told = |text: String| problems.push(Problem { place, text });
        if let Some(values) = allowed(self, schema)
            && !values.contains(&value)
        {
            let names: Vec<&str> = values.iter().filter_map(|value| value.as_str()).collect();
            let given = value.as_str().unwrap_or_default();
            let meant = did_you_mean(given, names.iter().copied());
            return told(format!("unknown {value}{meant} (known: {})", names.join(", ")));
        }
        let beyond = |keyword: &str, over: fn(f64, f64) -> bool| {
            let bound = schema[keyword].as_f64()?;
            over(value.as_f64()?, bound).then_some(bound)
        };
        if let Some(least) = beyond("minimum", |value, bound| value < bound) {
            return told(format!("{value} is less than {least}"));
        }
        if let Some(most) = beyond("maximum", |value, bound| value > bound) {
            return told(format!("{value} is more than {most}"));
        }
        if let Some(format) = schema["format"].as_str()
            && let Some(fault) = format_fault(format, value)
        {
            told(fault);
        }
    }

    fn map(&self, node: &Node, entries: &[Entry], schema: &'a Value, problems: &mut Vec<Problem>) {
        let known = schema["properties"].as_object();
        for entry in entries {
            if let Some(own) = known.and_then(|known| known.get(&entry.key)) {
                self.check(&entry.value, own, problems);
                continue;
            }
            if let Some(format) = schema["propertyNames"]["format"].as_str()
                && let Some(text) = format_fault(format, &Value::String(entry.key.clone()))
            {
                problems.push(Problem { place: entry.place, text });
            }
            match &schema["additionalProperties"] {
                Value::Bool(false) => {
                    let names = known.into_iter().flat_map(|known| known.keys());
                    let names: Vec<&str> = names.map(String::as_str).collect();
                    let meant = did_you_mean(&entry.key, names.iter().copied());
                    let mut text = format!("unknown field '{}'{meant}", entry.key);
                    if meant.is_empty() {
                        text += &format!(" (known: {})", names.join(", "));
                    }
                    problems.push(Problem { place: entry.place, text });
                }
                others => self.check(&entry.value, others, problems),
            }
        }
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if node.get(name).is_none() {
                let text = format!("the field '{name}' is missing");
                problems.push(Problem { place: node.place, text });
            }
        }
    }

    /// The alternative that fits; if none does, the faults of the one that was probably meant.
    fn one_of(&self, node: &Node, alternatives: &'a [Value], problems: &mut Vec<Problem>) {
        let fitting: Vec<_> = alternatives
            .iter()
            .map(|alternative| self.resolve(alternative))
            .filter(|alternative| self.accepts(node, alternative))
            .collect();
        let mut best: Option<Vec<Problem>> = None;
        for alternative in &fitting {
            let mut own = Vec::new();
            self.check(node, alternative, &mut own);
            if own.is_empty() {
                return;
            }
            if best.as_ref().is_none_or(|best| own.len() < best.len()) {
                best = Some(own);
            }
        }
        let constants: Vec<&str> =
            alternatives.iter().filter_map(|alternative| alternative["const"].as_str()).collect();
        if let Some(given) = node.as_str().filter(|_| constants.len() == alternatives.len()) {
            let meant = did_you_mean(given, constants.iter().copied());
            let text = format!("unknown \"{given}\"{meant} (known: {})", constants.join(", "));
            return problems.push(Problem { place: node.place, text });
        }
        problems.extend(best.unwrap_or_else(|| {
            let mut names: Vec<_> = alternatives
                .iter()
                .flat_map(|alternative| self.all_types(alternative))
                .filter(|name| *name != "null")
                .map(kind_name)
                .collect();
            names.dedup();
            let text = format!("expected {}, got {}", list(&names), describe(node));
            vec![Problem { place: node.place, text }]
        }));
    }

    fn all_types(&self, schema: &'a Value) -> Vec<&'a str> {
        let schema = self.resolve(schema);
        let inner = ["anyOf", "oneOf"].iter().filter_map(|keyword| schema[*keyword].as_array());
        let mut all = types(schema);
        all.extend(inner.flatten().flat_map(|schema| self.all_types(schema)));
        all
    }

    /// Whether the outermost kind fits.
    fn accepts(&self, node: &Node, schema: &'a Value) -> bool {
        for keyword in ["anyOf", "oneOf"] {
            if let Some(alternatives) = schema[keyword].as_array() {
                return alternatives.iter().any(|inner| self.accepts(node, self.resolve(inner)));
            }
        }
        self.right_type(node, schema)
    }

    fn right_type(&self, node: &Node, schema: &Value) -> bool {
        let types = types(schema);
        types.is_empty()
            || types.iter().any(|name| match (&node.kind, *name) {
                (Kind::Map(_), "object") | (Kind::List(_), "array") => true,
                (Kind::Scalar(value), "string") => value.is_string(),
                (Kind::Scalar(value), "number") => value.is_number(),
                (Kind::Scalar(value), "integer") => value.is_i64() || value.is_u64(),
                (Kind::Scalar(value), "boolean") => value.is_boolean(),
                (Kind::Scalar(value), "null") => value.is_null(),
                _ => false,
            })
    }

    fn resolve(&self, schema: &'a Value) -> &'a Value {
        let name = schema["$ref"].as_str().and_then(|name| name.strip_prefix("#/$defs/"));
        name.map_or(schema, |name| self.resolve(&self.root["$defs"][name]))
    }
}

fn allowed<'a>(_: &Checker<'a>, schema: &'a Value) -> Option<Vec<&'a Value>> {
    match (&schema["enum"], &schema["const"]) {
        (Value::Array(values), _) => Some(values.iter().collect()),
        (_, Value::Null) => None,
        (_, value) => Some(vec![value]),
    }
}

fn types(schema: &Value) -> Vec<&str> {
    match &schema["type"] {
        Value::String(name) => vec![name],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn kind_name(name: &str) -> &str {
    match name {
        "object" => "a map",
        "array" => "a list",
        "string" => "a string",
        "number" => "a number",
        "integer" => "a whole number",
        "boolean" => "true or false",
        _ => "nothing",
    }
}

fn list(names: &[&str]) -> String {
    let names: Vec<&str> = names.iter().copied().filter(|name| *name != "nothing").collect();
    match names.split_last() {
        None => "nothing".to_owned(),
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
    }
}

fn is_quotable(node: &Node) -> bool {
    matches!(&node.kind, Kind::Scalar(value) if value.is_number() || value.is_boolean())
}

fn describe(node: &Node) -> String {
    match &node.kind {
        Kind::Map(_) => "a map".to_owned(),
        Kind::List(_) => "a list".to_owned(),
        Kind::Scalar(Value::Null) => "nothing".to_owned(),
        Kind::Scalar(value @ Value::String(_)) => format!("the string {value}"),
        Kind::Scalar(value) => format!("{value}"),
    }
}

/// What is wrong with a scalar of one of the formats in `scenario/value.rs`.
fn format_fault(format: &str, given: &Value) -> Option<String> {
    let text = given.as_str().unwrap_or_default();
    match format {
        "duration" if value::parse_duration(text).is_none() => {
            Some(format!("'{text}' is no duration: write 5ms, 1.5s or 2m"))
        }
        "signed-duration" if value::parse_signed(text).is_none() => {
            Some(format!("'{text}' is no duration: write 5ms, -1.5s or 2m"))
        }
        "quantity" if given.is_string() && value::Quantity::parse(text).is_none() => Some(format!(
            "'{text}' is no quantity: write 3, \">= 3\", \"<= 3\", \"!= 3\" or \"1..3\""
        )),
        "regex" => {
            regex::Regex::new(text).err().map(|error| format!("no regular expression: {error}"))
        }
        "hex" if value::parse_hex(text).is_none() => {
            Some(format!("'{text}': write pairs of hexadecimal digits"))
        }
        "socket-address" if text.parse::<std::net::SocketAddr>().is_err() => {
            Some(format!("'{text}' is no address: write 127.0.0.1:9001"))
        }
        "ip" if text.parse::<std::net::IpAddr>().is_err() => {
            Some(format!("'{text}' is no IP address: write 192.0.2.1 or 2001:db8::1"))
        }
        "status-code" if text.parse::<u16>().is_err() => {
            Some(format!("'{text}' is no status: write a number, 0 for a reset"))
        }
        "worker" if given.is_string() && text != "main" => {
            Some(format!("'{text}' is no worker: write a number from 0, or main"))
        }
        "hostcall" if text != "any" && !fault::is_hostcall(text) => {
            let names = host_sim_abi::HOSTCALLS.iter().map(|hostcall| hostcall.name);
            Some(format!("no hostcall is called '{text}'{}", did_you_mean(text, names)))
        }
        "callback" => unknown_callback(text),
        "callback-of" => unknown_callback(text.rsplit(':').next().unwrap_or(text).trim()),
        _ => None,
    }
}

fn unknown_callback(name: &str) -> Option<String> {
    let known = || capability::callbacks();
    (!known().any(|own| own == name))
        .then(|| format!("no callback is called '{name}'{}", did_you_mean(name, known())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(text: &str) -> Vec<String> {
        let schema = json!({
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "count": {"type": ["integer", "null"], "minimum": 1, "maximum": 9},
                "kind": {"oneOf": [{"const": "good", "type": "string"}, {"const": "bad", "type": "string"}]},
                "when": {"$ref": "#/$defs/Span"},
                "both": {"anyOf": [{"type": "string"}, {"type": "object", "properties": {"x": {"type": "integer"}}, "additionalProperties": false}]},
                "many": {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "integer"}}, "propertyNames": {"format": "socket-address"}},
                "from": {"type": "string", "format": "ip"},
                "free": true
            },
            "required": ["name"],
            "additionalProperties": false,
            "$defs": {"Span": {"type": "string", "format": "duration"}}
        });
        let problems = check(&Node::parse(text).unwrap(), &schema);
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_the_schema_allows_is_no_problem() {
        let text = "{name: a, count: 3, kind: good, when: 5ms, both: {x: 1}, many: {'1.2.3.4:5': [1]}, free: [{a: 1}]}";
        assert_eq!(told(text), Vec::<String>::new());
        assert_eq!(told("{name: a, count: null, both: b}"), Vec::<String>::new());
    }

    #[test]
    fn every_problem_is_told_at_its_place_with_what_was_meant() {
        let text = "nam: x\ncount: 10\nkind: goood\nwhen: soon\nboth: {y: 1}\nmany: {here: [a]}\nfrom: ::g\n";
        assert_eq!(
            told(text),
            [
                "line 1 column 1: the field 'name' is missing",
                "line 1 column 1: unknown field 'nam', did you mean 'name'?",
                "line 2 column 8: 10 is more than 9",
                "line 3 column 7: unknown \"goood\", did you mean 'good'? (known: good, bad)",
                "line 4 column 7: 'soon' is no duration: write 5ms, 1.5s or 2m",
                "line 5 column 8: unknown field 'y' (known: x)",
                "line 6 column 8: 'here' is no address: write 127.0.0.1:9001",
                "line 6 column 15: expected a whole number, got the string \"a\"",
                "line 7 column 7: '::g' is no IP address: write 192.0.2.1 or 2001:db8::1",
            ]
        );
    }

    #[test]
    fn a_wrong_type_is_told_with_the_mend() {
        assert_eq!(
            told("name: 14"),
            ["line 1 column 7: expected a string, got 14: write it in quotes"]
        );
        assert_eq!(
            told("{name: a, both: [1]}"),
            ["line 1 column 17: expected a string or a map, got a list"]
        );
    }
}
