//! A Logwood server over gRPC, as a source that nobody believes: notes, entries and proofs as they come, not verified.
//!
//! The verifying client trusts one key and follows one server. A monitor needs what a server says even if it is a lie,
//! since that is what its evidence is made of.

use bytes::Bytes;
use logwood_client::TlsOptions;
use logwood_merkle::{CompactRange, Hash, LeafIndex, TreeSize};
use logwood_note::entries::ENTRY_BYTES_MAX;
use logwood_proto::v1::log_service_client::LogServiceClient;
use logwood_proto::{FieldError, PAGE_ENTRIES_MAX, hashes, range_proof, v1};
use tokio::sync::OnceCell;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::claim::Claim;
use crate::failure::{Failure, Problem};

/// Most hashes of a proof: both sides of a range in a tree of 2^64 leaves.
const PROOF_HASHES_MAX: usize = 128;

/// Most claims that are kept of one answer: a message of a server of ours has 256 KiB, and 256 entries have 16 MiB.
const CLAIMS_MAX: usize = 64;

/// Longest note of a claim, in bytes: twenty post-quantum signatures.
const CLAIM_NOTE_BYTES_MAX: usize = 64 * 1024;

/// A log on a server.
#[derive(Debug)]
pub struct Server {
    /// URL of its gRPC port, `http://` or `https://`.
    url: String,
    log: String,
    tls: TlsOptions,
    /// Connected at the first request; a lost connection is made anew by the next one.
    rpc: OnceCell<LogServiceClient<Channel>>,
}

impl Server {
    /// Connects to nothing yet.
    ///
    /// * `url` - `http://` or `https://`, as [`logwood_client::ClientOptions::server`].
    /// * `log` - the log's name on that server.
    #[must_use]
    pub fn new(url: String, log: String, tls: TlsOptions) -> Self {
        Self { url, log, tls, rpc: OnceCell::new() }
    }

    /// The latest published checkpoint.
    ///
    /// # Errors
    ///
    /// [`Failure`] if it cannot be had.
    pub async fn checkpoint(&self) -> Result<Bytes, Failure> {
        const RPC: &str = "GetTreeHead";
        let level = v1::HeadLevel::Published.into();
        let request = v1::GetTreeHeadRequest { log: self.log.clone(), level, known_size: 0 };
        let answer = self.rpc().await?.get_tree_head(request).await.map_err(|status| refused(RPC, &status))?;
        let head = answer.into_inner().head.ok_or_else(|| Failure::wrong(RPC, "the answer holds no head"))?;
        Ok(head.checkpoint)
    }

    /// The seal note, if the log is sealed.
    ///
    /// # Errors
    ///
    /// [`Failure`] if nobody can tell.
    pub async fn seal(&self) -> Result<Option<Bytes>, Failure> {
        const RPC: &str = "DescribeLog";
        let request = v1::DescribeLogRequest { log: self.log.clone(), known_size: 0 };
        let answer = self.rpc().await?.describe_log(request).await.map_err(|status| refused(RPC, &status))?;
        Ok(answer.into_inner().info.map(|info| info.seal).filter(|seal| !seal.is_empty()))
    }

    /// Published checkpoints of at least `from` entries that the server keeps, oldest first, and the size from which to
    /// go on. Nothing vouches for their order, or that these are all.
    ///
    /// # Errors
    ///
    /// [`Failure`] if they cannot be had.
    pub async fn history(&self, from: TreeSize) -> Result<(Vec<Bytes>, Option<u64>), Failure> {
        const RPC: &str = "ListTreeHeads";
        let start = Some(v1::list_tree_heads_request::Start::FromSize(from.0));
        let request = v1::ListTreeHeadsRequest { log: self.log.clone(), start, page_size: 0, known_size: 0 };
        let answer = self.rpc().await?.list_tree_heads(request).await.map_err(|status| refused(RPC, &status))?;
        let v1::ListTreeHeadsResponse { heads, next_size } = answer.into_inner();
        if heads.len() > PAGE_ENTRIES_MAX || next_size.is_some_and(|next| next <= from.0) {
            return Err(Failure::wrong(RPC, "a page is too long, or the next one does not begin after it"));
        }
        Ok((heads.into_iter().map(|head| head.checkpoint).collect(), next_size))
    }

    /// The entries `first..end`, and what the server says of them.
    ///
    /// * `end` - at most 256 above `first`. With at most 65,535 bytes an entry, that bounds the memory by 16 MiB and one
    ///   message.
    ///
    /// # Errors
    ///
    /// [`Failure`] if they cannot be had, or others come.
    pub async fn entries(&self, first: u64, end: u64) -> Result<(Vec<Bytes>, Vec<Claim>), Failure> {
        const RPC: &str = "ReadEntries";
        let log = self.log.clone();
        let request = v1::ReadEntriesRequest { log, first_index: first, end_index: end, follow: false, known_size: 0 };
        let answer = self.rpc().await?.read_entries(request).await.map_err(|status| refused(RPC, &status))?;
        let (mut stream, mut entries, mut claims) = (answer.into_inner(), Vec::new(), Vec::new());
        loop {
            let next = first + entries.len() as u64;
            if next == end {
                return Ok((entries, claims));
            }
            let message = stream.message().await.map_err(|status| refused(RPC, &status))?;
            let Some(v1::ReadEntriesResponse { first_index, entries: more, head, range_proof }) = message else {
                return Err(Failure::wrong(RPC, format!("the entries end before {next}, and {end} were to be had")));
            };
            if first_index != next || more.is_empty() || more.len() as u64 > end - next {
                return Err(Failure::wrong(RPC, format!("entries from {next} on were due, the server sent others")));
            }
            if claims.len() < CLAIMS_MAX {
                claims.extend(claim(first_index, more.len(), head, range_proof));
            }
            if let Some(entry) = more.iter().find(|entry| entry.len() > ENTRY_BYTES_MAX) {
                let size = entry.len();
                return Err(Failure::wrong(RPC, format!("an entry has {size} bytes, more than {ENTRY_BYTES_MAX}")));
            }
            // Copies, since each entry is a part of its whole message, which may be long and hold little.
            entries.extend(more.iter().map(|entry| Bytes::copy_from_slice(entry)));
        }
    }

    /// The consistency proof (RFC 6962 §2.1.2) from `old` to `new`. Empty if nothing has to be shown.
    ///
    /// # Errors
    ///
    /// [`Failure`] if it cannot be had.
    pub async fn consistency(&self, old: TreeSize, new: TreeSize) -> Result<Vec<Hash>, Failure> {
        const RPC: &str = "GetConsistencyProof";
        if old.0 == 0 || old == new {
            return Ok(Vec::new());
        }
        let request = v1::GetConsistencyProofRequest { log: self.log.clone(), old_size: old.0, new_size: new.0 };
        let answer = self.rpc().await?.get_consistency_proof(request).await.map_err(|status| refused(RPC, &status))?;
        proof(RPC, hashes("consistency", &answer.into_inner().consistency))
    }

    /// The inclusion proof (RFC 6962 §2.1.1) of the entry at `index`.
    ///
    /// # Errors
    ///
    /// [`Failure`] if it cannot be had.
    pub async fn inclusion(&self, index: LeafIndex, size: TreeSize) -> Result<Vec<Hash>, Failure> {
        const RPC: &str = "GetInclusionProof";
        let by = Some(v1::get_inclusion_proof_request::By::Index(index.0));
        let request = v1::GetInclusionProofRequest { log: self.log.clone(), by, size: size.0, known_size: 0 };
        let answer = self.rpc().await?.get_inclusion_proof(request).await.map_err(|status| refused(RPC, &status))?;
        proof(RPC, hashes("inclusion", &answer.into_inner().inclusion))
    }

    /// The compact range of the first `size` leaves in the tree of `new` leaves: what is left of leaf `size` in the
    /// range proof of that leaf.
    ///
    /// * `new` - above `size`.
    ///
    /// # Errors
    ///
    /// [`Failure`] if it cannot be had.
    pub async fn range(&self, size: TreeSize, new: TreeSize) -> Result<CompactRange, Failure> {
        const RPC: &str = "GetRangeProof";
        let (log, first_index, end_index) = (self.log.clone(), size.0, size.0.saturating_add(1));
        let request = v1::GetRangeProofRequest { log, first_index, end_index, size: new.0, known_size: 0 };
        let answer = self.rpc().await?.get_range_proof(request).await.map_err(|status| refused(RPC, &status))?;
        let answer = answer.into_inner().range_proof;
        let left = range_proof(&answer.ok_or_else(|| Failure::wrong(RPC, "the answer holds no range proof"))?);
        let left = proof(RPC, left.map(|proof| proof.left))?;
        CompactRange::from_hashes(size, left).map_err(|error| Failure::wrong(RPC, error.to_string()))
    }

    async fn rpc(&self) -> Result<LogServiceClient<Channel>, Failure> {
        let connect = async || {
            let channel = logwood_client::connect(&self.url, &self.tls).await;
            channel.map(LogServiceClient::new).map_err(|error| Failure::unavailable("gRPC", error.to_string()))
        };
        self.rpc.get_or_try_init(connect).await.cloned()
    }
}

/// What an answer says of its entries, if it says anything that could be true.
fn claim(first: u64, count: usize, head: Option<v1::SignedTreeHead>, proof: Option<v1::RangeProof>) -> Option<Claim> {
    let note = head?.checkpoint;
    let proof = range_proof(&proof?).ok()?;
    let is_short = note.len() <= CLAIM_NOTE_BYTES_MAX && proof.left.len() + proof.right.len() <= PROOF_HASHES_MAX;
    // A copy, since the note is a part of the whole message.
    is_short.then(|| Claim { note: Bytes::copy_from_slice(&note), first, count, proof })
}

fn proof(rpc: &str, hashes: Result<Vec<Hash>, FieldError>) -> Result<Vec<Hash>, Failure> {
    let hashes = hashes.map_err(|error| Failure::wrong(rpc, error.to_string()))?;
    if hashes.len() > PROOF_HASHES_MAX {
        return Err(Failure::wrong(rpc, format!("a proof has at most {PROOF_HASHES_MAX} hashes")));
    }
    Ok(hashes)
}

fn refused(rpc: &str, status: &Status) -> Failure {
    let problem = match status.code() {
        Code::NotFound | Code::OutOfRange => Problem::Missing,
        code => Problem::Unavailable(format!("{} ({code:?})", status.message())),
    };
    Failure { path: rpc.to_owned(), problem }
}
