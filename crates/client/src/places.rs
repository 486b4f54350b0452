//! Which identity was answered with which index. Two entries of equal bytes have one leaf hash, so no proof tells them
//! apart: a server that drops one of them may answer with the other's place.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use logwood_merkle::LeafIndex;

use crate::{Appended, ClientError};

/// Most places that are kept, of which the oldest is forgotten first: eight default windows of a stream.
const PLACES_MAX: usize = 65_536;

/// What identifies an entry that is under way.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    /// `None`: nothing, so that it is the same as no other.
    pub(crate) identity: Option<Bytes>,
    /// Nobody else can have sent it: this client drew the identity, and it went out once only.
    pub(crate) is_first: bool,
}

/// The newest places of a batch or a stream.
#[derive(Debug, Default)]
pub(crate) struct Places {
    by_index: HashMap<LeafIndex, Option<Bytes>>,
    oldest: VecDeque<LeafIndex>,
}

impl Places {
    /// Takes note of the answer to `sent`.
    ///
    /// # Errors
    ///
    /// [`ClientError::Verification`] if another entry has that index, and as [`check_first`].
    pub(crate) fn note(&mut self, sent: &Sent, appended: &Appended) -> Result<(), ClientError> {
        let index = appended.index;
        if let Some(other) = self.by_index.get(&index) {
            if sent.identity.is_none() || *other != sent.identity {
                return Err(ClientError::failed(format!("the server has one index for two entries: {index}")));
            }
            return check_first(sent.is_first, appended);
        }
        check_first(sent.is_first, appended)?;
        if self.oldest.len() == PLACES_MAX {
            self.oldest.pop_front().map(|oldest| self.by_index.remove(&oldest));
        }
        // A copy, since the identity may be a part of something larger.
        self.by_index.insert(index, sent.identity.as_deref().map(Bytes::copy_from_slice));
        self.oldest.push_back(index);
        Ok(())
    }
}

/// Refuses a duplicate of what nobody can have sent before.
///
/// # Errors
///
/// [`ClientError::Verification`] if it is one.
pub(crate) fn check_first(is_first: bool, appended: &Appended) -> Result<(), ClientError> {
    if is_first && appended.duplicate {
        let what = format!("the server calls a new entry, sent once, a duplicate of entry {}", appended.index);
        return Err(ClientError::failed(what));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use logwood_note::Receipt;

    use super::*;
    use crate::testing::verified;

    fn appended(index: u64, duplicate: bool) -> Appended {
        let (index, head) = (LeafIndex(index), verified(7));
        let receipt = Receipt { extra: None, index, proof: Vec::new(), checkpoint: head.note.to_vec() };
        Appended { index, duplicate, receipt, head }
    }

    fn sent(identity: Option<&'static str>, is_first: bool) -> Sent {
        Sent { identity: identity.map(|text| Bytes::from_static(text.as_bytes())), is_first }
    }

    #[test]
    fn two_entries_at_one_place_are_tampering_unless_they_are_the_same_one() {
        let mut places = Places::default();
        places.note(&sent(Some("one"), false), &appended(2, false)).expect("the first");
        places.note(&sent(Some("one"), false), &appended(2, true)).expect("sent twice");
        places.note(&sent(None, false), &appended(3, false)).expect("another place");
        for (identity, index) in [(Some("two"), 2), (None, 2), (Some("one"), 3), (None, 3)] {
            let noted = places.note(&sent(identity, false), &appended(index, true));
            assert!(noted.is_err_and(|error| error.is_tampering()), "{identity:?} at {index}");
        }
    }

    #[test]
    fn what_was_drawn_and_sent_once_is_no_duplicate() {
        let mut places = Places::default();
        let noted = places.note(&sent(Some("one"), true), &appended(2, true));
        assert!(noted.is_err_and(|error| error.is_tampering()));
        places.note(&sent(Some("one"), false), &appended(2, true)).expect("its first answer may have been lost");
    }

    #[test]
    fn only_the_newest_places_are_kept() {
        let (mut places, mut answer) = (Places::default(), appended(0, false));
        for index in 0..PLACES_MAX as u64 + 5 {
            answer.index = LeafIndex(index);
            places.note(&sent(Some("one"), false), &answer).expect("a place of its own");
        }
        assert_eq!((places.by_index.len(), places.oldest.len()), (PLACES_MAX, PLACES_MAX));
        assert_eq!(places.oldest.front(), Some(&LeafIndex(5)));
    }
}
