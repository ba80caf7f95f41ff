//! Connections to endpoints, one pool a worker, cluster and endpoint, and the attempts on them.

mod attempt;
mod connect;
mod failure;
mod http1_pool;
mod http2_pool;
mod pool;
mod pools;
mod stats;

pub(crate) use attempt::{Attempt, AttemptSlot};
pub(crate) use connect::ByteTransport;
pub(crate) use pools::{ClusterTransports, Upstreams};
