//! The admin endpoint: what Envoy's answers, as far as there is something to tell.

mod clusters;
mod pages;
mod reply;
mod server_info;
mod stats;

use crate::downstream::LocalExecutor;
use crate::lifecycle::{Phase, advance};
use host_sim_engine::Engine;
use host_sim_engine::prometheus::TagExtractor;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use reply::{Query, reply};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::sleep;

/// What the admin endpoint tells about.
pub(crate) struct Admin {
    engine: Arc<Engine>,
    address: SocketAddr,
    listeners: Vec<(String, SocketAddr)>,
    phase: watch::Sender<Phase>,
    tags: TagExtractor,
    started: Instant,
    live: AtomicBool,
    /// `POST /healthcheck/fail`: take us out of rotation.
    failing: AtomicBool,
}

impl Admin {
    pub(crate) fn new(
        engine: Arc<Engine>,
        address: SocketAddr,
        listeners: Vec<(String, SocketAddr)>,
        phase: watch::Sender<Phase>,
    ) -> Self {
        let bootstrap = engine.bootstrap();
        let tags = TagExtractor::new(&bootstrap.stats_tags, bootstrap.use_all_default_tags);
        Self {
            engine,
            address,
            listeners,
            phase,
            tags,
            started: Instant::now(),
            live: AtomicBool::new(false),
            failing: AtomicBool::new(false),
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// All workers serve.
    pub(crate) fn set_live(&self) {
        self.live.store(true, Ordering::Release);
    }

    /// Envoy's server state.
    fn state(&self) -> &'static str {
        if *self.phase.borrow() >= Phase::Closed || self.failing.load(Ordering::Acquire) {
            "DRAINING"
        } else if self.live.load(Ordering::Acquire) {
            "LIVE"
        } else {
            "INITIALIZING"
        }
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<bytes::Bytes>> {
        let path = request.uri().path();
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let Some(page) = pages::find(path) else {
            let text = format!("invalid path. admin commands are:\n{}", pages::help());
            return reply(StatusCode::NOT_FOUND, text);
        };
        if page.changes && request.method() != Method::POST {
            let text = format!("Method Not Allowed: use POST {path}\n");
            return reply(StatusCode::METHOD_NOT_ALLOWED, text);
        }
        (page.answer)(self, &query)
    }

    fn advance(&self, to: Phase) {
        advance(&self.phase, to);
    }
}

/// Serves until its task is dropped.
pub(crate) async fn serve(admin: Arc<Admin>, socket: TcpListener) {
    loop {
        let Ok((stream, _)) = socket.accept().await else {
            // Out of file descriptors: trying at once would spin.
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let admin = admin.clone();
        tokio::task::spawn_local(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let response = admin.answer(&request);
                async move { Ok::<_, Infallible>(response) }
            });
            let codec = auto::Builder::new(LocalExecutor);
            // A client that goes away is its own affair.
            let _ = codec.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
