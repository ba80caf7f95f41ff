//! A driver for tests: a clock that stands still, a captured log, exchanges in one line.

use base64::Engine as _;
use bytes::Bytes;
use host_sim_bootstrap::Bootstrap;
use host_sim_engine::{
    AccessLogSink, AttemptId, Clock, Downstream, Engine, EngineOptions, ExchangeId, Headers,
    Limits, LogLevel, LogRecord, LogSink, Observer, Output, StartError, TlsInfo, UnixNanos,
    UpstreamFailure, UpstreamFailureKind, UpstreamLink, Worker,
};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Our end of every connection to an endpoint.
pub(crate) fn link() -> UpstreamLink {
    UpstreamLink::plain(([127, 0, 0, 1], 5000).into())
}

/// A clock that tests move.
#[derive(Default)]
pub(crate) struct TestClock(AtomicU64);

impl Clock for TestClock {
    fn now(&self) -> UnixNanos {
        UnixNanos(self.0.load(Ordering::Relaxed))
    }
}

/// Lines as `plugin: text`, without Envoy's prefix.
#[derive(Default)]
pub(crate) struct Lines(Mutex<Vec<String>>);

impl LogSink for Lines {
    fn log(&self, record: &LogRecord<'_>) {
        let text = record.message.strip_prefix("wasm log ").and_then(|m| m.split_once(": "));
        let text = text.map_or(record.message, |(_, text)| text);
        let line = format!("{}: {text}", record.plugin.unwrap_or("host"));
        self.0.lock().unwrap().push(line);
    }

    fn level(&self) -> LogLevel {
        LogLevel::Info
    }
}

impl AccessLogSink for Lines {
    fn write(&self, target: &str, line: &str) {
        self.0.lock().unwrap().push(format!("{target}: {}", line.trim_end()));
    }
}

/// A plugin of a chain.
#[derive(Clone, Default)]
pub(crate) struct Plugin {
    pub(crate) name: &'static str,
    pub(crate) code: Vec<u8>,
    pub(crate) vm_id: &'static str,
    pub(crate) vm_configuration: &'static str,
    pub(crate) configuration: &'static str,
    /// More fields of `PluginConfig`, as flow-style YAML without braces.
    pub(crate) more: &'static str,
}

impl Plugin {
    pub(crate) fn new(name: &'static str, body: &str) -> Self {
        Self { name, code: host_sim_guest::module(body), ..Self::default() }
    }

    pub(crate) fn more(mut self, more: &'static str) -> Self {
        self.more = more;
        self
    }

    pub(crate) fn vm_configuration(mut self, text: &'static str) -> Self {
        self.vm_configuration = text;
        self
    }

    pub(crate) fn configuration(mut self, text: &'static str) -> Self {
        self.configuration = text;
        self
    }

    pub(crate) fn filter(&self) -> String {
        let code = base64::engine::general_purpose::STANDARD.encode(&self.code);
        let string = |text: &str| {
            format!(
                r#"{{"@type": type.googleapis.com/google.protobuf.StringValue, value: "{text}"}}"#
            )
        };
        format!(
            r#"{{name: {name}, typed_config: {{
            "@type": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm,
            config: {{name: {name}, root_id: {name}, {more}
              configuration: {configuration},
              vm_config: {{vm_id: "{vm_id}", runtime: envoy.wasm.runtime.v8,
                configuration: {vm_configuration},
                code: {{local: {{inline_bytes: "{code}"}}}}}}}}}}}}"#,
            name = self.name,
            more = if self.more.is_empty() { String::new() } else { format!("{},", self.more) },
            vm_id = self.vm_id,
            // A typed message as it is, else a text.
            configuration = if self.configuration.starts_with("{\"@type\"") {
                self.configuration.to_owned()
            } else {
                string(self.configuration)
            },
            vm_configuration = string(self.vm_configuration),
        )
    }
}

/// What to configure; the defaults are one route to one cluster of two endpoints.
pub(crate) struct Setup {
    pub(crate) plugins: Vec<Plugin>,
    pub(crate) upstream_plugins: Vec<Plugin>,
    /// Other filters before the router, as YAML flow mappings.
    pub(crate) filters: Vec<String>,
    /// Ports of the cluster `backend`.
    pub(crate) ports: Vec<u16>,
    /// Fields of the route action besides the cluster.
    pub(crate) action: &'static str,
    /// Virtual hosts instead of the default one.
    pub(crate) virtual_hosts: Option<&'static str>,
    /// Fields of the cluster.
    pub(crate) cluster: &'static str,
    /// Fields of the connection manager.
    pub(crate) manager: &'static str,
    /// Network filters instead of the connection manager, as flow-style YAML.
    pub(crate) chain: Option<String>,
    pub(crate) observer: Option<Arc<dyn Observer>>,
    pub(crate) limits: Limits,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            plugins: Vec::new(),
            upstream_plugins: Vec::new(),
            filters: Vec::new(),
            ports: vec![9001, 9002],
            action: "",
            virtual_hosts: None,
            cluster: "",
            manager: "",
            chain: None,
            observer: None,
            limits: Limits::default(),
        }
    }
}

impl Setup {
    pub(crate) fn of(plugins: impl IntoIterator<Item = Plugin>) -> Self {
        Self { plugins: plugins.into_iter().collect(), ..Self::default() }
    }

    fn yaml(&self) -> String {
        let comma =
            |fields: &str| if fields.is_empty() { String::new() } else { format!(", {fields}") };
        let filters: Vec<String> =
            self.plugins.iter().map(Plugin::filter).chain(self.filters.iter().cloned()).collect();
        let filters: String = filters.iter().map(|f| format!("\n          - {f}")).collect();
        let default_host = format!(
            "- {{name: all, domains: ['*'], routes: [{{name: default, match: {{prefix: /}}, \
             route: {{cluster: backend{}}}}}]}}",
            comma(self.action)
        );
        let hosts = self.virtual_hosts.map_or(default_host, ToOwned::to_owned);
        let endpoints: String = self.ports.iter().map(|port| format!(
            "{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}}},"
        )).collect();
        let upstream: String =
            self.upstream_plugins.iter().map(|p| format!("\n          - {}", p.filter())).collect();
        let options = if self.upstream_plugins.is_empty() {
            String::new()
        } else {
            format!(
                r#"
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{http_protocol_options: {{}}}}
        http_filters:{upstream}
          - {{name: codec, typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec}}}}"#
            )
        };
        let manager = self.manager;
        let http = format!(
            r#"
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ingress
          {manager}
          route_config:
            virtual_hosts:
            {hosts}
          http_filters:{filters}
          - {{name: router, typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}}}"#
        );
        let chain = self.chain.as_ref().map_or(http, |chain| format!(" [{chain}]"));
        format!(
            r#"
static_resources:
  listeners:
  - name: main
    address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}
    filter_chains:
    - filters:{chain}
  clusters:
  - name: backend
    connect_timeout: 1s
    {cluster}
    load_assignment:
      cluster_name: backend
      endpoints: [{{lb_endpoints: [{endpoints}]}}]{options}
  - name: empty
    load_assignment: {{cluster_name: empty}}
"#,
            cluster = self.cluster,
        )
    }

    /// One engine and its first worker.
    pub(crate) fn start(self) -> Rig {
        self.try_start().unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) fn try_start(self) -> Result<Rig, StartError> {
        let yaml = self.yaml();
        let bootstrap = Bootstrap::from_yaml(&yaml).unwrap_or_else(|p| panic!("{p}\n{yaml}"));
        let (clock, lines) = (Arc::new(TestClock::default()), Arc::new(Lines::default()));
        clock.0.store(1_000_000_000_000, Ordering::Relaxed);
        let options = EngineOptions {
            clock: clock.clone(),
            log: lines.clone(),
            access_log: lines.clone(),
            observer: self.observer.clone(),
            limits: self.limits.clone(),
            ..EngineOptions::default()
        };
        let engine = Engine::start(bootstrap, options)?;
        let canary = lines.0.lock().unwrap().drain(..).collect();
        let worker = engine.worker(0)?;
        Ok(Rig { engine, worker, clock, lines, canary, attempts: VecDeque::new() })
    }
}

/// A running worker and its surroundings.
pub(crate) struct Rig {
    pub(crate) engine: Arc<Engine>,
    pub(crate) worker: Worker,
    clock: Arc<TestClock>,
    lines: Arc<Lines>,
    /// What was logged before the first worker started.
    pub(crate) canary: Vec<String>,
    /// Attempts the worker has started and nobody has answered.
    pub(crate) attempts: VecDeque<Sent>,
}

/// A started attempt.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) id: AttemptId,
    pub(crate) endpoint: SocketAddr,
    pub(crate) headers: Headers,
    pub(crate) body: String,
    pub(crate) trailers: Option<Headers>,
    pub(crate) ended: bool,
    pub(crate) cancelled: bool,
}

/// What came out for one exchange.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Answer {
    pub(crate) headers: Headers,
    pub(crate) body: String,
    pub(crate) trailers: Option<Headers>,
    pub(crate) ended: bool,
    pub(crate) reset: bool,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.headers.status().unwrap_or(0)
    }
}

impl Rig {
    /// Log lines since the last call.
    pub(crate) fn log(&self) -> Vec<String> {
        std::mem::take(&mut *self.lines.0.lock().unwrap())
    }

    pub(crate) fn advance(&mut self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap();
        self.clock.0.fetch_add(nanos, Ordering::Relaxed);
        self.worker.on_deadline();
    }

    pub(crate) fn begin(&mut self) -> ExchangeId {
        self.begin_with(None)
    }

    pub(crate) fn begin_with(&mut self, tls: Option<TlsInfo>) -> ExchangeId {
        let downstream = Downstream {
            remote: ([10, 0, 0, 1], 4000).into(),
            local: ([127, 0, 0, 1], 8080).into(),
            tls,
            protocol: host_sim_engine::Protocol::Http11,
            connection_id: 1,
        };
        self.worker.start_exchange(0, downstream)
    }

    /// A GET without a body, as far as it gets by itself.
    pub(crate) fn get(&mut self, path: &str) -> ExchangeId {
        let id = self.begin();
        self.worker.request_headers(id, request("GET", path), true);
        id
    }

    /// Takes outputs; what belongs to `id` is the answer, attempts are noted.
    pub(crate) fn answer(&mut self, id: ExchangeId) -> Answer {
        let mut answer = Answer::default();
        while let Some(output) = self.worker.poll_output() {
            match output {
                Output::StartAttempt { attempt, endpoint, headers, end_stream, .. } => {
                    self.attempts.push_back(Sent {
                        id: attempt,
                        endpoint,
                        headers,
                        body: String::new(),
                        trailers: None,
                        ended: end_stream,
                        cancelled: false,
                    });
                }
                Output::AttemptData { attempt, data, end_stream } => {
                    let sent = self.sent(attempt);
                    sent.body += std::str::from_utf8(&data).unwrap();
                    sent.ended = end_stream;
                }
                Output::AttemptTrailers { attempt, trailers } => {
                    let sent = self.sent(attempt);
                    sent.trailers = Some(trailers);
                    sent.ended = true;
                }
                Output::CancelAttempt { attempt } => self.sent(attempt).cancelled = true,
                Output::ResponseHeaders { exchange, headers, end_stream } if exchange == id => {
                    answer.headers = headers;
                    answer.ended = end_stream;
                }
                Output::ResponseData { exchange, data, end_stream } if exchange == id => {
                    answer.body += std::str::from_utf8(&data).unwrap();
                    answer.ended = end_stream;
                }
                Output::ResponseTrailers { exchange, trailers } if exchange == id => {
                    answer.trailers = Some(trailers);
                    answer.ended = true;
                }
                Output::ResetExchange { exchange } if exchange == id => answer.reset = true,
                other => panic!("unexpected {other:?}"),
            }
        }
        answer
    }

    fn sent(&mut self, id: AttemptId) -> &mut Sent {
        self.attempts.iter_mut().find(|sent| sent.id == id).expect("a started attempt")
    }

    /// Takes outputs until nothing is left and gives the oldest unanswered attempt.
    pub(crate) fn attempt(&mut self) -> Sent {
        let none = ExchangeId(u64::MAX);
        self.answer(none);
        self.attempts.pop_front().expect("an attempt")
    }

    /// A whole response, without a body or with one.
    pub(crate) fn respond(&mut self, attempt: AttemptId, status: &str, body: &'static str) {
        let headers = Headers::from_pairs([(":status", status)]);
        self.worker.upstream_headers(attempt, headers, body.is_empty());
        if !body.is_empty() {
            self.worker.upstream_data(attempt, Bytes::from_static(body.as_bytes()), true);
        }
    }

    pub(crate) fn fail(&mut self, attempt: AttemptId, kind: UpstreamFailureKind) {
        let detail = "Connection refused".to_owned();
        self.worker.upstream_failed(attempt, UpstreamFailure { kind, detail });
    }

    /// A GET that the first attempt answers with 200, to its end.
    pub(crate) fn get_ok(&mut self, path: &str) -> Answer {
        let id = self.get(path);
        let attempt = self.attempt();
        self.respond(attempt.id, "200", "");
        let answer = self.answer(id);
        self.worker.downstream_complete(id);
        answer
    }
}

pub(crate) fn request(method: &str, path: &str) -> Headers {
    Headers::from_pairs([(":method", method), (":path", path), (":authority", "test")])
}
