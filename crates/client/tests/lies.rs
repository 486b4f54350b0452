//! A server that lies: every answer is changed in turn, and no change gets past the client.

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Fault, Proxy, Server, entry, fill, new_entries, quorum, witness};
use logwood_client::{
    Client, ClientError, ClientOptions, HeadsFrom, Identity, NewEntry, SETTLE_WITHIN, Sleep, Timing, VerifiedHead,
    Which, Window,
};
use logwood_merkle::{Hash, LeafIndex, TreeSize};
use logwood_note::{CosigningKey, SignedNote, assemble_note};
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
    honest.settle(HeadLevel::Published, SETTLE_WITHIN).await.expect("published");
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
    let lies: [Lie<v1::AppendStreamResponse>; 4] = [
        ("nothing at all", |answer| *answer = v1::AppendStreamResponse::default()),
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

/// What a server says that calls `head` witnessed, with the cosignature of `witness` if there is one.
fn claimed(head: &VerifiedHead, witness: Option<&CosigningKey>) -> v1::SignedTreeHead {
    let note = SignedNote::parse(&head.note).expect("a note");
    let mut lines = note.signatures().to_vec();
    lines.extend(witness.map(|witness| witness.cosign(note.text(), 1_774_353_600).expect("a checkpoint")));
    let checkpoint = assemble_note(note.text(), &lines).expect("a note").into();
    v1::SignedTreeHead { checkpoint, level: HeadLevel::Witnessed.into(), ..v1::SignedTreeHead::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_policy_nothing_is_witnessed_and_nobody_is_asked_for_it() {
    let (server, proxy, honest, victim) = start().await;
    let level = HeadLevel::Witnessed;
    let mut watch = victim.watch_heads(TreeSize(0), level);
    let errors = [
        victim.head_of_level(level).await.expect_err("head"),
        victim.entry(Which::Index(LeafIndex(0)), level).await.expect_err("entry"),
        victim.range_proof(LeafIndex(3), &[Hash::leaf(&entry(3))], level).await.expect_err("range"),
        victim.append_until(entry(99), None, (level, SETTLE_WITHIN)).await.expect_err("append"),
        victim.settle(level, SETTLE_WITHIN).await.expect_err("settle"),
        watch.next().await.expect_err("watch"),
    ];
    for error in errors {
        assert!(matches!(error, ClientError::BadOption { option: "policy", .. }), "{error}");
        assert!(error.to_string().contains("--policy"), "{error}");
    }
    for method in ["GetTreeHead", "GetEntry", "GetRangeProof", "Append", "WatchTreeHeads", "ListTreeHeads"] {
        assert_eq!(proxy.take_calls(method), 0, "{method}");
    }
    let published = honest.head_of_level(HeadLevel::Published).await.expect("published");
    let head = Some(claimed(&published, Some(&witness(1))));
    proxy.script("GetTreeHead", [Fault::say(&v1::GetTreeHeadResponse { head })]);
    assert_eq!(victim.head().await.expect("signed").level, HeadLevel::Published);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_called_witnessed_must_satisfy_the_policy() {
    let (server, proxy, honest, _) = start().await;
    let (own, stranger) = (witness(1), witness(2));
    let policy = Some(quorum(&honest, &own));
    let victim = Client::connect(ClientOptions { policy, ..proxy.options(None) }).await.expect("a server");
    let published = honest.head_of_level(HeadLevel::Published).await.expect("published");
    let answer = |witness| v1::GetTreeHeadResponse { head: Some(claimed(&published, witness)) };
    for (lie, witness) in [("nobody cosigned", None), ("a stranger cosigned", Some(&stranger))] {
        proxy.script("GetTreeHead", [Fault::say(&answer(witness))]);
        assert_caught(lie, victim.head_of_level(HeadLevel::Witnessed).await);
        proxy.script("GetTreeHead", [Fault::say(&answer(witness))]);
        assert_eq!(victim.head().await.expect("signed").level, HeadLevel::Published, "{lie}");
    }
    let found = honest.entry(Which::Index(LeafIndex(3)), HeadLevel::Published).await.expect("an entry");
    let entry = |witness| v1::GetEntryResponse {
        index: 3,
        entry: found.bytes.clone(),
        head: Some(claimed(&found.head, witness)),
        inclusion: logwood_proto::hashes_to_bytes(&found.receipt.proof),
    };
    let which = Which::Index(LeafIndex(3));
    proxy.script("GetEntry", [Fault::say(&entry(None)), Fault::say(&entry(Some(&own)))]);
    assert_caught("a receipt that nobody cosigned", victim.entry(which, HeadLevel::Witnessed).await);
    let found = victim.entry(which, HeadLevel::Witnessed).await.expect("cosigned");
    assert_eq!(found.head.level, HeadLevel::Witnessed);
    proxy.script("GetTreeHead", [Fault::say(&answer(Some(&own)))]);
    assert_eq!(victim.head_of_level(HeadLevel::Witnessed).await.expect("cosigned").level, HeadLevel::Witnessed);
    server.stop().await;
}

fn call_witnessed(head: &mut Option<v1::SignedTreeHead>) {
    head.as_mut().expect("a head").level = HeadLevel::Witnessed.into();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_is_owed_until_it_is_settled_whatever_the_server_calls_its_head() {
    let (server, proxy, honest, _) = start().await;
    let own = witness(1);
    let policy = Some(quorum(&honest, &own));
    let strict = Client::connect(ClientOptions { policy, ..proxy.options(None) }).await.expect("a server");
    let plain = Client::connect(proxy.options(None)).await.expect("a server");
    for victim in [&plain, &strict] {
        proxy.script("Append", [Fault::lie(|answer: &mut v1::AppendResponse| call_witnessed(&mut answer.head))]);
        victim.append(entry(100), None).await.expect("logged");
        assert_eq!(victim.unsettled(), 1);
        let lie = |answer: &mut v1::AppendBatchResponse| call_witnessed(&mut answer.head);
        proxy.script("AppendBatch", [Fault::lie(lie)]);
        victim.append_batch(new_entries(101..103)).await.expect("logged");
        assert_eq!(victim.unsettled(), 1, "one chain, one check");
    }
    let settled = plain.settle(HeadLevel::Published, SETTLE_WITHIN).await.expect("published").expect("a head");
    assert_eq!(plain.unsettled(), 0);

    // A policy with a quorum is settled by what satisfies it, and by nothing else.
    let watched = |head| Fault::say(&v1::WatchTreeHeadsResponse { head: Some(head) });
    proxy.script("WatchTreeHeads", [watched(claimed(&settled, None))]);
    let error = strict.settle(HeadLevel::Published, SETTLE_WITHIN).await.expect_err("this log has no witnesses");
    assert!(!error.is_tampering() && strict.unsettled() == 1, "{error}");
    // A stream tells a head once: it is asked again for what has been added to that.
    proxy.script("WatchTreeHeads", [watched(claimed(&settled, None)), watched(claimed(&settled, Some(&own)))]);
    let settled = strict.settle(HeadLevel::Published, SETTLE_WITHIN).await.expect("cosigned").expect("a head");
    assert_eq!((settled.level, strict.unsettled()), (HeadLevel::Witnessed, 0));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_entry_is_no_duplicate_unless_it_was_sent_before() {
    let (server, proxy, _, victim) = start().await;
    let duplicate = || Fault::lie(|answer: &mut v1::AppendResponse| answer.duplicate = true);
    proxy.script("Append", [duplicate()]);
    assert_caught("an identity that nobody knows", victim.append(entry(70), None).await);
    proxy.script("Append", [duplicate()]);
    let named = victim.append(entry(71), Bytes::from_static(b"known to others")).await.expect("sent by whom ever");
    assert!(named.duplicate);
    proxy.script("Append", [Fault::CutAfter]);
    let again = victim.append(entry(72), None).await.expect("its first answer was lost");
    assert!(again.duplicate);

    let call_duplicates =
        |answer: &mut v1::AppendBatchResponse| answer.runs.iter_mut().for_each(|run| run.duplicate = true);
    proxy.script("AppendBatch", [Fault::lie(call_duplicates)]);
    let drawn = (80..82).map(|index| NewEntry { bytes: entry(index), identity: Identity::Random }).collect();
    assert_caught("a batch of such", victim.append_batch(drawn).await);

    let call_duplicates =
        |answer: &mut v1::AppendStreamResponse| answer.runs.iter_mut().for_each(|run| run.duplicate = true);
    proxy.script("AppendStream", [Fault::lie(call_duplicates)]);
    let (mut sender, mut receiver) = victim.append_stream(Window::default());
    sender.send(NewEntry { bytes: entry(90), identity: Identity::Random }).await.expect("room");
    drop(sender);
    assert_caught("a stream of such", receiver.next().await.expect("an outcome"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_heads_may_be_empty_if_the_next_one_begins_after_what_was_asked_for() {
    let (server, proxy, _, victim) = start().await;
    let empty = |next| Fault::say(&v1::ListTreeHeadsResponse { heads: Vec::new(), next_size: Some(next) });
    proxy.script("ListTreeHeads", [empty(2), empty(ENTRIES)]);
    let page = victim.heads(HeadsFrom::Size(TreeSize(1))).next_page().await.expect("the last page has one");
    assert_eq!(page.last().map(|head| head.head.size), Some(TreeSize(ENTRIES)));
    proxy.script("ListTreeHeads", [empty(1)]);
    assert_caught("no progress", victim.heads(HeadsFrom::Size(TreeSize(1))).next_page().await);
    server.stop().await;
}

/// Waits are over a thousand times sooner.
#[derive(Debug)]
struct Hasty;

impl Timing for Hasty {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep(&self, wait: Duration) -> Sleep {
        Box::pin(tokio::time::sleep(wait / 1_000))
    }

    fn random(&self) -> u64 {
        0
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_of_a_range_that_is_never_answered_is_given_up() {
    let (server, proxy, _, _) = start().await;
    let options = ClientOptions { retry_within: Duration::ZERO, ..proxy.options(None) };
    let victim = Client::connect_with(options, Arc::new(Hasty)).await.expect("a server");
    proxy.script("ReadEntries", [Fault::Hang]);
    let read = tokio::time::timeout(Duration::from_mins(1), victim.read_range(0, ENTRIES, |_, _| ()));
    let error = read.await.expect("it is given up").expect_err("no answer");
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    server.stop().await;
}
