//! Full entry bundles as they are stored: a table of frames, then the frames.
//!
//! ```text
//!   1 byte   version, 1
//!   1 byte   encoding: 0 raw, 1 zstd
//!   1 byte   frames, 1 to 255
//!   10 bytes a frame: entries in it (2), its raw bytes (4), its stored bytes (4), big-endian
//!            the frames, one after the other
//! ```
//!
//! The frames, decoded and put together, are the tlog-tiles entry bundle: each of 256 entries with its big-endian
//! `uint16` length before it. A frame ends between entries and decodes to at most [`FRAME_BYTES_MAX`], so that one
//! entry is read by decoding one frame. A bundle that zstd does not shrink is stored raw.

use std::cell::RefCell;
use std::io;
use std::ops::Range;

use bytes::Bytes;
use thiserror::Error;
use zstd::bulk::{Compressor, Decompressor};

use crate::records::{Entry, PackedBundle};
use crate::{BUNDLE_ENTRIES, ENTRY_BYTES_MAX};

/// The most that a frame decodes to: bounds what reading one entry costs.
pub const FRAME_BYTES_MAX: usize = 1 << 20;

const VERSION: u8 = 1;
const RAW: u8 = 0;
const ZSTD: u8 = 1;
const HEADER_BYTES: usize = 3;
const FRAME_HEADER_BYTES: usize = 10;
const LENGTH_BYTES: usize = 2;

/// zstd's own fastest regular level: packing 150,000 entries of 256 bytes takes about a tenth of a core a second.
const ZSTD_LEVEL: i32 = 1;

#[expect(clippy::cast_possible_truncation, reason = "256 fits")]
const ENTRIES: usize = BUNDLE_ENTRIES as usize;

thread_local! {
    /// A zstd context is 1 MiB that a thread makes once.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Encodes the 256 entries of bundle `index`. Pure CPU: call it away from the commit path.
///
/// # Panics
///
/// If `entries` are not exactly 256, or one is longer than [`ENTRY_BYTES_MAX`]: the sequencer checked both.
#[must_use]
pub fn pack(index: u64, entries: &[Entry]) -> PackedBundle {
    assert_eq!(entries.len(), ENTRIES, "a bundle has 256 entries");
    let raw_frames = frame(entries);
    let (encoding, frames) = match compress(&raw_frames) {
        Some(compressed) => (ZSTD, compressed),
        None => (RAW, raw_frames.iter().map(|frame| frame.bytes.clone()).collect()),
    };

    let table_bytes = HEADER_BYTES + FRAME_HEADER_BYTES * frames.len();
    let mut data = Vec::with_capacity(table_bytes + frames.iter().map(Vec::len).sum::<usize>());
    data.extend([VERSION, encoding, u8::try_from(frames.len()).expect("at most 18 frames hold 256 entries")]);
    for (raw, stored) in raw_frames.iter().zip(&frames) {
        data.extend(u16::try_from(raw.entries).expect("at most 256 entries").to_be_bytes());
        data.extend(u32::try_from(raw.bytes.len()).expect("a frame is at most 1 MiB").to_be_bytes());
        data.extend(u32::try_from(stored.len()).expect("stored frames are no longer than raw ones").to_be_bytes());
    }
    for stored in &frames {
        data.extend_from_slice(stored);
    }
    let identities = entries.iter().map(|entry| entry.identity).collect();
    PackedBundle { index, data: data.into(), identities }
}

/// The 256 entries of a bundle.
///
/// # Errors
///
/// [`BundleError`] if `data` is not what [`pack`] makes. Hostile bytes cost no more memory than a real bundle.
pub fn unpack(data: &[u8]) -> Result<Vec<Bytes>, BundleError> {
    Bundle::parse(data)?.entries(0..ENTRIES, usize::MAX)
}

/// A stored bundle whose table was read and checked. Frames are decoded when asked for.
#[derive(Debug)]
pub struct Bundle<'a> {
    zstd: bool,
    frames: Vec<Frame<'a>>,
}

#[derive(Debug)]
struct Frame<'a> {
    first: usize,
    entries: usize,
    raw_bytes: usize,
    stored: &'a [u8],
}

impl<'a> Bundle<'a> {
    /// Reads the table of `data`.
    ///
    /// # Errors
    ///
    /// [`BundleError::Version`] for a later format, [`BundleError::Table`] if the table contradicts itself or `data`.
    pub fn parse(data: &'a [u8]) -> Result<Self, BundleError> {
        let (header, mut table) = data.split_first_chunk::<HEADER_BYTES>().ok_or(BundleError::Table)?;
        let [version, encoding, frame_count] = *header;
        if version != VERSION {
            return Err(BundleError::Version { found: version });
        }
        if encoding > ZSTD {
            return Err(BundleError::Table);
        }

        let table_bytes = FRAME_HEADER_BYTES * usize::from(frame_count);
        let mut stored = table.get(table_bytes..).ok_or(BundleError::Table)?;
        let mut frames = Vec::with_capacity(usize::from(frame_count));
        let mut first = 0;
        for _ in 0..frame_count {
            let (line, rest) = table.split_first_chunk::<FRAME_HEADER_BYTES>().ok_or(BundleError::Table)?;
            let [e0, e1, r0, r1, r2, r3, s0, s1, s2, s3] = *line;
            let entries = usize::from(u16::from_be_bytes([e0, e1]));
            let raw_bytes = u32::from_be_bytes([r0, r1, r2, r3]) as usize;
            let stored_bytes = u32::from_be_bytes([s0, s1, s2, s3]) as usize;
            let lengths_fit = raw_bytes <= FRAME_BYTES_MAX && (encoding == ZSTD || stored_bytes == raw_bytes);
            if entries == 0 || !lengths_fit {
                return Err(BundleError::Table);
            }
            let (bytes, after) = stored.split_at_checked(stored_bytes).ok_or(BundleError::Table)?;
            frames.push(Frame { first, entries, raw_bytes, stored: bytes });
            first += entries;
            (table, stored) = (rest, after);
        }
        if first != ENTRIES || !stored.is_empty() {
            return Err(BundleError::Table);
        }
        Ok(Self { zstd: encoding == ZSTD, frames })
    }

    /// The entries at `wanted` places, within 0..256: at least the first, and no further one once `bytes_max` is
    /// reached. Decodes only the frames that hold them.
    ///
    /// # Errors
    ///
    /// [`BundleError::Frame`] if a frame does not decode to the entries that the table promises.
    pub fn entries(&self, wanted: Range<usize>, bytes_max: usize) -> Result<Vec<Bytes>, BundleError> {
        let mut entries: Vec<Bytes> = Vec::with_capacity(wanted.len().min(ENTRIES));
        let mut bytes = 0;
        for (number, frame) in self.frames.iter().enumerate() {
            let places = frame.first..frame.first + frame.entries;
            if places.end <= wanted.start || places.start >= wanted.end {
                continue;
            }
            let raw = self.decode(frame).map_err(|source| BundleError::Frame { number, source })?;
            let decoded = split(&raw, frame.entries).ok_or_else(|| BundleError::Frame {
                number,
                source: io::Error::new(io::ErrorKind::InvalidData, "entry lengths do not fill the frame"),
            })?;
            for (_, entry) in places.zip(decoded).filter(|(place, _)| wanted.contains(place)) {
                if !entries.is_empty() && bytes >= bytes_max {
                    return Ok(entries);
                }
                bytes += entry.len();
                entries.push(entry);
            }
        }
        Ok(entries)
    }

    /// The frames put together, if they are zstd: an HTTP body of `Content-Encoding: zstd`.
    #[must_use]
    pub fn zstd_frames(&self) -> Option<Vec<u8>> {
        self.zstd.then(|| self.frames.iter().flat_map(|frame| frame.stored).copied().collect())
    }

    fn decode(&self, frame: &Frame<'_>) -> io::Result<Bytes> {
        if !self.zstd {
            return Ok(Bytes::copy_from_slice(frame.stored));
        }
        let raw = DECOMPRESSOR.with_borrow_mut(|slot| {
            let decompressor = match slot {
                Some(decompressor) => decompressor,
                None => slot.insert(Decompressor::new()?),
            };
            decompressor.decompress(frame.stored, frame.raw_bytes)
        })?;
        if raw.len() == frame.raw_bytes {
            Ok(raw.into())
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, "the frame is shorter than the table says"))
        }
    }
}

/// Why bytes are not a bundle.
#[derive(Debug, Error)]
pub enum BundleError {
    /// Written by a later version.
    #[error("the bundle has format version {found}; this program reads version {VERSION}")]
    Version {
        /// The version byte.
        found: u8,
    },
    /// The table of frames is cut short or contradicts itself.
    #[error("the bundle's table of frames is damaged")]
    Table,
    /// A frame does not decode to its entries.
    #[error("frame {number} of the bundle is damaged")]
    Frame {
        /// Which, from 0.
        number: usize,
        /// What zstd said.
        #[source]
        source: io::Error,
    },
}

struct RawFrame {
    entries: usize,
    bytes: Vec<u8>,
}

/// Lays entries out as tlog-tiles does, cut between entries at [`FRAME_BYTES_MAX`].
fn frame(entries: &[Entry]) -> Vec<RawFrame> {
    let total: usize = entries.iter().map(|entry| LENGTH_BYTES + entry.bytes.len()).sum();
    let mut frames = vec![RawFrame { entries: 0, bytes: Vec::with_capacity(total.min(FRAME_BYTES_MAX)) }];
    for entry in entries {
        assert!(entry.bytes.len() <= ENTRY_BYTES_MAX, "an entry has at most {ENTRY_BYTES_MAX} bytes");
        let full =
            frames.last().is_some_and(|frame| frame.bytes.len() + LENGTH_BYTES + entry.bytes.len() > FRAME_BYTES_MAX);
        if full {
            frames.push(RawFrame { entries: 0, bytes: Vec::with_capacity(FRAME_BYTES_MAX) });
        }
        let frame = frames.last_mut().expect("there was one to begin with");
        let length = u16::try_from(entry.bytes.len()).expect("ENTRY_BYTES_MAX is the largest u16");
        frame.bytes.extend(length.to_be_bytes());
        frame.bytes.extend_from_slice(&entry.bytes);
        frame.entries += 1;
    }
    frames
}

/// The frames as zstd, or nothing if they do not shrink.
fn compress(frames: &[RawFrame]) -> Option<Vec<Vec<u8>>> {
    COMPRESSOR.with_borrow_mut(|slot| {
        let compressor = match slot {
            Some(compressor) => compressor,
            None => slot.insert(Compressor::new(ZSTD_LEVEL).ok()?),
        };
        let mut compressed = Vec::with_capacity(frames.len());
        for frame in frames {
            let stored = compressor.compress(&frame.bytes).ok()?;
            if stored.len() >= frame.bytes.len() {
                return None;
            }
            compressed.push(stored);
        }
        Some(compressed)
    })
}

/// Undoes [`frame`] for one frame; nothing unless `count` entries fill it exactly.
fn split(raw: &Bytes, count: usize) -> Option<Vec<Bytes>> {
    let mut entries = Vec::with_capacity(count);
    let mut at = 0;
    for _ in 0..count {
        let length = raw.get(at..at + LENGTH_BYTES)?;
        let start = at + LENGTH_BYTES;
        at = start + usize::from(u16::from_be_bytes([length[0], length[1]]));
        if at > raw.len() {
            return None;
        }
        entries.push(raw.slice(start..at));
    }
    (at == raw.len()).then_some(entries)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries(make: impl Fn(usize) -> Vec<u8>) -> Vec<Entry> {
        (0..ENTRIES).map(|place| Entry { bytes: make(place).into(), identity: None }).collect()
    }

    fn noise(len: usize, mut seed: u64) -> Vec<u8> {
        let mut next = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            seed.to_be_bytes()[0]
        };
        (0..len).map(|_| next()).collect()
    }

    fn assert_round_trip(given: &[Entry]) -> PackedBundle {
        let packed = pack(7, given);
        let expected: Vec<_> = given.iter().map(|entry| entry.bytes.clone()).collect();
        assert_eq!(unpack(&packed.data).expect("own bundle"), expected);
        packed
    }

    #[test]
    fn text_shrinks_and_noise_is_stored_raw() {
        let text = assert_round_trip(&entries(|place| format!("an event, the {place}th of its kind").into_bytes()));
        assert_eq!(text.data[1], ZSTD);
        assert!(text.data.len() < 256 * 16);

        let random = assert_round_trip(&entries(|place| noise(200, place as u64)));
        assert_eq!(random.data[1], RAW);
        assert_eq!(random.data.len(), HEADER_BYTES + FRAME_HEADER_BYTES + 256 * 202);
    }

    #[test]
    fn the_largest_bundle_has_frames_that_are_read_one_at_a_time() {
        for seeded in [false, true] {
            let given = entries(|place| if seeded { noise(65_535, place as u64) } else { vec![b'a'; 65_535 - place] });
            let packed = assert_round_trip(&given);
            let bundle = Bundle::parse(&packed.data).expect("own bundle");
            assert_eq!(bundle.frames.len(), if seeded { 18 } else { 16 });
            for place in [0, 14, 15, 128, 255] {
                assert_eq!(bundle.entries(place..place + 1, 0).expect("own bundle"), [given[place].bytes.clone()]);
            }
            assert_eq!(bundle.entries(10..200, 70_000).expect("own bundle").len(), 2);
            assert_eq!(bundle.entries(10..40, usize::MAX).expect("own bundle").len(), 30);
        }
    }

    #[test]
    fn the_encoding_is_the_documented_bytes() {
        let packed = pack(0, &entries(|_| b"ab".to_vec()));
        let (table, frames) = packed.data.split_at(HEADER_BYTES + FRAME_HEADER_BYTES);
        // One zstd frame of 256 entries: 1,024 bytes raw.
        insta::assert_snapshot!(format!("{:02x?}", &table[..9]), @"[01, 01, 01, 01, 00, 00, 00, 04, 00]");
        assert_eq!(frames[..4], [0x28, 0xb5, 0x2f, 0xfd], "zstd's magic number");
    }

    #[test]
    fn zstd_frames_together_are_the_bundle_of_tlog_tiles() {
        let given = entries(|place| vec![b'a'; 5_000 + place]);
        let packed = pack(0, &given);
        let body = Bundle::parse(&packed.data).expect("own bundle").zstd_frames().expect("text shrinks");
        let decoded = zstd::stream::decode_all(&*body).expect("zstd");
        let expected: Vec<u8> = frame(&given).into_iter().flat_map(|frame| frame.bytes).collect();
        assert_eq!(decoded, expected);
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200), version in 0_u8..3) {
            let mut data = bytes;
            if let Some(first) = data.first_mut() {
                *first = version;
            }
            prop_assert!(unpack(&data).is_err());
        }

        #[test]
        fn damage_is_an_error_or_other_entries_but_never_a_panic(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
            let packed = pack(0, &entries(|place| format!("line {place}").into_bytes()));
            let mut data = packed.data.to_vec();
            let at = at.index(data.len());
            data[at] ^= 1 << bit;
            let _ = unpack(&data);
            prop_assert!(unpack(&data[..at]).is_err());
        }
    }
}
