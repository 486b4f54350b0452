//! The gRPC contract, generated, and its conversions to domain types.
