//! The bootstrap with ports that are free.
//!
//! The file names fixed ports, so that it can be run by hand. The demo must not fail because one
//! of them is taken, and replaces each by a free one; nothing else changes but the folder of the
//! certificates and the access log, and both hosts read the result.

use anyhow::Context;
use host_sim_rig::ports;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Ports as the file writes them.
const ADMIN_PORT: u16 = 9901;
const WEIR_PORT: u16 = 10443;
const NATIVE_PORT: u16 = 10444;
const FIRST_ENDPOINT_PORT: u16 = 18001;

/// A bootstrap that can be run now, and where it will listen.
#[derive(Debug)]
pub(super) struct Rendered {
    pub(super) path: PathBuf,
    pub(super) admin: SocketAddr,
    pub(super) weir: SocketAddr,
    pub(super) native: SocketAddr,
    pub(super) endpoints: Vec<SocketAddr>,
}

/// Writes the file for `count` endpoints into `out`.
pub(super) fn render(config: &Path, out: &Path, count: usize) -> anyhow::Result<Rendered> {
    let text = std::fs::read_to_string(config)
        .with_context(|| format!("cannot read {}", config.display()))?;
    let free: Vec<SocketAddr> =
        ports::reserve(count + 3)?.iter().map(ports::ReservedPort::address).collect();
    let fixed =
        [ADMIN_PORT, WEIR_PORT, NATIVE_PORT].into_iter().chain((FIRST_ENDPOINT_PORT..).take(count));
    let mut rendered = text;
    for (port, address) in fixed.zip(&free) {
        let (from, to) = (format!("port_value: {port}"), format!("port_value: {}", address.port()));
        anyhow::ensure!(
            rendered.contains(&from),
            "{}: expected a '{from}', as in envoy-config/demo.yaml",
            config.display()
        );
        rendered = rendered.replace(&from, &to);
    }
    let rendered = rendered.replace("target/demo/", &format!("{}/", out.display()));
    let path = out.join("bootstrap.yaml");
    std::fs::write(&path, rendered).with_context(|| format!("cannot write {}", path.display()))?;
    let mut free = free.into_iter();
    let mut next = || free.next().context("as many ports as were asked for");
    let (admin, weir, native) = (next()?, next()?, next()?);
    Ok(Rendered { path, admin, weir, native, endpoints: free.collect() })
}
