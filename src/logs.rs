//! `logwood logs`: which logs a server has, what they are, and what only their owner may do with them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use logwood_note::note::NOTE_BYTES_MAX;
use logwood_proto::v1::admin_service_client::AdminServiceClient;
use logwood_proto::v1::{
    CreateLogRequest, DescribeLogFullyRequest, DescribeLogFullyResponse, FreezeLogRequest, LogInfo, LogState,
    SealLogRequest, ThawLogRequest, WitnessStatus,
};
use serde_json::{Value, json};

use crate::connect::{self, ConnectArgs};
use crate::failure::Usage;
use crate::{files, output};

/// Where `logwood serve` puts it by default.
const ADMIN_SOCKET: &str = "logwood-data/admin.sock";

/// Shown by `--help`.
const EXAMPLES: &str = "\
Examples:
  logwood logs list
  logwood logs describe --log default
  logwood logs create audit --ml-dsa --admin logwood-data/admin.sock
      On the server's machine. Then `logwood append --log audit ...`; `logwood logs create --help` says what is fixed for ever.
";

/// Lists, describes, creates, freezes and seals logs.
///
/// `list` and `describe` ask any server; the others, and `describe --full`, its admin socket, which only the machine's owner
/// reaches.
///
/// Exit status 0 if it is done; 1 if the server is not reached, or refuses; 2 for wrong usage, a bad name or origin among
/// it; 3 if the head of the log that is described does not verify.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct LogsArgs {
    #[command(subcommand)]
    command: LogsCommand,
}

#[derive(Debug, Subcommand)]
enum LogsCommand {
    /// Lists the server's logs, as the server tells.
    List(ConnectArgs),
    /// Describes one log: its verified head, and what else the server says about it.
    Describe {
        #[command(flatten)]
        connect: ConnectArgs,
        /// Also what only the machine's owner is told, by the admin service.
        #[arg(long)]
        full: bool,
        /// With --full: the admin service's Unix socket.
        #[arg(long, env = "LOGWOOD_ADMIN", default_value = ADMIN_SOCKET, value_name = "PATH")]
        admin: PathBuf,
    },
    /// Makes a log: key pair, origin and signed checkpoint of size 0, all fixed for ever.
    Create {
        #[command(flatten)]
        admin: AdminArgs,
        /// Default: made from the server's public URL and the name.
        #[arg(long, default_value = "")]
        origin: String,
        /// Use the key file that exists already: you vouch that nothing was ever signed for this origin.
        #[arg(long)]
        origin_is_unused: bool,
        /// Keep no index from leaf hash to entry: less disk, and `get --leaf-hash` is refused.
        #[arg(long)]
        without_leaf_index: bool,
        /// Give the log a second, post-quantum key: ML-DSA-44 cosignatures of its published heads, renewed every
        /// refresh-interval-ms, tell how fresh a head is.
        #[arg(long)]
        ml_dsa: bool,
    },
    /// Makes a log read-only.
    Freeze(AdminArgs),
    /// Opens a log again that is frozen, or whose anchor was lost, if it extends everything that it is known to have
    /// signed: the anchor, and every checkpoint given. After a restore, and after the loss of an anchor, ask your
    /// auditors, mirrors and clients for the newest that they hold.
    Thaw {
        #[command(flatten)]
        admin: AdminArgs,
        /// A checkpoint kept elsewhere, which the log must extend. Repeatable.
        #[arg(long, value_name = "FILE")]
        checkpoint: Vec<PathBuf>,
    },
    /// Ends a log: its last head is published, a seal signed, and it is never thawed.
    Seal(AdminArgs),
}

/// The admin service, and a log there.
#[derive(Debug, Args)]
struct AdminArgs {
    /// The log's name.
    log: String,
    /// The admin service's Unix socket.
    #[arg(long, env = "LOGWOOD_ADMIN", default_value = ADMIN_SOCKET, value_name = "PATH")]
    admin: PathBuf,
    /// One JSON object on standard output.
    #[arg(long)]
    json: bool,
}

/// Runs the subcommand.
///
/// # Errors
///
/// As [`connect::failed`] sorts them.
pub(crate) async fn run(args: LogsArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        LogsCommand::List(connect) => list(&connect).await?,
        LogsCommand::Describe { connect, full, admin } => {
            let client = connect.connect().await?;
            let (info, head) = client.describe_unverified().await.map_err(connect::failed)?;
            let mut value = info_json(&info);
            value["size"] = json!(head.head.size.0);
            value["root"] = json!(output::base64(head.head.root));
            if full {
                let request = DescribeLogFullyRequest { log: connect.log.clone() };
                let answer = connect_admin(&admin).await?.describe_log_fully(request).await;
                add_details(&mut value, &answer.map_err(|status| refused(&status))?.into_inner())?;
            }
            describe(&value, connect.json)?;
        }
        LogsCommand::Create { admin, origin, origin_is_unused, without_leaf_index, ml_dsa } => {
            let log = admin.log.clone();
            let request = CreateLogRequest { log, origin, origin_is_unused, without_leaf_index, ml_dsa };
            let answer = connect_admin(&admin.admin).await?.create_log(request).await;
            done(&admin, answer.map(|answer| answer.into_inner().info))?;
        }
        LogsCommand::Freeze(admin) => {
            let request = FreezeLogRequest { log: admin.log.clone() };
            let answer = connect_admin(&admin.admin).await?.freeze_log(request).await;
            done(&admin, answer.map(|answer| answer.into_inner().info))?;
        }
        LogsCommand::Thaw { admin, checkpoint } => {
            let read = |path: &PathBuf| files::read(path, NOTE_BYTES_MAX).map(bytes::Bytes::from);
            let checkpoints = checkpoint.iter().map(read).collect::<anyhow::Result<_>>()?;
            let request = ThawLogRequest { log: admin.log.clone(), checkpoints };
            let answer = connect_admin(&admin.admin).await?.thaw_log(request).await.map(tonic::Response::into_inner);
            for whom in answer.iter().flat_map(|answer| &answer.not_asked) {
                eprintln!("logwood: not asked for what the log may have signed: {whom}");
            }
            // A file that is no checkpoint of the log is not a wrong use of the command.
            show(&admin, answer.map_err(|status| anyhow::anyhow!(reason(&status)))?.info)?;
        }
        LogsCommand::Seal(admin) => {
            let request = SealLogRequest { log: admin.log.clone() };
            let answer = connect_admin(&admin.admin).await?.seal_log(request).await;
            done(&admin, answer.map(|answer| answer.into_inner().info))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What `--full` adds, in the order in which it is printed.
const DETAILS: [&str; 8] =
    ["number", "profile", "identity_scope", "leaf_index", "created", "round", "published_size", "read_only_reason"];

/// Nothing of it can be verified: a list that leaves out a log looks like one that does not.
async fn list(connect: &ConnectArgs) -> anyhow::Result<()> {
    let client = connect.connect().await?;
    let mut printed = Ok(());
    let print = |info: LogInfo| {
        if printed.is_ok() {
            printed = if connect.json {
                output::json(&info_json(&info))
            } else {
                output::line(&format!("{} ({}, {} entries): {}", info.name, state(&info), info.size, info.origin))
            };
        }
    };
    client.list_logs_unverified(print).await.map_err(connect::failed)?;
    printed
}

/// What the admin service knows besides.
fn add_details(value: &mut Value, full: &DescribeLogFullyResponse) -> anyhow::Result<()> {
    value["number"] = json!(full.number);
    value["profile"] = json!(full.profile);
    value["identity_scope"] = json!(full.identity_scope);
    value["leaf_index"] = json!(full.leaf_index);
    value["created"] = json!(connect::time(full.created_ms)?);
    value["round"] = json!(full.round);
    value["published_size"] = json!(full.published_size);
    value["read_only_reason"] = json!(Some(&full.read_only_reason).filter(|reason| !reason.is_empty()));
    Ok(())
}

async fn connect_admin(socket: &Path) -> anyhow::Result<AdminServiceClient<tonic::transport::Channel>> {
    let cannot = || format!("cannot reach the admin service at {}: is the server running there?", socket.display());
    let socket = std::path::absolute(socket).with_context(cannot)?;
    let socket = socket.to_str().with_context(cannot)?;
    let endpoint = tonic::transport::Endpoint::from_shared(format!("unix://{socket}")).with_context(cannot)?;
    Ok(AdminServiceClient::new(endpoint.connect().await.with_context(cannot)?))
}

/// Prints the log as it is now, or the server's reason.
fn done(admin: &AdminArgs, answer: Result<Option<LogInfo>, tonic::Status>) -> anyhow::Result<()> {
    show(admin, answer.map_err(|status| refused(&status))?)
}

fn show(admin: &AdminArgs, info: Option<LogInfo>) -> anyhow::Result<()> {
    let info = info.context("the server's answer describes no log")?;
    describe(&info_json(&info), admin.json)
}

/// The server's reason. Arguments that it refuses are ones that the command line gave.
fn refused(status: &tonic::Status) -> anyhow::Error {
    let problem = reason(status);
    if status.code() == tonic::Code::InvalidArgument { Usage { problem }.into() } else { anyhow::anyhow!(problem) }
}

fn reason(status: &tonic::Status) -> String {
    format!("{} ({:?})", status.message(), status.code())
}

fn describe(value: &Value, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return output::json(value);
    }
    let names = ["name", "origin", "state", "size", "root"].into_iter().chain(DETAILS);
    let present: Vec<_> = names.filter(|name| !value[name].is_null()).collect();
    let width = present.iter().map(|name| name.len()).max().unwrap_or(0);
    for name in present {
        let text = value[name].as_str().map_or_else(|| value[name].to_string(), str::to_owned);
        output::line(&format!("{name:<width$} {text}"))?;
    }
    for vkey in value["vkeys"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        output::line(&format!("{:<width$} {vkey}", "vkey"))?;
    }
    for line in value["seal"].as_str().into_iter().flat_map(str::lines).filter(|line| !line.is_empty()) {
        output::line(&format!("{:<width$} {line}", "seal"))?;
    }
    for witness in value["witnesses"].as_array().into_iter().flatten() {
        let text = |name: &str| witness[name].as_str().unwrap_or("never").to_owned();
        let (name, size, cosigned, failures) = (text("name"), &witness["size"], text("cosigned"), &witness["failures"]);
        let problem = witness["problem"].as_str().map(|problem| format!(", the last: {problem}"));
        let distrusted = if witness["is_distrusted"] == true { ", distrusted" } else { "" };
        let line = format!(
            "{name}: size {size}, cosigned {cosigned}, {failures} failures{}{distrusted}",
            problem.unwrap_or_default()
        );
        output::line(&format!("{:<width$} {line}", "witness"))?;
    }
    Ok(())
}

fn info_json(info: &LogInfo) -> Value {
    let mut value = json!({
        "name": info.name,
        "origin": info.origin,
        "vkeys": info.vkeys,
        "size": info.size,
        "state": state(info),
    });
    if !info.seal.is_empty() {
        value["seal"] = String::from_utf8_lossy(&info.seal).into();
    }
    if !info.witnesses.is_empty() {
        value["witnesses"] = info.witnesses.iter().map(witness_json).collect();
    }
    value
}

fn witness_json(witness: &WitnessStatus) -> Value {
    // A time beyond the calendar is none.
    let cosigned = connect::time(witness.cosigned_ms).ok().flatten();
    json!({
        "name": witness.name,
        "size": witness.size,
        "cosigned": cosigned,
        "failures": witness.failures,
        "problem": Some(&witness.problem).filter(|problem| !problem.is_empty()),
        "is_distrusted": witness.is_distrusted,
    })
}

fn state(info: &LogInfo) -> &'static str {
    match info.state() {
        LogState::Unspecified => "unknown",
        LogState::Active => "active",
        LogState::Frozen => "frozen",
        LogState::Sealed => "sealed",
    }
}
