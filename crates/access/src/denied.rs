//! Why a request was not let in, told so that its sender can put it right.

use crate::Scope;

/// The reason for a refusal. The text is one sentence; [`code`](Self::code) is stable for programs.
///
/// Nothing here repeats the token or any part of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Denied {
    /// No token came with the request.
    #[error("no bearer token was sent")]
    Missing,
    /// It is not a token we can read.
    #[error("the token cannot be read: {what}")]
    Malformed {
        /// Which part, and what is wrong with it.
        what: String,
    },
    /// Its algorithm is not one we accept, or not the one its key is for.
    #[error("the token's algorithm {got:?} is not accepted here")]
    Algorithm {
        /// The `alg` of its header.
        got: String,
    },
    /// None of our keys could have signed it.
    #[error("the token was signed with a key that is not known here{}", key_named(.kid))]
    UnknownKey {
        /// The `kid` of its header, if it named one.
        kid: Option<String>,
    },
    /// The signature does not fit: altered, or signed by somebody else under a known key's name.
    #[error("the token's signature does not fit its content")]
    BadSignature,
    /// Its time is over.
    #[error("the token expired at {at} (Unix seconds)")]
    Expired {
        /// Its `exp`, Unix seconds.
        at: i64,
    },
    /// Its time has not come.
    #[error("the token is not valid before {from} (Unix seconds)")]
    NotYetValid {
        /// Its `nbf`, Unix seconds.
        from: i64,
    },
    /// It is meant for somebody else.
    #[error("the token is for audience {got:?}, this is {expected:?}")]
    WrongAudience {
        /// Its `aud`.
        got: String,
        /// Ours.
        expected: String,
    },
    /// It comes from an issuer we do not trust.
    #[error("the token was issued by {got:?}, expected is {expected:?}")]
    WrongIssuer {
        /// Its `iss`.
        got: String,
        /// The issuer trusted here.
        expected: String,
    },
    /// Valid, but it does not allow this.
    #[error("this needs the scope {need:?}, the token has {has:?}")]
    MissingScope {
        /// The scope that is wanted.
        need: Scope,
        /// The scopes it has, separated by spaces.
        has: String,
    },
    /// Valid, but it speaks for another agent, or for none.
    #[error("the token speaks for {}, not for agent {wanted:?}", agent_named(.has))]
    OtherAgent {
        /// The agent the request is about.
        wanted: String,
        /// The agent the token speaks for.
        has: Option<String>,
    },
}

impl Denied {
    /// A code that never changes its meaning; `countersign explain CODE` knows it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Missing => "E-TOKEN-MISSING",
            Self::Malformed { .. } => "E-TOKEN-MALFORMED",
            Self::Algorithm { .. } => "E-TOKEN-ALGORITHM",
            Self::UnknownKey { .. } => "E-TOKEN-KEY",
            Self::BadSignature => "E-TOKEN-SIGNATURE",
            Self::Expired { .. } => "E-TOKEN-EXPIRED",
            Self::NotYetValid { .. } => "E-TOKEN-EARLY",
            Self::WrongAudience { .. } => "E-TOKEN-AUDIENCE",
            Self::WrongIssuer { .. } => "E-TOKEN-ISSUER",
            Self::MissingScope { .. } => "E-TOKEN-SCOPE",
            Self::OtherAgent { .. } => "E-TOKEN-AGENT",
        }
    }

    /// 403 when the token is good but does not allow this, else 401: another token may help.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::MissingScope { .. } | Self::OtherAgent { .. } => 403,
            _ => 401,
        }
    }

    /// What the sender can do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Missing => "send the header `Authorization: Bearer <token>`",
            Self::Malformed { .. } => {
                "send the token exactly as the token service gave it; `countersign token explain` shows what is in it"
            }
            Self::Algorithm { .. } => {
                "have it signed with EdDSA, ES256 or RS256, with the key's own algorithm"
            }
            Self::UnknownKey { .. } => {
                "get a new token, or add the issuer's key set here; `countersign keys list` shows the keys in use"
            }
            Self::BadSignature => "get a new token from the token service",
            Self::Expired { .. } => {
                "get a new token; if this one is fresh, compare the clocks of both machines"
            }
            Self::NotYetValid { .. } => "compare the clocks of both machines, or wait",
            Self::WrongAudience { .. } => "ask the token service for a token of this audience",
            Self::WrongIssuer { .. } => {
                "ask the token service named in this server's configuration"
            }
            Self::MissingScope { .. } => "ask for a token that has this scope",
            Self::OtherAgent { .. } => "use the token of the agent that the request is about",
        }
    }

    /// The value of `WWW-Authenticate` for this refusal (RFC 6750 section 3).
    #[must_use]
    pub fn challenge(&self) -> String {
        match self {
            // Section 3.1: a request without credentials learns no error code.
            Self::Missing => "Bearer".to_owned(),
            Self::MissingScope { need, .. } => format!(
                r#"Bearer error="insufficient_scope", error_description="{}", scope="{need}""#,
                quotable(&self.to_string())
            ),
            Self::OtherAgent { .. } => format!(
                r#"Bearer error="insufficient_scope", error_description="{}""#,
                quotable(&self.to_string())
            ),
            _ => format!(
                r#"Bearer error="invalid_token", error_description="{}""#,
                quotable(&self.to_string())
            ),
        }
    }
}

/// Keeps what may stand in an `error_description` (RFC 6750 section 3: no quote, no backslash, printable ASCII).
fn quotable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '"' | '\\' => '\'',
            ' '..='~' => c,
            _ => '?',
        })
        .collect()
}

fn key_named(kid: &Option<String>) -> String {
    kid.as_ref()
        .map(|kid| format!(" ({kid:?})"))
        .unwrap_or_default()
}

fn agent_named(agent: &Option<String>) -> String {
    agent
        .as_ref()
        .map_or_else(|| "no agent".to_owned(), |agent| format!("agent {agent:?}"))
}
