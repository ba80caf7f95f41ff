//! What two hosts showed, side by side.

use crate::explained::Explained;
use crate::observe::Cells;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// The result of a run.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Cells that either host showed.
    pub total: usize,
    /// Cells in which both showed the same.
    pub equal: usize,
    /// Differences that are meant.
    pub explained: Vec<Difference>,
    /// Differences that are not.
    pub different: Vec<Difference>,
    /// Cells in which both showed the same.
    #[serde(skip)]
    pub same: Vec<Difference>,
    /// Explanations of nothing: their patterns match no difference.
    pub stale: Vec<String>,
}

/// A cell in which the hosts differ.
#[derive(Debug, Serialize)]
pub struct Difference {
    /// Its name.
    pub cell: String,
    /// What Envoy showed; `None` when it did not come to it.
    pub envoy: Option<String>,
    /// What host-sim showed.
    pub host_sim: Option<String>,
    /// Why that is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Report {
    /// Compares cell by cell. Stale explanations are looked for only after a `complete` run.
    pub(crate) fn new(
        envoy: Vec<Cells>,
        host_sim: Vec<Cells>,
        explained: &Explained,
        complete: bool,
    ) -> Self {
        let mut report = Self::default();
        let mut used = vec![false; explained.rows().len()];
        for (envoy, host_sim) in envoy.into_iter().zip(host_sim) {
            let mut pairs: BTreeMap<String, (Option<String>, Option<String>)> = BTreeMap::new();
            for (cell, text) in envoy {
                pairs.entry(cell).or_default().0 = Some(text);
            }
            for (cell, text) in host_sim {
                pairs.entry(cell).or_default().1 = Some(text);
            }
            for (cell, (envoy, host_sim)) in pairs {
                report.total += 1;
                if envoy == host_sim {
                    report.equal += 1;
                    report.same.push(Difference { cell, envoy, host_sim, reason: None });
                    continue;
                }
                let row = explained.find(&cell);
                let reason = row.map(|(at, row)| {
                    used[at] = true;
                    row.reason.clone()
                });
                let known = reason.is_some();
                let difference = Difference { cell, envoy, host_sim, reason };
                if known { &mut report.explained } else { &mut report.different }.push(difference);
            }
        }
        if complete {
            let unused = explained.rows().iter().zip(used).filter(|(_, used)| !used);
            report.stale = unused.map(|(row, _)| row.cells.clone()).collect();
        }
        report
    }

    /// No difference that is not explained, and no explanation without a difference.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.different.is_empty() && self.stale.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for difference in &self.different {
            writeln!(f, "{}", difference.cell)?;
            writeln!(f, "  envoy:    {}", shown(difference.envoy.as_deref()))?;
            writeln!(f, "  host-sim: {}", shown(difference.host_sim.as_deref()))?;
        }
        for pattern in &self.stale {
            writeln!(f, "explained, but no difference any more: {pattern}")?;
        }
        let (explained, different) = (self.explained.len(), self.different.len());
        writeln!(f, "{:>9} cells", self.total)?;
        writeln!(f, "{:>9} equal", self.equal)?;
        writeln!(f, "{explained:>9} explained")?;
        write!(f, "{different:>9} different")
    }
}

fn shown(text: Option<&str>) -> String {
    text.map_or("(none)".to_owned(), |text| text.trim_end().replace('\n', "\n            "))
}
