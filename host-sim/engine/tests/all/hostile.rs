//! Modules that mean harm: whatever they do, the host lives, and says who did what.

use crate::rig::{Plugin, Rig, Setup};
use host_sim_engine::Limits;
use host_sim_guest::module_allocating;
use std::time::Duration;

/// Small enough that every case is over in a moment.
fn limits() -> Limits {
    Limits {
        memory: 4 << 20,
        fuel: Some(3_000_000),
        hostcalls: Some(10_000),
        hostcall_bytes: Some(1 << 20),
        ..Limits::default()
    }
}

fn start(plugin: Plugin, limits: Limits) -> Result<Rig, String> {
    Setup { limits, ..Setup::of([plugin]) }.try_start().map_err(|error| error.to_string())
}

/// `body` runs in the request's headers callback and leaves the callback's answer on the stack.
fn on_headers(body: &str) -> String {
    format!(
        r#"(func $run (param $n i32) (result i32) {body})
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (call $run (i32.const 0)))"#
    )
}

/// What a request through a plugin comes to: the client's status, and the log.
fn serve(body: &str, limits: Limits) -> (u16, Vec<String>) {
    let mut rig = start(Plugin::new("evil", body), limits).unwrap();
    let id = rig.get("/");
    let mut status = rig.answer(id).status();
    if status == 0 {
        let attempt = rig.attempts.pop_front().expect("an answer or an attempt");
        rig.respond(attempt.id, "200", "");
        status = rig.answer(id).status();
    }
    rig.worker.downstream_complete(id);
    (status, rig.log())
}

fn endless(call: &str) -> String {
    on_headers(&format!("(loop $again {call} (br $again)) (i32.const 0)"))
}

#[test]
fn what_never_ends_is_stopped_and_named() {
    let cases = [
        ("a loop", endless(""), "limits.fuel"),
        ("logging", endless("(call $log {flood})"), "limits.hostcalls"),
        ("long lines", endless("(call $log (i32.const 0) (i32.const 200000))"), "hostcall_bytes"),
        (
            "metric names",
            on_headers(
                "(loop $again (i32.store (i32.const 0) (local.get $n))
                   (drop (call $define (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 16)))
                   (local.set $n (i32.add (local.get $n) (i32.const 1))) (br $again)) (i32.const 0)",
            ),
            "limits.hostcalls",
        ),
        (
            "shared data",
            on_headers(
                "(loop $again (i32.store (i32.const 0) (local.get $n))
                   (drop (call $set_shared (i32.const 0) (i32.const 4) (i32.const 0)
                     (i32.const 60000) (i32.const 0)))
                   (local.set $n (i32.add (local.get $n) (i32.const 1))) (br $again)) (i32.const 0)",
            ),
            "limits.hostcall_bytes",
        ),
        ("header values", endless("(drop (call $add_header (i32.const 0) {x-a} (i32.const 0) (i32.const 60000)))"), "hostcall_bytes"),
        ("recursion", on_headers("(call $run (i32.add (local.get $n) (i32.const 1)))"), "Maximum call stack size exceeded"),
    ];
    for (what, body, reason) in cases {
        let (status, log) = serve(&body, limits());
        assert_eq!(status, 503, "{what}: {log:?}");
        let line = log.iter().find(|line| line.contains(reason));
        let line = line.unwrap_or_else(|| panic!("{what}: {:?}", log.last()));
        assert!(
            line.contains("wasm plugin evil") && line.contains("proxy_on_request_headers"),
            "{line}"
        );
    }
}

#[test]
fn time_stops_a_live_proxys_plugin_and_others_go_on() {
    let limits = Limits { deadline: Some(Duration::from_millis(30)), ..Limits::default() };
    let setup = Setup {
        limits,
        ..Setup::of([
            Plugin::new("evil", &endless("")).more("failure_policy: FAIL_OPEN"),
            Plugin::new("good", &on_headers("(call $log {still here}) (i32.const 0)"))
                .vm_configuration("own"),
        ])
    };
    let mut rig = setup.start();
    let id = rig.get("/");
    assert_eq!(rig.answer(id).status(), 503);
    let log = rig.log();
    assert!(
        log.iter().any(|line| line.contains("evil") && line.contains("limits.deadline")),
        "{log:?}"
    );
    assert_eq!(rig.get_ok("/").status(), 200);
    assert_eq!(rig.log(), ["good: still here"]);
}

#[test]
fn a_callback_within_its_limits_is_left_alone_however_often_it_runs() {
    let body = on_headers(
        "(local.set $n (i32.const 200000))
        (loop $again (local.set $n (i32.sub (local.get $n) (i32.const 1)))
          (br_if $again (local.get $n)))
        (call $log {done}) (i32.const 0)",
    );
    let mut rig = start(Plugin::new("busy", &body), limits()).unwrap();
    for _ in 0..20 {
        assert_eq!(rig.get_ok("/").status(), 200);
    }
}

#[test]
fn memory_stops_growing_at_the_limit_and_a_trap_after_it_says_so() {
    let grow = "(loop $again (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))";
    let (status, log) = serve(&on_headers(&format!("{grow} (i32.const 0)")), limits());
    assert_eq!((status, log), (200, vec![]));
    let (status, log) = serve(&on_headers(&format!("{grow} unreachable")), limits());
    assert_eq!(status, 503);
    assert!(
        log.iter().any(|line| line.contains("limits.memory") && line.contains("4194304")),
        "{log:?}"
    );
}

#[test]
fn a_module_that_begins_larger_than_the_limit_is_refused_by_name() {
    let code = wat::parse_str(
        r#"(module (memory (export "memory") 100)
        (func (export "proxy_abi_version_0_2_1"))
        (func (export "malloc") (param i32) (result i32) (i32.const 0)))"#,
    )
    .unwrap();
    let error = start(Plugin { name: "evil", code, ..Plugin::default() }, limits()).err().unwrap();
    assert!(error.contains("evil") && error.contains("limits.memory"), "{error}");
}

/// Every hostcall with every combination of extreme arguments.
#[test]
fn no_hostcall_minds_extreme_arguments() {
    const EXTREMES: [&str; 6] = ["0", "1", "-1", "0x7fffffff", "-2147483648", "262140"];
    for hostcall in host_sim_abi::HOSTCALLS {
        if !hostcall.is_in(host_sim_abi::AbiVersion::V0_2_1) {
            continue;
        }
        let params: String =
            hostcall.params.chars().map(|c| if c == 'I' { " i64" } else { " i32" }).collect();
        let call = |pick: &dyn Fn(usize) -> &'static str| {
            let args: String = hostcall
                .params
                .chars()
                .enumerate()
                .map(|(at, c)| {
                    let ty = if c == 'I' { "i64" } else { "i32" };
                    format!(" ({ty}.const {})", pick(at))
                })
                .collect();
            format!("(drop (call $evil{args}))\n")
        };
        let mut calls = String::new();
        for value in EXTREMES {
            calls += &call(&|_| value);
            for at in 0..hostcall.params.len() {
                calls += &call(&|own| if own == at { value } else { "8" });
                calls += &call(&|own| if own == at { "8" } else { value });
            }
        }
        let code = format!(
            r#"(module
            (import "env" "{name}" (func $evil (param{params}) (result i32)))
            (import "env" "proxy_get_property" (func (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 4)
            (func (export "proxy_abi_version_0_2_1"))
            (func (export "malloc") (param i32) (result i32) (i32.const 131072))
            (func (export "proxy_on_context_create") (param i32 i32))
            (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
              {calls} (i32.const 0)))"#,
            name = hostcall.name
        );
        let code = wat::parse_str(&code).unwrap();
        let mut rig = start(Plugin { name: "evil", code, ..Plugin::default() }, limits()).unwrap();
        let id = rig.get("/");
        let answer = rig.answer(id);
        // Served, refused, reset or sent on: anything, but no harm.
        assert!(
            answer.reset || answer.status() > 0 || !rig.attempts.is_empty(),
            "{}: {:?}",
            hostcall.name,
            rig.log()
        );
    }
}

#[test]
fn an_allocator_that_lies_or_traps_fails_no_more_than_its_own_hostcall() {
    let read = "(drop (call $property {plugin_name} (i32.const 64) (i32.const 68)))";
    let module = |allocator: &str| {
        let body = on_headers(&format!("{read} (i32.const 0)"));
        let code = module_allocating(&body, allocator);
        Plugin { name: "evil", code, ..Plugin::default() }
    };
    for (allocator, expected) in [
        ("(i32.const 0)", 200),
        ("(i32.const -1)", 200),
        ("(i32.const 262143)", 200),
        ("unreachable", 503),
        ("(loop $again (br $again)) (i32.const 8)", 503),
        ("(call $say (i32.const 1)) (i32.const 1024)", 200),
        ("(drop (call $tick (i32.const 5))) (i32.const 1024)", 503),
    ] {
        let mut rig = start(module(allocator), limits()).unwrap();
        let id = rig.get("/");
        let status = rig.answer(id).status();
        assert_eq!(
            if status == 0 { 200 } else { status },
            expected,
            "{allocator}: {:?}",
            rig.log()
        );
    }
}

#[test]
fn what_is_no_sound_module_is_refused_with_a_reason() {
    let marker = r#"(func (export "proxy_abi_version_0_2_1"))"#;
    let malloc = r#"(func (export "malloc") (param i32) (result i32) (i32.const 0))"#;
    let memory = r#"(memory (export "memory") 1)"#;
    let parse = |text: String| wat::parse_str(format!("(module {text})")).unwrap();
    let whole = parse(format!("{memory} {marker} {malloc}"));
    let log = r#"(import "env" "proxy_log" (func $l (param i32 i32 i32) (result i32)))"#;
    let cases = [
        ("no bytes", vec![], "Failed to load Wasm code"),
        ("half a module", whole[..whole.len() / 2].to_vec(), "Failed to load Wasm code"),
        ("noise", (0..=255).collect(), "Failed to load Wasm code"),
        ("no marker", parse(format!("{memory} {malloc}")), "unknown Proxy-Wasm ABI version"),
        ("no memory", parse(format!("{marker} {malloc}")), "exports no memory"),
        ("no allocator", parse(format!("{memory} {marker}")), "missing malloc"),
        (
            "an import nobody has",
            parse(format!(r#"(import "env" "proxy_fly" (func)) {memory} {marker} {malloc}"#)),
            "proxy_fly",
        ),
        (
            "an import of another type",
            parse(format!(r#"(import "env" "proxy_log" (func)) {memory} {marker} {malloc}"#)),
            "proxy_log",
        ),
        (
            "a start section that calls the host",
            parse(format!(
                "{log} {memory} {marker} {malloc} (func $s (drop (call $l (i32.const 0) \
                 (i32.const 0) (i32.const 0)))) (start $s)"
            )),
            "a start section calls the host",
        ),
        (
            "a start section that never ends",
            parse(format!("{memory} {marker} {malloc} (func $s (loop $a (br $a))) (start $s)")),
            "limits.fuel",
        ),
        (
            "an _initialize that never ends",
            parse(format!(
                "{memory} {marker} {malloc} (func (export \"_initialize\") (loop $a (br $a)))"
            )),
            "limits.fuel",
        ),
        (
            "a callback of another signature",
            parse(format!("{memory} {marker} {malloc} (func (export \"proxy_on_tick\"))")),
            "bad signature of proxy_on_tick",
        ),
        (
            "a configuration that never ends",
            parse(format!(
                "{memory} {marker} {malloc} (func (export \"proxy_on_configure\") \
                 (param i32 i32) (result i32) (loop $a (br $a)) unreachable)"
            )),
            "limits.fuel",
        ),
    ];
    for (what, code, reason) in cases {
        let error = start(Plugin { name: "evil", code, ..Plugin::default() }, limits());
        let error = error.err().unwrap_or_else(|| panic!("{what} is accepted"));
        assert!(error.contains("evil") && error.contains(reason), "{what}: {error}");
    }
}
