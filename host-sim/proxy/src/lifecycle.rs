//! From serving to stopped: one process-wide phase, and each worker's connections.

use std::cell::Cell;
use std::rc::Rc;
use tokio::sync::{Notify, watch};

/// Where the proxy is on its way; it only goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Accepts connections.
    Serving,
    /// Accepts no more, serves those it has: `POST /drain_listeners`.
    Closed,
    /// Ends each connection when its requests in flight are answered.
    Draining,
    /// Ends everything now.
    Stopped,
}

/// Moves the phase forward; never back.
pub(crate) fn advance(phase: &watch::Sender<Phase>, to: Phase) {
    phase.send_if_modified(|now| {
        let moves = *now < to;
        *now = to.max(*now);
        moves
    });
}

/// Waits for `phase` or a later one. A sender that is gone counts as stopped.
pub(crate) async fn reached(phase: &mut watch::Receiver<Phase>, wanted: Phase) {
    // An error means the proxy's handle is gone, and with it all reason to go on.
    let _ = phase.wait_for(|now| *now >= wanted).await;
}

/// The downstream connections of one worker.
///
/// Local on purpose: a connection's future is polled for each packet, and a process-wide channel
/// would take its lock each time.
#[derive(Default)]
pub(crate) struct Connections {
    open: Cell<usize>,
    draining: Cell<bool>,
    drain: Notify,
    none_left: Notify,
}

/// One open connection.
pub(crate) struct OpenConnection(Rc<Connections>);

impl Connections {
    /// Counts a connection until the guard is dropped.
    pub(crate) fn open(self: &Rc<Self>) -> OpenConnection {
        self.open.set(self.open.get() + 1);
        OpenConnection(self.clone())
    }

    /// Asks all connections to end.
    pub(crate) fn drain(&self) {
        self.draining.set(true);
        self.drain.notify_waiters();
    }

    /// Waits until connections are asked to end.
    pub(crate) async fn draining(&self) {
        while !self.draining.get() {
            self.drain.notified().await;
        }
    }

    /// Waits until no connection is open.
    pub(crate) async fn all_closed(&self) {
        while self.open.get() > 0 {
            self.none_left.notified().await;
        }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        let left = self.0.open.get().saturating_sub(1);
        self.0.open.set(left);
        if left == 0 {
            self.0.none_left.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_never_goes_back() {
        let (phase, _receiver) = watch::channel(Phase::Serving);
        advance(&phase, Phase::Draining);
        advance(&phase, Phase::Closed);
        assert_eq!(*phase.borrow(), Phase::Draining);
    }

    #[tokio::test]
    async fn a_dropped_handle_stops_those_who_wait() {
        let (sender, mut phase) = watch::channel(Phase::Serving);
        drop(sender);
        reached(&mut phase, Phase::Stopped).await;
    }

    #[tokio::test]
    async fn all_closed_waits_for_the_last_connection() {
        let connections = Rc::new(Connections::default());
        let (first, second) = (connections.open(), connections.open());
        drop(first);
        tokio::select! {
            biased;
            () = connections.all_closed() => panic!("one is still open"),
            () = std::future::ready(()) => {}
        }
        drop(second);
        connections.all_closed().await;
    }
}
