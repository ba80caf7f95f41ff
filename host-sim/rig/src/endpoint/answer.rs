//! What an endpoint answers to one request.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::body::AnswerBody;
use super::connection::Abort;
use super::exposition::{healthz, metrics};
use super::ledger::ReceivedRequest;
use super::switches::{Fault, Switches};
use super::{Shared, admin};
use crate::sync::lock;

/// How much of a request body `/echo` returns. The rest is read and counted.
const ECHOED_BODY_BYTES: usize = 64 * 1024;

/// Answers one request; never an error, since faults act on the connection.
pub(crate) async fn answer(
    shared: &Arc<Shared>,
    request: Request<Incoming>,
    abort: &Arc<Abort>,
) -> Result<Response<AnswerBody>, Infallible> {
    let (head, body) = request.into_parts();
    Ok(match head.uri.path() {
        "/healthz" => healthz(shared, &head, abort).await,
        "/metrics" => metrics(shared),
        path if path == "/rig" || path.starts_with("/rig/") => admin::answer(shared, &head),
        _ => work(shared, head, body, abort).await,
    })
}

/// Queues for a slot and works, or does what the switches say instead.
async fn work(
    shared: &Arc<Shared>,
    head: Parts,
    body: Incoming,
    abort: &Arc<Abort>,
) -> Response<AnswerBody> {
    let in_flight = InFlight::begin(shared, &head);
    let (kept, body_bytes) = drain(body).await;
    let switches = lock(&shared.switches).clone();
    let fault = shared.struck_by(&switches.work);
    if let Some(status) = act_out(&fault, shared, abort).await {
        return in_flight.finish(response(shared, &switches, status, None));
    }
    if fault == Fault::ResetAfterHeaders {
        in_flight.fail();
        let mut broken = response(shared, &switches, StatusCode::OK, Some("{".into()));
        *broken.body_mut() = AnswerBody::broken("{", Arc::clone(abort));
        return broken;
    }
    shared.slots.work(|| shared.service_time(&head.headers)).await;
    if let Some(code) = switches.grpc_status.filter(|_| is_grpc(&head.headers)) {
        return in_flight.finish(grpc_trailers_only(shared, &switches, code));
    }
    let body = match head.uri.path() {
        "/echo" => Some(echo(shared, &head, &kept, body_bytes)),
        _ => None,
    };
    in_flight.finish(response(shared, &switches, StatusCode::OK, body))
}

/// Acts out a fault that ends a request without work; the status if that is an answer.
pub(crate) async fn act_out(fault: &Fault, shared: &Shared, abort: &Abort) -> Option<StatusCode> {
    match *fault {
        Fault::Respond { status, after, .. } => {
            shared.timer.wait_until(Instant::now() + after).await;
            Some(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
        }
        Fault::None | Fault::ResetAfterHeaders => None,
        Fault::Hang => pending().await,
        Fault::ResetBeforeHeaders => {
            abort.reset();
            pending().await
        }
    }
}

/// Reads a request body to its end; returns its beginning and its size. A body that breaks off
/// counts as far as it came: the connection then ends by itself.
async fn drain(mut body: Incoming) -> (Bytes, usize) {
    let (mut kept, mut size) = (BytesMut::new(), 0);
    while let Some(Ok(frame)) = body.frame().await {
        if let Some(data) = frame.data_ref() {
            size += data.len();
            let room = ECHOED_BODY_BYTES.saturating_sub(kept.len()).min(data.len());
            kept.extend_from_slice(&data[..room]);
        }
    }
    (kept.freeze(), size)
}

/// An answer with the endpoint's headers; without `body`, the endpoint's usual one.
fn response(
    shared: &Shared,
    switches: &Switches,
    status: StatusCode,
    body: Option<String>,
) -> Response<AnswerBody> {
    let body = body.unwrap_or_else(|| {
        let served = lock(&shared.ledger).counters.served + u64::from(status.as_u16() < 500);
        format!("{{\"endpoint\":{},\"served\":{served}}}", shared.quoted_name)
    });
    let mut response = Response::new(AnswerBody::whole(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    decorate(headers, shared, switches);
    response
}

fn grpc_trailers_only(shared: &Shared, switches: &Switches, code: u32) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::Whole(None));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(HeaderName::from_static("grpc-status"), HeaderValue::from(code));
    decorate(headers, shared, switches);
    response
}

/// Adds name, load report and the headers set at run time, which replace the others.
fn decorate(headers: &mut HeaderMap, shared: &Shared, switches: &Switches) {
    headers.insert(HeaderName::from_static("x-endpoint"), shared.name_header.clone());
    if let Some((name, value)) = shared.load_report_header(switches) {
        insert(headers, name, &value);
    }
    for (name, value) in &switches.response_headers {
        insert(headers, name, value);
    }
}

fn insert(headers: &mut HeaderMap, name: &str, value: &str) {
    match (HeaderName::try_from(name), HeaderValue::from_str(value)) {
        (Ok(name), Ok(value)) => {
            headers.insert(name, value);
        }
        _ => log::warn!("{name}: {value:?} is not a header that HTTP can carry; not sent"),
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"application/grpc"))
}

fn echo(shared: &Shared, head: &Parts, body: &[u8], body_bytes: usize) -> String {
    let received = ReceivedRequest::new(Duration::ZERO, head);
    serde_json::json!({
        "endpoint": shared.name,
        "method": received.method,
        "path": received.path,
        "version": received.version,
        "headers": received.headers,
        "body": String::from_utf8_lossy(body),
        "body_bytes": body_bytes,
    })
    .to_string()
}

/// A request between arrival and answer. Dropped without an answer, its client went away.
struct InFlight<'a> {
    shared: &'a Shared,
    arrived: Instant,
    ended: bool,
}

impl<'a> InFlight<'a> {
    fn begin(shared: &'a Shared, head: &Parts) -> Self {
        lock(&shared.ledger).begin(shared.started.elapsed(), head);
        Self { shared, arrived: Instant::now(), ended: false }
    }

    fn finish(self, response: Response<AnswerBody>) -> Response<AnswerBody> {
        self.end(Some(response.status().as_u16()));
        response
    }

    fn fail(self) {
        self.end(None);
    }

    fn end(mut self, status: Option<u16>) {
        self.ended = true;
        let (now, took) = (self.shared.started.elapsed(), self.arrived.elapsed());
        lock(&self.shared.ledger).finish(now, took, status);
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if !self.ended {
            lock(&self.shared.ledger).abandon();
        }
    }
}
