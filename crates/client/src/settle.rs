//! Settling: from promises to what everybody sees.
//!
//! A receipt under a signed head is a promise of the log, comparable to an SCT. It is settled once a *published* head
//! is shown to extend its head: one that is kept in the history and served to everybody. What is not settled stays in
//! the client's state, however the process ends. Source: Logwood's protocol, "Following a log".

use std::time::Duration;

use logwood_proto::v1;

use crate::client::Store;
use crate::retry::Attempts;
use crate::{Client, ClientError, VerifiedHead};

/// How long settling takes at most by default, `settle-within` in the protocol.
pub const SETTLE_WITHIN: Duration = Duration::from_secs(10);

/// How long after a head with too few cosignatures the stream is asked again: they may have come to it meanwhile.
const ASK_AGAIN: Duration = Duration::from_secs(1);

impl Client {
    /// How many heads a published head has still to be shown to extend, those that other processes left included as of
    /// the last look at the client's state. One can stand for any number of receipts.
    #[must_use]
    pub fn unsettled(&self) -> usize {
        self.with_memory(|memory| memory.unsettled().len())
    }

    /// Waits for a published head at least as large as those of all receipts, and shows that it extends them.
    ///
    /// * `level` - [`v1::HeadLevel::Published`], or [`v1::HeadLevel::Witnessed`] for one that satisfies the policy. A
    ///   policy with a quorum asks for the latter in any case.
    /// * `within` - how long to wait for it, [`SETTLE_WITHIN`] by default.
    ///
    /// The published head; `None` if nothing was unsettled.
    ///
    /// # Errors
    ///
    /// * [`ClientError::Verification`] if a head at least as large fails to extend a receipt's.
    /// * [`ClientError::NotSettled`] if there is none in time, for whatever reason.
    /// * [`ClientError::BadOption`] if a witnessed head is asked for and no policy says what that is.
    /// * [`ClientError::Rejected`] with [`logwood_proto::Reason::NoWitnesses`] if the log has none.
    /// * [`ClientError::State`].
    pub async fn settle(&self, level: v1::HeadLevel, within: Duration) -> Result<Option<VerifiedHead>, ClientError> {
        self.check_request(level)?;
        let level = level.max(self.least_level()).max(v1::HeadLevel::Published);
        let mut attempts = Attempts::new(self.timing(), within);
        self.remember(Store::Now).await?;
        loop {
            let unsettled = self.with_memory(|memory| memory.unsettled().to_vec());
            let Some(largest) = unsettled.iter().max_by_key(|head| head.head.size) else {
                return Ok(None);
            };
            match self.settle_once(level, largest, &unsettled, attempts.left()).await {
                Ok(published) => {
                    self.remember(Store::Now).await?;
                    return Ok(Some(published));
                }
                Err(error @ ClientError::Rejected { code: tonic::Code::FailedPrecondition, .. }) => return Err(error),
                Err(error) if error.is_tampering() => return Err(error),
                Err(error) => attempts.pause(error).await.map_err(|error| match error {
                    error @ ClientError::NotSettled { .. } => error,
                    error => ClientError::NotSettled { why: error.to_string() },
                })?,
            }
        }
    }

    /// Waits for a head that covers `largest`, and shows that it extends all the `unsettled`.
    async fn settle_once(
        &self,
        level: v1::HeadLevel,
        largest: &VerifiedHead,
        unsettled: &[VerifiedHead],
        within: Duration,
    ) -> Result<VerifiedHead, ClientError> {
        let late = self.timing().sleep(within);
        let published = tokio::select! {
            published = self.first_published(level, largest) => published?,
            () = late => {
                let size = largest.head.size;
                let why = format!("no published head of at least {size} entries came within {} s", within.as_secs());
                return Err(ClientError::NotSettled { why });
            }
        };
        for head in unsettled {
            self.one_history(head, &published).await?;
            self.with_memory(|memory| memory.settled(head));
        }
        self.join(&published).await?;
        Ok(published)
    }

    /// The first head of the published history that is at least as large as `largest` and has reached `level`.
    async fn first_published(&self, level: v1::HeadLevel, largest: &VerifiedHead) -> Result<VerifiedHead, ClientError> {
        let request = v1::WatchTreeHeadsRequest {
            log: self.log(),
            from_size: largest.head.size.0,
            known_size: 0,
            level: level.into(),
        };
        let answer = self.rpc().watch_tree_heads(request).await.map_err(|status| self.status(&status))?;
        let mut heads = answer.into_inner();
        let mut is_short = false;
        loop {
            let message = tokio::select! {
                message = heads.message() => message,
                () = self.timing().sleep(ASK_AGAIN), if is_short => {
                    let why = "the newest published head lacks cosignatures that the policy asks for".to_owned();
                    return Err(ClientError::NotSettled { why });
                }
            };
            let Some(message) = message.map_err(|status| self.status(&status))? else { break };
            let head = self.signed_head(message.head, None, None)?;
            self.require_level(&head, v1::HeadLevel::Published)?;
            // A smaller one was not asked for, and proves nothing.
            if head.head.size >= largest.head.size && head.level >= level {
                return Ok(head);
            }
            // A larger head may have the cosignatures, or this one when it is asked for again: a stream tells each once.
            is_short |= head.head.size >= largest.head.size;
        }
        let message = "it ended a stream of heads, which has no end".to_owned();
        Err(ClientError::Unreachable { server: self.server().to_owned(), message })
    }
}
