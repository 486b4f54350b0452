//! The siblings on the way from a node to the root: shape alone, no hashes.
