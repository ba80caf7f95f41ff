//! Expectations of the format.

use super::Setup;
use super::plugin::Seen;
use super::suite::{Expectation, Match, Matcher};
use crate::difference;
use host_sim_engine::BareReply;

/// Where failures go.
pub(super) struct Context<'a> {
    pub(super) setup: &'a Setup<'a>,
    pub(super) failures: &'a mut Vec<String>,
}

impl Context<'_> {
    fn fail(&mut self, phase: &str, text: &str) {
        self.failures.push(format!("[{phase}] {text}"));
    }

    /// Log lines of a phase.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(super) fn logs(
        &mut self,
        phase: &str,
        expect: &Expectation,
        lines: &[String],
    ) -> Result<(), String> {
        let lines: Vec<&[u8]> = lines.iter().map(String::as_bytes).collect();
        expect.log.iter().try_for_each(|matcher| self.matches(phase, "log", matcher, &lines))
    }

    /// A headers phase.
    ///
    /// # Errors
    /// As [`Context::logs`].
    pub(super) fn headers_phase(
        &mut self,
        phase: &str,
        expect: &Expectation,
        seen: &Seen,
        logs: &[String],
    ) -> Result<(), String> {
        let reply = seen.outcome.reply.as_ref();
        let headers = match reply {
            Some(reply) => last_wins(reply),
            None => joined(seen),
        };
        self.fields(phase, expect, &headers, seen)?;
        let body = reply.map_or(&b""[..], |reply| &reply.body);
        for matcher in &expect.body {
            self.matches(phase, "body", matcher, &[body])?;
        }
        let wanted = expect.immediate.is_some();
        if !wanted && reply.is_none() && !seen.outcome.continues {
            self.fail(phase, "expected it to continue, it pauses");
        }
        if !wanted && let Some(reply) = reply {
            let text = format!("expected no immediate reply, got one with status {}", reply.status);
            self.fail(phase, &text);
        }
        self.immediate(phase, expect, reply);
        self.logs(phase, expect, logs)
    }

    /// A body phase, all chunks of it.
    ///
    /// # Errors
    /// As [`Context::logs`].
    pub(super) fn body_phase(
        &mut self,
        phase: &str,
        expect: &Expectation,
        body: &[u8],
        reply: Option<&BareReply>,
        logs: &[String],
    ) -> Result<(), String> {
        let reply = reply.filter(|_| expect.immediate.is_some());
        let headers = reply.map(last_wins).unwrap_or_default();
        self.fields(phase, expect, &headers, &Seen::default())?;
        let body = reply.map_or(body, |reply| &reply.body);
        for matcher in &expect.body {
            self.matches(phase, "body", matcher, &[body])?;
        }
        self.immediate(phase, expect, reply);
        self.logs(phase, expect, logs)
    }

    fn fields(
        &mut self,
        phase: &str,
        expect: &Expectation,
        headers: &[(Vec<u8>, Vec<u8>)],
        seen: &Seen,
    ) -> Result<(), String> {
        let value = |key: &str| {
            let own = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(key.as_bytes()));
            own.map(|(_, value)| value)
        };
        for wanted in &expect.has_header {
            match value(&wanted.key) {
                None => {
                    let names: Vec<_> =
                        headers.iter().map(|(name, _)| String::from_utf8_lossy(name)).collect();
                    let names = names.join(", ");
                    self.fail(phase, &format!("no header '{}'; there are: {names}", wanted.key));
                }
                Some(value) if *value != wanted.value => {
                    let why = difference::of_texts(&wanted.value, value);
                    self.fail(phase, &format!("header '{}': {why}", wanted.key));
                }
                Some(_) => {}
            }
        }
        for unwanted in &expect.no_header {
            if let Some(value) = value(&unwanted.key) {
                let value = difference::quoted(value);
                let text = format!("header '{}': expected none, got {value}", unwanted.key);
                self.fail(phase, &text);
            }
        }
        let lines: Vec<Vec<u8>> = headers
            .iter()
            .map(|(name, value)| {
                let written = seen.spelling.get(name).unwrap_or(name);
                [written, &b": "[..], value].concat()
            })
            .collect();
        let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
        expect.headers.iter().try_for_each(|matcher| self.matches(phase, "header", matcher, &lines))
    }

    fn immediate(&mut self, phase: &str, expect: &Expectation, reply: Option<&BareReply>) {
        let Some(wanted) = &expect.immediate else { return };
        let Some(reply) = reply else {
            return self.fail(phase, "expected an immediate reply, got none");
        };
        // No gRPC status is -1 for the plugin, which the tester shows as it is.
        let grpc = reply.grpc_status.unwrap_or(u32::MAX);
        let numbers = [
            ("HTTP status", wanted.http_status, u32::from(reply.status)),
            ("gRPC status", wanted.grpc_status, grpc),
        ];
        for (what, wanted, actual) in numbers {
            if let Some(wanted) = wanted.filter(|wanted| *wanted != actual) {
                self.fail(phase, &format!("{what}: expected {wanted}, got {actual}"));
            }
        }
        if let Some(details) = &wanted.details {
            let details = details.replace(|c: char| c.is_ascii_whitespace(), "_");
            if details != reply.details {
                let text = format!("details: expected {details:?}, got {:?}", reply.details);
                self.fail(phase, &text);
            }
        }
    }

    fn matches(
        &mut self,
        phase: &str,
        what: &str,
        matcher: &Matcher,
        actual: &[&[u8]],
    ) -> Result<(), String> {
        let file;
        let exact = match &matcher.kind {
            Match::Exact(bytes) => Some(bytes),
            Match::File(name) => {
                file = self.setup.read(name)?;
                Some(&file)
            }
            Match::Regex(..) => None,
        };
        let fits = |text: &&[u8]| match (&matcher.kind, exact) {
            (Match::Regex(regex, _), _) => regex.is_match(text),
            (_, exact) => exact.is_some_and(|exact| exact == text),
        };
        if actual.iter().any(fits) != matcher.invert {
            return Ok(());
        }
        let wanted = match (&matcher.kind, exact) {
            (Match::Regex(_, source), _) => format!("/{source}/"),
            (_, exact) => difference::quoted(exact.map_or(&[], Vec::as_slice)),
        };
        let text = match (matcher.invert, exact, actual) {
            // One text against one text: where they part says most.
            (false, Some(exact), [text]) => {
                format!("{what}: {}", difference::of_texts(exact, text))
            }
            (invert, ..) => {
                let lines: Vec<_> = actual.iter().map(|text| difference::quoted(text)).collect();
                let lines =
                    if lines.is_empty() { "nothing".to_owned() } else { lines.join("\n  ") };
                let how = if invert { "no" } else { "a" };
                format!("expected {how} {what} that is {wanted}, got:\n  {lines}")
            }
        };
        self.fail(phase, &text);
        Ok(())
    }
}

/// One value a name.
fn joined(seen: &Seen) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut headers: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for (name, value) in seen.outcome.headers.iter() {
        match headers.iter_mut().find(|(own, _)| own == name) {
            Some((_, own)) if own.is_empty() => *own = value.to_vec(),
            Some((_, own)) => *own = [own.as_slice(), b", ", value].concat(),
            None => headers.push((name.to_vec(), value.to_vec())),
        }
    }
    headers
}

/// Headers of a reply, where the tester keeps the last value of a name.
fn last_wins(reply: &BareReply) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut headers: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for (name, value) in &reply.headers {
        match headers.iter_mut().find(|(own, _)| own == name) {
            Some((_, own)) => *own = value.to_vec(),
            None => headers.push((name.to_vec(), value.to_vec())),
        }
    }
    headers
}
