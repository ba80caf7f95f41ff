//! The answer of a Prometheus server to an instant query: one value for each endpoint.
//!
//! ```json
//! {"status": "success", "data": {"resultType": "vector", "result": [
//!   {"metric": {"instance": "10.0.0.1:8080"}, "value": [1395066363.5, "0.25"]}]}}
//! ```
//!
//! A server scrapes a port of its own as often as not, so a value whose port no endpoint has goes to
//! the endpoint with that IP, if there is only one.

use crate::PollFailure;
use core::net::{IpAddr, SocketAddr};
use plugin_config::{Value, parse_decimal};
use shared_state::Endpoint;

/// Largest answer that is read, in bytes.
pub const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// Most values of an answer.
const MAX_VALUES: usize = 4096;

/// What an answer says of whom.
#[derive(Clone, Debug, PartialEq)]
pub struct Values(Vec<(SocketAddr, f64)>);

/// Reads an answer. `label` is the one that names the endpoint. What is no number, or not of an
/// address, is passed over; `Err` means that there is no vector at all.
pub fn read(status: u16, body: &[u8], label: &str) -> Result<Values, PollFailure> {
    if status != 200 {
        return Err(PollFailure::Status);
    }
    if body.len() > MAX_ANSWER_BYTES {
        return Err(PollFailure::Body);
    }
    let document = Value::from_json(body).ok_or(PollFailure::Body)?;
    let says = |pointer| document.pointer(pointer).and_then(Value::as_str);
    let Some(Value::Array(result)) = document.pointer("/data/result") else {
        return Err(PollFailure::Body);
    };
    if says("/status") != Some("success") || says("/data/resultType") != Some("vector") {
        return Err(PollFailure::Body);
    }
    let value = |series: &Value| {
        let Value::Object(labels) = series.pointer("/metric")? else { return None };
        let (_, address) = labels.iter().find(|(name, _)| name == label)?;
        let address = address.as_str()?.parse().ok()?;
        let value = parse_decimal(series.pointer("/value/1")?.as_str()?)?;
        value.is_finite().then_some((address, value))
    };
    Ok(Values(result.iter().take(MAX_VALUES).filter_map(value).collect()))
}

impl Values {
    /// The value of each of these endpoints that has one. Of several for the same, the sum.
    pub fn of(&self, endpoints: &[Endpoint]) -> Vec<(Endpoint, f64)> {
        let is_known = |address: SocketAddr| endpoints.contains(&Endpoint::new(address));
        let sum = |endpoint: &Endpoint| {
            let own = endpoint.address();
            let is_alone =
                endpoints.iter().filter(|other| other.address().ip() == own.ip()).count() == 1;
            let is_of = |(address, _): &&(SocketAddr, f64)| {
                *address == own
                    || (is_alone && same_host(*address, own.ip()) && !is_known(*address))
            };
            let mut found = self.0.iter().filter(is_of).map(|(_, value)| *value).peekable();
            found.peek()?;
            Some((*endpoint, found.sum()))
        };
        endpoints.iter().filter_map(sum).collect()
    }
}

fn same_host(address: SocketAddr, ip: IpAddr) -> bool {
    address.ip() == ip
}

/// Writes a query as a part of a URL.
pub fn encoded(query: &str) -> String {
    let mut text = String::new();
    for byte in query.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(byte));
            }
            _ => {
                let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or('0');
                text.push('%');
                text.push(digit(byte >> 4).to_ascii_uppercase());
                text.push(digit(byte & 15).to_ascii_uppercase());
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer(result: &str) -> String {
        format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{result}]}}}}"#)
    }

    fn series(instance: &str, value: &str) -> String {
        format!(r#"{{"metric":{{"instance":"{instance}","job":"x"}},"value":[1.5,"{value}"]}}"#)
    }

    fn endpoints(list: &[&str]) -> Vec<Endpoint> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn of(result: &[String], list: &[&str]) -> Vec<(String, f64)> {
        let values = read(200, answer(&result.join(",")).as_bytes(), "instance").unwrap();
        values.of(&endpoints(list)).into_iter().map(|(e, value)| (e.to_string(), value)).collect()
    }

    #[test]
    fn each_endpoint_gets_the_value_of_its_instance() {
        let result =
            [series("10.0.0.1:80", "0.5"), series("10.0.0.2:80", "7"), series("[::1]:80", "1e3")];
        let all = of(&result, &["10.0.0.1:80", "10.0.0.2:80", "[::1]:80", "10.0.0.4:80"]);
        let expected = [("10.0.0.1:80", 0.5), ("10.0.0.2:80", 7.0), ("[::1]:80", 1000.0)];
        assert_eq!(all, expected.map(|(endpoint, value)| (endpoint.to_owned(), value)));
    }

    #[test]
    fn another_port_is_taken_for_the_only_endpoint_of_the_host() {
        let result = [series("10.0.0.1:9100", "3")];
        assert_eq!(of(&result, &["10.0.0.1:80"]), [("10.0.0.1:80".to_owned(), 3.0)]);
        assert_eq!(of(&result, &["10.0.0.1:80", "10.0.0.1:81"]), []);
        let both = [series("10.0.0.1:80", "1"), series("10.0.0.1:81", "2")];
        assert_eq!(
            of(&both, &["10.0.0.1:80", "10.0.0.1:81"]),
            [("10.0.0.1:80".to_owned(), 1.0), ("10.0.0.1:81".to_owned(), 2.0)]
        );
    }

    #[test]
    fn what_is_no_number_or_of_no_address_is_passed_over() {
        let result = [
            series("10.0.0.1:80", "NaN"),
            series("10.0.0.2:80", "+Inf"),
            series("a-name:80", "1"),
            "{}".to_owned(),
            r#"{"metric":{"instance":"10.0.0.3:80"},"value":[1,2]}"#.to_owned(),
        ];
        assert_eq!(of(&result, &["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]), []);
    }

    #[test]
    fn what_is_no_vector_is_a_failed_poll() {
        for body in [
            "",
            "{}",
            r#"{"status":"error","errorType":"bad_data","error":"x"}"#,
            r#"{"status":"success","data":{"resultType":"scalar","result":[1,"2"]}}"#,
            r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#,
            r#"{"status":"error","data":{"resultType":"vector","result":[]}}"#,
        ] {
            assert_eq!(read(200, body.as_bytes(), "instance"), Err(PollFailure::Body), "{body}");
        }
        assert_eq!(read(422, answer("").as_bytes(), "instance"), Err(PollFailure::Status));
        let large = vec![b' '; MAX_ANSWER_BYTES + 1];
        assert_eq!(read(200, &large, "instance"), Err(PollFailure::Body));
    }

    #[test]
    fn a_query_is_written_as_a_url_has_it() {
        let query = r#"sum by (instance) (rate(x{a="b"}[1m]))"#;
        assert_eq!(
            encoded(query),
            "sum%20by%20%28instance%29%20%28rate%28x%7Ba%3D%22b%22%7D%5B1m%5D%29%29"
        );
    }

    proptest! {
        #[test]
        fn no_answer_panics(body in proptest::collection::vec(any::<u8>(), 0..300), status: u16) {
            let _ = read(status, &body, "instance");
        }

        #[test]
        fn no_likely_answer_panics(result in "(\\{|\\}|\\[|\\]|\"metric\":|\"value\":|\"instance\":|\"1.1.1.1:1\"|[0-9]|,|null){0,20}") {
            if let Ok(values) = read(200, answer(&result).as_bytes(), "instance") {
                let _ = values.of(&endpoints(&["1.1.1.1:1"]));
            }
        }
    }
}
