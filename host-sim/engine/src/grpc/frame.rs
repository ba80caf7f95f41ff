//! Length-prefixed messages: a flag, four bytes of length, the message.

use bytes::{Buf, BufMut, Bytes, BytesMut};

const COMPRESSED: u8 = 1;
const HEADER: usize = 5;

/// A message as it goes over the wire.
pub(super) fn encode(message: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER + message.len());
    out.put_u8(0);
    out.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    out.put_slice(message);
    out.freeze()
}

/// A message taken out of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) message: Bytes,
    pub(super) compressed: bool,
}

/// Why a body holds no messages.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FrameError {
    /// Flags that do not exist: this is no gRPC.
    Malformed,
    /// Longer than the service allows.
    TooLong,
}

/// Takes messages out of a body that comes in pieces.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    buffer: BytesMut,
    /// Longest message; 0 is any.
    max: u32,
}

impl Decoder {
    pub(super) fn new(max: u32) -> Self {
        Self { buffer: BytesMut::new(), max }
    }

    /// The messages that are complete now. After an error nothing that came with it counts.
    pub(super) fn decode(&mut self, data: &[u8]) -> Result<Vec<Frame>, FrameError> {
        self.buffer.extend_from_slice(data);
        let mut frames = Vec::new();
        while let Some(flags) = self.buffer.first().copied() {
            if flags & !COMPRESSED != 0 {
                return Err(FrameError::Malformed);
            }
            let Some(header) = self.buffer.first_chunk::<HEADER>() else { break };
            let [_, length @ ..] = *header;
            let length = u32::from_be_bytes(length);
            if self.max > 0 && length > self.max {
                return Err(FrameError::TooLong);
            }
            let end = HEADER + length as usize;
            if self.buffer.len() < end {
                break;
            }
            let mut frame = self.buffer.split_to(end).freeze();
            frame.advance(HEADER);
            let compressed = flags == COMPRESSED && !frame.is_empty();
            frames.push(Frame { message: frame, compressed });
        }
        Ok(frames)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn messages(frames: Vec<Frame>) -> Vec<Bytes> {
        frames.into_iter().map(|frame| frame.message).collect()
    }

    #[test]
    fn flags_that_do_not_exist_are_noticed_at_their_byte() {
        let mut decoder = Decoder::default();
        let body = [encode(b"a").as_ref(), b"<"].concat();
        assert_eq!(decoder.decode(&body), Err(FrameError::Malformed));
    }

    #[test]
    fn a_message_beyond_the_limit_is_refused_before_it_has_come() {
        let mut decoder = Decoder::new(3);
        assert_eq!(decoder.decode(&encode(b"abc")).map(messages), Ok(vec!["abc".into()]));
        assert_eq!(decoder.decode(&[0, 0, 0, 0, 4]), Err(FrameError::TooLong));
    }

    #[test]
    fn a_compressed_message_is_one_only_if_it_is_not_empty() {
        let mut decoder = Decoder::default();
        let frames = decoder.decode(&[1, 0, 0, 0, 0, 1, 0, 0, 0, 1, 9]).unwrap();
        assert_eq!(frames.iter().map(|f| f.compressed).collect::<Vec<_>>(), [false, true]);
    }

    proptest! {
        #[test]
        fn messages_survive_any_chunking(
            sent in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..6),
            chunk in 1usize..9,
        ) {
            let body: Vec<u8> = sent.iter().flat_map(|m| encode(m)).collect();
            let mut decoder = Decoder::default();
            let mut got = Vec::new();
            for part in body.chunks(chunk) {
                got.extend(messages(decoder.decode(part).unwrap()));
            }
            prop_assert_eq!(got, sent);
        }
    }
}
