//! Heads: the latest of a level, the history of published ones, and new ones as they come.
//!
//! Each head is shown to be consistent with the one before it in the answer, and with the largest head that this client
//! has verified. The latter costs a call of its own where an answer cannot hold the proof: a published head may be
//! smaller than a signed one that is known already. That the history is *complete* is the server's word: no proof says
//! which heads a log has published.

use std::collections::VecDeque;
use std::time::Instant;

use logwood_merkle::{Hash, TreeHead, TreeSize};
use logwood_proto::{PAGE_ENTRIES_MAX, hashes, v1};
use tonic::Streaming;

use crate::client::{Store, size_of};
use crate::verify::{consistency, same_tree};
use crate::{Client, ClientError, VerifiedHead};

/// Where the history of published heads starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadsFrom {
    /// At the first head of at least this size.
    Size(TreeSize),
    /// At the first head taken at or after this time: POSIX milliseconds by the log's own clock, which no signature
    /// covers.
    TimeMs(u64),
}

/// The published heads that the server keeps, oldest first, in pages. From [`Client::heads`].
#[derive(Debug)]
pub struct Heads {
    client: Client,
    from: Option<HeadsFrom>,
    previous: Option<VerifiedHead>,
}

/// Published heads as they come, after those that are there. From [`Client::watch_heads`].
#[derive(Debug)]
pub struct HeadWatch {
    client: Client,
    level: v1::HeadLevel,
    from: TreeSize,
    history: Option<Heads>,
    ready: VecDeque<VerifiedHead>,
    /// Not yet tied to what is known.
    arrived: Option<VerifiedHead>,
    previous: Option<VerifiedHead>,
    /// When it was opened, and the stream.
    stream: Option<(Instant, Streaming<v1::WatchTreeHeadsResponse>)>,
}

impl Client {
    /// The log's latest head, verified and remembered.
    ///
    /// # Errors
    ///
    /// * [`ClientError::Verification`] if it is not signed by the key, or does not extend the remembered head.
    /// * [`ClientError::Behind`] if it is smaller than the remembered head, which by itself proves nothing.
    /// * [`ClientError::Rejected`], [`ClientError::Unreachable`] and [`ClientError::State`].
    pub async fn head(&self) -> Result<VerifiedHead, ClientError> {
        let known = self.remembered();
        let answer = self.tree_head(v1::HeadLevel::Unspecified, size_of(known.as_ref())).await;
        match answer {
            Ok(message) => self.accept(message, known.as_ref(), (false, Store::Now)).await,
            Err(error) => Err(self.judge_refusal(error, known.as_ref()).await),
        }
    }

    /// The latest head of `level`, verified to be of one history with the remembered head.
    ///
    /// # Errors
    ///
    /// As [`Client::head`], [`ClientError::Verification`] also if a witnessed head does not satisfy the policy;
    /// [`ClientError::BadOption`] if one is asked for and no policy says what that is, and [`ClientError::Rejected`] with
    /// [`logwood_proto::Reason::NoWitnesses`] if the log has no witnesses.
    pub async fn head_of_level(&self, level: v1::HeadLevel) -> Result<VerifiedHead, ClientError> {
        if level <= v1::HeadLevel::Signed {
            return self.head().await;
        }
        self.check_request(level)?;
        // The size of the remembered head may be beyond any published one.
        let head = self.signed_head(self.tree_head(level, 0).await?, None, None)?;
        self.require_level(&head, level)?;
        self.join(&head).await?;
        self.remember(Store::Now).await?;
        Ok(head)
    }

    /// The published heads that the server keeps, oldest first.
    #[must_use]
    pub fn heads(&self, from: HeadsFrom) -> Heads {
        Heads { client: self.clone(), from: Some(from), previous: None }
    }

    /// Every published head of at least `from` entries, then new ones as they are published.
    ///
    /// * `level` - [`v1::HeadLevel::Published`] or [`v1::HeadLevel::Witnessed`].
    #[must_use]
    pub fn watch_heads(&self, from: TreeSize, level: v1::HeadLevel) -> HeadWatch {
        let history = Some(self.heads(HeadsFrom::Size(from)));
        let (client, ready) = (self.clone(), VecDeque::new());
        HeadWatch { client, level, from, history, ready, arrived: None, previous: None, stream: None }
    }

    /// What is behind a refusal to a call that named the size of `known`: if the server's head is smaller than that,
    /// what it signs now is looked at.
    pub(crate) async fn judge_refusal(&self, error: ClientError, known: Option<&VerifiedHead>) -> ClientError {
        let Some(known) = known.filter(|known| error.beyond_head().is_some_and(|size| size < known.head.size.0)) else {
            return error;
        };
        let smaller = match self.tree_head(v1::HeadLevel::Unspecified, 0).await {
            Ok(message) => self.signed_head(message, None, None),
            Err(error) => Err(error),
        };
        let judged = smaller.and_then(|smaller| same_tree(known, &smaller).map(|()| smaller));
        match judged {
            Ok(smaller) if smaller.head.size < known.head.size => {
                ClientError::Behind { size: smaller.head.size.0, known_size: known.head.size.0 }
            }
            // It has caught up since.
            Ok(_) => error,
            Err(error) => error,
        }
    }

    async fn tree_head(
        &self,
        level: v1::HeadLevel,
        known_size: u64,
    ) -> Result<Option<v1::SignedTreeHead>, ClientError> {
        let request = v1::GetTreeHeadRequest { log: self.log(), level: level.into(), known_size };
        let answer = self.retrying(|mut rpc| {
            let request = request.clone();
            async move { rpc.get_tree_head(request).await }
        });
        Ok(answer.await?.head)
    }

    /// The consistency proof (RFC 6962 §2.1.2) that `newer` extends `older`, verified. Empty if the sizes are equal, or
    /// `older` is the empty tree.
    ///
    /// Both heads are ones whose signatures the caller has checked: those of receipts and checkpoints.
    ///
    /// # Errors
    ///
    /// * [`ClientError::Verification`] if `newer` is not shown to extend `older`.
    /// * [`ClientError::BadOption`] if `newer` is the smaller one.
    /// * [`ClientError::Rejected`] if a size is beyond the server's head, and [`ClientError::Unreachable`].
    pub async fn consistency_of(&self, older: &TreeHead, newer: &TreeHead) -> Result<Vec<Hash>, ClientError> {
        let (old_size, new_size) = (older.size.0, newer.size.0);
        if old_size > new_size {
            let message = format!("size {old_size} comes after size {new_size}");
            return Err(ClientError::BadOption { option: "older", message });
        }
        if old_size == 0 {
            // Every log extends the empty tree.
            return Ok(Vec::new());
        }
        let mut proof = Vec::new();
        if old_size < new_size {
            let request = v1::GetConsistencyProofRequest { log: self.log(), old_size, new_size };
            let answer = self.retrying(|mut rpc| {
                let request = request.clone();
                async move { rpc.get_consistency_proof(request).await }
            });
            proof = hashes("consistency", &answer.await?.consistency)?;
        }
        consistency(older, newer, &proof)?;
        Ok(proof)
    }

    /// Shows, by a call of its own, that of two verified heads the larger extends the smaller.
    pub(crate) async fn one_history(&self, one: &VerifiedHead, other: &VerifiedHead) -> Result<(), ClientError> {
        same_tree(one, other)?;
        let (older, newer) = if one.head.size <= other.head.size { (one, other) } else { (other, one) };
        self.consistency_of(&older.head, &newer.head).await.map(drop)
    }

    /// Shows that `head` and the remembered head are of one history, and remembers the larger.
    pub(crate) async fn join(&self, head: &VerifiedHead) -> Result<(), ClientError> {
        let latest = self.remembered();
        if let Some(latest) = &latest {
            self.one_history(latest, head).await?;
        }
        self.joined(latest.as_ref(), head)
    }
}

/// Checks `message`, which follows `previous` in a list or stream of published heads.
fn follows(
    client: &Client,
    message: Option<v1::SignedTreeHead>,
    previous: Option<&VerifiedHead>,
    from: Option<TreeSize>,
) -> Result<VerifiedHead, ClientError> {
    let out_of_order = |size| ClientError::failed(format!("a head of size {size} is out of order"));
    let head = client.signed_head(message, previous, None).map_err(|error| match error {
        ClientError::Behind { size, .. } => out_of_order(size),
        error => error,
    })?;
    let is_due = previous.is_none_or(|previous| previous.head.size < head.head.size)
        && from.is_none_or(|from| from <= head.head.size);
    if !is_due {
        return Err(out_of_order(head.head.size.0));
    }
    Ok(head)
}

impl Heads {
    /// The next page, at most 1,000 heads; empty at the end.
    ///
    /// # Errors
    ///
    /// * [`ClientError::Verification`] if one of them is not signed by the key, does not extend the one before, or is
    ///   not of one history with the remembered head.
    /// * [`ClientError::Rejected`], [`ClientError::Unreachable`] and [`ClientError::State`].
    pub async fn next_page(&mut self) -> Result<Vec<VerifiedHead>, ClientError> {
        // A page may hold nothing of what is asked for, and still not be the last: if the log shows witnessed heads only.
        while let Some(from) = self.from {
            let page = self.page(from).await?;
            if !page.is_empty() {
                return Ok(page);
            }
        }
        Ok(Vec::new())
    }

    async fn page(&mut self, from: HeadsFrom) -> Result<Vec<VerifiedHead>, ClientError> {
        let (start, size_min) = match from {
            HeadsFrom::Size(size) => (v1::list_tree_heads_request::Start::FromSize(size.0), Some(size)),
            HeadsFrom::TimeMs(time) => (v1::list_tree_heads_request::Start::FromTimeMs(time), None),
        };
        let request = v1::ListTreeHeadsRequest {
            log: self.client.log(),
            start: Some(start),
            page_size: 0,
            known_size: size_of(self.previous.as_ref()),
        };
        let answer = self.client.retrying(|mut rpc| {
            let request = request.clone();
            async move { rpc.list_tree_heads(request).await }
        });
        let v1::ListTreeHeadsResponse { heads, next_size } = answer.await?;
        if heads.len() > PAGE_ENTRIES_MAX {
            return Err(ClientError::failed(format!("a page has at most {PAGE_ENTRIES_MAX} heads")));
        }
        let mut page: Vec<VerifiedHead> = Vec::with_capacity(heads.len());
        for message in heads {
            let previous = page.last().or(self.previous.as_ref());
            page.push(follows(&self.client, Some(message), previous, size_min)?);
        }
        let end = page.last().map(|head| head.head.size.0).or(size_min.map(|size| size.0));
        if next_size.is_some_and(|next| end.is_some_and(|end| next <= end)) {
            return Err(ClientError::failed("the next page of heads does not begin after this one"));
        }
        self.from = next_size.map(|size| HeadsFrom::Size(TreeSize(size)));
        if let Some(last) = page.last() {
            // Each head extends those before it, so one check ties all of them to what is known.
            self.client.join(last).await?;
            self.client.remember(Store::Soon).await?;
            self.previous = Some(last.clone());
        }
        Ok(page)
    }
}

impl HeadWatch {
    /// The next head. A broken stream is opened again where it broke; a head is given out once.
    ///
    /// May be cancelled: no head is lost.
    ///
    /// # Errors
    ///
    /// As [`Heads::next_page`]; [`ClientError::BadOption`] if witnessed heads are asked for and no policy says what they
    /// are. Transient errors only once they have lasted for [`crate::ClientOptions::retry_within`].
    pub async fn next(&mut self) -> Result<VerifiedHead, ClientError> {
        let client = self.client.clone();
        client.check_request(self.level)?;
        let mut attempts = client.attempts();
        loop {
            if let Some(head) = self.ready.pop_front() {
                return Ok(head);
            }
            if let Some(history) = &mut self.history {
                let page = history.next_page().await?;
                if page.is_empty() {
                    self.history = None;
                }
                self.previous = page.last().cloned().or(self.previous.take());
                self.ready.extend(page.into_iter().filter(|head| head.level >= self.level));
                continue;
            }
            if let Some(head) = &self.arrived {
                self.client.join(head).await?;
                self.client.remember(Store::Soon).await?;
                self.ready.extend(self.arrived.take());
                continue;
            }
            match self.message().await {
                Ok(message) => {
                    let least = self.previous.is_none().then_some(self.from);
                    let head = follows(&self.client, message.head, self.previous.as_ref(), least)?;
                    self.client.require_level(&head, v1::HeadLevel::Published)?;
                    self.previous = Some(head.clone());
                    self.arrived = Some(head).filter(|head| head.level >= self.level);
                }
                Err(error) => {
                    let opened = self.stream.take().map(|(opened, _)| opened);
                    attempts.lived(opened);
                    attempts.pause(error).await?;
                }
            }
        }
    }

    /// The next message of the stream, which is opened if need be.
    async fn message(&mut self) -> Result<v1::WatchTreeHeadsResponse, ClientError> {
        let client = &self.client;
        let (_, stream) = if let Some(stream) = &mut self.stream {
            stream
        } else {
            let from_size = self.previous.as_ref().map_or(self.from.0, |previous| previous.head.size.0 + 1);
            let known_size = size_of(self.previous.as_ref());
            let (log, level) = (client.log(), self.level.into());
            let request = v1::WatchTreeHeadsRequest { log, from_size, known_size, level };
            let answer = client.rpc().watch_tree_heads(request).await;
            let stream = answer.map_err(|status| client.status(&status))?.into_inner();
            self.stream.insert((client.timing().now(), stream))
        };
        let ended = || ClientError::Unreachable {
            server: client.server().to_owned(),
            message: "it ended a stream of heads, which has no end".to_owned(),
        };
        stream.message().await.map_err(|status| client.status(&status))?.ok_or_else(ended)
    }
}
