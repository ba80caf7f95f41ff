//! Where Envoy does otherwise than the specification: the rows of the profile have their tests.

use crate::rig::{Plugin, Rig, Setup, request};
use bytes::Bytes;
use host_sim_abi::QUIRKS;
use host_sim_engine::ExchangeId;
use std::path::{Path, PathBuf};

fn log(rig: &Rig) -> Vec<String> {
    rig.log().iter().map(|line| line.strip_prefix("p: ").unwrap_or(line).to_owned()).collect()
}

/// A plugin that does something in on_request_headers.
fn at_request(body: &str) -> Plugin {
    let body = format!(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          {body} (i32.const 0))"#
    );
    Plugin::new("p", &body)
}

fn said(body: &str) -> Vec<String> {
    let mut rig = Setup::of([at_request(body)]).start();
    rig.get("/");
    log(&rig)
}

/// All files of a folder and of those in it.
fn sources(folder: &Path) -> String {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let text = |path: PathBuf| match path.is_dir() {
        true => sources(&path),
        false => std::fs::read_to_string(path).unwrap(),
    };
    paths.map(text).collect()
}

#[test]
fn every_row_of_the_profile_has_its_test() {
    let text = sources(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/all").as_ref());
    for quirk in QUIRKS {
        let test = format!("#[test]\nfn {}()", quirk.test);
        assert!(text.contains(&test), "{}: there is no test {}", quirk.id, quirk.test);
    }
}

#[test]
fn a_stream_is_done_whatever_it_answers() {
    let body = r#"
      (func (export "proxy_on_done") (param i32) (result i32) (call $log {done}) (i32.const 0))
      (func (export "proxy_on_delete") (param i32) (call $log {delete}))
      (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (i32.const 0))"#;
    let mut rig = Setup::of([Plugin::new("p", body)]).start();
    rig.get_ok("/");
    assert_eq!(log(&rig), ["done", "delete"]);
}

/// A body callback's doings, and the body that the endpoint gets for "hello".
fn sent(body: &str) -> (Vec<String>, String) {
    let body = format!(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (i32.const 0))
        (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
          {body} (i32.const 0))"#
    );
    let mut rig = Setup::of([Plugin::new("p", &body)]).start();
    let id = rig.begin();
    rig.worker.request_headers(id, request("POST", "/"), false);
    rig.worker.request_data(id, Bytes::from_static(b"hello"), true);
    let lines = log(&rig);
    (lines, rig.attempt().body)
}

#[test]
fn a_range_beyond_a_buffer_is_no_bytes_and_no_error() {
    let read = |start: &str, max: &str| {
        format!(
            "(i32.store (i32.const 4100) (i32.const 9)) (call $say (call $buffer (i32.const 0)
             (i32.const {start}) (i32.const {max}) (i32.const 4096) (i32.const 4100)))
             (call $say (i32.load (i32.const 4100)))"
        )
    };
    let reads = [read("5", "1"), read("99", "9"), read("-1", "-1"), read("3", "9")].concat();
    assert_eq!(sent(&reads).0, ["0", "0", "0", "0", "0", "0", "0", "2"]);
}

#[test]
fn a_body_can_be_replaced_and_appended_to_but_not_changed_in_the_middle() {
    let write = |start: u32, size: u32| {
        format!(
            "(call $say (call $set_buffer (i32.const 0) (i32.const {start}) (i32.const {size}) \
             {{-}}))"
        )
    };
    assert_eq!(sent(&write(0, 0)), (vec!["0".into()], "-hello".into()));
    assert_eq!(sent(&write(0, 2)), (vec!["0".into()], "-llo".into()));
    assert_eq!(sent(&write(0, 99)), (vec!["0".into()], "-".into()));
    assert_eq!(sent(&write(5, 0)), (vec!["0".into()], "hello-".into()));
    assert_eq!(sent(&write(2, 1)), (vec!["2".into()], "hello".into()));
}

#[test]
fn the_size_of_a_map_is_that_of_its_names_and_values() {
    let body = "(call $say (call $map_size (i32.const 0) (i32.const 4096)))
        (call $say (i32.load (i32.const 4096)))
        (drop (call $add_header (i32.const 0) {x-name} {value}))
        (drop (call $map_size (i32.const 0) (i32.const 4104)))
        (call $say (i32.sub (i32.load (i32.const 4104)) (i32.load (i32.const 4096))))";
    let lines = said(body);
    assert_eq!((lines[0].as_str(), lines[2].as_str()), ("0", "11"));
}

#[test]
fn buffer_8_shows_whatever_was_read_last() {
    let read = "(drop (call $buffer (i32.const 7) (i32.const 0) (i32.const 9) (i32.const 4096)
          (i32.const 4100)))
        (call $say (call $buffer (i32.const 8) (i32.const 0) (i32.const 9) (i32.const 4096)
          (i32.const 4100)))
        (call $say_value)";
    let body = format!(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32) {read} (i32.const 1))"#
    );
    let rig = Setup::of([Plugin::new("p", &body).configuration("secret")]).start();
    assert_eq!(log(&rig), ["0", "secret"]);
}

#[test]
fn a_reply_from_a_root_goes_nowhere_and_is_fine() {
    let body = r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
        (call $say (call $send_reply (i32.const 500) {} {} {} (i32.const -1))) (i32.const 1))"#;
    let mut rig = Setup::of([Plugin::new("p", body)]).start();
    assert_eq!(log(&rig), ["0"]);
    assert_eq!(rig.get_ok("/").status(), 200);
}

#[test]
fn metrics_answer_as_in_envoy() {
    let define = |kind: u32, at: u32| {
        format!("(call $say (call $define (i32.const {kind}) {{m}} (i32.const {at})))")
    };
    let increment = |at: u32, by: i64| {
        format!("(call $say (call $increment (i32.load (i32.const {at})) (i64.const {by})))")
    };
    let record =
        |at: u32| format!("(call $say (call $record (i32.load (i32.const {at})) (i64.const 5)))");
    let get = |at: u32| {
        format!(
            "(call $say (call $metric (i32.load (i32.const {at})) (i32.const 4200)))
             (call $say (i32.load (i32.const 4200)))"
        )
    };
    let id = |at: u32| format!("(call $say (i32.load (i32.const {at})))");
    let body = [
        // Twice the same counter: two ids, one value.
        define(0, 4096),
        define(0, 4100),
        id(4096),
        id(4100),
        increment(4096, 2),
        get(4100),
        // Not by 0; recording adds.
        increment(4096, 0),
        record(4100),
        get(4096),
        // Other types under the same name; a histogram has no value.
        define(1, 4104),
        define(2, 4108),
        id(4104),
        id(4108),
        increment(4108, 1),
        get(4108),
        record(4108),
    ]
    .concat();
    let import = r#"(import "env" "proxy_get_metric" (func $metric (param i32 i32) (result i32)))"#;
    let body = format!(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          {body} (i32.const 0))"#
    );
    let code = host_sim_guest::module_of_abi(&["0_2_1"], import, &body);
    let mut rig = Setup::of([Plugin { name: "p", code, ..Plugin::default() }]).start();
    rig.get("/");
    let expected = [
        "0", "0", "4", "8", "0", "0", "2", "2", "0", "0", "7", "0", "0", "5", "6", "2", "2", "7",
        "0",
    ];
    assert_eq!(log(&rig), expected);
}

#[test]
fn a_configuration_of_type_struct_arrives_as_protobuf() {
    let body = r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
        (drop (call $buffer (i32.const 7) (i32.const 0) (i32.const 99) (i32.const 4096)
          (i32.const 4100)))
        (call $say_value) (i32.const 1))"#;
    let structure = r#"{"@type": type.googleapis.com/google.protobuf.Struct, value: {k: v}}"#;
    let rig = Setup::of([Plugin::new("p", body).configuration(structure)]).start();
    assert_eq!(log(&rig), ["\n\u{8}\n\u{1}k\u{12}\u{3}\u{1a}\u{1}v"]);
}

#[test]
fn a_missing_key_is_created_whatever_version_is_named() {
    let set = |cas: u32| format!("(call $say (call $set_shared {{k}} {{v}} (i32.const {cas})))");
    // The first creates, the second names a version that is not the key's.
    assert_eq!(said(&(set(77) + &set(77))), ["0", "8"]);
}

#[test]
fn malformed_pairs_are_an_empty_map() {
    let import = r#"(import "env" "proxy_set_header_map_pairs"
        (func $set_pairs (param i32 i32 i32) (result i32)))"#;
    let body = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (call $say (call $set_pairs (i32.const 0) {junk!}))
        (call $say (call $map_size (i32.const 0) (i32.const 4096)))
        (call $say (i32.load (i32.const 4096)))
        (i32.const 1))"#;
    let code = host_sim_guest::module_of_abi(&["0_2_1"], import, body);
    let mut rig = Setup::of([Plugin { name: "p", code, ..Plugin::default() }]).start();
    rig.get("/");
    assert_eq!(log(&rig), ["0", "0", "0"]);
}

#[test]
fn an_action_of_2_continues() {
    let body = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (i32.const 2))"#;
    let mut rig = Setup::of([Plugin::new("p", body)]).start();
    rig.get("/");
    rig.answer(ExchangeId(u64::MAX));
    assert_eq!(rig.attempts.len(), 1);
}
