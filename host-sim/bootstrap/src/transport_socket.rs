//! `envoy.config.core.v3.TransportSocket`: TLS or plain text, on either side.

use crate::reader::{Message, Reader};
use crate::tls::{DOWNSTREAM_TLS, UPSTREAM_TLS};
use crate::{DownstreamTls, UpstreamTls};

const NAME: &str = "envoy.config.core.v3.TransportSocket";

const RAW_BUFFER: &str = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer";

/// A filter chain's `transport_socket`; `None` = plain text.
pub(crate) const DOWNSTREAM: Message<Option<DownstreamTls>> =
    Message { name: NAME, read: downstream };

/// A cluster's `transport_socket`; `None` = plain text.
pub(crate) const UPSTREAM: Message<Option<UpstreamTls>> = Message { name: NAME, read: upstream };

fn downstream(message: &mut Reader<'_>) -> Option<Option<DownstreamTls>> {
    message.accept(&["name"]);
    let plain = Message { name: RAW_BUFFER, read: |_: &mut Reader<'_>| Some(None) };
    message.extension("typed_config", &[DOWNSTREAM_TLS, plain])
}

fn upstream(message: &mut Reader<'_>) -> Option<Option<UpstreamTls>> {
    message.accept(&["name"]);
    let plain = Message { name: RAW_BUFFER, read: |_: &mut Reader<'_>| Some(None) };
    message.extension("typed_config", &[UPSTREAM_TLS, plain])
}
