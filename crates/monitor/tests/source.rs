//! Deadlines, against a server whose answer never ends; and which URLs are sources.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::pin::Pin;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use logwood_client::TlsOptions;
use logwood_monitor::failure::Failure;
use logwood_monitor::source::{Source, SourceError};
use logwood_monitor::tiles::World;
use tokio::sync::Notify;

/// A world in which time passes when it is told to.
#[derive(Default)]
struct TestWorld {
    passes: Arc<Notify>,
}

impl World for TestWorld {
    fn sleep(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let passes = Arc::clone(&self.passes);
        Box::pin(async move { passes.notified().await })
    }

    fn random(&self) -> u32 {
        0
    }
}

fn parse(url: &str, world: &Arc<dyn World>) -> Result<Vec<Source>, SourceError> {
    let origins = ["one.example/log".to_owned(), "two.example/log".to_owned()];
    Source::parse(url, &origins, None, &TlsOptions::default(), world)
}

#[tokio::test]
async fn an_answer_that_never_ends_is_given_up_at_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/log", listener.local_addr().expect("bound"));
    let passes = Arc::new(Notify::new());
    let world: Arc<dyn World> = Arc::new(TestWorld { passes: Arc::clone(&passes) });
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").and_then(|()| stream.write_all(&[b'a'; 1_000])).expect("it reads");
        // It has begun, and will never end; then the time is over.
        passes.notify_one();
        // The request, and then nothing until the client hangs up.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let source = parse(&url, &world).expect("a source").remove(0);
    let failure = source.checkpoint().await.expect_err("it never ends");
    assert_eq!(failure, Failure::unavailable("checkpoint", "no answer within 60 seconds"));
}

#[test]
fn urls_are_of_a_kind_that_is_known_and_a_witness_is_one_source_for_each_log() {
    let world: Arc<dyn World> = Arc::new(TestWorld::default());
    let count = |url: &str| parse(url, &world).map(|sources| (sources.len(), sources[0].has_entries())).ok();
    for url in ["http://a.example/log", "https://a.example", "grpc://a.example:7070", "grpcs://a.example/audit/"] {
        assert_eq!(count(url), Some((1, true)), "{url}");
    }
    for url in ["witness+http://w.example/prefix/", "witness+https://w.example"] {
        assert_eq!(count(url), Some((2, false)), "{url}");
    }
    for url in ["", "a.example", "ftp://a.example", "witness+ftp://a.example", "http://", "witness://a.example"] {
        assert_eq!(count(url), None, "{url}");
    }
}
