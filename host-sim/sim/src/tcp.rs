//! Connections that carry bytes, and endpoints that take them.

use host_sim_engine::TlsInfo;
use std::net::IpAddr;
use std::time::Duration;

/// A connection to open.
#[derive(Clone, Debug, Default)]
pub struct Connect {
    pub(crate) listener: Option<String>,
    pub(crate) worker: Option<usize>,
    pub(crate) source: Option<IpAddr>,
    pub(crate) tls: Option<TlsInfo>,
}

impl Connect {
    /// To the first listener that ends in a TCP proxy, on worker 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// To the listener of that name.
    pub fn to(listener: &str) -> Self {
        Self { listener: Some(listener.to_owned()), ..Self::default() }
    }

    /// Chooses the worker that accepts it.
    pub fn on_worker(mut self, worker: usize) -> Self {
        self.worker = Some(worker);
        self
    }

    /// Sets the client's address; 10.0.0.1 by default.
    pub fn from_address(mut self, source: impl Into<IpAddr>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Makes it a TLS 1.3 connection, terminated by the proxy, for this server name.
    pub fn tls(self, server_name: &str) -> Self {
        self.with_tls(TlsInfo {
            version: "TLSv1.3".to_owned(),
            sni: Some(server_name.into()),
            ..TlsInfo::default()
        })
    }

    /// Makes it a TLS connection of which this is known.
    pub fn with_tls(mut self, tls: TlsInfo) -> Self {
        self.tls = Some(tls);
        self
    }
}

/// Names a connection that was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TcpId(pub(crate) usize);

/// A connection, as its client sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpConnection {
    /// Everything received.
    pub received: Vec<u8>,
    /// The proxy has closed its half: nothing more will come.
    pub ended: bool,
    /// The connection is gone, both ways.
    pub closed: bool,
    /// It went with a reset.
    pub reset: bool,
}

/// What an endpoint does with a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpBehaviour {
    /// From the wish to connect until it is granted, and from bytes to what they cause.
    pub latency: Duration,
    /// Sent as soon as there is a connection.
    pub greeting: Vec<u8>,
    /// What happens when bytes come.
    pub reaction: TcpReaction,
}

impl Default for TcpBehaviour {
    /// Echoes, after a millisecond.
    fn default() -> Self {
        Self {
            latency: Duration::from_millis(1),
            greeting: Vec::new(),
            reaction: TcpReaction::Echo,
        }
    }
}

/// What an endpoint does when bytes come. Unless it says otherwise it closes when the client has
/// closed its half.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TcpReaction {
    /// Sends them back.
    #[default]
    Echo,
    /// Sends this, each time.
    Answer(Vec<u8>),
    /// Sends this, then closes its half.
    AnswerAndClose(Vec<u8>),
    /// Takes them and says nothing.
    Swallow,
    /// Closes its half as soon as there is a connection, behind the greeting.
    Close,
    /// Resets the connection.
    Reset,
    /// No connection: refused.
    Refuse,
    /// No connection: nothing ever answers, until the cluster's `connect_timeout`.
    Unreachable,
}

/// A connection, as an endpoint saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpReceived {
    /// When it was there, since the simulation began.
    pub at: Duration,
    /// Everything received.
    pub bytes: Vec<u8>,
    /// The proxy has closed its half, or the connection.
    pub ended: bool,
    /// The proxy has reset the connection.
    pub reset: bool,
}
