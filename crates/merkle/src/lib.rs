//! RFC 6962 Merkle trees: hashing, proof planning and verification, tiles.
