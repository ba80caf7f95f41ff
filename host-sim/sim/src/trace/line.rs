//! One line of a trace. Written by hand: a run has millions, and their form never varies.

/// Longest text that a line quotes; a digest tells longer ones apart.
const QUOTED: usize = 48;

/// A JSON object under construction; the buffer is used again for the next line.
#[derive(Default)]
pub(super) struct Line(Vec<u8>);

impl Line {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The first field, a number.
    pub(super) fn begin(&mut self, key: &str, value: u64) {
        self.0.extend_from_slice(b"{\"");
        self.0.extend_from_slice(key.as_bytes());
        self.0.extend_from_slice(b"\":");
        self.digits(value);
    }

    /// Closes the line and gives it with its line feed.
    pub(super) fn end(&mut self) -> &[u8] {
        self.0.extend_from_slice(b"}\n");
        &self.0
    }

    pub(super) fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        self.digits(value);
    }

    /// A name that needs no escapes.
    pub(super) fn name(&mut self, key: &str, value: &str) {
        self.key(key);
        self.0.push(b'"');
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'"');
    }

    /// Any bytes, as text as far as they are printable, and no more than a line should quote.
    pub(super) fn quoted(&mut self, key: &str, value: &[u8]) {
        self.text(key, value.get(..QUOTED).unwrap_or(value));
    }

    /// Any bytes, as text as far as they are printable.
    pub(super) fn text(&mut self, key: &str, value: &[u8]) {
        self.key(key);
        self.0.push(b'"');
        for byte in value {
            match byte {
                b'"' | b'\\' => self.0.extend_from_slice(&[b'\\', *byte]),
                b' '..=b'~' => self.0.push(*byte),
                _ => {
                    self.0.extend_from_slice(b"\\u00");
                    self.hex_byte(*byte);
                }
            }
        }
        self.0.push(b'"');
    }

    /// A digest, or a random number.
    pub(super) fn hex(&mut self, key: &str, value: u64) {
        self.key(key);
        self.0.push(b'"');
        value.to_be_bytes().into_iter().for_each(|byte| self.hex_byte(byte));
        self.0.push(b'"');
    }

    fn key(&mut self, key: &str) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(key.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    fn digits(&mut self, mut value: u64) {
        let mut digits = [0; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (value % 10) as u8;
            value /= 10;
            if value == 0 {
                break;
            }
        }
        self.0.extend_from_slice(&digits[at..]);
    }

    fn hex_byte(&mut self, byte: u8) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        self.0.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
}

/// A 64-bit digest of what is fed to it. Tells accidents apart, not attackers.
#[derive(Clone, Copy)]
pub(super) struct Fingerprint(u64);

impl Fingerprint {
    pub(super) fn new() -> Self {
        Self(0x243f_6a88_85a3_08d3)
    }

    pub(super) fn word(&mut self, word: u64) {
        let mixed = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 29);
    }

    /// The length is part of it: parts do not run together.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.word(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(u64::from_le_bytes(word));
        }
    }

    pub(super) fn value(self) -> u64 {
        self.0
    }
}
