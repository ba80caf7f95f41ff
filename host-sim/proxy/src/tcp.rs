//! Connections that carry bytes: listeners with network filters, or with a TCP proxy.
//!
//! Each has two sides, the client's and the upstream's, and each side is a socket with a task that
//! reads and one that writes. Between them stands the engine, which decides what passes; the HTTP
//! codec behind network filters is an upstream like any other, at the end of a pipe.

mod byte_queue;
mod client;
mod read;
mod side;
mod upstream;

pub(crate) use client::serve;
pub(crate) use side::{ServeHttp, Sides, Socket};
