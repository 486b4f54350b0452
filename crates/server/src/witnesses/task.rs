//! One log and its witnesses: does what the state machine asks for and tells it how that went.

use std::sync::Arc;
use std::time::Duration;

use logwood_merkle::{Hash, TreeHead, TreeSize};
use logwood_note::{Policy, SignedNote};
use logwood_proto::v1::WitnessStatus;
use logwood_sequencer::LogView;
use logwood_sequencer::publisher::{self, note};
use logwood_sequencer::witnessing::{Action, Behind, Event, Problem, WitnessId, Witnessing};
use logwood_store::{HeadSignature, LogNumber, LogRecord, LogSettings};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::guard::Guard;
use super::options::endpoint;
use super::sender::Sender;
use super::{StartGuard, Watched, Witnesses};
use crate::clock::now_ms;
use crate::publisher::ToPublisher;
use crate::writer::Shared;

/// A head for the witnesses.
pub(super) struct Offer {
    pub(super) head: TreeHead,
    /// With the log's signatures.
    pub(super) checkpoint: SignedNote,
    /// The publisher waits for the outcome.
    pub(super) is_awaited: bool,
}

/// What came of asking a witness.
struct Done {
    witness: WitnessId,
    what: What,
}

enum What {
    Proved(Option<(TreeHead, Vec<Hash>)>),
    Answered(Result<(u16, Vec<u8>), String>, Duration),
}

/// Asks the witnesses of one log.
pub(super) struct Task {
    number: LogNumber,
    settings: LogSettings,
    shared: Arc<Shared>,
    publisher: mpsc::Sender<ToPublisher>,
    sender: Sender,
    policy: Arc<Policy>,
    guard: Arc<Guard>,
    start_guard: StartGuard,
    statuses: Arc<Mutex<Vec<WitnessStatus>>>,
    machine: Witnessing,
    /// What storage held when the process first loaded the log.
    loaded: LogView,
    doing: JoinSet<Done>,
    /// What the publisher waits for, and the cosignatures that are here.
    awaited: Option<(TreeHead, Vec<HeadSignature>)>,
    /// The largest head offered.
    offered: TreeSize,
    started: Instant,
}

impl Task {
    pub(super) fn new(
        witnesses: &Witnesses,
        record: &LogRecord,
        (watched, start_guard): (&Watched, StartGuard),
        machine: Witnessing,
        loaded: LogView,
    ) -> Self {
        Self {
            number: record.number,
            settings: record.settings.clone(),
            shared: Arc::clone(&witnesses.shared),
            publisher: witnesses.publisher.clone(),
            sender: witnesses.sender.clone(),
            policy: Arc::clone(&watched.policy),
            guard: Arc::clone(&watched.guard),
            start_guard,
            statuses: Arc::clone(&watched.statuses),
            machine,
            loaded,
            doing: JoinSet::new(),
            awaited: None,
            offered: TreeSize(0),
            started: Instant::now(),
        }
    }

    /// Works until nobody can offer anything any more.
    pub(super) async fn run(mut self, mut offers: mpsc::UnboundedReceiver<Offer>) {
        // Those that are overruled may be all that there are.
        self.open().await;
        loop {
            for action in self.machine.poll(self.now_ms()) {
                self.act(action).await;
            }
            let wake_ms = self.machine.wake_ms();
            let wake = self.started + Duration::from_millis(wake_ms.unwrap_or_default());
            tokio::select! {
                offer = offers.recv() => match offer {
                    Some(offer) => self.offer(offer).await,
                    None => return,
                },
                Some(done) = self.doing.join_next() => match done {
                    Ok(done) => self.done(done),
                    Err(error) => tracing::error!(log = self.settings.name, %error, "asking a witness failed: a bug"),
                },
                () = tokio::time::sleep_until(wake), if wake_ms.is_some() => {}
            }
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn handle(&mut self, event: Event) {
        let now_ms = self.now_ms();
        self.machine.handle(event, now_ms);
    }

    async fn tell(&self, event: publisher::Event) {
        // The publisher ends with the process.
        let _ = self.publisher.send(ToPublisher::Event(event)).await;
    }

    async fn offer(&mut self, Offer { head, checkpoint, is_awaited }: Offer) {
        if is_awaited {
            self.awaited = Some((head, Vec::new()));
        }
        if head.size < self.offered {
            // They were asked for a larger one, and an honest witness goes back to no smaller one.
            return self.asked(head).await;
        }
        self.offered = head.size;
        self.handle(Event::Offered { head, checkpoint });
        // Without a quorum there is nothing to wait for.
        if !self.policy.needs_witnesses() {
            self.asked(head).await;
        }
    }

    async fn act(&mut self, action: Action) {
        match action {
            Action::Prove { witness, from, to } => self.prove(witness, from, to),
            Action::Send { witness, body } => self.send(witness, body),
            Action::Cosigned { witness, head, lines } => {
                self.cosigned(witness, head, lines.iter().map(note::stored)).await;
            }
            Action::Witnessed { head } => self.asked(head).await,
            Action::DeadlinePassed { head, missing } => {
                if self.awaited.as_ref().is_some_and(|(awaited, _)| *awaited == head) {
                    tracing::warn!(log = self.settings.name, size = %head.size, %missing, "a head is published unwitnessed");
                }
                self.asked(head).await;
            }
            Action::StopSigning { witness, why } => self.behind(witness, why),
            Action::Trouble { witness, problem } => self.trouble(witness, text(problem)),
        }
    }

    /// The publisher need not wait for `head` any longer.
    async fn asked(&mut self, head: TreeHead) {
        if let Some((head, signatures)) = self.awaited.take_if(|(awaited, _)| *awaited == head) {
            let log = self.number;
            self.tell(publisher::Event::Asked { log, head, signatures }).await;
        }
    }

    async fn cosigned(&mut self, witness: WitnessId, head: TreeHead, lines: impl Iterator<Item = HeadSignature>) {
        if let Some(status) = self.statuses.lock().get_mut(witness.0) {
            status.size = status.size.max(head.size.0);
            status.cosigned_ms = now_ms();
            status.problem.clear();
        }
        match &mut self.awaited {
            Some((awaited, signatures)) if *awaited == head => signatures.extend(lines),
            _ => {
                let (log, signatures) = (self.number, lines.collect());
                self.tell(publisher::Event::Cosigned { log, head, signatures }).await;
            }
        }
        self.open().await;
    }

    /// Whether all have been heard that the start guard waits for.
    fn has_heard_enough(&self) -> bool {
        match self.start_guard {
            StartGuard::Quorum => self.machine.has_heard_quorum(),
            StartGuard::Any => self.machine.has_heard_any(),
            StartGuard::Off => false,
        }
    }

    /// Lets the log sign once those have been heard that it waits for.
    async fn open(&mut self) {
        if self.guard.is_asking() && self.has_heard_enough() && self.guard.open() {
            tracing::info!(log = self.settings.name, "the witnesses know no more of the log than we do: it may sign");
            let _ = self.publisher.send(ToPublisher::Reload(self.settings.name.clone())).await;
        }
    }

    fn prove(&mut self, witness: WitnessId, from: TreeSize, to: TreeSize) {
        let (shared, number) = (Arc::clone(&self.shared), self.number);
        let view = self.view(to);
        self.doing.spawn_blocking(move || {
            let proved = view.and_then(|view| {
                let store = shared.slot.get()?;
                let root = shared.nodes.root(&*store, (number, &view), from).ok()?;
                let proof = shared.nodes.consistency(&*store, (number, &view), from, to).ok()?;
                Some((TreeHead { size: from, root }, proof))
            });
            Done { witness, what: What::Proved(proved) }
        });
    }

    /// The log at a size of at least `size`.
    fn view(&self, size: TreeSize) -> Option<LogView> {
        let released = self.shared.registry.by_number(self.number).map(|log| log.released.load().view.clone());
        released
            .filter(|view| view.head().size >= size)
            .or_else(|| Some(self.loaded.clone()))
            .filter(|view| view.head().size >= size)
    }

    fn send(&mut self, witness: WitnessId, body: Vec<u8>) {
        let url = self.machine.urls().nth(witness.0).and_then(|prefix| endpoint(prefix, "add-checkpoint"));
        let sender = self.sender.clone();
        self.doing.spawn(async move {
            let start = Instant::now();
            let answer = match url {
                Some(url) => sender.post(url, body).await,
                None => Err("its URL is none".into()),
            };
            Done { witness, what: What::Answered(answer, start.elapsed()) }
        });
    }

    fn done(&mut self, Done { witness, what }: Done) {
        match what {
            What::Proved(Some((from, proof))) => self.handle(Event::Proved { witness, from, proof }),
            What::Proved(None) => self.handle(Event::NotProved { witness }),
            What::Answered(Ok((status, body)), took) => {
                self.shared.metrics.witness_answered(&self.name(witness), took);
                self.handle(Event::Answered { witness, status, body });
            }
            What::Answered(Err(problem), _) => {
                tracing::debug!(log = self.settings.name, witness = self.name(witness), problem, "no answer");
                self.handle(Event::Failed { witness });
            }
        }
    }

    /// A witness knows more than we do. It is asked about no head that is not stored, so that was lost here, or never was.
    fn behind(&self, witness: WitnessId, why: Behind) {
        match why {
            Behind::Larger { size } => {
                let ours = self.offered;
                self.refuse(
                    witness,
                    &format!("has cosigned {size} entries of this log, and the largest head published here has {ours}"),
                );
            }
            Behind::Other { size } => {
                self.refuse(witness, &format!("has cosigned another history of this log, at size {size} or before"));
            }
        }
    }

    /// Nothing is signed any more.
    fn refuse(&self, witness: WitnessId, what: &str) {
        let name = self.name(witness);
        // Of several keys at one URL, any stands for the witness.
        let member = self.machine.members(witness).first().map(|&member| &self.policy.witnesses()[member].name[..]);
        let member = String::from_utf8_lossy(member.unwrap_or_default());
        let why = format!(
            "the log is read-only: witness {name} {what}. This is an old copy of the log, or a fork of it: stop the \
             server and restore the newest data. If it is the witness that is wrong, start with \
             `--distrust-witness {member}`"
        );
        if self.guard.refuse(why.clone()) {
            tracing::error!(log = self.settings.name, why, "nothing more is signed");
        }
    }

    fn trouble(&self, witness: WitnessId, problem: String) {
        let mut statuses = self.statuses.lock();
        let Some(status) = statuses.get_mut(witness.0) else { return };
        if status.problem.is_empty() {
            tracing::warn!(log = self.settings.name, witness = status.name, problem, "a witness does not cosign");
        }
        status.failures += 1;
        status.problem = problem;
    }

    fn name(&self, witness: WitnessId) -> String {
        self.statuses.lock().get(witness.0).map(|status| status.name.clone()).unwrap_or_default()
    }
}

fn text(problem: Problem) -> String {
    match problem {
        Problem::NoAnswer => "no answer".into(),
        Problem::NoProof => "no proof could be made for it".into(),
        Problem::Status(status) => format!("it answers with status {status}"),
        Problem::Malformed => "its answer is none that tlog-witness has".into(),
        Problem::BadCosignature => "its cosignature does not verify, or is of no key in the policy".into(),
    }
}
