//! gRPC services over a sequencer and a store.
