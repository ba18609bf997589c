//! The service: its options, its routes, and the one decision it takes.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Json};
use axum::routing::{get, post};
use countersign_access::{Grant, Issued, Issuer, KeySet, Scope, Scopes};
use serde_json::json;

use crate::Client;
use crate::clients::Clients;
use crate::grant::Request;
use crate::refusal::Refusal;

/// What the service needs to know.
#[derive(Debug, Clone)]
pub struct Options {
    /// The `iss` of every token and the address the metadata is built on: an `http` or `https` URL without query.
    pub issuer: String,
    /// The `aud` of every token.
    pub audience: String,
    /// How long a token lives.
    ///
    /// Default: 1 h, so that a site with a link that is down for minutes does not also lose its token. Whole seconds; at
    /// least one.
    pub access_token_ttl: Duration,
    /// Who may ask.
    pub clients: Vec<Client>,
}

impl Options {
    /// Options with no client, and the defaults for the rest.
    #[must_use]
    pub fn new(issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        Self {
            issuer: issuer.into(),
            audience: audience.into(),
            access_token_ttl: Duration::from_secs(3600),
            clients: Vec::new(),
        }
    }
}

/// Why the service cannot start. All are faults of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The issuer is no address that metadata can be built on.
    #[error("the issuer {got:?} must be an http or https URL without query or fragment")]
    Issuer {
        /// The issuer as configured.
        got: String,
    },
    /// A token would be over before it arrives.
    #[error("the lifetime of a token must be at least one second")]
    Lifetime,
    /// Two clients share an id.
    #[error("the client {id:?} is configured twice")]
    DuplicateClient {
        /// The shared id.
        id: String,
    },
    /// There is nothing to sign with. `countersign keys new` makes a key.
    #[error("the token service has no signing key")]
    NoSigningKey,
}

/// The token service. Cheap to clone: every clone is the same service.
#[derive(Debug, Clone)]
pub struct TokenService {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    clients: Clients,
    ttl: Duration,
    /// Replaced as a whole when keys change; a request works with the one it found.
    issuer: RwLock<Arc<Issuer>>,
}

impl TokenService {
    /// A service that signs with the first signing key of `keys` and publishes them all.
    ///
    /// # Errors
    /// [`Error`] when the options or the keys cannot work.
    pub fn new(options: Options, keys: KeySet) -> Result<Self, Error> {
        if !is_issuer(&options.issuer) {
            return Err(Error::Issuer {
                got: options.issuer,
            });
        }
        if options.access_token_ttl < Duration::from_secs(1) {
            return Err(Error::Lifetime);
        }
        if keys.signing_keys().is_empty() {
            return Err(Error::NoSigningKey);
        }
        let clients = Clients::new(options.clients).map_err(|id| Error::DuplicateClient { id })?;
        let issuer = Issuer {
            keys,
            issuer: options.issuer,
            audience: options.audience,
        };
        let issuer = RwLock::new(Arc::new(issuer));
        Ok(Self {
            shared: Arc::new(Shared {
                clients,
                ttl: options.access_token_ttl,
                issuer,
            }),
        })
    }

    /// Signs with and publishes these keys from now on.
    ///
    /// # Errors
    /// [`Error::NoSigningKey`], and nothing changes.
    pub fn replace_keys(&self, keys: KeySet) -> Result<(), Error> {
        if keys.signing_keys().is_empty() {
            return Err(Error::NoSigningKey);
        }
        let mut current = self
            .shared
            .issuer
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(Issuer {
            keys,
            ..Issuer::clone(&current)
        });
        Ok(())
    }

    /// The routes, to be served or nested. The metadata names them below the issuer's URL.
    pub fn router(&self) -> Router {
        Router::new()
            .route(
                TOKEN_PATH,
                post(token).layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX)),
            )
            .route(JWKS_PATH, get(jwks))
            .route("/.well-known/oauth-authorization-server", get(metadata))
            .route("/healthz", get(async || Json(json!({"status": "ok"}))))
            .with_state(self.clone())
    }

    fn issuer(&self) -> Arc<Issuer> {
        Arc::clone(
            &self
                .shared
                .issuer
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    fn grant(&self, request: &Request) -> Result<Issued, Refusal> {
        let client = self
            .shared
            .clients
            .authenticate(&request.id, &request.secret)
            .ok_or(Refusal::InvalidClient)?;
        let grant = Grant {
            subject: client.id.clone(),
            tenant: client.tenant.clone(),
            agent: client.agent.clone(),
            scopes: scopes_granted(client, request.scopes)?,
            ttl: self.shared.ttl,
        };
        self.issuer().issue(&grant, now_unix_s()).map_err(|error| {
            tracing::error!(%error, "a token could not be signed");
            Refusal::Unsigned
        })
    }
}

/// What it asks for, all of which must be allowed; or all that is allowed when it asks for nothing in particular.
fn scopes_granted(client: &Client, asked: Option<Scopes>) -> Result<Scopes, Refusal> {
    let Some(asked) = asked else {
        return Ok(client.scopes);
    };
    match asked.iter().find(|scope| !client.scopes.contains(*scope)) {
        None => Ok(asked),
        Some(scope) => Err(Refusal::InvalidScope(format!(
            "this client may not have the scope {scope}, only: {}",
            client.scopes
        ))),
    }
}

async fn token(
    State(service): State<TokenService>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<impl IntoResponse, Refusal> {
    let request = Request::read(&headers, &body)?;
    let issued = service.grant(&request).inspect_err(|refusal| {
        tracing::warn!(client = request.id, %refusal, "token refused");
    })?;
    let claims = &issued.claims;
    tracing::info!(client = claims.sub, token_id = claims.jti, scope = %claims.scope, "token issued");
    let body = json!({
        "access_token": issued.token,
        "token_type": "Bearer",
        "expires_in": claims.exp - claims.iat,
        "scope": claims.scope,
    });
    Ok((
        [
            (header::CACHE_CONTROL, "no-store"),
            (header::PRAGMA, "no-cache"),
        ],
        Json(body),
    ))
}

async fn jwks(State(service): State<TokenService>) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, "application/jwk-set+json"),
        // Short enough that a new key is known before the old one stops signing.
        (header::CACHE_CONTROL, "public, max-age=300"),
    ];
    let body = serde_json::to_vec(&service.issuer().keys.jwks())
        .expect("a key set is made of strings, which JSON can always hold");
    (headers, body)
}

async fn metadata(State(service): State<TokenService>) -> impl IntoResponse {
    let issuer = service.issuer();
    let base = issuer.issuer.trim_end_matches('/');
    let scopes = Scope::ALL.map(Scope::name);
    Json(json!({
        "issuer": issuer.issuer,
        "token_endpoint": format!("{base}{TOKEN_PATH}"),
        "jwks_uri": format!("{base}{JWKS_PATH}"),
        "grant_types_supported": ["client_credentials"],
        // Required by RFC 8414 section 2 even where there is no authorization endpoint.
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "scopes_supported": scopes,
    }))
}

/// RFC 8414 section 2, except that `http` passes: on loopback and behind a proxy there is no TLS to name.
fn is_issuer(url: &str) -> bool {
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    rest.is_some_and(|rest| {
        !rest.is_empty()
            && !rest.starts_with('/')
            && !rest.contains(['?', '#'])
            && !rest.contains(char::is_whitespace)
    })
}

fn now_unix_s() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

const TOKEN_PATH: &str = "/oauth2/token";
const JWKS_PATH: &str = "/.well-known/jwks.json";

/// Ids and secrets are short; what is longer is no token request.
const REQUEST_BYTES_MAX: usize = 16 * 1024;
