//! Many entries, in order: each message is verified before it is passed on, so memory stays small however long the range.

use std::time::Instant;

use bytes::Bytes;
use futures_util::FutureExt as _;
use logwood_merkle::{Hash, LeafIndex, RangeProof};
use logwood_proto::{range_proof, v1};
use tonic::Streaming;

use crate::channel::ANSWER_TIMEOUT;
use crate::client::{Store, size_of};
use crate::verify::run;
use crate::{Client, ClientError, VerifiedHead};

/// Where reading ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Before this index.
    Index(u64),
    /// At the latest head there is when reading begins, or a later one.
    Head,
    /// Nowhere: new entries follow as they come.
    Forever,
}

/// Contiguous entries under one head. At most 256 KiB.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Index of the first.
    pub first: LeafIndex,
    /// In order of index, at least one.
    pub entries: Vec<Bytes>,
    /// The head that they were shown to be under.
    pub head: VerifiedHead,
}

/// Reads entries in order. From [`Client::entries`].
#[derive(Debug)]
pub struct Entries {
    client: Client,
    next: u64,
    until: Until,
    /// What must be reached before a stream may end; known once reading has begun.
    goal: Option<u64>,
    known: Option<VerifiedHead>,
    /// When it was opened, and the stream.
    stream: Option<(Instant, Streaming<v1::ReadEntriesResponse>)>,
}

impl Client {
    /// The entries from index `first` on.
    #[must_use]
    pub fn entries(&self, first: LeafIndex, until: Until) -> Entries {
        Entries { client: self.clone(), next: first.0, until, goal: None, known: None, stream: None }
    }

    /// Calls `each` for the entries `first..end` in order, each verified before it is passed on.
    ///
    /// * `end` - one past the last; 0 for the head.
    ///
    /// # Errors
    ///
    /// As [`Entries::next`].
    pub async fn read_range(
        &self,
        first: u64,
        end: u64,
        mut each: impl FnMut(LeafIndex, Bytes),
    ) -> Result<(), ClientError> {
        if end != 0 && first >= end {
            return Ok(());
        }
        let until = if end == 0 { Until::Head } else { Until::Index(end) };
        let mut entries = self.entries(LeafIndex(first), until);
        while let Some(chunk) = entries.next().await? {
            (chunk.first.0..).map(LeafIndex).zip(chunk.entries).for_each(|(index, entry)| each(index, entry));
        }
        Ok(())
    }

    /// The range proof of the entries from index `first` on, whose leaf hashes the caller has, and the head it leads to.
    ///
    /// * `leaves` - not empty. Without them a range proof cannot be judged.
    /// * `level` - what the head must have reached at least.
    ///
    /// # Errors
    ///
    /// * [`ClientError::Verification`] if the proof does not lead from these leaves to the head.
    /// * [`ClientError::Rejected`] if the range is beyond the head.
    /// * [`ClientError::BadOption`] if a witnessed head is asked for and no policy says what that is.
    /// * [`ClientError::Behind`], [`ClientError::Unreachable`] and [`ClientError::State`].
    pub async fn range_proof(
        &self,
        first: LeafIndex,
        leaves: &[Hash],
        level: v1::HeadLevel,
    ) -> Result<(RangeProof, VerifiedHead), ClientError> {
        // The proof to a head of some level leads to its tree, and the latest head may be larger.
        let target = if level <= v1::HeadLevel::Signed { None } else { Some(self.head_of_level(level).await?) };
        let end_index = first.0.saturating_add(leaves.len() as u64);
        if let Some(head) = target.as_ref().filter(|head| head.head.size.0 < end_index) {
            return Err(beyond(head));
        }
        let known = self.remembered();
        let request = v1::GetRangeProofRequest {
            log: self.log(),
            first_index: first.0,
            end_index,
            size: size_of(target.as_ref()),
            known_size: size_of(known.as_ref()),
        };
        let answer = self.retrying(|mut rpc| {
            let request = request.clone();
            async move { rpc.get_range_proof(request).await }
        });
        let v1::GetRangeProofResponse { range_proof, head, .. } = match answer.await {
            Ok(answer) => answer,
            Err(error) => return Err(self.judge_refusal(error, known.as_ref()).await),
        };
        let latest = self.accept(head, known.as_ref(), (false, Store::Now)).await?;
        let head = target.unwrap_or(latest);
        let proof = required_range(range_proof.as_ref())?;
        run(first, leaves, &head.head, &proof)?;
        Ok((proof, head))
    }
}

/// A head of the level that was asked for does not cover the range yet.
fn beyond(head: &VerifiedHead) -> ClientError {
    let (size, level) = (head.head.size.0, head.level.as_str_name());
    ClientError::Rejected {
        code: tonic::Code::OutOfRange,
        reason: Some(logwood_proto::Reason::BeyondHead.as_str().to_owned()),
        size: Some(size),
        retry_after: None,
        message: format!(
            "the log's latest head of level {level} has size {size}, so the range is beyond it; ask again"
        ),
    }
}

impl Entries {
    /// The next entries; `None` at the end. A broken stream is opened again where it broke. May be cancelled: no entry
    /// is lost.
    ///
    /// # Errors
    ///
    /// * [`ClientError::Verification`] if a head or an entry does not verify, or entries are missing. What was given out
    ///   before was verified.
    /// * [`ClientError::Rejected`] if the range is beyond the head.
    /// * [`ClientError::Behind`] and [`ClientError::State`]; [`ClientError::Unreachable`] once that has lasted for
    ///   [`crate::ClientOptions::retry_within`].
    pub async fn next(&mut self) -> Result<Option<Chunk>, ClientError> {
        let client = self.client.clone();
        if self.goal.is_none() {
            // A server that sends nothing, in order, must not pass for one that has nothing.
            self.goal = Some(match self.until {
                Until::Index(end) => end,
                Until::Head => client.head().await?.head.size.0,
                Until::Forever => u64::MAX,
            });
        }
        let goal = self.goal.unwrap_or(u64::MAX);
        let mut attempts = client.attempts();
        loop {
            if self.next >= goal && self.stream.is_none() {
                return Ok(None);
            }
            match self.message().await {
                Ok(Some(message)) => return self.check(message).await.map(Some),
                Ok(None) if self.next >= goal => self.stream = None,
                Ok(None) if self.until == Until::Forever => {
                    self.stream = None;
                    let message = "it ended a stream that follows the log".to_owned();
                    attempts.pause(ClientError::Unreachable { server: client.server().to_owned(), message }).await?;
                }
                Ok(None) => {
                    let what = format!("the server ended the entries at {}, before {goal}", self.next);
                    return Err(ClientError::failed(what));
                }
                Err(error) => {
                    attempts.lived(self.stream.take().map(|(opened, _)| opened));
                    let error = client.judge_refusal(error, self.known.as_ref()).await;
                    attempts.pause(error).await?;
                }
            }
        }
    }

    /// The next message of the stream, which is opened if need be.
    async fn message(&mut self) -> Result<Option<v1::ReadEntriesResponse>, ClientError> {
        let client = &self.client;
        let (_, stream) = if let Some(stream) = &mut self.stream {
            stream
        } else {
            self.known = client.remembered();
            let request = v1::ReadEntriesRequest {
                log: client.log(),
                first_index: self.next,
                end_index: if let Until::Index(end) = self.until { end } else { 0 },
                follow: self.until == Until::Forever,
                known_size: size_of(self.known.as_ref()),
            };
            let answer = client.rpc().read_entries(request).await;
            let stream = answer.map_err(|status| client.status(&status))?.into_inner();
            self.stream.insert((client.timing().now(), stream))
        };
        let message = stream.message().map(|answer| answer.map_err(|status| client.status(&status)));
        if self.until == Until::Forever {
            // Who follows a log may have nothing to hear for long.
            return message.await;
        }
        tokio::select! {
            biased;
            message = message => message,
            () = client.timing().sleep(ANSWER_TIMEOUT) => Err(ClientError::Unreachable {
                server: client.server().to_owned(),
                message: "no answer to a read of entries".to_owned(),
            }),
        }
    }

    async fn check(&mut self, message: v1::ReadEntriesResponse) -> Result<Chunk, ClientError> {
        let v1::ReadEntriesResponse { first_index, entries, head, range_proof } = message;
        // If this is cancelled, the stream is opened anew: its messages refer to each other.
        let stream = self.stream.take();
        // In a stream each head is proved from the one before it.
        let head = self.client.accept(head, self.known.as_ref(), (false, Store::Soon)).await?;
        let next = self.next;
        let is_too_long = matches!(self.until, Until::Index(end) if entries.len() as u64 > end - next);
        if first_index != next || entries.is_empty() || is_too_long {
            return Err(ClientError::failed(format!("entries from {next} on were due, the server sent others")));
        }
        let leaves: Vec<_> = entries.iter().map(|entry| Hash::leaf(entry)).collect();
        run(LeafIndex(next), &leaves, &head.head, &required_range(range_proof.as_ref())?)?;
        self.next += entries.len() as u64;
        if self.until == Until::Head {
            self.goal = self.goal.max(Some(head.head.size.0));
        }
        self.known = Some(head.clone());
        self.stream = stream;
        Ok(Chunk { first: LeafIndex(next), entries, head })
    }
}

pub(crate) fn required_range(message: Option<&v1::RangeProof>) -> Result<RangeProof, ClientError> {
    let missing = || ClientError::failed("the answer holds no range proof");
    Ok(range_proof(message.ok_or_else(missing)?)?)
}
