//! The log's side of being witnessed: which witness is sent which head, and what its answer means. A state machine
//! without I/O, clock or randomness; one a log.
//!
//! ```text
//!              newest head, interval over             proof                        200: cosigned
//!        Idle ───────────────────────────> Proving ──────────> Sent ──────────────────────────────────> Idle
//!         ^                                   │                 │ 409, not above ours: learn the size ──> Idle, at once
//!         └── back-off <── no proof, no answer, bad cosignature ┤
//!                                                               └ 409 above ours, 422 on a right proof: stop signing
//! ```
//!
//! * A witness has one request in flight, at most one in its interval, and is always sent the newest head. Heads that
//!   were skipped are not made up.
//! * [`Action::Witnessed`] or [`Action::DeadlinePassed`] says when the publisher need not wait any longer. Cosignatures
//!   that come later are for the head that they are of, and may still complete its quorum.
//! * Witnesses with the same URL are one: a witness answers with a cosignature of each of its keys.
//! * The guard at start is the same machine. The last stored checkpoint is offered, with `old 0`, and nothing is signed
//!   before it is cosigned: [`Witnessing::has_heard_any`] for `any`, [`Witnessing::has_heard_quorum`] for `quorum`.
//!
//! The driver calls [`Witnessing::handle`] for what happened and [`Witnessing::poll`] for what to do next. It ends every
//! request with an event, within a time of its own.
//!
//! Source: C2SP tlog-witness, "add-checkpoint"; C2SP tlog-policy for the quorum.

mod endpoint;

use std::collections::{BTreeMap, BTreeSet};

use logwood_merkle::{Hash, TreeHead, TreeSize, verify};
use logwood_note::policy::PolicyWitness;
use logwood_note::{AddCheckpoint, NoteSignature, Policy, QuorumError, SignedNote, parse_conflict, parse_signatures};

use endpoint::{Endpoint, Phase};

/// Longest answer of a witness that is read, in bytes: 16 post-quantum cosignatures of 3.3 kB. The driver refuses longer
/// ones as [`Event::Failed`].
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A witness, by its place in [`Witnessing::urls`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WitnessId(pub usize);

/// How one witness of the policy is treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WitnessSettings {
    /// It is asked at most once in so many milliseconds.
    pub min_interval_ms: u64,
    /// The operator overruled it: it is asked, and cannot stop the log from signing.
    pub is_distrusted: bool,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// This is the newest head now. Sizes do not shrink; the same size again renews cosignatures.
    Offered {
        /// The head.
        head: TreeHead,
        /// Its checkpoint, with the log's signatures.
        checkpoint: SignedNote,
    },
    /// [`Action::Prove`] is done.
    Proved {
        /// For which witness.
        witness: WitnessId,
        /// Our own head at the size asked for.
        from: TreeHead,
        /// The proof from there.
        proof: Vec<Hash>,
    },
    /// [`Action::Prove`] failed.
    NotProved {
        /// For which witness.
        witness: WitnessId,
    },
    /// [`Action::Send`] has an answer.
    Answered {
        /// Of which witness.
        witness: WitnessId,
        /// HTTP status code.
        status: u16,
        /// The body, at most [`ANSWER_BYTES_MAX`] bytes.
        body: Vec<u8>,
    },
    /// [`Action::Send`] has none: not connected, too slow, too long.
    Failed {
        /// Of which witness.
        witness: WitnessId,
    },
}

/// What the driver must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make the consistency proof between two sizes of our tree.
    Prove {
        /// For which witness.
        witness: WitnessId,
        /// From this size, which is not 0,
        from: TreeSize,
        /// to this one, which is larger.
        to: TreeSize,
    },
    /// `POST <url>/add-checkpoint`.
    Send {
        /// To which witness.
        witness: WitnessId,
        /// The body.
        body: Vec<u8>,
    },
    /// Store these signature lines with the head.
    Cosigned {
        /// Who signed.
        witness: WitnessId,
        /// Which head.
        head: TreeHead,
        /// One or more lines, all verified.
        lines: Vec<NoteSignature>,
    },
    /// The head has its quorum. Comes once for each [`Event::Offered`] that gets there.
    Witnessed {
        /// Which head.
        head: TreeHead,
    },
    /// The head has no quorum in time. It is asked for all the same, until a newer one is offered.
    DeadlinePassed {
        /// Which head.
        head: TreeHead,
        /// Who is missing.
        missing: QuorumError,
    },
    /// Sign nothing more: a witness knows more of this log than we do.
    StopSigning {
        /// Who says so.
        witness: WitnessId,
        /// What it knows.
        why: Behind,
    },
    /// A request came to nothing; it is made again. For logs and metrics.
    Trouble {
        /// With which witness.
        witness: WitnessId,
        /// What is wrong.
        problem: Problem,
    },
}

/// Why the log must not sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// The witness cosigned a larger head than any that we know: this is an old copy of the log.
    Larger {
        /// The size that it names.
        size: TreeSize,
    },
    /// The witness refuses a proof that is right for our tree: it cosigned another tree.
    Other {
        /// The size at which the trees differ, or before.
        size: TreeSize,
    },
}

/// Why a request came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// No answer.
    NoAnswer,
    /// The proof could not be made, or does not verify: the fault is on our side.
    NoProof,
    /// An answer with this status, and none that the specification has for a well-formed request.
    Status(u16),
    /// An answer that the specification does not have: an unreadable body, or conflicts without end.
    Malformed,
    /// No cosignature, or one that does not verify.
    BadCosignature,
}

/// Drives all witnesses of one log.
#[derive(Debug)]
pub struct Witnessing {
    policy: Policy,
    deadline_ms: u64,
    endpoints: Vec<Endpoint>,
    /// Witnesses of the policy that the operator overruled.
    overruled: BTreeSet<usize>,
    /// Witnesses of the policy that have cosigned anything: they knew no more of the log than we do.
    heard: BTreeSet<usize>,
    /// Heads that are asked for, by the order in which they were offered: the newest, and those in flight.
    offers: BTreeMap<u64, Offer>,
    last_offer: u64,
    /// Decided, and not yet given to the driver.
    actions: Vec<Action>,
}

#[derive(Debug)]
struct Offer {
    head: TreeHead,
    checkpoint: SignedNote,
    deadline_ms: u64,
    /// Witnesses of the policy whose cosignatures are here.
    cosigned: BTreeSet<usize>,
    is_witnessed: bool,
    is_late: bool,
}

impl Witnessing {
    /// Nobody has been asked anything yet.
    ///
    /// * `policy` - witnesses without a URL are never asked.
    /// * `deadline_ms` - how long the publisher waits for a quorum, in milliseconds.
    /// * `settings` - of each witness. If several are one, the longest interval counts, and distrust of any.
    #[must_use]
    pub fn new(policy: Policy, deadline_ms: u64, settings: impl Fn(&PolicyWitness) -> WitnessSettings) -> Self {
        let mut endpoints: Vec<Endpoint> = Vec::new();
        let mut overruled = BTreeSet::new();
        for (index, witness) in policy.witnesses().iter().enumerate() {
            let settings = settings(witness);
            overruled.extend(settings.is_distrusted.then_some(index));
            let Some(url) = &witness.url else { continue };
            match endpoints.iter_mut().find(|endpoint| endpoint.url == *url) {
                Some(endpoint) => endpoint.add(index, settings),
                None => endpoints.push(Endpoint::new(url.clone(), index, settings)),
            }
        }
        for endpoint in endpoints.iter().filter(|endpoint| endpoint.is_distrusted) {
            overruled.extend(&endpoint.members);
        }
        let (heard, offers, actions) = (BTreeSet::new(), BTreeMap::new(), Vec::new());
        Self { policy, deadline_ms, endpoints, overruled, heard, offers, last_offer: 0, actions }
    }

    /// Whether one witness has cosigned so far that is not overruled. Nothing is waited for if all that can be asked are.
    #[must_use]
    pub fn has_heard_any(&self) -> bool {
        !self.heard.is_subset(&self.overruled) || self.endpoints.iter().all(|endpoint| endpoint.is_distrusted)
    }

    /// Whether a quorum of the policy has cosigned so far, whichever heads. Those that are overruled count as heard.
    #[must_use]
    pub fn has_heard_quorum(&self) -> bool {
        self.policy.check_quorum(|place| self.heard.contains(&place) || self.overruled.contains(&place)).is_ok()
    }

    /// The URL of each witness, as the policy has it; the place is the [`WitnessId`].
    pub fn urls(&self) -> impl Iterator<Item = &[u8]> {
        self.endpoints.iter().map(|endpoint| &endpoint.url[..])
    }

    /// The keys of a witness, as places in [`Policy::witnesses`].
    #[must_use]
    pub fn members(&self, witness: WitnessId) -> &[usize] {
        self.endpoints.get(witness.0).map_or(&[], |endpoint| &endpoint.members)
    }

    /// Takes note of what happened. `now_ms`: milliseconds from any moment on; it never goes back.
    pub fn handle(&mut self, event: Event, now_ms: u64) {
        match event {
            Event::Offered { head, checkpoint } => self.offer(head, checkpoint, now_ms),
            Event::Proved { witness, from, proof } => self.proved(witness, from, proof, now_ms),
            Event::NotProved { witness } => self.trouble(witness, Problem::NoProof, now_ms),
            Event::Answered { witness, status, body } => self.answered(witness, status, &body, now_ms),
            Event::Failed { witness } => self.trouble(witness, Problem::NoAnswer, now_ms),
        }
    }

    /// What to do now. Call it after events, and when [`wake_ms`](Self::wake_ms) says so.
    pub fn poll(&mut self, now_ms: u64) -> Vec<Action> {
        for offer in self.offers.values_mut() {
            if !offer.is_witnessed && !offer.is_late && now_ms >= offer.deadline_ms {
                offer.is_late = true;
                if let Err(missing) = self.policy.check_quorum(|witness| offer.cosigned.contains(&witness)) {
                    self.actions.push(Action::DeadlinePassed { head: offer.head, missing });
                }
            }
        }
        for place in 0..self.endpoints.len() {
            self.ask(WitnessId(place), now_ms);
        }
        let in_flight: BTreeSet<u64> = self.endpoints.iter().filter_map(Endpoint::offer).collect();
        let newest = self.last_offer;
        self.offers.retain(|number, _| *number == newest || in_flight.contains(number));
        std::mem::take(&mut self.actions)
    }

    /// When to poll next if nothing happens after the last poll. `None`: only when something does.
    #[must_use]
    pub fn wake_ms(&self) -> Option<u64> {
        let waits = |offer: &&Offer| !offer.is_witnessed && !offer.is_late;
        let deadlines = self.offers.values().filter(waits).map(|offer| offer.deadline_ms);
        let asks = self.endpoints.iter().filter(|endpoint| endpoint.wants(self.last_offer));
        deadlines.chain(asks.map(|endpoint| endpoint.next_ms)).min()
    }

    fn offer(&mut self, head: TreeHead, checkpoint: SignedNote, now_ms: u64) {
        self.last_offer += 1;
        let deadline_ms = now_ms.saturating_add(self.deadline_ms);
        let (cosigned, is_witnessed) = (BTreeSet::new(), !self.policy.needs_witnesses());
        let offer = Offer { head, checkpoint, deadline_ms, cosigned, is_witnessed, is_late: false };
        self.offers.insert(self.last_offer, offer);
    }

    /// Begins a request to an idle witness that lacks the newest head.
    fn ask(&mut self, witness: WitnessId, now_ms: u64) {
        let endpoint = &mut self.endpoints[witness.0];
        let Some(offer) = self.offers.get(&self.last_offer) else { return };
        if !endpoint.wants(self.last_offer) || now_ms < endpoint.next_ms {
            return;
        }
        let (from, to) = (endpoint.known, offer.head.size);
        if from.0 == 0 || from == to {
            let body = body(from, Vec::new(), offer);
            self.actions.push(endpoint.send(witness, self.last_offer, from, body, now_ms));
        } else {
            endpoint.phase = Phase::Proving { offer: self.last_offer, from };
            self.actions.push(Action::Prove { witness, from, to });
        }
    }

    fn proved(&mut self, witness: WitnessId, from: TreeHead, proof: Vec<Hash>, now_ms: u64) {
        let Some(endpoint) = self.endpoints.get_mut(witness.0) else { return };
        let Phase::Proving { offer: number, from: asked } = endpoint.phase else { return };
        let Some(offer) = self.offers.get(&number) else { return };
        // Only a proof that is known to be right lets a refusal mean something.
        if from.size != asked || verify::consistency(&from, &offer.head, &proof).is_err() {
            return self.trouble(witness, Problem::NoProof, now_ms);
        }
        let body = body(asked, proof, offer);
        self.actions.push(endpoint.send(witness, number, asked, body, now_ms));
    }

    fn answered(&mut self, witness: WitnessId, status: u16, body: &[u8], now_ms: u64) {
        let Some(endpoint) = self.endpoints.get(witness.0) else { return };
        let Phase::Sent { offer, from } = endpoint.phase else { return };
        let problem = match status {
            _ if body.len() > ANSWER_BYTES_MAX => Some(Problem::Malformed),
            200 => self.cosigned(witness, offer, body),
            409 => self.conflict(witness, offer, from, body, now_ms),
            422 => {
                self.stop(witness, Behind::Other { size: from });
                Some(Problem::Status(status))
            }
            _ => Some(Problem::Status(status)),
        };
        if let Some(problem) = problem {
            self.trouble(witness, problem, now_ms);
        }
    }

    /// Takes the cosignatures of a `200`.
    fn cosigned(&mut self, witness: WitnessId, number: u64, body: &[u8]) -> Option<Problem> {
        let endpoint = self.endpoints.get_mut(witness.0)?;
        let offer = self.offers.get_mut(&number)?;
        let Ok(lines) = parse_signatures(body) else { return Some(Problem::BadCosignature) };
        let mut verified = Vec::new();
        for line in lines {
            let known = endpoint.members.iter().find(|&&member| line.claims(&self.policy.witnesses()[member].key));
            // Lines of keys that are not known are ignored.
            let Some(&member) = known else { continue };
            let key = &self.policy.witnesses()[member].key;
            let is_timed = key.timestamp(&line.bytes).is_some_and(|seconds| seconds > 0);
            if !is_timed || !key.verify(offer.checkpoint.text().as_bytes(), &line.bytes) {
                return Some(Problem::BadCosignature);
            }
            verified.push((member, line));
        }
        if verified.is_empty() {
            return Some(Problem::BadCosignature);
        }
        endpoint.take_cosignature(number, offer.head.size);
        offer.cosigned.extend(verified.iter().map(|(member, _)| *member));
        self.heard.extend(verified.iter().map(|(member, _)| *member));
        let lines = verified.into_iter().map(|(_, line)| line).collect();
        self.actions.push(Action::Cosigned { witness, head: offer.head, lines });
        if !offer.is_witnessed && self.policy.check_quorum(|witness| offer.cosigned.contains(&witness)).is_ok() {
            offer.is_witnessed = true;
            self.actions.push(Action::Witnessed { head: offer.head });
        }
        None
    }

    /// Learns from a `409` what the witness cosigned last.
    fn conflict(
        &mut self,
        witness: WitnessId,
        number: u64,
        from: TreeSize,
        body: &[u8],
        now_ms: u64,
    ) -> Option<Problem> {
        let ours = self.offers.get(&self.last_offer)?.head.size;
        let sent = self.offers.get(&number)?.head.size;
        let Ok(size) = parse_conflict(body) else { return Some(Problem::Malformed) };
        if size > ours {
            self.stop(witness, Behind::Larger { size });
            return Some(Problem::Status(409));
        }
        if size == from {
            // The old size was right. Earlier versions of the specification answer so when only the roots differ.
            if from == sent {
                self.stop(witness, Behind::Other { size });
            }
            return Some(Problem::Malformed);
        }
        if self.endpoints[witness.0].learn(size, now_ms) { None } else { Some(Problem::Malformed) }
    }

    fn stop(&mut self, witness: WitnessId, why: Behind) {
        if !self.endpoints[witness.0].is_distrusted {
            self.actions.push(Action::StopSigning { witness, why });
        }
    }

    fn trouble(&mut self, witness: WitnessId, problem: Problem, now_ms: u64) {
        let Some(endpoint) = self.endpoints.get_mut(witness.0) else { return };
        if matches!(endpoint.phase, Phase::Idle) {
            return;
        }
        endpoint.back_off(now_ms);
        self.actions.push(Action::Trouble { witness, problem });
    }
}

fn body(old_size: TreeSize, proof: Vec<Hash>, offer: &Offer) -> Vec<u8> {
    AddCheckpoint { old_size, proof, checkpoint: offer.checkpoint.clone() }.to_body()
}
