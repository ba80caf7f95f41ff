//! HTTP filters, downstream and upstream: `type_url` selects, the name is only a name.

use crate::config_discovery::{CONFIG_DISCOVERY, ConfigDiscovery};
use crate::header::HEADER_MUTATIONS;
use crate::rate_limit::LOCAL_RATE_LIMIT;
use crate::reader::{Message, Reader};
use crate::stateful_session::STATEFUL_SESSION;
use crate::wasm::PLUGIN_CONFIG;
use crate::{HeaderMutations, LocalRateLimit, PluginConfig, StatefulSession};

/// One entry of an `http_filters` list.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpFilter {
    /// The entry's name.
    pub name: String,
    /// What it is and how it is configured.
    pub config: HttpFilterConfig,
}

/// The HTTP filters host-sim simulates.
#[derive(Debug, Clone, PartialEq)]
pub enum HttpFilterConfig {
    /// `envoy.filters.http.wasm`.
    Wasm(Box<PluginConfig>),
    /// `config_discovery`: an `envoy.filters.http.wasm` whose configuration comes from a file, and may
    /// change.
    Discovered(ConfigDiscovery),
    /// `envoy.filters.http.header_mutation`.
    HeaderMutation(HeaderMutations),
    /// `envoy.filters.http.local_ratelimit`.
    LocalRateLimit(LocalRateLimit),
    /// `envoy.filters.http.stateful_session`.
    StatefulSession(StatefulSession),
    /// `envoy.filters.http.router`: terminal filter of a downstream chain, always its last.
    Router,
    /// `envoy.filters.http.upstream_codec`: terminal filter of an upstream chain, always its last.
    UpstreamCodec,
}

/// The field that holds a chain, here and upstream.
const CHAIN: &str = "http_filters";

const NAME: &str = "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter";

const DOWNSTREAM: Message<HttpFilter> = Message { name: NAME, read: downstream };

const UPSTREAM: Message<HttpFilter> = Message { name: NAME, read: upstream };

const WASM: Message<HttpFilterConfig> = Message {
    name: "envoy.extensions.filters.http.wasm.v3.Wasm",
    read: |message| {
        let plugin = message.required("config", PLUGIN_CONFIG)?;
        Some(HttpFilterConfig::Wasm(Box::new(plugin)))
    },
};

const HEADER_MUTATION: Message<HttpFilterConfig> = Message {
    name: HEADER_MUTATIONS.name,
    read: |message| (HEADER_MUTATIONS.read)(message).map(HttpFilterConfig::HeaderMutation),
};

const LOCAL_RATELIMIT: Message<HttpFilterConfig> = Message {
    name: LOCAL_RATE_LIMIT.name,
    read: |message| (LOCAL_RATE_LIMIT.read)(message).map(HttpFilterConfig::LocalRateLimit),
};

const SESSION: Message<HttpFilterConfig> = Message {
    name: STATEFUL_SESSION.name,
    read: |message| (STATEFUL_SESSION.read)(message).map(HttpFilterConfig::StatefulSession),
};

const ROUTER: Message<HttpFilterConfig> = Message {
    name: "envoy.extensions.filters.http.router.v3.Router",
    read: |_| Some(HttpFilterConfig::Router),
};

const UPSTREAM_CODEC: Message<HttpFilterConfig> = Message {
    name: "envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec",
    read: |_| Some(HttpFilterConfig::UpstreamCodec),
};

/// A connection manager's chain.
pub(crate) fn downstream_chain(message: &mut Reader<'_>) -> Vec<HttpFilter> {
    let count = message.count(CHAIN);
    let filters = message.list(CHAIN, DOWNSTREAM);
    check_terminal(message, &filters, count, "envoy.filters.http.router");
    filters
}

/// A cluster's upstream chain; an empty one is no chain.
pub(crate) fn upstream_chain(message: &mut Reader<'_>) -> Vec<HttpFilter> {
    let count = message.count(CHAIN);
    let filters = message.list(CHAIN, UPSTREAM);
    if count > 0 {
        check_terminal(message, &filters, count, "envoy.filters.http.upstream_codec");
    }
    filters
}

fn downstream(message: &mut Reader<'_>) -> Option<HttpFilter> {
    entry(message, &[WASM, HEADER_MUTATION, LOCAL_RATELIMIT, SESSION, ROUTER])
}

fn upstream(message: &mut Reader<'_>) -> Option<HttpFilter> {
    entry(message, &[WASM, HEADER_MUTATION, UPSTREAM_CODEC])
}

fn entry(message: &mut Reader<'_>, kinds: &[Message<HttpFilterConfig>]) -> Option<HttpFilter> {
    let name = message.required_text("name");
    let config = if message.has("config_discovery") {
        if message.has("typed_config") {
            message.problem("only one of 'typed_config', 'config_discovery' may be set");
        }
        let discovery = message.message("config_discovery", CONFIG_DISCOVERY);
        discovery.map(HttpFilterConfig::Discovered)
    } else {
        message.extension("typed_config", kinds)
    };
    Some(HttpFilter { name: name?, config: config? })
}

/// As Envoy: the terminal filter is the last one, and only the last one.
fn check_terminal(message: &Reader<'_>, filters: &[HttpFilter], count: usize, terminal: &str) {
    // With unreadable filters left out, positions would mislead.
    if filters.len() < count {
        return;
    }
    let is_terminal = |filter: &HttpFilter| {
        matches!(filter.config, HttpFilterConfig::Router | HttpFilterConfig::UpstreamCodec)
    };
    if !filters.last().is_some_and(is_terminal) {
        message.problem_at(CHAIN, format!("the last filter must be the terminal '{terminal}'"));
    }
    let early = filters.iter().rev().skip(1).rev().enumerate().filter(|(_, f)| is_terminal(f));
    for (index, filter) in early {
        let at = format!("{CHAIN}[{index}]");
        message.problem_at(&at, format!("terminal filter '{}' must be the last", filter.name));
    }
}
