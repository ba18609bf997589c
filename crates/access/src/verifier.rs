//! Decides whether a token is believed, and what it then allows.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::cache::{Cache, fingerprint};
use crate::{Claims, Denied, KeySet, Scope, Scopes, VerificationKey};

/// What a verifier expects of a token.
#[derive(Debug, Clone)]
pub struct Options {
    /// The `iss` a token must carry.
    pub issuer: String,
    /// The `aud` a token must carry, alone or among others.
    pub audience: String,
    /// How far the issuer's clock may differ from ours.
    ///
    /// Default: 5 s, which covers machines that keep time by NTP. An expired token is accepted this much longer, one
    /// that is not valid yet this much earlier; zero is allowed.
    pub clock_skew: Duration,
    /// How many verified tokens are remembered.
    ///
    /// Default: 10,000, about 4 MB. Zero remembers none, so that every use costs a signature check.
    pub cache_capacity: usize,
}

impl Options {
    /// Options for this issuer and audience, with the defaults for the rest.
    #[must_use]
    pub fn new(issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        Self {
            issuer: issuer.into(),
            audience: audience.into(),
            clock_skew: Duration::from_secs(5),
            cache_capacity: 10_000,
        }
    }
}

/// What a verified token allows, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Whom the token was issued to.
    pub subject: String,
    /// Whose data it opens.
    pub tenant: String,
    /// The agent it speaks for, if any.
    pub agent: Option<String>,
    /// What it allows.
    pub scopes: Scopes,
    /// The token's own id (`jti`), for audit; empty when the issuer gave none.
    pub token_id: String,
    /// When it ends, Unix seconds, without the allowance for clock skew.
    pub expires_at_unix_s: i64,
    /// When it begins, Unix seconds, if it says so.
    pub not_before_unix_s: Option<i64>,
}

impl Access {
    /// Fails unless the token allows `scope`.
    ///
    /// # Errors
    /// [`Denied::MissingScope`], a 403.
    pub fn require(&self, scope: Scope) -> Result<(), Denied> {
        if self.scopes.contains(scope) {
            return Ok(());
        }
        Err(Denied::MissingScope {
            need: scope,
            has: self.scopes.to_string(),
        })
    }

    /// Fails unless the token speaks for `agent`.
    ///
    /// # Errors
    /// [`Denied::OtherAgent`], a 403.
    pub fn require_agent(&self, agent: &str) -> Result<(), Denied> {
        if self.agent.as_deref() == Some(agent) {
            return Ok(());
        }
        Err(Denied::OtherAgent {
            wanted: agent.to_owned(),
            has: self.agent.clone(),
        })
    }
}

/// Verifies tokens against a key set. Cheap to call from many threads: a token seen before costs one hash and one lookup.
#[derive(Debug)]
pub struct Verifier {
    options: Options,
    /// Held for reading while a verified token is put in the cache, so that no token of a removed key slips in behind
    /// [`replace_keys`](Self::replace_keys).
    keys: RwLock<KeySet>,
    cache: Cache,
}

impl Verifier {
    /// How much longer than it says a token is accepted.
    #[must_use]
    pub fn clock_skew(&self) -> Duration {
        self.options.clock_skew
    }

    /// A verifier that believes `keys`.
    #[must_use]
    pub fn new(keys: KeySet, options: Options) -> Self {
        let cache = Cache::new(options.cache_capacity);
        Self {
            options,
            keys: RwLock::new(keys),
            cache,
        }
    }

    /// What it expects of a token.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Believes `keys` from now on, and only these: tokens of keys no longer among them are refused at their next use.
    pub fn replace_keys(&self, keys: KeySet) {
        let mut current = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        *current = keys;
        self.cache.clear();
    }

    /// Answers what the token allows, or why it is refused. `now_unix_s` is the time in Unix seconds.
    ///
    /// Expiry is checked at each call, also for a remembered token. A refusal is not remembered.
    ///
    /// # Errors
    /// [`Denied`], by cause.
    pub fn verify(&self, token: &str, now_unix_s: i64) -> Result<Arc<Access>, Denied> {
        let key = fingerprint(token);
        let access = match self.cache.find(&key) {
            Some(access) => access,
            None => {
                let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
                let access = Arc::new(self.verify_fresh(&keys, token, now_unix_s)?);
                self.cache.insert(key, Arc::clone(&access));
                access
            }
        };
        match self.time_fault(
            access.expires_at_unix_s,
            access.not_before_unix_s,
            now_unix_s,
        ) {
            Some(denied) => Err(denied),
            None => Ok(access),
        }
    }

    fn verify_fresh(&self, keys: &KeySet, token: &str, now_unix_s: i64) -> Result<Access, Denied> {
        let parts = Parts::split(token)?;
        check_signature(keys, &parts, &parts.header()?)?;
        let claims: Claims = parts.claims()?;
        match self.claim_faults(&claims, now_unix_s).into_iter().next() {
            Some(denied) => Err(denied),
            None => Ok(Access::from(claims)),
        }
    }

    /// Everything in the claims that speaks against them, the weightiest first.
    pub(crate) fn claim_faults(&self, claims: &Claims, now_unix_s: i64) -> Vec<Denied> {
        let issuer = (claims.iss != self.options.issuer).then(|| Denied::WrongIssuer {
            got: claims.iss.clone(),
            expected: self.options.issuer.clone(),
        });
        let audience =
            (!claims.aud.contains(&self.options.audience)).then(|| Denied::WrongAudience {
                got: claims.aud.to_string(),
                expected: self.options.audience.clone(),
            });
        let time = self.time_fault(claims.exp, claims.nbf, now_unix_s);
        [issuer, audience, time].into_iter().flatten().collect()
    }

    fn time_fault(&self, exp: i64, nbf: Option<i64>, now_unix_s: i64) -> Option<Denied> {
        let skew_s = i64::try_from(self.options.clock_skew.as_secs()).unwrap_or(i64::MAX);
        if now_unix_s >= exp.saturating_add(skew_s) {
            return Some(Denied::Expired { at: exp });
        }
        let from = nbf?;
        (now_unix_s < from.saturating_sub(skew_s)).then_some(Denied::NotYetValid { from })
    }

    pub(crate) fn signature_fault(&self, parts: &Parts<'_>) -> Option<Denied> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let header = match parts.header() {
            Ok(header) => header,
            Err(denied) => return Some(denied),
        };
        check_signature(&keys, parts, &header).err()
    }
}

/// Takes the token out of the value of an `Authorization` header.
///
/// # Errors
/// [`Denied::Missing`] without a header, [`Denied::Malformed`] when it holds something else than a bearer token.
pub fn bearer(authorization: Option<&str>) -> Result<&str, Denied> {
    let value = authorization.ok_or(Denied::Missing)?.trim();
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(malformed(
            "the Authorization header does not begin with `Bearer`",
        ));
    }
    match token.trim() {
        "" => Err(Denied::Missing),
        token => Ok(token),
    }
}

/// Header, payload and signature of a token, still encoded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parts<'a> {
    message: &'a str,
    header: &'a str,
    payload: &'a str,
    signature: &'a str,
}

/// The members of a header that decide something. An `alg` we do not know must still be readable, to be named.
#[derive(Debug, Deserialize)]
pub(crate) struct TokenHeader {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    /// Extensions that must be understood (RFC 7515 section 4.1.11); we understand none.
    #[serde(default)]
    crit: Option<serde_json::Value>,
}

impl<'a> Parts<'a> {
    pub(crate) fn split(token: &'a str) -> Result<Self, Denied> {
        if token.is_empty() {
            return Err(Denied::Missing);
        }
        if token.len() > TOKEN_BYTES_MAX {
            return Err(malformed(&format!(
                "it is longer than {TOKEN_BYTES_MAX} bytes"
            )));
        }
        let (message, signature) = token.rsplit_once('.').unwrap_or((token, ""));
        let (header, payload) = message.split_once('.').unwrap_or((message, ""));
        if header.is_empty() || payload.is_empty() || payload.contains('.') {
            return Err(malformed("it does not have three parts separated by dots"));
        }
        Ok(Self {
            message,
            header,
            payload,
            signature,
        })
    }

    pub(crate) fn header(&self) -> Result<TokenHeader, Denied> {
        decode("header", self.header)
    }

    pub(crate) fn claims<T: DeserializeOwned>(&self) -> Result<T, Denied> {
        decode("payload", self.payload)
    }

    pub(crate) fn header_json(&self) -> Option<serde_json::Value> {
        decode("header", self.header).ok()
    }
}

fn decode<T: DeserializeOwned>(part: &str, encoded: &str) -> Result<T, Denied> {
    let bytes = URL_SAFE_NO_PAD
        .decode(encoded)
        .map_err(|_| malformed(&format!("its {part} is not base64url")))?;
    serde_json::from_slice(&bytes).map_err(|error| malformed(&format!("its {part}: {error}")))
}

fn malformed(what: &str) -> Denied {
    Denied::Malformed {
        what: what.to_owned(),
    }
}

fn check_signature(keys: &KeySet, parts: &Parts<'_>, header: &TokenHeader) -> Result<(), Denied> {
    // RFC 9864 gives EdDSA over Ed25519 a name of its own.
    let alg = if header.alg == "Ed25519" {
        "EdDSA"
    } else {
        header.alg.as_str()
    };
    if !ALGORITHMS.contains(&alg) {
        return Err(Denied::Algorithm {
            got: header.alg.clone(),
        });
    }
    if header.crit.is_some() {
        return Err(malformed(
            "its header asks for an extension (`crit`) that is not known here",
        ));
    }
    let named = |key: &&VerificationKey| header.kid.as_deref().is_none_or(|kid| key.kid() == kid);
    let mut candidates = keys.verification_keys().iter().filter(named).peekable();
    if candidates.peek().is_none() {
        return Err(Denied::UnknownKey {
            kid: header.kid.clone(),
        });
    }
    let mut fitting = candidates.filter(|key| key.algorithm() == alg).peekable();
    if fitting.peek().is_none() {
        return Err(Denied::Algorithm {
            got: header.alg.clone(),
        });
    }
    match fitting.any(|key| key.signed(parts.message, parts.signature)) {
        true => Ok(()),
        false => Err(Denied::BadSignature),
    }
}

impl From<Claims> for Access {
    fn from(claims: Claims) -> Self {
        Self {
            subject: claims.sub,
            tenant: claims.tenant,
            agent: claims.agent,
            scopes: claims.scope,
            token_id: claims.jti,
            expires_at_unix_s: claims.exp,
            not_before_unix_s: claims.nbf,
        }
    }
}

const ALGORITHMS: [&str; 3] = ["EdDSA", "ES256", "RS256"];

/// More than any header line a server takes, and little enough to hash for a stranger.
const TOKEN_BYTES_MAX: usize = 16 * 1024;
