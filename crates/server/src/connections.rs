//! Connections: so many at once, each with a first call in good time, and a peer that takes its answers.
//!
//! Where there are too many, the one that has waited longest for its first call makes room, so that whoever calls at once
//! is served however many others hold connections open and say nothing, or say it slowly.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use crate::budget::{Budget, Share};
use crate::limits::Limits;

/// Limits the connections of one listener. Over the limit the one that has waited longest for its first call is closed. If
/// all have called, it is the new one, at once, so that its peer learns of it.
pub(crate) fn limit<IO>(
    incoming: impl Stream<Item = io::Result<IO>>,
    limits: &Limits,
) -> impl Stream<Item = io::Result<Connection<IO>>> {
    let budget = Budget::new(limits.connections());
    let mut waiting = Waiting::new(limits.connections());
    let (first_call, unread) = (limits.handshake_timeout(), limits.answer_timeout());
    incoming.filter_map(move |io| {
        let connection = io.map(|io| {
            let place = budget.try_take(1).or_else(|| waiting.put_out_first())?;
            let connection = Connection::new(io, place, (first_call, unread));
            waiting.add(&connection.peer);
            Some(connection)
        });
        if matches!(connection, Ok(None)) {
            tracing::debug!("a connection over the limit was closed");
        }
        std::future::ready(connection.transpose())
    })
}

/// Connections that had not called when somebody last looked, in the order in which they came.
struct Waiting {
    peers: VecDeque<Weak<Peer>>,
    /// Twice as many as can be open. Those that are closed, or have called, are forgotten then.
    peers_max: usize,
}

impl Waiting {
    fn new(connections_max: usize) -> Self {
        Self { peers: VecDeque::new(), peers_max: 2 * connections_max }
    }

    fn add(&mut self, peer: &Arc<Peer>) {
        if self.peers.len() >= self.peers_max {
            self.peers.retain(|peer| peer.upgrade().is_some_and(|peer| !peer.has_called()));
        }
        self.peers.push_back(Arc::downgrade(peer));
    }

    /// Closes the connection that has waited longest, if any waits. The place that it had.
    fn put_out_first(&mut self) -> Option<Share> {
        std::iter::from_fn(|| self.peers.pop_front()).find_map(|peer| peer.upgrade()?.put_out())
    }
}

/// A connection that has a place.
pub(crate) struct Connection<IO> {
    io: IO,
    peer: Arc<Peer>,
    unread: Duration,
    /// When it is too late for the first call: TLS and HTTP/2 handshakes come before that.
    first_call: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<IO> Connection<IO> {
    fn new(io: IO, place: Share, (first_call, unread): (Duration, Duration)) -> Self {
        let peer = Arc::new(Peer { place: Mutex::new(Some(place)), ..Peer::default() });
        let put_out = peer.put_out.clone();
        let first_call = Box::pin(async move {
            // Either way it has had its time.
            let _ = tokio::time::timeout(first_call, put_out.cancelled()).await;
        });
        Self { io, peer, unread, first_call: Some(first_call) }
    }

    /// Whether its time is over.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> bool {
        if self.peer.has_called() {
            self.first_call = None;
            // Pings wake a connection often enough to look here.
            return self.peer.leaves_unread(self.unread);
        }
        if self.first_call.as_mut().is_some_and(|alarm| alarm.as_mut().poll(cx).is_pending()) {
            return false;
        }
        self.first_call = None;
        true
    }
}

/// Calls can outlast their connection; its place does not.
impl<IO> Drop for Connection<IO> {
    fn drop(&mut self) {
        self.peer.place.lock().take();
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Connection<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.poll_late(cx) {
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
    /// Its place among the connections of the listener, until that is closed or put out.
    place: Mutex<Option<Share>>,
    /// Changes while `place` is locked.
    has_called: AtomicBool,
    put_out: CancellationToken,
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
    /// A call has arrived. It comes too late for one that was put out.
    pub(crate) fn called(&self) {
        if !self.has_called() {
            let place = self.place.lock();
            self.has_called.store(place.is_some(), Ordering::Relaxed);
        }
    }

    fn has_called(&self) -> bool {
        self.has_called.load(Ordering::Relaxed)
    }

    /// Closes the connection unless it has called; the place that it had.
    fn put_out(&self) -> Option<Share> {
        let mut place = self.place.lock();
        if self.has_called() {
            return None;
        }
        self.put_out.cancel();
        place.take()
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
