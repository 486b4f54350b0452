//! `logwood fsck URL`: every entry and every tile of any tlog-tiles log, over HTTP alone.
//!
//! ```text
//!   checkpoint ──> right edge ──> what earlier heads say ──> walk, bundle by bundle ──> the root, once more, from below
//!   signature      folds to       (--checkpoint, --state)    tile = hash above it
//!                  the root                                  entries = hashes of the tile
//! ```
//!
//! Each bundle is judged by a task of its own, some at a time, and taken in order: the first failure that is reported is
//! the first in the log. A task holds one tile, and one entry of the bundle.

mod state;
mod tree;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use clap::Args;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use indicatif::ProgressBar;
use logwood_merkle::{
    CompactRange, Hash, NodeId, TILE_HEIGHT, TILE_WIDTH, TileId, TileNodes, TilePath, TreeHead, TreeSize,
};
use logwood_monitor::failure::{Failure, Problem};
use logwood_monitor::tiles::{FULL, RealWorld, Source};
use logwood_note::trust::Trust as _;
use logwood_note::{Checkpoint, Policy};
use reqwest::Url;
use serde_json::json;

use crate::failure::{Usage, VerificationFailed};
use crate::{files, output, progress};
use state::Known;
use tree::{LEVELS, Tree, edge_tiles};

/// Most bytes of a file of root certificates.
const ROOTS_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bundles after which the state is written.
const SAVE_BUNDLES: u64 = 64;

/// What only a log at a URL takes.
#[derive(Debug, Args)]
pub(crate) struct RemoteArgs {
    /// URL: the log's origin, where it differs from the name of its key.
    #[arg(long)]
    pub(super) origin: Option<String>,
    /// URL: all entries from this one on must be there: the log's minimum index, if it is pruned, as it has announced it; 0
    /// for a log that is not. Those below its bundle are taken as the signed tree has them. Without this option a log whose
    /// first entries are not there passes with a warning: no answer of a server tells what was pruned from what is withheld.
    #[arg(long, value_name = "INDEX")]
    from: Option<u64>,
    /// URL: a file that remembers what was verified. After an interruption the check goes on from there; a later one
    /// checks what is new, and that nothing old was rewritten.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// URL: bundles that are fetched and checked at a time.
    #[arg(long, default_value_t = 16, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=256))]
    parallel: u16,
    /// URL: the roots to trust for https:// instead of the system's (PEM).
    #[arg(long, env = "LOGWOOD_TLS_CA", value_name = "FILE")]
    tls_ca: Option<PathBuf>,
}

impl RemoteArgs {
    /// Whether something was asked for that no directory can do.
    pub(super) fn is_for_url(&self) -> bool {
        self.origin.is_some() || self.state.is_some() || self.from.is_some()
    }
}

/// A log, and what is known of it beforehand.
pub(super) struct Target<'a> {
    pub(super) url: &'a Url,
    pub(super) policy: &'a Policy,
    /// Checkpoint notes that were kept elsewhere, with the names of their files.
    pub(super) kept: &'a [(String, Vec<u8>)],
}

/// Judges the log at a URL.
pub(super) fn run(target: &Target<'_>, args: &RemoteArgs, as_json: bool) -> anyhow::Result<ExitCode> {
    let roots = args.tls_ca.as_deref().map(|path| files::read(path, ROOTS_BYTES_MAX)).transpose()?;
    let source = Source::new(target.url, roots.as_deref(), Arc::new(RealWorld))?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let verdict = runtime.block_on(judge(target, args, source)).map_err(with_exit_status);
    let verdict = verdict.inspect_err(|error| {
        if as_json && let Some(failed) = error.downcast_ref::<VerificationFailed>() {
            // The exit status tells the same, should standard output be closed.
            let _ = output::json(&json!({ "verified": false, "url": target.url.as_str(), "reason": failed.reason }));
        }
    })?;
    report(target, &verdict, args, as_json)?;
    Ok(ExitCode::SUCCESS)
}

/// A log that lacks or changes what it signed lies; one that cannot be asked does not.
fn with_exit_status(error: anyhow::Error) -> anyhow::Error {
    match error.downcast::<Failure>() {
        Ok(failure) if matches!(failure.problem, Problem::Unavailable(_)) => failure.into(),
        Ok(failure) => VerificationFailed { reason: failure.to_string() }.into(),
        Err(error) => error,
    }
}

/// What was shown.
struct Verdict {
    checkpoint: Checkpoint,
    /// The first entry that was checked.
    first: u64,
    /// Entries below this one were verified by an earlier run.
    resumed: u64,
}

fn report(target: &Target<'_>, verdict: &Verdict, args: &RemoteArgs, as_json: bool) -> anyhow::Result<()> {
    let Checkpoint { origin, head, .. } = &verdict.checkpoint;
    if as_json {
        return output::json(&json!({
            "verified": true,
            "url": target.url.as_str(),
            "origin": origin,
            "size": head.size.0,
            "root": output::base64(head.root),
            "first": verdict.first,
            "resumed": verdict.resumed,
        }));
    }
    match verdict.first {
        0 => {}
        first if args.from.is_some() => eprintln!("logwood: --from: nobody has checked its entries below {first}"),
        first if verdict.resumed > 0 => eprintln!(
            "logwood: warning: the entries 0 to {} were not checked by the earlier run, whose state this is, nor here",
            first - 1
        ),
        first => eprintln!(
            "logwood: warning: the entries 0 to {} are not served: they were pruned, or they are withheld. Nobody has checked \
             them here; `--from 0` demands them all, `--from {first}` these",
            first - 1
        ),
    }
    let earlier = match verdict.resumed {
        0 => String::new(),
        resumed => format!(" (those below {resumed} by an earlier run)"),
    };
    let root = output::base64(head.root);
    let vouches = if target.policy.needs_witnesses() { "witnessed checkpoint" } else { "checkpoint" };
    output::line(&match head.size.0.checked_sub(1) {
        None => format!("{origin}: it has no entries, as its {vouches} says; root {root}"),
        Some(last) => format!(
            "{origin}: entries {} to {last}{earlier} and their tiles are what its {vouches} says; root {root}",
            verdict.first
        ),
    })
}

async fn judge(target: &Target<'_>, args: &RemoteArgs, source: Source) -> anyhow::Result<Verdict> {
    let note = source.checkpoint().await.map_err(no_checkpoint)?;
    let checkpoint = target.policy.open(&note, args.origin.as_deref());
    let checkpoint =
        checkpoint.map_err(|error| Failure::wrong("checkpoint", VerificationFailed::new(&error).reason))?.checkpoint;
    let origin = checkpoint.origin.as_str();
    // To hold the log to what it signed, its signature is enough.
    let signer = target.policy.without_witnesses();
    let known = args.state.as_deref().map(|path| Known::load(path, origin, &signer)).transpose()?.flatten();

    let kept = kept_heads(target.kept, origin, &signer, known.as_ref())?;
    if let Some((_, what)) = kept.iter().find(|(head, _)| head.size > checkpoint.head.size) {
        let reason = format!("it is of size {}, and {what} is larger: entries were taken back", checkpoint.head.size);
        return Err(Failure::wrong("checkpoint", reason).into());
    }
    let mut walk = Walk::new(source, checkpoint.head).await?;
    let conflict = args.state.as_deref().map(|path| path.with_added_extension("conflict"));
    for (head, what) in kept {
        if walk.root_at(head.size, args.from).await.with_context(|| what.clone())? != head.root {
            if let Some(path) = &conflict {
                files::write(path, &note)?;
            }
            let reason = format!("it is signed, and so is {what} of size {}, but they are of two trees", head.size);
            return Err(Failure::wrong("checkpoint", reason).into());
        }
    }
    let (first_bundle, range) = walk.start(known, args.from).await?;
    let resumed = if range.size().0 > first_bundle { range.size().0 * TILE_WIDTH } else { 0 };
    let progress = Progress::new(&checkpoint, &range, |range: &CompactRange| match &args.state {
        Some(path) => state::save(path, origin, first_bundle, range, &note),
        None => Ok(()),
    });
    walk.run(range, usize::from(args.parallel), progress).await?;
    let first = first_bundle * TILE_WIDTH;
    Ok(Verdict { checkpoint, first, resumed })
}

/// Why a log that should have the full bundle `first` does not pass: the first one that it serves is `there`.
fn lacks(first: u64, there: u64) -> anyhow::Error {
    anyhow::anyhow!(
        "the entries {} to {} are not served: they were pruned, or they are withheld. If the log has announced that it \
         pruned them, `--from {}` checks the others",
        first * TILE_WIDTH,
        there * TILE_WIDTH - 1,
        there * TILE_WIDTH
    )
}

/// Without a checkpoint there is nothing to verify: that is a failure, but nobody lied.
fn no_checkpoint(failure: Failure) -> anyhow::Error {
    if failure.is_missing() {
        return anyhow::anyhow!("there is no `checkpoint` at this URL: give the one below which `checkpoint` is");
    }
    failure.into()
}

/// The heads that the log must extend, and what each is.
fn kept_heads(
    kept: &[(String, Vec<u8>)],
    origin: &str,
    signer: &Policy,
    known: Option<&Known>,
) -> anyhow::Result<Vec<(TreeHead, String)>> {
    let open = |(name, note): &(String, Vec<u8>)| {
        let opened = signer.open(note, Some(origin));
        let opened = opened.map_err(|error| VerificationFailed {
            reason: format!("{name}: {}", VerificationFailed::new(&error).reason),
        });
        Ok((opened?.checkpoint.head, name.clone()))
    };
    let from_state = known.map(|known| Ok((known.head, "the checkpoint in the state file".to_owned())));
    kept.iter().map(open).chain(from_state).collect()
}

/// A bar on standard error, and a state that is saved now and then.
struct Progress<S> {
    bar: ProgressBar,
    save: S,
}

impl<S: Fn(&CompactRange) -> anyhow::Result<()>> Progress<S> {
    fn new(checkpoint: &Checkpoint, range: &CompactRange, save: S) -> Self {
        let bar = progress::of_count(&format!("checking {}", checkpoint.origin), checkpoint.head.size.0);
        bar.set_position(range.size().0 * TILE_WIDTH);
        Self { bar, save }
    }
}

/// A log with the tiles that its root vouches for so far.
struct Walk {
    source: Source,
    head: TreeHead,
    tree: Tree,
}

/// A full bundle to judge, and the root that its tile must have.
struct Job {
    bundle: u64,
    root: Hash,
}

impl Walk {
    /// Fetches the right edge, which must fold to the root of `head`.
    async fn new(source: Source, head: TreeHead) -> Result<Self, Failure> {
        let tiles = edge_tiles(head.size).map(|(id, width)| source.tile(id, width));
        // In order, so that the first failure that is reported is always the same one.
        let tiles: Vec<_> = stream::iter(tiles).buffered(usize::from(LEVELS)).try_collect().await?;
        match Tree::new(head, tiles.clone()) {
            Ok(tree) => Ok(Self { source, head, tree }),
            Err(_) => Err(blame(&source, head.size, &tiles).await),
        }
    }

    /// Fetches what leads down to the tile `id`.
    async fn load(&mut self, id: TileId) -> Result<(), Failure> {
        while let Some(missing) = self.tree.missing(id) {
            let tile = self.source.tile(missing, FULL).await?;
            self.tree.supply(missing, tile).map_err(|_| not_its_root(missing))?;
        }
        Ok(())
    }

    /// The compact range of the first `size << height` leaves, as the tiles have it, over subtrees of `height`.
    async fn range(&mut self, size: u64, height: u8) -> Result<CompactRange, Failure> {
        let mut hashes = Vec::new();
        for node in CompactRange::node_ids(TreeSize(size)) {
            let node = NodeId { level: node.level + height, index: node.index };
            let (tile, ..) = TileId::of_node(node);
            self.load(tile).await?;
            hashes.push(self.tree.node(node).expect("it is inside the tree, and its tile is loaded"));
        }
        Ok(CompactRange::from_hashes(TreeSize(size), hashes).expect("one hash for each node"))
    }

    /// The root of the first `size` leaves.
    ///
    /// * `from` - the minimum index of the log, if it has announced one.
    async fn root_at(&mut self, size: TreeSize, from: Option<u64>) -> anyhow::Result<Hash> {
        match self.range(size.0, 0).await {
            Err(failure) if failure.is_missing() && from.is_some_and(|from| size.0 < from) => {
                let from = from.unwrap_or_default();
                anyhow::bail!("to compare it takes tiles that are pruned: give a checkpoint of {from} entries or more")
            }
            range => Ok(range?.root()),
        }
    }

    /// The bundle from which on all are checked, now or earlier, and the compact range over those before the one to begin
    /// with.
    ///
    /// * `from` - the minimum index of the log, if it has announced one; otherwise the first bundle that is there is it.
    async fn start(&mut self, known: Option<Known>, from: Option<u64>) -> anyhow::Result<(u64, CompactRange)> {
        let (mut first, size) = (from.unwrap_or(0) / TILE_WIDTH, self.head.size);
        if let Some(from) = from.filter(|&from| from > 0 && from >= size.0) {
            return Err(Usage { problem: format!("--from: the log has {size} entries, so no entry {from}") }.into());
        }
        if let Some(known) = known {
            // Its checkpoint is of this tree, so only a file that somebody wrote can say more.
            let verified = known.range.size().0;
            ensure!(verified <= size.0 / TILE_WIDTH, "the state file is broken: remove it to start anew");
            if self.range(verified, TILE_HEIGHT).await? != known.range {
                let entries = verified * TILE_WIDTH;
                let reason = format!("it says otherwise than the state file of the first {entries} entries");
                return Err(Failure::wrong("checkpoint", reason).into());
            }
            if from.is_some() && known.first_bundle > first {
                let problem = format!("the state file is of a check with --from {}", known.first_bundle * TILE_WIDTH);
                return Err(Usage { problem: format!("{problem}: give that, or another --state") }.into());
            }
            if verified >= first {
                return Ok((known.first_bundle, known.range));
            }
        }
        if first < size.0 / TILE_WIDTH && !self.source.has_bundle(first).await? {
            let there = self.first_served(first).await?;
            if from.is_some() {
                return Err(lacks(first, there));
            }
            first = there;
        }
        Ok((first, self.range(first, TILE_HEIGHT).await?))
    }

    /// The first bundle after `first`, which is not served, that is.
    ///
    /// # Errors
    ///
    /// There is none.
    async fn first_served(&self, first: u64) -> Result<u64, Failure> {
        let full = self.head.size.0 / TILE_WIDTH;
        // Bundles below `gone` are not there, and the one at `there` is.
        let (mut gone, mut there) = (first + 1, full);
        while gone < there {
            let middle = gone.midpoint(there);
            if self.source.has_bundle(middle).await? {
                there = middle;
            } else {
                gone = middle + 1;
            }
        }
        if there == full && self.tree.tail().is_none() {
            let path = TilePath::Entries { index: first, width: FULL }.to_string();
            return Err(Failure { path, problem: Problem::Missing });
        }
        Ok(there)
    }

    /// Judges what comes after `range`, up to the end.
    async fn run<S>(mut self, mut range: CompactRange, parallel: usize, progress: Progress<S>) -> anyhow::Result<()>
    where
        S: Fn(&CompactRange) -> anyhow::Result<()>,
    {
        let (source, head) = (self.source.clone(), self.head);
        let tail = self.tree.tail().map(|(id, tile)| (id, tile.hashes().to_vec()));
        let next = range.size().0;
        let mut judged = Box::pin(
            stream::try_unfold((&mut self, next), Self::next_job)
                .map(|job| {
                    let source = source.clone();
                    async move {
                        let Job { bundle, root } = job?;
                        let task = tokio::spawn(check_bundle(source, bundle, root));
                        task.await.expect("it does not panic, and nobody cancels it").map(|()| root)
                    }
                })
                .buffered(parallel),
        );
        let mut outcome = Ok(());
        loop {
            match judged.try_next().await {
                Ok(Some(root)) => range.append(root, |_, _| ()),
                Ok(None) => break,
                Err(failure) => {
                    outcome = Err(failure);
                    break;
                }
            }
            progress.bar.set_position(range.size().0 * TILE_WIDTH);
            if range.size().0.is_multiple_of(SAVE_BUNDLES) {
                (progress.save)(&range)?;
            }
        }
        (progress.save)(&range)?;
        outcome?;

        let leaves = match tail {
            Some((id, leaves)) => {
                source.check_bundle(id.index, &leaves).await?;
                leaves
            }
            None => Vec::new(),
        };
        progress.bar.finish_and_clear();
        check_from_below(&range, &leaves, head)
    }

    /// The job for the bundle `next`, if it is a full one.
    async fn next_job((walk, next): (&mut Self, u64)) -> Result<Option<(Job, (&mut Self, u64))>, Failure> {
        if next == walk.head.size.0 / TILE_WIDTH {
            return Ok(None);
        }
        let id = TileId { level: 0, index: next };
        walk.load(TileId { level: 1, index: next / TILE_WIDTH }).await?;
        let root = walk.tree.root_of(id).expect("the tile above is loaded");
        Ok(Some((Job { bundle: next, root }, (walk, next + 1))))
    }
}

/// Checks a full bundle against its tile, and that against its root.
async fn check_bundle(source: Source, bundle: u64, root: Hash) -> Result<(), Failure> {
    let id = TileId { level: 0, index: bundle };
    let tile = source.tile(id, FULL).await?;
    if tile.root() != Some(root) {
        return Err(not_its_root(id));
    }
    source.check_bundle(bundle, tile.hashes()).await
}

/// The root once more, from the leaves upwards: it leans on nothing that the walk from the root down has assumed.
fn check_from_below(bundles: &CompactRange, leaves: &[Hash], head: TreeHead) -> anyhow::Result<()> {
    let size = TreeSize(bundles.size().0 * TILE_WIDTH);
    let mut range = CompactRange::from_hashes(size, bundles.hashes().to_vec())?;
    for leaf in leaves {
        range.append(*leaf, |_, _| ());
    }
    if range.head() == head {
        return Ok(());
    }
    let reason = format!("its root is not that of its entries, which have {} at size {}", range.root(), range.size());
    Err(Failure::wrong("checkpoint", reason).into())
}

fn not_its_root(tile: TileId) -> Failure {
    Failure::wrong(
        TilePath::Hashes { tile, width: FULL }.to_string(),
        "it is not what the tile above it has the hash of",
    )
}

/// The tiles of the right edge do not fold to the signed root: which of them is it?
///
/// * `tiles` - those tiles, in the order of [`edge_tiles`].
async fn blame(source: &Source, size: TreeSize, tiles: &[TileNodes]) -> Failure {
    for ((id, width), tile) in edge_tiles(size).zip(tiles) {
        let path = TilePath::Hashes { tile: id, width };
        let below = if id.level == 0 {
            source.check_bundle(id.index, tile.hashes()).await
        } else {
            let children = (id.index * TILE_WIDTH..).zip(tile.hashes());
            let checks =
                children.map(|(index, hash)| check_child(source, TileId { level: id.level - 1, index }, *hash));
            stream::iter(checks).buffered(usize::from(FULL) / 8).try_collect().await
        };
        match below {
            Ok(()) => {}
            // Parts of a pruned log are gone.
            Err(failure) if failure.is_missing() => {}
            Err(Failure { path: child, problem: Problem::Wrong(reason) }) => {
                let reason = format!("it does not lead to the signed root, nor does it agree with {child}: {reason}");
                return Failure::wrong(path.to_string(), reason);
            }
            Err(failure) => return failure,
        }
    }
    Failure::wrong("checkpoint", "its root is not the one that the tiles lead to")
}

async fn check_child(source: &Source, id: TileId, root: Hash) -> Result<(), Failure> {
    match source.tile(id, FULL).await {
        Ok(tile) if tile.root() == Some(root) => Ok(()),
        Ok(_) => Err(not_its_root(id)),
        Err(failure) if failure.is_missing() => Ok(()),
        Err(failure) => Err(failure),
    }
}
