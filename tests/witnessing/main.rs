//! A real server with witnesses: real ones, slow ones, liars, and none that can be reached.
#![allow(unreachable_pub, reason = "the modules are of this program alone")]

#[path = "../common/mod.rs"]
mod common;
mod fake;
mod process;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::raw::{get, request};
use common::{LOGWOOD, Server, copy, eventually, outcome};
use fake::{Fake, Gate};
use logwood_merkle::LeafIndex;
use logwood_note::{Checkpoint, Policy, Receipt};
use logwood_proto::v1::log_service_client::LogServiceClient;
use logwood_proto::v1::{self, HeadLevel};
use process::WitnessProcess;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

type Rpc = LogServiceClient<Channel>;

/// A directory with the data of a log that has two entries, both published.
struct Site {
    dir: tempfile::TempDir,
    vkey: String,
    origin: String,
}

impl Site {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let server = Server::start(&dir.path().join("data"), 0, &[]);
        let mut rpc = connect(&server).await;
        for entry in ["one", "two"] {
            append(&mut rpc, entry, HeadLevel::Unspecified).await.expect("appended");
        }
        let vkey = server.vkey.clone();
        watch(&mut rpc, HeadLevel::Published, 2).await;
        server.stop();
        let origin = vkey.split('+').next().expect("a name").to_owned();
        Self { dir, vkey, origin }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes the policy of the log, for itself and for verifiers, and a configuration that names it.
    fn configure(&self, witnesses: &[&str], quorum: &str, settings: &str, of_log: &str) -> String {
        let policy = format!("log {}\n{}{quorum}\n", self.vkey, witnesses.concat());
        std::fs::write(self.path("policy"), policy).expect("written");
        let policy = self.path("policy").display().to_string();
        let text = format!("publish-interval-ms = 20\n{settings}\n[logs.default]\npolicy = \"{policy}\"\n{of_log}\n");
        std::fs::write(self.path("config"), text).expect("written");
        self.path("config").display().to_string()
    }

    fn start(&self, data: &str, config: &str, arguments: &[&str]) -> Server {
        Server::start(&self.path(data), 0, &[&["--config", config], arguments].concat())
    }

    fn policy(&self) -> Policy {
        Policy::parse(&std::fs::read(self.path("policy")).expect("readable")).expect("a policy")
    }

    /// Whether `logwood verify` believes the receipt under the policy, offline.
    fn verify(&self, answer: &v1::AppendResponse, entry: &str) -> (Option<i32>, String) {
        let proof = answer.inclusion.iter().map(|hash| (&hash[..]).try_into().expect("a hash")).collect();
        let checkpoint = answer.head.as_ref().expect("a head").checkpoint.to_vec();
        let receipt = Receipt { extra: None, index: LeafIndex(answer.index), proof, checkpoint };
        std::fs::write(self.path("receipt"), receipt.to_bytes()).expect("written");
        std::fs::write(self.path("entry"), entry).expect("written");
        let mut command = Command::new(LOGWOOD);
        command.current_dir(self.dir.path()).args(["verify", "--policy", "policy", "receipt", "entry"]);
        let (code, out, err) = outcome(&command.output().expect("it runs"));
        (code, out + &err)
    }
}

async fn connect(server: &Server) -> Rpc {
    Rpc::connect(server.url.clone()).await.expect("it listens")
}

async fn append(rpc: &mut Rpc, entry: &str, wait: HeadLevel) -> Result<v1::AppendResponse, Status> {
    let identity = Some(v1::append_request::Identity::Key(entry.to_owned().into()));
    let entry = Bytes::from(entry.to_owned());
    let request = v1::AppendRequest { log: "default".into(), entry, identity, wait: wait.into(), ..Default::default() };
    rpc.append(request).await.map(tonic::Response::into_inner)
}

/// Appends, again and again while the log asks its witnesses or has not reached the level; for a minute at most.
async fn append_at_last(rpc: &mut Rpc, entry: &str, wait: HeadLevel) -> Result<v1::AppendResponse, Status> {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        match append(rpc, entry, wait).await {
            Err(status) if status.code() == Code::Unavailable && Instant::now() < deadline => {}
            Ok(answer) if level(&answer) < wait && Instant::now() < deadline => {}
            answer => return answer,
        }
    }
}

async fn head(rpc: &mut Rpc, level: HeadLevel) -> Result<v1::SignedTreeHead, Status> {
    let request = v1::GetTreeHeadRequest { log: "default".into(), level: level.into(), known_size: 0 };
    Ok(rpc.get_tree_head(request).await?.into_inner().head.expect("a head"))
}

/// The first head from `from_size` on that has the level, as soon as there is one.
async fn watch(rpc: &mut Rpc, level: HeadLevel, from_size: u64) -> v1::SignedTreeHead {
    let request = v1::WatchTreeHeadsRequest { log: "default".into(), from_size, known_size: 0, level: level.into() };
    let mut heads = rpc.watch_tree_heads(request).await.expect("a stream").into_inner();
    heads.message().await.expect("no end").expect("no end").head.expect("a head")
}

fn level(answer: &v1::AppendResponse) -> HeadLevel {
    answer.head.as_ref().expect("a head").level()
}

fn size(head: &v1::SignedTreeHead) -> u64 {
    Checkpoint::parse_unverified(&head.checkpoint).expect("a checkpoint").head.size.0
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

fn checkpoint(server: &Server) -> Vec<u8> {
    get(&server.http, "/logs/default/checkpoint").body
}

/// Has `witness` cosign the log's published head, as if it had been asked by somebody else.
fn introduce(witness: &WitnessProcess, server: &Server) {
    let body = [b"old 0\n\n", &checkpoint(server)[..]].concat();
    assert_eq!(request(&witness.address, "POST", "/add-checkpoint", &[], &body).status, 200);
}

fn describe(server: &Server, dir: &Path) -> serde_json::Value {
    let mut command = common::logwood(server, dir, "state");
    let output = command.args(["logs", "describe", "--json"]).output().expect("it runs");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn with_one_witness_down_one_slow_and_one_at_another_size_appends_go_on_and_the_quorum_is_met() {
    let site = Site::new().await;
    let (gate, elsewhere) =
        (Arc::new(Gate::default()), WitnessProcess::start(site.dir.path(), "elsewhere", &site.vkey));
    let server = Server::start(&site.path("data"), 0, &[]);
    introduce(&elsewhere, &server);
    append(&mut connect(&server).await, "three", HeadLevel::Published).await.expect("appended");
    server.stop();
    let slow = Fake::slow("slow", &gate);
    let down = Fake::down("down");
    let quorum = "group two 2 down slow elsewhere\nquorum two";
    let lines = [&*down.line, &slow.line, &elsewhere.line];
    let config = site.configure(&lines, quorum, "witness-deadline-ms = 50", "start-guard = \"any\"");
    let server = site.start("data", &config, &[]);
    let mut rpc = connect(&server).await;

    append_at_last(&mut rpc, "four", HeadLevel::Unspecified).await.expect("one witness is enough to begin");
    for number in 5..25 {
        let answer = append(&mut rpc, &format!("entry {number}"), HeadLevel::Unspecified).await.expect("appended");
        assert_eq!(answer.head.expect("a head").level(), HeadLevel::Signed, "without any witness");
    }
    let published = watch(&mut rpc, HeadLevel::Published, 24).await;
    assert_eq!(published.level(), HeadLevel::Published, "fail-open: marked unwitnessed");
    assert_eq!(reason(&head(&mut rpc, HeadLevel::Witnessed).await.expect_err("no quorum yet")), "LEVEL_NOT_REACHED");

    gate.open();
    let late = watch(&mut rpc, HeadLevel::Witnessed, 0).await;
    assert_eq!(late.level(), HeadLevel::Witnessed);
    let answer = append_at_last(&mut rpc, "last", HeadLevel::Witnessed).await.expect("appended");
    assert_eq!(answer.head.as_ref().expect("a head").level(), HeadLevel::Witnessed);
    let (code, text) = site.verify(&answer, "last");
    assert_eq!(code, Some(0), "{text}");
    Checkpoint::open(&checkpoint(&server), &site.policy(), Some(&site.origin)).expect("the quorum is in it");
    let witnessed = head(&mut rpc, HeadLevel::Witnessed).await.expect("a head");
    assert!(size(&witnessed) > answer.index);

    let described = describe(&server, site.dir.path());
    let witness = |name: &str| {
        let all = described["witnesses"].as_array().expect("a list").iter();
        all.clone().find(|witness| witness["name"] == name).expect("each is there").clone()
    };
    assert!(witness("down")["cosigned"].is_null() && witness("down")["failures"].as_u64() > Some(0));
    assert_eq!(witness("down")["problem"], "no answer");
    assert!(witness("elsewhere")["cosigned"].is_string() && witness("elsewhere")["problem"].is_null());
    let metrics = get(&server.http, "/metrics");
    let line = |text: &str| metrics.text().lines().any(|line| line.starts_with(text));
    assert!(line("logwood_witness_failures_total{log=\"default\",witness=\"down\"}"));
    assert!(line("logwood_log_witnessed_entries{log=\"default\"} 2"), "{}", metrics.text());
    server.stop();
}

/// Three witnesses, of which two are needed.
fn three(site: &Site) -> [WitnessProcess; 3] {
    ["a", "b", "c"].map(|name| WitnessProcess::start(site.dir.path(), name, &site.vkey))
}

const TWO_OF_THREE: &str = "group two 2 a b c\nquorum two";

#[tokio::test(flavor = "multi_thread")]
async fn an_old_copy_of_the_data_does_not_sign_once_its_witnesses_are_heard() {
    let site = Site::new().await;
    let witnesses = three(&site);
    let config = site.configure(&witnesses.each_ref().map(|witness| &*witness.line), TWO_OF_THREE, "", "");
    let server = site.start("data", &config, &[]);
    let answer = append_at_last(&mut connect(&server).await, "three", HeadLevel::Witnessed).await.expect("appended");
    assert_eq!(answer.head.expect("a head").level(), HeadLevel::Witnessed);
    server.stop();
    copy(&site.path("data"), &site.path("old"));
    let server = site.start("data", &config, &[]);
    append_at_last(&mut connect(&server).await, "four", HeadLevel::Witnessed).await.expect("appended");
    // Two are enough for that, and any of the three may be the first to be asked later.
    for witness in &witnesses {
        let path = format!("/{}/checkpoint", hex(&site.origin));
        eventually("each cosigns", || get(&witness.address, &path).text().contains("\n4\n")).await;
    }
    server.stop();

    // Key, anchor and all: nothing in the directory tells that it is old. A policy without a quorum waits for one of them.
    let lines = witnesses.each_ref().map(|witness| &*witness.line);
    copy(&site.path("old"), &site.path("as old"));
    let config = site.configure(&lines, "quorum none", "", "");
    let server = site.start("as old", &config, &[]);
    let mut rpc = connect(&server).await;
    let refused = append_at_last(&mut rpc, "something else", HeadLevel::Unspecified).await.expect_err("not signed");
    assert_eq!((refused.code(), &*reason(&refused)), (Code::FailedPrecondition, "ROLLBACK_GUARD"));
    server.stop();
    let config = site.configure(&lines, TWO_OF_THREE, "", "");
    let server = site.start("old", &config, &[]);
    let mut rpc = connect(&server).await;
    let refused = append_at_last(&mut rpc, "something else", HeadLevel::Unspecified).await.expect_err("not signed");
    assert_eq!((refused.code(), &*reason(&refused)), (Code::FailedPrecondition, "ROLLBACK_GUARD"));
    let said = refused.message();
    assert!(
        said.contains("has cosigned 4 entries of this log, and the largest head published here has 3")
            && said.contains("restore"),
        "{said}"
    );
    assert_eq!(size(&head(&mut rpc, HeadLevel::Unspecified).await.expect("reads go on")), 3);
    assert_eq!(size(&head(&mut rpc, HeadLevel::Witnessed).await.expect("reads go on")), 3);
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_that_claims_to_know_more_stops_the_log_until_it_is_distrusted() {
    let site = Site::new().await;
    let honest = ["a", "b"].map(|name| WitnessProcess::start(site.dir.path(), name, &site.vkey));
    let liar = Fake::stubborn("c", 409, "1000\n");
    let lines = [&*honest[0].line, &honest[1].line, &liar.line, &liar.with_key("c-too")];
    let config = site.configure(&lines, TWO_OF_THREE, "", "");
    let server = site.start("data", &config, &[]);
    let mut rpc = connect(&server).await;
    // It may say so after the two others have let the log sign: it is stopped at run time then.
    let mut entries = 0..;
    let refused = loop {
        let entry = format!("entry {}", entries.next().expect("endless"));
        if let Err(status) = append_at_last(&mut rpc, &entry, HeadLevel::Unspecified).await {
            break status;
        }
    };
    assert!(refused.message().contains("witness c+c-too has cosigned 1000 entries"), "{refused}");
    assert!(refused.message().contains("`--distrust-witness c`"), "{refused}");
    server.stop();

    let server = site.start("data", &config, &["--distrust-witness", "c"]);
    let answer = append_at_last(&mut connect(&server).await, "signed", HeadLevel::Witnessed).await.expect("appended");
    assert_eq!(answer.head.expect("a head").level(), HeadLevel::Witnessed);
    assert_eq!(describe(&server, site.dir.path())["witnesses"][2]["is_distrusted"], true);
    server.stop();

    // A quorum that cannot be had without it: the start does not wait for it, and heads go unwitnessed.
    let all = "group all all a b c\nquorum all";
    let config = site.configure(&[&honest[0].line, &honest[1].line, &liar.line], all, "witness-deadline-ms = 10", "");
    let server = site.start("data", &config, &["--distrust-witness", "c"]);
    append_at_last(&mut connect(&server).await, "signed again", HeadLevel::Published).await.expect("appended");
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn while_too_few_witnesses_can_be_reached_nothing_is_signed_after_a_start_and_reads_go_on() {
    let site = Site::new().await;
    let one = WitnessProcess::start(site.dir.path(), "a", &site.vkey);
    let down = ["b", "c"].map(Fake::down);
    let config =
        site.configure(&[&one.line, &down[0].line, &down[1].line], TWO_OF_THREE, "witness-deadline-ms = 10", "");
    let server = site.start("data", &config, &[]);
    let mut rpc = connect(&server).await;
    let mut refused = append(&mut rpc, "three", HeadLevel::Unspecified).await.expect_err("not signed");
    while !refused.message().contains("(b: no answer; c: no answer)") {
        refused = append(&mut rpc, "three", HeadLevel::Unspecified).await.expect_err("not signed");
        assert_eq!((refused.code(), &*reason(&refused)), (Code::Unavailable, "ASKING_WITNESSES"), "{refused}");
    }
    assert_eq!(size(&head(&mut rpc, HeadLevel::Unspecified).await.expect("reads go on")), 2);
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_while_witnesses_are_asked_does_not_lock_the_log_out() {
    let site = Site::new().await;
    let (gate, quick) = (Arc::new(Gate::default()), WitnessProcess::start(site.dir.path(), "quick", &site.vkey));
    let slow = Fake::slow("slow", &gate);
    let quorum = "group both all quick slow\nquorum both";
    let lines = [&*quick.line, &slow.line];
    let configure = || site.configure(&lines, quorum, "witness-deadline-ms = 60000", "start-guard = \"any\"");
    let server = site.start("data", &configure(), &[]);
    let mut rpc = connect(&server).await;
    append_at_last(&mut rpc, "three", HeadLevel::Unspecified).await.expect("appended");
    // The quick one has cosigned it, and the slow one holds its publication back.
    let path = format!("/{}/checkpoint", hex(&site.origin));
    eventually("the witness cosigns", || get(&quick.address, &path).text().contains("\n3\n")).await;
    assert_eq!(size(&head(&mut rpc, HeadLevel::Published).await.expect("a head")), 2);
    drop(server);

    // Until somebody is heard, what was seen before is seen, and no more.
    let unheard = site.configure(&[&Fake::down("down").line], "quorum down", "", "");
    let server = site.start("data", &unheard, &[]);
    assert_eq!(size(&head(&mut connect(&server).await, HeadLevel::Published).await.expect("a head")), 2);
    server.stop();

    let server = site.start("data", &configure(), &[]);
    let mut rpc = connect(&server).await;
    append_at_last(&mut rpc, "four", HeadLevel::Unspecified).await.expect("what the witness knows is stored");
    gate.open();
    let answer = append_at_last(&mut rpc, "five", HeadLevel::Witnessed).await.expect("appended");
    assert_eq!(answer.head.expect("a head").level(), HeadLevel::Witnessed);
    server.stop();
}

fn hex(origin: &str) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(origin).iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_acknowledges_at_witnessed_lets_out_nothing_without_a_quorum() {
    let site = Site::new().await;
    let witnesses = three(&site);
    let lines = witnesses.each_ref().map(|witness| &*witness.line);
    let config = site.configure(&lines, TWO_OF_THREE, "", "acknowledge = \"witnessed\"");
    let server = site.start("data", &config, &[]);
    let mut rpc = connect(&server).await;
    for entry in ["three", "four"] {
        let answer = append_at_last(&mut rpc, entry, HeadLevel::Unspecified).await.expect("appended");
        assert_eq!(answer.head.as_ref().expect("a head").level(), HeadLevel::Witnessed);
        assert_eq!(site.verify(&answer, entry).0, Some(0));
    }
    drop(witnesses);
    let late = append(&mut rpc, "five", HeadLevel::Unspecified).await.expect_err("no quorum");
    assert_eq!((late.code(), &*reason(&late)), (Code::Unavailable, "LEVEL_NOT_REACHED"));
    for level in [HeadLevel::Unspecified, HeadLevel::Published, HeadLevel::Witnessed] {
        let head = head(&mut rpc, level).await.expect("the last one with a quorum");
        assert_eq!((size(&head), head.level()), (4, HeadLevel::Witnessed), "fail-closed");
    }
    Checkpoint::open(&checkpoint(&server), &site.policy(), Some(&site.origin)).expect("the quorum is in it");
    let by = Some(v1::get_entry_request::By::Index(4));
    let hidden = rpc.get_entry(v1::GetEntryRequest { log: "default".into(), by, ..Default::default() }).await;
    assert_eq!(hidden.expect_err("not let out").code(), Code::OutOfRange);
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_is_asked_no_more_often_than_its_interval_allows_and_for_a_newer_head_each_time() {
    const INTERVAL_MS: u64 = 400;
    const REQUESTS: usize = 4;
    let site = Site::new().await;
    let (paced, requests) = Fake::recording("paced");
    let of_log = format!("start-guard = \"off\"\n[witnesses.paced]\nmin-interval-ms = {INTERVAL_MS}");
    let config = site.configure(&[&paced.line], "quorum paced", "", &of_log);
    let begin = Instant::now();
    let server = site.start("data", &config, &[]);
    let mut rpc = connect(&server).await;
    // The head that is stored is offered at the start, twice perhaps, whatever was asked before.
    let newer = || -> Vec<_> {
        let requests = requests.lock().expect("no panics");
        requests.iter().filter(|(_, size)| *size > 2).copied().collect()
    };
    let mut entries = 0..;
    while newer().len() < REQUESTS {
        let entry = format!("entry {}", entries.next().expect("endless"));
        append(&mut rpc, &entry, HeadLevel::Published).await.expect("appended");
    }
    server.stop();
    let requests = newer();
    // However late a request arrives, it was not sent before the intervals of those before it were over.
    for (earlier, (arrived, _)) in (0..).zip(requests.iter()) {
        assert!(*arrived - begin >= Duration::from_millis(earlier * INTERVAL_MS), "{requests:?}");
    }
    assert!(requests.windows(2).all(|pair| pair[0].1 < pair[1].1), "the newest head each time: {requests:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_without_witnesses_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(&dir.path().join("data"), 0, &[]);
    let mut rpc = connect(&server).await;
    let refused = [
        append(&mut rpc, "entry", HeadLevel::Witnessed).await.map(drop).expect_err("no witnesses"),
        head(&mut rpc, HeadLevel::Witnessed).await.map(drop).expect_err("no witnesses"),
    ];
    for status in refused {
        assert_eq!((status.code(), &*reason(&status)), (Code::FailedPrecondition, "NO_WITNESSES"));
    }
    assert_eq!(head(&mut rpc, HeadLevel::Unspecified).await.map(|head| size(&head)).expect("a head"), 0, "not logged");
    server.stop();
}
