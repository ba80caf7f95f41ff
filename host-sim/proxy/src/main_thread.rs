//! The main thread: plugins' main-thread VMs, names, the admin endpoint.

use crate::admin::{self, Admin};
use crate::driver::Driver;
use crate::lifecycle::{self, Phase};
use crate::upstream::{ClusterTransports, Upstreams};
use crate::worker_thread::spawn_timers;
use crate::{ProxyError, dns, listen};
use host_sim_engine::Engine;
use socket2::Socket;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::task::LocalSet;

/// How often files of discovered configurations are looked at.
const CONFIG_POLL: Duration = Duration::from_millis(100);

/// Applies configurations that were moved to their paths; threads are woken by what is posted.
async fn watch_config_files(engine: Arc<Engine>) {
    loop {
        tokio::time::sleep(CONFIG_POLL).await;
        engine.poll_discovery();
    }
}

/// What the main thread is made of.
pub(crate) struct MainThread {
    pub(crate) engine: Arc<Engine>,
    pub(crate) transports: Arc<ClusterTransports>,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) admin: Option<(Arc<Admin>, Socket)>,
}

impl MainThread {
    /// Runs until the proxy stops, which is after its workers have.
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
            match self.start().await {
                Ok(driver) => {
                    let _ = ready.send(Ok(()));
                    lifecycle::reached(&mut phase, Phase::Stopped).await;
                    driver.shutdown();
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                }
            }
        });
    }

    async fn start(self) -> Result<Rc<Driver>, ProxyError> {
        dns::start(&self.engine).await;
        let worker = self.engine.main_thread()?;
        let driver = Driver::new(worker, None, Upstreams::new(self.transports));
        spawn_timers(&driver);
        if self.engine.has_discovery() {
            tokio::task::spawn_local(watch_config_files(self.engine.clone()));
        }
        if let Some((admin, socket)) = self.admin {
            let address = admin.address();
            let socket = listen::activate(socket)
                .map_err(|error| ProxyError::bind("admin", address, error))?;
            tokio::task::spawn_local(admin::serve(admin, socket));
        }
        Ok(driver)
    }
}
