//! `envoy.config.listener.v3.Listener`: one address, one filter chain, one HTTP connection manager.

use crate::address::ADDRESS;
use crate::http::HTTP_CONNECTION_MANAGER;
use crate::reader::{Message, Reader};
use crate::transport_socket::DOWNSTREAM;
use crate::{Address, DownstreamTls, HttpConnectionManager};

/// A listener. Envoy's filter chain is folded in: host-sim simulates exactly one a listener.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// Its name; the address when the file gives none.
    pub name: String,
    /// Where it listens.
    pub address: Address,
    /// The chain's `DownstreamTlsContext`; absent = plain text.
    pub tls: Option<DownstreamTls>,
    /// The chain's only network filter.
    pub http: HttpConnectionManager,
}

pub(crate) const LISTENER: Message<Listener> =
    Message { name: "envoy.config.listener.v3.Listener", read: listener };

const FILTER_CHAIN: Message<FilterChain> =
    Message { name: "envoy.config.listener.v3.FilterChain", read: filter_chain };

const NETWORK_FILTER: Message<HttpConnectionManager> =
    Message { name: "envoy.config.listener.v3.Filter", read: network_filter };

/// A filter chain, before it is folded into its listener.
struct FilterChain {
    tls: Option<DownstreamTls>,
    http: HttpConnectionManager,
}

fn listener(message: &mut Reader<'_>) -> Option<Listener> {
    message.accept(&["enable_reuse_port"]);
    let name = message.text("name");
    let address = message.required("address", ADDRESS);
    if let Some(address) = address.as_ref().filter(|address| address.to_socket_addr().is_none()) {
        message.problem_at("address", format!("'{}' is no IP address", address.host));
    }
    let chain = only(message, "filter_chains", FILTER_CHAIN);
    let (address, chain) = (address?, chain?);
    let name = if name.is_empty() { address.to_string() } else { name };
    Some(Listener { name, address, tls: chain.tls, http: chain.http })
}

fn filter_chain(message: &mut Reader<'_>) -> Option<FilterChain> {
    message.accept(&["name"]);
    let tls = message.message("transport_socket", DOWNSTREAM);
    let http = only(message, "filters", NETWORK_FILTER);
    Some(FilterChain { tls: tls.flatten(), http: http? })
}

fn network_filter(message: &mut Reader<'_>) -> Option<HttpConnectionManager> {
    message.required_text("name");
    message.required_any("typed_config", &[HTTP_CONNECTION_MANAGER])
}

/// The one element of a list that Envoy allows to be longer.
fn only<T>(message: &mut Reader<'_>, field: &'static str, element: Message<T>) -> Option<T> {
    let count = message.count(field);
    let mut elements = message.list(field, element);
    if count != 1 && message.is_sound(field) {
        message.problem_at(field, format!("host-sim simulates exactly one, got {count}"));
    }
    elements.pop()
}
