//! The four tools, each asked through a liar of its own, and what is expected of them.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use bytes::Bytes;
use logwood_client::{Client, ClientError, ClientOptions, HeadsFrom, NewEntry, Which, Window};
use logwood_merkle::{Hash, LeafIndex, TreeSize};
use logwood_note::Policy;
use logwood_proto::v1::HeadLevel;
use tokio::process::Command;

use crate::common::{LOGWOOD, outcome};
use crate::lies::ASKED;
use crate::proxy::{Liar, View};
use crate::table::{Cell, How, Knows, Over, Row};
use crate::world::{AGE_MAX, OLDER, SIZE, World, entry};

/// How long the client goes on asking, and waits for a head that settles its receipts.
const PATIENCE: Duration = Duration::from_secs(3);

/// As [`PATIENCE`], where the lie is none that the client can see: however slow the machine is, it succeeds.
const PATIENCE_WITH_SUCCESS: Duration = Duration::from_mins(1);

/// The columns of the table.
pub(crate) const COLUMNS: [&str; 4] = ["client", "command", "monitor", "fsck"];

/// The calls of the client library.
pub(crate) const CALLS: [&str; 15] = [
    "head",
    "get",
    "receipt",
    "multiproof",
    "consistency",
    "read_range",
    "range_proof",
    "heads",
    "describe",
    "list_logs",
    "append",
    "append_batch",
    "append_batch (twins)",
    "append_stream",
    "append_stream (twins)",
];

/// The commands.
pub(crate) const COMMANDS: [&str; 9] =
    ["head", "get", "prove", "prove --entry", "prove --since", "export", "append", "append (twins)", "logs describe"];

/// Judges one column of a row. What is not as the table says it is, in words.
pub(crate) async fn judge(world: &World, row: &Row, column: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    match column {
        "client" | "command" => {
            let cells = if column == "client" { row.client } else { row.command };
            for cell in cells {
                let (Cell::Caught { asks, .. } | Cell::CannotSee { asks, .. }) = cell;
                for ask in *asks {
                    let judged = if column == "client" {
                        client(world, row, ask, cell).await
                    } else {
                        command(world, row, ask, cell).await
                    };
                    wrong.extend(judged.err().map(|error| format!("{ask}: {error}")));
                }
            }
        }
        "monitor" => wrong.extend(monitor(world, row).await.err()),
        _ => wrong.extend(fsck(world, row).await.err()),
    }
    wrong.into_iter().map(|error| format!("{} | {column} | {error}", row.lie)).collect()
}

async fn liar(world: &World, row: &Row) -> Liar {
    let before = if row.knows == Knows::Older { View::Older } else { View::Honest };
    world.liar(before, (row.tell)(world)).await
}

fn demand(is_so: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if is_so { Ok(()) } else { Err(otherwise()) }
}

// The client library.

async fn client(world: &World, row: &Row, ask: &str, cell: &Cell) -> Result<(), String> {
    let liar = liar(world, row).await;
    let options = ClientOptions::new(liar.url(), row.log);
    let patience = if matches!(cell, Cell::CannotSee { .. }) { PATIENCE_WITH_SUCCESS } else { PATIENCE };
    let options = ClientOptions { vkey: Some(world.key(row.log)), retry_within: patience, ..options };
    let policy = row.policy.then(|| Policy::parse(world.policy(row.log).as_bytes()).expect("a policy"));
    let client = Client::connect(ClientOptions { policy, ..options }).await.map_err(|error| error.to_string())?;
    if row.knows != Knows::Nothing {
        client.head().await.map_err(|error| format!("before the lie: {error}"))?;
    }
    liar.lie();
    let answer = ask_client(&client, ask, row.log, patience).await;
    match (cell, &answer) {
        (Cell::CannotSee { .. }, Ok(())) => Ok(()),
        (Cell::Caught { how: How::Error(expected), says, .. }, Err(error)) => {
            demand(variant(error) == *expected && error.to_string().contains(says), || format!("{error:?}"))
        }
        _ => Err(format!("{answer:?}")),
    }
}

fn variant(error: &ClientError) -> &'static str {
    match error {
        ClientError::Verification { .. } => "Verification",
        ClientError::Rejected { .. } => "Rejected",
        ClientError::Unreachable { .. } => "Unreachable",
        ClientError::Behind { .. } => "Behind",
        ClientError::NotSettled { .. } => "NotSettled",
        _ => "another one",
    }
}

/// The call of this name, in a form that is verified to the end.
async fn ask_client(client: &Client, ask: &str, log: &str, patience: Duration) -> Result<(), ClientError> {
    let asked = LeafIndex(ASKED as u64);
    let leaf = |index| Hash::leaf(&entry(log, index));
    let new = |bytes: &[u8]| NewEntry { bytes: Bytes::copy_from_slice(bytes), identity: None.into() };
    match ask {
        "head" => client.head().await.map(drop),
        "get" => client.get(asked).await.map(drop),
        "head (witnessed)" => client.head_of_level(HeadLevel::Witnessed).await.map(drop),
        "get (witnessed)" => client.entry(Which::Index(asked), HeadLevel::Witnessed).await.map(drop),
        "receipt" => client.receipt(leaf(asked.0), None).await.map(drop),
        "multiproof" => client.multiproof(&[LeafIndex(3), asked, LeafIndex(40)]).await.map(drop),
        "consistency" => client.consistency(TreeSize(100), TreeSize(OLDER)).await.map(drop),
        "read_range" => client.read_range(0, SIZE, |_, _| ()).await,
        "range_proof" => {
            let leaves: Vec<_> = (10..90).map(leaf).collect();
            client.range_proof(LeafIndex(10), &leaves, HeadLevel::Unspecified).await.map(drop)
        }
        "heads" => client.heads(HeadsFrom::Size(TreeSize(1))).next_page().await.map(drop),
        "describe" => client.describe_unverified().await.map(drop),
        "list_logs" => client.list_logs_unverified(|_| ()).await,
        "append" => {
            client.append(Bytes::from_static(b"an entry"), None).await?;
            client.settle(HeadLevel::Published, patience).await.map(drop)
        }
        "append_batch" => {
            client.append_batch(vec![new(b"first"), new(b"second")]).await?;
            client.settle(HeadLevel::Published, patience).await.map(drop)
        }
        "append_batch (twins)" => client.append_batch(vec![new(b"twin"), new(b"twin")]).await.map(drop),
        "append_stream (twins)" => {
            let (mut sender, mut receiver) = client.append_stream(Window::default());
            sender.send(new(b"twin")).await?;
            sender.send(new(b"twin")).await?;
            drop(sender);
            while let Some(outcome) = receiver.next().await {
                outcome?.1.expect("logged");
            }
            Ok(())
        }
        "append_stream" => {
            let (mut sender, mut receiver) = client.append_stream(Window::default());
            sender.send(new(b"streamed")).await?;
            drop(sender);
            while let Some(outcome) = receiver.next().await {
                outcome?.1.expect("logged");
            }
            client.settle(HeadLevel::Published, patience).await.map(drop)
        }
        _ => panic!("{ask}: no such call"),
    }
}

// The command.

async fn command(world: &World, row: &Row, ask: &str, cell: &Cell) -> Result<(), String> {
    let (liar, place) = (liar(world, row).await, world.place());
    let url = liar.url();
    let run = async |arguments: &[&str]| {
        let mut command = Command::new(LOGWOOD);
        command.current_dir(place.path()).args(arguments).args(["--server", &url, "--log", row.log]);
        command.args(["--vkey", &world.key(row.log).to_string(), "--client-state", "state"]);
        command.args(policy(world, row, place.path()));
        command.kill_on_drop(true).output().await.expect("the command runs")
    };
    if row.knows != Knows::Nothing {
        expect_good(&run(&["head"]).await).map_err(|error| format!("before the lie: {error}"))?;
    }
    let file = |name: &str, bytes: &[u8]| std::fs::write(place.path().join(name), bytes).expect("written");
    let asked = ASKED.to_string();
    let range = format!("0..{SIZE}");
    let arguments: &[&str] = match ask {
        "head" => &["head"],
        "get" => &["get", &asked],
        "prove" => &["prove", &asked],
        "prove --entry" => {
            file("entry", &entry(row.log, ASKED as u64));
            &["prove", "--entry", "entry"]
        }
        "prove --since" => {
            file("kept", &world.checkpoint("older", row.log));
            &["prove", "--since", "kept"]
        }
        "export" => &["export", "--range", &range, "--out", "range"],
        "append" => {
            file("lines", b"first line\nsecond line\n");
            &["append", "lines", "--settle-within", "3"]
        }
        "append (twins)" => {
            file("lines", b"twin\ntwin\n");
            &["append", "lines", "--settle-within", "3"]
        }
        "logs describe" => &["logs", "describe"],
        _ => panic!("{ask}: no such command"),
    };
    liar.lie();
    expect(cell, &run(arguments).await)
}

/// The option, if the row has a policy.
fn policy(world: &World, row: &Row, place: &Path) -> Vec<&'static str> {
    if !row.policy {
        return Vec::new();
    }
    std::fs::write(place.join("policy"), world.policy(row.log)).expect("written");
    vec!["--policy", "policy"]
}

fn expect_good(output: &Output) -> Result<(), String> {
    let (status, _, errors) = outcome(output);
    demand(status == Some(0), || format!("{status:?}: {errors}"))
}

/// The exit status and the words of the table.
fn expect(cell: &Cell, output: &Output) -> Result<(), String> {
    let (status, _, errors) = outcome(output);
    match cell {
        Cell::CannotSee { .. } => expect_good(output),
        Cell::Caught { how: How::Exit(expected) | How::Alarm(expected, ..), says, .. } => {
            demand(status == Some(*expected) && errors.contains(says), || format!("{status:?}: {errors}"))
        }
        Cell::Caught { .. } => Err("a command has an exit status".to_owned()),
    }
}

// The monitor.

async fn monitor(world: &World, row: &Row) -> Result<(), String> {
    let (liar, place) = (liar(world, row).await, world.place());
    let mut sources = match row.over {
        Over::Grpc => vec![liar.grpc(row.log)],
        Over::Http => vec![liar.tiles(row.log)],
        Over::Both => vec![liar.grpc(row.log), liar.tiles(row.log)],
    };
    if row.mirror {
        sources.push(world.mirror(row.log));
    }
    let vkeys = world.vkeys(row.log);
    let run = async || {
        let mut command = Command::new(LOGWOOD);
        command.current_dir(place.path()).args(["monitor", "--once", "--check-only", "--state", "state"]);
        command.args(["--evidence-dir", "evidence"]);
        command.args(vkeys.iter().flat_map(|vkey| ["--vkey", vkey]));
        command.args(policy(world, row, place.path()));
        command.args(sources.iter().flat_map(|source| ["--source", source]));
        if vkeys.len() > 1 {
            command.args(["--max-age", AGE_MAX]);
        }
        command.kill_on_drop(true).output().await.expect("the command runs")
    };
    if row.knows != Knows::Nothing {
        expect_good(&run().await).map_err(|error| format!("before the lie: {error}"))?;
    }
    liar.lie();
    let output = run().await;
    expect(&row.monitor, &output)?;
    let files = files(&place.path().join("evidence"));
    let Cell::Caught { how: How::Alarm(_, kind, evidence), .. } = row.monitor else {
        return demand(files.is_empty(), || format!("{files:?}"));
    };
    let (_, _, errors) = outcome(&output);
    demand(errors.contains(&format!("alarm: {kind}: ")), || errors)?;
    let prefix = evidence.map_or(format!("incident-{kind}-"), |kind| format!("evidence-{kind}-"));
    let is_told = |file: &&PathBuf| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix));
    let told: Vec<_> = files.iter().filter(is_told).collect();
    demand(!told.is_empty(), || format!("no {prefix} among {files:?}"))?;
    let is_evidence = |file: &&PathBuf| file.extension().is_some_and(|extension| extension == "logwood-evidence");
    demand(evidence.is_some() || !files.iter().any(|file| is_evidence(&file)), || format!("{files:?}"))?;
    for file in told {
        let verdict = judge_evidence(file, &vkeys).await;
        let expected = if evidence.is_some() { 3 } else { 1 };
        demand(verdict.status.code() == Some(expected), || format!("{}: {:?}", file.display(), outcome(&verdict)))?;
    }
    Ok(())
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(listing) = std::fs::read_dir(directory) else { return Vec::new() };
    listing.map(|file| file.expect("readable").path()).collect()
}

/// What anybody says of a file who has the keys.
async fn judge_evidence(file: &Path, vkeys: &[String]) -> Output {
    let mut command = Command::new(LOGWOOD);
    command.args(["verify", "--evidence"]).arg(file).args(vkeys.iter().flat_map(|vkey| ["--vkey", vkey]));
    command.output().await.expect("the command runs")
}

// fsck.

async fn fsck(world: &World, row: &Row) -> Result<(), String> {
    let (liar, place) = (liar(world, row).await, world.place());
    let url = liar.tiles(row.log);
    let kept = place.path().join("checkpoint");
    let mut arguments = vec!["fsck".to_owned(), url, "--vkey".to_owned(), world.key(row.log).to_string()];
    if row.knows != Knows::Nothing {
        let server = if row.knows == Knows::Older { "older" } else { "honest" };
        std::fs::write(&kept, world.checkpoint(server, row.log)).expect("written");
        arguments.extend(["--checkpoint".to_owned(), kept.display().to_string()]);
    }
    let run = async |policy: &[&str]| {
        let mut command = Command::new(LOGWOOD);
        command.current_dir(place.path()).args(&arguments).args(policy);
        command.kill_on_drop(true).output().await.expect("the command runs")
    };
    expect_good(&run(&[]).await).map_err(|error| format!("before the lie: {error}"))?;
    liar.lie();
    expect(&row.fsck, &run(&policy(world, row, place.path())).await)
}
