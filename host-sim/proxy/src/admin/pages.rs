//! What there is to ask for.

use super::reply::{Query, json, reply};
use super::{Admin, clusters, server_info, stats};
use crate::lifecycle::Phase;
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use std::fmt::Write;
use std::sync::atomic::Ordering;

type Answer = fn(&Admin, &Query) -> Response<Full<Bytes>>;

/// One path.
pub(super) struct Page {
    path: &'static str,
    help: &'static str,
    /// Needs POST.
    pub(super) changes: bool,
    pub(super) answer: Answer,
}

/// The page of that path.
pub(super) fn find(path: &str) -> Option<&'static Page> {
    // The bare address is what a browser asks for.
    let path = if path == "/" { "/help" } else { path };
    PAGES.iter().find(|page| page.path == path)
}

/// One line a page.
pub(super) fn help() -> String {
    let mut text = String::new();
    for page in PAGES {
        let method = if page.changes { " (POST)" } else { "" };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {}{method}: {}", page.path, page.help);
    }
    text
}

const PAGES: &[Page] = &[
    page("/clusters", "status of upstream clusters and endpoints", |admin, _| {
        reply(StatusCode::OK, clusters::text(&admin.engine))
    }),
    page("/config_dump", "not kept: the configuration is the bootstrap file", |_, _| {
        let text = "host-sim has no dynamic configuration: what it runs is the file it was \
                    started with\n";
        reply(StatusCode::NOT_FOUND, text)
    }),
    changing("/drain_listeners", "accept no more connections", |admin, _| {
        admin.advance(Phase::Closed);
        ok()
    }),
    changing("/healthcheck/fail", "answer /ready with DRAINING", |admin, _| {
        admin.failing.store(true, Ordering::Release);
        ok()
    }),
    changing("/healthcheck/ok", "undo /healthcheck/fail", |admin, _| {
        admin.failing.store(false, Ordering::Release);
        ok()
    }),
    page("/help", "this list", |_, _| {
        reply(StatusCode::OK, format!("admin commands are:\n{}", help()))
    }),
    page("/listeners", "names and addresses of listeners (format=json)", listeners),
    changing("/quitquitquit", "drain and stop", |admin, _| {
        admin.advance(Phase::Draining);
        ok()
    }),
    page("/ready", "LIVE with 200, anything else with 503", |admin, _| {
        let state = admin.state();
        let live = state == "LIVE";
        let status = if live { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        reply(status, format!("{state}\n"))
    }),
    page("/server_info", "version, state and uptime as JSON", |admin, _| {
        json(&server_info::value(admin))
    }),
    page("/stats", "stats (filter=REGEX, usedonly, format=prometheus|json)", stats::stats),
    page("/stats/prometheus", "stats in Prometheus format (filter=REGEX, usedonly)", |admin, q| {
        stats::exposition(admin, q)
    }),
];

const fn page(path: &'static str, help: &'static str, answer: Answer) -> Page {
    Page { path, help, changes: false, answer }
}

const fn changing(path: &'static str, help: &'static str, answer: Answer) -> Page {
    Page { path, help, changes: true, answer }
}

fn ok() -> Response<Full<Bytes>> {
    reply(StatusCode::OK, "OK\n")
}

fn listeners(admin: &Admin, query: &Query) -> Response<Full<Bytes>> {
    if query.get("format") == Some("json") {
        let statuses: Vec<_> = admin
            .listeners
            .iter()
            .map(|(name, address)| {
                let socket = serde_json::json!({
                    "address": address.ip().to_string(),
                    "port_value": address.port(),
                });
                serde_json::json!({ "name": name, "local_address": { "socket_address": socket } })
            })
            .collect();
        return json(&serde_json::json!({ "listener_statuses": statuses }));
    }
    let mut text = String::new();
    for (name, address) in &admin.listeners {
        let _ = writeln!(text, "{name}::{address}");
    }
    reply(StatusCode::OK, text)
}
