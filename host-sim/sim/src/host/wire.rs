//! HTTP/1.1 as bytes, which is what network filters see of a request: heads and chunks are written,
//! and read again behind the filters.

use bytes::Bytes;
use host_sim_engine::Headers;
use httparse::Status;

/// Fields of a head that can be read.
const MOST_FIELDS: usize = 100;

/// What is read.
pub(super) enum Side {
    /// Requests; the scheme is the connection's.
    Request { scheme: &'static str },
    /// A response; to HEAD it has no body.
    Response { to_head: bool },
}

/// A part of a message, in their order. The end of a body comes apart from its last bytes.
pub(super) enum Piece {
    /// A head, and whether it is all.
    Head(Headers, bool),
    Data(Bytes, bool),
    Trailers(Headers),
}

/// The peer does not speak HTTP/1.1.
pub(super) struct Malformed;

/// Reads one message, however its bytes come.
pub(super) struct Reader {
    side: Side,
    unread: Vec<u8>,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    Head,
    /// Bytes that are still to come.
    Sized(usize),
    ChunkSize,
    Chunk(usize),
    ChunkEnd,
    Trailers,
    /// Until the connection ends.
    Open,
    Over,
}

impl Reader {
    pub(super) fn of(side: Side) -> Self {
        Self { side, unread: Vec::new(), state: State::Head }
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
    }

    /// Whether the message ends with the connection.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// The next piece, if all of it is there.
    pub(super) fn next(&mut self) -> Result<Option<Piece>, Malformed> {
        loop {
            match self.state {
                State::Head => return self.head(),
                State::Sized(0) => {
                    self.state = State::Over;
                    return Ok(Some(Piece::Data(Bytes::new(), true)));
                }
                State::Sized(left) => {
                    let data = self.take(left);
                    self.state = State::Sized(left - data.len());
                    return Ok(some(data));
                }
                State::ChunkSize => match httparse::parse_chunk_size(&self.unread) {
                    Ok(Status::Complete((used, size))) => {
                        self.take(used);
                        let size = usize::try_from(size).map_err(|_| Malformed)?;
                        self.state = if size == 0 { State::Trailers } else { State::Chunk(size) };
                    }
                    Ok(Status::Partial) => return Ok(None),
                    Err(_) => return Err(Malformed),
                },
                State::Chunk(left) => {
                    let data = self.take(left);
                    let left = left - data.len();
                    self.state = if left == 0 { State::ChunkEnd } else { State::Chunk(left) };
                    return Ok(some(data));
                }
                State::ChunkEnd if self.unread.len() < 2 => return Ok(None),
                State::ChunkEnd if !self.unread.starts_with(b"\r\n") => return Err(Malformed),
                State::ChunkEnd => {
                    self.take(2);
                    self.state = State::ChunkSize;
                }
                State::Trailers => return self.trailers(),
                State::Open => return Ok(some(self.take(usize::MAX))),
                State::Over => return Ok(None),
            }
        }
    }

    fn take(&mut self, most: usize) -> Bytes {
        let rest = self.unread.split_off(most.min(self.unread.len()));
        std::mem::replace(&mut self.unread, rest).into()
    }

    fn head(&mut self) -> Result<Option<Piece>, Malformed> {
        let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
        let (used, mut headers, bodiless) = match &self.side {
            Side::Request { scheme } => {
                let mut request = httparse::Request::new(&mut fields);
                let parsed = request.parse(&self.unread).map_err(|_| Malformed)?;
                let Status::Complete(used) = parsed else { return Ok(None) };
                let host = request.headers.iter().find(|f| f.name.eq_ignore_ascii_case("host"));
                let mut headers = Headers::new();
                if let Some(host) = host {
                    headers.add(b":authority", host.value);
                }
                headers.add(b":path", request.path.unwrap_or_default().as_bytes());
                headers.add(b":method", request.method.unwrap_or_default().as_bytes());
                headers.add(b":scheme", scheme.as_bytes());
                (used, headers, false)
            }
            Side::Response { to_head } => {
                let mut response = httparse::Response::new(&mut fields);
                let parsed = response.parse(&self.unread).map_err(|_| Malformed)?;
                let Status::Complete(used) = parsed else { return Ok(None) };
                let status = response.code.unwrap_or_default();
                let mut headers = Headers::new();
                headers.add(b":status", status.to_string().as_bytes());
                (used, headers, *to_head || matches!(status, 100..200 | 204 | 304))
            }
        };
        for field in fields.iter().take_while(|field| !field.name.is_empty()) {
            let name = field.name.to_ascii_lowercase();
            if name != "host" || matches!(self.side, Side::Response { .. }) {
                headers.add(name.as_bytes(), field.value);
            }
        }
        self.take(used);
        self.state = self.framing(&headers, bodiless)?;
        let ends = matches!(self.state, State::Sized(0));
        if ends {
            self.state = State::Over;
        }
        Ok(Some(Piece::Head(headers, ends)))
    }

    fn framing(&self, headers: &Headers, bodiless: bool) -> Result<State, Malformed> {
        if bodiless {
            return Ok(State::Sized(0));
        }
        if headers.get("transfer-encoding").is_some() {
            return Ok(State::ChunkSize);
        }
        match (headers.get_str("content-length"), &self.side) {
            (Some(length), _) => length.parse().map(State::Sized).map_err(|_| Malformed),
            (None, Side::Request { .. }) => Ok(State::Sized(0)),
            (None, Side::Response { .. }) => Ok(State::Open),
        }
    }

    fn trailers(&mut self) -> Result<Option<Piece>, Malformed> {
        let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
        let parsed = httparse::parse_headers(&self.unread, &mut fields).map_err(|_| Malformed)?;
        let Status::Complete((used, fields)) = parsed else { return Ok(None) };
        let pairs = fields.iter().map(|field| (field.name.to_ascii_lowercase(), field.value));
        let trailers = Headers::from_pairs(pairs);
        self.take(used);
        self.state = State::Over;
        Ok(Some(if trailers.is_empty() {
            Piece::Data(Bytes::new(), true)
        } else {
            Piece::Trailers(trailers)
        }))
    }
}

fn some(data: Bytes) -> Option<Piece> {
    (!data.is_empty()).then_some(Piece::Data(data, false))
}

/// A request's head. `chunked`: a body of unknown length follows.
pub(super) fn request_head(headers: &Headers, chunked: bool) -> Vec<u8> {
    let get = |name| headers.get_str(name).unwrap_or_default();
    let mut out = format!("{} {} HTTP/1.1\r\n", get(":method"), get(":path")).into_bytes();
    put(&mut out, b"host", get(":authority").as_bytes());
    fields(&mut out, headers, chunked);
    out
}

/// A response's head. `whole`: nothing follows.
pub(super) fn response_head(headers: &Headers, chunked: bool, whole: bool) -> Vec<u8> {
    let status = headers.get_str(":status").unwrap_or_default();
    let mut out = format!("HTTP/1.1 {status} \r\n").into_bytes();
    if whole && !headers.contains("content-length") && !matches!(status, "204" | "304") {
        put(&mut out, b"content-length", b"0");
    }
    fields(&mut out, headers, chunked);
    out
}

fn fields(out: &mut Vec<u8>, headers: &Headers, chunked: bool) {
    for (name, value) in headers.iter().filter(|(name, _)| !name.starts_with(b":")) {
        put(out, name, value);
    }
    if chunked {
        put(out, b"transfer-encoding", b"chunked");
    }
    out.extend_from_slice(b"\r\n");
}

/// Bytes of a body.
pub(super) fn data(bytes: &[u8], chunked: bool) -> Vec<u8> {
    if !chunked || bytes.is_empty() {
        return bytes.to_vec();
    }
    let mut out = format!("{:x}\r\n", bytes.len()).into_bytes();
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
    out
}

/// The end of a body.
pub(super) fn end(trailers: &Headers, chunked: bool) -> Vec<u8> {
    if !chunked {
        return Vec::new();
    }
    let mut out = b"0\r\n".to_vec();
    trailers.iter().for_each(|(name, value)| put(&mut out, name, value));
    out.extend_from_slice(b"\r\n");
    out
}

fn put(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}
