//! Reading as Envoy reads: everything that is there is one read.

use bytes::{Bytes, BytesMut};
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, ReadBuf};

/// Bytes asked for at a time.
const CHUNK: usize = 16 * 1024;

/// Bytes that one read may give.
const MOST: usize = 256 * 1024;

/// What has come, and whether the other side has closed its half. `polled`: see [`Socket::POLLED`].
///
/// [`Socket::POLLED`]: super::side::Socket::POLLED
pub(super) async fn read<R: AsyncRead + Unpin>(
    from: &mut R,
    polled: bool,
) -> io::Result<(Bytes, bool)> {
    let mut all = BytesMut::new();
    let mut end = poll_fn(|cx| poll_all(from, cx, &mut all)).await?;
    if polled && !end && all.len() < MOST {
        // The kernel is asked anew: an end that came behind the bytes is part of this read.
        tokio::task::yield_now().await;
        end = poll_fn(|cx| poll_all(from, cx, &mut all)).await?;
    }
    Ok((all.freeze(), end))
}

/// Adds what is there, and says whether the end is. Pending and errors are only said when nothing
/// was read before.
fn poll_all<R: AsyncRead + Unpin>(
    from: &mut R,
    cx: &mut Context<'_>,
    all: &mut BytesMut,
) -> Poll<io::Result<bool>> {
    while all.len() < MOST {
        let mut chunk = [0; CHUNK];
        let mut buffer = ReadBuf::new(&mut chunk);
        match Pin::new(&mut *from).poll_read(cx, &mut buffer) {
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => return Poll::Ready(Ok(true)),
            Poll::Ready(Ok(())) => all.extend_from_slice(buffer.filled()),
            // A TLS peer that hangs up without saying so.
            Poll::Ready(Err(error)) if error.kind() == ErrorKind::UnexpectedEof => {
                return Poll::Ready(Ok(true));
            }
            // What came before an error counts first; the next read finds the error again.
            Poll::Ready(Err(error)) if all.is_empty() => return Poll::Ready(Err(error)),
            Poll::Pending if all.is_empty() => return Poll::Pending,
            Poll::Ready(Err(_)) | Poll::Pending => return Poll::Ready(Ok(false)),
        }
    }
    Poll::Ready(Ok(false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    #[tokio::test]
    async fn all_that_is_there_is_one_read_the_end_included() {
        let (mut near, mut far) = tokio::io::duplex(64);
        far.write_all(b"ab").await.unwrap();
        assert_eq!(read(&mut near, false).await.unwrap(), (Bytes::from_static(b"ab"), false));
        far.write_all(b"c").await.unwrap();
        drop(far);
        assert_eq!(read(&mut near, false).await.unwrap(), (Bytes::from_static(b"c"), true));
    }

    #[tokio::test]
    async fn an_end_that_the_kernel_has_and_the_runtime_does_not_know_of_is_part_of_the_read() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let mut far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut near, _) = listener.accept().await.unwrap();
        far.write_all(b"ab").await.unwrap();
        // The runtime knows of the bytes, and of nothing later.
        near.readable().await.unwrap();
        far.shutdown().await.unwrap();
        assert_eq!(read(&mut near, true).await.unwrap(), (Bytes::from_static(b"ab"), true));
    }
}
