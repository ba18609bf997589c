//! What is asked of the database for one call of `POST /documents`, and what comes of it.

use serde::Serialize;

/// One document on its way in.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) key: String,
    pub(crate) message_id: String,
    pub(crate) message_type: String,
    pub(crate) content_type: String,
    pub(crate) lane: Option<String>,
    pub(crate) seq: Option<i64>,
    pub(crate) sha256: String,
    pub(crate) body: Vec<u8>,
}

/// What the caller is told of an insertion, now and whenever the key is sent again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Receipt {
    pub(crate) row: i64,
    pub(crate) id: String,
    pub(crate) message_id: String,
    pub(crate) sha256: String,
    pub(crate) bytes: i64,
    pub(crate) received_at: String,
}

/// What came of a call.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Inserted by this call.
    Inserted(Receipt),
    /// Inserted by an earlier call with the same key and the same body.
    Replayed(Receipt),
    /// The key was used for another body.
    KeyReused,
}
