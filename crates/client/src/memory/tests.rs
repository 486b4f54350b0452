//! Nothing under which a receipt was given out is forgotten before a published head is shown to extend it.

use logwood_proto::v1::HeadLevel;

use super::*;
use crate::testing::{forked, verified};

fn published(size: u64) -> VerifiedHead {
    VerifiedHead { level: HeadLevel::Published, ..verified(size) }
}

fn unsettled(memory: &Memory) -> Vec<u64> {
    let mut sizes: Vec<_> = memory.unsettled().iter().map(|head| head.head.size.0).collect();
    sizes.sort_unstable();
    sizes
}

fn latest(memory: &Memory) -> Option<u64> {
    memory.latest().map(|head| head.head.size.0)
}

/// Advances to `size`, from `known` if that is not 0, with receipts.
fn append(memory: &mut Memory, known: u64, size: u64) {
    let known = (known > 0).then(|| verified(known));
    memory.advance(known.as_ref(), &verified(size), true).expect("one history");
}

#[test]
fn a_chain_of_appends_owes_one_check() {
    let mut memory = Memory::default();
    append(&mut memory, 0, 1);
    for size in 2..100 {
        append(&mut memory, size - 1, size);
    }
    assert_eq!((unsettled(&memory), latest(&memory)), (vec![99], Some(99)));
    memory.settled(&verified(99));
    assert!(memory.unsettled().is_empty());
}

#[test]
fn answers_that_overtake_each_other_stay_unsettled_unless_a_chain_ties_them() {
    let mut memory = Memory::default();
    append(&mut memory, 0, 5);
    append(&mut memory, 5, 9);
    append(&mut memory, 9, 14);
    append(&mut memory, 9, 11);
    assert_eq!((unsettled(&memory), latest(&memory)), (vec![11, 14], Some(14)));
    append(&mut memory, 5, 9);
    assert_eq!(unsettled(&memory), [9, 11, 14], "receipts under 9 came after it was tied: one check more, none less");
    append(&mut memory, 9, 20);
    assert_eq!((unsettled(&memory), latest(&memory)), (vec![11, 14, 20], Some(20)));
    memory.extended(&verified(11), &verified(20));
    memory.extended(&verified(14), &verified(20));
    assert_eq!(unsettled(&memory), [20]);
}

#[test]
fn a_head_that_was_only_looked_at_owes_nothing_until_nothing_ties_it() {
    let mut memory = Memory::default();
    memory.advance(None, &verified(3), false).expect("the first");
    memory.advance(Some(&verified(3)), &verified(7), false).expect("extends");
    assert!(memory.unsettled().is_empty());
    memory.advance(Some(&verified(3)), &verified(9), false).expect("extends 3, nobody knows about 7");
    assert_eq!((unsettled(&memory), latest(&memory)), (vec![7], Some(9)));
}

#[test]
fn a_head_that_is_called_published_settles_nothing_by_itself() {
    let mut memory = Memory::default();
    append(&mut memory, 0, 5);
    memory.advance(Some(&verified(5)), &published(8), true).expect("extends");
    assert_eq!((unsettled(&memory), latest(&memory)), (vec![8], Some(8)));
    memory.extended(&verified(8), &published(9));
    assert_eq!(unsettled(&memory), [9]);
    memory.settled(&verified(9));
    assert!(memory.unsettled().is_empty());
}

#[test]
fn two_trees_of_one_size_are_tampering() {
    let mut memory = Memory::default();
    append(&mut memory, 0, 5);
    append(&mut memory, 5, 9);
    append(&mut memory, 5, 7);
    for size in [7, 9] {
        let error = memory.advance(None, &forked(size), false).expect_err("another tree");
        assert!(error.is_tampering(), "{error}");
    }
    assert_eq!((unsettled(&memory), latest(&memory)), (vec![7, 9], Some(9)), "nothing was forgotten");
}

#[test]
fn what_two_processes_learned_is_all_kept() {
    let base = Snapshot { latest: Some(verified(5)), unsettled: vec![verified(5), verified(4)] };
    let mut ours = Memory::new(base.clone());
    append(&mut ours, 5, 8);
    // The other process settled 4, and went another way from 5.
    let theirs = Snapshot { latest: Some(verified(9)), unsettled: vec![verified(9)] };
    let unrelated = ours.merge(&base, theirs).expect("no two trees of one size");
    assert_eq!(unrelated.map(|head| head.head.size.0), Some(8));
    assert_eq!((unsettled(&ours), latest(&ours)), (vec![8, 9], Some(9)));
}

#[test]
fn a_merge_with_what_is_known_changes_nothing() {
    let base = Snapshot { latest: Some(verified(5)), unsettled: vec![verified(5)] };
    let mut ours = Memory::new(base.clone());
    append(&mut ours, 5, 8);
    assert_eq!(ours.merge(&base, base.clone()).expect("the same"), None);
    assert_eq!((unsettled(&ours), latest(&ours)), (vec![8], Some(8)));
    assert_eq!(ours.merge(&Snapshot::default(), base).expect("5 is in the chain"), None);
    assert_eq!(latest(&ours), Some(8));
    let fork = Snapshot { latest: Some(forked(8)), unsettled: Vec::new() };
    assert!(ours.merge(&Snapshot::default(), fork).is_err_and(|error| error.is_tampering()));
}

#[test]
fn whatever_the_order_of_answers_every_receipt_is_under_an_unsettled_head() {
    // Seven calls, each of which knew a head that was the latest at some time.
    for seed in 0..300_u64 {
        let mut random = seed;
        let mut pick = |bound: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % bound
        };
        let mut memory = Memory::default();
        let mut extends: Vec<(u64, u64)> = Vec::new();
        let (mut known, mut seen) = (vec![0], Vec::new());
        for _ in 0..7 {
            let from = known[usize::try_from(pick(known.len() as u64)).expect("small")];
            let size = from + 1 + pick(4);
            append(&mut memory, from, size);
            extends.push((from, size));
            seen.push(size);
            known.push(latest(&memory).expect("one"));
        }
        for head in seen {
            let owed = unsettled(&memory);
            let mut open = vec![head];
            let mut is_covered = false;
            while let Some(next) = open.pop() {
                is_covered |= owed.contains(&next);
                open.extend(extends.iter().filter(|(from, _)| *from == next).map(|(_, to)| to));
            }
            assert!(is_covered, "seed {seed}: {head} is lost; {extends:?}, {owed:?}");
        }
    }
}
