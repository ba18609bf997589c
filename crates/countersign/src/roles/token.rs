//! The token service: its clients, and the service itself.

use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::roles::keys;
use aws_lc_rs::digest;
use countersign_access::Scopes;
use countersign_role_token::{Client, Options, SecretDigest, TokenService};

/// The service with the clients and keys that the configuration names.
pub(crate) fn service(config: &Config) -> Result<TokenService, Failure> {
    let mut options = Options::new(&config.token.issuer, &config.token.audience);
    options.access_token_ttl = config.token.ttl.0;
    options.clients = clients(config)?;
    TokenService::new(options, keys::signing(config)?).map_err(|error| {
        Failure::new(
            Exit::ConfigInvalid,
            "E-CONFIG-TOKEN",
            "the token service cannot start",
            error.to_string(),
            "correct [token] and [keys], then: countersign config check",
        )
    })
}

/// The clients that the configuration names.
pub(crate) fn clients(config: &Config) -> Result<Vec<Client>, Failure> {
    let read = |entry: &crate::config::ClientEntry| {
        let wrong = |why: String| {
            let what = format!("the token client {:?} is not valid", entry.id);
            let todo = "correct it under [[token.clients]]";
            Failure::new(Exit::ConfigInvalid, "E-CONFIG-CLIENT", what, why, todo)
        };
        let secret_sha256 = SecretDigest::from_hex(&entry.secret_sha256)
            .map_err(|_| wrong("secret_sha256 is not the 64 hex digits of a SHA-256".to_owned()))?;
        let scopes = Scopes::parse(&entry.scopes.join(" "));
        Ok(Client {
            id: entry.id.clone(),
            secret_sha256,
            scopes: scopes.map_err(|error| wrong(error.to_string()))?,
            tenant: entry.tenant.clone(),
            agent: entry.agent.clone(),
        })
    };
    config.token.clients.iter().map(read).collect()
}

/// A new client secret: 256 random bits in hex.
pub(crate) fn new_secret() -> Result<String, Failure> {
    let mut secret = [0; 32];
    aws_lc_rs::rand::fill(&mut secret)
        .map_err(|error| Failure::unexpected("there is no randomness", error))?;
    Ok(to_hex(&secret))
}

/// SHA-256 of a secret, in hex.
pub(crate) fn sha256_hex(secret: &str) -> String {
    to_hex(digest::digest(&digest::SHA256, secret.as_bytes()).as_ref())
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
