//! Attributes: what `proxy_get_property` and expressions know, in which phase.
//!
//! Which attribute exists when was measured on Envoy: those that come from headers follow the
//! visibility of the headers; what is known of the upstream comes with its choice, its connection,
//! its response; durations exist only once the stream has ended. A header map that may not be seen
//! is an empty map, not an error.

mod connection;
mod message;
mod network;
mod request;
mod response;
mod tls;
mod upstream;
mod xds;

use crate::cel::{Activation, Group, Value, field, serialize};
use crate::stream::{Role, Stream, StreamInfo, Way};
use crate::vm::{Callback, VmState};
use crate::{Engine, Headers};
use host_sim_abi::Status;
use std::time::Duration;

/// What a lookup sees.
pub(crate) struct Scene<'a> {
    engine: &'a Engine,
    /// Name, root id and VM id of the plugin.
    plugin: Option<[&'a str; 3]>,
    /// None in root contexts.
    stream: Option<StreamScene<'a>>,
}

/// What a lookup sees of a stream.
struct StreamScene<'a> {
    stream: &'a Stream,
    /// Owner of request headers, downstream connection and attempt count.
    exchange: Option<&'a Stream>,
    request_headers: Option<&'a Headers>,
    response_headers: Option<&'a Headers>,
    response_trailers: Option<&'a Headers>,
    engine: &'a Engine,
    /// on_log, on_done, on_delete.
    ended: bool,
}

/// Appends the value of `path` (segments joined by NUL) to `out`.
pub(crate) fn read(state: &VmState, path: &[u8], out: &mut Vec<u8>) -> Result<(), Status> {
    if path.is_empty() {
        return Err(Status::SerializationFailure);
    }
    // One NUL at the end ends the last segment; it does not begin another.
    let path = path.strip_suffix(b"\0").unwrap_or(path);
    let mut segments = path.split(|byte| *byte == 0);
    let first = segments.next().unwrap_or_default();
    with_scene(state, |scene| {
        let name = std::str::from_utf8(first).map_err(|_| Status::NotFound)?;
        let last = first.len() == path.len();
        let mut value = scene.top(name, last).ok_or(Status::NotFound)?;
        for segment in segments {
            value = field(&value, segment, scene).ok_or(Status::NotFound)?;
        }
        serialize(&value, out)
    })
}

/// Looks at the effective context.
pub(crate) fn with_scene<R>(state: &VmState, look: impl FnOnce(&Scene<'_>) -> R) -> R {
    let shared = state.shared.borrow();
    let plugin = state.current_plugin();
    let plugin = plugin.map(|p| [p.name(), p.config.root_id.as_str(), p.vm_id()]);
    let stream = state.current_stream().and_then(|(id, filter)| {
        let stream = shared.streams.get(&id)?;
        let owner = shared.streams.get(&shared.request_owner(id));
        Some(StreamScene::new(state, stream, owner, filter, &shared.engine))
    });
    look(&Scene { engine: &shared.engine, plugin, stream })
}

/// Key of the filter state behind a property a plugin has set.
pub(crate) fn wasm_key(path: &[u8]) -> Vec<u8> {
    [b"wasm.", path].concat()
}

impl Scene<'_> {
    /// A first segment. `last`: nothing follows it.
    fn top(&self, name: &str, last: bool) -> Option<Value> {
        if name == "xds" {
            return Some(Value::Group(Group::Xds));
        }
        if let Some([plugin, root_id, vm_id]) = self.plugin {
            match name {
                "plugin_name" => return Some(Value::text(plugin)),
                "plugin_root_id" => return Some(Value::text(root_id)),
                "plugin_vm_id" => return Some(Value::text(vm_id)),
                _ => {}
            }
        }
        let stream = self.stream.as_ref()?;
        Some(Value::Group(match name {
            "request" => Group::Request,
            "response" => Group::Response,
            "connection" => Group::Connection,
            "source" => Group::Source,
            "destination" => Group::Destination,
            "upstream" => Group::Upstream,
            "filter_state" => Group::FilterState,
            "upstream_filter_state" if stream.is_connected() => Group::UpstreamFilterState,
            // Dynamic metadata: nothing here can set any.
            "metadata" => return Some(message::metadata(&serde_json::Map::new())),
            "connection_id" => return stream.connection("id"),
            name => {
                let entry = stream.stream.filter_state.get(&wasm_key(name.as_bytes()))?;
                return entry.attribute(last);
            }
        }))
    }
}

impl Activation for Scene<'_> {
    fn find(&self, name: &str) -> Option<Value> {
        self.top(name, false)
    }

    fn member(&self, group: Group, key: &[u8]) -> Option<Value> {
        let name = std::str::from_utf8(key).ok()?;
        if group == Group::Xds && name == "node" {
            return Some(message::node(&self.engine.bootstrap().node));
        }
        let stream = self.stream.as_ref()?;
        if let Role::Connection(connection) = &stream.stream.role
            && let Some(found) = stream.network(connection, group, name)
        {
            return found;
        }
        match group {
            Group::Request => stream.request(name),
            Group::Response => stream.response(name),
            Group::Connection => stream.connection(name),
            Group::Source => stream.source(name),
            Group::Destination => stream.destination(name),
            Group::Upstream => stream.upstream(name),
            Group::Xds => stream.xds(name),
            Group::FilterState => stream.stream.filter_state.get(key)?.attribute(false),
            // Connections to endpoints have no state here that a plugin could have set.
            Group::UpstreamFilterState => None,
        }
    }
}

impl<'a> StreamScene<'a> {
    fn new(
        state: &VmState,
        stream: &'a Stream,
        owner: Option<&'a Stream>,
        filter: usize,
        engine: &'a Engine,
    ) -> Self {
        let sees = |way: Way| {
            let filter = stream.filters.get(filter)?;
            Some(match way {
                Way::Request => &filter.request,
                Way::Response => &filter.response,
            })
        };
        let logging = state.callback == Callback::Log && stream.logging;
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

    /// The record of the request. An attempt's filters see that of the client's exchange.
    fn told(&self) -> &StreamInfo {
        &self.exchange.unwrap_or(self.stream).info
    }

    /// Whether there is a connection to an endpoint, which is next to always there as soon as the
    /// endpoint has been chosen.
    fn is_connected(&self) -> bool {
        self.stream.info.endpoint.is_some()
    }
}

fn int(value: u64) -> Value {
    Value::Int(value.cast_signed())
}

fn duration(value: Duration) -> Value {
    Value::Duration(i64::try_from(value.as_nanos()).unwrap_or(i64::MAX))
}

fn header(headers: &Headers, name: &str) -> Option<Value> {
    headers.value(name.as_bytes()).cloned().map(Value::Text)
}
