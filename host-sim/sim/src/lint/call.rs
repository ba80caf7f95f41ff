//! A hostcall as its author would write it.

use host_sim_abi::{BufferType, LogLevel, MapType, MetricType, Status, StreamType, pairs};
use host_sim_engine::HostcallView;

/// Longest text shown of an argument.
const LONGEST: usize = 64;

/// An argument: what its words mean.
#[derive(Clone, Copy)]
enum Arg {
    Level,
    Map,
    Buffer,
    Stream,
    Metric,
    /// Pointer and length of a text.
    Text,
    /// Pointer and length of a property's path.
    Path,
    /// Pointer and length of anything.
    Bytes,
    /// Pointer and length of a header map.
    Pairs,
    Number,
    Signed,
    Signed64,
    /// Where to put something; not shown.
    Out,
}

use Arg::{
    Buffer, Bytes, Level, Map, Metric, Number, Out, Pairs, Path, Signed, Signed64, Stream, Text,
};

fn shape(name: &str) -> &'static [Arg] {
    match name.strip_prefix("proxy_").unwrap_or(name) {
        "log" => &[Level, Text],
        "set_tick_period_milliseconds" | "set_effective_context" => &[Number],
        "get_property" => &[Path, Out, Out],
        "set_property" => &[Path, Text],
        "get_header_map_value" => &[Map, Text, Out, Out],
        "add_header_map_value" | "replace_header_map_value" => &[Map, Text, Text],
        "remove_header_map_value" => &[Map, Text],
        "get_header_map_pairs" | "get_header_map_size" => &[Map],
        "set_header_map_pairs" => &[Map, Pairs],
        "get_buffer_bytes" => &[Buffer, Number, Number],
        "get_buffer_status" => &[Buffer],
        "set_buffer_bytes" => &[Buffer, Number, Number, Bytes],
        "send_local_response" => &[Number, Text, Bytes, Pairs, Signed],
        "continue_stream" | "close_stream" => &[Stream],
        "http_call" => &[Text, Pairs, Bytes, Pairs, Signed],
        "grpc_call" => &[Text, Text, Text, Pairs, Bytes, Number],
        "grpc_stream" => &[Text, Text, Text, Pairs],
        "grpc_send" => &[Number, Bytes, Number],
        "grpc_cancel" | "grpc_close" | "dequeue_shared_queue" | "get_metric" => &[Number],
        "get_shared_data" | "register_shared_queue" => &[Text],
        "set_shared_data" => &[Text, Bytes, Number],
        "resolve_shared_queue" => &[Text, Text],
        "enqueue_shared_queue" => &[Number, Bytes],
        "define_metric" => &[Metric, Text],
        "increment_metric" => &[Number, Signed64],
        "record_metric" => &[Number, Number],
        "call_foreign_function" => &[Text, Bytes],
        _ => &[],
    }
}

/// `proxy_get_header_map_value(request headers, ":path") = BadArgument (2)`.
pub(super) fn render(call: &HostcallView<'_>, status: Option<Status>) -> String {
    let mut shown = Vec::new();
    let mut at = 0;
    for arg in shape(call.name) {
        let Some(word) = call.args.get(at).copied() else { break };
        let bytes = || call.bytes(at);
        let (words, text) = match arg {
            Level => (1, named(word, LogLevel::from_raw, |level| level.as_str().to_owned())),
            Map => (1, named(word, MapType::from_raw, |map| map_name(map).to_owned())),
            Buffer => (1, named(word, BufferType::from_raw, |b| buffer_name(b).to_owned())),
            Stream => (1, named(word, StreamType::from_raw, |stream| format!("{stream:?}"))),
            Metric => (1, named(word, MetricType::from_raw, |kind| format!("{kind:?}"))),
            Text => (2, bytes().map_or_else(outside, quoted)),
            Path => (2, bytes().map_or_else(outside, path)),
            Bytes => (2, bytes().map_or_else(outside, |bytes| format!("{} bytes", bytes.len()))),
            Pairs => (2, bytes().map_or_else(outside, headers)),
            Number => (1, word.to_string()),
            Signed => (1, (word as u32).cast_signed().to_string()),
            Signed64 => (1, word.cast_signed().to_string()),
            Out => (1, String::new()),
        };
        if !text.is_empty() {
            shown.push(text);
        }
        at += words;
    }
    let answer = status
        .map_or_else(|| "trapped".to_owned(), |status| format!("{status:?} ({})", status.raw()));
    format!("{}({}) = {answer}", call.name, shown.join(", "))
}

fn named<T>(word: u64, read: fn(u32) -> Option<T>, name: impl FnOnce(T) -> String) -> String {
    u32::try_from(word).ok().and_then(read).map_or_else(|| word.to_string(), name)
}

fn outside() -> String {
    "outside of memory".to_owned()
}

/// A text, printable and not too long.
pub(super) fn quoted(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

fn path(bytes: &[u8]) -> String {
    let segments: Vec<_> = bytes.split(|byte| *byte == 0).map(quoted).collect();
    format!("[{}]", segments.join(", "))
}

fn headers(bytes: &[u8]) -> String {
    match pairs::decode(bytes) {
        Ok(pairs) => {
            let shown = pairs.iter().take(4).map(|(name, value)| {
                let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                format!("{}: {}", text(name), text(value))
            });
            let shown: Vec<_> = shown.collect();
            let more = if pairs.len() > shown.len() { ", ..." } else { "" };
            format!("{{{}{more}}}", shown.join(", "))
        }
        Err(_) if bytes.is_empty() => "{}".to_owned(),
        Err(_) => format!("{} bytes that are no header map", bytes.len()),
    }
}

/// A map in words.
pub(super) fn map_name(map: MapType) -> &'static str {
    match map {
        MapType::HttpRequestHeaders => "request headers",
        MapType::HttpRequestTrailers => "request trailers",
        MapType::HttpResponseHeaders => "response headers",
        MapType::HttpResponseTrailers => "response trailers",
        MapType::GrpcCallInitialMetadata => "gRPC initial metadata",
        MapType::GrpcCallTrailingMetadata => "gRPC trailing metadata",
        MapType::HttpCallResponseHeaders => "call response headers",
        MapType::HttpCallResponseTrailers => "call response trailers",
    }
}

/// A buffer in words.
pub(super) fn buffer_name(buffer: BufferType) -> &'static str {
    match buffer {
        BufferType::HttpRequestBody => "request body",
        BufferType::HttpResponseBody => "response body",
        BufferType::DownstreamData => "downstream data",
        BufferType::UpstreamData => "upstream data",
        BufferType::HttpCallResponseBody => "call response body",
        BufferType::GrpcCallMessage => "gRPC message",
        BufferType::VmConfiguration => "VM configuration",
        BufferType::PluginConfiguration => "plugin configuration",
        BufferType::CallData => "foreign function's arguments",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_reads_as_its_author_would_write_it() {
        let memory = b"....:path\0request\0id".to_vec();
        let call = |name, args: &'static [u64]| HostcallView { name, args, memory: &memory };
        let value = call("proxy_get_header_map_value", &[0, 4, 5, 0, 0]);
        assert_eq!(
            render(&value, Some(Status::BadArgument)),
            "proxy_get_header_map_value(request headers, \":path\") = BadArgument (2)"
        );
        let property = call("proxy_get_property", &[10, 10, 0, 0]);
        assert_eq!(
            render(&property, Some(Status::NotFound)),
            "proxy_get_property([\"request\", \"id\"]) = NotFound (1)"
        );
    }

    #[test]
    fn a_pointer_that_points_nowhere_is_said_so() {
        let call = HostcallView { name: "proxy_log", args: &[9, 90, 5], memory: &[] };
        let text = render(&call, Some(Status::InvalidMemoryAccess));
        assert_eq!(text, "proxy_log(9, outside of memory) = InvalidMemoryAccess (6)");
    }
}
