//! `envoy.config.listener.v3.Listener`: one address, one filter chain: plugins, then what ends it.

use crate::address::ADDRESS;
use crate::http::HTTP_CONNECTION_MANAGER;
use crate::metadata::{Metadata, metadata_of};
use crate::reader::{Message, Reader};
use crate::tcp_proxy::TCP_PROXY;
use crate::transport_socket::DOWNSTREAM;
use crate::wasm::PLUGIN_CONFIG;
use crate::{AccessLog, Address, DownstreamTls, HttpConnectionManager, PluginConfig, TcpProxy};

/// A listener. Envoy's filter chain is folded in: host-sim simulates exactly one a listener.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// Its name; the address when the file gives none.
    pub name: String,
    /// Where it listens.
    pub address: Address,
    /// The chain's `DownstreamTlsContext`; absent = plain text.
    pub tls: Option<DownstreamTls>,
    /// `envoy.filters.network.wasm`, in the order in which bytes from the client pass them.
    pub network_filters: Vec<PluginConfig>,
    /// The chain's last network filter.
    pub terminal: Terminal,
    /// `metadata`, for plugins.
    pub metadata: Metadata,
    /// `traffic_direction`: 0 unspecified, 1 inbound, 2 outbound.
    pub direction: u32,
    /// Name of the filter chain, empty when the file gives none.
    pub chain_name: String,
}

/// What ends a chain of network filters.
#[derive(Debug, Clone, PartialEq)]
pub enum Terminal {
    /// `envoy.filters.network.http_connection_manager`.
    Http(Box<HttpConnectionManager>),
    /// `envoy.filters.network.tcp_proxy`.
    Tcp(TcpProxy),
}

impl Listener {
    /// Its connection manager, unless it passes bytes.
    pub fn http(&self) -> Option<&HttpConnectionManager> {
        match &self.terminal {
            Terminal::Http(manager) => Some(manager),
            Terminal::Tcp(_) => None,
        }
    }

    /// Its TCP proxy, unless it speaks HTTP.
    pub fn tcp(&self) -> Option<&TcpProxy> {
        match &self.terminal {
            Terminal::Http(_) => None,
            Terminal::Tcp(proxy) => Some(proxy),
        }
    }

    /// Its access loggers.
    pub fn access_logs(&self) -> &[AccessLog] {
        match &self.terminal {
            Terminal::Http(manager) => &manager.access_logs,
            Terminal::Tcp(proxy) => &proxy.access_logs,
        }
    }
}

pub(crate) const LISTENER: Message<Listener> =
    Message { name: "envoy.config.listener.v3.Listener", read: listener };

const FILTER_CHAIN: Message<FilterChain> =
    Message { name: "envoy.config.listener.v3.FilterChain", read: filter_chain };

const NETWORK_FILTER: Message<NetworkFilter> =
    Message { name: "envoy.config.listener.v3.Filter", read: network_filter };

const WASM: Message<NetworkFilter> = Message {
    name: "envoy.extensions.filters.network.wasm.v3.Wasm",
    read: |message| {
        let plugin = message.required("config", PLUGIN_CONFIG)?;
        Some(NetworkFilter::Wasm(Box::new(plugin)))
    },
};

const HTTP: Message<NetworkFilter> = Message {
    name: HTTP_CONNECTION_MANAGER.name,
    read: |message| {
        let manager = (HTTP_CONNECTION_MANAGER.read)(message)?;
        Some(NetworkFilter::Terminal(Terminal::Http(Box::new(manager))))
    },
};

const TCP: Message<NetworkFilter> = Message {
    name: TCP_PROXY.name,
    read: |message| {
        (TCP_PROXY.read)(message).map(|proxy| NetworkFilter::Terminal(Terminal::Tcp(proxy)))
    },
};

/// A filter chain, before it is folded into its listener.
struct FilterChain {
    tls: Option<DownstreamTls>,
    network_filters: Vec<PluginConfig>,
    terminal: Terminal,
    name: String,
}

/// One entry of `filters`.
enum NetworkFilter {
    Wasm(Box<PluginConfig>),
    Terminal(Terminal),
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
    let FilterChain { tls, network_filters, terminal, name: chain_name } = chain;
    let metadata = metadata_of(message);
    let directions =
        [("UNSPECIFIED", 0, Some(0)), ("INBOUND", 1, Some(1)), ("OUTBOUND", 2, Some(2))];
    let direction = message.choice("traffic_direction", &directions)?;
    Some(Listener {
        name,
        address,
        tls,
        network_filters,
        terminal,
        metadata,
        direction,
        chain_name,
    })
}

fn filter_chain(message: &mut Reader<'_>) -> Option<FilterChain> {
    let name = message.text("name");
    let tls = message.message("transport_socket", DOWNSTREAM);
    let count = message.count("filters");
    let mut filters = message.list("filters", NETWORK_FILTER);
    if !message.is_sound("filters") {
        return None;
    }
    let terminal = match filters.pop() {
        Some(NetworkFilter::Terminal(terminal)) => terminal,
        _ => {
            let text = "the last filter must be the HTTP connection manager or the TCP proxy";
            message.problem_at("filters", text);
            return None;
        }
    };
    let mut network_filters = Vec::with_capacity(count);
    for (at, filter) in filters.into_iter().enumerate() {
        match filter {
            NetworkFilter::Wasm(plugin) => network_filters.push(*plugin),
            NetworkFilter::Terminal(_) => {
                let text = "ends the chain and must be its last filter";
                message.problem_at(&format!("filters[{at}]"), text);
            }
        }
    }
    Some(FilterChain { tls: tls.flatten(), network_filters, terminal, name })
}

fn network_filter(message: &mut Reader<'_>) -> Option<NetworkFilter> {
    message.required_text("name");
    message.extension("typed_config", &[WASM, HTTP, TCP])
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
