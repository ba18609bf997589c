//! `serve`: the roles of a data centre.

use crate::cli::{Role, Serve};
use crate::config::{self, Config, LogFormat, LogSection};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::Output;
use crate::roles::deployment::{Deployment, ack_url};
use crate::roles::listen;
use axum::Router;
use std::io::IsTerminal;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

pub(crate) fn run(args: &Serve, output: Output) -> Outcome {
    let config = config::load(&args.config)?;
    start_log(&config.log)?;
    let roles: Vec<Role> = match args.roles.is_empty() {
        true => config.roles.iter().map(|name| Role::from(*name)).collect(),
        false => args.roles.clone(),
    };
    if roles.is_empty() {
        let todo = "name some under `roles` in the configuration, or with --roles";
        let why = "the configuration names no role";
        return Err(Failure::new(
            Exit::Usage,
            "E-NO-ROLES",
            "there is nothing to serve",
            why,
            todo,
        ));
    }
    listen::block_on(async {
        let deployment = Deployment::start(&config, &roles, Router::new()).await?;
        announce(&config, &deployment, output);
        deployment.run_until(listen::interrupted()).await?;
        Ok(ExitCode::SUCCESS)
    })
}

fn announce(config: &Config, deployment: &Deployment, output: Output) {
    let addresses = deployment.addresses;
    output.remark(&format!("countersign {}", env!("CARGO_PKG_VERSION")));
    if let Some(address) = addresses.hub {
        output.remark(&format!("  hub and send API  http://{address}"));
        output.remark(&format!(
            "  acks go to        {}",
            ack_url(config, &addresses)
        ));
    }
    if let Some(address) = addresses.acks {
        output.remark(&format!("  ack API           http://{address}"));
    }
    if let Some(address) = addresses.token {
        output.remark(&format!("  token service     http://{address}"));
    }
    output.remark(&format!(
        "  data              {}",
        config.store.data_dir.display()
    ));
}

/// Logs to stderr; `RUST_LOG` wins over the configuration.
pub(crate) fn start_log(log: &LogSection) -> Result<(), Failure> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(filter) => filter,
        Err(_) => log.level.clone(),
    };
    let filter = EnvFilter::try_new(&filter).map_err(|error| {
        let todo = "write it like info, or countersign=debug,info";
        Failure::new(
            Exit::ConfigInvalid,
            "E-LOG-LEVEL",
            "the log level is not valid",
            error.to_string(),
            todo,
        )
    })?;
    let log_to = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match log.format {
        LogFormat::Text => log_to.compact().init(),
        LogFormat::Json => log_to.json().init(),
    }
    Ok(())
}
