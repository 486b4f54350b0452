//! Connections: so many at once, each with a first call in good time, and a peer that takes its answers.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use tonic::transport::server::Connected;

use crate::budget::{Budget, Share};
use crate::limits::Limits;

/// Limits the connections of one listener. One over the limit is closed at once, so that its peer learns of it.
pub(crate) fn limit<IO>(
    incoming: impl Stream<Item = io::Result<IO>>,
    limits: &Limits,
) -> impl Stream<Item = io::Result<Connection<IO>>> {
    let budget = Budget::new(limits.connections());
    let (first_call, unread) = (limits.handshake_timeout(), limits.answer_timeout());
    incoming.filter_map(move |io| {
        let connection = io.map(|io| {
            let place = budget.try_take(1)?;
            Some(Connection::new(io, place, (first_call, unread)))
        });
        if matches!(connection, Ok(None)) {
            tracing::debug!("a connection over the limit was closed");
        }
        std::future::ready(connection.transpose())
    })
}

/// A connection that has a place.
pub(crate) struct Connection<IO> {
    io: IO,
    peer: Arc<Peer>,
    unread: Duration,
    /// When it is too late for the first call: TLS and HTTP/2 handshakes come before that.
    first_call: Option<Pin<Box<Sleep>>>,
    _place: Share,
}

impl<IO> Connection<IO> {
    fn new(io: IO, place: Share, (first_call, unread): (Duration, Duration)) -> Self {
        let first_call = Some(Box::pin(tokio::time::sleep(first_call)));
        Self { io, peer: Arc::default(), unread, first_call, _place: place }
    }

    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        if self.peer.has_called.load(Ordering::Relaxed) {
            self.first_call = None;
            // Pings wake a connection often enough to look here.
            return self.peer.leaves_unread(self.unread);
        }
        self.first_call.as_mut().is_some_and(|alarm| alarm.as_mut().poll(cx).is_ready())
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Connection<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_late(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

/// Not vectored, as [`logwood_proto::Coalesced`] below it.
impl<IO: AsyncWrite + Unpin> AsyncWrite for Connection<IO> {
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

/// Calls find their peer in the request's extensions.
impl<IO> Connected for Connection<IO> {
    type ConnectInfo = Arc<Peer>;

    fn connect_info(&self) -> Arc<Peer> {
        Arc::clone(&self.peer)
    }
}

/// Whoever is at the other end.
#[derive(Default)]
pub(crate) struct Peer {
    has_called: AtomicBool,
    unread: Mutex<Unread>,
}

/// What a peer has not taken yet.
#[derive(Default)]
struct Unread {
    answers: usize,
    /// When it last took one, or had none.
    since: Option<Instant>,
}

impl Peer {
    /// A call has arrived.
    pub(crate) fn called(&self) {
        self.has_called.store(true, Ordering::Relaxed);
    }

    /// An answer is on its way to this peer until what is returned is dropped.
    pub(crate) fn sending(self: &Arc<Self>) -> Outstanding {
        let mut unread = self.unread.lock();
        if unread.answers == 0 {
            unread.since = Some(Instant::now());
        }
        unread.answers += 1;
        Outstanding(Arc::clone(self))
    }

    /// Whether the peer has left answers unread for so long that others should have their place.
    fn leaves_unread(&self, timeout: Duration) -> bool {
        let unread = self.unread.lock();
        unread.answers > 0 && unread.since.is_some_and(|since| since.elapsed() >= timeout)
    }
}

/// An answer that the socket has not taken yet.
pub(crate) struct Outstanding(Arc<Peer>);

impl Drop for Outstanding {
    fn drop(&mut self) {
        let mut unread = self.0.unread.lock();
        unread.answers -= 1;
        unread.since = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests;
