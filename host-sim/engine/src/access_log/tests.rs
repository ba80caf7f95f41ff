use serde_json::json;

use super::*;

/// The exchange behind a real access log line of Envoy 1.40's, and what that line said.
struct Exchange;

impl Values for Exchange {
    fn header(&self, of: HeadersOf, name: &str) -> Option<Cow<'_, str>> {
        let value = match (of, name) {
            (HeadersOf::Request, ":method") => "GET",
            (HeadersOf::Request, ":path") => "/ready?x=1",
            (HeadersOf::Request, ":authority") => "127.0.0.1:29902",
            (HeadersOf::Request, "user-agent") => "curl/7.88.1",
            (HeadersOf::Request, "x-request-id") => "113368db-4e24-410f-868e-2f6acadc8699",
            (HeadersOf::Response, "x-envoy-upstream-service-time") => "0",
            _ => return None,
        };
        Some(Cow::Borrowed(value))
    }

    fn field(&self, field: Field) -> Option<Value> {
        Some(match field {
            Field::Protocol => Value::Text("HTTP/1.1".into()),
            Field::ResponseCode => Value::Number(200),
            Field::BytesReceived => Value::Number(0),
            Field::BytesSent => Value::Number(5),
            Field::Duration => Value::Number(1),
            Field::UpstreamHost => Value::Text("127.0.0.1:29901".into()),
            _ => return None,
        })
    }

    fn filter_state(&self, key: &str) -> Option<Cow<'_, [u8]>> {
        (key == "wasm.weir_pick").then_some(Cow::Borrowed(b"10.0.0.1:80"))
    }

    fn start_time(&self) -> UnixNanos {
        UnixNanos(1_795_442_780_374_633_000)
    }
}

fn text(format: &str) -> String {
    Formatter::new(format, false).unwrap().format(&Exchange)
}

fn json(format: serde_json::Value, omit_empty: bool) -> String {
    let Json::Object(fields) = format else { panic!("an object") };
    LineFormatter::new(&AccessLogFormat::Json(fields), omit_empty).unwrap().line(&Exchange)
}

fn error(format: &str) -> (usize, String) {
    let error = Formatter::new(format, false).unwrap_err();
    (error.position, error.message)
}

#[test]
fn the_default_line_is_envoys() {
    let line = LineFormatter::new(&AccessLogFormat::Default, false).unwrap().line(&Exchange);
    let expected = concat!(
        r#"[2026-11-23T14:06:20.374Z] "GET /ready?x=1 HTTP/1.1" 200 - 0 5 1 0 "-" "#,
        r#""curl/7.88.1" "113368db-4e24-410f-868e-2f6acadc8699" "127.0.0.1:29902" "#,
        r#""127.0.0.1:29901""#,
        "\n",
    );
    assert_eq!(line, expected);
}

#[test]
fn headers_have_alternatives_limits_and_no_query() {
    assert_eq!(text("%REQ(X-NONE?USER-AGENT)%"), "curl/7.88.1");
    assert_eq!(text("%REQ(User-Agent):4%"), "curl");
    assert_eq!(text("%REQ_WITHOUT_QUERY(:PATH)%"), "/ready");
    assert_eq!(text("%REQ(x-none)% and"), "- and");
}

#[test]
fn two_percent_signs_are_one() {
    assert_eq!(text("50%% of %PROTOCOL%"), "50% of HTTP/1.1");
}

#[test]
fn omitted_values_leave_nothing() {
    let formatter = Formatter::new("[%REQ(x-none)%]", true).unwrap();
    assert_eq!(formatter.format(&Exchange), "[]");
}

#[test]
fn times_are_written_as_envoy_writes_them() {
    let formatted = text("%START_TIME(%s.%3f %Y/%m/%d %H:%M:%S %z %f %6f)%");
    assert_eq!(formatted, "1795442780.374 2026/11/23 14:06:20 +0000 374633000 374633");
}

#[test]
fn filter_state_is_plain_or_a_bytes_value() {
    assert_eq!(text("%FILTER_STATE(wasm.weir_pick:PLAIN)%"), "10.0.0.1:80");
    let typed =
        r#"{"@type":"type.googleapis.com/google.protobuf.BytesValue","value":"MTAuMC4wLjE6ODA="}"#;
    assert_eq!(text("%FILTER_STATE(wasm.weir_pick)%"), typed);
    assert_eq!(text("%FILTER_STATE(other:PLAIN)%"), "-");
}

#[test]
fn json_keeps_types_and_sorts_keys() {
    let format = json!({
        "z": "%RESPONSE_CODE%", "a": "%DURATION% ms", "m": "%REQ(x-none)%", "f": "%RESPONSE_FLAGS%",
        "n": {"l": ["%PROTOCOL%", 3, true], "k": "%UPSTREAM_HOST%"}, "miss": "%REQ(x-none)% and",
    });
    let expected = concat!(
        r#"{"a":"1 ms","f":"-","m":null,"miss":"- and","#,
        r#""n":{"k":"127.0.0.1:29901","l":["HTTP/1.1",3,true]},"z":200}"#,
        "\n",
    );
    assert_eq!(json(format, false), expected);
}

#[test]
fn json_may_leave_out_what_has_no_value() {
    let format = json!({"m": "%REQ(x-none)%", "z": "%RESPONSE_CODE%"});
    assert_eq!(json(format, true), "{\"z\":200}\n");
}

#[test]
fn a_bad_operator_is_an_error_with_its_position() {
    assert_eq!(error("a %NONSENSE% b"), (2, "unknown operator 'NONSENSE'".into()));
    assert_eq!(error("%PROTOCOL(x)%"), (0, "operator 'PROTOCOL' takes no argument".into()));
    let needs = "operator 'REQ' needs a header: '%REQ(NAME)%'";
    assert_eq!(error("%PROTOCOL% %REQ%"), (11, needs.into()));
    assert_eq!(error("100% sure").0, 3);
    assert_eq!(error("%REQ(x%").0, 0);
    assert_eq!(error("%REQ(x):%").0, 0);
    let time = "time specifier '%Q' is not simulated by host-sim";
    assert_eq!(error("%START_TIME(%Q)%").1, time);
    let fraction = "time specifier '%E3Q' is not simulated by host-sim";
    assert_eq!(error("%START_TIME(%E3Q)%").1, fraction);
}

#[test]
fn a_cut_never_splits_a_character() {
    assert_eq!(cut("añb", 2), "a");
    assert_eq!(cut("añb", 3), "añ");
    assert_eq!(cut("ab", 9), "ab");
}

#[test]
fn leap_days_and_century_turns_have_their_dates() {
    let date = |seconds: u64| {
        let format = time::TimeFormat::new("%F %T").unwrap();
        format.write(UnixNanos(seconds * 1_000_000_000))
    };
    assert_eq!(date(0), "1970-01-01 00:00:00");
    assert_eq!(date(951_782_400), "2000-02-29 00:00:00");
    assert_eq!(date(4_107_542_399), "2100-02-28 23:59:59");
    assert_eq!(date(4_107_542_400), "2100-03-01 00:00:00");
}
