//! The proxy as a whole: starting its threads, and stopping them.

use crate::admin::Admin;
use crate::downstream::ListenerSettings;
use crate::lifecycle::{Phase, advance};
use crate::listen::{self, BoundListener};
use crate::main_thread::MainThread;
use crate::upstream::{ClusterTransports, Upstreams};
use crate::worker_thread::{WorkerSocket, WorkerThread};
use crate::{ProxyError, ProxyOptions};
use host_sim_bootstrap::{Address, Bootstrap};
use host_sim_engine::{Engine, EngineOptions};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use tokio::sync::watch;

/// Starts proxies.
pub struct Proxy;

/// A proxy that serves. Dropping it stops it at once; [`RunningProxy::drain_and_stop`] lets
/// requests in flight end.
pub struct RunningProxy {
    engine: Arc<Engine>,
    listeners: Vec<(String, SocketAddr)>,
    admin: Option<SocketAddr>,
    phase: watch::Sender<Phase>,
    main: Option<JoinHandle<()>>,
    workers: Vec<JoinHandle<()>>,
}

impl Proxy {
    /// Does all of [`Proxy::start`] that needs no socket: modules, canary VMs, certificates.
    ///
    /// # Errors
    /// When starting would be refused.
    pub fn check(bootstrap: Bootstrap, options: &ProxyOptions) -> Result<(), ProxyError> {
        let engine = Engine::start(bootstrap, options.engine.clone())?;
        let base = options.engine.base_dir.as_deref();
        Upstreams::transports(&engine, base)?;
        for (index, listener) in engine.bootstrap().listeners.iter().enumerate() {
            let address = socket_address(&listener.name, &listener.address)?;
            ListenerSettings::new(index, listener, address, &engine, base)?;
        }
        Ok(())
    }

    /// Loads the modules, binds the listeners and returns when every worker serves.
    ///
    /// # Errors
    /// When the engine rejects the configuration, a certificate cannot be used, or a port is taken.
    /// Nothing is left running then.
    pub fn start(bootstrap: Bootstrap, options: ProxyOptions) -> Result<RunningProxy, ProxyError> {
        let workers = options.concurrency.get();
        let engine_options = EngineOptions { concurrency: workers, ..options.engine.clone() };
        let engine = Engine::prepare(bootstrap, engine_options)?;
        let base = options.engine.base_dir.as_deref();
        let transports = Arc::new(Upstreams::transports(&engine, base)?);
        let (phase, _) = watch::channel(Phase::Serving);
        let (bound, settings) = bind_listeners(&engine, workers, base)?;
        let listeners: Vec<_> = engine
            .bootstrap()
            .listeners
            .iter()
            .zip(&bound)
            .map(|(listener, bound)| (listener.name.clone(), bound.address))
            .collect();

        let mut proxy = RunningProxy {
            engine: engine.clone(),
            listeners,
            admin: None,
            phase,
            main: None,
            workers: Vec::new(),
        };
        let admin = proxy.start_main_thread(&transports)?;
        proxy.start_workers(bound, &settings, &transports, &options)?;
        if let Some(admin) = admin {
            admin.set_live();
        }
        Ok(proxy)
    }
}

impl RunningProxy {
    /// Names and addresses of the listeners, in file order.
    #[must_use]
    pub fn listeners(&self) -> &[(String, SocketAddr)] {
        &self.listeners
    }

    /// The address of the listener of that name.
    #[must_use]
    pub fn listener(&self, name: &str) -> Option<SocketAddr> {
        self.listeners.iter().find(|(found, _)| found == name).map(|(_, address)| *address)
    }

    /// Where the admin endpoint is, if the file has one.
    #[must_use]
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// The engine: stats and shared data.
    #[must_use]
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Waits until somebody asks the proxy to stop: `POST /quitquitquit`.
    pub fn stop_requested(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut phase = self.phase.subscribe();
        async move { crate::lifecycle::reached(&mut phase, Phase::Draining).await }
    }

    /// Closes the listeners, ends connections as their requests are answered, cuts the rest at the
    /// drain timeout, and tears the plugins down. Blocks until all threads have ended.
    pub fn drain_and_stop(mut self) {
        advance(&self.phase, Phase::Draining);
        self.join();
    }

    /// Ends everything now. Blocks until all threads have ended.
    pub fn stop(self) {
        drop(self);
    }

    /// Workers first: the admin endpoint answers while they drain.
    fn join(&mut self) {
        for worker in self.workers.drain(..) {
            // A worker that panicked has said so; the others still have to end.
            let _ = worker.join();
        }
        advance(&self.phase, Phase::Stopped);
        if let Some(main) = self.main.take() {
            let _ = main.join();
        }
    }

    fn start_main_thread(
        &mut self,
        transports: &Arc<ClusterTransports>,
    ) -> Result<Option<Arc<Admin>>, ProxyError> {
        let mut admin = None;
        let mut socket = None;
        if let Some(wanted) = &self.engine.bootstrap().admin {
            let mut bound = listen::bind("admin", socket_address("admin", wanted)?, 1)?;
            self.admin = Some(bound.address);
            let listeners = self.listeners.clone();
            let served = Arc::new(Admin::new(
                self.engine.clone(),
                bound.address,
                listeners,
                self.phase.clone(),
            ));
            socket = bound.sockets.pop().map(|socket| (served.clone(), socket));
            admin = Some(served);
        }
        let main = MainThread {
            engine: self.engine.clone(),
            transports: transports.clone(),
            phase: self.phase.subscribe(),
            admin: socket,
        };
        let (ready, started) = mpsc::channel();
        self.main = Some(spawn("main".to_owned(), move || main.run(&ready))?);
        first_answers(&started, 1)?;
        Ok(admin)
    }

    fn start_workers(
        &mut self,
        mut bound: Vec<BoundListener>,
        settings: &[ListenerSettings],
        transports: &Arc<ClusterTransports>,
        options: &ProxyOptions,
    ) -> Result<(), ProxyError> {
        let (ready, started) = mpsc::channel();
        for index in 0..options.concurrency.get() {
            let mut listeners = Vec::with_capacity(bound.len());
            for (bound, settings) in bound.iter_mut().zip(settings) {
                if let Some(socket) = bound.sockets.pop() {
                    let (settings, address) = (settings.clone(), bound.address);
                    listeners.push(WorkerSocket { settings, socket, address });
                }
            }
            let worker = WorkerThread {
                engine: self.engine.clone(),
                index,
                listeners,
                transports: transports.clone(),
                phase: self.phase.subscribe(),
                drain_timeout: options.drain_timeout,
            };
            let ready = ready.clone();
            self.workers.push(spawn(format!("worker-{index}"), move || worker.run(&ready))?);
        }
        drop(ready);
        first_answers(&started, self.workers.len())
    }
}

impl Drop for RunningProxy {
    fn drop(&mut self) {
        advance(&self.phase, Phase::Stopped);
        self.join();
    }
}

fn bind_listeners(
    engine: &Engine,
    workers: u32,
    base: Option<&Path>,
) -> Result<(Vec<BoundListener>, Vec<ListenerSettings>), ProxyError> {
    let (mut sockets, mut settings) = (Vec::new(), Vec::new());
    for (index, listener) in engine.bootstrap().listeners.iter().enumerate() {
        let address = socket_address(&listener.name, &listener.address)?;
        let bound = listen::bind(&listener.name, address, workers)?;
        settings.push(ListenerSettings::new(index, listener, bound.address, engine, base)?);
        sockets.push(bound);
    }
    Ok((sockets, settings))
}

fn socket_address(listener: &str, address: &Address) -> Result<SocketAddr, ProxyError> {
    address.to_socket_addr().ok_or_else(|| ProxyError::Unsupported {
        place: format!("listener {listener:?}"),
        reason: format!("{address} is a name; a listener needs an IP address"),
    })
}

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, ProxyError> {
    thread::Builder::new().name(name).spawn(run).map_err(ProxyError::Thread)
}

/// Waits for each thread's word that it serves.
fn first_answers(
    started: &mpsc::Receiver<Result<(), ProxyError>>,
    threads: usize,
) -> Result<(), ProxyError> {
    for _ in 0..threads {
        started.recv().unwrap_or_else(|_| {
            Err(ProxyError::Thread(std::io::Error::other("a thread ended while it started")))
        })?;
    }
    Ok(())
}
