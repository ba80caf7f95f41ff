//! Shared queues of the ABI, one namespace per `vm_id`, process-wide.
//!
//! Envoy wakes only the context that registered a queue *last*, by a post to its thread. The post
//! lands in that worker's [`Inbox`].

use crate::inbox::{Inbox, Post};
use bytes::Bytes;
use host_sim_abi::Status;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// A queue has got something: for the root that registered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueReady {
    pub(crate) vm: usize,
    pub(crate) generation: u64,
    pub(crate) root: u32,
    pub(crate) token: u32,
}

/// All queues of the process.
#[derive(Default)]
pub(crate) struct SharedQueues {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    last_token: u32,
    tokens: HashMap<(Box<str>, Box<[u8]>), u32>,
    queues: HashMap<u32, Queue>,
}

struct Queue {
    items: VecDeque<Bytes>,
    listener: Weak<Inbox>,
    ready: QueueReady,
}

impl SharedQueues {
    /// Token of the queue; makes it when needed. The caller is the one that is woken from now on.
    pub(crate) fn register(
        &self,
        vm_id: &str,
        name: &[u8],
        listener: &Arc<Inbox>,
        (vm, generation, root): (usize, u64, u32),
    ) -> u32 {
        let inner = &mut *lock(&self.inner);
        let token = *inner.tokens.entry((vm_id.into(), name.into())).or_insert_with(|| {
            inner.last_token = inner.last_token.saturating_add(1);
            inner.last_token
        });
        let ready = QueueReady { vm, generation, root, token };
        let listener = Arc::downgrade(listener);
        match inner.queues.get_mut(&token) {
            Some(queue) => (queue.listener, queue.ready) = (listener, ready),
            None => {
                inner.queues.insert(token, Queue { items: VecDeque::new(), listener, ready });
            }
        }
        token
    }

    /// Drops the queues of a `vm_id`. Tokens are not used again.
    pub(crate) fn forget(&self, vm_id: &str) {
        let inner = &mut *lock(&self.inner);
        let tokens = inner.tokens.extract_if(|(owner, _), _| **owner == *vm_id);
        tokens.for_each(|(_, token)| drop(inner.queues.remove(&token)));
    }

    /// Token of an existing queue.
    pub(crate) fn resolve(&self, vm_id: &str, name: &[u8]) -> Option<u32> {
        lock(&self.inner).tokens.get(&(vm_id.into(), name.into())).copied()
    }

    pub(crate) fn enqueue(&self, token: u32, item: Bytes) -> Result<(), Status> {
        let listener = {
            let mut inner = lock(&self.inner);
            let queue = inner.queues.get_mut(&token).ok_or(Status::NotFound)?;
            queue.items.push_back(item);
            queue.listener.upgrade().map(|inbox| (inbox, queue.ready))
        };
        // Outside of the lock: the waker may run anything.
        if let Some((inbox, ready)) = listener {
            inbox.post(Post::Queue(ready));
        }
        Ok(())
    }

    pub(crate) fn dequeue(&self, token: u32) -> Result<Bytes, Status> {
        let mut inner = lock(&self.inner);
        let queue = inner.queues.get_mut(&token).ok_or(Status::NotFound)?;
        queue.items.pop_front().ok_or(Status::Empty)
    }
}

/// No update here can be left half-done by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registering_twice_gives_one_token_and_the_last_registrant_is_woken() {
        let queues = SharedQueues::default();
        let (first, last) = (Arc::new(Inbox::default()), Arc::new(Inbox::default()));
        let token = queues.register("vm", b"q", &first, (0, 0, 1));
        assert_eq!(queues.register("vm", b"q", &last, (2, 7, 3)), token);
        queues.enqueue(token, Bytes::from_static(b"x")).unwrap();
        assert!(first.is_empty());
        let ready = QueueReady { vm: 2, generation: 7, root: 3, token };
        assert!(matches!(last.pop(), Some(Post::Queue(found)) if found == ready));
        assert_eq!(queues.dequeue(token), Ok(Bytes::from_static(b"x")));
        assert_eq!(queues.dequeue(token), Err(Status::Empty));
    }

    #[test]
    fn queues_go_with_their_vm_id_and_their_tokens_do_not_come_back() {
        let queues = SharedQueues::default();
        let inbox = Arc::new(Inbox::default());
        let first = queues.register("vm", b"q", &inbox, (0, 0, 1));
        queues.forget("vm");
        assert_eq!(queues.enqueue(first, Bytes::new()), Err(Status::NotFound));
        assert_ne!(queues.register("vm", b"q", &inbox, (0, 0, 1)), first);
    }

    #[test]
    fn a_queue_of_another_vm_id_is_not_found() {
        let queues = SharedQueues::default();
        let inbox = Arc::new(Inbox::default());
        queues.register("vm", b"q", &inbox, (0, 0, 1));
        assert_eq!(queues.resolve("other", b"q"), None);
        assert_eq!(queues.enqueue(99, Bytes::new()), Err(Status::NotFound));
        assert_eq!(queues.dequeue(99), Err(Status::NotFound));
    }
}
