//! Reading: entries and proofs, verified under heads that are.

use bytes::Bytes;
use logwood_merkle::{CompactRange, Hash, LeafIndex, RangeProof, TreeHead, TreeSize, verify};
use logwood_note::Receipt;
use logwood_proto::{hash, hashes, range_proof, v1};

use crate::client::{Store, size_of};
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

impl Client {
    /// The entry at `index`, its receipt, and the head of the receipt.
    ///
    /// # Errors
    ///
    /// * [`ClientError::Verification`] if the head or the entry does not verify.
    /// * [`ClientError::Rejected`] if `index` is beyond the head.
    /// * [`ClientError::Unreachable`] and [`ClientError::State`].
    pub async fn get(&self, index: LeafIndex) -> Result<(Bytes, Receipt, VerifiedHead), ClientError> {
        let known = self.remembered();
        let request = v1::GetEntryRequest {
            log: self.log(),
            known_size: size_of(known.as_ref()),
            by: Some(v1::get_entry_request::By::Index(index.0)),
            ..v1::GetEntryRequest::default()
        };
        let answer = self.rpc().get_entry(request).await.map_err(|status| self.status(&status))?;
        let v1::GetEntryResponse { index: answered, entry, head, inclusion: proof } = answer.into_inner();
        let head = self.accept(head, known.as_ref(), Store::Now)?;
        if answered != index.0 {
            let what = format!("entry {index} was asked for, the answer holds entry {answered}");
            return Err(ClientError::Verification { what });
        }
        let proof = hashes("inclusion", &proof)?;
        inclusion(Hash::leaf(&entry), index, &head.head, &proof)?;
        let receipt = Receipt { extra: None, index, proof, checkpoint: head.note.to_vec() };
        Ok((entry, receipt, head))
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
        let answer = self.rpc().get_consistency_proof(request).await.map_err(|status| self.status(&status))?;
        let proof = hashes("consistency", &answer.into_inner().consistency)?;
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
            return Err(ClientError::Verification { what });
        }
        let known = self.remembered();
        let request = v1::GetInclusionProofsRequest {
            log: self.log(),
            indices: vec![size.0],
            size: head.head.size.0,
            known_size: size_of(known.as_ref()),
        };
        let answer = self.rpc().get_inclusion_proofs(request).await.map_err(|status| self.status(&status))?;
        let leaves = hashes("leaf_hashes", &answer.into_inner().leaf_hashes)?;
        let request = v1::GetRangeProofRequest {
            log: self.log(),
            first_index: size.0,
            end_index: size.0 + 1,
            size: head.head.size.0,
            known_size: size_of(known.as_ref()),
        };
        let answer = self.rpc().get_range_proof(request).await.map_err(|status| self.status(&status))?;
        let proof = required_range(answer.into_inner().range_proof.as_ref())?;
        run(LeafIndex(size.0), &leaves, &head.head, &proof)?;
        let tree = CompactRange::from_hashes(size, proof.left)
            .map_err(|error| ClientError::failed_check("the range proof has too few hashes", &error))?;
        Ok(tree.head())
    }

    /// The range proof of the entries `first..end`, not empty, and the head it leads to.
    ///
    /// The entries themselves are read as well, since without their hashes a range proof cannot be judged.
    ///
    /// # Errors
    ///
    /// As [`Client::read_range`].
    pub async fn range_proof(&self, first: u64, end: u64) -> Result<(RangeProof, VerifiedHead), ClientError> {
        self.export_range(first, end, |_, _| ()).await
    }

    /// Reads the entries `first..end`, not empty, as [`Client::read_range`], then gives one range proof of them all.
    ///
    /// # Errors
    ///
    /// As [`Client::read_range`].
    pub async fn export_range(
        &self,
        first: u64,
        end: u64,
        mut each: impl FnMut(LeafIndex, Bytes),
    ) -> Result<(RangeProof, VerifiedHead), ClientError> {
        if first >= end {
            let message = format!("{first}..{end} is empty: name a range of at least one entry");
            return Err(ClientError::BadOption { option: "range", message });
        }
        let mut leaves = Vec::new();
        self.read_range(first, end, |index, entry| {
            leaves.push(Hash::leaf(&entry));
            each(index, entry);
        })
        .await?;
        let known = self.remembered();
        let request = v1::GetRangeProofRequest {
            log: self.log(),
            first_index: first,
            end_index: end,
            size: 0,
            known_size: size_of(known.as_ref()),
        };
        let answer = self.rpc().get_range_proof(request).await.map_err(|status| self.status(&status))?;
        let v1::GetRangeProofResponse { range_proof, head, .. } = answer.into_inner();
        let head = self.accept(head, known.as_ref(), Store::Now)?;
        let proof = required_range(range_proof.as_ref())?;
        run(LeafIndex(first), &leaves, &head.head, &proof)?;
        Ok((proof, head))
    }

    /// Calls `each` for the entries `first..end` in order, each verified before it is passed on.
    ///
    /// * `end` - one past the last; 0 for the head.
    ///
    /// # Errors
    ///
    /// * [`ClientError::Verification`] if a head or an entry does not verify, or entries are missing. What was passed
    ///   on before was verified.
    /// * [`ClientError::Rejected`] if the range is beyond the head.
    /// * [`ClientError::Unreachable`] and [`ClientError::State`].
    pub async fn read_range(
        &self,
        first: u64,
        end: u64,
        mut each: impl FnMut(LeafIndex, Bytes),
    ) -> Result<(), ClientError> {
        if end != 0 && first >= end {
            return Ok(());
        }
        let mut known = self.remembered();
        let request = v1::ReadEntriesRequest {
            log: self.log(),
            first_index: first,
            end_index: end,
            follow: false,
            known_size: size_of(known.as_ref()),
        };
        let answer = self.rpc().read_entries(request).await.map_err(|status| self.status(&status))?;
        let mut stream = answer.into_inner();
        let mut next = first;
        let mut goal = end;
        while let Some(message) = stream.message().await.map_err(|status| self.status(&status))? {
            let v1::ReadEntriesResponse { first_index, entries, head, range_proof } = message;
            // In a stream each head is proved from the one before it.
            let head = self.accept(head, known.as_ref(), Store::Soon)?;
            if first_index != next || (end != 0 && entries.len() as u64 > end - next) {
                let what = format!("entries from {next} on were due, the server sent others");
                return Err(ClientError::Verification { what });
            }
            let leaves: Vec<_> = entries.iter().map(|entry| Hash::leaf(entry)).collect();
            run(LeafIndex(next), &leaves, &head.head, &required_range(range_proof.as_ref())?)?;
            for entry in entries {
                each(LeafIndex(next), entry);
                next += 1;
            }
            if end == 0 {
                goal = head.head.size.0;
            }
            known = Some(head);
        }
        if next < goal {
            let what = format!("the server ended the entries at {next}, before {goal}");
            return Err(ClientError::Verification { what });
        }
        Ok(())
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
        let answer = self.rpc().get_inclusion_proofs(request).await.map_err(|status| self.status(&status))?;
        let v1::GetInclusionProofsResponse { leaf_hashes, multiproof: proof, head, .. } = answer.into_inner();
        let head = self.accept(head, known.as_ref(), Store::Now)?;
        if leaf_hashes.len() != indices.len() {
            let what = format!("{} leaves were asked for, the answer holds {}", indices.len(), leaf_hashes.len());
            return Err(ClientError::Verification { what });
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

    /// What the server says about the log. Its head is verified and remembered, the rest is the server's word.
    ///
    /// # Errors
    ///
    /// As [`Client::head`].
    pub async fn describe(&self) -> Result<v1::LogInfo, ClientError> {
        let known = self.remembered();
        let request = v1::DescribeLogRequest { log: self.log(), known_size: size_of(known.as_ref()) };
        let answer = self.rpc().describe_log(request).await.map_err(|status| self.status(&status))?;
        let v1::DescribeLogResponse { info, head } = answer.into_inner();
        self.accept(head, known.as_ref(), Store::Now)?;
        info.ok_or_else(|| ClientError::Verification { what: "the answer describes no log".to_owned() })
    }

    /// All logs of the server, by name. The server's word, nothing in it is verified.
    ///
    /// # Errors
    ///
    /// [`ClientError::Rejected`] and [`ClientError::Unreachable`].
    pub async fn list_logs(&self) -> Result<Vec<v1::LogInfo>, ClientError> {
        let mut logs = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = v1::ListLogsRequest { page_size: 0, page_token };
            let answer = self.rpc().list_logs(request).await.map_err(|status| self.status(&status))?;
            let v1::ListLogsResponse { logs: page, next_page_token } = answer.into_inner();
            let is_last = next_page_token.is_empty() || page.is_empty();
            logs.extend(page);
            if is_last {
                return Ok(logs);
            }
            page_token = next_page_token;
        }
    }
}

fn required_range(message: Option<&v1::RangeProof>) -> Result<RangeProof, ClientError> {
    let missing = || ClientError::Verification { what: "the answer holds no range proof".to_owned() };
    Ok(range_proof(message.ok_or_else(missing)?)?)
}
