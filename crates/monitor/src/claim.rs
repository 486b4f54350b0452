//! What a server says of the entries that it sends: in the tree of this head, which the log signed, they come here.
//!
//! As long as the entries are those of the known history, nobody needs it. If they are not, it is a receipt for each of
//! them, and together with a receipt for what the known history has in that place it proves that the log signed two.

use bytes::Bytes;
use logwood_merkle::{Hash, LeafIndex, RangeProof, VerifiedRange};
use logwood_note::Receipt;

use crate::follow::SignedHead;

/// The claim that entries follow each other in the tree of a signed head. Not believed before [`Claim::receipt`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The checkpoint note of that head, not verified.
    pub note: Bytes,
    /// Index of the first entry.
    pub first: u64,
    /// How many entries there are.
    pub count: usize,
    /// The hashes left and right of them.
    pub proof: RangeProof,
}

impl Claim {
    /// The index of its first entry that is not in `leaves`, with both leaf hashes: its own and the other.
    ///
    /// * `own`, `leaves` - leaf hashes from the entry `first` on, where the entries of the claim begin or earlier.
    #[must_use]
    pub fn difference(&self, first: u64, own: &[Hash], leaves: &[Hash]) -> Option<(u64, Hash, Hash)> {
        let end = self.first + self.count as u64;
        let pairs = (first..end).zip(own.iter().zip(leaves));
        pairs
            .skip_while(|(index, _)| *index < self.first)
            .find_map(|(index, (own, other))| (own != other).then_some((index, *own, *other)))
    }

    /// The receipt for the entry at `index`, if the claim is true.
    ///
    /// * `first`, `own` - leaf hashes from the entry `first` on, those of the claim among them.
    /// * `head` - what its note signs.
    #[must_use]
    pub fn receipt(&self, index: u64, (first, own): (u64, &[Hash]), head: &SignedHead) -> Option<Receipt> {
        let begin = usize::try_from(self.first.checked_sub(first)?).ok()?;
        let leaves = own.get(begin..begin.checked_add(self.count)?)?;
        let range = VerifiedRange::new(LeafIndex(self.first), leaves, &head.head, &self.proof).ok()?;
        let proof = range.inclusion_proof(LeafIndex(index)).ok()?;
        Some(Receipt { extra: None, index: LeafIndex(index), proof, checkpoint: head.note.to_vec() })
    }
}
