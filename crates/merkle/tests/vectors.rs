//! Other people's trees: transparency-dev's proofs, Tessera's log, a Certificate Transparency log.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use logwood_merkle::{CompactRange, Hash, LeafIndex, RangeProof, TileNodes, TreeHead, TreeSize, range, verify};
use serde_json::Value;

/// The folder of a set of vectors, or `None` (and a word about it) if it is not here.
fn vectors(name: &str) -> Option<PathBuf> {
    let shared = std::env::var_os("LOGWOOD_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")), PathBuf::from);
    let folder = shared.join("data/vectors").join(name);
    if !folder.is_dir() {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "no test data at {}", folder.display());
        println!("skipped: no test data at {}", folder.display());
        return None;
    }
    Some(folder)
}

/// Every vector below `folder`, by path.
fn read_json(folder: &Path, found: &mut BTreeMap<String, Value>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_json(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "json") {
            let vector = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            found.insert(path.display().to_string(), vector);
        }
    }
}

/// A hash field. Some vectors write a few readable bytes where no hash is looked at but for
/// being equal; zeroes fill those up, since our [`Hash`] cannot be short. None at all, and more, is refused.
fn hash(value: &Value) -> Option<Hash> {
    let mut bytes = STANDARD.decode(value.as_str().unwrap()).unwrap();
    if !bytes.is_empty() {
        bytes.resize(bytes.len().max(Hash::LEN), 0);
    }
    Hash::try_from(bytes.as_slice()).ok()
}

fn proof(vector: &Value) -> Option<Vec<Hash>> {
    vector["proof"].as_array().map_or(Some(Vec::new()), |hashes| hashes.iter().map(hash).collect())
}

fn head(size: u64, root: &Value) -> Option<TreeHead> {
    Some(TreeHead { size: TreeSize(size), root: hash(root)? })
}

/// `Some(())` if the proof of `vector` is accepted in the tree of `[start, end)`.
fn inclusion(vector: &Value, start: u64, end: u64) -> Option<()> {
    let index = LeafIndex(vector["leafIdx"].as_u64()?.checked_sub(start)?);
    let head = head(end.checked_sub(start)?, &vector["root"])?;
    verify::inclusion(hash(&vector["leafHash"])?, index, &head, &proof(vector)?).ok()
}

/// `Some(())` if the proof of `vector` is accepted from `old` to `new`.
fn consistency(vector: &Value, old: u64, new: u64) -> Option<()> {
    let (old, new) = (head(old, &vector["root1"])?, head(new, &vector["root2"])?);
    verify::consistency(&old, &new, &proof(vector)?).ok()
}

fn number(vector: &Value, field: &str) -> u64 {
    vector[field].as_u64().unwrap()
}

/// Judges every vector of a kind; gives how many were judged and how many set aside.
fn judge(kind: &str, accepts: impl Fn(&Value) -> Option<Option<()>>) -> (usize, usize) {
    let Some(folder) = vectors("transparency-dev-merkle") else { return (0, 0) };
    let mut found = BTreeMap::new();
    read_json(&folder.join(kind), &mut found);
    assert!(!found.is_empty());
    let mut exceptions = 0;
    for (path, vector) in &found {
        match accepts(vector) {
            Some(accepted) => {
                let refused = vector["wantErr"].as_bool().unwrap();
                assert_eq!(accepted.is_none(), refused, "{path}: {}", vector["desc"]);
            }
            None => exceptions += 1,
        }
    }
    (found.len() - exceptions, exceptions)
}

#[test]
fn transparency_dev_inclusion() {
    let judged = judge("inclusion", |v| Some(inclusion(v, 0, number(v, "treeSize"))));
    assert!([(98, 0), (0, 0)].contains(&judged), "{judged:?}");
}

#[test]
fn transparency_dev_consistency() {
    let accepts = |v: &Value| Some(consistency(v, number(v, "size1"), number(v, "size2")));
    let judged = judge("consistency", accepts);
    assert!([(98, 0), (0, 0)].contains(&judged), "{judged:?}");
}

/// Inclusion in a subtree is inclusion in the tree of its leaves. Which `[start, end)` are
/// subtrees at all is a rule of that format (aligned to the next power of two), applied here.
#[test]
fn transparency_dev_subtree_inclusion() {
    let accepts = |v: &Value| {
        let (start, end) = (number(v, "start"), number(v, "end"));
        let width = end.checked_sub(start).and_then(u64::checked_next_power_of_two);
        let aligned = width.is_some_and(|width| start % width == 0);
        Some(aligned.then(|| inclusion(v, start, end)).flatten())
    };
    let judged = judge("subtreeinclusion", accepts);
    assert!([(204, 0), (0, 0)].contains(&judged), "{judged:?}");
}

/// A subtree from leaf 0 on is an older tree, so its consistency is ours. Set aside:
///
/// * `start > 0`: a proof about a subtree that no head ever committed to, unknown to RFC 6962;
/// * empty subtrees, accepted there: we refuse `old = 0`, since it proves nothing (§2.1.2).
#[test]
fn transparency_dev_subtree_consistency() {
    let judged = judge("subtreeconsistency", |v| {
        let (start, end) = (number(v, "start"), number(v, "end"));
        let applies = start == 0 && end > 0;
        applies.then(|| consistency(v, end, number(v, "size")))
    });
    assert!([(91, 27), (0, 0)].contains(&judged), "{judged:?}");
}

/// Reads `count` items, each with its big-endian uint16 length before it.
fn tessera_entries(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut entries = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let (entry, rest) = rest.split_at(u16::from_be_bytes(*length).into());
        entries.push(entry);
        bytes = rest;
    }
    entries
}

#[test]
fn tessera_test_log() {
    let Some(folder) = vectors("tessera-testlog") else { return };
    let mut heads = vec![];
    for size in 0..=15_u64 {
        let note = fs::read_to_string(folder.join(format!("checkpoint.{size}"))).unwrap();
        let lines: Vec<_> = note.lines().collect();
        assert_eq!(lines[1], size.to_string());
        heads.push(head(size, &Value::from(lines[2])).unwrap());
    }
    assert_eq!(heads[0], TreeHead::empty());
    for (size, head) in heads.iter().enumerate().skip(1) {
        let bundle = fs::read(folder.join(format!("tile/entries/000.p/{size}"))).unwrap();
        let entries = tessera_entries(&bundle);
        assert_eq!(entries.len(), size);
        let mut tree = CompactRange::new();
        let mut tile = TileNodes::new();
        for entry in entries {
            tree.append(Hash::leaf(entry), |id, hash| {
                if id.level == 0 {
                    tile.push(hash).unwrap();
                }
            });
        }
        assert_eq!(tree.head(), *head);
        let stored = fs::read(folder.join(format!("tile/0/000.p/{size}"))).unwrap();
        assert_eq!(tile.to_bytes(), stored);
        assert_eq!(TileNodes::from_bytes(&stored), Ok(tile.clone()));
        let whole = range::verify(LeafIndex(0), tile.hashes(), head, &RangeProof::default());
        assert_eq!(whole, Ok(()));
    }
}

/// Splits off `length` bytes, big-endian and `width` bytes wide, and what they count.
fn opaque<'a>(bytes: &mut &'a [u8], width: usize) -> &'a [u8] {
    let (length, rest) = bytes.split_at(width);
    let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    let (value, rest) = rest.split_at(length);
    *bytes = rest;
    value
}

/// Leaf hashes of a static-ct-api data tile: a `TimestampedEntry`, for a precertificate the
/// certificate it was made of, and the chain's fingerprints; only the first is hashed.
fn certificate_leaves(mut bytes: &[u8]) -> Vec<Hash> {
    let mut leaves = Vec::new();
    while !bytes.is_empty() {
        let start = bytes;
        let (entry_type, fixed) = match start[8..10] {
            [0, 0] => (0, 10),      // x509_entry: timestamp and type.
            [0, 1] => (1, 10 + 32), // precert_entry: the issuer's key hash as well.
            _ => panic!("unknown entry type"),
        };
        bytes = &bytes[fixed..];
        opaque(&mut bytes, 3);
        opaque(&mut bytes, 2);
        let entry = &start[..start.len() - bytes.len()];
        // MerkleTreeLeaf (RFC 6962 §3.4): version v1, leaf type timestamped_entry.
        leaves.push(Hash::leaf(&[&[0, 0], entry].concat()));
        if entry_type == 1 {
            opaque(&mut bytes, 3);
        }
        opaque(&mut bytes, 2);
    }
    leaves
}

#[test]
fn certificate_transparency_tiles() {
    let Some(folder) = vectors("ct-navigli2025h2") else { return };
    for (name, width) in [("000", 256), ("001", 256), ("002", 256), ("003", 256), ("003.p/10", 10)] {
        let data = fs::read(folder.join("tile/data").join(name)).unwrap();
        let stored = fs::read(folder.join("tile/0").join(name)).unwrap();
        let leaves = certificate_leaves(&data);
        let tile = TileNodes::from_bytes(&stored).unwrap();
        assert_eq!(leaves.len(), width);
        assert_eq!(tile.hashes(), leaves, "leaf hashes of tile {name}");
        assert_eq!(tile.to_bytes(), stored);
        assert_eq!(tile.root().is_some(), width == 256);
    }
}
