//! Traffic that brings a plugin's mistakes to light: many clients, bodies, failures, time.

use crate::dns;
use crate::endpoint::{Answer, Behaviour, Failure};
use crate::{Connect, Host, Request, RequestId};
use host_sim_bootstrap::Bootstrap;
use std::net::SocketAddr;
use std::time::Duration;

/// Clients, each with a path and credentials of its own.
const CLIENTS: usize = 192;

/// Connections through a listener that passes bytes.
const CONNECTIONS: usize = 96;

/// Longest that requests are waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Time for ticks after all requests.
const QUIET: Duration = Duration::from_secs(65);

/// Sends it. Every endpoint of the bootstrap answers with a body.
pub(super) fn run(host: &mut Host, bootstrap: &Bootstrap) {
    let endpoints = dns::make_up(host.engine().clusters());
    for endpoint in &endpoints {
        host.behave(*endpoint, healthy());
    }
    let workers = host.workers();
    connect(host, bootstrap, workers);
    if bootstrap.listeners.iter().any(|listener| listener.http().is_some()) {
        request(host, &endpoints, workers);
    }
    host.advance(QUIET);
}

/// Connections through every listener that passes bytes: some end well, some are reset.
fn connect(host: &mut Host, bootstrap: &Bootstrap, workers: usize) {
    let listeners = bootstrap.listeners.iter().filter(|listener| listener.tcp().is_some());
    for listener in listeners {
        for client in 0..CONNECTIONS {
            let to = Connect::to(&listener.name).on_worker(client % workers);
            let Some(id) = host.connect(&to) else { continue };
            host.send_bytes(id, format!("hello {:08x}\r\n", spread(client)).into_bytes());
            host.advance(Duration::from_millis(5));
            host.send_bytes(id, b"goodbye\r\n".to_vec());
            if client % 8 == 7 {
                host.abort(id)
            } else {
                host.half_close(id)
            }
            host.advance(Duration::from_millis(5));
        }
    }
}

fn request(host: &mut Host, endpoints: &[SocketAddr], workers: usize) {
    for client in 0..CLIENTS {
        let id = host.send(&get(client, client % workers));
        settle(host, id);
        if client % 64 == 63 {
            host.advance(Duration::from_secs(1));
        }
    }
    for client in 0..2 * workers {
        let id = host.send(&post(client, client % workers));
        settle(host, id);
    }
    let failures = [Failure::Refuse, Failure::Reset, Failure::ResetMidStream];
    for failure in failures {
        for endpoint in endpoints {
            host.script(*endpoint, [Behaviour { failure: Some(failure), ..healthy() }]);
        }
        let id = host.send(&get(CLIENTS, 0));
        settle(host, id);
    }
    for status in [404, 503] {
        for endpoint in endpoints {
            let answer = Answer { status, ..healthy().answer };
            host.script(*endpoint, [Behaviour { answer, ..healthy() }]);
        }
        let id = host.send(&get(CLIENTS + 1, workers - 1));
        settle(host, id);
    }
}

fn settle(host: &mut Host, id: RequestId) {
    let step = Duration::from_millis(5);
    for _ in 0..8 {
        if host.is_complete(id) {
            return;
        }
        host.advance(step);
    }
    host.settle(PATIENCE);
}

fn get(client: usize, worker: usize) -> Request {
    Request::get(&format!("/items/{:08x}?page={client}", spread(client)))
        .header("user-agent", "host-sim/1.0")
        .header("accept", "*/*")
        .header("x-user", &format!("user-{:08x}", spread(client)))
        .header("x-api-key", &format!("key-{:016x}", spread(client)))
        .header("authorization", &format!("Bearer {:032x}", spread(client)))
        .header("cookie", &format!("session={:08x}", spread(client)))
        .header("x-request-id", &format!("{:08x}-0000-4000-8000-000000000000", spread(client)))
        .from_address([10, 0, (client / 200) as u8, (client % 200) as u8 + 1])
        .on_worker(worker)
}

fn post(client: usize, worker: usize) -> Request {
    let chunks = ["{\"name\": ", "\"something\", ", "\"size\": 12345}"];
    let length: usize = chunks.iter().map(|chunk| chunk.len()).sum();
    let request = Request::new("POST", &format!("/items?client={client}"))
        .header("content-type", "application/json")
        .header("content-length", &length.to_string())
        .header("x-user", &format!("user-{:08x}", spread(client)))
        .on_worker(worker);
    chunks.into_iter().fold(request, Request::chunk)
}

/// Numbers that look like identifiers.
fn spread(client: usize) -> u32 {
    (client as u32 + 1).wrapping_mul(2_654_435_761)
}

fn healthy() -> Behaviour {
    let body = b"{\"ok\": true, \"items\": [1, 2, 3]}".to_vec();
    let headers = vec![
        ("content-type".to_owned(), "application/json".to_owned()),
        ("content-length".to_owned(), body.len().to_string()),
    ];
    let answer = Answer { status: 200, headers, body, ..Answer::default() };
    Behaviour { latency: Duration::from_millis(2), answer, ..Behaviour::default() }
}
