//! What a client remembers between runs: the key it trusts and the last head it verified, by server and log.
//!
//! One JSON file for each, replaced atomically, so that a crash leaves the old or the new.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use logwood_note::VerifierKey;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{ClientError, VerifiedHead};

/// Largest state file in bytes: a checkpoint note is smaller, even with many signatures.
const STATE_BYTES_MAX: u64 = 1024 * 1024;

/// Where one (server, log) is remembered.
#[derive(Clone, Debug)]
pub(crate) struct StateFile {
    directory: PathBuf,
    path: PathBuf,
    server: String,
    log: String,
}

/// What was remembered.
#[derive(Debug)]
pub(crate) struct Remembered {
    pub(crate) key: VerifierKey,
    pub(crate) head: Option<VerifiedHead>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    server: String,
    log: String,
    vkey: String,
    checkpoint: Option<String>,
}

impl StateFile {
    pub(crate) fn new(directory: &Path, server: &str, log: &str) -> Self {
        let id: [u8; 32] = Sha256::new().chain_update(server).chain_update("\n").chain_update(log).finalize().into();
        let id = u64::from_be_bytes([id[0], id[1], id[2], id[3], id[4], id[5], id[6], id[7]]);
        let path = directory.join(format!("{log}-{id:016x}.json"));
        Self { directory: directory.to_owned(), path, server: server.to_owned(), log: log.to_owned() }
    }

    /// What was remembered, with its signature checked again. `None` if nothing was.
    ///
    /// # Errors
    ///
    /// [`ClientError::State`] if the file is unreadable or does not hold what [`StateFile::store`] wrote.
    pub(crate) fn load(&self) -> Result<Option<Remembered>, ClientError> {
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
        if contents.server != self.server || contents.log != self.log {
            return Err(self.damaged(&"it is about another server or log"));
        }
        let key: VerifierKey = contents.vkey.parse().map_err(|error| self.damaged(&error))?;
        let head = contents.checkpoint.map(|note| VerifiedHead::from_note(Bytes::from(note), &key));
        let head = head.transpose().map_err(|error| self.damaged(&error))?;
        Ok(Some(Remembered { key, head }))
    }

    /// Replaces what is remembered.
    ///
    /// # Errors
    ///
    /// [`ClientError::State`] if it cannot be written; what was remembered before is then still there.
    pub(crate) fn store(&self, key: &VerifierKey, head: Option<&VerifiedHead>) -> Result<(), ClientError> {
        let checkpoint = head.map(|head| String::from_utf8_lossy(&head.note).into_owned());
        let contents =
            Contents { server: self.server.clone(), log: self.log.clone(), vkey: key.to_string(), checkpoint };
        let json = serde_json::to_vec_pretty(&contents).map_err(|error| self.error(&error))?;
        let temporary = self.temporary();
        let written = self.replace(&temporary, &json);
        if written.is_err() {
            // Nothing refers to it; the next attempt has another name.
            let _ = fs::remove_file(&temporary);
        }
        written.map_err(|error| self.error(&error))
    }

    fn replace(&self, temporary: &Path, json: &[u8]) -> std::io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        let mut file = File::create_new(temporary)?;
        file.write_all(json)?;
        file.sync_all()?;
        fs::rename(temporary, &self.path)?;
        File::open(&self.directory)?.sync_all()
    }

    /// A name that no other writer uses, in this process or another.
    fn temporary(&self) -> PathBuf {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        self.path.with_extension(format!("{}-{number}.tmp", std::process::id()))
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
