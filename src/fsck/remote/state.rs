//! Where a walk stands, in a file: so that it can go on after an interruption, and later check only what is new.
//!
//! The file holds the compact range of what was verified, so a log that has since rewritten any of it is noticed. It is
//! JSON, written whole or not at all.

use std::path::Path;

use anyhow::Context as _;
use logwood_merkle::{CompactRange, TreeHead};
use logwood_note::Policy;
use logwood_note::trust::Trust as _;
use serde::{Deserialize, Serialize};

use crate::failure::Usage;
use crate::{files, verified};

/// Version of the file's format.
const FORMAT: u32 = 2;

/// Most bytes of the file: 64 hashes, and a checkpoint of at most a megabyte with each byte escaped.
const STATE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What an earlier run has verified.
pub(super) struct Known {
    /// The first bundle that was verified: those before it were pruned.
    pub(super) first_bundle: u64,
    /// Over the roots of the tiles of the bundles that are verified, or pruned.
    pub(super) range: CompactRange,
    /// The head under which that was verified.
    pub(super) head: TreeHead,
}

/// The file.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Image {
    format: u32,
    /// The log's origin.
    origin: String,
    first_bundle: u64,
    /// Bundles below this one are verified, or pruned.
    bundles: u64,
    /// The compact range over the roots of their tiles: base64, largest subtree first.
    hashes: Vec<String>,
    /// The checkpoint under which that was verified.
    checkpoint: String,
}

impl Known {
    /// What the file at `path` says of the log of `origin`; `None` if there is no file.
    ///
    /// * `signer` - whoever may have signed the checkpoint in it.
    ///
    /// # Errors
    ///
    /// [`Usage`] if it is another log's; any other error if it cannot be read, or is no state.
    pub(super) fn load(path: &Path, origin: &str, signer: &Policy) -> anyhow::Result<Option<Self>> {
        if !path.try_exists().with_context(|| format!("cannot read {}", path.display()))? {
            return Ok(None);
        }
        let file = files::read(path, STATE_BYTES_MAX)?;
        let broken = || format!("{} is no state of this command: remove it to start anew", path.display());
        let image: Image = serde_json::from_slice(&file).with_context(broken)?;
        let range = image.range().with_context(broken)?;
        if image.origin != origin {
            let problem = format!("{} is the state of {}, not of {origin}", path.display(), image.origin);
            return Err(Usage { problem }.into());
        }
        let opened = signer.open(image.checkpoint.as_bytes(), Some(origin)).map_err(|error| Usage {
            problem: format!("the checkpoint in {} is by none of the keys given: {error}", path.display()),
        })?;
        Ok(Some(Self { first_bundle: image.first_bundle, range, head: opened.checkpoint.head }))
    }
}

/// Writes the file at `path`.
///
/// * `range` - over the roots of full tiles of level 0.
pub(super) fn save(
    path: &Path,
    origin: &str,
    first_bundle: u64,
    range: &CompactRange,
    checkpoint: &[u8],
) -> anyhow::Result<()> {
    let image = Image {
        format: FORMAT,
        origin: origin.to_owned(),
        first_bundle,
        bundles: range.size().0,
        hashes: verified::hashes(range),
        checkpoint: String::from_utf8_lossy(checkpoint).into_owned(),
    };
    files::write(path, &serde_json::to_vec_pretty(&image).context("cannot write the state as JSON")?)
}

impl Image {
    fn range(&self) -> Option<CompactRange> {
        let is_possible = self.format == FORMAT && self.first_bundle <= self.bundles && self.bundles < 1 << 56;
        verified::range(self.bundles, &self.hashes).filter(|_| is_possible)
    }
}
