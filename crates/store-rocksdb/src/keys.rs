//! Keys: fixed-width, big-endian, prefixed by the log's number. `docs/format.md` shows every byte.

use logwood_merkle::{LeafIndex, TileId};
use logwood_store::{LogNumber, RoundNumber};

/// Bytes of an index: 2^40 entries a log.
pub(crate) const INDEX_BYTES: usize = 5;

/// Log and bundle number, and which part of it.
pub(crate) const BUNDLE_KEY_BYTES: usize = 4 + INDEX_BYTES + 1;
/// Log, tile level, tile number.
pub(crate) const TILE_KEY_BYTES: usize = 4 + 1 + INDEX_BYTES;
/// Log and index of the first entry.
pub(crate) const PIECE_KEY_BYTES: usize = 4 + INDEX_BYTES;
/// Log, kind, 12 bytes of the identity hash.
pub(crate) const IDENTITY_KEY_BYTES: usize = 4 + 1 + 12;
/// Log, kind, 8 bytes of the keyed leaf hash, index.
pub(crate) const LEAF_KEY_BYTES: usize = 4 + 1 + 8 + INDEX_BYTES;

const _: () = assert!(BUNDLE_KEY_BYTES == 10 && TILE_KEY_BYTES == 10 && PIECE_KEY_BYTES == 9);
const _: () = assert!(IDENTITY_KEY_BYTES == 17 && LEAF_KEY_BYTES == 18);

/// Part of a bundle: its entries.
pub(crate) const PART_ENTRIES: u8 = 0;
/// Part of a bundle: the identities of its entries.
pub(crate) const PART_IDENTITIES: u8 = 1;

/// Kind of a row in `index`: identity.
pub(crate) const KIND_IDENTITY: u8 = 0;
/// Kind of a row in `index`: leaf hash.
pub(crate) const KIND_LEAF: u8 = 1;

/// Families of `meta` keys, by their first byte.
pub(crate) const META_STORE: &[u8] = b"S";
pub(crate) const META_ROUND: &[u8] = b"R";
/// What a round appended, until the index has it; the number of the round follows.
pub(crate) const META_APPENDED: &[u8] = b"X";

/// `index`: the last round in it. No log has this number.
pub(crate) const INDEX_WATERMARK: &[u8] = &[0xff; 4];

fn concat<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut key = [0; N];
    let mut at = 0;
    for part in parts {
        key[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    assert_eq!(at, N, "the parts fill the key");
    key
}

/// The low five bytes, which hold every index below 2^40.
pub(crate) fn index_bytes(index: u64) -> [u8; INDEX_BYTES] {
    assert!(index < 1 << 40, "indices have five bytes");
    index.to_be_bytes()[3..].try_into().expect("five of eight bytes")
}

/// Reads five bytes.
pub(crate) fn index_from(bytes: &[u8]) -> Option<u64> {
    let bytes: [u8; INDEX_BYTES] = bytes.try_into().ok()?;
    Some(bytes.iter().fold(0, |index, byte| index << 8 | u64::from(*byte)))
}

pub(crate) fn log(log: LogNumber) -> [u8; 4] {
    log.0.to_be_bytes()
}

pub(crate) fn bundle(number: LogNumber, bundle: u64, part: u8) -> [u8; BUNDLE_KEY_BYTES] {
    concat(&[&log(number), &index_bytes(bundle), &[part]])
}

pub(crate) fn tile(number: LogNumber, tile: TileId) -> [u8; TILE_KEY_BYTES] {
    concat(&[&log(number), &[tile.level], &index_bytes(tile.index)])
}

pub(crate) fn piece(number: LogNumber, first: LeafIndex) -> [u8; PIECE_KEY_BYTES] {
    concat(&[&log(number), &index_bytes(first.0)])
}

pub(crate) fn identity(number: LogNumber, prefix: &[u8; 12]) -> [u8; IDENTITY_KEY_BYTES] {
    concat(&[&log(number), &[KIND_IDENTITY], prefix])
}

pub(crate) fn leaf(number: LogNumber, prefix: [u8; 8], index: LeafIndex) -> [u8; LEAF_KEY_BYTES] {
    concat(&[&log(number), &[KIND_LEAF], &prefix, &index_bytes(index.0)])
}

/// `meta`: the log's number by its name.
pub(crate) fn meta_name(name: &str) -> Vec<u8> {
    [b"N", name.as_bytes()].concat()
}

/// `meta`: what is fixed at creation.
pub(crate) fn meta_settings(number: LogNumber) -> [u8; 5] {
    concat(&[b"L", &log(number)])
}

/// `meta`: active, frozen or sealed.
pub(crate) fn meta_state(number: LogNumber) -> [u8; 5] {
    concat(&[b"A", &log(number)])
}

/// `meta`: the present head.
pub(crate) fn meta_head(number: LogNumber) -> [u8; 5] {
    concat(&[b"H", &log(number)])
}

/// `meta`: a published head, by size.
pub(crate) fn meta_published(number: LogNumber, size: u64) -> [u8; 13] {
    concat(&[b"P", &log(number), &size.to_be_bytes()])
}

/// `meta`: the size of a published head, by time.
pub(crate) fn meta_published_at(number: LogNumber, time_ms: u64, size: u64) -> [u8; 21] {
    concat(&[b"T", &log(number), &time_ms.to_be_bytes(), &size.to_be_bytes()])
}

/// `meta`: what a round appended.
pub(crate) fn meta_appended(round: RoundNumber) -> [u8; 9] {
    concat(&[META_APPENDED, &round.0.to_be_bytes()])
}
