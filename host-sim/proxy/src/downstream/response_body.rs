//! A response's body, as hyper's server reads it.

use super::exchange::Guard;
use crate::body_queue::Aborted;
use bytes::Bytes;
use http_body::{Body, Frame};
use std::future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Dropped by hyper when it is written, or when it no longer can be.
pub(super) enum ResponseBody {
    /// Nothing follows the headers.
    Empty,
    /// Frames as they come; the exchange ends with them.
    Queued(Guard),
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        match &*self {
            Self::Empty => Poll::Ready(None),
            Self::Queued(exchange) => exchange.queue.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Queued(exchange) => exchange.queue.is_finished(),
        }
    }
}

/// Reads a body that no codec may write, so that the exchange ends as it should.
pub(super) async fn drain(exchange: Guard) {
    while let Some(Ok(_)) = future::poll_fn(|cx| exchange.queue.poll_frame(cx)).await {}
}
