//! Bodies, trailers and whole header maps: reading, changing, and what comes out at either end.

use super::hostcalls::*;
use crate::Phase;
use crate::Phase::{RequestBody, RequestHeaders, RequestTrailers};
use crate::Phase::{ResponseBody, ResponseHeaders, ResponseTrailers};
use crate::case::{Body, Case, Exchange};
use crate::op::{Op, When};

pub(super) fn cases() -> Vec<Case> {
    [framing(), buffers(), trailers(), maps(), broken_headers(), routes()].concat()
}

/// What arrives in which callback, by the framing of either side.
fn framing() -> Vec<Case> {
    let reads = || {
        let phases = [RequestBody, ResponseBody];
        let reads =
            phases.into_iter().zip([0, 1]).map(|(phase, kind)| buffer(phase, kind, 0, 1000));
        reads.collect::<Vec<_>>()
    };
    let bodies = [
        ("none", Body::None),
        ("sized", Body::Sized(vec!["one body"])),
        ("sized_two", Body::Sized(vec!["first ", "second"])),
        ("sized_empty", Body::Sized(vec![])),
        ("chunked", Body::Chunked(vec!["one body"])),
        ("chunked_two", Body::Chunked(vec!["first ", "second"])),
        ("chunked_empty", Body::Chunked(vec![])),
    ];
    let mut out = Vec::new();
    for (name, body) in bodies {
        let exchange = Exchange::post("main", body.clone());
        out.push(Case::new(format!("framing/request_{name}"), reads(), exchange.clone()));
        let exchange = Exchange { listener: "stop".to_owned(), ..exchange };
        out.push(Case::new(format!("framing/stop_request_{name}"), reads(), exchange));
    }
    for shape in ["sized", "empty", "chunked", "404"] {
        let exchange = Exchange::get("main").shape(shape);
        out.push(Case::new(format!("framing/response_{shape}"), reads(), exchange));
        let head = Exchange { method: "HEAD", ..Exchange::get("main").shape(shape) };
        out.push(Case::new(format!("framing/head_{shape}"), reads(), head));
    }
    out
}

/// `set_buffer_bytes` at every kind of offset.
fn buffers() -> Vec<Case> {
    let edits = [
        (0, 0, "pre"),
        (0, 4, "pre"),
        (0, 9999, "all"),
        (0, u32::MAX, ""),
        (4, 2, "mid"),
        (12, 0, "end"),
        (13, 0, "end"),
        (13, 5, "end"),
        (9999, 9999, "far"),
        (u32::MAX, 1, "far"),
    ];
    let mut out = Vec::new();
    for (way, phase, kind) in [("request", RequestBody, 0), ("response", ResponseBody, 1)] {
        for (start, size, value) in edits {
            let ops = vec![
                set_buffer(phase, kind, start, size, value).when(When::BeforeEnd),
                buffer(phase, kind, 0, 1000),
                buffer_status(phase, kind),
            ];
            // Chunked both ways, so that a length which is no longer true is not there to differ.
            let exchange = Exchange::post("main", Body::Chunked(vec!["request body"]));
            let name = format!("buffers/{way}_{start}_{size}_{value}");
            out.push(Case::new(name, ops, exchange.shape("chunked")));
        }
        let name = format!("buffers/{way}_at_end");
        let ops = vec![set_buffer(phase, kind, 0, 9999, "at the end").when(When::AtEnd)];
        let exchange = Exchange::post("main", Body::Chunked(vec!["request body"]));
        out.push(Case::new(name, ops, exchange.shape("chunked")));
    }
    out
}

/// Trailers that a plugin makes or touches.
fn trailers() -> Vec<Case> {
    let mut out = Vec::new();
    for (way, phase, map) in [("request", RequestBody, 1), ("response", ResponseBody, 3)] {
        let touches: Vec<(&str, Op)> = vec![
            ("add", add(phase, map, "x-made", "here")),
            ("size", map_size(phase, map)),
            ("remove", remove(phase, map, "x-none")),
            ("read", header(phase, map, "x-none")),
            ("pairs", map_pairs(phase, map)),
        ];
        for (name, op) in touches {
            let ops = vec![op.when(When::AtEnd), map_pairs(phase, map)];
            let mut exchange = Exchange::whole("main").shape("");
            exchange.headers.retain(|(name, value)| name != "x-shape" || value.is_empty());
            exchange.trailers.clear();
            out.push(Case::new(format!("trailers/{way}_{name}_at_end"), ops, exchange));
        }
    }
    let ops = vec![
        replace(RequestTrailers, 1, "x-trail", "changed"),
        add(RequestTrailers, 1, "x-more", "trailers"),
        map_size(RequestTrailers, 1),
        replace(ResponseTrailers, 3, "x-trail", "changed"),
        remove(ResponseTrailers, 3, "x-none"),
        map_size(ResponseTrailers, 3),
    ];
    out.push(Case::new("trailers/change", ops, Exchange::whole("main")));
    let ops = vec![remove(RequestTrailers, 1, "x-trail"), remove(ResponseTrailers, 3, "x-trail")];
    out.push(Case::new("trailers/remove", ops, Exchange::whole("main")));
    out
}

/// `set_header_map_pairs` in every callback.
fn maps() -> Vec<Case> {
    let request = [
        (":method", "GET"),
        (":path", "/echo/set"),
        (":authority", "set.test"),
        (":scheme", "http"),
        ("x-set", "Value"),
        ("X-UPPER", "1"),
        ("x-twice", "a"),
        ("x-twice", "b"),
    ];
    let response =
        [(":status", "207"), ("x-set", "1"), ("X-UPPER", "1"), ("x-twice", "a"), ("x-twice", "b")];
    let mut out = Vec::new();
    for phase in Phase::HTTP.iter().copied() {
        for map in 0..=8 {
            let pairs = match map {
                0 => encoded(&request),
                2 => encoded(&response),
                _ => encoded(&[("x-set", "1")]),
            };
            let ops = vec![set_pairs(phase, map, "good", &pairs), map_pairs(phase, map)];
            // What is out of phase does nothing: all of those are one case.
            let name = format!("maps/{}_{map}", phase.name());
            out.push((phase, map, Case::new(name, ops, Exchange::whole("main"))));
        }
    }
    let in_phase = |phase: &Phase, map: u32| {
        matches!(
            (phase, map),
            (RequestHeaders, 0)
                | (RequestTrailers, 1)
                | (ResponseHeaders, 2)
                | (ResponseTrailers, 3)
        )
    };
    let (in_phase, outside): (Vec<_>, Vec<_>) =
        out.into_iter().partition(|(phase, map, _)| in_phase(phase, *map));
    let ops = outside.into_iter().flat_map(|(_, _, case)| case.programs);
    let ops = ops.flat_map(|(_, ops)| ops).collect();
    let outside = Case::new("maps/out_of_phase", ops, Exchange::whole("main"));
    let mut out: Vec<_> = in_phase.into_iter().map(|(_, _, case)| case).collect();
    out.push(outside);
    let bad: [(&str, &[u8]); 5] = [
        ("empty", b""),
        ("short", b"\x01\0"),
        ("truncated", b"\x01\0\0\0\x05\0\0\0\x05\0\0\0x"),
        ("none", b"\0\0\0\0"),
        ("too_many", b"\xff\xff\xff\x00"),
    ];
    for (name, bytes) in bad {
        let ops = vec![
            set_pairs(ResponseTrailers, 3, name, bytes),
            map_pairs(ResponseTrailers, 3),
            map_size(ResponseTrailers, 3),
        ];
        out.push(Case::new(format!("maps/bad_{name}"), ops, Exchange::whole("main")));
    }
    out
}

/// Headers that cannot be sent.
fn broken_headers() -> Vec<Case> {
    let requests = [
        ("name_with_space", add(RequestHeaders, 0, "x y", "1")),
        ("empty_name", add(RequestHeaders, 0, "", "1")),
        ("value_with_newline", add(RequestHeaders, 0, "x-line", "a\nb")),
        ("without_method", remove(RequestHeaders, 0, ":method")),
        ("without_path", remove(RequestHeaders, 0, ":path")),
        ("without_authority", remove(RequestHeaders, 0, ":authority")),
        ("path_replaced", replace(RequestHeaders, 0, ":path", "/echo/other?x=1")),
        ("authority_replaced", replace(RequestHeaders, 0, ":authority", "other.test")),
        ("method_replaced", replace(RequestHeaders, 0, ":method", "PUT")),
        ("host_added", add(RequestHeaders, 0, "host", "other.test")),
        ("path_added", add(RequestHeaders, 0, ":path", "/echo/again")),
        ("connection_added", add(RequestHeaders, 0, "connection", "close")),
        ("accept_added", add(RequestHeaders, 0, "Accept", "text/plain")),
        ("cookie_added", add(RequestHeaders, 0, "cookie", "a=b")),
        ("forwarded_proto_removed", remove(RequestHeaders, 0, "x-forwarded-proto")),
        ("request_id_added", add(RequestHeaders, 0, "x-request-id", "more")),
    ];
    let responses = [
        ("name_with_space", add(ResponseHeaders, 2, "x y", "1")),
        ("value_with_newline", add(ResponseHeaders, 2, "x-line", "a\nb")),
        ("without_status", remove(ResponseHeaders, 2, ":status")),
        ("status_replaced", replace(ResponseHeaders, 2, ":status", "418")),
        ("status_added", add(ResponseHeaders, 2, ":status", "418")),
        ("status_text", replace(ResponseHeaders, 2, ":status", "teapot")),
        ("content_type_added", add(ResponseHeaders, 2, "content-type", "text/html")),
        ("vary_twice", add(ResponseHeaders, 2, "vary", "accept")),
        ("server_replaced", replace(ResponseHeaders, 2, "server", "probe")),
    ];
    let case = |way: &str, name: &str, op: Op| {
        let phase = op.phase;
        let ops = vec![op, map_pairs(phase, if way == "request" { 0 } else { 2 })];
        Case::new(format!("headers/{way}_{name}"), ops, Exchange::get("main"))
    };
    let requests = requests.into_iter().map(|(name, op)| case("request", name, op));
    let responses = responses.into_iter().map(|(name, op)| case("response", name, op));
    requests.chain(responses).collect()
}

/// A change of the request's headers picks the route again.
fn routes() -> Vec<Case> {
    let looks = |phase| {
        [property(phase, &["xds", "route_name"]), property(phase, &["xds", "cluster_name"])]
    };
    let mut out = Vec::new();
    for phase in [RequestHeaders, RequestBody, RequestTrailers] {
        let mut ops = Vec::from(looks(phase));
        ops.push(add(phase, 0, "x-moved", "1"));
        ops.push(foreign(phase, "clear_route_cache", "nothing", b""));
        ops.extend(looks(phase).map(|op| Op { label: format!("after {}", op.label), ..op }));
        ops.extend(looks(ResponseHeaders));
        ops.extend(looks(Phase::Log));
        out.push(Case::new(format!("routes/{}", phase.name()), ops, Exchange::whole("main")));
    }
    out
}
