//! Base64 (RFC 4648, section 4), decoded. gRPC sends binary headers unpadded, others pad; both are
//! taken. Bits after the last byte must be zero, as canonical encoders write them.

/// The bytes that `text` stands for; `None` if it stands for none.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    // One digit alone is no byte; the padding fills a group of four at the most.
    let (rest, padding) = (digits.len() % 4, text.len() - digits.len());
    if rest == 1 || padding > (4 - rest) % 4 {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for digit in digits.bytes() {
        bits = bits << 6 | u32::from(value(digit)?);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    (bits == 0).then_some(bytes)
}

const fn value(digit: u8) -> Option<u8> {
    Some(match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::decode;
    use ::base64::Engine as _;
    use ::base64::alphabet::STANDARD;
    use ::base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
    use proptest::prelude::*;

    const REFERENCE: GeneralPurpose = GeneralPurpose::new(
        &STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );

    #[test]
    fn a_group_may_be_padded_or_not_and_never_by_too_much() {
        for (text, bytes) in
            [("", Some("")), ("Zg", Some("f")), ("Zg==", Some("f")), ("Zm8=", Some("fo"))]
        {
            assert_eq!(decode(text).as_deref(), bytes.map(str::as_bytes), "{text}");
        }
        for bad in ["Z", "=", "Zg===", "Zm8==", "Zm9v=", "Zh", "Z=g", "Zm-v", "Zm 9v"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn it_reads_what_another_decoder_reads(text in "[A-Za-z0-9+/]{0,9}={0,3}|.{0,9}") {
            prop_assert_eq!(decode(&text), REFERENCE.decode(&text).ok());
        }

        #[test]
        fn what_was_encoded_comes_back(bytes in proptest::collection::vec(any::<u8>(), 0..99)) {
            prop_assert_eq!(decode(&REFERENCE.encode(&bytes)), Some(bytes));
        }
    }
}
