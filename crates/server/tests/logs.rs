//! Logs and the process: made, listed, loaded anew after a reload, sealed while somebody holds on to what was before.

mod common;

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use logwood_proto::v1;
use logwood_proto::v1::admin_service_client::AdminServiceClient;
use logwood_proto::v1::log_service_client::LogServiceClient;
use logwood_server::{LimitSettings, PublishOptions};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use common::{Disk, start, start_and_connect};

const GIB: u64 = 1 << 30;

/// How long anything may take that a test waits for.
const PATIENCE: Duration = Duration::from_mins(1);

fn log() -> String {
    "default".to_owned()
}

async fn admin(data: &Path) -> AdminServiceClient<Channel> {
    let socket = format!("unix://{}", data.join("admin.sock").display());
    AdminServiceClient::new(Endpoint::from_shared(socket).expect("an address").connect().await.expect("it listens"))
}

async fn create(data: &Path, log: &str, origin: &str) -> Result<v1::LogInfo, Status> {
    let request = v1::CreateLogRequest { log: log.into(), origin: origin.into(), ..Default::default() };
    Ok(admin(data).await.create_log(request).await?.into_inner().info.expect("an info"))
}

async fn append(rpc: &mut LogServiceClient<Channel>, entry: &'static [u8]) -> Result<u64, Status> {
    let request = v1::AppendRequest { log: log(), entry: Bytes::from_static(entry), ..Default::default() };
    Ok(rpc.append(request).await?.into_inner().index)
}

async fn size(rpc: &mut LogServiceClient<Channel>) -> Result<u64, Status> {
    let request = v1::DescribeLogRequest { log: log(), ..Default::default() };
    Ok(rpc.describe_log(request).await?.into_inner().info.expect("an info").size)
}

/// Makes the server throw away what it planned and open its store again, by a disk that is full for a while.
async fn reload(disk: &Disk, rpc: &mut LogServiceClient<Channel>) {
    let before = disk.opened.load(Ordering::SeqCst);
    disk.free.store(0, Ordering::SeqCst);
    disk.is_full.store(true, Ordering::SeqCst);
    append(rpc, b"no room").await.expect_err("the disk is full");
    disk.is_full.store(false, Ordering::SeqCst);
    disk.free.store(GIB, Ordering::SeqCst);
    while disk.opened.load(Ordering::SeqCst) == before {
        let _ = size(rpc).await;
    }
}

fn no_reserve() -> LimitSettings {
    LimitSettings { disk_reserve_mib: 0, ..LimitSettings::default() }
}

/// Bytes that are their own message.
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, bytes: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put(to, bytes);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_message_are_invalid_arguments_that_quote_no_decoder() {
    let (data, disk) = (tempfile::tempdir().expect("a directory"), Disk::default());
    let settings = (no_reserve(), PublishOptions::default());
    let (_running, channel) = start_and_connect(&disk, data.path(), settings).await;
    // A name that is no UTF-8; a length beyond the end; a field of another type.
    for bytes in [&b"\x0a\x02\xff\xfe"[..], b"\x0a\x7fx", b"\x08\x01\x0b"] {
        for method in ["Append", "GetTreeHead", "ListLogs", "AppendStream", "ReadEntries"] {
            let mut grpc = Grpc::new(channel.clone());
            grpc.ready().await.expect("ready");
            let path = PathAndQuery::from_maybe_shared(format!("/logwood.v1.LogService/{method}")).expect("a path");
            let messages = tokio_stream::once(Bytes::from_static(bytes));
            let answer = grpc.streaming(Request::new(messages), path, RawCodec).await;
            let status = match answer {
                Ok(answer) => answer.into_inner().message().await.expect_err("it is refused"),
                Err(status) => status,
            };
            assert_eq!(status.code(), Code::InvalidArgument, "{method} {bytes:?}: {status}");
            assert!(!status.message().contains("decode") && !status.message().contains("Request"), "{status}");
        }
    }
    append(&mut LogServiceClient::new(channel), b"the next call").await.expect("is served");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_names_one_log_also_after_a_reload() {
    let (data, disk) = (tempfile::tempdir().expect("a directory"), Disk::default());
    disk.free.store(GIB, Ordering::SeqCst);
    let (_running, mut rpc) = start(&disk, data.path(), (no_reserve(), PublishOptions::default())).await;
    create(data.path(), "first", "example.com/one").await.expect("created");
    let refused = create(data.path(), "second", "example.com/one").await.expect_err("the first has it");
    assert_eq!(refused.code(), Code::AlreadyExists, "{refused}");
    assert!(refused.message().contains("example.com/one"), "{refused}");
    reload(&disk, &mut rpc).await;
    while let Err(status) = create(data.path(), "second", "example.com/two").await {
        assert_eq!(status.code(), Code::Unavailable, "{status}");
    }
    let refused = create(data.path(), "third", "example.com/two").await.expect_err("the second has it");
    assert_eq!(refused.code(), Code::AlreadyExists, "{refused}");
    let refused = create(data.path(), "third", "example.com/one").await.expect_err("the first still has it");
    assert_eq!(refused.code(), Code::AlreadyExists, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_reads_no_log_into_memory_and_tells_what_was_published() {
    let (data, disk) = (tempfile::tempdir().expect("a directory"), Disk::default());
    disk.free.store(GIB, Ordering::SeqCst);
    let (_running, mut rpc) = start(&disk, data.path(), (no_reserve(), PublishOptions::default())).await;
    for name in ["first", "second"] {
        create(data.path(), name, "").await.expect("created");
    }
    let (entry, log) = (Bytes::from_static(b"x"), "second".to_owned());
    let wait = v1::HeadLevel::Published.into();
    rpc.append(v1::AppendRequest { log, entry, wait, ..Default::default() }).await.expect("logged");
    reload(&disk, &mut rpc).await;
    let (before, listed) = loop {
        let before = disk.loaded.load(Ordering::SeqCst);
        match rpc.list_logs(v1::ListLogsRequest::default()).await {
            Ok(listed) => break (before, listed.into_inner().logs),
            Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status}"),
        }
    };
    assert_eq!(disk.loaded.load(Ordering::SeqCst), before);
    let listed: Vec<_> = listed.iter().map(|info| (info.name.as_str(), info.size)).collect();
    assert_eq!(listed, [("default", 0), ("first", 0), ("second", 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_read_is_listed_with_size_0_and_hides_no_other() {
    let (data, disk) = (tempfile::tempdir().expect("a directory"), Disk::default());
    let (running, mut rpc) = start(&disk, data.path(), (no_reserve(), PublishOptions::default())).await;
    create(data.path(), "damaged", "").await.expect("created");
    for name in ["damaged", "default"] {
        let (entry, wait) = (Bytes::from_static(b"x"), v1::HeadLevel::Published.into());
        rpc.append(v1::AppendRequest { log: name.into(), entry, wait, ..Default::default() }).await.expect("logged");
    }
    running.stop().await;
    // Logs are numbered in the order in which they were made.
    disk.heads_damaged_of.store(1, Ordering::SeqCst);
    let (_running, mut rpc) = start(&disk, data.path(), (no_reserve(), PublishOptions::default())).await;
    let listed = rpc.list_logs(v1::ListLogsRequest::default()).await.expect("listed").into_inner().logs;
    let listed: Vec<_> = listed.iter().map(|info| (info.name.as_str(), info.size)).collect();
    assert_eq!(listed, [("damaged", 0), ("default", 1)]);
    let request = v1::DescribeLogRequest { log: "damaged".into(), ..Default::default() };
    let status = rpc.describe_log(request).await.expect_err("it cannot be read");
    assert_eq!(status.code(), Code::DataLoss, "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_that_cannot_be_looked_up_is_data_loss_and_nothing_is_logged() {
    let (data, disk) = (tempfile::tempdir().expect("a directory"), Disk::default());
    let (_running, mut rpc) = start(&disk, data.path(), (no_reserve(), PublishOptions::default())).await;
    let identified = || {
        let identity = Some(v1::append_request::Identity::Key(Bytes::from_static(b"event 1")));
        v1::AppendRequest { log: log(), entry: Bytes::from_static(b"once"), identity, ..Default::default() }
    };
    rpc.append(identified()).await.expect("logged");
    disk.is_index_damaged.store(true, Ordering::SeqCst);
    let status = rpc.append(identified()).await.expect_err("nobody knows whether it was logged");
    assert_eq!(status.code(), Code::DataLoss, "{status}");
    assert_eq!(append(&mut rpc, b"without an identity").await.expect("nothing is looked up"), 1);
    disk.is_index_damaged.store(false, Ordering::SeqCst);
    assert!(rpc.append(identified()).await.expect("answered").into_inner().duplicate);
    assert_eq!(size(&mut rpc).await.expect("described"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_touches_is_renewed_after_a_start_and_after_a_reload() {
    let (data, disk) = (tempfile::tempdir().expect("a directory"), Disk::default());
    disk.free.store(GIB, Ordering::SeqCst);
    let publishing = PublishOptions { interval_ms: 10, refresh_ms: 20, ..PublishOptions::default() };
    let (running, _) = start(&disk, data.path(), (no_reserve(), publishing.clone())).await;
    create(data.path(), "damaged", "").await.expect("created");
    let request = v1::CreateLogRequest { log: "renewed".into(), ml_dsa: true, ..Default::default() };
    admin(data.path()).await.create_log(request).await.expect("created");
    running.stop().await;
    // A log that cannot be read, and comes first by name, keeps no other from being renewed.
    disk.heads_damaged_of.store(1, Ordering::SeqCst);
    let (_running, mut rpc) = start(&disk, data.path(), (no_reserve(), publishing)).await;
    for _ in 0..2 {
        // Nothing else writes: `default` has no signature that tells its age.
        let before = disk.committed.load(Ordering::SeqCst);
        let renewals = async {
            while disk.committed.load(Ordering::SeqCst) < before + 3 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, renewals).await.expect("it is renewed");
        reload(&disk, &mut rpc).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_from_before_a_reload_appends_nothing_behind_a_seal() {
    let (data, disk) = (tempfile::tempdir().expect("a directory"), Disk::default());
    disk.free.store(GIB, Ordering::SeqCst);
    let (_running, mut rpc) = start(&disk, data.path(), (no_reserve(), PublishOptions::default())).await;
    let (messages, stream) = mpsc::channel(4);
    let send = async |message| {
        messages.send(v1::AppendStreamRequest { message: Some(message) }).await.expect("the stream is open");
    };
    let entry = |request_id| {
        let entry = Bytes::from_static(b"by the stream");
        v1::append_stream_request::Message::Entry(v1::AppendStreamEntry { request_id, entry, identity: None })
    };
    let open = v1::AppendStreamOpen { log: log(), ..Default::default() };
    send(v1::append_stream_request::Message::Open(open)).await;
    send(entry(1)).await;
    let mut answers = rpc.append_stream(ReceiverStream::new(stream)).await.expect("it opens").into_inner();
    answers.message().await.expect("answered").expect("an answer");

    reload(&disk, &mut rpc).await;
    while let Err(status) = admin(data.path()).await.seal_log(v1::SealLogRequest { log: log() }).await {
        // It reloads, or the last head before that could not be stored.
        assert!(matches!(status.code(), Code::Unavailable | Code::ResourceExhausted), "{status}");
    }
    let sealed = size(&mut rpc).await.expect("described");
    send(entry(2)).await;
    let refused = answers.message().await.expect_err("the stream knows nothing of the seal");
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert_eq!(append(&mut rpc, b"behind it").await.expect_err("sealed").code(), Code::FailedPrecondition);
    assert_eq!(size(&mut rpc).await.expect("described"), sealed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_can_be_frozen_but_is_not_signed_while_its_anchor_cannot_be_written() {
    let (data, disk) = (tempfile::tempdir().expect("a directory"), Disk::default());
    disk.free.store(GIB, Ordering::SeqCst);
    let publishing = PublishOptions { anchor_every_round: true, ..PublishOptions::default() };
    let (_running, mut rpc) = start(&disk, data.path(), (no_reserve(), publishing)).await;
    append(&mut rpc, b"before").await.expect("logged");

    let (anchor, aside) = (data.path().join("ANCHOR"), data.path().join("aside"));
    std::fs::rename(&anchor, &aside).expect("moved");
    std::fs::create_dir(&anchor).expect("a directory in its place");
    let refused = append(&mut rpc, b"not signed").await.expect_err("it cannot be anchored");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    let frozen = admin(data.path()).await.freeze_log(v1::FreezeLogRequest { log: log() }).await.expect("frozen");
    assert_eq!(frozen.into_inner().info.expect("an info").state(), v1::LogState::Frozen);
    assert_eq!(append(&mut rpc, b"frozen").await.expect_err("frozen").code(), Code::FailedPrecondition);
    let sealed = admin(data.path()).await.seal_log(v1::SealLogRequest { log: log() }).await;
    let refused = sealed.expect_err("it would be below an entry that is durable");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");

    std::fs::remove_dir(&anchor).expect("removed");
    std::fs::rename(&aside, &anchor).expect("moved back");
    admin(data.path()).await.thaw_log(v1::ThawLogRequest { log: log(), ..Default::default() }).await.expect("thawed");
    let index = append(&mut rpc, b"signed").await.expect("anchored");
    assert_eq!(index, 2, "what could not be anchored was logged");
    admin(data.path()).await.seal_log(v1::SealLogRequest { log: log() }).await.expect("sealed");
    assert_eq!(size(&mut rpc).await.expect("described"), 3);
}
