//! Shared queues of the ABI, one namespace per `vm_id`, process-wide.
//!
//! Envoy wakes only the context that registered a queue *last*, by a post to its thread. The post
//! lands in that worker's [`Inbox`]; a driver that sleeps is woken by the inbox's waker.

use bytes::Bytes;
use host_sim_abi::Status;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// A message from another thread, or from this one to its own next turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueReady {
    pub(crate) vm: usize,
    pub(crate) root: u32,
    pub(crate) token: u32,
}

/// Posts for one worker.
#[derive(Default)]
pub(crate) struct Inbox {
    posts: Mutex<VecDeque<QueueReady>>,
    waker: Mutex<Option<Box<dyn Fn() + Send + Sync>>>,
}

impl Inbox {
    pub(crate) fn set_waker(&self, waker: Box<dyn Fn() + Send + Sync>) {
        *lock(&self.waker) = Some(waker);
    }

    pub(crate) fn pop(&self) -> Option<QueueReady> {
        lock(&self.posts).pop_front()
    }

    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.posts).is_empty()
    }

    fn post(&self, message: QueueReady) {
        lock(&self.posts).push_back(message);
        if let Some(wake) = lock(&self.waker).as_ref() {
            wake();
        }
    }
}

/// All queues of the process.
#[derive(Default)]
pub(crate) struct SharedQueues {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
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
        (vm, root): (usize, u32),
    ) -> u32 {
        let inner = &mut *lock(&self.inner);
        let fresh = u32::try_from(inner.queues.len()).unwrap_or(u32::MAX).saturating_add(1);
        let token = *inner.tokens.entry((vm_id.into(), name.into())).or_insert(fresh);
        let ready = QueueReady { vm, root, token };
        let listener = Arc::downgrade(listener);
        match inner.queues.get_mut(&token) {
            Some(queue) => (queue.listener, queue.ready) = (listener, ready),
            None => {
                inner.queues.insert(token, Queue { items: VecDeque::new(), listener, ready });
            }
        }
        token
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
            inbox.post(ready);
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
        let token = queues.register("vm", b"q", &first, (0, 1));
        assert_eq!(queues.register("vm", b"q", &last, (2, 3)), token);
        queues.enqueue(token, Bytes::from_static(b"x")).unwrap();
        assert!(first.is_empty());
        assert_eq!(last.pop(), Some(QueueReady { vm: 2, root: 3, token }));
        assert_eq!(queues.dequeue(token), Ok(Bytes::from_static(b"x")));
        assert_eq!(queues.dequeue(token), Err(Status::Empty));
    }

    #[test]
    fn a_queue_of_another_vm_id_is_not_found() {
        let queues = SharedQueues::default();
        let inbox = Arc::new(Inbox::default());
        queues.register("vm", b"q", &inbox, (0, 1));
        assert_eq!(queues.resolve("other", b"q"), None);
        assert_eq!(queues.enqueue(99, Bytes::new()), Err(Status::NotFound));
        assert_eq!(queues.dequeue(99), Err(Status::NotFound));
    }
}
