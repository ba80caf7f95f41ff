//! What the fuzzers do with their input: each function takes any bytes, and may not panic or hang.

mod guest;

use host_sim::{Answer, Behaviour, Host, HostOptions, Limits, Request, Scenario};
use host_sim_bootstrap::Bootstrap;
use std::time::Duration;

/// The header-map codec: what can be decoded is encoded to the same again.
pub fn pairs(input: &[u8]) {
    let Ok(pairs) = host_sim_abi::pairs::decode(input) else { return };
    let mut encoded = Vec::new();
    host_sim_abi::pairs::encode(pairs.iter().copied(), &mut encoded);
    assert_eq!(host_sim_abi::pairs::decode(&encoded).as_ref(), Ok(&pairs));
}

/// An Envoy bootstrap.
pub fn bootstrap(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input) {
        let _ = Bootstrap::from_yaml(text);
    }
}

/// A scenario file.
pub fn scenario(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input) {
        let _ = Scenario::parse(text);
    }
}

/// A suite of the plugin tester.
pub fn textpb(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input) {
        let _ = host_sim::check_suite(text);
    }
}

/// Hostcalls of a guest that means harm, in any callback, with any arguments: see [`guest`].
pub fn hostile(input: &[u8]) {
    let _ = served(input);
}

/// The host after some traffic, unless it did not start, which is its right.
pub fn served(input: &[u8]) -> Option<Host> {
    let bootstrap = guest::bootstrap(input);
    let endpoint = ([127, 0, 0, 1], 9001).into();
    let bootstrap = Bootstrap::from_yaml(&bootstrap).expect("the text below is a bootstrap");
    let options = HostOptions { limits: limits(), ..HostOptions::default() };
    let mut host = Host::start(bootstrap, options).ok()?;
    let answer = Answer {
        headers: vec![("content-type".to_owned(), "text/plain".to_owned())],
        body: b"an answer".to_vec(),
        trailers: vec![("x-trailer".to_owned(), "t".to_owned())],
        ..Answer::default()
    };
    host.behave(endpoint, Behaviour { answer, ..Behaviour::default() });
    host.send(&Request::get("/a").header("x-a", "b"));
    host.send(&Request::new("POST", "/b").chunk("one ").chunk("two"));
    host.settle(PATIENCE);
    host.advance(Duration::from_secs(3));
    host.send(&Request::get("/c").abort_after(Duration::from_micros(1)));
    host.settle(PATIENCE);
    Some(host)
}

/// How long a request may take: more than the route's timeout, and few ticks of a guest that wants one
/// each millisecond.
const PATIENCE: Duration = Duration::from_secs(5);

/// Little of everything, so that a run is over in milliseconds.
fn limits() -> Limits {
    Limits {
        memory: 8 << 20,
        fuel: Some(1_000_000),
        hostcalls: Some(1000),
        hostcall_bytes: Some(1 << 20),
        ..Limits::default()
    }
}
