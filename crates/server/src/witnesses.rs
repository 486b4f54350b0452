//! Drives the state machine of `logwood_sequencer::witnessing`: one task for each log that has witnesses.
//!
//! ```text
//!                 Offer                          POST add-checkpoint
//!   publisher ───────────> task of the log ─────────────────────────> witnesses, all at once
//!       ^                    │  │    ^                                   │
//!       └─ Asked, Cosigned ──┘  │    └────── cosignatures, 409, 422 ─────┘
//!                               └─ Guard: whether the log may sign
//! ```
//!
//! The task begins with the log's last published head, before anything is signed ([`guard`]), and lives as long as the
//! process. It holds back nothing: rounds are signed and acknowledged without it.

mod guard;
mod options;
mod sender;
mod task;

use std::collections::HashMap;
use std::sync::Arc;

use logwood_note::policy::PolicyWitness;
use logwood_note::{Policy, SignedNote};
use logwood_proto::v1::WitnessStatus;
use logwood_sequencer::LogView;
use logwood_sequencer::publisher::note;
use logwood_sequencer::witnessing::{WitnessId, Witnessing};
use logwood_store::{HeadSignature, LogNumber, LogRecord, PublishedHead};
use parking_lot::Mutex;
use tokio::sync::mpsc;

pub(crate) use self::guard::{Guard, Verdict};
pub use self::options::{LogWitnesses, StartGuard, WitnessOptions, WitnessesError};
use self::sender::Sender;
use self::task::{Offer, Task};
use crate::publisher::ToPublisher;
use crate::writer::Shared;

/// All logs that have witnesses.
pub(crate) struct Witnesses {
    options: WitnessOptions,
    shared: Arc<Shared>,
    publisher: mpsc::Sender<ToPublisher>,
    sender: Sender,
    running: Mutex<HashMap<LogNumber, Arc<Watched>>>,
}

/// One log that has witnesses.
pub(crate) struct Watched {
    pub(crate) policy: Arc<Policy>,
    pub(crate) guard: Arc<Guard>,
    statuses: Arc<Mutex<Vec<WitnessStatus>>>,
    offers: mpsc::UnboundedSender<Offer>,
}

impl Witnesses {
    /// # Errors
    ///
    /// What keeps the process from asking over TLS, if it has to.
    pub(crate) fn new(
        options: WitnessOptions,
        shared: Arc<Shared>,
        publisher: mpsc::Sender<ToPublisher>,
    ) -> Result<Self, reqwest::Error> {
        let mut witnesses = options.logs.values().flat_map(|log| log.policy.witnesses());
        let needs_tls = witnesses.any(|witness| witness.url.as_ref().is_some_and(|url| url.starts_with(b"https")));
        let sender = Sender::new(needs_tls)?;
        Ok(Self { options, shared, publisher, sender, running: Mutex::default() })
    }

    /// The policy of the log of this name, if it has witnesses.
    pub(crate) fn policy(&self, log: &str) -> Option<&Policy> {
        self.options.logs.get(log).map(|witnesses| &*witnesses.policy)
    }

    /// The witnesses of a log that is being loaded. Its task starts with the first load of the process, by asking about
    /// the last published head.
    ///
    /// * `stored` - that head.
    /// * `view` - everything that storage holds of the log.
    pub(crate) fn watch(
        &self,
        record: &LogRecord,
        stored: Option<&PublishedHead>,
        view: &LogView,
    ) -> Option<Arc<Watched>> {
        let witnesses = self.options.logs.get(&record.settings.name)?;
        let (policy, start_guard) = (&witnesses.policy, witnesses.start_guard());
        let mut running = self.running.lock();
        if let Some(watched) = running.get(&record.number) {
            return Some(Arc::clone(watched));
        }
        // A log without a published head has nothing that a witness could know.
        let asks = stored.is_some() && start_guard != StartGuard::Off;
        let settings = |witness: &PolicyWitness| {
            let name = String::from_utf8_lossy(&witness.name);
            self.options.settings.get(&*name).copied().unwrap_or_default()
        };
        let machine = Witnessing::new(Policy::clone(policy), self.options.deadline_ms, settings);
        let status = |place| {
            let members = machine.members(WitnessId(place)).iter().map(|&member| &policy.witnesses()[member]);
            let names: Vec<_> = members.clone().map(|witness| String::from_utf8_lossy(&witness.name)).collect();
            let is_distrusted = members.map(settings).any(|settings| settings.is_distrusted);
            WitnessStatus { name: names.join("+"), is_distrusted, ..WitnessStatus::default() }
        };
        let statuses = (0..machine.urls().count()).map(status).collect();
        let (offers, offered) = mpsc::unbounded_channel();
        let watched = Arc::new(Watched {
            policy: Arc::clone(policy),
            guard: Arc::new(Guard::new(asks)),
            statuses: Arc::new(Mutex::new(statuses)),
            offers,
        });
        if let Some(stored) = stored {
            watched.offer(&record.settings.origin, stored, false);
        }
        let task = Task::new(self, record, (&watched, start_guard), machine, view.clone());
        tokio::spawn(task.run(offered));
        running.insert(record.number, Arc::clone(&watched));
        Some(watched)
    }
}

impl Watched {
    /// Offers a head to the witnesses.
    ///
    /// * `is_awaited` - the publisher waits for [`logwood_sequencer::publisher::Event::Asked`].
    pub(crate) fn offer(&self, origin: &str, head: &PublishedHead, is_awaited: bool) {
        let Some(checkpoint) = own_note(origin, head) else {
            return tracing::error!(origin, size = %head.head.size, "a head lacks the log's own signature");
        };
        // The task ends with the process.
        let _ = self.offers.send(Offer { head: head.head, checkpoint, is_awaited });
    }

    /// As [`is_quorum`], of the log's policy.
    pub(crate) fn is_quorum(&self, head: &PublishedHead) -> bool {
        is_quorum(&self.policy, head)
    }

    /// Who has not cosigned since the start, and why, for people.
    pub(crate) fn missing(&self) -> String {
        let statuses = self.statuses.lock();
        let missing = statuses.iter().filter(|witness| witness.cosigned_ms == 0).map(|witness| {
            let problem = if witness.problem.is_empty() { "has not answered yet" } else { &witness.problem };
            format!("{}: {problem}", witness.name)
        });
        missing.collect::<Vec<_>>().join("; ")
    }

    /// How each witness does.
    pub(crate) fn statuses(&self) -> Vec<WitnessStatus> {
        self.statuses.lock().clone()
    }
}

/// Whether the signatures of `head`, which were verified before they were stored, are a quorum.
pub(crate) fn is_quorum(policy: &Policy, head: &PublishedHead) -> bool {
    let keys = policy.witnesses();
    let has_line = |witness: usize| {
        let key = &keys[witness].key;
        head.signatures.iter().any(|line| line.key_id == key.id().0 && line.name == key.name())
    };
    policy.needs_witnesses() && policy.check_quorum(has_line).is_ok()
}

/// The checkpoint of `head` with the log's Ed25519 signature alone. `None` if it has none: the store is damaged.
///
/// The log's own cosignature (0x06) says at which time the log knew no larger head. It leaves the process only once it is
/// stored, so that no crash can let an earlier time be signed for a larger head
/// (`docs/adr/0008-cosignature-leaves-with-the-stored-head.md`).
fn own_note(origin: &str, head: &PublishedHead) -> Option<SignedNote> {
    let is_own = |line: &&HeadSignature| line.name == origin && !note::is_ml_dsa_cosignature(line);
    let signatures = head.signatures.iter().filter(is_own).cloned().collect();
    let own = PublishedHead { head: head.head, time_ms: head.time_ms, signatures };
    SignedNote::parse(&note::published_note(origin, &own).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use logwood_merkle::{Hash, TreeHead, TreeSize};

    use super::*;

    #[test]
    fn a_witness_is_shown_the_ed25519_signature_of_the_log_and_nothing_that_tells_the_time() {
        let line = |name: &str, key_id, length| {
            let signature = Bytes::from(vec![7; length]);
            HeadSignature { name: name.into(), key_id, signature }
        };
        let (own, ml_dsa) = (line("example.org/log", 1, 64), line("example.org/log", 2, 8 + 2_420));
        let signatures = vec![own, ml_dsa, line("example.org/witness", 3, 72)];
        let head = TreeHead { size: TreeSize(1), root: Hash::leaf(b"x") };
        let note = own_note("example.org/log", &PublishedHead { head, time_ms: 1, signatures }).expect("a note");
        assert_eq!(note.signatures().iter().map(|line| line.id.0).collect::<Vec<_>>(), [1]);
    }
}
