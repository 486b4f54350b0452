//! The anchor of a data directory, for commands that compare a store with it.

use std::io;
use std::path::Path;

use anyhow::Context as _;
use logwood_server::{AnchoredHeads, read_anchor};

use crate::failure::VerificationFailed;

/// Reads the anchor at `named`, or the one in the data directory. One that was named must be there; without the other
/// one a warning is printed.
///
/// # Errors
///
/// It cannot be read; [`VerificationFailed`] if it is damaged.
pub(crate) fn read(dir: &Path, named: Option<&Path>) -> anyhow::Result<AnchoredHeads> {
    let path = named.map_or_else(|| dir.join("ANCHOR"), Path::to_owned);
    match read_anchor(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => {
            eprintln!("logwood: there is no anchor at {}, so none was asked; --anchor names it", path.display());
            Ok(AnchoredHeads::default())
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(VerificationFailed { reason: format!("the anchor {}: {error}", path.display()) }.into())
        }
        anchored => anchored.with_context(|| format!("cannot read the anchor {}", path.display())),
    }
}
