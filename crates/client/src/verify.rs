//! The checks on answers. Pure: no network, no files.

use bytes::Bytes;
use logwood_merkle::{Hash, LeafIndex, ProofError, RangeProof, TreeHead, TreeSize, multi, range, verify};
use logwood_note::{Checkpoint, VerifierKey};
use logwood_proto::{hashes, v1};
use sha2::{Digest as _, Sha256};

use crate::ClientError;

/// A head whose signature verified, and that extends every head verified before it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedHead {
    /// The log's identity.
    pub origin: String,
    /// Size and root.
    pub head: TreeHead,
    /// The checkpoint, verbatim.
    pub note: Bytes,
    /// [`v1::HeadLevel::Witnessed`] if the note's cosignatures satisfy the policy of [`crate::ClientOptions`], and never
    /// otherwise. Up to [`v1::HeadLevel::Published`] the level as the server claims it.
    pub level: v1::HeadLevel,
    /// POSIX milliseconds, as the server claims it; 0 if not known.
    pub time_ms: u64,
}

impl VerifiedHead {
    /// Judges the signature of `note` alone.
    pub(crate) fn from_note(note: Bytes, key: &VerifierKey) -> Result<Self, ClientError> {
        let checkpoint = Checkpoint::open(&note, key, None).map_err(|error| {
            ClientError::failed_check("the checkpoint is not one that the log's key signed", &error)
        })?;
        let (level, time_ms) = (v1::HeadLevel::Unspecified, 0);
        Ok(Self { origin: checkpoint.origin, head: checkpoint.head, note, level, time_ms })
    }
}

/// Judges `message` under `key`, and its consistency with `known`, the head whose size the request named.
///
/// * `latest` - a head verified already: the same note again is not judged twice.
///
/// The level is at most published, whatever the message claims: only a policy can tell more, see [`crate::policy`].
pub(crate) fn signed_head(
    message: Option<v1::SignedTreeHead>,
    key: &VerifierKey,
    known: Option<&VerifiedHead>,
    latest: Option<&VerifiedHead>,
) -> Result<VerifiedHead, ClientError> {
    let Some(message) = message else {
        return Err(ClientError::failed("the answer holds no head"));
    };
    let level = message.level().min(v1::HeadLevel::Published);
    let time_ms = message.time_ms;
    if let Some(latest) = latest.filter(|latest| latest.note == message.checkpoint) {
        return Ok(VerifiedHead { level, time_ms, ..latest.clone() });
    }
    let head = VerifiedHead::from_note(message.checkpoint, key)?;
    extends(known, &head, &hashes("consistency", &message.consistency)?)?;
    Ok(VerifiedHead { level, time_ms, ..head })
}

/// Checks that `new` extends `known` by `proof`.
fn extends(known: Option<&VerifiedHead>, new: &VerifiedHead, proof: &[Hash]) -> Result<(), ClientError> {
    let Some(known) = known.filter(|known| known.head.size > TreeSize(0)) else {
        return Ok(());
    };
    if new.head.size < known.head.size {
        return Err(ClientError::Behind { size: new.head.size.0, known_size: known.head.size.0 });
    }
    consistency(&known.head, &new.head, proof)
}

/// Checks by `proof` that `new` extends `old`, which is not empty.
pub(crate) fn consistency(old: &TreeHead, new: &TreeHead, proof: &[Hash]) -> Result<(), ClientError> {
    verify::consistency(old, new, proof).map_err(|error| {
        let what = format!("the head of size {} does not extend the verified head of size {}", new.size, old.size);
        ClientError::failed_check(what, &error)
    })
}

/// Two verified heads of one size must have one root.
pub(crate) fn same_tree(one: &VerifiedHead, other: &VerifiedHead) -> Result<(), ClientError> {
    if one.head.size == other.head.size && one.head.root != other.head.root {
        let what = format!("the log signed two different heads of size {}: keep both checkpoints", one.head.size);
        return Err(ClientError::failed(what));
    }
    Ok(())
}

/// Checks that `leaf` is at `index` under `head`.
pub(crate) fn inclusion(leaf: Hash, index: LeafIndex, head: &TreeHead, proof: &[Hash]) -> Result<(), ClientError> {
    verify::inclusion(leaf, index, head, proof).map_err(|error| {
        ClientError::failed_check(format!("entry {index} is not in the tree of size {}", head.size), &error)
    })
}

/// Checks that `leaves` are all the leaves from `first` on under `head`.
pub(crate) fn run(
    first: LeafIndex,
    leaves: &[Hash],
    head: &TreeHead,
    proof: &RangeProof,
) -> Result<range::VerifiedRange, ClientError> {
    range::VerifiedRange::new(first, leaves, head, proof)
        .map_err(|error| not_in_tree(first, leaves.len(), head, &error))
}

fn not_in_tree(first: LeafIndex, count: usize, head: &TreeHead, error: &ProofError) -> ClientError {
    let what = format!("the {count} entries from {first} on are not in the tree of size {}", head.size);
    ClientError::failed_check(what, error)
}

/// Checks a multiproof twice: by our verifier, then by `rs_merkle`'s.
///
/// Ours is first, since it alone insists on increasing indices and the exact number of hashes.
pub(crate) fn multiproof(leaves: &[(LeafIndex, Hash)], head: &TreeHead, proof: &[Hash]) -> Result<(), ClientError> {
    multi::verify(leaves, head, proof)
        .map_err(|error| ClientError::failed_check("the multiproof does not lead to the head", &error))?;

    let too_big =
        || ClientError::failed("the tree is larger than this machine can count: the second verifier cannot judge it");
    let size = usize::try_from(head.size.0).map_err(|_| too_big())?;
    // Every index is below the size, which `multi::verify` has checked.
    let indices: Vec<_> = leaves.iter().filter_map(|(index, _)| usize::try_from(index.0).ok()).collect();
    let hashes: Vec<_> = leaves.iter().map(|(_, leaf)| *leaf.as_bytes()).collect();
    let second = rs_merkle::MerkleProof::<Rfc6962>::new(proof.iter().map(|hash| *hash.as_bytes()).collect());
    if second.verify(*head.root.as_bytes(), &indices, &hashes, size) {
        return Ok(());
    }
    Err(ClientError::failed("the second verifier does not accept the multiproof"))
}

/// RFC 6962 hashing for `rs_merkle`, independent of our own.
#[derive(Clone)]
struct Rfc6962;

impl rs_merkle::Hasher for Rfc6962 {
    type Hash = [u8; 32];

    fn hash(data: &[u8]) -> Self::Hash {
        Sha256::new().chain_update([0]).chain_update(data).finalize().into()
    }

    fn concat_and_hash(left: &Self::Hash, right: Option<&Self::Hash>) -> Self::Hash {
        match right {
            Some(right) => Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into(),
            None => *left,
        }
    }
}

#[cfg(test)]
mod tests;
