//! What is known only when a callback has returned, trapped, or the run is over.

use crate::lint::facts::PluginFacts;
use crate::lint::scene::{Hit, Plugin, Running, Stream, half};
use host_sim_engine::{CallbackEnd, Trap};

/// A callback has returned.
pub(in crate::lint) fn ended(
    running: &Running,
    stream: &mut Stream,
    facts: &PluginFacts,
    plugin: &mut Plugin,
    end: CallbackEnd,
) -> Vec<Hit> {
    let mut hits = Vec::new();
    let callback = running.callback;
    for key in &running.mismatched {
        let key = crate::lint::call::quoted(key);
        let message = format!("key {key} was not written, and {callback} goes on as if it were");
        hits.push(Hit::new("cas-ignored", key, message));
    }
    let (Some(returned), false) = (end.returned, end.trapped) else { return hits };
    if half(callback).is_some() {
        if returned == 0 && callback.ends_with("_body") {
            plugin.passes.insert(callback);
        }
        action(running, stream, facts, returned, &mut hits);
    }
    let starts = matches!(
        callback,
        "proxy_on_vm_start" | "proxy_on_configure" | "proxy_validate_configuration"
    );
    if starts && returned == 0 && !running.complained {
        let message = format!("{callback} refuses without a word in the log");
        hits.push(Hit::new("silent-rejection", "", message));
    }
    if callback == "proxy_on_configure" && returned != 0 {
        hits.extend(unread(facts, plugin));
    }
    hits
}

fn unread(facts: &PluginFacts, plugin: &Plugin) -> Option<Hit> {
    let unread = facts.configured && !plugin.configuration_read;
    let message = "the plugin's configuration is not read".to_owned();
    unread.then(|| Hit::new("configuration-unread", "", message))
}

fn action(
    running: &Running,
    stream: &mut Stream,
    facts: &PluginFacts,
    returned: u32,
    hits: &mut Vec<Hit>,
) {
    let callback = running.callback;
    let [request, response] = running.resumed;
    let headers = callback.ends_with("_headers");
    if returned > 1 {
        let message = format!("{callback} returned {returned}, which is no action");
        hits.push(Hit::new("unknown-action", "", message));
    }
    if returned != 1 {
        stream.paused = None;
        if response && callback == "proxy_on_response_headers" && returned == 0 {
            let message = "the response is resumed though it was not paused".to_owned();
            hits.push(Hit::new("resume-without-pause", "", message));
        }
        return;
    }
    if running.replied {
        return;
    }
    if headers && (request || response) && !facts.stops_iteration {
        let message = format!("{callback} resumes the stream, then returns Pause");
        hits.push(Hit::new("resume-before-pause", "", message));
        return;
    }
    if request || response {
        return;
    }
    if let Some(call) = running.refused.as_ref().filter(|_| !running.called) {
        let message = format!("{callback} returns Pause after {call}");
        hits.push(Hit::new("pause-after-failed-call", "", message));
    }
    stream.paused = Some(callback);
}

/// Why a callback trapped: the panic's message, and the hostcall that led to it.
pub(in crate::lint) fn trapped(running: &Running, trap: &Trap) -> Hit {
    let panic = panic_of(&trap.said).or(running.panic.as_deref());
    let borrowed = panic.is_some_and(|text| text.contains("already") && text.contains("borrowed"));
    let lint = if borrowed { "borrow-panic" } else { "trap" };
    let mut message = match panic {
        Some(text) => text.to_owned(),
        None => first_line(&trap.reason),
    };
    let joined = running.surprise.as_ref().filter(|_| {
        panic.is_none_or(|text| {
            text.contains("unexpected status")
                || text.contains("called `Result::unwrap()`")
                || text.contains("called `Option::unwrap()`")
        })
    });
    let mut hit = Hit::new(lint, "", String::new());
    if let Some(surprise) = joined {
        message.push_str(&format!("\n  after {}: {}", surprise.call, surprise.rule));
        hit.mend = Some(surprise.mend.clone());
    }
    hit.message = message;
    hit
}

/// A Rust panic's message, without what the runtime puts around it.
fn panic_of(said: &str) -> Option<&str> {
    let panic = &said[said.rfind("panicked at ")?..];
    let end = panic.find("\nnote: run with").unwrap_or(panic.len());
    panic.get(..end).map(str::trim_end)
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim_end_matches(':').to_owned()
}

/// A stream that ended, or never did, while it was paused. Who waits for the whole of a body is
/// innocent of one that is cut off.
pub(in crate::lint) fn leftover(stream: &Stream, plugin: &Plugin) -> Option<Hit> {
    let callback = stream.paused.filter(|_| !stream.called && !plugin.resumes)?;
    if plugin.passes.contains(callback) {
        return None;
    }
    let message = format!("{callback} returned Pause, and nothing resumed the stream");
    Some(Hit::new("never-resumed", callback, message))
}
