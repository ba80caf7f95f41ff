//! Just enough of the protobuf wire format: length-delimited fields in, strings out.

/// The last length-delimited field of that number, if the bytes are a message at all.
pub(crate) fn field(mut message: &[u8], number: u64) -> Option<&[u8]> {
    let mut found = None;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        match tag & 7 {
            0 => {
                varint(&mut message)?;
            }
            1 => message = message.get(8..)?,
            2 => {
                let len = usize::try_from(varint(&mut message)?).ok()?;
                let (value, rest) = message.split_at_checked(len)?;
                message = rest;
                if tag >> 3 == number {
                    found = Some(value);
                }
            }
            5 => message = message.get(4..)?,
            _ => return None,
        }
    }
    found
}

/// Appends a string field; nothing for an empty string, as proto3 has it.
pub(crate) fn put_string(out: &mut Vec<u8>, number: u8, value: &str) {
    if !value.is_empty() {
        out.push((number << 3) | 2);
        put_varint(out, value.len() as u64);
        out.extend_from_slice(value.as_bytes());
    }
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

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
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
        assert_eq!(field(&message, 2), Some(b"value".as_slice()));
        assert_eq!(field(&message, 1), None);
    }

    #[test]
    fn a_plain_cluster_name_is_no_message() {
        assert_eq!(field(b"backend", 1), None);
    }

    proptest! {
        #[test]
        fn no_input_panics(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = field(&bytes, 1);
        }
    }
}
