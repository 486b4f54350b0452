//! Every node of a tree is in its edge or in a completed tile, and a view never changes.

use std::collections::HashMap;

use logwood_merkle::LeafIndex;

use super::*;
use crate::LogTail;

fn leaf(index: u64) -> Hash {
    Hash::leaf(&index.to_be_bytes())
}

#[test]
fn every_node_is_placed_and_old_views_stay_as_they_were() {
    let (mut tail, mut range, mut completed) = (LogTail::empty(), CompactRange::new(), Vec::new());
    let (mut nodes, mut views) = (HashMap::new(), vec![tail.view()]);
    for index in 0..600 {
        assert_eq!(tail.push(leaf(index), &mut completed), LeafIndex(index));
        range.append(leaf(index), |node, hash| assert!(nodes.insert(node, hash).is_none()));
        views.push(tail.view());
    }
    let tiles: HashMap<_, _> = completed.into_iter().collect();
    for (size, view) in (0..).map(TreeSize).zip(&views) {
        assert_eq!(view.head().size, size);
        for (&node, &hash) in nodes.iter().filter(|(node, _)| node.is_complete(size)) {
            let placed = match view.place(node) {
                NodePlace::Edge(hash) => hash,
                NodePlace::Tile(id, sub_level, offset) => {
                    assert_eq!(id.partial_width(size), 256, "readers are sent to completed tiles only");
                    tiles[&id].get(sub_level, offset).expect("a full tile has every node")
                }
            };
            assert_eq!(placed, hash, "node {node} of size {size}");
        }
    }
}

#[test]
#[should_panic(expected = "a node inside the tree")]
fn a_node_past_the_edge_has_no_place() {
    let mut tail = LogTail::empty();
    tail.push(leaf(0), &mut Vec::new());
    let _ = tail.view().place(NodeId { level: 0, index: 1 });
}

#[test]
fn views_share_what_did_not_change() {
    let (mut tail, mut completed) = (LogTail::empty(), Vec::new());
    for index in 0..300 {
        tail.push(leaf(index), &mut completed);
    }
    let before = tail.view();
    tail.push(leaf(300), &mut completed);
    let after = tail.view();
    assert!(!Arc::ptr_eq(&before.edge[0], &after.edge[0]));
    assert!(Arc::ptr_eq(&before.edge[1], &after.edge[1]), "no tile was completed, so level 1 is the same");
}
