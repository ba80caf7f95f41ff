//! Foreign functions of Envoy, with arguments of each one's own encoding.

use super::hostcalls::*;
use super::signatures::signatures;
use crate::Phase;
use crate::case::{Case, Exchange};
use crate::op::{Arg, Op};

use Phase::{Log, RequestHeaders, ResponseHeaders};

pub(super) fn cases() -> Vec<Case> {
    let phases = [RequestHeaders, Phase::RequestBody, ResponseHeaders, Log, Phase::Done];
    let every = |group: fn(Phase) -> Vec<Op>| phases.iter().flat_map(|p| group(*p)).collect();
    let mut out = vec![
        Case::new("foreign/compress", every(compress), Exchange::whole("main")),
        Case::new("foreign/signatures", every(signatures), Exchange::whole("main")),
        Case::new("foreign/filter_state", every(filter_state), Exchange::whole("main")),
        Case::new("foreign/declare", every(declare), Exchange::whole("main")),
        // Shows where the guest's allocator is: nobody else may use that one's.
        Case::new("foreign/null", every(null), Exchange::whole("null")),
    ];
    // Tokens count up in a root: nobody else may use this one's.
    let expressions = phases.iter().flat_map(|phase| expressions(*phase)).collect();
    out.push(Case::new("foreign/expressions", expressions, Exchange::whole("expressions")));
    out
}

/// What roots do with them.
pub(super) fn from_root(phase: Phase) -> Vec<Op> {
    [compress(phase), filter_state(phase), declare(phase), signatures(phase)].concat()
}

/// A field of a protobuf message: bytes, or with a number.
pub(super) fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut len = bytes.len();
    while len > 0x7f {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    [&out, bytes].concat()
}

fn number(number: u8, value: u8) -> Vec<u8> {
    vec![number << 3, value]
}

fn compress(phase: Phase) -> Vec<Op> {
    // "hello", compressed.
    let hello = b"\x78\x9c\xcb\x48\xcd\xc9\xc9\x07\x00\x06\x2c\x02\x15";
    let texts: [(&str, Vec<u8>); 4] = [
        ("nothing", Vec::new()),
        ("a text", b"a text, a text, a text".to_vec()),
        ("a thousand", vec![b'x'; 1000]),
        ("numbers", (0..=255).collect()),
    ];
    let compress = texts.iter().map(|(what, text)| foreign(phase, "compress", what, text));
    let streams: [(&str, Vec<u8>); 6] = [
        ("nothing", Vec::new()),
        ("hello", hello.to_vec()),
        ("hello and more", [hello, &b"more"[..]].concat()),
        ("half of hello", hello[..8].to_vec()),
        ("hello with another sum", [&hello[..12], &[0]].concat()),
        ("no stream", b"this is none".to_vec()),
    ];
    let uncompress = streams.iter().map(|(what, text)| foreign(phase, "uncompress", what, text));
    compress.chain(uncompress).collect()
}

fn filter_state(phase: Phase) -> Vec<Op> {
    let name = "set_envoy_filter_state";
    let set = |what: &str, key: &str, value: &str, span: u8| {
        let args = [field(1, key.as_bytes()), field(2, value.as_bytes()), number(3, span)].concat();
        foreign(phase, name, what, &args)
    };
    let read = |key: &str, at: usize| {
        let op = property(phase, &["filter_state", key]);
        Op { label: format!("{at}:{}", op.label), ..op }
    };
    vec![
        foreign(phase, name, "nothing", b""),
        foreign(phase, name, "no message", b"\xff"),
        set("unknown", "conform.unknown", "value", 0),
        set("a text", "envoy.string", "value", 0),
        read("envoy.string", 1),
        set("a text again", "envoy.string", "other", 0),
        read("envoy.string", 2),
        set("a text of the connection", "envoy.string", "third", 2),
        read("envoy.string", 3),
        set("a bad bool", "envoy.bool", "maybe", 0),
        set("a cluster", "envoy.tcp_proxy.cluster", "echo", 0),
        read("envoy.tcp_proxy.cluster", 4),
        set("no key", "", "value", 0),
        set("no value", "envoy.hashable_string", "", 0),
        read("envoy.hashable_string", 5),
        set("protocols", "envoy.network.application_protocols", "h2,http/1.1", 0),
        set("an address", "envoy.network.ip", "1.2.3.4", 0),
        set("a bad address", "envoy.network.ip", "here", 0),
    ]
}

fn declare(phase: Phase) -> Vec<Op> {
    let declare =
        |what: &str, fields: &[Vec<u8>]| foreign(phase, "declare_property", what, &fields.concat());
    let own = |name: &str| format!("{}_{name}", phase.name());
    let named = |name: &str| field(1, own(name).as_bytes());
    let write = |name: &str, value: &str, at: usize| {
        let op = set_property(phase, &[&own(name)], value);
        let again = property(phase, &[&own(name)]);
        [
            Op { label: format!("{at}:{}", op.label), ..op },
            Op { label: format!("{at}:{}", again.label), ..again },
        ]
    };
    let mut ops = vec![
        declare("nothing", &[]),
        declare("no message", &[vec![0xff]]),
        declare("bytes", &[named("bytes"), number(3, 0)]),
        declare("bytes again", &[named("bytes"), number(3, 0)]),
        declare("a text", &[named("text"), number(3, 1)]),
        declare("a read-only text", &[named("fixed"), number(2, 1), number(3, 1)]),
        declare("a protobuf", &[named("proto"), number(3, 3), field(4, b"type.unknown")]),
        declare("flat buffers", &[named("flat"), number(3, 2), field(4, b"schema")]),
        declare("an unknown type", &[named("odd"), number(3, 9)]),
        declare("of the connection", &[named("connection"), number(3, 1), number(5, 2)]),
        declare("of an unknown span", &[named("span"), number(5, 9)]),
    ];
    let names = ["bytes", "text", "fixed", "proto", "flat", "odd", "connection", "span"];
    for name in names {
        ops.extend(write(name, "value", 1));
        ops.extend(write(name, "again", 2));
    }
    ops
}

/// Where no result is wanted.
fn null(phase: Phase) -> Vec<Op> {
    let call = |what: &str, name: &str, args: &str, out: [Arg; 2]| {
        let ([n, n_len], [a, a_len]) = (crate::text(name), crate::text(args));
        let [ptr, len] = out;
        Op::host(phase, "call_foreign_function", what, vec![n, n_len, a, a_len, ptr, len])
    };
    let zero = || Arg::Imm(0);
    vec![
        call("no pointers", "compress", "text", [zero(), zero()]),
        call("no pointer", "compress", "text", [zero(), Arg::OutInt(1)]),
        call("no length", "compress", "text", [Arg::OutInt(0), zero()]),
        call("no pointers, no result", "clear_route_cache", "", [zero(), zero()]),
        call("no pointer, no result", "clear_route_cache", "", [zero(), Arg::OutInt(1)]),
    ]
}

/// The numbers of this phase's expressions go on from those of the phase before.
fn expressions(phase: Phase) -> Vec<Op> {
    let texts = [
        "request.path",
        "request.method == 'POST'",
        "request.headers['x-shape']",
        "response.code + 1",
        "1 / 0",
        "size(request.headers)",
        "request.size",
        "request.missing",
        "plugin_name + ':' + xds.cluster_name",
        "[1, 2]",
        "{'a': 1}",
        "1.5",
        "true",
        "b'bytes'",
        "duration('1s')",
        "null",
    ];
    let bad = ["", "1 +", "unknown(1)", "request.path ==", "\u{ff}"];
    let mut out: Vec<_> = bad
        .iter()
        .map(|text| foreign(phase, "expr_create", &format!("{text:?}"), text.as_bytes()))
        .collect();
    let first = [RequestHeaders, Phase::RequestBody, ResponseHeaders, Log, Phase::Done]
        .iter()
        .position(|p| *p == phase)
        .unwrap_or_default();
    // The call of a function that does not exist has a number, too.
    let first = first * (texts.len() + 1);
    for (at, text) in texts.iter().enumerate() {
        out.push(foreign(phase, "expr_create", &format!("{text:?}"), text.as_bytes()));
        let number = u32::try_from(first + at + 1).unwrap_or_default();
        let token = number.to_le_bytes();
        let what = format!("of {text:?}");
        out.push(foreign(phase, "expr_evaluate", &what, &token));
    }
    for (what, token) in
        [("nothing", &b""[..]), ("three bytes", b"\x01\0\0"), ("unknown", b"\xff\xff\0\0")]
    {
        out.push(foreign(phase, "expr_evaluate", what, token));
        out.push(foreign(phase, "expr_delete", what, token));
    }
    let number = u32::try_from(first + 1).unwrap_or_default();
    out.push(foreign(phase, "expr_delete", "of the first", &number.to_le_bytes()));
    out.push(foreign(phase, "expr_evaluate", "of what was deleted", &number.to_le_bytes()));
    out
}
