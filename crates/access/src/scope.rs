//! What a token allows: a small closed set, held as bits.
//!
//! No scope contains another: `admin` does not imply `read`. A token lists everything it may do, so that reading the
//! token is enough to know.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One permission. The names are those of the `scope` claim and of the API documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Scope {
    /// Send messages.
    Send,
    /// Read messages, agents, sagas and their history.
    Read,
    /// Replay, cancel, pause: change what happens to messages already accepted.
    Operate,
    /// Change the set-up: tokens, types, webhooks, drain, backup.
    Admin,
    /// Post acknowledgements as an agent.
    Ack,
    /// Connect to the hub as an agent.
    Hub,
    /// Read the acknowledgement journal. Internal: held by the centre that pulls it.
    Pull,
    /// Search, export and verify the audit trail.
    Audit,
}

impl Scope {
    /// Every scope, in the order they are written in a token.
    pub const ALL: [Self; 8] = [
        Self::Send,
        Self::Read,
        Self::Operate,
        Self::Admin,
        Self::Ack,
        Self::Hub,
        Self::Pull,
        Self::Audit,
    ];

    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Admin => "admin",
            Self::Ack => "ack",
            Self::Hub => "hub",
            Self::Pull => "pull",
            Self::Audit => "audit",
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no scope of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown scope {name:?}; known are send, read, operate, admin, ack, hub, pull, audit")]
pub struct UnknownScope {
    /// The name as given.
    pub name: String,
}

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(name: &str) -> Result<Self, UnknownScope> {
        Self::ALL
            .into_iter()
            .find(|scope| scope.name() == name)
            .ok_or_else(|| UnknownScope {
                name: name.to_owned(),
            })
    }
}

/// A set of scopes. On the wire: names separated by spaces (RFC 6749 section 3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Scopes(u16);

impl Scopes {
    /// No permission at all.
    pub const NONE: Self = Self(0);

    /// Reads names separated by spaces and refuses one it does not know.
    ///
    /// # Errors
    /// [`UnknownScope`] with the first such name. For what a person or a configuration asks for.
    pub fn parse(text: &str) -> Result<Self, UnknownScope> {
        text.split_ascii_whitespace().map(Scope::from_str).collect()
    }

    /// Reads names separated by spaces and passes over those it does not know.
    ///
    /// For tokens: an identity provider adds scopes of its own (`openid`, `profile`), which allow nothing here.
    #[must_use]
    pub fn parse_known(text: &str) -> Self {
        text.split_ascii_whitespace()
            .filter_map(|name| name.parse().ok())
            .collect()
    }

    /// Whether `scope` is in the set.
    #[must_use]
    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// Whether every scope of `other` is in this set.
    #[must_use]
    pub const fn contains_all(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the set allows nothing.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The set with `scope` added.
    #[must_use]
    pub const fn with(self, scope: Scope) -> Self {
        Self(self.0 | scope.bit())
    }

    /// The scopes of the set, in the order of [`Scope::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL
            .into_iter()
            .filter(move |scope| self.contains(*scope))
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        scopes.into_iter().fold(Self::NONE, Self::with)
    }
}

impl From<Scope> for Scopes {
    fn from(scope: Scope) -> Self {
        Self::NONE.with(scope)
    }
}

impl<const N: usize> From<[Scope; N]> for Scopes {
    fn from(scopes: [Scope; N]) -> Self {
        scopes.into_iter().collect()
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, scope) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(" ")?;
            }
            f.write_str(scope.name())?;
        }
        Ok(())
    }
}

impl Serialize for Scopes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Scopes {
    /// Accepts one string or a list of strings, and passes over unknown names.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Wire {
            Text(String),
            List(Vec<String>),
        }
        Ok(match Wire::deserialize(deserializer)? {
            Wire::Text(text) => Self::parse_known(&text),
            Wire::List(names) => names.iter().filter_map(|name| name.parse().ok()).collect(),
        })
    }
}
