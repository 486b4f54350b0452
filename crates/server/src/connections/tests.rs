//! Connections over the limit, silent ones, and peers that take nothing.

use futures_util::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio_stream::iter;

use super::*;
use crate::limits::LimitSettings;

fn connection(first_call: Duration) -> (DuplexStream, Connection<DuplexStream>) {
    let (client, server) = duplex(64);
    let place = Budget::new(1).try_take(1).expect("a place");
    (client, Connection::new(server, place, (first_call, Duration::ZERO)))
}

#[tokio::test]
async fn a_connection_over_the_limit_is_closed_at_once_and_a_place_can_be_taken_again() {
    let limits = Limits::try_from(LimitSettings { connections: 2, ..LimitSettings::default() }).expect("valid");
    let (mut clients, servers): (Vec<_>, Vec<_>) = (0..3).map(|_| duplex(64)).unzip();
    let (mut last, another) = duplex(64);
    let (later, incoming) = tokio::sync::mpsc::unbounded_channel();
    for server in servers {
        later.send(Ok(server)).expect("listening");
    }
    let mut incoming = Box::pin(limit(tokio_stream::wrappers::UnboundedReceiverStream::new(incoming), &limits));
    let first = incoming.next().await.expect("a connection").expect("accepted");
    let _second = incoming.next().await.expect("a connection").expect("accepted");
    later.send(Ok(another)).expect("listening");
    assert!(futures_util::FutureExt::now_or_never(incoming.next()).is_none(), "there is no third place");
    assert_eq!(clients[2].read(&mut [0]).await.expect("closed in order"), 0);
    assert_eq!(last.read(&mut [0]).await.expect("closed in order"), 0);
    drop(first);
    let (_client, server) = duplex(64);
    later.send(Ok(server)).expect("listening");
    assert!(incoming.next().await.expect("a connection").is_ok());
    clients.clear();
}

#[tokio::test]
async fn errors_of_the_listener_are_passed_on() {
    let errors = iter([Err::<DuplexStream, _>(io::Error::from(io::ErrorKind::ConnectionAborted))]);
    let found = limit(errors, &Limits::default()).map(|connection| connection.is_err()).collect::<Vec<_>>().await;
    assert_eq!(found, [true]);
}

#[tokio::test]
async fn a_connection_without_a_call_in_time_is_closed_whatever_it_sends() {
    let (mut client, mut server) = connection(Duration::ZERO);
    client.write_all(b"PRI * HTTP/2.0").await.expect("room");
    let mut buf = Vec::new();
    let error = server.read_to_end(&mut buf).await.expect_err("too late");
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn a_connection_with_a_call_may_stay() {
    let (mut client, mut server) = connection(Duration::ZERO);
    server.connect_info().called();
    client.write_all(b"x").await.expect("room");
    assert_eq!(server.read_u8().await.expect("no limit of time"), b'x');
}

#[tokio::test]
async fn a_peer_that_takes_no_answer_for_too_long_loses_its_connection() {
    let (mut client, mut server) = connection(Duration::ZERO);
    let peer = server.connect_info();
    peer.called();
    let (first, second) = (peer.sending(), peer.sending());
    assert!(!peer.leaves_unread(Duration::from_hours(1)) && peer.leaves_unread(Duration::ZERO));
    drop(first);
    client.write_all(b"xy").await.expect("room");
    assert_eq!(server.read_u8().await.expect_err("one is left").kind(), io::ErrorKind::TimedOut);
    drop(second);
    assert_eq!(server.read_u8().await.expect("all were taken"), b'x');
}
