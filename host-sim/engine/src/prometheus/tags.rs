//! Tag extraction: the bootstrap's rules, and those of Envoy's own that host-sim's stats need.

use host_sim_bootstrap::{StatsTag, StatsTagSource};
use regex::Regex;

/// Envoy's built-in rules, as expressions; group 1 is cut out, group 2 is the value.
const BUILT_IN: [(&str, &str); 7] = [
    ("envoy.response_code", r"_rq(_(\d{3}))$"),
    ("envoy.response_code_class", r"_rq_((\d))xx$"),
    ("envoy.listener_address", r"^listener\.(([_.\d]*|[_\[\]a-fA-F\d]*)\.)"),
    ("envoy.local_http_ratelimit_prefix", r"^(([^.]+)\.)http_local_rate_limit\."),
    ("envoy.http_conn_manager_prefix", r"^http\.(([^.]+)\.)"),
    ("envoy.tcp_prefix", r"^tcp\.(([^.]+)\.)"),
    ("envoy.cluster_name", r"^cluster\.(([^.]+)\.)"),
];

/// Compiled tag rules.
#[derive(Clone, Debug, Default)]
pub struct TagExtractor {
    rules: Vec<(String, Regex)>,
    fixed: Vec<(String, String)>,
}

impl TagExtractor {
    /// From the bootstrap's `stats_config`.
    #[must_use]
    pub fn new(tags: &[StatsTag], use_all_default_tags: bool) -> Self {
        let mut extractor = Self::default();
        let mut named = Vec::new();
        for tag in tags {
            match &tag.source {
                StatsTagSource::Regex(pattern) => {
                    extractor.rules.push((tag.name.clone(), pattern.regex().clone()));
                }
                StatsTagSource::Fixed(value) => {
                    extractor.fixed.push((tag.name.clone(), value.clone()));
                }
                StatsTagSource::BuiltIn => named.push(tag.name.as_str()),
            }
        }
        for (name, expression) in BUILT_IN {
            if use_all_default_tags || named.contains(&name) {
                // Constants: a test compiles each.
                let compiled = Regex::new(expression).ok();
                extractor.rules.extend(compiled.map(|regex| (name.to_owned(), regex)));
            }
        }
        extractor
    }

    /// The name without its tags, and the tags. The first rule of a tag name that matches wins.
    #[must_use]
    pub fn extract(&self, name: &str) -> (String, Vec<(String, String)>) {
        let mut labels: Vec<(String, String)> = Vec::new();
        let mut cuts = Vec::new();
        for (label, regex) in &self.rules {
            if labels.iter().any(|(known, _)| known == label) {
                continue;
            }
            let Some(captures) = regex.captures(name) else { continue };
            let Some(cut) = captures.get(1) else { continue };
            let value = captures.get(2).unwrap_or(cut);
            labels.push((label.clone(), value.as_str().to_owned()));
            cuts.push(cut.range());
        }
        labels.extend(self.fixed.iter().cloned());
        let is_kept = |at: usize| !cuts.iter().any(|cut| cut.contains(&at));
        let kept = name.char_indices().filter(|(at, _)| is_kept(*at));
        (kept.map(|(_, c)| c).collect(), labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_rule_compiles_with_two_groups() {
        for (name, expression) in BUILT_IN {
            assert_eq!(Regex::new(expression).unwrap().captures_len(), 3, "{name}");
        }
    }
}
