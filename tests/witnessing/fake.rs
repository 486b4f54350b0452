//! A witness in the test's own process, which answers what the test wants, when the test wants it.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use logwood_note::{AddCheckpoint, Checkpoint, CosigningKey, SignatureType};

/// What a fake answers to the body of a request.
type Answer = dyn Fn(&[u8]) -> (u16, Vec<u8>) + Send + Sync;

/// When requests came, and the size of the checkpoint in each.
pub type Requests = Arc<Mutex<Vec<(Instant, u64)>>>;

/// Holds back every answer until it is opened.
#[derive(Default)]
pub struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    pub fn open(&self) {
        *self.is_open.lock().expect("no panics") = true;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let is_open = self.is_open.lock().expect("no panics");
        drop(self.opened.wait_while(is_open, |is_open| !*is_open).expect("no panics"));
    }
}

/// The `witness` line of a fake.
pub struct Fake {
    pub line: String,
}

impl Fake {
    /// Cosigns everything, once `gate` is open.
    pub fn slow(name: &str, gate: &Arc<Gate>) -> Self {
        let key = CosigningKey::generate(name, SignatureType::Ed25519Cosignature).expect("a key");
        let (vkey, gate) = (key.verifier().to_string(), Arc::clone(gate));
        Self::start(name, &vkey, move |body| {
            gate.pass();
            let request = AddCheckpoint::parse(body).expect("a log sends what is well-formed");
            let line = key.cosign(request.checkpoint.text(), 1_800_000_000).expect("a checkpoint");
            (200, format!("{line}\n").into_bytes())
        })
    }

    /// Cosigns everything at once, and writes down what it was sent and when.
    pub fn recording(name: &str) -> (Self, Requests) {
        let key = CosigningKey::generate(name, SignatureType::Ed25519Cosignature).expect("a key");
        let (vkey, requests) = (key.verifier().to_string(), Requests::default());
        let record = Arc::clone(&requests);
        let fake = Self::start(name, &vkey, move |body| {
            let request = AddCheckpoint::parse(body).expect("a log sends what is well-formed");
            let head = Checkpoint::parse_text(request.checkpoint.text()).expect("a checkpoint").head;
            record.lock().expect("no panics").push((Instant::now(), head.size.0));
            let line = key.cosign(request.checkpoint.text(), 1_800_000_000).expect("a checkpoint");
            (200, format!("{line}\n").into_bytes())
        });
        (fake, requests)
    }

    /// Always answers the same.
    pub fn stubborn(name: &str, status: u16, body: &'static str) -> Self {
        let key = CosigningKey::generate(name, SignatureType::Ed25519Cosignature).expect("a key");
        Self::start(name, &key.verifier().to_string(), move |_| (status, body.into()))
    }

    /// Cannot be reached: nobody listens on port 1.
    pub fn down(name: &str) -> Self {
        let key = CosigningKey::generate(name, SignatureType::Ed25519Cosignature).expect("a key");
        Self { line: format!("witness {name} {} http://127.0.0.1:1/{name}\n", key.verifier()) }
    }

    /// The `witness` line of another key of this witness, at the same URL.
    pub fn with_key(&self, name: &str) -> String {
        let key = CosigningKey::generate(name, SignatureType::Ed25519Cosignature).expect("a key");
        let url = self.line.rsplit(' ').next().expect("a URL");
        format!("witness {name} {} {url}", key.verifier())
    }

    fn start(name: &str, vkey: &str, answer: impl Fn(&[u8]) -> (u16, Vec<u8>) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let answer: Arc<Answer> = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let answer = Arc::clone(&answer);
                std::thread::spawn(move || serve(stream.expect("a connection"), &*answer));
            }
        });
        Self { line: format!("witness {name} {vkey} http://{address}\n") }
    }
}

/// One request of one connection. Whoever hangs up gets no answer.
fn serve(mut stream: TcpStream, answer: &Answer) -> Option<()> {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4_096]);
    let head = loop {
        let read = stream.read(&mut chunk).ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&chunk[..read]);
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok()).unwrap_or(0);
    while bytes.len() < head + length {
        let read = stream.read(&mut chunk).ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&chunk[..read]);
    }
    let (status, body) = answer(&bytes[head..]);
    let head = format!("HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), &body].concat()).ok()
}
