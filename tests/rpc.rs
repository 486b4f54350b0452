//! Every rpc on a real server: hostile values get the documented code, and the next call is served.

mod common;

use bytes::Bytes;
use common::Server;
use logwood_note::{Receipt, VerifierKey};
use logwood_proto::v1::log_service_client::LogServiceClient;
use logwood_proto::{hashes, v1};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

type Rpc = LogServiceClient<Channel>;

const ENTRIES: u64 = 300;
const HOSTILE_SIZES: [u64; 5] = [ENTRIES + 1, 1 << 32, 1 << 40, 1 << 63, u64::MAX];

fn log() -> String {
    "default".to_owned()
}

fn code<T>(answer: Result<tonic::Response<T>, Status>) -> Code {
    answer.map_or_else(|status| status.code(), |_| Code::Ok)
}

async fn fill(rpc: &mut Rpc) {
    let entries = (0..ENTRIES).map(|number| v1::BatchEntry { entry: format!("entry {number}").into(), identity: None });
    let request = v1::AppendBatchRequest { log: log(), entries: entries.collect(), ..Default::default() };
    let answer = rpc.append_batch(request).await.expect("the batch is logged").into_inner();
    assert_eq!(answer.runs.len(), 1, "new entries form one run");
}

async fn start(dir: &std::path::Path) -> (Server, Rpc) {
    let server = Server::start(dir, 0, &[]);
    let mut rpc = Rpc::connect(server.url.clone()).await.expect("it listens");
    fill(&mut rpc).await;
    (server, rpc)
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_and_indices_beyond_the_head_are_out_of_range_on_every_rpc() {
    let dir = tempfile::tempdir().expect("a directory");
    let (_server, mut rpc) = start(dir.path()).await;
    for size in HOSTILE_SIZES {
        let by = Some(v1::get_inclusion_proof_request::By::Index(size));
        let request = v1::GetInclusionProofRequest { log: log(), by, ..Default::default() };
        assert_eq!(code(rpc.get_inclusion_proof(request).await), Code::OutOfRange, "index {size}");
        let by = Some(v1::get_inclusion_proof_request::By::Index(0));
        let request = v1::GetInclusionProofRequest { log: log(), by, size, known_size: 0 };
        assert_eq!(code(rpc.get_inclusion_proof(request).await), Code::OutOfRange, "size {size}");
        let request = v1::GetInclusionProofsRequest { log: log(), indices: vec![0, size], ..Default::default() };
        assert_eq!(code(rpc.get_inclusion_proofs(request).await), Code::OutOfRange, "multi {size}");
        let request = v1::GetRangeProofRequest { log: log(), first_index: 0, end_index: size, ..Default::default() };
        assert_eq!(code(rpc.get_range_proof(request).await), Code::OutOfRange, "range {size}");
        let request = v1::GetConsistencyProofRequest { log: log(), old_size: 1, new_size: size };
        assert_eq!(code(rpc.get_consistency_proof(request).await), Code::OutOfRange, "consistency {size}");
        let request = v1::GetTreeHeadRequest { log: log(), level: 0, known_size: size };
        assert_eq!(code(rpc.get_tree_head(request).await), Code::OutOfRange, "known size {size}");
        let by = Some(v1::get_entry_request::By::Index(size));
        let request = v1::GetEntryRequest { log: log(), by, ..Default::default() };
        assert_eq!(code(rpc.get_entry(request).await), Code::OutOfRange, "entry {size}");
        let request = v1::ReadEntriesRequest { log: log(), first_index: size, ..Default::default() };
        let mut answers = rpc.read_entries(request).await.expect("streams open").into_inner();
        assert_eq!(answers.message().await.expect_err("beyond the head").code(), Code::OutOfRange);
        let request =
            v1::AppendRequest { log: log(), entry: Bytes::from_static(b"x"), known_size: size, ..Default::default() };
        assert_eq!(code(rpc.append(request).await), Code::OutOfRange, "nothing is queued");
    }
    let head = rpc.get_tree_head(v1::GetTreeHeadRequest { log: log(), ..Default::default() }).await.expect("a head");
    let checkpoint = head.into_inner().head.expect("a head").checkpoint;
    assert!(std::str::from_utf8(&checkpoint).expect("text").lines().any(|line| line == "300"), "nothing was logged");
}

/// The field that an answer blames, and the size that its detail tells.
fn blamed<T: std::fmt::Debug>(answer: Result<T, Status>) -> (String, String) {
    let status = answer.expect_err("out of range");
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    let info = status.get_details_error_info().expect("the typed detail");
    let field = status.message().split(' ').next().expect("one word at least").to_owned();
    (field, info.metadata["size"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_out_of_range_is_named_by_its_field_beside_the_size_of_the_head() {
    let dir = tempfile::tempdir().expect("a directory");
    let (_server, mut rpc) = start(dir.path()).await;
    for (first_index, end_index, field) in [(1, 301, "end_index"), (301, 302, "first_index"), (301, 0, "first_index")] {
        let request = v1::ReadEntriesRequest { log: log(), first_index, end_index, ..Default::default() };
        let mut answers = rpc.read_entries(request).await.expect("streams open").into_inner();
        assert_eq!(blamed(answers.message().await), (field.to_owned(), "300".to_owned()));
    }
    for (old_size, new_size, field) in [(1, 301, "new_size"), (301, 302, "old_size")] {
        let request = v1::GetConsistencyProofRequest { log: log(), old_size, new_size };
        assert_eq!(blamed(rpc.get_consistency_proof(request).await), (field.to_owned(), "300".to_owned()));
    }
    // In a tree of the past the head is not what is too small, and its size is told all the same.
    let by = Some(v1::get_inclusion_proof_request::By::Index(7));
    let request = v1::GetInclusionProofRequest { log: log(), by, size: 7, known_size: 0 };
    assert_eq!(blamed(rpc.get_inclusion_proof(request).await), ("index".to_owned(), "300".to_owned()));
    let request = v1::GetInclusionProofsRequest { log: log(), indices: vec![0, 7], size: 7, known_size: 0 };
    assert_eq!(blamed(rpc.get_inclusion_proofs(request).await), ("indices".to_owned(), "300".to_owned()));
    let request = v1::GetRangeProofRequest { log: log(), first_index: 6, end_index: 8, size: 7, known_size: 0 };
    assert_eq!(blamed(rpc.get_range_proof(request).await), ("end_index".to_owned(), "300".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_are_invalid_arguments_and_the_next_call_is_served() {
    let dir = tempfile::tempdir().expect("a directory");
    let (_server, mut rpc) = start(dir.path()).await;
    let long = "x".repeat(10_000);
    for name in ["", "a/b", "nul\0", "Upper", "..", &long] {
        let request = v1::GetTreeHeadRequest { log: name.to_owned(), ..Default::default() };
        assert_eq!(code(rpc.get_tree_head(request).await), Code::InvalidArgument, "{name:?}");
    }
    let request = v1::GetTreeHeadRequest { log: "unknown".to_owned(), ..Default::default() };
    assert_eq!(code(rpc.get_tree_head(request).await), Code::NotFound);
    for bytes in [0, 65_536] {
        let request = v1::AppendRequest { log: log(), entry: vec![0; bytes].into(), ..Default::default() };
        assert_eq!(code(rpc.append(request).await), Code::InvalidArgument, "an entry of {bytes} bytes");
    }
    for bytes in [0, 129] {
        let identity = Some(v1::append_request::Identity::Key(vec![0; bytes].into()));
        let request = v1::AppendRequest { log: log(), entry: Bytes::from_static(b"x"), identity, ..Default::default() };
        assert_eq!(code(rpc.append(request).await), Code::InvalidArgument, "an identity of {bytes} bytes");
    }
    for count in [0, 1_001] {
        let entries = vec![v1::BatchEntry { entry: Bytes::from_static(b"x"), identity: None }; count];
        let request = v1::AppendBatchRequest { log: log(), entries, ..Default::default() };
        assert_eq!(code(rpc.append_batch(request).await), Code::InvalidArgument, "a batch of {count}");
    }
    for (first_index, end_index) in [(0, 0), (5, 5), (9, 3)] {
        let request = v1::GetRangeProofRequest { log: log(), first_index, end_index, ..Default::default() };
        assert_eq!(code(rpc.get_range_proof(request).await), Code::InvalidArgument, "{first_index}..{end_index}");
    }
    for indices in [vec![], vec![1, 1], vec![2, 1], vec![0; 1_001]] {
        let request = v1::GetInclusionProofsRequest { log: log(), indices, ..Default::default() };
        assert_eq!(code(rpc.get_inclusion_proofs(request).await), Code::InvalidArgument);
    }
    for (old_size, new_size) in [(0, 5), (6, 5)] {
        let request = v1::GetConsistencyProofRequest { log: log(), old_size, new_size };
        assert_eq!(code(rpc.get_consistency_proof(request).await), Code::InvalidArgument, "{old_size} {new_size}");
    }
    let request = v1::AppendRequest { log: log(), entry: Bytes::from_static(b"x"), wait: 3, ..Default::default() };
    assert_eq!(code(rpc.append(request).await), Code::FailedPrecondition, "there are no witnesses");
    assert_eq!(code(rpc.describe_log(v1::DescribeLogRequest { log: log(), known_size: 0 }).await), Code::Ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_that_waits_for_publication_gets_a_receipt_under_the_published_head() {
    let dir = tempfile::tempdir().expect("a directory");
    let (server, mut rpc) = start(dir.path()).await;
    let key: VerifierKey = server.vkey.parse().expect("a verifier key");
    let published = i32::from(v1::HeadLevel::Published);
    let entry = Bytes::from_static(b"published");
    let request = v1::AppendRequest { log: log(), entry: entry.clone(), wait: published, ..Default::default() };
    let answer = rpc.append(request).await.expect("logged").into_inner();
    let head = answer.head.expect("a head");
    assert_eq!(head.level, published);
    let receipt = Receipt {
        extra: None,
        index: logwood_merkle::LeafIndex(answer.index),
        proof: hashes("inclusion", &answer.inclusion).expect("hashes"),
        checkpoint: head.checkpoint.to_vec(),
    };
    receipt.verify(&entry, &key, None).expect("the receipt verifies");

    let request = v1::WatchTreeHeadsRequest { log: log(), level: published, ..Default::default() };
    let mut watch = rpc.watch_tree_heads(request).await.expect("streams open").into_inner();
    let mut sizes = Vec::new();
    while sizes.last() != Some(&(ENTRIES + 1)) {
        let head = watch.message().await.expect("no error").expect("no end").head.expect("a head");
        let size = std::str::from_utf8(&head.checkpoint).expect("text").lines().nth(1).map(str::parse);
        sizes.push(size.expect("a size").expect("a number"));
    }
    assert_eq!(sizes[0], 0, "a new log publishes its size-0 checkpoint");
    let listed = rpc.list_tree_heads(v1::ListTreeHeadsRequest { log: log(), ..Default::default() }).await;
    assert_eq!(listed.expect("listed").into_inner().heads.len(), sizes.len());
    // An open watch does not keep the server from stopping in time.
    tokio::task::block_in_place(|| server.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_identity_has_one_index_within_a_batch_and_across_calls() {
    let dir = tempfile::tempdir().expect("a directory");
    let (_server, mut rpc) = start(dir.path()).await;
    let entry = |bytes: &'static [u8], identity: &'static [u8]| v1::BatchEntry {
        entry: Bytes::from_static(bytes),
        identity: Some(v1::batch_entry::Identity::Key(Bytes::from_static(identity))),
    };
    let entries = vec![entry(b"a", b"1"), entry(b"a", b"1"), entry(b"b", b"1"), entry(b"c", b"2")];
    let request = v1::AppendBatchRequest { log: log(), entries, ..Default::default() };
    let first = rpc.append_batch(request.clone()).await.expect("logged").into_inner();
    let new: Vec<_> = first.runs.iter().filter(|run| !run.duplicate).collect();
    assert_eq!((new.len(), new[0].first_index, &new[0].request_ids[..]), (1, ENTRIES, &[0, 3][..]));
    let old: Vec<_> = first.runs.iter().filter(|run| run.duplicate).collect();
    assert_eq!((old.len(), old[0].first_index, &old[0].request_ids[..]), (1, ENTRIES, &[1][..]));
    assert_eq!(first.errors.len(), 1);
    assert_eq!((first.errors[0].request_id, first.errors[0].index), (2, Some(ENTRIES)));
    assert_eq!(first.errors[0].code, i32::from(Code::AlreadyExists));
    let again = rpc.append_batch(request).await.expect("answered").into_inner();
    assert!(again.runs.iter().all(|run| run.duplicate && run.first_index >= ENTRIES), "{again:?}");
}
