//! Header maps, and when a filter may touch which.

use crate::Headers;
use crate::fault::Reply;
use crate::guest_memory::{Guest, give, put_u32, slice, split};
use crate::inline_headers::{append, canonical};
use crate::stream::{BodyView, Way};
use crate::thread_state::ThreadState;
use crate::vm::VmState;
use bytes::Bytes;
use host_sim_abi::{AbiVersion, MapType, Status, pairs};

/// `proxy_get_header_map_value`: the first value of the name.
pub(super) fn value(
    guest: &mut Guest<'_>,
    map: u32,
    key: u32,
    key_len: u32,
    ptr: u32,
    len: u32,
) -> Reply {
    let map = MapType::from_raw(map).ok_or(Status::BadArgument)?;
    let (memory, state) = split(guest)?;
    let key = canonical(map, slice(memory, key, key_len)?);
    let old = state.plugin.code.abi == AbiVersion::V0_1_0;
    let value = match look(state, map, |headers| headers.value(&key).cloned()) {
        Some(Some(value)) => value,
        Some(None) if old => Bytes::new(),
        Some(None) => return Err(Status::NotFound.into()),
        None if is_logging(state) && old => Bytes::new(),
        None if is_logging(state) => return Err(Status::NotFound.into()),
        None => return Err(Status::BadArgument.into()),
    };
    give(guest, &value, ptr, len)
}

/// `proxy_add_header_map_value`.
pub(super) fn add(
    guest: &mut Guest<'_>,
    map: u32,
    key: u32,
    key_len: u32,
    value: u32,
    value_len: u32,
) -> Reply {
    let map = MapType::from_raw(map).ok_or(Status::BadArgument)?;
    let (memory, state) = split(guest)?;
    let (key, value) = (slice(memory, key, key_len)?, slice(memory, value, value_len)?);
    change(state, map, |headers| append(headers, map, key, value))
}

/// `proxy_replace_header_map_value`.
pub(super) fn replace(
    guest: &mut Guest<'_>,
    map: u32,
    key: u32,
    key_len: u32,
    value: u32,
    value_len: u32,
) -> Reply {
    let map = MapType::from_raw(map).ok_or(Status::BadArgument)?;
    let (memory, state) = split(guest)?;
    let (key, value) = (slice(memory, key, key_len)?, slice(memory, value, value_len)?);
    change(state, map, |headers| headers.set(&canonical(map, key), value))
}

/// `proxy_remove_header_map_value`: fine when there is none.
pub(super) fn remove(guest: &mut Guest<'_>, map: u32, key: u32, key_len: u32) -> Reply {
    let map = MapType::from_raw(map).ok_or(Status::BadArgument)?;
    let (memory, state) = split(guest)?;
    let key = slice(memory, key, key_len)?;
    change(state, map, |headers| {
        headers.remove(&canonical(map, key));
    })
}

/// `proxy_get_header_map_pairs`: a map that is not available is empty, not an error.
pub(super) fn pairs(guest: &mut Guest<'_>, map: u32, ptr: u32, len: u32) -> Reply {
    let map = MapType::from_raw(map).ok_or(Status::BadArgument)?;
    let state = guest.data_mut();
    let mut encoded = std::mem::take(&mut state.scratch);
    encoded.clear();
    look(state, map, |headers| {
        if !headers.is_empty() {
            pairs::encode(headers.iter(), &mut encoded);
        }
    });
    let reply = give(guest, &encoded, ptr, len);
    guest.data_mut().scratch = encoded;
    reply
}

/// `proxy_set_header_map_pairs`: malformed bytes are an empty map, silently, as in Envoy.
pub(super) fn set_pairs(guest: &mut Guest<'_>, map: u32, ptr: u32, len: u32) -> Reply {
    let map = MapType::from_raw(map).ok_or(Status::BadArgument)?;
    let (memory, state) = split(guest)?;
    let decoded = pairs::decode(slice(memory, ptr, len)?).unwrap_or_default();
    change(state, map, |headers| {
        headers.clear();
        decoded.iter().for_each(|(name, value)| append(headers, map, name, value));
    })
}

/// `proxy_get_header_map_size`: needs a writable map, and tells Envoy's `byteSize`.
pub(super) fn size(guest: &mut Guest<'_>, map: u32, out: u32) -> Reply {
    let map = MapType::from_raw(map).ok_or(Status::BadArgument)?;
    let (memory, state) = split(guest)?;
    let size = edit(state, map, |headers| headers.byte_size()).ok_or(Status::BadArgument)?;
    Ok(put_u32(memory, out, u32::try_from(size).unwrap_or(u32::MAX))?)
}

/// A write, with what Envoy does after one.
fn change(state: &mut VmState, map: MapType, write: impl FnOnce(&mut Headers)) -> Reply {
    edit(state, map, write).ok_or(Status::BadArgument)?;
    // Modules of ABI 0.2.1 and below: any change of the request's headers re-picks the route.
    if map == MapType::HttpRequestHeaders
        && let Some((stream, _)) = state.current_stream()
        && let Some(stream) = state.shared.borrow_mut().streams.get_mut(&stream)
    {
        stream.clear_route_cache();
    }
    Ok(())
}

/// Reads a map if the effective context may see it.
fn look<R>(state: &mut VmState, map: MapType, read: impl FnOnce(&Headers) -> R) -> Option<R> {
    match map {
        MapType::HttpCallResponseHeaders => {
            return state.call_response.as_ref()?.headers.as_ref().map(read);
        }
        MapType::HttpCallResponseTrailers => {
            return state.call_response.as_ref()?.trailers.as_ref().map(read);
        }
        MapType::GrpcCallInitialMetadata => return state.shown_grpc()?.initial.as_ref().map(read),
        MapType::GrpcCallTrailingMetadata => {
            return state.shown_grpc()?.trailing.as_ref().map(read);
        }
        _ => {}
    }
    let (stream, filter) = state.current_stream()?;
    let shared = &mut *state.shared.borrow_mut();
    let found = shared.streams.get_mut(&stream)?;
    let visible = if found.logging {
        map != MapType::HttpRequestTrailers
    } else {
        let side = found.side(filter, way(map))?;
        if is_trailers(map) { side.trailers_visible } else { side.headers_visible }
    };
    if !visible {
        return None;
    }
    shared.headers(stream, map)?.as_ref().map(read)
}

/// Writes a map if the effective context may.
fn edit<R>(state: &mut VmState, map: MapType, write: impl FnOnce(&mut Headers) -> R) -> Option<R> {
    let (stream, filter) = state.current_stream()?;
    let shared = &mut *state.shared.borrow_mut();
    let found = shared.streams.get_mut(&stream)?;
    if found.logging {
        return None;
    }
    let side = found.side(filter, way(map))?;
    if is_trailers(map) {
        // Touching the trailers in the last body callback makes them.
        let makes = side.body != BodyView::None && side.end_seen;
        if !side.trailers_visible && makes {
            side.trailers_visible = true;
            found.half(way(map)).trailers.get_or_insert_default();
        } else if !side.trailers_visible {
            return None;
        }
    } else if !side.headers_visible {
        return None;
    }
    writable(shared, stream, map).map(write)
}

fn writable(shared: &mut ThreadState, stream: u64, map: MapType) -> Option<&mut Headers> {
    shared.headers(stream, map)?.as_mut()
}

fn is_logging(state: &VmState) -> bool {
    let Some((stream, _)) = state.current_stream() else { return false };
    state.shared.borrow().streams.get(&stream).is_some_and(|stream| stream.logging)
}

fn way(map: MapType) -> Way {
    match map {
        MapType::HttpRequestHeaders | MapType::HttpRequestTrailers => Way::Request,
        _ => Way::Response,
    }
}

fn is_trailers(map: MapType) -> bool {
    matches!(map, MapType::HttpRequestTrailers | MapType::HttpResponseTrailers)
}
