//! Where a walk stands, in a file: so that it can go on after an interruption, and later check only what is new.
//!
//! The file holds the compact range of what was verified, so a log that has since rewritten any of it is noticed. It is
//! JSON, written whole or not at all.

use std::path::Path;

use anyhow::Context as _;
use logwood_merkle::CompactRange;
use serde::{Deserialize, Serialize};

use crate::failure::Usage;
use crate::{files, verified};

/// Version of the file's format.
const FORMAT: u32 = 1;

/// Most bytes of the file: 64 hashes, and a checkpoint of at most a megabyte with each byte escaped.
const STATE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What was verified, and under which checkpoint.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    format: u32,
    /// The log's origin.
    origin: String,
    /// The log's verifier key.
    vkey: String,
    /// The first bundle that was verified: those before it were pruned.
    pub(super) first_bundle: u64,
    /// Bundles below this one are verified, or pruned.
    bundles: u64,
    /// The compact range over the roots of their tiles: base64, largest subtree first.
    hashes: Vec<String>,
    /// The checkpoint under which that was verified.
    checkpoint: String,
}

impl State {
    /// * `range` - over the roots of full tiles of level 0.
    pub(super) fn new(identity: (&str, &str), first_bundle: u64, range: &CompactRange, checkpoint: &[u8]) -> Self {
        Self {
            format: FORMAT,
            origin: identity.0.to_owned(),
            vkey: identity.1.to_owned(),
            first_bundle,
            bundles: range.size().0,
            hashes: verified::hashes(range),
            checkpoint: String::from_utf8_lossy(checkpoint).into_owned(),
        }
    }

    /// The state in the file at `path`; `None` if there is no file.
    ///
    /// # Errors
    ///
    /// [`Usage`] if it is another log's; any other error if it cannot be read, or is no state.
    pub(super) fn load(path: &Path, identity: (&str, &str)) -> anyhow::Result<Option<(Self, CompactRange)>> {
        if !path.try_exists().with_context(|| format!("cannot read {}", path.display()))? {
            return Ok(None);
        }
        let file = files::read(path, STATE_BYTES_MAX)?;
        let broken = || format!("{} is no state of this command: remove it to start anew", path.display());
        let state: Self = serde_json::from_slice(&file).with_context(broken)?;
        let range = state.range().with_context(broken)?;
        if (state.origin.as_str(), state.vkey.as_str()) != identity {
            let problem = format!("{} is the state of {}, not of {}", path.display(), state.origin, identity.0);
            return Err(Usage { problem }.into());
        }
        Ok(Some((state, range)))
    }

    /// The checkpoint under which all that was verified.
    pub(super) fn note(&self) -> &[u8] {
        self.checkpoint.as_bytes()
    }

    /// Writes the file at `path`.
    pub(super) fn save(&self, path: &Path) -> anyhow::Result<()> {
        files::write(path, &serde_json::to_vec_pretty(self).context("cannot write the state as JSON")?)
    }

    fn range(&self) -> Option<CompactRange> {
        let is_possible = self.format == FORMAT && self.first_bundle <= self.bundles && self.bundles < 1 << 56;
        verified::range(self.bundles, &self.hashes).filter(|_| is_possible)
    }
}
