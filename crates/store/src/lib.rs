//! The LogStore contract, its conformance suite, and an in-memory store with fault injection.
