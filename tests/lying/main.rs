//! A server that lies, and who catches it: one row a lie, one column a tool.
//!
//! Real servers, real sockets, real keys: [`proxy`] stands between them and the tools, [`world`] is what it may pass on,
//! [`lies`] is what it does, and [`judges`] asks the tools. A cell is *caught*, with the error or exit status and words of
//! the message, or *cannot see, because ...*, and then the tool has ended well. `docs/lies.md` has the same table.

#[path = "../common/mod.rs"]
mod common;
#[path = "../../src/demo/forge.rs"]
mod forge;
mod judges;
mod lies;
mod proxy;
mod table;
mod world;

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use judges::{COLUMNS, judge};
use table::{Cell, Knows, Over, Row, alarm, blind, error, exit, fsck, proof, render};
use world::World;

const NO_HTTP: &str = "it reads over gRPC alone";
const NO_GRPC: &str = "it reads over HTTP alone";
const OWN_TREE: &str = "it needs no such proof: it computes the tree from the entries";
const NO_MEMORY: &str = "all of it is signed and agrees with itself, and there is no earlier head to compare with";
const NO_CLOCK: &str = "it asks for no time: that the log has grown since, nothing says";
const NO_ENTRY: &str = "no entry is in the answer";
const NOT_ASKED: &str = "it asks for nothing of that kind";

/// What most rows have in common.
const ROW: Row = Row {
    lie: "nothing",
    tell: lies::nothing_at_all,
    log: "default",
    knows: Knows::Nothing,
    over: Over::Both,
    mirror: false,
    policy: false,
    client: &[],
    command: &[],
    monitor: blind(&[], "nobody lies"),
    fsck: blind(&[], "nobody lies"),
};

/// Every lie, and what each tool makes of it.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    // Another history.
    Row { lie: "a fork of the same size: one old entry is another, all above it is signed anew", tell: lies::fork, knows: Knows::Newest, over: Over::Both,
        client: &[error(&["head", "get", "receipt", "read_range", "heads", "describe"], "Verification", "of size 300")],
        command: &[exit(&["head", "get", "prove", "prove --since", "export", "logs describe"], 3, "of size 300")],
        monitor: proof("split-view", 'a', "are of two histories; proved: "),
        fsck: fsck(3, "but they are of two trees"), ..ROW },
    Row { lie: "that fork, grown", tell: lies::grown_fork, knows: Knows::Newest, over: Over::Both,
        client: &[error(&["head", "get", "receipt", "read_range", "append"], "Verification", "does not extend the verified head of size 300")],
        command: &[exit(&["head", "get", "prove", "export", "append"], 3, "does not extend the verified head of size 300")],
        monitor: proof("split-view", 'b', "are of two histories; proved: "),
        fsck: fsck(3, "but they are of two trees"), ..ROW },
    Row { lie: "that fork, shown to who knows nothing but the key; the monitor sees an honest mirror, too", tell: lies::fork, over: Over::Both, mirror: true,
        client: &[blind(&["head", "get", "read_range", "consistency"], NO_MEMORY)],
        command: &[blind(&["head", "get", "prove", "export"], NO_MEMORY)],
        monitor: proof("split-view", 'a', "are of two histories; proved: "),
        fsck: blind(&[], NO_MEMORY), ..ROW },
    Row { lie: "the entries of that fork, with its head and proofs, beside the honest head; the monitor sees an honest mirror, too", tell: lies::entries_of_fork, over: Over::Grpc, mirror: true,
        client: &[blind(&["read_range"], NO_MEMORY), blind(&["get"], NOT_ASKED)],
        command: &[exit(&["export"], 3, "of size 300"), blind(&["get"], NOT_ASKED)],
        monitor: proof("split-view", 'a', "shows a head of size 300 that vouches for it; proved: "),
        fsck: blind(&[], NO_GRPC), ..ROW },
    Row { lie: "the same of that fork, grown, of which nobody proves what it extends; the monitor sees an honest mirror, too", tell: lies::entries_of_grown_fork, over: Over::Grpc, mirror: true,
        client: &[blind(&["read_range"], NO_MEMORY), blind(&["get"], NOT_ASKED)],
        command: &[exit(&["export"], 1, "the server lags, or was rolled back"), blind(&["get"], NOT_ASKED)],
        monitor: proof("split-view", 'c', "that vouches for it; proved: "),
        fsck: blind(&[], NO_GRPC), ..ROW },
    Row { lie: "an earlier, honest state, as if nothing had come after it", tell: lies::rollback, knows: Knows::Newest, over: Over::Both,
        client: &[error(&["head", "get", "receipt", "read_range", "describe"], "Behind", "the server lags, or was rolled back")],
        command: &[exit(&["head", "get", "prove", "export"], 1, "the server lags, or was rolled back")],
        monitor: alarm(1, "rollback", "it lags, or was rolled back"),
        fsck: fsck(3, "entries were taken back"), ..ROW },
    Row { lie: "that earlier state, grown anew by other entries: what an old copy does once its key signs again", tell: lies::regrown, knows: Knows::Newest, over: Over::Both,
        client: &[error(&["head", "get", "receipt", "read_range", "append"], "Verification", "does not extend the verified head of size 300")],
        command: &[exit(&["head", "get", "prove", "export", "append"], 3, "does not extend the verified head of size 300")],
        monitor: proof("split-view", 'b', "are of two histories; proved: "),
        fsck: fsck(3, "but they are of two trees"), ..ROW },
    Row { lie: "a head of an hour ago, for ever", tell: lies::frozen, log: "audit", over: Over::Both,
        client: &[blind(&["head", "get"], NO_CLOCK)],
        command: &[blind(&["head", "get"], NO_CLOCK)],
        monitor: alarm(1, "stale", "the newest cosignature of its head is"),
        fsck: blind(&[], NO_CLOCK), ..ROW },
    Row { lie: "an earlier state, which the log's key of type 0x06 calls its newest at a later time", tell: lies::taken_back, log: "audit", knows: Knows::Newest, over: Over::Both,
        client: &[error(&["head", "get", "read_range"], "Behind", "the server lags, or was rolled back")],
        command: &[exit(&["head", "get", "prove"], 1, "the server lags, or was rolled back")],
        monitor: proof("rollback", 'd', "it lags, or was rolled back; proved: "),
        fsck: fsck(3, "entries were taken back"), ..ROW },
    Row { lie: "a head that is called witnessed, and that no witness of the policy has seen", tell: lies::called_witnessed, over: Over::Both, policy: true,
        client: &[error(&["head (witnessed)", "get (witnessed)"], "Verification", "the head does not satisfy the policy")],
        command: &[exit(&["head", "get", "prove"], 3, "the head does not satisfy the policy")],
        monitor: alarm(1, "no-quorum", "needs 1 and has 0; not cosigned by"),
        fsck: fsck(3, "needs 1 and has 0; not cosigned by"), ..ROW },
    Row { lie: "another key signs, of the same name", tell: lies::other_key, over: Over::Both,
        client: &[error(&["head", "get", "receipt", "read_range", "heads", "describe"], "Verification", "not one that the log's key signed")],
        command: &[exit(&["head", "get", "prove", "export", "logs describe"], 3, "not one that the log's key signed")],
        monitor: alarm(3, "bad-signature", "no signature is by a known key"),
        fsck: fsck(3, "no signature is by a known key"), ..ROW },
    Row { lie: "another log in its place, whole", tell: lies::other_log, over: Over::Both,
        client: &[error(&["head", "get", "read_range", "heads", "describe"], "Verification", "not one that the log's key signed"), error(&["receipt"], "Rejected", "no entry has that leaf hash")],
        command: &[exit(&["head", "get", "prove", "export", "logs describe"], 3, "not one that the log's key signed"), exit(&["prove --entry"], 1, "no entry has that leaf hash")],
        monitor: alarm(3, "bad-signature", "no signature is by a known key"),
        fsck: fsck(3, "no signature is by a known key"), ..ROW },
    Row { lie: "among the published heads one of another history", tell: lies::false_history, over: Over::Grpc,
        client: &[error(&["heads"], "Verification", "does not extend the verified head of size 200"), blind(&["head"], NOT_ASKED)],
        command: &[blind(&["head", "get", "export"], NOT_ASKED)],
        monitor: proof("split-view", 'b', "it published a head of size 200 that its entries contradict; proved: "),
        fsck: blind(&[], NO_GRPC), ..ROW },
    Row { lie: "published heads in reverse order", tell: lies::reversed_history, over: Over::Grpc,
        client: &[error(&["heads"], "Verification", "is out of order")],
        command: &[blind(&["head", "get", "export"], NOT_ASKED)],
        monitor: blind(&[], "it takes each head for itself, and the order for nobody's word"),
        fsck: blind(&[], NO_GRPC), ..ROW },

    // Entries that are not those.
    Row { lie: "another log's entries", tell: lies::other_logs_entries, over: Over::Both,
        client: &[error(&["get", "read_range"], "Verification", "not in the tree of size 300"), blind(&["head", "receipt"], NO_ENTRY)],
        command: &[exit(&["get", "prove", "export"], 3, "not in the tree of size 300"), blind(&["head", "prove --entry"], NO_ENTRY)],
        monitor: alarm(3, "bad-entry", "do not hash to what the head of size 300 commits to"),
        fsck: fsck(3, "tile/entries/000: "), ..ROW },
    Row { lie: "one bit of an entry flipped", tell: lies::flipped_entry, over: Over::Both,
        client: &[error(&["get", "read_range"], "Verification", "not in the tree of size 300")],
        command: &[exit(&["get", "prove", "export"], 3, "not in the tree of size 300")],
        monitor: alarm(3, "bad-entry", "do not hash to what the head of size 300 commits to"),
        fsck: fsck(3, "tile/entries/000: entry 7 of the bundle"), ..ROW },
    Row { lie: "one bit of an entry flipped, after it was read once", tell: lies::flipped_entry, knows: Knows::Newest, over: Over::Both,
        client: &[error(&["get", "read_range"], "Verification", "not in the tree of size 300")],
        command: &[exit(&["get", "prove", "export"], 3, "not in the tree of size 300")],
        monitor: blind(&[], "it has read the entries already, and reads none twice"),
        fsck: fsck(3, "tile/entries/000: entry 7 of the bundle"), ..ROW },
    Row { lie: "two entries exchanged", tell: lies::exchanged_entries, over: Over::Both,
        client: &[error(&["get", "read_range"], "Verification", "not in the tree of size 300")],
        command: &[exit(&["get", "prove", "export"], 3, "not in the tree of size 300")],
        monitor: alarm(3, "bad-entry", "do not hash to what the head of size 300 commits to"),
        fsck: fsck(3, "tile/entries/000: entry 7 of the bundle"), ..ROW },
    Row { lie: "entries in reverse order", tell: lies::reversed_entries, over: Over::Both,
        client: &[error(&["read_range"], "Verification", "not in the tree of size 300"), blind(&["get"], "one entry has no order")],
        command: &[exit(&["export"], 3, "not in the tree of size 300"), blind(&["get", "prove"], "one entry has no order")],
        monitor: alarm(3, "bad-entry", "do not hash to what the head of size 300 commits to"),
        fsck: fsck(3, "tile/entries/000: entry 0 of the bundle"), ..ROW },
    Row { lie: "fewer entries than asked for, the last left out", tell: lies::fewer_entries, over: Over::Both,
        client: &[error(&["read_range"], "Verification", "not in the tree of size 300"), blind(&["get"], NOT_ASKED)],
        command: &[exit(&["export"], 3, "not in the tree of size 300"), blind(&["get"], NOT_ASKED)],
        monitor: alarm(3, "bad-answer", "the entries end before 255, and 256 were to be had"),
        fsck: fsck(3, "tile/entries/001.p/44: "), ..ROW },
    Row { lie: "an entry that is longer than any", tell: lies::long_entry, over: Over::Grpc,
        client: &[error(&["read_range"], "Verification", "not in the tree of size 300"), blind(&["get"], NOT_ASKED)],
        command: &[exit(&["export"], 3, "not in the tree of size 300"), blind(&["get"], NOT_ASKED)],
        monitor: alarm(3, "bad-answer", "an entry has 70000 bytes, more than 65535"),
        fsck: blind(&[], NO_GRPC), ..ROW },

    // Proofs that are none.
    Row { lie: "a newer head without the proof that it extends the known one", tell: lies::no_consistency, knows: Knows::Older, over: Over::Grpc,
        client: &[error(&["head", "get", "receipt", "read_range"], "Verification", "does not extend the verified head of size 200")],
        command: &[exit(&["head", "get", "prove", "prove --since", "export"], 3, "does not extend the verified head of size 200")],
        monitor: alarm(3, "bad-proof", "is not shown to be of one history"),
        fsck: blind(&[], NO_GRPC), ..ROW },
    Row { lie: "a newer head with a false proof that it extends the known one", tell: lies::false_consistency, knows: Knows::Older, over: Over::Grpc,
        client: &[error(&["head", "get", "receipt", "read_range"], "Verification", "does not extend the verified head of size 200")],
        command: &[exit(&["head", "get", "prove", "prove --since", "export"], 3, "does not extend the verified head of size 200")],
        monitor: alarm(3, "bad-proof", "is not shown to be of one history"),
        fsck: blind(&[], NO_GRPC), ..ROW },
    Row { lie: "the next entry's inclusion proof", tell: lies::neighbours_proof, over: Over::Grpc,
        client: &[error(&["get", "receipt"], "Verification", "entry 7 is not in the tree of size 300"), blind(&["read_range"], NOT_ASKED)],
        command: &[exit(&["get", "prove", "prove --entry"], 3, "entry 7 is not in the tree of size 300"), blind(&["export"], NOT_ASKED)],
        monitor: blind(&[], OWN_TREE),
        fsck: blind(&[], NO_GRPC), ..ROW },
    Row { lie: "another log's inclusion proofs", tell: lies::other_logs_proofs, over: Over::Grpc,
        client: &[error(&["get", "receipt"], "Verification", "entry 7 is not in the tree of size 300"), blind(&["read_range"], NOT_ASKED)],
        command: &[exit(&["get", "prove", "prove --entry"], 3, "entry 7 is not in the tree of size 300"), blind(&["export"], NOT_ASKED)],
        monitor: blind(&[], OWN_TREE),
        fsck: blind(&[], NO_GRPC), ..ROW },
    Row { lie: "the next entry, with all that belongs to it", tell: lies::neighbour_instead, over: Over::Grpc,
        client: &[error(&["get"], "Verification", "entry 7 was asked for, the answer holds entry 8"), error(&["receipt"], "Verification", "entry 8 is not in the tree")],
        command: &[exit(&["get", "prove"], 3, "entry 7 was asked for, the answer holds entry 8"), exit(&["prove --entry"], 3, "entry 8 is not in the tree")],
        monitor: blind(&[], NOT_ASKED),
        fsck: blind(&[], NO_GRPC), ..ROW },
    Row { lie: "a multiproof with one hash too many", tell: lies::long_multiproof, over: Over::Grpc,
        client: &[error(&["multiproof"], "Verification", "the multiproof does not lead to the head")],
        command: &[blind(&["get", "export"], NOT_ASKED)],
        monitor: blind(&[], NOT_ASKED),
        fsck: blind(&[], NO_GRPC), ..ROW },
    Row { lie: "false range proofs", tell: lies::false_range_proof, over: Over::Grpc,
        client: &[error(&["read_range", "range_proof"], "Verification", "not in the tree of size 300"), blind(&["get"], NOT_ASKED)],
        command: &[exit(&["export"], 3, "not in the tree of size 300"), blind(&["get"], NOT_ASKED)],
        monitor: blind(&[], OWN_TREE),
        fsck: blind(&[], NO_GRPC), ..ROW },

    // Answers without a content, or an end.
    Row { lie: "OK with nothing, whatever is asked", tell: lies::empty_answers, log: "inbox", over: Over::Grpc,
        client: &[
            error(&["head", "get", "receipt", "read_range", "range_proof", "multiproof", "consistency", "describe", "append"], "Verification", "the answer holds no head"),
            error(&["append_batch"], "Verification", "the answer leaves out an entry of the batch"),
            error(&["append_stream"], "Verification", "an answer of the stream says nothing"),
            blind(&["heads", "list_logs"], "a list may be empty, and nothing signed says what it holds")],
        command: &[exit(&["head", "get", "prove", "prove --entry", "export", "logs describe"], 3, "the answer holds no head"), exit(&["append"], 3, "the answer leaves out an entry of the batch")],
        monitor: alarm(3, "bad-answer", "the answer holds no head"),
        fsck: blind(&[], NO_GRPC), ..ROW },
    Row { lie: "new heads that are none, to who waits for one", tell: lies::empty_watch, log: "inbox", over: Over::Grpc,
        client: &[error(&["append", "append_batch", "append_stream"], "Verification", "the answer holds no head")],
        command: &[exit(&["append"], 3, "the answer holds no head")],
        monitor: blind(&[], NOT_ASKED),
        fsck: blind(&[], NO_GRPC), ..ROW },
    Row { lie: "streams that end at once, with OK", tell: lies::ended_streams, log: "inbox", over: Over::Grpc,
        client: &[error(&["read_range"], "Verification", "the server ended the entries at 0, before 300"), error(&["append"], "NotSettled", "it ended a stream of heads, which has no end"), error(&["append_stream"], "Unreachable", "it ended a stream of appends early")],
        command: &[exit(&["export"], 3, "the server ended the entries at 0, before 300"), exit(&["append"], 1, "not settled: ")],
        monitor: alarm(3, "bad-answer", "the entries end before 0"),
        fsck: blind(&[], NO_GRPC), ..ROW },
    Row { lie: "streams that end without a status", tell: lies::abandoned_streams, log: "inbox", over: Over::Grpc,
        client: &[error(&["read_range", "append_stream"], "Rejected", "missing grpc-status trailer"), error(&["append"], "NotSettled", "missing grpc-status trailer")],
        command: &[exit(&["export", "append"], 1, "missing grpc-status trailer")],
        monitor: alarm(1, "unreachable", "missing grpc-status trailer"),
        fsck: blind(&[], NO_GRPC), ..ROW },
    Row { lie: "streams and bodies cut in the middle", tell: lies::cut_streams, log: "inbox", over: Over::Both,
        client: &[error(&["read_range", "append_stream"], "Unreachable", "cannot reach"), error(&["append"], "NotSettled", "not settled: "), blind(&["get"], NOT_ASKED)],
        command: &[exit(&["append"], 1, "not settled: ")],
        monitor: alarm(1, "unreachable", "no whole answer"),
        fsck: fsck(1, "try again later"), ..ROW },
    Row { lie: "silence: connections are taken, and nothing is answered", tell: lies::silence, over: Over::Both,
        client: &[error(&["head", "append"], "Unreachable", "cannot reach")],
        command: &[exit(&["head", "append"], 1, "cannot reach")],
        monitor: alarm(1, "unreachable", "no answer within 60 seconds"),
        fsck: fsck(1, "try again later"), ..ROW },

    // Appends.
    Row { lie: "another entry's index for what was appended", tell: lies::other_index, log: "inbox", knows: Knows::Newest, over: Over::Grpc,
        client: &[error(&["append", "append_batch", "append_stream"], "Verification", "not in the tree of size")],
        command: &[exit(&["append"], 3, "not in the tree of size")],
        monitor: blind(&[], NOT_ASKED),
        fsck: blind(&[], NO_GRPC), ..ROW },
    Row { lie: "one index for two equal entries, of which one was dropped", tell: lies::one_index_for_two, log: "inbox", over: Over::Grpc,
        client: &[error(&["append_batch (twins)", "append_stream (twins)"], "Verification", "has one index for two entries")],
        command: &[exit(&["append (twins)"], 3, "has one index for two entries")],
        monitor: blind(&[], "it does not know what was appended"),
        fsck: blind(&[], "it does not know what was appended"), ..ROW },
    Row { lie: "something else is logged than was sent", tell: lies::other_bytes, log: "inbox", over: Over::Grpc,
        client: &[error(&["append", "append_batch", "append_stream"], "Verification", "not in the tree of size")],
        command: &[exit(&["append"], 3, "not in the tree of size")],
        monitor: blind(&[], "it does not know what was appended"),
        fsck: blind(&[], "it does not know what was appended"), ..ROW },
    Row { lie: "a receipt for what is logged nowhere but in a fork that nobody else sees", tell: lies::forgotten, log: "lost", over: Over::Grpc,
        client: &[error(&["append", "append_batch", "append_stream"], "Verification", "does not extend the verified head of size")],
        command: &[exit(&["append"], 3, "does not extend the verified head of size")],
        monitor: blind(&[], "nobody has shown it the receipt"),
        fsck: blind(&[], "nobody has shown it the receipt"), ..ROW },

    // Resources over HTTP.
    Row { lie: "another log's tiles", tell: lies::other_logs_tiles, over: Over::Http,
        client: &[blind(&["get"], NO_HTTP)],
        command: &[blind(&["get"], NO_HTTP)],
        monitor: alarm(3, "bad-tile", "tile/0/001.p/44: no proof of what the tree of size 300 begins with"),
        fsck: fsck(3, "tile/0/"), ..ROW },
    Row { lie: "the checkpoint of a fork beside honest tiles", tell: lies::forged_checkpoint, over: Over::Http,
        client: &[blind(&["head"], NO_HTTP)],
        command: &[blind(&["head"], NO_HTTP)],
        monitor: alarm(3, "bad-tile", "tile/0/001.p/44: no proof of what the tree of size 300 begins with"),
        fsck: fsck(3, "checkpoint: its root is not the one that the tiles lead to"), ..ROW },
    Row { lie: "one bit of a tile flipped", tell: lies::flipped_tile, over: Over::Http,
        client: &[blind(&["get"], NO_HTTP)],
        command: &[blind(&["get"], NO_HTTP)],
        monitor: alarm(3, "bad-tile", "tile/0/001.p/44: no proof of what the tree of size 300 begins with"),
        fsck: fsck(3, "tile/0/001.p/44: "), ..ROW },
    Row { lie: "a bundle cut short", tell: lies::short_bundle, over: Over::Http,
        client: &[blind(&["read_range"], NO_HTTP)],
        command: &[blind(&["export"], NO_HTTP)],
        monitor: alarm(3, "bad-answer", "tile/entries/000: "),
        fsck: fsck(3, "tile/entries/000: "), ..ROW },
    Row { lie: "a partial tile with fewer hashes than its name says", tell: lies::short_tile, over: Over::Http,
        client: &[blind(&["get"], NO_HTTP)],
        command: &[blind(&["get"], NO_HTTP)],
        monitor: alarm(3, "bad-answer", "tile/0/001.p/44: 1376 bytes are served, not 1408"),
        fsck: fsck(3, "tile/0/001.p/44: 1376 bytes are served, not 1408"), ..ROW },
    Row { lie: "no bundle where the checkpoint promises one", tell: lies::missing_bundle, over: Over::Http,
        client: &[blind(&["read_range"], NO_HTTP)],
        command: &[blind(&["export"], NO_HTTP)],
        monitor: alarm(3, "bad-answer", "tile/entries/001.p/44"),
        fsck: fsck(3, "tile/entries/001.p/44 is missing"), ..ROW },
    Row { lie: "no bundle for the first entries, as if they were pruned", tell: lies::withheld_entries, over: Over::Http,
        client: &[blind(&["read_range"], NO_HTTP)],
        command: &[blind(&["export"], NO_HTTP)],
        monitor: alarm(3, "bad-answer", "tile/entries/000 is missing"),
        fsck: blind(&[], "a pruned log is served in the same way: it warns, and `--from 0` demands them"), ..ROW },
    Row { lie: "a bundle that is called gzip, and is not", tell: lies::corrupt_gzip, over: Over::Http,
        client: &[blind(&["read_range"], NO_HTTP)],
        command: &[blind(&["export"], NO_HTTP)],
        monitor: alarm(3, "bad-answer", "tile/entries/000: the answer does not decompress"),
        fsck: fsck(3, "tile/entries/000: the answer does not decompress"), ..ROW },
    Row { lie: "200 with nothing for a checkpoint", tell: lies::empty_checkpoint, over: Over::Http,
        client: &[blind(&["head"], NO_HTTP)],
        command: &[blind(&["head"], NO_HTTP)],
        monitor: alarm(3, "bad-signature", "malformed note"),
        fsck: fsck(3, "checkpoint: "), ..ROW },
    Row { lie: "200 with nothing for tiles and bundles", tell: lies::empty_resources, over: Over::Http,
        client: &[blind(&["read_range"], NO_HTTP)],
        command: &[blind(&["export"], NO_HTTP)],
        monitor: alarm(3, "bad-answer", "tile/entries/000: "),
        fsck: fsck(3, "tile/0/001.p/44: 0 bytes are served, not 1408"), ..ROW },
];

/// Without a lie every way to ask ends well, so no cell is filled by a mistake of the test.
const HONEST: &[Row] = &[
    Row {
        log: "inbox",
        mirror: true,
        client: &[blind(&judges::CALLS, "nobody lies")],
        command: &[blind(&judges::COMMANDS, "nobody lies")],
        ..ROW
    },
    Row {
        knows: Knows::Older,
        client: &[blind(&["head", "get", "read_range", "heads"], "nobody lies")],
        command: &[blind(&["head", "get", "prove --since"], "nobody lies")],
        ..ROW
    },
];

/// Runs every cell of `rows`. What is not as it says, in words.
async fn wrong_cells(world: &Arc<World>, rows: &'static [Row]) -> Vec<String> {
    let cells = rows.iter().flat_map(|row| COLUMNS.map(|column| (row, column)));
    let judged = cells.map(|(row, column)| {
        let world = Arc::clone(world);
        async move { tokio::spawn(async move { judge(&world, row, column).await }).await.expect("no panic") }
    });
    stream::iter(judged).buffer_unordered(8).concat().await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_lie_is_caught_or_known_to_be_out_of_sight() {
    let world = Arc::new(World::new().await);
    println!("{}", render(TABLE));
    let mut wrong = wrong_cells(&world, HONEST).await;
    wrong.extend(wrong_cells(&world, TABLE).await);
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_document_has_this_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/lies.md");
    let document = std::fs::read_to_string(path).expect("the document");
    let table: String = document.lines().filter(|line| line.starts_with('|')).flat_map(|line| [line, "\n"]).collect();
    assert_eq!(table, render(TABLE));
}

#[test]
fn somebody_catches_each_lie() {
    for row in TABLE {
        let is_caught = row.columns().concat().iter().any(|cell| matches!(cell, Cell::Caught { .. }));
        assert!(is_caught, "{}", row.lie);
    }
}
