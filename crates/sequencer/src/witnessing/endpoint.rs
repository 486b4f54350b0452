//! One witness: what it is doing, and when it may be asked again.

use logwood_merkle::TreeSize;

use super::{Action, WitnessId, WitnessSettings};

/// The first wait after a failure, in milliseconds. Each further one doubles it.
const BACK_OFF_MS_MIN: u64 = 1_000;

/// The longest wait, in milliseconds.
const BACK_OFF_MS_MAX: u64 = 60_000;

/// Conflicts in a row that are answered at once: the first names the size, a second may be a race with another submitter.
const CONFLICTS_MAX: u32 = 2;

#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) url: Vec<u8>,
    /// Its keys, as places in the policy.
    pub(super) members: Vec<usize>,
    pub(super) is_distrusted: bool,
    min_interval_ms: u64,
    /// The size that it cosigned last, as far as we know; 0 if we do not.
    pub(super) known: TreeSize,
    pub(super) phase: Phase,
    /// When the next request may begin.
    pub(super) next_ms: u64,
    /// The last offer that it cosigned.
    cosigned: u64,
    failures: u32,
    conflicts: u32,
}

/// How far a request has come. `offer` counts from 1.
#[derive(Clone, Copy, Debug)]
pub(super) enum Phase {
    Idle,
    Proving { offer: u64, from: TreeSize },
    Sent { offer: u64, from: TreeSize },
}

impl Endpoint {
    pub(super) fn new(url: Vec<u8>, member: usize, settings: WitnessSettings) -> Self {
        Self {
            url,
            members: vec![member],
            is_distrusted: settings.is_distrusted,
            min_interval_ms: settings.min_interval_ms,
            known: TreeSize(0),
            phase: Phase::Idle,
            next_ms: 0,
            cosigned: 0,
            failures: 0,
            conflicts: 0,
        }
    }

    pub(super) fn add(&mut self, member: usize, settings: WitnessSettings) {
        self.members.push(member);
        self.min_interval_ms = self.min_interval_ms.max(settings.min_interval_ms);
        self.is_distrusted |= settings.is_distrusted;
    }

    /// The offer that is in flight.
    pub(super) fn offer(&self) -> Option<u64> {
        match self.phase {
            Phase::Idle => None,
            Phase::Proving { offer, .. } | Phase::Sent { offer, .. } => Some(offer),
        }
    }

    /// Whether it is idle and lacks the newest offer.
    pub(super) fn wants(&self, newest: u64) -> bool {
        matches!(self.phase, Phase::Idle) && self.cosigned < newest
    }

    pub(super) fn send(
        &mut self,
        witness: WitnessId,
        offer: u64,
        from: TreeSize,
        body: Vec<u8>,
        now_ms: u64,
    ) -> Action {
        self.phase = Phase::Sent { offer, from };
        self.next_ms = now_ms.saturating_add(self.min_interval_ms);
        Action::Send { witness, body }
    }

    pub(super) fn take_cosignature(&mut self, offer: u64, size: TreeSize) {
        self.phase = Phase::Idle;
        (self.cosigned, self.known) = (offer, size);
        (self.failures, self.conflicts) = (0, 0);
    }

    /// Asks again at once, from `size`. False if that has led nowhere before.
    pub(super) fn learn(&mut self, size: TreeSize, now_ms: u64) -> bool {
        self.known = size;
        self.conflicts += 1;
        if self.conflicts > CONFLICTS_MAX {
            return false;
        }
        self.phase = Phase::Idle;
        self.next_ms = now_ms;
        true
    }

    pub(super) fn back_off(&mut self, now_ms: u64) {
        self.phase = Phase::Idle;
        let wait_ms = (BACK_OFF_MS_MIN << self.failures.min(16)).min(BACK_OFF_MS_MAX);
        self.failures = self.failures.saturating_add(1);
        self.conflicts = 0;
        self.next_ms = self.next_ms.max(now_ms.saturating_add(wait_ms));
    }
}
