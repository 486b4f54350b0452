//! What a monitor remembers between runs: one small file, written whole or not at all, and O(log n) of each log.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use logwood_merkle::CompactRange;
use logwood_monitor::follow::SignedHead;
use logwood_note::Policy;
use serde::{Deserialize, Serialize};

use crate::failure::{Usage, VerificationFailed};
use crate::{files, verified};

/// Version of the file's format.
const FORMAT: u32 = 1;

/// Most bytes of the file: the notes of 32 logs, of at most a megabyte each.
const STATE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What is remembered of one log.
#[derive(Clone, Debug)]
pub(super) struct Log {
    /// The tree of all entries that were delivered, or passed over on purpose.
    pub(super) tree: CompactRange,
    /// The largest head that was verified, at least as large as the tree.
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
    pub(super) logs: Vec<Log>,
    pub(super) shown: Vec<Shown>,
    /// Bytes of the file of entries that are good.
    pub(super) out_bytes: u64,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Image {
    format: u32,
    out_bytes: u64,
    logs: Vec<LogImage>,
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
    /// # Errors
    ///
    /// [`Usage`] if a head in it is not signed by a key of `policy`; any other error if it is no state.
    pub(super) fn load(&self, policy: &Policy, origin: Option<&str>) -> anyhow::Result<State> {
        let path = self.path.display();
        if !self.path.try_exists().with_context(|| format!("cannot read {path}"))? {
            return Ok(State::default());
        }
        let broken = || format!("{path} is no state of this command: remove it to start anew");
        let image: Image = serde_json::from_slice(&files::read(&self.path, STATE_BYTES_MAX)?).with_context(broken)?;
        ensure!(image.format == FORMAT, broken());
        let mut state = State { out_bytes: image.out_bytes, logs: Vec::new(), shown: image.shown };
        for log in image.logs {
            let tree = verified::range(log.size, &log.hashes).with_context(broken)?;
            let known = SignedHead::open(log.checkpoint.into_bytes(), policy, origin).map_err(|error| Usage {
                problem: format!(
                    "{path} is the state of {}, which the keys given do not vouch for: {}",
                    log.origin,
                    VerificationFailed::new(&error).reason
                ),
            })?;
            ensure!(known.origin == log.origin && tree.size() <= known.head.size, broken());
            state.logs.push(Log { tree, known });
        }
        Ok(state)
    }

    /// Replaces the file.
    ///
    /// # Errors
    ///
    /// If it cannot be written. The old one is there then.
    pub(super) fn save(&self, state: &State) -> anyhow::Result<()> {
        let logs = state.logs.iter().map(|Log { tree, known }| LogImage {
            origin: known.origin.clone(),
            size: tree.size().0,
            hashes: verified::hashes(tree),
            checkpoint: String::from_utf8_lossy(&known.note).into_owned(),
        });
        let (out_bytes, shown) = (state.out_bytes, state.shown.clone());
        let image = Image { format: FORMAT, out_bytes, logs: logs.collect(), shown };
        files::write_synced(&self.path, &serde_json::to_vec_pretty(&image).context("cannot write the state as JSON")?)
    }
}
