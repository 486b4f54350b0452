//! What every call is measured against: the limits, the budget of answers, the disk's reserve, and whether the server
//! is stopping.

use std::sync::Arc;

use prost::Message;
use tokio::sync::watch;
use tonic::{Response, Status};

use crate::budget::{Budget, Held, Share};
use crate::core::stopping;
use crate::disk::DiskReserve;
use crate::limits::Limits;
use crate::status;

/// The bounds of the process.
pub(crate) struct Bounds {
    pub(crate) limits: Limits,
    pub(crate) disk: Arc<DiskReserve>,
    answers: Budget,
    stopped: watch::Receiver<bool>,
}

impl Bounds {
    pub(crate) fn new(limits: Limits, disk: Arc<DiskReserve>, stopped: watch::Receiver<bool>) -> Self {
        Self { limits, disk, answers: Budget::new(limits.answers_bytes()), stopped }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopped.borrow()
    }

    /// Resolves when the server begins to stop, to what an endless call is then told.
    pub(crate) async fn stopping(&self) -> Status {
        // An error means that whoever could tell has gone: it is all over.
        let _ = self.stopped.clone().wait_for(|&stopped| stopped).await;
        stopping()
    }

    /// Room for a page that is about to be made, or a refusal.
    pub(crate) fn page(&self) -> Result<Share, Status> {
        self.room(self.limits.answer_bytes())
    }

    fn room(&self, bytes: usize) -> Result<Share, Status> {
        let room = self.answers.try_take(bytes);
        room.ok_or_else(|| status::exhausted("answers", "answers that are being sent use all of their budget"))
    }

    /// Counts a small answer, or refuses it.
    pub(crate) fn answer<T: Message>(&self, answer: T) -> Result<Response<T>, Status> {
        let room = self.room(answer.encoded_len())?;
        Ok(counted(answer, room))
    }

    /// Room for one message of a stream, when there is some.
    pub(crate) async fn stream_answer(&self) -> Share {
        self.answers.take(self.limits.stream_answer_bytes()).await
    }

    /// Counts an answer that must be given, when there is room for it.
    pub(crate) async fn must_answer<T: Message>(&self, answer: T) -> Response<T> {
        let bytes = answer.encoded_len().min(self.limits.answer_bytes());
        counted(answer, self.answers.take(bytes).await)
    }
}

/// An answer with the room that was taken for it, or as much of that as it needs.
pub(crate) fn counted<T: Message>(answer: T, mut room: Share) -> Response<T> {
    room.keep(answer.encoded_len());
    let held = Held::default();
    held.add(room);
    let mut response = Response::new(answer);
    response.extensions_mut().insert(held);
    response
}
