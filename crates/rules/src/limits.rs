//! The bound of everything that can grow, and why it is what it is.
//!
//! At a limit a request is refused with its cause; nothing that was accepted is dropped (I17).

use crate::time::Duration;

/// Longest name of a tenant, agent, message type, lane, group or label, in bytes. Names travel in every record.
pub const NAME_BYTES_MAX: usize = 128;

/// Longest idempotency key, in bytes: room for a UUID with a prefix, or a URL path.
pub const KEY_BYTES_MAX: usize = 256;

/// Largest body carried inside the message, in bytes. Above it a claim check is the right tool.
pub const BODY_BYTES_MAX: usize = 256 * 1024;

/// Largest body that a message may refer to, in bytes: 16 GiB, more than one document should have.
pub const LARGE_BODY_BYTES_MAX: u64 = 16 << 30;

/// How long a large body waits for the first message that refers to it.
pub const BODY_UNCLAIMED: Duration = Duration::from_secs(24 * 3600);

/// Large bodies that are being sent at one time.
pub const UPLOADS_MAX: usize = 1000;

/// Longest correlation id, causation id, traceparent or tracestate, in bytes (W3C allows 512).
pub const CONTEXT_BYTES_MAX: usize = 512;

/// Longest outcome code an agent may report, in bytes.
pub const OUTCOME_CODE_BYTES_MAX: usize = 64;

/// Longest outcome detail an agent may report, in bytes; longer text is cut, never refused,
/// because an acknowledgement must not be lost over its prose.
pub const OUTCOME_DETAIL_BYTES_MAX: usize = 2048;

/// Largest outcome data (raw JSON) an agent may report, in bytes.
pub const OUTCOME_DATA_BYTES_MAX: usize = 16 * 1024;

/// Most acknowledgements in one request: what an agent flushes in a few round trips.
pub const ACKS_PER_POST_MAX: usize = 500;

/// Most messages in one batch request.
pub const MESSAGES_PER_BATCH_MAX: usize = 1000;

/// Most unfinished messages of one centre. One costs about 128 bytes of memory: 10 GiB at the limit.
pub const PENDING_MAX: u64 = 80_000_000;

/// Most recipients one centre knows.
pub const RECIPIENTS_MAX: usize = 1_000_000;

/// Messages handled by one deadline step, so that one step stays short.
pub const PER_DEADLINE_MAX: usize = 1000;

/// Recent acknowledgements the ack store remembers to answer `duplicate` without a second record.
pub const RECENT_ACKS_MAX: usize = 65_536;

/// Ended-before-arrival sequence numbers remembered per recipient to tell a returning agent its gap.
pub const GAPS_PER_RECIPIENT_MAX: usize = 10_000;

/// Times in a row that a back office may say of one attempt that it is still working on it. After
/// that the attempt has failed: a message must end somewhere, and with waits of five minutes these
/// are three and a half days.
pub const STILL_WORKING_MAX: u32 = 1000;

/// Parked lanes that an agent names at `ready`. The others follow as these are resumed.
pub const PARKED_LANES_TOLD_MAX: usize = 1000;

/// Acknowledgements of unknown messages that are remembered to be listed; the oldest messages leave
/// the list first. All of them stay in the journal as long as it is kept. Some 2 MB.
pub const ORPHANS_MAX: usize = 10_000;

/// Most groups one centre knows. Each stays known when its last member has left, so that its version
/// never begins anew.
pub const GROUPS_MAX: usize = 10_000;

/// Most memberships of all groups together: they stand in every image.
pub const MEMBERSHIPS_MAX: usize = 1_000_000;

/// Most labels of one recipient.
pub const LABELS_PER_RECIPIENT_MAX: usize = 16;

/// Most recipients of one send. Its rows are one batch of records, some 1 MiB at this size, and one
/// step of the loop, some tens of milliseconds.
pub const RECIPIENTS_PER_SEND_MAX: usize = 10_000;

/// Most sends to many that are remembered at a time, unfinished ones and those whose retention is not
/// over.
pub const FAN_OUTS_MAX: usize = 100_000;

/// Most recipients of all remembered sends to many together: four bytes and one bit each.
pub const FAN_OUT_ROWS_MAX: u64 = 20_000_000;
/// Most messages of one operation. A pair takes 19 bytes in its record and 24 in memory; an operation
/// at its usual rate takes 17 minutes for so many.
pub const OPERATION_PAIRS_MAX: usize = 100_000;

/// Most messages of all operations that are remembered with their results: 5 MB of memory, and of
/// each snapshot. Beyond that the results of the oldest stand in the journal alone.
pub const OPERATION_PAIRS_REMEMBERED_MAX: usize = 200_000;

/// Most operations that are remembered.
pub const OPERATIONS_MAX: usize = 1000;

/// Most operations that go on at a time, of all tenants.
pub const OPERATIONS_RUNNING_MAX: usize = 16;

/// Most messages that one operation takes a second.
pub const OPERATION_RATE_MAX: u32 = 10_000;
