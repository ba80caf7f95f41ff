//! One request and its response, between hyper's server and the engine.

use super::connection::{Busy, Connection};
use super::response_body::{ResponseBody, drain};
use crate::body_queue::{Aborted, BodyQueue};
use crate::driver::{Driver, Exchange};
use crate::header_map;
use host_sim_engine::{Downstream, ExchangeId, Protocol};
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use std::rc::Rc;
use tokio::task::AbortHandle;

/// Runs one exchange. hyper drops this future, and with it the exchange, when the client goes.
pub(super) async fn serve(
    connection: Rc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Aborted> {
    let busy = connection.busy();
    let (parts, body) = request.into_parts();
    if connection.is_first() {
        connection.listener.stats.protocol(parts.version == Version::HTTP_2);
    }
    let is_head = parts.method == Method::HEAD;
    let info = downstream(&connection, parts.version);
    // Envoy's HTTP/1 codec reports the end of a body apart from its last bytes, HTTP/2 with them.
    let end_apart = parts.version != Version::HTTP_2;
    let end_stream = body.is_end_stream();
    let headers = header_map::request_headers(parts, connection.tls.is_some());

    let driver = &connection.driver;
    let exchange = driver.start_exchange(connection.listener.index, info, headers, end_stream);
    let Exchange { id, head, body: queue } = exchange;
    let mut guard =
        Guard { driver: driver.clone(), id, queue: queue.clone(), upload: None, _busy: busy };
    if !end_stream {
        let upload = upload(driver.clone(), id, queue, body, end_apart);
        guard.upload = Some(tokio::task::spawn_local(upload).abort_handle());
    }

    // Without a head the engine reset the exchange.
    let head = head.await.map_err(|_| Aborted)?;
    let response = header_map::downstream_response(head.headers, ()).map_err(|_| Aborted)?;
    let (parts, ()) = response.into_parts();
    let has_no_body = is_head
        || parts.status == StatusCode::NO_CONTENT
        || parts.status == StatusCode::NOT_MODIFIED;
    if has_no_body && !head.end_stream {
        // The codec would drop the body unread, which is how an abort looks.
        tokio::task::spawn_local(drain(guard));
        return Ok(Response::from_parts(parts, ResponseBody::Empty));
    }
    Ok(Response::from_parts(parts, ResponseBody::Queued(guard)))
}

/// An exchange in flight: dropping it tells the engine how it went.
pub(super) struct Guard {
    driver: Rc<Driver>,
    id: ExchangeId,
    pub(super) queue: Rc<BodyQueue>,
    upload: Option<AbortHandle>,
    _busy: Busy,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(upload) = &self.upload {
            upload.abort();
        }
        if self.queue.is_aborted() {
            return;
        }
        let id = self.id;
        if self.queue.is_finished() {
            self.driver.input(|worker| worker.downstream_complete(id));
        } else {
            self.driver.forget_exchange(id);
            self.queue.abandon();
            self.driver.input(|worker| worker.downstream_reset(id));
        }
    }
}

/// Feeds the request's body to the engine, at the pace of who takes it.
async fn upload(
    driver: Rc<Driver>,
    id: ExchangeId,
    response: Rc<BodyQueue>,
    mut body: Incoming,
    end_apart: bool,
) {
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return broken_off(&driver, id, &response) };
        let congested = match frame.into_data() {
            Ok(data) => {
                let end = !end_apart && body.is_end_stream();
                let congested = driver.input(|worker| worker.request_data(id, data, end));
                if end {
                    return;
                }
                congested
            }
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    let trailers = header_map::trailers(&trailers);
                    driver.input(|worker| worker.request_trailers(id, trailers));
                }
                return;
            }
        };
        if let Some(queue) = congested {
            queue.drained().await;
        }
    }
    driver.input(|worker| worker.request_data(id, bytes::Bytes::new(), true));
}

/// The client went away in the middle of its body. Over HTTP/1, hyper leaves it to the exchange to
/// notice: its response may already be on the way, and it may be complete.
fn broken_off(driver: &Rc<Driver>, id: ExchangeId, response: &BodyQueue) {
    response.abort();
    if response.is_aborted() {
        driver.forget_exchange(id);
        driver.input(|worker| worker.downstream_reset(id));
    }
}

pub(super) fn downstream(connection: &Connection, version: Version) -> Downstream {
    Downstream {
        remote: connection.remote,
        local: connection.listener.local,
        tls: connection.tls.clone(),
        protocol: match version {
            Version::HTTP_2 => Protocol::Http2,
            Version::HTTP_10 => Protocol::Http10,
            _ => Protocol::Http11,
        },
        connection_id: connection.id,
    }
}
