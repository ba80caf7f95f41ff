//! `host-sim certs`: certificates for tests.

use clap::Args;
use host_sim_rig::certificates;
use std::path::PathBuf;
use std::process::ExitCode;

/// Make test certificates for localhost, 127.0.0.1 and ::1.
///
/// Good ones that are already there are kept. They are valid for 90 days and signed by a root made
/// for the occasion: use them for tests only.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    host-sim certs target/demo/certs\n\n\
    Exit codes: 0 the files are there, 1 they cannot be written, 2 unusable arguments.")]
pub(crate) struct CertsArgs {
    /// Where cert.pem (leaf and root), key.pem and ca.pem go.
    directory: PathBuf,
}

pub(crate) fn execute(args: &CertsArgs) -> anyhow::Result<ExitCode> {
    let files = certificates::ensure(&args.directory)?;
    println!("chain {}", files.chain.display());
    println!("key {}", files.key.display());
    println!("ca {}", files.ca.display());
    Ok(ExitCode::SUCCESS)
}
