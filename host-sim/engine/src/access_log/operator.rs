//! The operators host-sim knows, by name.

use super::time::TimeFormat;

/// One compiled operator.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Operator {
    /// `%RESPONSE_CODE%` and its like.
    Field(Field),
    /// `%REQ(NAME?ALTERNATIVE)%`, `%RESP(..)%`, `%TRAILER(..)%`, `%REQ_WITHOUT_QUERY(..)%`.
    Header { of: HeadersOf, name: String, alternative: Option<String>, without_query: bool },
    /// `%FILTER_STATE(KEY:PLAIN)%`.
    FilterState { key: String, serialization: Serialization },
    /// `%START_TIME(FORMAT)%`.
    StartTime(TimeFormat),
}

/// Whose headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadersOf {
    /// The request's.
    Request,
    /// The response's.
    Response,
    /// The response's trailers.
    ResponseTrailers,
}

/// How filter state is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Serialization {
    Plain,
    Typed,
}

macro_rules! fields {
    ($($(#[$doc:meta])* $variant:ident = $name:literal;)+) => {
        /// A field without arguments.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Field {
            $($(#[$doc])* $variant,)+
        }

        impl Field {
            const NAMES: &'static [(&'static str, Self)] = &[$(($name, Self::$variant),)+];
        }
    };
}

fields! {
    /// `HTTP/1.1` or `HTTP/2`.
    Protocol = "PROTOCOL";
    /// Status; Envoy says 0 when there is none.
    ResponseCode = "RESPONSE_CODE";
    /// `via_upstream` and its like.
    ResponseCodeDetails = "RESPONSE_CODE_DETAILS";
    /// `UF,URX`; absent = no flags.
    ResponseFlags = "RESPONSE_FLAGS";
    /// Body bytes of the request.
    BytesReceived = "BYTES_RECEIVED";
    /// Body bytes of the response.
    BytesSent = "BYTES_SENT";
    /// Milliseconds from the start to the end.
    Duration = "DURATION";
    /// Milliseconds from the start to the last byte of the request.
    RequestDuration = "REQUEST_DURATION";
    /// Milliseconds from the start to the last byte sent upstream.
    RequestTxDuration = "REQUEST_TX_DURATION";
    /// Milliseconds from the start to the first byte of the response.
    ResponseDuration = "RESPONSE_DURATION";
    /// Milliseconds from the first upstream byte to the last downstream byte.
    ResponseTxDuration = "RESPONSE_TX_DURATION";
    /// `ip:port` of the endpoint.
    UpstreamHost = "UPSTREAM_HOST";
    /// The same.
    UpstreamRemoteAddress = "UPSTREAM_REMOTE_ADDRESS";
    /// Our side of the upstream connection.
    UpstreamLocalAddress = "UPSTREAM_LOCAL_ADDRESS";
    /// Its stat name.
    UpstreamCluster = "UPSTREAM_CLUSTER";
    /// Its name.
    UpstreamClusterRaw = "UPSTREAM_CLUSTER_RAW";
    /// Attempts so far.
    UpstreamRequestAttemptCount = "UPSTREAM_REQUEST_ATTEMPT_COUNT";
    /// Why the connection failed.
    UpstreamTransportFailureReason = "UPSTREAM_TRANSPORT_FAILURE_REASON";
    /// What the endpoint speaks.
    UpstreamProtocol = "UPSTREAM_PROTOCOL";
    /// The client, with port.
    DownstreamRemoteAddress = "DOWNSTREAM_REMOTE_ADDRESS";
    /// The client, without port.
    DownstreamRemoteAddressWithoutPort = "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT";
    /// The client's port.
    DownstreamRemotePort = "DOWNSTREAM_REMOTE_PORT";
    /// The connection's other end, whatever `x-forwarded-for` says.
    DownstreamDirectRemoteAddress = "DOWNSTREAM_DIRECT_REMOTE_ADDRESS";
    /// The same without port.
    DownstreamDirectRemoteAddressWithoutPort = "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT";
    /// Our side, with port.
    DownstreamLocalAddress = "DOWNSTREAM_LOCAL_ADDRESS";
    /// Our side, without port.
    DownstreamLocalAddressWithoutPort = "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT";
    /// Our port.
    DownstreamLocalPort = "DOWNSTREAM_LOCAL_PORT";
    /// `TLSv1.3`.
    DownstreamTlsVersion = "DOWNSTREAM_TLS_VERSION";
    /// SNI.
    RequestedServerName = "REQUESTED_SERVER_NAME";
    /// Name of the route.
    RouteName = "ROUTE_NAME";
    /// Number of the connection.
    ConnectionId = "CONNECTION_ID";
    /// Identity of the stream.
    StreamId = "STREAM_ID";
    /// This machine.
    HostName = "HOSTNAME";
}

impl Operator {
    /// Compiles one operator; the error says what is wrong with it.
    pub(super) fn new(name: &str, argument: Option<&str>) -> Result<Self, String> {
        let header = |of, without_query| header(name, argument, of, without_query);
        match name {
            "REQ" => header(HeadersOf::Request, false),
            "REQ_WITHOUT_QUERY" => header(HeadersOf::Request, true),
            "RESP" => header(HeadersOf::Response, false),
            "TRAILER" => header(HeadersOf::ResponseTrailers, false),
            "FILTER_STATE" => filter_state(argument),
            "START_TIME" => TimeFormat::new(argument.unwrap_or_default()).map(Self::StartTime),
            _ => field(name, argument),
        }
    }
}

fn field(name: &str, argument: Option<&str>) -> Result<Operator, String> {
    let Some((_, field)) = Field::NAMES.iter().find(|(known, _)| *known == name) else {
        return Err(format!("unknown operator '{name}'"));
    };
    match argument {
        None => Ok(Operator::Field(*field)),
        Some(_) => Err(format!("operator '{name}' takes no argument")),
    }
}

fn header(
    operator: &str,
    argument: Option<&str>,
    of: HeadersOf,
    without_query: bool,
) -> Result<Operator, String> {
    let argument = argument.filter(|argument| !argument.is_empty());
    let Some(argument) = argument else {
        return Err(format!("operator '{operator}' needs a header: '%{operator}(NAME)%'"));
    };
    let (name, alternative) = match argument.split_once('?') {
        Some((name, alternative)) => (name, Some(alternative.to_ascii_lowercase())),
        None => (argument, None),
    };
    if alternative.as_ref().is_some_and(|alternative| alternative.contains('?')) {
        return Err(format!("operator '{operator}' takes one alternative header"));
    }
    Ok(Operator::Header { of, name: name.to_ascii_lowercase(), alternative, without_query })
}

fn filter_state(argument: Option<&str>) -> Result<Operator, String> {
    let argument = argument.unwrap_or_default();
    let (key, serialization) = argument.rsplit_once(':').unwrap_or((argument, "TYPED"));
    let serialization = match serialization {
        "PLAIN" => Serialization::Plain,
        "TYPED" => Serialization::Typed,
        other => return Err(format!("FILTER_STATE is PLAIN or TYPED, not '{other}'")),
    };
    if key.is_empty() {
        return Err("operator 'FILTER_STATE' needs a key: '%FILTER_STATE(KEY:PLAIN)%'".to_owned());
    }
    Ok(Operator::FilterState { key: key.to_owned(), serialization })
}
