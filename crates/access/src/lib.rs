//! Who may do what: signs tokens, verifies them, and keeps the keys for both.
//!
//! A token is a JWT (RFC 7519) signed with Ed25519 by default; RS256 and ES256 are accepted from an outside identity
//! provider. Its algorithm is decided by the *key*, never by the token, so `none` and the HS256 confusion cannot pass.
//!
//! Promise: [`Verifier::verify`] never answers [`Access`] for a token that is expired, foreign, altered or meant for
//! somebody else, and it says which of these it was in a [`Denied`] with a stable code.
//!
//! Left out on purpose: files, sockets and clocks. Callers hand in the contents of key files and the time, so the same
//! inputs give the same answers. Randomness is used for new keys and token ids only. Revocation before expiry is left
//! out as well: tokens are short-lived, and a key can be taken out with [`Verifier::replace_keys`].

mod cache;
mod claims;
mod denied;
mod explain;
mod issuer;
mod keys;
mod keyset;
mod scope;
mod verifier;

pub use claims::{Audience, Claims, TENANT_DEFAULT};
pub use denied::Denied;
pub use explain::{Explanation, Refusal};
pub use issuer::{Grant, Issued, Issuer};
pub use keys::{KeyError, SigningKey};
pub use keyset::{Jwks, KeySet, VerificationKey};
pub use scope::{Scope, Scopes, UnknownScope};
pub use verifier::{Access, Options, Verifier, bearer};
