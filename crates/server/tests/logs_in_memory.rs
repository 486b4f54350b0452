//! Logs that go out of memory, and come back.

mod common;

use std::path::Path;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use logwood_proto::v1;
use logwood_proto::v1::admin_service_client::AdminServiceClient;
use logwood_proto::v1::log_service_client::LogServiceClient;
use logwood_server::{LimitSettings, PublishOptions};
use tonic::transport::{Channel, Endpoint};

use common::{Disk, start};

const LOGS: usize = 6;

/// Rounds in which every log gets an entry.
const TURNS: u64 = 8;

async fn create_logs(data: &Path) {
    let socket = format!("unix://{}", data.join("admin.sock").display());
    let channel = Endpoint::from_shared(socket).expect("an address").connect().await.expect("it listens");
    let mut admin = AdminServiceClient::new(channel);
    for number in 0..LOGS {
        let request = v1::CreateLogRequest { log: format!("log-{number}"), ..Default::default() };
        admin.create_log(request).await.expect("created");
    }
}

async fn append(rpc: &mut LogServiceClient<Channel>, number: usize, turn: u64) -> v1::AppendResponse {
    let identity = Some(v1::append_request::Identity::Key(turn.to_be_bytes().to_vec().into()));
    let entry = Bytes::from(format!("entry {turn} of log {number}"));
    let request = v1::AppendRequest { log: format!("log-{number}"), entry, identity, ..Default::default() };
    rpc.append(request).await.expect("logged").into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_went_out_of_memory_goes_on_where_it_was() {
    let (data, disk) = (tempfile::tempdir().expect("a directory"), Disk::default());
    let limits = LimitSettings { disk_reserve_mib: 0, logs_in_memory: 2, ..LimitSettings::default() };
    let publishing = PublishOptions { interval_ms: 5, ..PublishOptions::default() };
    let (_running, mut rpc) = start(&disk, data.path(), (limits, publishing)).await;
    create_logs(data.path()).await;

    let first = disk.loaded.load(Ordering::SeqCst);
    for turn in 0..TURNS {
        let before = disk.loaded.load(Ordering::SeqCst);
        for number in 0..LOGS {
            let answer = append(&mut rpc, number, turn).await;
            assert_eq!((answer.index, answer.duplicate), (turn, false), "log {number}");
        }
        // Until one was let go and loaded again. Repeats find their first copies, in memory or not.
        while disk.loaded.load(Ordering::SeqCst) == before {
            for number in 0..LOGS {
                let answer = append(&mut rpc, number, turn).await;
                assert_eq!((answer.index, answer.duplicate), (turn, true), "log {number}");
            }
        }
    }
    assert!(disk.loaded.load(Ordering::SeqCst) >= first + TURNS);
}
