//! The messages of a test suite: `TestSuite` of the service extensions' `runner.proto`.
//!
//! Every field of the format is here. What the text holds besides is a problem with the name that
//! was probably meant, and all problems are told at once.

use super::text::{self, Field, Message, Value};
use crate::problem::{Place, Problem, did_you_mean};
use host_sim_engine::LogLevel;
use regex::bytes::Regex;

/// A file.
#[derive(Clone, Debug, Default)]
pub(crate) struct TestSuite {
    pub(crate) env: Env,
    pub(crate) tests: Vec<Test>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Env {
    pub(crate) wasm_path: String,
    pub(crate) config_path: String,
    pub(crate) log_level: Option<LogLevel>,
    pub(crate) log_path: String,
    pub(crate) time_secs: u64,
    pub(crate) num_additional_streams: u64,
    pub(crate) additional_stream_advance_rate: u64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Test {
    pub(crate) name: String,
    pub(crate) benchmark: bool,
    pub(crate) chunking: Option<Chunking>,
    /// Path, with dots between its segments, and value.
    pub(crate) properties: Vec<(String, Vec<u8>)>,
    pub(crate) request_headers: Option<Invocation>,
    pub(crate) request_body: Vec<Invocation>,
    pub(crate) response_headers: Option<Invocation>,
    pub(crate) response_body: Vec<Invocation>,
    pub(crate) plugin_init: Expectation,
    pub(crate) stream_init: Expectation,
    pub(crate) stream_destroy: Expectation,
}

/// How a body is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chunking {
    /// Into so many chunks of one length, the last with what is left.
    Count(usize),
    /// Into chunks of that length.
    Size(usize),
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Invocation {
    pub(crate) input: Input,
    pub(crate) result: Expectation,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Input {
    pub(crate) header: Vec<Header>,
    pub(crate) content: Vec<u8>,
    pub(crate) file: String,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Header {
    pub(crate) key: String,
    pub(crate) value: Vec<u8>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Expectation {
    pub(crate) has_header: Vec<Header>,
    pub(crate) no_header: Vec<Header>,
    pub(crate) headers: Vec<Matcher>,
    pub(crate) body: Vec<Matcher>,
    pub(crate) immediate: Option<Immediate>,
    pub(crate) log: Vec<Matcher>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Immediate {
    pub(crate) http_status: Option<u32>,
    pub(crate) grpc_status: Option<u32>,
    pub(crate) details: Option<String>,
}

/// `StringMatcher`.
#[derive(Clone, Debug)]
pub(crate) struct Matcher {
    pub(crate) invert: bool,
    pub(crate) kind: Match,
}

#[derive(Clone, Debug)]
pub(crate) enum Match {
    Exact(Vec<u8>),
    /// Of the whole text, with its source.
    Regex(Regex, String),
    /// Contents of a file.
    File(String),
}

/// Reads a file's text.
///
/// # Errors
/// The first fault of the syntax, or every problem of the fields.
pub(crate) fn parse(text: &str) -> Result<TestSuite, Vec<Problem>> {
    let message = text::parse(text).map_err(|problem| vec![problem])?;
    let mut problems = Vec::new();
    let suite = suite(&mut Reader::new(&message, &mut problems));
    problems.sort();
    if problems.is_empty() { Ok(suite) } else { Err(problems) }
}

fn suite(reader: &mut Reader<'_>) -> TestSuite {
    let suite = TestSuite {
        env: reader.message("env", env).unwrap_or_default(),
        tests: reader.messages("test", test),
    };
    reader.finish();
    suite
}

fn env(reader: &mut Reader<'_>) -> Env {
    let env = Env {
        wasm_path: reader.string("wasm_path").unwrap_or_default(),
        config_path: reader.string("config_path").unwrap_or_default(),
        log_level: reader.log_level("log_level"),
        log_path: reader.string("log_path").unwrap_or_default(),
        time_secs: reader.number("time_secs").unwrap_or_default(),
        num_additional_streams: reader.number("num_additional_streams").unwrap_or_default(),
        additional_stream_advance_rate: reader
            .number("additional_stream_advance_rate")
            .unwrap_or_default(),
    };
    // For the tool's own use; what a file says there means nothing.
    let _ = reader.string("test_path");
    reader.finish();
    env
}

fn test(reader: &mut Reader<'_>) -> Test {
    let count = reader.number("num_chunks").map(|count| Chunking::Count(count as usize));
    let size = reader.number("chunk_size").map(|size| Chunking::Size(size as usize));
    if count.is_some() && size.is_some() {
        reader.tell("one of 'num_chunks' and 'chunk_size', not both");
    }
    let chunking = count.or(size);
    if let Some(Chunking::Count(0) | Chunking::Size(0)) = chunking {
        reader.tell("'num_chunks' and 'chunk_size' are 1 or more");
    }
    let test = Test {
        name: reader.string("name").unwrap_or_default(),
        benchmark: reader.flag("benchmark"),
        chunking,
        properties: reader.messages("properties", property),
        request_headers: reader.message("request_headers", invocation),
        request_body: reader.messages("request_body", invocation),
        response_headers: reader.message("response_headers", invocation),
        response_body: reader.messages("response_body", invocation),
        plugin_init: reader.message("plugin_init", expectation).unwrap_or_default(),
        stream_init: reader.message("stream_init", expectation).unwrap_or_default(),
        stream_destroy: reader.message("stream_destroy", expectation).unwrap_or_default(),
    };
    if test.chunking.is_some() && test.request_body.len().max(test.response_body.len()) > 1 {
        reader.tell("a body is chunked, or given in several invocations, not both");
    }
    reader.finish();
    test
}

fn property(reader: &mut Reader<'_>) -> (String, Vec<u8>) {
    let property =
        (reader.string("path").unwrap_or_default(), reader.bytes("value").unwrap_or_default());
    reader.finish();
    property
}

fn invocation(reader: &mut Reader<'_>) -> Invocation {
    let invocation = Invocation {
        input: reader.message("input", input).unwrap_or_default(),
        result: reader.message("result", expectation).unwrap_or_default(),
    };
    reader.finish();
    invocation
}

fn input(reader: &mut Reader<'_>) -> Input {
    let input = Input {
        header: reader.messages("header", header),
        content: reader.bytes("content").unwrap_or_default(),
        file: reader.string("file").unwrap_or_default(),
    };
    let given = [!input.header.is_empty(), !input.content.is_empty(), !input.file.is_empty()];
    if given.iter().filter(|given| **given).count() > 1 {
        reader.tell("one of 'header', 'content' and 'file'");
    }
    reader.finish();
    input
}

fn header(reader: &mut Reader<'_>) -> Header {
    let header = Header {
        key: reader.string("key").unwrap_or_default(),
        value: reader.bytes("value").unwrap_or_default(),
    };
    if header.key.is_empty() {
        reader.tell("the field 'key' is missing");
    }
    reader.finish();
    header
}

fn expectation(reader: &mut Reader<'_>) -> Expectation {
    let expectation = Expectation {
        has_header: reader.messages("has_header", header),
        no_header: reader.messages("no_header", header),
        headers: reader.messages("headers", matcher).into_iter().flatten().collect(),
        body: reader.messages("body", matcher).into_iter().flatten().collect(),
        immediate: reader.message("immediate", immediate),
        log: reader.messages("log", matcher).into_iter().flatten().collect(),
    };
    reader.finish();
    expectation
}

fn immediate(reader: &mut Reader<'_>) -> Immediate {
    let number = |number: Option<u64>| number.and_then(|number| u32::try_from(number).ok());
    let immediate = Immediate {
        http_status: number(reader.number("http_status")),
        grpc_status: number(reader.number("grpc_status")),
        details: reader.string("details"),
    };
    reader.finish();
    immediate
}

fn matcher(reader: &mut Reader<'_>) -> Option<Matcher> {
    let invert = reader.flag("invert");
    let exact = reader.bytes("exact").map(Match::Exact);
    let source = reader.string("regex");
    let regex = source.and_then(|source| {
        // RE2's full match.
        match Regex::new(&format!("^(?:{source})$")) {
            Ok(regex) => Some(Match::Regex(regex, source)),
            Err(error) => {
                reader.tell(format!("no regular expression: {error}"));
                None
            }
        }
    });
    let file = reader.string("file").map(Match::File);
    if reader.asked_present(&["exact", "regex", "file"]) != 1 {
        reader.tell("one of 'exact', 'regex' and 'file' is needed");
    }
    reader.finish();
    let kind = exact.or(regex).or(file)?;
    Some(Matcher { invert, kind })
}

/// One message being read; it remembers what was asked for, to tell what was not.
struct Reader<'a> {
    message: &'a Message,
    asked: Vec<&'static str>,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Reader<'a> {
    fn new(message: &'a Message, problems: &'a mut Vec<Problem>) -> Self {
        Self { message, asked: Vec::new(), problems }
    }

    fn tell(&mut self, text: impl Into<String>) {
        let place = self.message.place;
        self.problems.push(Problem { place, text: text.into() });
    }

    fn tell_at(&mut self, place: Place, text: String) {
        self.problems.push(Problem { place, text });
    }

    fn all(&mut self, name: &'static str) -> Vec<&'a Field> {
        self.asked.push(name);
        self.message.fields.iter().filter(|field| field.name == name).collect()
    }

    /// A field that can be there once.
    fn single(&mut self, name: &'static str) -> Option<&'a Field> {
        let all = self.all(name);
        if let Some(second) = all.get(1) {
            self.tell_at(second.place, format!("'{name}' is here twice"));
        }
        all.first().copied()
    }

    fn message<T>(&mut self, name: &'static str, read: impl Fn(&mut Reader<'_>) -> T) -> Option<T> {
        let field = self.single(name)?;
        self.inner(field, read)
    }

    fn messages<T>(&mut self, name: &'static str, read: impl Fn(&mut Reader<'_>) -> T) -> Vec<T> {
        let all = self.all(name);
        all.into_iter().filter_map(|field| self.inner(field, &read)).collect()
    }

    fn inner<T>(&mut self, field: &Field, read: impl Fn(&mut Reader<'_>) -> T) -> Option<T> {
        if let Value::Message(message) = &field.value {
            return Some(read(&mut Reader::new(message, self.problems)));
        }
        self.tell_at(field.place, format!("'{}' is a message: write {{ ... }}", field.name));
        None
    }

    fn bytes(&mut self, name: &'static str) -> Option<Vec<u8>> {
        let field = self.single(name)?;
        if let Value::Bytes(bytes) = &field.value {
            return Some(bytes.clone());
        }
        self.tell_at(field.place, format!("'{name}' is a string: write it in quotes"));
        None
    }

    fn string(&mut self, name: &'static str) -> Option<String> {
        let place = self.message.fields.iter().find(|field| field.name == name);
        let place = place.map_or(self.message.place, |field| field.place);
        let bytes = self.bytes(name)?;
        match String::from_utf8(bytes) {
            Ok(text) => Some(text),
            Err(_) => {
                self.tell_at(place, format!("'{name}' is no UTF-8"));
                None
            }
        }
    }

    fn word(&mut self, name: &'static str, wanted: &str) -> Option<(&'a str, Place)> {
        let field = self.single(name)?;
        if let Value::Word(word) = &field.value {
            return Some((word, field.place));
        }
        self.tell_at(field.place, format!("'{name}' is {wanted}"));
        None
    }

    fn number(&mut self, name: &'static str) -> Option<u64> {
        let (word, place) = self.word(name, "a number")?;
        let number = match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None if word.len() > 1 && word.starts_with('0') => u64::from_str_radix(word, 8).ok(),
            None => word.parse().ok(),
        };
        if number.is_none() {
            self.tell_at(place, format!("'{name}' is a whole number, not '{word}'"));
        }
        number
    }

    fn flag(&mut self, name: &'static str) -> bool {
        let Some((word, place)) = self.word(name, "true or false") else { return false };
        match word {
            "true" | "True" | "t" | "1" => true,
            "false" | "False" | "f" | "0" => false,
            _ => {
                self.tell_at(place, format!("'{name}' is true or false, not '{word}'"));
                false
            }
        }
    }

    fn log_level(&mut self, name: &'static str) -> Option<LogLevel> {
        const LEVELS: [&str; 7] =
            ["UNDEFINED", "TRACE", "DEBUG", "INFO", "WARN", "ERROR", "CRITICAL"];
        let (word, place) = self.word(name, "a level's name, without quotes")?;
        let number = LEVELS.iter().position(|level| *level == word);
        let number = number.or_else(|| word.parse().ok().filter(|number| *number < LEVELS.len()));
        let Some(number) = number else {
            let meant = did_you_mean(word, LEVELS);
            self.tell_at(place, format!("no level is called '{word}'{meant}"));
            return None;
        };
        LogLevel::from_raw(u32::try_from(number.checked_sub(1)?).ok()?)
    }

    /// How many of the fields are there.
    fn asked_present(&self, names: &[&str]) -> usize {
        let present = |name: &&&str| self.message.fields.iter().any(|field| field.name == **name);
        names.iter().filter(present).count()
    }

    /// Tells every field nobody asked for.
    fn finish(&mut self) {
        for field in &self.message.fields {
            if !self.asked.contains(&field.name.as_str()) {
                let meant = did_you_mean(&field.name, self.asked.iter().copied());
                let mut text = format!("unknown field '{}'{meant}", field.name);
                if meant.is_empty() {
                    text += &format!(" (known: {})", self.asked.join(", "));
                }
                self.tell_at(field.place, text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_the_format_is_read() {
        let suite = parse(
            r#"
            env {
              test_path: "ignored" wasm_path: "a.wasm" config_path: "c" log_level: DEBUG
              log_path: "/dev/null" time_secs: 7 num_additional_streams: 2
              additional_stream_advance_rate: 0x3
            }
            test {
              name: "n" benchmark: true num_chunks: 5
              properties { path: "request.path" value: "\001" }
              request_headers {
                input { header { key: ":path" value: "/" } }
                result {
                  has_header { key: "a" value: "b" }
                  no_header { key: "c" }
                  headers { exact: "a: b" }
                  headers { regex: "a.*" invert: true }
                  body { file: "f" }
                  immediate { http_status: 403 grpc_status: 7 details: "no" }
                  log { regex: ".*" }
                }
              }
              request_body { input { content: "x" } }
              response_headers { input { file: "h" } }
              response_body { }
              plugin_init { log { exact: "1" } }
              stream_init { log { exact: "2" } }
              stream_destroy { log { exact: "3" } }
            }
            test { chunk_size: 9 }"#,
        );
        let suite = suite.unwrap();
        let env = &suite.env;
        assert_eq!((env.wasm_path.as_str(), env.log_level), ("a.wasm", Some(LogLevel::Debug)));
        assert_eq!((env.time_secs, env.num_additional_streams), (7, 2));
        assert_eq!(env.additional_stream_advance_rate, 3);
        let test = &suite.tests[0];
        assert!(test.benchmark && test.chunking == Some(Chunking::Count(5)));
        assert_eq!(test.properties, [("request.path".to_owned(), vec![1])]);
        let result = &test.request_headers.as_ref().unwrap().result;
        assert_eq!(result.headers.len(), 2);
        assert!(result.headers[1].invert);
        assert_eq!(result.immediate.as_ref().unwrap().details.as_deref(), Some("no"));
        assert!(matches!(&result.body[0].kind, Match::File(file) if file == "f"));
        assert_eq!(suite.tests[1].chunking, Some(Chunking::Size(9)));
    }

    #[test]
    fn every_problem_is_told_with_its_place_and_what_was_meant() {
        let text = "env {\n  wasm_pth: \"x\"\n  log_level: DEBUGG\n  time_secs: soon\n}\ntest {\n  name: 5\n  benchmark: maybe\n  num_chunks: 0\n  request_headers { result { body { } log { regex: \"(\" } } }\n  request_headers { }\n  response_body: 3\n}\n";
        let problems = parse(text).unwrap_err();
        let told: Vec<_> = problems.iter().map(ToString::to_string).collect();
        let told = told.join("\n");
        for wanted in [
            "line 2 column 3: unknown field 'wasm_pth', did you mean 'wasm_path'?",
            "line 3 column 3: no level is called 'DEBUGG', did you mean 'DEBUG'?",
            "line 4 column 3: 'time_secs' is a whole number, not 'soon'",
            "line 6 column 6: 'num_chunks' and 'chunk_size' are 1 or more",
            "line 7 column 3: 'name' is a string: write it in quotes",
            "line 8 column 3: 'benchmark' is true or false, not 'maybe'",
            "line 10 column 35: one of 'exact', 'regex' and 'file' is needed",
            "line 10 column 43: no regular expression",
            "line 11 column 3: 'request_headers' is here twice",
            "line 12 column 3: 'response_body' is a message: write { ... }",
        ] {
            assert!(told.contains(wanted), "missing: {wanted}\nin:\n{told}");
        }
    }
}
