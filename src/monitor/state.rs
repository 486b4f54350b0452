//! What a monitor remembers between runs: one small file, written whole or not at all, and O(log n) of each log.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use logwood_merkle::CompactRange;
use logwood_monitor::follow::{SignedHead, SignedSeal};
use logwood_note::Policy;
use serde::{Deserialize, Serialize};

use crate::failure::{Usage, VerificationFailed};
use crate::{files, verified};

/// Version of the file's format.
const FORMAT: u32 = 1;

/// Most bytes of the file. A log takes a few kilobytes of it. With the longest texts, in which each byte takes two in
/// JSON, and a hundred post-quantum signatures, it takes less than a megabyte: so 32 logs fit whatever they do.
const STATE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Most sources whose largest heads are remembered: more than a monitor can be given, and enough for several that take
/// turns with one state. The one that showed nothing new for longest is forgotten first.
const SHOWN_MAX: usize = 1_024;

/// What is remembered of one log.
#[derive(Clone, Debug)]
pub(super) struct Log {
    /// The tree of all entries that were delivered, or passed over on purpose.
    pub(super) tree: CompactRange,
    /// The largest head that was verified and has a quorum, at least as large as the tree.
    pub(super) known: SignedHead,
}

/// What a source has shown of a log.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Shown {
    /// URL, as it was given.
    pub(super) source: String,
    pub(super) origin: String,
    /// Size of the largest head.
    pub(super) size: u64,
}

/// What is remembered.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Logs of which there was a head to follow.
    pub(super) logs: Vec<Log>,
    /// The largest head of each log, with a quorum or without: each of its other heads was shown to be of one history
    /// with it.
    pub(super) tips: Vec<SignedHead>,
    /// The seals of those logs that are sealed.
    pub(super) seals: Vec<SignedSeal>,
    pub(super) shown: Vec<Shown>,
    /// Bytes of the file of entries that are good.
    pub(super) out_bytes: u64,
}

/// What a round may change.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seen {
    known: Vec<SignedHead>,
    tips: Vec<SignedHead>,
    seals: Vec<SignedSeal>,
    shown: Vec<Shown>,
}

impl State {
    /// The log of this origin.
    pub(super) fn log(&self, origin: &str) -> Option<usize> {
        self.logs.iter().position(|log| log.known.origin == origin)
    }

    /// The tip of the log of this origin.
    pub(super) fn tip(&mut self, origin: &str) -> Option<&mut SignedHead> {
        self.tips.iter_mut().find(|tip| tip.origin == origin)
    }

    /// What is to be written again if it has changed.
    pub(super) fn seen(&self) -> Seen {
        Seen {
            known: self.logs.iter().map(|log| log.known.clone()).collect(),
            tips: self.tips.clone(),
            seals: self.seals.clone(),
            shown: self.shown.clone(),
        }
    }

    /// Notes the size of a head that a source shows.
    pub(super) fn show(&mut self, source: &str, head: &SignedHead) {
        let (origin, size) = (&head.origin, head.head.size.0);
        match self.shown.iter().position(|shown| shown.source == source && shown.origin == *origin) {
            Some(at) if self.shown[at].size >= size => {}
            at => {
                // The last one is the one that showed something new last.
                at.map(|at| self.shown.remove(at));
                self.shown.push(Shown { source: source.to_owned(), origin: origin.clone(), size });
                self.shown.drain(..self.shown.len().saturating_sub(SHOWN_MAX));
            }
        }
    }

    /// The size of the largest head that a source showed of a log.
    pub(super) fn largest(&self, source: &str, origin: &str) -> u64 {
        let shown = self.shown.iter().find(|shown| shown.source == source && shown.origin == origin);
        shown.map_or(0, |shown| shown.size)
    }
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Image {
    format: u32,
    out_bytes: u64,
    logs: Vec<LogImage>,
    /// The checkpoints of tips that are not the known heads of their logs, verbatim.
    #[serde(default)]
    tips: Vec<String>,
    /// Verbatim.
    #[serde(default)]
    seals: Vec<String>,
    shown: Vec<Shown>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct LogImage {
    origin: String,
    /// Entries that were delivered.
    size: u64,
    /// The compact range over them: base64, largest subtree first.
    hashes: Vec<String>,
    /// The checkpoint of the largest head, verbatim.
    checkpoint: String,
}

/// The file `state.json` of a directory that one process holds at a time.
#[derive(Debug)]
pub(super) struct StateFile {
    path: PathBuf,
    _lock: File,
}

impl StateFile {
    /// Takes the directory of the state for this process, and makes it if it is not there.
    ///
    /// # Errors
    ///
    /// If another process has it, or it is no directory.
    pub(super) fn open(dir: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make the directory {}", dir.display()))?;
        let (path, lock) = (dir.join("state.json"), dir.join("lock"));
        let cannot = || format!("cannot lock {}", lock.display());
        let file = File::create(&lock).with_context(cannot)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { path, _lock: file }),
            Err(TryLockError::WouldBlock) => anyhow::bail!("another monitor uses the state in {}", dir.display()),
            Err(TryLockError::Error(error)) => Err(error).with_context(cannot),
        }
    }

    /// What the file holds; nothing if there is no file.
    ///
    /// * `origin` - the log's origin where it differs from the name of its key.
    /// * `now` - the clock, in POSIX seconds.
    ///
    /// # Errors
    ///
    /// [`Usage`] if a head in it is not signed by a key of `policy`; any other error if it is no state.
    pub(super) fn load(&self, policy: &Policy, origin: Option<&str>, now: u64) -> anyhow::Result<State> {
        let path = self.path.display();
        if !self.path.try_exists().with_context(|| format!("cannot read {path}"))? {
            return Ok(State::default());
        }
        let broken = || format!("{path} is no state of this command: remove it to start anew");
        let not_vouched = |of: &str, error: &(dyn std::error::Error + 'static)| Usage {
            problem: format!(
                "{path} is the state of {of}, which the keys given do not vouch for: {}",
                VerificationFailed::new(error).reason
            ),
        };
        let open = |note: &str, of: &str| {
            SignedHead::open(note.as_bytes(), policy, origin, now).map_err(|error| not_vouched(of, &error))
        };
        let image: Image = serde_json::from_slice(&files::read(&self.path, STATE_BYTES_MAX)?).with_context(broken)?;
        ensure!(image.format == FORMAT, broken());
        let mut state = State { out_bytes: image.out_bytes, shown: image.shown, ..State::default() };
        for log in image.logs {
            let tree = verified::range(log.size, &log.hashes).with_context(broken)?;
            let known = open(&log.checkpoint, &log.origin)?;
            ensure!(known.origin == log.origin && tree.size() <= known.head.size, broken());
            state.logs.push(Log { tree, known });
        }
        for note in &image.tips {
            state.tips.push(open(note, "another log")?);
        }
        for Log { known, .. } in &state.logs {
            if !state.tips.iter().any(|tip| tip.origin == known.origin) {
                state.tips.push(known.clone());
            }
        }
        for note in &image.seals {
            let seal = SignedSeal::open(note.as_bytes(), policy, origin);
            state.seals.push(seal.map_err(|error| not_vouched("another log", &error))?);
        }
        Ok(state)
    }

    /// Replaces the file.
    ///
    /// # Errors
    ///
    /// If it cannot be written, or could not be read again. The old one is there then.
    pub(super) fn save(&self, state: &State) -> anyhow::Result<()> {
        let text = |note: &[u8]| String::from_utf8_lossy(note).into_owned();
        let logs = state.logs.iter().map(|Log { tree, known }| LogImage {
            origin: known.origin.clone(),
            size: tree.size().0,
            hashes: verified::hashes(tree),
            checkpoint: text(&known.note),
        });
        let is_known = |tip: &SignedHead| state.logs.iter().any(|log| log.known.note == tip.note);
        let image = Image {
            format: FORMAT,
            out_bytes: state.out_bytes,
            logs: logs.collect(),
            tips: state.tips.iter().filter(|tip| !is_known(tip)).map(|tip| text(&tip.note)).collect(),
            seals: state.seals.iter().map(|seal| text(&seal.note)).collect(),
            shown: state.shown.clone(),
        };
        let bytes = serde_json::to_vec_pretty(&image).context("cannot write the state as JSON")?;
        ensure!(
            bytes.len() <= STATE_BYTES_MAX,
            "the state of {} logs has {} bytes, and {STATE_BYTES_MAX} can be read again: give some of them to another monitor",
            state.logs.len(),
            bytes.len()
        );
        files::write_synced(&self.path, &bytes)
    }
}
