//! `envoy.config.accesslog.v3.AccessLog` with the file and stream sinks.

use std::path::PathBuf;

use crate::reader::{Message, Reader};
use crate::tls::{DATA_SOURCE, DataSource};

/// One access logger.
#[derive(Debug, Clone, PartialEq)]
pub struct AccessLog {
    /// Where lines go.
    pub sink: AccessLogSink,
    /// How a line is made.
    pub format: AccessLogFormat,
    /// `log_format.omit_empty_values`: leave out (JSON) or print nothing for (text) what has no
    /// value, instead of `null` / `-`.
    pub omit_empty_values: bool,
}

/// Where access log lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLogSink {
    /// `envoy.access_loggers.file`; the path may be `/dev/stdout`.
    File(PathBuf),
    /// `envoy.access_loggers.stdout`.
    Stdout,
    /// `envoy.access_loggers.stderr`.
    Stderr,
}

/// How an access log line is made.
#[derive(Debug, Clone, PartialEq)]
pub enum AccessLogFormat {
    /// Envoy's default text format.
    Default,
    /// A format string; the line feed is its own affair, as in Envoy.
    Text(String),
    /// A JSON object whose strings are format strings.
    Json(serde_json::Map<String, serde_json::Value>),
}

pub(crate) const ACCESS_LOG: Message<AccessLog> =
    Message { name: "envoy.config.accesslog.v3.AccessLog", read: access_log };

const FILE: Message<AccessLog> =
    Message { name: "envoy.extensions.access_loggers.file.v3.FileAccessLog", read: file };

const STDOUT: Message<AccessLog> =
    Message { name: "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog", read: stdout };

const STDERR: Message<AccessLog> =
    Message { name: "envoy.extensions.access_loggers.stream.v3.StderrAccessLog", read: stderr };

const FORMAT: Message<(AccessLogFormat, bool)> =
    Message { name: "envoy.config.core.v3.SubstitutionFormatString", read: format };

const JSON_OPTIONS: Message<()> =
    Message { name: "envoy.config.core.v3.JsonFormatOptions", read: json_options };

fn access_log(message: &mut Reader<'_>) -> Option<AccessLog> {
    message.accept(&["name"]);
    message.extension("typed_config", &[FILE, STDOUT, STDERR])
}

fn file(message: &mut Reader<'_>) -> Option<AccessLog> {
    let path = message.required_text("path");
    let log = with_format(message, AccessLogSink::Stdout);
    Some(AccessLog { sink: AccessLogSink::File(PathBuf::from(path?)), ..log })
}

fn stdout(message: &mut Reader<'_>) -> Option<AccessLog> {
    Some(with_format(message, AccessLogSink::Stdout))
}

fn stderr(message: &mut Reader<'_>) -> Option<AccessLog> {
    Some(with_format(message, AccessLogSink::Stderr))
}

fn with_format(message: &mut Reader<'_>, sink: AccessLogSink) -> AccessLog {
    let format = message.message("log_format", FORMAT);
    let (format, omit_empty_values) = format.unwrap_or((AccessLogFormat::Default, false));
    AccessLog { sink, format, omit_empty_values }
}

fn format(message: &mut Reader<'_>) -> Option<(AccessLogFormat, bool)> {
    message.one_of(&["text_format", "text_format_source", "json_format"], true);
    // Keys are always written sorted: the option asks for what is done anyway.
    message.message("json_format_options", JSON_OPTIONS);
    let omit_empty_values = message.flag("omit_empty_values", false);
    let text = message.optional_text("text_format");
    let source = message.message("text_format_source", DATA_SOURCE);
    let json = message.json_object("json_format");
    let source = match source {
        Some(DataSource::Inline(bytes)) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        Some(_) => {
            message.problem_at("text_format_source", "host-sim simulates 'inline_string' here");
            None
        }
        None => None,
    };
    let text = text.or(source).map(AccessLogFormat::Text);
    let format = text.or_else(|| json.map(AccessLogFormat::Json))?;
    Some((format, omit_empty_values))
}

fn json_options(message: &mut Reader<'_>) -> Option<()> {
    message.accept(&["sort_properties"]);
    Some(())
}
