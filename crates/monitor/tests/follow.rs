//! The monitor's judgement: every two heads of a log that forks, every way to spoil what a source says of them, and
//! whole runs with sources that lie as they like. No lie makes it accuse a log that has only one history.

mod common;

use std::collections::VecDeque;

use common::{FORK, ORIGIN, SIZE_MAX, checkpoint, head, keys, leaves, log_key, policy, proof};
use logwood_merkle::{CompactRange, Hash, TreeHead, TreeSize};
use logwood_monitor::follow::{
    HeadError, Link, NotInTree, Relation, SKEW_SECONDS_MAX, SignedHead, SignedSeal, TEXT_BYTES_MAX, Verdict, begin_at,
    extend, meet, relate, settle, taken_back,
};
use logwood_note::{CheckpointError, CosigningKey, Evidence, Policy, VerifierKey};
use logwood_note::{Seal, SealError, SignedNote, assemble_note, sign_checkpoint};
use proptest::prelude::*;

/// The clock, in POSIX seconds.
const NOW: u64 = 1_000;

fn signed(branch: bool, size: u64) -> SignedHead {
    SignedHead::open(checkpoint(branch, size).as_bytes(), &policy(), None, NOW).expect("the log signed it")
}

fn range(branch: bool, size: u64) -> CompactRange {
    let mut range = CompactRange::new();
    for leaf in leaves(branch, size) {
        range.append(leaf, |_, _| ());
    }
    range
}

/// What an honest source of `branch` says.
fn link(branch: bool, old: u64, new: u64) -> Link {
    Link { range: range(branch, old), consistency: proof(branch, old, new) }
}

fn proves(evidence: &Evidence) -> bool {
    let parsed = Evidence::parse(&evidence.to_bytes()).expect("the file is well-formed");
    parsed.judge(&[log_key().verifier().clone()], None).is_ok()
}

/// The first size at which the branches differ.
const DIFFERENT: u64 = FORK + 1;

#[test]
fn any_two_heads_are_of_one_history_or_there_is_evidence() {
    for (one, other) in [(false, false), (false, true), (true, false)] {
        for old in 1..=SIZE_MAX {
            for new in old..=SIZE_MAX {
                let (older, newer) = (signed(one, old), signed(other, new));
                let is_fork = one != other && old >= DIFFERENT;
                let evidence = match relate(&older, &newer) {
                    Relation::Agree => None,
                    Relation::Differ(evidence) => Some(evidence),
                    Relation::Open => match settle(&older, &newer, &link(other, old, new)) {
                        Verdict::Extends => None,
                        Verdict::Rewritten(evidence) => Some(evidence),
                        Verdict::Unproved(error) => panic!("{old} {new}: {error}"),
                    },
                };
                assert_eq!(evidence.is_some(), is_fork, "{one} {old}, {other} {new}");
                assert!(evidence.is_none_or(|evidence| proves(&evidence)));
            }
        }
    }
}

#[test]
fn two_honest_heads_and_a_spoilt_link_are_evidence_of_nothing() {
    for old in 1..SIZE_MAX {
        for new in old + 1..=SIZE_MAX {
            let (older, newer) = (signed(false, old), signed(false, new));
            let good = link(false, old, new);
            let mut spoilt = Vec::new();
            for at in 0..good.consistency.len() {
                let mut link = good.clone();
                link.consistency[at] = Hash::leaf(b"spoilt");
                spoilt.push(link);
            }
            spoilt.push(Link { consistency: [good.consistency.clone(), vec![Hash::leaf(b"more")]].concat(), ..good });
            spoilt.push(link(true, old, new));
            spoilt.push(Link::default());
            for link in spoilt {
                // The other branch is the same up to the fork, so its links may be good.
                let is_good = link.consistency == proof(false, old, new);
                match settle(&older, &newer, &link) {
                    Verdict::Extends => assert!(is_good, "{old} {new}"),
                    Verdict::Rewritten(_) => panic!("an honest log was framed at {old} and {new}"),
                    Verdict::Unproved(_) => assert!(!is_good, "{old} {new}"),
                }
            }
        }
    }
}

#[test]
fn a_spoilt_range_beside_a_good_proof_changes_no_verdict() {
    for old in 1..SIZE_MAX {
        for new in old + 1..=SIZE_MAX {
            let link = Link { range: range(true, old + 1), consistency: proof(false, old, new) };
            assert_eq!(settle(&signed(false, old), &signed(false, new), &link), Verdict::Extends);
        }
    }
}

#[test]
fn entries_are_the_trees_or_are_refused() {
    for start in 0..=SIZE_MAX {
        let tree = range(false, start);
        for end in start..=SIZE_MAX {
            let all = leaves(false, end);
            let first = usize::try_from(start).expect("small");
            let (grown, target) = (all[first..].to_vec(), head(false, SIZE_MAX));
            let honest = extend(&tree, grown.clone(), &target, &proof(false, end, SIZE_MAX));
            assert_eq!(honest.map(|tree| tree.size()), Ok(TreeSize(end)));
            for at in 0..grown.len() {
                let mut other = grown.clone();
                other[at] = Hash::leaf(b"nothing happened");
                assert_eq!(extend(&tree, other, &target, &proof(false, end, SIZE_MAX)), not_in(start, end, target));
                let mut swapped = grown.clone();
                swapped.swap(at, 0);
                let swapped = extend(&tree, swapped, &target, &proof(false, end, SIZE_MAX));
                assert_eq!(swapped.is_ok(), at == 0);
            }
            if let Some((_, fewer)) = grown.split_last() {
                let fewer = extend(&tree, fewer.to_vec(), &target, &proof(false, end, SIZE_MAX));
                // Nothing at all is the beginning of every tree.
                assert_eq!(fewer.is_ok(), (start, end) == (0, 1), "the last of {start}..{end} is missing");
            }
        }
    }
    let beyond = extend(&range(false, 3), leaves(false, 2), &head(false, 4), &[]);
    assert_eq!(beyond, not_in(3, 4, head(false, 4)));
}

fn not_in<T>(first: u64, end: u64, head: TreeHead) -> Result<T, NotInTree> {
    Err(NotInTree { first: TreeSize(first), end: TreeSize(end), head })
}

#[test]
fn every_head_on_the_way_is_met_and_the_false_ones_are_proved_to_be() {
    let (all, known) = (leaves(false, SIZE_MAX), signed(false, SIZE_MAX));
    for start in 0..SIZE_MAX {
        for step in 1..=7 {
            let is_false = |size: u64| size >= DIFFERENT && size.is_multiple_of(3);
            let mut heads: VecDeque<_> = (start + 1..SIZE_MAX).map(|size| signed(is_false(size), size)).collect();
            let (mut tree, mut found) = (range(false, start), Vec::new());
            for chunk in all[usize::try_from(start).expect("small")..].chunks(step) {
                for (head, at) in meet(&tree, chunk, &mut heads) {
                    let size = head.head.size.0;
                    let link = Link { range: at, consistency: proof(false, size, SIZE_MAX) };
                    let verdict = settle(&head, &known, &link);
                    assert!(matches!(verdict, Verdict::Rewritten(evidence) if proves(&evidence)));
                    found.push(size);
                }
                tree = range(false, tree.size().0 + chunk.len() as u64);
            }
            assert!(heads.is_empty(), "each was met");
            assert_eq!(found, (start + 1..SIZE_MAX).filter(|&size| is_false(size)).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_beginning_in_the_middle_is_the_trees_or_is_refused() {
    for size in 0..=SIZE_MAX {
        let good = link(false, size, SIZE_MAX);
        assert_eq!(begin_at(good, &head(false, SIZE_MAX)), Ok(range(false, size)));
        let forged = begin_at(link(true, size, SIZE_MAX), &head(false, SIZE_MAX));
        assert_eq!(forged.is_ok(), size == 0);
    }
}

#[test]
fn what_the_log_did_not_sign_is_no_head() {
    let other = logwood_note::SigningKey::from_seed(ORIGIN, &[9; 32]).expect("a name");
    let note = sign_checkpoint(&other, ORIGIN, &head(false, 3));
    assert!(matches!(
        SignedHead::open(&note, &policy(), None, NOW),
        Err(HeadError::Checkpoint(CheckpointError::Note(_)))
    ));
    let foreign = sign_checkpoint(&log_key(), "other.example/log", &head(false, 3));
    let refused = SignedHead::open(&foreign, &policy(), None, NOW);
    assert!(matches!(refused, Err(HeadError::Checkpoint(CheckpointError::Origin { .. }))));
    let impossible = TreeHead { size: TreeSize(0), root: Hash::leaf(b"") };
    let note = sign_checkpoint(&log_key(), ORIGIN, &impossible);
    assert_eq!(SignedHead::open(&note, &policy(), None, NOW), Err(HeadError::EmptyRoot));
}

/// A policy with one witness of each key type, nested so that they vote once.
fn witnessed(keys: &[CosigningKey]) -> Policy {
    let [ed25519, ml_dsa] = keys else { panic!("two keys") };
    let (log, one, other) = (log_key(), ed25519.verifier(), ml_dsa.verifier());
    let text =
        format!("log {}\nwitness one {one}\nwitness other {other}\ngroup w any one other\nquorum w\n", log.verifier());
    Policy::parse(text.as_bytes()).expect("a policy")
}

fn cosigned(size: u64, key: &CosigningKey, seconds: u64) -> Vec<u8> {
    let note = checkpoint(false, size);
    let line = key.cosign(note.text(), seconds).expect("a checkpoint");
    let lines: Vec<_> = note.signatures().iter().cloned().chain([line]).collect();
    assemble_note(note.text(), &lines).expect("a note")
}

#[test]
fn a_head_without_quorum_is_a_head_that_says_so() {
    let keys = keys();
    let policy = witnessed(&keys);
    let alone = SignedHead::open(checkpoint(false, 4).as_bytes(), &policy, None, NOW).expect("the log signed it");
    assert!(alone.quorum.is_err());
    assert_eq!(alone.seconds, None);
    for key in &keys {
        let head = SignedHead::open(&cosigned(4, key, 77), &policy, None, NOW).expect("good");
        assert_eq!((head.quorum, head.seconds), (Ok(()), Some(77)));
    }
    let mut spoilt = cosigned(4, &keys[0], 77);
    let last = spoilt.len() - 10;
    spoilt[last] = if spoilt[last] == b'A' { b'B' } else { b'A' };
    assert!(SignedHead::open(&spoilt, &policy, None, NOW).is_err(), "a bad signature of a witness that is known");
}

#[test]
fn a_cosigner_that_takes_back_what_it_saw_is_proved_to_and_no_other() {
    let keys = keys();
    let policy = witnessed(&keys);
    let named: Vec<VerifierKey> = keys.iter().map(|key| key.verifier().clone()).collect();
    let open = |size, key, seconds| SignedHead::open(&cosigned(size, key, seconds), &policy, None, NOW).expect("good");
    for key in &keys {
        let proved = |earlier: &SignedHead, later: &SignedHead| {
            taken_back(earlier, later).is_some_and(|evidence| evidence.judge(&named, None).is_ok())
        };
        assert!(proved(&open(9, key, 100), &open(4, key, 101)));
        assert!(!proved(&open(9, key, 100), &open(4, key, 99)), "an old head that is replayed proves nothing");
        assert!(!proved(&open(4, key, 100), &open(9, key, 101)), "a log may grow");
    }
    assert!(taken_back(&open(9, &keys[0], 1), &open(4, &keys[1], 2)).is_some_and(|e| e.judge(&named, None).is_err()));
}

#[test]
fn a_time_ahead_of_the_clock_is_not_believed_and_hides_no_other() {
    let keys = keys();
    let policy = witnessed(&keys);
    let open = |lines: &[(usize, u64)]| {
        let note = checkpoint(false, 4);
        let cosign = |&(key, seconds): &(usize, u64)| keys[key].cosign(note.text(), seconds).expect("a checkpoint");
        let lines: Vec<_> = note.signatures().iter().cloned().chain(lines.iter().map(cosign)).collect();
        let note = assemble_note(note.text(), &lines).expect("a note");
        SignedHead::open(&note, &policy, None, NOW).expect("good")
    };
    let (latest, far) = (NOW + SKEW_SECONDS_MAX, NOW + SKEW_SECONDS_MAX + 1);
    let times = |head: &SignedHead| (head.seconds, head.future_seconds);
    assert_eq!(times(&open(&[(0, latest)])), (Some(latest), None));
    assert_eq!(times(&open(&[(0, far)])), (None, Some(far)));
    assert!(open(&[(0, far)]).quorum.is_ok(), "it is a cosignature all the same");
    assert_eq!(times(&open(&[(0, far), (1, 77)])), (Some(77), Some(far)));
    let both = open(&[(0, 77), (0, far), (0, 78)]);
    assert_eq!(times(&both), (Some(78), Some(far)));
    assert_eq!(times(&SignedHead::open(&both.note, &policy, None, NOW).expect("good")), (Some(78), None));
}

#[test]
fn lines_that_others_add_to_a_note_are_not_remembered() {
    let keys = keys();
    let policy = witnessed(&keys[..2]);
    let stranger = CosigningKey::try_from(
        logwood_note::PrivateKey::from_seed("stranger", logwood_note::SignatureType::Ed25519Cosignature, &[5; 32])
            .expect("a name"),
    )
    .expect("it cosigns");
    let own = cosigned(4, &keys[0], 77);
    let note = SignedNote::parse(&own).expect("a note");
    let line = stranger.cosign(note.text(), 77).expect("a checkpoint");
    let lines: Vec<_> = std::iter::repeat_n(line, 50).chain(note.signatures().iter().cloned()).collect();
    let padded = assemble_note(note.text(), &lines).expect("a note");
    let head = SignedHead::open(&padded, &policy, None, NOW).expect("good");
    assert_eq!(head.note, own);

    // Nor is a text that the log itself makes long.
    let text = format!("{}{}\n", note.text(), "x".repeat(TEXT_BYTES_MAX));
    let long = logwood_note::sign_note(&text, &[&log_key()]).expect("a note");
    let refused = SignedHead::open(&long, &policy.without_witnesses(), None, NOW);
    assert!(matches!(refused, Err(HeadError::TextTooLong { .. })), "{refused:?}");
}

#[test]
fn a_head_larger_than_the_seal_proves_that_it_was_broken() {
    let seal = |branch, size| Seal { origin: ORIGIN.into(), head: head(branch, size), seconds: 5 };
    let opened = SignedSeal::open(&seal(false, 4).sign(&log_key()), &policy(), None).expect("the log signed it");
    assert_eq!(opened.seal, seal(false, 4));
    assert_eq!(opened.broken_by(&signed(false, 4)), None);
    assert_eq!(opened.broken_by(&signed(true, 3)), None);
    assert!(opened.broken_by(&signed(false, 5)).is_some_and(|evidence| proves(&evidence)));
    let other = logwood_note::SigningKey::from_seed(ORIGIN, &[9; 32]).expect("a name");
    let refused = SignedSeal::open(&seal(false, 4).sign(&other), &policy(), None);
    assert!(matches!(refused, Err(SealError::Note(_))), "{refused:?}");
    let head = checkpoint(false, 4);
    assert!(SignedSeal::open(head.as_bytes(), &policy(), None).is_err(), "a checkpoint is no seal");
}

/// What a source does in a step of a run.
#[derive(Clone, Debug)]
enum Act {
    /// Shows a head, with a link that may be spoilt: at a place, by a byte.
    Show { branch: bool, size: u64, spoil: Option<(usize, u8)> },
    /// Serves entries up to a size.
    Serve { branch: bool, end: u64 },
}

fn act() -> impl Strategy<Value = Act> {
    let spoil = proptest::option::weighted(0.3, (0..12_usize, 1..=255_u8));
    let show = (any::<bool>(), 0..=SIZE_MAX, spoil).prop_map(|(branch, size, spoil)| Act::Show { branch, size, spoil });
    prop_oneof![show, (any::<bool>(), 0..=SIZE_MAX).prop_map(|(branch, end)| Act::Serve { branch, end })]
}

fn spoil(mut link: Link, spoil: Option<(usize, u8)>) -> Link {
    if let Some((at, flip)) = spoil
        && let Some(hash) = link.consistency.get_mut(at)
    {
        let mut bytes = *hash.as_bytes();
        bytes[at] ^= flip;
        *hash = Hash::from_bytes(bytes);
    }
    link
}

proptest! {
    #[test]
    fn a_run_accepts_one_history_and_accuses_nobody_who_has_only_one(
        acts in proptest::collection::vec(act(), 1..40),
        is_honest: bool,
    ) {
        let mut known: Option<SignedHead> = None;
        let mut tree = CompactRange::new();
        for act in acts {
            match act {
                Act::Show { branch, size, spoil: spoilt } => {
                    let branch = branch && !is_honest;
                    let shown = signed(branch, size);
                    let Some(before) = &known else { known = Some(shown); continue };
                    let (older, newer) = if before.head.size.0 <= size { (before, &shown) } else { (&shown, before) };
                    let extends = match relate(before, &shown) {
                        Relation::Agree => true,
                        Relation::Differ(evidence) => { prop_assert!(!is_honest && proves(&evidence)); false }
                        Relation::Open => {
                            let of_newer = newer.head == signed(true, newer.head.size.0).head;
                            let said = link(of_newer && !is_honest, older.head.size.0, newer.head.size.0);
                            match settle(older, newer, &spoil(said, spoilt)) {
                                Verdict::Extends => true,
                                Verdict::Rewritten(evidence) => {
                                    prop_assert!(!is_honest && proves(&evidence));
                                    false
                                }
                                Verdict::Unproved(_) => { prop_assert!(spoilt.is_some()); false }
                            }
                        }
                    };
                    if extends && newer.head == shown.head { known = Some(shown); }
                }
                Act::Serve { branch, end } => {
                    let Some(known) = &known else { continue };
                    let first = usize::try_from(tree.size().0).expect("small");
                    let served = leaves(branch, end).split_off(first.min(usize::try_from(end).expect("small")));
                    let at = tree.size().0 + served.len() as u64;
                    let of_known = known.head == signed(true, known.head.size.0).head;
                    let proof = proof(of_known, at, known.head.size.0);
                    if let Ok(grown) = extend(&tree, served, &known.head, &proof) {
                        tree = grown;
                    }
                }
            }
            // Whatever was said, what was taken in is the beginning of what the log signed.
            if let Some(known) = &known {
                let size = tree.size().0;
                prop_assert!(size <= known.head.size.0);
                let branches = [false, true].map(|branch| {
                    known.head == head(branch, known.head.size.0) && (size == 0 || tree.root() == head(branch, size).root)
                });
                prop_assert!(branches.contains(&true), "{branches:?}");
            }
        }
    }
}
