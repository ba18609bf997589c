//! What a token says, as read from and written to its payload.

use serde::{Deserialize, Deserializer, Serialize};

use crate::Scopes;

/// The tenant of a token that names none, so that a single-tenant set-up never mentions tenants.
pub const TENANT_DEFAULT: &str = "default";

/// The payload of a token (RFC 7519 section 4.1 and our own three: `scope`, `tenant`, `agent`).
///
/// Read leniently, because an outside identity provider writes it too: unknown claims are ignored, times may carry a
/// fraction, `aud` may be a list, `scope` may be a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who issued the token.
    pub iss: String,
    /// Who may accept it.
    pub aud: Audience,
    /// Whom it was issued to.
    pub sub: String,
    /// When it was issued, Unix seconds. Zero when the issuer did not say; nothing is decided by it.
    #[serde(default, deserialize_with = "numeric_date")]
    pub iat: i64,
    /// From this moment on it is refused, Unix seconds.
    #[serde(deserialize_with = "numeric_date")]
    pub exp: i64,
    /// Before this moment it is refused, Unix seconds.
    #[serde(
        default,
        deserialize_with = "numeric_date_some",
        skip_serializing_if = "Option::is_none"
    )]
    pub nbf: Option<i64>,
    /// The token's own id, for audit.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub jti: String,
    /// What it allows.
    #[serde(default)]
    pub scope: Scopes,
    /// Whose data it opens. Default: [`TENANT_DEFAULT`].
    #[serde(default = "tenant_default")]
    pub tenant: String,
    /// The agent it speaks for. `None` for senders and operators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
}

/// The `aud` claim: one name, or several of which one must be ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    /// A single name, as we write it.
    One(String),
    /// Several names, as some identity providers write it.
    Many(Vec<String>),
}

impl Audience {
    /// Whether `name` is among the audience.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Self::One(one) => one == name,
            Self::Many(many) => many.iter().any(|one| one == name),
        }
    }
}

impl std::fmt::Display for Audience {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::One(one) => f.write_str(one),
            Self::Many(many) => f.write_str(&many.join(", ")),
        }
    }
}

fn tenant_default() -> String {
    TENANT_DEFAULT.to_owned()
}

/// A `NumericDate` may carry a fraction (RFC 7519 section 2); whole seconds are all we compare.
fn numeric_date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Wire {
        Whole(i64),
        Fraction(f64),
    }
    Ok(match Wire::deserialize(deserializer)? {
        Wire::Whole(seconds) => seconds,
        // `as` saturates, so an absurd date stays absurd instead of wrapping round.
        Wire::Fraction(seconds) => seconds.floor() as i64,
    })
}

fn numeric_date_some<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    numeric_date(deserializer).map(Some)
}
