//! One log: leaves from entries, tiles and roots from leaves, heads and look-up rows from those.
//!
//! ```text
//!   entries ──in parallel──> leaf hashes ──> tiles of level 0 ──roots, in order──> tiles above, roots at every head
//!              a few steps      └──> the rows that the index should have ──summed──> compared with the rows it has
//! ```
//!
//! Memory is bounded whatever the log's size: one step of leaf hashes, one step of heads, and sums of rows.

use indicatif::ProgressBar;
use logwood_merkle::{Hash, TreeHead};
use logwood_note::{SignedNote, VerifierKey};
use logwood_sequencer::publisher::note;
use logwood_store::{HeadQuery, LogRecord, LogStore, PublishedHead, ReadError};
use rayon::prelude::*;

use crate::failure::VerificationFailed;
use crate::progress;

mod bundles;
mod rows;
mod walk;

use bundles::Bundles;
use rows::Tally;
use walk::Walk;

/// Entries of one step: leaf hashes, identities and heads of as many are in memory at a time.
const STEP_ENTRIES: u64 = 131_072;

/// Published heads of one page.
const PAGE_HEADS: usize = 1_000;

/// What was judged.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    pub(crate) heads: u64,
    pub(crate) tiles: u64,
    pub(crate) identities: u64,
}

/// A head that the log must have had, and what it is.
pub(crate) type Expected = (TreeHead, &'static str);

/// A read that fails its checksum is damage, which is exit status 3; a disk that cannot be read is 1.
pub(crate) fn read(error: ReadError) -> anyhow::Error {
    match error {
        error @ ReadError::Corrupt { .. } => VerificationFailed::new(&error).into(),
        error @ ReadError::Unavailable { .. } => error.into(),
    }
}

fn differs(reason: String) -> anyhow::Error {
    VerificationFailed { reason }.into()
}

/// Judges one log.
///
/// * `kept` - heads that the log must extend: of the anchor, and of checkpoints whose signatures were verified.
pub(crate) fn log(
    store: &dyn LogStore,
    record: &LogRecord,
    key: &VerifierKey,
    kept: &[Expected],
) -> anyhow::Result<Summary> {
    let size = record.head.head.size.0;
    let name = &record.settings.name;
    if let Some((head, what)) = kept.iter().find(|(head, _)| head.size.0 > size) {
        return Err(differs(format!("it has {size} entries, but {what} says {}: entries are gone", head.size)));
    }
    let rows = if record.settings.leaf_index { size } else { 0 };
    let progress = progress::of_count(&format!("checking `{name}`"), size + rows);
    let bundles = Bundles::new(store, record)?;
    let checked = rayon::join(
        || tree(&bundles, key, kept, &progress),
        || rows::indexed(&bundles, 0..size, |rows| progress.inc(rows)),
    );
    progress.finish_and_clear();
    let ((summary, derived), indexed) = (checked.0?, checked.1?);
    if derived != indexed {
        return Err(rows::first_difference(&bundles)?);
    }
    Ok(Summary { identities: derived.identities(), ..summary })
}

/// Walks over the entries. Answers the sum of the rows that they should have.
fn tree(
    bundles: &Bundles<'_>,
    key: &VerifierKey,
    kept: &[Expected],
    progress: &ProgressBar,
) -> anyhow::Result<(Summary, Tally)> {
    let size = bundles.record.head.head.size.0;
    let mut others = kept.to_vec();
    others.push((bundles.record.head.head, "its present head"));
    let (mut walk, mut tally, mut heads) = (Walk::new(bundles), Tally::default(), 0);
    let mut from = 0;
    loop {
        let to = size.min(from + STEP_ENTRIES);
        let is_last = to == size;
        let mut expected = published(bundles, key, from..if is_last { u64::MAX } else { to })?;
        heads += expected.len() as u64;
        let in_step = |head: &TreeHead| head.size.0 >= from && (is_last || head.size.0 < to);
        expected.extend(others.iter().filter(|(head, _)| in_step(head)));
        expected.sort_by_key(|(head, _)| head.size);

        for derived in bundles.derive(from..to, &expected)? {
            tally.add_all(&derived.rows);
            walk.bundle(&derived, &mut expected)?;
        }
        progress.inc(to - from);
        from = to;
        if is_last {
            let tiles = walk.finish(&expected)?;
            return Ok((Summary { heads, tiles, identities: 0 }, tally));
        }
    }
}

/// The published heads of a range of sizes, each with a good signature of the log's key.
fn published(bundles: &Bundles<'_>, key: &VerifierKey, sizes: std::ops::Range<u64>) -> anyhow::Result<Vec<Expected>> {
    let (store, record) = (bundles.store, bundles.record);
    let own = record.settings.vkeys.iter().map(|vkey| vkey.parse::<VerifierKey>()).collect::<Result<Vec<_>, _>>();
    let own = own.map_err(|error| differs(format!("a verifier key of the log cannot be read: {error}")))?;
    let (mut heads, mut from) = (Vec::new(), sizes.start);
    loop {
        let page = store.heads(record.number, HeadQuery::FromSize(from), PAGE_HEADS).map_err(read)?;
        let inside: Vec<_> = page.iter().filter(|head| head.head.size.0 < sizes.end).collect();
        let verdicts: Vec<_> = inside.par_iter().map(|head| check_signature(record, head, (key, &own))).collect();
        verdicts.into_iter().collect::<anyhow::Result<()>>()?;
        heads.extend(inside.iter().map(|head| (head.head, "a published head")));
        match page.last() {
            Some(last) if last.head.size.0 < sizes.end => from = last.head.size.0 + 1,
            _ => return Ok(heads),
        }
    }
}

/// * `keys` - that of the log which must have signed, and all of them: the other signatures must be good where they are there.
fn check_signature(
    record: &LogRecord,
    head: &PublishedHead,
    (key, own): (&VerifierKey, &[VerifierKey]),
) -> anyhow::Result<()> {
    let bad = |problem: &dyn std::fmt::Display| {
        differs(format!("the published head of size {} has no good signature: {problem}", head.head.size))
    };
    let note = note::published_note(&record.settings.origin, head).map_err(|error| bad(&error))?;
    let note = SignedNote::parse(&note).map_err(|error| bad(&error))?;
    let good = note.verify(own).map_err(|error| bad(&error))?;
    if good.iter().any(|line| line.claims(key)) { Ok(()) } else { Err(bad(&"none is by the key that was given")) }
}

/// The hash of one of the first 256 entries of a bundle, and so on up: the entry that a place in a tile is above.
fn first_entry(level: u8, index: u64, place: usize) -> u64 {
    (index * 256 + place as u64) << (8 * u32::from(level))
}

/// Where a stored tile first differs from the one that the entries give.
fn compare_tile((level, index): (u8, u64), stored: Option<&[u8]>, derived: &[u8]) -> anyhow::Result<()> {
    let Some(stored) = stored else {
        return Err(differs(format!("tile {level}/{index} is missing")));
    };
    if stored == derived {
        return Ok(());
    }
    let place = stored.chunks(Hash::LEN).zip(derived.chunks(Hash::LEN)).position(|(a, b)| a != b);
    let entry = first_entry(level, index, place.unwrap_or_default());
    Err(differs(format!(
        "tile {level}/{index} does not follow from the entries; the first difference is at entry {entry}"
    )))
}

#[cfg(test)]
mod tests;
