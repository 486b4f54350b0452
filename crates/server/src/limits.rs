//! Every limit of the server: a setting, its default, and the range in which it makes sense.
//!
//! `docs/limits.md` says what a caller gets over each, and multiplies out what they let the process take.

use std::ops::RangeInclusive;
use std::time::Duration;

use logwood_proto::{BATCH_ENTRIES_MAX, IDENTITY_BYTES_MAX, MULTIPROOF_INDICES_MAX, PAGE_ENTRIES_MAX};
use logwood_sequencer::RoundLimits;
use logwood_store::ENTRY_BYTES_MAX;
use serde::{Deserialize, Serialize};
use thiserror::Error;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Most entries of one stream that wait together for a round.
const STREAM_GROUP_ENTRIES_MAX: usize = 4_096;

/// Most bytes of one stream that wait together for a round.
const STREAM_GROUP_BYTES_MAX: usize = 4 * MIB;

/// What an entry of an `Append` may have around it: a log name, an identity, numbers and tags.
const APPEND_FRAMING_BYTES_MAX: usize = 1024;

/// What one entry takes at most in the answer to a batch, when each is a run of its own: 40 hashes of a range proof
/// (2^40 entries a log) with 2 bytes of framing each, and 64 bytes for the run.
const RUN_BYTES_MAX: usize = 40 * 34 + 64;

/// What an answer holds besides its runs: a checkpoint with its signatures, of which those of witnesses take at most 32
/// KiB (`witnesses/options.rs`), and a consistency proof.
pub(crate) const HEAD_BYTES_MAX: usize = 48 * KIB;

/// The limits as they are configured, not checked yet. Each is kebab-case in a file, with its unit in its name.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct LimitSettings {
    /// Largest `Append` request, and largest message of an `AppendStream`.
    pub append_message_kib: u32,
    /// Largest `AppendBatch` request.
    pub batch_message_kib: u32,
    /// Largest request of any other method.
    pub other_message_kib: u32,
    /// Requests that are being received, over all connections.
    pub bodies_mib: u32,
    /// Longest that one message of a request may take to arrive.
    pub body_timeout_ms: u32,
    /// Largest answer.
    pub answer_kib: u32,
    /// Largest message of a stream of answers.
    pub stream_answer_kib: u32,
    /// Pages and stream answers that are being made or sent, over all connections.
    pub answers_mib: u32,
    /// Longest that a peer may leave answers unread, without taking any.
    pub answer_timeout_ms: u32,
    /// Most entries of one batch.
    pub batch_entries: u32,
    /// Most elements of one page.
    pub page_entries: u32,
    /// Most indices of one multiproof.
    pub multiproof_indices: u32,
    /// Longest identity.
    pub identity_bytes: u32,
    /// Longest that an append waits for a published head.
    pub wait_ms: u32,
    /// Entries that wait for a round, over all logs.
    pub queue_entries: u32,
    /// Bytes of entries that wait for a round, over all logs.
    pub queue_mib: u32,
    /// Entries of one round.
    pub round_entries: u32,
    /// Bytes of entries of one round.
    pub round_mib: u32,
    /// Calls at once, over all connections of a listener.
    pub calls: u32,
    /// Connections at once, on the public port and on the admin socket each.
    pub connections: u32,
    /// Calls of one connection at once.
    pub connection_streams: u32,
    /// HTTP/2 flow-control window of a call.
    pub stream_window_kib: u32,
    /// HTTP/2 flow-control window of a connection.
    pub connection_window_kib: u32,
    /// Largest HTTP/2 frame that is received.
    pub frame_kib: u32,
    /// Largest list of headers of a request.
    pub header_list_kib: u32,
    /// Calls that a peer reset before they were begun, until the connection is closed.
    pub pending_resets: u32,
    /// Longest from accepting a connection to its first call, handshakes included.
    pub handshake_timeout_ms: u32,
    /// How often a quiet connection is pinged.
    pub keepalive_interval_ms: u32,
    /// Longest that a ping may stay unanswered.
    pub keepalive_timeout_ms: u32,
    /// How long calls may take to finish once the server stops.
    pub stop_ms: u32,
    /// Logs kept in memory. One that nobody uses is read from storage when it is next touched.
    pub logs_in_memory: u32,
    /// Free space under which appends are refused. 0: they never are.
    pub disk_reserve_mib: u32,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            append_message_kib: 68,
            batch_message_kib: 8_192,
            other_message_kib: 64,
            bodies_mib: 64,
            body_timeout_ms: 10_000,
            answer_kib: 3_584,
            stream_answer_kib: 256,
            answers_mib: 64,
            answer_timeout_ms: 60_000,
            batch_entries: 1_000,
            page_entries: 1_000,
            multiproof_indices: 1_000,
            identity_bytes: 128,
            wait_ms: 10_000,
            queue_entries: 65_536,
            queue_mib: 64,
            round_entries: 8_192,
            round_mib: 16,
            calls: 16_384,
            connections: 256,
            connection_streams: 1_000,
            stream_window_kib: 256,
            connection_window_kib: 1_024,
            frame_kib: 64,
            header_list_kib: 16,
            pending_resets: 20,
            handshake_timeout_ms: 10_000,
            keepalive_interval_ms: 30_000,
            keepalive_timeout_ms: 20_000,
            stop_ms: 5_000,
            logs_in_memory: 1_000,
            disk_reserve_mib: 2_048,
        }
    }
}

/// Why limits cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("limits.{name} = {value}: must be {least} to {most}")]
pub struct LimitError {
    /// The setting, as in a file.
    pub name: &'static str,
    /// What it was set to.
    pub value: u32,
    /// The least that works with the other limits.
    pub least: u32,
    /// The most that works.
    pub most: u32,
}

/// Limits that were checked, each by itself and against the others. In bytes and durations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits(LimitSettings);

impl TryFrom<LimitSettings> for Limits {
    type Error = LimitError;

    fn try_from(settings: LimitSettings) -> Result<Self, LimitError> {
        for (name, value, range) in settings.ranges() {
            if !range.contains(&value) {
                return Err(LimitError { name, value, least: *range.start(), most: *range.end() });
            }
        }
        Ok(Self(settings))
    }
}

/// So many whole KiB.
fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(KIB)).expect("limits are far below 4 TiB")
}

impl LimitSettings {
    /// Each setting with the range in which it works, given the others.
    fn ranges(&self) -> [(&'static str, u32, RangeInclusive<u32>); 32] {
        const MINUTE_MS: u32 = 60_000;
        let fixed = |most: usize| 1..=u32::try_from(most).expect("a contract's limit is small");
        let message_kib = self.batch_message_kib.max(self.append_message_kib).max(self.other_message_kib);
        // Frames of 16 KiB and more: each is counted with `bodies::FRAME_OVERHEAD_BYTES`.
        let bodies_least = (message_kib + message_kib / 64 + 2 * self.frame_kib).div_ceil(1_024);
        let answer_least = kib(self.batch_entries as usize * RUN_BYTES_MAX + HEAD_BYTES_MAX);
        let stream_least = kib(2 * ENTRY_BYTES_MAX + 4 * self.page_entries as usize + HEAD_BYTES_MAX);
        [
            ("append-message-kib", self.append_message_kib, kib(ENTRY_BYTES_MAX + APPEND_FRAMING_BYTES_MAX)..=1_024),
            ("batch-message-kib", self.batch_message_kib, self.append_message_kib..=65_536),
            ("other-message-kib", self.other_message_kib, 16..=1_024),
            ("bodies-mib", self.bodies_mib, bodies_least..=4_095),
            ("body-timeout-ms", self.body_timeout_ms, 100..=10 * MINUTE_MS),
            // Stock clients refuse more than 4 MiB.
            ("answer-kib", self.answer_kib, answer_least..=3_584),
            ("stream-answer-kib", self.stream_answer_kib, stream_least..=self.answer_kib),
            ("answers-mib", self.answers_mib, self.answer_kib.div_ceil(1_024)..=4_095),
            ("answer-timeout-ms", self.answer_timeout_ms, 1_000..=60 * MINUTE_MS),
            ("batch-entries", self.batch_entries, fixed(BATCH_ENTRIES_MAX)),
            ("page-entries", self.page_entries, fixed(PAGE_ENTRIES_MAX)),
            ("multiproof-indices", self.multiproof_indices, fixed(MULTIPROOF_INDICES_MAX)),
            ("identity-bytes", self.identity_bytes, fixed(IDENTITY_BYTES_MAX)),
            ("wait-ms", self.wait_ms, 1..=MINUTE_MS),
            ("queue-entries", self.queue_entries, self.batch_entries..=1 << 24),
            ("queue-mib", self.queue_mib, self.batch_message_kib.div_ceil(1_024)..=4_095),
            // A batch enters one round.
            ("round-entries", self.round_entries, self.batch_entries..=65_536),
            ("round-mib", self.round_mib, self.batch_message_kib.div_ceil(1_024)..=256),
            ("calls", self.calls, 1..=1 << 20),
            ("connections", self.connections, 1..=65_536),
            ("connection-streams", self.connection_streams, 1..=65_536),
            ("stream-window-kib", self.stream_window_kib, 64..=self.connection_window_kib),
            ("connection-window-kib", self.connection_window_kib, 64..=1_048_576),
            // RFC 9113 §4.2: 2^14 to 2^24 - 1 bytes.
            ("frame-kib", self.frame_kib, 16..=16_383),
            ("header-list-kib", self.header_list_kib, 4..=1_024),
            ("pending-resets", self.pending_resets, 1..=10_000),
            ("handshake-timeout-ms", self.handshake_timeout_ms, 100..=MINUTE_MS),
            ("keepalive-interval-ms", self.keepalive_interval_ms, 1_000..=60 * MINUTE_MS),
            ("keepalive-timeout-ms", self.keepalive_timeout_ms, 1_000..=MINUTE_MS),
            // With the last heads and the last round after that, 10 s are not exceeded.
            ("stop-ms", self.stop_ms, 0..=5_000),
            ("logs-in-memory", self.logs_in_memory, 1..=1 << 20),
            ("disk-reserve-mib", self.disk_reserve_mib, 0..=1 << 24),
        ]
    }
}

fn ms(ms: u32) -> Duration {
    Duration::from_millis(ms.into())
}

/// Where a limit is said to a caller, it is said with the name of its setting's group: `message`, `bodies`, `answers`,
/// `queue`, `disk`.
impl Limits {
    /// The settings that these limits come from.
    #[must_use]
    pub const fn settings(&self) -> &LimitSettings {
        &self.0
    }

    pub(crate) const fn append_message_bytes(&self) -> usize {
        self.0.append_message_kib as usize * KIB
    }

    pub(crate) const fn batch_message_bytes(&self) -> usize {
        self.0.batch_message_kib as usize * KIB
    }

    pub(crate) const fn other_message_bytes(&self) -> usize {
        self.0.other_message_kib as usize * KIB
    }

    pub(crate) const fn bodies_bytes(&self) -> usize {
        self.0.bodies_mib as usize * MIB
    }

    pub(crate) fn body_timeout(&self) -> Duration {
        ms(self.0.body_timeout_ms)
    }

    pub(crate) const fn answer_bytes(&self) -> usize {
        self.0.answer_kib as usize * KIB
    }

    pub(crate) const fn stream_answer_bytes(&self) -> usize {
        self.0.stream_answer_kib as usize * KIB
    }

    pub(crate) const fn answers_bytes(&self) -> usize {
        self.0.answers_mib as usize * MIB
    }

    pub(crate) fn answer_timeout(&self) -> Duration {
        ms(self.0.answer_timeout_ms)
    }

    pub(crate) const fn batch_entries(&self) -> usize {
        self.0.batch_entries as usize
    }

    pub(crate) const fn page_entries(&self) -> usize {
        self.0.page_entries as usize
    }

    pub(crate) const fn multiproof_indices(&self) -> usize {
        self.0.multiproof_indices as usize
    }

    pub(crate) const fn identity_bytes(&self) -> usize {
        self.0.identity_bytes as usize
    }

    pub(crate) const fn wait_ms(&self) -> u32 {
        self.0.wait_ms
    }

    pub(crate) const fn queue_entries(&self) -> usize {
        self.0.queue_entries as usize
    }

    pub(crate) const fn queue_bytes(&self) -> usize {
        self.0.queue_mib as usize * MIB
    }

    /// Of one stream, so many entries or bytes wait for a round together. With one entry more, these still fit the queue,
    /// and they fill no more than a round.
    pub(crate) fn stream_group(&self) -> (usize, usize) {
        let RoundLimits { entries_max, bytes_max } = self.round();
        let entries = entries_max.min(self.queue_entries()).min(STREAM_GROUP_ENTRIES_MAX);
        let bytes = bytes_max.min(self.queue_bytes()).min(STREAM_GROUP_BYTES_MAX + ENTRY_BYTES_MAX);
        (entries, bytes - ENTRY_BYTES_MAX)
    }

    pub(crate) const fn round(&self) -> RoundLimits {
        RoundLimits { entries_max: self.0.round_entries as usize, bytes_max: self.0.round_mib as usize * MIB }
    }

    pub(crate) const fn calls(&self) -> usize {
        self.0.calls as usize
    }

    pub(crate) const fn connections(&self) -> usize {
        self.0.connections as usize
    }

    pub(crate) const fn frame_bytes(&self) -> usize {
        self.0.frame_kib as usize * KIB
    }

    pub(crate) fn handshake_timeout(&self) -> Duration {
        ms(self.0.handshake_timeout_ms)
    }

    pub(crate) fn keepalive_interval(&self) -> Duration {
        ms(self.0.keepalive_interval_ms)
    }

    pub(crate) fn keepalive_timeout(&self) -> Duration {
        ms(self.0.keepalive_timeout_ms)
    }

    pub(crate) fn stop(&self) -> Duration {
        ms(self.0.stop_ms)
    }

    pub(crate) const fn logs_in_memory(&self) -> usize {
        self.0.logs_in_memory as usize
    }

    pub(crate) const fn disk_reserve_bytes(&self) -> u64 {
        self.0.disk_reserve_mib as u64 * MIB as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_within_their_ranges() {
        assert_eq!(Limits::try_from(LimitSettings::default()), Ok(Limits::default()));
    }

    #[test]
    fn a_limit_out_of_its_range_is_named_with_what_would_work() {
        let settings = LimitSettings { append_message_kib: 1, ..LimitSettings::default() };
        let error = Limits::try_from(settings).expect_err("an entry does not fit");
        assert_eq!(error.to_string(), "limits.append-message-kib = 1: must be 65 to 1024");
        let settings = LimitSettings { batch_entries: 1_001, ..LimitSettings::default() };
        assert!(Limits::try_from(settings).is_err(), "the contract says 1,000");
    }

    #[test]
    fn limits_are_checked_against_each_other() {
        // The answer to a batch of 1,000 scattered repeats must fit.
        let settings = LimitSettings { answer_kib: 1_024, ..LimitSettings::default() };
        assert_eq!(Limits::try_from(settings).expect_err("too small").name, "answer-kib");
        let settings = LimitSettings { answer_kib: 1_024, batch_entries: 500, ..LimitSettings::default() };
        assert!(Limits::try_from(settings).is_ok());
        // A budget that one message exceeds would refuse that message for ever.
        let settings = LimitSettings { bodies_mib: 8, ..LimitSettings::default() };
        assert_eq!(Limits::try_from(settings).expect_err("too small").name, "bodies-mib");
        let settings = LimitSettings { queue_mib: 7, ..LimitSettings::default() };
        assert_eq!(Limits::try_from(settings).expect_err("too small").name, "queue-mib");
    }
}
