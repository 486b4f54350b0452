//! What a witness cosigned last, as it shows everybody: `GET <prefix>/<hex SHA-256 of the origin>/checkpoint`.
//!
//! A log that is stopped after its witnesses were asked, and before the head was stored, comes back with a published
//! head that is smaller than theirs, and a tree that holds theirs all the same. The checkpoint that they serve bears the
//! log's own signature: if its root is that of our tree, we signed it, and go on from there.

use std::sync::Arc;

use logwood_merkle::{TreeHead, TreeSize};
use logwood_note::note::NOTE_BYTES_MAX;
use logwood_note::{SignedNote, VerifierKey, origin_path};
use logwood_sequencer::LogView;
use logwood_store::{LogNumber, LogSettings};

use super::options::endpoint;
use super::sender::Sender;
use crate::thaw;
use crate::writer::Shared;

/// What a witness knows, beside our tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// A head of our tree, which we signed.
    Ours {
        head: TreeHead,
        /// With our signatures alone.
        checkpoint: SignedNote,
    },
    /// A head beyond our tree.
    Larger { size: TreeSize },
    /// We signed another tree.
    Other { size: TreeSize },
}

/// Asks a witness what it knows.
///
/// # Errors
///
/// There is no answer, or it is no checkpoint that the log signed: this witness says nothing.
pub(super) async fn look_up(
    sender: &Sender,
    prefix: &[u8],
    (shared, (number, settings), view): (Arc<Shared>, (LogNumber, LogSettings), LogView),
) -> Result<Known, String> {
    let path = format!("{}/checkpoint", origin_path(&settings.origin));
    let url = endpoint(prefix, &path).ok_or("its URL is none")?;
    let (status, body) = sender.get(url, NOTE_BYTES_MAX).await?;
    if status != 200 {
        return Err(format!("status {status}"));
    }
    let keys = settings.vkeys.iter().map(|vkey| vkey.parse::<VerifierKey>()).collect::<Result<Vec<_>, _>>();
    let (head, checkpoint) = thaw::open(&body, &keys.map_err(|error| error.to_string())?, &settings.origin)?;
    if head.size > view.head().size {
        return Ok(Known::Larger { size: head.size });
    }
    let root = tokio::task::spawn_blocking(move || {
        let store = shared.slot.get()?;
        shared.nodes.root(&*store, (number, &view), head.size).ok()
    });
    let root = root.await.ok().flatten().ok_or("the log's own tree cannot be read")?;
    Ok(if root == head.root { Known::Ours { head, checkpoint } } else { Known::Other { size: head.size } })
}
