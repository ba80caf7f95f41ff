//! What is known of a request, and of its answer, by one hostcall each.
//!
//! Each attribute and each header is a hostcall of its own. What the configuration wants to know of
//! every request is put together in one expression, and so is what is wanted of an answer, where
//! hostcalls would else be too many: with it comes the moment at which its request came, so that the
//! clock need not be read for both. For the host an expression is dearer than a few attributes, so
//! where one is wanted of a request, or few answers are looked at, they are read as they are. A host
//! that knows no expressions is asked for one thing after the other.

use core::cell::OnceCell;
use metric_router_core::{Attributes, Config, KeyPart, Mechanism, Mode};
use plugin_kit::headers::{self, Map};
use plugin_kit::{Expression, property};
use shared_state::{Endpoint, UnixNanos};

/// One thing that may be asked of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Ask {
    Cluster,
    Route,
    Source,
    /// All values of a header.
    Header(String),
    /// Whether there is such a header.
    Sent(String),
}

impl Ask {
    /// Gives a text, which is empty where there is nothing.
    fn text(&self) -> String {
        match self {
            Self::Cluster => if_there("xds.cluster_name"),
            Self::Route => if_there("xds.route_name"),
            Self::Source => if_there("source.address"),
            Self::Header(name) => {
                format!("'{name}' in request.headers ? request.headers['{name}'] : ''")
            }
            Self::Sent(name) => format!("'{name}' in request.headers ? '+' : ''"),
        }
    }
}

fn if_there(path: &str) -> String {
    format!("has({path}) ? {path} : ''")
}

/// What is to be asked.
pub(crate) struct Questions {
    asks: Vec<Ask>,
    of_request: Expression,
    of_answer: Expression,
    /// The last of it is whether a session is named, and not how many attempts there were.
    is_session: bool,
}

impl Questions {
    pub(crate) fn new(config: &Config) -> Self {
        let steering = &config.steering;
        let mut asks = vec![Ask::Cluster];
        if config.minds_routes() {
            asks.push(Ask::Route);
        }
        if config.mode == Mode::Shadow && steering.mechanism.uses_header() {
            asks.push(Ask::Sent(steering.header.clone()));
        }
        if config.debug_header.enabled {
            asks.push(Ask::Sent(config.debug_header.request_header.clone()));
        }
        for part in config.key_parts() {
            let ask = match part {
                KeyPart::Header(name) => Ask::Header(name.clone()),
                KeyPart::Cookie(_) => Ask::Header("cookie".to_owned()),
                KeyPart::SourceAddress => Ask::Source,
            };
            if !asks.contains(&ask) {
                asks.push(ask);
            }
        }
        let mut of_request = Expression::default();
        if asks.len() > 1 {
            let asks: Vec<String> = asks.iter().map(Ask::text).collect();
            of_request = Expression::new(&format!("[{}]", asks.join(", ")));
        }
        // An answer of the proxy itself has no endpoint, and is asked about one by one.
        let mut answer =
            "response.code, upstream.address, request.time, upstream.num_endpoints".to_owned();
        // What is last differs, for no host is to be asked for what nobody wants.
        let is_session = steering.mechanism == Mechanism::StatefulSession;
        if is_session {
            answer += &format!(", '{}' in response.headers", steering.header);
        } else if !config.is_enforced() {
            answer += ", upstream.request_attempt_count";
        }
        let of_answer = Expression::new(&format!("[{answer}]"));
        Self { asks, of_request, of_answer, is_session }
    }

    /// True if an answer tells when its request came.
    pub(crate) const fn tell_the_time(&self) -> bool {
        self.of_answer.is_usable()
    }

    /// What is known of the answer, in the callback of its headers.
    pub(crate) fn answer(&self) -> Option<Said> {
        let mut values = self.of_answer.list()?.into_iter();
        let status = values.next().and_then(number);
        let served = values.next().and_then(|bytes| String::from_utf8(bytes).ok()?.parse().ok());
        let came_at = UnixNanos::from_nanos(number(values.next()?)?);
        let endpoints = values.next().and_then(number);
        let last = values.next();
        let (session, attempts) = if self.is_session { (last, None) } else { (None, last) };
        Some(Said {
            status: status.and_then(|status| u16::try_from(status).ok()).filter(|code| *code != 0),
            served,
            came_at,
            size: endpoints.and_then(|size| u32::try_from(size).ok()),
            names_session: session.map(|is_there| is_there == [1]),
            attempts: attempts.and_then(number).and_then(|count| u32::try_from(count).ok()),
        })
    }
}

/// As attributes write it.
fn number(bytes: Vec<u8>) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_le_bytes)
}

/// What is known of an answer.
pub(crate) struct Said {
    pub(crate) status: Option<u16>,
    pub(crate) served: Option<Endpoint>,
    /// When the request came.
    pub(crate) came_at: UnixNanos,
    /// How many endpoints the cluster has.
    pub(crate) size: Option<u32>,
    /// Whether the header of the session is there, where that was asked.
    pub(crate) names_session: Option<bool>,
    /// How many attempts there were, where that was asked.
    pub(crate) attempts: Option<u32>,
}

/// The request of the callback that runs.
pub(crate) struct Request<'a> {
    questions: &'a Questions,
    said: OnceCell<Option<Vec<Vec<u8>>>>,
}

impl<'a> Request<'a> {
    pub(crate) const fn new(questions: &'a Questions) -> Self {
        Self { questions, said: OnceCell::new() }
    }

    /// What the host says of it, `Some(None)` if there is nothing; `None` if it says nothing at all.
    fn said(&self, ask: &Ask) -> Option<Option<String>> {
        if !self.questions.of_request.is_usable() {
            return None;
        }
        let at = self.questions.asks.iter().position(|known| known == ask)?;
        let said = self.said.get_or_init(|| self.questions.of_request.list()).as_ref()?;
        let value = String::from_utf8_lossy(said.get(at)?).into_owned();
        Some(Some(value).filter(|value| !value.is_empty()))
    }

    fn ask(&self, ask: &Ask, alone: impl FnOnce() -> Option<String>) -> Option<String> {
        self.said(ask).unwrap_or_else(alone)
    }

    pub(crate) fn cluster_name(&self) -> Option<String> {
        self.ask(&Ask::Cluster, property::cluster_name)
    }

    pub(crate) fn route_name(&self) -> Option<String> {
        self.ask(&Ask::Route, property::route_name)
    }

    /// True if it is known that there is no such header.
    pub(crate) fn lacks(&self, name: &str) -> bool {
        self.said(&Ask::Sent(name.to_owned())).is_some_and(|sent| sent.is_none())
    }
}

impl Attributes for Request<'_> {
    fn header(&self, name: &str) -> Option<String> {
        let alone = || headers::joined_by(",", Map::Request, name);
        self.ask(&Ask::Header(name.to_owned()), alone)
    }

    fn source_address(&self) -> Option<String> {
        self.ask(&Ask::Source, property::source_address)
    }
}
