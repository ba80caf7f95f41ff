//! A body of given frames, one after the other.

use bytes::Bytes;
use http_body::{Body, Frame};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep};

/// Between two pieces of a body that must not be read as one.
pub(crate) const PAUSE: Duration = Duration::from_millis(25);

/// The body.
pub(crate) struct Frames {
    frames: VecDeque<Frame<Bytes>>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Frames {
    /// These frames; `slowly`, with a pause before each and before the end.
    pub(crate) fn new(frames: Vec<Frame<Bytes>>, slowly: bool) -> Self {
        Self { frames: frames.into(), pause: slowly.then(|| Box::pin(sleep(PAUSE))) }
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            pause.as_mut().reset(Instant::now() + PAUSE);
        }
        Poll::Ready(self.frames.pop_front().map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty() && self.pause.is_none()
    }
}
