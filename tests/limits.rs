//! Hostile peers on real sockets: each meets its limit, the next call is served, and the process does not grow.

mod common;

use std::path::Path;

use bytes::Bytes;
use common::Server;
use h2::client::{SendRequest, handshake};
use h2::{Reason, RecvStream, SendStream};
use logwood_proto::v1;
use logwood_proto::v1::log_service_client::LogServiceClient;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;

type Rpc = LogServiceClient<Channel>;

const SERVICE: &str = "/logwood.v1.LogService";

fn log() -> String {
    "default".to_owned()
}

async fn start(dir: &Path, environment: &[(&str, &str)]) -> (Server, Rpc) {
    let server = Server::start_with(dir, 0, &[], environment);
    let mut rpc = Rpc::connect(server.url.clone()).await.expect("it listens");
    append(&mut rpc).await.expect("served");
    (server, rpc)
}

/// The next call.
async fn append(rpc: &mut Rpc) -> Result<u64, Status> {
    let request = v1::AppendRequest { log: log(), entry: Bytes::from_static(b"the next call"), ..Default::default() };
    Ok(rpc.append(request).await?.into_inner().index)
}

/// A connection on which anything can be sent that HTTP/2 allows.
async fn raw(server: &Server) -> SendRequest<Bytes> {
    let socket = TcpStream::connect(("127.0.0.1", server.port)).await.expect("it listens");
    let (requests, connection) = handshake(socket).await.expect("HTTP/2");
    tokio::spawn(async move { drop(connection.await) });
    requests.ready().await.expect("it is served")
}

fn call(path: &str) -> http::Request<()> {
    let request = http::Request::post(format!("http://localhost{path}")).header("te", "trailers");
    request.header("content-type", "application/grpc").body(()).expect("a request")
}

fn header(length: u32) -> Bytes {
    [&[0], &length.to_be_bytes()[..]].concat().into()
}

/// Sends what there is room for, as far as the peer wants it.
async fn send_all(stream: &mut SendStream<Bytes>, mut data: Bytes) -> Result<(), h2::Error> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let capacity = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
        let capacity = capacity.unwrap_or_else(|| Err(Reason::STREAM_CLOSED.into()))?;
        stream.send_data(data.split_to(capacity.min(data.len())), false)?;
    }
    Ok(())
}

/// The status of a call, from headers or trailers.
async fn status(response: h2::client::ResponseFuture) -> Status {
    let response = response.await.expect("an answer");
    if let Some(status) = Status::from_header_map(response.headers()) {
        return status;
    }
    let mut body: RecvStream = response.into_body();
    while body.data().await.is_some() {}
    let trailers = body.trailers().await.expect("no error").expect("a status");
    Status::from_header_map(&trailers).expect("a status")
}

/// The limit that a refusal names.
fn limit(status: &Status) -> String {
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    status.get_details_quota_failure().expect("a quota failure").violations[0].subject.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_declared_too_large_is_refused_by_every_method() {
    let dir = tempfile::tempdir().expect("a directory");
    let (server, mut rpc) = start(dir.path(), &[]).await;
    let peak = server.memory_peak_kib();
    let mut requests = raw(&server).await;
    let methods = [
        ("Append", 68 * 1024),
        ("AppendStream", 68 * 1024),
        ("AppendBatch", 8 * 1024 * 1024),
        ("GetTreeHead", 64 * 1024),
        ("ListTreeHeads", 64 * 1024),
        ("WatchTreeHeads", 64 * 1024),
        ("GetEntry", 64 * 1024),
        ("ReadEntries", 64 * 1024),
        ("GetInclusionProof", 64 * 1024),
        ("GetInclusionProofs", 64 * 1024),
        ("GetRangeProof", 64 * 1024),
        ("GetConsistencyProof", 64 * 1024),
        ("ListLogs", 64 * 1024),
        ("DescribeLog", 64 * 1024),
    ];
    for (method, bytes_max) in methods {
        // The last one is 4 GiB.
        for length in [bytes_max + 1, u32::MAX] {
            let (response, mut body) =
                requests.send_request(call(&format!("{SERVICE}/{method}")), false).expect("sent");
            body.send_data(header(length), false).expect("sent");
            let status = status(response).await;
            assert_eq!(limit(&status), "message", "{method} {length}");
            assert!(status.message().contains(&bytes_max.to_string()), "{status}");
        }
    }
    append(&mut rpc).await.expect("the next call is served");
    // 28 refusals; what they declared was 56 GiB.
    let grown = server.memory_peak_kib() - peak;
    assert!(grown < 32 * 1024, "{grown} KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_half_sent_requests_are_dropped_and_a_silent_stream_is_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let (server, mut rpc) = start(dir.path(), &[("LOGWOOD_LIMITS__BODY_TIMEOUT_MS", "1000")]).await;
    let (messages, requests) = tokio::sync::mpsc::channel(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut silent = rpc.append_stream(requests).await.expect("streams open").into_inner();
    let open = v1::AppendStreamOpen { log: log(), ..Default::default() };
    let open = v1::append_stream_request::Message::Open(open);
    messages.send(v1::AppendStreamRequest { message: Some(open) }).await.expect("open");

    let mut connection = raw(&server).await;
    for method in ["Append", "AppendStream"] {
        let (response, mut body) = connection.send_request(call(&format!("{SERVICE}/{method}")), false).expect("sent");
        body.send_data(header(1_000), false).expect("sent");
        body.send_data(Bytes::from_static(b"and no more"), false).expect("sent");
        assert_eq!(limit(&status(response).await), "bodies", "{method}");
        // It ends, but not where its message does.
        let (response, mut body) = connection.send_request(call(&format!("{SERVICE}/{method}")), false).expect("sent");
        body.send_data(header(1_000), true).expect("sent");
        assert_eq!(status(response).await.code(), Code::InvalidArgument, "{method}");
    }
    // The stream has been silent for longer than a message may take.
    let entry = v1::AppendStreamEntry { request_id: 7, entry: Bytes::from_static(b"late"), ..Default::default() };
    let entry = v1::append_stream_request::Message::Entry(entry);
    messages.send(v1::AppendStreamRequest { message: Some(entry) }).await.expect("open");
    let answer = silent.message().await.expect("no error").expect("an answer");
    assert_eq!(answer.runs[0].request_ids, [7]);
    append(&mut rpc).await.expect("the next call is served");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_beyond_the_budget_are_refused_and_the_process_does_not_grow() {
    const BUDGET_MIB: u64 = 16;
    let dir = tempfile::tempdir().expect("a directory");
    let (server, mut rpc) = start(dir.path(), &[("LOGWOOD_LIMITS__BODIES_MIB", "16")]).await;
    let peak = server.memory_peak_kib();
    let chunk = Bytes::from(vec![1; 1024 * 1024]);
    let (mut calls, mut refused, mut connections) = (Vec::new(), 0, Vec::new());
    for _ in 0..4 {
        connections.push(raw(&server).await);
    }
    // 16 calls of 6 MiB each, none of them ever whole.
    for number in 0..16 {
        let connection = &mut connections[number % 4];
        let call = call(&format!("{SERVICE}/AppendBatch"));
        let (response, mut body) = connection.send_request(call, false).expect("sent");
        send_all(&mut body, header(8 * 1024 * 1024)).await.expect("sent");
        let mut sent = Ok(());
        for _ in 0..6 {
            sent = send_all(&mut body, chunk.clone()).await;
            if sent.is_err() {
                break;
            }
        }
        if sent.is_err() {
            assert_eq!(limit(&status(response).await), "bodies");
            refused += 1;
        } else {
            calls.push((response, body));
        }
    }
    assert!(refused >= 12, "{refused}");
    let grown = server.memory_peak_kib() - peak;
    // The budget, what four connections had sent unread (1 MiB each) and as much again in buffers, and 16 MiB for the
    // allocator's and RocksDB's own ways.
    assert!(grown < (BUDGET_MIB + 4 + 4 + 16) * 1024, "{grown} KiB");
    drop((calls, connections));
    // The places of the calls that are gone are given back as soon as the server sees that.
    while let Err(status) = append(&mut rpc).await {
        assert_eq!(limit(&status), "bodies");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_never_call_make_room_for_those_that_do_and_lose_their_place_in_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let (server, mut rpc) = start(dir.path(), &[("LOGWOOD_LIMITS__HANDSHAKE_TIMEOUT_MS", "3000")]).await;
    append(&mut rpc).await.expect("the first call");
    let mut slow = Vec::new();
    for _ in 0..1_000 {
        let mut socket = TcpStream::connect(("127.0.0.1", server.port)).await.expect("it listens");
        // It may have been put out before it could say anything.
        let _ = socket.write_all(b"PRI * HTTP/2.0\r\n").await;
        slow.push(socket);
    }
    append(&mut rpc).await.expect("who has called keeps the connection");
    let mut another = Rpc::connect(server.url.clone()).await.expect("somebody makes room");
    append(&mut another).await.expect("who calls at once is served");
    // 254 have a place beside the two that call, until they have had their time.
    for socket in &mut slow {
        let mut rest = Vec::new();
        let _ = socket.read_to_end(&mut rest).await;
    }
    append(&mut rpc).await.expect("the next call is served");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_rest_make_room_for_those_that_call() {
    let dir = tempfile::tempdir().expect("a directory");
    let (server, mut first) = start(dir.path(), &[("LOGWOOD_LIMITS__CONNECTIONS", "2")]).await;
    let request = v1::WatchTreeHeadsRequest { log: log(), level: 2, ..Default::default() };
    let mut watching = Rpc::connect(server.url.clone()).await.expect("it listens");
    let mut heads = watching.watch_tree_heads(request).await.expect("streams open").into_inner();
    // Each has a connection of its own, and all but one are at rest.
    for _ in 0..3 {
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_mins(1);
        loop {
            // A client can wait for ever for a connection that was closed as it was made.
            let attempt = async { append(&mut Rpc::connect(server.url.clone()).await.ok()?).await.ok() };
            if matches!(tokio::time::timeout(std::time::Duration::from_secs(5), attempt).await, Ok(Some(_))) {
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "nobody makes room");
        }
    }
    // Whoever follows keeps its place; whoever was put out finds another.
    heads.message().await.expect("no error").expect("a head");
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_mins(1);
    while !matches!(tokio::time::timeout(std::time::Duration::from_secs(5), append(&mut first)).await, Ok(Ok(_))) {
        assert!(tokio::time::Instant::now() < deadline, "it finds no place");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_resets_closes_the_connection_and_no_other() {
    let dir = tempfile::tempdir().expect("a directory");
    let (server, mut rpc) = start(dir.path(), &[]).await;
    let peak = server.memory_peak_kib();
    let mut connection = raw(&server).await;
    let mut sent = 0;
    while sent < 100_000 {
        let Ok(ready) = connection.clone().ready().await else { break };
        connection = ready;
        let Ok((_, mut body)) = connection.send_request(call(&format!("{SERVICE}/GetTreeHead")), false) else { break };
        body.send_reset(Reason::CANCEL);
        sent += 1;
    }
    assert!(sent < 100_000, "the server closes the connection before it has taken them all");
    append(&mut rpc).await.expect("the next call is served");
    let grown = server.memory_peak_kib() - peak;
    assert!(grown < 32 * 1024, "{grown} KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_instead_of_a_preface_is_answered_by_the_end_of_the_connection() {
    let dir = tempfile::tempdir().expect("a directory");
    let (server, mut rpc) = start(dir.path(), &[]).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let oversized_frame = [&preface[..], &[0xff; 9]].concat();
    let headers_on_stream_0 = [&preface[..], &[0, 0, 1, 1, 5, 0, 0, 0, 0, 0x82]].concat();
    for garbage in [&b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"[..], &[0; 64], &oversized_frame, &headers_on_stream_0]
    {
        let mut socket = TcpStream::connect(("127.0.0.1", server.port)).await.expect("it listens");
        socket.write_all(garbage).await.expect("sent");
        let mut rest = Vec::new();
        // In order or not, it ends.
        let _ = socket.read_to_end(&mut rest).await;
        append(&mut rpc).await.expect("the next call is served");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_that_take_no_answers_hold_no_more_than_the_budget_and_not_for_ever() {
    let dir = tempfile::tempdir().expect("a directory");
    let environment = [
        ("LOGWOOD_LIMITS__ANSWERS_MIB", "4"),
        ("LOGWOOD_LIMITS__ANSWER_TIMEOUT_MS", "3000"),
        ("LOGWOOD_LIMITS__KEEPALIVE_INTERVAL_MS", "1000"),
    ];
    let (server, mut rpc) = start(dir.path(), &environment).await;
    let entries = vec![v1::BatchEntry { entry: vec![7; 8_000].into(), identity: None }; 1_000];
    let request = v1::AppendBatchRequest { log: log(), entries, ..Default::default() };
    rpc.append_batch(request).await.expect("logged");
    let peak = server.memory_peak_kib();
    // Each answer is 8 MB, of which these peers want one byte.
    let request = prost::Message::encode_to_vec(&v1::ReadEntriesRequest { log: log(), ..Default::default() });
    let request = Bytes::from([&header(u32::try_from(request.len()).expect("short"))[..], &request].concat());
    let mut connections = Vec::new();
    for _ in 0..4 {
        let socket = TcpStream::connect(("127.0.0.1", server.port)).await.expect("it listens");
        let (mut requests, connection) =
            h2::client::Builder::new().initial_window_size(1).handshake(socket).await.expect("HTTP/2");
        let closed = tokio::spawn(async move { drop(connection.await) });
        let mut calls = Vec::new();
        for _ in 0..50 {
            requests = requests.ready().await.expect("served");
            let (response, mut body) =
                requests.send_request(call(&format!("{SERVICE}/ReadEntries")), false).expect("sent");
            body.send_data(request.clone(), true).expect("sent");
            calls.push(response);
        }
        connections.push((closed, requests, calls));
    }
    // Somebody who does read gets everything, once those have lost their connections.
    let request = v1::ReadEntriesRequest { log: log(), ..Default::default() };
    let mut answers = rpc.read_entries(request).await.expect("streams open").into_inner();
    let mut read = 0;
    while let Some(answer) = answers.message().await.expect("no error") {
        read += answer.entries.len();
    }
    assert_eq!(read, 1_001);
    for (closed, _requests, _calls) in connections {
        closed.await.expect("the server closed it");
    }
    // The budget, what RocksDB and the allocator keep of 8 MB that were read, and 200 calls of 100 KiB.
    let grown = server.memory_peak_kib() - peak;
    assert!(grown < (4 + 32 + 20) * 1024, "{grown} KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn below_the_disk_reserve_appends_are_refused_and_reads_go_on() {
    let dir = tempfile::tempdir().expect("a directory");
    // 16 TiB: no test machine has as much.
    let server = Server::start_with(dir.path(), 0, &[], &[("LOGWOOD_LIMITS__DISK_RESERVE_MIB", "16777216")]);
    let mut rpc = Rpc::connect(server.url.clone()).await.expect("it listens");
    let refusal = append(&mut rpc).await.expect_err("the reserve is touched");
    assert_eq!(limit(&refusal), "disk");
    assert!(refusal.get_details_retry_info().is_some());
    rpc.get_tree_head(v1::GetTreeHeadRequest { log: log(), ..Default::default() }).await.expect("reads go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn repeats_at_thousands_of_places_are_answered_in_messages_within_the_limit() {
    const ENTRIES: u64 = 8_000;
    let dir = tempfile::tempdir().expect("a directory");
    let (_server, mut rpc) = start(dir.path(), &[]).await;
    let entry = |number: u64| v1::BatchEntry {
        entry: format!("entry {number}").into(),
        identity: Some(v1::batch_entry::Identity::Key(number.to_be_bytes().to_vec().into())),
    };
    for first in (0..ENTRIES).step_by(1_000) {
        let entries = (first..first + 1_000).map(entry).collect();
        rpc.append_batch(v1::AppendBatchRequest { log: log(), entries, ..Default::default() }).await.expect("logged");
    }
    // Every second one: no two are neighbours, and each is a run of its own.
    let entries = (0..1_000).map(|i| entry(i * 8)).collect();
    let request = v1::AppendBatchRequest { log: log(), entries, ..Default::default() };
    let answer = rpc.append_batch(request).await.expect("answered").into_inner();
    assert_eq!(answer.runs.len(), 1_000);
    assert!(prost::Message::encoded_len(&answer) <= logwood_proto::ANSWER_BYTES_MAX);

    let open = v1::AppendStreamOpen { log: log(), range_proofs: true, known_size: 0 };
    let open = v1::AppendStreamRequest { message: Some(v1::append_stream_request::Message::Open(open)) };
    let repeats = (0..ENTRIES / 2).map(|i| {
        let v1::BatchEntry { entry, identity: Some(v1::batch_entry::Identity::Key(key)) } = entry(2 * i) else {
            unreachable!("every entry has one")
        };
        let identity = Some(v1::append_stream_entry::Identity::Key(key));
        let entry = v1::AppendStreamEntry { request_id: i, entry, identity };
        v1::AppendStreamRequest { message: Some(v1::append_stream_request::Message::Entry(entry)) }
    });
    let requests = tokio_stream::iter(std::iter::once(open).chain(repeats.collect::<Vec<_>>()));
    let mut answers = rpc.append_stream(requests).await.expect("streams open").into_inner();
    let mut runs = 0;
    while let Some(answer) = answers.message().await.expect("no error") {
        assert!(prost::Message::encoded_len(&answer) <= 256 * 1024);
        assert!(answer.head.is_some() && answer.runs.iter().all(|run| run.duplicate && run.range_proof.is_some()));
        runs += answer.runs.len() as u64;
    }
    assert_eq!(runs, ENTRIES / 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_send_more_than_the_queue_holds_are_held_back_and_lose_nothing() {
    const ENTRIES: u64 = 100;
    let dir = tempfile::tempdir().expect("a directory");
    let environment = [
        ("LOGWOOD_LIMITS__BATCH_ENTRIES", "10"),
        ("LOGWOOD_LIMITS__QUEUE_ENTRIES", "10"),
        ("LOGWOOD_LIMITS__ROUND_ENTRIES", "10"),
    ];
    let (_server, rpc) = start(dir.path(), &environment).await;
    let streams = (0..4_u64).map(|stream| {
        let mut rpc = rpc.clone();
        tokio::spawn(async move {
            let open = v1::AppendStreamOpen { log: log(), ..Default::default() };
            let open = v1::AppendStreamRequest { message: Some(v1::append_stream_request::Message::Open(open)) };
            let entries = (0..ENTRIES).map(move |request_id| {
                let entry = Bytes::from(format!("entry {request_id} of stream {stream}"));
                let entry = v1::AppendStreamEntry { request_id, entry, identity: None };
                v1::AppendStreamRequest { message: Some(v1::append_stream_request::Message::Entry(entry)) }
            });
            let requests = tokio_stream::iter(std::iter::once(open).chain(entries));
            let mut answers = rpc.append_stream(requests).await.expect("streams open").into_inner();
            let mut logged = 0;
            while let Some(answer) = answers.message().await.expect("no error") {
                assert!(answer.errors.is_empty(), "{:?}", answer.errors);
                logged += answer.runs.iter().map(|run| run.request_ids.len() as u64).sum::<u64>();
            }
            logged
        })
    });
    for stream in streams.collect::<Vec<_>>() {
        let logged = tokio::time::timeout(std::time::Duration::from_mins(1), stream).await;
        assert_eq!(logged.expect("none waits for ever").expect("it ends"), ENTRIES);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_follows_is_told_at_once_that_the_server_stops() {
    let dir = tempfile::tempdir().expect("a directory");
    let (server, mut rpc) = start(dir.path(), &[]).await;
    let request = v1::ReadEntriesRequest { log: log(), follow: true, ..Default::default() };
    let mut follower = rpc.read_entries(request).await.expect("streams open").into_inner();
    follower.message().await.expect("no error").expect("the first entry");
    let request = v1::WatchTreeHeadsRequest { log: log(), level: 2, ..Default::default() };
    let mut watcher = rpc.watch_tree_heads(request).await.expect("streams open").into_inner();
    watcher.message().await.expect("no error").expect("the first head");
    let (messages, requests) = tokio::sync::mpsc::channel(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut silent = rpc.append_stream(requests).await.expect("streams open").into_inner();
    let channel = Channel::from_shared(server.url.clone()).expect("an address").connect().await.expect("it listens");
    let mut health =
        HealthClient::new(channel).watch(HealthCheckRequest::default()).await.expect("streams open").into_inner();
    let said = health.message().await.expect("no error").expect("how it is");
    assert_eq!(said.status(), ServingStatus::Serving);

    let stopped = tokio::task::spawn_blocking(|| server.stop());
    let stopping = |status: Status| {
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        assert_eq!(status.get_details_error_info().expect("a reason").reason, "STOPPING");
    };
    stopping(follower.message().await.expect_err("the end"));
    loop {
        // Heads that were published before come first.
        if let Err(status) = watcher.message().await {
            break stopping(status);
        }
    }
    stopping(silent.message().await.expect_err("the end"));
    let said = health.message().await.expect("no error").expect("how it is");
    assert_eq!(said.status(), ServingStatus::NotServing);
    assert!(health.message().await.expect("no error").is_none(), "the end");
    stopped.await.expect("an orderly end");
    drop(messages);
}

#[test]
fn an_occupied_port_leaves_nothing_behind_and_is_named_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let occupied = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = occupied.local_addr().expect("an address").to_string();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_logwood"))
        .args(["serve", "--grpc", &address, "--data"])
        .arg(&data)
        .output()
        .expect("the command runs");
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).expect("text");
    assert!(error.contains(&address), "{error}");
    assert_eq!(error.matches("in use").count(), 1, "{error}");
    assert!(!data.exists());
}
