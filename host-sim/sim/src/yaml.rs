//! YAML that remembers where it was written.
//!
//! serde's YAML readers know a line only while they read, stop at the first fault and cannot place
//! what is found out later, such as a regular expression that does not compile. A [`Node`] keeps
//! line and column of every key and value, so that all problems of a file are told at once, each
//! at its place, and becomes JSON for serde when nothing is wrong.
//!
//! Scalars mean what they mean in YAML's core schema; anchors and aliases work, merge keys and tags
//! do not. A key that is there twice is a problem, not the last one's win.

use crate::problem::{Place, Problem};
use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use serde_json::{Map, Number, Value};
use std::collections::HashMap;

/// A value and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// A string, number, boolean or null.
    Scalar(Value),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) place: Place,
    pub(crate) value: Node,
}

/// Deeper files are not read: each level is a level of recursion.
const MAX_DEPTH: usize = 128;

/// Nodes of a file, aliases counted every time they are used.
const MAX_NODES: usize = 1_000_000;

impl Node {
    /// Reads one document.
    ///
    /// # Errors
    /// The first fault of the syntax, or every duplicate key.
    pub(crate) fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        let mut reader = Reader {
            parser: Parser::new_from_str(text),
            anchors: HashMap::new(),
            duplicates: Vec::new(),
            nodes: 0,
        };
        let node = reader.document().map_err(|problem| vec![problem])?;
        if reader.duplicates.is_empty() { Ok(node) } else { Err(reader.duplicates) }
    }

    /// The same without places.
    pub(crate) fn to_json(&self) -> Value {
        match &self.kind {
            Kind::Scalar(value) => value.clone(),
            Kind::List(items) => items.iter().map(Self::to_json).collect(),
            Kind::Map(entries) => {
                let pairs = entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json()));
                Value::Object(pairs.collect::<Map<_, _>>())
            }
        }
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        match &self.kind {
            Kind::Map(entries) => {
                entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
            }
            _ => None,
        }
    }

    /// What is at `path`: keys, and positions in lists as numbers. Where it ends early, so does this.
    pub(crate) fn at(&self, path: &[&str]) -> &Self {
        let mut node = self;
        for part in path {
            let next = match part.parse::<usize>() {
                Ok(at) if !node.items().is_empty() => node.items().get(at),
                _ => node.get(part),
            };
            let Some(next) = next else { break };
            node = next;
        }
        node
    }

    /// Items, if this is a list.
    pub(crate) fn items(&self) -> &[Self] {
        match &self.kind {
            Kind::List(items) => items,
            _ => &[],
        }
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar(value) => value.as_str(),
            _ => None,
        }
    }

    fn depth(&self) -> usize {
        1 + match &self.kind {
            Kind::Scalar(_) => 0,
            Kind::List(items) => items.iter().map(Self::depth).max().unwrap_or(0),
            Kind::Map(entries) => {
                entries.iter().map(|entry| entry.value.depth()).max().unwrap_or(0)
            }
        }
    }

    fn weight(&self) -> usize {
        1 + match &self.kind {
            Kind::Scalar(_) => 0,
            Kind::List(items) => items.iter().map(Self::weight).sum(),
            Kind::Map(entries) => entries.iter().map(|entry| entry.value.weight()).sum(),
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    duplicates: Vec<Problem>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Place), Problem> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, place(span))),
            Some(Err(error)) => {
                let marker = error.marker();
                let place = Place { line: marker.line(), column: marker.col() + 1 };
                Err(Problem { place, text: format!("no YAML: {}", error.info()) })
            }
            None => Ok((Event::StreamEnd, Place::default())),
        }
    }

    fn document(&mut self) -> Result<Node, Problem> {
        loop {
            match self.next()? {
                (Event::DocumentStart(_), _) => break,
                (Event::StreamEnd, _) => {
                    let place = Place { line: 1, column: 1 };
                    return Err(Problem { place, text: "the file is empty".to_owned() });
                }
                _ => {}
            }
        }
        let node = self.node(0)?;
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(node),
                (Event::DocumentStart(_), place) => {
                    let text = "a second document: a file holds one".to_owned();
                    return Err(Problem { place, text });
                }
                _ => {}
            }
        }
    }

    fn node(&mut self, depth: usize) -> Result<Node, Problem> {
        let (event, place) = self.next()?;
        self.node_from(event, place, depth)
    }

    fn node_from(&mut self, event: Event<'a>, place: Place, depth: usize) -> Result<Node, Problem> {
        self.nodes += 1;
        if depth > MAX_DEPTH || self.nodes > MAX_NODES {
            let text = format!("deeper than {MAX_DEPTH} levels, or more than {MAX_NODES} values");
            return Err(Problem { place, text });
        }
        let (node, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => {
                let value = if style == ScalarStyle::Plain {
                    plain(&text)
                } else {
                    Value::String(text.into_owned())
                };
                (Node { place, kind: Kind::Scalar(value) }, anchor)
            }
            Event::SequenceStart(anchor, _) => (self.list(place, depth)?, anchor),
            Event::MappingStart(anchor, _) => (self.map(place, depth)?, anchor),
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    return Err(Problem { place, text: "an alias of itself".to_owned() });
                };
                self.nodes += node.weight();
                // Aliases of aliases are deep without looking so.
                if depth + node.depth() > MAX_DEPTH {
                    let text = format!("deeper than {MAX_DEPTH} levels, aliases included");
                    return Err(Problem { place, text });
                }
                (Node { place, ..node }, 0)
            }
            _ => (Node { place, kind: Kind::Scalar(Value::Null) }, 0),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, place: Place, depth: usize) -> Result<Node, Problem> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Node { place, kind: Kind::List(items) }),
                (event, at) => items.push(self.node_from(event, at, depth + 1)?),
            }
        }
    }

    fn map(&mut self, place: Place, depth: usize) -> Result<Node, Problem> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let (key, at) = match self.next()? {
                (Event::MappingEnd, _) => return Ok(Node { place, kind: Kind::Map(entries) }),
                (Event::Scalar(text, ..), at) => (text.into_owned(), at),
                (_, at) => {
                    let text = "a key must be a word or a number".to_owned();
                    return Err(Problem { place: at, text });
                }
            };
            let value = self.node(depth + 1)?;
            if let Some(first) = entries.iter().find(|entry| entry.key == key) {
                let text = format!("'{key}' is here twice, first in line {}", first.place.line);
                self.duplicates.push(Problem { place: at, text });
            }
            entries.push(Entry { key, place: at, value });
        }
    }
}

fn place(span: Span) -> Place {
    Place { line: span.start.line(), column: span.start.col() + 1 }
}

/// A scalar without quotes, by the core schema.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let radix = |prefix: &str, radix| {
        text.strip_prefix(prefix).and_then(|digits| i64::from_str_radix(digits, radix).ok())
    };
    if let Some(number) = radix("0x", 16).or_else(|| radix("0o", 8)) {
        return number.into();
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Value::String(text.to_owned());
    }
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    if let Ok(number) = unsigned.parse::<i64>() {
        return number.into();
    }
    if let Ok(number) = unsigned.parse::<u64>() {
        return number.into();
    }
    let number = unsigned.parse().ok().and_then(Number::from_f64);
    number.map_or_else(|| Value::String(text.to_owned()), Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn scalars_mean_what_they_mean_in_the_core_schema() {
        let text = "[1, -2, 1.5, 0x10, 5ms, '7', true, null, ~, yes, 127.0.0.1:80, 1e3, .5, -]";
        let text = text.replace(", -]", ", a: b]");
        let node = Node::parse(&text).unwrap();
        let wanted = json!([
            1, -2, 1.5, 16, "5ms", "7", true, null, null, "yes", "127.0.0.1:80", 1000.0, 0.5,
            {"a": "b"}
        ]);
        assert_eq!(node.to_json(), wanted);
    }

    #[test]
    fn keys_and_values_know_their_places() {
        let node = Node::parse("a: 1\nb:\n  c: [x, y]\n").unwrap();
        let Kind::Map(entries) = &node.get("b").unwrap().kind else { panic!("no map") };
        let entry = &entries[0];
        assert_eq!(entry.place, Place { line: 3, column: 3 });
        assert_eq!(entry.value.items()[1].place, Place { line: 3, column: 10 });
    }

    #[test]
    fn an_alias_stands_for_its_anchor() {
        let node = Node::parse("a: &x {k: 1}\nb: *x\n").unwrap();
        assert_eq!(node.to_json(), json!({"a": {"k": 1}, "b": {"k": 1}}));
    }

    #[test]
    fn a_fault_of_the_syntax_has_its_line_and_column() {
        let problem = &Node::parse("a: 1\nb: [1, 2\nc: 3\n").unwrap_err()[0];
        assert!(problem.place.line >= 2 && problem.text.starts_with("no YAML"), "{problem}");
        let problems = Node::parse("a: 1\nb: 2\na: 3\n").unwrap_err();
        assert_eq!(problems[0].to_string(), "line 3 column 1: 'a' is here twice, first in line 1");
    }

    #[test]
    fn what_would_use_up_memory_is_refused() {
        assert!(Node::parse(&"[".repeat(1000)).is_err());
        let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for (own, last) in ('b'..='j').zip('a'..) {
            bomb += &format!(
                "{own}: &{own} [*{last}, *{last}, *{last}, *{last}, *{last}, *{last}, *{last}, *{last}]\n"
            );
        }
        assert!(Node::parse(&bomb).unwrap_err()[0].text.contains("more than"));
        let mut tower = "a0: &a0 x\n".to_owned();
        for level in 1..100 {
            let (open, close) = ("[".repeat(50), "]".repeat(50));
            tower += &format!("a{level}: &a{level} {open}*a{}{close}\n", level - 1);
        }
        assert!(Node::parse(&tower).unwrap_err()[0].text.contains("aliases included"));
    }
}
