//! `logwood logs`: which logs a server has, and what they are.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use logwood_proto::v1::{LogInfo, LogState};
use serde_json::{Value, json};

use crate::connect::{self, ConnectArgs};
use crate::output;

/// Lists and describes logs.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    #[command(subcommand)]
    command: LogsCommand,
}

#[derive(Debug, Subcommand)]
enum LogsCommand {
    /// Lists the server's logs, as the server tells.
    List(ConnectArgs),
    /// Describes one log, with its verified head.
    Describe(ConnectArgs),
}

/// Runs the subcommand.
///
/// # Errors
///
/// As [`connect::failed`] sorts them.
pub(crate) async fn run(args: LogsArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        LogsCommand::List(connect) => {
            let client = connect.connect().await?;
            for info in client.list_logs().await.map_err(connect::failed)? {
                if connect.json {
                    output::json(&info_json(&info))?;
                } else {
                    output::line(&format!("{} ({}, {} entries): {}", info.name, state(&info), info.size, info.origin))?;
                }
            }
        }
        LogsCommand::Describe(connect) => {
            let client = connect.connect().await?;
            let info = client.describe().await.map_err(connect::failed)?;
            let head = client.head().await.map_err(connect::failed)?;
            let mut value = info_json(&info);
            value["size"] = json!(head.head.size.0);
            value["root"] = json!(output::base64(head.head.root));
            if connect.json {
                output::json(&value)?;
            } else {
                describe(&value)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(value: &Value) -> anyhow::Result<()> {
    for name in ["name", "origin", "state", "size", "root"] {
        let text = value[name].as_str().map_or_else(|| value[name].to_string(), str::to_owned);
        output::line(&format!("{name:<7}{text}"))?;
    }
    for vkey in value["vkeys"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        output::line(&format!("vkey   {vkey}"))?;
    }
    Ok(())
}

fn info_json(info: &LogInfo) -> Value {
    json!({
        "name": info.name,
        "origin": info.origin,
        "vkeys": info.vkeys,
        "size": info.size,
        "state": state(info),
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
