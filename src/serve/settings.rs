//! Settings of the server: defaults < TOML file < environment < flags, validated once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context as _;
use clap::ValueEnum;
use config::{Case, Config, Environment, File, FileFormat};
use logwood_note::policy::POLICY_BYTES_MAX;
use logwood_note::{LogName, Policy};
use logwood_server::{Level, LimitSettings, Limits, LogWitnesses, StartGuard, TlsFiles, WitnessOptions};
use serde::{Deserialize, Serialize};

use super::ServeArgs;
use super::environment::Variables;
use crate::failure::Usage;
use crate::output;

/// Longest configuration file, in bytes.
const FILE_BYTES_MAX: usize = 1024 * 1024;

/// The intervals between publications that make sense, in milliseconds: a sync each at the least, an hour at the most.
const PUBLISH_INTERVAL_MS: RangeInclusive<u64> = 10..=3_600_000;

/// What `--print-config` shows, and what a configuration file may hold.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Settings {
    /// The data directory.
    pub(crate) data: PathBuf,
    /// Address of the public gRPC service.
    pub(crate) grpc: SocketAddr,
    /// The admin service's Unix socket. Default: `admin.sock` in the data directory.
    pub(crate) admin: Option<PathBuf>,
    /// The anchor. Default: `ANCHOR` in the data directory.
    pub(crate) anchor: Option<PathBuf>,
    /// What the origins of new logs are made from.
    pub(crate) public_url: Option<String>,
    /// When the anchor is written.
    pub(crate) anchor_every: AnchorEvery,
    /// What a start does about a damaged last record of the write-ahead log.
    pub(crate) torn_tail: TornTail,
    /// How often a log that grows is published, in milliseconds.
    pub(crate) publish_interval_ms: u64,
    /// How long after a publication signatures that tell their age are renewed, in milliseconds; 0: never.
    pub(crate) refresh_interval_ms: u64,
    /// How long a head waits for the quorum of its witnesses, in milliseconds.
    pub(crate) witness_deadline_ms: u64,
    /// Witnesses that cannot keep a log from signing, by their names in the policies.
    #[serde(default)]
    pub(crate) distrust_witness: Vec<String>,
    /// Certificate chain of both listeners, PEM.
    pub(crate) tls_cert: Option<PathBuf>,
    /// Its private key, PEM.
    pub(crate) tls_key: Option<PathBuf>,
    /// Roots of the certificates that clients have to show, PEM. Default: anybody may connect.
    pub(crate) client_ca: Option<PathBuf>,
    /// Whether plain text is served beyond the loopback.
    pub(crate) insecure: bool,
    /// The HTTP API.
    pub(crate) http: HttpSettings,
    /// Every limit of the server; `docs/limits.md` has them all.
    #[serde(default)]
    pub(crate) limits: LimitSettings,
    /// Settings of single logs, by name.
    #[serde(default)]
    pub(crate) logs: BTreeMap<String, LogSettings>,
    /// Settings of single witnesses, by their names in the policies.
    #[serde(default)]
    pub(crate) witnesses: BTreeMap<String, WitnessSettings>,
}

/// What a configuration file says of one log. What is fixed at creation is in the store.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct LogSettings {
    /// What an append waits for, and the least level at which a head leaves the process. Default: signed.
    pub(crate) acknowledge: Option<Acknowledge>,
    /// A tlog-policy file: the witnesses that cosign the log's heads, with their URLs. Default: it has none.
    pub(crate) policy: Option<PathBuf>,
    /// What the first signature after a start waits for. Default: quorum.
    pub(crate) start_guard: Option<Guard>,
}

/// What a configuration file says of one witness.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct WitnessSettings {
    /// A log asks it at most once in so many milliseconds. Default: 0, whenever there is a new head.
    #[serde(default)]
    pub(crate) min_interval_ms: u64,
}

/// What the first signature after a start waits for.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Guard {
    /// A quorum of witnesses that know no more than the log.
    Quorum,
    /// One of them.
    Any,
    /// Nothing.
    Off,
}

impl From<Guard> for StartGuard {
    fn from(guard: Guard) -> Self {
        match guard {
            Guard::Quorum => Self::Quorum,
            Guard::Any => Self::Any,
            Guard::Off => Self::Off,
        }
    }
}

/// When the anchor is written.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum AnchorEvery {
    /// With each publication: an old copy of the data directory can contradict receipts of the last interval.
    Publication,
    /// With each round, before its heads are signed: it cannot, for one more sync a round.
    Round,
}

/// What a start does about a damaged last record of the write-ahead log.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TornTail {
    /// It stops, and names `logwood repair --drop-torn-tail`: somebody decides.
    Refuse,
    /// It does what that command does, with the same checks, and keeps a copy.
    Repair,
}

impl TornTail {
    fn name(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Repair => "repair",
        }
    }
}

/// A level of heads.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Acknowledge {
    Signed,
    Published,
    Witnessed,
}

impl From<Acknowledge> for Level {
    fn from(level: Acknowledge) -> Self {
        match level {
            Acknowledge::Signed => Self::Signed,
            Acknowledge::Published => Self::Published,
            Acknowledge::Witnessed => Self::Witnessed,
        }
    }
}

/// Settings of the HTTP API.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct HttpSettings {
    /// Where it is.
    pub(crate) listen: Listen,
    /// Whether `POST /logs/<name>/add` appends.
    pub(crate) append: bool,
}

/// An address, or `off`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Listen(pub(crate) Option<SocketAddr>);

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        let address =
            text.parse().map_err(|_| format!("`{text}` is neither `off` nor an address as 127.0.0.1:7071"))?;
        Ok(Self(Some(address)))
    }
}

impl TryFrom<String> for Listen {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Listen> for String {
    fn from(listen: Listen) -> Self {
        listen.0.map_or_else(|| "off".to_owned(), |address| address.to_string())
    }
}

fn not_utf_8(path: &Path) -> Usage {
    Usage { problem: format!("{}: a path in the settings must be UTF-8", path.display()) }
}

/// How long a head may wait for its witnesses, in milliseconds: with the longest, one is published a minute.
const WITNESS_DEADLINE_MS: RangeInclusive<u64> = 10..=60_000;

impl Settings {
    /// Reads all sources. A name that a file holds and nobody knows is an error; so is a value of the wrong kind.
    pub(crate) fn load(args: &ServeArgs) -> anyhow::Result<Self> {
        let mut builder = Config::builder()
            .set_default("data", "logwood-data")?
            .set_default("grpc", "127.0.0.1:7070")?
            .set_default("http.listen", "127.0.0.1:7071")?
            .set_default("http.append", false)?
            .set_default("insecure", false)?
            .set_default("anchor-every", "publication")?
            .set_default("torn-tail", "refuse")?
            .set_default("publish-interval-ms", 1_000)?
            .set_default("refresh-interval-ms", 600_000)?
            .set_default("witness-deadline-ms", 2_000)?;
        if let Some(path) = &args.config {
            builder = builder.add_source(File::from_str(&read(path)?, FileFormat::Toml));
        }
        let variables = Variables::of(std::env::vars_os())?;
        for name in &variables.ignored {
            eprintln!("logwood: warning: {} sets nothing: no setting has that name", output::printable(name));
        }
        let distrusted =
            if args.distrust_witness.is_empty() { variables.distrusted } else { args.distrust_witness.clone() };
        let environment = Environment::with_prefix("LOGWOOD")
            .prefix_separator("_")
            .separator("__")
            .convert_case(Case::Kebab)
            .source(Some(variables.settings.into_iter().collect()));
        let text = |path: &Option<PathBuf>| {
            let utf_8 = |path: &PathBuf| path.to_str().map(str::to_owned).ok_or_else(|| not_utf_8(path));
            path.as_ref().map(utf_8).transpose()
        };
        let settings = builder
            .add_source(environment)
            .set_override_option("data", text(&args.data)?)?
            .set_override_option("grpc", args.grpc.map(|address| address.to_string()))?
            .set_override_option("admin", text(&args.admin)?)?
            .set_override_option("anchor", text(&args.anchor)?)?
            .set_override_option("torn-tail", args.torn_tail.map(TornTail::name))?
            .set_override_option("public-url", args.public_url.clone())?
            .set_override_option("http.listen", args.http.map(String::from))?
            .set_override_option("tls-cert", text(&args.tls_cert)?)?
            .set_override_option("tls-key", text(&args.tls_key)?)?
            .set_override_option("client-ca", text(&args.client_ca)?)?
            .set_override_option("insecure", args.insecure.then_some(true))?
            .set_override_option("distrust-witness", (!distrusted.is_empty()).then_some(distrusted))?
            .build()
            .and_then(Config::try_deserialize::<Self>)
            .map_err(|error| Usage { problem: format!("configuration: {error}") })?;
        settings.validate()?;
        Ok(settings)
    }

    /// Plain text stays on the loopback, unless it was asked for elsewhere.
    fn validate_listeners(&self) -> Result<(), Usage> {
        if self.tls()?.is_some() || self.insecure {
            return Ok(());
        }
        let listeners = [("grpc", Some(self.grpc)), ("http", self.http.listen.0)];
        for (name, address) in listeners {
            if let Some(address) = address.filter(|address| !address.ip().is_loopback()) {
                let problem = format!(
                    "--{name} {address} is beyond the loopback: give --tls-cert and --tls-key, or --insecure to serve \
                     plain text that others can read and change"
                );
                return Err(Usage { problem });
            }
        }
        Ok(())
    }

    fn validate(&self) -> anyhow::Result<()> {
        self.validate_listeners()?;
        if !PUBLISH_INTERVAL_MS.contains(&self.publish_interval_ms) {
            let (least, most) = (PUBLISH_INTERVAL_MS.start(), PUBLISH_INTERVAL_MS.end());
            let problem = format!("publish-interval-ms = {}: {least} to {most}", self.publish_interval_ms);
            return Err(Usage { problem }.into());
        }
        if !WITNESS_DEADLINE_MS.contains(&self.witness_deadline_ms) {
            let (least, most) = (WITNESS_DEADLINE_MS.start(), WITNESS_DEADLINE_MS.end());
            let problem = format!("witness-deadline-ms = {}: {least} to {most}", self.witness_deadline_ms);
            return Err(Usage { problem }.into());
        }
        for name in self.logs.keys() {
            name.parse::<LogName>().map_err(|error| Usage { problem: format!("logs.{name}: {error}") })?;
        }
        self.witnesses()?;
        self.limits()?;
        Ok(())
    }

    /// The witnesses of all logs: their policies are read, and everything that names a witness is checked.
    pub(crate) fn witnesses(&self) -> anyhow::Result<WitnessOptions> {
        let mut logs = BTreeMap::new();
        for (name, log) in &self.logs {
            let usage = |problem: String| Usage { problem: format!("logs.{name}: {problem}") };
            if let Some(path) = &log.policy {
                let bytes = crate::files::read(path, POLICY_BYTES_MAX)?;
                let in_file = |error: String| usage(format!("{}: {error}", path.display()));
                let policy = Policy::parse(&bytes).map_err(|error| in_file(error.to_string()))?;
                let start_guard = log.start_guard.map(StartGuard::from).unwrap_or_default();
                let witnesses = LogWitnesses::new(policy, start_guard).map_err(|error| in_file(error.to_string()))?;
                logs.insert(name.clone(), witnesses);
            }
            let has_quorum = logs.get(name).is_some_and(LogWitnesses::has_quorum);
            if log.acknowledge == Some(Acknowledge::Witnessed) && !has_quorum {
                let problem = "acknowledge = \"witnessed\" needs witnesses: give a `policy` that has a quorum";
                return Err(usage(problem.into()).into());
            }
            if log.start_guard.is_some() && log.policy.is_none() {
                return Err(usage("start-guard needs witnesses: give a `policy`".into()).into());
            }
        }
        let known: BTreeSet<String> = logs.values().flat_map(LogWitnesses::names).collect();
        let mut settings: BTreeMap<String, logwood_server::WitnessSettings> = BTreeMap::new();
        for name in self.witnesses.keys().chain(&self.distrust_witness) {
            if !known.contains(name) {
                return Err(Usage { problem: format!("no policy of a log has a witness `{name}`") }.into());
            }
            let min_interval_ms = self.witnesses.get(name).map_or(0, |witness| witness.min_interval_ms);
            let is_distrusted = self.distrust_witness.contains(name);
            settings.insert(name.clone(), logwood_server::WitnessSettings { min_interval_ms, is_distrusted });
        }
        Ok(WitnessOptions { deadline_ms: self.witness_deadline_ms, logs, settings })
    }

    /// The limits, checked.
    pub(crate) fn limits(&self) -> anyhow::Result<Limits> {
        Ok(Limits::try_from(self.limits).map_err(|error| Usage { problem: format!("configuration: {error}") })?)
    }

    /// The PEM files, if TLS is served.
    pub(crate) fn tls(&self) -> Result<Option<TlsFiles>, Usage> {
        match (&self.tls_cert, &self.tls_key, &self.client_ca) {
            (Some(cert), Some(key), client_ca) => {
                Ok(Some(TlsFiles { cert: cert.clone(), key: key.clone(), client_ca: client_ca.clone() }))
            }
            (None, None, None) => Ok(None),
            (None, None, Some(_)) => Err(Usage {
                problem: "--client-ca needs --tls-cert and --tls-key: certificates are shown in TLS".into(),
            }),
            _ => Err(Usage { problem: "--tls-cert and --tls-key belong together".into() }),
        }
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    let bytes = crate::files::read(path, FILE_BYTES_MAX)?;
    String::from_utf8(bytes).with_context(|| format!("{} is not UTF-8", path.display()))
}
