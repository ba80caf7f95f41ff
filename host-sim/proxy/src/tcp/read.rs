//! Reading as Envoy reads: everything that is there is one read.

use bytes::{Bytes, BytesMut};
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::Poll;
use tokio::io::{AsyncRead, ReadBuf};

/// Bytes asked for at a time.
const CHUNK: usize = 16 * 1024;

/// Bytes that one read may give.
const MOST: usize = 256 * 1024;

/// What has come, and whether the other side has closed its half.
pub(super) async fn read<R: AsyncRead + Unpin>(from: &mut R) -> io::Result<(Bytes, bool)> {
    let mut all = BytesMut::new();
    poll_fn(|cx| {
        loop {
            let mut chunk = [0; CHUNK];
            let mut buffer = ReadBuf::new(&mut chunk);
            let end = match Pin::new(&mut *from).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) => buffer.filled().is_empty(),
                // A TLS peer that hangs up without saying so.
                Poll::Ready(Err(error)) if error.kind() == ErrorKind::UnexpectedEof => true,
                // What came before an error counts first; the next read finds the error again.
                Poll::Ready(Err(error)) if all.is_empty() => return Poll::Ready(Err(error)),
                Poll::Pending if all.is_empty() => return Poll::Pending,
                Poll::Ready(Err(_)) | Poll::Pending => {
                    return Poll::Ready(Ok((all.split().freeze(), false)));
                }
            };
            all.extend_from_slice(buffer.filled());
            if end || all.len() >= MOST {
                return Poll::Ready(Ok((all.split().freeze(), end)));
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    #[tokio::test]
    async fn all_that_is_there_is_one_read_the_end_included() {
        let (mut near, mut far) = tokio::io::duplex(64);
        far.write_all(b"ab").await.unwrap();
        assert_eq!(read(&mut near).await.unwrap(), (Bytes::from_static(b"ab"), false));
        far.write_all(b"c").await.unwrap();
        drop(far);
        assert_eq!(read(&mut near).await.unwrap(), (Bytes::from_static(b"c"), true));
    }
}
