//! Real audit logs, appended by several processes at once through kills of the server: every line is there, byte for
//! byte, once, and under a receipt that verifies.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use bytes::Bytes;
use common::{Server, eventually, logwood, outcome};
use logwood_client::{Client, ClientOptions};
use logwood_note::{Receipt, VerifierKey};

/// Receipts on disk at which the server is killed.
const KILLS_AT: [usize; 2] = [1_000, 6_000];

/// Lines that no real log here has: as short and as long as may be, no UTF-8, a CR, twice the same, no LF at the end.
fn odd_lines() -> Vec<u8> {
    let long = vec![b'x'; 65_535];
    let lines: [&[u8]; 7] = [b"1", &long, b"\xff\xfe\x80", b"CR\r", b"same", b"same", b"no LF at the end"];
    lines.join(&b'\n')
}

/// The `*.ndjson` and `*.log` files of the public data; without that, made up ones.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Some(data) = common::shared_data() else {
        eprintln!("no public data (LOGWOOD_SHARED): made up lines instead");
        for name in ["a.log", "b.log", "c.log"] {
            let lines: Vec<_> = (0..2_500).map(|number| format!("{name}: event {number}")).collect();
            fs::write(dir.join(name), lines.join("\n")).expect("written");
            found.push(dir.join(name));
        }
        return found;
    };
    let mut open = vec![data];
    while let Some(dir) = open.pop() {
        for file in fs::read_dir(dir).expect("readable") {
            let path = file.expect("readable").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "ndjson" || extension == "log") {
                found.push(fs::canonicalize(path).expect("it is there"));
            }
        }
    }
    found.sort();
    found
}

/// One run of `logwood append`.
struct Appender {
    file: PathBuf,
    receipts: PathBuf,
    child: Child,
}

impl Appender {
    fn start(server: &Server, dir: &Path, (number, file): (usize, PathBuf)) -> Self {
        let receipts = dir.join(format!("receipts-{number}"));
        // All of them share one memory.
        let child = logwood(server, dir, "state")
            .args(["append", "--vkey", &server.vkey, "--receipts"])
            .args([&receipts, &file])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command runs");
        Self { file, receipts, child }
    }

    /// Waits for its end; file, receipts, and the run's id.
    fn finish(self) -> (PathBuf, PathBuf, String) {
        let (code, out, err) = outcome(&self.child.wait_with_output().expect("it ends"));
        assert_eq!(code, Some(0), "{}: {out}{err}", self.file.display());
        assert!(out.contains("settled: "), "{out}");
        let run = err.split("--resume ").nth(1).expect("the run id is printed");
        (self.file, self.receipts, run.trim().to_owned())
    }
}

fn count(directory: &Path) -> usize {
    fs::read_dir(directory).map_or(0, Iterator::count)
}

/// Waits until so many receipts are there.
async fn wait_for_receipts(appenders: &[Appender], wanted: usize) {
    let are_there = || appenders.iter().map(|appender| count(&appender.receipts)).sum::<usize>() >= wanted;
    eventually("receipts are written", are_there).await;
}

/// Checks every receipt in `directory` offline; the index of each line.
fn check_receipts(directory: &Path, lines: &[&[u8]], key: &VerifierKey) -> Vec<u64> {
    assert_eq!(count(directory), lines.len(), "a receipt a line");
    let check = |(number, line): (usize, &&[u8])| {
        let receipt = fs::read(directory.join(format!("{number}.tlog-proof"))).expect("a receipt a line");
        let receipt = Receipt::parse(&receipt).expect("well-formed");
        receipt.verify(line, key, None).expect("every receipt verifies");
        receipt.index.0
    };
    (1..).zip(lines).map(check).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn real_lines_survive_kills_byte_for_byte_and_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let (dir, data) = (dir.path(), dir.path().join("data"));
    let mut files = files(dir);
    assert!(files.len() > 2, "several processes at once");
    fs::write(dir.join("odd"), odd_lines()).expect("written");
    files.push(dir.join("odd"));

    let mut server = Server::start(&data, 0, &[]);
    let key: VerifierKey = server.vkey.parse().expect("a verifier key");
    let appenders: Vec<_> = files.into_iter().enumerate().map(|file| Appender::start(&server, dir, file)).collect();
    for wanted in KILLS_AT {
        wait_for_receipts(&appenders, wanted).await;
        let port = server.port;
        drop(server);
        server = Server::start(&data, port, &[]);
    }
    let runs: Vec<_> = appenders.into_iter().map(Appender::finish).collect();

    let options = ClientOptions { vkey: Some(key.clone()), ..ClientOptions::new(&server.url, "default") };
    let client = Client::connect(options).await.expect("the server answers");
    let mut logged: BTreeMap<u64, Bytes> = BTreeMap::new();
    client.read_range(0, 0, |index, entry| drop(logged.insert(index.0, entry))).await.expect("all of it verifies");
    for (file, receipts, _) in &runs {
        let bytes = fs::read(file).expect("readable");
        let lines: Vec<_> = bytes.strip_suffix(b"\n").unwrap_or(&bytes).split(|byte| *byte == b'\n').collect();
        let indices = check_receipts(receipts, &lines, &key);
        assert!(indices.is_sorted(), "{}: the lines of a file keep their order", file.display());
        for (index, line) in indices.iter().zip(&lines) {
            let entry = logged.remove(index).expect("one index an entry, one entry an index");
            assert_eq!(entry, *line, "{}: byte for byte", file.display());
        }
    }
    assert!(logged.is_empty(), "nothing is in the log that nobody appended");

    // The same identities again: every line has its index already.
    let (file, receipts, run) = &runs[runs.len() - 2];
    let command = &mut logwood(&server, dir, "state");
    let again = dir.join("again");
    let output = command.args(["append", "--resume", run, "--receipts"]).args([&again, file]).output().expect("runs");
    let (code, out, err) = outcome(&output);
    assert!(code == Some(0) && out.starts_with("0 appended; "), "{out}{err}");
    for number in 1..=count(&again) {
        let name = format!("{number}.tlog-proof");
        let index = |dir: &Path| Receipt::parse(&fs::read(dir.join(&name)).expect("there")).expect("good").index;
        assert_eq!(index(receipts), index(&again), "one index an identity");
    }
    let vkey = server.vkey.clone();
    tokio::task::block_in_place(|| server.stop());
    let fsck = std::process::Command::new(common::LOGWOOD).args(["fsck", "--vkey", &vkey]).arg(&data).output();
    let (code, out, err) = outcome(&fsck.expect("fsck runs"));
    assert_eq!(code, Some(0), "{out}{err}");
}
