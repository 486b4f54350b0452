//! An HTTP/1.1 server that answers as a test tells it to, lies and cuts connections if need be.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// What a request gets.
pub(crate) enum Answer {
    Body(Vec<u8>),
    /// With `Content-Encoding: gzip`, as it is.
    Gzip(Vec<u8>),
    /// With `Retry-After: 0`.
    Status(u16),
    /// This much of a body that was said to be longer.
    Cut(Vec<u8>),
    /// The same, with `Content-Encoding: gzip`.
    CutGzip(Vec<u8>),
    /// This over and over, until the client has enough.
    Endless(Vec<u8>),
    /// Nothing, for as long as the client waits.
    #[allow(dead_code, reason = "fsck's own tests do not wait so long")]
    Silence,
}

/// A server on the loopback, as long as the test's process lives.
pub(crate) struct Server {
    pub(crate) url: String,
    requests: Arc<Mutex<HashMap<String, u32>>>,
}

impl Server {
    /// Answers `GET /<path>` with `answer(path, n)`, where n counts the requests of that path from 1.
    pub(crate) fn start(answer: impl Fn(&str, u32) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}/log", listener.local_addr().expect("bound"));
        let requests: Arc<Mutex<HashMap<String, u32>>> = Arc::default();
        let (answer, counts) = (Arc::new(answer), Arc::clone(&requests));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (answer, counts) = (Arc::clone(&answer), Arc::clone(&counts));
                thread::spawn(move || serve(&stream.expect("a connection"), &*answer, &counts));
            }
        });
        Self { url, requests }
    }

    /// How often `path` was asked for.
    pub(crate) fn requests(&self, path: &str) -> u32 {
        self.requests.lock().expect("no panic").get(path).copied().unwrap_or_default()
    }
}

fn serve(mut stream: &TcpStream, answer: &dyn Fn(&str, u32) -> Answer, counts: &Mutex<HashMap<String, u32>>) {
    let mut lines = BufReader::new(stream).lines();
    let Some(Ok(first)) = lines.next() else { return };
    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
    let path = first.split(' ').nth(1).and_then(|path| path.strip_prefix("/log/")).expect("below the log's URL");
    let count = {
        let mut counts = counts.lock().expect("no panic");
        let count = counts.entry(path.to_owned()).or_default();
        *count += 1;
        *count
    };
    let head = |status: u16, fields: &str| format!("HTTP/1.1 {status} Word\r\nconnection: close\r\n{fields}\r\n");
    let sized = |length: usize, more: &str| head(200, &format!("content-length: {length}\r\n{more}"));
    let (head, body, endless) = match answer(path, count) {
        Answer::Silence => return drop(std::io::copy(&mut stream, &mut std::io::sink())),
        Answer::Body(body) => (sized(body.len(), ""), body, false),
        Answer::Gzip(body) => (sized(body.len(), "content-encoding: gzip\r\n"), body, false),
        Answer::Status(status) => (head(status, "content-length: 0\r\nretry-after: 0\r\n"), Vec::new(), false),
        Answer::Cut(body) => (sized(body.len() + 1, ""), body, false),
        Answer::CutGzip(body) => (sized(body.len() + 1, "content-encoding: gzip\r\n"), body, false),
        Answer::Endless(body) => (head(200, ""), body, true),
    };
    // A client that has enough, or has seen a lie, goes away: that ends the writing.
    let mut sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
    while endless && sent.is_ok() {
        sent = stream.write_all(&body);
    }
}
