//! A disk that fills up: the log halts, reads go on, and appends are taken again once there is room.

mod common;

use std::sync::atomic::Ordering;

use bytes::Bytes;
use logwood_proto::v1;
use logwood_proto::v1::log_service_client::LogServiceClient;
use logwood_server::{LimitSettings, PublishOptions, ServeError, serve};
use tonic::transport::Channel;
use tonic::{Code, Status};

use common::{Disk, options, start};

const GIB: u64 = 1 << 30;

async fn append(rpc: &mut LogServiceClient<Channel>, entry: &'static [u8]) -> Result<u64, Status> {
    let entry = Bytes::from_static(entry);
    let request = v1::AppendRequest { log: "default".into(), entry, ..Default::default() };
    Ok(rpc.append(request).await?.into_inner().index)
}

async fn read(rpc: &mut LogServiceClient<Channel>) -> Result<Bytes, Status> {
    let by = Some(v1::get_entry_request::By::Index(0));
    let request = v1::GetEntryRequest { log: "default".into(), by, ..Default::default() };
    Ok(rpc.get_entry(request).await?.into_inner().entry)
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_go_on_while_a_full_disk_halts_the_log_and_it_heals_once_there_is_room() {
    let data = tempfile::tempdir().expect("a directory");
    let disk = Disk::default();
    disk.free.store(GIB, Ordering::SeqCst);
    let limits = LimitSettings { disk_reserve_mib: 0, ..LimitSettings::default() };
    let (_running, mut rpc) = start(&disk, data.path(), (limits, PublishOptions::default())).await;
    assert_eq!(append(&mut rpc, b"before").await.expect("logged"), 0);

    disk.free.store(0, Ordering::SeqCst);
    disk.is_full.store(true, Ordering::SeqCst);
    // It is not opened again, which would close it for reads, until there is as much room as opening takes.
    disk.opening.store(200 << 20, Ordering::SeqCst);
    for free in [0, (200 << 20) - 1] {
        disk.free.store(free, Ordering::SeqCst);
        let looks = disk.looks.load(Ordering::SeqCst);
        while disk.looks.load(Ordering::SeqCst) == looks {
            read(&mut rpc).await.expect("reads go on");
            let _ = append(&mut rpc, b"no room").await.expect_err("the disk is full");
        }
        assert_eq!(append(&mut rpc, b"no room").await.expect_err("the disk is full").code(), Code::Unavailable);
        assert_eq!(read(&mut rpc).await.expect("reads go on"), &b"before"[..]);
    }
    assert_eq!(disk.opened.load(Ordering::SeqCst), 1, "the store is not closed while it could not be opened again");

    disk.is_full.store(false, Ordering::SeqCst);
    disk.free.store(GIB, Ordering::SeqCst);
    // The server looks every two seconds, also while it is asked all the time.
    let index = loop {
        match append(&mut rpc, b"after").await {
            Ok(index) => break index,
            Err(status) => assert_eq!(status.code(), Code::Unavailable),
        }
    };
    assert_eq!(index, 1, "nothing that was refused is there");
    assert_eq!(read(&mut rpc).await.expect("served"), &b"before"[..]);
    assert_eq!(disk.opened.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_on_a_full_disk_says_so_and_how_much_it_needs() {
    let data = tempfile::tempdir().expect("a directory");
    let disk = Disk::default();
    let limits = LimitSettings { disk_reserve_mib: 0, ..LimitSettings::default() };
    // Found by a look at the free space, or by the store.
    for (free, is_full) in [((64 << 20) - 1, false), (GIB, true)] {
        disk.free.store(free, Ordering::SeqCst);
        disk.is_full.store(is_full, Ordering::SeqCst);
        let options = options(&disk, data.path(), (limits, PublishOptions::default()));
        let refused = serve(options, |_| (), std::future::pending()).await.expect_err("there is no room");
        assert!(matches!(refused, ServeError::DiskFull { .. }), "{refused:?}");
        let text = refused.to_string();
        assert!(text.contains(&format!("{} MiB are free", free >> 20)) && text.contains("needs 64 MiB"), "{text}");
        assert!(text.contains("Nothing is lost"), "{text}");
        assert_eq!(disk.opened.load(Ordering::SeqCst), 0, "the store is left alone");
    }
    disk.is_full.store(false, Ordering::SeqCst);
    let (_running, mut rpc) = start(&disk, data.path(), (limits, PublishOptions::default())).await;
    assert_eq!(append(&mut rpc, b"with room").await.expect("logged"), 0);
}
