//! What each liar does.

use std::sync::Arc;

use bytes::Bytes;
use logwood_note::{Checkpoint, EntryReader, SignedNote, push_entry, sign_note};
use logwood_proto::{hashes_to_bytes, v1};

use crate::proxy::{Lie, Said, Served, View, changed};
use crate::world::{OLDER, SIZE, World, entry};

/// The tile at the right edge of `default`, as its checkpoint promises it.
const EDGE_TILE: &str = "tile/0/001.p/44";
/// The entries there.
const EDGE_BUNDLE: &str = "tile/entries/001.p/44";
/// The first full tile, and its entries.
const TILE: &str = "tile/0/000";
const BUNDLE: &str = "tile/entries/000";

/// Index of the entry that the judges ask for.
pub(crate) const ASKED: usize = 7;

// Another history.

pub(crate) fn nothing_at_all(_: &World) -> Lie {
    Lie::default()
}

pub(crate) fn fork(_: &World) -> Lie {
    Lie::of(View::Rewritten)
}

pub(crate) fn grown_fork(_: &World) -> Lie {
    Lie::of(View::Grown)
}

pub(crate) fn entries_of_fork(_: &World) -> Lie {
    Lie::default().routed(|rpc| if rpc == "ReadEntries" { View::Rewritten } else { View::Honest })
}

pub(crate) fn entries_of_grown_fork(_: &World) -> Lie {
    Lie::default().routed(|rpc| if rpc == "ReadEntries" { View::Grown } else { View::Honest })
}

pub(crate) fn rollback(_: &World) -> Lie {
    Lie::of(View::Older)
}

pub(crate) fn regrown(_: &World) -> Lie {
    Lie::of(View::Regrown)
}

pub(crate) fn frozen(world: &World) -> Lie {
    replayed(&world.frozen)
}

pub(crate) fn taken_back(world: &World) -> Lie {
    replayed(&world.taken_back)
}

/// The earlier state, under this checkpoint of its size.
fn replayed(note: &Bytes) -> Lie {
    let (note, served) = (note.clone(), note.to_vec());
    let replay = move |head: &mut v1::SignedTreeHead| head.checkpoint = note.clone();
    with_heads(Lie::of(View::Older), replay).serving(for_path("checkpoint", move |_| served.clone()))
}

pub(crate) fn called_witnessed(_: &World) -> Lie {
    const PUBLISHED: i32 = v1::HeadLevel::Published as i32;
    let lie = Lie::default().asking(|rpc, message| match rpc {
        "GetTreeHead" => changed(message, |request: &mut v1::GetTreeHeadRequest| request.level = PUBLISHED),
        "GetEntry" => changed(message, |request: &mut v1::GetEntryRequest| request.head = PUBLISHED),
        _ => message,
    });
    with_heads(lie, |head| head.level = v1::HeadLevel::Witnessed.into())
}

pub(crate) fn other_key(world: &World) -> Lie {
    let key = Arc::clone(&world.impostor);
    let resign = move |note: &[u8]| {
        let text = SignedNote::parse(note).expect("a note").text().to_owned();
        sign_note(&text, &[&key]).expect("a note")
    };
    let over_http = resign.clone();
    let sign = move |head: &mut v1::SignedTreeHead| head.checkpoint = resign(&head.checkpoint).into();
    with_heads(Lie::default(), sign).serving(for_path("checkpoint", move |note| over_http(&note)))
}

pub(crate) fn other_log(_: &World) -> Lie {
    Lie::default().in_place("other")
}

// Entries that are not those.

pub(crate) fn other_logs_entries(world: &World) -> Lie {
    let bundles = [BUNDLE, EDGE_BUNDLE].map(|path| (path, world.resource("other", path)));
    with_entries(|entries, first| {
        for (index, bytes) in (first..).zip(entries) {
            *bytes = entry("other", index);
        }
    })
    .serving(move |path, body| {
        let other = bundles.iter().find(|(bundle, _)| *bundle == path);
        Served::Body(other.map_or(body, |(_, bundle)| bundle.clone()))
    })
}

pub(crate) fn flipped_entry(_: &World) -> Lie {
    let flip = |entry: &Bytes| {
        let mut bytes = entry.to_vec();
        bytes[3] ^= 1;
        Bytes::from(bytes)
    };
    let change = move |entries: &mut [Bytes], first: u64| {
        if let Some((_, entry)) = (first..).zip(entries).find(|(index, _)| *index == ASKED as u64) {
            *entry = flip(entry);
        }
    };
    with_entries(change).serving(for_path(BUNDLE, move |body| rebundled(&body, |all| change(all, 0))))
}

pub(crate) fn exchanged_entries(world: &World) -> Lie {
    let neighbour = world.neighbour.bytes.clone();
    let exchange = |entries: &mut [Bytes]| entries.swap(ASKED, ASKED + 1);
    with_entries(move |entries, first| match entries {
        [one] => *one = neighbour.clone(),
        all if first == 0 => exchange(all),
        _ => {}
    })
    .serving(for_path(BUNDLE, move |body| rebundled(&body, exchange)))
}

pub(crate) fn reversed_entries(_: &World) -> Lie {
    let reverse = |entries: &mut [Bytes]| entries.reverse();
    with_entries(move |entries, _| reverse(entries)).serving(for_path(BUNDLE, move |body| rebundled(&body, reverse)))
}

pub(crate) fn fewer_entries(_: &World) -> Lie {
    let lie = Lie::default().changing("ReadEntries", |answer: &mut v1::ReadEntriesResponse| drop(answer.entries.pop()));
    lie.serving(for_path(EDGE_BUNDLE, |mut body| {
        let last = entry("default", SIZE - 1).len() + 2;
        body.truncate(body.len() - last);
        body
    }))
}

pub(crate) fn long_entry(_: &World) -> Lie {
    Lie::default().changing("ReadEntries", |answer: &mut v1::ReadEntriesResponse| {
        answer.entries[0] = Bytes::from(vec![0; 70_000]);
    })
}

// A history that is none.

pub(crate) fn false_history(world: &World) -> Lie {
    let forged = world.older_forged.clone();
    Lie::default().changing("ListTreeHeads", move |answer: &mut v1::ListTreeHeadsResponse| {
        if let Some(older) = answer.heads.iter_mut().find(|head| size_of(head) == OLDER) {
            older.checkpoint.clone_from(&forged);
        }
    })
}

pub(crate) fn reversed_history(_: &World) -> Lie {
    Lie::default().changing("ListTreeHeads", |answer: &mut v1::ListTreeHeadsResponse| answer.heads.reverse())
}

// Proofs that are none.

pub(crate) fn no_consistency(_: &World) -> Lie {
    consistency(Vec::clear)
}

pub(crate) fn false_consistency(_: &World) -> Lie {
    consistency(|proof| proof.iter_mut().take(1).for_each(|hash| *hash = flipped(hash)))
}

pub(crate) fn neighbours_proof(world: &World) -> Lie {
    inclusion(hashes_to_bytes(&world.neighbour.receipt.proof))
}

pub(crate) fn other_logs_proofs(world: &World) -> Lie {
    inclusion(hashes_to_bytes(&world.stranger.receipt.proof))
}

pub(crate) fn neighbour_instead(world: &World) -> Lie {
    let (bytes, proof) = (world.neighbour.bytes.clone(), hashes_to_bytes(&world.neighbour.receipt.proof));
    let hashes = proof.clone();
    Lie::default()
        .changing("GetEntry", move |answer: &mut v1::GetEntryResponse| {
            answer.index += 1;
            answer.entry.clone_from(&bytes);
            answer.inclusion.clone_from(&proof);
        })
        .changing("GetInclusionProof", move |answer: &mut v1::GetInclusionProofResponse| {
            answer.index += 1;
            answer.inclusion.clone_from(&hashes);
        })
}

pub(crate) fn long_multiproof(_: &World) -> Lie {
    Lie::default().changing("GetInclusionProofs", |answer: &mut v1::GetInclusionProofsResponse| {
        let last = answer.multiproof.last().cloned();
        answer.multiproof.extend(last);
    })
}

pub(crate) fn false_range_proof(_: &World) -> Lie {
    let spoil = |proof: &mut Option<v1::RangeProof>| {
        let proof = proof.as_mut().expect("a range proof");
        match proof.left.iter_mut().chain(&mut proof.right).next() {
            Some(hash) => *hash = flipped(hash),
            // All the entries need no hashes beside them.
            None => proof.right.push(Bytes::from_static(&[0; 32])),
        }
    };
    Lie::default()
        .changing("ReadEntries", move |answer: &mut v1::ReadEntriesResponse| spoil(&mut answer.range_proof))
        .changing("GetRangeProof", move |answer: &mut v1::GetRangeProofResponse| spoil(&mut answer.range_proof))
}

// Answers without a content, or an end.

pub(crate) fn empty_answers(_: &World) -> Lie {
    Lie::default().saying(|_, _| Said::Message(Bytes::new()))
}

pub(crate) fn empty_watch(_: &World) -> Lie {
    Lie::default().changing("WatchTreeHeads", |answer: &mut v1::WatchTreeHeadsResponse| answer.head = None)
}

pub(crate) fn ended_streams(_: &World) -> Lie {
    Lie::default().saying(|rpc, message| if is_stream(rpc) { Said::End } else { Said::Message(message) })
}

pub(crate) fn abandoned_streams(_: &World) -> Lie {
    Lie::default().saying(|rpc, message| if is_stream(rpc) { Said::Abandoned } else { Said::Message(message) })
}

pub(crate) fn cut_streams(_: &World) -> Lie {
    let lie = Lie::default().saying(|rpc, message| if is_stream(rpc) { Said::Cut } else { Said::Message(message) });
    lie.serving(|path, mut body| {
        if path.starts_with("tile/entries/") {
            body.truncate(body.len() / 2);
            return Served::Cut(body);
        }
        Served::Body(body)
    })
}

pub(crate) fn silence(_: &World) -> Lie {
    Lie::silent()
}

// Appends.

pub(crate) fn other_index(_: &World) -> Lie {
    runs(|runs| runs.iter_mut().for_each(|run| run.first_index -= 1))
        .changing("Append", |answer: &mut v1::AppendResponse| answer.index -= 1)
}

pub(crate) fn one_index_for_two(_: &World) -> Lie {
    // The server is made to believe that the second entry is the first one, sent again.
    Lie::default().asking(|rpc, message| match rpc {
        "AppendBatch" => changed(message, |request: &mut v1::AppendBatchRequest| {
            let first = request.entries[0].identity.clone();
            request.entries.iter_mut().for_each(|entry| entry.identity.clone_from(&first));
        }),
        "AppendStream" => changed(message, |request: &mut v1::AppendStreamRequest| {
            if let Some(v1::append_stream_request::Message::Entry(entry)) = &mut request.message {
                let first = Bytes::from_static(b"the first one");
                entry.identity = Some(v1::append_stream_entry::Identity::Key(first));
            }
        }),
        _ => message,
    })
}

pub(crate) fn forgotten(_: &World) -> Lie {
    Lie::default().routed(|rpc| if rpc.starts_with("Append") { View::Twin } else { View::Honest })
}

pub(crate) fn other_bytes(_: &World) -> Lie {
    Lie::default().asking(|rpc, message| {
        let forge = |entry: &mut Bytes| *entry = Bytes::from_static(b"forged");
        match rpc {
            "Append" => changed(message, |request: &mut v1::AppendRequest| forge(&mut request.entry)),
            "AppendBatch" => changed(message, |request: &mut v1::AppendBatchRequest| {
                request.entries.iter_mut().for_each(|entry| forge(&mut entry.entry));
            }),
            "AppendStream" => changed(message, |request: &mut v1::AppendStreamRequest| {
                if let Some(v1::append_stream_request::Message::Entry(entry)) = &mut request.message {
                    forge(&mut entry.entry);
                }
            }),
            _ => message,
        }
    })
}

// Resources over HTTP.

pub(crate) fn other_logs_tiles(world: &World) -> Lie {
    let tiles = [TILE, EDGE_TILE].map(|path| (path, world.resource("other", path)));
    Lie::default().serving(move |path, body| {
        let other = tiles.iter().find(|(tile, _)| *tile == path);
        Served::Body(other.map_or(body, |(_, tile)| tile.clone()))
    })
}

pub(crate) fn forged_checkpoint(world: &World) -> Lie {
    let forged = world.forged.clone();
    Lie::default().serving(for_path("checkpoint", move |_| forged.clone()))
}

pub(crate) fn flipped_tile(_: &World) -> Lie {
    Lie::default().serving(for_path(EDGE_TILE, |mut body| {
        body[9] ^= 1;
        body
    }))
}

pub(crate) fn short_bundle(_: &World) -> Lie {
    Lie::default().serving(for_path(BUNDLE, |mut body| {
        body.truncate(body.len() - 1);
        body
    }))
}

pub(crate) fn short_tile(_: &World) -> Lie {
    Lie::default().serving(for_path(EDGE_TILE, |mut body| {
        body.truncate(body.len() - 32);
        body
    }))
}

pub(crate) fn missing_bundle(_: &World) -> Lie {
    Lie::default().serving(|path, body| match path {
        EDGE_BUNDLE => Served::Status(404),
        _ => Served::Body(body),
    })
}

pub(crate) fn withheld_entries(_: &World) -> Lie {
    Lie::default().serving(|path, body| match path {
        BUNDLE => Served::Status(404),
        _ => Served::Body(body),
    })
}

pub(crate) fn corrupt_gzip(_: &World) -> Lie {
    Lie::default().serving(|path, body| match path {
        BUNDLE => Served::Gzip(body),
        _ => Served::Body(body),
    })
}

pub(crate) fn empty_checkpoint(_: &World) -> Lie {
    Lie::default().serving(for_path("checkpoint", |_| Vec::new()))
}

pub(crate) fn empty_resources(_: &World) -> Lie {
    Lie::default().serving(|path, body| Served::Body(if path == "checkpoint" { body } else { Vec::new() }))
}

// What they have in common.

fn for_path(
    path: &'static str,
    change: impl Fn(Vec<u8>) -> Vec<u8> + Send + Sync + 'static,
) -> impl Fn(&str, Vec<u8>) -> Served + Send + Sync + 'static {
    move |served, body| Served::Body(if served == path { change(body) } else { body })
}

/// A bundle with other entries.
fn rebundled(bundle: &[u8], change: impl Fn(&mut [Bytes])) -> Vec<u8> {
    let mut entries: Vec<_> = EntryReader::new(bundle).map(|entry| Bytes::from(entry.expect("an entry"))).collect();
    change(&mut entries);
    let mut bundle = Vec::new();
    for entry in &entries {
        push_entry(entry, &mut bundle).expect("short");
    }
    bundle
}

fn size_of(head: &v1::SignedTreeHead) -> u64 {
    Checkpoint::parse_unverified(&head.checkpoint).expect("a checkpoint").head.size.0
}

fn flipped(hash: &Bytes) -> Bytes {
    let mut bytes = hash.to_vec();
    bytes[0] ^= 1;
    bytes.into()
}

fn is_stream(rpc: &str) -> bool {
    matches!(rpc, "ReadEntries" | "WatchTreeHeads" | "AppendStream")
}

/// Changes the entries of gRPC answers, given the index of the first.
fn with_entries(change: impl Fn(&mut [Bytes], u64) + Clone + Send + Sync + 'static) -> Lie {
    let one = change.clone();
    Lie::default()
        .changing("GetEntry", move |answer: &mut v1::GetEntryResponse| {
            one(std::slice::from_mut(&mut answer.entry), answer.index);
        })
        .changing("ReadEntries", move |answer: &mut v1::ReadEntriesResponse| {
            change(&mut answer.entries, answer.first_index);
        })
}

fn inclusion(proof: Vec<Bytes>) -> Lie {
    let hashes = proof.clone();
    Lie::default()
        .changing("GetEntry", move |answer: &mut v1::GetEntryResponse| answer.inclusion.clone_from(&proof))
        .changing("GetInclusionProof", move |answer: &mut v1::GetInclusionProofResponse| {
            answer.inclusion.clone_from(&hashes);
        })
}

fn consistency(change: fn(&mut Vec<Bytes>)) -> Lie {
    with_heads(Lie::default(), move |head| change(&mut head.consistency)).changing(
        "GetConsistencyProof",
        move |answer: &mut v1::GetConsistencyProofResponse| {
            change(&mut answer.consistency);
        },
    )
}

fn runs(change: fn(&mut Vec<v1::Run>)) -> Lie {
    Lie::default()
        .changing("AppendBatch", move |answer: &mut v1::AppendBatchResponse| change(&mut answer.runs))
        .changing("AppendStream", move |answer: &mut v1::AppendStreamResponse| change(&mut answer.runs))
}

/// Changes every head over gRPC, in whichever answer it is.
fn with_heads(lie: Lie, change: impl Fn(&mut v1::SignedTreeHead) + Send + Sync + 'static) -> Lie {
    macro_rules! in_answers {
        ($rpc:ident, $message:ident, $($name:literal $answer:ident $heads:ident),+) => {
            match $rpc {
                $($name => changed($message, |answer: &mut v1::$answer| answer.$heads.iter_mut().for_each(&change)),)+
                _ => $message,
            }
        };
    }
    lie.saying(move |rpc, message| {
        Said::Message(in_answers!(
            rpc, message,
            "Append" AppendResponse head,
            "AppendBatch" AppendBatchResponse head,
            "AppendStream" AppendStreamResponse head,
            "GetTreeHead" GetTreeHeadResponse head,
            "ListTreeHeads" ListTreeHeadsResponse heads,
            "WatchTreeHeads" WatchTreeHeadsResponse head,
            "GetEntry" GetEntryResponse head,
            "ReadEntries" ReadEntriesResponse head,
            "GetInclusionProof" GetInclusionProofResponse head,
            "GetInclusionProofs" GetInclusionProofsResponse head,
            "GetRangeProof" GetRangeProofResponse head,
            "DescribeLog" DescribeLogResponse head
        ))
    })
}
