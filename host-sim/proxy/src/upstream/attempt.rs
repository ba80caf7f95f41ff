//! One try at one endpoint.

use super::failure::{Stage, broken, failure};
use super::pool::{Lease, Pool};
use crate::body_queue::{BodyQueue, RequestBody};
use crate::driver::Driver;
use crate::header_map;
use bytes::Bytes;
use host_sim_engine::{
    AttemptId, Cluster, Headers, UpstreamFailure, UpstreamFailureKind, UpstreamLink,
};
use http::{Response, Version};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::AbortHandle;

/// What the engine asks for.
pub(crate) struct Attempt {
    pub(crate) id: AttemptId,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) endpoint: SocketAddr,
    pub(crate) headers: Headers,
    pub(crate) connect_timeout: Duration,
}

/// An attempt in flight, as the driver feeds it.
pub(crate) struct AttemptSlot {
    body: Option<Rc<BodyQueue>>,
    task: AbortHandle,
}

impl AttemptSlot {
    /// Where the request's body goes; `None` when it has none.
    pub(crate) fn body(&self) -> Option<&Rc<BodyQueue>> {
        self.body.as_ref()
    }

    /// Resets the stream.
    pub(crate) fn cancel(self) {
        self.task.abort();
        self.finish();
    }

    /// The response is over: a request body that is not will never be.
    pub(crate) fn finish(self) {
        if let Some(body) = self.body {
            body.abort();
        }
    }
}

impl Attempt {
    /// Starts the attempt on a task of its own.
    pub(crate) fn spawn(self, driver: &Rc<Driver>, end_stream: bool) -> AttemptSlot {
        let body = (!end_stream).then(Rc::<BodyQueue>::default);
        let request_body = body.clone().map_or(RequestBody::Empty, RequestBody::Queued);
        let task = tokio::task::spawn_local(self.run(driver.clone(), request_body));
        AttemptSlot { body, task: task.abort_handle() }
    }

    async fn run(self, driver: Rc<Driver>, body: RequestBody) {
        let id = self.id;
        let Some(pool) = driver.upstreams().pool(&self.cluster, self.endpoint) else {
            return fail(&driver, id, failure(UpstreamFailureKind::ConnectFailure, "no cluster"));
        };
        match self.exchange(&driver, &pool, body).await {
            Ok(lease) => pool.give_back(lease).await,
            Err(failure) => fail(&driver, id, failure),
        }
    }

    async fn exchange(
        self,
        driver: &Rc<Driver>,
        pool: &Pool,
        body: RequestBody,
    ) -> Result<Lease, UpstreamFailure> {
        let tls = pool.dialer.tls.is_some();
        let request = header_map::upstream_request(self.headers, pool.version(), tls, body)
            .map_err(|error| {
                let detail = format!("the request cannot be written: {error}");
                failure(UpstreamFailureKind::ProtocolError, detail)
            })?;
        let connected = |link: &UpstreamLink| {
            driver.input(|worker| worker.attempt_connected(self.id, link));
        };
        let (response, lease) = pool.send(request, self.connect_timeout, connected).await?;
        receive(driver, self.id, response).await?;
        Ok(lease)
    }
}

/// Feeds the response to the engine, at the pace of who takes it.
async fn receive(
    driver: &Rc<Driver>,
    id: AttemptId,
    response: Response<Incoming>,
) -> Result<(), UpstreamFailure> {
    let (parts, mut body) = response.into_parts();
    // Envoy's HTTP/1 codec reports the end of a body apart from its last bytes, HTTP/2 with them.
    let end_apart = parts.version != Version::HTTP_2;
    let end_stream = body.is_end_stream();
    let headers = header_map::response_headers(parts);
    if end_stream {
        driver.forget_attempt(id);
    }
    driver.input(|worker| worker.upstream_headers(id, headers, end_stream));
    if end_stream {
        return Ok(());
    }
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| broken(&error, Stage::MidStream))?;
        match frame.into_data() {
            Ok(data) if !end_apart && body.is_end_stream() => return finish(driver, id, data),
            Ok(data) => {
                let congested = driver.input(|worker| worker.upstream_data(id, data, false));
                if let Some(queue) = congested {
                    queue.drained().await;
                }
            }
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    let trailers = header_map::trailers(&trailers);
                    driver.forget_attempt(id);
                    driver.input(|worker| worker.upstream_trailers(id, trailers));
                    return Ok(());
                }
            }
        }
    }
    finish(driver, id, Bytes::new())
}

fn finish(driver: &Rc<Driver>, id: AttemptId, data: Bytes) -> Result<(), UpstreamFailure> {
    driver.forget_attempt(id);
    driver.input(|worker| worker.upstream_data(id, data, true));
    Ok(())
}

fn fail(driver: &Rc<Driver>, id: AttemptId, failure: UpstreamFailure) {
    driver.forget_attempt(id);
    driver.input(|worker| worker.upstream_failed(id, failure));
}
