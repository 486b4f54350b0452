//! Plan, commit, adopt, release, acknowledge: the log's one writer, and the publisher.
