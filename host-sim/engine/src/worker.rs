//! One thread's state machine: inputs with the clock's time in, outputs queued for the driver.

use crate::{
    AttemptId, Downstream, Engine, ExchangeId, Headers, Output, StartError, UnixNanos,
    UpstreamFailure,
};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;

/// One worker (or the main thread): its VMs, exchanges, attempts and timers.
///
/// Drive it like this: feed an input, then take [`Worker::poll_output`] until it is `None`, then
/// sleep until [`Worker::next_deadline`] and call [`Worker::on_deadline`]. Inputs for ids that are
/// over are ignored, so a driver need not care about races between cancelling and receiving.
pub struct Worker {
    engine: Arc<Engine>,
    outputs: VecDeque<Output>,
    next_id: u64,
    /// Keeps the worker on its thread: the real one holds `Rc`s.
    _not_send: std::marker::PhantomData<std::rc::Rc<()>>,
}

impl Worker {
    pub(crate) fn start(engine: &Arc<Engine>, _index: Option<u32>) -> Result<Self, StartError> {
        Ok(Self {
            engine: engine.clone(),
            outputs: VecDeque::new(),
            next_id: 0,
            _not_send: std::marker::PhantomData,
        })
    }

    /// The engine this worker belongs to.
    #[must_use]
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// A new request begins on a connection of listener number `listener`.
    pub fn start_exchange(&mut self, listener: usize, info: Downstream) -> ExchangeId {
        let _ = (listener, info);
        self.next_id += 1;
        ExchangeId(self.next_id)
    }

    /// The request's headers, pseudo headers included.
    pub fn request_headers(&mut self, id: ExchangeId, headers: Headers, end_stream: bool) {
        let _ = (id, headers, end_stream);
    }

    /// More of the request's body.
    pub fn request_data(&mut self, id: ExchangeId, data: Bytes, end_stream: bool) {
        let _ = (id, data, end_stream);
    }

    /// The request's trailers; it ends here.
    pub fn request_trailers(&mut self, id: ExchangeId, trailers: Headers) {
        let _ = (id, trailers);
    }

    /// The client went away.
    pub fn downstream_reset(&mut self, id: ExchangeId) {
        let _ = id;
    }

    /// The last byte of the response went to the codec: logs run now.
    pub fn downstream_complete(&mut self, id: ExchangeId) {
        let _ = id;
    }

    /// The upstream's response headers.
    pub fn upstream_headers(&mut self, id: AttemptId, headers: Headers, end_stream: bool) {
        let _ = (id, headers, end_stream);
    }

    /// More of the upstream's body.
    pub fn upstream_data(&mut self, id: AttemptId, data: Bytes, end_stream: bool) {
        let _ = (id, data, end_stream);
    }

    /// The upstream's trailers; the response ends here.
    pub fn upstream_trailers(&mut self, id: AttemptId, trailers: Headers) {
        let _ = (id, trailers);
    }

    /// The attempt ended without a complete response.
    pub fn upstream_failed(&mut self, id: AttemptId, failure: UpstreamFailure) {
        let _ = (id, failure);
    }

    /// When [`Worker::on_deadline`] is due next: a tick, a timeout, a retry.
    pub fn next_deadline(&mut self) -> Option<UnixNanos> {
        None
    }

    /// Runs everything that is due by the engine's clock.
    pub fn on_deadline(&mut self) {}

    /// The next instruction, if any.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Tears down root contexts: done, delete. The worker takes no more input.
    pub fn shutdown(&mut self) {}

    /// Instructions executed by all VMs of this worker; 0 unless `EngineOptions::fuel`.
    #[must_use]
    pub fn fuel_consumed(&self) -> u64 {
        0
    }
}
