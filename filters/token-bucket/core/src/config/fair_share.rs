//! `fair_share`: how the keys of a policy share another policy's bucket.

use crate::fair_share::MAX_WEIGHT;
use crate::{Cost, FairShare, Limit, Policy, Weight};
use plugin_config::{Fields, Or, Required};

/// The rule. Which policy `of` names is known when all are read.
pub(super) fn fair_share(mut fields: Fields<'_>) -> FairShare {
    let of_name = fields.name("of", Required);
    let start_below_percent = fields.integer("start_below_percent", 1..=100, Or(20));
    let (has_weight, has_weights) = (fields.has("weight"), fields.has("weights"));
    if has_weight && has_weights {
        fields.problem("name one of 'weight' and 'weights'");
    }
    let weight = if has_weights {
        Weight::Header(fields.object("weights").header_name("header", Required))
    } else {
        Weight::Constant(fields.integer("weight", 1..=MAX_WEIGHT, Or(1)))
    };
    FairShare { of_name, of: usize::MAX, weight, start_below_percent }
}

/// Finds the policies whose buckets are shared. A request takes of its share what it takes of them.
pub(super) fn resolve(fields: &mut Fields<'_>, policies: &mut [Policy]) {
    let shared: Vec<(usize, String, Cost)> = policies
        .iter()
        .enumerate()
        .filter(|(_, policy)| matches!(policy.limit, Limit::Bucket(_)) && policy.parts.is_empty())
        .map(|(at, policy)| (at, policy.name.clone(), policy.cost.clone()))
        .collect();
    for policy in policies {
        let Limit::FairShare(rule) = &mut policy.limit else { continue };
        match shared.iter().find(|(_, name, _)| *name == rule.of_name) {
            Some((at, _, cost)) => {
                rule.of = *at;
                policy.cost = cost.clone();
            }
            None => {
                let message = format!(
                    "'{}' shares '{}', which is no policy with a token_bucket or gcra for all: name \
                     one that has no key",
                    policy.name, rule.of_name
                );
                fields.problem_at("policies", message);
            }
        }
        if policy.parts.is_empty() {
            let message = format!("'{}' is a fair share, and of one key: add a key", policy.name);
            fields.problem_at("policies", message);
        }
    }
}
