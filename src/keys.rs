//! `logwood keys`: makes key pairs, shows what a key is, and converts between the forms in use.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use logwood_note::{PrivateKey, SignatureType, VerifierKey};
use serde_json::json;

use crate::failure::Usage;
use crate::output;

/// Makes, shows and converts keys.
#[derive(Debug, Args)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Makes a key pair, and prints its vkey.
    Generate {
        /// Name of the key: a log's origin, say `log.example.com/logs/audit`, or a witness's name.
        #[arg(long)]
        name: String,
        /// What the key is for.
        #[arg(long = "type", value_enum, default_value_t = KeyType::Ed25519)]
        kind: KeyType,
        /// The file for the private key. It must not exist; its mode will be 0600.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// One JSON object instead of the vkey alone.
        #[arg(long)]
        json: bool,
    },
    /// Prints the vkey of a private key, or says what a vkey is.
    Show {
        /// The file that holds the private key, or a vkey.
        #[arg(value_name = "FILE|VKEY")]
        key: String,
        /// One JSON object instead.
        #[arg(long)]
        json: bool,
    },
    /// Gives a key another form: another type of the same algorithm, or PEM (PKCS#8) from and to other programs.
    ///
    /// Prints the vkey of the result. Key files are already what Go's note package and its kin read.
    Convert(ConvertArgs),
}

#[derive(Debug, Args)]
struct ConvertArgs {
    /// The file that holds the private key, or a vkey.
    #[arg(value_name = "FILE|VKEY")]
    key: String,
    /// What it shall become.
    #[arg(long, value_enum)]
    to: Form,
    /// The file for the private key. It must not exist; its mode will be 0600. Not for a vkey.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// FILE is PEM, which holds no name: the name that the key shall have.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// One JSON object instead of the vkey alone.
    #[arg(long)]
    json: bool,
}

/// The types of keys, by the names that people type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum KeyType {
    /// Type 0x01: a log signs its checkpoints.
    Ed25519,
    /// Type 0x04: a witness cosigns.
    Ed25519Cosignature,
    /// Type 0x06: a witness cosigns, or a log signs a second time, safe from quantum computers. Not yet audited.
    #[value(name = "ml-dsa-44")]
    MlDsa44,
}

/// What a key can be converted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// A key of type 0x01.
    Ed25519,
    /// A key of type 0x04.
    Ed25519Cosignature,
    /// A key of type 0x06, from the PEM file of one.
    #[value(name = "ml-dsa-44")]
    MlDsa44,
    /// A PEM file for `openssl` and OpenSSH.
    Pem,
}

impl From<KeyType> for SignatureType {
    fn from(kind: KeyType) -> Self {
        match kind {
            KeyType::Ed25519 => Self::Ed25519,
            KeyType::Ed25519Cosignature => Self::Ed25519Cosignature,
            KeyType::MlDsa44 => Self::MlDsa44Cosignature,
        }
    }
}

impl Form {
    /// The type to convert to; `None` for PEM, which leaves it as it is.
    fn kind(self) -> Option<SignatureType> {
        match self {
            Self::Ed25519 => Some(SignatureType::Ed25519),
            Self::Ed25519Cosignature => Some(SignatureType::Ed25519Cosignature),
            Self::MlDsa44 => Some(SignatureType::MlDsa44Cosignature),
            Self::Pem => None,
        }
    }
}

/// Runs the subcommand.
///
/// # Errors
///
/// A bad name, and a conversion that there is not, are usage errors; a key file that exists already, or cannot be
/// read, is not.
pub(crate) fn run(args: KeysArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        KeysCommand::Generate { name, kind, out, json } => {
            let key = PrivateKey::generate(&name, kind.into())
                .map_err(|error| Usage { problem: format!("--name: {error}") })?;
            key.create(&out).context("no key was made")?;
            print(key.verifier(), json)?;
        }
        KeysCommand::Show { key, json } => match vkey(&key) {
            Some(vkey) if !json => describe(&vkey)?,
            Some(vkey) => print(&vkey, true)?,
            None => print(PrivateKey::load(&key)?.verifier(), json)?,
        },
        KeysCommand::Convert(args) => {
            let key = convert(&args)?;
            print(&key, args.json)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Converts; the public half of the result.
fn convert(args: &ConvertArgs) -> anyhow::Result<VerifierKey> {
    let usage = |problem: &str| Usage { problem: problem.to_owned() };
    if let Some(vkey) = vkey(&args.key) {
        if args.out.is_some() || args.name.is_some() {
            return Err(usage("--out and --name are for private keys, and this is a vkey").into());
        }
        let kind = args.to.kind().ok_or_else(|| usage("a vkey has no PEM form: name the file of the private key"))?;
        return Ok(vkey.with_type(kind).map_err(|error| usage(&error.to_string()))?);
    }
    let out = args.out.as_ref().ok_or_else(|| usage("--out FILE is needed for the private key"))?;
    let key = match &args.name {
        Some(name) => PrivateKey::load_pem(&args.key, name)?,
        None => PrivateKey::load(&args.key)?,
    };
    let Some(kind) = args.to.kind() else {
        key.create_pem(out).context("no key was written")?;
        return Ok(key.verifier().clone());
    };
    let key = key.with_type(kind).map_err(|error| usage(&error.to_string()))?;
    key.create(out).context("no key was written")?;
    Ok(key.verifier().clone())
}

/// The vkey that `text` is, unless it names a file.
fn vkey(text: &str) -> Option<VerifierKey> {
    text.parse().ok().filter(|_| !Path::new(text).exists())
}

fn print(key: &VerifierKey, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        let (id, vkey) = (key.id().to_string(), key.to_string());
        output::json(&json!({ "name": key.name(), "id": id, "type": type_name(key.kind()), "vkey": vkey }))
    } else {
        output::line(&key.to_string())
    }
}

fn describe(key: &VerifierKey) -> anyhow::Result<()> {
    output::line(&format!("name  {}", key.name()))?;
    output::line(&format!("id    {}", key.id()))?;
    output::line(&format!("type  {:#04x}, {}", key.kind().byte(), type_name(key.kind())))
}

/// What `--type` takes for the type.
fn type_name(kind: SignatureType) -> &'static str {
    match kind {
        SignatureType::Ed25519 => "ed25519",
        SignatureType::Ed25519Cosignature => "ed25519-cosignature",
        SignatureType::MlDsa44Cosignature => "ml-dsa-44",
    }
}
