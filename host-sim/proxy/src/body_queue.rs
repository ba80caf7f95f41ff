//! A message body between the engine and a codec, on one thread.
//!
//! The engine pushes without waiting: it has already decided. What keeps memory bounded is that
//! the task which fed the engine then waits for [`BodyQueue::drained`]. A channel from tokio would
//! do, but it costs atomics and a semaphore for what is a `VecDeque` on one thread.

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::future::{self, Future};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Bytes in a queue above which its feeder waits. Sixteen of the largest default HTTP/2 frames:
/// enough to keep a fast connection busy, little enough for ten thousand slow ones.
const HIGH_WATERMARK: usize = 256 * 1024;

/// The feeder goes on when the queue has fallen to half, so that it does not wake for each frame.
const LOW_WATERMARK: usize = HIGH_WATERMARK / 2;

/// Frames on their way to a codec.
#[derive(Default)]
pub(crate) struct BodyQueue(RefCell<State>);

#[derive(Default)]
struct State {
    frames: VecDeque<Frame<Bytes>>,
    bytes: usize,
    end: End,
    /// The codec is gone: frames have nowhere to go.
    abandoned: bool,
    reader: Option<Waker>,
    feeders: Vec<Waker>,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum End {
    #[default]
    Open,
    Complete,
    Aborted,
}

impl BodyQueue {
    /// Adds data; says whether the feeder should wait for room.
    pub(crate) fn push_data(&self, data: Bytes, end_stream: bool) -> bool {
        let mut state = self.0.borrow_mut();
        if !data.is_empty() && !state.abandoned {
            state.bytes += data.len();
            state.frames.push_back(Frame::data(data));
        }
        if end_stream {
            state.end = End::Complete;
        }
        state.wake_reader();
        state.bytes > HIGH_WATERMARK
    }

    /// Adds the trailers, which are the end.
    pub(crate) fn push_trailers(&self, trailers: HeaderMap) {
        let mut state = self.0.borrow_mut();
        if !state.abandoned {
            state.frames.push_back(Frame::trailers(trailers));
        }
        state.end = End::Complete;
        state.wake_reader();
    }

    /// Cuts the body: the codec sees an error after the frames that are already queued.
    pub(crate) fn abort(&self) {
        let mut state = self.0.borrow_mut();
        if state.end == End::Open {
            state.end = End::Aborted;
        }
        state.wake_reader();
        state.wake_feeders();
    }

    /// The codec takes no more.
    pub(crate) fn abandon(&self) {
        let mut state = self.0.borrow_mut();
        state.abandoned = true;
        state.bytes = 0;
        state.frames.clear();
        state.wake_feeders();
    }

    /// Whether the codec has taken the last frame.
    pub(crate) fn is_finished(&self) -> bool {
        let state = self.0.borrow();
        state.end == End::Complete && state.frames.is_empty() && !state.abandoned
    }

    /// Whether the body was cut.
    pub(crate) fn is_aborted(&self) -> bool {
        self.0.borrow().end == End::Aborted
    }

    /// Waits until there is room again, or nobody left to fill it.
    pub(crate) fn drained(&self) -> impl Future<Output = ()> + '_ {
        future::poll_fn(|cx| {
            let mut state = self.0.borrow_mut();
            if state.bytes <= LOW_WATERMARK || state.abandoned || state.end == End::Aborted {
                return Poll::Ready(());
            }
            if !state.feeders.iter().any(|waker| waker.will_wake(cx.waker())) {
                state.feeders.push(cx.waker().clone());
            }
            Poll::Pending
        })
    }

    /// The next frame; `None` at the end.
    pub(crate) fn poll_frame(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        let mut state = self.0.borrow_mut();
        if let Some(frame) = state.frames.pop_front() {
            state.bytes -= frame.data_ref().map_or(0, Bytes::len);
            if state.bytes <= LOW_WATERMARK {
                state.wake_feeders();
            }
            return Poll::Ready(Some(Ok(frame)));
        }
        match state.end {
            End::Complete => Poll::Ready(None),
            End::Aborted => Poll::Ready(Some(Err(Aborted))),
            End::Open => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl State {
    fn wake_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    fn wake_feeders(&mut self) {
        self.feeders.drain(..).for_each(Waker::wake);
    }
}

/// The body was cut by the proxy.
#[derive(Debug)]
pub(crate) struct Aborted;

impl fmt::Display for Aborted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the proxy reset the stream")
    }
}

impl std::error::Error for Aborted {}

/// The request body of an attempt, as hyper's client reads it.
pub(crate) enum RequestBody {
    /// Nothing follows the headers.
    Empty,
    /// Frames as they come.
    Queued(Rc<BodyQueue>),
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        match &*self {
            Self::Empty => Poll::Ready(None),
            Self::Queued(queue) => queue.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Queued(queue) => queue.is_finished(),
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Self::Queued(queue) = self {
            queue.abandon();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll<T>(future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    fn take(queue: &BodyQueue) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        queue.poll_frame(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn frames_come_out_in_order_and_then_the_end() {
        let queue = BodyQueue::default();
        queue.push_data(Bytes::from_static(b"a"), false);
        queue.push_data(Bytes::from_static(b"b"), true);
        for expected in [b"a", b"b"] {
            let Poll::Ready(Some(Ok(frame))) = take(&queue) else { panic!("a frame") };
            assert_eq!(frame.into_data().unwrap(), expected.as_slice());
        }
        assert!(queue.is_finished());
        assert!(matches!(take(&queue), Poll::Ready(None)));
    }

    #[test]
    fn a_feeder_waits_above_the_high_mark_until_the_low_mark() {
        let queue = BodyQueue::default();
        let half = Bytes::from(vec![0; LOW_WATERMARK]);
        assert!(!queue.push_data(half.clone(), false));
        assert!(!queue.push_data(half, false));
        assert!(queue.push_data(Bytes::from_static(b"x"), false));
        let mut drained = Box::pin(queue.drained());
        assert!(poll(drained.as_mut()).is_pending());
        assert!(take(&queue).is_ready());
        assert!(poll(drained.as_mut()).is_pending());
        assert!(take(&queue).is_ready());
        assert!(poll(drained.as_mut()).is_ready());
    }

    #[test]
    fn a_codec_that_goes_away_frees_the_feeder() {
        let queue = Rc::new(BodyQueue::default());
        let body = RequestBody::Queued(queue.clone());
        queue.push_data(Bytes::from(vec![0; HIGH_WATERMARK + 1]), false);
        let mut drained = Box::pin(queue.drained());
        assert!(poll(drained.as_mut()).is_pending());
        drop(body);
        assert!(poll(drained.as_mut()).is_ready());
        assert!(!queue.push_data(Bytes::from(vec![0; HIGH_WATERMARK + 1]), true));
    }

    #[test]
    fn a_cut_body_ends_in_an_error_not_in_an_end() {
        let queue = BodyQueue::default();
        queue.push_data(Bytes::from_static(b"a"), false);
        queue.abort();
        assert!(matches!(take(&queue), Poll::Ready(Some(Ok(_)))));
        assert!(matches!(take(&queue), Poll::Ready(Some(Err(Aborted)))));
        assert!(!queue.is_finished());
    }

    #[test]
    fn a_complete_body_cannot_be_cut_any_more() {
        let queue = BodyQueue::default();
        queue.push_data(Bytes::new(), true);
        queue.abort();
        assert!(queue.is_finished());
    }
}
