//! What a plugin needs of its host, without panics.
//!
//! The SDK's getters unwrap, and its hostcalls panic on every status they do not list. A panic
//! kills the VM of that worker, and with the default failure policy every request after it. So
//! this crate declares the hostcalls itself ([`ffi`]), takes any status as data, and gives the
//! plugins a small vocabulary: time, properties, headers, shared data, metrics, replies, calls.
//! What fails is a `None` or an error, is counted by [`Degraded`], and is logged once.
//!
//! The SDK still does what it does well: it turns exported functions into trait methods. One
//! hostcall stays with it, the HTTP call, because its dispatcher must know the call's number.
//!
//! No other crate of the suite names a hostcall.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod call;
mod clock;
mod configure;
mod degraded;
mod draws;
mod expression;
mod ffi;
mod foreign;
pub mod grpc;
pub mod headers;
mod logger;
pub mod metrics;
pub mod property;
mod reply;
mod store;

pub use call::CallError;
pub use clock::{Moment, heard, now, recently, set_tick_period};
pub use configure::configure;
pub use degraded::Degraded;
pub use draws::{Draws, draw_seed};
pub use expression::Expression;
pub use foreign::set_original_dst;
pub use logger::{install, warn};
pub use property::set_filter_state;
pub use reply::{Reply, reply, resume_request, resume_request_of};
pub use store::HostStore;

/// Registers a plugin: `main!(module: "token-bucket", root: Root::new)`, where `Root::new` takes
/// the context's number and gives a `proxy_wasm::traits::RootContext`.
#[macro_export]
macro_rules! main {
    (module: $module:literal, root: $root:expr $(,)?) => {
        proxy_wasm::main! {{
            $crate::install($module, env!("CARGO_PKG_VERSION"));
            proxy_wasm::set_root_context(|context_id| Box::new($root(context_id)));
        }}
    };
}
