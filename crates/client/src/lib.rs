//! The verifying client.
