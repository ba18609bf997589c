//! Turns a grant into a signed token.

use std::time::Duration;

use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::{Audience, Claims, KeyError, KeySet, Scopes};

/// What a token is to say about its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Whom it is issued to.
    pub subject: String,
    /// Whose data it opens.
    pub tenant: String,
    /// The agent it speaks for, if any.
    pub agent: Option<String>,
    /// What it allows.
    pub scopes: Scopes,
    /// How long it lives. Whole seconds count; at least one.
    pub ttl: Duration,
}

/// A token just issued, with its claims for the audit trail.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The token itself. Secret.
    pub token: String,
    /// What it says.
    pub claims: Claims,
}

/// Issues tokens in one name for one audience.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// The keys; the first signing key signs.
    pub keys: KeySet,
    /// The `iss` of every token.
    pub issuer: String,
    /// The `aud` of every token.
    pub audience: String,
}

impl Issuer {
    /// Issues a token that begins at `now_unix_s` and has an id of 128 random bits.
    ///
    /// # Errors
    /// [`KeyError::NoSigningKey`] without a key to sign with, [`KeyError::Library`] without randomness.
    pub fn issue(&self, grant: &Grant, now_unix_s: i64) -> Result<Issued, KeyError> {
        let ttl_s = i64::try_from(grant.ttl.as_secs())
            .unwrap_or(i64::MAX)
            .max(1);
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: Audience::One(self.audience.clone()),
            sub: grant.subject.clone(),
            iat: now_unix_s,
            exp: now_unix_s.saturating_add(ttl_s),
            nbf: None,
            jti: token_id()?,
            scope: grant.scopes,
            tenant: grant.tenant.clone(),
            agent: grant.agent.clone(),
        };
        Ok(Issued {
            token: self.keys.sign(&claims)?,
            claims,
        })
    }
}

fn token_id() -> Result<String, KeyError> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| KeyError::Library {
        action: "draw a token id",
    })?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}
