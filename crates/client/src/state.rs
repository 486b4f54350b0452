//! What a client remembers between runs, by server and log: the key it trusts, the last head it verified under each
//! key, and the heads whose receipts are not settled.
//!
//! ```text
//! <log>-<16 hex digits>.json     replaced atomically, so that a crash leaves the old or the new
//! <log>-<16 hex digits>.lock     locked from reading to replacing, so that processes take turns
//! ```
//!
//! Processes that share a directory never overwrite what another has learned: they merge ([`Memory::merge`]).
//! A file that is not as it was written is refused. To take it for a first contact would make damage to the file
//! a way to have another key accepted.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use logwood_note::VerifierKey;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::memory::{Memory, Snapshot};
use crate::{ClientError, VerifiedHead};

/// Largest state file in bytes: [`UNSETTLED_MAX`] notes of about 300 bytes, and as much again for other keys.
const STATE_BYTES_MAX: u64 = 1024 * 1024;

/// Most heads of one key that may be unsettled.
pub(crate) const UNSETTLED_MAX: usize = 1_024;

/// Most keys of one log that are remembered.
const KEYS_MAX: usize = 16;

/// Of the file's format.
const VERSION: u32 = 1;

/// Where one (server, log) is remembered.
#[derive(Clone, Debug)]
pub(crate) struct StateFile {
    directory: PathBuf,
    path: PathBuf,
    server: String,
    log: String,
}

/// Why a key is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeySource {
    /// The caller named it: from now on it is the one to trust.
    Named,
    /// The caller's policy lists it. Another one that was pinned meanwhile stays pinned.
    Listed,
    /// It was pinned before.
    Remembered,
    /// The server named it just now, on first contact.
    PinnedNow,
}

/// What was remembered.
#[derive(Debug)]
pub(crate) struct Remembered {
    pub(crate) key: VerifierKey,
    pub(crate) snapshot: Snapshot,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    version: u32,
    server: String,
    log: String,
    /// Trusted unless the caller names another.
    vkey: String,
    keys: Vec<OfKey>,
}

/// What was verified under one key.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OfKey {
    vkey: String,
    /// The note of the largest head.
    checkpoint: Option<String>,
    /// The notes of the heads that a published head has still to extend.
    unsettled: Vec<String>,
}

impl OfKey {
    fn new(key: &VerifierKey, snapshot: &Snapshot) -> Self {
        let note = |head: &VerifiedHead| String::from_utf8_lossy(&head.note).into_owned();
        let unsettled = snapshot.unsettled.iter().map(note).collect();
        Self { vkey: key.to_string(), checkpoint: snapshot.latest.as_ref().map(note), unsettled }
    }

    /// Checks every signature again.
    fn open(&self, key: &VerifierKey) -> Result<Snapshot, ClientError> {
        let open = |note: &String| VerifiedHead::from_note(Bytes::from(note.clone()), key);
        let latest = self.checkpoint.as_ref().map(open).transpose()?;
        let unsettled = self.unsettled.iter().map(open).collect::<Result<_, _>>()?;
        Ok(Snapshot { latest, unsettled })
    }
}

impl StateFile {
    pub(crate) fn new(directory: &Path, server: &str, log: &str) -> Self {
        let id: [u8; 32] = Sha256::new().chain_update(server).chain_update("\n").chain_update(log).finalize().into();
        let id = u64::from_be_bytes([id[0], id[1], id[2], id[3], id[4], id[5], id[6], id[7]]);
        let path = directory.join(format!("{log}-{id:016x}.json"));
        Self { directory: directory.to_owned(), path, server: server.to_owned(), log: log.to_owned() }
    }

    /// What was remembered under `key`, or, if none is named, under the pinned one. `None` if nothing is pinned.
    ///
    /// # Errors
    ///
    /// [`ClientError::State`] if the file is unreadable or does not hold what [`StateFile::sync`] wrote.
    pub(crate) fn load(&self, key: Option<&VerifierKey>) -> Result<Option<Remembered>, ClientError> {
        let Some(contents) = self.read()? else {
            return Ok(None);
        };
        let pinned = contents.vkey.parse().map_err(|error| self.damaged(&error))?;
        let key = key.cloned().unwrap_or(pinned);
        let snapshot = self.snapshot(&contents, &key)?.unwrap_or_default();
        Ok(Some(Remembered { key, snapshot }))
    }

    /// Merges `memory` with what other processes wrote meanwhile, and writes the result.
    ///
    /// * `base` - what this process last read or wrote; updated.
    /// * `source` - a key that was pinned just now is refused if another process has pinned another.
    ///
    /// Gives back the smaller of two heads that nothing relates, as [`Memory::merge`] does.
    ///
    /// # Errors
    ///
    /// * [`ClientError::Verification`] if two processes have verified different trees of one size.
    /// * [`ClientError::State`] if the file is not what it was, or cannot be written; nothing is lost then.
    pub(crate) fn sync(
        &self,
        key: &VerifierKey,
        source: KeySource,
        memory: &Mutex<Memory>,
        base: &mut Snapshot,
    ) -> Result<Option<VerifiedHead>, ClientError> {
        let _lock = self.lock().map_err(|error| self.error(&error))?;
        let contents = self.read()?;
        let theirs = contents.as_ref().map(|contents| self.snapshot(contents, key)).transpose()?.flatten();
        // If somebody moved the file away, nobody has settled what was in it.
        let theirs = theirs.unwrap_or_else(|| base.clone());
        let text = key.to_string();
        let pinned = contents.as_ref().map(|contents| contents.vkey.clone());
        if source == KeySource::PinnedNow && pinned.as_ref().is_some_and(|pinned| *pinned != text) {
            return Err(ClientError::failed("the server named another key to another process: compare it elsewhere"));
        }
        let vkey = pinned.filter(|_| source != KeySource::Named).unwrap_or_else(|| text.clone());
        let (merged, unrelated) = {
            let mut memory = memory.lock();
            let unrelated = memory.merge(base, theirs)?;
            (memory.snapshot(), unrelated)
        };
        let mut keys = contents.map(|contents| contents.keys).unwrap_or_default();
        keys.retain(|other| other.vkey != text);
        keys.push(OfKey::new(key, &merged));
        if keys.len() > KEYS_MAX || merged.unsettled.len() > UNSETTLED_MAX {
            let problem = "too many heads are unsettled, or too many keys were used: `logwood prove --settle`";
            return Err(self.error(&problem));
        }
        let (server, log) = (self.server.clone(), self.log.clone());
        let contents = Contents { version: VERSION, server, log, vkey, keys };
        let json = serde_json::to_vec_pretty(&contents).map_err(|error| self.error(&error))?;
        self.replace(&json).map_err(|error| self.error(&error))?;
        *base = merged;
        Ok(unrelated)
    }

    fn read(&self) -> Result<Option<Contents>, ClientError> {
        let mut json = Vec::new();
        match File::open(&self.path) {
            Ok(file) => file.take(STATE_BYTES_MAX + 1).read_to_end(&mut json).map_err(|error| self.error(&error))?,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.error(&error)),
        };
        if json.len() as u64 > STATE_BYTES_MAX {
            return Err(self.damaged(&"it is larger than any state file"));
        }
        let contents: Contents = serde_json::from_slice(&json).map_err(|error| self.damaged(&error))?;
        if contents.version != VERSION {
            return Err(self.damaged(&"it is of another version"));
        }
        if contents.server != self.server || contents.log != self.log {
            return Err(self.damaged(&"it is about another server or log"));
        }
        if contents.keys.len() > KEYS_MAX || contents.keys.iter().any(|key| key.unsettled.len() > UNSETTLED_MAX) {
            return Err(self.damaged(&"it holds more than a client keeps"));
        }
        Ok(Some(contents))
    }

    /// What is remembered under `key`, if anything.
    fn snapshot(&self, contents: &Contents, key: &VerifierKey) -> Result<Option<Snapshot>, ClientError> {
        let text = key.to_string();
        let of_key = contents.keys.iter().find(|of_key| of_key.vkey == text);
        of_key.map(|of_key| of_key.open(key)).transpose().map_err(|error| self.damaged(&error))
    }

    /// Held until the file is dropped, at the latest when the process ends.
    fn lock(&self) -> std::io::Result<File> {
        fs::create_dir_all(&self.directory)?;
        let lock = File::options().create(true).append(true).open(self.path.with_extension("lock"))?;
        lock.lock()?;
        Ok(lock)
    }

    /// Only who holds the lock replaces, so that one name for the temporary file is enough.
    fn replace(&self, json: &[u8]) -> std::io::Result<()> {
        let temporary = self.path.with_extension("tmp");
        let mut file = File::create(&temporary)?;
        file.write_all(json)?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        File::open(&self.directory)?.sync_all()
    }

    fn error(&self, error: &dyn std::fmt::Display) -> ClientError {
        ClientError::State { path: self.path.clone(), message: error.to_string() }
    }

    fn damaged(&self, error: &dyn std::fmt::Display) -> ClientError {
        self.error(&format!("{error}; if you trust the log anew, move the file away"))
    }
}

#[cfg(test)]
mod tests;
