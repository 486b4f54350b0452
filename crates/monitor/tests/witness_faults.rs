//! The witness under a seeded scheduler: a log that forks, clients that guess, a clock that jumps, a disk that fails in
//! every way, and a process that dies anywhere. Whatever leaves the witness must be one history.

mod common;

use common::disk::{Fault, FaultyDisk};
use common::{FORK, ORIGIN_PATH, SIZE_MAX, head, keys, policy, proof, request};
use logwood_merkle::{Hash, TreeSize};
use logwood_monitor::witness::{Refusal, Witness};
use logwood_note::{AddCheckpoint, Checkpoint, SignedNote, parse_signatures};
use proptest::prelude::*;

/// What happens next.
#[derive(Clone, Debug)]
enum Happening {
    /// A client submits a checkpoint of a branch.
    Submit { branch: bool, size: u64, old: Old, faults: Vec<Fault> },
    /// The clock moves so many milliseconds.
    Clock(i64),
    /// The power fails; the bits say what of the unsynced is kept.
    PowerLoss(u64),
}

/// The old size that a client claims.
#[derive(Clone, Copy, Debug)]
enum Old {
    /// What the witness has.
    Right,
    Guess(u64),
    /// What the witness has, and one hash of the proof is another.
    BadProof,
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        6 => Just(Fault::None),
        1 => Just(Fault::Lost),
        1 => Just(Fault::Persisted),
        1 => any::<u8>().prop_map(Fault::Torn),
        1 => any::<u8>().prop_map(Fault::Dies),
        1 => Just(Fault::DiesAfter),
    ]
}

fn happening() -> impl Strategy<Value = Happening> {
    let old = prop_oneof![
        8 => Just(Old::Right),
        2 => (0..=SIZE_MAX).prop_map(Old::Guess),
        1 => Just(Old::BadProof),
    ];
    let submit = (any::<bool>(), 0..=SIZE_MAX, old, prop::collection::vec(fault(), 0..7));
    prop_oneof![
        10 => submit.prop_map(|(branch, size, old, faults)| Happening::Submit { branch, size, old, faults }),
        2 => (-100_000_i64..200_000).prop_map(Happening::Clock),
        1 => any::<u64>().prop_map(Happening::PowerLoss),
    ]
}

/// The witness, its disk, and all that ever left it.
struct World {
    disk: FaultyDisk,
    witness: Witness<FaultyDisk>,
    posix_ms: u64,
    /// Branch, size and timestamp of the last cosignature that somebody got.
    last: Option<(bool, u64, u64)>,
    /// Size of the last checkpoint that somebody read.
    read: u64,
}

impl World {
    fn new() -> Self {
        let disk = FaultyDisk::default();
        let witness = Witness::open(keys(), &policy(), disk.clone()).expect("an empty disk");
        Self { disk, witness, posix_ms: 1_700_000_000_000, last: None, read: 0 }
    }

    fn step(&mut self, happening: Happening) {
        match happening {
            Happening::Clock(ms) => self.posix_ms = self.posix_ms.saturating_add_signed(ms),
            Happening::PowerLoss(bits) => self.restart(bits),
            Happening::Submit { branch, size, old, faults } => {
                self.disk.plan(&faults);
                self.submit(branch, size, old);
                if self.disk.is_dead() {
                    self.restart(faults.len() as u64 * 0x9E37_79B9 + size);
                }
                self.disk.plan(&[]);
            }
        }
        self.look();
    }

    fn restart(&mut self, mut bits: u64) {
        let mut keeps = || {
            bits = bits.rotate_right(1);
            bits & 1 == 1
        };
        self.disk.power_loss(&mut keeps);
        self.witness = Witness::open(keys(), &policy(), self.disk.clone()).expect("no crash damages a record");
    }

    /// Learns the last size from the conflict, as a log does.
    fn learn(&self) -> u64 {
        match self.witness.add_checkpoint(&request(false, SIZE_MAX, SIZE_MAX), self.posix_ms) {
            Err(Refusal::Conflict { last }) => last.0,
            _ => SIZE_MAX,
        }
    }

    fn submit(&mut self, branch: bool, size: u64, old: Old) {
        let (claimed, is_bad) = match old {
            Old::Right => (self.read, false),
            Old::Guess(size) => (size, false),
            Old::BadProof => (self.read, true),
        };
        let mut proof = proof(branch, claimed, size);
        if is_bad {
            proof.push(Hash::leaf(b"another"));
        }
        let checkpoint = common::checkpoint(branch, size);
        let body = AddCheckpoint { old_size: TreeSize(claimed), proof, checkpoint: checkpoint.clone() }.to_body();
        let answered = self.witness.add_checkpoint(&body, self.posix_ms);
        if self.disk.is_dead() {
            assert!(answered.is_err(), "what was not persisted was answered");
        }
        let Ok(lines) = answered else { return };
        assert!(!is_bad, "a bad proof was believed");
        self.released(branch, size, &lines, &checkpoint);
    }

    /// A cosignature has left: it must extend the last one, and not be older.
    fn released(&mut self, branch: bool, size: u64, lines: &[u8], checkpoint: &SignedNote) {
        let lines = parse_signatures(lines).expect("signature lines");
        let keys = keys();
        assert_eq!(lines.len(), keys.len());
        let mut seconds = Vec::new();
        for (line, key) in lines.iter().zip(&keys) {
            assert!(line.claims(key.verifier()) && key.verifier().verify(checkpoint.text().as_bytes(), &line.bytes));
            seconds.push(key.verifier().timestamp(&line.bytes).expect("a timestamp"));
        }
        assert!(seconds[0] == seconds[1] && seconds[0] > 0);
        if let Some((last_branch, last_size, last_seconds)) = self.last {
            assert!(size >= last_size, "size {size} after {last_size}");
            assert!(seconds[0] >= last_seconds, "the time went back");
            assert_eq!(head(branch, last_size), head(last_branch, last_size), "a fork was cosigned");
        }
        self.last = Some((branch, size, seconds[0]));
    }

    /// What is served is at least what was cosigned, and never goes back.
    fn look(&mut self) {
        let Some(note) = self.witness.checkpoint(ORIGIN_PATH) else {
            assert!(self.last.is_none(), "what was cosigned is forgotten");
            return;
        };
        let served = Checkpoint::parse_unverified(&note).expect("a checkpoint").head;
        assert!(served.size.0 >= self.read, "what is served went back");
        self.read = served.size.0;
        if let Some((branch, size, _)) = self.last {
            assert!(served.size.0 >= size, "what is served is behind what was cosigned");
            let extends = [false, true]
                .iter()
                .any(|&other| head(other, served.size.0) == served && head(other, size) == head(branch, size));
            assert!(extends, "what is served is another branch");
        }
    }

    /// On a disk that works, a log gets its newest checkpoint cosigned.
    fn settle(&mut self) {
        self.posix_ms += 60_000;
        let last = self.learn();
        let served =
            self.witness.checkpoint(ORIGIN_PATH).map(|note| Checkpoint::parse_unverified(&note).expect("one").head);
        let branch = served.is_some_and(|served| served.size.0 > FORK && head(true, served.size.0) == served);
        let lines = self.witness.add_checkpoint(&request(branch, last, SIZE_MAX), self.posix_ms);
        self.released(branch, SIZE_MAX, &lines.expect("a log that grew"), &common::checkpoint(branch, SIZE_MAX));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_leaves_a_witness_is_inconsistent_or_goes_back(
        happenings in prop::collection::vec(happening(), 1..60),
    ) {
        let mut world = World::new();
        for happening in happenings {
            world.step(happening);
        }
        world.settle();
    }
}

#[test]
fn each_fault_at_each_operation_leaves_one_history() {
    let faults = [Fault::Lost, Fault::Persisted, Fault::Torn(100), Fault::Dies(0), Fault::Dies(200), Fault::DiesAfter];
    for operation in 0..3 {
        for fault in faults {
            for bits in [0, u64::MAX, 0x5555_5555_5555_5555, 0xCCCC_CCCC_CCCC_CCCC] {
                for branch in [false, true] {
                    let mut world = World::new();
                    let submit = |branch, size, faults| Happening::Submit { branch, size, old: Old::Right, faults };
                    world.step(submit(false, FORK + 2, vec![]));
                    let mut planned = vec![Fault::None; operation];
                    planned.push(fault);
                    world.step(submit(false, FORK + 4, planned));
                    world.step(submit(branch, FORK + 6, vec![]));
                    world.step(Happening::PowerLoss(bits));
                    world.step(submit(branch, FORK + 8, vec![]));
                    world.settle();
                }
            }
        }
    }
}
