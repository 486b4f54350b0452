//! Values: a version byte, the record, and the first 8 bytes of SHA-256 over key and record, so that rot is found, and
//! a value under a wrong key too.

use std::ops::Range;

use bytes::{Buf, BufMut, Bytes};
use logwood_merkle::{Hash, LeafIndex, TreeHead, TreeSize};
use logwood_store::{
    ENTRY_BYTES_MAX, Entry, Extension, HeadSignature, IdentityHash, LogNumber, LogSettings, LogState, Piece, Profile,
    PublishedHead, ReadError, RoundNumber, StoredHead,
};
use sha2::{Digest as _, Sha256};

use crate::keys;

/// Version of every record of this format.
const VERSION: u8 = 1;
const CHECKSUM_BYTES: usize = 8;

/// Bytes of an identity hash; all zero where an entry has none.
pub(crate) const IDENTITY_BYTES: usize = 16;

fn checksum(key: &[u8], record: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = Sha256::new().chain_update(key).chain_update(record).finalize();
    hash[..CHECKSUM_BYTES].try_into().expect("8 of 32 bytes")
}

/// Wraps a record for `key`. `write` appends it.
pub(crate) fn seal(key: &[u8], capacity: usize, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut value = Vec::with_capacity(1 + capacity + CHECKSUM_BYTES);
    value.push(VERSION);
    write(&mut value);
    let checksum = checksum(key, &value);
    value.extend_from_slice(&checksum);
    value
}

/// Checks a value and gives its record.
pub(crate) fn open<'a>(key: &[u8], value: &'a [u8], what: &str) -> Result<&'a [u8], ReadError> {
    let damaged = |why: &str| ReadError::Corrupt { what: format!("{what} {why}") };
    let (record, sum) = value.split_last_chunk::<CHECKSUM_BYTES>().ok_or_else(|| damaged("is cut short"))?;
    if *sum != checksum(key, record) {
        return Err(damaged("fails its checksum"));
    }
    match record.split_first() {
        Some((&VERSION, record)) => Ok(record),
        _ => Err(damaged("has a version that this program does not know: it was written by a newer one")),
    }
}

/// A reader that says which record ended too soon.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    what: &'a str,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(record: &'a [u8], what: &'a str) -> Self {
        Self { rest: record, what }
    }

    fn damaged(&self) -> ReadError {
        ReadError::Corrupt { what: format!("{} has a malformed record", self.what) }
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8], ReadError> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or_else(|| self.damaged())?;
        self.rest = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, ReadError> {
        Ok(self.take(1)?.get_u8())
    }

    fn u16(&mut self) -> Result<u16, ReadError> {
        Ok(self.take(2)?.get_u16())
    }

    pub(crate) fn u32(&mut self) -> Result<u32, ReadError> {
        Ok(self.take(4)?.get_u32())
    }

    pub(crate) fn u64(&mut self) -> Result<u64, ReadError> {
        Ok(self.take(8)?.get_u64())
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        Ok(self.take(N)?.try_into().expect("as many bytes as were taken"))
    }

    fn short(&mut self) -> Result<&'a [u8], ReadError> {
        let length = self.u16()?;
        self.take(length.into())
    }

    fn text(&mut self) -> Result<String, ReadError> {
        let damaged = self.damaged();
        String::from_utf8(self.short()?.to_vec()).map_err(|_| damaged)
    }

    pub(crate) fn end(self) -> Result<(), ReadError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.damaged()) }
    }
}

/// Two bytes of length, then the bytes.
fn put_short(value: &mut Vec<u8>, bytes: &[u8]) {
    value.put_u16(u16::try_from(bytes.len()).expect("names, notes and entries are at most 65,535 bytes"));
    value.put_slice(bytes);
}

fn put_head(value: &mut Vec<u8>, head: &TreeHead) {
    value.put_u64(head.size.0);
    value.put_slice(head.root.as_bytes());
}

fn head(reader: &mut Reader<'_>) -> Result<TreeHead, ReadError> {
    Ok(TreeHead { size: TreeSize(reader.u64()?), root: Hash::from_bytes(reader.array()?) })
}

pub(crate) fn put_identity(value: &mut Vec<u8>, identity: Option<IdentityHash>) {
    value.put_slice(&identity.map_or([0; IDENTITY_BYTES], |identity| identity.0));
}

pub(crate) fn identity(bytes: [u8; IDENTITY_BYTES]) -> Option<IdentityHash> {
    (bytes != [0; IDENTITY_BYTES]).then_some(IdentityHash(bytes))
}

/// `pieces`: count, then each identity and entry.
pub(crate) fn piece(key: &[u8], piece: &Piece) -> Vec<u8> {
    let bytes: usize = piece.entries.iter().map(|entry| entry.bytes.len() + 2 + IDENTITY_BYTES).sum();
    seal(key, bytes + 1, |value| {
        value.put_u8(u8::try_from(piece.entries.len()).expect("a piece has at most 255 entries"));
        for entry in &piece.entries {
            put_identity(value, entry.identity);
            put_short(value, &entry.bytes);
        }
    })
}

/// Reads a piece; the entries share one allocation.
pub(crate) fn read_piece(key: &[u8], value: &[u8], first: LeafIndex) -> Result<Vec<Entry>, ReadError> {
    let what = format!("the piece that begins at entry {first}");
    let record = open(key, value, &what)?;
    let shared = Bytes::copy_from_slice(record);
    let mut reader = Reader::new(record, &what);
    let count = reader.u8()?;
    let mut entries = Vec::with_capacity(count.into());
    for _ in 0..count {
        let identity = identity(reader.array()?);
        let length = usize::from(reader.u16()?);
        let at = record.len() - reader.rest.len();
        reader.take(length)?;
        debug_assert!(length <= ENTRY_BYTES_MAX);
        entries.push(Entry { bytes: shared.slice(at..at + length), identity });
    }
    reader.end()?;
    Ok(entries)
}

/// `meta` R: the last round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LastRound {
    pub(crate) round: RoundNumber,
    pub(crate) next_log: LogNumber,
    /// What rounds up to this one appended is told by the index alone.
    pub(crate) trimmed: RoundNumber,
}

pub(crate) fn last_round(last: &LastRound) -> Vec<u8> {
    seal(keys::META_ROUND, 20, |value| {
        value.put_u64(last.round.0);
        value.put_u32(last.next_log.0);
        value.put_u64(last.trimmed.0);
    })
}

pub(crate) fn read_last_round(value: &[u8]) -> Result<LastRound, ReadError> {
    let what = "the record of the last round";
    let mut reader = Reader::new(open(keys::META_ROUND, value, what)?, what);
    let round = RoundNumber(reader.u64()?);
    let last = LastRound { round, next_log: LogNumber(reader.u32()?), trimmed: RoundNumber(reader.u64()?) };
    reader.end()?;
    Ok(last)
}

/// `meta` X: log, first index and count of what a round appended to each log.
pub(crate) fn appended<'a>(key: &[u8], extensions: impl Iterator<Item = (LogNumber, &'a Extension)>) -> Vec<u8> {
    seal(key, 13, |value| {
        for (log, extension) in extensions {
            value.put_u32(log.0);
            value.put_slice(&keys::index_bytes(extension.first.0));
            value.put_u32(u32::try_from(extension.leaves.len()).expect("a round has thousands of entries"));
        }
    })
}

pub(crate) fn read_appended(key: &[u8], value: &[u8]) -> Result<Vec<(LogNumber, Range<u64>)>, ReadError> {
    let what = "what a round appended";
    let mut reader = Reader::new(open(key, value, what)?, what);
    let mut extents = Vec::new();
    while !reader.rest.is_empty() {
        let log = LogNumber(reader.u32()?);
        let first = keys::index_from(&reader.array::<{ keys::INDEX_BYTES }>()?).expect("five bytes");
        extents.push((log, first..first + u64::from(reader.u32()?)));
    }
    Ok(extents)
}

/// `meta` L: what is fixed at creation.
pub(crate) fn settings(key: &[u8], settings: &LogSettings) -> Vec<u8> {
    seal(key, 512, |value| {
        put_short(value, settings.name.as_bytes());
        put_short(value, settings.origin.as_bytes());
        value.put_u8(u8::try_from(settings.vkeys.len()).expect("a log has a few keys"));
        for vkey in &settings.vkeys {
            put_short(value, vkey.as_bytes());
        }
        value.put_u64(settings.created_ms);
        value.put_u8(0); // Profile: opaque, the only one.
        value.put_u8(settings.leaf_index.into());
        value.put_u32(settings.shard);
        value.put_u64(settings.first_index);
    })
}

pub(crate) fn read_settings(key: &[u8], value: &[u8], what: &str) -> Result<LogSettings, ReadError> {
    let mut reader = Reader::new(open(key, value, what)?, what);
    let (name, origin) = (reader.text()?, reader.text()?);
    let vkeys = (0..reader.u8()?).map(|_| reader.text()).collect::<Result<_, _>>()?;
    let created_ms = reader.u64()?;
    if reader.u8()? != 0 {
        return Err(reader.damaged());
    }
    let settings = LogSettings {
        name,
        origin,
        vkeys,
        created_ms,
        profile: Profile::Opaque,
        leaf_index: reader.u8()? != 0,
        shard: reader.u32()?,
        first_index: reader.u64()?,
    };
    reader.end()?;
    Ok(settings)
}

/// `meta` A: the state.
pub(crate) fn state(key: &[u8], state: &LogState) -> Vec<u8> {
    seal(key, 1024, |value| match state {
        LogState::Active => value.put_u8(0),
        LogState::Frozen => value.put_u8(1),
        LogState::Sealed { note } => {
            value.put_u8(2);
            put_short(value, note);
        }
    })
}

pub(crate) fn read_state(key: &[u8], value: &[u8], what: &str) -> Result<LogState, ReadError> {
    let mut reader = Reader::new(open(key, value, what)?, what);
    let state = match reader.u8()? {
        0 => LogState::Active,
        1 => LogState::Frozen,
        2 => LogState::Sealed { note: Bytes::copy_from_slice(reader.short()?) },
        _ => return Err(reader.damaged()),
    };
    reader.end()?;
    Ok(state)
}

/// `meta` H: the present head.
pub(crate) fn stored_head(key: &[u8], stored: &StoredHead) -> Vec<u8> {
    seal(key, 56, |value| {
        put_head(value, &stored.head);
        value.put_u64(stored.round.0);
        value.put_u64(stored.time_ms);
    })
}

pub(crate) fn read_stored_head(key: &[u8], value: &[u8], what: &str) -> Result<StoredHead, ReadError> {
    let mut reader = Reader::new(open(key, value, what)?, what);
    let stored = StoredHead { head: head(&mut reader)?, round: RoundNumber(reader.u64()?), time_ms: reader.u64()? };
    reader.end()?;
    Ok(stored)
}

/// `meta` P: a published head, its signatures raw.
pub(crate) fn published(key: &[u8], published: &PublishedHead) -> Vec<u8> {
    seal(key, 256, |value| {
        put_head(value, &published.head);
        value.put_u64(published.time_ms);
        value.put_u8(u8::try_from(published.signatures.len()).expect("at most 64 signatures"));
        for signature in &published.signatures {
            put_short(value, signature.name.as_bytes());
            value.put_u32(signature.key_id);
            put_short(value, &signature.signature);
        }
    })
}

pub(crate) fn read_published(key: &[u8], value: &[u8]) -> Result<PublishedHead, ReadError> {
    let what = "a published head";
    let mut reader = Reader::new(open(key, value, what)?, what);
    let (head, time_ms) = (head(&mut reader)?, reader.u64()?);
    let mut signatures = Vec::new();
    for _ in 0..reader.u8()? {
        let (name, key_id) = (reader.text()?, reader.u32()?);
        signatures.push(HeadSignature { name, key_id, signature: Bytes::copy_from_slice(reader.short()?) });
    }
    reader.end()?;
    Ok(PublishedHead { head, time_ms, signatures })
}
