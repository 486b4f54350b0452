//! A server that lies: every answer is changed in turn, and no change gets past the client.

mod common;

use bytes::Bytes;
use common::{Fault, Proxy, Server, entry, fill, new_entries};
use logwood_client::{Client, ClientError, HeadsFrom, Which, Window};
use logwood_merkle::{Hash, LeafIndex, TreeSize};
use logwood_proto::v1::{self, HeadLevel};

const ENTRIES: u64 = 21;

/// What is changed, and how.
type Lie<T> = (&'static str, fn(&mut T));

/// A server with entries, a proxy that lies, an honest client and one that is lied to. Both know the same head.
async fn start() -> (Server, Proxy, Client, Client) {
    let server = Server::start("127.0.0.1:0").await;
    let proxy = Proxy::start(&server).await;
    let honest = Client::connect(server.options(None)).await.expect("a server");
    fill(&honest, ENTRIES).await;
    honest.settle(HeadLevel::Published, logwood_client::SETTLE_WITHIN).await.expect("published");
    let victim = Client::connect(proxy.options(None)).await.expect("a server");
    (server, proxy, honest, victim)
}

fn assert_caught<T: std::fmt::Debug>(lie: &str, answer: Result<T, ClientError>) {
    let error = answer.expect_err(lie);
    assert!(error.is_tampering(), "{lie}: {error}");
}

fn flipped(hash: &Bytes) -> Bytes {
    let mut bytes = hash.to_vec();
    bytes[0] ^= 1;
    bytes.into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_entry_than_the_one_asked_for_is_caught() {
    let (server, proxy, honest, victim) = start().await;
    // Entry 4 with all that belongs to it, in answer to a question about entry 3.
    let other = honest.get(LeafIndex(4)).await.expect("an entry");
    let swap = move |answer: &mut v1::GetEntryResponse| {
        answer.index = 4;
        answer.entry.clone_from(&other.bytes);
        answer.inclusion = logwood_proto::hashes_to_bytes(&other.receipt.proof);
    };
    let leaf = Hash::leaf(&entry(3));
    for which in [Which::Index(LeafIndex(3)), Which::Leaf(leaf)] {
        proxy.script("GetEntry", [Fault::lie(swap.clone())]);
        assert_caught("a whole other entry", victim.entry(which, HeadLevel::Unspecified).await);
        proxy.script("GetEntry", [Fault::lie(|answer: &mut v1::GetEntryResponse| answer.index = 4)]);
        assert_caught("another index", victim.entry(which, HeadLevel::Unspecified).await);
        let change = |answer: &mut v1::GetEntryResponse| answer.inclusion[1] = flipped(&answer.inclusion[1]);
        proxy.script("GetEntry", [Fault::lie(change)]);
        assert_caught("a wrong proof", victim.entry(which, HeadLevel::Unspecified).await);
    }
    for index in [None, Some(LeafIndex(3))] {
        proxy.script("GetInclusionProof", [Fault::lie(|answer: &mut v1::GetInclusionProofResponse| answer.index = 4)]);
        assert_caught("another index", victim.receipt(leaf, index).await);
        let change = |answer: &mut v1::GetInclusionProofResponse| drop(answer.inclusion.pop());
        proxy.script("GetInclusionProof", [Fault::lie(change)]);
        assert_caught("a short proof", victim.receipt(leaf, index).await);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_left_out_moved_or_changed_are_caught() {
    let (server, proxy, _, victim) = start().await;
    let lies: [Lie<v1::ReadEntriesResponse>; 6] = [
        ("one left out at the end", |answer| drop(answer.entries.pop())),
        ("one left out at the beginning", |answer| drop(answer.entries.remove(0))),
        ("two swapped", |answer| answer.entries.swap(3, 4)),
        ("one changed", |answer| answer.entries[5] = Bytes::from_static(b"forged")),
        ("one more", |answer| answer.entries.push(Bytes::from_static(b"forged"))),
        ("all moved", |answer| answer.first_index += 1),
    ];
    for (lie, change) in lies {
        for end in [0, ENTRIES] {
            proxy.script("ReadEntries", [Fault::lie(change)]);
            let mut read = Vec::new();
            assert_caught(lie, victim.read_range(0, end, |_, bytes| read.push(bytes)).await);
            assert!(read.is_empty(), "{lie}: nothing unverified is passed on");
        }
    }
    victim.read_range(0, 0, |_, _| ()).await.expect("the honest answer");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_that_does_not_belong_to_the_entry_is_caught() {
    let (server, proxy, _, victim) = start().await;
    let lies: [Lie<v1::AppendResponse>; 4] = [
        ("another index", |answer| answer.index -= 1),
        ("a wrong proof", |answer| answer.inclusion[0] = flipped(&answer.inclusion[0])),
        ("no head", |answer| answer.head = None),
        ("a head without its proof", |answer| answer.head.as_mut().expect("a head").consistency.clear()),
    ];
    for (number, (lie, change)) in (100..).zip(lies) {
        proxy.script("Append", [Fault::lie(change)]);
        assert_caught(lie, victim.append(entry(number), None).await);
    }
    let lies: [Lie<v1::AppendBatchResponse>; 4] = [
        ("moved", |answer| answer.runs[0].first_index -= 1),
        ("swapped", |answer| answer.runs[0].request_ids.swap(0, 1)),
        ("an entry left out", |answer| answer.runs[0].request_ids.truncate(2)),
        ("no proof", |answer| answer.runs[0].range_proof = None),
    ];
    for (number, (lie, change)) in (2..).zip(lies) {
        proxy.script("AppendBatch", [Fault::lie(change)]);
        assert_caught(lie, victim.append_batch(new_entries(number * 100..number * 100 + 3)).await);
    }
    let lies: [Lie<v1::AppendStreamResponse>; 3] = [
        ("moved", |answer| answer.runs[0].first_index -= 1),
        ("another request", |answer| answer.runs[0].request_ids[0] += 7),
        ("no proof", |answer| answer.runs[0].range_proof = None),
    ];
    for (number, (lie, change)) in (900..).zip(lies) {
        proxy.script("AppendStream", [Fault::lie(change)]);
        let (mut sender, mut receiver) = victim.append_stream(Window::default());
        sender.send(new_entries(number..number + 1).remove(0)).await.expect("room");
        drop(sender);
        assert_caught(lie, receiver.next().await.expect("an outcome"));
        assert!(receiver.next().await.is_none(), "{lie}: the stream is over");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_out_of_order_of_another_level_or_unsigned_are_caught() {
    let (server, proxy, honest, victim) = start().await;
    let lies: [Lie<v1::ListTreeHeadsResponse>; 4] = [
        ("reordered", |answer| answer.heads.reverse()),
        ("repeated", |answer| answer.heads.push(answer.heads[1].clone())),
        ("a page that goes back", |answer| answer.next_size = Some(0)),
        ("a broken signature", |answer| {
            let mut note = answer.heads[1].checkpoint.to_vec();
            let last = note.len() - 5;
            note[last] ^= 1;
            answer.heads[1].checkpoint = note.into();
        }),
    ];
    for (lie, change) in lies {
        proxy.script("ListTreeHeads", [Fault::lie(change)]);
        assert_caught(lie, victim.heads(HeadsFrom::Size(TreeSize(0))).next_page().await);
    }
    let signed = |answer: &mut v1::GetTreeHeadResponse| {
        answer.head.as_mut().expect("a head").level = HeadLevel::Signed.into();
    };
    proxy.script("GetTreeHead", [Fault::lie(signed)]);
    assert_caught("another level", victim.head_of_level(HeadLevel::Published).await);

    // An old head again is a replica that lags, or a rollback: by itself it proves nothing.
    let mut pages = honest.heads(HeadsFrom::Size(TreeSize(0)));
    let old = pages.next_page().await.expect("verified").remove(0);
    let replay = move |answer: &mut v1::GetTreeHeadResponse| {
        let head = answer.head.as_mut().expect("a head");
        head.checkpoint.clone_from(&old.note);
        head.consistency.clear();
    };
    proxy.script("GetTreeHead", [Fault::lie(replay)]);
    let error = victim.head().await.expect_err("an old head");
    assert!(matches!(error, ClientError::Behind { size: 0, known_size: ENTRIES }), "{error}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_of_ok_with_nothing_is_caught() {
    fn nothing<T: prost::Message + Default>() -> [Fault; 1] {
        [Fault::lie(|answer: &mut T| *answer = T::default())]
    }
    let (server, proxy, _, victim) = start().await;
    let leaf = Hash::leaf(&entry(3));
    proxy.script("Append", nothing::<v1::AppendResponse>());
    assert_caught("Append", victim.append(entry(99), None).await);
    proxy.script("AppendBatch", nothing::<v1::AppendBatchResponse>());
    assert_caught("AppendBatch", victim.append_batch(new_entries(50..52)).await);
    proxy.script("GetTreeHead", nothing::<v1::GetTreeHeadResponse>());
    assert_caught("GetTreeHead", victim.head().await);
    proxy.script("GetEntry", nothing::<v1::GetEntryResponse>());
    assert_caught("GetEntry", victim.get(LeafIndex(0)).await);
    proxy.script("ReadEntries", nothing::<v1::ReadEntriesResponse>());
    assert_caught("ReadEntries", victim.read_range(0, 0, |_, _| ()).await);
    proxy.script("GetInclusionProof", nothing::<v1::GetInclusionProofResponse>());
    assert_caught("GetInclusionProof", victim.receipt(leaf, Some(LeafIndex(0))).await);
    proxy.script("GetInclusionProofs", nothing::<v1::GetInclusionProofsResponse>());
    assert_caught("GetInclusionProofs", victim.multiproof(&[LeafIndex(0)]).await);
    proxy.script("GetRangeProof", nothing::<v1::GetRangeProofResponse>());
    assert_caught("GetRangeProof", victim.range_proof(LeafIndex(3), &[leaf], HeadLevel::Unspecified).await);
    proxy.script("GetConsistencyProof", nothing::<v1::GetConsistencyProofResponse>());
    assert_caught("GetConsistencyProof", victim.consistency(TreeSize(3), TreeSize(7)).await);
    proxy.script("DescribeLog", nothing::<v1::DescribeLogResponse>());
    assert_caught("DescribeLog", victim.describe_unverified().await);
    server.stop().await;
}
