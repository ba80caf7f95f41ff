//! A plugin of the kind that people write first: it ticks, asks a service, adds a header, replaces
//! a body, refuses. It is compiled against several versions of the SDK, whose traits differ in one
//! argument.

use log::info;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, LogLevel};
use std::cell::RefCell;
use std::time::Duration;

/// The SDK of ABI 0.1.0 has no macro for it.
#[no_mangle]
pub extern "C" fn _initialize() {
    extern "C" {
        fn __wasm_call_ctors();
    }
    // Safety: the linker's own function; a host calls this export once, before any other.
    unsafe { __wasm_call_ctors() };
    proxy_wasm::set_log_level(LogLevel::Trace);
    proxy_wasm::set_root_context(|_| Box::new(Root::default()));
    #[cfg(feature = "first-abi")]
    proxy_wasm::set_http_context(|_, _| Box::new(Filter { name: name() }));
}

thread_local! {
    /// What the root was configured as, for streams: the older SDK gives them no root to ask.
    static NAME: RefCell<String> = const { RefCell::new(String::new()) };
}

fn name() -> String {
    NAME.with(|name| name.borrow().clone())
}

#[derive(Default)]
struct Root {
    ticks: u32,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        let bytes = configuration(self).unwrap_or_default();
        let name = String::from_utf8_lossy(&bytes).into_owned();
        info!("configured as {name}");
        NAME.with(|own| *own.borrow_mut() = name);
        self.set_tick_period(Duration::from_secs(1));
        true
    }

    fn on_tick(&mut self) {
        self.ticks += 1;
        info!("tick {}", self.ticks);
    }

    #[cfg(not(feature = "first-abi"))]
    fn get_type(&self) -> Option<proxy_wasm::types::ContextType> {
        Some(proxy_wasm::types::ContextType::HttpContext)
    }

    #[cfg(not(feature = "first-abi"))]
    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Filter { name: name() }))
    }
}

#[cfg(not(feature = "first-abi"))]
fn configuration(root: &Root) -> Option<Vec<u8>> {
    root.get_plugin_configuration()
}

#[cfg(feature = "first-abi")]
fn configuration(root: &Root) -> Option<Vec<u8>> {
    root.get_configuration()
}

struct Filter {
    name: String,
}

impl Filter {
    fn begin(&mut self) -> Action {
        let path = self.get_http_request_header(":path").unwrap_or_default();
        match path.as_str() {
            "/refused" => {
                self.send_http_response(403, vec![("x-refused-by", &self.name)], Some(b"refused"));
                Action::Pause
            }
            "/ask" => {
                let headers =
                    vec![(":method", "GET"), (":path", "/verdict"), (":authority", "judge")];
                let sent =
                    self.dispatch_http_call("backend", headers, None, vec![], Duration::from_secs(1));
                info!("asked: {}", sent.is_ok());
                Action::Pause
            }
            _ => {
                self.add_http_request_header("x-plugin", &self.name);
                Action::Continue
            }
        }
    }

    fn answer(&mut self) -> Action {
        self.add_http_response_header("x-served-through", &self.name);
        self.set_http_response_header("content-length", None);
        Action::Continue
    }
}

impl Context for Filter {
    fn on_http_call_response(&mut self, _: u32, _: usize, size: usize, _: usize) {
        let body = self.get_http_call_response_body(0, size).unwrap_or_default();
        info!("verdict: {}", String::from_utf8_lossy(&body));
        if body == b"yes" {
            self.resume_http_request();
        } else {
            self.send_http_response(403, vec![("x-refused-by", "judge")], Some(b"judged"));
        }
    }
}

impl HttpContext for Filter {
    #[cfg(feature = "first-abi")]
    fn on_http_request_headers(&mut self, _: usize) -> Action {
        self.begin()
    }

    #[cfg(not(feature = "first-abi"))]
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        self.begin()
    }

    #[cfg(feature = "first-abi")]
    fn on_http_response_headers(&mut self, _: usize) -> Action {
        self.answer()
    }

    #[cfg(not(feature = "first-abi"))]
    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        self.answer()
    }

    fn on_http_response_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        if !end_of_stream {
            return Action::Pause;
        }
        let body = self.get_http_response_body(0, size).unwrap_or_default();
        if body == b"replace me" {
            self.set_http_response_body(0, size, b"replaced");
        }
        Action::Continue
    }

    fn on_log(&mut self) {
        info!("over");
    }
}
