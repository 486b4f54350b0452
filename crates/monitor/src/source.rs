//! Sources: where a monitor gets heads, entries and proofs from. None of them is believed.
//!
//! | URL | what is there |
//! |---|---|
//! | `http://`, `https://` | a tlog-tiles log: `checkpoint` is right below the URL |
//! | `grpc://host:port/<log>`, `grpcs://` | a Logwood server; without a path, its log `default` |
//! | `witness+http://`, `witness+https://` | a witness's monitoring prefix (C2SP tlog-witness): heads, nothing else |

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use logwood_client::TlsOptions;
use logwood_merkle::{Hash, LeafIndex, TileId, TilePath, TreeSize, plan};
use logwood_note::{Seal, origin_path};
use parking_lot::Mutex;
use reqwest::Url;
use thiserror::Error;
use tokio::time::Instant;

use crate::claim::Claim;
use crate::failure::Failure;
use crate::follow::Link;
use crate::tiles::{FULL, SetUpError, World};
use crate::{grpc, tiles};

/// How long a head may take, with all repeats.
const HEAD_DEADLINE: Duration = Duration::from_mins(1);
/// How long a proof may take, with all repeats: a few kilobytes, while a round waits.
const PROOF_DEADLINE: Duration = Duration::from_secs(20);
/// How long the entries of a bundle may take, with all repeats: at most 16 MiB.
pub const ENTRIES_DEADLINE: Duration = Duration::from_mins(5);
/// The same while there is another source to ask.
pub const ENTRIES_DEADLINE_FIRST: Duration = Duration::from_secs(30);
/// How long a source that ran into a deadline is asked last.
const STALLED_FOR: Duration = Duration::from_mins(5);

/// A place where a log, or a head of it, can be seen.
pub struct Source {
    /// The URL, as it was given.
    pub name: String,
    kind: Kind,
    world: Arc<dyn World>,
    /// When it ran into a deadline last.
    stalled_at: Mutex<Option<Instant>>,
}

enum Kind {
    Tiles(tiles::Source),
    Server(Box<grpc::Server>),
    /// Only its checkpoint is asked for.
    Witness(tiles::Source),
}

impl Source {
    /// The sources that `text` names: one, but for a witness one for each of `origins`.
    ///
    /// * `origins` - the logs that the caller has keys for.
    /// * `roots` - the certificates to trust instead of the system's, in PEM.
    /// * `tls` - the same for gRPC.
    /// * `world` - keeps the deadlines.
    ///
    /// # Errors
    ///
    /// [`SourceError`] if the URL is of no kind that is known, or TLS cannot be set up.
    pub fn parse(
        text: &str,
        origins: &[String],
        roots: Option<&[u8]>,
        tls: &TlsOptions,
        world: &Arc<dyn World>,
    ) -> Result<Vec<Self>, SourceError> {
        let wrong = || SourceError::Url { url: text.to_owned() };
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let tiles_at = |url: String| -> Result<tiles::Source, SourceError> {
            let url = Url::parse(&url).map_err(|_| wrong())?;
            Ok(tiles::Source::new(&url, roots, Arc::clone(world))?)
        };
        let source =
            |kind| Self { name: text.to_owned(), kind, world: Arc::clone(world), stalled_at: Mutex::default() };
        match scheme {
            "http" | "https" => Ok(vec![source(Kind::Tiles(tiles_at(text.to_owned())?))]),
            "grpc" | "grpcs" => {
                let (host, log) = rest.split_once('/').unwrap_or((rest, ""));
                let log = Some(log.trim_end_matches('/')).filter(|log| !log.is_empty()).unwrap_or("default");
                let (scheme, tls) =
                    if scheme == "grpc" { ("http", TlsOptions::default()) } else { ("https", tls.clone()) };
                let server = grpc::Server::new(format!("{scheme}://{host}"), log.to_owned(), tls);
                Ok(vec![source(Kind::Server(Box::new(server)))])
            }
            "witness+http" | "witness+https" => {
                let prefix = text["witness+".len()..].trim_end_matches('/');
                let of =
                    |origin: &String| Ok(source(Kind::Witness(tiles_at(format!("{prefix}/{}", origin_path(origin)))?)));
                origins.iter().map(of).collect()
            }
            _ => Err(wrong()),
        }
    }

    /// Whether there are entries and proofs, and not only heads.
    #[must_use]
    pub fn has_entries(&self) -> bool {
        !matches!(self.kind, Kind::Witness(_))
    }

    /// Whether it ran into a deadline of late: others are asked first.
    #[must_use]
    pub fn has_stalled(&self) -> bool {
        self.stalled_at.lock().is_some_and(|at| at.elapsed() < STALLED_FOR)
    }

    /// The newest checkpoint note.
    ///
    /// # Errors
    ///
    /// [`Failure`] if it cannot be had within a minute.
    pub async fn checkpoint(&self) -> Result<Bytes, Failure> {
        let answer = async {
            match &self.kind {
                Kind::Tiles(source) | Kind::Witness(source) => Ok(source.checkpoint().await?.into()),
                Kind::Server(server) => server.checkpoint().await,
            }
        };
        self.within(HEAD_DEADLINE, "checkpoint", answer).await
    }

    /// The seal note, if the source shows one; not verified. Logs of other makers have something else there, or nothing,
    /// and whether a source answers at all is told by its checkpoint: nothing that goes wrong here is a failure.
    pub async fn seal(&self) -> Option<Bytes> {
        let answer = async {
            match &self.kind {
                Kind::Tiles(source) => Ok(source.seal().await),
                Kind::Server(server) => server.seal().await,
                Kind::Witness(_) => Ok(None),
            }
        };
        let answer = self.within(HEAD_DEADLINE, "seal", answer).await.ok().flatten();
        answer.filter(|note| Seal::is_claimed_by(note))
    }

    /// Published checkpoint notes of at least `from` entries that the source keeps, oldest first, and the size from which
    /// to go on. `None` if it is of a kind that keeps none.
    ///
    /// # Errors
    ///
    /// [`Failure`] if they cannot be had within 20 seconds.
    pub async fn history(&self, from: TreeSize) -> Option<Result<(Vec<Bytes>, Option<u64>), Failure>> {
        let Kind::Server(server) = &self.kind else { return None };
        Some(self.within(PROOF_DEADLINE, "history", server.history(from)).await)
    }

    /// The entries from `first` on, to `end` or the end of their bundle: at most 256. And what the source says of them.
    ///
    /// * `size` - of a signed tree that holds them.
    /// * `deadline` - for all repeats: [`ENTRIES_DEADLINE`], or [`ENTRIES_DEADLINE_FIRST`].
    ///
    /// # Errors
    ///
    /// [`Failure`] if they cannot be had in that time.
    pub async fn entries(
        &self,
        (first, end): (u64, u64),
        size: TreeSize,
        deadline: Duration,
    ) -> Result<(Vec<Bytes>, Vec<Claim>), Failure> {
        let bundle = first / u64::from(FULL);
        let end = end.min((bundle + 1) * u64::from(FULL));
        let answer = async {
            match &self.kind {
                Kind::Tiles(source) => {
                    let width = TileId { level: 0, index: bundle }.partial_width(size);
                    let mut entries = source.bundle(bundle, width).await?;
                    let offset = |index: u64| usize::try_from(index - bundle * u64::from(FULL)).expect("at most 256");
                    entries.truncate(offset(end));
                    // What its checkpoint says of them, the caller asks for by itself.
                    Ok((entries.split_off(offset(first)), Vec::new()))
                }
                Kind::Server(server) => server.entries(first, end).await,
                Kind::Witness(_) => Err(only_heads()),
            }
        };
        self.within(deadline, "entries", answer).await
    }

    /// The consistency proof from `old` to `new`.
    ///
    /// # Errors
    ///
    /// [`Failure`] if it cannot be had within 20 seconds.
    pub async fn consistency(&self, old: TreeSize, new: TreeSize) -> Result<Vec<Hash>, Failure> {
        let answer = async {
            match &self.kind {
                Kind::Tiles(source) => source.consistency(old, new).await,
                Kind::Server(server) => server.consistency(old, new).await,
                Kind::Witness(_) => Err(only_heads()),
            }
        };
        self.within(PROOF_DEADLINE, "consistency proof", answer).await
    }

    /// The inclusion proof of the entry at `index` in the tree of `size` leaves.
    ///
    /// # Errors
    ///
    /// [`Failure`] if it cannot be had within 20 seconds.
    pub async fn inclusion(&self, index: LeafIndex, size: TreeSize) -> Result<Vec<Hash>, Failure> {
        let answer = async {
            match &self.kind {
                Kind::Tiles(source) => source.inclusion(index, size).await,
                Kind::Server(server) => server.inclusion(index, size).await,
                Kind::Witness(_) => Err(only_heads()),
            }
        };
        self.within(PROOF_DEADLINE, "inclusion proof", answer).await
    }

    /// What the tree of `new` leaves begins with, and the proof of it. Without the first, which only tells more if the
    /// proof fails, the range is empty.
    ///
    /// * `old` - below `new`.
    ///
    /// # Errors
    ///
    /// [`Failure`] if it cannot be had within 40 seconds.
    pub async fn link(&self, old: TreeSize, new: TreeSize) -> Result<Link, Failure> {
        let consistency = self.consistency(old, new).await?;
        let range = async {
            match &self.kind {
                Kind::Tiles(source) => source.range(old, new).await,
                Kind::Server(server) => server.range(old, new).await,
                Kind::Witness(_) => Err(only_heads()),
            }
        };
        let range = self.within(PROOF_DEADLINE, "range", range).await.unwrap_or_default();
        Ok(Link { range, consistency })
    }

    /// The paths of the tiles that a consistency proof from `old` to `new` is made of, if it is made of tiles.
    #[must_use]
    pub fn tiles_of(&self, old: TreeSize, new: TreeSize) -> Option<Vec<String>> {
        let Kind::Tiles(_) = &self.kind else { return None };
        let mut paths: Vec<String> = Vec::new();
        for &node in plan::consistency(old, new).ok()?.nodes() {
            let (tile, ..) = TileId::of_node(node);
            let path = TilePath::Hashes { tile, width: tile.partial_width(new) }.to_string();
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
        Some(paths)
    }

    /// The leaf hashes that the source itself has for the entries from `first` on, up to the end of their tile: to say
    /// which entry differs. `None` if it cannot say.
    pub async fn leaves(&self, first: u64, size: TreeSize) -> Option<Vec<Hash>> {
        let Kind::Tiles(source) = &self.kind else { return None };
        let tile = TileId { level: 0, index: first / u64::from(FULL) };
        let fetched = self.within(PROOF_DEADLINE, "tile", source.tile(tile, tile.partial_width(size))).await.ok()?;
        let offset = usize::try_from(first % u64::from(FULL)).expect("below 256");
        fetched.hashes().get(offset..).map(<[Hash]>::to_vec)
    }

    async fn within<T>(
        &self,
        deadline: Duration,
        what: &str,
        answer: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            answer = answer => answer,
            () = self.world.sleep(deadline) => {
                *self.stalled_at.lock() = Some(Instant::now());
                Err(Failure::unavailable(what, format!("no answer within {} seconds", deadline.as_secs())))
            }
        }
    }

    /// Forgets what proofs were made of, since one did not verify.
    pub fn distrust(&self) {
        if let Kind::Tiles(source) = &self.kind {
            source.forget_tiles();
        }
    }
}

fn only_heads() -> Failure {
    Failure::unavailable("entries", "a witness has heads and nothing else")
}

/// Why a source cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The URL is malformed, or of no known kind.
    #[error("{url} is no source: use http(s)://, grpc(s)://host:port/log, or witness+http(s)://")]
    Url {
        /// The URL as it was given.
        url: String,
    },
    /// TLS cannot be set up.
    #[error(transparent)]
    SetUp(#[from] SetUpError),
}
