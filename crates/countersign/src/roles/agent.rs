//! An agent out of its configuration.

use crate::config::{AgentSection, RetrySection, SinkKind};
use crate::exit::{Exit, Failure};
use crate::files;
use countersign_role_agent::{
    Agent, FolderSink, HttpSink, HubProxy, Options, Sink, StdoutSink, TokenSource,
};
use countersign_rules::TypeName;
use countersign_rules::retry::RetryPolicy;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long one attempt at an HTTP back office may take, unless the configuration says otherwise.
const SINK_TIMEOUT: Duration = Duration::from_secs(30);

/// Starts the agent that `section` describes.
pub(crate) async fn start(section: &AgentSection) -> Result<Agent, Failure> {
    start_with(section, token_source(section)?, sink(section)?).await
}

/// Starts it with another token or sink than the configuration names.
pub(crate) async fn start_with(
    section: &AgentSection,
    token: TokenSource,
    sink: Arc<dyn Sink>,
) -> Result<Agent, Failure> {
    let hub_proxy = hub_proxy(section)?;
    let hub_roots = hub_roots(section)?;
    let types = retries(section)?;
    let options = Options::new(&section.hub_url, &section.data_dir).with(|options| {
        options.hub_proxy = hub_proxy;
        options.hub_roots = hub_roots;
        options.ack_url = Some(section.ack_url.clone());
        options.token = token;
        options.store.reserve_bytes = section.reserve.0;
        options.policy.workers = section.workers;
        options.policy.retry = RetryPolicy {
            attempts_max: section.attempts_max,
            immediate: section.retry_immediate,
            delay_first: section.retry_first.0,
            delay_max: section.retry_max.0,
        };
        options.policy.types = types;
    });
    Agent::start(options, sink)
        .await
        .map_err(|error| wrong(section, &error.to_string()))
}

/// How messages of each type are tried again.
fn retries(section: &AgentSection) -> Result<BTreeMap<TypeName, RetryPolicy>, Failure> {
    let retry = |(name, own): (&String, &RetrySection)| {
        let name = TypeName::parse(name)
            .map_err(|error| wrong(section, &format!("types.{name:?} is no type: {error}")))?;
        let retry = RetryPolicy {
            attempts_max: own.attempts_max.unwrap_or(section.attempts_max),
            immediate: own.retry_immediate.unwrap_or(section.retry_immediate),
            delay_first: own.retry_first.unwrap_or(section.retry_first).0,
            delay_max: own.retry_max.unwrap_or(section.retry_max).0,
        };
        Ok((name, retry))
    };
    section.types.iter().map(retry).collect()
}

fn hub_proxy(section: &AgentSection) -> Result<Option<HubProxy>, Failure> {
    let proxy = section.hub_proxy.as_deref().map(HubProxy::new).transpose();
    proxy.map_err(|error| wrong(section, &format!("hub_proxy: {error}")))
}

fn hub_roots(section: &AgentSection) -> Result<Option<Vec<u8>>, Failure> {
    let Some(path) = &section.hub_ca_file else {
        return Ok(None);
    };
    let pem = std::fs::read(path)
        .map_err(|error| wrong(section, &format!("hub_ca_file {}: {error}", path.display())))?;
    Ok(Some(pem))
}

fn token_source(section: &AgentSection) -> Result<TokenSource, Failure> {
    if let Some(path) = &section.token_file {
        return Ok(TokenSource::File(path.clone()));
    }
    let (Some(token_url), Some(client_id), Some(secret_file)) = (
        &section.token_url,
        &section.client_id,
        &section.client_secret_file,
    ) else {
        let why = "it has neither token_file nor token_url, client_id and client_secret_file";
        return Err(wrong(section, why));
    };
    Ok(TokenSource::ClientCredentials {
        token_url: token_url.clone(),
        client_id: client_id.clone(),
        client_secret: files::read_secret(secret_file)?.trim().to_owned(),
        scope: String::new(),
    })
}

fn sink(section: &AgentSection) -> Result<Arc<dyn Sink>, Failure> {
    let missing = |key: &str| wrong(section, &format!("a sink of this kind needs {key}"));
    let failed = |error: countersign_role_agent::Error| wrong(section, &error.to_string());
    match section.sink.kind {
        SinkKind::Stdout => Ok(Arc::new(StdoutSink)),
        SinkKind::Folder => {
            let path: &Path = section
                .sink
                .path
                .as_deref()
                .ok_or_else(|| missing("path"))?;
            Ok(Arc::new(FolderSink::new(path).map_err(failed)?))
        }
        SinkKind::Http => {
            let url = section.sink.url.as_deref().ok_or_else(|| missing("url"))?;
            let timeout = section
                .sink
                .timeout
                .map_or(SINK_TIMEOUT, |timeout| timeout.0);
            Ok(Arc::new(HttpSink::new(url, timeout).map_err(failed)?))
        }
    }
}

fn wrong(section: &AgentSection, why: &str) -> Failure {
    Failure::new(
        Exit::ConfigInvalid,
        "E-AGENT",
        format!("agent {} cannot start", section.name),
        why,
        "correct [agent] in the configuration, then: countersign agent run",
    )
}
