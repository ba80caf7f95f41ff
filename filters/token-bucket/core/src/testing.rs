//! What the tests of this crate have in common.

use crate::{Config, Policy};
pub(crate) use request_key::testing::Request;

pub(crate) fn config(json: &str) -> Config {
    Config::from_json(json.as_bytes()).unwrap_or_else(|problems| panic!("{problems}")).value
}

pub(crate) fn policy(json: &str) -> Policy {
    config(&format!(r#"{{"policies":[{json}]}}"#)).policies.remove(0)
}
