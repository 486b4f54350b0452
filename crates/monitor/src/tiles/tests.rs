//! How often a resource is asked for, and how long is waited in between: against a server that answers by a script, in
//! a world whose clock costs no time.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::Mutex;
use std::thread;

use super::*;

/// Remembers each wait, and takes none.
#[derive(Default)]
struct PatientWorld {
    waits: Mutex<Vec<Duration>>,
}

impl World for PatientWorld {
    fn sleep(&self, wait: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.waits.lock().expect("no panic").push(wait);
        Box::pin(std::future::ready(()))
    }

    fn random(&self) -> u32 {
        u32::MAX
    }
}

/// Fetches the checkpoint from a server that gives `answers`, one a connection; the outcome, and the waits.
async fn checkpoint(answers: &'static [&'static str]) -> (Result<Vec<u8>, Failure>, Vec<Duration>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/log", listener.local_addr().expect("bound")).parse().expect("a URL");
    let server = thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut lines = BufReader::new(&stream).lines();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            stream.write_all(answer.as_bytes()).expect("the client reads");
        }
    });
    let world = Arc::new(PatientWorld::default());
    let source = Source::new(&url, None, Arc::clone(&world) as Arc<dyn World>).expect("a client");
    let outcome = source.checkpoint().await;
    server.join().expect("each answer was asked for");
    let waits = world.waits.lock().expect("no panic").clone();
    (outcome, waits)
}

const BUSY: &str = "HTTP/1.1 503 Busy\r\nretry-after: 7\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const BROKEN: &str = "HTTP/1.1 500 Broken\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const CUT: &str = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\nconnection: close\r\n\r\nhead";
const GOOD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nnote";

#[tokio::test]
async fn the_servers_own_wait_is_kept_and_others_double() {
    let (outcome, waits) = checkpoint(&[BUSY, BROKEN, CUT, BUSY, GOOD]).await;
    assert_eq!(outcome.expect("the last answer is good"), b"note");
    assert_eq!(waits, [7_000, 500, 1_000, 7_000].map(Duration::from_millis));
}

#[tokio::test]
async fn after_six_attempts_it_is_unavailable() {
    let (outcome, waits) = checkpoint(&[BROKEN, BROKEN, BROKEN, BROKEN, BROKEN, CUT]).await;
    let failure = outcome.expect_err("there was no good answer");
    assert_eq!(failure.path, "checkpoint");
    assert!(matches!(failure.problem, Problem::Unavailable(reason) if reason.contains("6 attempts")));
    assert_eq!(waits.len(), 5);
}

#[tokio::test]
async fn what_will_not_pass_is_asked_for_once() {
    for answer in [
        &["HTTP/1.1 403 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"],
        &["HTTP/1.1 200 OK\r\ncontent-encoding: br\r\ncontent-length: 4\r\nconnection: close\r\n\r\nnote"],
        &["HTTP/1.1 204 Nothing\r\nconnection: close\r\n\r\n"],
    ] {
        let (outcome, waits) = checkpoint(answer).await;
        assert!(matches!(outcome.expect_err("refused").problem, Problem::Unavailable(_)), "{answer:?}");
        assert!(waits.is_empty());
    }
}
