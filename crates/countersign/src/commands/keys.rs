//! `keys new`: a signing key in a file of its owner's, and the key set that verifies it.

use crate::cli::Keys;
use crate::exit::{Exit, Failure, Outcome};
use crate::files;
use crate::output::Output;
use countersign_access::{KeySet, SigningKey};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(crate) fn run(args: &Keys, output: Output) -> Outcome {
    let Keys::New { out } = args;
    let made = make(out)?;
    let document = json!({
        "kid": made.kid, "signing_key": made.signing_key, "jwks": made.jwks,
    });
    output.answer(&document, || {
        format!(
            "key {}\n  signs:    {} (mode 0600)\n  verifies: {}",
            made.kid,
            made.signing_key.display(),
            made.jwks.display()
        )
    });
    Ok(ExitCode::SUCCESS)
}

/// A key just made.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) kid: String,
    pub(crate) signing_key: PathBuf,
    pub(crate) jwks: PathBuf,
}

/// Makes a key in `directory`; refuses to replace one.
pub(crate) fn make(directory: &Path) -> Result<Made, Failure> {
    let (signing_key, jwks) = (
        directory.join("signing-key.pem"),
        directory.join("jwks.json"),
    );
    if signing_key.exists() {
        return Err(Failure::new(
            Exit::Conflict,
            "E-KEY-EXISTS",
            format!("{} exists", signing_key.display()),
            "replacing it would make every token signed with it worthless",
            "name another directory with --out, or remove the file first",
        ));
    }
    let failed = |error| Failure::unexpected("cannot make a key", error);
    let key = SigningKey::generate().map_err(failed)?;
    let kid = key.kid().to_owned();
    files::write_secret(&signing_key, &key.to_pem())?;
    let set = KeySet::new().with_signing_key(key).jwks();
    let text = serde_json::to_string_pretty(&set).expect("a key set is JSON");
    std::fs::write(&jwks, text).map_err(|error| Failure::file(&jwks, "write", &error))?;
    Ok(Made {
        kid,
        signing_key,
        jwks,
    })
}
