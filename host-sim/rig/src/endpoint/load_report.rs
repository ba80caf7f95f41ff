//! ORCA load reports: what an endpoint tells about its load, in a response header.
//!
//! Three encodings of one message, `xds.data.orca.v3.OrcaLoadReport`, as Envoy's parser reads
//! them: `TEXT`, `JSON` and `BIN` in `endpoint-load-metrics`, or the bare protobuf in
//! `endpoint-load-metrics-bin`. The last takes precedence in Envoy, so only one is ever sent.

use std::collections::BTreeMap;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

/// One report. Absent fields are not sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LoadReport {
    /// CPU in use / CPU available, from 0; may exceed 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_utilization: Option<f64>,
    /// Memory in use / memory available, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_utilization: Option<f64>,
    /// The application's own measure of its load, from 0; may exceed 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application_utilization: Option<f64>,
    /// Requests per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rps_fractional: Option<f64>,
    /// Errors per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eps: Option<f64>,
    /// Utilizations by name, each 0 to 1.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub utilization: BTreeMap<String, f64>,
    /// Any other measure by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub named_metrics: BTreeMap<String, f64>,
}

/// Which encoding an endpoint sends. As text: `none`, `text`, `json`, `bin`, `bin_header`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportFormat {
    /// No report.
    None,
    /// `endpoint-load-metrics: TEXT cpu_utilization=0.3,...`
    #[default]
    Text,
    /// `endpoint-load-metrics: JSON {"cpu_utilization":0.3,...}`
    Json,
    /// `endpoint-load-metrics: BIN <base64 of the protobuf>`
    Bin,
    /// `endpoint-load-metrics-bin: <base64 of the protobuf>`
    BinHeader,
}

impl FromStr for ReportFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            "bin" => Ok(Self::Bin),
            "bin_header" => Ok(Self::BinHeader),
            _ => Err(format!(
                "{text:?} is not a report format: write none, text, json, bin or bin_header"
            )),
        }
    }
}

impl LoadReport {
    /// Header name and value in this format; nothing for [`ReportFormat::None`].
    pub fn header(&self, format: ReportFormat) -> Option<(&'static str, String)> {
        const NAME: &str = "endpoint-load-metrics";
        match format {
            ReportFormat::None => None,
            ReportFormat::Text => Some((NAME, format!("TEXT {}", self.text()))),
            ReportFormat::Json => {
                let json = serde_json::to_string(self).unwrap_or_default();
                Some((NAME, format!("JSON {json}")))
            }
            ReportFormat::Bin => Some((NAME, format!("BIN {}", STANDARD.encode(self.protobuf())))),
            ReportFormat::BinHeader => {
                Some(("endpoint-load-metrics-bin", STANDARD.encode(self.protobuf())))
            }
        }
    }

    fn text(&self) -> String {
        let named = |prefix: &'static str, map: &BTreeMap<String, f64>| {
            map.iter().map(move |(k, v)| (format!("{prefix}.{k}"), *v)).collect::<Vec<_>>()
        };
        self.scalars()
            .into_iter()
            .filter_map(|(_, name, value)| Some((name.to_owned(), value?)))
            .chain(named("utilization", &self.utilization))
            .chain(named("named_metrics", &self.named_metrics))
            .map(|(name, value)| format!("{name}={value}"))
            .collect::<Vec<_>>()
            .join(",")
    }

    /// The scalar fields with their protobuf numbers, in the order of the numbers.
    fn scalars(&self) -> [(u64, &'static str, Option<f64>); 5] {
        [
            (1, "cpu_utilization", self.cpu_utilization),
            (2, "mem_utilization", self.mem_utilization),
            (6, "rps_fractional", self.rps_fractional),
            (7, "eps", self.eps),
            (9, "application_utilization", self.application_utilization),
        ]
    }

    fn protobuf(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, _, value) in self.scalars() {
            if let Some(value) = value {
                put_double(&mut out, number, value);
            }
        }
        for (number, map) in [(5, &self.utilization), (8, &self.named_metrics)] {
            for (name, value) in map {
                let mut entry = Vec::new();
                put_bytes(&mut entry, 1, name.as_bytes());
                put_double(&mut entry, 2, *value);
                put_bytes(&mut out, number, &entry);
            }
        }
        out
    }
}

const WIRE_FIXED64: u64 = 1;
const WIRE_LENGTH: u64 = 2;

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_double(out: &mut Vec<u8>, number: u64, value: f64) {
    put_varint(out, number << 3 | WIRE_FIXED64);
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, number: u64, value: &[u8]) {
    put_varint(out, number << 3 | WIRE_LENGTH);
    put_varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> LoadReport {
        LoadReport {
            cpu_utilization: Some(0.5),
            mem_utilization: None,
            application_utilization: Some(1.25),
            rps_fractional: Some(100.5),
            eps: Some(0.0),
            utilization: BTreeMap::from([("disk".to_owned(), 0.1)]),
            named_metrics: BTreeMap::from([("queue".to_owned(), 2.0), ("rif".to_owned(), 7.0)]),
        }
    }

    fn value(format: ReportFormat) -> String {
        report().header(format).unwrap().1
    }

    /// Reads the protobuf back into `field number or map key -> value`.
    fn decode(mut bytes: &[u8]) -> BTreeMap<String, f64> {
        let mut fields = BTreeMap::new();
        while let [tag, rest @ ..] = bytes {
            bytes = match tag & 7 {
                1 => {
                    let value = f64::from_le_bytes(rest[..8].try_into().unwrap());
                    fields.insert((tag >> 3).to_string(), value);
                    &rest[8..]
                }
                2 => {
                    let (entry, after) = rest[1..].split_at(usize::from(rest[0]));
                    let (key, number) = entry[2..].split_at(usize::from(entry[1]));
                    let key = format!("{}.{}", tag >> 3, String::from_utf8_lossy(key));
                    fields.insert(key, f64::from_le_bytes(number[1..].try_into().unwrap()));
                    after
                }
                wire => panic!("wire type {wire}"),
            };
        }
        fields
    }

    #[test]
    fn text_lists_every_field_that_is_set() {
        assert_eq!(
            value(ReportFormat::Text),
            "TEXT cpu_utilization=0.5,rps_fractional=100.5,eps=0,application_utilization=1.25,\
             utilization.disk=0.1,named_metrics.queue=2,named_metrics.rif=7"
        );
    }

    #[test]
    fn json_reads_back_with_the_fields_of_the_message() {
        let header = value(ReportFormat::Json);
        let json: serde_json::Value =
            serde_json::from_str(header.strip_prefix("JSON ").unwrap()).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "cpu_utilization": 0.5, "application_utilization": 1.25,
                "rps_fractional": 100.5, "eps": 0.0,
                "utilization": {"disk": 0.1}, "named_metrics": {"queue": 2.0, "rif": 7.0}
            })
        );
    }

    #[test]
    fn the_protobuf_reads_back_under_the_field_numbers_of_the_message() {
        let header = value(ReportFormat::Bin);
        let bytes = STANDARD.decode(header.strip_prefix("BIN ").unwrap()).unwrap();
        let fields = decode(&bytes);
        let expected = [
            ("1", 0.5),
            ("6", 100.5),
            ("7", 0.0),
            ("9", 1.25),
            ("5.disk", 0.1),
            ("8.queue", 2.0),
            ("8.rif", 7.0),
        ];
        assert_eq!(fields, expected.map(|(k, v)| (k.to_owned(), v)).into());
    }

    #[test]
    fn the_binary_header_carries_the_same_bytes_under_its_own_name() {
        let (name, bare) = report().header(ReportFormat::BinHeader).unwrap();
        assert_eq!(name, "endpoint-load-metrics-bin");
        assert_eq!(value(ReportFormat::Bin), format!("BIN {bare}"));
        assert_eq!(report().header(ReportFormat::None), None);
    }
}
