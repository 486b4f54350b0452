//! What every [`LogStore`] must do, checked from outside: call [`run`] in a test of the implementation.
//!
//! Each check builds rounds as a sequencer would, commits them, and compares all that can be read with a model, both
//! at once and after the store was opened again. Failures that need a disk that fails are not for this suite.

use logwood_merkle::{Hash, LeafIndex, TileId, TreeHead, TreeSize};

use crate::contract::{HeadQuery, IndexRow, LogQuery, LogStore, Lookup};
use crate::records::{
    Entry, HeadSignature, IdentityHash, LogNumber, LogRecord, LogRound, LogState, PublishedHead, Round, RoundNumber,
};
use crate::{BUNDLE_ENTRIES, ENTRY_BYTES_MAX};

mod model;

use model::{Model, entry, identity, named};

/// Runs every check on the store that `open` opens: empty at first, and the same again at every call.
///
/// # Panics
///
/// If the store breaks a promise; the message says which.
pub fn run<S: LogStore>(open: &mut dyn FnMut() -> S) {
    let store = open();
    let mut suite = Suite { open, store: Some(store), round: RoundNumber(0), models: Vec::new() };
    suite.a_new_store_is_empty();
    suite.logs_are_found_by_name_and_listed_in_order();
    suite.entries_come_back_however_rounds_cut_them();
    suite.pages_are_cut_by_end_and_by_bytes();
    suite.repacked_bundles_replace_their_pieces();
    suite.lookups_find_the_entry_and_never_another();
    suite.identities_that_share_a_prefix_are_told_apart();
    suite.history_is_kept_by_size_and_by_time();
    suite.a_log_remembers_its_state();
    suite.one_round_extends_several_logs();
    suite.the_largest_entries_fit();
    suite.every_entry_has_its_index_rows();
}

struct Suite<'a, S> {
    open: &'a mut dyn FnMut() -> S,
    store: Option<S>,
    round: RoundNumber,
    models: Vec<Model>,
}

impl<S: LogStore> Suite<'_, S> {
    fn a_new_store_is_empty(&mut self) {
        let state = self.store().state().expect("state");
        assert_eq!((state.round, state.next_log), (RoundNumber(0), LogNumber(0)), "a new store has no rounds");
        assert_ne!(state.identity_secret, [0; 32], "the identity secret is made with the store");
        self.reopen();
        assert_eq!(self.store().state().expect("state"), state, "secrets and numbers survive");
        let all = LogQuery::After { name: "", logs_max: 10 };
        assert_eq!(self.store().logs(all).expect("logs"), []);
        assert_eq!(self.store().entries(LogNumber(0), LeafIndex(0), LeafIndex(9), 9).expect("entries"), []);
        assert_eq!(self.store().heads(LogNumber(0), HeadQuery::Latest, 9).expect("heads"), []);
    }

    fn logs_are_found_by_name_and_listed_in_order(&mut self) {
        for name in ["m", "a", "mm", "z.z"] {
            self.create(named(name));
        }
        let names = |query| -> Vec<String> {
            self.store().logs(query).expect("logs").into_iter().map(|log| log.settings.name).collect()
        };
        assert_eq!(names(LogQuery::After { name: "", logs_max: 10 }), ["a", "m", "mm", "z.z"]);
        assert_eq!(names(LogQuery::After { name: "a", logs_max: 2 }), ["m", "mm"]);
        assert_eq!(names(LogQuery::After { name: "m0", logs_max: 10 }), ["mm", "z.z"]);
        assert_eq!(names(LogQuery::Name("mm")), ["mm"]);
        assert!(names(LogQuery::Name("mmm")).is_empty() && names(LogQuery::Name("")).is_empty());
        self.verify();
    }

    fn entries_come_back_however_rounds_cut_them(&mut self) {
        let log = self.create(named("cuts"));
        for count in [1, 2, 250, 3, 256, 1, 300, 512, 1_000, 5, 255] {
            self.append(log, count, |index| entry(log, index));
            self.verify_log(log);
        }
        self.verify();
    }

    fn pages_are_cut_by_end_and_by_bytes(&mut self) {
        let log = self.create(named("pages"));
        self.append(log, 100, |index| entry(log, index));
        self.append(log, 500, |index| entry(log, index));
        let model = &self.models[log];
        let page = |first, end, bytes_max| {
            self.store().entries(model.number(), LeafIndex(first), LeafIndex(end), bytes_max).expect("entries")
        };
        assert_eq!(page(10, 20, usize::MAX), model.entries[10..20], "up to `end`");
        assert_eq!(page(90, 300, usize::MAX), model.entries[90..300], "across pieces and bundles");
        assert_eq!(page(599, 10_000, usize::MAX), model.entries[599..], "what is past the size is not there");
        assert_eq!(page(600, 601, usize::MAX), []);
        assert_eq!(page(u64::MAX - 1, u64::MAX, usize::MAX), []);
        assert_eq!(page(5, 5, usize::MAX), []);
        assert_eq!(page(20, 10, usize::MAX), []);
        assert_eq!(page(250, 600, 0).len(), 1, "at least one entry");
        let bytes: usize = model.entries[250..260].iter().map(|entry| entry.bytes.len()).sum();
        assert_eq!(page(250, 600, bytes), model.entries[250..260], "no further one once the bytes are reached");
        assert_eq!(page(250, 600, bytes + 1), model.entries[250..261]);
        self.verify();
    }

    fn repacked_bundles_replace_their_pieces(&mut self) {
        let log = self.create(named("repack"));
        for count in [100, 100, 100, 300, 7] {
            self.append(log, count, |index| entry(log, index));
        }
        assert_eq!(self.models[log].unpacked(), [0, 1]);
        let mut round = self.models[log].round();
        round.repacked = vec![self.models[log].repack(1)];
        self.commit(vec![round]);
        self.verify_log(log);

        self.append(log, 200, |index| entry(log, index));
        let mut round = self.models[log].extend(100, |index| entry(log, index));
        round.repacked = [0, 2].map(|bundle| self.models[log].repack(bundle)).into();
        self.commit_extended(log, round);
        self.verify();
    }

    fn lookups_find_the_entry_and_never_another(&mut self) {
        let log = self.create(named("lookups"));
        let plain = self.create(model::without_leaf_index("no-leaf-index"));
        let same = |index: u64| Entry { bytes: "the same".into(), identity: Some(identity(99, index)) };
        for which in [log, plain] {
            self.append(which, 3, |index| entry(which, index));
            self.append(which, 300, same);
            self.append(which, 300, |index| Entry { identity: None, ..entry(which, index) });
        }
        let leaf = |bytes: &[u8]| Lookup::Leaf(Hash::leaf(bytes));
        let by_identity = |which, index| Lookup::Identity(entry(which, index).identity.expect("entries have one"));
        let lookups = [
            by_identity(log, 2),
            by_identity(log, 400),
            Lookup::Identity(identity(99, 302)),
            Lookup::Identity(identity(99, 3)),
            by_identity(plain, 1),
            leaf(b"the same"),
            leaf(&entry(log, 602).bytes),
            leaf(&entry(log, 1).bytes),
            leaf(b"never seen"),
        ];
        let expected = [Some(2), None, Some(302), Some(3), None, Some(3), Some(602), Some(1), None];
        let find = |which: usize, lookups: &[Lookup]| -> Vec<Option<u64>> {
            let found = self.store().find(self.models[which].number(), lookups).expect("find");
            found.into_iter().map(|index| index.map(|index| index.0)).collect()
        };
        assert_eq!(find(log, &lookups), expected, "answers come in the order asked");
        assert_eq!(find(plain, &[leaf(b"the same"), by_identity(plain, 1)]), [None, Some(1)], "no leaf index");
        assert_eq!(find(log, &[]), []);
        self.verify();
    }

    fn identities_that_share_a_prefix_are_told_apart(&mut self) {
        let log = self.create(named("prefixes"));
        let twin = |tail: u8| IdentityHash([7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 0, 0, 0, tail]);
        let with_twin = |index: u64| {
            let tail = u8::try_from(index).expect("small");
            Entry { identity: Some(twin(tail)), ..entry(log, index) }
        };
        self.append(log, 2, with_twin);
        self.append(log, 1, with_twin);
        self.append(log, 400, |index| entry(log, index));
        let lookups = [3, 2, 0, 1].map(|tail| Lookup::Identity(twin(tail)));
        let found = self.store().find(self.models[log].number(), &lookups).expect("find");
        assert_eq!(found, [None, Some(LeafIndex(2)), Some(LeafIndex(0)), Some(LeafIndex(1))]);
        self.verify();
    }

    fn history_is_kept_by_size_and_by_time(&mut self) {
        let log = self.create(named("history"));
        for (count, time_ms) in [(5, 1_000), (300, 2_000), (300, 2_000), (1, 70_000_000_000)] {
            let mut round = self.models[log].extend(count, |index| entry(log, index));
            round.published = vec![model::published(&round, time_ms, 1)];
            self.commit_extended(log, round);
        }
        let number = self.models[log].number();
        let sizes = |query, heads_max| -> Vec<u64> {
            let heads = self.store().heads(number, query, heads_max).expect("heads");
            heads.into_iter().map(|head| head.head.size.0).collect()
        };
        assert_eq!(sizes(HeadQuery::FromSize(0), 10), [5, 305, 605, 606]);
        assert_eq!(sizes(HeadQuery::FromSize(6), 2), [305, 605]);
        assert_eq!(sizes(HeadQuery::FromSize(607), 2), []);
        assert_eq!(sizes(HeadQuery::FromTime(1_001), 10), [305, 605, 606]);
        assert_eq!(sizes(HeadQuery::FromTime(2_000), 1), [305]);
        assert_eq!(sizes(HeadQuery::FromTime(u64::MAX), 1), []);
        assert_eq!(sizes(HeadQuery::Latest, 9), [606]);
        assert_eq!(sizes(HeadQuery::Below(606), 2), [605, 305]);
        assert_eq!(sizes(HeadQuery::Below(u64::MAX), 9), [606, 605, 305, 5]);
        assert_eq!(sizes(HeadQuery::Below(5), 9), []);

        let mut renewed = self.models[log].heads[1].clone();
        renewed.time_ms = 3_000;
        renewed.signatures = vec![model::signature(7), model::signature(8)];
        let mut round = self.models[log].round();
        round.published = vec![renewed.clone()];
        self.commit(vec![round]);
        let from = self.store().heads(number, HeadQuery::FromTime(2_000), 10).expect("heads");
        let sizes: Vec<_> = from.iter().map(|head| head.head.size.0).collect();
        assert_eq!(sizes, [605, 305, 606], "a renewed head is found by its new time only");
        assert_eq!(from[1], renewed);
        self.verify();

        let mut round = self.models[log].extend(1, |index| entry(log, index));
        round.published = vec![model::published(&round, 70_000_000_001, 1)];
        round.thinned = vec![605, 5, 604];
        self.commit_extended(log, round);
        let heads = |query| -> Vec<u64> {
            let heads = self.store().heads(number, query, 10).expect("heads");
            heads.into_iter().map(|head| head.head.size.0).collect()
        };
        assert_eq!(heads(HeadQuery::FromSize(0)), [305, 606, 607], "what is thinned is gone");
        assert_eq!(heads(HeadQuery::FromTime(0)), [305, 606, 607], "by time too");
        self.verify();
    }

    fn a_log_remembers_its_state(&mut self) {
        let log = self.create(named("states"));
        let sealed = LogState::Sealed { note: "the seal".into() };
        for state in [LogState::Frozen, LogState::Active, sealed] {
            let mut round = self.models[log].round();
            round.state = Some(state);
            self.commit(vec![round]);
            self.verify();
        }
    }

    fn one_round_extends_several_logs(&mut self) {
        let old = self.create(named("several-old"));
        self.append(old, 200, |index| entry(old, index));
        let new = self.models.len();
        let number = LogNumber(u32::try_from(new).expect("few logs"));
        self.models.push(Model::new(number, named("several-new"), self.round.next()));
        let first = self.models[old].extend(300, |index| entry(old, index));
        let mut second = self.models[new].extend(257, |index| entry(new, index));
        second.create = Some(named("several-new"));
        second.published = vec![model::published(&second, 5, 1)];
        self.commit(vec![first, second]);
        self.verify();
        assert_eq!(self.store().state().expect("state").round, self.round);
    }

    fn the_largest_entries_fit(&mut self) {
        let log = self.create(named("largest"));
        let largest = |index: u64| {
            let mut bytes = index.to_be_bytes().repeat(ENTRY_BYTES_MAX / 8 + 1);
            bytes.truncate(ENTRY_BYTES_MAX);
            Entry { bytes: bytes.into(), identity: Some(identity(55, index)) }
        };
        self.append(log, BUNDLE_ENTRIES, largest);
        self.append(log, 3, largest);
        self.append(log, 1, |_| Entry { bytes: "x".into(), identity: None });
        let page = self.store().entries(self.models[log].number(), LeafIndex(200), LeafIndex(201), 1);
        assert_eq!(page.expect("entries"), self.models[log].entries[200..201]);
        self.verify();
    }

    fn every_entry_has_its_index_rows(&mut self) {
        let leaf_secret = self.store().state().expect("state").leaf_secret;
        for model in &self.models {
            let mut expected = Vec::new();
            for (entry, index) in model.entries.iter().zip((0..).map(LeafIndex)) {
                expected.extend(entry.identity.map(|identity| IndexRow::of_identity(&identity, index)));
                if model.record.settings.leaf_index {
                    expected.push(IndexRow::of_leaf(&leaf_secret, &Hash::leaf(&entry.bytes), index));
                }
            }
            let mut rows = Vec::new();
            self.store().visit_index(model.number(), &mut |row| rows.push(row)).expect("index");
            expected.sort_unstable();
            assert!(
                rows == expected,
                "the index of {} is not that of its entries, in order",
                model.record.settings.name
            );
        }
    }

    fn store(&self) -> &S {
        self.store.as_ref().expect("dropped only while it is opened again")
    }

    fn reopen(&mut self) {
        self.store = None;
        self.store = Some((self.open)());
    }

    /// Makes a log in a round of its own; answers its place in `models`.
    fn create(&mut self, settings: crate::records::LogSettings) -> usize {
        let place = self.models.len();
        let number = LogNumber(u32::try_from(place).expect("few logs"));
        assert_eq!(self.store().state().expect("state").next_log, number, "log numbers are consecutive");
        self.models.push(Model::new(number, settings.clone(), self.round.next()));
        let mut round = LogRound::new(number);
        round.create = Some(settings);
        self.commit(vec![round]);
        place
    }

    fn append(&mut self, log: usize, count: u64, make: impl Fn(u64) -> Entry) {
        let round = self.models[log].extend(count, make);
        self.commit_extended(log, round);
    }

    fn commit_extended(&mut self, log: usize, round: LogRound) {
        assert_eq!(round.log, self.models[log].number());
        self.commit(vec![round]);
    }

    /// Commits a round, and does to the models what it does to the store.
    fn commit(&mut self, logs: Vec<LogRound>) {
        let round = Round { number: self.round.next(), logs };
        self.store().commit(&round).expect("a round is committed");
        self.round = round.number;
        for log_round in &round.logs {
            self.models[log_round.log.0 as usize].adopt(round.number, log_round);
        }
    }

    /// Compares everything with the models: now, and after the store was opened again.
    fn verify(&mut self) {
        for _ in 0..2 {
            for log in 0..self.models.len() {
                self.verify_log(log);
            }
            assert_eq!(self.store().state().expect("state").round, self.round, "the round number survives");
            self.reopen();
        }
    }

    fn verify_log(&self, log: usize) {
        let (model, store) = (&self.models[log], self.store());
        let name = model.record.settings.name.as_str();
        let records = store.logs(LogQuery::Name(name)).expect("logs");
        let expected = LogRecord { unpacked: model.unpacked(), ..model.record.clone() };
        assert_eq!(records, [expected], "the record of log {name}");

        let mut entries: Vec<Entry> = Vec::new();
        while let at = entries.len() as u64
            && at < model.entries.len() as u64
        {
            let page = store.entries(model.number(), LeafIndex(at), LeafIndex(u64::MAX), 1 << 20).expect("entries");
            assert!(!page.is_empty(), "entry {at} of log {name} is there");
            entries.extend(page);
        }
        assert!(entries == model.entries, "the entries of log {name}");

        let ids: Vec<TileId> = model.tiles.keys().copied().chain([TileId { level: 0, index: 1 << 30 }]).collect();
        let expected: Vec<_> = model.tiles.values().cloned().map(Some).chain([None]).collect();
        assert!(store.tiles(model.number(), &ids).expect("tiles") == expected, "the tiles of log {name}");

        let heads = store.heads(model.number(), HeadQuery::FromSize(0), usize::MAX).expect("heads");
        assert_eq!(heads, model.heads, "the history of log {name}");
    }
}
