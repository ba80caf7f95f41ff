//! One plugin on a bare stream, and what it says meanwhile.

use super::Setup;
use super::suite::{Header, Test};
use bytes::Bytes;
use host_sim_abi::{Status, pairs};
use host_sim_bootstrap::Bootstrap;
use host_sim_engine::{
    BareOutcome, Clock, Direction, Discard, Downstream, Engine, EngineOptions, ExchangeId, Headers,
    HostcallView, LogLevel, LogRecord, LogSink, Observer, Origin, Protocol, UnixNanos, Verdict,
    Worker,
};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Name of the plugin.
const NAME: &str = "test";

/// When no time is said: not 0, which some runtimes do not bear.
const EPOCH: UnixNanos = UnixNanos(1_000_000);

/// A plugin under test.
pub(crate) struct Plugin {
    worker: Worker,
    words: Arc<Words>,
    spelling: Arc<Spelling>,
    stream: Option<ExchangeId>,
    replied: bool,
}

/// Whose log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The plugin's.
    Root,
    /// The stream's.
    Stream,
}

/// What a phase came to; names as they were written.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) outcome: BareOutcome,
    /// Names in lower case to names as they were written.
    pub(super) spelling: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Plugin {
    /// Loads the module and starts the plugin.
    ///
    /// # Errors
    /// What is wrong with module or configuration.
    pub(super) fn start(setup: &Setup<'_>, test: &Test, bench: bool) -> Result<Self, String> {
        let env = &setup.suite.env;
        let level =
            if bench { LogLevel::Critical } else { env.log_level.unwrap_or(LogLevel::Info) };
        let file = Some(&env.log_path).filter(|path| !path.is_empty() && !bench);
        let file = file.map(|path| {
            let mut file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .map_err(|error| format!("{path}: {error}"))?;
            let _ = writeln!(file, "--- Starting test: {} ---", test.name);
            Ok::<_, String>(file)
        });
        let words = Arc::new(Words { level, said: Mutex::default(), file: Mutex::new(None) });
        let spelling = Arc::new(Spelling::default());
        let time = match env.time_secs {
            0 => EPOCH,
            seconds => UnixNanos(seconds.saturating_mul(1_000_000_000)),
        };
        let options = EngineOptions {
            clock: Arc::new(Frozen(time)),
            log: words.clone(),
            access_log: Arc::new(Discard),
            fuel: bench,
            observer: Some(spelling.clone()),
            limits: host_sim_engine::Limits::simulator(),
            module_cache: setup.options.module_cache.clone(),
            ..EngineOptions::default()
        };
        let bootstrap = Bootstrap::from_yaml(&bootstrap(setup)).map_err(|e| e.to_string())?;
        let engine = Engine::start(bootstrap, options).map_err(|e| e.to_string())?;
        // The tester has no canary: what it said is not heard.
        words.take();
        *lock(&words.file) = file.transpose()?;
        let worker = engine.worker(0).map_err(|e| e.to_string())?;
        Ok(Self { worker, words, spelling, stream: None, replied: false })
    }

    pub(super) fn begin_stream(&mut self, test: &Test) {
        let (stream, replied) = (self.open(test), false);
        (self.stream, self.replied) = (Some(stream), replied);
    }

    /// Another stream of the same plugin.
    pub(super) fn open(&mut self, test: &Test) -> ExchangeId {
        let info = Downstream {
            remote: SocketAddr::from(([10, 0, 0, 1], 40_000)),
            local: SocketAddr::from(([127, 0, 0, 1], 10_000)),
            tls: None,
            protocol: Protocol::Http11,
            connection_id: 1,
        };
        let properties = test.properties.iter();
        let properties = properties.map(|(path, value)| (path.clone(), Bytes::from(value.clone())));
        self.worker.start_bare(info, properties)
    }

    pub(super) fn worker(&mut self) -> &mut Worker {
        &mut self.worker
    }

    /// Runs a headers callback of the stream.
    pub(super) fn headers(&mut self, request: bool, given: &[Header]) -> Seen {
        self.words.take();
        let Some(stream) = self.stream.filter(|_| !self.replied) else { return Seen::nothing() };
        self.spelling.begin(given);
        let outcome = self.worker.bare_headers(stream, direction(request), joined(given));
        self.replied = outcome.reply.is_some();
        Seen { outcome, spelling: self.spelling.names() }
    }

    /// Runs a body callback of the stream.
    pub(super) fn data(&mut self, request: bool, data: &[u8], end_stream: bool) -> BareOutcome {
        let Some(stream) = self.stream.filter(|_| !self.replied) else {
            return BareOutcome::default();
        };
        // Of a chunked body the last chunk's words count, as of any phase.
        self.words.take();
        let data = Bytes::copy_from_slice(data);
        let outcome = self.worker.bare_data(stream, direction(request), data, end_stream);
        self.replied = outcome.reply.is_some();
        outcome
    }

    pub(super) fn end_stream(&mut self) {
        self.words.take();
        if let Some(stream) = self.stream.take() {
            self.worker.end_bare(stream);
        }
    }

    /// Ends stream and plugin.
    pub(super) fn end(&mut self) {
        if let Some(stream) = self.stream.take() {
            self.worker.end_bare(stream);
        }
        self.worker.shutdown();
    }

    /// Why the VM has failed, if it has.
    pub(super) fn failure(&self) -> Option<String> {
        self.worker.failure(NAME).map(str::to_owned)
    }

    /// What has been said since the phase began.
    pub(super) fn take_logs(&self, whose: Phase) -> Vec<String> {
        let said = self.words.take().into_iter();
        said.filter(|(phase, _)| *phase == whose).map(|(_, line)| line).collect()
    }
}

impl Seen {
    /// After a local reply.
    fn nothing() -> Self {
        let outcome = BareOutcome { continues: true, ..BareOutcome::default() };
        Self { outcome, ..Self::default() }
    }
}

pub(super) fn direction(request: bool) -> Direction {
    if request { Direction::Request } else { Direction::Response }
}

/// Headers as the tester hands them over: repeated ones joined.
pub(super) fn joined(given: &[Header]) -> Headers {
    let mut headers = Headers::new();
    for Header { key, value } in given {
        let name = key.to_ascii_lowercase();
        match headers.get(&name).filter(|first| !first.is_empty()) {
            Some(first) => {
                let all = [first, b", ", value].concat();
                headers.set(name.as_bytes(), &all);
            }
            None => headers.set(name.as_bytes(), value),
        }
    }
    headers
}

fn bootstrap(setup: &Setup<'_>) -> String {
    let types = "type.googleapis.com";
    let configuration = match std::str::from_utf8(&setup.configuration) {
        Ok(text) => json!({"@type": format!("{types}/google.protobuf.StringValue"), "value": text}),
        Err(_) => {
            use base64::Engine as _;
            let value = base64::engine::general_purpose::STANDARD.encode(&setup.configuration);
            json!({"@type": format!("{types}/google.protobuf.BytesValue"), "value": value})
        }
    };
    let module = std::path::absolute(&setup.module).unwrap_or_else(|_| setup.module.clone());
    let extension = |name: &str, mut config: serde_json::Value| {
        config["@type"] = json!(format!("{types}/envoy.extensions.{name}"));
        json!({"name": name, "typed_config": config})
    };
    let wasm = json!({"config": {
        "name": NAME,
        "vm_config": {
            "runtime": "envoy.wasm.runtime.v8",
            "code": {"local": {"filename": module}},
        },
        "configuration": configuration,
    }});
    let manager = json!({
        "stat_prefix": "test",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "direct_response": {"status": 404}},
        ]}]},
        "http_filters": [
            extension("filters.http.wasm.v3.Wasm", wasm),
            extension("filters.http.router.v3.Router", json!({})),
        ],
    });
    let manager =
        extension("filters.network.http_connection_manager.v3.HttpConnectionManager", manager);
    let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": 10_000}});
    json!({"static_resources": {"listeners": [
        {"name": "test", "address": address, "filter_chains": [{"filters": [manager]}]},
    ]}})
    .to_string()
}

/// Time that stands.
struct Frozen(UnixNanos);

impl Clock for Frozen {
    fn now(&self) -> UnixNanos {
        self.0
    }
}

/// Log lines, by who said them.
struct Words {
    level: LogLevel,
    said: Mutex<Vec<(Phase, String)>>,
    file: Mutex<Option<File>>,
}

impl Words {
    fn take(&self) -> Vec<(Phase, String)> {
        std::mem::take(&mut *lock(&self.said))
    }
}

impl LogSink for Words {
    fn log(&self, record: &LogRecord<'_>) {
        let stream =
            record.message.strip_prefix("wasm log test: ").map(|line| (Phase::Stream, line));
        let root = || record.message.strip_prefix("wasm log: ").map(|line| (Phase::Root, line));
        // What the host says is not the plugin's.
        let Some((whose, line)) = stream.or_else(root) else { return };
        lock(&self.said).push((whose, line.to_owned()));
        if let Some(file) = &mut *lock(&self.file) {
            let _ = writeln!(file, "{line}");
        }
    }

    fn level(&self) -> LogLevel {
        self.level
    }
}

/// How header names were written, which the host's maps do not keep.
#[derive(Debug, Default)]
struct Spelling(Mutex<BTreeMap<Vec<u8>, Vec<u8>>>);

impl Spelling {
    fn begin(&self, given: &[Header]) {
        lock(&self.0).clear();
        given.iter().for_each(|header| self.note(header.key.as_bytes()));
    }

    fn note(&self, name: &[u8]) {
        lock(&self.0).entry(name.to_ascii_lowercase()).or_insert_with(|| name.to_vec());
    }

    fn note_all(&self, encoded: &[u8]) {
        lock(&self.0).clear();
        for (name, _) in pairs::decode(encoded).unwrap_or_default() {
            self.note(name);
        }
    }

    fn names(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        lock(&self.0).clone()
    }
}

impl Observer for Spelling {
    fn before(&self, _: Origin<'_>, call: &HostcallView<'_>) -> Verdict {
        match call.name {
            "proxy_add_header_map_value" | "proxy_replace_header_map_value" => {
                call.bytes(1).into_iter().for_each(|name| self.note(name));
            }
            "proxy_remove_header_map_value" => {
                if let Some(name) = call.bytes(1) {
                    lock(&self.0).remove(&name.to_ascii_lowercase());
                }
            }
            "proxy_set_header_map_pairs" => self.note_all(call.bytes(1).unwrap_or_default()),
            "proxy_send_local_response" => self.note_all(call.bytes(5).unwrap_or_default()),
            _ => {}
        }
        Verdict::Proceed
    }

    fn hostcall(&self, _: Origin<'_>, _: &HostcallView<'_>, _: Option<Status>) {}
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
