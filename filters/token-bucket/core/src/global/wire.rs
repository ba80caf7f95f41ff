//! The wire format of protobuf, as far as the rate limit service needs it.
//!
//! Six small messages do not need a code generator, and the module's size is counted. Reading is
//! total: any bytes give fields or [`Malformed`]. As in every protobuf decoder, a field that is
//! unknown is passed over, and so is one with another wire type than expected.

/// The bytes are no protobuf message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// A message being written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message(pub(super) Vec<u8>);

impl Message {
    /// A string, bytes or a message within. `field` is at most 15.
    pub(super) fn bytes(&mut self, field: u8, value: &[u8]) {
        self.0.push(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    /// A number or an enum. `field` is at most 15.
    pub(super) fn number(&mut self, field: u8, value: u64) {
        self.0.push(field << 3);
        self.varint(value);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// A field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Fixed width: no message here has such a field.
    Other,
}

/// What is left of a message being read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    /// The next field's number and value, or `None` at the end.
    pub(super) fn field(&mut self) -> Result<Option<(u64, Value<'a>)>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.take(8).map(|_| Value::Other)?,
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Other)?,
            // Groups are of proto2; 6 and 7 are no wire types.
            _ => return Err(Malformed),
        };
        match tag >> 3 {
            0 => Err(Malformed),
            field => Ok(Some((field, value))),
        }
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(Malformed)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_cut_or_no_field_is_malformed() {
        let mut message = Message::default();
        message.bytes(2, b"abc");
        let whole = message.0;
        for cut in 1..whole.len() {
            assert_eq!(Input(&whole[..cut]).field(), Err(Malformed), "{cut}");
        }
        let endless = [0xff; 11];
        let group = [0x0b, 0x0c];
        let field_zero = [0x00, 0x00];
        let overlong = [0x12, 0xff, 0xff, 0x03];
        for message in [&endless[..], &group, &field_zero, &overlong] {
            assert_eq!(Input(message).field(), Err(Malformed), "{message:?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(number in any::<u64>(), text in ".{0,200}", field in 1u8..=15) {
            let mut message = Message::default();
            message.number(field, number);
            message.bytes(field, text.as_bytes());
            let mut input = Input(&message.0);
            prop_assert_eq!(input.field(), Ok(Some((field.into(), Value::Number(number)))));
            prop_assert_eq!(input.field(), Ok(Some((field.into(), Value::Bytes(text.as_bytes())))));
            prop_assert_eq!(input.field(), Ok(None));
        }
    }
}
