//! Connections from clients: accepting, TLS, the HTTP codec, one exchange a request.

mod accept;
mod connection;
mod exchange;
mod listener;
mod response_body;
mod stats;

pub(crate) use accept::accept_loop;
pub(crate) use listener::{ListenerSettings, LocalExecutor};
