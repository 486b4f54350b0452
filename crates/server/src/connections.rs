//! Connections: so many at once, each with a first call in good time, and a peer that takes its answers.
//!
//! Where there are too many, the one that has waited longest for its first call makes room, or else the one whose last
//! call ended longest ago, so that whoever calls at once is served however many others hold connections open and say
//! nothing, or say it slowly.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use crate::budget::{Budget, Share};
use crate::limits::Limits;

/// After its last call a connection is left alone for so long: the answer may still be on its way.
const REST: Duration = Duration::from_secs(1);

/// Limits the connections of one listener. Over the limit the one that has waited longest for its first call is closed;
/// if all have called, the one that has rested longest, for [`REST`] at least. Otherwise it is the new one, at once, so
/// that its peer learns of it.
pub(crate) fn limit<IO>(
    incoming: impl Stream<Item = io::Result<IO>>,
    limits: &Limits,
) -> impl Stream<Item = io::Result<Connection<IO>>> {
    let budget = Budget::new(limits.connections());
    let mut open = Open::new(limits.connections(), REST);
    let (first_call, unread) = (limits.handshake_timeout(), limits.answer_timeout());
    incoming.filter_map(move |io| {
        let connection = io.map(|io| {
            let place = budget.try_take(1).or_else(|| open.make_room())?;
            let connection = Connection::new(io, place, (first_call, unread));
            open.add(&connection.peer);
            Some(connection)
        });
        if matches!(connection, Ok(None)) {
            tracing::debug!("a connection over the limit was closed");
        }
        std::future::ready(connection.transpose())
    })
}

/// Connections that were open when somebody last looked, in the order in which they came.
struct Open {
    peers: VecDeque<Weak<Peer>>,
    /// Twice as many as can be open. Those that are closed are forgotten then.
    peers_max: usize,
    /// As [`REST`].
    rest: Duration,
}

impl Open {
    fn new(connections_max: usize, rest: Duration) -> Self {
        Self { peers: VecDeque::new(), peers_max: 2 * connections_max, rest }
    }

    fn add(&mut self, peer: &Arc<Peer>) {
        if self.peers.len() >= self.peers_max {
            self.peers.retain(|peer| peer.strong_count() > 0);
        }
        self.peers.push_back(Arc::downgrade(peer));
    }

    /// Closes the connection that can best be done without, if any can. The place that it had.
    fn make_room(&self) -> Option<Share> {
        let peers: Vec<_> = self.peers.iter().filter_map(Weak::upgrade).collect();
        let is_silent = |calls: &Calls| !calls.has_called();
        if let Some(place) = peers.iter().find_map(|peer| peer.put_out(is_silent)) {
            return Some(place);
        }
        let mut resting: Vec<_> =
            peers.iter().filter_map(|peer| Some((peer.calls.lock().rests_since()?, peer))).collect();
        resting.sort_by_key(|&(since, _)| since);
        let has_rested = |calls: &Calls| calls.rests_since().is_some_and(|since| since.elapsed() >= self.rest);
        resting.iter().find_map(|(_, peer)| peer.put_out(has_rested))
    }
}

/// A connection that has a place.
pub(crate) struct Connection<IO> {
    io: IO,
    peer: Arc<Peer>,
    unread: Duration,
    /// When it is too late for the first call: TLS and HTTP/2 handshakes come before that.
    first_call: Option<Pin<Box<Sleep>>>,
    put_out: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<IO> Connection<IO> {
    fn new(io: IO, place: Share, (first_call, unread): (Duration, Duration)) -> Self {
        let peer = Arc::new(Peer { place: Mutex::new(Some(place)), ..Peer::default() });
        let put_out = Box::pin(peer.put_out.clone().cancelled_owned());
        Self { io, peer, unread, first_call: Some(Box::pin(tokio::time::sleep(first_call))), put_out }
    }

    /// Whether its time is over.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> bool {
        if self.put_out.as_mut().poll(cx).is_ready() {
            return true;
        }
        if self.first_call.is_none() || self.peer.calls.lock().has_called() {
            self.first_call = None;
            // Pings wake a connection often enough to look here.
            return self.peer.leaves_unread(self.unread);
        }
        self.first_call.as_mut().is_some_and(|alarm| alarm.as_mut().poll(cx).is_ready())
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
    calls: Mutex<Calls>,
    put_out: CancellationToken,
    unread: Mutex<Unread>,
}

/// The calls of a peer.
#[derive(Default)]
struct Calls {
    running: usize,
    /// When the last one ended.
    ended: Option<Instant>,
}

impl Calls {
    fn has_called(&self) -> bool {
        self.running > 0 || self.ended.is_some()
    }

    /// Since when no call has been running, after one or more.
    fn rests_since(&self) -> Option<Instant> {
        self.ended.filter(|_| self.running == 0)
    }
}

/// What a peer has not taken yet.
#[derive(Default)]
struct Unread {
    answers: usize,
    /// When it last took one, or had none.
    since: Option<Instant>,
}

impl Peer {
    /// A call has arrived; it runs until what is returned is dropped. It comes too late for a peer that was put out.
    pub(crate) fn called(self: &Arc<Self>) -> Calling {
        self.calls.lock().running += 1;
        Calling(Arc::clone(self))
    }

    /// Closes the connection if its calls are as `may_go` says; the place that it had.
    fn put_out(&self, may_go: impl FnOnce(&Calls) -> bool) -> Option<Share> {
        let calls = self.calls.lock();
        if !may_go(&calls) {
            return None;
        }
        self.put_out.cancel();
        self.place.lock().take()
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

/// A call of a peer.
pub(crate) struct Calling(Arc<Peer>);

impl Drop for Calling {
    fn drop(&mut self) {
        let mut calls = self.0.calls.lock();
        calls.running -= 1;
        calls.ended = Some(Instant::now());
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
