//! A body on its way through a filter chain: chunks that move without being copied.

use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// A queue of chunks, as Envoy's `Buffer::Instance`. Reading a range copies, moving does not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buffer {
    chunks: VecDeque<Bytes>,
    len: usize,
}

impl Buffer {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.len += chunk.len();
            self.chunks.push_back(chunk);
        }
    }

    pub(crate) fn prepend(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.len += chunk.len();
            self.chunks.push_front(chunk);
        }
    }

    /// Moves everything out of `other` to the end.
    pub(crate) fn append(&mut self, other: &mut Self) {
        self.len += std::mem::take(&mut other.len);
        self.chunks.append(&mut other.chunks);
    }

    /// Drops the first `count` bytes, or all.
    pub(crate) fn drain(&mut self, count: usize) {
        let mut left = count.min(self.len);
        self.len -= left;
        while let Some(first) = self.chunks.front_mut() {
            if first.len() > left {
                let _ = first.split_to(left);
                return;
            }
            left -= first.len();
            self.chunks.pop_front();
        }
    }

    /// Copies `start..start + max`, clipped to what there is.
    pub(crate) fn read(&self, start: usize, max: usize) -> Bytes {
        let end = start.saturating_add(max).min(self.len);
        if start >= end {
            return Bytes::new();
        }
        if let (1, Some(only)) = (self.chunks.len(), self.chunks.front()) {
            return only.slice(start..end);
        }
        let mut out = BytesMut::with_capacity(end - start);
        let mut at = 0;
        for chunk in &self.chunks {
            let from = start.saturating_sub(at).min(chunk.len());
            let to = (end - at).min(chunk.len());
            if let Some(part) = chunk.get(from..to) {
                out.extend_from_slice(part);
            }
            at += chunk.len();
            if at >= end {
                break;
            }
        }
        out.freeze()
    }

    /// Everything as one chunk; the buffer is empty afterwards.
    pub(crate) fn take(&mut self) -> Bytes {
        let all = if self.chunks.len() == 1 { self.chunks.pop_front() } else { None };
        let all = all.unwrap_or_else(|| self.read(0, self.len));
        self.chunks.clear();
        self.len = 0;
        all
    }
}

impl From<Bytes> for Buffer {
    fn from(chunk: Bytes) -> Self {
        let mut buffer = Self::default();
        buffer.push(chunk);
        buffer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn buffer(chunks: &[&'static [u8]]) -> Buffer {
        let mut buffer = Buffer::default();
        chunks.iter().for_each(|chunk| buffer.push(Bytes::from_static(chunk)));
        buffer
    }

    #[test]
    fn a_range_may_span_chunks() {
        let b = buffer(&[b"abc", b"de", b"fgh"]);
        assert_eq!(b.read(2, 4), "cdef");
        assert_eq!(b.read(7, 100), "h");
        assert_eq!(b.read(8, 1), "");
        assert_eq!(b.read(usize::MAX, usize::MAX), "");
    }

    #[test]
    fn drain_then_prepend_replaces() {
        let mut b = buffer(&[b"abc", b"de"]);
        b.drain(9999);
        b.prepend(Bytes::from_static(b"new"));
        assert_eq!((b.len(), b.take()), (3, Bytes::from_static(b"new")));
        assert!(b.is_empty());
    }

    proptest! {
        #[test]
        fn behaves_as_a_vector(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..9),
            drain in 0usize..40, start in 0usize..40, max in 0usize..40,
        ) {
            let mut b = Buffer::default();
            chunks.iter().for_each(|c| b.push(Bytes::from(c.clone())));
            let mut model = chunks.concat();
            b.drain(drain);
            model.drain(..drain.min(model.len()));
            prop_assert_eq!(b.len(), model.len());
            let model_range: Vec<u8> = model.iter().copied().skip(start).take(max).collect();
            prop_assert_eq!(b.read(start, max), model_range);
            prop_assert_eq!(b.take(), model);
        }
    }
}
