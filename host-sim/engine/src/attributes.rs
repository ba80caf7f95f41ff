//! Attributes: what `proxy_get_property` knows, in which phase, encoded how.
//!
//! Strings are raw bytes, integers 8 bytes little-endian, booleans one byte, times and durations
//! nanoseconds as integers, maps are pairs. Which attribute exists when was measured on Envoy:
//! request attributes that come from headers follow the visibility of the headers; durations
//! exist only once the stream has ended.

mod connection;
mod network;
mod request;
mod response;
mod upstream;
mod xds;

use crate::Headers;
use crate::stream::{Role, Stream, Way};
use crate::vm::{Callback, VmState};
use bytes::Bytes;
use host_sim_abi::{Status, pairs};
use std::time::Duration;

/// What an attribute lookup sees of a stream.
struct Scene<'a> {
    stream: &'a Stream,
    /// Owner of request headers, downstream connection and attempt count.
    exchange: Option<&'a Stream>,
    request_headers: Option<&'a Headers>,
    response_headers: Option<&'a Headers>,
    response_trailers: Option<&'a Headers>,
    engine: &'a crate::Engine,
    /// on_log, on_done, on_delete.
    ended: bool,
}

/// Appends the value of `path` (segments joined by NUL) to `out`.
pub(crate) fn read(state: &VmState, path: &[u8], out: &mut Vec<u8>) -> Result<(), Status> {
    // A separator at the end separates nothing.
    let path = path.strip_suffix(b"\0").unwrap_or(path);
    let mut segments = path.split(|byte| *byte == 0);
    let first = segments.next().filter(|s| !s.is_empty()).ok_or(Status::SerializationFailure)?;
    let rest: Segments<'_> = Segments(segments.collect());
    if let Some(plugin) = state.current_plugin() {
        let text = match first {
            b"plugin_name" => Some(plugin.name()),
            b"plugin_root_id" => Some(plugin.config.root_id.as_str()),
            b"plugin_vm_id" => Some(plugin.vm_id()),
            _ => None,
        };
        if let Some(text) = text {
            return if rest.0.is_empty() { put_text(out, text) } else { Err(Status::NotFound) };
        }
    }
    let shared = state.shared.borrow();
    if first == b"xds" {
        match rest.0.first().copied() {
            None => return Err(Status::SerializationFailure),
            Some(b"node") => return xds::node(&shared.engine, &rest.after_first(), out),
            Some(_) => {}
        }
    }
    let (id, filter) = state.current_stream().ok_or(Status::NotFound)?;
    let stream = shared.streams.get(&id).ok_or(Status::NotFound)?;
    let owner = shared.streams.get(&shared.request_owner(id));
    let scene = Scene::new(state, stream, owner, filter, &shared.engine);
    scene.read(first, &rest, out)
}

/// Key of the filter state behind a property a plugin has set.
pub(crate) fn wasm_key(path: &[u8]) -> Vec<u8> {
    [b"wasm.", path].concat()
}

/// The path behind its first segment.
struct Segments<'a>(Vec<&'a [u8]>);

impl<'a> Segments<'a> {
    /// The only segment left; a map of attributes itself has no encoding.
    fn leaf(&self) -> Result<&'a [u8], Status> {
        self.0.first().copied().ok_or(Status::SerializationFailure)
    }

    /// The only segment left, of what has no parts.
    fn only(&self) -> Result<&'a [u8], Status> {
        let leaf = self.leaf()?;
        if self.0.len() == 1 { Ok(leaf) } else { Err(Status::NotFound) }
    }

    fn second(&self) -> Option<&'a [u8]> {
        self.0.get(1).copied()
    }

    fn after_first(&self) -> Self {
        Self(self.0.iter().skip(1).copied().collect())
    }
}

impl<'a> Scene<'a> {
    fn new(
        state: &VmState,
        stream: &'a Stream,
        owner: Option<&'a Stream>,
        filter: usize,
        engine: &'a crate::Engine,
    ) -> Self {
        let sees = |way: Way| {
            let filter = stream.filters.get(filter)?;
            Some(match way {
                Way::Request => &filter.request,
                Way::Response => &filter.response,
            })
        };
        let logging = stream.logging;
        let request = logging || sees(Way::Request).is_some_and(|side| side.headers_visible);
        let response = logging || sees(Way::Response).is_some_and(|side| side.headers_visible);
        let trailers = logging || sees(Way::Response).is_some_and(|side| side.trailers_visible);
        Self {
            request_headers: owner.and_then(|o| o.request.headers.as_ref()).filter(|_| request),
            response_headers: stream.response.headers.as_ref().filter(|_| response),
            response_trailers: stream.response.trailers.as_ref().filter(|_| trailers),
            exchange: owner.filter(|owner| !matches!(owner.role, Role::Attempt(_))),
            ended: state.callback == Callback::Log,
            stream,
            engine,
        }
    }

    fn read(&self, first: &[u8], rest: &Segments<'_>, out: &mut Vec<u8>) -> Result<(), Status> {
        if let Role::Connection(connection) = &self.stream.role
            && let Some(read) = self.network(connection, first, rest, out)
        {
            return read;
        }
        match first {
            b"request" => self.request(rest, out),
            b"response" => self.response(rest, out),
            b"connection" => self.connection(rest.only()?, out),
            b"connection_id" => self.connection(b"id", out),
            b"source" => self.source(rest.only()?, out),
            b"destination" => self.destination(rest.only()?, out),
            b"upstream" => self.upstream(rest.only()?, out),
            b"xds" => self.xds(rest.only()?, out),
            b"metadata" => metadata(rest, out),
            b"upstream_filter_state" if self.stream.info.endpoint.is_none() => {
                Err(Status::NotFound)
            }
            b"filter_state" | b"upstream_filter_state" => {
                put(out, self.stream.filter_state(rest.leaf()?).ok_or(Status::NotFound)?)
            }
            _ if rest.0.is_empty() => {
                let value = self.stream.filter_state(&wasm_key(first));
                put(out, value.ok_or(Status::NotFound)?)
            }
            _ => Err(Status::NotFound),
        }
    }
}

/// Dynamic metadata: an empty message of two empty maps, nothing here can set any.
fn metadata(path: &Segments<'_>, out: &mut Vec<u8>) -> Result<(), Status> {
    match path.0.as_slice() {
        [] => Ok(()),
        [b"filter_metadata" | b"typed_filter_metadata"] => put_no_map(out),
        _ => Err(Status::NotFound),
    }
}

/// A map that is empty, or not there: the encoding of no pairs.
fn put_no_map(out: &mut Vec<u8>) -> Result<(), Status> {
    out.extend_from_slice(&0_u32.to_le_bytes());
    Ok(())
}

fn put(out: &mut Vec<u8>, value: &Bytes) -> Result<(), Status> {
    out.extend_from_slice(value);
    Ok(())
}

fn put_text(out: &mut Vec<u8>, text: &str) -> Result<(), Status> {
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

fn put_int(out: &mut Vec<u8>, value: u64) -> Result<(), Status> {
    out.extend_from_slice(&value.to_le_bytes());
    Ok(())
}

fn put_bool(out: &mut Vec<u8>, value: bool) -> Result<(), Status> {
    out.push(u8::from(value));
    Ok(())
}

fn put_duration(out: &mut Vec<u8>, value: Duration) -> Result<(), Status> {
    put_int(out, u64::try_from(value.as_nanos()).unwrap_or(u64::MAX))
}

fn put_header(out: &mut Vec<u8>, headers: &Headers, name: &str) -> Result<(), Status> {
    put(out, headers.value(name.as_bytes()).ok_or(Status::NotFound)?)
}

/// A header map as an attribute: one entry a name, several values joined with commas; or the
/// value of one name. Where the headers cannot be seen, the map is empty.
fn put_map(
    out: &mut Vec<u8>,
    headers: Option<&Headers>,
    name: Option<&[u8]>,
) -> Result<(), Status> {
    let Some(headers) = headers else {
        return if name.is_none() { put_no_map(out) } else { Err(Status::NotFound) };
    };
    let mut joined: Vec<(&[u8], Vec<u8>)> = Vec::with_capacity(headers.len());
    for (name, value) in headers.iter() {
        match joined.iter_mut().find(|(seen, _)| *seen == name) {
            Some((_, all)) => {
                all.push(b',');
                all.extend_from_slice(value);
            }
            None => joined.push((name, value.to_vec())),
        }
    }
    match name {
        Some(name) => {
            let found = joined.iter().find(|(seen, _)| seen.eq_ignore_ascii_case(name));
            let found = found.ok_or(Status::NotFound)?;
            out.extend_from_slice(&found.1);
        }
        None => pairs::encode(joined.iter().map(|(n, v)| (*n, v.as_slice())), out),
    }
    Ok(())
}
