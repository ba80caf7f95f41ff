//! The body of a refusal, for programs: problem details (RFC 9457) with the problem types of
//! draft-ietf-httpapi-ratelimit-headers.

use crate::{Reason, ReplyConfig};
use core::fmt::Write as _;

/// Where the types are registered.
const REGISTRY: &str = "https://iana.org/assignments/http-problem-types#";

/// A JSON document that tells why a request was refused. `policy` is who refused.
pub fn problem_details(reply: &ReplyConfig, status: u16, reason: Reason, policy: &str) -> String {
    let (kind, title) = match reason {
        Reason::NoToken
        | Reason::TooCostly
        | Reason::FairShare
        | Reason::Concurrency
        | Reason::OverLimit => {
            ("quota-exceeded", "Request cannot be satisfied as assigned quota has been exceeded")
        }
        // Not the client's doing: another one, or the same one later, would pass.
        Reason::TableFull | Reason::Contended | Reason::StoreFailed | Reason::ServiceFailed => (
            "temporary-reduced-capacity",
            "Request cannot be satisfied due to temporary server capacity constraints",
        ),
        Reason::MissingKey => ("", "Request lacks what the policy counts by"),
    };
    let mut json = String::from("{\"type\":\"");
    json.push_str(if kind.is_empty() { "about:blank" } else { REGISTRY });
    json.push_str(kind);
    // Writing to a String cannot fail. The name of a policy has nothing to escape.
    let _ = write!(json, "\",\"title\":\"{title}\",\"status\":{status}");
    if !reply.body.is_empty() {
        json.push_str(",\"detail\":\"");
        escape(&reply.body, &mut json);
        json.push('"');
    }
    if kind == "quota-exceeded" {
        let _ = write!(json, ",\"violated-policies\":[\"{policy}\"]");
    }
    json.push('}');
    json
}

fn escape(text: &str, json: &mut String) {
    for c in text.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            '\0'..='\u{1f}' => {
                json.push_str(if c < '\u{10}' { "\\u000" } else { "\\u001" });
                json.extend(char::from_digit(u32::from(c) & 15, 16));
            }
            _ => json.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::config;
    use plugin_config::Value;
    use proptest::prelude::*;

    fn reply(body: &str) -> ReplyConfig {
        let mut config = config(r#"{"policies":[{"name":"p","gcra":{"rate":1}}]}"#);
        config.reply.body = body.to_owned();
        config.reply
    }

    fn told(reason: Reason, pointer: &str) -> Option<Value> {
        let json = problem_details(&reply("later"), 429, reason, "per-client");
        Value::from_json(json.as_bytes()).unwrap().pointer(pointer).cloned()
    }

    #[test]
    fn an_exceeded_quota_names_its_policy() {
        assert_eq!(
            problem_details(&reply("later"), 429, Reason::NoToken, "per-client"),
            "{\"type\":\"https://iana.org/assignments/http-problem-types#quota-exceeded\",\
             \"title\":\"Request cannot be satisfied as assigned quota has been exceeded\",\
             \"status\":429,\"detail\":\"later\",\"violated-policies\":[\"per-client\"]}"
        );
    }

    #[test]
    fn what_is_not_the_clients_doing_is_not_told_as_its() {
        let kind = told(Reason::StoreFailed, "/type").unwrap();
        assert!(kind.as_str().unwrap().ends_with("#temporary-reduced-capacity"));
        assert_eq!(told(Reason::StoreFailed, "/violated-policies"), None);
        assert_eq!(told(Reason::MissingKey, "/type").unwrap().as_str(), Some("about:blank"));
    }

    proptest! {
        #[test]
        fn any_body_is_told_as_it_is(body in ".{1,20}|[\\x00-\\x1f\"\\\\]{1,5}") {
            let json = problem_details(&reply(&body), 429, Reason::NoToken, "p");
            let document = Value::from_json(json.as_bytes()).unwrap();
            prop_assert_eq!(document.pointer("/detail").and_then(Value::as_str), Some(body.as_str()));
        }
    }
}
