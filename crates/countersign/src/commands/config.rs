//! `config init` and `config check`.

use crate::cli::Config as Args;
use crate::commands::keys;
use crate::config;
use crate::exit::{Exit, Failure, Outcome};
use crate::files;
use crate::output::Output;
use crate::roles;
use serde_json::json;
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

pub(crate) fn run(args: &Args, output: Output) -> Outcome {
    match args {
        Args::Init { out, agents } => init(out, agents, output),
        Args::Check { config, strict } => check(config, *strict, output),
    }
}

/// Writes a configuration with everything in it that has no default: keys and clients.
fn init(out: &Path, agents: &[String], output: Output) -> Outcome {
    let path = out.join("countersign.toml");
    if path.exists() {
        return Err(Failure::new(
            Exit::Conflict,
            "E-CONFIG-EXISTS",
            format!("{} exists", path.display()),
            "it is not overwritten",
            "name another directory with --out, or remove the file first",
        ));
    }
    let made = keys::make(&out.join("keys"))?;
    let mut text = HEAD.to_owned();
    let mut secrets = Vec::new();
    let sender = ("sender".to_owned(), "send read operate", None);
    let agents = agents
        .iter()
        .map(|agent| (agent.clone(), "hub ack", Some(agent.clone())));
    for (id, scopes, agent) in std::iter::once(sender).chain(agents) {
        let secret = roles::token::new_secret()?;
        let path = out.join("secrets").join(format!("{id}.secret"));
        files::write_secret(&path, &secret)?;
        write_client(
            &mut text,
            &id,
            scopes,
            agent.as_deref(),
            &roles::token::sha256_hex(&secret),
        );
        secrets.push(path);
    }
    files::write_secret(&path, &text)?;
    let document = json!({ "config": path, "kid": made.kid, "secrets": secrets });
    output.answer(&document, || {
        let secrets = secrets
            .iter()
            .map(|path| format!("\n  secret {}", path.display()));
        format!(
            "wrote {}{}\n  next: countersign config check",
            path.display(),
            secrets.collect::<String>()
        )
    });
    Ok(ExitCode::SUCCESS)
}

fn write_client(text: &mut String, id: &str, scopes: &str, agent: Option<&str>, sha256: &str) {
    let scopes: Vec<_> = scopes.split(' ').collect();
    let _ = write!(
        text,
        "\n[[token.clients]]\nid = {id:?}\nsecret_sha256 = \"{sha256}\"\nscopes = {scopes:?}\n"
    );
    if let Some(agent) = agent {
        let _ = writeln!(text, "agent = {agent:?}");
    }
}

const HEAD: &str = r#"# countersign: every key not named here has its default.
roles = ["api", "hub", "acks", "token"]

[store]
data_dir = "countersign-data"

[hub]
listen = "127.0.0.1:7420"

[acks]
listen = "127.0.0.1:7421"

[keys]
signing = "keys/signing-key.pem"
jwks = "keys/jwks.json"

[token]
listen = "127.0.0.1:7422"
"#;

/// Loads everything that `serve` would load, opens nothing, and lists what looks unwise.
fn check(path: &Path, strict: bool, output: Output) -> Outcome {
    let config = config::load(path)?;
    roles::keys::verifier(&config)?;
    if config
        .roles
        .iter()
        .any(|role| matches!(role, config::RoleName::Token))
    {
        roles::keys::signing(&config)?;
        roles::token::clients(&config)?;
    }
    let warnings = warnings(&config);
    let document = json!({ "config": path, "valid": true, "warnings": warnings });
    output.answer(&document, || {
        let lines = warnings
            .iter()
            .map(|warning| format!("\n  warning: {warning}"));
        format!("{} is valid{}", path.display(), lines.collect::<String>())
    });
    Ok(if strict && !warnings.is_empty() {
        Exit::ChecksFailed.into()
    } else {
        ExitCode::SUCCESS
    })
}

fn warnings(config: &config::Config) -> Vec<String> {
    let mut warnings = Vec::new();
    let listeners = [
        &config.hub.listen,
        &config.acks.listen,
        &config.token.listen,
    ];
    for listen in listeners {
        if !listen.starts_with("127.")
            && !listen.starts_with("localhost")
            && !listen.starts_with("[::1]")
        {
            warnings.push(format!(
                "{listen} is open beyond this machine and speaks plain HTTP: put TLS in front"
            ));
        }
    }
    if config.token.clients.is_empty() {
        warnings.push("no client may ask for tokens: add [[token.clients]]".to_owned());
    }
    if config.store.reserve.0 < 64 << 20 {
        warnings.push(
            "store.reserve is below 64MiB: little room for acks once the disk is full".to_owned(),
        );
    }
    warnings
}
