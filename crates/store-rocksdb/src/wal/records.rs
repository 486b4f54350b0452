//! The records of a write-ahead log, and what their damage means.

const BLOCK_BYTES: usize = 32 * 1024;
const HEADER_BYTES: usize = 7;

const FULL: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;

/// How a write-ahead log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// In a whole record, or in one that was cut short, which the engine forgives.
    Whole,
    /// In a damaged record, which begins after `keep` bytes.
    Torn { keep: usize },
    /// The damage at `damage` is followed by the beginning of another record at `next`.
    Followed { damage: usize, next: usize },
}

/// Follows the records from the beginning to the first that is damaged.
pub(super) fn judge(wal: &[u8]) -> Tail {
    let (mut at, mut begun) = (0, None);
    loop {
        let fragment = match fragment(wal, at) {
            Fragment::End => return cut_short(wal, at),
            Fragment::Trailer => {
                at += block_left(at);
                continue;
            }
            Fragment::Damaged => return damaged(wal, begun.unwrap_or(at), at),
            Fragment::Valid { kind, bytes } => (kind, bytes),
        };
        match (fragment.0, begun) {
            (FIRST, None) => begun = Some(at),
            (LAST, Some(_)) => begun = None,
            (FULL | FIRST, Some(damage)) => return Tail::Followed { damage, next: at },
            (MIDDLE | LAST, None) => return damaged(wal, at, at),
            // The record goes on, or is whole; other kinds are about the log itself.
            _ => {}
        }
        at += HEADER_BYTES + fragment.1;
    }
}

/// The file ends in the fragment at `at`, or its length is damaged and another record is behind it.
fn cut_short(wal: &[u8], at: usize) -> Tail {
    match damaged(wal, at, at) {
        Tail::Torn { .. } => Tail::Whole,
        other => other,
    }
}

/// The record that begins at `begin` is damaged in its fragment at `damage`. A fragment that begins a record anywhere
/// behind means that the damaged one was synced: the next is written only after that.
fn damaged(wal: &[u8], begin: usize, damage: usize) -> Tail {
    // The kind is looked at first, since a checksum is taken over all that the length says.
    let may_begin = |at: usize| matches!(wal.get(at + HEADER_BYTES - 1), Some(&(FULL | FIRST)));
    let begins_record = |at: &usize| may_begin(*at) && matches!(fragment(wal, *at), Fragment::Valid { .. });
    match (damage + 1..wal.len()).find(begins_record) {
        Some(next) => Tail::Followed { damage, next },
        None => Tail::Torn { keep: begin },
    }
}

enum Fragment {
    /// Here the file ends, or a fragment of it is cut short.
    End,
    /// No header fits in the rest of the block.
    Trailer,
    Damaged,
    Valid {
        kind: u8,
        bytes: usize,
    },
}

fn block_left(at: usize) -> usize {
    BLOCK_BYTES - at % BLOCK_BYTES
}

fn fragment(wal: &[u8], at: usize) -> Fragment {
    let left = block_left(at);
    let Some((header, rest)) = wal[at..].split_first_chunk::<HEADER_BYTES>() else { return Fragment::End };
    if left < HEADER_BYTES {
        return Fragment::Trailer;
    }
    let [c0, c1, c2, c3, low, high, kind] = *header;
    let bytes = usize::from(u16::from_le_bytes([low, high]));
    let room = left - HEADER_BYTES;
    // The first fragment of several fills its block; there is no data of type zero.
    if kind == 0 || bytes > room || (kind == FIRST && bytes != room) {
        return Fragment::Damaged;
    }
    let Some(data) = rest.get(..bytes) else { return Fragment::End };
    let crc = crc32c([kind].iter().chain(data));
    if masked(crc) == u32::from_le_bytes([c0, c1, c2, c3]) {
        Fragment::Valid { kind, bytes }
    } else {
        Fragment::Damaged
    }
}

/// As stored: a checksum over data that holds checksums would be weak otherwise (`util/crc32c.h`).
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), RFC 3720 appendix B.4.
fn crc32c<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    !bytes.fold(!0, |crc, byte| CRC_TABLE[usize::from(crc.to_le_bytes()[0] ^ byte)] ^ (crc >> 8))
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte: u32 = 0;
    while byte < 256 {
        let mut crc = byte;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[byte as usize] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    /// Appends a record as `db/log_writer.cc` does.
    fn push(wal: &mut Vec<u8>, data: &[u8]) {
        let (mut rest, mut first) = (data, true);
        loop {
            if block_left(wal.len()) < HEADER_BYTES {
                wal.resize(wal.len() + block_left(wal.len()), 0);
            }
            let room = block_left(wal.len()) - HEADER_BYTES;
            let (part, after) = rest.split_at(rest.len().min(room));
            let kind = match (first, after.is_empty()) {
                (true, true) => FULL,
                (true, false) => FIRST,
                (false, true) => LAST,
                (false, false) => MIDDLE,
            };
            wal.extend(masked(crc32c([kind].iter().chain(part))).to_le_bytes());
            wal.extend(u16::try_from(part.len()).expect("less than a block").to_le_bytes());
            wal.push(kind);
            wal.extend(part);
            (rest, first) = (after, false);
            if rest.is_empty() {
                return;
            }
        }
    }

    fn data(seed: u32, bytes: usize) -> Vec<u8> {
        (0u32..).map(|at| (at.wrapping_mul(2_654_435_761) ^ seed).to_be_bytes()[1]).take(bytes).collect()
    }

    /// Records of these sizes, and where each begins.
    fn wal(sizes: &[usize]) -> (Vec<u8>, Vec<usize>) {
        let (mut wal, mut begins) = (Vec::new(), Vec::new());
        for (seed, bytes) in (1..).zip(sizes) {
            begins.push(wal.len());
            push(&mut wal, &data(seed, *bytes));
        }
        (wal, begins)
    }

    #[test]
    fn the_checksum_is_crc_32c() {
        // RFC 3720 appendix B.4.
        assert_eq!(crc32c([0u8; 32].iter()), 0x8a91_36aa);
        assert_eq!(crc32c([0xffu8; 32].iter()), 0x62a8_ab43);
        assert_eq!(crc32c((0u8..32).collect::<Vec<_>>().iter()), 0x46dd_794e);
    }

    #[test]
    fn whole_and_cut_short_logs_need_no_repair() {
        assert_eq!(judge(&[]), Tail::Whole);
        let (wal, begins) = wal(&[100, 70_000, 32_754, 9]);
        for end in (begins[1]..wal.len()).step_by(1_001).chain([wal.len()]) {
            assert_eq!(judge(&wal[..end]), Tail::Whole, "cut at {end}");
        }
    }

    #[test]
    fn any_damage_in_the_last_record_alone_is_torn() {
        for sizes in [&[100, 200][..], &[100, 100_000], &[32_000, 31_000, 2_000, 65_000]] {
            let (good, begins) = wal(sizes);
            let keep = *begins.last().expect("there are records");
            for at in (keep..good.len()).step_by(4_999) {
                let mut flipped = good.clone();
                flipped[at] ^= 0x40;
                // A longer length looks like a record that was cut short, which the engine forgives.
                assert!(
                    matches!(judge(&flipped), Tail::Torn { keep: at } if at == keep) || judge(&flipped) == Tail::Whole
                );
                let mut hole = good.clone();
                let end = hole.len().min(at + 4_096);
                hole[at..end].fill(0);
                if hole != good {
                    assert_eq!(judge(&hole), Tail::Torn { keep }, "a hole of zeros at {at}");
                }
            }
        }
    }

    #[test]
    fn damage_before_the_last_record_is_never_cut_off() {
        let (good, begins) = wal(&[100, 40_000, 300, 100_000, 50]);
        for at in (0..begins[4]).step_by(3_001) {
            let mut flipped = good.clone();
            flipped[at] ^= 0x01;
            assert!(matches!(judge(&flipped), Tail::Followed { .. }), "flipped at {at}");
        }
        let mut hole = good;
        hole[begins[1]..begins[4]].fill(0);
        assert_eq!(judge(&hole), Tail::Followed { damage: begins[1], next: begins[4] });
    }
}
