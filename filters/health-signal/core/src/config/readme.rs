//! The page lists the fields that the reader reads, those and no others, and its examples are
//! configurations.

use super::{Config, read};
use plugin_config::Page;

/// All kinds of everything: where fields depend on others, one poll for each.
const EVERYTHING: &str = include_str!("readme/everything.json");

fn page() -> Page<'static> {
    Page::new(include_str!("../../../README.md"), "clusters.active")
}

#[test]
fn the_table_lists_the_fields_that_are_read_and_no_others() {
    let differences = page().differences(EVERYTHING, read::config);
    assert!(differences.is_empty(), "{differences:#?}");
}

#[test]
fn the_examples_are_configurations() {
    assert!(page().examples().len() >= 2, "examples are missing");
    let refused = page().refused(EVERYTHING, Config::from_json);
    assert!(refused.is_empty(), "{refused:#?}");
}

#[test]
fn the_page_names_every_signal() {
    for (signal, _) in crate::Signal::NAMED {
        assert!(page().text().contains(&format!("`{signal}`")), "{signal}");
    }
}
