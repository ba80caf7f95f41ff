//! A module's facts as text.

use super::facts::Facts;
use host_sim::lint::Level;
use std::fmt::Write;

/// For people.
pub(super) fn render(facts: &Facts) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut text, facts);
    text
}

fn write(text: &mut String, facts: &Facts) -> std::fmt::Result {
    let abi = facts.abi.as_deref().unwrap_or("none: this is no proxy-wasm module");
    writeln!(text, "abi       {abi}")?;
    if let Some(version) = &facts.version {
        writeln!(text, "version   {version}")?;
    }
    #[expect(clippy::cast_precision_loss, reason = "sizes far below 2^52, for people to read")]
    let kib = facts.size as f64 / 1024.0;
    writeln!(text, "size      {} bytes ({kib:.1} KiB)", facts.size)?;
    writeln!(text, "sha256    {}", facts.sha256)?;
    for (field, values) in &facts.producers {
        writeln!(text, "{field:9} {}", values.join(", "))?;
    }
    writeln!(text, "imports   {}", facts.imports.len())?;
    for import in &facts.imports {
        let mark = if import.known { "" } else { "  UNKNOWN: hosts refuse to load the module" };
        writeln!(text, "  {}.{}{mark}", import.module, import.name)?;
    }
    writeln!(text, "exports   {}", facts.exports.len())?;
    for export in &facts.exports {
        writeln!(text, "  {export}")?;
    }
    writeln!(text, "sections  {}", facts.sections.len())?;
    for section in &facts.sections {
        writeln!(text, "  {:20} {:>9}", section.name, section.size)?;
    }
    let refused = facts.findings.iter().any(|finding| finding.level == Level::Error);
    writeln!(text, "envoy     {}", if refused { "refuses it" } else { "loads it" })?;
    for finding in &facts.findings {
        writeln!(text, "  {}", finding.to_string().replace('\n', "\n  "))?;
    }
    Ok(())
}
