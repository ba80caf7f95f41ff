//! What an observer sees, and what it can change.

use crate::rig::{Plugin, Setup};
use host_sim_abi::Status;
use host_sim_engine::{CallbackEnd, HostcallView, Observer, Origin, Verdict};
use std::sync::{Arc, Mutex};

/// Notes everything as a line, and answers `proxy_set_shared_data` in the host's place.
#[derive(Default)]
struct Notes {
    lines: Mutex<Vec<String>>,
    verdict: Verdict,
    interrupted: Option<&'static str>,
}

impl Notes {
    fn note(&self, origin: Origin<'_>, line: String) {
        // The canary, which is the main thread's here, is of no interest.
        if origin.worker.is_some() && origin.exchange.is_some() {
            self.lines.lock().unwrap().push(line);
        }
    }
}

impl Observer for Notes {
    fn enter(&self, origin: Origin<'_>, name: &'static str) {
        self.note(origin, format!("{} {name}", origin.plugin));
    }

    fn interrupt(&self, origin: Origin<'_>, name: &'static str) -> Option<String> {
        (origin.worker.is_some() && self.interrupted == Some(name)).then(|| "no more".to_owned())
    }

    fn before(&self, origin: Origin<'_>, call: &HostcallView<'_>) -> Verdict {
        match (call.name, call.bytes(0)) {
            ("proxy_set_shared_data", key) => {
                self.note(origin, format!("> {} {key:?}", call.name));
                self.verdict.clone()
            }
            (name, _) => {
                self.note(origin, format!("> {name}"));
                Verdict::Proceed
            }
        }
    }

    fn hostcall(&self, origin: Origin<'_>, call: &HostcallView<'_>, status: Option<Status>) {
        self.note(origin, format!("< {} {status:?}", call.name));
    }

    fn callback(&self, origin: Origin<'_>, name: &'static str, end: CallbackEnd) {
        self.note(origin, format!("{name} {:?} {}", end.returned, end.trapped));
    }
}

const WRITES: &str = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (call $say (call $set_shared {k} {v} (i32.const 0))) (i32.const 0))"#;

/// Sends a request through a plugin that writes the key `k`; gives the status the client got, the
/// observer's notes, whether the key is there, and the plugin's log.
fn observed(verdict: Verdict) -> (u16, Vec<String>, bool, Vec<String>) {
    observed_by(Notes { verdict, ..Notes::default() })
}

fn observed_by(notes: Notes) -> (u16, Vec<String>, bool, Vec<String>) {
    let notes = Arc::new(notes);
    let mut setup = Setup::of([Plugin::new("p", WRITES)]);
    setup.observer = Some(notes.clone());
    let mut rig = setup.start();
    let id = rig.get("/");
    let status = rig.answer(id).status();
    let written = rig.engine.shared_data().key_count("") == 1;
    let lines = notes.lines.lock().unwrap().clone();
    (status, lines, written, rig.log())
}

#[test]
fn callbacks_and_hostcalls_are_seen_before_and_after() {
    let (_, lines, written, log) = observed(Verdict::Proceed);
    assert_eq!(
        lines,
        [
            "p proxy_on_request_headers",
            "> proxy_set_shared_data Some([107])",
            "< proxy_set_shared_data Some(Ok)",
            "> proxy_log",
            "< proxy_log Some(Ok)",
            "proxy_on_request_headers Some(0) false",
        ]
    );
    assert!(written);
    assert_eq!(log, ["p: 0"]);
}

#[test]
fn an_answer_in_the_hosts_place_reaches_the_guest_and_the_host_does_nothing() {
    let (_, lines, written, log) = observed(Verdict::Answer(Status::CasMismatch));
    assert!(lines.contains(&"< proxy_set_shared_data Some(CasMismatch)".to_owned()), "{lines:?}");
    assert!(!written);
    assert_eq!(log, ["p: 8"]);
}

#[test]
fn a_trap_in_the_hosts_place_fails_the_vm_with_its_reason() {
    let (status, lines, written, log) = observed(Verdict::Trap("struck by lightning".to_owned()));
    assert_eq!(status, 503);
    assert_eq!(lines.last().unwrap(), "proxy_on_request_headers None true");
    assert!(!written && log.iter().any(|line| line.contains("struck by lightning")), "{log:?}");
}

#[test]
fn an_interrupted_callback_never_runs_and_fails_the_vm_with_its_reason() {
    let interrupted = Some("proxy_on_request_headers");
    let (status, lines, written, log) = observed_by(Notes { interrupted, ..Notes::default() });
    assert_eq!((status, written), (503, false));
    assert_eq!(lines, ["p proxy_on_request_headers", "proxy_on_request_headers None true"]);
    assert!(log.iter().any(|line| line.contains("no more")), "{log:?}");
}
