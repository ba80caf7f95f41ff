//! Every hostcall in every callback, with good and bad arguments.
//!
//! One exchange has all callbacks of a stream, so one case is many columns of the matrix. What
//! would change the course of the stream is elsewhere.

use super::hostcalls::*;
use super::properties;
use crate::Phase;
use crate::case::{Body, Case, Exchange};
use crate::file::FILTERED;
use crate::op::{Agree, Arg, Op, text};
use host_sim_abi::AbiVersion;
use std::time::Duration;

use Arg::{Context, High, Imm, OutInt, OutLen, OutPtr, Reg, Root};

pub(super) type Group = fn(Phase) -> Vec<Op>;

const GROUPS: &[(&str, Group)] = &[
    ("values", values),
    ("pairs", pairs),
    ("writes", writes),
    ("buffers", buffers),
    ("properties", properties::ops),
    ("set_property", set_properties),
    ("context", context),
    ("shared_data", shared_data),
    ("queues", queues),
    ("metrics", metrics),
    ("calls", calls),
    ("foreign", foreigns),
    ("stream_types", stream_types),
];

/// The groups that do nothing to a connection.
pub(super) fn steady_groups() -> impl Iterator<Item = (&'static str, Group)> {
    let steady =
        GROUPS.iter().copied().filter(|(name, _)| !["writes", "stream_types"].contains(name));
    steady.chain([("wasi", super::wasi::ops as Group)])
}

/// Each group in every callback of a stream; properties also without body, and over HTTP/1.1.
pub(super) fn cases() -> Vec<Case> {
    let stream = |ops: Group| Phase::HTTP.iter().flat_map(|phase| ops(*phase)).collect::<Vec<_>>();
    let whole = GROUPS.iter().map(|(name, ops)| {
        Case::new(format!("matrix/{name}"), stream(*ops), Exchange::whole("main"))
    });
    let bare = [
        Case::new("bare/values", stream(values), Exchange::get("main")),
        Case::new("bare/pairs", stream(pairs), Exchange::get("main")),
        Case::new("bare/buffers", stream(buffers), chunked()),
        Case::new("bare/properties", stream(properties::ops), Exchange::get("main")),
        Case::new("bare/properties_post", stream(properties::ops), post()),
    ];
    let early = early();
    let old = Phase::HTTP.iter().flat_map(|phase| old_configuration(*phase)).collect();
    let old = Case::new("abi_0_1_0/configuration", old, Exchange::whole("old"));
    let versions =
        [("abi_0_1_0", "old", AbiVersion::V0_1_0), ("abi_0_2_0", "middle", AbiVersion::V0_2_0)];
    let versions = versions.into_iter().flat_map(|(name, listener, version)| {
        GROUPS.iter().map(move |(group, ops)| {
            let ops = stream(*ops).into_iter().filter(|op| op.is_in(version)).collect();
            Case::new(format!("{name}/{group}"), ops, Exchange::whole(listener))
        })
    });
    let restricted = GROUPS.iter().map(|(name, ops)| {
        Case::new(format!("restricted/{name}"), stream(*ops), Exchange::whole("restricted"))
    });
    let (cluster, letter) = FILTERED;
    let upstream = GROUPS.iter().map(|(name, ops)| {
        let exchange = Exchange::whole("plain").path(&format!("/{cluster}"));
        // Some attributes depend on whether there was a connection before.
        let first = exchange.clone().unprobed();
        let mut case = Case::new(format!("upstream_filter/{name}"), vec![], first).then(exchange);
        case.programs = vec![(letter, stream(*ops))];
        case
    });
    whole
        .chain(bare)
        .chain([early, old])
        .chain(versions)
        .chain(restricted)
        .chain(upstream)
        .collect()
}

fn post() -> Exchange {
    Exchange::post("main", Body::Sized(vec!["sized body"])).path("/echo/path?query=1&x")
}

/// A body whose length may change: what goes beyond a kept `content-length` would be read as the
/// next request on that connection.
fn chunked() -> Exchange {
    Exchange::post("main", Body::Chunked(vec!["chunked body"])).shape("chunked")
}

/// Every group as a stream context is created: the request cannot name the program then, so the
/// one before it does.
fn early() -> Case {
    let next = Op::new(Phase::Delete, "next".to_owned(), crate::Call::Next, Vec::new());
    let ops = GROUPS.iter().flat_map(|(_, ops)| ops(Phase::Create)).chain([next.once()]);
    Case::new("create", ops.collect(), Exchange::get("main")).then(Exchange::get("main"))
}

/// Each group in every callback of a root.
pub(super) fn roots() -> Vec<Case> {
    let mut ops = Vec::new();
    for phase in Phase::ROOT {
        for (_, group) in GROUPS {
            ops.extend(group(*phase).into_iter().map(|op| steady(op).once()));
        }
    }
    ops.push(tick(Phase::Configure, 5));
    ops.push(tick(Phase::Tick, 0).once());
    let mut old = Vec::new();
    for phase in Phase::ROOT {
        old.extend(old_configuration(*phase).into_iter().map(Op::once));
        old.extend(buffers(*phase).into_iter().map(Op::once));
    }
    old.push(tick(Phase::Configure, 5));
    old.push(tick(Phase::Tick, 0).once());
    // A service may do what no plugin of a listener can wait for.
    let mut service = ops.clone();
    // Before its clusters are there Envoy crashes on calls.
    let calls = ["http_call(", "grpc_call(", "grpc_stream("];
    let is_call = |op: &&Op| calls.iter().any(|call| op.label.starts_with(call));
    let early = |op: &&Op| op.phase != Phase::Tick && is_call(op);
    let upstream = ops.iter().filter(|op| !early(op)).cloned().collect();
    for phase in Phase::ROOT {
        service.extend(super::foreign::from_root(*phase).into_iter().map(Op::once));
        service.extend(super::wasi::ops(*phase).into_iter().map(Op::once));
    }
    service.extend(super::grpc::from_root(Phase::Configure));
    service.push(tick(Phase::Tick, 0));
    // On one thread there is one tick.
    let singleton = Case::root("root/singleton", 's', service.clone());
    let singleton = Case { patience: Duration::from_millis(300), ..singleton };
    let (cluster, letter) = FILTERED;
    vec![
        Case::root("root/main", 'a', ops.clone()),
        Case::root("root/old", 'a', old),
        Case::root(format!("root/{cluster}"), letter, upstream),
        Case::root("root/service", 's', service),
        singleton,
    ]
}

/// What threads that start at once do not agree on.
pub(super) fn steady(op: Op) -> Op {
    let shared = [
        "set_shared_data",
        "get_shared_data",
        "get_metric",
        "dequeue_shared_queue",
        "resolve_shared_queue(\"\"",
    ];
    if shared.iter().any(|call| op.label.contains(call)) { op.agree(Agree::Status) } else { op }
}

fn old_configuration(phase: Phase) -> Vec<Op> {
    let call = |name: &str, args| Op::host(phase, name, "", args);
    vec![
        call("get_configuration", vec![OutPtr(0), OutLen(0)]),
        call("clear_route_cache", vec![]),
        status(phase),
        set_property(phase, &["x"], "y"),
        property(phase, &["x"]),
        property(phase, &["plugin_name"]),
    ]
}

/// Reading headers by name.
fn values(phase: Phase) -> Vec<Op> {
    let names = [
        (0, ":path"),
        (1, "x-trail"),
        (2, ":status"),
        (3, "x-trail"),
        (4, "grpc-status"),
        (5, "grpc-status"),
        (6, ":status"),
        (7, "x-trail"),
        (8, ":path"),
        (u32::MAX, ":path"),
        (0, "X-SHAPE"),
        (0, "x-missing"),
        (0, "host"),
        (2, "x-missing"),
        (0, ""),
    ];
    names.into_iter().map(|(map, name)| header(phase, map, name)).collect()
}

/// Reading whole maps, and their size.
fn pairs(phase: Phase) -> Vec<Op> {
    let maps = || (0..=8).chain([u32::MAX]);
    let pairs = maps().map(|map| map_pairs(phase, map));
    // Asking for the size of trailers makes them: a case of its own.
    let sizes = maps().filter(|map| !matches!(map, 0..=3)).map(|map| map_size(phase, map));
    pairs.chain(sizes).collect()
}

/// Changing headers in ways that leave the stream whole.
fn writes(phase: Phase) -> Vec<Op> {
    let name = format!("x-{}", phase.name().replace('_', "-"));
    let maps = (0..=8).chain([u32::MAX]);
    maps.flat_map(|map| {
        [
            add(phase, map, &name, "one"),
            add(phase, map, &name.to_uppercase(), "two"),
            header(phase, map, &name),
            replace(phase, map, &name, "three"),
            replace(phase, map, "x-new", ""),
            remove(phase, map, "x-missing"),
            remove(phase, map, &name),
            map_size(phase, map).agree(Agree::Status),
        ]
    })
    .collect()
}

fn buffers(phase: Phase) -> Vec<Op> {
    let kinds = (0..=9).chain([u32::MAX]);
    kinds
        .flat_map(|kind| {
            let reads = [(0, 100), (2, 3), (100, 10), (0, 0), (5, u32::MAX), (u32::MAX, 1)];
            let reads = reads.map(|(start, max)| buffer(phase, kind, start, max));
            let writes = [set_buffer(phase, kind, 0, 0, ""), set_buffer(phase, kind, 3, 1, "mid")];
            // Envoy aborts on writing 8.
            let writes = writes.into_iter().filter(move |_| kind != 8);
            reads.into_iter().chain([buffer_status(phase, kind)]).chain(writes).collect::<Vec<_>>()
        })
        .collect()
}

fn set_properties(phase: Phase) -> Vec<Op> {
    let own = phase.name();
    vec![
        set_property(phase, &[own], "value"),
        property(phase, &[own]),
        property(phase, &["filter_state", &format!("wasm.{own}")]),
        set_property(phase, &["a", "b"], "value"),
        property(phase, &["a", "b"]),
        set_property(phase, &["empty"], ""),
        property(phase, &["empty"]),
        set_property(phase, &[], "of nothing"),
        property(phase, &["request_headers"]),
        set_property(phase, &["again"], own),
        property(phase, &["again"]),
    ]
}

fn context(phase: Phase) -> Vec<Op> {
    let call = |name: &str, args| Op::host(phase, name, "", args);
    vec![
        call("done", vec![]),
        status(phase),
        call("get_log_level", vec![OutInt(0)]),
        call("get_current_time_nanoseconds", vec![OutInt(0)]).agree(Agree::Status),
        log(phase, 0, "trace"),
        log(phase, 4, ""),
        log(phase, 6, "beyond"),
        log(phase, u32::MAX, "beyond"),
        tick(phase, 0),
        effective(phase, "itself", Context(0)),
        effective(phase, "unknown", Imm(99_999)),
        effective(phase, "the root", Root),
        property(phase, &["plugin_name"]),
        property(phase, &["request", "protocol"]),
        set_property(phase, &["by-root"], "value"),
        header(phase, 0, ":path"),
        effective(phase, "none", Imm(0)),
        header(phase, 0, ":path"),
        property(phase, &["plugin_name"]),
        set_property(phase, &["by-none"], "value"),
        buffer(phase, 0, 0, 10),
        effective(phase, "back", Context(0)),
    ]
    .into_iter()
    .enumerate()
    .map(|(at, op)| Op { label: format!("{at}:{}", op.label), ..op })
    .collect()
}

fn shared_data(phase: Phase) -> Vec<Op> {
    let key = phase.name();
    let steps = vec![
        get_shared(phase, &format!("{key}-missing")),
        set_shared(phase, key, "one", Imm(77)),
        get_shared(phase, key).save_slot(2, 2),
        set_shared(phase, key, "two", Reg(2)),
        set_shared(phase, key, "three", Reg(2)),
        set_shared(phase, key, "four", Imm(0)),
        get_shared(phase, key),
        set_shared(phase, key, "", Imm(0)),
        get_shared(phase, key),
        set_shared(phase, "", "of nothing", Imm(0)),
        get_shared(phase, ""),
    ];
    let steps = steps.into_iter().enumerate();
    steps.map(|(at, op)| Op { label: format!("{at}:{}", op.label), ..op }).collect()
}

fn queues(phase: Phase) -> Vec<Op> {
    let name = phase.name();
    let steps = vec![
        resolve_queue(phase, "", name),
        register_queue(phase, name).save(3).agree(Agree::Status),
        register_queue(phase, name).agree(Agree::Status),
        resolve_queue(phase, "main", name).agree(Agree::Status),
        resolve_queue(phase, "", name).agree(Agree::Status),
        resolve_queue(phase, "other", name),
        dequeue(phase, "own", Reg(3)),
        dequeue(phase, "unknown", Imm(99_999)),
        enqueue(phase, "unknown", Imm(99_999), "value"),
        register_queue(phase, "").agree(Agree::Status),
    ];
    let steps = steps.into_iter().enumerate();
    steps.map(|(at, op)| Op { label: format!("{at}:{}", op.label), ..op }).collect()
}

fn metrics(phase: Phase) -> Vec<Op> {
    let name = phase.name();
    let mut ops = vec![define(phase, 3, name), define(phase, u32::MAX, name)];
    for (kind, register) in [(0, 10), (1, 11), (2, 12)] {
        let id = || Reg(register);
        ops.extend([
            define(phase, kind, &format!("{name}_{kind}")).save(register),
            increment(phase, &format!("{kind}, 5"), id(), Imm(5)),
            increment(phase, &format!("{kind}, 0"), id(), Imm(0)),
            increment(phase, &format!("{kind}, -2"), id(), Imm((-2_i32).cast_unsigned())),
            metric(phase, &format!("{kind} after increments"), id()),
            record(phase, &format!("{kind}, 9"), id(), Imm(9)),
            metric(phase, &format!("{kind} after a record"), id()),
            record(phase, &format!("{kind}, 2^63"), id(), High(0x8000_0000)),
            metric(phase, &format!("{kind} after 2^63"), id()),
            define(phase, kind, &format!("{name}_{kind}")).agree(Agree::Status).save(13),
            metric(phase, &format!("{kind} by another id"), Reg(13)),
        ]);
    }
    // One name, another type.
    ops.push(define(phase, 1, &format!("{name}_0")).save(13));
    ops.push(metric(phase, "a gauge named as a counter", Reg(13)));
    ops.push(define(phase, 0, ""));
    for id in [0, 1, 2, 3, 7, 40_000, 40_001, 40_002, 40_003] {
        let what = format!("unknown {id}");
        ops.push(increment(phase, &what, Imm(id), Imm(1)));
        ops.push(record(phase, &what, Imm(id), Imm(1)));
        ops.push(metric(phase, &what, Imm(id)));
    }
    ops
}

/// Calls that are refused at once.
fn calls(phase: Phase) -> Vec<Op> {
    let without = |name: &str| {
        let headers: Vec<_> = CALL_HEADERS.iter().filter(|(n, _)| *n != name).copied().collect();
        let what = format!("without {name}");
        http_call_with(phase, &what, "echo", &headers, "", &[], 1000)
    };
    let id = |name: &str, id: u32| Op::host(phase, name, &id.to_string(), vec![Imm(id)]);
    let send = |id: u32| {
        let [ptr, len] = text("x");
        Op::host(phase, "grpc_send", &id.to_string(), vec![Imm(id), ptr, len, Imm(0)])
    };
    let mut ops = vec![
        http_call(phase, "no-such-cluster", CALL_HEADERS, "", 1000),
        http_call(phase, "", CALL_HEADERS, "", 1000),
        http_call(phase, "echo", CALL_HEADERS, "", -1),
        http_call(phase, "nobody", CALL_HEADERS, "", 1000).agree(Agree::Status),
        without(":method"),
        without(":path"),
        without(":authority"),
    ];
    for number in [0, 4000, 4001, 4002, 4003] {
        ops.extend([id("grpc_cancel", number), id("grpc_close", number), send(number)]);
    }
    let [s, s_len] = text("no-such-cluster");
    let ([n, n_len], [m, m_len]) = (text("service"), text("method"));
    let [d, d_len] = text("");
    let call = [&s, &s_len, &n, &n_len, &m, &m_len, &d, &d_len, &d, &d_len];
    let mut args: Vec<_> = call.into_iter().cloned().collect();
    args.extend([Imm(1000), OutInt(0)]);
    ops.push(Op::host(phase, "grpc_call", "no-such-cluster", args));
    let stream = [&s, &s_len, &n, &n_len, &m, &m_len, &d, &d_len];
    let mut args: Vec<_> = stream.into_iter().cloned().collect();
    args.push(OutInt(0));
    ops.push(Op::host(phase, "grpc_stream", "no-such-cluster", args));
    ops
}

fn foreigns(phase: Phase) -> Vec<Op> {
    vec![
        foreign(phase, "unknown", "nothing", b""),
        foreign(phase, "", "nothing", b""),
        foreign(phase, "clear_route_cache", "nothing", b""),
    ]
}

/// Stream types that do nothing.
fn stream_types(phase: Phase) -> Vec<Op> {
    let types = [2, 3, 4, 99, u32::MAX];
    let resumes = types.map(|stream| resume(phase, stream));
    let closes = [4, 99, u32::MAX].map(|stream| close(phase, stream));
    resumes.into_iter().chain(closes).collect()
}
