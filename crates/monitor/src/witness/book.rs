//! What is cosigned for one log: decide, persist, answer, as one critical section.

use bytes::Bytes;
use logwood_merkle::{Hash, ProofError, TreeHead, TreeSize, verify};
use logwood_note::{CosigningKey, origin_path};
use parking_lot::{Mutex, RwLock};

use super::Refusal;
use super::disk::{Disk, replace};
use super::rate::Rate;
use super::record::{Record, RecordError};

/// A request whose checkpoint the log signed.
pub(super) struct Verified {
    pub(super) old_size: TreeSize,
    pub(super) proof: Vec<Hash>,
    pub(super) head: TreeHead,
    /// The note's text.
    pub(super) text: String,
    /// The log's signature lines, each with its newline.
    pub(super) log_lines: String,
}

/// The book of one log.
pub(super) struct Book {
    /// Its file.
    name: String,
    page: Mutex<Page>,
    /// What everybody may read: never ahead of the disk. Apart from `page`, so that no reader waits for a sync.
    served: RwLock<Option<Bytes>>,
}

struct Page {
    last: Last,
    rate: Rate,
}

/// What was cosigned last.
enum Last {
    /// This, or nothing ever.
    Known(Option<Record>),
    /// A write has failed, or nothing was read yet: only the disk can tell.
    InDoubt,
}

/// What to do with a request.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    /// The same checkpoint within the same second: what is on disk is the answer.
    Repeat,
    /// Cosign it with this timestamp, in POSIX seconds.
    Cosign { seconds: u64 },
}

/// Why the last record is not known.
#[derive(Debug)]
pub(super) enum RecoverError {
    Disk(std::io::Error),
    Record(RecordError),
}

impl Book {
    pub(super) fn new(origin: &str) -> Self {
        let page = Page { last: Last::InDoubt, rate: Rate::default() };
        Self { name: origin_path(origin), page: Mutex::new(page), served: RwLock::new(None) }
    }

    /// The last cosigned checkpoint.
    pub(super) fn served(&self) -> Option<Bytes> {
        self.served.read().clone()
    }

    /// Reads the record and makes it durable anew, if it is in doubt.
    pub(super) fn recover(&self, disk: &impl Disk) -> Result<(), RecoverError> {
        self.recover_page(&mut self.page.lock(), disk)
    }

    fn recover_page(&self, page: &mut Page, disk: &impl Disk) -> Result<(), RecoverError> {
        if matches!(page.last, Last::Known(_)) {
            return Ok(());
        }
        let found = disk.read(&self.name).map_err(RecoverError::Disk)?;
        let record = found.map(|bytes| Record::parse(&bytes)).transpose().map_err(RecoverError::Record)?;
        if let Some(record) = &record {
            // After a failed sync, what can be read need not be on disk.
            replace(disk, &self.name, &record.to_bytes()).map_err(RecoverError::Disk)?;
        }
        *self.served.write() = record.as_ref().map(|record| record.note().clone());
        page.last = Last::Known(record);
        Ok(())
    }

    /// Cosigns what deserves it: steps 3 to 5 of the module above.
    pub(super) fn add(
        &self,
        request: &Verified,
        keys: &[CosigningKey],
        disk: &impl Disk,
        posix_ms: u64,
    ) -> Result<Bytes, Refusal> {
        let mut page = self.page.lock();
        self.recover_page(&mut page, disk).map_err(|error| {
            tracing::error!(file = self.name, ?error, "a record cannot be recovered");
            Refusal::Unavailable
        })?;
        let Last::Known(last) = &page.last else { return Err(Refusal::Unavailable) };
        let seconds = match decide(last.as_ref(), request, posix_ms / 1_000)? {
            Decision::Repeat => return Ok(last.as_ref().map(Record::cosignatures).unwrap_or_default()),
            Decision::Cosign { seconds } => seconds,
        };
        let is_new = last.as_ref().is_none_or(|last| last.text() != request.text.as_bytes());
        if is_new && !page.rate.admit(posix_ms) {
            return Err(Refusal::TooFast);
        }
        let record = cosign(request, keys, seconds)?;
        page.last = Last::InDoubt;
        replace(disk, &self.name, &record.to_bytes()).map_err(|error| {
            tracing::error!(file = self.name, %error, "a record cannot be written: nothing is cosigned for its log");
            Refusal::Unavailable
        })?;
        let cosignatures = record.cosignatures();
        *self.served.write() = Some(record.note().clone());
        page.last = Last::Known(Some(record));
        Ok(cosignatures)
    }
}

/// Whether the checkpoint extends the last one (C2SP tlog-witness, "add-checkpoint", in its order).
fn decide(last: Option<&Record>, request: &Verified, now_seconds: u64) -> Result<Decision, Refusal> {
    let Verified { old_size, proof, head, .. } = request;
    if *old_size > head.size {
        return Err(Refusal::OldSize { old: *old_size, new: head.size });
    }
    let old = last.map_or(TreeHead::empty(), Record::head);
    if *old_size != old.size {
        return Err(Refusal::Conflict { last: old.size });
    }
    if old_size.0 == 0 {
        // Every tree extends the empty one, and nothing proves it.
        if !proof.is_empty() {
            return Err(Refusal::ProofFromNothing);
        }
        if head.size.0 == 0 && *head != TreeHead::empty() {
            return Err(ProofError::RootMismatch { head: *head, computed: Hash::empty_root() }.into());
        }
    } else {
        verify::consistency(&old, head, proof)?;
    }
    // A time never goes back, and is never zero, which would make no claim (C2SP tlog-cosignature, "Format").
    let seconds = now_seconds.max(last.map_or(1, Record::seconds)).max(1);
    let is_repeat = last.is_some_and(|last| last.text() == request.text.as_bytes() && last.seconds() == seconds);
    Ok(if is_repeat { Decision::Repeat } else { Decision::Cosign { seconds } })
}

fn cosign(request: &Verified, keys: &[CosigningKey], seconds: u64) -> Result<Record, Refusal> {
    let mut lines = String::new();
    for key in keys {
        let line = key.cosign(&request.text, seconds).map_err(|error| {
            tracing::error!(%error, "nothing can be cosigned at this time");
            Refusal::Unavailable
        })?;
        lines.push_str(&line.to_string());
        lines.push('\n');
    }
    Ok(Record::new(request.head, seconds, &request.text, &request.log_lines, &lines))
}
