//! Requests are counted while they arrive, and refused before tonic sees them.
//!
//! ```text
//!   DATA frames ──> counted against the budget ──> held until a message is whole ──> tonic, which decodes it
//!                   over it: `bodies`             its header too large: `message`
//!                                                 too slow: `bodies`
//! ```
//!
//! tonic reserves what the header of a message declares, as soon as it sees the header. So it sees none before the
//! whole message is here and counted: what a peer declares costs nothing, only what it sends does.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use tokio::time::{Instant, Sleep};
use tonic::Status;
use tonic::body::Body;

use crate::budget::{self, Budget, Held, Share};
use crate::limits::Limits;
use crate::status;

/// What a frame that is held costs besides its bytes, so that frames of one byte are not free.
const FRAME_OVERHEAD_BYTES: usize = 128;

/// Bytes of a message's header: a flag and a big-endian length ("gRPC over HTTP2", Length-Prefixed-Message).
const HEADER_BYTES: usize = 5;

/// What the bodies of all requests share.
#[derive(Clone)]
pub(crate) struct Bodies {
    limits: Limits,
    budget: Budget,
}

impl Bodies {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, budget: Budget::new(limits.bodies_bytes()) }
    }

    /// The body of a call of the method at `path`.
    pub(crate) fn limit(&self, path: &str, body: Body) -> LimitedBody {
        let limits = &self.limits;
        let (message_bytes_max, streaming) = match path {
            "/logwood.v1.LogService/AppendStream" => (limits.append_message_bytes(), true),
            "/logwood.v1.LogService/Append" => (limits.append_message_bytes(), false),
            "/logwood.v1.LogService/AppendBatch" => (limits.batch_message_bytes(), false),
            // Checkpoints with their cosignatures, up to 64 of them: 36 KiB each at most.
            "/logwood.v1.AdminService/ThawLog" => (limits.other_message_bytes().max(4 * 1024 * 1024), false),
            // Streams of reflection among them: what takes longer than one request may is cut off.
            _ => (limits.other_message_bytes(), false),
        };
        LimitedBody {
            inner: body,
            message_bytes_max,
            frame_bytes_max: limits.frame_bytes(),
            timeout: limits.body_timeout(),
            budget: self.budget.clone(),
            streaming: streaming.then(Held::default),
            cut: Cut::default(),
            partial: Frames::default(),
            whole: VecDeque::new(),
            share: None,
            room: None,
            started: (!streaming).then(Instant::now),
            alarm: None,
        }
    }
}

/// Frames, and what they count for.
#[derive(Default)]
struct Frames {
    frames: VecDeque<Bytes>,
    cost: usize,
}

impl Frames {
    fn push(&mut self, frame: Bytes) {
        self.cost += frame.len() + FRAME_OVERHEAD_BYTES;
        self.frames.push_back(frame);
    }
}

/// Where in a message a body is.
#[derive(Default)]
struct Cut {
    header: [u8; HEADER_BYTES],
    /// How much of the header was seen. 0: between two messages.
    header_bytes: usize,
    /// What is missing of the payload, once the header was seen.
    payload_bytes: usize,
}

impl Cut {
    fn is_between_messages(&self) -> bool {
        self.header_bytes == 0
    }

    /// Goes on by `data`, and says how much of it belongs to messages that are whole now. Refuses the header of a
    /// message that is too large.
    fn advance(&mut self, data: &[u8], message_bytes_max: usize) -> Result<usize, Status> {
        let (mut at, mut whole) = (0, 0);
        while at < data.len() {
            if self.header_bytes < HEADER_BYTES {
                self.header[self.header_bytes] = data[at];
                self.header_bytes += 1;
                at += 1;
                if self.header_bytes < HEADER_BYTES {
                    continue;
                }
                let [_, length @ ..] = self.header;
                self.payload_bytes = u32::from_be_bytes(length) as usize;
                if self.payload_bytes > message_bytes_max {
                    return Err(status::message_too_large(self.payload_bytes, message_bytes_max));
                }
            } else {
                let taken = self.payload_bytes.min(data.len() - at);
                self.payload_bytes -= taken;
                at += taken;
            }
            if self.header_bytes == HEADER_BYTES && self.payload_bytes == 0 {
                (self.header_bytes, whole) = (0, at);
            }
        }
        Ok(whole)
    }
}

/// The body of one request.
pub(crate) struct LimitedBody {
    inner: Body,
    message_bytes_max: usize,
    frame_bytes_max: usize,
    timeout: Duration,
    budget: Budget,
    /// `None`: one message, whose share is kept until the body is dropped, which is when it has been decoded.
    streaming: Option<Held>,
    cut: Cut,
    /// Frames of a message that is not whole.
    partial: Frames,
    /// Frames to be handed on.
    whole: VecDeque<Bytes>,
    /// Covers `partial`; of a unary call all that has arrived.
    share: Option<Share>,
    /// Room in the budget that a stream waits for.
    room: Option<Pin<Box<dyn Future<Output = Share> + Send>>>,
    /// When the message that is due began. `None`: none is due; a stream may be silent for as long as it likes.
    started: Option<Instant>,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl LimitedBody {
    /// Takes a frame in.
    fn receive(&mut self, mut data: Bytes) -> Result<(), Status> {
        let Some(share) = self.budget.try_take(data.len() + 2 * FRAME_OVERHEAD_BYTES) else {
            return Err(status::exhausted("bodies", "requests that are being received use all of their budget"));
        };
        budget::merge(&mut self.share, share);
        let whole = self.cut.advance(&data, self.message_bytes_max)?;
        if whole > 0 {
            self.partial.cost = 0;
            self.whole.append(&mut self.partial.frames);
            self.whole.push_back(data.split_to(whole));
        }
        if !data.is_empty() {
            self.partial.push(data);
        }
        if let Some(held) = &self.streaming {
            if whole > 0 {
                let share = self.share.as_mut().expect("it was taken above");
                let passed_on = share.bytes().saturating_sub(self.partial.cost);
                held.add(share.split(passed_on));
            }
            if self.cut.is_between_messages() {
                self.started = None;
            } else if whole > 0 || self.started.is_none() {
                self.started = Some(Instant::now());
                self.alarm = None;
            }
        }
        Ok(())
    }

    /// Waits until the budget has room for a frame: a stream is pushed back by HTTP/2 flow control, not refused.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let bytes = self.frame_bytes_max + 2 * FRAME_OVERHEAD_BYTES;
        if self.streaming.is_none() || (self.room.is_none() && self.budget.available() >= bytes) {
            return Poll::Ready(());
        }
        let budget = self.budget.clone();
        let room = self.room.get_or_insert_with(|| Box::pin(async move { budget.take(bytes).await }));
        drop(ready!(room.as_mut().poll(cx)));
        self.room = None;
        Poll::Ready(())
    }

    /// Nothing has come: is it too late for the message that is due?
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        let Some(started) = self.started else { return Poll::Pending };
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(started + self.timeout)));
        ready!(alarm.as_mut().poll(cx));
        let message = format!("a request must arrive within {} ms", self.timeout.as_millis());
        Poll::Ready(status::exhausted("bodies", message))
    }

    /// The shares of messages that tonic has, for the handler of a stream: it takes what there is for each round, and
    /// drops that when the round is over. `None` for other calls.
    pub(crate) fn held(&self) -> Option<&Held> {
        self.streaming.as_ref()
    }

    fn end(&self) -> Result<(), Status> {
        if self.cut.is_between_messages() {
            return Ok(());
        }
        Err(status::invalid("message", "the request ends in the middle of a message"))
    }
}

impl http_body::Body for LimitedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            if let Some(frame) = self.whole.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(frame))));
            }
            ready!(self.poll_room(cx));
            let Poll::Ready(frame) = http_body::Body::poll_frame(Pin::new(&mut self.inner), cx) else {
                return self.poll_late(cx).map(|status| Some(Err(status)));
            };
            match frame.transpose()?.map(Frame::into_data) {
                Some(Ok(data)) => self.receive(data)?,
                Some(Err(rest)) => {
                    self.end()?;
                    return Poll::Ready(Some(Ok(rest)));
                }
                None => return Poll::Ready(self.end().err().map(Err)),
            }
        }
    }
}

#[cfg(test)]
mod tests;
