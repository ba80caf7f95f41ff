//! Endpoints with set service times, an open-loop load generator, and test certificates.
//!
//! The rig surrounds a proxy under test: [`load`] sends to it, [`endpoint`]s answer behind it,
//! [`process`] runs it, [`client`] looks at single answers. Everything binds loopback addresses
//! and, unless told otherwise, ports the kernel picks.
//!
//! Two properties make measurements with it honest:
//!
//! - **Service times are timers.** An endpoint with eight busy slots costs no CPU, so twenty
//!   endpoints and the generator fit on one core and leave the other to the proxy. What is
//!   measured is then queueing and routing, not the contention of the simulated work.
//! - **Load is open-loop.** Requests are due at times drawn beforehand, and latency counts from
//!   that time. A closed-loop generator waits for the slow answers it should be measuring, which
//!   hides exactly the tail that load balancing is about ("coordinated omission").
//!
//! All randomness comes from seeds: the same seed gives the same arrivals, clients and service
//! times, so that two policies can be compared on the same trace.
//!
//! ```
//! use host_sim_rig::client::Client;
//! use host_sim_rig::endpoint::{Endpoint, EndpointOptions};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let endpoint = Endpoint::start(EndpointOptions::named("e1")).await?;
//! let response = Client::new().get(&endpoint.url("/orders/1")).await?;
//! assert_eq!(response.status, 200);
//! assert_eq!(response.header("x-endpoint"), Some("e1"));
//! # anyhow::Ok(())
//! # })?;
//! # anyhow::Ok(())
//! ```

pub mod certificates;
pub mod client;
pub mod connect;
pub mod draw;
pub mod duration;
pub mod endpoint;
pub mod fleet;
pub mod grpc;
pub mod load;
pub mod ports;
pub mod process;
mod rfc3339;
pub mod service_time;
mod sync;
