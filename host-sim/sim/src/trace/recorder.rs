//! What writes the lines: an observer of the engine, told by the driver what it does itself.

use super::Trace;
use super::line::{Fingerprint, Line};
use crate::VirtualClock;
use host_sim_abi::{Hostcall, Status};
use host_sim_engine::{
    AttemptId, CallbackEnd, ConnectionId, Headers, HostcallView, Observer, Origin, Output,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// See the module.
pub(crate) struct Recorder {
    trace: Trace,
    clock: Arc<VirtualClock>,
    /// Bytes given to the guest by the hostcall under way: one guest runs at a time.
    given: AtomicU64,
}

impl Recorder {
    pub(crate) fn new(trace: Trace, clock: Arc<VirtualClock>) -> Self {
        Self { trace, clock, given: AtomicU64::new(0) }
    }

    /// A client sends a request.
    pub(crate) fn sent(&self, worker: Option<u32>, request: usize, head: &Headers, body: usize) {
        self.line(worker, "send", |line| {
            line.number("request", request as u64);
            line.hex("digest", digest_of(head));
            line.number("chunks", body as u64);
        });
    }

    /// A client goes away.
    pub(crate) fn aborted(&self, worker: Option<u32>, request: usize) {
        self.line(worker, "abort", |line| line.number("request", request as u64));
    }

    /// An endpoint answers, or fails.
    pub(crate) fn answered(&self, worker: Option<u32>, attempt: AttemptId) {
        self.line(worker, "answer", |line| line.number("attempt", attempt.0));
    }

    /// A worker asks its driver for something.
    pub(crate) fn output(&self, worker: Option<u32>, output: &Output) {
        self.line(worker, "output", |line| describe(line, output));
    }

    fn line(&self, worker: Option<u32>, event: &str, fill: impl FnOnce(&mut Line)) {
        let time = u64::try_from(self.clock.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.trace.write(|line| {
            line.begin("t", time);
            match worker {
                Some(index) => line.number("worker", index.into()),
                None => line.name("worker", "main"),
            }
            line.name("event", event);
            fill(line);
        });
    }

    fn guest(&self, origin: Origin<'_>, event: &str, fill: impl FnOnce(&mut Line)) {
        self.line(origin.worker, event, |line| {
            line.text("plugin", origin.plugin.as_bytes());
            line.number("context", origin.context.into());
            fill(line);
        });
    }
}

impl Observer for Recorder {
    fn enter(&self, origin: Origin<'_>, name: &'static str) {
        self.guest(origin, "enter", |line| line.name("callback", name));
    }

    fn hostcall(&self, origin: Origin<'_>, call: &HostcallView<'_>, status: Option<Status>) {
        let given = self.given.swap(0, Ordering::Relaxed);
        let inputs = Hostcall::inputs(call.name);
        let mut fingerprint = Fingerprint::new();
        call.args.iter().for_each(|arg| fingerprint.word(*arg));
        for at in inputs {
            fingerprint.bytes(call.bytes(*at).unwrap_or_default());
        }
        self.guest(origin, "hostcall", |line| {
            line.name("name", call.name);
            line.hex("digest", fingerprint.value());
            if let Some(first) = inputs.first().and_then(|at| call.bytes(*at)) {
                line.quoted("of", first);
            }
            match status {
                Some(status) => line.number("status", status.raw().unsigned_abs().into()),
                None => line.name("status", "trap"),
            }
            if given > 0 {
                line.number("given", given);
            }
        });
    }

    fn given(&self, _: Origin<'_>, bytes: usize) {
        self.given.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn callback(&self, origin: Origin<'_>, name: &'static str, end: CallbackEnd) {
        self.guest(origin, "exit", |line| {
            line.name("callback", name);
            line.number("fuel", end.fuel);
            if let Some(returned) = end.returned {
                line.number("returned", returned.into());
            }
            if end.trapped {
                line.name("end", "trap");
            }
        });
    }

    fn draw(&self, worker: Option<u32>, value: u64) {
        self.line(worker, "draw", |line| line.hex("value", value));
    }
}

fn digest_of(headers: &Headers) -> u64 {
    let mut fingerprint = Fingerprint::new();
    for (name, value) in headers.iter() {
        fingerprint.bytes(name);
        fingerprint.bytes(value);
    }
    fingerprint.value()
}

fn digest_of_bytes(bytes: &[u8]) -> u64 {
    let mut fingerprint = Fingerprint::new();
    fingerprint.bytes(bytes);
    fingerprint.value()
}

fn describe(line: &mut Line, output: &Output) {
    match output {
        Output::StartAttempt { attempt, cluster, endpoint, headers, end_stream, .. } => {
            line.name("what", "attempt");
            line.number("attempt", attempt.0);
            line.text("cluster", cluster.name().as_bytes());
            line.name("endpoint", &endpoint.to_string());
            line.hex("digest", digest_of(headers));
            line.number("end", (*end_stream).into());
        }
        Output::AttemptData { attempt, data, end_stream } => {
            line.name("what", "attempt_data");
            line.number("attempt", attempt.0);
            line.hex("digest", digest_of_bytes(data));
            line.number("end", (*end_stream).into());
        }
        Output::AttemptTrailers { attempt, trailers } => {
            line.name("what", "attempt_trailers");
            line.number("attempt", attempt.0);
            line.hex("digest", digest_of(trailers));
        }
        Output::CancelAttempt { attempt } => {
            line.name("what", "cancel");
            line.number("attempt", attempt.0);
        }
        Output::ResponseHeaders { exchange, headers, end_stream } => {
            line.name("what", "response");
            line.number("exchange", exchange.0);
            line.number("status", headers.status().unwrap_or(0).into());
            line.hex("digest", digest_of(headers));
            line.number("end", (*end_stream).into());
        }
        Output::ResponseData { exchange, data, end_stream } => {
            line.name("what", "response_data");
            line.number("exchange", exchange.0);
            line.hex("digest", digest_of_bytes(data));
            line.number("end", (*end_stream).into());
        }
        Output::ResponseTrailers { exchange, trailers } => {
            line.name("what", "response_trailers");
            line.number("exchange", exchange.0);
            line.hex("digest", digest_of(trailers));
        }
        Output::ResetExchange { exchange } => {
            line.name("what", "reset");
            line.number("exchange", exchange.0);
        }
        other => describe_bytes(line, other),
    }
}

/// What concerns a connection with network filters.
fn describe_bytes(line: &mut Line, output: &Output) {
    let mut about = |what: &'static str, connection: &ConnectionId| {
        line.name("what", what);
        line.number("connection", connection.0);
    };
    match output {
        Output::ConnectUpstream { connection, cluster, endpoint, .. } => {
            about("connect", connection);
            line.text("cluster", cluster.name().as_bytes());
            line.name("endpoint", &endpoint.to_string());
        }
        Output::ServeHttp { connection } => about("serve_http", connection),
        Output::UpstreamBytes { connection, data, end_stream } => {
            about("upstream_bytes", connection);
            line.hex("digest", digest_of_bytes(data));
            line.number("end", (*end_stream).into());
        }
        Output::DownstreamBytes { connection, data, end_stream } => {
            about("downstream_bytes", connection);
            line.hex("digest", digest_of_bytes(data));
            line.number("end", (*end_stream).into());
        }
        Output::CloseUpstream { connection, reset } => {
            about("close_upstream", connection);
            line.number("reset", (*reset).into());
        }
        Output::CloseDownstream { connection, reset } => {
            about("close_downstream", connection);
            line.number("reset", (*reset).into());
        }
        // Of exchanges and attempts: described above.
        _ => {}
    }
}
