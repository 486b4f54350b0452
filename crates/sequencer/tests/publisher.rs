//! The publisher under a seeded scheduler: rounds, ticks, slow and failing stores, anchors and witnesses, crashes and
//! reloads in any order. After every step everything that was promised is checked against what the disks hold.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use logwood_merkle::{Hash, TreeHead, TreeSize};
use logwood_sequencer::publisher::{
    self, Action, BatchId, Event, HISTORY_PAGE_HEADS, HeadTime, Now, Publication, Publisher, PublisherSettings, Step,
    note,
};
use logwood_store::{HeadSignature, LogNumber, PublishedHead};
use proptest::prelude::*;

const INTERVAL_MS: u64 = 1_000;
const REFRESH_MS: u64 = 60_000;
const LOGS: u32 = 3;
/// Its signatures are renewed.
const RENEWS: LogNumber = LogNumber(2);
/// It has witnesses.
const ASKS: LogNumber = LogNumber(3);
/// [`LOGS`] without witnesses, and [`ASKS`].
const ALL: u32 = LOGS + 1;

/// What may happen next. The scheduler draws these; everything else follows.
#[derive(Clone, Debug)]
enum Happening {
    /// A round's head is signed: the log grows by so much.
    Grow(u32, u64),
    /// So many milliseconds pass; the POSIX clock is off by so much afterwards.
    Pass(u64, i64),
    /// The oldest thing that the driver is doing ends, so or so.
    Finish(Outcome),
    Want(u32),
    /// The asking that began first is over, with a cosignature or without.
    Ask {
        cosigned: bool,
    },
    /// A witness is late: it cosigns a head that was asked for long ago.
    CosignLate,
    /// The process dies; what is being written may or may not be on the disks.
    Crash {
        stored: bool,
        anchored: bool,
    },
    /// A write's outcome is unknown: the store is opened anew.
    Reload {
        stored: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    Done,
    /// It failed and left nothing behind.
    Failed,
    /// It failed, and what was written is there.
    FailedAfterwards,
}

#[derive(Clone, Debug)]
enum Doing {
    Store(BatchId, Vec<Publication>),
    Anchor(BatchId, Vec<(LogNumber, TreeHead)>),
}

/// The disks, the driver and everybody who watches.
struct World {
    publisher: Publisher,
    now: Now,
    sizes: BTreeMap<LogNumber, u64>,
    history: BTreeMap<(LogNumber, u64), PublishedHead>,
    /// Every head that ever entered the history.
    ever: BTreeSet<(LogNumber, u64)>,
    anchor: BTreeMap<LogNumber, TreeHead>,
    doing: VecDeque<Doing>,
    served: BTreeMap<LogNumber, PublishedHead>,
    watchers: BTreeMap<LogNumber, Watcher>,
    taken: BTreeMap<LogNumber, Vec<u64>>,
    wanted: BTreeSet<LogNumber>,
    writes: u64,
    /// What is asked for, oldest first.
    asking: VecDeque<TreeHead>,
    /// What was asked for, and lacks its late cosignature.
    late: VecDeque<TreeHead>,
    /// Late cosignatures that this process knows of.
    cosigned: Vec<(u64, HeadSignature)>,
}

/// Follows a log from the beginning, as `WatchTreeHeads` does: pages of the history, up to the newest head served.
#[derive(Default)]
struct Watcher {
    next: u64,
    seen: Vec<u64>,
}

fn head(size: u64) -> TreeHead {
    TreeHead { size: TreeSize(size), root: Hash::leaf(&size.to_be_bytes()) }
}

fn signature(name: &str, size: u64) -> HeadSignature {
    HeadSignature { name: name.into(), key_id: 1, signature: Bytes::copy_from_slice(&size.to_be_bytes()) }
}

impl World {
    fn new() -> Self {
        let settings = PublisherSettings { interval_ms: INTERVAL_MS, refresh_ms: REFRESH_MS };
        let mut world = Self {
            publisher: Publisher::new(settings),
            now: Now { posix_ms: 1_700_000_000_000, elapsed_ms: 5 },
            sizes: BTreeMap::new(),
            history: BTreeMap::new(),
            ever: BTreeSet::new(),
            anchor: BTreeMap::new(),
            doing: VecDeque::new(),
            served: BTreeMap::new(),
            watchers: BTreeMap::new(),
            taken: BTreeMap::new(),
            wanted: BTreeSet::new(),
            writes: 0,
            asking: VecDeque::new(),
            late: VecDeque::new(),
            cosigned: Vec::new(),
        };
        for log in (0..ALL).map(LogNumber) {
            world.sizes.insert(log, 0);
            world.watchers.insert(log, Watcher::default());
        }
        world.load();
        world
    }

    fn handle(&mut self, event: Event) {
        self.publisher.handle(event, self.now);
    }

    /// The driver finds the logs on disk, and signs their heads again.
    fn load(&mut self) {
        for log in (0..ALL).map(LogNumber) {
            let stored = self.history.range((log, 0)..=(log, u64::MAX)).next_back().map(|(_, head)| head.clone());
            let anchored = self.anchor.get(&log).copied();
            if let Some(stored) = stored.clone().filter(|stored| publisher::may_be_seen(stored, anchored)) {
                self.serve(log, stored);
            }
            self.handle(Event::Loaded { log, renews: log == RENEWS, asks: log == ASKS, stored, anchored });
            self.release(log);
        }
        self.poll();
    }

    fn release(&mut self, log: LogNumber) {
        let size = self.sizes[&log];
        self.handle(Event::Released { log, head: head(size), signature: signature("log", size) });
    }

    fn happen(&mut self, happening: &Happening) {
        match *happening {
            Happening::Grow(log, by) => {
                *self.sizes.get_mut(&LogNumber(log)).expect("a log") += by;
                self.release(LogNumber(log));
            }
            Happening::Pass(by, off) => {
                self.now.elapsed_ms += by;
                self.now.posix_ms = (self.now.posix_ms + by).saturating_add_signed(off);
            }
            Happening::Finish(outcome) => self.finish(outcome),
            Happening::Want(log) => {
                // A driver asks only if there is something to wait for.
                let log = LogNumber(log);
                if self.served.get(&log).is_none_or(|served| served.head.size.0 < self.sizes[&log]) {
                    self.wanted.insert(log);
                    self.handle(Event::Wanted { log });
                }
            }
            Happening::Ask { cosigned } => self.answer(cosigned),
            Happening::CosignLate => {
                let Some(head) = self.late.pop_front() else { return };
                let late = signature("late witness", self.now.elapsed_ms);
                self.cosigned.push((head.size.0, late.clone()));
                self.handle(Event::Cosigned { log: ASKS, head, signatures: vec![late] });
            }
            Happening::Crash { stored, anchored } => {
                self.forget_witnesses();
                for doing in std::mem::take(&mut self.doing) {
                    match doing {
                        Doing::Store(_, publications) if stored => self.write_history(publications),
                        Doing::Anchor(_, heads) if anchored => self.anchor.extend(heads),
                        Doing::Store(..) | Doing::Anchor(..) => {}
                    }
                }
                self.wanted.clear();
                let settings = PublisherSettings { interval_ms: INTERVAL_MS, refresh_ms: REFRESH_MS };
                self.publisher = Publisher::new(settings);
                // Another process has another clock.
                self.now.elapsed_ms = 3;
                self.taken.clear();
                self.load();
            }
            Happening::Reload { stored } => {
                self.forget_witnesses();
                // The anchor's write goes on, and its outcome comes when nobody waits for it any more.
                let (stores, anchors): (VecDeque<_>, VecDeque<_>) =
                    std::mem::take(&mut self.doing).into_iter().partition(|doing| matches!(doing, Doing::Store(..)));
                self.doing = anchors;
                for doing in stores {
                    let Doing::Store(batch, publications) = doing else { continue };
                    if stored {
                        self.write_history(publications);
                    }
                    self.handle(Event::NotStored { batch });
                }
                self.wanted.clear();
                self.handle(Event::Reset);
                self.poll();
                self.load();
            }
        }
        self.poll();
    }

    fn answer(&mut self, cosigned: bool) {
        let Some(head) = self.asking.pop_front() else { return };
        let signatures = if cosigned { vec![signature("witness", self.now.elapsed_ms)] } else { vec![] };
        self.late.push_back(head);
        self.handle(Event::Asked { log: ASKS, head, signatures });
    }

    /// A process that begins anew asks anew.
    fn forget_witnesses(&mut self) {
        self.asking.clear();
        self.late.clear();
        self.cosigned.clear();
    }

    fn finish(&mut self, outcome: Outcome) {
        let Some(doing) = self.doing.pop_front() else { return };
        match doing {
            Doing::Store(batch, publications) => {
                // A refusal leaves nothing; a store whose outcome is unknown is reloaded (`Happening::Reload`).
                if outcome == Outcome::Done {
                    self.write_history(publications);
                    self.handle(Event::Stored { batch });
                } else {
                    self.handle(Event::NotStored { batch });
                }
            }
            Doing::Anchor(batch, heads) => {
                if outcome != Outcome::Failed {
                    self.anchor.extend(heads);
                }
                let done = outcome == Outcome::Done;
                self.handle(if done { Event::Anchored { batch } } else { Event::NotAnchored { batch } });
            }
        }
    }

    fn write_history(&mut self, publications: Vec<Publication>) {
        for Publication { log, head, thinned } in publications {
            for size in thinned {
                let gone = self.history.remove(&(log, size)).expect("what is thinned was there");
                assert!(gone.head.size < head.head.size, "the newest head stays");
            }
            let size = head.head.size.0;
            if let Some(old) = self.history.insert((log, size), head.clone()) {
                assert_eq!(old.head, head.head, "one root for one size");
                assert!(old.time_ms <= head.time_ms, "time does not go back");
                let names = |head: &PublishedHead| -> BTreeSet<String> {
                    head.signatures.iter().map(|line| line.name.clone()).collect()
                };
                assert!(names(&old).is_subset(&names(&head)), "no signature is lost");
                continue;
            }
            let newest = self.history.range((log, 0)..=(log, u64::MAX)).next_back().expect("just added");
            assert_eq!(newest.0.1, size, "the history grows at its end");
            self.ever.insert((log, size));
        }
    }

    /// Does what the publisher asks for, as a driver does.
    fn poll(&mut self) {
        loop {
            let actions = self.publisher.poll(self.now);
            if actions.is_empty() {
                return;
            }
            for action in actions {
                self.act(action);
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Prepare { log, head, time_ms, history } => {
                assert!(head.size.0 <= self.sizes[&log], "only what a round has signed is published");
                self.taken.entry(log).or_default().push(self.now.elapsed_ms);
                let page = |from: u64| {
                    let page = self.history.range((log, from)..=(log, u64::MAX)).take(HISTORY_PAGE_HEADS);
                    page.map(|((_, size), head)| HeadTime { size: *size, time_ms: head.time_ms }).collect()
                };
                let history = history.map(|from| from.map(page).unwrap_or_default());
                let signatures = if log == RENEWS { vec![signature("time", time_ms)] } else { vec![] };
                self.handle(Event::Prepared { log, signatures, history });
            }
            Action::Ask { log, head } => {
                assert_eq!(log, ASKS, "the others have no witnesses");
                let stored = self.history.get(&(log, head.head.size.0));
                assert_eq!(stored.map(|stored| stored.head), Some(head.head), "stored before a witness sees it");
                self.asking.push_back(head.head);
            }
            Action::Amend { log, head, signatures } => {
                assert!(self.served[&log].head.size >= head.size, "what was not served is not amended");
                // Now and then it cannot be read.
                if self.now.elapsed_ms.is_multiple_of(11) {
                    return self.handle(Event::NotAmended { log });
                }
                let stored = self.history.get(&(log, head.size.0)).cloned().map(|mut stored| {
                    note::merge(&mut stored.signatures, signatures);
                    stored
                });
                self.handle(Event::Amended { log, head: stored });
            }
            Action::Store { batch, publications } => {
                self.writes += 1;
                assert!(!self.doing.iter().any(|doing| matches!(doing, Doing::Store(..))), "one store at a time");
                self.doing.push_back(Doing::Store(batch, publications));
            }
            Action::Anchor { batch, heads } => {
                self.writes += 1;
                for (log, head) in &heads {
                    assert!(self.history.contains_key(&(*log, head.size.0)), "stored before it is anchored");
                }
                self.doing.push_back(Doing::Anchor(batch, heads));
            }
            Action::Serve { log, head } => self.serve(log, head),
            Action::Failed { log, step } => {
                assert_ne!(step, Step::Foreign, "nobody else has this anchor");
                self.wanted.remove(&log);
            }
        }
    }

    fn serve(&mut self, log: LogNumber, head: PublishedHead) {
        let size = head.head.size;
        assert_eq!(self.history.get(&(log, size.0)), Some(&head), "stored before it is served");
        assert!(self.anchor.get(&log).is_some_and(|anchored| anchored.size >= size), "anchored before it is served");
        if let Some(before) = self.served.get(&log).filter(|before| log == ASKS && before.head.size >= size) {
            assert!(head.time_ms <= before.time_ms, "only cosignatures come late");
            if before.head.size == size {
                self.served.insert(log, head);
            }
            return;
        }
        if let Some(before) = self.served.get(&log) {
            assert!(before.head.size <= size, "no head after a larger one");
            assert!(before.head.size < size || log == RENEWS || before == &head, "a head is served once");
            assert!(before.time_ms <= head.time_ms, "time does not go back");
        }
        if size.0 >= self.sizes[&log] {
            self.wanted.remove(&log);
        }
        self.served.insert(log, head);
        self.watch(log);
    }

    fn watch(&mut self, log: LogNumber) {
        let (Some(newest), Some(watcher)) = (self.served.get(&log), self.watchers.get_mut(&log)) else { return };
        let end = newest.head.size.0 + 1;
        for ((_, size), _) in self.history.range((log, watcher.next.min(end))..(log, end)) {
            watcher.seen.push(*size);
            watcher.next = size + 1;
        }
    }

    /// What holds after every step.
    fn check(&self) {
        for (log, watcher) in &self.watchers {
            assert!(watcher.seen.is_sorted_by(|a, b| a < b), "each head once, in order");
            let newest = self.served.get(log).map_or(0, |served| served.head.size.0 + 1);
            let kept: Vec<_> = self.history.range((*log, 0)..(*log, newest)).map(|((_, size), _)| *size).collect();
            assert!(kept.iter().all(|size| watcher.seen.contains(size)), "every kept head");
            let times = self.history.range((*log, 0)..=(*log, u64::MAX)).map(|(_, head)| head.time_ms);
            assert!(times.is_sorted(), "the history is in order of time too");
        }
    }

    /// Lets everything end well, until nothing more happens.
    fn settle(&mut self) {
        for _ in 0..200 {
            self.now.elapsed_ms += INTERVAL_MS;
            self.now.posix_ms += INTERVAL_MS;
            self.poll();
            while !self.doing.is_empty() || !self.asking.is_empty() {
                self.answer(true);
                self.poll();
                self.finish(Outcome::Done);
                self.poll();
            }
            self.check();
        }
        for (size, line) in &self.cosigned {
            let Some(head) = self.history.get(&(ASKS, *size)) else { continue };
            let newest =
                head.signatures.iter().filter(|stored| stored.name == line.name).map(|line| &line.signature).max();
            assert!(newest >= Some(&line.signature), "what came late is stored in the end");
        }
    }
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        6 => (0..ALL, 1..500_u64).prop_map(|(log, by)| Happening::Grow(log, by)),
        3 => any::<bool>().prop_map(|cosigned| Happening::Ask { cosigned }),
        2 => Just(Happening::CosignLate),
        6 => (1..2_500_u64).prop_map(|by| Happening::Pass(by, 0)),
        1 => (1..3_000_000_u64, -3_600_000..3_600_000_i64).prop_map(|(by, off)| Happening::Pass(by, off)),
        8 => Just(Happening::Finish(Outcome::Done)),
        2 => prop_oneof![Just(Outcome::Failed), Just(Outcome::FailedAfterwards)].prop_map(Happening::Finish),
        2 => (0..ALL).prop_map(Happening::Want),
        1 => any::<(bool, bool)>().prop_map(|(stored, anchored)| Happening::Crash { stored, anchored }),
        1 => any::<bool>().prop_map(|stored| Happening::Reload { stored }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_no_head_is_seen_before_it_is_stored_and_anchored(
        happenings in prop::collection::vec(happening(), 1..150),
    ) {
        let mut world = World::new();
        for happening in &happenings {
            world.happen(happening);
            world.check();
        }
        world.settle();
        for (log, size) in &world.sizes {
            let served = world.served.get(log).map(|served| served.head.size.0);
            prop_assert_eq!(served, Some(*size), "the newest head is published in the end");
        }
        prop_assert!(world.wanted.is_empty(), "whoever waited was told");
    }

    #[test]
    fn a_log_is_taken_at_most_once_an_interval(
        steps in prop::collection::vec((0..LOGS, 1..900_u64), 1..200),
    ) {
        let mut world = World::new();
        for (log, by) in steps {
            world.happen(&Happening::Grow(log, 1));
            world.happen(&Happening::Pass(by, 0));
            world.happen(&Happening::Finish(Outcome::Done));
            world.happen(&Happening::Finish(Outcome::Done));
        }
        for times in world.taken.values() {
            prop_assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= INTERVAL_MS), "{times:?}");
        }
    }
}

/// A world in which every log is published, and nothing is left to do.
fn published() -> World {
    let mut world = World::new();
    (0..LOGS).for_each(|log| world.happen(&Happening::Grow(log, 7)));
    world.settle();
    world
}

#[test]
fn a_new_log_publishes_its_empty_tree() {
    let mut world = World::new();
    world.settle();
    assert!((0..LOGS).all(|log| world.served[&LogNumber(log)].head.size.0 == 0));
}

#[test]
fn an_idle_log_writes_nothing_and_the_others_renew() {
    let mut world = published();
    let before = world.writes;
    for _ in 0..600 {
        world.happen(&Happening::Pass(INTERVAL_MS, 0));
        assert!(world.doing.iter().all(|doing| match doing {
            Doing::Store(_, publications) => publications.iter().all(|publication| publication.log == RENEWS),
            Doing::Anchor(..) => false,
        }));
        world.happen(&Happening::Finish(Outcome::Done));
    }
    let renewals = world.writes - before;
    assert!((9..=10).contains(&renewals), "one write a refresh interval, without the anchor: {renewals}");
    assert_eq!(world.history.len(), 2 * LOGS as usize + 1, "renewals replace");
}

#[test]
fn all_logs_of_a_tick_share_one_round_and_one_sync() {
    let mut world = published();
    let before = world.writes;
    (0..LOGS).for_each(|log| world.happen(&Happening::Grow(log, 7)));
    world.settle();
    assert_eq!(world.writes - before, 2 + 3, "one round, one sync, and three renewals in 200 s");
}

#[test]
fn a_wanted_head_does_not_wait_for_the_tick() {
    let mut world = published();
    world.happen(&Happening::Grow(0, 1));
    assert!(world.doing.is_empty(), "the tick is not over");
    world.happen(&Happening::Want(0));
    world.happen(&Happening::Finish(Outcome::Done));
    world.happen(&Happening::Finish(Outcome::Done));
    assert_eq!(world.served[&LogNumber(0)].head.size.0, 8);
}

#[test]
fn a_head_that_was_wanted_between_two_ticks_takes_the_place_of_none() {
    let mut world = published();
    world.happen(&Happening::Pass(INTERVAL_MS / 2, 0));
    for size in [8, 9] {
        world.happen(&Happening::Grow(0, 1));
        if size == 8 {
            world.happen(&Happening::Want(0));
        } else {
            world.happen(&Happening::Pass(INTERVAL_MS / 2, 0));
        }
        world.happen(&Happening::Finish(Outcome::Done));
        world.happen(&Happening::Finish(Outcome::Done));
        assert_eq!(world.served[&LogNumber(0)].head.size.0, size);
    }
}

#[test]
fn a_crash_between_store_and_anchor_is_made_good_before_the_head_is_seen() {
    let mut world = published();
    world.happen(&Happening::Grow(1, 1));
    world.happen(&Happening::Pass(INTERVAL_MS, 0));
    world.happen(&Happening::Finish(Outcome::Done));
    assert!(matches!(world.doing.front(), Some(Doing::Anchor(..))), "stored, not anchored");
    world.happen(&Happening::Crash { stored: false, anchored: false });
    assert_eq!(world.served[&LogNumber(1)].head.size.0, 7, "not yet");
    world.happen(&Happening::Finish(Outcome::Done));
    assert_eq!(world.served[&LogNumber(1)].head.size.0, 8);
}

#[test]
fn nothing_is_published_any_more_once_the_anchor_is_anothers() {
    let mut world = published();
    world.handle(Event::Foreign);
    let told = world.publisher.poll(world.now);
    assert_eq!(told.len(), ALL as usize, "each log is told");
    world.release(LogNumber(0));
    world.handle(Event::Loaded { log: LogNumber(0), renews: true, asks: false, stored: None, anchored: None });
    world.release(LogNumber(0));
    world.now.elapsed_ms += 10 * REFRESH_MS;
    assert_eq!(world.publisher.poll(world.now), []);
    world.handle(Event::Wanted { log: LogNumber(0) });
    let told = world.publisher.poll(world.now);
    assert_eq!(told, [Action::Failed { log: LogNumber(0), step: Step::Foreign }]);
}

#[test]
fn attempts_after_failures_come_more_and_more_seldom() {
    let mut world = published();
    world.happen(&Happening::Grow(0, 1));
    let mut attempts = 0;
    for _ in 0..600 {
        world.happen(&Happening::Pass(INTERVAL_MS, 0));
        let is_it = matches!(world.doing.front(), Some(Doing::Store(_, all)) if all[0].log == LogNumber(0));
        attempts += usize::from(is_it);
        world.happen(&Happening::Finish(if is_it { Outcome::Failed } else { Outcome::Done }));
    }
    assert!((15..40).contains(&attempts), "in 10 minutes, at most one in 30 s in the end: {attempts}");
}

#[test]
fn witnesses_who_do_not_answer_hold_back_no_other_log() {
    let mut world = published();
    (0..ALL).for_each(|log| world.happen(&Happening::Grow(log, 1)));
    world.happen(&Happening::Pass(INTERVAL_MS, 0));
    world.happen(&Happening::Finish(Outcome::Done));
    world.happen(&Happening::Finish(Outcome::Done));
    assert!((0..LOGS).all(|log| world.served[&LogNumber(log)].head.size.0 == 8));
    assert_eq!(world.served[&ASKS].head.size.0, 0, "not before there is a quorum, or the deadline has passed");
    world.happen(&Happening::Ask { cosigned: false });
    world.happen(&Happening::Finish(Outcome::Done));
    world.happen(&Happening::Finish(Outcome::Done));
    assert_eq!(world.served[&ASKS].head.size.0, 1);
    assert_eq!(world.served[&ASKS].signatures.len(), 1, "without a cosignature: it is published all the same");
    world.late.drain(..world.late.len() - 1);
    world.happen(&Happening::CosignLate);
    world.happen(&Happening::Finish(Outcome::Done));
    assert_eq!(world.served[&ASKS].signatures.len(), 2, "which is added when it comes");
}

#[test]
fn a_tick_that_witnesses_outlast_is_made_up_for_once_they_are_done() {
    let mut world = published();
    world.happen(&Happening::Grow(ASKS.0, 1));
    world.happen(&Happening::Pass(INTERVAL_MS, 0));
    let began = world.now.elapsed_ms;
    for round in 1..=4 {
        assert_eq!(world.taken[&ASKS].last(), Some(&world.now.elapsed_ms), "round {round}");
        world.happen(&Happening::Finish(Outcome::Done));
        world.happen(&Happening::Grow(ASKS.0, 1));
        world.happen(&Happening::Pass(INTERVAL_MS, 0));
        world.happen(&Happening::Pass(INTERVAL_MS / 4, 0));
        world.happen(&Happening::Ask { cosigned: false });
        world.happen(&Happening::Finish(Outcome::Done));
        world.happen(&Happening::Finish(Outcome::Done));
    }
    assert_eq!(world.now.elapsed_ms - began, 5 * INTERVAL_MS, "four publications of a deadline each, and no pause");
}

#[test]
fn a_crash_while_witnesses_are_asked_leaves_their_head_in_the_history() {
    let mut world = published();
    world.happen(&Happening::Grow(ASKS.0, 5));
    world.happen(&Happening::Pass(INTERVAL_MS, 0));
    world.happen(&Happening::Finish(Outcome::Done));
    assert_eq!(world.asking, [head(5)]);
    assert_eq!(world.served[&ASKS].head.size.0, 0);
    world.happen(&Happening::Crash { stored: false, anchored: false });
    assert!(world.history.contains_key(&(ASKS, 5)), "what a witness may have cosigned is known");
    world.happen(&Happening::Finish(Outcome::Done));
    assert_eq!(world.served[&ASKS].head.size.0, 5);
}

#[test]
fn a_renewal_is_stored_once_with_what_the_witnesses_say() {
    let now = |elapsed_ms| Now { posix_ms: 1, elapsed_ms };
    let mut publisher = Publisher::new(PublisherSettings { interval_ms: INTERVAL_MS, refresh_ms: REFRESH_MS });
    let stored = PublishedHead { head: head(1), time_ms: 1, signatures: vec![signature("log", 1)] };
    let anchored = Some(head(1));
    let loaded = Event::Loaded { log: ASKS, renews: true, asks: true, stored: Some(stored), anchored };
    publisher.handle(loaded, now(0));
    publisher.handle(Event::Released { log: ASKS, head: head(1), signature: signature("log", 1) }, now(0));
    assert_eq!(publisher.poll(now(0)), [], "it is fresh");
    assert!(matches!(&publisher.poll(now(REFRESH_MS))[..], [Action::Prepare { .. }]));
    let history = [Vec::new(), Vec::new()];
    publisher
        .handle(Event::Prepared { log: ASKS, signatures: vec![signature("log time", 2)], history }, now(REFRESH_MS));
    let asked = publisher.poll(now(REFRESH_MS));
    assert!(matches!(&asked[..], [Action::Ask { head: asked, .. }] if asked.head == head(1)), "{asked:?}");
    let signatures = vec![signature("witness", 3)];
    publisher.handle(Event::Asked { log: ASKS, head: head(1), signatures }, now(REFRESH_MS));
    let stored = publisher.poll(now(REFRESH_MS));
    let [Action::Store { batch, publications }] = &stored[..] else { panic!("{stored:?}") };
    assert_eq!(publications[0].head.signatures.len(), 3);
    publisher.handle(Event::Stored { batch: *batch }, now(REFRESH_MS));
    let served = publisher.poll(now(REFRESH_MS));
    assert!(matches!(&served[..], [Action::Serve { .. }]), "it is in the anchor: {served:?}");
}

#[test]
fn cosignatures_that_cannot_be_added_now_are_added_later_and_fail_nobody_who_waits() {
    let now = |elapsed_ms| Now { posix_ms: 1, elapsed_ms };
    let mut publisher = Publisher::new(PublisherSettings { interval_ms: INTERVAL_MS, refresh_ms: REFRESH_MS });
    let stored = PublishedHead { head: head(1), time_ms: 1, signatures: vec![signature("own", 1)] };
    let anchored = Some(head(1));
    let loaded = Event::Loaded { log: ASKS, renews: true, asks: true, stored: Some(stored), anchored };
    publisher.handle(loaded, now(0));
    let signatures = vec![signature("late witness", 1)];
    publisher.handle(Event::Cosigned { log: ASKS, head: head(1), signatures: signatures.clone() }, now(0));
    let amend = Action::Amend { log: ASKS, head: head(1), signatures };
    assert_eq!(publisher.poll(now(0)), std::slice::from_ref(&amend));
    publisher.handle(Event::Released { log: ASKS, head: head(2), signature: signature("own", 2) }, now(0));
    publisher.handle(Event::Wanted { log: ASKS }, now(0));
    publisher.handle(Event::NotAmended { log: ASKS }, now(0));
    let next = publisher.poll(now(1));
    assert!(matches!(&next[..], [Action::Prepare { head: taken, .. }] if *taken == head(2)), "{next:?}");
    publisher.handle(Event::NotPrepared { log: ASKS }, now(1));
    assert!(publisher.poll(now(2 * INTERVAL_MS * 60)).contains(&amend), "the cosignatures were not forgotten");
}

#[test]
fn the_driver_is_told_when_to_come_back() {
    let world = published();
    let wake_ms = world.publisher.wake_ms(world.now);
    assert!(wake_ms > world.now.elapsed_ms && wake_ms <= world.now.elapsed_ms + INTERVAL_MS);
}
