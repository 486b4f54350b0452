//! Connections over the limit, silent ones, and peers that take nothing.

use futures_util::{FutureExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::mpsc::unbounded_channel;
use tokio_stream::iter;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::*;
use crate::limits::LimitSettings;

fn connection(first_call: Duration) -> (DuplexStream, Connection<DuplexStream>) {
    let (client, server) = duplex(64);
    let place = Budget::new(1).try_take(1).expect("a place");
    (client, Connection::new(server, place, (first_call, Duration::ZERO)))
}

/// A listener that takes two connections.
fn two() -> Limits {
    Limits::try_from(LimitSettings { connections: 2, ..LimitSettings::default() }).expect("valid")
}

#[tokio::test]
async fn where_all_are_calling_a_new_connection_is_closed_at_once_until_there_is_a_place() {
    let (later, incoming) = unbounded_channel();
    let limits = two();
    let mut incoming = Box::pin(limit(UnboundedReceiverStream::new(incoming), &limits));
    let connect = || {
        let (client, server) = duplex(64);
        later.send(io::Result::Ok(server)).expect("listening");
        client
    };
    let _clients = (connect(), connect());
    let first = incoming.next().await.expect("a connection").expect("accepted");
    let second = incoming.next().await.expect("a connection").expect("accepted");
    let calls = (first.connect_info().called(), second.connect_info().called());
    for mut client in [connect(), connect()] {
        assert!(incoming.next().now_or_never().is_none(), "there is no third place");
        assert_eq!(client.read(&mut [0]).await.expect("closed in order"), 0);
    }
    // A call that goes on keeps the peer, and not the place.
    drop(first);
    let _client = connect();
    assert!(incoming.next().await.expect("a connection").is_ok());
    drop(calls);
}

#[tokio::test]
async fn where_all_have_called_the_one_that_has_rested_longest_makes_room() {
    let mut open = Open::new(3, Duration::ZERO);
    let mut connections = [(); 3].map(|()| connection(Duration::from_hours(1)));
    let peers = connections.each_ref().map(|(_, server)| server.connect_info());
    for peer in &peers {
        open.add(peer);
    }
    let call = peers[0].called();
    drop(peers[2].called());
    drop(peers[1].called());
    // Their answers may be on the way still.
    open.rest = Duration::from_hours(1);
    assert!(open.make_room().is_none());
    open.rest = Duration::ZERO;
    for number in [2, 1] {
        assert!(open.make_room().is_some());
        let (_, server) = &mut connections[number];
        assert_eq!(server.read_u8().await.expect_err("it was put out").kind(), io::ErrorKind::TimedOut);
    }
    assert!(open.make_room().is_none(), "the first is calling");
    let (client, server) = &mut connections[0];
    client.write_all(b"x").await.expect("room");
    assert_eq!(server.read_u8().await.expect("it has its place"), b'x');
    drop(call);
}

#[tokio::test]
async fn whoever_has_waited_longest_for_a_first_call_makes_room() {
    let (later, incoming) = unbounded_channel();
    let limits = two();
    let mut incoming = Box::pin(limit(UnboundedReceiverStream::new(incoming), &limits));
    let mut clients = Vec::new();
    let mut servers = Vec::new();
    for number in 0..4 {
        let (client, server) = duplex(64);
        clients.push(client);
        later.send(io::Result::Ok(server)).expect("listening");
        servers.push(incoming.next().await.expect("a connection").expect("accepted"));
        if number == 0 {
            drop(servers[0].connect_info().called());
        }
    }
    for number in [1, 2] {
        let error = servers[number].read_u8().await.expect_err("it was put out");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(servers[number].connect_info().called());
        assert!(servers[number].read_u8().await.is_err(), "that call is too late");
    }
    for number in [0, 3] {
        clients[number].write_all(b"x").await.expect("room");
        assert_eq!(servers[number].read_u8().await.expect("it has its place"), b'x');
    }
}

#[tokio::test]
async fn whoever_is_gone_is_not_remembered_for_long() {
    let mut all = Open::new(3, Duration::ZERO);
    let (_client, open) = connection(Duration::ZERO);
    all.add(&open.peer);
    for _ in 0..100 {
        let (_client, closed) = connection(Duration::ZERO);
        all.add(&closed.peer);
        assert!(all.peers.len() <= 6);
    }
    assert!(all.make_room().is_some());
    assert!(all.make_room().is_none(), "nobody else is there");
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
    drop(server.connect_info().called());
    client.write_all(b"x").await.expect("room");
    assert_eq!(server.read_u8().await.expect("no limit of time"), b'x');
}

#[tokio::test]
async fn a_peer_that_takes_no_answer_for_too_long_loses_its_connection() {
    let (mut client, mut server) = connection(Duration::ZERO);
    let peer = server.connect_info();
    let _call = peer.called();
    let (first, second) = (peer.sending(), peer.sending());
    assert!(!peer.leaves_unread(Duration::from_hours(1)) && peer.leaves_unread(Duration::ZERO));
    drop(first);
    client.write_all(b"xy").await.expect("room");
    assert_eq!(server.read_u8().await.expect_err("one is left").kind(), io::ErrorKind::TimedOut);
    drop(second);
    assert_eq!(server.read_u8().await.expect("all were taken"), b'x');
}
