//! Who keeps a connection when there are too many.

use axum::Extension;
use axum::body::Bytes;
use axum::routing::post;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;

use super::*;

/// A server that answers a request when it gets a permit.
struct Site {
    address: std::net::SocketAddr,
    permits: Arc<Semaphore>,
    /// A permit for each request that came.
    asked: Arc<Semaphore>,
}

impl Site {
    async fn start(permits: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let (address, permits) = (listener.local_addr().expect("bound"), Arc::new(Semaphore::new(permits)));
        let (gate, asked) = (Arc::clone(&permits), Arc::new(Semaphore::new(0)));
        let came = Arc::clone(&asked);
        let answer = move |Extension(peer): Extension<Arc<Peer>>, _: Bytes| async move {
            peer.has_asked();
            came.add_permits(1);
            gate.acquire().await.expect("open").forget();
            "answer"
        };
        tokio::spawn(serve(listener, Router::new().route("/", post(answer)), std::future::pending()));
        Self { address, permits, asked }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("a connection")
    }

    async fn silent(&self, count: usize) -> Vec<TcpStream> {
        let mut peers = Vec::new();
        for _ in 0..count {
            peers.push(self.connect().await);
        }
        peers
    }
}

/// A request, but for its body.
const HEAD: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n";
const TAIL: &[u8] = b"body";

async fn ask(peer: &mut TcpStream) {
    peer.write_all(&[HEAD, TAIL].concat()).await.expect("sent");
}

/// Whether the peer is answered, rather than hung up on.
async fn is_answered(peer: &mut TcpStream) -> bool {
    let mut bytes = [0; 12];
    peer.read_exact(&mut bytes).await.is_ok() && bytes == *b"HTTP/1.1 200"
}

#[tokio::test]
async fn a_new_peer_takes_the_place_of_the_one_that_has_been_silent_for_longest() {
    let site = Site::start(CONNECTIONS_MAX).await;
    let mut silent = site.silent(CONNECTIONS_MAX).await;
    let mut new = site.connect().await;
    ask(&mut new).await;
    assert!(is_answered(&mut new).await);
    assert!(!is_answered(&mut silent[0]).await, "hung up on");
    for peer in &mut silent[1..] {
        ask(peer).await;
        assert!(is_answered(peer).await, "there was room for it");
    }
}

#[tokio::test]
async fn a_peer_that_owes_the_rest_of_its_request_is_silent() {
    let site = Site::start(CONNECTIONS_MAX).await;
    let mut slow = site.connect().await;
    slow.write_all(HEAD).await.expect("sent");
    let mut silent = site.silent(CONNECTIONS_MAX - 1).await;
    for peer in &mut silent {
        ask(peer).await;
        assert!(is_answered(peer).await);
    }
    let mut new = site.connect().await;
    ask(&mut new).await;
    assert!(is_answered(&mut new).await);
    assert!(!is_answered(&mut slow).await, "hung up on");
}

#[tokio::test]
async fn a_peer_that_waits_for_its_answer_keeps_its_place() {
    let site = Site::start(0).await;
    let mut asking = site.connect().await;
    ask(&mut asking).await;
    drop(site.asked.acquire().await.expect("open"));
    // Silent since later than the first one asked.
    let mut silent = site.silent(CONNECTIONS_MAX - 1).await;
    let mut new = site.connect().await;
    ask(&mut new).await;
    assert!(!is_answered(&mut silent[0]).await, "hung up on");
    site.permits.add_permits(2);
    assert!(is_answered(&mut asking).await && is_answered(&mut new).await);
}
