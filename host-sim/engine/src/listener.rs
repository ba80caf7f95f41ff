//! A listener as the engine runs it: what can be compiled once is compiled here.

use crate::access_log::{FormatError, LineFormatter};
use crate::header_mutation::CompiledTransforms;
use crate::stats::{Counter, Gauge};
use crate::stream::RouteRef;
use crate::{Histogram, Stats};
use host_sim_bootstrap::{self as bootstrap, AccessLogSink as Target, RouteConfig};

/// Compiled parts of a listener.
pub(crate) struct Listener {
    pub(crate) access_logs: Vec<AccessLog>,
    /// Of a connection manager.
    pub(crate) http: Option<HttpStats>,
    /// Of a TCP proxy.
    pub(crate) tcp: Option<TcpStats>,
    table: CompiledTransforms,
    hosts: Vec<(CompiledTransforms, Vec<CompiledTransforms>)>,
}

/// One access logger.
pub(crate) struct AccessLog {
    pub(crate) target: String,
    pub(crate) formatter: LineFormatter,
}

/// `http.<stat_prefix>.*`
pub(crate) struct HttpStats {
    pub(crate) rq_total: Counter,
    pub(crate) rq_active: Gauge,
    pub(crate) rq_time: Histogram,
    pub(crate) rq_idle_timeout: Counter,
    pub(crate) rq_timeout: Counter,
    pub(crate) rq_max_duration_reached: Counter,
    classes: [Counter; 5],
}

/// `tcp.<stat_prefix>.*`
pub(crate) struct TcpStats {
    pub(crate) cx_total: Counter,
    pub(crate) cx_no_route: Counter,
    pub(crate) rx_bytes: Counter,
    pub(crate) tx_bytes: Counter,
    pub(crate) idle_timeout: Counter,
    pub(crate) max_duration: Counter,
}

impl Listener {
    pub(crate) fn new(config: &bootstrap::Listener, stats: &Stats) -> Result<Self, FormatError> {
        let access_logs = config.access_logs().iter().map(AccessLog::new);
        let routes = config.http().map(|manager| &manager.route_config);
        Ok(Self {
            access_logs: access_logs.collect::<Result<_, _>>()?,
            http: config.http().map(|manager| HttpStats::new(stats, &manager.stat_prefix)),
            tcp: config.tcp().map(|proxy| TcpStats::new(stats, &proxy.stat_prefix)),
            table: routes.map_or(Ok(CompiledTransforms::default()), |routes| {
                CompiledTransforms::new(&routes.headers)
            })?,
            hosts: routes.map_or(Ok(Vec::new()), hosts)?,
        })
    }

    /// Header transforms of a route, in the order they run: route, virtual host, table.
    pub(crate) fn transforms(&self, at: RouteRef) -> impl Iterator<Item = &CompiledTransforms> {
        let host = self.hosts.get(at.host);
        let route = host.and_then(|(_, routes)| routes.get(at.route));
        route.into_iter().chain(host.map(|(host, _)| host)).chain([&self.table])
    }
}

impl AccessLog {
    fn new(config: &bootstrap::AccessLog) -> Result<Self, FormatError> {
        let target = match &config.sink {
            Target::File(path) => path.to_string_lossy().into_owned(),
            Target::Stdout => "/dev/stdout".to_owned(),
            Target::Stderr => "/dev/stderr".to_owned(),
        };
        let formatter = LineFormatter::new(&config.format, config.omit_empty_values)?;
        Ok(Self { target, formatter })
    }
}

impl HttpStats {
    fn new(stats: &Stats, prefix: &str) -> Self {
        let class =
            |class: usize| stats.counter(&format!("http.{prefix}.downstream_rq_{}xx", class + 1));
        let counter = |name: &str| stats.counter(&format!("http.{prefix}.downstream_rq_{name}"));
        Self {
            rq_total: counter("total"),
            rq_active: stats.gauge(&format!("http.{prefix}.downstream_rq_active")),
            rq_time: stats.histogram(&format!("http.{prefix}.downstream_rq_time")),
            rq_idle_timeout: counter("idle_timeout"),
            rq_timeout: counter("timeout"),
            rq_max_duration_reached: counter("max_duration_reached"),
            classes: std::array::from_fn(class),
        }
    }

    /// Counts a response by its class.
    pub(crate) fn count(&self, status: u16) {
        let class = usize::from(status / 100).checked_sub(1);
        if let Some(counter) = class.and_then(|class| self.classes.get(class)) {
            counter.inc();
        }
    }
}

impl TcpStats {
    fn new(stats: &Stats, prefix: &str) -> Self {
        let counter = |name: &str| stats.counter(&format!("tcp.{prefix}.{name}"));
        Self {
            cx_total: counter("downstream_cx_total"),
            cx_no_route: counter("downstream_cx_no_route"),
            rx_bytes: counter("downstream_cx_rx_bytes_total"),
            tx_bytes: counter("downstream_cx_tx_bytes_total"),
            idle_timeout: counter("idle_timeout"),
            max_duration: counter("max_downstream_connection_duration"),
        }
    }
}

type HostTransforms = Vec<(CompiledTransforms, Vec<CompiledTransforms>)>;

fn hosts(table: &RouteConfig) -> Result<HostTransforms, FormatError> {
    let host = |host: &bootstrap::VirtualHost| {
        let routes = host.routes.iter().map(|route| CompiledTransforms::new(&route.headers));
        Ok((CompiledTransforms::new(&host.headers)?, routes.collect::<Result<_, _>>()?))
    };
    table.virtual_hosts.iter().map(host).collect()
}
