//! Bytes on their way to a socket, on one thread.
//!
//! As [`crate::body_queue::BodyQueue`], without frames: the engine pushes without waiting, and who
//! fed the engine then waits until there is room.

use bytes::Bytes;
use std::cell::RefCell;
use std::collections::VecDeque;
use tokio::sync::Notify;

/// Bytes in a queue above which its feeder waits.
const HIGH_WATERMARK: usize = 256 * 1024;

/// See the module.
#[derive(Default)]
pub(super) struct ByteQueue {
    state: RefCell<State>,
    filled: Notify,
    emptied: Notify,
}

#[derive(Default)]
struct State {
    bytes: VecDeque<Bytes>,
    len: usize,
    end: bool,
    close: Option<Close>,
    /// The writer is gone.
    abandoned: bool,
}

/// How a socket ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Close {
    /// Behind all bytes.
    Flush,
    /// At once.
    Reset,
}

/// What a writer does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Write {
    Bytes(Bytes),
    /// Close this half; a [`Write::Close`] comes later.
    End,
    Close(Close),
}

impl ByteQueue {
    pub(super) fn push(&self, data: Bytes, end: bool) {
        let mut state = self.state.borrow_mut();
        if !data.is_empty() && !state.abandoned {
            state.len += data.len();
            state.bytes.push_back(data);
        }
        state.end |= end;
        self.filled.notify_one();
    }

    pub(super) fn close(&self, how: Close) {
        self.state.borrow_mut().close.get_or_insert(how);
        self.filled.notify_one();
        self.emptied.notify_waiters();
    }

    /// The writer takes no more.
    pub(super) fn abandon(&self) {
        let mut state = self.state.borrow_mut();
        state.abandoned = true;
        state.bytes.clear();
        state.len = 0;
        self.emptied.notify_waiters();
    }

    /// The next thing to do.
    pub(super) async fn next(&self) -> Write {
        loop {
            if let Some(next) = self.take() {
                return next;
            }
            self.filled.notified().await;
        }
    }

    fn take(&self) -> Option<Write> {
        let mut state = self.state.borrow_mut();
        if state.close == Some(Close::Reset) {
            return Some(Write::Close(Close::Reset));
        }
        if let Some(bytes) = state.bytes.pop_front() {
            state.len -= bytes.len();
            if state.len <= HIGH_WATERMARK / 2 {
                self.emptied.notify_waiters();
            }
            return Some(Write::Bytes(bytes));
        }
        if std::mem::take(&mut state.end) {
            return Some(Write::End);
        }
        state.close.map(Write::Close)
    }

    /// Waits until there is room.
    pub(super) async fn drained(&self) {
        loop {
            let emptied = self.emptied.notified();
            {
                let state = self.state.borrow();
                if state.len <= HIGH_WATERMARK || state.close.is_some() || state.abandoned {
                    return;
                }
            }
            emptied.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_come_before_the_end_and_the_end_before_the_close() {
        let queue = ByteQueue::default();
        queue.push(Bytes::from_static(b"a"), true);
        queue.close(Close::Flush);
        assert_eq!(queue.next().await, Write::Bytes(Bytes::from_static(b"a")));
        assert_eq!(queue.next().await, Write::End);
        assert_eq!(queue.next().await, Write::Close(Close::Flush));
    }

    #[tokio::test]
    async fn a_reset_overtakes_everything() {
        let queue = ByteQueue::default();
        queue.push(Bytes::from_static(b"a"), false);
        queue.close(Close::Reset);
        assert_eq!(queue.next().await, Write::Close(Close::Reset));
    }

    #[tokio::test]
    async fn a_full_queue_lets_its_feeder_wait_until_the_writer_has_taken_half() {
        let queue = ByteQueue::default();
        let half = Bytes::from(vec![0; HIGH_WATERMARK / 2 + 1]);
        queue.push(half.clone(), false);
        queue.drained().await;
        queue.push(half, false);
        tokio::select! {
            biased;
            () = queue.drained() => panic!("it is full"),
            _ = queue.next() => {}
        }
        let _ = queue.next().await;
        queue.drained().await;
    }
}
