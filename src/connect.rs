//! What every command that talks to a server takes.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use logwood_client::{Client, ClientError, ClientOptions, TlsOptions, VerifiedHead};
use logwood_note::VerifierKey;
use logwood_proto::v1::HeadLevel;
use serde_json::{Value, json};
use tonic::Code;

use crate::failure::{Usage, VerificationFailed};
use crate::{output, trust};

/// Server, log, and what is trusted of them.
#[derive(Debug, Args)]
pub(crate) struct ConnectArgs {
    /// The server's gRPC address: http:// or https://.
    #[arg(long, env = "LOGWOOD_SERVER", default_value = "http://127.0.0.1:7070", value_name = "URL")]
    server: String,
    /// The log's name on that server.
    #[arg(long, default_value = "default", value_name = "NAME")]
    pub(crate) log: String,
    /// The log's verifier key. Without it the first contact pins the key, with a warning; later ones accept no other.
    #[arg(long, env = "LOGWOOD_VKEY", value_name = "VKEY")]
    vkey: Option<VerifierKey>,
    /// A policy file (C2SP tlog-policy): the log is one of its logs, and heads and receipts have its quorum of witnesses.
    /// With --vkey as well, only that log of it is trusted.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Where pinned keys, the last verified heads, and heads of receipts that are not settled are kept. Commands that
    /// run at once may share it [default: under `XDG_STATE_HOME`].
    #[arg(long, value_name = "DIR")]
    client_state: Option<PathBuf>,
    #[command(flatten)]
    tls: TlsArgs,
    /// One JSON object a line on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

impl ConnectArgs {
    /// Connects, and warns if the log's key was taken on trust.
    pub(crate) async fn connect(&self) -> anyhow::Result<Client> {
        let state_dir = match &self.client_state {
            Some(directory) => directory.clone(),
            None => default_state_dir()?,
        };
        let options = ClientOptions {
            vkey: self.vkey.clone(),
            policy: self.policy.as_deref().map(trust::read_policy).transpose()?,
            state_dir: Some(state_dir),
            tls: self.tls.options(),
            ..ClientOptions::new(&self.server, &self.log)
        };
        let client = Client::connect(options).await.map_err(failed)?;
        if client.pinned_now() {
            eprintln!(
                "logwood: warning: nothing vouches for the key of log `{}`; from now on only {} is accepted. \
                 Compare it with its operator's, or give --vkey.",
                self.log,
                client.key()
            );
        }
        Ok(client)
    }
}

/// What a connection to an https:// server trusts and shows.
#[derive(Debug, Args)]
pub(crate) struct TlsArgs {
    /// The roots to trust for https:// instead of the system's (PEM).
    #[arg(id = "tls_ca", long = "tls-ca", env = "LOGWOOD_TLS_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The certificate chain to show to a server that asks for one (PEM).
    #[arg(id = "tls_cert", long = "tls-cert", value_name = "FILE", requires = "tls_key")]
    cert: Option<PathBuf>,
    /// The private key of that certificate (PEM).
    #[arg(id = "tls_key", long = "tls-key", value_name = "FILE", requires = "tls_cert")]
    key: Option<PathBuf>,
}

impl TlsArgs {
    /// The same for the library.
    pub(crate) fn options(&self) -> TlsOptions {
        TlsOptions { ca: self.ca.clone(), identity: self.cert.clone().zip(self.key.clone()) }
    }
}

/// What a head must have reached.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct LevelArgs {
    /// Under a published head: one that is kept in the history and shown to everybody.
    #[arg(long)]
    published: bool,
    /// Under a published head that satisfies the policy of --policy, whatever the server says of it. What a policy with a
    /// quorum asks for in any case.
    #[arg(long, conflicts_with = "published", requires = "policy")]
    witnessed: bool,
}

impl LevelArgs {
    /// Unspecified if none is asked for, not by a policy either: the latest head, whatever its level.
    pub(crate) fn level(self, client: &Client) -> HeadLevel {
        let level = match self {
            Self { witnessed: true, .. } => HeadLevel::Witnessed,
            Self { published: true, .. } => HeadLevel::Published,
            _ => HeadLevel::Unspecified,
        };
        level.max(client.least_level())
    }
}

/// The error with the exit status that belongs to it.
pub(crate) fn failed(error: ClientError) -> anyhow::Error {
    match error {
        ClientError::Verification { what } => VerificationFailed { reason: what }.into(),
        // What the server says is wrong with the request came from the command line.
        error @ (ClientError::BadOption { .. } | ClientError::Rejected { code: Code::InvalidArgument, .. }) => {
            Usage { problem: error.to_string() }.into()
        }
        error => error.into(),
    }
}

/// A head, as `--json` shows it.
pub(crate) fn head_json(head: &VerifiedHead) -> anyhow::Result<Value> {
    Ok(json!({
        "origin": head.origin,
        "size": head.head.size.0,
        "root": output::base64(head.head.root),
        "level": level(head.level),
        "time": time(head.time_ms)?,
    }))
}

/// The word for a head's level.
pub(crate) fn level(level: HeadLevel) -> &'static str {
    match level {
        HeadLevel::Unspecified => "unspecified",
        HeadLevel::Signed => "signed",
        HeadLevel::Published => "published",
        HeadLevel::Witnessed => "witnessed",
    }
}

/// RFC 3339, or nothing if the server does not know.
///
/// * `time_ms` - POSIX milliseconds by the log's own clock.
pub(crate) fn time(time_ms: u64) -> anyhow::Result<Option<String>> {
    if time_ms == 0 {
        return Ok(None);
    }
    let millisecond = i64::try_from(time_ms).context("the server's time is beyond the calendar")?;
    let time = jiff::Timestamp::from_millisecond(millisecond).context("the server's time is beyond the calendar")?;
    Ok(Some(time.to_string()))
}

fn default_state_dir() -> anyhow::Result<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    let state =
        state.ok_or_else(|| Usage { problem: "neither XDG_STATE_HOME nor HOME is set: give --client-state".into() })?;
    Ok(state.join("logwood"))
}
