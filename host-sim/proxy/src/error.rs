//! Why the proxy did not start.

use host_sim_engine::StartError;
use std::net::SocketAddr;
use std::{error, fmt, io};

/// Why [`crate::Proxy::start`] failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum ProxyError {
    /// The engine rejected the configuration.
    Engine(StartError),
    /// A socket could not be bound.
    Bind {
        /// The listener's name; `admin` for the admin endpoint.
        listener: String,
        /// Where it was to listen.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// A certificate, key or TLS parameter cannot be used.
    Tls {
        /// `listener "name"` or `cluster "name"`.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file asks for something that only the simulator, or only Envoy, has.
    Unsupported {
        /// `listener "name"` or `cluster "name"`.
        place: String,
        /// What, and what to write instead.
        reason: String,
    },
    /// A thread or its event loop could not be made.
    Thread(io::Error),
}

impl ProxyError {
    pub(crate) fn bind(listener: &str, address: SocketAddr, source: io::Error) -> Self {
        Self::Bind { listener: listener.to_owned(), address: address.to_string(), source }
    }
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine(error) => write!(f, "{error}"),
            Self::Bind { listener, address, source } => {
                write!(f, "listener {listener:?}: cannot listen on {address}: {source}")
            }
            Self::Tls { place, reason } | Self::Unsupported { place, reason } => {
                write!(f, "{place}: {reason}")
            }
            Self::Thread(source) => write!(f, "cannot start a thread: {source}"),
        }
    }
}

impl error::Error for ProxyError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Engine(error) => Some(error),
            Self::Bind { source, .. } | Self::Thread(source) => Some(source),
            Self::Tls { .. } | Self::Unsupported { .. } => None,
        }
    }
}

impl From<StartError> for ProxyError {
    fn from(error: StartError) -> Self {
        Self::Engine(error)
    }
}
