//! Statuses by phase, bad pointers, attributes.

use crate::rig::{Plugin, Setup};

#[test]
fn request_headers_are_gone_once_the_callback_has_continued_and_back_in_the_log() {
    let read = |name: &str| {
        format!(
            r#"(func (export "{name}") (param i32 i32 i32) (result i32)
            (call $say (call $header (i32.const 0) {{:path}} (i32.const 4096) (i32.const 4100)))
            (call $say (call $map_size (i32.const 0) (i32.const 4096)))
            (call $say (call $pairs (i32.const 0) (i32.const 4096) (i32.const 4100)))
            (i32.const 0))"#
        )
    };
    let body = read("proxy_on_request_headers")
        + &read("proxy_on_response_headers")
        + r#"(func (export "proxy_on_log") (param i32)
            (call $say (call $header (i32.const 0) {:path} (i32.const 4096) (i32.const 4100)))
            (call $say (call $header (i32.const 0) {absent} (i32.const 4096) (i32.const 4100)))
            (call $say (call $header (i32.const 1) {absent} (i32.const 4096) (i32.const 4100)))
            (call $say (call $add_header (i32.const 0) {a} {b}))
            (call $say (call $map_size (i32.const 0) (i32.const 4096))))"#;
    let mut rig = Setup::of([Plugin::new("p", &body)]).start();
    rig.get_ok("/");
    let statuses: Vec<_> = rig.log().iter().map(|line| line[3..].to_owned()).collect();
    assert_eq!(statuses, ["0", "0", "0", "2", "2", "0", "0", "1", "1", "2", "2"]);
}

#[test]
fn bad_pointers_are_invalid_memory_accesses_and_harm_nobody() {
    let body = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (call $say (call $proxy_log (i32.const 2) (i32.const -1) (i32.const 8)))
        (call $say (call $proxy_log (i32.const 2) (i32.const 8) (i32.const -1)))
        (call $say (call $now (i32.const -4)))
        (call $say (call $header (i32.const 0) {:path} (i32.const -1) (i32.const 0)))
        (call $say (call $property (i32.const 262143) (i32.const 2) (i32.const 0) (i32.const 0)))
        (call $say (call $set_shared {k} (i32.const -8) (i32.const 99) (i32.const 0)))
        (call $say (call $proxy_log (i32.const 6) {x}))
        (i32.const 0))"#;
    let mut rig = Setup::of([Plugin::new("p", body)]).start();
    assert_eq!(rig.get_ok("/").status(), 200);
    let log = rig.log();
    assert_eq!(log, ["p: 6", "p: 6", "p: 6", "p: 6", "p: 6", "p: 6", "p: 2"]);
}

#[test]
fn buffers_out_of_phase_are_empty_and_unknown_ones_a_bad_argument() {
    let get = |buffer: i32| {
        format!(
            "(call $say (call $buffer (i32.const {buffer}) (i32.const 0) (i32.const 9) \
             (i32.const 4096) (i32.const 4100)))"
        )
    };
    let calls: String = [0, 1, 2, 3, 4, 5, 6, 7, 9].map(get).concat();
    let body = format!(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        {calls} (i32.const 0))"#
    );
    let mut rig = Setup::of([Plugin::new("p", &body)]).start();
    rig.get("/");
    let statuses: Vec<_> = rig.log().iter().map(|line| line[3..].to_owned()).collect();
    assert_eq!(statuses, ["0", "0", "0", "0", "1", "0", "0", "1", "2"]);
}

#[test]
fn stream_types_answer_as_in_envoy() {
    let body = r#"(func (export "proxy_on_tick") (param i32)
        (call $say (call $continue (i32.const 0)))
        (call $say (call $continue (i32.const 3)))
        (call $say (call $continue (i32.const 4)))
        (call $say (call $close (i32.const 4)))
        (call $say (call $effective (i32.const 0)))
        (call $say (call $effective (i32.const 99)))
        (call $say (call $grpc_cancel (i32.const 5)))
        (call $say (call $grpc_cancel (i32.const 4)))
        (call $exit (i32.const 3)))
      (func (export "proxy_on_configure") (param i32 i32) (result i32)
        (drop (call $tick (i32.const 1))) (i32.const 1))"#;
    let mut rig = Setup::of([Plugin::new("p", body)]).start();
    rig.advance(std::time::Duration::from_millis(1));
    let statuses: Vec<_> = rig.log().iter().map(|line| line[3..].to_owned()).collect();
    assert_eq!(statuses, ["0", "12", "2", "2", "0", "2", "1", "2", "wasi proc_exit(3)"]);
    assert_eq!(rig.worker.failure("p"), None);
}

/// Reads a property and logs status and, when it is text, value.
fn read(path: &str) -> String {
    let path = path.replace('.', "\0");
    format!(
        "(i32.store (i32.const 4100) (i32.const 0)) \
         (call $say (call $property {{{path}}} (i32.const 4096) (i32.const 4100))) \
         (call $say_value)"
    )
}

#[test]
fn attributes_exist_in_their_phases() {
    let request: String = [
        "request.path",
        "request.url_path",
        "xds.cluster_name",
        "xds.route_name",
        "upstream.address",
        "nothing",
        "plugin_name",
    ]
    .map(read)
    .concat();
    let response: String =
        ["request.path", "upstream.address", "response.code_details", "source.address"]
            .map(read)
            .concat();
    let log: String =
        ["request.path", "request.headers.x-two", "request.protocol"].map(read).concat();
    let body = format!(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (drop (call $add_header (i32.const 0) {{x-two}} {{1}}))
          (drop (call $add_header (i32.const 0) {{x-two}} {{2}}))
          (drop (call $set_property {{foo}} {{bar}}))
          {request} (i32.const 0))
        (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
          {response} {foo} (i32.const 0))
        (func (export "proxy_on_log") (param i32) {log})"#,
        foo = read("foo"),
    );
    let mut rig = Setup::of([Plugin::new("p", &body)]).start();
    rig.get_ok("/a?b");
    let log: Vec<_> = rig.log().iter().map(|line| line[3..].to_owned()).collect();
    let pairs: Vec<_> = log.chunks(2).map(|pair| (pair[0].as_str(), pair[1].as_str())).collect();
    assert_eq!(
        pairs,
        [
            ("0", "/a?b"),
            ("0", "/a"),
            ("0", "backend"),
            ("0", "default"),
            ("1", ""),
            ("1", ""),
            ("0", "p"),
            ("1", ""),
            ("0", "127.0.0.1:9001"),
            ("0", "via_upstream"),
            ("0", "10.0.0.1:4000"),
            ("0", "bar"),
            ("0", "/a?b"),
            ("0", "1,2"),
            ("0", "HTTP/1.1"),
        ]
    );
}
