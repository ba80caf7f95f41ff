//! The protobuf wire format, as far as hostcalls speak it: messages taken apart and put together.
//!
//! Parsing is as strict as Envoy's, because a plugin can see the difference: a gRPC service that is
//! no message is taken for a cluster's name.

/// Deepest nesting of groups, which nobody sends.
const MAX_DEPTH: usize = 100;

/// A field's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(&'a [u8]),
    Fixed32([u8; 4]),
}

/// A message's fields in wire order. A later one of a number counts, as in proto3.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Message<'a>(pub(crate) Vec<(u32, Value<'a>)>);

impl<'a> Message<'a> {
    /// The fields, or none if the bytes are no message.
    pub(crate) fn parse(mut bytes: &'a [u8]) -> Option<Self> {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let (number, wire) = tag(&mut bytes)?;
            match wire {
                3 => skip_group(&mut bytes, number, MAX_DEPTH)?,
                _ => fields.push((number, value(&mut bytes, wire)?)),
            }
        }
        Some(Self(fields))
    }

    /// Bytes of a field; none if it is absent. Another wire type makes it an unknown field.
    pub(crate) fn bytes(&self, number: u32) -> Option<&'a [u8]> {
        self.all_bytes(number).last()
    }

    /// Every value of a repeated field of bytes, strings or messages.
    pub(crate) fn all_bytes(&self, number: u32) -> impl Iterator<Item = &'a [u8]> + '_ {
        self.0.iter().filter_map(move |(own, value)| match value {
            Value::Bytes(bytes) if *own == number => Some(*bytes),
            _ => None,
        })
    }

    /// A string field, empty if absent; none if it is not UTF-8, on which proto3 insists.
    pub(crate) fn text(&self, number: u32) -> Option<&'a str> {
        std::str::from_utf8(self.bytes(number).unwrap_or_default()).ok()
    }

    /// An integer, boolean or enum, 0 if absent.
    pub(crate) fn varint(&self, number: u32) -> u64 {
        let last = self.0.iter().rev().find_map(|(own, value)| match value {
            Value::Varint(value) if *own == number => Some(*value),
            _ => None,
        });
        last.unwrap_or(0)
    }
}

fn tag(bytes: &mut &[u8]) -> Option<(u32, u8)> {
    let tag = u32::try_from(varint(bytes)?).ok()?;
    let number = tag >> 3;
    (number != 0).then_some((number, (tag & 7) as u8))
}

fn value<'a>(bytes: &mut &'a [u8], wire: u8) -> Option<Value<'a>> {
    Some(match wire {
        0 => Value::Varint(varint(bytes)?),
        1 => Value::Fixed64(*take(bytes, 8)?.first_chunk()?),
        2 => {
            let len = usize::try_from(varint(bytes)?).ok()?;
            Value::Bytes(take(bytes, len)?)
        }
        5 => Value::Fixed32(*take(bytes, 4)?.first_chunk()?),
        _ => return None,
    })
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(taken)
}

/// To the end of a group; its fields are of no use to anybody.
fn skip_group(bytes: &mut &[u8], number: u32, depth: usize) -> Option<()> {
    loop {
        let (own, wire) = tag(bytes)?;
        match wire {
            3 => skip_group(bytes, own, depth.checked_sub(1)?)?,
            4 if own == number => return Some(()),
            _ => {
                value(bytes, wire)?;
            }
        }
    }
}

/// Appends a string field; nothing for an empty string, as proto3 has it.
pub(crate) fn put_string(out: &mut Vec<u8>, number: u32, value: &str) {
    put_bytes(out, number, value.as_bytes());
}

/// Appends a field of bytes; nothing for none.
pub(crate) fn put_bytes(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    if !value.is_empty() {
        put_message(out, number, value);
    }
}

/// Appends a message field, which exists even when it is empty.
pub(crate) fn put_message(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    put_varint(out, u64::from((number << 3) | 2));
    put_varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Appends an integer, boolean or enum; nothing for 0.
pub(crate) fn put_number(out: &mut Vec<u8>, number: u32, value: u64) {
    if value != 0 {
        put_varint(out, u64::from(number << 3));
        put_varint(out, value);
    }
}

/// Appends a double that is there even when it is 0.
pub(crate) fn put_double(out: &mut Vec<u8>, number: u32, value: f64) {
    put_varint(out, u64::from((number << 3) | 1));
    out.extend_from_slice(&value.to_le_bytes());
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_string_field_is_found_behind_others() {
        let mut message = vec![0x08, 0x96, 0x01];
        put_string(&mut message, 2, "value");
        let message = Message::parse(&message).unwrap();
        assert_eq!(message.bytes(2), Some(b"value".as_slice()));
        assert_eq!((message.bytes(1), message.varint(1)), (None, 150));
    }

    #[test]
    fn the_last_field_of_a_number_counts() {
        let mut message = Vec::new();
        put_number(&mut message, 3, 1);
        put_number(&mut message, 3, 300);
        put_message(&mut message, 17, b"");
        let message = Message::parse(&message).unwrap();
        assert_eq!((message.varint(3), message.bytes(17)), (300, Some(b"".as_slice())));
    }

    #[test]
    fn a_plain_name_is_a_message_only_by_accident() {
        assert_eq!(Message::parse(b"backend"), None);
        // Tag 12, fixed32, and four bytes.
        assert!(Message::parse(b"empty").is_some());
    }

    #[test]
    fn a_group_ends_with_its_own_number() {
        assert_eq!(Message::parse(&[0x0b, 0x10, 0x01, 0x0c]), Some(Message::default()));
        assert_eq!(Message::parse(&[0x0b, 0x14]), None);
        assert_eq!(Message::parse(&[0x0b].repeat(5000)), None);
    }

    #[test]
    fn field_number_0_is_no_field() {
        assert_eq!(Message::parse(&[0x00, 0x01]), None);
    }

    proptest! {
        #[test]
        fn no_input_panics(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = Message::parse(&bytes);
        }
    }
}
