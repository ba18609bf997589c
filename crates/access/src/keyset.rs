//! The keys in use: those we sign with, and those we believe.

use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse, ThumbprintHash,
};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::{Deserialize, Serialize};

use crate::keys::KeyError;
use crate::{Claims, SigningKey};

/// A public key we believe, tied to the one algorithm it may be used with.
#[derive(Debug, Clone)]
pub struct VerificationKey {
    kid: String,
    algorithm: Algorithm,
    key: DecodingKey,
    public: Jwk,
}

impl VerificationKey {
    /// The name a token's header uses for it: its `kid`, or its thumbprint when the set gave none.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// `EdDSA`, `ES256` or `RS256`.
    #[must_use]
    pub fn algorithm(&self) -> &'static str {
        match self.algorithm {
            Algorithm::EdDSA => "EdDSA",
            Algorithm::ES256 => "ES256",
            _ => "RS256",
        }
    }

    /// Whether `signature` (base64url) is this key's over `message`.
    pub(crate) fn signed(&self, message: &str, signature: &str) -> bool {
        jsonwebtoken::crypto::verify(signature, message.as_bytes(), &self.key, self.algorithm)
            .unwrap_or(false)
    }

    /// `None` for a key that is not ours to verify with: symmetric, for encryption, or of another algorithm.
    fn from_jwk(mut public: Jwk) -> Option<Self> {
        if matches!(public.common.public_key_use, Some(ref usage) if *usage != PublicKeyUse::Signature)
        {
            return None;
        }
        let algorithm = algorithm_of(&public)?;
        let key = DecodingKey::from_jwk(&public).ok()?;
        let kid = match public.common.key_id.take() {
            Some(kid) => kid,
            None => public.thumbprint(ThumbprintHash::SHA256).ok()?,
        };
        public.common.key_id = Some(kid.clone());
        Some(Self {
            kid,
            algorithm,
            key,
            public,
        })
    }
}

/// The algorithm follows from the kind of key; an `alg` that says otherwise rules the key out.
fn algorithm_of(jwk: &Jwk) -> Option<Algorithm> {
    let (algorithm, named) = match &jwk.algorithm {
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        _ => return None,
    };
    match jwk.common.key_algorithm {
        None => Some(algorithm),
        Some(alg) if alg == named => Some(algorithm),
        // RFC 9864 names the curve ("Ed25519"), which the library does not know yet; the curve was checked above.
        Some(KeyAlgorithm::UNKNOWN_ALGORITHM) if algorithm == Algorithm::EdDSA => Some(algorithm),
        Some(_) => None,
    }
}

/// A key set as published at `/.well-known/jwks.json` (RFC 7517 section 5). Holds public keys only.
#[derive(Debug, Clone, Serialize)]
pub struct Jwks {
    keys: Vec<Jwk>,
}

/// Signing keys and believed keys. Several of each may be active, so that keys can be exchanged without a gap: the
/// newest signs, the older ones are still believed until the last token they signed has expired.
#[derive(Debug, Clone, Default)]
pub struct KeySet {
    signing: Vec<SigningKey>,
    verification: Vec<VerificationKey>,
}

impl KeySet {
    /// A set with no key: signs nothing, believes nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a published key set. Keys of other kinds are passed over, as RFC 7517 section 5 asks.
    ///
    /// # Errors
    /// [`KeyError::Unreadable`] when it is not a key set, [`KeyError::NothingUsable`] when no key of it is of use here.
    pub fn from_jwks(json: &str) -> Result<Self, KeyError> {
        #[derive(Deserialize)]
        struct Wire {
            keys: Vec<serde_json::Value>,
        }
        let wire: Wire = serde_json::from_str(json).map_err(|error| KeyError::Unreadable {
            what: format!("expected a JSON key set with a list `keys` ({error})"),
        })?;
        let verification: Vec<_> = wire
            .keys
            .into_iter()
            .filter_map(|key| serde_json::from_value(key).ok())
            .filter_map(VerificationKey::from_jwk)
            .collect();
        if verification.is_empty() {
            return Err(KeyError::NothingUsable);
        }
        Ok(Self {
            signing: Vec::new(),
            verification,
        })
    }

    /// Adds a key to sign with, which is then believed as well. The first one added signs.
    #[must_use]
    pub fn with_signing_key(mut self, key: SigningKey) -> Self {
        let public = VerificationKey::from_jwk(key.public().clone())
            .expect("the public half of a key of ours is an Ed25519 key for signatures");
        self.verification.push(public);
        self.signing.push(key);
        self
    }

    /// Adds all keys of `other`, after its own.
    #[must_use]
    pub fn merged_with(mut self, other: Self) -> Self {
        self.signing.extend(other.signing);
        self.verification.extend(other.verification);
        self
    }

    /// The keys that may sign; the first one does.
    #[must_use]
    pub fn signing_keys(&self) -> &[SigningKey] {
        &self.signing
    }

    /// The keys that are believed.
    #[must_use]
    pub fn verification_keys(&self) -> &[VerificationKey] {
        &self.verification
    }

    /// The public halves of all believed keys, ready to be published.
    #[must_use]
    pub fn jwks(&self) -> Jwks {
        Jwks {
            keys: self
                .verification
                .iter()
                .map(|key| key.public.clone())
                .collect(),
        }
    }

    /// Signs with the first signing key.
    ///
    /// # Errors
    /// [`KeyError::NoSigningKey`] when there is none.
    pub fn sign(&self, claims: &Claims) -> Result<String, KeyError> {
        self.signing
            .first()
            .ok_or(KeyError::NoSigningKey)?
            .sign(claims)
    }
}
