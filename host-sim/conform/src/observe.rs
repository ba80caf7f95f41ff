//! From what a host did during a case to its cells: names and what was seen, as text.
//!
//! Order counts within a callback and a context, not across threads. What two runs of one host
//! would not share is normalised here: identities, ports, times, numbers of contexts.

use crate::case::Case;
use crate::op::Agree;
use crate::trace::{Bytes, Event, Line};
use crate::{Call, Op, Phase};
use host_sim_abi::{Status, pairs};
use std::collections::BTreeMap;

/// What one host showed in one cell.
pub(crate) type Cells = Vec<(String, String)>;

/// Text to be replaced, and by what: addresses that differ between the hosts.
pub(crate) type Names = Vec<(String, String)>;

/// The cells of a case. `first` is the number of its first program.
pub(crate) fn cells(
    case: &Case,
    first: usize,
    lines: &[Line],
    answers: &[String],
    received: &[String],
    names: &Names,
) -> Cells {
    let mut out = Vec::new();
    for (at, (letter, ops)) in case.programs.iter().enumerate() {
        let name = if case.programs.len() > 1 && (case.is_end() || !case.is_root()) {
            format!("{}.{letter}", case.name)
        } else {
            case.name.clone()
        };
        let of_program = lines.iter().filter(|line| line.program == first + at);
        operations(&name, ops, of_program, case.is_root(), names, &mut out);
    }
    if case.is_root() {
        return out;
    }
    let own = first..first + case.programs.len();
    let own = lines.iter().filter(|line| own.contains(&line.program));
    out.push((format!("{}/callbacks", case.name), callbacks(own)));
    for (at, answer) in answers.iter().enumerate() {
        out.push((numbered(&format!("{}/client", case.name), at), normal(answer, names)));
    }
    // A call and the stream that makes it race to the upstream.
    let mut received: Vec<_> = received.iter().map(|request| normal(request, names)).collect();
    received.sort();
    for (at, request) in received.into_iter().enumerate() {
        out.push((numbered(&format!("{}/upstream", case.name), at), request));
    }
    out
}

fn numbered(name: &str, at: usize) -> String {
    if at == 0 { name.to_owned() } else { format!("{name}#{}", at + 1) }
}

fn operations<'a>(
    name: &str,
    ops: &[Op],
    lines: impl Iterator<Item = &'a Line>,
    is_root: bool,
    names: &Names,
    out: &mut Cells,
) {
    let mut seen: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for line in lines {
        if let Event::Op { index, status, numbers, bytes } = &line.event
            && let Some(op) = ops.get(*index)
        {
            let text = answer(op, *status, numbers, bytes.as_ref(), names);
            seen.entry(*index).or_default().push(text);
        }
    }
    for (index, op) in ops.iter().enumerate() {
        if !op.call.is_import() {
            continue;
        }
        let cell = format!("{name}/{}/{}", op.phase.name(), op.label);
        let mut answers = seen.remove(&index).unwrap_or_default();
        if is_root {
            // On the canary, the main thread and the worker: the last two in any order.
            answers.sort();
            out.push((cell, answers.join(" ; ")));
        } else if answers.is_empty() {
            out.push((cell, "not run".to_owned()));
        } else {
            let answers = answers.into_iter().enumerate();
            out.extend(answers.map(|(at, answer)| (numbered(&cell, at), answer)));
        }
    }
}

fn answer(op: &Op, status: i32, numbers: &[u32], bytes: Option<&Bytes>, names: &Names) -> String {
    let named = match op.call {
        // An errno.
        Call::Wasi(_) => None,
        _ => Status::from_raw(status),
    };
    let mut out = named.map_or_else(|| status.to_string(), |status| format!("{status:?}"));
    if op.agree == Agree::Status {
        return out;
    }
    if op.agree == Agree::All {
        for number in numbers {
            match *number {
                crate::trace::UNTOUCHED => out += " -",
                number => out += &format!(" {number}"),
            }
        }
    }
    if let Some(bytes) = bytes {
        let text = match (bytes.len, status, op.agree) {
            (None, _, _) => " -".to_owned(),
            (Some(len), 0, Agree::All) => {
                let null = if bytes.null { " null" } else { "" };
                let more = if bytes.bytes.len() < len as usize { ".." } else { "" };
                format!("{null} {}{more}", value(&bytes.bytes, names))
            }
            (Some(len), 0, _) => format!(" ({})", size_class(len)),
            (Some(len), _, _) => format!(" ({len})"),
        };
        out += &text;
    }
    out
}

/// A length of what has no fixed text: numbers are 8 bytes, everything else is there or not.
fn size_class(len: u32) -> String {
    match len {
        0 | 1 | 8 => len.to_string(),
        _ => "some".to_owned(),
    }
}

fn value(bytes: &[u8], names: &Names) -> String {
    if let Ok(decoded) = pairs::decode(bytes)
        && bytes.len() >= 4
        && (!decoded.is_empty() || bytes == [0; 4])
    {
        let mut decoded: Vec<_> = decoded
            .iter()
            .map(|(name, value)| {
                let text = String::from_utf8_lossy(value);
                field(&format!("{}: {text}", String::from_utf8_lossy(name)), names)
            })
            .collect();
        decoded.sort();
        return format!("{decoded:?}");
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().all(|c| !c.is_control() || c == '\n') => {
            format!("{:?}", field(text, names))
        }
        _ => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

/// The order of callbacks. Contexts are numbered as they appear.
fn callbacks<'a>(lines: impl Iterator<Item = &'a Line>) -> String {
    let mut contexts = Vec::new();
    let mut prefix = "";
    let mut out = String::new();
    for line in lines {
        let Event::Callback(first, second) = line.event else { continue };
        let at = contexts.iter().position(|context| *context == line.context);
        let at = at.unwrap_or_else(|| {
            contexts.push(line.context);
            contexts.len() - 1
        });
        if line.prefix != prefix {
            prefix = &line.prefix;
            out += &format!("[{prefix}]\n");
        }
        let phase = line.phase.name();
        out += &match line.phase {
            // A time or nothing.
            Phase::Log | Phase::Done | Phase::Delete | Phase::Create | Phase::Tick => {
                format!("{at} {phase}\n")
            }
            _ => format!("{at} {phase} {first} {second}\n"),
        };
    }
    out
}

fn normal(text: &str, names: &Names) -> String {
    let lines: Vec<_> = text.lines().map(|line| field(line, names)).collect();
    lines.join("\n")
}

/// Headers whose values no two runs share, or that name a program.
const VOLATILE: [&str; 8] = [
    "date",
    "x-request-id",
    "x-envoy-upstream-service-time",
    "x-cell-a",
    "x-cell-b",
    "x-cell-c",
    "x-cell-t",
    "x-cell-u",
];

/// A header's line, or any text.
fn field(line: &str, names: &Names) -> String {
    let mut line = line.to_owned();
    for (text, name) in names {
        line = line.replace(text, name);
    }
    for name in VOLATILE {
        if let Some(rest) = line.strip_prefix(name)
            && rest.starts_with(": ")
        {
            return format!("{name}: <{name}>");
        }
    }
    if is_uuid(&line) { "<uuid>".to_owned() } else { line }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36 && text.matches('-').count() == 4
}
