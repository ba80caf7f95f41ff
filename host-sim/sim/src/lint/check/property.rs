//! Properties: paths, old names, phases.

use super::headers::phase;
use crate::lint::call::quoted;
use crate::lint::scene::{Half, Hit, Scene, Seen};
use host_sim_abi::Status;

/// First segments of attributes.
const ROOTS: [&str; 9] = [
    "request",
    "response",
    "connection",
    "source",
    "destination",
    "upstream",
    "xds",
    "metadata",
    "filter_state",
];

/// What stood at the top once, and what it is called today.
const LEGACY: [(&str, &str); 9] = [
    ("node", "node"),
    ("cluster_name", "cluster_name"),
    ("cluster_metadata", "cluster_metadata"),
    ("route_name", "route_name"),
    ("route_metadata", "route_metadata"),
    ("listener_direction", "listener_direction"),
    ("listener_metadata", "listener_metadata"),
    ("upstream_host_metadata", "upstream_host_metadata"),
    ("filter_chain_name", "filter_chain_name"),
];

/// Attributes that are the request's headers.
const OF_HEADERS: [&str; 9] =
    ["path", "url_path", "host", "method", "scheme", "referer", "useragent", "id", "headers"];

pub(super) fn check(seen: &Seen<'_>, scene: &mut Scene<'_>, hits: &mut Vec<Hit>) {
    let path = seen.bytes(0);
    let shown = quoted(path).replace("\\0", ".");
    if seen.name() == "set_property" {
        if seen.is(Status::NotFound) {
            let message = format!("property {shown} is set without a stream");
            hits.push(Hit::new("property-on-root", shown, message));
        }
        return;
    }
    let segments: Vec<_> = path.split(|byte| *byte == 0).collect();
    let first = segments.first().copied().unwrap_or_default();
    let first = std::str::from_utf8(first).unwrap_or_default();
    if seen.is_ok() && matches!(first, "request" | "source") {
        note(seen, scene, segments.last().copied().unwrap_or_default());
    }
    if !seen.is(Status::NotFound) {
        return;
    }
    let dotted = first.split_once('.').filter(|(root, _)| ROOTS.contains(root));
    if let Some((root, rest)) = dotted {
        let message = format!("property {shown} is one segment with dots in it");
        let mend =
            format!("pass the segments {root:?} and {:?}", rest.split('.').collect::<Vec<_>>());
        return hits.push(Hit::new("dotted-property-path", shown, message).mend(mend));
    }
    if let Some((_, new)) = LEGACY.iter().find(|(old, _)| *old == first) {
        let message = format!("property {shown} is not known under this name");
        let mend = format!("ask for [\"xds\", \"{new}\"]");
        return hits.push(Hit::new("legacy-attribute", shown, message).mend(mend));
    }
    let second = segments.get(1).and_then(|bytes| std::str::from_utf8(bytes).ok());
    let hidden = first == "request" && second.is_some_and(|name| OF_HEADERS.contains(&name));
    // Optional headers are missing in any phase.
    let optional = second.is_some_and(|name| matches!(name, "referer" | "useragent" | "id"))
        || segments.len() > 2;
    if hidden && !optional && seen.half() == Some(Half::Response) {
        let message = format!("attribute {shown} cannot be had in {}", phase(seen));
        hits.push(Hit::new("phase-invalid-attribute", shown, message));
    }
}

fn note(seen: &Seen<'_>, scene: &mut Scene<'_>, last: &[u8]) {
    let few = matches!(last, b"method" | b"scheme" | b"protocol" | b"host" | b"port" | b"time");
    let value = seen.given(2);
    let telling = !few && value.len() >= 4 && value.iter().all(u8::is_ascii_graphic);
    if telling && scene.stream.client.len() < 32 {
        scene.stream.client.push(value.to_vec());
    }
}
