//! A configuration with mistakes is rejected before it meets traffic, and the reason is readable.

use serde_json::json;
use weir_tests::{Suite, on_both_hosts};

on_both_hosts! {
    async fn a_bad_configuration_is_rejected_with_place_and_mend(host: Host) {
        let suite = Suite::new(&["127.0.0.1:9".parse()?]).filter(
            "token-bucket",
            json!({"policies": [{"name": "all", "token_bucket": {"max_token": 1, "fill_interval": "50ms"}}]}),
        );
        let rejected = host.validate(&suite).await?.expect_err("it has two mistakes");
        for line in [
            "/policies/0/token_bucket/max_token: unknown field: did you mean 'max_tokens'?",
            "/policies/0/token_bucket/fill_interval: '50ms' is no duration",
        ] {
            assert!(rejected.contains(line), "missing: {line}\nin: {rejected}");
        }
    }

    async fn a_good_configuration_is_accepted(host: Host) {
        let suite = Suite::new(&["127.0.0.1:9".parse()?])
            .filter("circuit-breaker", json!({"scopes": [{"name": "route", "by": ["route"]}]}));
        assert_eq!(host.validate(&suite).await?, Ok(()));
    }
}
