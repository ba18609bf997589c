//! `token new` and `token explain`.

use crate::cli::Token;
use crate::config::{self, Config};
use crate::durations::parse_duration;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Output};
use crate::roles::keys;
use countersign_access::{Grant, Issuer, Scopes};
use serde_json::json;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

pub(crate) fn run(args: Token, output: Output) -> Outcome {
    match args {
        Token::New {
            agent,
            scope,
            tenant,
            ttl,
            config,
        } => {
            let grant = grant(agent, &scope, tenant, &ttl)?;
            new(&config::load(&config)?, &grant, output)
        }
        Token::Explain { token, config } => explain(&token, &config, output),
    }
}

fn grant(
    agent: Option<String>,
    scope: &[String],
    tenant: String,
    ttl: &str,
) -> Result<Grant, Failure> {
    let usage = |why: String| {
        Failure::new(
            Exit::Usage,
            "E-USAGE",
            "the token cannot be made",
            why,
            "countersign token new --help",
        )
    };
    let scopes = match (scope.is_empty(), &agent) {
        (true, Some(_)) => "hub ack".to_owned(),
        (true, None) => "send read".to_owned(),
        (false, _) => scope.join(" "),
    };
    let scopes = Scopes::parse(&scopes).map_err(|error| usage(error.to_string()))?;
    let ttl = parse_duration(ttl).map_err(usage)?;
    let subject = agent.clone().unwrap_or_else(|| "cli".to_owned());
    Ok(Grant {
        subject,
        tenant,
        agent,
        scopes,
        ttl,
    })
}

fn new(config: &Config, grant: &Grant, output: Output) -> Outcome {
    let issuer = Issuer {
        keys: keys::signing(config)?,
        issuer: config.token.issuer.clone(),
        audience: config.token.audience.clone(),
    };
    let issued = issuer
        .issue(grant, now_unix_s())
        .map_err(|error| Failure::unexpected("cannot sign the token", error))?;
    let document = json!({ "token": issued.token, "claims": issued.claims });
    if output.quiet {
        output::say(&issued.token);
    }
    output.answer(&document, || issued.token.clone());
    Ok(ExitCode::SUCCESS)
}

fn explain(token: &str, config: &Path, output: Output) -> Outcome {
    let mut text = token.to_owned();
    if token == "-" {
        text.clear();
        let read = std::io::stdin().read_to_string(&mut text);
        read.map_err(|error| Failure::file(Path::new("standard input"), "read", &error))?;
    }
    let verifier = keys::verifier(&config::load(config)?)?;
    let explained = verifier.explain(text.trim(), now_unix_s());
    let document = serde_json::to_value(&explained).expect("an explanation is JSON");
    output.answer(&document, || {
        let verdict = match explained.refusals.first() {
            None => "accepted".to_owned(),
            Some(first) => format!(
                "refused: {} [{}]\n     do: {}",
                first.reason, first.code, first.hint
            ),
        };
        let shown = |part: &Option<serde_json::Value>| {
            part.as_ref()
                .map_or("unreadable".to_owned(), ToString::to_string)
        };
        format!(
            "header {}\nclaims {}\n{verdict}",
            shown(&explained.header),
            shown(&explained.claims)
        )
    });
    Ok(if explained.accepted {
        ExitCode::SUCCESS
    } else {
        Exit::NotAuthorised.into()
    })
}

pub(crate) fn now_unix_s() -> i64 {
    jiff::Timestamp::now().as_second()
}
