//! A measurement as text.

use super::Report;
use host_sim::bench::{CallbackCost, Costs, PerRequest, Start};
use std::fmt::Write;

/// How many hostcalls of a callback are named.
const TOP: usize = 4;

/// For people.
pub(super) fn render(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut text, report);
    text
}

fn write(text: &mut String, Report { costs, start, simulator }: &Report) -> std::fmt::Result {
    run(text, costs)?;
    whole_chain(text, &costs.per_request)?;
    writeln!(text, "\nof a request, per call")?;
    table(text, &costs.callbacks)?;
    let background = &costs.background;
    let (instructions, hostcalls) =
        (background.instructions_per_second, background.hostcalls_per_second);
    writeln!(
        text,
        "\nbesides requests (ticks, calls of plugins), per call; in a second {instructions:.0} \
         instructions, {hostcalls:.1} hostcalls"
    )?;
    table(text, &background.callbacks)?;
    let Start { milliseconds, compiled, from_cache } = start;
    writeln!(
        text,
        "\nstart: {milliseconds:.1} ms, {compiled} modules compiled, {from_cache} from the cache"
    )?;
    writeln!(
        text,
        "simulator: {:.0} requests/s, on one thread of this machine; all else is the same on \
         every machine",
        simulator.requests_per_second
    )
}

fn run(text: &mut String, costs: &Costs) -> std::fmt::Result {
    let Costs { requests, rate, workers, seed, .. } = costs;
    let statuses = costs.statuses.iter().map(|(status, count)| match status {
        0 => format!("{count} without a response"),
        status => format!("{count} with {status}"),
    });
    let statuses = statuses.collect::<Vec<_>>().join(", ");
    let workers = if *workers == 1 { "1 worker".to_owned() } else { format!("{workers} workers") };
    writeln!(text, "{requests} requests, {rate}/s of virtual time, {workers}, seed {seed}")?;
    writeln!(text, "answered: {statuses}\n")
}

fn whole_chain(text: &mut String, request: &PerRequest) -> std::fmt::Result {
    let instructions = request.instructions;
    writeln!(text, "a request through the whole chain")?;
    writeln!(text, "  instructions        {:>10.1}  p99 {}", instructions.mean, instructions.p99)?;
    writeln!(
        text,
        "  hostcalls           {:>10.2}  {}",
        request.hostcalls,
        named(&request.hostcalls_by_name, usize::MAX)
    )?;
    writeln!(text, "  shared data reads   {:>10.3}", request.shared_data_reads)?;
    writeln!(text, "  shared data writes  {:>10.3}", request.shared_data_writes)?;
    writeln!(text, "  bytes into guests   {:>10.1}", request.bytes_given)
}

fn table(text: &mut String, costs: &[CallbackCost]) -> std::fmt::Result {
    let plugin = costs.iter().map(|cost| cost.plugin.len()).max().unwrap_or(0).max(6);
    let callback = costs.iter().map(|cost| short(cost.callback).len()).max().unwrap_or(0).max(8);
    writeln!(
        text,
        "  {:plugin$}  {:callback$}  {:>7}  {:>12}  {:>8}  {:>9}  {:>6}",
        "plugin", "callback", "calls", "instructions", "p99", "hostcalls", "bytes"
    )?;
    for cost in costs {
        let name = short(cost.callback);
        let (mean, p99) = (cost.instructions.mean, cost.instructions.p99);
        let line = format!(
            "  {:plugin$}  {name:callback$}  {:>7}  {mean:>12.1}  {p99:>8}  {:>9.2}  {:>6.1}  {}",
            cost.plugin,
            cost.calls,
            cost.hostcalls,
            cost.bytes_given,
            named(&cost.hostcalls_by_name, TOP)
        );
        writeln!(text, "{}", line.trim_end())?;
    }
    Ok(())
}

/// `get_header_map_value 2, get_property 1`.
fn named(hostcalls: &[(&str, f64)], most: usize) -> String {
    let names =
        hostcalls.iter().take(most).map(|(name, mean)| format!("{} {mean:.2}", short(name)));
    let mut names: Vec<_> = names.collect();
    if hostcalls.len() > most {
        names.push("...".to_owned());
    }
    names.join(", ")
}

fn short(name: &str) -> &str {
    name.strip_prefix("proxy_").unwrap_or(name)
}
