//! The header-map encoding: `u32 n`, `n` pairs of `u32` lengths, then `name NUL value NUL` each.
//!
//! Little-endian. The specification's worked example is wrong (mixed bases, sizes that do not add
//! up); this is what Envoy reads and writes. Envoy takes malformed input for an empty map without
//! a word; [`decode`] says what is wrong, and the host decides to be silent.

use std::fmt;

/// Longest encoding Envoy reads, in bytes.
pub const MAX_BYTES: usize = 1024 * 1024;

/// Most pairs Envoy reads.
pub const MAX_PAIRS: usize = 1024;

/// A name and its value.
pub type Pair<'a> = (&'a [u8], &'a [u8]);

/// Why bytes are not a header map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairsError {
    /// More than [`MAX_BYTES`].
    TooLong,
    /// More than [`MAX_PAIRS`].
    TooManyPairs,
    /// The sizes promise more bytes than there are.
    Truncated,
    /// A name or value is not followed by NUL.
    MissingNul,
    /// There are more bytes than the sizes promise.
    TrailingBytes,
}

impl fmt::Display for PairsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "longer than 1 MiB",
            Self::TooManyPairs => "more than 1024 pairs",
            Self::Truncated => "the sizes promise more bytes than there are",
            Self::MissingNul => "a name or value does not end in NUL",
            Self::TrailingBytes => "there are more bytes than the sizes promise",
        })
    }
}

impl std::error::Error for PairsError {}

/// Bytes that [`encode`] will write.
pub fn encoded_len<'a>(pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> usize {
    4 + pairs.into_iter().map(|(name, value)| 8 + name.len() + 1 + value.len() + 1).sum::<usize>()
}

/// Appends the encoding of `pairs` to `out`. Lengths beyond `u32` cannot occur in a wasm host and
/// are clipped.
pub fn encode<'a, I>(pairs: I, out: &mut Vec<u8>)
where
    I: IntoIterator<Item = (&'a [u8], &'a [u8])>,
    I::IntoIter: ExactSizeIterator + Clone,
{
    let pairs = pairs.into_iter();
    out.reserve(encoded_len(pairs.clone()));
    put(out, pairs.len());
    for (name, value) in pairs.clone() {
        put(out, name.len());
        put(out, value.len());
    }
    for (name, value) in pairs {
        out.extend_from_slice(name);
        out.push(0);
        out.extend_from_slice(value);
        out.push(0);
    }
}

/// The pairs in `bytes`, borrowed. Fewer than four bytes are an empty map.
///
/// # Errors
/// When sizes and bytes do not agree, or Envoy's limits are exceeded.
pub fn decode(bytes: &[u8]) -> Result<Vec<Pair<'_>>, PairsError> {
    if bytes.len() > MAX_BYTES {
        return Err(PairsError::TooLong);
    }
    let Some((count, rest)) = take_u32(bytes) else { return Ok(Vec::new()) };
    if count > MAX_PAIRS {
        return Err(PairsError::TooManyPairs);
    }
    let (mut sizes, mut data) = rest.split_at_checked(count * 8).ok_or(PairsError::Truncated)?;
    let mut pairs = Vec::with_capacity(count);
    while let Some((name_len, rest)) = take_u32(sizes) {
        let (value_len, rest) = take_u32(rest).ok_or(PairsError::Truncated)?;
        sizes = rest;
        let name = take_terminated(&mut data, name_len)?;
        let value = take_terminated(&mut data, value_len)?;
        pairs.push((name, value));
    }
    if !data.is_empty() {
        return Err(PairsError::TrailingBytes);
    }
    Ok(pairs)
}

fn take_u32(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*head) as usize, rest))
}

fn take_terminated<'a>(data: &mut &'a [u8], len: usize) -> Result<&'a [u8], PairsError> {
    let (text, rest) = data.split_at_checked(len).ok_or(PairsError::Truncated)?;
    let (nul, rest) = rest.split_first().ok_or(PairsError::Truncated)?;
    if *nul != 0 {
        return Err(PairsError::MissingNul);
    }
    *data = rest;
    Ok(text)
}

fn put(out: &mut Vec<u8>, len: usize) {
    out.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(pairs: &[(&[u8], &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(pairs.iter().copied(), &mut out);
        out
    }

    #[test]
    fn the_encoding_of_one_pair_is_pinned() {
        let bytes = encoded(&[(b"ab", b"c")]);
        assert_eq!(bytes, b"\x01\0\0\0\x02\0\0\0\x01\0\0\0ab\0c\0");
    }

    #[test]
    fn fewer_than_four_bytes_are_an_empty_map() {
        assert_eq!(decode(b""), Ok(vec![]));
        assert_eq!(decode(b"\x01\0\0"), Ok(vec![]));
    }

    #[test]
    fn sizes_beyond_the_bytes_are_refused() {
        assert_eq!(decode(b"\x01\0\0\0"), Err(PairsError::Truncated));
        assert_eq!(decode(b"\x01\0\0\0\x02\0\0\0\x01\0\0\0ab\0c"), Err(PairsError::Truncated));
        let huge = b"\x01\0\0\0\xff\xff\xff\xff\xff\xff\xff\xffab\0c\0";
        assert_eq!(decode(huge), Err(PairsError::Truncated));
    }

    #[test]
    fn a_missing_nul_is_refused() {
        assert_eq!(decode(b"\x01\0\0\0\x02\0\0\0\x01\0\0\0abxc\0"), Err(PairsError::MissingNul));
    }

    #[test]
    fn bytes_behind_the_last_value_are_refused() {
        assert_eq!(decode(b"\0\0\0\0x"), Err(PairsError::TrailingBytes));
        let map = b"\x01\0\0\0\x01\0\0\0\x01\0\0\0a\0b\0\0";
        assert_eq!(decode(map), Err(PairsError::TrailingBytes));
    }

    #[test]
    fn more_pairs_than_envoy_reads_are_refused() {
        assert_eq!(decode(b"\x01\x04\0\0"), Err(PairsError::TooManyPairs));
        assert_eq!(decode(&vec![0; MAX_BYTES + 1]), Err(PairsError::TooLong));
    }

    proptest! {
        #[test]
        fn what_was_encoded_decodes(pairs in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 0..20), prop::collection::vec(any::<u8>(), 0..20)),
            0..20,
        )) {
            let borrowed: Vec<_> =
                pairs.iter().map(|(n, v)| (n.as_slice(), v.as_slice())).collect();
            let bytes = encoded(&borrowed);
            prop_assert_eq!(bytes.len(), encoded_len(borrowed.iter().copied()));
            prop_assert_eq!(decode(&bytes), Ok(borrowed));
        }

        #[test]
        fn no_input_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }
}
