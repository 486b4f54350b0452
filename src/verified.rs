//! A compact range in a state file: what was verified so far, as JSON has it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use logwood_merkle::{CompactRange, Hash, TreeSize};

use crate::output;

/// The hashes of `range`: base64, largest subtree first.
pub(crate) fn hashes(range: &CompactRange) -> Vec<String> {
    range.hashes().iter().map(output::base64).collect()
}

/// The range over `size` leaves that has these hashes. `None` if they are not the hashes of one.
pub(crate) fn range(size: u64, hashes: &[String]) -> Option<CompactRange> {
    let hash = |text: &String| Hash::try_from(STANDARD.decode(text).ok()?.as_slice()).ok();
    let hashes = hashes.iter().map(hash).collect::<Option<_>>()?;
    CompactRange::from_hashes(TreeSize(size), hashes).ok()
}
