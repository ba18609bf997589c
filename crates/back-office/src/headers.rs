//! The headers of `POST /documents` and of its answer.

/// Required. The same key inserts once; later calls get the first answer.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// On the answer: `true` when the key had been inserted before.
pub const IDEMPOTENCY_REPLAYED: &str = "idempotency-replayed";
/// Required. The message that carried the document.
pub const MESSAGE_ID: &str = "x-message-id";
/// Required. The type of that message.
pub const MESSAGE_TYPE: &str = "x-message-type";
/// Optional. The lane in which the message is ordered.
pub const LANE: &str = "x-lane";
/// Optional. The message's number among those for the same recipient.
pub const SEQ: &str = "x-seq";
