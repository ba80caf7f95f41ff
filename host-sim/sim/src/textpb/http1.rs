//! Headers written as HTTP/1, which the format allows, and the pseudo headers that they stand for.

use super::suite::Header;

/// Reads the head of a request or response, lines ending in LF or CR LF; a blank line ends it.
///
/// # Errors
/// What is not HTTP/1 about it.
pub(crate) fn parse(content: &str, request: bool) -> Result<Vec<Header>, String> {
    let mut lines = content.lines();
    let first = lines.next().unwrap_or_default();
    let mut fields = Vec::new();
    for line in lines.take_while(|line| !line.trim().is_empty()) {
        let (name, value) =
            line.split_once(':').ok_or_else(|| format!("no header: '{line}' has no colon"))?;
        fields.push(header(&name.trim().to_ascii_lowercase(), value.trim()));
    }
    let mut headers = if request {
        let authority = fields.iter().position(|field| field.key == "host");
        let mut headers = request_line(first)?;
        if let Some(at) = authority {
            let host = fields.remove(at);
            if !headers.iter().any(|header| header.key == ":authority") {
                headers.push(Header { key: ":authority".to_owned(), value: host.value });
            }
        }
        headers
    } else {
        vec![header(":status", status(first)?)]
    };
    headers.extend(fields);
    Ok(headers)
}

fn request_line(line: &str) -> Result<Vec<Header>, String> {
    let mut words = line.split_whitespace();
    let (Some(method), Some(target), Some(version)) = (words.next(), words.next(), words.next())
    else {
        return Err(format!("no request line: '{line}'"));
    };
    if !version.starts_with("HTTP/") {
        return Err(format!("no HTTP version: '{version}'"));
    }
    let mut headers = vec![header(":method", method)];
    match target.split_once("://") {
        Some((scheme, rest)) => {
            let at = rest.find(['/', '?']).unwrap_or(rest.len());
            let (authority, path) = rest.split_at(at);
            let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
            // The scheme's own port is not written.
            let port = match scheme {
                "http" => ":80",
                "https" => ":443",
                _ => "",
            };
            let authority = authority.strip_suffix(port).unwrap_or(authority);
            headers.push(header(":scheme", scheme));
            headers.push(header(":path", &path));
            headers.push(header(":authority", authority));
        }
        None if target.starts_with('/') => headers.push(header(":path", target)),
        None => return Err(format!("no target: '{target}' is neither a path nor a URI")),
    }
    Ok(headers)
}

fn status(line: &str) -> Result<&str, String> {
    let mut words = line.split_whitespace();
    let version = words.next().filter(|version| version.starts_with("HTTP/"));
    let status = words.next().filter(|status| status.parse::<u16>().is_ok());
    version.and(status).ok_or_else(|| format!("no status line: '{line}'"))
}

fn header(key: &str, value: &str) -> Header {
    Header { key: key.to_owned(), value: value.as_bytes().to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(content: &str, request: bool) -> Vec<(String, String)> {
        let headers = parse(content, request).unwrap().into_iter();
        headers.map(|h| (h.key, String::from_utf8(h.value).unwrap())).collect()
    }

    fn owned<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
        pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn a_request_in_origin_form_has_no_scheme() {
        let wanted = [
            (":method", "GET"),
            (":path", "/a?b=c"),
            (":authority", "h"),
            ("my", "1"),
            ("my", "2"),
        ];
        let content = "GET /a?b=c HTTP/1.1\r\nHost: h\r\nMy: 1\r\nMy:2\r\n\r\nignored";
        assert_eq!(pairs(content, true), owned(wanted));
    }

    #[test]
    fn a_request_in_absolute_form_has_all_of_it() {
        let wanted = [
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/a"),
            (":authority", "example.com:8080"),
        ];
        let content = "GET https://example.com:8080/a HTTP/1.1\nHost: other\n";
        assert_eq!(pairs(content, true), owned(wanted));
        let bare = pairs("GET https://example.com:443 HTTP/1.1", true);
        assert_eq!(bare[2..], owned([(":path", "/"), (":authority", "example.com")]));
    }

    #[test]
    fn a_response_has_its_status() {
        let wanted = [(":status", "403"), ("a", "b")];
        assert_eq!(pairs("HTTP/1.1 403 Forbidden\nA: b\n", false), owned(wanted));
    }

    #[test]
    fn what_is_no_http_is_told() {
        for (content, request, told) in [
            ("GET /", true, "no request line"),
            ("GET a HTTP/1.1", true, "neither a path"),
            ("GET / SPDY", true, "no HTTP version"),
            ("HTTP/1.1 fine", false, "no status line"),
            ("HTTP/1.1 200\nwrong", false, "no colon"),
        ] {
            assert!(parse(content, request).unwrap_err().contains(told), "{content}");
        }
    }
}
