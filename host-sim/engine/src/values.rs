//! What access logs and header values can ask of a stream.

use crate::access_log::{Field, HeadersOf, Value, Values};
use crate::host_selection::millis;
use crate::stream::{Exchange, Role, Stream};
use crate::{Downstream, Engine, ResponseFlags, UnixNanos};
use std::borrow::Cow;
use std::net::SocketAddr;

/// A stream, as format strings see it.
pub(crate) struct StreamValues<'a> {
    engine: &'a Engine,
    stream: &'a Stream,
}

impl<'a> StreamValues<'a> {
    pub(crate) fn new(engine: &'a Engine, stream: &'a Stream) -> Self {
        Self { engine, stream }
    }

    fn exchange(&self) -> Option<&Exchange> {
        match &self.stream.role {
            Role::Exchange(exchange) => Some(exchange),
            _ => None,
        }
    }

    fn connection(&self) -> Option<&Downstream> {
        match &self.stream.role {
            Role::Exchange(exchange) => Some(&exchange.downstream),
            Role::Connection(connection) => Some(&connection.downstream),
            Role::Attempt(_) => None,
        }
    }

    fn since_start(&self, at: Option<UnixNanos>) -> Option<Value> {
        Some(Value::Number(millis(self.stream.info.start, at?)))
    }

    /// In the order in which they were set: of a connection, the failure comes before the end of
    /// the attempts.
    fn flags(&self) -> Option<Value> {
        let flags = self.stream.info.flags;
        let failed = ResponseFlags::UPSTREAM_CONNECTION_FAILURE;
        let is_connection = matches!(self.stream.role, Role::Connection(_));
        if is_connection && flags.contains(failed) {
            return Some(text(&"UF,URX"));
        }
        (!flags.is_empty()).then(|| text(&flags))
    }

    fn upstream(&self, field: Field) -> Option<Value> {
        let info = &self.stream.info;
        match field {
            Field::UpstreamHost | Field::UpstreamRemoteAddress => {
                info.endpoint.map(|endpoint| text(&endpoint))
            }
            Field::UpstreamCluster => Some(text(&info.cluster.as_ref()?.config().stat_name)),
            Field::UpstreamClusterRaw => Some(text(&info.cluster.as_ref()?.name())),
            Field::UpstreamRequestAttemptCount => Some(Value::Number(info.attempts.into())),
            // One word, unlike the attribute, so that a log line splits at its spaces.
            Field::UpstreamTransportFailureReason => {
                info.transport_failure.as_ref().map(|reason| text(&reason.replace(' ', "_")))
            }
            _ => None,
        }
    }

    fn downstream(&self, field: Field) -> Option<Value> {
        let downstream = self.connection()?;
        let ip = |address: SocketAddr| Some(text(&address.ip()));
        match field {
            Field::Protocol if self.exchange().is_none() => None,
            Field::Protocol => Some(text(&downstream.protocol.as_str())),
            Field::DownstreamRemoteAddress | Field::DownstreamDirectRemoteAddress => {
                Some(text(&downstream.remote))
            }
            Field::DownstreamRemoteAddressWithoutPort
            | Field::DownstreamDirectRemoteAddressWithoutPort => ip(downstream.remote),
            Field::DownstreamRemotePort => Some(Value::Number(downstream.remote.port().into())),
            Field::DownstreamLocalAddress => Some(text(&downstream.local)),
            Field::DownstreamLocalAddressWithoutPort => ip(downstream.local),
            Field::DownstreamLocalPort => Some(Value::Number(downstream.local.port().into())),
            Field::DownstreamTlsVersion => Some(text(&downstream.tls.as_ref()?.version)),
            Field::RequestedServerName => downstream.tls.as_ref()?.sni.as_ref().map(text),
            Field::ConnectionId => Some(Value::Number(downstream.connection_id)),
            _ => None,
        }
    }

    fn route_name(&self) -> Option<Value> {
        let at = self.stream.info.route?;
        let listener = self.engine.bootstrap().listeners.get(self.exchange()?.listener)?;
        let routed = crate::router::routed(&listener.http()?.route_config, at)?;
        (!routed.route.name.is_empty()).then(|| text(&routed.route.name))
    }
}

impl Values for StreamValues<'_> {
    fn header(&self, of: HeadersOf, name: &str) -> Option<Cow<'_, str>> {
        let headers = match of {
            HeadersOf::Request => &self.stream.request.headers,
            HeadersOf::Response => &self.stream.response.headers,
            HeadersOf::ResponseTrailers => &self.stream.response.trailers,
        };
        headers.as_ref()?.get(name).map(String::from_utf8_lossy)
    }

    fn field(&self, field: Field) -> Option<Value> {
        let info = &self.stream.info;
        match field {
            Field::ResponseCode => Some(Value::Number(info.code.unwrap_or(0).into())),
            Field::ResponseCodeDetails => {
                info.details.as_ref().filter(|details| !details.is_empty()).map(text)
            }
            Field::ResponseFlags => self.flags(),
            Field::BytesReceived => Some(Value::Number(info.request_bytes)),
            Field::BytesSent => Some(Value::Number(info.response_bytes)),
            Field::Duration => self.since_start(info.end),
            Field::RequestDuration => self.since_start(info.request_complete),
            Field::RequestTxDuration => self.since_start(info.upstream_first_tx),
            Field::ResponseDuration => self.since_start(info.upstream_first_rx),
            Field::ResponseTxDuration => {
                Some(Value::Number(millis(info.upstream_first_rx?, info.end?)))
            }
            Field::RouteName => self.route_name(),
            Field::HostName => Some(text(&self.engine.bootstrap().node.id)),
            other => self.upstream(other).or_else(|| self.downstream(other)),
        }
    }

    fn filter_state(&self, key: &str) -> Option<Cow<'_, [u8]>> {
        self.stream.filter_state(key.as_bytes()).map(|value| value.as_ref().into())
    }

    fn start_time(&self) -> UnixNanos {
        self.stream.info.start
    }
}

fn text(value: &impl ToString) -> Value {
    Value::Text(value.to_string())
}
