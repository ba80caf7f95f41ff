//! The rules of a policy: `match`.

use crate::matching::{HeaderMatch, HostMatch, Match, PathMatch, Rule, ValueMatch, is_variable};
use plugin_config::{Fields, Required};

/// One rule, or a list of which any may hold.
pub(super) fn matches(fields: &mut Fields<'_>) -> Match {
    if !fields.has("match") {
        return Match::default();
    }
    match fields.count("match") {
        None => Match(vec![rule(fields.object("match"))]),
        Some(count) => {
            let message = "no rule matches nothing: name one, or leave 'match' out for everything";
            fields.require("match", count > 0, message);
            Match(fields.each("match", |_, fields| rule(fields)))
        }
    }
}

fn rule(mut fields: Fields<'_>) -> Rule {
    let mut hosts = Vec::new();
    fields.texts("hosts", &[], &mut |text| {
        hosts.push(host(text)?);
        Ok(())
    });
    let path = if fields.has("path") { path(fields.object("path")) } else { None };
    let mut methods = Vec::new();
    fields.texts("methods", &[], &mut |method| {
        let plain = |b: u8| b.is_ascii_uppercase() || b == b'-';
        if method.is_empty() || !method.bytes().all(plain) {
            return Err(format!("'{method}' is no method: write it as in GET"));
        }
        methods.push(method.to_owned());
        Ok(())
    });
    let headers = fields.each("headers", |_, fields| header(fields));
    Rule { hosts, path, methods, headers }
}

fn host(text: &str) -> Result<HostMatch, String> {
    let name = text.strip_prefix("*.").unwrap_or(text);
    if name.is_empty()
        || name.bytes().any(|byte| b"* /".contains(&byte))
        || request_key::path::host(text).len() != text.len()
    {
        return Err(format!(
            "'{text}' is no host: write example.com or *.example.com, without a port"
        ));
    }
    let name = name.to_ascii_lowercase();
    Ok(if name.len() < text.len() {
        HostMatch::Suffix(format!(".{name}"))
    } else {
        HostMatch::Exact(name)
    })
}

fn path(mut fields: Fields<'_>) -> Option<PathMatch> {
    type Kind = (&'static str, fn(String) -> PathMatch);
    const KINDS: [Kind; 3] = [
        ("prefix", PathMatch::Prefix),
        ("exact", PathMatch::Exact),
        ("template", PathMatch::Template),
    ];
    let names = KINDS.map(|(name, _)| name);
    let (at, text) = one_of(&mut fields, names, "name one of 'prefix', 'exact' and 'template'")?;
    let (name, kind) = KINDS.get(at)?;
    if !text.starts_with('/') || text.bytes().any(|byte| byte == b'?') {
        fields.problem(format!("'{text}' is no path: begin with '/', without a query"));
    } else if *name == "template" {
        template(&mut fields, &text);
    } else if request_key::path::canonical(&text) != text {
        let spelling = request_key::path::canonical(&text);
        fields.problem(format!("'{text}' never matches: paths are compared as '{spelling}'"));
    }
    Some(kind(text))
}

fn template(fields: &mut Fields<'_>, text: &str) {
    // Without its variables it has to be a path in its one spelling.
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes().split(|byte| *byte == b'/').skip(1).peekable();
    while let Some(segment) = rest.next() {
        plain.push(b'/');
        if !(is_variable(segment) || segment == b"**" && rest.peek().is_none()) {
            plain.extend_from_slice(segment);
        }
    }
    let plain = String::from_utf8(plain).unwrap_or_default();
    if plain.bytes().any(|byte| b"{}*".contains(&byte))
        || request_key::path::canonical(&plain) != plain
    {
        fields.problem(format!(
            "'{text}' is no template: segments are text, {{name}} for any one, and at the end ** \
             for all that follow"
        ));
    }
}

fn header(mut fields: Fields<'_>) -> HeaderMatch {
    const ONE: &str = "name one of 'exact', 'prefix' and 'present'";
    let name = fields.header_name("name", Required);
    let value = if fields.has("present") {
        if fields.has("exact") || fields.has("prefix") {
            fields.problem(ONE);
        }
        let present = fields.flag("present", true);
        if present { ValueMatch::Present } else { ValueMatch::Absent }
    } else {
        match one_of(&mut fields, ["exact", "prefix"], ONE) {
            Some((0, text)) => ValueMatch::Exact(text),
            Some((_, text)) => ValueMatch::Prefix(text),
            None => ValueMatch::Present,
        }
    };
    HeaderMatch { name, value }
}

/// The one field of these that is there, as an index, and its text.
fn one_of<const N: usize>(
    fields: &mut Fields<'_>,
    names: [&'static str; N],
    message: &str,
) -> Option<(usize, String)> {
    let mut found = names.iter().enumerate().filter(|(_, name)| fields.has(name));
    let (first, second) = (found.next(), found.next());
    if let (Some((at, name)), None) = (first, second) {
        return Some((at, fields.text(name, Required)));
    }
    if fields.is_clean() {
        fields.problem(message);
    }
    None
}
