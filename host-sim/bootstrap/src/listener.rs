//! `envoy.config.listener.v3.Listener`: one address, one filter chain, one HTTP connection manager.

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
