//! Evaluation. An error is a value that `&&` and `||` may still decide without.

use super::functions;
use super::number;
use super::parse::{Expr, Loop, Macro};
use super::value::{Group, Value, field};

/// Steps that an expression may take: macros within macros would never end, and a text or list that
/// is added to itself again and again would not fit into any memory. What is copied or looked
/// through as a whole costs as much as it has: see [`number::cost`].
const MAX_STEPS: u64 = 1_000_000;

/// Steps that it costs to compile a pattern.
const PATTERN_STEPS: u64 = 1_000;

/// Where names come from.
pub(crate) trait Activation {
    /// A name that stands by itself.
    fn find(&self, name: &str) -> Option<Value>;
    /// A member of a group of attributes.
    fn member(&self, group: Group, key: &[u8]) -> Option<Value>;
}

/// Evaluation has failed: no such name or key, no such overload, an overflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failed;

pub(super) type Outcome = Result<Value, Failed>;

/// The value of an expression.
pub(crate) fn evaluate(expr: &Expr, scene: &impl Activation) -> Outcome {
    let mut run = Run { scene, variables: Vec::new(), steps: 0 };
    run.eval(expr)
}

struct Run<'a, A> {
    scene: &'a A,
    /// Of the macros around, innermost last.
    variables: Vec<(String, Value)>,
    steps: u64,
}

impl<A: Activation> Run<'_, A> {
    /// Depth is stack: what an expression needs beside its operands is in functions of its own, which
    /// have returned, or are not yet called, while operands are evaluated.
    fn eval(&mut self, expr: &Expr) -> Outcome {
        self.charge(1)?;
        match expr {
            Expr::Literal(value) => Ok(value.clone()),
            Expr::Ident(name) => self.name(name),
            Expr::Select(operand, name) => self.select(operand, name.as_bytes()),
            Expr::Has(operand, name) => self.has(operand, name.as_bytes()),
            Expr::Index(operand, key) => self.index(operand, key),
            Expr::List(items) => self.list(items),
            Expr::Map(members) => self.map(members),
            Expr::And(left, right) => self.logic(left, right, false),
            Expr::Or(left, right) => self.logic(left, right, true),
            Expr::Choose(condition, yes, no) => self.choose(condition, yes, no),
            Expr::Call(function, args) => self.call(function, args),
            Expr::Loop(kind, parts) => {
                let range = self.eval(&parts.range)?;
                self.iterate(*kind, parts, range)
            }
        }
    }

    fn has(&mut self, operand: &Expr, name: &[u8]) -> Outcome {
        let operand = self.eval(operand)?;
        if !is_container(&operand) {
            return Err(Failed);
        }
        Ok(Value::Bool(field(&operand, name, self.scene).is_some()))
    }

    fn list(&mut self, exprs: &[Expr]) -> Outcome {
        let mut items = Vec::with_capacity(exprs.len());
        for expr in exprs {
            items.push(self.eval(expr)?);
        }
        self.paid(Value::List(items))
    }

    fn map(&mut self, members: &[(Expr, Expr)]) -> Outcome {
        self.charge(number::lookups(members.len()))?;
        let mut map: Vec<(Value, Value)> = Vec::with_capacity(members.len());
        for (key, value) in members {
            let key = self.eval(key)?;
            if map.iter().any(|(known, _)| number::equal(known, &key)) {
                return Err(Failed);
            }
            map.push((key, self.eval(value)?));
        }
        self.paid(Value::Map(map))
    }

    fn choose(&mut self, condition: &Expr, yes: &Expr, no: &Expr) -> Outcome {
        match self.eval(condition)? {
            Value::Bool(true) => self.eval(yes),
            Value::Bool(false) => self.eval(no),
            _ => Err(Failed),
        }
    }

    fn call(&mut self, function: &'static str, args: &[Expr]) -> Outcome {
        if function == "matches" {
            self.charge(PATTERN_STEPS)?;
        }
        let args = self.all(args)?;
        match (function, args.as_slice()) {
            ("in", [item, container]) => self.contains(container, item),
            (function, args) => functions::call(function, args),
        }
    }

    fn all(&mut self, exprs: &[Expr]) -> Result<Vec<Value>, Failed> {
        let mut values = Vec::with_capacity(exprs.len());
        for expr in exprs {
            let value = self.eval(expr)?;
            values.push(self.paid(value)?);
        }
        Ok(values)
    }

    fn charge(&mut self, steps: u64) -> Result<(), Failed> {
        self.steps = self.steps.saturating_add(steps);
        if self.steps > MAX_STEPS { Err(Failed) } else { Ok(()) }
    }

    /// The value, if the expression can afford it.
    fn paid(&mut self, value: Value) -> Outcome {
        self.charge(number::cost(&value).ok_or(Failed)?)?;
        Ok(value)
    }

    fn name(&mut self, name: &str) -> Outcome {
        let own = self.variables.iter().rev().find(|(own, _)| own == name);
        let value = match own {
            Some((_, value)) => value.clone(),
            None => {
                let found = self.scene.find(name);
                found.or_else(|| functions::type_named(name)).ok_or(Failed)?
            }
        };
        self.paid(value)
    }

    fn select(&mut self, operand: &Expr, name: &[u8]) -> Outcome {
        let operand = self.eval(operand)?;
        if !is_container(&operand) {
            return Err(Failed);
        }
        field(&operand, name, self.scene).ok_or(Failed)
    }

    fn index(&mut self, operand: &Expr, key: &Expr) -> Outcome {
        let operand = self.eval(operand)?;
        let key = self.eval(key)?;
        self.member(&operand, &key)
    }

    fn member(&self, operand: &Value, key: &Value) -> Outcome {
        let found = match (operand, key) {
            (Value::List(items), key) => {
                let at = number::index(key).ok_or(Failed)?;
                items.get(at).cloned()
            }
            (Value::Map(members), key) => {
                let found = members.iter().find(|(own, _)| number::equal(own, key));
                found.map(|(_, value)| value.clone())
            }
            (container, Value::Text(key)) if is_container(container) => {
                field(container, key, self.scene)
            }
            _ => None,
        };
        found.ok_or(Failed)
    }

    /// `decisive` is what decides alone: false for `&&`, true for `||`.
    fn logic(&mut self, left: &Expr, right: &Expr, decisive: bool) -> Outcome {
        let left = self.eval(left).and_then(boolean);
        if left == Ok(decisive) {
            return Ok(Value::Bool(decisive));
        }
        let right = self.eval(right).and_then(boolean);
        if right == Ok(decisive) {
            return Ok(Value::Bool(decisive));
        }
        left.and(right).map(Value::Bool)
    }

    fn contains(&self, container: &Value, item: &Value) -> Outcome {
        let found = match container {
            Value::List(items) => items.iter().any(|own| number::equal(own, item)),
            Value::Map(members) => members.iter().any(|(own, _)| number::equal(own, item)),
            Value::Headers(_) | Value::Group(_) => match item {
                Value::Text(key) => field(container, key, self.scene).is_some(),
                _ => return Err(Failed),
            },
            _ => return Err(Failed),
        };
        Ok(Value::Bool(found))
    }

    fn iterate(&mut self, kind: Macro, parts: &Loop, range: Value) -> Outcome {
        let items = match range {
            Value::List(items) => items,
            Value::Map(members) => members.into_iter().map(|(key, _)| key).collect(),
            Value::Headers(headers) => {
                let headers = headers.unwrap_or_default();
                let mut names: Vec<Value> = Vec::new();
                for (name, _) in headers.iter() {
                    let name = Value::Text(bytes::Bytes::copy_from_slice(name));
                    if !names.iter().any(|known| number::equal(known, &name)) {
                        names.push(name);
                    }
                }
                names
            }
            _ => return Err(Failed),
        };
        let (mut count, mut failed, mut list) = (0u32, false, Vec::new());
        for item in items {
            self.variables.push((parts.variable.clone(), item.clone()));
            let counts = parts.condition.as_ref().map(|c| self.eval(c).and_then(boolean));
            let counts = counts.unwrap_or(Ok(true));
            let outcome = match counts {
                Ok(true) => Some(self.eval(&parts.body)),
                Ok(false) => None,
                Err(failed) => Some(Err(failed)),
            };
            self.variables.pop();
            let Some(outcome) = outcome else { continue };
            match kind {
                Macro::Map => list.push(outcome?),
                Macro::Filter => {
                    if outcome.and_then(boolean)? {
                        list.push(item);
                    }
                }
                Macro::ExistsOne => count += u32::from(outcome.and_then(boolean)?),
                Macro::All | Macro::Exists => match outcome.and_then(boolean) {
                    // The first element that decides ends the loop, errors before it or not.
                    Ok(holds) if holds == (kind == Macro::Exists) => return Ok(Value::Bool(holds)),
                    Ok(_) => {}
                    Err(_) => failed = true,
                },
            }
        }
        match kind {
            Macro::Map | Macro::Filter => self.paid(Value::List(list)),
            Macro::ExistsOne => Ok(Value::Bool(count == 1)),
            Macro::All | Macro::Exists if failed => Err(Failed),
            Macro::All | Macro::Exists => Ok(Value::Bool(kind == Macro::All)),
        }
    }
}

fn is_container(value: &Value) -> bool {
    matches!(value, Value::Map(_) | Value::Headers(_) | Value::Group(_) | Value::Message(_))
}

fn boolean(value: Value) -> Result<bool, Failed> {
    match value {
        Value::Bool(value) => Ok(value),
        _ => Err(Failed),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{parse, serialize};
    use super::*;

    struct Scene;

    impl Activation for Scene {
        fn find(&self, name: &str) -> Option<Value> {
            match name {
                "request" => Some(Value::Group(Group::Request)),
                "greeting" => Some(Value::text("hello")),
                _ => None,
            }
        }

        fn member(&self, group: Group, key: &[u8]) -> Option<Value> {
            let headers = crate::Headers::from_pairs([("a", "1"), ("a", "2"), ("b", "3")]);
            match (group, key) {
                (Group::Request, b"path") => Some(Value::text("/a/b")),
                (Group::Request, b"headers") => Some(Value::Headers(Some(headers))),
                (Group::Request, b"size") => Some(Value::Int(7)),
                _ => None,
            }
        }
    }

    /// What a guest would read; none if it does not evaluate.
    fn value(text: &str) -> Option<Vec<u8>> {
        let expr = parse(text).unwrap_or_else(|error| panic!("{text} does not parse: {error:?}"));
        let value = evaluate(&expr, &Scene).ok()?;
        let mut out = Vec::new();
        serialize(&value, &mut out).ok()?;
        Some(out)
    }

    fn holds(text: &str) -> bool {
        assert!(matches!(value(text).as_deref(), Some([0] | [1])), "{text}: {:?}", value(text));
        value(text) == Some(vec![1])
    }

    #[test]
    fn operators_bind_as_they_should() {
        for text in [
            "1 + 2 * 3 == 7",
            "(1 + 2) * 3 == 9",
            "7 - 2 - 1 == 4",
            "-7 / 2 == -3 && -7 % 2 == -1",
            "!false && !!true",
            "1 < 2 && 2 <= 2 && 3 > 2 && 2 >= 2 && 1 != 2",
            "true ? 1 == 1 : 1 / 0 == 1",
            "false || true ? true : false",
            "1 == 1.0 && 1u == 1 && 2u > 1 && 1 < 1.5",
            "0x10 == 16 && 1e3 == 1000.0 && .5 == 0.5",
            "-9223372036854775808 < 0",
            "'a' < 'b' && b'a' < b'b' && false < true",
        ] {
            assert!(holds(text), "{text}");
        }
    }

    #[test]
    fn strings_and_their_functions() {
        for text in [
            r"'a\n\x41\u0042\101' == 'a' + '\n' + 'ABA'",
            r#"r'\n' == "\\n" && '''a'b''' == "a'b""#,
            "'hello'.contains('ell') && 'hello'.startsWith('he') && 'hello'.endsWith('lo')",
            "'hello'.matches('l+') && matches('hello', '^h') && !'hello'.matches('^l')",
            "size('h\u{e9}') == 2 && 'abc'.size() == 3 && size(b'h\u{e9}') == 3",
            "b'a' + b'b' == b'ab' && string(b'ab') == 'ab' && bytes('ab') == b'ab'",
            "string(3) + string(2u) + string(true) == '32true'",
            "int('7') == 7 && uint('7') == 7u && double('1.5') == 1.5 && int(1.9) == 1",
            "int(timestamp('1970-01-01T00:00:10Z')) == 10",
        ] {
            assert!(holds(text), "{text}");
        }
    }

    #[test]
    fn lists_maps_and_macros() {
        for text in [
            "[1, 2] + [3] == [1, 2, 3] && size([1, 2]) == 2 && [1, 2][1] == 2",
            "{'a': 1}.a == 1 && {'a': 1}['a'] == 1 && {1: 'x'}[1] == 'x' && size({}) == 0",
            "2 in [1, 2] && 'a' in {'a': 1} && !(3 in [])",
            "has({'a': 1}.a) && !has({'a': 1}.b)",
            "[1, 2].all(x, x > 0) && [1, 2].exists(x, x == 2) && [1, 2].exists_one(x, x == 2)",
            "[1, 2, 3].filter(x, x > 1) == [2, 3] && [1, 2].map(x, x * 2) == [2, 4]",
            "[1, 2, 3].map(x, x > 1, x * 2) == [4, 6] && {'a': 1}.all(k, k == 'a')",
            "[0, 1].exists(x, 1 / x == 1)",
        ] {
            assert!(holds(text), "{text}");
        }
    }

    #[test]
    fn times_add_and_come_apart() {
        for text in [
            "duration('90s') == duration('1m30s') && duration('1.5s') < duration('2s')",
            "timestamp('2020-01-01T00:00:00Z') + duration('24h') == timestamp('2020-01-02T00:00:00Z')",
            "timestamp('2020-01-02T00:00:00Z') - timestamp('2020-01-01T00:00:00Z') == duration('24h')",
            "timestamp('2020-03-01T13:14:15.016Z').getFullYear() == 2020",
            "timestamp('2020-03-01T13:14:15.016Z').getMonth() == 2",
            "timestamp('2020-03-01T13:14:15.016Z').getDate() == 1",
            "timestamp('2020-03-01T13:14:15.016Z').getDayOfMonth() == 0",
            "timestamp('2020-03-01T13:14:15.016Z').getDayOfWeek() == 0",
            "timestamp('2020-03-01T13:14:15.016Z').getDayOfYear() == 60",
            "timestamp('2020-03-01T13:14:15.016Z').getHours() == 13",
            "timestamp('2020-03-01T13:14:15.016Z').getHours('+02:30') == 15",
            "timestamp('2020-03-01T13:14:15.016Z').getMilliseconds() == 16",
            "duration('3730s').getHours() == 1 && duration('3730s').getMinutes() == 62",
            "string(duration('90s')) == '90s'",
            "string(timestamp('2020-03-01T13:14:15Z')) == '2020-03-01T13:14:15Z'",
        ] {
            assert!(holds(text), "{text}");
        }
    }

    #[test]
    fn attributes_are_names() {
        for text in [
            "request.path.startsWith('/a') && greeting == 'hello'",
            "request.headers['a'] == '1,2' && request.headers.b == '3'",
            "'A' in request.headers && !('c' in request.headers) && size(request.headers) == 2",
            "has(request.headers.a) && !has(request.headers.c) && !has(request.nope)",
            "request.headers.exists(name, name == 'b')",
            "type(request.size) == int && type(1u) == uint && type('') == string",
        ] {
            assert!(holds(text), "{text}");
        }
    }

    #[test]
    fn what_does_not_evaluate_fails() {
        for text in [
            "1 / 0",
            "1 % 0",
            "9223372036854775807 + 1",
            "nope",
            "request.nope",
            "1 + 'a'",
            "1 + 1u",
            "[1][1]",
            "{'a': 1}.b",
            "{'a': 1, 'a': 2}",
            "'a' ? 1 : 2",
            "int('x')",
            "'a'.matches('(')",
            "true && nope",
            "has(greeting.a)",
            "uint(-1)",
            "-(-9223372036854775807 - 1)",
            "duration('x')",
            "timestamp('x')",
            "timestamp(0).getHours('+24:00')",
            "timestamp(0).getHours('--9223372036854775807:00')",
            "null",
            "type(1)",
            "request",
        ] {
            assert_eq!(value(text), None, "{text}");
        }
        assert!(holds("nope || true"));
        assert!(!holds("nope && false"));
    }

    #[test]
    fn what_is_no_expression_does_not_parse() {
        for text in [
            "",
            "1 +",
            "(1",
            "[1",
            "{1}",
            "foo(1)",
            "'a'.foo()",
            "size()",
            "'a",
            "a.",
            "1 2",
            "#",
            "has(1)",
            "[1].all(1, true)",
            "9223372036854775809",
            "'\\q'",
            "a ? b",
            "contains('a', 'b')",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn no_expression_hurts_the_host() {
        assert!(parse(&"(".repeat(5000)).is_err());
        assert!(parse(&format!("{}1{}", "(".repeat(200), ")".repeat(200))).is_ok());
        assert!(parse(&"-".repeat(5000)).is_err());
        assert!(parse(&format!("1{}", "+1".repeat(5000))).is_err());
        assert!(parse(&format!("a{}", ".a".repeat(5000))).is_err());
        assert!(parse(&" ".repeat(100_001)).is_err());
        let list = format!("[{}]", "1,".repeat(300));
        let nested = format!("{list}.all(a, {list}.all(b, {list}.all(c, {list}.all(d, true))))");
        assert_eq!(value(&nested), None);
    }

    #[test]
    fn the_deepest_expression_fits_into_a_small_stack() {
        let deepest = || {
            let chain = format!("[1]{}", ".map(a, a)".repeat(240));
            assert!(value(&chain).is_some());
            let brackets = format!("{}1{}", "[".repeat(99), "]".repeat(99));
            assert!(value(&brackets).is_some());
            let parentheses = format!("{}1{}", "(".repeat(240), ")".repeat(240));
            assert!(value(&parentheses).is_some());
            let sums = format!("{}1{}", "(1 + ".repeat(120), ")".repeat(120));
            assert!(value(&sums).is_some());
            let loops = format!("{}1{}", "[1].map(a, ".repeat(99), ")".repeat(99));
            assert!(value(&loops).is_some());
            let minus = format!("{}1", "!".repeat(240));
            assert_eq!(value(&minus), None);
            // Links and what stands in them count together.
            let both = format!("[1]{}", ".map(a, [[[[[[[[[[a]]]]]]]]]])".repeat(240));
            assert!(parse(&both).is_err());
        };
        let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(deepest).unwrap();
        thread.join().unwrap();
    }

    #[test]
    fn no_value_outgrows_the_host() {
        let grown = |start: &str, stage: &str, times| format!("{start}{}", stage.repeat(times));
        // Each stage doubles a text, a list, a tree of lists.
        for (start, stage) in [
            ("['ab']", ".map(a, a + a)"),
            ("[[1]]", ".map(a, a + a)"),
            ("[[1]]", ".map(a, [a, a])"),
        ] {
            assert!(value(&grown(start, stage, 4)).is_some(), "{stage}");
            assert_eq!(value(&grown(start, stage, 60)), None, "{stage}");
        }
        // Lists in lists in lists.
        let deeper = format!(".map(a, {}a{})", "[".repeat(20), "]".repeat(20));
        assert!(value(&grown("[1]", &deeper, 4)).is_some());
        assert_eq!(value(&grown("[1]", &deeper, 5)), None);
        // A text of a megabyte, all of it looked through for another one.
        let texts = grown("['a']", ".map(a, a + a)", 20);
        assert_eq!(value(&format!("{texts}.all(a, a.contains(a + 'b'))")), Some(vec![0]));
    }
}
