//! Large bodies: kept outside of the journal, referred to by messages.

use crate::message::{MessageId, NameError};
use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Serialize};

/// Identifies a large body; written as the id of a message is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BodyId(pub [u8; 16]);

impl fmt::Display for BodyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        MessageId(self.0).fmt(f)
    }
}

impl fmt::Debug for BodyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        MessageId(self.0).fmt(f)
    }
}

impl FromStr for BodyId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Ok(Self(text.parse::<MessageId>()?.0))
    }
}

/// What a message says of the body that it refers to. The SHA-256 stands where it does for any body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BodyRef {
    /// The body.
    pub id: BodyId,
    /// Its length.
    pub bytes: u64,
}
