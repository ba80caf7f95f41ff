//! Mistakes as people make them with the Rust SDK. The plugin's configuration names the one to
//! make; the line that makes it ends in a comment `MISTAKE` with that name, which is how a test
//! knows the line that a diagnosis has to name.

#![allow(missing_docs, reason = "the exports are those of the ABI")]

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel, MetricType};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(Root::default()));
}}

/// What all streams of a VM share.
#[derive(Default)]
struct Shared {
    mistake: String,
    seen: Vec<String>,
}

#[derive(Default)]
struct Root {
    shared: Rc<RefCell<Shared>>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        let bytes = self.get_plugin_configuration().unwrap_or_default();
        let mistake = String::from_utf8(bytes).unwrap_or_default();
        if mistake == "counter" {
            let starts = proxy_wasm::hostcalls::define_metric(MetricType::Counter, "starts");
            let starts = starts.unwrap_or_default();
            let _ = proxy_wasm::hostcalls::increment_metric(starts, 1); // MISTAKE counter
        }
        self.shared.borrow_mut().mistake = mistake;
        true
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream { shared: self.shared.clone() }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Stream {
    shared: Rc<RefCell<Shared>>,
}

impl Context for Stream {}

impl Stream {
    fn mistake(&self) -> String {
        self.shared.borrow().mistake.clone()
    }

    /// The tenant of a request, if its client says one.
    fn tenant(&self) -> Option<String> {
        self.get_http_request_header("x-tenant")
    }

    fn remember(&self, user: &str) {
        self.shared.borrow_mut().seen.push(user.to_owned()); // MISTAKE borrow
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let user = self.get_http_request_header("x-user").unwrap_or_default();
        match self.mistake().as_str() {
            "unwrap" => {
                let tenant = self.tenant().unwrap(); // MISTAKE unwrap
                self.set_http_request_header("x-tenant-of", Some(&tenant));
            }
            "index" => {
                let parts: Vec<_> = user.split(',').collect();
                let second = parts[1]; // MISTAKE index
                self.set_http_request_header("x-second", Some(second));
            }
            "borrow" => {
                let shared = self.shared.borrow();
                if shared.seen.len() < 100 {
                    self.remember(&user);
                }
            }
            "keys" => {
                let key = format!("quota/{user}");
                let _ = self.set_shared_data(&key, Some(b"1"), None); // MISTAKE keys
            }
            "race" => {
                let (total, _) = self.get_shared_data("total");
                let total = total.map_or(0, |bytes| bytes.len()) + 1;
                let _ = self.set_shared_data("total", Some(&vec![0; total % 8]), None); // MISTAKE race
            }
            "timeout" => {
                let headers = vec![(":method", "GET"), (":path", "/"), (":authority", "a")];
                let _ = self.dispatch_http_call("backend", headers, None, vec![], Duration::ZERO); // MISTAKE timeout
            }
            "resume" => {
                self.resume_http_request();
                return Action::Pause;
            }
            "path" => {
                let _ = self.get_property(vec!["request.path"]); // MISTAKE path
            }
            _ => {}
        }
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        if self.mistake() == "phase" {
            let path = self.get_http_request_header(":path"); // MISTAKE phase
            self.set_http_response_header("x-path", path.as_deref());
        }
        Action::Continue
    }
}
