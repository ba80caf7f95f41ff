//! How a record becomes bytes and back.
//!
//! Frame: magic `WR`, tag, schema version, body, checksum of all before it; little-endian throughout.
//! The namespace may be shared with plugins we have never heard of (Istio gives every plugin of a
//! proxy the same one), so a value under our key is a claim, not a fact. [`decode`] accepts any
//! bytes and gives a record or the reason why not.

use crate::SCHEMA_VERSION;
use crate::key::{FNV_OFFSET, FNV_PRIME};

const MAGIC: [u8; 2] = *b"WR";
const HEADER_BYTES: usize = 4;
const CHECKSUM_BYTES: usize = 4;

/// A value with a fixed layout in shared data.
pub trait Record: Sized {
    /// Tells record types apart. Unique within this crate.
    const TAG: u8;

    /// Appends the body.
    fn write(&self, out: &mut Writer);

    /// Reads the body. All of it must be consumed.
    fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

/// Why bytes are not the record that was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Fewer bytes than the layout needs.
    Truncated,
    /// More bytes than the layout has.
    TrailingBytes,
    /// Not one of our records.
    Magic,
    /// One of our records, but of another type.
    Tag,
    /// Written by a module with another schema.
    Version,
    /// The bytes were changed after they were written.
    Checksum,
    /// A field holds a value that its type does not have.
    Field,
}

/// The bytes of `record`, framed.
pub fn encode<R: Record>(record: &R) -> Vec<u8> {
    // Room for most records, so that it need not be made again and again.
    let mut out = Writer { bytes: Vec::with_capacity(256) };
    out.bytes.extend_from_slice(&MAGIC);
    out.u8(R::TAG);
    out.u8(SCHEMA_VERSION as u8);
    record.write(&mut out);
    let sum = checksum(&out.bytes);
    out.u32(sum);
    out.bytes
}

/// The record in `bytes`.
pub fn decode<R: Record>(bytes: &[u8]) -> Result<R, DecodeError> {
    let framed = bytes.len().checked_sub(CHECKSUM_BYTES).ok_or(DecodeError::Truncated)?;
    let (content, sum) = bytes.split_at_checked(framed).ok_or(DecodeError::Truncated)?;
    let (header, body) = content.split_at_checked(HEADER_BYTES).ok_or(DecodeError::Truncated)?;
    match *header {
        [m0, m1, ..] if [m0, m1] != MAGIC => return Err(DecodeError::Magic),
        [_, _, tag, _] if tag != R::TAG => return Err(DecodeError::Tag),
        [_, _, _, version] if u32::from(version) != SCHEMA_VERSION => {
            return Err(DecodeError::Version);
        }
        _ => {}
    }
    if sum != checksum(content).to_le_bytes() {
        return Err(DecodeError::Checksum);
    }
    let mut input = Reader { rest: body };
    let record = R::read(&mut input)?;
    if input.rest.is_empty() { Ok(record) } else { Err(DecodeError::TrailingBytes) }
}

/// FNV-1a over words of eight bytes and what is left of one, folded to 32 bits. By words, as it runs
/// over the whole record twice for a request. It guards against other writers and torn layouts, not
/// against attackers, and unlike a fast CRC it needs no tables in every module.
pub(crate) fn checksum(bytes: &[u8]) -> u32 {
    let next = |hash: u64, value: u64| (hash ^ value).wrapping_mul(FNV_PRIME);
    let words = |hash, words: &[[u8; 8]]| {
        words.iter().fold(hash, |hash, word| next(hash, u64::from_le_bytes(*word)))
    };
    // Four at a time, whose loop the compiler unrolls.
    let (blocks, rest) = bytes.as_chunks::<32>();
    let hash = blocks.iter().fold(FNV_OFFSET, |hash, block| words(hash, block.as_chunks::<8>().0));
    let (last, rest) = rest.as_chunks::<8>();
    let hash = rest.iter().fold(words(hash, last), |hash, byte| next(hash, u64::from(*byte)));
    (hash ^ (hash >> 32)) as u32
}

/// Appends little-endian fields.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// What was written.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    /// Two bytes.
    pub fn u16(&mut self, value: u16) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Four bytes.
    pub fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Eight bytes.
    pub fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Eight bytes, signed.
    pub fn i64(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Four bytes of IEEE 754.
    pub fn f32(&mut self, value: f32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Bytes as they are.
    pub fn raw(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
    }

    /// A count, then the items; at most `most` of them are written.
    pub fn list<T>(&mut self, items: &[T], most: u16, mut each: impl FnMut(&mut Self, &T)) {
        let count = items.len().min(usize::from(most));
        self.u16(u16::try_from(count).unwrap_or(most));
        for item in items.iter().take(count) {
            each(self, item);
        }
    }

    /// As [`Writer::list`], for items of `N` bytes each: all at once, which is faster.
    pub fn pieces<T, const N: usize>(
        &mut self,
        items: &[T],
        most: u16,
        each: impl Fn(&T) -> [u8; N],
    ) {
        let count = items.len().min(usize::from(most));
        self.u16(u16::try_from(count).unwrap_or(most));
        let start = self.bytes.len();
        self.bytes.resize(start.saturating_add(count.saturating_mul(N)), 0);
        let (pieces, _) = self.bytes.get_mut(start..).unwrap_or_default().as_chunks_mut::<N>();
        for (piece, item) in pieces.iter_mut().zip(items) {
            *piece = each(item);
        }
    }
}

/// Takes little-endian fields off the front.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// `N` bytes as they are.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Two bytes.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_le_bytes)
    }

    /// Four bytes.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    /// Eight bytes, signed.
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        self.array().map(i64::from_le_bytes)
    }

    /// Four bytes of IEEE 754, finite and not negative: no record holds any other number.
    pub fn f32(&mut self) -> Result<f32, DecodeError> {
        let value = self.array().map(f32::from_le_bytes)?;
        if value.is_finite() && value >= 0.0 { Ok(value) } else { Err(DecodeError::Field) }
    }

    /// A count of at most `most`, then so many items.
    pub fn list<T>(
        &mut self,
        most: u16,
        mut each: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.u16()?;
        if count > most {
            return Err(DecodeError::Field);
        }
        // Not by collecting results: that knows no length, and would grow the list step by step.
        let mut items = Vec::with_capacity(count.into());
        for _ in 0..count {
            items.push(each(self)?);
        }
        Ok(items)
    }

    /// As [`Reader::list`], for items of `N` bytes each, any of which are an item.
    pub fn pieces<T, const N: usize>(
        &mut self,
        most: u16,
        each: impl Fn(&[u8; N]) -> T,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.u16()?;
        if count > most {
            return Err(DecodeError::Field);
        }
        let bytes = usize::from(count).saturating_mul(N);
        let (head, rest) = self.rest.split_at_checked(bytes).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(head.as_chunks::<N>().0.iter().map(each).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, PartialEq, Clone)]
    struct Sample {
        count: u64,
        ratio: f32,
        items: Vec<u16>,
    }

    impl Record for Sample {
        const TAG: u8 = 250;

        fn write(&self, out: &mut Writer) {
            out.u64(self.count);
            out.f32(self.ratio);
            out.list(&self.items, 8, |out, item| out.u16(*item));
        }

        fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
            Ok(Self {
                count: input.u64()?,
                ratio: input.f32()?,
                items: input.list(8, Reader::u16)?,
            })
        }
    }

    fn sample() -> Sample {
        Sample { count: 7, ratio: 0.5, items: vec![1, 2, 3] }
    }

    #[test]
    fn a_record_survives_the_round_trip() {
        assert_eq!(decode::<Sample>(&encode(&sample())), Ok(sample()));
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let bytes = encode(&sample());
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x40;
            assert!(decode::<Sample>(&changed).is_err(), "byte {at}");
        }
    }

    #[test]
    fn another_schema_is_told_from_damage() {
        let mut bytes = encode(&sample());
        bytes[3] = 99;
        assert_eq!(decode::<Sample>(&bytes), Err(DecodeError::Version));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<Sample>(&bytes);
        }

        #[test]
        fn no_truncation_decodes(cut in 0usize..25) {
            let bytes = encode(&sample());
            prop_assert!(decode::<Sample>(&bytes[..cut.min(bytes.len() - 1)]).is_err());
        }
    }
}
