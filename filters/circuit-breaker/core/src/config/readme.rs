//! The page lists the fields that the reader reads, those and no others, and its examples are
//! configurations.

use super::{Config, read};
use std::collections::BTreeSet;

const README: &str = include_str!("../../../README.md");

/// All kinds of everything: where fields depend on others, one scope for each.
const EVERYTHING: &str = include_str!("readme/everything.json");

/// The blocks of this kind.
fn blocks(kind: &str) -> Vec<&'static str> {
    let opening = format!("```{kind}\n");
    README.split(opening.as_str()).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

/// Names in the first column of the table of fields, without the brackets of lists. What begins with
/// a dot is a field of a scope.
fn listed() -> BTreeSet<String> {
    let (_, rest) = README.split_once("\n## Fields\n").expect("a table of fields");
    let rows = rest.lines().take_while(|line| !line.starts_with('#'));
    let name = |row: &str| {
        let name = row.strip_prefix("| `")?.split('`').next()?.replace("[]", "");
        Some(if name.starts_with('.') { format!("scopes{name}") } else { name })
    };
    rows.filter_map(name).collect()
}

#[test]
fn the_table_lists_the_fields_that_are_read_and_no_others() {
    let mut documents = blocks("json");
    documents.push(EVERYTHING);
    let read: BTreeSet<String> = documents
        .iter()
        .flat_map(|document| plugin_config::asked(document.as_bytes(), read::config))
        .collect();
    let listed = listed();
    let unread: Vec<_> = listed.difference(&read).collect();
    assert!(unread.is_empty(), "listed, but not read: {unread:?}");
    // What has fields of its own is listed by them.
    let has_fields = |name: &str| {
        let inner = format!("{name}.");
        read.iter().any(|other| other.starts_with(&inner))
    };
    let unlisted: Vec<_> = read.difference(&listed).filter(|name| !has_fields(name)).collect();
    assert!(unlisted.is_empty(), "read, but not listed: {unlisted:?}");
    assert!(read.len() > 50, "only {} fields", read.len());
}

#[test]
fn the_examples_are_configurations() {
    let mut examples = blocks("json");
    assert!(examples.len() >= 4, "only {} examples", examples.len());
    examples.push(EVERYTHING);
    for example in examples {
        if let Err(problems) = Config::from_json(example.as_bytes()) {
            panic!("{problems}\n{example}");
        }
    }
}
