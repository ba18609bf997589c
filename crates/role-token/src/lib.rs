//! The token service: gives tokens to clients that prove who they are, and publishes the keys to check them with.
//!
//! `POST /oauth2/token` is the client credentials grant of RFC 6749 section 4.4, `/.well-known/jwks.json` the key set
//! (RFC 7517), `/.well-known/oauth-authorization-server` the metadata (RFC 8414). Any OpenID provider can stand in its
//! place: the other roles only see tokens and a key set.
//!
//! Promise: a client never gets a scope that its entry does not allow, and neither a token nor a secret reaches a log.
//!
//! Left out on purpose: people (they sign in at an identity provider), refresh tokens (a client with a secret asks again,
//! RFC 6749 section 4.4.3) and a limit on guesses, because secrets are drawn by machines and cannot be guessed.

mod clients;
mod grant;
mod refusal;
mod service;

pub use clients::{Client, SecretDigest, UnreadableDigest};
pub use service::{Error, Options, TokenService};
