//! A case: the programs that probes run, and the exchange during which they do.

use crate::{Op, Phase};
use std::time::Duration;

/// Cells that belong together: what one exchange, or the start of a root, shows.
#[derive(Clone, Debug)]
pub struct Case {
    /// Unique; begins the names of its cells.
    pub name: String,
    /// One program a plugin of the listener, by the plugin's letter.
    pub programs: Vec<(char, Vec<Op>)>,
    /// What the client does; none for a program of a root, which runs when the host starts.
    pub exchanges: Vec<Exchange>,
    /// The callbacks after which the case is over; the exchanges' end if none.
    pub until: Vec<Phase>,
    /// How long that is waited for; for a root's program, how long it may take after the start.
    pub patience: Duration,
}

impl Case {
    /// A case of one plugin and one exchange, over when the stream is deleted.
    #[must_use]
    pub fn new(name: impl Into<String>, ops: Vec<Op>, exchange: Exchange) -> Self {
        Self {
            name: name.into(),
            programs: vec![('a', ops)],
            exchanges: vec![exchange],
            until: vec![Phase::Delete],
            patience: Duration::from_secs(2),
        }
    }

    /// The program of a root of plugin `letter`, which runs as the host starts.
    #[must_use]
    pub fn root(name: impl Into<String>, letter: char, ops: Vec<Op>) -> Self {
        Self {
            name: name.into(),
            programs: vec![(letter, ops)],
            exchanges: Vec::new(),
            until: Vec::new(),
            patience: Duration::from_secs(3),
        }
    }

    /// Programs of roots, which run as the host stops; the name ends in the listener's.
    #[must_use]
    pub fn end(listener: &str, programs: Vec<(char, Vec<Op>)>) -> Self {
        Self {
            name: format!("{END}{listener}"),
            programs,
            exchanges: Vec::new(),
            until: Vec::new(),
            patience: Duration::from_millis(500),
        }
    }

    /// Over after this callback, too.
    #[must_use]
    pub fn until(mut self, phase: Phase) -> Self {
        self.until.push(phase);
        self
    }

    /// Over a moment after the client has its answer: no callback is sure to come.
    #[must_use]
    pub fn unawaited(self) -> Self {
        Self { until: Vec::new(), ..self }
    }

    /// Adds the program of another plugin in the chain.
    #[must_use]
    pub fn and(mut self, letter: char, ops: Vec<Op>) -> Self {
        self.programs.push((letter, ops));
        self
    }

    /// Adds an exchange after the others.
    #[must_use]
    pub fn then(mut self, exchange: Exchange) -> Self {
        self.exchanges.push(exchange);
        self
    }

    /// Whether it traps where another one does, and only the failure policy differs.
    pub(crate) fn is_variation(&self) -> bool {
        let trap = self.name.strip_prefix("trap_in/");
        trap.is_some_and(|trap| trap.contains("open_") || trap.contains("reload_"))
    }

    /// Whether roots run it, and no exchange.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.exchanges.is_empty()
    }

    /// Whether roots run it when the host stops.
    #[must_use]
    pub fn is_end(&self) -> bool {
        self.name.starts_with(END)
    }
}

/// What the names of such cases begin with.
const END: &str = "end/";

/// What a client does.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Name of the listener.
    pub listener: String,
    /// What the client speaks.
    pub protocol: Protocol,
    /// `:method`
    pub method: &'static str,
    /// `:path`; its first segment picks the cluster, `x-shape` the answer.
    pub path: String,
    /// More headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Body,
    /// Trailers; HTTP/2 only.
    pub trailers: Vec<(String, String)>,
    /// Whether the programs are named; without, probes do nothing.
    pub probed: bool,
    /// How long the client waits for the next byte of the answer.
    pub patience: Duration,
}

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, written by hand.
    Http1,
    /// HTTP/2 by prior knowledge.
    Http2,
    /// No HTTP: the pieces of the body are what is sent, a moment after each other.
    Tcp(Ending),
}

/// How a client of [`Protocol::Tcp`] ends a connection when it has sent everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Closes its half, and reads to the end.
    Fin,
    /// Resets it.
    Reset,
    /// Waits for the other side.
    Stay,
}

/// A request's body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Body {
    /// None.
    #[default]
    None,
    /// With `content-length`, in these pieces.
    Sized(Vec<&'static str>),
    /// Chunked, in these pieces (HTTP/2: DATA frames without `content-length`).
    Chunked(Vec<&'static str>),
}

impl Exchange {
    /// `GET /echo` over HTTP/1.1.
    #[must_use]
    pub fn get(listener: impl Into<String>) -> Self {
        Self {
            listener: listener.into(),
            protocol: Protocol::Http1,
            method: "GET",
            path: "/echo".to_owned(),
            headers: Vec::new(),
            body: Body::None,
            trailers: Vec::new(),
            probed: true,
            patience: Duration::from_secs(2),
        }
    }

    /// `POST` with a body and trailers over HTTP/2, answered with a body and trailers: every
    /// callback of a stream is called.
    #[must_use]
    pub fn whole(listener: impl Into<String>) -> Self {
        let trailers = vec![("x-trail".to_owned(), "request".to_owned())];
        Self {
            protocol: Protocol::Http2,
            method: "POST",
            path: "/echo2".to_owned(),
            body: Body::Chunked(vec!["request body"]),
            trailers,
            ..Self::get(listener).shape("trailers")
        }
    }

    /// These pieces over a bare connection.
    #[must_use]
    pub fn tcp(listener: impl Into<String>, pieces: &[&'static str], ending: Ending) -> Self {
        let (protocol, body) = (Protocol::Tcp(ending), Body::Chunked(pieces.to_vec()));
        Self { protocol, body, ..Self::get(listener) }
    }

    /// `POST` with this body over HTTP/1.1.
    #[must_use]
    pub fn post(listener: impl Into<String>, body: Body) -> Self {
        Self { method: "POST", body, ..Self::get(listener) }
    }

    /// What the upstream answers: see `upstream.rs`.
    #[must_use]
    pub fn shape(self, shape: &str) -> Self {
        self.header("x-shape", shape)
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Another path.
    #[must_use]
    pub fn path(self, path: &str) -> Self {
        Self { path: path.to_owned(), ..self }
    }

    /// Gives up soon: an answer is not expected.
    #[must_use]
    pub fn hangs(self) -> Self {
        Self { patience: Duration::from_millis(300), ..self }
    }

    /// Names no program.
    #[must_use]
    pub fn unprobed(self) -> Self {
        Self { probed: false, ..self }
    }
}
