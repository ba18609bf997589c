//! `dev`: everything on loopback, with throw-away keys, a demo agent and a demo back office.

use crate::cli::{Dev, Role};
use crate::commands::serve::start_log;
use crate::commands::token::now_unix_s;
use crate::commands::{back_office, keys as make_keys};
use crate::config::{AgentSection, ClientEntry, Config, LogSection, SinkKind, SinkSection};
use crate::durations::{DurationText, SizeText};
use crate::exit::{Exit, Failure, Outcome};
use crate::files::{self, DevContext};
use crate::output::Output;
use crate::roles::deployment::{Deployment, ack_url};
use crate::roles::{agent, keys, listen, token};
use axum::Router;
use axum::extract::{Path as FromPath, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::post;
use countersign_access::{Grant, Issuer, Scope, Scopes, Verifier, bearer};
use countersign_role_agent::Agent;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, oneshot};

/// Life of the sender's token: a working day and a night.
const TOKEN_TTL: Duration = Duration::from_secs(24 * 3600);

pub(crate) fn run(args: &Dev, output: Output) -> Outcome {
    start_log(&LogSection {
        level: "warn".to_owned(),
        ..LogSection::default()
    })?;
    let data = data_directory(args)?;
    let config = configuration(args, &data)?;
    listen::block_on(serve(args, &data, &config, output))
}

async fn serve(args: &Dev, data: &Path, config: &Config, output: Output) -> Outcome {
    let back_office_address = format!("127.0.0.1:{}", args.port + 3);
    let listener = listen::bind(&back_office_address, "the demo back office").await?;
    let section = agent_section(args, data, config);
    let demo = Demo {
        section: Arc::new(section),
        running: Arc::new(Mutex::new(None)),
        verifier: Arc::new(keys::verifier(config)?),
    };
    let roles = [Role::Api, Role::Hub, Role::Acks, Role::Token];
    let deployment = Deployment::start(config, &roles, demo.clone().router()).await?;
    let back_office = back_office::open(&data.join("back-office"))?;
    let (stop_back_office, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(countersign_back_office::serve(
        listener,
        back_office,
        async {
            // A dropped sender means the same.
            let _ = stopped.await;
        },
    ));
    demo.start().await?;
    let context = context(args, data, config)?;
    context.write()?;
    announce(&context, output);
    let ended = deployment.run_until(listen::interrupted()).await;
    context.remove();
    demo.stop().await;
    let _ = stop_back_office.send(());
    let _ = tokio::time::timeout(Duration::from_secs(2), serving).await;
    output.remark(&format!("\nstopped; the data is in {}", data.display()));
    output.remark(&format!(
        "go on with it: countersign dev --data {}",
        data.display()
    ));
    ended.map(|()| ExitCode::SUCCESS)
}

fn data_directory(args: &Dev) -> Result<PathBuf, Failure> {
    if let Some(data) = &args.data {
        return Ok(data.clone());
    }
    let made = tempfile::Builder::new()
        .prefix("countersign-dev-")
        .tempdir();
    let made = made
        .map_err(|error| Failure::file(&std::env::temp_dir(), "create a directory in", &error))?;
    Ok(made.keep())
}

/// The configuration of a `dev` is made, not read; keys and secrets stay with the data.
fn configuration(args: &Dev, data: &Path) -> Result<Config, Failure> {
    let key_directory = data.join("keys");
    if !key_directory.join("signing-key.pem").exists() {
        make_keys::make(&key_directory)?;
    }
    let secret_file = secret_file(data);
    if !secret_file.exists() {
        files::write_secret(&secret_file, &token::new_secret()?)?;
    }
    let secret = files::read_secret(&secret_file)?;
    let mut config = Config::default();
    config.store.data_dir = data.to_owned();
    config.hub.listen = format!("127.0.0.1:{}", args.port);
    config.hub.drain = DurationText(Duration::from_millis(200));
    config.acks.listen = format!("127.0.0.1:{}", args.port + 1);
    config.token.listen = format!("127.0.0.1:{}", args.port + 2);
    config.keys.signing = key_directory.join("signing-key.pem");
    config.keys.jwks = key_directory.join("jwks.json");
    config.token.clients = vec![ClientEntry {
        id: args.agent.clone(),
        secret_sha256: token::sha256_hex(&secret),
        scopes: vec!["hub".to_owned(), "ack".to_owned()],
        tenant: countersign_access::TENANT_DEFAULT.to_owned(),
        agent: Some(args.agent.clone()),
    }];
    Ok(config)
}

fn secret_file(data: &Path) -> PathBuf {
    data.join("secrets").join("demo-agent.secret")
}

fn agent_section(args: &Dev, data: &Path, config: &Config) -> AgentSection {
    AgentSection {
        name: args.agent.clone(),
        hub_url: format!("http://127.0.0.1:{}/hub", args.port),
        hub_proxy: None,
        hub_ca_file: None,
        ack_url: ack_url(config, &crate::roles::deployment::Addresses::default()),
        token_url: Some(format!("http://127.0.0.1:{}/oauth2/token", args.port + 2)),
        client_id: Some(args.agent.clone()),
        client_secret_file: Some(secret_file(data)),
        token_file: None,
        data_dir: data.join("agent"),
        reserve: SizeText(16 << 20),
        workers: 8,
        // A newcomer waits two seconds at most for a bad document to be given up.
        attempts_max: 4,
        retry_immediate: 0,
        types: BTreeMap::new(),
        retry_first: DurationText(Duration::from_millis(100)),
        retry_max: DurationText(Duration::from_secs(1)),
        sink: SinkSection {
            kind: SinkKind::Http,
            url: Some(format!("http://127.0.0.1:{}/documents", args.port + 3)),
            path: None,
            timeout: None,
        },
    }
}

fn context(args: &Dev, data: &Path, config: &Config) -> Result<DevContext, Failure> {
    let issuer = Issuer {
        keys: keys::signing(config)?,
        issuer: config.token.issuer.clone(),
        audience: config.token.audience.clone(),
    };
    let grant = Grant {
        subject: "dev".to_owned(),
        tenant: countersign_access::TENANT_DEFAULT.to_owned(),
        agent: None,
        scopes: Scopes::NONE
            .with(Scope::Send)
            .with(Scope::Read)
            .with(Scope::Operate)
            .with(Scope::Admin),
        ttl: TOKEN_TTL,
    };
    let issued = issuer
        .issue(&grant, now_unix_s())
        .map_err(|error| Failure::unexpected("cannot sign the sender's token", error))?;
    let url = |offset: u16| format!("http://127.0.0.1:{}", args.port + offset);
    Ok(DevContext {
        url: url(0),
        ack_url: url(1),
        token_url: url(2),
        back_office_url: url(3),
        token: issued.token,
        agent: args.agent.clone(),
        data: data.to_owned(),
    })
}

fn announce(context: &DevContext, output: Output) {
    let lines = [
        format!("hub and send API   {}", context.url),
        format!("ack API            {}", context.ack_url),
        format!("token service      {}", context.token_url),
        format!("demo back office   {}/documents", context.back_office_url),
        format!("data               {}", context.data.display()),
        format!("sender token       {}", context.token),
        format!("demo agent {} connected", context.agent),
    ];
    lines.iter().for_each(|line| output.progress(line));
    output.progress(&format!(
        "next: countersign send --to {} --type document.insert '{{\"number\":\"7\"}}' --wait",
        context.agent
    ));
}

/// The demo agent, which can be stopped and started again.
#[derive(Clone)]
struct Demo {
    section: Arc<AgentSection>,
    running: Arc<Mutex<Option<Agent>>>,
    verifier: Arc<Verifier>,
}

impl Demo {
    async fn start(&self) -> Result<(), Failure> {
        let mut running = self.running.lock().await;
        if running.is_none() {
            *running = Some(agent::start(&self.section).await?);
        }
        Ok(())
    }

    async fn stop(&self) {
        if let Some(agent) = self.running.lock().await.take()
            && let Err(error) = agent.stop().await
        {
            tracing::error!(%error, "the demo agent did not stop in order");
        }
    }

    fn router(self) -> Router {
        Router::new()
            .route("/dev/agents/{agent}/{verb}", post(switch))
            .with_state(self)
    }

    fn may_operate(&self, headers: &HeaderMap) -> Result<(), (StatusCode, String)> {
        let header = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let allowed = bearer(header)
            .and_then(|token| self.verifier.verify(token, now_unix_s()))
            .and_then(|access| access.require(Scope::Operate));
        allowed.map_err(|denied| {
            let status = StatusCode::from_u16(denied.status()).unwrap_or(StatusCode::UNAUTHORIZED);
            (status, denied.to_string())
        })
    }
}

async fn switch(
    State(demo): State<Demo>,
    FromPath((name, verb)): FromPath<(String, String)>,
    headers: HeaderMap,
) -> Result<axum::Json<serde_json::Value>, (StatusCode, String)> {
    demo.may_operate(&headers)?;
    if name != demo.section.name {
        let detail = format!("this dev runs the agent {}, not {name}", demo.section.name);
        return Err((StatusCode::NOT_FOUND, detail));
    }
    match verb.as_str() {
        "start" => demo
            .start()
            .await
            .map_err(|failure| (failed(&failure), failure.to_string()))?,
        "stop" => demo.stop().await,
        other => {
            return Err((
                StatusCode::NOT_FOUND,
                format!("{other} is neither start nor stop"),
            ));
        }
    }
    Ok(axum::Json(
        serde_json::json!({ "agent": name, "verb": verb }),
    ))
}

fn failed(failure: &Failure) -> StatusCode {
    match failure.exit {
        Exit::Conflict => StatusCode::CONFLICT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
