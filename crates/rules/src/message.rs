//! Names and ids: parsed once into types that cannot be wrong.

use crate::limits::NAME_BYTES_MAX;
use alloc::sync::Arc;
use core::{fmt, str::FromStr};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Identifies a message: a UUID, version 7 when this product made it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MessageId(pub [u8; 16]);

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [b'-'; 36];
        let mut at = 0;
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                at += 1;
            }
            text[at] = DIGITS[usize::from(byte >> 4)];
            text[at + 1] = DIGITS[usize::from(byte & 15)];
            at += 2;
        }
        f.write_str(core::str::from_utf8(&text).expect("hex digits and dashes are UTF-8"))
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MessageId {
    type Err = NameError;

    /// Reads the 36-character form, in either case.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let bytes = text.as_bytes();
        let dashed = [8, 13, 18, 23]
            .iter()
            .all(|&at| bytes.get(at) == Some(&b'-'));
        if bytes.len() != 36 || !dashed {
            return Err(NameError::NotAnId);
        }
        let mut id = [0u8; 16];
        let mut digits = bytes.iter().filter(|b| **b != b'-');
        for byte in &mut id {
            let mut nibble = || {
                let digit = digits
                    .next()
                    .copied()
                    .map(char::from)
                    .and_then(|c| c.to_digit(16));
                digit.map(|d| d as u8).ok_or(NameError::NotAnId)
            };
            *byte = nibble()? << 4 | nibble()?;
        }
        match digits.next() {
            None => Ok(Self(id)),
            Some(_) => Err(NameError::NotAnId),
        }
    }
}

/// Why a text is not a name or an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing there.
    #[error("it is empty")]
    Empty,
    /// Too long.
    #[error("it has {bytes} bytes, at most {NAME_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// A character outside the allowed set.
    #[error("{found:?} is not allowed; {allowed}")]
    Character {
        /// The first one found.
        found: char,
        /// What is allowed, as a clause.
        allowed: &'static str,
    },
    /// Not the 36-character form of a UUID.
    #[error("it is not a UUID such as 01935d3c-7a2e-7c4b-9f10-5b0e8c1d2a3f")]
    NotAnId,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $allowed:expr, $says:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text`.
            ///
            /// # Errors
            /// It is empty, too long, or has a character that is not allowed.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                check(text, $allowed, $says)?;
                Ok(Self(Arc::from(text)))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = <&str>::deserialize(from)?;
                Self::parse(text).map_err(serde::de::Error::custom)
            }
        }
    };
}

fn check(text: &str, allowed: fn(char) -> bool, says: &'static str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong { bytes: text.len() });
    }
    match text.chars().find(|c| !allowed(*c)) {
        Some(found) => Err(NameError::Character {
            found,
            allowed: says,
        }),
        None => Ok(()),
    }
}

name!(
    /// A tenant: its messages, agents and tokens are invisible to every other (I30).
    TenantName,
    |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'),
    "use letters, digits, '-', '_' and '.'"
);
name!(
    /// A recipient: the agent at one site.
    AgentName,
    |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '@'),
    "use letters, digits, '-', '_', '.', ':' and '@'"
);
name!(
    /// A message type, which is also the hub method the client handles it with. Lower-case only:
    /// some SignalR clients fold the case of method names and some do not, so two types that
    /// differ only in case would collide.
    TypeName,
    |c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.'),
    "use lower-case letters, digits, '-', '_' and '.'"
);
name!(
    /// A lane within one recipient: messages of one lane keep their order (I6).
    LaneName,
    |c| !c.is_control(),
    "control characters are not allowed"
);

name!(
    /// A group of recipients.
    GroupName,
    |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '@'),
    "use letters, digits, '-', '_', '.', ':' and '@'"
);
name!(
    /// The name of a label that a recipient carries.
    LabelName,
    |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/'),
    "use letters, digits, '-', '_', '.' and '/'"
);
name!(
    /// The value of a label that a recipient carries.
    LabelValue,
    |c| !c.is_control(),
    "control characters are not allowed"
);

impl LaneName {
    /// The lane of messages sent without an order key: one per recipient.
    pub fn default_lane() -> Self {
        Self(Arc::from("default"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn an_id_reads_back_as_written_in_either_case() {
        let text = "01935d3c-7a2e-7c4b-9f10-5b0e8c1d2a3f";
        let id: MessageId = text.parse().unwrap();
        assert_eq!(id.to_string(), text);
        assert_eq!(text.to_uppercase().parse::<MessageId>().unwrap(), id);
    }

    #[test]
    fn texts_that_are_no_id_are_refused() {
        for text in [
            "",
            "01935d3c",
            "01935d3c-7a2e-7c4b-9f10-5b0e8c1d2a3g",
            "01935d3c7a2e-7c4b-9f10-5b0e8c1d2a3f0",
        ] {
            assert_eq!(text.parse::<MessageId>(), Err(NameError::NotAnId), "{text}");
        }
    }

    #[test]
    fn a_type_with_capitals_is_refused_because_clients_disagree_about_case() {
        assert!(matches!(
            TypeName::parse("Document.Insert"),
            Err(NameError::Character { found: 'D', .. })
        ));
        assert!(TypeName::parse("document.insert").is_ok());
    }
}
