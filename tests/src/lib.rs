//! What the end-to-end tests have in common.
//!
//! A test describes a proxy once ([`Suite`]), runs it in either host ([`Host`]), sends requests and
//! looks at answers, at what the endpoints received, and at the metrics. Each test of this kind
//! exists twice, once in host-sim and once in real Envoy, from one body: see [`on_both_hosts`].

pub mod experiment;
mod host;
mod rate_limit;
mod suite;

pub use host::{Host, Running, eventually};
pub use rate_limit::{Asked, Limitador, RateLimitService, Services};
pub use suite::{Suite, module};

/// Makes two tests of one body: `<name>::host_sim` and `<name>::envoy`. The latter is skipped, and
/// says so, where Envoy is not installed; with `CI=true` that is a failure.
#[macro_export]
macro_rules! on_both_hosts {
    ($(async fn $name:ident($host:ident: Host) $body:block)+) => {$(
        mod $name {
            use super::*;

            async fn scenario($host: $crate::Host) -> anyhow::Result<()> {
                $body
                Ok(())
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn host_sim() -> anyhow::Result<()> {
                scenario($crate::Host::HostSim).await
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn envoy() -> anyhow::Result<()> {
                match $crate::Host::envoy()? {
                    Some(envoy) => scenario(envoy).await,
                    None => Ok(()),
                }
            }
        }
    )+};
}
