//! Requests on a listener with network filters before its connection manager.
//!
//! What such filters see is bytes: a request goes as HTTP/1.1 on a connection of its own, is read
//! again behind them, and so is its response on its way back. A body is in chunks unless its length
//! is among the headers; each part that is sent is one read. When the response is complete, the
//! client closes.

use super::wire::{self, Malformed, Piece, Reader, Side};
use super::{Host, Sent};
use crate::request::text_pairs;
use crate::{Reply, Request, RequestId};
use bytes::Bytes;
use host_sim_engine::{Clock, ConnectionId, Downstream, ExchangeId, Headers, Output};
use std::collections::BTreeMap;

/// Connections by worker and id, exchanges with the connections they came on.
#[derive(Default)]
pub(super) struct Behind {
    wires: BTreeMap<(usize, ConnectionId), Wire>,
    exchanges: BTreeMap<(usize, ExchangeId), ConnectionId>,
}

struct Wire {
    id: RequestId,
    info: Downstream,
    /// The request as the codec reads it.
    request: Reader,
    /// The response as the client reads it.
    response: Reader,
    exchange: Option<ExchangeId>,
    /// The codec writes its response in chunks.
    chunked: bool,
}

impl Host {
    /// Whether requests pass network filters.
    pub(super) fn passes_network_filters(&self) -> bool {
        let listener = self.engine.bootstrap().listeners.get(self.http_listener);
        listener.is_some_and(|listener| !listener.network_filters.is_empty())
    }

    /// Opens a connection for a request, and sends its head.
    pub(super) fn open_wire(
        &mut self,
        worker: usize,
        id: RequestId,
        info: Downstream,
        of: &Request,
    ) {
        let scheme = if info.tls.is_some() { "https" } else { "http" };
        let head = of.head();
        let has_body = !of.body.is_empty() || !of.trailers.is_empty();
        let chunked = has_body && !head.contains("content-length");
        let connection = self.workers[worker].open_connection(self.http_listener, info.clone());
        let wire = Wire {
            id,
            info,
            request: Reader::of(Side::Request { scheme }),
            response: Reader::of(Side::Response { to_head: of.method == "HEAD" }),
            exchange: None,
            chunked: false,
        };
        self.behind.wires.insert((worker, connection), wire);
        self.requests[id.0].wire = Some((connection, chunked));
        self.drain(worker);
        self.client_sends(worker, connection, wire::request_head(&head, chunked));
    }

    /// Bytes from a client, as one read.
    pub(super) fn client_sends(&mut self, worker: usize, connection: ConnectionId, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.workers[worker].connection_data(connection, bytes.into(), false);
            self.drain(worker);
        }
    }

    /// A client goes away before its response is complete.
    pub(super) fn client_leaves(&mut self, worker: usize, connection: ConnectionId) {
        self.workers[worker].connection_reset(connection);
        self.drain(worker);
    }

    /// Carries out what concerns such a connection; gives back what does not.
    pub(super) fn carry_out_behind(&mut self, worker: usize, output: Output) -> Option<Output> {
        let known =
            |connection: &ConnectionId| self.behind.wires.contains_key(&(worker, *connection));
        match output {
            Output::ServeHttp { connection } if known(&connection) => {}
            Output::UpstreamBytes { connection, data, .. } if known(&connection) => {
                self.codec_reads(worker, connection, &data);
            }
            Output::DownstreamBytes { connection, data, .. } if known(&connection) => {
                self.client_reads(worker, connection, &data);
            }
            Output::CloseUpstream { connection, .. } if known(&connection) => {
                let wire = self.behind.wires.get_mut(&(worker, connection));
                if let Some(exchange) = wire.and_then(|wire| wire.exchange.take()) {
                    self.behind.exchanges.remove(&(worker, exchange));
                    self.workers[worker].downstream_reset(exchange);
                }
            }
            Output::CloseDownstream { connection, .. } if known(&connection) => {
                self.wire_closed(worker, connection);
            }
            Output::ResponseHeaders { exchange, ref headers, end_stream } => {
                let Some(connection) = self.wire_of(worker, exchange) else { return Some(output) };
                let wire = self.behind.wires.get_mut(&(worker, connection));
                let chunked = !end_stream && !headers.contains("content-length");
                wire.into_iter().for_each(|wire| wire.chunked = chunked);
                let bytes = wire::response_head(headers, chunked, end_stream);
                self.codec_writes(worker, exchange, bytes, end_stream);
            }
            Output::ResponseData { exchange, ref data, end_stream } => {
                let Some(chunked) = self.is_chunked(worker, exchange) else { return Some(output) };
                let mut bytes = wire::data(data, chunked);
                if end_stream {
                    bytes.extend(wire::end(&Headers::new(), chunked));
                }
                self.codec_writes(worker, exchange, bytes, end_stream);
            }
            Output::ResponseTrailers { exchange, ref trailers } => {
                let Some(chunked) = self.is_chunked(worker, exchange) else { return Some(output) };
                self.codec_writes(worker, exchange, wire::end(trailers, chunked), true);
            }
            Output::ResetExchange { exchange } => {
                let Some(connection) = self.wire_of(worker, exchange) else { return Some(output) };
                self.behind.exchanges.remove(&(worker, exchange));
                if let Some(wire) = self.behind.wires.get_mut(&(worker, connection)) {
                    wire.exchange = None;
                }
                self.workers[worker].close_downstream(connection);
            }
            other => return Some(other),
        }
        None
    }

    fn wire_of(&self, worker: usize, exchange: ExchangeId) -> Option<ConnectionId> {
        self.behind.exchanges.get(&(worker, exchange)).copied()
    }

    fn is_chunked(&self, worker: usize, exchange: ExchangeId) -> Option<bool> {
        let connection = self.wire_of(worker, exchange)?;
        self.behind.wires.get(&(worker, connection)).map(|wire| wire.chunked)
    }

    /// What has passed the filters is a request, piece by piece.
    fn codec_reads(&mut self, worker: usize, connection: ConnectionId, data: &Bytes) {
        if let Some(wire) = self.behind.wires.get_mut(&(worker, connection)) {
            wire.request.feed(data);
        }
        while let Some(wire) = self.behind.wires.get_mut(&(worker, connection)) {
            let (info, exchange) = (wire.info.clone(), wire.exchange);
            let to = &mut self.workers[worker];
            match (wire.request.next(), exchange) {
                (Ok(Some(Piece::Head(headers, end))), _) => {
                    let id = to.start_exchange(self.http_listener, info);
                    wire.exchange = Some(id);
                    self.requests[wire.id.0].exchange = id;
                    self.behind.exchanges.insert((worker, id), connection);
                    to.request_headers(id, headers, end);
                }
                (Ok(Some(Piece::Data(data, end))), Some(id)) => to.request_data(id, data, end),
                (Ok(Some(Piece::Trailers(trailers))), Some(id)) => {
                    to.request_trailers(id, trailers)
                }
                (Ok(_), _) => return,
                (Err(Malformed), Some(_)) => return to.close_downstream(connection),
                (Err(Malformed), None) => {
                    let answer = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
                    return to.connection_upstream_data(connection, answer.into(), true);
                }
            }
        }
    }

    fn codec_writes(&mut self, worker: usize, exchange: ExchangeId, bytes: Vec<u8>, end: bool) {
        let Some(connection) = self.wire_of(worker, exchange) else { return };
        if end {
            self.behind.exchanges.remove(&(worker, exchange));
            if let Some(wire) = self.behind.wires.get_mut(&(worker, connection)) {
                wire.exchange = None;
            }
            self.workers[worker].downstream_complete(exchange);
        }
        if !bytes.is_empty() {
            self.workers[worker].connection_upstream_data(connection, bytes.into(), false);
        }
    }

    /// What reaches the client is a response, piece by piece.
    fn client_reads(&mut self, worker: usize, connection: ConnectionId, data: &Bytes) {
        if let Some(wire) = self.behind.wires.get_mut(&(worker, connection)) {
            wire.response.feed(data);
        }
        while let Some(wire) = self.behind.wires.get_mut(&(worker, connection)) {
            let now = self.clock.now();
            let history = self.history;
            let sent = &mut self.requests[wire.id.0];
            let over = match wire.response.next() {
                Ok(Some(Piece::Head(headers, end))) => {
                    let mut all = if history { text_pairs(&headers) } else { Vec::new() };
                    all.retain(|(name, _)| !name.starts_with(':'));
                    sent.reply = Some(Reply {
                        status: headers.status().unwrap_or(0),
                        headers: all,
                        latency: now.since(sent.at),
                        ..Reply::none()
                    });
                    end
                }
                Ok(Some(Piece::Data(data, end))) => {
                    if let Some(reply) = sent.reply.as_mut().filter(|_| history) {
                        reply.body.extend_from_slice(&data);
                    }
                    end
                }
                Ok(Some(Piece::Trailers(trailers))) => {
                    if let Some(reply) = sent.reply.as_mut().filter(|_| history) {
                        reply.trailers = text_pairs(&trailers);
                    }
                    true
                }
                Ok(None) => return,
                // Not what a server says: the client hangs up.
                Err(Malformed) => return self.workers[worker].connection_reset(connection),
            };
            if over {
                self.complete_request(self.behind.wires[&(worker, connection)].id);
                self.workers[worker].connection_data(connection, Bytes::new(), true);
            }
        }
    }

    /// The client's connection is gone: a response that was not complete never will be.
    fn wire_closed(&mut self, worker: usize, connection: ConnectionId) {
        let Some(wire) = self.behind.wires.remove(&(worker, connection)) else { return };
        self.workers[worker].connection_closed(wire.info.connection_id);
        let sent: &mut Sent = &mut self.requests[wire.id.0];
        if sent.complete {
            return;
        }
        match &mut sent.reply {
            Some(reply) => reply.reset = !wire.response.is_open(),
            none => *none = Some(Reply { reset: true, ..Reply::none() }),
        }
        self.complete_request(wire.id);
    }
}
