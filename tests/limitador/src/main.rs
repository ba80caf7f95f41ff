//! Limitador's own engine, in memory, as a process: one question a line, one answer a line.
//!
//! The tests put it behind gRPC, as `limitador-server` does, which is in no registry. First comes a
//! line of limits:
//!
//! ```json
//! [{"domain": "edge", "max": 10, "seconds": 60, "conditions": [], "variables": ["descriptors[0].client"]}]
//! ```
//!
//! then questions, and to each an answer: `{"domain": "edge", "hits": 1, "descriptors": [{"client":
//! "alice"}]}`, `{"limited": false, "headers": {"X-RateLimit-Limit": "10, 10;w=60", ...}}`.

use limitador::RateLimiter;
use limitador::limit::{Context, Limit};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::io::{self, BufRead, Write};

/// Counters kept of limits with variables.
const COUNTERS: u64 = 10_000;

#[derive(Deserialize)]
struct Rule {
    domain: String,
    max: u64,
    seconds: u64,
    #[serde(default)]
    conditions: Vec<String>,
    #[serde(default)]
    variables: Vec<String>,
}

#[derive(Deserialize)]
struct Question {
    domain: String,
    hits: u64,
    descriptors: Vec<HashMap<String, String>>,
}

#[derive(Serialize)]
struct Answer {
    limited: bool,
    headers: BTreeMap<String, String>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let limiter = RateLimiter::new(COUNTERS);
    let mut lines = io::stdin().lock().lines();
    let rules = lines.next().ok_or("no line of limits")??;
    for rule in serde_json::from_str::<Vec<Rule>>(&rules)? {
        let conditions = rule.conditions.into_iter().map(TryInto::try_into);
        let variables = rule.variables.into_iter().map(TryInto::try_into);
        limiter.add_limit(Limit::new(
            rule.domain,
            rule.max,
            rule.seconds,
            conditions.collect::<Result<Vec<_>, _>>().map_err(|error| format!("{error:?}"))?,
            variables.collect::<Result<Vec<_>, _>>().map_err(|error| format!("{error:?}"))?,
        ));
    }
    let mut out = io::stdout().lock();
    for line in lines {
        let question: Question = serde_json::from_str(&line?)?;
        let mut context = Context::default();
        context.list_binding("descriptors".to_owned(), question.descriptors);
        let domain = question.domain.into();
        let checked = limiter.check_rate_limited_and_update(&domain, &context, question.hits);
        let mut checked = checked.map_err(|error| format!("{error:?}"))?;
        let headers = checked.response_header().into_iter().collect();
        let answer = Answer { limited: checked.limited, headers };
        writeln!(out, "{}", serde_json::to_string(&answer)?)?;
        out.flush()?;
    }
    Ok(())
}
