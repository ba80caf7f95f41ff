//! The bootstrap with ports that are free.
//!
//! The file names fixed ports, so that it can be run by hand. The demo must not fail because one
//! of them is taken, and replaces each by a free one; nothing else changes but the folder of the
//! certificates and the access log, and both hosts read the result.

use anyhow::Context;
use host_sim_rig::ports::{self, ReservedPort};
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
    /// Keeps the ports from everybody else while the demo lasts, also between its two proxies and
    /// while an endpoint is dead.
    _ports: Vec<ReservedPort>,
}

/// Writes the file for `count` endpoints into `out`.
pub(super) fn render(config: &Path, out: &Path, count: usize) -> anyhow::Result<Rendered> {
    let text = std::fs::read_to_string(config)
        .with_context(|| format!("cannot read {}", config.display()))?;
    let ports = ports::reserve(count + 3)?;
    let free: Vec<SocketAddr> = ports.iter().map(ReservedPort::address).collect();
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
    Ok(Rendered { path, admin, weir, native, endpoints: free.collect(), _ports: ports })
}

#[cfg(test)]
mod tests {
    use super::*;
    use host_sim_bootstrap::Bootstrap;

    /// The file that `make demo` reads.
    const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../envoy-config/demo.yaml");

    #[test]
    fn the_demos_file_differs_by_its_ports_and_folder_only() {
        let out = tempfile::tempdir().unwrap();
        let rendered = render(Path::new(DEMO), out.path(), 5).unwrap();
        let bootstrap = Bootstrap::from_file(&rendered.path).unwrap();
        let listening: Vec<_> = bootstrap
            .listeners
            .iter()
            .map(|listener| (listener.name.as_str(), listener.address.to_socket_addr()))
            .collect();
        assert_eq!(listening, [("weir", Some(rendered.weir)), ("native", Some(rendered.native))]);
        let mut backward = std::fs::read_to_string(&rendered.path).unwrap();
        let addresses = [rendered.admin, rendered.weir, rendered.native];
        let fixed = [ADMIN_PORT, WEIR_PORT, NATIVE_PORT].into_iter().chain(FIRST_ENDPOINT_PORT..);
        for (address, port) in addresses.iter().chain(&rendered.endpoints).zip(fixed) {
            let (from, to) =
                (format!("port_value: {}", address.port()), format!("port_value: {port}"));
            backward = backward.replace(&from, &to);
        }
        let backward = backward.replace(&format!("{}/", out.path().display()), "target/demo/");
        assert_eq!(backward, std::fs::read_to_string(DEMO).unwrap());
    }

    #[test]
    fn a_file_without_the_demos_ports_is_told_which_one_is_missing() {
        let out = tempfile::tempdir().unwrap();
        let file = out.path().join("other.yaml");
        std::fs::write(&file, "static_resources: {}\n").unwrap();
        let error = render(&file, out.path(), 5).unwrap_err().to_string();
        assert!(error.contains("expected a 'port_value: 9901'"), "{error}");
    }
}
