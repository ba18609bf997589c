//! What promises depend on beside the records.

use countersign_rules::Duration;

/// What the operator's configuration says, where a promise depends on it.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Messages in flight to one recipient; not judged when absent.
    pub window_messages: Option<u32>,
    /// Bytes in flight to one recipient; not judged when absent.
    pub window_bytes: Option<u64>,
    /// How long a message may wait although nothing stands in its way. Default: 1 h, six times the
    /// longest wait for a receipt.
    pub stuck_after: Duration,
    /// Whether the back office looks at idempotency keys, so that nothing is inserted twice.
    /// Default: yes.
    pub keys_honoured: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            window_messages: None,
            window_bytes: None,
            stuck_after: Duration::from_secs(3600),
            keys_honoured: true,
        }
    }
}
