//! Foreign functions, those of Envoy 1.40: arguments and results are bytes of each one's own.

use super::signature;
use crate::attributes;
use crate::cel::{NoExpression, evaluate, parse, serialize};
use crate::fault::Reply;
use crate::filter_state::{Entry, Kind, NoObject, PropertyType, Prototype, object};
use crate::guest_memory::{Guest, give, place, put_u32, slice, split};
use crate::protobuf::Message;
use crate::vm::VmState;
use bytes::Bytes;
use flate2::Compression;
use flate2::read::{ZlibDecoder, ZlibEncoder};
use host_sim_abi::Status;
use std::io::Read;

/// Most that `uncompress` makes of anything: more than fits into a guest beside its input.
const MAX_UNCOMPRESSED: u64 = 512 * 1024 * 1024;

/// `LifeSpan::DownstreamConnection`
const CONNECTION: u64 = 2;

/// `proxy_call_foreign_function`. Where the guest wants no result it passes null pointers.
pub(super) fn call(
    guest: &mut Guest<'_>,
    name: u32,
    name_len: u32,
    args: u32,
    args_len: u32,
    ptr: u32,
    len: u32,
) -> Reply {
    let (memory, state) = split(guest)?;
    let name = slice(memory, name, name_len)?;
    let args = slice(memory, args, args_len)?;
    let result = match name {
        b"clear_route_cache" => {
            clear_route(state);
            Ok(Vec::new())
        }
        b"set_envoy_filter_state" => set_filter_state(state, args).map(|()| Vec::new()),
        b"declare_property" => declare_property(state, args).map(|()| Vec::new()),
        b"compress" => compress(args),
        b"uncompress" => uncompress(args),
        b"expr_create" => create_expression(state, args),
        b"expr_evaluate" => evaluate_expression(state, args),
        b"expr_delete" => delete_expression(state, args).map(|()| Vec::new()),
        b"verify_signature" => signature::verify(args),
        b"sign" => signature::sign(args),
        _ => return Err(Status::NotFound.into()),
    };
    let (bytes, status) = match result {
        Ok(bytes) => (bytes, Ok(())),
        Err(status) => (Vec::new(), Err(status.into())),
    };
    hand_over(guest, &bytes, ptr, len)?;
    status
}

/// A null pointer is not written to; without the first no room is made.
fn hand_over(guest: &mut Guest<'_>, bytes: &[u8], ptr: u32, len: u32) -> Reply {
    match (ptr, len) {
        (0, 0) => Ok(()),
        (0, len) => {
            let (memory, _) = split(guest)?;
            Ok(put_u32(memory, len, u32::try_from(bytes.len()).unwrap_or(u32::MAX))?)
        }
        (ptr, 0) => {
            let at = place(guest, bytes)?;
            let (memory, _) = split(guest)?;
            Ok(put_u32(memory, ptr, at)?)
        }
        (ptr, len) => give(guest, bytes, ptr, len),
    }
}

/// `proxy_clear_route_cache` of 0.1.0.
pub(super) fn clear_route_cache(guest: &mut Guest<'_>) {
    clear_route(guest.data_mut());
}

fn clear_route(state: &mut VmState) {
    if let Some((stream, _)) = state.current_stream()
        && let Some(stream) = state.shared.borrow_mut().streams.get_mut(&stream)
    {
        stream.clear_route_cache();
    }
}

/// `SetEnvoyFilterStateArguments { string path = 1; string value = 2; LifeSpan span = 3; }`
fn set_filter_state(state: &mut VmState, args: &[u8]) -> Result<(), Status> {
    let args = Message::parse(args).ok_or(Status::BadArgument)?;
    let name = args.text(1).ok_or(Status::BadArgument)?;
    let value = args.text(2).ok_or(Status::BadArgument)?;
    let connection = args.varint(3) == CONNECTION;
    let (kind, value) = object(name, value.as_bytes()).map_err(|refusal| match refusal {
        NoObject::Unknown => Status::NotFound,
        NoObject::BadValue => Status::BadArgument,
    })?;
    let (stream, _) = state.current_stream().ok_or(Status::NotFound)?;
    let mut shared = state.shared.borrow_mut();
    let entry = Entry { value, kind: Kind::Object(kind), connection };
    shared.set_filter_state(stream, name.as_bytes(), entry);
    Ok(())
}

/// `DeclarePropertyArguments { string name = 1; bool readonly = 2; WasmType type = 3;
/// bytes schema = 4; LifeSpan span = 5; }`. What a root declares counts for its streams; what a
/// stream declares counts for nothing, but cannot be declared again.
fn declare_property(state: &mut VmState, args: &[u8]) -> Result<(), Status> {
    let args = Message::parse(args).ok_or(Status::BadArgument)?;
    let name = args.text(1).ok_or(Status::BadArgument)?;
    let prototype = Prototype {
        read_only: args.varint(2) != 0,
        ty: match args.varint(3) {
            1 => PropertyType::Text,
            2 => PropertyType::FlatBuffers,
            3 => PropertyType::Protobuf,
            _ => PropertyType::Bytes,
        },
        schema: Bytes::copy_from_slice(args.bytes(4).unwrap_or_default()),
        connection: args.varint(5) == CONNECTION,
    };
    let declared = state.declared.entry(state.entered).or_default();
    if declared.iter().any(|(known, _)| known == name.as_bytes()) {
        return Err(Status::BadArgument);
    }
    declared.push((name.as_bytes().to_vec(), prototype));
    Ok(())
}

fn compress(bytes: &[u8]) -> Result<Vec<u8>, Status> {
    let mut out = Vec::new();
    let read = ZlibEncoder::new(bytes, Compression::new(6)).read_to_end(&mut out);
    read.map(|_| out).map_err(|_| Status::SerializationFailure)
}

/// What follows the stream does not matter.
fn uncompress(bytes: &[u8]) -> Result<Vec<u8>, Status> {
    let mut out = Vec::new();
    let read = ZlibDecoder::new(bytes).take(MAX_UNCOMPRESSED + 1).read_to_end(&mut out);
    match read {
        // No bytes at all are no stream either.
        Ok(read) if !bytes.is_empty() && read as u64 <= MAX_UNCOMPRESSED => Ok(out),
        _ => Err(Status::SerializationFailure),
    }
}

/// The text of an expression; its token.
fn create_expression(state: &mut VmState, text: &[u8]) -> Result<Vec<u8>, Status> {
    let text = std::str::from_utf8(text).map_err(|_| Status::BadArgument)?;
    let expr = match parse(text) {
        Err(NoExpression::Syntax) => return Err(Status::BadArgument),
        other => other.ok(),
    };
    let store = state.expressions.entry(entered_root(state)).or_default();
    // Tokens count up; after four thousand million of them they may meet an old one.
    while store.expressions.contains_key(&store.next) {
        store.next = store.next.wrapping_add(1);
    }
    let token = store.next;
    store.next = token.wrapping_add(1);
    // A function that does not exist is found out when the token has been given away.
    store.expressions.insert(token, expr.ok_or(Status::BadArgument)?.into());
    Ok(token.to_le_bytes().to_vec())
}

/// Evaluates in the context that the callback is for, whatever the guest has made effective.
fn evaluate_expression(state: &mut VmState, args: &[u8]) -> Result<Vec<u8>, Status> {
    let token = token(args)?;
    let root = entered_root(state);
    let expr = state.expressions.get(&root).and_then(|store| store.expressions.get(&token));
    let expr = expr.ok_or(Status::NotFound)?.clone();
    let effective = std::mem::replace(&mut state.current, state.entered);
    let value = attributes::with_scene(state, |scene| evaluate(&expr, scene));
    state.current = effective;
    let mut out = Vec::new();
    serialize(&value.map_err(|_| Status::InternalFailure)?, &mut out)?;
    Ok(out)
}

fn delete_expression(state: &mut VmState, args: &[u8]) -> Result<(), Status> {
    let token = token(args)?;
    let root = entered_root(state);
    if let Some(store) = state.expressions.get_mut(&root) {
        store.expressions.remove(&token);
    }
    Ok(())
}

fn token(args: &[u8]) -> Result<u32, Status> {
    let bytes = args.try_into().map_err(|_| Status::BadArgument)?;
    Ok(u32::from_le_bytes(bytes))
}

fn entered_root(state: &VmState) -> u32 {
    state.root_of(state.entered).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compression_makes_the_bytes_that_envoy_makes() {
        let text = b"hello hello hello ".repeat(20);
        let expected = [
            0x78, 0x9c, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0x57, 0xc8, 0x18, 0x25, 0x53, 0x69, 0x1b,
            0x0e, 0x00, 0x61, 0x5f, 0x84, 0x31,
        ];
        assert_eq!(compress(&text).unwrap(), expected);
        assert_eq!(compress(b"").unwrap(), [0x78, 0x9c, 0x03, 0, 0, 0, 0, 1]);
    }
}
