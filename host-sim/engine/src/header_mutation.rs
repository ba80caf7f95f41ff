//! Header changes that configuration asks for: the `header_mutation` filter, and the
//! `request_headers_to_add` family of routes.
//!
//! Values are format strings, compiled once. As in Envoy, a filter's steps run one after the other,
//! each seeing what the one before did; a route removes first, then evaluates all its additions, then
//! writes them. A value that comes out empty is left out unless it asked to stay.

use std::borrow::Cow;

use bytes::Bytes;
use host_sim_bootstrap::{AppendAction, HeaderMutation, HeaderTransforms, HeaderValueOption};

use crate::access_log::{Field, FormatError, Formatter, HeadersOf, Value, Values};
use crate::{Headers, UnixNanos};

/// A compiled list of steps; the values of one step are evaluated before any of it is written.
#[derive(Clone, Debug, Default)]
pub struct HeaderChanges(Vec<Vec<Change>>);

/// Compiled `request_headers_*` and `response_headers_*` of one route level.
#[derive(Clone, Debug, Default)]
pub struct CompiledTransforms {
    /// For the request on its way upstream.
    pub request: HeaderChanges,
    /// For the response on its way downstream.
    pub response: HeaderChanges,
}

#[derive(Clone, Debug)]
enum Change {
    Remove(String),
    Append { name: Bytes, value: Formatter, action: AppendAction, keep_empty_value: bool },
}

impl HeaderChanges {
    /// The steps of a `header_mutation` filter, in order.
    pub fn of_mutations(mutations: &[HeaderMutation]) -> Result<Self, FormatError> {
        let compile = |mutation: &HeaderMutation| {
            Ok(vec![match mutation {
                HeaderMutation::Remove(name) => Change::Remove(name.clone()),
                HeaderMutation::Append(option) => Change::append(option)?,
            }])
        };
        mutations.iter().map(compile).collect::<Result<_, _>>().map(Self)
    }

    /// Additions alone, as of `response_headers_to_add`.
    pub fn of_additions(additions: &[HeaderValueOption]) -> Result<Self, FormatError> {
        Self::of_route(&[], additions)
    }

    fn of_route(remove: &[String], add: &[HeaderValueOption]) -> Result<Self, FormatError> {
        let remove: Vec<Change> = remove.iter().cloned().map(Change::Remove).collect();
        let add = add.iter().map(Change::append).collect::<Result<Vec<_>, _>>()?;
        Ok(Self([remove, add].into_iter().filter(|step| !step.is_empty()).collect()))
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Changes `headers`, which are `of` the exchange; `values` says everything else about it.
    pub fn apply(&self, headers: &mut Headers, of: HeadersOf, values: &dyn Values) {
        for step in &self.0 {
            let now = Overlay { headers, of, values };
            let evaluated: Vec<_> = step.iter().map(|change| change.evaluate(&now)).collect();
            for (change, value) in step.iter().zip(evaluated) {
                match (change, value) {
                    (Change::Remove(name), _) => {
                        headers.remove(name.as_bytes());
                    }
                    (Change::Append { name, action, .. }, Some(value)) => {
                        append(headers, name, value, *action);
                    }
                    (Change::Append { .. }, None) => {}
                }
            }
        }
    }
}

/// An exchange whose headers are being changed: they are asked for as they are by now.
struct Overlay<'e> {
    headers: &'e Headers,
    of: HeadersOf,
    values: &'e dyn Values,
}

impl Values for Overlay<'_> {
    fn header(&self, of: HeadersOf, name: &str) -> Option<Cow<'_, str>> {
        if of != self.of {
            return self.values.header(of, name);
        }
        self.headers.get(name).map(String::from_utf8_lossy)
    }

    fn field(&self, field: Field) -> Option<Value> {
        self.values.field(field)
    }

    fn filter_state(&self, key: &str) -> Option<Cow<'_, [u8]>> {
        self.values.filter_state(key)
    }

    fn start_time(&self) -> UnixNanos {
        self.values.start_time()
    }
}

impl CompiledTransforms {
    /// Compiles one level's transforms.
    pub fn new(transforms: &HeaderTransforms) -> Result<Self, FormatError> {
        Ok(Self {
            request: HeaderChanges::of_route(&transforms.request_remove, &transforms.request_add)?,
            response: HeaderChanges::of_route(
                &transforms.response_remove,
                &transforms.response_add,
            )?,
        })
    }
}

impl Change {
    fn append(option: &HeaderValueOption) -> Result<Self, FormatError> {
        Ok(Self::Append {
            name: Bytes::from(option.name.clone()),
            // A header without a value is empty, not a dash.
            value: Formatter::new(&option.value, true)?,
            action: option.action,
            keep_empty_value: option.keep_empty_value,
        })
    }

    /// The value to write; `None` = nothing is written.
    fn evaluate(&self, values: &dyn Values) -> Option<String> {
        let Self::Append { value, keep_empty_value, .. } = self else { return None };
        let value = value.format(values);
        (!value.is_empty() || *keep_empty_value).then_some(value)
    }
}

fn append(headers: &mut Headers, name: &Bytes, value: String, action: AppendAction) {
    let exists = headers.get_bytes(name).is_some();
    match action {
        AppendAction::AddIfAbsent if exists => {}
        AppendAction::OverwriteIfExists if !exists => {}
        AppendAction::OverwriteIfExists | AppendAction::OverwriteIfExistsOrAdd => {
            headers.set(name, value.as_bytes());
        }
        // A pseudo header has one value: a second would be a malformed message.
        AppendAction::AppendIfExistsOrAdd if name.starts_with(b":") => {
            headers.set(name, value.as_bytes());
        }
        AppendAction::AppendIfExistsOrAdd | AppendAction::AddIfAbsent => {
            headers.add_bytes(name.clone(), Bytes::from(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Exchange;

    impl Values for Exchange {
        fn header(&self, of: HeadersOf, name: &str) -> Option<Cow<'_, str>> {
            (of == HeadersOf::Request && name == "x-in").then_some(Cow::Borrowed("in"))
        }

        fn field(&self, field: Field) -> Option<Value> {
            (field == Field::ResponseCode).then_some(Value::Number(200))
        }

        fn filter_state(&self, _: &str) -> Option<Cow<'_, [u8]>> {
            None
        }

        fn start_time(&self) -> UnixNanos {
            UnixNanos(0)
        }
    }

    fn option(value: &str, action: AppendAction) -> HeaderValueOption {
        HeaderValueOption { name: "x".into(), value: value.into(), action, keep_empty_value: false }
    }

    fn after(before: &[(&str, &str)], mutations: &[HeaderMutation]) -> Headers {
        let mut headers = Headers::from_pairs(before.iter().copied());
        HeaderChanges::of_mutations(mutations).unwrap().apply(
            &mut headers,
            HeadersOf::Response,
            &Exchange,
        );
        headers
    }

    #[test]
    fn each_action_does_what_its_name_says() {
        use AppendAction::*;
        type Pairs<'p> = &'p [(&'p str, &'p str)];
        let cases: [(AppendAction, Pairs<'_>, Pairs<'_>); 8] = [
            (AppendIfExistsOrAdd, &[("x", "1")], &[("x", "1"), ("x", "2")]),
            (AppendIfExistsOrAdd, &[], &[("x", "2")]),
            (AddIfAbsent, &[("x", "1")], &[("x", "1")]),
            (AddIfAbsent, &[], &[("x", "2")]),
            (OverwriteIfExistsOrAdd, &[("x", "1"), ("x", "3")], &[("x", "2")]),
            (OverwriteIfExistsOrAdd, &[], &[("x", "2")]),
            (OverwriteIfExists, &[("x", "1")], &[("x", "2")]),
            (OverwriteIfExists, &[], &[]),
        ];
        for (action, before, expected) in cases {
            let found = after(before, &[HeaderMutation::Append(option("2", action))]);
            assert_eq!(found, Headers::from_pairs(expected.iter().copied()), "{action:?}");
        }
    }

    #[test]
    fn values_are_substituted_and_an_empty_one_is_left_out() {
        let mutate = |value: &str| {
            let option = option(value, AppendAction::AppendIfExistsOrAdd);
            after(&[], &[HeaderMutation::Append(option)])
        };
        assert_eq!(mutate("%REQ(x-in)%-%RESPONSE_CODE%").get("x"), Some(&b"in-200"[..]));
        assert_eq!(mutate("%REQ(x-none)%").get("x"), None);
    }

    #[test]
    fn an_empty_value_may_ask_to_stay() {
        let mut option = option("", AppendAction::AppendIfExistsOrAdd);
        option.keep_empty_value = true;
        assert_eq!(after(&[], &[HeaderMutation::Append(option)]).get("x"), Some(&b""[..]));
    }

    #[test]
    fn steps_run_in_order_and_a_removal_takes_every_value() {
        let add = HeaderMutation::Append(option("2", AppendAction::AppendIfExistsOrAdd));
        let remove = HeaderMutation::Remove("x".into());
        let before = [("x", "1"), ("x", "1")];
        let found = after(&before, &[remove.clone(), add.clone()]);
        assert_eq!(found, Headers::from_pairs([("x", "2")]));
        assert!(after(&before, &[add, remove]).is_empty());
    }

    #[test]
    fn a_route_removes_before_it_adds() {
        let transforms = HeaderTransforms {
            request_add: vec![option("new", AppendAction::AppendIfExistsOrAdd)],
            request_remove: vec!["x".into()],
            ..HeaderTransforms::default()
        };
        let compiled = CompiledTransforms::new(&transforms).unwrap();
        let mut headers = Headers::from_pairs([("x", "old")]);
        compiled.request.apply(&mut headers, HeadersOf::Response, &Exchange);
        assert_eq!(headers, Headers::from_pairs([("x", "new")]));
        assert!(compiled.response.is_empty());
    }

    #[test]
    fn a_filters_step_sees_the_step_before_and_a_routes_addition_does_not() {
        let first = option("1", AppendAction::AppendIfExistsOrAdd);
        let mut second = option("%RESP(x)%", AppendAction::AppendIfExistsOrAdd);
        second.name = "y".into();
        let steps = [first.clone(), second.clone()].map(HeaderMutation::Append);
        assert_eq!(after(&[], &steps).get("y"), Some(&b"1"[..]));

        let mut headers = Headers::new();
        let additions = HeaderChanges::of_additions(&[first, second]).unwrap();
        additions.apply(&mut headers, HeadersOf::Response, &Exchange);
        assert_eq!(headers, Headers::from_pairs([("x", "1")]));
    }

    #[test]
    fn a_bad_format_does_not_compile() {
        let option = option("%NOPE%", AppendAction::AppendIfExistsOrAdd);
        let error = HeaderChanges::of_additions(&[option]).unwrap_err();
        assert_eq!(error.message, "unknown operator 'NOPE'");
    }
}
