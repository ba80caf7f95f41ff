//! WASI as far as there is any: what each call answers for three descriptors (or clocks, or
//! pointers) and zeros else, and when it is not allowed; environment variables.

use crate::raw::{bootstrap, listener, plugin};
use serde_json::json;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use weir_tests::{Running, on_both_hosts};

/// Name, parameters (`i` = i32, `I` = i64), and errno with 0, 1 and 3 as the first argument.
const CALLS: &[(&str, &str, [i32; 3])] = &[
    ("args_get", "ii", [0, 0, 0]),
    ("args_sizes_get", "ii", [0, 0, 0]),
    ("clock_res_get", "ii", [0, 0, 58]),
    ("clock_time_get", "iIi", [0, 0, 58]),
    ("environ_get", "ii", [0, 0, 0]),
    ("environ_sizes_get", "ii", [0, 0, 0]),
    ("fd_advise", "iIIi", [0, 0, 0]),
    ("fd_allocate", "iII", [8, 0, 8]),
    ("fd_close", "i", [0, 0, 0]),
    ("fd_datasync", "i", [8, 0, 8]),
    ("fd_fdstat_get", "ii", [8, 0, 8]),
    ("fd_fdstat_set_flags", "ii", [52, 52, 52]),
    ("fd_fdstat_set_rights", "iII", [8, 0, 8]),
    ("fd_filestat_get", "ii", [8, 8, 8]),
    ("fd_filestat_set_size", "iI", [8, 0, 8]),
    ("fd_filestat_set_times", "iIIi", [8, 0, 8]),
    ("fd_pread", "iiiIi", [52, 52, 52]),
    ("fd_prestat_dir_name", "iii", [52, 52, 52]),
    ("fd_prestat_get", "ii", [8, 8, 8]),
    ("fd_pwrite", "iiiIi", [8, 0, 8]),
    ("fd_read", "iiii", [52, 52, 52]),
    ("fd_readdir", "iiiIi", [20, 20, 20]),
    ("fd_renumber", "ii", [8, 8, 8]),
    ("fd_seek", "iIii", [0, 0, 0]),
    ("fd_sync", "i", [8, 0, 8]),
    ("fd_tell", "ii", [8, 0, 8]),
    ("fd_write", "iiii", [8, 0, 8]),
    ("path_create_directory", "iii", [58, 58, 58]),
    ("path_filestat_get", "iiiii", [58, 58, 58]),
    ("path_filestat_set_times", "iiiiIIi", [58, 58, 58]),
    ("path_link", "iiiiii", [58, 58, 58]),
    ("path_open", "iiiiiIIii", [44, 44, 44]),
    ("path_readlink", "iiiiii", [58, 58, 58]),
    ("path_remove_directory", "iii", [58, 58, 58]),
    ("path_rename", "iiiiii", [58, 58, 58]),
    ("path_symlink", "iiii", [58, 58, 58]),
    ("path_unlink_file", "iii", [58, 58, 58]),
    ("poll_oneoff", "iiii", [0, 0, 0]),
    ("random_get", "ii", [0, 0, 0]),
    ("sched_yield", "", [0, 0, 0]),
    ("sock_accept", "iii", [58, 58, 58]),
    ("sock_recv", "iiiiii", [58, 58, 58]),
    ("sock_send", "iiiii", [58, 58, 58]),
    ("sock_shutdown", "ii", [58, 58, 58]),
];

/// Makes every call when it is configured, under the names of both WASI modules, and logs each
/// errno behind an `=`; then its environment.
fn module(first: u32) -> Vec<u8> {
    let (mut imports, mut calls) = (String::new(), String::new());
    for (from, wasi) in ["wasi_snapshot_preview1", "wasi_unstable"].iter().enumerate() {
        for (name, params, _) in CALLS {
            let types = |c| if c == 'I' { "i64 " } else { "i32 " };
            let types: String = params.chars().map(types).collect();
            let zeros = |c| if c == 'I' { "(i64.const 0)" } else { "(i32.const 0)" };
            let zeros: String = params.chars().map(zeros).collect();
            let args = zeros.replacen("(i32.const 0)", &format!("(i32.const {first})"), 1);
            let import = format!("(func ${name}{from} (param {types}) (result i32))");
            writeln!(imports, "(import \"{wasi}\" \"{name}\" {import})").expect("a string");
            writeln!(calls, "(call $errno (call ${name}{from} {args}))").expect("a string");
        }
    }
    let body = format!(
        r#"
  (func $errno (param $n i32)
    (local $at i32) (local $len i32)
    (call $decimal (local.get $n))
    (local.set $len)
    (local.set $at (i32.sub (i32.const 1)))
    (i32.store8 (local.get $at) (i32.const 61))
    (call $log (local.get $at) (i32.add (local.get $len) (i32.const 1))))
  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    {calls}
    (drop (call $environ_sizes_get0 (i32.const 4096) (i32.const 4100)))
    (drop (call $environ_get0 (i32.const 5120) (i32.const 6144)))
    (i32.store8 (i32.const 6143) (i32.const 61))
    (call $log (i32.const 6143) (i32.add (i32.load (i32.const 4100)) (i32.const 1)))
    (i32.const 1))"#
    );
    host_sim_guest::module_of_abi(&["0_2_1"], &imports, &body)
}

async fn start(
    host: &weir_tests::Host,
    first: u32,
    more: serde_json::Value,
) -> anyhow::Result<Running> {
    let directory = tempfile::tempdir()?;
    let module_path = directory.path().join("wasi.wasm");
    std::fs::write(&module_path, module(first))?;
    let vm = json!({"environment_variables": {
        "host_env_keys": ["CARGO_PKG_NAME", "NO_SUCH_VARIABLE"],
        "key_values": {"GREETING": "hello"},
    }});
    let filter = plugin("wasi", &module_path, "", &more, &vm);
    let listener = listener("weir", &[json!({"name": "wasi", "typed_config": filter})]);
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    Running::start_with(host, &bootstrap(&[listener], nowhere), NonZeroU32::MIN).await
}

/// What the first VM has said.
fn said(proxy: &Running) -> Vec<String> {
    let log = proxy.log();
    let own = log.lines().filter_map(|line| line.split_once("wasm log wasi: =")?.1.into());
    own.take(2 * CALLS.len() + 1).map(|text: &str| text.trim_end_matches('\0').to_owned()).collect()
}

on_both_hosts! {
    async fn every_call_answers_as_far_as_there_is_anything_behind_it(host: Host) {
        for (column, first) in [0, 1, 3].into_iter().enumerate() {
            let proxy = start(&host, first, json!({})).await?;
            let said = said(&proxy);
            let calls = CALLS.iter().chain(CALLS).zip(&said);
            let wrong = calls.filter(|((_, _, errnos), said)| errnos[column].to_string() != **said);
            assert_eq!(wrong.collect::<Vec<_>>(), []);
            let environment = said.last().map(String::as_str).unwrap_or_default();
            let mut variables: Vec<_> = environment.split('\0').collect();
            variables.sort_unstable();
            assert_eq!(variables, ["CARGO_PKG_NAME=weir-tests", "GREETING=hello"]);
        }
    }

    async fn a_call_that_is_not_allowed_is_refused_with_a_line_in_the_log(host: Host) {
        let allowed = json!({"proxy_log": {}, "proxy_on_configure": {}});
        let more = json!({"capability_restriction_config": {"allowed_capabilities": allowed}});
        let proxy = start(&host, 0, more).await?;
        let said = said(&proxy);
        assert_eq!(said[..2 * CALLS.len()], vec!["76"; 2 * CALLS.len()]);
        let log = proxy.log();
        for (name, _, _) in CALLS {
            let line = format!("Attempted call to restricted WASI capability: {name}");
            assert!(log.lines().any(|found| found.ends_with(&line)), "{name}");
        }
        // No callback of a request is allowed, and it passes.
        assert_eq!(proxy.get("/").await?.status, 503);
    }
}
