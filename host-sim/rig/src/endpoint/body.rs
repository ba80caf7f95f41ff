//! Bodies of an endpoint's answers.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use super::connection::Abort;

/// Time between the last byte sent and the reset, in which hyper flushes what it buffers.
const FLUSH_TIME: Duration = Duration::from_millis(5);

/// Whole, or broken off by a connection reset.
pub(crate) enum AnswerBody {
    /// All of it.
    Whole(Option<Bytes>),
    /// A part, after which the connection is reset.
    Broken {
        /// What is sent first.
        part: Option<Bytes>,
        /// Runs from when the part has been taken.
        flush: Pin<Box<Sleep>>,
        /// Resets the connection.
        abort: Arc<Abort>,
    },
}

impl AnswerBody {
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Some(bytes.into()))
    }

    pub(crate) fn broken(part: impl Into<Bytes>, abort: Arc<Abort>) -> Self {
        let flush = Box::pin(sleep(FLUSH_TIME));
        Self::Broken { part: Some(part.into()), flush, abort }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Broken { part, flush, abort } => {
                if let Some(part) = part.take() {
                    return Poll::Ready(Some(Ok(Frame::data(part))));
                }
                if flush.as_mut().poll(context).is_ready() {
                    abort.reset();
                }
                // Never ends: the connection does.
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Broken { .. } => SizeHint::default(),
        }
    }
}
