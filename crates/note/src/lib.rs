//! Signed notes, checkpoints, keys and receipts.
