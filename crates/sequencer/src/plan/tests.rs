//! Limits, cuts and numbers of rounds. The fault matrix tests the rest.

use proptest::prelude::*;

use super::*;

const LOG: LogNumber = LogNumber(3);

fn entry(number: u64, len: usize) -> NewEntry {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.resize(len, 0);
    let mut identity = [0; 16];
    identity[..8].copy_from_slice(&number.to_be_bytes());
    NewEntry { leaf: Hash::leaf(&bytes), bytes: bytes.into(), identity: Some(IdentityHash(identity)) }
}

fn sequencer() -> Sequencer<&'static str> {
    let mut sequencer = Sequencer::new(RoundNumber(41));
    sequencer.load(LOG, LogTail::empty());
    sequencer
}

fn absorb(sequencer: &mut Sequencer<&'static str>, entries: Vec<NewEntry>) {
    let found = vec![None; entries.len()];
    sequencer.absorb(Submission { log: LOG, entries, ticket: "ticket" }, &found);
}

fn number(sealed: &SealedRound<&'static str>) -> Option<u64> {
    sealed.round.as_ref().map(|round| round.number.0)
}

#[test]
fn rounds_are_numbered_without_a_gap_and_answers_alone_take_no_number() {
    let mut sequencer = sequencer();
    assert!(sequencer.is_empty() && sequencer.seal(0).is_none());
    absorb(&mut sequencer, vec![entry(1, 8)]);
    assert_eq!(sequencer.seal(0).as_ref().and_then(number), Some(42));
    absorb(&mut sequencer, vec![entry(1, 8)]);
    let answers = sequencer.seal(0).expect("an answer waits");
    assert_eq!((number(&answers), answers.views.len()), (None, 0));
    assert_eq!(answers.answers[0].placements, [Placement::Duplicate(LeafIndex(0))]);
    sequencer.set_state(LOG, LogState::Frozen);
    let state = sequencer.seal(0).expect("a state waits");
    assert_eq!((number(&state), state.views.len()), (Some(43), 0), "a state changes no view");
}

#[test]
fn a_round_is_full_by_entries_or_by_bytes_and_the_next_is_empty() {
    let mut sequencer = sequencer();
    let most = ROUND_ENTRIES_MAX as u64;
    absorb(&mut sequencer, (1..most).map(|number| entry(number, 8)).collect());
    assert_eq!(sequencer.room().0, 1);
    absorb(&mut sequencer, vec![entry(1, 8)]);
    assert_eq!(sequencer.room().0, 1, "a repeat takes no room");
    absorb(&mut sequencer, vec![entry(most, 8)]);
    assert_eq!(sequencer.room(), (0, ROUND_BYTES_MAX - 8 * ROUND_ENTRIES_MAX));
    assert!(sequencer.seal(0).is_some());
    assert_eq!(sequencer.room(), (ROUND_ENTRIES_MAX, ROUND_BYTES_MAX));

    let large = (0..=256).map(|number| entry(most + 1 + number, 65_535)).collect();
    absorb(&mut sequencer, large);
    assert_eq!(sequencer.room().1, 0, "257 of the longest entries are more than 16 MiB");
    let sealed = sequencer.seal(0).and_then(|sealed| sealed.round).expect("a round of one submission");
    assert_eq!(sealed.logs[0].extend.as_ref().map(|extension| extension.leaves.len()), Some(257));
}

#[test]
fn identities_are_known_until_their_round_is_adopted() {
    let mut sequencer = sequencer();
    let identity = |number| entry(number, 8).identity.expect("it has one");
    absorb(&mut sequencer, vec![entry(1, 8)]);
    sequencer.seal(0);
    absorb(&mut sequencer, vec![entry(2, 8)]);
    sequencer.seal(0);
    absorb(&mut sequencer, vec![entry(3, 8)]);
    let known = |sequencer: &Sequencer<_>| [1, 2, 3].map(|number| sequencer.knows(LOG, identity(number)));
    assert_eq!(known(&sequencer), [true, true, true]);
    assert!(!sequencer.knows(LogNumber(4), identity(1)), "identities are a log's own");
    sequencer.adopt(RoundNumber(42));
    assert_eq!(known(&sequencer), [false, true, true]);
    sequencer.adopt(RoundNumber(42));
    assert_eq!(known(&sequencer), [false, true, true], "adopting twice changes nothing");
    sequencer.adopt(RoundNumber(43));
    assert_eq!(known(&sequencer), [false, false, true], "the open round is not on disk");
}

#[test]
fn a_new_log_is_viewed_and_can_be_submitted_to_at_once() {
    let mut sequencer = Sequencer::new(RoundNumber(0));
    let settings = LogSettings {
        name: "new".into(),
        origin: "example.org/new".into(),
        vkeys: vec![],
        created_ms: 0,
        profile: logwood_store::Profile::Opaque,
        leaf_index: false,
        shard: 0,
        first_index: 0,
    };
    sequencer.create(LOG, settings.clone());
    sequencer.answer_after(LOG, "created");
    absorb(&mut sequencer, vec![entry(1, 8)]);
    sequencer.create(LogNumber(2), settings);
    let sealed = sequencer.seal(77).expect("two logs");
    let sizes: Vec<_> = sealed.views.iter().map(|(log, view)| (log.0, view.head().size.0)).collect();
    assert_eq!(sizes, [(2, 0), (3, 1)], "in order of log numbers");
    assert_eq!(sealed.answers[0].ticket, "created");
    let round = sealed.round.expect("two logs");
    assert_eq!(round.logs[1].extend.as_ref().map(|extension| extension.time_ms), Some(77));
    assert!(round.logs[0].extend.is_none() && round.logs.iter().all(|log| log.create.is_some()));
}

#[test]
#[should_panic(expected = "the driver loads a log")]
fn a_log_that_is_not_loaded_takes_nothing() {
    let mut sequencer = Sequencer::new(RoundNumber(0));
    absorb(&mut sequencer, vec![entry(1, 8)]);
}

#[test]
#[should_panic(expected = "storage was asked for every entry")]
fn every_entry_needs_its_look_up() {
    sequencer().absorb(Submission { log: LOG, entries: vec![entry(1, 8)], ticket: "ticket" }, &[]);
}

proptest! {
    #[test]
    fn cuts_lie_between_bundles_and_keep_every_entry(first in 0_u64..1_000, count in 1_u64..1_000) {
        let entries: Vec<_> = (0..count)
            .map(|number| Entry { bytes: number.to_be_bytes().to_vec().into(), identity: None })
            .collect();
        let (bundles, pieces) = split(first, entries.clone());
        prop_assert!(pieces.len() <= 2, "a begun bundle before, and one after");
        let whole = ((first + count) / BUNDLE_ENTRIES).saturating_sub(first.div_ceil(BUNDLE_ENTRIES));
        prop_assert_eq!(bundles.len() as u64, whole);

        let mut parts: Vec<(u64, Vec<Bytes>)> = Vec::new();
        for packed in &bundles {
            parts.push((packed.index * BUNDLE_ENTRIES, bundle::unpack(&packed.data).expect("just packed")));
        }
        for piece in &pieces {
            let last = piece.first.0 + piece.entries.len() as u64 - 1;
            prop_assert_eq!(piece.first.0 / BUNDLE_ENTRIES, last / BUNDLE_ENTRIES);
            parts.push((piece.first.0, piece.entries.iter().map(|entry| entry.bytes.clone()).collect()));
        }
        parts.sort();
        prop_assert_eq!(parts[0].0, first);
        let kept: Vec<_> = parts.into_iter().flat_map(|(_, entries)| entries).collect();
        let given: Vec<_> = entries.into_iter().map(|entry| entry.bytes).collect();
        prop_assert_eq!(kept, given);
    }
}

#[test]
fn a_tail_stays_until_storage_holds_all_of_it() {
    let mut sequencer = sequencer();
    assert!(sequencer.is_durable(LOG), "what was loaded is stored");
    absorb(&mut sequencer, vec![entry(1, 8)]);
    assert!(!sequencer.is_durable(LOG), "an entry is planned");
    assert!(sequencer.seal(0).is_some());
    assert!(!sequencer.is_durable(LOG), "its round is in flight");
    sequencer.adopt(RoundNumber(42));
    assert!(sequencer.is_durable(LOG));
    sequencer.unload(LOG);
    assert!(!sequencer.is_loaded(LOG));
}

#[test]
#[should_panic(expected = "a tail stays in memory while storage is behind it")]
fn a_tail_that_is_ahead_of_storage_is_never_forgotten() {
    let mut sequencer = sequencer();
    absorb(&mut sequencer, vec![entry(1, 8)]);
    let _ = sequencer.seal(0);
    sequencer.unload(LOG);
}
