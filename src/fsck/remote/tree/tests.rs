//! Against tiles of trees whose leaves are numbers: what follows from the root is taken, and nothing else.

use std::collections::BTreeMap;

use super::*;

/// Every tile of a tree of `size`, and its root.
fn tiles(size: u64) -> (BTreeMap<TileId, TileNodes>, TreeHead) {
    let mut tiles: BTreeMap<TileId, TileNodes> = BTreeMap::new();
    let mut range = CompactRange::new();
    for index in 0..size {
        range.append(Hash::leaf(&index.to_be_bytes()), |node, hash| {
            if node.level.is_multiple_of(8) {
                let id = TileId { level: node.level / 8, index: node.index / TILE_WIDTH };
                tiles.entry(id).or_default().push(hash).expect("below 256");
            }
        });
    }
    (tiles, range.head())
}

fn edge(tiles: &BTreeMap<TileId, TileNodes>, size: TreeSize) -> Vec<TileNodes> {
    edge_tiles(size)
        .map(|(id, width)| TileNodes::from_hashes(&tiles[&id].hashes()[..width.into()]).expect("narrow"))
        .collect()
}

fn spoilt(tile: &TileNodes, at: usize) -> TileNodes {
    let mut hashes = tile.hashes().to_vec();
    hashes[at] = Hash::leaf(b"another");
    TileNodes::from_hashes(&hashes).expect("as wide as before")
}

#[test]
fn every_tile_is_reached_from_the_root() {
    for size in [1, 255, 256, 257, 65_536, 70_000, 131_072] {
        let (tiles, head) = tiles(size);
        let mut tree = Tree::new(head, edge(&tiles, head.size)).expect("the edge of that root");
        for (id, tile) in &tiles {
            while let Some(missing) = tree.missing(*id) {
                tree.supply(missing, tiles[&missing].clone()).expect("a tile of that tree");
            }
            assert_eq!(tree.tile(*id), Some(tile), "{id:?} of {size}");
        }
    }
}

#[test]
fn an_edge_with_any_hash_changed_has_another_root() {
    let (tiles, head) = tiles(70_000);
    let honest = edge(&tiles, head.size);
    for (number, tile) in honest.iter().enumerate() {
        for at in 0..tile.hashes().len() {
            let mut edge = honest.clone();
            edge[number] = spoilt(tile, at);
            assert_eq!(Tree::new(head, edge).map(drop), Err(NotItsRoot), "hash {at} of tile {number}");
        }
    }
    assert_eq!(Tree::new(head, honest[1..].to_vec()).map(drop), Err(NotItsRoot));
}

#[test]
fn a_tile_that_is_not_what_the_one_above_says_is_refused() {
    let (tiles, head) = tiles(70_000);
    let mut tree = Tree::new(head, edge(&tiles, head.size)).expect("the edge of that root");
    let top = TileId { level: 1, index: 0 };
    assert_eq!(tree.missing(TileId { level: 0, index: 5 }), Some(top));
    for at in 0..256 {
        assert_eq!(tree.supply(top, spoilt(&tiles[&top], at)), Err(NotItsRoot));
    }
    let narrow = TileNodes::from_hashes(&tiles[&top].hashes()[..255]).expect("narrow");
    assert_eq!(tree.supply(top, narrow), Err(NotItsRoot));
    let other = TileId { level: 0, index: 5 };
    assert_eq!(tree.supply(other, tiles[&other].clone()), Err(NotItsRoot), "before the tile above it is known");
    tree.supply(top, tiles[&top].clone()).expect("a tile of that tree");
    assert_eq!(tree.supply(other, tiles[&TileId { level: 0, index: 6 }].clone()), Err(NotItsRoot));
    tree.supply(other, tiles[&other].clone()).expect("a tile of that tree");
}

#[test]
fn sizes_near_the_largest_do_not_overflow() {
    for size in [1 << 63, u64::MAX] {
        let edge: Vec<_> = edge_tiles(TreeSize(size)).collect();
        assert!(edge.iter().all(|(id, width)| (1..=255).contains(width) && id.level < LEVELS));
        let head = TreeHead { size: TreeSize(size), root: Hash::empty_root() };
        assert_eq!(Tree::new(head, Vec::new()).map(drop), Err(NotItsRoot));
    }
}
