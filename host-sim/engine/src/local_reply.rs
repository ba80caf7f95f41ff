//! Responses that no upstream made: a plugin's, the router's, a limit's.
//!
//! Where the reply goes depends on how far the response has come, as in Envoy: before any
//! response headers it runs through the response callbacks of the filters that saw the request
//! (the sender's own too); with headers not yet sent it replaces them and goes straight to the
//! client; after that all that is left is to reset the stream.

use crate::Headers;
use crate::buffer::Buffer;
use crate::flags::ResponseFlags;
use crate::grpc::http_to_grpc;
use crate::stream::{LocalReply, Owner, Role, Way};
use crate::worker::Turn;
use bytes::Bytes;

enum Path {
    /// A request callback runs: when it is over.
    Later,
    Filters,
    Direct,
    Reset,
}

impl Turn<'_> {
    /// Answers an exchange, or the exchange or call behind an attempt. The first reply wins.
    pub(crate) fn local_reply(&mut self, id: u64, reply: LocalReply) {
        if self.keep_bare_reply(id, &reply) {
            return;
        }
        let path = {
            let mut shared = self.shared.borrow_mut();
            let Some(stream) = shared.streams.get_mut(&id) else { return };
            if let Role::Attempt(attempt) = &stream.role {
                let owner = attempt.owner;
                drop(shared);
                return self.reply_for_attempt(id, owner, reply);
            }
            let (request_calls, response_calls) = (stream.request.calling, stream.response.calling);
            let has_headers = stream.response.headers.is_some();
            let Some(exchange) = stream.exchange() else { return };
            // From a callback of the first reply's own response, a second one counts.
            if exchange.response_ended || (exchange.replied && !response_calls) {
                return;
            }
            exchange.replied = true;
            let started = exchange.response_started;
            stream.info.details = Some(reply.details.clone());
            if request_calls {
                stream.request.aborted = true;
            } else if response_calls {
                stream.response.aborted = true;
            }
            match (has_headers, started) {
                (false, _) if request_calls => Path::Later,
                (false, _) => Path::Filters,
                (true, false) => Path::Direct,
                (true, true) => Path::Reset,
            }
        };
        match path {
            Path::Later => {
                let mut shared = self.shared.borrow_mut();
                let exchange = shared.streams.get_mut(&id).and_then(|stream| stream.exchange());
                if let Some(exchange) = exchange {
                    exchange.pending_reply = Some(reply);
                }
            }
            Path::Filters => self.reply_through_filters(id, reply),
            Path::Direct => self.reply_directly(id, reply),
            Path::Reset => self.reset_exchange(id),
        }
    }

    /// Sends a reply through the response callbacks.
    pub(crate) fn reply_through_filters(&mut self, id: u64, reply: LocalReply) {
        self.drop_attempt(id);
        let Some(body) = self.put_reply(id, reply) else { return };
        let first = self.first(id, Way::Response);
        self.pass_headers(id, Way::Response, first, body.is_empty());
        let replaced = {
            let shared = self.shared.borrow();
            shared.streams.get(&id).is_none_or(|stream| stream.response.aborted)
        };
        if !replaced && !body.is_empty() && self.fill(id, Way::Response, body) {
            let first = self.first(id, Way::Response);
            self.pass_data(id, Way::Response, first, true);
        }
    }

    /// A reply that no filter may touch or see.
    pub(crate) fn reply_past_filters(&mut self, id: u64, reply: LocalReply) {
        if let Some(stream) = self.shared.borrow_mut().streams.get_mut(&id) {
            stream.info.details = Some(reply.details.clone());
            if let Some(exchange) = stream.exchange() {
                exchange.replied = true;
            }
        }
        self.reply_directly(id, reply);
    }

    fn reply_directly(&mut self, id: u64, reply: LocalReply) {
        self.drop_attempt(id);
        let Some(body) = self.put_reply(id, reply) else { return };
        self.end_headers(id, Way::Response, body.is_empty());
        if !body.is_empty() && self.fill(id, Way::Response, body) {
            self.end_data(id, Way::Response, true);
        }
    }

    /// Makes the reply the stream's response; gives back its body.
    fn put_reply(&mut self, id: u64, reply: LocalReply) -> Option<Bytes> {
        let mut shared = self.shared.borrow_mut();
        let stream = shared.streams.get_mut(&id)?;
        let exchange = stream.exchange()?;
        let (head, grpc) = (exchange.is_head, exchange.is_grpc);
        let (headers, body) = if grpc { grpc_reply(reply) } else { http_reply(reply) };
        stream.info.code = headers.status();
        stream.response.headers = Some(headers);
        stream.response.trailers = None;
        stream.response.buffered = None;
        stream.response.observed_end = true;
        Some(if head { Bytes::new() } else { body })
    }

    /// An upstream filter's reply answers for the upstream.
    fn reply_for_attempt(&mut self, attempt: u64, owner: Owner, reply: LocalReply) {
        if let Some(stream) = self.shared.borrow_mut().streams.get_mut(&attempt) {
            stream.request.aborted = true;
            stream.response.aborted = true;
        }
        match owner {
            Owner::Exchange(exchange) => self.local_reply(exchange, reply),
            Owner::Call(call) => {
                self.cancel_attempt(attempt);
                self.call_replied(call, &reply);
            }
            Owner::Grpc(id) => {
                self.cancel_attempt(attempt);
                self.grpc_replied(id, reply);
            }
        }
    }

    /// More than a stream may hold back: 413 for a request, a reset or 500 for a response.
    pub(crate) fn buffer_overflow(&mut self, id: u64, way: Way) {
        let (status, text, details) = match way {
            Way::Request => (413, "Payload Too Large", "request_payload_too_large"),
            Way::Response => (500, "Internal Server Error", "response_payload_too_large"),
        };
        let body = Bytes::from_static(text.as_bytes());
        self.local_reply(
            id,
            LocalReply { status, body, details: details.to_owned(), ..LocalReply::default() },
        );
    }

    /// Puts data in flight; false when the stream is gone.
    pub(crate) fn fill(&self, id: u64, way: Way, data: Bytes) -> bool {
        let mut shared = self.shared.borrow_mut();
        let Some(stream) = shared.streams.get_mut(&id) else { return false };
        stream.half(way).in_flight = Buffer::from(data);
        true
    }

    /// Adds response flags.
    pub(crate) fn flag(&self, id: u64, flags: ResponseFlags) {
        if let Some(stream) = self.shared.borrow_mut().streams.get_mut(&id) {
            stream.info.flags |= flags;
        }
    }
}

/// Headers and body of a reply, as Envoy's `Utility::sendLocalReply` makes them.
pub(crate) fn http_reply(reply: LocalReply) -> (Headers, Bytes) {
    let mut headers = Headers::new();
    headers.set_static(":status", reply.status.to_string());
    for (name, value) in reply.headers {
        headers.add_bytes(name, value);
    }
    if reply.body.is_empty() {
        headers.remove(b"content-type");
    } else {
        headers.set_static("content-length", reply.body.len().to_string());
        if !headers.contains("content-type") {
            headers.set_static("content-type", "text/plain");
        }
    }
    (headers, reply.body)
}

/// A gRPC client gets status and text in headers, with HTTP 200.
pub(crate) fn grpc_reply(reply: LocalReply) -> (Headers, Bytes) {
    let mut headers = Headers::new();
    headers.set_static(":status", "200");
    headers.set_static("content-type", "application/grpc");
    let status = reply.grpc_status.unwrap_or_else(|| http_to_grpc(reply.status));
    headers.set_static("grpc-status", status.to_string());
    if !reply.body.is_empty() {
        headers.set_static("grpc-message", reply.body);
    }
    for (name, value) in reply.headers {
        headers.add_bytes(name, value);
    }
    (headers, Bytes::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_brings_its_length_and_type() {
        let reply = LocalReply {
            status: 503,
            body: Bytes::from_static(b"no"),
            headers: vec![("x-a".into(), "1".into())],
            ..LocalReply::default()
        };
        let (headers, _) = http_reply(reply);
        let expected = [
            (":status", "503"),
            ("x-a", "1"),
            ("content-length", "2"),
            ("content-type", "text/plain"),
        ];
        assert_eq!(headers, Headers::from_pairs(expected));
    }

    #[test]
    fn a_grpc_client_gets_the_status_in_headers() {
        let reply =
            LocalReply { status: 429, body: Bytes::from_static(b"slow"), ..LocalReply::default() };
        let (headers, body) = grpc_reply(reply);
        assert_eq!(headers.get_str(":status"), Some("200"));
        assert_eq!(headers.get_str("grpc-status"), Some("14"));
        assert_eq!(headers.get_str("grpc-message"), Some("slow"));
        assert!(body.is_empty());
    }
}
