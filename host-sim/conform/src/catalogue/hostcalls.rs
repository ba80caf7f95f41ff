//! Short names for hostcalls with their usual arguments.

use crate::Phase;
use crate::op::{Agree, Arg, Op, text};
use host_sim_abi::pairs;

use Arg::{Imm, OutInt, OutLen, OutPtr, Reg};

pub(super) fn header(phase: Phase, map: u32, name: &str) -> Op {
    let [key, key_len] = text(name);
    let args = vec![Imm(map), key, key_len, OutPtr(0), OutLen(0)];
    Op::host(phase, "get_header_map_value", &format!("{}, {name:?}", map.cast_signed()), args)
}

pub(super) fn map_pairs(phase: Phase, map: u32) -> Op {
    let what = map.cast_signed().to_string();
    Op::host(phase, "get_header_map_pairs", &what, vec![Imm(map), OutPtr(0), OutLen(0)])
}

pub(super) fn map_size(phase: Phase, map: u32) -> Op {
    let what = map.cast_signed().to_string();
    Op::host(phase, "get_header_map_size", &what, vec![Imm(map), OutInt(0)])
}

pub(super) fn add(phase: Phase, map: u32, name: &str, value: &str) -> Op {
    write(phase, "add_header_map_value", map, name, value)
}

pub(super) fn replace(phase: Phase, map: u32, name: &str, value: &str) -> Op {
    write(phase, "replace_header_map_value", map, name, value)
}

fn write(phase: Phase, call: &str, map: u32, name: &str, value: &str) -> Op {
    let ([key, key_len], [val, val_len]) = (text(name), text(value));
    let what = format!("{}, {name:?}, {value:?}", map.cast_signed());
    Op::host(phase, call, &what, vec![Imm(map), key, key_len, val, val_len])
}

pub(super) fn remove(phase: Phase, map: u32, name: &str) -> Op {
    let [key, key_len] = text(name);
    let what = format!("{}, {name:?}", map.cast_signed());
    Op::host(phase, "remove_header_map_value", &what, vec![Imm(map), key, key_len])
}

pub(super) fn set_pairs(phase: Phase, map: u32, what: &str, encoded: &[u8]) -> Op {
    let [ptr, len] = text(encoded);
    Op::host(phase, "set_header_map_pairs", &format!("{map}, {what}"), vec![Imm(map), ptr, len])
}

/// The encoding of a header map.
pub(super) fn encoded(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    let pairs: Vec<_> = pairs.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
    pairs::encode(pairs, &mut out);
    out
}

pub(super) fn buffer(phase: Phase, buffer: u32, start: u32, max: u32) -> Op {
    let what = format!("{}, {start}, {}", buffer.cast_signed(), max.cast_signed());
    let args = vec![Imm(buffer), Imm(start), Imm(max), OutPtr(0), OutLen(0)];
    Op::host(phase, "get_buffer_bytes", &what, args)
}

pub(super) fn buffer_status(phase: Phase, buffer: u32) -> Op {
    let what = buffer.cast_signed().to_string();
    Op::host(phase, "get_buffer_status", &what, vec![Imm(buffer), OutInt(0), OutInt(1)])
}

pub(super) fn set_buffer(phase: Phase, buffer: u32, start: u32, size: u32, value: &str) -> Op {
    let [ptr, len] = text(value);
    let what = format!("{}, {start}, {}, {value:?}", buffer.cast_signed(), size.cast_signed());
    Op::host(phase, "set_buffer_bytes", &what, vec![Imm(buffer), Imm(start), Imm(size), ptr, len])
}

pub(super) fn property(phase: Phase, path: &[&str]) -> Op {
    let [ptr, len] = text(path.join("\0"));
    let what = path.join(".");
    Op::host(phase, "get_property", &what, vec![ptr, len, OutPtr(0), OutLen(0)])
}

pub(super) fn set_property(phase: Phase, path: &[&str], value: &str) -> Op {
    let ([ptr, len], [val, val_len]) = (text(path.join("\0")), text(value));
    let what = format!("{}, {value:?}", path.join("."));
    Op::host(phase, "set_property", &what, vec![ptr, len, val, val_len])
}

pub(super) fn log(phase: Phase, level: u32, message: &str) -> Op {
    let [ptr, len] = text(message);
    let what = format!("{}, {message:?}", level.cast_signed());
    Op::host(phase, "log", &what, vec![Imm(level), ptr, len])
}

pub(super) fn status(phase: Phase) -> Op {
    Op::host(phase, "get_status", "", vec![OutInt(0), OutPtr(1), OutLen(1)])
}

pub(super) fn effective(phase: Phase, what: &str, context: Arg) -> Op {
    Op::host(phase, "set_effective_context", what, vec![context])
}

pub(super) fn tick(phase: Phase, milliseconds: u32) -> Op {
    let what = milliseconds.to_string();
    Op::host(phase, "set_tick_period_milliseconds", &what, vec![Imm(milliseconds)])
}

pub(super) fn get_shared(phase: Phase, key: &str) -> Op {
    let [ptr, len] = text(key);
    let args = vec![ptr, len, OutPtr(0), OutLen(0), OutInt(2)];
    Op::host(phase, "get_shared_data", &format!("{key:?}"), args)
}

pub(super) fn set_shared(phase: Phase, key: &str, value: &str, cas: Arg) -> Op {
    let ([ptr, len], [val, val_len]) = (text(key), text(value));
    let what = format!("{key:?}, {value:?}, {cas:?}");
    Op::host(phase, "set_shared_data", &what, vec![ptr, len, val, val_len, cas])
}

pub(super) fn register_queue(phase: Phase, name: &str) -> Op {
    let [ptr, len] = text(name);
    Op::host(phase, "register_shared_queue", &format!("{name:?}"), vec![ptr, len, OutInt(0)])
}

pub(super) fn resolve_queue(phase: Phase, vm_id: &str, name: &str) -> Op {
    let ([vm, vm_len], [ptr, len]) = (text(vm_id), text(name));
    let what = format!("{vm_id:?}, {name:?}");
    Op::host(phase, "resolve_shared_queue", &what, vec![vm, vm_len, ptr, len, OutInt(0)])
}

pub(super) fn enqueue(phase: Phase, what: &str, token: Arg, value: &str) -> Op {
    let [ptr, len] = text(value);
    let what = format!("{what}, {value:?}");
    Op::host(phase, "enqueue_shared_queue", &what, vec![token, ptr, len])
}

pub(super) fn dequeue(phase: Phase, what: &str, token: Arg) -> Op {
    Op::host(phase, "dequeue_shared_queue", what, vec![token, OutPtr(0), OutLen(0)])
}

pub(super) fn define(phase: Phase, kind: u32, name: &str) -> Op {
    let [ptr, len] = text(name);
    let what = format!("{}, {name:?}", kind.cast_signed());
    Op::host(phase, "define_metric", &what, vec![Imm(kind), ptr, len, OutInt(0)])
}

pub(super) fn increment(phase: Phase, what: &str, id: Arg, amount: Arg) -> Op {
    Op::host(phase, "increment_metric", what, vec![id, amount])
}

pub(super) fn record(phase: Phase, what: &str, id: Arg, value: Arg) -> Op {
    Op::host(phase, "record_metric", what, vec![id, value])
}

/// The value is 8 bytes: two out numbers, of which the second is written by the same pointer.
pub(super) fn metric(phase: Phase, what: &str, id: Arg) -> Op {
    Op::host(phase, "get_metric", what, vec![id, OutInt(0)])
}

pub(super) fn resume(phase: Phase, stream: u32) -> Op {
    let what = stream.cast_signed().to_string();
    Op::host(phase, "continue_stream", &what, vec![Imm(stream)])
}

pub(super) fn close(phase: Phase, stream: u32) -> Op {
    Op::host(phase, "close_stream", &stream.cast_signed().to_string(), vec![Imm(stream)])
}

/// A local reply.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reply<'a> {
    pub(super) status: u32,
    pub(super) details: &'a str,
    pub(super) body: &'a str,
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) grpc: i32,
}

impl Reply<'_> {
    pub(super) const PLAIN: Self =
        Self { status: 403, details: "no entry", body: "forbidden", headers: &[], grpc: -1 };
}

pub(super) fn reply(phase: Phase, what: &str, reply: Reply<'_>) -> Op {
    let Reply { status, details, body, headers, grpc } = reply;
    let headers = if headers.is_empty() { Vec::new() } else { encoded(headers) };
    let ([d, d_len], [b, b_len], [h, h_len]) = (text(details), text(body), text(headers));
    let args = vec![Imm(status), d, d_len, b, b_len, h, h_len, Imm(grpc.cast_unsigned())];
    Op::host(phase, "send_local_response", what, args)
}

/// Headers of a call that are enough.
pub(super) const CALL_HEADERS: &[(&str, &str)] = &[
    (":method", "POST"),
    (":path", "/call"),
    (":authority", "conform.call"),
    ("x-shape", ""),
    ("x-by", "probe"),
];

pub(super) fn http_call(
    phase: Phase,
    cluster: &str,
    headers: &[(&str, &str)],
    body: &str,
    timeout: i32,
) -> Op {
    http_call_with(phase, &format!("{cluster:?}, {timeout}"), cluster, headers, body, &[], timeout)
}

pub(super) fn http_call_with(
    phase: Phase,
    what: &str,
    cluster: &str,
    headers: &[(&str, &str)],
    body: &str,
    trailers: &[(&str, &str)],
    timeout: i32,
) -> Op {
    let trailers = if trailers.is_empty() { Vec::new() } else { encoded(trailers) };
    let ([c, c_len], [h, h_len]) = (text(cluster), text(encoded(headers)));
    let ([b, b_len], [t, t_len]) = (text(body), text(trailers));
    let timeout = Imm(timeout.cast_unsigned());
    let args = vec![c, c_len, h, h_len, b, b_len, t, t_len, timeout, OutInt(0)];
    // Ids go on from case to case: that one was given is enough.
    Op::host(phase, "http_call", what, args)
}

pub(super) fn foreign(phase: Phase, name: &str, what: &str, args: &[u8]) -> Op {
    let ([ptr, len], [arg, arg_len]) = (text(name), text(args));
    let what = format!("{name:?}, {what}");
    let args = vec![ptr, len, arg, arg_len, OutPtr(0), OutLen(0)];
    Op::host(phase, "call_foreign_function", &what, args)
}

/// Keeps the stream's context for a callback on the root.
pub(super) fn keep_context(phase: Phase) -> Op {
    let args = vec![Imm(1), Arg::Context(0)];
    Op::new(phase, "keep the context".to_owned(), crate::Call::Set, args)
}

/// Acts for the kept context.
pub(super) fn kept(phase: Phase) -> Op {
    effective(phase, "the stream", Reg(1))
}

/// A `GrpcService` with that cluster: a name alone may parse as a message without one, on which Envoy
/// aborts.
pub(super) fn service(cluster: &str) -> Vec<u8> {
    let message = |bytes: &[u8]| {
        let len = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
        [&[0x0a, len], bytes].concat()
    };
    message(&message(cluster.as_bytes()))
}

/// Method of a gRPC service, and the initial metadata, of which `x-shape` picks the answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rpc<'a> {
    pub(super) cluster: &'a str,
    pub(super) service: &'a str,
    pub(super) method: &'a str,
    pub(super) metadata: &'a [(&'a str, &'a str)],
}

impl Rpc<'_> {
    fn args(self) -> Vec<Arg> {
        let metadata = if self.metadata.is_empty() { Vec::new() } else { encoded(self.metadata) };
        [text(service(self.cluster)), text(self.service), text(self.method), text(metadata)]
            .concat()
    }
}

pub(super) fn grpc_call(phase: Phase, what: &str, rpc: Rpc<'_>, body: &str, timeout: i32) -> Op {
    let mut args = rpc.args();
    args.extend(text(body));
    args.extend([Imm(timeout.cast_unsigned()), OutInt(0)]);
    // Ids go on from case to case: that one was given is enough.
    Op::host(phase, "grpc_call", what, args).agree(Agree::Status)
}

pub(super) fn grpc_stream(phase: Phase, what: &str, rpc: Rpc<'_>) -> Op {
    let mut args = rpc.args();
    args.push(OutInt(0));
    Op::host(phase, "grpc_stream", what, args).agree(Agree::Status)
}

pub(super) fn grpc_send(phase: Phase, id: Arg, body: &str, end: u32) -> Op {
    let [ptr, len] = text(body);
    Op::host(phase, "grpc_send", &format!("{body:?}, {end}"), vec![id, ptr, len, Imm(end)])
}

pub(super) fn grpc_end(phase: Phase, call: &str, id: Arg) -> Op {
    Op::host(phase, call, "", vec![id])
}
