//! One worker: its VMs, its sockets, its connections, on one thread.

use crate::ProxyError;
use crate::downstream::{ListenerSettings, accept_loop};
use crate::driver::Driver;
use crate::lifecycle::{self, Connections, Phase};
use crate::upstream::{ClusterTransports, Upstreams};
use crate::{listen, timer};
use host_sim_engine::{Engine, LogLevel};
use socket2::Socket;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::task::{LocalSet, yield_now};
use tokio::time::timeout;

/// What a worker is made of.
pub(crate) struct WorkerThread {
    pub(crate) engine: Arc<Engine>,
    pub(crate) index: u32,
    pub(crate) listeners: Vec<WorkerSocket>,
    pub(crate) transports: Arc<ClusterTransports>,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) drain_timeout: Duration,
}

/// A worker's own socket of a listener.
pub(crate) struct WorkerSocket {
    pub(crate) settings: ListenerSettings,
    pub(crate) socket: Socket,
    pub(crate) address: SocketAddr,
}

impl WorkerThread {
    /// Serves until the proxy stops. Says once whether it got as far as listening.
    pub(crate) fn run(self, ready: &mpsc::Sender<Result<(), ProxyError>>) {
        let runtime = match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                let _ = ready.send(Err(ProxyError::Thread(error)));
                return;
            }
        };
        let tasks = LocalSet::new();
        tasks.block_on(&runtime, async move {
            let mut phase = self.phase.clone();
            let drain_timeout = self.drain_timeout;
            let started = self.start();
            // The one who waits for it stops all workers when it goes away.
            let (driver, connections) = match started {
                Ok(started) => {
                    let _ = ready.send(Ok(()));
                    started
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                    return;
                }
            };
            serve(&driver, &connections, &mut phase, drain_timeout).await;
            driver.shutdown();
        });
    }

    fn start(self) -> Result<(Rc<Driver>, Rc<Connections>), ProxyError> {
        let worker = self.engine.worker(self.index)?;
        let driver = Driver::new(worker, Some(self.index), Upstreams::new(self.transports));
        let connections = Rc::new(Connections::default());
        spawn_timers(&driver);
        for WorkerSocket { settings, socket, address } in self.listeners {
            let socket = listen::activate(socket)
                .map_err(|error| ProxyError::bind(settings.name(), address, error))?;
            let listener = Rc::new(settings.on_worker(self.index, address));
            tokio::task::spawn_local(accept_loop(
                driver.clone(),
                listener,
                socket,
                connections.clone(),
                self.phase.clone(),
            ));
        }
        Ok((driver, connections))
    }
}

/// Runs the worker's deadlines and closes its idle upstream connections.
pub(crate) fn spawn_timers(driver: &Rc<Driver>) {
    tokio::task::spawn_local(timer::run(driver.clone()));
    let driver = driver.clone();
    tokio::task::spawn_local(async move { driver.upstreams().sweep().await });
}

async fn serve(
    driver: &Driver,
    connections: &Connections,
    phase: &mut watch::Receiver<Phase>,
    drain_timeout: Duration,
) {
    lifecycle::reached(phase, Phase::Draining).await;
    // The accept loops take what still waits in their queues before connections are counted.
    yield_now().await;
    connections.drain();
    let drained = async {
        tokio::select! {
            () = connections.all_closed() => true,
            () = lifecycle::reached(phase, Phase::Stopped) => false,
        }
    };
    match timeout(drain_timeout, drained).await {
        Ok(true) => {}
        Ok(false) => driver.log(LogLevel::Info, "stopped before all requests were answered"),
        Err(_) => {
            let message = format!("drain timeout of {drain_timeout:?} reached: cutting the rest");
            driver.log(LogLevel::Warn, &message);
        }
    }
}
