//! The keys that the configuration names.

use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::files;
use countersign_access::{KeySet, Options, SigningKey, Verifier};
use std::path::Path;

/// The key that signs, and what it signed before.
pub(crate) fn signing(config: &Config) -> Result<KeySet, Failure> {
    let path = &config.keys.signing;
    if !path.exists() {
        return Err(missing(path));
    }
    let key = SigningKey::from_pem(&files::read_secret(path)?);
    let key = key.map_err(|error| unreadable(path, &error))?;
    Ok(KeySet::new().with_signing_key(key))
}

/// What verifies tokens in every role.
pub(crate) fn verifier(config: &Config) -> Result<Verifier, Failure> {
    let path = &config.keys.jwks;
    if !path.exists() {
        return Err(missing(path));
    }
    let keys = KeySet::from_jwks(&files::read(path)?).map_err(|error| unreadable(path, &error))?;
    Ok(Verifier::new(
        keys,
        Options::new(&config.token.issuer, &config.token.audience),
    ))
}

fn missing(path: &Path) -> Failure {
    let directory = path.parent().unwrap_or(Path::new(".")).display();
    Failure::new(
        Exit::ConfigInvalid,
        "E-KEY-MISSING",
        format!("there is no key at {}", path.display()),
        "without keys no token can be signed or believed",
        format!("countersign keys new --out {directory}"),
    )
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        Exit::ConfigInvalid,
        "E-KEY-UNREADABLE",
        format!("{} holds no key", path.display()),
        error.to_string(),
        "countersign keys new, or correct the path under [keys]",
    )
}
