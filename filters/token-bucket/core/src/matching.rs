//! Which requests a policy applies to.
//!
//! A rule is a conjunction: every field that it has must hold. A list of rules is a disjunction. That
//! is Envoy's `RouteMatch` and the order of its routes without the order: whether a policy applies
//! depends on no other policy. Nothing here is a regular expression: what a template cannot say, two
//! rules can, and no request pays for a backtracking matcher.

use crate::Attributes;

/// What requests a policy applies to. No rule is every request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match(pub Vec<Rule>);

impl Match {
    /// True if the policy applies to `request`. Reads only what it needs.
    pub(crate) fn to(&self, request: &impl Attributes) -> bool {
        self.0.is_empty() || self.0.iter().any(|rule| rule.holds(request))
    }
}

/// Requests for which everything named here holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Hosts; empty for all.
    pub hosts: Vec<HostMatch>,
    /// Paths.
    pub path: Option<PathMatch>,
    /// Methods; empty for all.
    pub methods: Vec<String>,
    /// Headers, all of which must be as said.
    pub headers: Vec<HeaderMatch>,
}

impl Rule {
    #[inline(never)]
    fn holds(&self, request: &impl Attributes) -> bool {
        let method = |method| self.methods.contains(&method);
        let host = |host: String| self.hosts.iter().any(|wanted| wanted.holds(&host));
        let path = |wanted: &PathMatch| request.path().is_some_and(|path| wanted.holds(&path));
        (self.methods.is_empty() || request.method().is_some_and(method))
            && self.path.as_ref().is_none_or(path)
            && (self.hosts.is_empty() || request.host().is_some_and(host))
            && self.headers.iter().all(|header| header.holds(request))
    }
}

/// Which hosts, in the spelling of [`Attributes::host`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostMatch {
    /// This one.
    Exact(String),
    /// Those that end so, with a dot in front: `.example.com` for `*.example.com`.
    Suffix(String),
}

impl HostMatch {
    fn holds(&self, host: &str) -> bool {
        match self {
            Self::Exact(exact) => host == exact,
            // As in Envoy's `domains`, the star stands for something.
            Self::Suffix(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
        }
    }
}

/// Which paths, without their query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathMatch {
    /// Those that begin so.
    Prefix(String),
    /// This one.
    Exact(String),
    /// Those of this shape, segment by segment: `{name}` is any one that is not empty, `**` at the
    /// end is all that follow, or none.
    Template(String),
}

impl PathMatch {
    fn holds(&self, path: &str) -> bool {
        match self {
            Self::Prefix(prefix) => path.starts_with(prefix),
            Self::Exact(exact) => path == exact,
            Self::Template(template) => fits(template, path),
        }
    }
}

fn fits(template: &str, path: &str) -> bool {
    let mut segments = path.as_bytes().split(|byte| *byte == b'/');
    for wanted in template.as_bytes().split(|byte| *byte == b'/') {
        if wanted == b"**" {
            return true;
        }
        match segments.next() {
            Some(segment) if is_variable(wanted) && !segment.is_empty() => {}
            Some(segment) if segment == wanted => {}
            _ => return false,
        }
    }
    segments.next().is_none()
}

/// Whether a segment of a template stands for any segment.
pub(crate) fn is_variable(segment: &[u8]) -> bool {
    segment.starts_with(b"{") && segment.ends_with(b"}")
}

/// What must be true of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderMatch {
    /// Its name.
    pub name: String,
    /// What of it.
    pub value: ValueMatch,
}

/// What must be true of a header's value. An empty header is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueMatch {
    /// The header is there.
    Present,
    /// It is not.
    Absent,
    /// It is this.
    Exact(String),
    /// It begins so.
    Prefix(String),
}

impl HeaderMatch {
    fn holds(&self, request: &impl Attributes) -> bool {
        let value = request.header(&self.name);
        match &self.value {
            ValueMatch::Present => value.is_some(),
            ValueMatch::Absent => value.is_none(),
            ValueMatch::Exact(exact) => value.is_some_and(|value| value == *exact),
            ValueMatch::Prefix(prefix) => value.is_some_and(|value| value.starts_with(prefix)),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Request, policy};
    use proptest::prelude::*;

    fn applies(rules: &str, request: &Request) -> bool {
        let bucket = r#""token_bucket":{"max_tokens":1,"fill_interval":"1s"}"#;
        policy(&format!(r#"{{"name":"p","match":{rules},{bucket}}}"#)).applies.to(request)
    }

    fn at(path: &str) -> Request {
        Request::default().with(":path", path)
    }

    #[test]
    fn a_prefix_and_an_exact_path_are_of_the_path_alone() {
        assert!(applies(r#"{"path":{"prefix":"/api/"}}"#, &at("/api/x?y=1")));
        assert!(!applies(r#"{"path":{"prefix":"/api/"}}"#, &at("/ap?/api/")));
        assert!(applies(r#"{"path":{"exact":"/login"}}"#, &at("/login?next=/")));
        assert!(!applies(r#"{"path":{"exact":"/login"}}"#, &at("/login/")));
    }

    #[test]
    fn another_spelling_of_a_path_is_no_way_round() {
        for path in ["/%6Cogin", "/x/../login", "/./login", "/%2e/login"] {
            assert!(applies(r#"{"path":{"exact":"/login"}}"#, &at(path)), "{path}");
        }
    }

    #[test]
    fn a_template_is_matched_segment_by_segment() {
        let orders = r#"{"path":{"template":"/users/{id}/orders/**"}}"#;
        for path in ["/users/1/orders", "/users/1/orders/", "/users/a%2Fb/orders/2/items?x"] {
            assert!(applies(orders, &at(path)), "{path}");
        }
        for path in ["/users/1", "/users//orders", "/users/1/2/orders", "/users/1/ordersX", "/"] {
            assert!(!applies(orders, &at(path)), "{path}");
        }
        let one = r#"{"path":{"template":"/users/{id}"}}"#;
        assert!(applies(one, &at("/users/1")));
        assert!(!applies(one, &at("/users/1/")));
    }

    #[test]
    fn hosts_are_matched_without_case_and_port() {
        let hosts = r#"{"hosts":["Example.com","*.example.org"]}"#;
        let from = |host| Request::default().with(":authority", host);
        for host in ["example.com", "EXAMPLE.COM:8443", "a.b.example.org", "a.example.org."] {
            assert!(applies(hosts, &from(host)), "{host}");
        }
        for host in ["a.example.com", "example.org", ".example.org", "badexample.org", ""] {
            assert!(!applies(hosts, &from(host)), "{host}");
        }
    }

    #[test]
    fn headers_are_present_absent_or_of_a_value() {
        let with = |value| Request::default().with("x-tier", value);
        let rule = |what| format!(r#"{{"headers":[{{"name":"x-tier",{what}}}]}}"#);
        let holds = |what, request: &Request| applies(&rule(what), request);
        let none = Request::default();
        for (what, of_gold, of_nothing) in [
            (r#""present":true"#, true, false),
            (r#""present":false"#, false, true),
            (r#""exact":"gold""#, true, false),
            (r#""prefix":"go""#, true, false),
            (r#""exact":"Gold""#, false, false),
            (r#""prefix":"old""#, false, false),
        ] {
            assert_eq!(holds(what, &with("gold")), of_gold, "{what}");
            assert_eq!(holds(what, &none), of_nothing, "{what}");
        }
        assert!(holds(r#""present":true"#, &with("")));
    }

    #[test]
    fn all_of_a_rule_must_hold_and_any_of_a_list() {
        let rule = r#"{"path":{"prefix":"/api"},"methods":["POST"]}"#;
        let post = |path| at(path).with(":method", "POST");
        assert!(applies(rule, &post("/api")));
        assert!(!applies(rule, &at("/api")) && !applies(rule, &post("/")));
        let any = format!(r#"[{rule},{{"path":{{"exact":"/login"}}}}]"#);
        assert!(applies(&any, &post("/api")) && applies(&any, &at("/login")));
        assert!(!applies(&any, &at("/api")));
        assert!(applies("{}", &at("/")), "no field is every request");
    }

    proptest! {
        #[test]
        fn a_template_without_variables_is_an_exact_path(path in "(/[a-z]{0,2}){1,4}", other in "(/[a-z]{0,2}){1,4}") {
            prop_assert!(super::fits(&path, &path));
            prop_assert_eq!(super::fits(&path, &other), path == other);
        }

        #[test]
        fn any_path_fits_or_does_not(template in "(/(\\{a\\}|\\*\\*|[a-z/]{0,2})){1,4}", path in ".{0,20}") {
            let _ = super::fits(&template, &path);
        }
    }
}
