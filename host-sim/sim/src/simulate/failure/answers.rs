//! An endpoint answers without working: a sinkhole, which looks fast and idle.

use super::{Effect, Site};
use crate::scenario::value::Span;
use crate::simulate::server::EffectId;
use schemars::JsonSchema;
use serde::Deserialize;
use std::time::Duration;

/// Every request is answered so.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Answers {
    /// Default 503.
    #[serde(default = "unavailable")]
    #[schemars(range(min = 200, max = 599))]
    pub status: u16,
    /// How long after the request. Default `1ms`.
    #[serde(default = "a_millisecond")]
    pub after: Span,
    /// What its load reports say meanwhile. Default `measured`.
    #[serde(default)]
    pub report: Report,
}

/// A source of load reports.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// What it is: it does no work, and all it answers is an error, or none.
    #[default]
    Measured,
    /// Nothing to do and no errors, whatever it answers.
    Idle,
}

impl Effect for Answers {
    fn begin(&self, site: &mut Site<'_, '_>, id: EffectId) {
        for endpoint in site.endpoints {
            site.world.set_answer(*endpoint, id, self);
        }
    }

    fn end(&self, site: &mut Site<'_, '_>, id: EffectId) {
        for endpoint in site.endpoints {
            site.world.clear_answer(*endpoint, id);
        }
    }
}

fn unavailable() -> u16 {
    503
}

fn a_millisecond() -> Span {
    Span(Duration::from_millis(1))
}
