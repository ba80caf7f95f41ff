//! Files that are read strictly: all problems at once, each at its place.
//!
//! Syntax first, then the JSON Schema made from the structs, then what a schema cannot say. Each
//! stage tells all it finds, and the next one only sees what the one before found right.

use crate::problem::Problem;
use crate::scenario::ScenarioError;
use crate::schema;
use crate::yaml::Node;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::Path;

/// Reads a file's text. `check` tells what the schema cannot say.
pub(crate) fn read<T: DeserializeOwned>(
    text: &str,
    schema: &Value,
    base: Option<&Path>,
    check: impl FnOnce(&T, &mut Checks<'_>),
) -> Result<T, ScenarioError> {
    let node = Node::parse(text).map_err(ScenarioError)?;
    let problems = schema::check(&node, schema);
    if !problems.is_empty() {
        return Err(ScenarioError(problems));
    }
    let read: T = serde_json::from_value(node.to_json()).map_err(|error| {
        // The schema allows nothing that cannot be read; if it does, the place is the file.
        ScenarioError(vec![Problem { place: node.place, text: error.to_string() }])
    })?;
    let mut checks = Checks { root: &node, base, problems: Vec::new() };
    check(&read, &mut checks);
    let mut problems = checks.problems;
    problems.sort();
    if problems.is_empty() { Ok(read) } else { Err(ScenarioError(problems)) }
}

/// What was found so far.
pub(crate) struct Checks<'a> {
    pub(crate) root: &'a Node,
    /// Modules and files must exist, seen from here; without, they are not looked for.
    pub(crate) base: Option<&'a Path>,
    problems: Vec<Problem>,
}

impl Checks<'_> {
    /// Reports something about what is at `path`: keys, and positions in lists as numbers.
    pub(crate) fn tell(&mut self, path: &[&str], text: impl Into<String>) {
        let place = self.root.at(path).place;
        self.problems.push(Problem { place, text: text.into() });
    }
}
