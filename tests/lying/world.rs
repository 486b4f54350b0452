//! The world of the lies: a server with five logs, and five more with copies of them that tell another story.
//!
//! ```text
//!   honest      default 300   other 300   inbox 300   audit 30   lost 70
//!   older       default 200   other 300   inbox 300   audit 20   lost 20     the directory of an earlier time
//!   regrown     default 330                                                  the same, and other entries since then
//!   rewritten   default 300                                                  entry 75 replaced, signed anew
//!   grown       default 350                                                  the same, and 50 entries more
//!   twin        default 300   other 300   inbox 300   audit 30   lost 20     the same directory, started twice
//! ```
//!
//! All of them are real processes with real keys: what they sign, the log has signed.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use logwood_client::{Client, ClientOptions, LoggedEntry, NewEntry, SETTLE_WITHIN};
use logwood_merkle::{Hash, LeafIndex, TreeHead, TreeSize};
use logwood_note::{CosigningKey, SignatureType, SignedNote, SigningKey, VerifierKey, assemble_note, sign_checkpoint};
use logwood_proto::v1::HeadLevel;
use tempfile::TempDir;

use crate::common::{Server, command, copy, raw};
use crate::forge;
use crate::proxy::{Liar, Lie, Upstream, View};

/// Entries of the log that most lies are about: a full bundle and a part of one.
pub(crate) const SIZE: u64 = 300;
/// Its size in the copy from an earlier time.
pub(crate) const OLDER: u64 = 200;
/// Entries of `audit` at the earlier time.
const AUDIT: u64 = 20;
/// How old the newest cosignature may be, in seconds; an hour is too old.
pub(crate) const AGE_MAX: &str = "600";

/// The servers, and what a liar needs to know.
pub(crate) struct World {
    dir: TempDir,
    servers: BTreeMap<&'static str, Server>,
    upstreams: Arc<dyn Fn(View) -> Arc<Upstream> + Send + Sync>,
    /// A key of the same name as that of `default`, which is not its own.
    pub(crate) impostor: Arc<SigningKey>,
    /// Entry 8 of `default`, with its receipt.
    pub(crate) neighbour: LoggedEntry,
    /// Entry 7 of `other`, with its receipt.
    pub(crate) stranger: LoggedEntry,
    /// The head of `audit` at the earlier time, cosigned an hour before.
    pub(crate) frozen: Bytes,
    /// The same, cosigned an hour after, when the log was larger.
    pub(crate) taken_back: Bytes,
    /// A witness that nobody asks.
    witness: CosigningKey,
    /// The checkpoint of `default` in the rewritten copy.
    pub(crate) forged: Vec<u8>,
    /// What `default` has signed at the earlier time in that history: a head of the same size.
    pub(crate) older_forged: Bytes,
}

/// Entry `number` of a log.
pub(crate) fn entry(log: &str, number: u64) -> Bytes {
    Bytes::from(format!("{{\"log\":\"{log}\",\"event\":{number}}}"))
}

/// Appends entries of these numbers, and waits until they are published.
async fn fill(server: &Server, log: &str, numbers: Range<u64>) {
    let client = Client::connect(ClientOptions::new(&server.url, log)).await.expect("a server");
    let entries = numbers.map(|number| NewEntry { bytes: entry(log, number), identity: None.into() }).collect();
    for outcome in client.append_batch(entries).await.expect("a verified answer") {
        outcome.expect("logged");
    }
    client.settle(HeadLevel::Published, SETTLE_WITHIN).await.expect("published");
}

/// Starts a forged copy, whose operator has done away with the anchor, and says that it is no matter.
fn start_forged(data: &Path) -> Server {
    let server = Server::start(data, 0, &[]);
    assert_eq!(command(&["logs", "thaw", "default", "--admin", "admin.sock"], data).0, Some(0));
    while raw::get(&server.http, "/logs/default/checkpoint").status != 200 {}
    server
}

impl World {
    /// Makes the logs and their false copies.
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        let data = path("honest");

        let server = Server::start(&data, 0, &[]);
        for more in [&["other"][..], &["inbox"], &["lost"], &["audit", "--ml-dsa"]] {
            let made = command(&[&["logs", "create", "--admin", "admin.sock"], more].concat(), &data);
            assert_eq!(made.0, Some(0), "{}", made.1);
        }
        for (log, size) in [("default", OLDER), ("other", SIZE), ("inbox", SIZE), ("lost", 20), ("audit", AUDIT)] {
            fill(&server, log, 0..size).await;
        }
        let audit = raw::get(&server.http, "/logs/audit/checkpoint").body;
        server.stop();
        copy(&data, &path("older"));
        copy(&data, &path("regrown"));

        let server = Server::start(&data, 0, &[]);
        fill(&server, "default", OLDER..SIZE).await;
        fill(&server, "audit", AUDIT..30).await;
        server.stop();
        copy(&data, &path("twin"));
        forge::rewrite(&data, &path("rewritten")).expect("forged");
        copy(&path("rewritten"), &path("grown"));

        let mut servers: BTreeMap<&'static str, Server> =
            ["honest", "older", "regrown", "twin"].map(|name| (name, Server::start(&path(name), 0, &[]))).into();
        servers.extend(["rewritten", "grown"].map(|name| (name, start_forged(&path(name)))));
        fill(&servers["grown"], "default", SIZE..SIZE + 50).await;
        fill(&servers["honest"], "lost", 100..150).await;
        // The anchor of its directory is as old as the rest.
        fill(&servers["regrown"], "default", 1_000..1_130).await;
        Self::observe(dir, servers, &audit).await
    }

    /// Asks the servers for what the liars need.
    ///
    /// * `audit` - the checkpoint of that log at the earlier time.
    async fn observe(dir: TempDir, servers: BTreeMap<&'static str, Server>, audit: &[u8]) -> Self {
        let upstreams: BTreeMap<_, _> =
            servers.iter().map(|(name, server)| (*name, Arc::new(Upstream::new(&server.url, &server.http)))).collect();
        let upstreams = move |view| {
            let name = match view {
                View::Honest => "honest",
                View::Older => "older",
                View::Regrown => "regrown",
                View::Rewritten => "rewritten",
                View::Grown => "grown",
                View::Twin => "twin",
            };
            Arc::clone(&upstreams[name])
        };
        let honest = &servers["honest"].url;
        let entry = async |log: &str, index| {
            let client = Client::connect(ClientOptions::new(honest, log)).await.expect("a server");
            client.get(LeafIndex(index)).await.expect("an entry")
        };
        let (neighbour, stranger) = (entry("default", 8).await, entry("other", 7).await);
        let forged = raw::get(&servers["rewritten"].http, "/logs/default/checkpoint").body;
        let origin = &neighbour.head.origin;
        let key = SigningKey::load(dir.path().join("honest/keys/default")).expect("a key");
        let older = TreeHead { size: TreeSize(OLDER), root: Hash::leaf(b"another history") };
        let older_forged = sign_checkpoint(&key, origin, &older).into();
        let impostor = Arc::new(SigningKey::generate(origin).expect("a key"));
        let second = CosigningKey::load(dir.path().join("honest/keys/audit+ml-dsa-44")).expect("its second key");
        Self {
            servers,
            upstreams: Arc::new(upstreams),
            impostor,
            neighbour,
            stranger,
            frozen: cosigned_at(audit, &second, |seconds| seconds - 3_600),
            taken_back: cosigned_at(audit, &second, |seconds| seconds + 3_600),
            witness: CosigningKey::generate("w.example", SignatureType::Ed25519Cosignature).expect("a key"),
            forged,
            older_forged,
            dir,
        }
    }

    /// A liar that passes on what `before` says, until it lies.
    pub(crate) async fn liar(&self, before: View, lie: Lie) -> Liar {
        Liar::start(Arc::clone(&self.upstreams), before, lie).await
    }

    /// The log's key for what it signs (type 0x01).
    pub(crate) fn key(&self, log: &str) -> VerifierKey {
        SigningKey::load(self.key_file(log)).expect("a key").verifier().clone()
    }

    /// All keys of the log.
    pub(crate) fn vkeys(&self, log: &str) -> Vec<String> {
        let second = CosigningKey::load(self.key_file(&format!("{log}+ml-dsa-44"))).ok();
        let second = second.map(|key| key.verifier().to_string());
        [self.key(log).to_string()].into_iter().chain(second).collect()
    }

    /// A policy for the log that asks for a witness.
    pub(crate) fn policy(&self, log: &str) -> String {
        format!("log {}\nwitness w {}\nquorum w\n", self.key(log), self.witness.verifier())
    }

    fn key_file(&self, name: &str) -> PathBuf {
        self.dir.path().join("honest/keys").join(name)
    }

    /// The log's checkpoint on one of the servers.
    pub(crate) fn checkpoint(&self, server: &str, log: &str) -> Vec<u8> {
        raw::get(&self.servers[server].http, &format!("/logs/{log}/checkpoint")).body
    }

    /// A resource of the log on the honest server.
    pub(crate) fn resource(&self, log: &str, path: &str) -> Vec<u8> {
        let answer = raw::get(&self.servers["honest"].http, &format!("/logs/{log}/{path}"));
        assert_eq!(answer.status, 200, "{path}");
        answer.body
    }

    /// The honest server itself, as a source of a monitor.
    pub(crate) fn mirror(&self, log: &str) -> String {
        format!("http://{}/logs/{log}", self.servers["honest"].http)
    }

    /// A new directory for one judge.
    pub(crate) fn place(&self) -> TempDir {
        tempfile::tempdir_in(self.dir.path()).expect("a directory")
    }
}

/// A checkpoint whose cosignature by `key` is of another time.
fn cosigned_at(note: &[u8], key: &CosigningKey, time: fn(u64) -> u64) -> Bytes {
    let note = SignedNote::parse(note).expect("a note");
    let (old, mut lines): (Vec<_>, Vec<_>) =
        note.signatures().iter().cloned().partition(|line| line.claims(key.verifier()));
    let seconds = key.verifier().timestamp(&old[0].bytes).expect("it says when it was signed");
    lines.push(key.cosign(note.text(), time(seconds)).expect("a checkpoint"));
    assemble_note(note.text(), &lines).expect("a note").into()
}
