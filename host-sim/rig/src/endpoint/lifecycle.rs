//! Starting, killing and reviving an endpoint on one port.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep};

use super::Shared;
use super::connection::serve;
use super::switches::Cold;
use crate::ports::ReservedPort;
use crate::sync::lock;

/// Pause after a failed `accept`, which as a rule means that file descriptors ran out.
const ACCEPT_RETRY_PAUSE: Duration = Duration::from_millis(10);

/// How often and how long apart the port of a closed listener is asked for again.
const RESERVE_ATTEMPTS: u32 = 1000;
const RESERVE_PAUSE: Duration = Duration::from_millis(1);

/// Whether the simulated process runs.
#[derive(Debug)]
pub(super) enum Life {
    Running {
        stop: oneshot::Sender<()>,
        accepting: JoinHandle<()>,
    },
    /// The port stays reserved, so that a revival finds it.
    Dead(ReservedPort),
    /// The handle is gone, or a revival failed.
    Gone,
}

impl Shared {
    /// Listens and serves until stopped.
    pub(super) fn run(self: &Arc<Self>, listener: TcpListener) -> Life {
        let (stop, stopped) = oneshot::channel();
        Life::Running { stop, accepting: tokio::spawn(accept(listener, Arc::clone(self), stopped)) }
    }

    /// Closes the listener and every connection. When this returns, connects are refused.
    pub(super) async fn kill(&self) -> io::Result<()> {
        let mut life = self.life.lock().await;
        if let Life::Running { stop, accepting } = std::mem::replace(&mut *life, Life::Gone) {
            drop(stop);
            if accepting.await.is_err() {
                log::warn!("{}: the accept loop panicked", self.name);
            }
            *life = Life::Dead(reserve_again(self.address).await?);
        }
        Ok(())
    }

    /// Listens on the same port again; nothing to do when it does already.
    pub(super) async fn revive(self: &Arc<Self>, cold: Option<Cold>) -> io::Result<()> {
        let mut life = self.life.lock().await;
        if matches!(*life, Life::Running { .. }) {
            return Ok(());
        }
        lock(&self.switches).cold = cold.map(|cold| (cold.factor, Instant::now() + cold.duration));
        let reserved = match std::mem::replace(&mut *life, Life::Gone) {
            Life::Dead(reserved) => reserved,
            _ => ReservedPort::at(self.address)?,
        };
        *life = self.run(reserved.listen()?);
        Ok(())
    }
}

/// Reserves the port of a listener just closed.
///
/// Closed here need not be closed for good: a child process that another thread is starting holds
/// a copy of every socket between its fork and its exec, and as long as it does, connects succeed.
/// Binding fails for just as long, so a reservation also proves that nobody listens.
async fn reserve_again(address: SocketAddr) -> io::Result<ReservedPort> {
    for _ in 1..RESERVE_ATTEMPTS {
        match ReservedPort::at(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => sleep(RESERVE_PAUSE).await,
            outcome => return outcome,
        }
    }
    ReservedPort::at(address)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, mut stopped: oneshot::Receiver<()>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            // Resolves when the sender drops, too.
            _ = &mut stopped => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(stream, Arc::clone(&shared)));
                }
                Err(error) => {
                    log::warn!("{}: accept: {error}", shared.name);
                    sleep(ACCEPT_RETRY_PAUSE).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
    drop(listener);
    connections.shutdown().await;
}
