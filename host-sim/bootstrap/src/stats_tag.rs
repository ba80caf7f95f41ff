//! `envoy.config.metrics.v3`: which parts of a stat's name become labels.

use crate::Pattern;
use crate::reader::{Message, Reader};

/// What the bootstrap's `stats_config` says.
#[derive(Debug)]
pub(crate) struct StatsConfig {
    pub(crate) tags: Vec<StatsTag>,
    pub(crate) use_all_default_tags: bool,
}

/// One `stats_config.stats_tags` entry.
#[derive(Debug, Clone, PartialEq)]
pub struct StatsTag {
    /// The label's name.
    pub name: String,
    /// How the label gets its value.
    pub source: StatsTagSource,
}

/// Where a tag's value comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum StatsTagSource {
    /// Group 1 of the match is cut out of the name; group 2, or else group 1, is the value.
    Regex(Pattern),
    /// The same value on every stat.
    Fixed(String),
    /// Neither given: Envoy's built-in rule of that name.
    BuiltIn,
}

pub(crate) const STATS_CONFIG: Message<StatsConfig> =
    Message { name: "envoy.config.metrics.v3.StatsConfig", read: stats_config };

const TAG_SPECIFIER: Message<StatsTag> =
    Message { name: "envoy.config.metrics.v3.TagSpecifier", read: tag_specifier };

fn stats_config(message: &mut Reader<'_>) -> Option<StatsConfig> {
    Some(StatsConfig {
        tags: message.list("stats_tags", TAG_SPECIFIER),
        use_all_default_tags: message.flag("use_all_default_tags", true),
    })
}

fn tag_specifier(message: &mut Reader<'_>) -> Option<StatsTag> {
    message.one_of(&["regex", "fixed_value"], false);
    let name = message.required_text("tag_name");
    let fixed = message.optional_text("fixed_value").map(StatsTagSource::Fixed);
    let source = match message.optional_text("regex").filter(|regex| !regex.is_empty()) {
        Some(regex) => {
            let pattern = message.pattern("regex", Pattern::search(&regex))?;
            if pattern.regex().captures_len() < 2 {
                message.problem_at("regex", "needs a group: what group 1 matches is cut out");
            }
            StatsTagSource::Regex(pattern)
        }
        None => fixed.unwrap_or(StatsTagSource::BuiltIn),
    };
    Some(StatsTag { name: name?, source })
}
