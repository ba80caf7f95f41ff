//! host-sim against real Envoy, every cell: `make conform` prints what differs.

use host_sim_conform::{Options, conform};
use weir_tests::Host;

/// Guards the claim of the whole host: a change of the engine that Envoy would not make is seen
/// here, by the name of the hostcall and callback.
#[test]
fn host_sim_does_what_envoy_does_in_every_cell() -> anyhow::Result<()> {
    let Some(Host::Envoy(envoy)) = Host::envoy()? else { return Ok(()) };
    let report = conform(&Options { envoy, filter: None, quick: true }, |_| ())?;
    assert!(report.total >= 60_000, "{} cells", report.total);
    assert!(report.agrees(), "{report}");
    Ok(())
}
