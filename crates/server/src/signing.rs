//! Whether a log that is being loaded may sign, as far as the disks and this process know.

use std::sync::Arc;

use logwood_merkle::TreeSize;
use logwood_proto::Reason;
use logwood_sequencer::LogView;
use logwood_store::{LogRecord, LogStore, PublishedHead};
use tonic::Status;

use crate::anchor::Anchored;
use crate::core::Core;
use crate::registry::{Published, Signer};
use crate::status;
use crate::witnesses::Watched;
use crate::writer::WriteError;

impl Core {
    /// The signer, if it may sign the head that storage holds: a round may have ended between the commit and the anchor.
    /// A log is in the anchor before its first signature; one that signed and is not there has lost its anchor.
    ///
    /// * `stored` - its newest published head.
    pub(super) fn anchored(
        &self,
        (record, stored): (&LogRecord, Option<&PublishedHead>),
        signer: Option<Signer>,
    ) -> Result<Option<Signer>, Status> {
        let (name, head, anchor) = (&record.settings.name, record.head.head, &self.shared.anchor);
        let is_new = head.size == TreeSize(0) && stored.is_none();
        if signer.is_some() && !is_new && anchor.head(name).is_none() {
            tracing::error!(
                log = name,
                "the anchor does not know a log that has signed heads: it is read-only until the anchor is back, or \
                 until `logwood logs thaw` has compared it with the checkpoints that others hold"
            );
            return Ok(None);
        }
        if signer.is_none() || !(is_new || self.shared.anchor_every_round) {
            return Ok(signer.filter(|_| !anchor.is_foreign()));
        }
        match anchor.append(&[(name.clone(), head)]) {
            Ok(Anchored::Yes) => Ok(signer),
            Ok(Anchored::Foreign) => Ok(None),
            Err(error) => {
                tracing::error!(log = name, %error, "the anchor cannot be written: the log is not signed");
                Err(status::write(WriteError::NotAnchored))
            }
        }
    }

    /// The log's signer, which remembers the largest head of the history, the anchor and this process.
    /// `None` without its key files.
    pub(super) fn signer(
        &self,
        record: &LogRecord,
        published: Option<&Published>,
        watched: Option<&Watched>,
    ) -> Result<Option<Signer>, Status> {
        let name = &record.settings.name;
        let keys = self.shared.registry.load_keys(name).map_err(|error| {
            tracing::error!(log = name, %error, "a log's key cannot be read");
            status::precondition(Reason::RollbackGuard, "the log's key cannot be read; it cannot sign")
        })?;
        // A log whose keys are not all there, or are others, is not signed for.
        let keys = keys.filter(|keys| keys.vkeys() == record.settings.vkeys);
        let guard = watched.map(|watched| Arc::clone(&watched.guard));
        let signer = keys.map(|keys| Signer::new(keys, guard));
        if let Some(signer) = &signer {
            let published = published.map(|published| published.head);
            let anchored = self.shared.anchor.head(name);
            let known = [published, anchored, self.shared.registry.last_signed(record.number)];
            known.into_iter().flatten().for_each(|head| signer.remember(head));
        }
        Ok(signer)
    }

    /// The signer, unless the stored tree does not begin with a head that is known to have been signed: a copy of the log
    /// that went its own way, however large it has become. A tree that is smaller than that head is for the signer to
    /// refuse.
    pub(crate) fn unless_forked(
        &self,
        store: &dyn LogStore,
        (record, view): (&LogRecord, &LogView),
        signer: Option<Signer>,
    ) -> Result<Option<Signer>, Status> {
        let Some(signer) = signer else { return Ok(None) };
        let name = &record.settings.name;
        let known = [self.shared.anchor.head(name), self.shared.registry.last_signed(record.number)];
        for signed in known.into_iter().flatten().filter(|signed| signed.size <= view.head().size) {
            let root = self.shared.nodes.root(store, (record.number, view), signed.size).map_err(status::read)?;
            if root != signed.root {
                tracing::error!(
                    log = name, size = %signed.size, %root, signed = %signed.root,
                    "the stored log has another history than the one it signed: it is read-only. Was a copy of the data \
                     directory restored that had gone its own way?"
                );
                return Ok(None);
            }
        }
        Ok(Some(signer))
    }
}
