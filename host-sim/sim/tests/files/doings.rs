//! The report's forms and the schema.

use crate::Folder;
use host_sim::Format;

#[test]
fn the_committed_schema_is_the_one_of_the_structs() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenario.schema.json");
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    let current = format!("{:#}\n", host_sim::json_schema());
    assert!(
        committed == current,
        "host-sim schema scenario > host-sim/scenario.schema.json, and commit it"
    );
}

#[test]
fn the_committed_schema_of_experiments_is_the_one_of_the_structs() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../experiment.schema.json");
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    let current = format!("{:#}\n", host_sim::simulate::experiment_schema());
    assert!(
        committed == current,
        "host-sim schema experiment > host-sim/experiment.schema.json, and commit it"
    );
}

#[test]
fn every_field_of_the_schema_says_what_it_is() {
    let schema = host_sim::json_schema();
    let types = schema["$defs"].as_object().unwrap().iter();
    let own = ("Scenario".to_owned(), schema.clone());
    for (name, definition) in types.chain([(&own.0, &own.1)]) {
        let fields = definition["properties"].as_object().into_iter().flatten();
        for (field, of) in fields {
            assert!(of["description"].is_string(), "{name}.{field} has no description");
        }
    }
}

#[test]
fn every_form_of_the_report_has_every_outcome() {
    let folder = Folder::with([]);
    let report = folder.run(
        "scenario.yaml",
        "
scenario: one of two holds
workers: [1, 2]
suite: {filters: []}
endpoints: {127.0.0.1:9001: {}}
steps: [{send: {workers: last}, expect: {statuses: {404: 1}}}]
",
    );
    let tap = report.render(Format::Tap);
    assert!(
        tap.starts_with("TAP version 13\n1..2\nnot ok 1 - one of two holds (1 worker)"),
        "{tap}"
    );
    let json: serde_json::Value = serde_json::from_str(&report.render(Format::Json)).unwrap();
    assert_eq!(json["outcomes"][1]["workers"], 2);
    assert!(report.render(Format::Junit).contains("failures=\"2\""));
}
