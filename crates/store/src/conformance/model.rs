//! What a log should hold, and rounds as a sequencer makes them. Roots are made up: a store does not hash.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    BUNDLE_ENTRIES, Entry, Hash, HeadSignature, IdentityHash, LeafIndex, LogNumber, LogRound, LogState, PublishedHead,
    RoundNumber, TileId, TreeHead, TreeSize,
};
use crate::bundle;
use crate::records::{Extension, LogRecord, LogSettings, PackedBundle, Piece, Profile, StoredHead};

pub(super) struct Model {
    pub(super) record: LogRecord,
    pub(super) entries: Vec<Entry>,
    pub(super) tiles: BTreeMap<TileId, Bytes>,
    pub(super) heads: Vec<PublishedHead>,
    packed: Vec<u64>,
}

impl Model {
    pub(super) fn new(number: LogNumber, settings: LogSettings, round: RoundNumber) -> Self {
        let head = StoredHead { head: TreeHead::empty(), round, time_ms: settings.created_ms };
        let record = LogRecord { number, settings, state: LogState::Active, head, unpacked: Vec::new() };
        Self { record, entries: Vec::new(), tiles: BTreeMap::new(), heads: Vec::new(), packed: Vec::new() }
    }

    pub(super) fn number(&self) -> LogNumber {
        self.record.number
    }

    pub(super) fn round(&self) -> LogRound {
        LogRound::new(self.number())
    }

    /// A round that appends `count` entries. They are in the model at once, the rest follows with `adopt`.
    pub(super) fn extend(&mut self, count: u64, make: impl Fn(u64) -> Entry) -> LogRound {
        let first = self.entries.len() as u64;
        let end = first + count;
        self.entries.extend((first..end).map(make));

        let (mut bundles, mut pieces, mut tiles, mut at) = (Vec::new(), Vec::new(), Vec::new(), first);
        while at < end {
            let number = at / BUNDLE_ENTRIES;
            let bundle_end = (number + 1) * BUNDLE_ENTRIES;
            let to = bundle_end.min(end);
            let entries = self.slice(at, to);
            if to - at == BUNDLE_ENTRIES {
                bundles.push(bundle::pack(number, entries));
            } else {
                pieces.push(Piece { first: LeafIndex(at), entries: entries.to_vec() });
            }
            if to == bundle_end {
                let leaves = self.slice(number * BUNDLE_ENTRIES, bundle_end).iter().map(|entry| leaf(&entry.bytes));
                let hashes: Vec<u8> = leaves.flat_map(|hash| *hash.as_bytes()).collect();
                tiles.push((TileId { level: 1, index: number }, hashes.iter().rev().copied().collect()));
                tiles.push((TileId { level: 0, index: number }, hashes.into()));
            }
            at = to;
        }
        let new = self.slice(first, end);
        let extension = Extension {
            first: LeafIndex(first),
            leaves: new.iter().map(|entry| leaf(&entry.bytes)).collect(),
            identities: new.iter().map(|entry| entry.identity).collect(),
            bundles,
            pieces,
            tiles,
            head: TreeHead { size: TreeSize(end), root: leaf(&end.to_be_bytes()) },
            time_ms: 1_700_000_000_000 + end,
        };
        LogRound { extend: Some(extension), ..self.round() }
    }

    /// Bundles that are full and lie in pieces still.
    pub(super) fn unpacked(&self) -> Vec<u64> {
        let full = self.entries.len() as u64 / BUNDLE_ENTRIES;
        (0..full).filter(|number| !self.packed.contains(number)).collect()
    }

    pub(super) fn repack(&self, number: u64) -> PackedBundle {
        bundle::pack(number, self.slice(number * BUNDLE_ENTRIES, (number + 1) * BUNDLE_ENTRIES))
    }

    pub(super) fn adopt(&mut self, round: RoundNumber, log_round: &LogRound) {
        if let Some(extension) = &log_round.extend {
            self.record.head = StoredHead { head: extension.head, round, time_ms: extension.time_ms };
            self.tiles.extend(extension.tiles.iter().cloned());
            self.packed.extend(extension.bundles.iter().map(|bundle| bundle.index));
        }
        self.packed.extend(log_round.repacked.iter().map(|bundle| bundle.index));
        self.heads.retain(|kept| !log_round.thinned.contains(&kept.head.size.0));
        for head in &log_round.published {
            self.heads.retain(|kept| kept.head.size != head.head.size);
            self.heads.push(head.clone());
        }
        self.heads.sort_by_key(|head| head.head.size);
        if let Some(state) = &log_round.state {
            self.record.state = state.clone();
        }
    }

    fn slice(&self, first: u64, end: u64) -> &[Entry] {
        let place = |index| usize::try_from(index).expect("a small log");
        &self.entries[place(first)..place(end)]
    }
}

/// An entry like no other, with an identity.
pub(super) fn entry(log: usize, index: u64) -> Entry {
    let bytes = format!("log {log}, event {index}: {}", "something happened; ".repeat(1 + (index % 7) as usize));
    Entry { bytes: bytes.into(), identity: Some(identity(log as u64, index)) }
}

pub(super) fn identity(kind: u64, index: u64) -> IdentityHash {
    let hash = Hash::node(&leaf(&kind.to_be_bytes()), &leaf(&index.to_be_bytes()));
    let mut short = [0; 16];
    short.copy_from_slice(&hash.as_bytes()[..16]);
    IdentityHash(short)
}

pub(super) fn named(name: &str) -> LogSettings {
    LogSettings {
        name: name.to_owned(),
        origin: format!("example.com/logs/{name}"),
        vkeys: vec![format!("example.com/logs/{name}+00000000+AAAA"), "another".to_owned()],
        created_ms: 1_600_000_000_000,
        profile: Profile::Opaque,
        leaf_index: true,
        shard: 0,
        first_index: 0,
    }
}

pub(super) fn without_leaf_index(name: &str) -> LogSettings {
    LogSettings { leaf_index: false, ..named(name) }
}

/// The head of an extending round, for the history.
pub(super) fn published(round: &LogRound, time_ms: u64, signature_seed: u8) -> PublishedHead {
    let head = round.extend.as_ref().expect("the round extends the log").head;
    PublishedHead { head, time_ms, signatures: vec![signature(signature_seed)] }
}

pub(super) fn signature(seed: u8) -> HeadSignature {
    let key_id = u32::from(seed) << 24 | 1;
    HeadSignature { name: format!("key {seed}"), key_id, signature: vec![seed; 64].into() }
}

fn leaf(bytes: &[u8]) -> Hash {
    Hash::leaf(bytes)
}
