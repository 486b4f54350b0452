//! One log: leaves from entries, tiles and roots from leaves, heads and look-up rows from those.

use std::collections::{HashMap, HashSet};

use indicatif::{ProgressBar, ProgressStyle};
use logwood_merkle::{CompactRange, Hash, LeafIndex, TileId, TileNodes, TreeHead};
use logwood_note::{SignedNote, VerifierKey};
use logwood_sequencer::publisher::note;
use logwood_store::{Entry, HeadQuery, IdentityHash, IndexRow, LogRecord, LogStore, PublishedHead, ReadError};
use rayon::prelude::*;

use crate::failure::VerificationFailed;

/// Entries that one thread reads and hashes at a time: 64 bundles.
const CHUNK_ENTRIES: u64 = 16_384;

/// Chunks in memory at a time.
const CHUNKS_AT_ONCE: u64 = 8;

/// Most bytes that one read of entries returns.
const READ_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Published heads of one page.
const PAGE_HEADS: usize = 1_000;

/// What was judged.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    pub(crate) heads: u64,
    pub(crate) tiles: u64,
    pub(crate) identities: u64,
}

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
/// * `kept` - heads that were kept elsewhere, their signatures verified: the log must extend each.
pub(crate) fn log(
    store: &dyn LogStore,
    record: &LogRecord,
    key: &VerifierKey,
    kept: &[TreeHead],
) -> anyhow::Result<Summary> {
    let size = record.head.head.size.0;
    let name = &record.settings.name;
    if let Some(head) = kept.iter().find(|head| head.size.0 > size) {
        return Err(differs(format!(
            "log `{name}` has {size} entries, but it signed a checkpoint of {}: entries are gone",
            head.size
        )));
    }
    let mut expected = stored_heads(store, record, key)?;
    let mut summary = Summary { heads: expected.len() as u64, ..Summary::default() };
    expected.push((record.head.head, "its present head"));
    expected.extend(kept.iter().map(|head| (*head, "a checkpoint that was kept elsewhere")));
    expected.sort_by_key(|(head, _)| head.size);

    let mut walk = Walk { store, record, edge: Vec::new(), range: CompactRange::new(), tiles: 0, expected, next: 0 };
    let mut identities = HashMap::new();
    let progress = ProgressBar::new(size);
    progress
        .set_style(ProgressStyle::with_template("{msg} [{wide_bar}] {human_pos}/{human_len} {eta}").expect("valid"));
    progress.set_message(format!("checking `{name}`"));
    walk.check_heads()?;
    let mut rows = Vec::new();
    while walk.range.size().0 < size {
        for chunk in chunks(store, record, walk.range.size().0, size)? {
            let first = walk.range.size().0;
            for (index, (leaf, identity)) in (first..).zip(chunk) {
                walk.append(leaf)?;
                rows.push(leaf);
                if let Some(identity) = identity
                    && let Some(earlier) = identities.insert(identity, LeafIndex(index))
                {
                    return Err(differs(format!("log `{name}`: entries {earlier} and {index} have one identity")));
                }
            }
            progress.set_position(walk.range.size().0);
        }
    }
    progress.finish_and_clear();
    (summary.tiles, summary.identities) = (walk.tiles, identities.len() as u64);
    check_index(store, record, &identities, &rows)?;
    Ok(summary)
}

/// Every published head with a good signature of the log's key.
fn stored_heads(
    store: &dyn LogStore,
    record: &LogRecord,
    key: &VerifierKey,
) -> anyhow::Result<Vec<(TreeHead, &'static str)>> {
    let mut heads = Vec::new();
    let mut from = 0;
    loop {
        let page = store.heads(record.number, HeadQuery::FromSize(from), PAGE_HEADS).map_err(read)?;
        let Some(last) = page.last() else { return Ok(heads) };
        from = last.head.size.0 + 1;
        for head in page {
            check_signature(record, &head, key)?;
            heads.push((head.head, "a published head"));
        }
    }
}

fn check_signature(record: &LogRecord, head: &PublishedHead, key: &VerifierKey) -> anyhow::Result<()> {
    let bad = |problem: &dyn std::fmt::Display| {
        differs(format!("the published head of size {} has no good signature: {problem}", head.head.size))
    };
    let note = note::published_note(&record.settings.origin, head).map_err(|error| bad(&error))?;
    let note = SignedNote::parse(&note).map_err(|error| bad(&error))?;
    note.verify(std::slice::from_ref(key)).map_err(|error| bad(&error))?;
    Ok(())
}

type Leaf = (Hash, Option<IdentityHash>);

/// The next chunks' leaves, read and hashed in parallel.
fn chunks(store: &dyn LogStore, record: &LogRecord, from: u64, size: u64) -> anyhow::Result<Vec<Vec<Leaf>>> {
    let ranges: Vec<_> = (0..CHUNKS_AT_ONCE)
        .map(|chunk| from + chunk * CHUNK_ENTRIES)
        .filter(|&first| first < size)
        .map(|first| first..size.min(first + CHUNK_ENTRIES))
        .collect();
    ranges.into_par_iter().map(|range| leaves(store, record, range)).collect()
}

fn leaves(store: &dyn LogStore, record: &LogRecord, range: std::ops::Range<u64>) -> anyhow::Result<Vec<Leaf>> {
    let mut leaves = Vec::new();
    let mut next = range.start;
    while next < range.end {
        let (first, end) = (LeafIndex(next), LeafIndex(range.end));
        let entries = store.entries(record.number, first, end, READ_BYTES_MAX).map_err(read)?;
        if entries.is_empty() {
            return Err(differs(format!("log `{}`: entry {next} is missing", record.settings.name)));
        }
        next += entries.len() as u64;
        leaves.extend(entries.iter().map(|Entry { bytes, identity }| (Hash::leaf(bytes), *identity)));
    }
    Ok(leaves)
}

/// The tree as the entries say that it is.
struct Walk<'a> {
    store: &'a dyn LogStore,
    record: &'a LogRecord,
    edge: Vec<TileNodes>,
    range: CompactRange,
    tiles: u64,
    /// Heads by size, and what each is.
    expected: Vec<(TreeHead, &'static str)>,
    next: usize,
}

impl Walk<'_> {
    fn append(&mut self, leaf: Hash) -> anyhow::Result<()> {
        self.range.append(leaf, |_, _| ());
        let mut hash = leaf;
        for level in 0..8u8 {
            if self.edge.len() == usize::from(level) {
                self.edge.push(TileNodes::new());
            }
            let tile = &mut self.edge[usize::from(level)];
            tile.push(hash).map_err(anyhow::Error::from)?;
            let Some(root) = tile.root() else { break };
            let bytes = std::mem::take(tile).to_bytes();
            let index = (self.range.size().0 >> (8 * (u32::from(level) + 1))) - 1;
            self.check_tile(TileId { level, index }, &bytes)?;
            hash = root;
        }
        self.check_heads()
    }

    fn check_tile(&mut self, id: TileId, derived: &[u8]) -> anyhow::Result<()> {
        let stored = self.store.tiles(self.record.number, &[id]).map_err(read)?.pop().flatten();
        self.tiles += 1;
        let entry = |hash: usize| (id.index * 256 + hash as u64) << (8 * u32::from(id.level));
        match stored {
            Some(stored) if stored == derived => Ok(()),
            Some(stored) => {
                let differing = stored.chunks(Hash::LEN).zip(derived.chunks(Hash::LEN)).position(|(a, b)| a != b);
                Err(differs(format!(
                    "log `{}`: tile {}/{} does not follow from the entries; the first difference is at entry {}",
                    self.record.settings.name,
                    id.level,
                    id.index,
                    entry(differing.unwrap_or_default()),
                )))
            }
            None => {
                Err(differs(format!("log `{}`: tile {}/{} is missing", self.record.settings.name, id.level, id.index)))
            }
        }
    }

    fn check_heads(&mut self) -> anyhow::Result<()> {
        let size = self.range.size();
        while let Some((head, what)) = self.expected.get(self.next).filter(|(head, _)| head.size <= size) {
            let root = self.range.root();
            if (head.size, head.root) != (size, root) {
                return Err(differs(format!(
                    "log `{}`: the entries give root {root} at size {size}, but {what} of that size says {}: \
                     the history was rewritten below entry {size}",
                    self.record.settings.name, head.root
                )));
            }
            self.next += 1;
        }
        Ok(())
    }
}

/// The derived index holds exactly what the entries say.
fn check_index(
    store: &dyn LogStore,
    record: &LogRecord,
    identities: &HashMap<IdentityHash, LeafIndex>,
    leaves: &[Hash],
) -> anyhow::Result<()> {
    let name = &record.settings.name;
    let leaf_secret = store.state().map_err(read)?.leaf_secret;
    let expected: HashSet<_> =
        identities.iter().map(|(identity, index)| IndexRow::of_identity(identity, *index)).collect();
    let leaf_at = |index: LeafIndex| leaves.get(usize::try_from(index.0).ok()?);
    let (mut identity_rows, mut leaf_rows, mut stray) = (0, 0, None);
    let visited = store.visit_index(record.number, &mut |row| {
        let (index, is_right) = match row {
            IndexRow::Identity { index, .. } => {
                identity_rows += 1;
                (index, expected.contains(&row))
            }
            IndexRow::Leaf { index, .. } => {
                leaf_rows += 1;
                let right = leaf_at(index).map(|leaf| IndexRow::of_leaf(&leaf_secret, leaf, index));
                (index, right == Some(row))
            }
        };
        if !is_right {
            stray = Some(index);
        }
    });
    visited.map_err(read)?;
    if let Some(index) = stray {
        return Err(differs(format!("log `{name}`: the look-up index has a wrong row for entry {index}")));
    }
    if identity_rows != identities.len() {
        let found = identities.len();
        return Err(differs(format!("log `{name}`: {found} entries have identities, {identity_rows} are indexed")));
    }
    if record.settings.leaf_index && leaf_rows != leaves.len() {
        return Err(differs(format!("log `{name}`: {} entries, {leaf_rows} leaf hashes are indexed", leaves.len())));
    }
    Ok(())
}
