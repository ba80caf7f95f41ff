//! A probe's lines, read back.

use crate::Phase;
use crate::probe::MARK;

/// A line.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// What the host put before it: `wasm log <name> <root_id> <vm_id>`.
    pub(crate) prefix: String,
    /// Which program.
    pub(crate) program: usize,
    /// Which context.
    pub(crate) context: u32,
    /// Which callback.
    pub(crate) phase: Phase,
    /// What happened.
    pub(crate) event: Event,
}

/// What happened.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// The callback began, with these arguments.
    Callback(u32, u32),
    /// An operation was done.
    Op {
        /// Its index in the program.
        index: usize,
        /// What the hostcall returned.
        status: i32,
        /// Its out numbers.
        numbers: Vec<u32>,
        /// Its out bytes.
        bytes: Option<Bytes>,
    },
}

/// Bytes that a hostcall gave.
#[derive(Clone, Debug)]
pub(crate) struct Bytes {
    /// The pointer is 0.
    pub(crate) null: bool,
    /// As the host said; `None` when it said nothing.
    pub(crate) len: Option<u32>,
    /// The first of them.
    pub(crate) bytes: Vec<u8>,
}

/// What an out slot holds before the call.
pub(crate) const UNTOUCHED: u32 = 0x5555_5555;

impl Line {
    /// Reads a line; `None` if it is none of a probe.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let (prefix, rest) = line.split_once(MARK)?;
        let mut fields = rest.trim_end().split('|');
        let mut number = || u32::from_str_radix(fields.next()?, 16).ok();
        let program = number()? as usize;
        let context = number()?;
        let phase = Phase::from_number(u8::try_from(number()?).ok()?)?;
        let event = match fields.next()? {
            "@" => {
                let mut number = || u32::from_str_radix(fields.next()?, 16).ok();
                Event::Callback(number()?, number()?)
            }
            index => Event::Op {
                index: usize::from_str_radix(index, 16).ok()?,
                status: u32::from_str_radix(fields.next()?, 16).ok()?.cast_signed(),
                numbers: numbers(fields.next()?)?,
                bytes: match fields.next() {
                    Some(null) => Some(bytes(null, fields.next()?, fields.next()?)?),
                    None => None,
                },
            },
        };
        let prefix = prefix.trim_end().trim_end_matches(':').to_owned();
        Some(Self { prefix, program, context, phase, event })
    }
}

fn numbers(text: &str) -> Option<Vec<u32>> {
    text.split_terminator(',').map(|number| u32::from_str_radix(number, 16).ok()).collect()
}

fn bytes(null: &str, len: &str, hex: &str) -> Option<Bytes> {
    let len = u32::from_str_radix(len, 16).ok()?;
    let bytes: Option<Vec<u8>> = (0..hex.len() / 2)
        .map(|at| u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok())
        .collect();
    Some(Bytes { null: null == "1", len: (len != UNTOUCHED).then_some(len), bytes: bytes? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_read_with_its_numbers_and_bytes() {
        let line = "wasm log a b: CELL|0001|00000002|06|0003|00000000|00000007,|0|00000002|6869";
        let line = Line::parse(line).unwrap();
        assert_eq!((line.program, line.context, line.phase), (1, 2, Phase::RequestHeaders));
        assert_eq!(line.prefix, "wasm log a b");
        let Event::Op { index: 3, status: 0, numbers, bytes: Some(bytes) } = line.event else {
            panic!("{line:?}");
        };
        assert_eq!((numbers, bytes.bytes, bytes.len), (vec![7], b"hi".to_vec(), Some(2)));
    }

    #[test]
    fn other_lines_are_none() {
        assert!(Line::parse("wasm log a: hello").is_none());
        assert!(Line::parse("CELL|zz").is_none());
    }
}
