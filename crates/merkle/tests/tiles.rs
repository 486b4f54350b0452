//! Tile coordinates, interiors and paths.

mod common;

use common::Tree;
use common::rfc6962::mth;
use logwood_merkle::{
    CompactRange, CompactRangeError, Hash, NodeId, TILE_HEIGHT, TILE_WIDTH, TileError, TileId, TileNodes, TilePath,
    TreeSize,
};

#[test]
fn every_interior_node_of_every_width() {
    let tree = Tree::new(TILE_WIDTH);
    let mut grown = TileNodes::new();
    for width in 0..=256_usize {
        let hashes = &tree.leaves[..width];
        let tile = TileNodes::from_hashes(hashes).unwrap();
        assert_eq!(tile, grown);
        assert_eq!(usize::from(tile.width()), width);
        for sub_level in 0..=TILE_HEIGHT {
            for (offset, leaves) in hashes.chunks(1 << sub_level).enumerate() {
                let node = (leaves.len() == 1 << sub_level).then(|| mth(leaves));
                assert_eq!(tile.get(sub_level, offset), node, "{sub_level}/{offset} of {width}");
            }
            assert_eq!(tile.get(sub_level, 256), None);
            assert_eq!(tile.get(sub_level, usize::MAX), None);
        }
        assert_eq!(tile.get(9, 0), None);
        assert_eq!(tile.get(255, 0), None);
        if width < 256 {
            assert_eq!(tile.root(), None);
            grown.push(tree.leaves[width]).unwrap();
        }
    }
    assert_eq!(grown.root(), Some(tree.head().root));
    assert_eq!(grown.push(Hash::default()), Err(TileError::Full));
    assert_eq!(grown.width(), 256);
    assert_eq!(TileNodes::from_bytes(&[0; 33]), Err(TileError::NotWholeHashes { actual: 33 }));
    let wide = TileNodes::from_bytes(&[0; 257 * 32]);
    assert_eq!(wide, Err(TileError::TooWide { actual: 257 }));
}

#[test]
fn a_size_of_70_000_has_the_tiles_that_the_specification_counts() {
    let tiles: Vec<_> = TileId::for_size(TreeSize(70_000)).collect();
    let on = |level| tiles.iter().filter(move |(id, _)| id.level == level).copied();
    assert_eq!(on(0).filter(|&(_, width)| width == 256).count(), 273);
    assert_eq!(on(0).last(), Some((TileId { level: 0, index: 273 }, 112)));
    let first = (TileId { level: 1, index: 0 }, 256);
    assert_eq!(on(1).collect::<Vec<_>>(), [first, (TileId { level: 1, index: 1 }, 17)]);
    assert_eq!(on(2).collect::<Vec<_>>(), [(TileId { level: 2, index: 0 }, 1)]);
    assert_eq!(tiles.len(), 274 + 2 + 1);
    assert_eq!(TileId::for_size(TreeSize(0)).count(), 0);
}

#[test]
fn coordinates_at_the_edges_of_u64() {
    let size = TreeSize(u64::MAX);
    assert_eq!(TileId { level: 7, index: 0 }.partial_width(size), 255);
    assert_eq!(TileId { level: 0, index: (1 << 56) - 1 }.partial_width(size), 255);
    assert_eq!(TileId { level: 0, index: u64::MAX }.partial_width(size), 0);
    assert_eq!(TileId { level: 255, index: 0 }.partial_width(size), 0);
    let top = TileId::of_node(NodeId { level: 63, index: 1 });
    assert_eq!(top, (TileId { level: 7, index: 0 }, 7, 1));
    let leaf = TileId::of_node(NodeId { level: 0, index: u64::MAX });
    assert_eq!(leaf, (TileId { level: 0, index: (1 << 56) - 1 }, 0, 255));
    let node = TileId::of_node(NodeId { level: 11, index: 70 });
    assert_eq!(node, (TileId { level: 1, index: 2 }, 3, 6));
}

#[test]
fn canonical_paths_round_trip() {
    let paths = [
        "tile/0/000",
        "tile/0/000.p/1",
        "tile/63/255.p/255",
        "tile/1/x001/x234/067.p/17",
        "tile/entries/x001/000",
        "tile/entries/999.p/3",
        "tile/2/x018/x446/x744/x073/x709/x551/615",
    ];
    for path in paths {
        assert_eq!(path.parse::<TilePath>().unwrap().to_string(), path);
    }
    let tile = TileId { level: 1, index: 1_234_067 };
    assert_eq!("tile/1/x001/x234/067.p/17".parse(), Ok(TilePath::Hashes { tile, width: 17 }));
    let bundle = TilePath::Entries { index: 1, width: 256 };
    assert_eq!("tile/entries/001".parse(), Ok(bundle));
    assert!(bundle.is_complete(TreeSize(512)) && !bundle.is_complete(TreeSize(511)));
}

#[test]
fn anything_else_is_no_path() {
    let paths = [
        "",
        "/tile/0/000",
        "tile/0/0",
        "tile/0/0000",
        "tile/00/000",
        "tile/64/000",
        "tile/+1/000",
        "tile/0/x000/001",
        "tile/0/001/002",
        "tile/0/x001",
        "tile/0/x1/002",
        "tile/0/x001/x002",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000.p/+1",
        "tile/0/000.p/1/",
        "tile/0/000.p/",
        "tile/0/000.p/1.p/1",
        "tile/0/+01",
        "tile/0/-01",
        "tile/entries/",
        "tile/entries",
        "tile/data/000",
        "tile/0/000/",
        "tile/0//000",
        "tile/0/x000/x000/000",
        "tile/0/\u{663}\u{663}\u{663}",
        "tile/0/x001/x/000",
        "tile/0/x018/x446/x744/x073/x709/x551/616",
    ];
    for path in paths {
        assert!(path.parse::<TilePath>().is_err(), "{path}");
    }
}

#[test]
fn compact_ranges_resume_where_they_stopped() {
    for size in 0..=64 {
        let tree = Tree::new(size);
        let hashes = tree.range.hashes().to_vec();
        assert_eq!(CompactRange::from_hashes(tree.size(), hashes.clone()), Ok(tree.range.clone()));
        assert_eq!(CompactRange::node_ids(tree.size()).len(), hashes.len());
    }
    let wrong = CompactRangeError::WrongLength { size: TreeSize(7), expected: 3, actual: 0 };
    assert_eq!(CompactRange::from_hashes(TreeSize(7), vec![]), Err(wrong));
}
