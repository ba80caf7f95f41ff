//! `envoy_resolve_dns`, which Envoy offers beyond the ABI.
//!
//! What needs no server is answered from within the hostcall, as in Envoy: addresses themselves,
//! and `localhost`. Any other name fails here, after the guest has returned; a simulator asks no
//! name server, and a test should not depend on one.

use super::reenter;
use crate::fault::Reply;
use crate::grpc::GrpcView;
use crate::guest_memory::{Guest, put_u32, slice, split};
use crate::thread_state::Deferred;
use bytes::Bytes;
use host_sim_abi::Status;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// `envoy_resolve_dns`: the token is written when the answer is not yet known.
pub(super) fn resolve(guest: &mut Guest<'_>, name: u32, name_len: u32, out: u32) -> Reply {
    let (memory, state) = split(guest)?;
    let name = String::from_utf8_lossy(slice(memory, name, name_len)?).into_owned();
    slice(memory, out, 4)?;
    let root = state.root_id().ok_or(Status::BadArgument)?;
    state.last_dns_token = state.last_dns_token.wrapping_add(1);
    let token = state.last_dns_token;
    let address = match name.as_str() {
        "localhost" => Some(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        name => name.parse().ok(),
    };
    match address {
        Some(address) => {
            let answer = encode(&[address]);
            let len = answer.len() as u32;
            state.last_buffer = answer;
            let view = GrpcView::default();
            reenter(guest, root, view, "envoy_on_resolve_dns", |guest, exports| {
                exports.resolve_dns.as_ref().map(|f| f.call(guest, (root, token, len)))
            })?;
        }
        None => {
            let (vm, generation) = (state.index, state.generation);
            let failed = Deferred::DnsFailed { vm, generation, root, token };
            state.defer(failed);
        }
    }
    let (memory, _) = split(guest)?;
    Ok(put_u32(memory, out, token)?)
}

/// The number of addresses, their times to live, the addresses as text, each with a NUL.
pub(crate) fn encode(addresses: &[IpAddr]) -> Bytes {
    let mut out = (addresses.len() as u32).to_le_bytes().to_vec();
    for _ in addresses {
        out.extend_from_slice(&0u32.to_le_bytes());
    }
    for address in addresses {
        out.extend_from_slice(SocketAddr::new(*address, 0).to_string().as_bytes());
        out.push(0);
    }
    out.into()
}
