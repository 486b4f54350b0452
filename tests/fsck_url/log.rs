//! A tlog-tiles log as a map from paths to bytes, which a test can then spoil.

use std::collections::BTreeMap;

use logwood_merkle::{Hash, TILE_WIDTH, TileId, TilePath, TreeHead, TreeSize};
use logwood_note::checkpoint::sign_checkpoint;
use logwood_note::{SigningKey, push_entry};

pub(crate) const ORIGIN: &str = "log.test/fsck";

/// What a log serves, by path.
pub(crate) type Resources = BTreeMap<String, Vec<u8>>;

pub(crate) fn key() -> SigningKey {
    SigningKey::from_seed(ORIGIN, &[7; 32]).expect("a valid name")
}

pub(crate) fn vkey() -> String {
    key().private().verifier().to_string()
}

/// Entries of different lengths, an empty one among them now and then.
pub(crate) fn entries(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|n| n.to_string().into_bytes().repeat(n % 5)).collect()
}

/// Everything that the log of `entries` serves at its present size.
pub(crate) fn publish(entries: &[Vec<u8>]) -> Resources {
    let size = TreeSize(entries.len() as u64);
    let mut levels = vec![entries.iter().map(|entry| Hash::leaf(entry)).collect::<Vec<_>>()];
    while levels[levels.len() - 1].len() >= 256 {
        let roots = levels[levels.len() - 1].as_chunks::<256>().0.iter().map(|tile| root(tile));
        levels.push(roots.collect());
    }
    let mut resources = Resources::new();
    for (tile, width) in TileId::for_size(size) {
        let first = usize::try_from(tile.index * TILE_WIDTH).expect("small");
        let range = first..first + usize::from(width);
        let hashes = &levels[usize::from(tile.level)][range.clone()];
        let bytes = hashes.iter().flat_map(Hash::as_bytes).copied().collect();
        resources.insert(TilePath::Hashes { tile, width }.to_string(), bytes);
        if tile.level == 0 {
            let path = TilePath::Entries { index: tile.index, width };
            resources.insert(path.to_string(), bundle(&entries[range]));
        }
    }
    let head = TreeHead { size, root: root(&levels[0]) };
    resources.insert("checkpoint".to_owned(), sign_checkpoint(&key(), ORIGIN, &head));
    resources
}

pub(crate) fn bundle(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        push_entry(entry, &mut out).expect("short");
    }
    out
}

/// RFC 6962 §2.1, as it is written there.
fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Hash::empty_root(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            Hash::node(&root(left), &root(right))
        }
    }
}
