//! The catalogue: what a lint is called, how bad it is, the rule behind it and the mend.
//!
//! A lint is a fact about Envoy that a plugin has run into. Rules are what Envoy does, measured on
//! 1.40.0; where the specification or an SDK's documentation says otherwise, that is the reason
//! why the mistake is made.

use serde::Serialize;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Worth knowing.
    Note,
    /// It does not do what it looks like.
    Warning,
    /// It fails.
    Error,
}

impl Level {
    /// As it is printed.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One lint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Name, for `--allow`.
    pub name: &'static str,
    /// How bad.
    pub level: Level,
    /// What Envoy does.
    pub rule: &'static str,
    /// What to do instead.
    pub mend: &'static str,
}

/// The lint of that name.
#[must_use]
pub fn rule(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.name == name)
}

macro_rules! rules {
    ($($level:ident $name:literal: $rule:literal => $mend:literal;)+) => {
        /// Every lint, the module's own faults first.
        pub const RULES: &[Rule] = &[
            $(Rule { name: $name, level: Level::$level, rule: $rule, mend: $mend },)+
        ];
    };
}

rules! {
    Error "abi-marker":
        "Envoy loads modules that export proxy_abi_version_0_1_0, _0_2_0 or _0_2_1 only"
        => "build with an SDK for one of these; dialects such as 0_2_100 run in their own gateway only";
    Error "unknown-import":
        "Envoy refuses to load a module that imports a function it does not have"
        => "import what the ABI version of the marker has, under its exact name";
    Error "import-signature":
        "Envoy refuses to load a module that imports a hostcall with other parameters or results"
        => "declare the import as the ABI does";
    Error "no-memory":
        "Envoy aborts on a module that exports no memory"
        => "export the memory, as \"memory\"";
    Error "no-allocator":
        "the host allocates in the module by malloc, or proxy_on_memory_allocate, and refuses one with neither"
        => "export malloc(size) -> pointer";
    Warning "no-callbacks":
        "a module is run through its proxy_on_* exports only"
        => "export the callbacks; in Rust, build a cdylib whose main registers contexts";
    Warning "no-stream-callbacks":
        "a filter of an HTTP chain sees requests only through its stream callbacks, and has none"
        => "export proxy_on_request_headers or another, or configure the plugin as a WasmService";
    Note "unused-callback":
        "the callback runs only after a hostcall that the module does not import"
        => "drop the callback, or make the call that leads to it";
    Error "trap":
        "a trap kills the VM: every plugin in it, on this worker, gets what its failure_policy says"
        => "return from the callback instead; in Rust avoid unwrap, expect, indexing and arithmetic that can overflow";
    Error "borrow-panic":
        "the Rust SDK keeps contexts in RefCells: a callback must not reach, by a hostcall or by itself, what it has borrowed already"
        => "take what is needed out of the RefCell, end the borrow, then make the call";
    Error "envoy-aborts":
        "this call at this place ends the whole Envoy process, not only the plugin"
        => "do not make the call here; decide before, in a request or response callback";
    Error "bad-pointer":
        "every pointer with its length must lie in the module's own memory"
        => "pass pointer and length of one live buffer, and valid addresses for what is returned";
    Error "unknown-enum-value":
        "maps are 0 to 7, buffers 0 to 8, streams 0 to 3, metrics 0 to 2, log levels 0 to 5"
        => "use the constants of an SDK";
    Error "unknown-action":
        "a stream callback answers 0 (Continue) or 1 (Pause); Envoy takes anything else as Continue"
        => "return one of the two";
    Warning "phase-invalid-read":
        "a message's headers and body can be read only from their own callback until it returns Continue (and while paused); in on_log the headers again"
        => "read it in its own callback and keep what you need in the context";
    Warning "phase-invalid-write":
        "a message can be changed only from its own callback until it returns Continue, and nothing in on_log"
        => "change it in its own callback; return Pause there if the decision comes later";
    Warning "phase-invalid-attribute":
        "attributes of the request's headers cannot be had in response callbacks, only before and in on_log"
        => "read the attribute in on_http_request_headers and keep it in the context";
    Warning "dotted-property-path":
        "the segments of a property's path are separated by NUL bytes; dots are part of a name"
        => "pass [\"request\", \"path\"] to the SDK, \"request\\0path\" to the hostcall";
    Warning "legacy-attribute":
        "attributes of node, cluster, route and listener are below xds: the old names are not found"
        => "ask for [\"xds\", \"route_name\"], [\"xds\", \"cluster_name\"], [\"xds\", \"node\", ...]";
    Warning "property-on-root":
        "properties belong to streams: a root context has none to set"
        => "set it in a stream callback, or share the value by shared data";
    Warning "buffer-middle":
        "Envoy can prepend (start 0) and append (start >= length) only; the specification promises more"
        => "read the body, change it in memory, and set start 0 with a size that covers all of it";
    Warning "content-length-kept":
        "a body that changed its length under a kept content-length is cut off, or runs into the next message of the connection"
        => "remove content-length in the headers callback of the message";
    Note "uppercase-header":
        "header names are lower-case in Envoy; what is set comes out in lower case"
        => "write header names in lower case";
    Warning "hop-by-hop-header":
        "connection, transfer-encoding, upgrade and the like belong to Envoy's codecs"
        => "leave them to Envoy; close a connection by close_stream";
    Error "invalid-header":
        "a header with an invalid name, or with NUL or a line break in its value, makes Envoy answer 503 or drop the message"
        => "check names and values before setting them; encode what comes from clients";
    Error "malformed-pairs":
        "bytes that are no header map are taken as an empty one, without an error"
        => "encode maps as count, sizes, then NUL-terminated names and values; at most 1024 pairs and 1 MiB";
    Warning "resume-before-pause":
        "continue_stream before the callback has returned Pause: requests with a body hang until the client gives up"
        => "return Continue instead of Pause; resume only from a later callback, or set allow_on_headers_stop_iteration: true";
    Warning "resume-without-pause":
        "continue_stream on a response that was not paused sends its headers twice"
        => "resume only what was paused, from a later callback";
    Warning "never-resumed":
        "a paused stream goes on only by continue_stream, a local reply or close_stream; else it hangs until a timeout"
        => "resume it in every callback that can come, failures of calls included";
    Error "pause-after-failed-call":
        "a call that was refused has no callback: whoever waits for it waits forever"
        => "look at the call's status and return Continue, or reply, if it is not Ok";
    Warning "reply-in-response-body":
        "once the response's headers are gone a local reply only resets the stream: the client sees a truncated response"
        => "decide in on_http_response_headers; return Pause there if the body is needed";
    Warning "reply-from-root":
        "a local reply without a stream has no effect, though the hostcall says Ok"
        => "set the effective context to the stream first";
    Warning "reply-twice":
        "the first local reply of a stream wins; others are ignored, though the hostcall says Ok"
        => "reply once and return Pause";
    Note "dead-context":
        "calls outlive the streams that made them: the stream's context may be gone when the answer comes"
        => "look at the status of set_effective_context and do nothing if it is not Ok";
    Warning "unknown-cluster":
        "http_call and grpc_call reach clusters of the bootstrap only, by name"
        => "name a cluster of the bootstrap; make the name part of the plugin's configuration";
    Warning "call-headers":
        "a call needs :method, :path and :authority"
        => "pass all three, in this order, before other headers";
    Warning "call-without-timeout":
        "timeout 0 is no timeout: the answer may never come, and a paused stream with it"
        => "pass a timeout in milliseconds, shorter than the route's";
    Warning "call-without-callback":
        "the answer comes by proxy_on_http_call_response (proxy_on_grpc_* for gRPC), which the module does not export"
        => "export the callback";
    Warning "tick-without-callback":
        "ticks come by proxy_on_tick, which the module does not export"
        => "export the callback, or set no period";
    Warning "queue-without-callback":
        "the last VM that registers a queue is told of its items, by proxy_on_queue_ready, which the module does not export"
        => "export the callback, or resolve the queue instead of registering it";
    Warning "tick-too-short":
        "ticks run on the worker's event loop, on every worker and the main thread, and delay its requests"
        => "tick every 10 ms at most, better every second";
    Warning "tick-zero":
        "a period of 0 stops ticks; it does not mean at once"
        => "set the period in milliseconds, at least 1";
    Warning "queue-unknown":
        "queues are known by tokens of register and resolve, within a vm_id"
        => "resolve the queue with the vm_id of the plugin that registers it, after it has done so";
    Warning "struct-configuration":
        "a google.protobuf.Struct reaches the module as raw protobuf, fields in any order; not as JSON"
        => "configure a google.protobuf.StringValue that holds the JSON";
    Warning "configuration-unread":
        "the plugin is configured with something and never asks for it"
        => "read buffer 7 in on_configure, or drop the configuration";
    Warning "silent-rejection":
        "Envoy says no more than that the plugin was refused; the reason is for the plugin to log"
        => "log at error level what is wrong with the configuration, and where";
    Warning "counter-in-configure":
        "a plugin starts once on every worker, once on the main thread and once in a canary: N + 2 times for N workers"
        => "count in stream callbacks; to show that the plugin runs, set a gauge with record";
    Warning "metric-redefined":
        "defining a metric anew gives a new id of the same metric, and the VM keeps every id"
        => "define metrics once, in on_vm_start or on_configure, and keep their ids";
    Warning "unbounded-metrics":
        "metrics are never deleted: names made of what clients send fill the proxy's memory"
        => "take label values from a fixed or bounded set, from configuration for instance";
    Warning "gauge-record":
        "a gauge is one value for all workers: of several that record, the last one wins"
        => "increment by the difference, or record on one worker only, chosen by shared data";
    Warning "histogram-value":
        "a histogram has no single value: it can be recorded, neither got nor incremented"
        => "record it; keep what you need to read in a counter or gauge of its own";
    Warning "counter-not-positive":
        "counters grow by at least 1"
        => "skip the call when there is nothing to add; use a gauge for what can shrink";
    Warning "unknown-metric":
        "ids of metrics belong to one VM: they cannot be shared or stored"
        => "define the metric in every VM and use the id that it gives";
    Warning "unbounded-shared-keys":
        "shared data has no delete and no expiry: keys made of what clients send fill the proxy's memory"
        => "hash clients into a fixed number of keys, or keep a bounded table in one value";
    Warning "lost-update":
        "other workers write between get and set: CAS number 0 overwrites what they wrote"
        => "pass the CAS number that get gave, and on CasMismatch get again and retry";
    Warning "cas-ignored":
        "CasMismatch means that nothing was written"
        => "get again and retry a few times; else count what was lost";
    Note "empty-vm-id":
        "plugins with an empty vm_id share data and queues with every other such plugin, whoever made it (Istio sets none)"
        => "begin keys with the plugin's own name, and be ready for values of others";
    Warning "trace-per-request":
        "a hostcall is made for every log line, also for those below the log level"
        => "ask proxy_get_log_level once, or log at debug level behind a setting";
    Warning "secret-logged":
        "the application log is read by many, kept for long and shipped elsewhere"
        => "log neither credentials nor cookies; log a hash if they must be told apart";
    Warning "context-leak":
        "a module's memory never shrinks and ends at 1 GiB; whatever a stream leaves behind adds up"
        => "free a context's data in proxy_on_delete, and bound tables";
    Warning "unknown-foreign-function":
        "the host has no such function"
        => "look at the status and go on without it";
    Error "refused":
        "Envoy refuses the whole configuration when one plugin does not start"
        => "see the message; a plugin that must start under any configuration returns true from on_configure and logs";
    Note "surprising-status":
        "the hostcall did not do what was asked"
        => "look at the status";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_sentences_are_whole() {
        let mut names: Vec<_> = RULES.iter().map(|rule| rule.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), RULES.len());
        for rule in RULES {
            let plain = |text: &str| !text.is_empty() && !text.ends_with('.');
            assert!(plain(rule.rule) && plain(rule.mend), "{}", rule.name);
        }
        assert_eq!(rule("trap").map(|rule| rule.level), Some(Level::Error));
    }
}
