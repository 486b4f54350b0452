//! Fewer, larger writes: what both ends of a connection wrap their sockets in.
//!
//! Small frames are cheap to copy and dear to send. HTTP/2 over a socket that takes vectored writes sends every frame
//! of more than 256 bytes by a system call of its own; a receipt is such a frame, and so is an entry. Over this wrapper
//! it gathers all that is ready, and the socket sees one write at each flush.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, BufWriter, ReadBuf};
use tonic::transport::server::Connected;

/// Bytes gathered for one write: two frames of HTTP/2's default size, or some thirty receipts.
const GATHERED_BYTES: usize = 32 * 1024;

/// A socket that is written to by few system calls. It must be flushed, as HTTP/1 and HTTP/2 do.
#[derive(Debug)]
pub struct Coalesced<IO> {
    io: BufWriter<IO>,
}

impl<IO: AsyncWrite> Coalesced<IO> {
    /// Gathers what is written to `io`.
    pub fn new(io: IO) -> Self {
        Self { io: BufWriter::with_capacity(GATHERED_BYTES, io) }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Coalesced<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

/// Not vectored: that is what makes HTTP/2 gather its frames.
impl<IO: AsyncWrite + Unpin> AsyncWrite for Coalesced<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<IO: Connected + AsyncWrite> Connected for Coalesced<IO> {
    type ConnectInfo = IO::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.io.get_ref().connect_info()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn small_writes_arrive_together_and_only_when_they_are_flushed() {
        let (near, mut far) = duplex(1024);
        let mut near = Coalesced::new(near);
        assert!(!near.is_write_vectored());
        near.write_all(b"one ").await.unwrap();
        near.write_all(b"two").await.unwrap();
        let mut buffer = [0; 16];
        let early = futures_util::FutureExt::now_or_never(far.read(&mut buffer));
        assert!(early.is_none(), "nothing is sent before the flush");
        near.flush().await.unwrap();
        assert_eq!(far.read(&mut buffer).await.unwrap(), 7);
        assert_eq!(&buffer[..7], b"one two");

        far.write_all(b"back").await.unwrap();
        near.read_exact(&mut buffer[..4]).await.unwrap();
        assert_eq!(&buffer[..4], b"back");
    }
}
