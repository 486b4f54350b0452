//! Every write point, every fault, every retry: the log is whole after each, and keeps every promise.
//!
//! ```text
//!   write point       x  fault                          x  the producer           x  planner
//!   create, piece,       lost, persisted, sync failed,     sends the same again,     waits for the commit,
//!   bundle, tile,        sync failed and power lost,       other bytes under the     or has planned and sealed
//!   repack, publish,     refused (store kept or            same identity,            the round after
//!   several logs ...     opened again)                     or gives up
//! ```

mod harness;

use std::ops::Range;

use logwood_merkle::{Hash, LeafIndex, TreeSize};
use logwood_sequencer::{LogTail, Placement};
use logwood_store::{CommitError, Fault, LogState, LogStore, MemoryDisk};

use harness::{Driver, anonymous, entry, root};

/// What one round of the script plans.
#[derive(Clone, Copy)]
enum Action {
    Create(&'static str),
    /// Entries of these numbers.
    Append(&'static str, u64, u64),
    /// As many copies of one entry without an identity.
    Anonymous(&'static str, u64),
    Freeze(&'static str),
    Publish(&'static str),
    Repack(&'static str, u64),
}

use Action::{Anonymous, Append, Create, Freeze, Publish, Repack};

/// A write point: what its round plans, and how many entries are new by it.
struct WritePoint {
    actions: &'static [Action],
    new: usize,
}

const SCRIPT: &[WritePoint] = &[
    WritePoint { actions: &[Create("a"), Create("b")], new: 0 },
    WritePoint { actions: &[Append("a", 0, 1)], new: 1 },
    WritePoint { actions: &[Append("a", 1, 255), Append("b", 0, 3)], new: 257 },
    // Fills bundle 0 and completes tile 0, by a piece.
    WritePoint { actions: &[Append("a", 255, 256)], new: 1 },
    WritePoint { actions: &[Append("a", 256, 257), Publish("a")], new: 1 },
    WritePoint { actions: &[Repack("a", 0), Publish("a")], new: 0 },
    // Whole bundles between two pieces, in both logs.
    WritePoint { actions: &[Append("a", 257, 800), Append("b", 3, 600), Anonymous("b", 2)], new: 543 + 597 + 2 },
    // Repeats of older rounds, new entries, and repeats within the round.
    WritePoint { actions: &[Append("a", 790, 810), Append("a", 805, 812)], new: 12 },
    WritePoint {
        actions: &[Create("c"), Append("c", 0, 256), Freeze("b"), Repack("a", 1), Append("a", 812, 815)],
        new: 256 + 3,
    },
    WritePoint { actions: &[Append("c", 250, 260), Publish("c")], new: 4 },
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    Lost,
    Persisted,
    SyncFailed,
    SyncFailedThenPowerLoss,
    Refused,
    RefusedStoreKept,
}

impl Failure {
    const ALL: [Self; 6] = [
        Self::Lost,
        Self::Persisted,
        Self::SyncFailed,
        Self::SyncFailedThenPowerLoss,
        Self::Refused,
        Self::RefusedStoreKept,
    ];

    fn fault(self) -> Fault {
        match self {
            Self::Lost => Fault::Lost,
            Self::Persisted => Fault::Persisted,
            Self::SyncFailed | Self::SyncFailedThenPowerLoss => Fault::SyncFailed,
            Self::Refused | Self::RefusedStoreKept => Fault::RefuseStalled,
        }
    }

    /// Whether the round is found when the store is opened again.
    fn survives(self) -> bool {
        matches!(self, Self::Persisted | Self::SyncFailed)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retry {
    Same,
    OtherBytes,
    Never,
}

fn entries(log: &'static str, numbers: Range<u64>, version: u8) -> Vec<logwood_sequencer::NewEntry> {
    numbers.map(|number| entry(log, number, version)).collect()
}

/// Plans a round of the script; what it needs of a log that was never made is left out.
fn plan(driver: &mut Driver, actions: &[Action], version: u8) {
    for action in actions {
        let (Create(log) | Append(log, ..) | Anonymous(log, _) | Freeze(log) | Publish(log) | Repack(log, _)) = *action;
        let stored = driver.record(log).is_some();
        match *action {
            Create(log) => driver.create(log),
            _ if !driver.logs.contains_key(log) => {}
            Append(log, first, end) => driver.submit(log, entries(log, first..end, version)),
            Anonymous(log, copies) => driver.submit(log, (0..copies).map(|_| anonymous(log, 0)).collect()),
            Freeze(log) => driver.set_state(log, &LogState::Frozen),
            Publish(log) if stored => driver.publish(log),
            Repack(log, index) if stored => driver.repack(log, index),
            Publish(_) | Repack(..) => {}
        }
    }
}

/// Fails the commit of the round `at`, and recovers as the server does.
fn fail(driver: &mut Driver, at: usize, failure: Failure, ahead: bool) {
    plan(driver, SCRIPT[at].actions, 1);
    let sealed = driver.seal().expect("each round of the script writes");
    let next = SCRIPT.get(at + 1).filter(|_| ahead).and_then(|point| {
        plan(driver, point.actions, 1);
        driver.seal()
    });

    driver.disk.fail_next(failure.fault());
    let refused = failure.fault() == Fault::RefuseStalled;
    match driver.commit(sealed) {
        Err(CommitError::Refused { .. }) => assert!(refused, "an unknown outcome is not a refusal"),
        Err(CommitError::Unknown { .. }) => assert!(!refused, "a refusal is definite"),
        Ok(_) => panic!("the fault strikes"),
    }
    if let Some(round) = next.filter(|_| !refused).and_then(|next| next.round) {
        let late = driver.store().commit(&round);
        assert!(matches!(late, Err(CommitError::Unknown { .. })), "nothing follows an unknown outcome");
    }
    if failure == Failure::SyncFailedThenPowerLoss {
        driver.disk.power_loss();
    }
    if failure == Failure::RefusedStoreKept { driver.rebuild() } else { driver.restart() }
}

/// Checks the answers to a retry. An entry without an identity is new each time.
fn assert_answers(point: &WritePoint, answers: &[Placement], survived: bool, retry: Retry) {
    let count = |is: fn(&Placement) -> bool| answers.iter().filter(|placement| is(placement)).count();
    let new = count(|placement| matches!(placement, Placement::New(_)));
    let duplicates = count(|placement| matches!(placement, Placement::Duplicate(_)));
    let taken = count(|placement| matches!(placement, Placement::Taken(_)));
    if survived {
        let anonymous = point.actions.iter().map(|action| if let Anonymous(_, copies) = action { *copies } else { 0 });
        assert_eq!(new as u64, anonymous.sum::<u64>(), "what is logged is not logged again");
    } else {
        assert_eq!(new, point.new, "what was lost is logged");
    }
    match retry {
        Retry::Same => assert_eq!(taken, 0, "the same bytes contradict nothing"),
        Retry::OtherBytes if survived => assert_eq!(duplicates, 0, "other bytes are not passed off as the same"),
        Retry::OtherBytes | Retry::Never => {}
    }
}

#[test]
fn every_write_point_fails_in_every_way_and_nothing_is_lost_or_logged_twice() {
    let mut rows = 0;
    let mut before = Driver::open(&MemoryDisk::new());
    for (at, point) in SCRIPT.iter().enumerate() {
        for failure in Failure::ALL {
            for retry in [Retry::Same, Retry::OtherBytes, Retry::Never] {
                for ahead in [false, true] {
                    println!("round {at}, {failure:?}, retry {retry:?}, planned ahead: {ahead}");
                    let mut driver = before.fork();
                    run_row(&mut driver, at, failure, retry, ahead);
                    rows += 1;
                }
            }
        }
        plan(&mut before, point.actions, 1);
        before.round();
    }
    before.audit();
    assert_eq!(rows, SCRIPT.len() * 6 * 3 * 2);
}

fn run_row(driver: &mut Driver, at: usize, failure: Failure, retry: Retry, ahead: bool) {
    let round_before = driver.store().state().expect("state").round;
    fail(driver, at, failure, ahead);
    driver.audit();
    let round = driver.store().state().expect("state").round;
    assert_eq!(round > round_before, failure.survives(), "the round is there, or nothing of it");

    if retry != Retry::Never {
        plan(driver, SCRIPT[at].actions, if retry == Retry::Same { 1 } else { 2 });
        let answers = driver.round();
        assert_answers(&SCRIPT[at], &answers, failure.survives(), retry);
        driver.audit();
    }
    for point in &SCRIPT[at + 1..] {
        plan(driver, point.actions, 1);
        driver.round();
    }
    driver.audit();
    if retry != Retry::Never || failure.survives() {
        let sizes = ["a", "b", "c"].map(|log| driver.record(log).expect("made").head.head.size.0);
        // The two anonymous entries are logged anew by a retry of a round that had survived.
        let again = 2 * u64::from(at == 6 && failure.survives() && retry != Retry::Never);
        assert_eq!(sizes, [815, 602 + again, 260], "each entry is logged once");
    }
    driver.restart();
    driver.audit();
}

/// A disk with one log, `a`, of entries 0 to `size`, logged by rounds of up to 8,192.
fn grown(size: u64) -> Driver {
    let mut driver = Driver::open(&MemoryDisk::new());
    driver.create("a");
    driver.round();
    for first in (0..size).step_by(8_192) {
        driver.submit("a", entries("a", first..size.min(first + 8_192), 1));
        driver.round();
    }
    driver
}

#[test]
fn rounds_that_end_around_a_boundary_fail_and_recover() {
    for boundary in [256, 512, 65_536] {
        let before = grown(boundary - 3);
        for end in [boundary - 1, boundary, boundary + 1, boundary + 257] {
            for failure in [Failure::Lost, Failure::SyncFailed] {
                let mut driver = before.fork();
                // The disk is large: the promises of its growth are audited once, below.
                driver.promises.clear();
                for failing in [true, false] {
                    driver.submit("a", entries("a", boundary - 3..end, 1));
                    let sealed = driver.seal().expect("a round or its repeats");
                    if failing {
                        driver.disk.fail_next(failure.fault());
                        assert!(driver.commit(sealed).is_err());
                        driver.restart();
                    } else {
                        driver.commit(sealed).expect("no fault was asked for");
                    }
                }
                assert_eq!(driver.record("a").expect("made").head.head.size, TreeSize(end));
                driver.audit();
            }
        }
        before.audit();
    }
}

#[test]
fn a_restart_at_every_size_gives_the_root_of_the_entries() {
    let mut driver = Driver::open(&MemoryDisk::new());
    driver.create("a");
    driver.round();
    let mut leaves: Vec<Hash> = Vec::new();
    for size in 0..=600 {
        driver.restart();
        let record = driver.record("a").expect("made");
        let tail = LogTail::load(driver.store(), &record).expect("a sound log loads");
        assert_eq!((tail.head().size, tail.head().root), (TreeSize(size), root(&leaves)));
        driver.submit("a", vec![entry("a", size, 1)]);
        assert_eq!(driver.round(), [Placement::New(LeafIndex(size))]);
        leaves.push(entry("a", size, 1).leaf);
    }
    driver.audit();
}

#[test]
fn however_rounds_cut_the_entries_the_tree_is_the_same() {
    let mut roots = Vec::new();
    for step in [1, 7, 100, 255, 256, 257, 1_000] {
        let mut driver = Driver::open(&MemoryDisk::new());
        driver.create("a");
        for first in (0..1_000).step_by(step) {
            driver.submit("a", entries("a", first..1_000.min(first + step as u64), 1));
            driver.round();
        }
        driver.audit();
        roots.push(driver.record("a").expect("made").head.head);
    }
    assert!(roots.iter().all(|head| head == &roots[0]));
}

#[test]
fn repeats_are_found_in_the_round_in_flight_and_on_disk() {
    use Placement::{Duplicate, New, Taken};
    let at = LeafIndex;
    let mut driver = grown(2);
    let one = |number, version| vec![entry("a", number, version)];

    // Within one submission, and within one round.
    driver.submit("a", vec![entry("a", 2, 1), entry("a", 2, 1), entry("a", 2, 2), entry("a", 0, 1)]);
    driver.submit("a", one(2, 1));
    let first = driver.seal().expect("one new entry");
    // Across rounds in flight: three are sealed before one is committed.
    driver.submit("a", vec![entry("a", 2, 2), entry("a", 3, 1)]);
    let second = driver.seal().expect("one new entry");
    driver.submit("a", vec![entry("a", 3, 1), entry("a", 2, 1)]);
    let third = driver.seal().expect("answers that wait");
    assert!(third.round.is_none(), "repeats write nothing");

    let told = driver.commit(first).expect("no fault");
    assert_eq!(told, [New(at(2)), Duplicate(at(2)), Taken(at(2)), Duplicate(at(0)), Duplicate(at(2))]);
    // Adopted: the first round's identities are asked of the disk, the second's are in flight.
    driver.submit("a", vec![entry("a", 2, 1), entry("a", 3, 2)]);
    assert_eq!(driver.commit(second).expect("no fault"), [Taken(at(2)), New(at(3))]);
    assert_eq!(driver.commit(third).expect("no fault"), [Duplicate(at(3)), Duplicate(at(2))]);
    assert_eq!(driver.round(), [Duplicate(at(2)), Taken(at(3))]);
    driver.audit();
}

#[test]
fn logs_share_rounds_and_nothing_else() {
    let mut driver = Driver::open(&MemoryDisk::new());
    for log in ["a", "b", "c"] {
        driver.create(log);
    }
    let commits = driver.disk.commits();
    for turn in 0..20 {
        for (log, count) in [("a", 1), ("b", 40), ("c", 300)] {
            driver.submit(log, entries(log, turn * count..(turn + 1) * count, 1));
        }
        // The identity of another log's entry is free in this one.
        driver.submit("a", vec![entry("b", 1_000 + turn, 1)]);
        driver.round();
    }
    assert_eq!(driver.disk.commits(), commits + 20, "one write a round, however many logs");
    let sizes = ["a", "b", "c"].map(|log| driver.record(log).expect("made").head.head.size.0);
    assert_eq!(sizes, [40, 800, 6_000]);
    driver.audit();
    driver.restart();
    driver.audit();
}

#[test]
fn an_idle_log_and_one_that_hears_repeats_write_nothing() {
    let mut driver = grown(300);
    let commits = driver.disk.commits();
    for _ in 0..10 {
        assert!(driver.seal().is_none(), "nothing waits");
        driver.submit("a", entries("a", 0..300, 1));
        assert_eq!(driver.round().len(), 300);
        driver.restart();
    }
    assert_eq!(driver.disk.commits(), commits);
    driver.audit();
}
