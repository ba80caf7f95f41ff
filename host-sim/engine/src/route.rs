//! Which route a request takes.

use crate::Headers;
use crate::stream::RouteRef;
use host_sim_bootstrap::{HeaderMatcher, PathMatch, Route, RouteConfig, VirtualHost};

/// The first route of the best virtual host that matches.
pub(crate) fn find(table: &RouteConfig, headers: &Headers) -> Option<RouteRef> {
    let authority = headers.get_str(":authority").unwrap_or_default();
    let host = virtual_host(table, authority)?;
    let routes = &table.virtual_hosts.get(host)?.routes;
    let route = routes.iter().position(|route| matches(route, headers))?;
    Some(RouteRef { host, route })
}

/// Exact domain, then the longest `*.suffix`, then the longest `prefix.*`, then `*`.
fn virtual_host(table: &RouteConfig, authority: &str) -> Option<usize> {
    if let [VirtualHost { domains, .. }] = table.virtual_hosts.as_slice()
        && matches!(domains.as_slice(), [only] if only == "*")
    {
        return Some(0);
    }
    let authority = authority.to_ascii_lowercase();
    let all = table.virtual_hosts.iter().enumerate();
    let candidates = all.flat_map(|(at, host)| host.domains.iter().map(move |domain| (at, domain)));
    let ranked = candidates.filter_map(|(at, domain)| Some((rank(domain, &authority)?, at)));
    ranked.max_by_key(|(rank, _)| *rank).map(|(_, at)| at)
}

/// How well a domain fits; larger is better.
fn rank(domain: &str, authority: &str) -> Option<(u8, usize)> {
    if domain == "*" {
        return Some((0, 0));
    }
    if domain == authority {
        return Some((3, 0));
    }
    if let Some(suffix) = domain.strip_prefix('*') {
        let fits = authority.len() > suffix.len() && authority.ends_with(suffix);
        return fits.then_some((2, suffix.len()));
    }
    let prefix = domain.strip_suffix('*')?;
    (authority.len() > prefix.len() && authority.starts_with(prefix)).then_some((1, prefix.len()))
}

fn matches(route: &Route, headers: &Headers) -> bool {
    let path = headers.get_str(":path").unwrap_or_default();
    let path = path.split(['?', '#']).next().unwrap_or_default();
    path_matches(&route.matcher.path, path, route.matcher.case_sensitive)
        && route.matcher.headers.iter().all(|matcher| header_matches(matcher, headers))
}

fn path_matches(wanted: &PathMatch, path: &str, case_sensitive: bool) -> bool {
    let starts = |prefix: &str| match path.get(..prefix.len()) {
        Some(start) if case_sensitive => start == prefix,
        Some(start) => start.eq_ignore_ascii_case(prefix),
        None => false,
    };
    match wanted {
        PathMatch::Prefix(prefix) => starts(prefix),
        PathMatch::Exact(exact) => starts(exact) && path.len() == exact.len(),
        PathMatch::PathSeparatedPrefix(prefix) => {
            starts(prefix) && matches!(path.as_bytes().get(prefix.len()), None | Some(b'/'))
        }
        PathMatch::Regex(pattern) => pattern.is_match(path),
    }
}

fn header_matches(matcher: &HeaderMatcher, headers: &Headers) -> bool {
    let mut values = headers.get_all(&matcher.name).map(String::from_utf8_lossy);
    let Some(first) = values.next() else { return matcher.matches(None) };
    let joined = values.fold(first.into_owned(), |all, value| all + "," + &value);
    matcher.matches(Some(&joined))
}

#[cfg(test)]
mod tests {
    use super::*;
    use host_sim_bootstrap::{DirectResponse, HeaderMatch, RouteAction, RouteMatch};

    fn host(domain: &str, paths: Vec<PathMatch>) -> VirtualHost {
        let route = |path| Route {
            name: String::new(),
            matcher: RouteMatch { path, case_sensitive: true, headers: vec![] },
            action: RouteAction::Respond(DirectResponse { status: 200, body: vec![] }),
            headers: Default::default(),
            metadata: Default::default(),
        };
        VirtualHost {
            name: domain.to_owned(),
            domains: vec![domain.to_owned()],
            routes: paths.into_iter().map(route).collect(),
            headers: Default::default(),
            retry_policy: None,
            include_request_attempt_count: false,
            include_attempt_count_in_response: false,
            metadata: Default::default(),
        }
    }

    fn table(hosts: Vec<VirtualHost>) -> RouteConfig {
        RouteConfig { name: String::new(), virtual_hosts: hosts, headers: Default::default() }
    }

    fn found(table: &RouteConfig, authority: &str, path: &str) -> Option<(usize, usize)> {
        let headers = Headers::from_pairs([(":authority", authority), (":path", path)]);
        find(table, &headers).map(|found| (found.host, found.route))
    }

    #[test]
    fn exact_domains_win_over_suffixes_over_prefixes_over_any() {
        let any = || vec![PathMatch::Prefix("/".to_owned())];
        let names = ["*", "api.*", "*.example.com", "*.a.example.com", "api.example.com"];
        let table = table(names.iter().map(|name| host(name, any())).collect());
        assert_eq!(found(&table, "API.example.com", "/"), Some((4, 0)));
        assert_eq!(found(&table, "x.example.com", "/"), Some((2, 0)));
        assert_eq!(found(&table, "x.a.example.com", "/"), Some((3, 0)));
        assert_eq!(found(&table, "api.test", "/"), Some((1, 0)));
        assert_eq!(found(&table, "other", "/"), Some((0, 0)));
    }

    #[test]
    fn the_query_is_no_part_of_the_path() {
        let paths = vec![
            PathMatch::Exact("/a".to_owned()),
            PathMatch::PathSeparatedPrefix("/b".to_owned()),
        ];
        let table = table(vec![host("*", paths)]);
        assert_eq!(found(&table, "h", "/a?x=1"), Some((0, 0)));
        assert_eq!(found(&table, "h", "/ab"), None);
        assert_eq!(found(&table, "h", "/b/c"), Some((0, 1)));
        assert_eq!(found(&table, "h", "/bc"), None);
    }

    #[test]
    fn a_header_matcher_can_choose_between_routes_of_one_path() {
        let any = || PathMatch::Prefix("/".to_owned());
        let mut only = host("*", vec![any(), any()]);
        only.routes[0].matcher.headers.push(HeaderMatcher {
            name: "x-p".to_owned(),
            value: HeaderMatch::Exact("1,2".to_owned(), false),
            invert: false,
            treat_missing_as_empty: false,
        });
        let table = table(vec![only]);
        let mut headers = Headers::from_pairs([(":authority", "h"), (":path", "/")]);
        assert_eq!(find(&table, &headers).unwrap().route, 1);
        headers.add(b"x-p", b"1");
        headers.add(b"x-p", b"2");
        assert_eq!(find(&table, &headers).unwrap().route, 0);
    }
}
