//! A proxy under test.

use crate::bootstrap::File;
use host_sim_engine::{LogLevel, LogRecord, LogSink};
use host_sim_proxy::{Proxy, ProxyOptions, RunningProxy};
use host_sim_rig::client::{Client, Response};
use std::num::NonZeroU32;
use std::sync::Arc;

/// Starts a proxy with two workers.
pub(crate) fn start(file: &File) -> RunningProxy {
    Proxy::start(file.parse(), options()).unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn options() -> ProxyOptions {
    let concurrency = NonZeroU32::new(2).unwrap();
    let mut options = ProxyOptions { concurrency, ..ProxyOptions::default() };
    options.engine.log = Arc::new(TestLog);
    options
}

/// The URL of a path on the listener.
pub(crate) fn url(proxy: &RunningProxy, path: &str) -> String {
    format!("http://{}{path}", proxy.listener("main").unwrap())
}

/// A page of the admin endpoint.
pub(crate) async fn admin(proxy: &RunningProxy, path: &str) -> Response {
    Client::new().get(&format!("http://{}{path}", proxy.admin().unwrap())).await.unwrap()
}

/// A stat's value, by its full name.
pub(crate) fn counter(proxy: &RunningProxy, name: &str) -> u64 {
    proxy.engine().stats().counter_value(name)
}

/// Warnings go where a failing test shows them.
struct TestLog;

impl LogSink for TestLog {
    fn log(&self, record: &LogRecord<'_>) {
        eprintln!("{:?} {}", record.level, record.message);
    }

    fn level(&self) -> LogLevel {
        LogLevel::Warn
    }
}
