//! Single entries and proofs, verified under heads that are.

use bytes::Bytes;
use logwood_merkle::{CompactRange, Hash, LeafIndex, TreeHead, TreeSize, verify};
use logwood_note::Receipt;
use logwood_proto::{hash, hashes, v1};

use crate::client::{Store, size_of};
use crate::entries::required_range;
use crate::verify::{inclusion, multiproof, run};
use crate::{Client, ClientError, VerifiedHead};

/// Several leaves under one head, accepted by two verifiers.
#[derive(Clone, Debug)]
pub struct Multiproof {
    /// Indices, as asked for, with the leaf hashes there.
    pub leaves: Vec<(LeafIndex, Hash)>,
    /// Level by level from the leaves up, left to right in a level.
    pub proof: Vec<Hash>,
    /// The head that the proof leads to.
    pub head: VerifiedHead,
}

/// An entry that is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one at this index.
    Index(LeafIndex),
    /// One with this leaf hash: the first of them, on the server's word.
    Leaf(Hash),
}

/// An entry with the proof that it is in the log.
#[derive(Clone, Debug)]
pub struct LoggedEntry {
    /// As it was appended.
    pub bytes: Bytes,
    /// Verified; names the index.
    pub receipt: Receipt,
    /// The head of the receipt.
    pub head: VerifiedHead,
}

impl Client {
    /// The entry at `index`, under the latest head.
    ///
    /// # Errors
    ///
    /// As [`Client::entry`].
    pub async fn get(&self, index: LeafIndex) -> Result<LoggedEntry, ClientError> {
        self.entry(Which::Index(index), v1::HeadLevel::Unspecified).await
    }

    /// An entry and its receipt.
    ///
    /// * `level` - what the head of the receipt must have reached at least.
    ///
    /// # Errors
    ///
    /// * [`ClientError::Verification`] if the head or the entry does not verify, or another one came.
    /// * [`ClientError::Rejected`] if the index is beyond the head, no entry has the leaf hash, the log keeps no index of
    ///   leaf hashes ([`logwood_proto::Reason::NoLeafIndex`]), or it has no witnesses
    ///   ([`logwood_proto::Reason::NoWitnesses`]).
    /// * [`ClientError::BadOption`] if a witnessed head is asked for and no policy says what that is.
    /// * [`ClientError::Behind`], [`ClientError::Unreachable`] and [`ClientError::State`].
    pub async fn entry(&self, which: Which, level: v1::HeadLevel) -> Result<LoggedEntry, ClientError> {
        self.check_request(level)?;
        // A published head may be smaller than what is known.
        let known = if level <= v1::HeadLevel::Signed { self.remembered() } else { None };
        let by = match which {
            Which::Index(index) => v1::get_entry_request::By::Index(index.0),
            Which::Leaf(leaf) => v1::get_entry_request::By::LeafHash(Bytes::copy_from_slice(leaf.as_bytes())),
        };
        let (log, known_size) = (self.log(), size_of(known.as_ref()));
        let request = v1::GetEntryRequest { log, known_size, by: Some(by), head: level.into() };
        let answer = self.retrying(|mut rpc| {
            let request = request.clone();
            async move { rpc.get_entry(request).await }
        });
        let v1::GetEntryResponse { index, entry, head, inclusion: proof } = match answer.await {
            Ok(answer) => answer,
            Err(error) => return Err(self.judge_refusal(error, known.as_ref()).await),
        };
        let head = if level <= v1::HeadLevel::Signed {
            self.accept(head, known.as_ref(), (false, Store::Now)).await?
        } else {
            let head = self.signed_head(head, None, None)?;
            self.require_level(&head, level)?;
            self.join(&head).await?;
            self.remember(Store::Now).await?;
            head
        };
        let leaf = Hash::leaf(&entry);
        check_which(which, LeafIndex(index), leaf)?;
        let receipt = receipt(leaf, index, &proof, &head)?;
        Ok(LoggedEntry { bytes: entry, receipt, head })
    }

    /// The receipt of the entry with the hash `leaf` (RFC 6962 §2.1), for who has the entry already.
    ///
    /// * `index` - where it is. Without, the server looks it up: the first such entry, on its word.
    ///
    /// # Errors
    ///
    /// As [`Client::entry`].
    pub async fn receipt(&self, leaf: Hash, index: Option<LeafIndex>) -> Result<(Receipt, VerifiedHead), ClientError> {
        let known = self.remembered();
        let which = index.map_or(Which::Leaf(leaf), Which::Index);
        let answer = self.inclusion_proof(which, TreeSize(0), known.as_ref()).await?;
        let head = self.accept(answer.head, known.as_ref(), (false, Store::Now)).await?;
        check_which(which, LeafIndex(answer.index), leaf)?;
        Ok((receipt(leaf, answer.index, &answer.inclusion, &head)?, head))
    }

    /// The inclusion proof (RFC 6962 §2.1.1) of `leaf` at `index` in `tree`, a tree of the log's past: that of a receipt
    /// or a checkpoint whose signature the caller has checked.
    ///
    /// # Errors
    ///
    /// As [`Client::entry`]; a `tree` that the log never had is [`ClientError::Verification`], too.
    pub async fn inclusion_in(&self, tree: &TreeHead, index: LeafIndex, leaf: Hash) -> Result<Vec<Hash>, ClientError> {
        let known = self.remembered();
        let answer = self.inclusion_proof(Which::Index(index), tree.size, known.as_ref()).await?;
        self.accept(answer.head, known.as_ref(), (false, Store::Now)).await?;
        let proof = hashes("inclusion", &answer.inclusion)?;
        inclusion(leaf, index, tree, &proof)?;
        Ok(proof)
    }

    async fn inclusion_proof(
        &self,
        which: Which,
        size: TreeSize,
        known: Option<&VerifiedHead>,
    ) -> Result<v1::GetInclusionProofResponse, ClientError> {
        let by = match which {
            Which::Index(index) => v1::get_inclusion_proof_request::By::Index(index.0),
            Which::Leaf(leaf) => v1::get_inclusion_proof_request::By::LeafHash(Bytes::copy_from_slice(leaf.as_bytes())),
        };
        let (log, known_size) = (self.log(), size_of(known));
        let request = v1::GetInclusionProofRequest { log, by: Some(by), size: size.0, known_size };
        let answer = self.retrying(|mut rpc| {
            let request = request.clone();
            async move { rpc.get_inclusion_proof(request).await }
        });
        match answer.await {
            Ok(answer) => Ok(answer),
            Err(error) => Err(self.judge_refusal(error, known).await),
        }
    }

    /// The consistency proof from size `old` to size `new`, 0 < `old` <= `new`.
    ///
    /// Both roots are first proved to be those of the log's verified head, so that the proof has something to lead to.
    ///
    /// # Errors
    ///
    /// * [`ClientError::Verification`] if it does not verify.
    /// * [`ClientError::Rejected`] if a size is 0, out of order, or beyond the head.
    /// * [`ClientError::Unreachable`] and [`ClientError::State`].
    pub async fn consistency(&self, old: TreeSize, new: TreeSize) -> Result<Vec<Hash>, ClientError> {
        let request = v1::GetConsistencyProofRequest { log: self.log(), old_size: old.0, new_size: new.0 };
        let answer = self.retrying(|mut rpc| {
            let request = request.clone();
            async move { rpc.get_consistency_proof(request).await }
        });
        let answer = answer.await?;
        let proof = hashes("consistency", &answer.consistency)?;
        let head = self.head().await?;
        let (old_head, new_head) = (self.head_at(old, &head).await?, self.head_at(new, &head).await?);
        verify::consistency(&old_head, &new_head, &proof).map_err(|error| {
            ClientError::failed_check(format!("size {new} is not proved to extend size {old}"), &error)
        })?;
        Ok(proof)
    }

    /// The head of `size` leaves, proved from `head`.
    ///
    /// The left half of the range proof of leaf `size` alone holds the perfect subtrees of the leaves before it.
    async fn head_at(&self, size: TreeSize, head: &VerifiedHead) -> Result<TreeHead, ClientError> {
        if size == head.head.size {
            return Ok(head.head);
        }
        if size > head.head.size {
            let what = format!("the server proved size {size}, its signed head has size {}", head.head.size);
            return Err(ClientError::failed(what));
        }
        let known = self.remembered();
        let request = v1::GetInclusionProofsRequest {
            log: self.log(),
            indices: vec![size.0],
            size: head.head.size.0,
            known_size: size_of(known.as_ref()),
        };
        let answer = self.retrying(|mut rpc| {
            let request = request.clone();
            async move { rpc.get_inclusion_proofs(request).await }
        });
        let answer = answer.await?;
        let leaves = hashes("leaf_hashes", &answer.leaf_hashes)?;
        let request = v1::GetRangeProofRequest {
            log: self.log(),
            first_index: size.0,
            end_index: size.0 + 1,
            size: head.head.size.0,
            known_size: size_of(known.as_ref()),
        };
        let answer = self.retrying(|mut rpc| {
            let request = request.clone();
            async move { rpc.get_range_proof(request).await }
        });
        let answer = answer.await?;
        let proof = required_range(answer.range_proof.as_ref())?;
        run(LeafIndex(size.0), &leaves, &head.head, &proof)?;
        let tree = CompactRange::from_hashes(size, proof.left)
            .map_err(|error| ClientError::failed_check("the range proof has too few hashes", &error))?;
        Ok(tree.head())
    }

    /// One proof for 1 to 1,000 strictly increasing indices.
    ///
    /// # Errors
    ///
    /// * [`ClientError::Verification`] if the head does not verify, or one of the two verifiers refuses the proof.
    /// * [`ClientError::Rejected`] for indices that are not increasing, too many, or beyond the head.
    /// * [`ClientError::Unreachable`] and [`ClientError::State`].
    pub async fn multiproof(&self, indices: &[LeafIndex]) -> Result<Multiproof, ClientError> {
        let known = self.remembered();
        let request = v1::GetInclusionProofsRequest {
            log: self.log(),
            indices: indices.iter().map(|index| index.0).collect(),
            size: 0,
            known_size: size_of(known.as_ref()),
        };
        let answer = self.retrying(|mut rpc| {
            let request = request.clone();
            async move { rpc.get_inclusion_proofs(request).await }
        });
        let answer = answer.await?;
        let v1::GetInclusionProofsResponse { leaf_hashes, multiproof: proof, head, .. } = answer;
        let head = self.accept(head, known.as_ref(), (false, Store::Now)).await?;
        if leaf_hashes.len() != indices.len() {
            let what = format!("{} leaves were asked for, the answer holds {}", indices.len(), leaf_hashes.len());
            return Err(ClientError::failed(what));
        }
        let leaves = indices
            .iter()
            .zip(&leaf_hashes)
            .map(|(index, leaf)| Ok((*index, hash("leaf_hashes", leaf)?)))
            .collect::<Result<Vec<_>, ClientError>>()?;
        let proof = hashes("multiproof", &proof)?;
        multiproof(&leaves, &head.head, &proof)?;
        Ok(Multiproof { leaves, proof, head })
    }

    /// What the server says about the log: name, origin, keys, state. Its head is verified and remembered, the rest is
    /// the server's word.
    ///
    /// # Errors
    ///
    /// As [`Client::head`].
    pub async fn describe_unverified(&self) -> Result<(v1::LogInfo, VerifiedHead), ClientError> {
        let known = self.remembered();
        let request = v1::DescribeLogRequest { log: self.log(), known_size: size_of(known.as_ref()) };
        let answer = self.retrying(|mut rpc| {
            let request = request.clone();
            async move { rpc.describe_log(request).await }
        });
        let v1::DescribeLogResponse { info, head } = match answer.await {
            Ok(answer) => answer,
            Err(error) => return Err(self.judge_refusal(error, known.as_ref()).await),
        };
        let head = self.accept(head, known.as_ref(), (false, Store::Now)).await?;
        let info = info.ok_or_else(|| ClientError::failed("the answer describes no log"))?;
        Ok((info, head))
    }

    /// All logs of the server, by name, in pages. The server's word, nothing in it is verified.
    ///
    /// * `each` - is called for every log, in order of the names.
    ///
    /// # Errors
    ///
    /// [`ClientError::Rejected`] and [`ClientError::Unreachable`]; [`ClientError::Verification`] if a page does not
    /// go on where the one before ended.
    pub async fn list_logs_unverified(&self, mut each: impl FnMut(v1::LogInfo)) -> Result<(), ClientError> {
        let mut page_token = String::new();
        let mut last = String::new();
        loop {
            let request = v1::ListLogsRequest { page_size: 0, page_token };
            let answer = self.retrying(|mut rpc| {
                let request = request.clone();
                async move { rpc.list_logs(request).await }
            });
            let v1::ListLogsResponse { logs, next_page_token } = answer.await?;
            let is_last = next_page_token.is_empty() || logs.is_empty();
            for info in logs {
                // Without this a server could keep a caller reading for ever.
                if info.name <= last {
                    return Err(ClientError::failed("the server's logs are not in order of their names"));
                }
                last.clone_from(&info.name);
                each(info);
            }
            if is_last {
                return Ok(());
            }
            page_token = next_page_token;
        }
    }
}

/// Checks that the entry that came is the one that was meant.
fn check_which(which: Which, index: LeafIndex, leaf: Hash) -> Result<(), ClientError> {
    match which {
        Which::Index(asked) if asked != index => {
            Err(ClientError::failed(format!("entry {asked} was asked for, the answer holds entry {index}")))
        }
        Which::Leaf(asked) if asked != leaf => {
            Err(ClientError::failed(format!("the entry with leaf hash {asked} was asked for, another one came")))
        }
        _ => Ok(()),
    }
}

/// The receipt of `leaf` under `head`, verified.
fn receipt(leaf: Hash, index: u64, proof: &[Bytes], head: &VerifiedHead) -> Result<Receipt, ClientError> {
    let (index, proof) = (LeafIndex(index), hashes("inclusion", proof)?);
    inclusion(leaf, index, &head.head, &proof)?;
    Ok(Receipt { extra: None, index, proof, checkpoint: head.note.to_vec() })
}
