//! SipHash-2-4 (Aumasson and Bernstein, 2012): a short-input hash with a secret key.
//!
//! What it hashes is chosen by clients. With an unkeyed hash a client could search for a value that
//! shares the bucket of somebody else and empty it; without the key it can only guess.

/// The hash of `bytes` under `key`.
pub fn siphash_2_4(key: [u64; 2], bytes: &[u8]) -> u64 {
    let [k0, k1] = key;
    let mut state = State([
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ]);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        state.absorb(u64::from_le_bytes(*word));
    }
    // The last word: what is left, and the length modulo 256 in the top byte.
    let mut last = (bytes.len() as u64) << 56;
    for (at, byte) in rest.iter().enumerate() {
        last |= u64::from(*byte) << (8 * at);
    }
    state.absorb(last);
    state.finish()
}

struct State([u64; 4]);

impl State {
    fn absorb(&mut self, word: u64) {
        self.0[3] ^= word;
        self.round();
        self.round();
        self.0[0] ^= word;
    }

    fn finish(mut self) -> u64 {
        self.0[2] ^= 0xff;
        for _ in 0..4 {
            self.round();
        }
        let [a, b, c, d] = self.0;
        a ^ b ^ c ^ d
    }

    fn round(&mut self) {
        let [mut a, mut b, mut c, mut d] = self.0;
        a = a.wrapping_add(b);
        b = b.rotate_left(13) ^ a;
        a = a.rotate_left(32);
        c = c.wrapping_add(d);
        d = d.rotate_left(16) ^ c;
        a = a.wrapping_add(d);
        d = d.rotate_left(21) ^ a;
        c = c.wrapping_add(b);
        b = b.rotate_left(17) ^ c;
        c = c.rotate_left(32);
        self.0 = [a, b, c, d];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_as_the_reference_implementation() {
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        let input: Vec<u8> = (0..15).collect();
        assert_eq!(siphash_2_4(key, &input[..0]), 0x726f_db47_dd0e_0e31);
        assert_eq!(siphash_2_4(key, &input[..1]), 0x74f8_39c5_93dc_67fd);
        assert_eq!(siphash_2_4(key, &input[..8]), 0x93f5_f579_9a93_2462);
        assert_eq!(siphash_2_4(key, &input), 0xa129_ca61_49be_45e5);
    }

    #[test]
    fn another_key_gives_another_hash() {
        assert_ne!(siphash_2_4([1, 2], b"client"), siphash_2_4([1, 3], b"client"));
    }
}
