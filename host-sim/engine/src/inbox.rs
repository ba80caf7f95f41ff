//! What other threads, or a thread's own last turn, have for a worker: posts to its event loop.

use crate::config_update::Rollout;
use crate::queue::QueueReady;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A message; done when no guest runs.
pub(crate) enum Post {
    Queue(QueueReady),
    /// A plugin is replaced.
    Update(Arc<Rollout>),
    /// Every thread has made the update: the main thread lets go of the old plugin.
    Retire,
}

/// Posts for one worker. A driver that sleeps is woken by the waker.
#[derive(Default)]
pub(crate) struct Inbox {
    posts: Mutex<VecDeque<Post>>,
    waker: Mutex<Option<Box<dyn Fn() + Send + Sync>>>,
}

impl Inbox {
    pub(crate) fn set_waker(&self, waker: Box<dyn Fn() + Send + Sync>) {
        *lock(&self.waker) = Some(waker);
    }

    pub(crate) fn pop(&self) -> Option<Post> {
        lock(&self.posts).pop_front()
    }

    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.posts).is_empty()
    }

    pub(crate) fn post(&self, message: Post) {
        lock(&self.posts).push_back(message);
        if let Some(wake) = lock(&self.waker).as_ref() {
            wake();
        }
    }
}

/// No update here can be left half-done by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
