//! Signing keys: made, written to PEM, read back.

use std::fmt;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::{
    AlgorithmParameters, CommonParameters, EllipticCurve, Jwk, KeyAlgorithm,
    OctetKeyPairParameters, OctetKeyPairType, PublicKeyUse, ThumbprintHash,
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};

use crate::Claims;

/// Why a key or a key set cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The text or the bytes are no key of the expected kind: look at the file.
    #[error("not a usable key: {what}")]
    Unreadable {
        /// What was expected, and what was found.
        what: String,
    },
    /// The key set is well-formed but holds nothing to verify with: look at the issuer.
    #[error("the key set holds no key for EdDSA, ES256 or RS256")]
    NothingUsable,
    /// There is no key to sign with: `countersign keys new` makes one.
    #[error("there is no signing key")]
    NoSigningKey,
    /// The cryptography library failed, for want of randomness or memory: not the caller's fault.
    #[error("the cryptography library failed to {action}")]
    Library {
        /// What it was asked to do.
        action: &'static str,
    },
}

/// An Ed25519 key that signs tokens. Its name is its RFC 7638 thumbprint, so the same key has the same name everywhere.
#[derive(Clone)]
pub struct SigningKey {
    pkcs8: EncodingKey,
    public: Jwk,
    kid: String,
}

impl SigningKey {
    /// Makes a new key.
    ///
    /// # Errors
    /// [`KeyError::Library`] when the system gives no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::generate().map_err(|_| KeyError::Library {
            action: "generate a key",
        })?;
        Self::from_pair(&pair)
    }

    /// Reads PKCS#8 in its binary form, versions 1 and 2.
    ///
    /// # Errors
    /// [`KeyError::Unreadable`] when it is not an Ed25519 private key.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_pkcs8(der).map_err(|rejected| KeyError::Unreadable {
            what: format!("expected an Ed25519 private key in PKCS#8 ({rejected})"),
        })?;
        Self::from_pair(&pair)
    }

    /// Reads the text of a key file as [`to_pem`](Self::to_pem) or `openssl genpkey -algorithm ed25519` wrote it.
    ///
    /// # Errors
    /// [`KeyError::Unreadable`] when it is not a PEM file with an Ed25519 private key.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let pkcs8 = EncodingKey::from_ed_pem(pem.as_bytes()).map_err(|_| KeyError::Unreadable {
            what: format!("expected a PEM file with an Ed25519 key that begins {PEM_BEGIN}"),
        })?;
        Self::from_pkcs8(pkcs8.as_bytes())
    }

    fn from_pair(pair: &Ed25519KeyPair) -> Result<Self, KeyError> {
        // Version 1, because OpenSSL's command line does not read version 2.
        let pkcs8 = pair.to_pkcs8v1().map_err(|_| KeyError::Library {
            action: "encode a key",
        })?;
        let mut public = Jwk {
            common: CommonParameters {
                public_key_use: Some(PublicKeyUse::Signature),
                key_algorithm: Some(KeyAlgorithm::EdDSA),
                ..CommonParameters::default()
            },
            algorithm: AlgorithmParameters::OctetKeyPair(OctetKeyPairParameters {
                key_type: OctetKeyPairType::OctetKeyPair,
                curve: EllipticCurve::Ed25519,
                x: URL_SAFE_NO_PAD.encode(pair.public_key().as_ref()),
            }),
        };
        let kid = public
            .thumbprint(ThumbprintHash::SHA256)
            .map_err(|_| KeyError::Library {
                action: "compute a thumbprint",
            })?;
        public.common.key_id = Some(kid.clone());
        Ok(Self {
            pkcs8: EncodingKey::from_ed_der(pkcs8.as_ref()),
            public,
            kid,
        })
    }

    /// The key's name: the SHA-256 thumbprint of its public half (RFC 7638), base64url.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The public half, as it stands in a key set.
    pub(crate) fn public(&self) -> &Jwk {
        &self.public
    }

    /// PKCS#8, version 1. Secret: store it in a file that only its owner can read.
    #[must_use]
    pub fn to_pkcs8(&self) -> &[u8] {
        self.pkcs8.as_bytes()
    }

    /// PKCS#8 as PEM text (RFC 7468). Secret: store it in a file of mode 0600.
    #[must_use]
    pub fn to_pem(&self) -> String {
        // 64 characters of base64 stand for 48 bytes; an Ed25519 key in version 1 has exactly 48.
        let mut pem = format!("{PEM_BEGIN}\n");
        for line in self.to_pkcs8().chunks(48) {
            pem.push_str(&STANDARD.encode(line));
            pem.push('\n');
        }
        pem + PEM_END + "\n"
    }

    /// Signs the claims into a token.
    ///
    /// # Errors
    /// [`KeyError::Library`]; nothing in the claims can cause it.
    pub fn sign(&self, claims: &Claims) -> Result<String, KeyError> {
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(self.kid.clone());
        jsonwebtoken::encode(&header, claims, &self.pkcs8).map_err(|_| KeyError::Library {
            action: "sign a token",
        })
    }
}

/// Shows the name only: a private key must not reach a log.
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

const PEM_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_END: &str = "-----END PRIVATE KEY-----";
