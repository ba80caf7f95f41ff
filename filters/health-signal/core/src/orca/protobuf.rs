//! The binary form: an `xds.data.orca.v3.OrcaLoadReport`.
//!
//! ```text
//! double cpu_utilization = 1;      double mem_utilization = 2;    uint64 rps = 3 [deprecated];
//! map<string, double> request_cost = 4;   map<string, double> utilization = 5;
//! double rps_fractional = 6;       double eps = 7;
//! map<string, double> named_metrics = 8;  double application_utilization = 9;
//! ```
//!
//! Nine fields of three wire types do not need a code generator. As in every protobuf decoder, a
//! field that is unknown, or has another wire type than expected, is passed over, and the last
//! value of a scalar or of a map's key wins.

use super::{Draft, Refusal};

pub(super) fn read(message: &[u8], draft: &mut Draft) -> Result<(), Refusal> {
    let mut input = Input(message);
    while let Some((field, value)) = input.field()? {
        match (field, value) {
            (1, Value::Double(value)) => draft.set("cpu_utilization", value)?,
            (2, Value::Double(value)) => draft.set("mem_utilization", value)?,
            (6, Value::Double(value)) => draft.set("rps_fractional", value)?,
            (7, Value::Double(value)) => draft.set("eps", value)?,
            (9, Value::Double(value)) => draft.set("application_utilization", value)?,
            (5, Value::Bytes(entry)) => map_entry("utilization.", entry, draft)?,
            (8, Value::Bytes(entry)) => map_entry("named_metrics.", entry, draft)?,
            _ => {}
        }
    }
    Ok(())
}

fn map_entry(prefix: &str, entry: &[u8], draft: &mut Draft) -> Result<(), Refusal> {
    let (mut key, mut number) = ("", 0.0);
    let mut input = Input(entry);
    while let Some((field, value)) = input.field()? {
        match (field, value) {
            (1, Value::Bytes(bytes)) => {
                key = core::str::from_utf8(bytes).map_err(|_| Refusal::Protobuf)?;
            }
            (2, Value::Double(value)) => number = value,
            _ => {}
        }
    }
    draft.set(&[prefix, key].concat(), number)
}

enum Value<'a> {
    Double(f64),
    Bytes(&'a [u8]),
    Other,
}

/// What is left of a message.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// The next field's number and value, or `None` at the end.
    fn field(&mut self) -> Result<Option<(u64, Value<'a>)>, Refusal> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => self.varint().map(|_| Value::Other)?,
            1 => Value::Double(f64::from_le_bytes(self.array()?)),
            2 => {
                let length = self.varint()?;
                let length = usize::try_from(length).map_err(|_| Refusal::Protobuf)?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.array::<4>().map(|_| Value::Other)?,
            // Groups are of proto2; 6 and 7 are no wire types.
            _ => return Err(Refusal::Protobuf),
        };
        match tag >> 3 {
            0 => Err(Refusal::Protobuf),
            field => Ok(Some((field, value))),
        }
    }

    fn varint(&mut self) -> Result<u64, Refusal> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Refusal::Protobuf)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Refusal> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(Refusal::Protobuf)?;
        self.0 = rest;
        Ok(*head)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Refusal> {
        let (head, rest) = self.0.split_at_checked(length).ok_or(Refusal::Protobuf)?;
        self.0 = rest;
        Ok(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared_state::{LoadReport, UnixNanos};

    fn outcome(message: &[u8]) -> Result<LoadReport, Refusal> {
        let mut draft = Draft::new(true, UnixNanos::ZERO);
        read(message, &mut draft).map(|()| draft.accepted.report)
    }

    fn double(field: u8, value: f64) -> Vec<u8> {
        [&[field << 3 | 1][..], &value.to_le_bytes()].concat()
    }

    #[test]
    fn the_last_value_of_a_field_wins() {
        let message = [double(7, 1.0), double(7, 2.0)].concat();
        assert_eq!(outcome(&message).unwrap().eps, 2.0);
    }

    #[test]
    fn unknown_fields_and_other_wire_types_are_passed_over() {
        // Field 3 (rps) and 15 as varints, 14 as fixed32, 1 as bytes.
        let strange = [0x18, 0x96, 0x01, 0x78, 0x01, 0x75, 1, 2, 3, 4, 0x0a, 2, b'h', b'i'];
        let message = [&strange[..], &double(7, 2.0)].concat();
        assert_eq!(outcome(&message), Ok(LoadReport { eps: 2.0, ..LoadReport::default() }));
    }

    #[test]
    fn what_is_cut_or_no_field_is_refused() {
        let whole = double(1, 0.5);
        for cut in 1..whole.len() {
            assert_eq!(outcome(&whole[..cut]), Err(Refusal::Protobuf), "{cut}");
        }
        let endless = [0xff; 11];
        let group = [0x0b, 0x0c];
        let field_zero = [0x01, 0, 0, 0, 0, 0, 0, 0, 0];
        let overlong = [0x42, 0xff, 0xff, 0x03];
        for message in [&endless[..], &group, &field_zero, &overlong] {
            assert_eq!(outcome(message), Err(Refusal::Protobuf), "{message:?}");
        }
    }

    #[test]
    fn numbers_that_no_record_holds_are_refused() {
        for value in [f64::NAN, f64::INFINITY, -1.0] {
            assert_eq!(outcome(&double(1, value)), Err(Refusal::Range), "{value}");
        }
    }

    #[test]
    fn a_map_entry_without_a_key_is_refused_and_without_a_value_is_zero() {
        assert_eq!(outcome(&[0x42, 0]), Err(Refusal::NoName));
        let named = outcome(&[0x42, 3, 0x0a, 1, b'k']).unwrap();
        assert_eq!(named.named("named_metrics.k"), Some(0.0));
    }
}
