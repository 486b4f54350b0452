//! Whatever fails on the way, an entry with an identity gets one index, and nothing else is sent twice.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{Fault, Proxy, Server, entry, fill, new_entries, quorum, witness};
use logwood_client::{Appended, Client, ClientError, ClientOptions, Identity, NewEntry, Until, Window};
use logwood_merkle::{LeafIndex, TreeSize};
use logwood_proto::v1::HeadLevel;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

fn pushed_back(code: Code) -> Fault {
    let details = ErrorDetails::with_retry_info(Some(Duration::from_millis(20)));
    Fault::Refuse(Status::with_error_details(code, "not now", details))
}

async fn start() -> (Server, Proxy, Client) {
    let server = Server::start("127.0.0.1:0").await;
    let proxy = Proxy::start(&server).await;
    let client = Client::connect(proxy.options(None)).await.expect("a server");
    (server, proxy, client)
}

async fn size(client: &Client) -> u64 {
    client.head().await.expect("a head").head.size.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_that_fails_in_any_way_is_logged_once() {
    let (server, proxy, client) = start().await;
    let rows = [
        (vec![pushed_back(Code::Unavailable)], false),
        (vec![pushed_back(Code::ResourceExhausted)], false),
        (vec![Fault::Refuse(Status::unavailable("starting"))], false),
        (vec![Fault::CutBefore], false),
        (vec![Fault::CutAfter], true),
        (vec![Fault::CutAfter, Fault::CutAfter, pushed_back(Code::Unavailable), Fault::CutBefore], true),
    ];
    for (index, (faults, duplicate)) in (0..).zip(rows) {
        let calls = faults.len() + 1;
        proxy.script("Append", faults);
        let appended = client.append(entry(index), None).await.expect("logged in the end");
        assert_eq!((appended.index, appended.duplicate), (LeafIndex(index), duplicate), "row {index}");
        appended.receipt.verify(&entry(index), client.key(), None).expect("a good receipt");
        assert_eq!(proxy.take_calls("Append"), calls, "row {index}");
        assert_eq!(size(&client).await, index + 1, "row {index}");
    }
    proxy.script("AppendBatch", [Fault::CutAfter, pushed_back(Code::ResourceExhausted), Fault::CutAfter]);
    let batch = client.append_batch(new_entries(6..16)).await.expect("logged in the end");
    let indices: Vec<_> = batch.iter().map(|outcome| outcome.as_ref().expect("logged").index.0).collect();
    assert_eq!(indices, (6..16).collect::<Vec<_>>());
    assert_eq!((proxy.take_calls("AppendBatch"), size(&client).await), (4, 16));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_no_identity_or_will_not_pass_is_sent_once() {
    let (server, proxy, client) = start().await;
    for fault in
        [pushed_back(Code::Unavailable), pushed_back(Code::ResourceExhausted), Fault::CutBefore, Fault::CutAfter]
    {
        proxy.script("Append", [fault.clone()]);
        client.append(entry(0), Identity::Absent).await.expect_err("not repeated");
        assert_eq!(proxy.take_calls("Append"), 1);
        proxy.script("AppendBatch", [fault]);
        let mut batch = new_entries(1..3);
        batch[1].identity = Identity::Absent;
        client.append_batch(batch).await.expect_err("not repeated");
        assert_eq!(proxy.take_calls("AppendBatch"), 1);
    }
    assert_eq!(size(&client).await, 3, "of each pair of calls only the ones that were cut afterwards are logged");
    for status in [
        Status::resource_exhausted("a message that is too large"),
        Status::invalid_argument("no"),
        Status::failed_precondition("frozen"),
        Status::data_loss("damaged"),
        Status::internal("a bug"),
    ] {
        let code = status.code();
        proxy.script("Append", [Fault::Refuse(status)]);
        let error = client.append(entry(0), None).await.expect_err("refused");
        assert!(matches!(error, ClientError::Rejected { code: found, .. } if found == code), "{error}");
        assert_eq!(proxy.take_calls("Append"), 1);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_given_up_at_its_deadline() {
    let (server, proxy, _) = start().await;
    let options = ClientOptions { retry_within: Duration::from_secs(2), ..proxy.options(None) };
    let client = Client::connect(options).await.expect("a server");
    proxy.script("Append", std::iter::repeat_n(pushed_back(Code::Unavailable), 50));
    let error = client.append(entry(0), None).await.expect_err("given up");
    assert!(matches!(error, ClientError::Rejected { code: Code::Unavailable, .. }), "{error}");
    assert!((2..20).contains(&proxy.take_calls("Append")));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_go_on_where_they_broke() {
    let (server, proxy, client) = start().await;
    fill(&client, 1_000).await;
    client.append_batch(new_entries(1_000..1_500)).await.expect("logged");
    proxy.script("GetEntry", [Fault::CutAfter, pushed_back(Code::Unavailable)]);
    assert_eq!(client.get(LeafIndex(7)).await.expect("an entry").bytes, entry(7));
    proxy.script("ReadEntries", [Fault::CutBefore, Fault::CutAmidst(1), pushed_back(Code::Unavailable)]);
    let mut read = Vec::new();
    client.read_range(3, 1_400, |index, bytes| read.push((index.0, bytes))).await.expect("verified entries");
    assert_eq!(read, (3..1_400).map(|number| (number, entry(number))).collect::<Vec<_>>());
    assert!(proxy.take_calls("ReadEntries") > 2);

    // Following: entries that come later, through a cut.
    let mut following = client.entries(LeafIndex(1_498), Until::Forever);
    let mut next = 1_498;
    while next < 1_503 {
        if next == 1_500 {
            proxy.script("ReadEntries", [Fault::CutBefore]);
            proxy.cut();
            client.append_batch(new_entries(1_500..1_503)).await.expect("logged");
        }
        let chunk = following.next().await.expect("verified").expect("no end");
        assert_eq!(chunk.first.0, next);
        next += chunk.entries.len() as u64;
    }
    drop(following);
    server.stop().await;
}

/// Sends `entries` and gathers their outcomes, in order of the sending.
async fn stream(client: &Client, entries: Vec<NewEntry>, window: Window) -> Result<Vec<Appended>, ClientError> {
    let (mut sender, mut receiver) = client.append_stream(window);
    let count = entries.len();
    let sending = tokio::spawn(async move {
        for entry in entries {
            // The receiver tells why it ended.
            let Ok(_) = sender.send(entry).await else { break };
        }
    });
    let mut outcomes = vec![None; count];
    while let Some(outcome) = receiver.next().await {
        let (id, outcome) = outcome?;
        let place = usize::try_from(id).expect("small");
        assert!(outcomes[place].replace(outcome.expect("logged")).is_none(), "entry {id} has two outcomes");
    }
    sending.await.expect("no panic");
    Ok(outcomes.into_iter().map(|outcome| outcome.expect("every entry has an outcome")).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_breaks_is_taken_up_with_nothing_lost_doubled_or_moved() {
    let (server, proxy, client) = start().await;
    proxy.script("AppendStream", [pushed_back(Code::Unavailable), Fault::CutBefore, Fault::CutAmidst(1)]);
    proxy.script("AppendStream", [Fault::CutAmidst(2), Fault::CutAmidst(3)]);
    let window = Window { entries_max: 50, ..Window::default() };
    let appended = stream(&client, new_entries(0..1_000), window).await.expect("logged in the end");
    for (index, appended) in (0..).zip(&appended) {
        assert_eq!(appended.index, LeafIndex(index), "in the order in which they were sent");
        appended.receipt.verify(&entry(index), client.key(), None).expect("a good receipt");
    }
    assert!(appended.iter().any(|appended| !appended.duplicate));
    assert_eq!((proxy.take_calls("AppendStream"), size(&client).await), (6, 1_000));

    let empty = stream(&client, Vec::new(), window).await.expect("an orderly end");
    assert!(empty.is_empty());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_of_one_entry_does_not_end_a_stream_and_a_refusal_of_all_does() {
    let (server, proxy, client) = start().await;
    let (mut sender, mut receiver) = client.append_stream(Window::default());
    let identity = Identity::Key(Bytes::from_static(b"the same"));
    for bytes in [entry(0), entry(1), entry(0)] {
        sender.send(NewEntry { bytes, identity: identity.clone() }).await.expect("room");
    }
    let too_long = NewEntry { bytes: vec![0; 65_536].into(), identity: Identity::Random };
    let error = sender.send(too_long).await.expect_err("too long");
    assert!(matches!(error, ClientError::BadOption { option: "entry", .. }), "{error}");
    let mut outcomes = Vec::new();
    for _ in 0..3 {
        outcomes.push(receiver.next().await.expect("an outcome").expect("a verified answer"));
    }
    outcomes.sort_by_key(|(id, _)| *id);
    assert_eq!(outcomes[0].1.as_ref().expect("logged").index, LeafIndex(0));
    let refused = outcomes[1].1.as_ref().expect_err("the identity is taken");
    assert_eq!((refused.code, refused.index), (Code::AlreadyExists, Some(0)));
    assert!(outcomes[2].1.as_ref().expect("the same entry").duplicate);

    proxy.script("AppendStream", [Fault::Refuse(Status::failed_precondition("frozen"))]);
    let error = stream(&client, new_entries(1..9), Window::default()).await.expect_err("refused");
    assert!(matches!(error, ClientError::Rejected { code: Code::FailedPrecondition, .. }), "{error}");
    let mut anonymous = new_entries(1..9);
    anonymous[3].identity = Identity::Absent;
    // Cut once all of them were sent: before, the one might not have been under way yet.
    proxy.script("AppendStream", [Fault::CutAfter]);
    proxy.take_calls("AppendStream");
    stream(&client, anonymous, Window::default()).await.expect_err("an entry that cannot be sent again");
    assert_eq!((proxy.take_calls("AppendStream"), size(&client).await), (1, 9));
    drop((sender, receiver));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_sees_every_published_head_once_through_cuts() {
    let (server, proxy, client) = start().await;
    let mut watch = client.watch_heads(TreeSize(0), HeadLevel::Published);
    assert_eq!(watch.next().await.expect("the first").head.size, TreeSize(0));
    let mut last = 0;
    for round in 0..3 {
        proxy.script("WatchTreeHeads", [Fault::CutBefore]);
        proxy.cut();
        client.append(entry(round), None).await.expect("logged");
        let head = watch.next().await.expect("a head");
        assert!(head.head.size.0 > last && head.level == HeadLevel::Published);
        last = head.head.size.0;
    }
    assert_eq!(last, 3);
    drop(watch);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_are_settled_or_kept_to_be_settled_later() {
    let (server, proxy, _) = start().await;
    let state = tempfile::tempdir().expect("a temporary directory");
    let client = Client::connect(proxy.options(Some(state.path()))).await.expect("a server");
    let level = HeadLevel::Published;
    assert!(client.settle(level, Duration::from_secs(10)).await.expect("nothing to settle").is_none());
    for number in 0..40 {
        client.append(entry(number), None).await.expect("logged");
    }
    assert_eq!(client.unsettled(), 1, "one chain, one check");
    proxy.script("WatchTreeHeads", std::iter::repeat_n(pushed_back(Code::Unavailable), 100));
    let error = client.settle(level, Duration::from_millis(100)).await.expect_err("no head came");
    assert!(matches!(error, ClientError::NotSettled { .. }), "{error}");
    drop(client);

    proxy.unscript("WatchTreeHeads");
    let client = Client::connect(proxy.options(Some(state.path()))).await.expect("a server");
    assert_eq!(client.unsettled(), 1, "they stayed in the client's state");
    proxy.take_calls("GetConsistencyProof");
    let settled = client.settle(level, Duration::from_secs(30)).await.expect("settled").expect("a head");
    assert!(settled.head.size.0 >= 40 && settled.level == level);
    assert_eq!(client.unsettled(), 0);
    assert!(proxy.take_calls("GetConsistencyProof") <= 1, "one check for all");
    drop(client);
    let client = Client::connect(proxy.options(Some(state.path()))).await.expect("a server");
    assert_eq!(client.unsettled(), 0, "and it is remembered");
    let policy = Some(quorum(&client, &witness(1)));
    let client = Client::connect(ClientOptions { policy, ..proxy.options(None) }).await.expect("a server");
    let error = client.head_of_level(HeadLevel::Witnessed).await.expect_err("no witnesses");
    assert!(
        matches!(&error, ClientError::Rejected { reason: Some(reason), .. } if reason == "NO_WITNESSES"),
        "{error}"
    );
    server.stop().await;
}
