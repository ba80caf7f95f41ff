//! The live proxy: hyper and rustls around the engine.
//!
//! The engine decides, this crate moves bytes. One operating-system thread a worker, each with its
//! own event loop, VMs, listening sockets (`SO_REUSEPORT`) and upstream connections, as in Envoy:
//! a request is never handed from thread to thread and meets no lock but those of the engine's
//! shared data. A main thread ticks the plugins' main-thread VMs, resolves names and serves the
//! admin endpoint.
//!
//! Everything on a worker is single-threaded, so its state sits in `Rc` and `RefCell`. The rule
//! that makes that safe: `Driver::input` is the only door to the engine,
//! and carrying out what the engine asks never calls back in: it fills queues and wakes tasks.
//!
//! Bodies stream with backpressure: who feeds the engine a chunk waits until the queues this chunk
//! ended up in have room, so a slow reader on one side slows the writer on the other and memory
//! stays bounded.
//!
//! ```no_run
//! # fn bootstrap() -> host_sim_bootstrap::Bootstrap {
//! #     host_sim_bootstrap::Bootstrap::from_yaml("static_resources: {}").unwrap()
//! # }
//! use host_sim_proxy::{Proxy, ProxyOptions};
//!
//! let proxy = Proxy::start(bootstrap(), ProxyOptions::default())?;
//! for (name, address) in proxy.listeners() {
//!     println!("listening {name} {address}");
//! }
//! proxy.drain_and_stop();
//! # Ok::<(), host_sim_proxy::ProxyError>(())
//! ```

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod access_log;
mod admin;
mod body_queue;
mod clock;
mod dns;
mod downstream;
mod driver;
mod error;
mod header_map;
mod lifecycle;
mod listen;
mod main_thread;
mod options;
mod proxy;
mod tcp;
mod timer;
mod tls;
mod upstream;
mod worker_thread;

pub use access_log::FileAccessLog;
pub use clock::SteadyClock;
pub use error::ProxyError;
pub use options::ProxyOptions;
pub use proxy::{Proxy, RunningProxy};
