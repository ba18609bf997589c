//! `bench`: durable, end to end, on this machine: send API, journal, hub, SignalR, agent's inbox, a
//! sink that takes everything, ack API, journal.

mod backlog;

use crate::cli::{Bench, Role};
use crate::client::Client;
use crate::commands::{keys as make_keys, token::now_unix_s};
use crate::config::{AgentSection, Config, SinkKind, SinkSection};
use crate::durations::{DurationText, SizeText, parse_duration};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::Output;
use crate::roles::deployment::{Deployment, ack_url};
use crate::roles::{agent, keys, listen};
use axum::Router;
use countersign_access::{Grant, Issuer, Scopes};
use countersign_driver::Handle;
use countersign_role_agent::{Agent, FnSink, TokenSource, WorkResult};
use countersign_rules::ack::Outcome as AckOutcome;
use countersign_rules::delivery::{Centre, Input, Reply};
use hdrhistogram::Histogram;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Time before figures count.
const WARM_UP: Duration = Duration::from_secs(1);
/// One message in so many is followed to its acknowledgement; following each would measure the
/// following.
const FOLLOWED: u64 = 16;

pub(crate) fn run(args: &Bench, output: Output) -> Outcome {
    let duration = parse_duration(&args.duration).map_err(|why| {
        Failure::new(
            Exit::Usage,
            "E-USAGE",
            "--duration is not valid",
            why,
            "countersign bench --help",
        )
    })?;
    if !args.waiting.is_empty() {
        backlog::check(args)?;
    }
    if args.waiting.len() > 1 || (args.waiting.len() == 1 && args.rounds > 1) {
        return backlog::compare(args, output).map(|()| ExitCode::SUCCESS);
    }
    let temporary = tempfile::tempdir()
        .map_err(|error| Failure::file(&std::env::temp_dir(), "create a directory in", &error))?;
    let data = args
        .data
        .clone()
        .unwrap_or_else(|| temporary.path().to_owned());
    listen::runtime()?.block_on(async {
        let flush_us = flush_time(&data)?;
        let bench = Setup::start(args, &data).await?;
        let filled = match args.waiting.first() {
            Some(waiting) => Some(backlog::fill(&bench, args, *waiting).await?),
            None => None,
        };
        let figures = bench.measure(args, duration).await?;
        let mut document = figures.document(args, duration, flush_us);
        match filled {
            Some(filled) => backlog::restart(&data, bench, filled)
                .await?
                .add_to(&mut document),
            None => bench.end().await?,
        }
        output.answer(&document, || text(&document));
        Ok(ExitCode::SUCCESS)
    })
}

/// Median time of one small write with its flush, in microseconds: what everything here waits for.
fn flush_time(directory: &Path) -> Result<u64, Failure> {
    let path = directory.join("flush-time");
    let failed = |error: std::io::Error| Failure::file(&path, "write", &error);
    std::fs::create_dir_all(directory).map_err(failed)?;
    let mut file = std::fs::File::create(&path).map_err(failed)?;
    let mut times = Vec::new();
    for _ in 0..101 {
        let begun = Instant::now();
        file.write_all(&[0; 512])
            .and_then(|()| file.sync_data())
            .map_err(failed)?;
        times.push(begun.elapsed().as_micros() as u64);
    }
    times.sort_unstable();
    std::fs::remove_file(&path).map_err(failed)?;
    Ok(times[times.len() / 2])
}

struct Setup {
    config: Config,
    deployment: Deployment,
    centre: Handle<Centre>,
    agents: Vec<Agent>,
    client: Client,
    /// Messages sent and not yet taken by a sink.
    window: Arc<Semaphore>,
}

impl Setup {
    async fn start(args: &Bench, data: &Path) -> Result<Self, Failure> {
        let key_directory = data.join("keys");
        if !key_directory.exists() {
            make_keys::make(&key_directory)?;
        }
        let mut config = Config::default();
        config.store.data_dir = data.to_owned();
        for listen in [
            &mut config.hub.listen,
            &mut config.acks.listen,
            &mut config.token.listen,
        ] {
            *listen = free_address().await?;
        }
        config.hub.drain = DurationText(Duration::ZERO);
        config.keys.signing = key_directory.join("signing-key.pem");
        config.keys.jwks = key_directory.join("jwks.json");
        let roles = [Role::Api, Role::Hub, Role::Acks];
        let deployment = Deployment::start(&config, &roles, Router::new()).await?;
        let centre = deployment.centre().expect("the role api has a centre");
        let issuer = Issuer {
            keys: keys::signing(&config)?,
            issuer: config.token.issuer.clone(),
            audience: config.token.audience.clone(),
        };
        let window = Arc::new(Semaphore::new(args.window as usize));
        let mut agents = Vec::new();
        for number in 0..args.agents {
            let name = name(number);
            let token = token(&issuer, "hub ack", Some(name.clone()))?;
            let section = section(&name, data, &config);
            let sink = sink(Arc::clone(&window));
            agents.push(agent::start_with(&section, TokenSource::Fixed(token), sink).await?);
        }
        let server = crate::cli::Server {
            url: Some(format!("http://{}", config.hub.listen)),
            token: Some(token(&issuer, "send read operate", None)?),
        };
        let setup = Self {
            config,
            deployment,
            centre,
            agents,
            client: Client::new(&server)?,
            window,
        };
        setup.register(args.agents).await?;
        Ok(setup)
    }

    async fn register(&self, agents: u32) -> Result<(), Failure> {
        for number in 0..agents {
            let path = format!("/v1/agents/{}", name(number));
            self.client
                .send("register an agent", self.client.request(Method::PUT, &path))
                .await?;
        }
        Ok(())
    }

    async fn measure(&self, args: &Bench, duration: Duration) -> Result<Figures, Failure> {
        let histogram = Histogram::<u64>::new_with_bounds(1, 600_000_000, 3);
        let latency = Arc::new(Mutex::new(histogram.expect("the bounds are sound")));
        let begun = Instant::now();
        let (counts_from, end) = (begun + WARM_UP, begun + WARM_UP + duration);
        let body = "x".repeat(args.size.saturating_sub(2));
        let meter = tokio::spawn(processed_between(self.centre.clone(), counts_from, end));
        let mut number = 0u64;
        let mut sends = tokio::task::JoinSet::new();
        while Instant::now() < end {
            let due = match args.rate {
                Some(rate) => {
                    let due = begun
                        + Duration::from_nanos(number * 1_000_000_000 / u64::from(rate.max(1)));
                    tokio::time::sleep_until(due.into()).await;
                    due
                }
                None => {
                    let room = Arc::clone(&self.window).acquire_owned().await;
                    room.expect("the window is never closed").forget();
                    Instant::now()
                }
            };
            let message = json!({
                "to": { "agent": name((number % u64::from(args.agents)) as u32) },
                "type": "bench.message",
                "order_key": (number % 64).to_string(),
                "data": body,
            });
            let follow = (number.is_multiple_of(FOLLOWED) && due >= counts_from)
                .then(|| Arc::clone(&latency));
            let client = self.client.clone();
            sends.spawn(async move { send(&client, &message, due, follow).await });
            number += 1;
            while let Some(done) = sends.try_join_next() {
                done.map_err(|error| Failure::unexpected("a send failed", error))??;
            }
        }
        let processed = meter
            .await
            .map_err(|error| Failure::unexpected("the meter failed", error))??;
        while let Some(done) = sends.join_next().await {
            done.map_err(|error| Failure::unexpected("a send failed", error))??;
        }
        let latency = latency
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        Ok(Figures {
            processed,
            sent: number,
            latency,
        })
    }

    async fn end(self) -> Result<(), Failure> {
        for agent in self.agents {
            agent
                .stop()
                .await
                .map_err(|error| Failure::unexpected("an agent did not stop", error))?;
        }
        self.deployment.run_until(std::future::ready(())).await
    }
}

async fn send(
    client: &Client,
    message: &Value,
    due: Instant,
    follow: Option<Arc<Mutex<Histogram<u64>>>>,
) -> Result<(), Failure> {
    let request = client.request(Method::POST, "/v1/messages").json(message);
    let answer = client.send("send a message", request).await?;
    let Some(latency) = follow else { return Ok(()) };
    let id = answer.body["id"].as_str().unwrap_or_default();
    let path = format!("/v1/messages/{id}?wait=acknowledged&timeout=60s");
    client
        .send("wait for a message", client.request(Method::GET, &path))
        .await?;
    let micros = due.elapsed().as_micros() as u64;
    // What is longer than the histogram's ten minutes has timed out before.
    let _ = latency
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .record(micros.max(1));
    Ok(())
}

/// How many messages reached the back office's side for good between two instants.
async fn processed_between(
    centre: Handle<Centre>,
    from: Instant,
    to: Instant,
) -> Result<u64, Failure> {
    let mut counts = [0; 2];
    for (count, at) in counts.iter_mut().zip([from, to]) {
        tokio::time::sleep_until(at.into()).await;
        match centre.ask(Input::Count).await {
            Ok(Reply::Counted(counters)) => *count = counters.processed,
            other => {
                return Err(Failure::unexpected(
                    "the counters are not told",
                    format!("{other:?}"),
                ));
            }
        }
    }
    Ok(counts[1] - counts[0])
}

struct Figures {
    processed: u64,
    sent: u64,
    latency: Histogram<u64>,
}

impl Figures {
    fn document(&self, args: &Bench, duration: Duration, flush_us: u64) -> Value {
        let ms = |quantile| self.latency.value_at_quantile(quantile) as f64 / 1000.0;
        json!({
            "messages_per_second": (self.processed as f64 / duration.as_secs_f64()) as u64,
            "latency_ms": { "p50": ms(0.5), "p99": ms(0.99), "p999": ms(0.999), "followed": self.latency.len() },
            "flush_ms": flush_us as f64 / 1000.0,
            "sent": self.sent,
            "agents": args.agents,
            "size_bytes": args.size,
            "window": if args.rate.is_some() { Value::Null } else { json!(args.window) },
            "rate": args.rate,
            "duration_s": duration.as_secs_f64(),
        })
    }
}

fn text(document: &Value) -> String {
    let latency = &document["latency_ms"];
    let backlog = match document["waiting"].as_u64() {
        Some(waiting) => format!(
            "\n{waiting} messages waited for absent agents: {} bytes of memory each, restart in {} s",
            document["memory_bytes_a_message"], document["restart_s"]
        ),
        None => String::new(),
    };
    format!(
        "{} messages/s, accepted to acknowledged, every step on disk\n\
         latency p50 {} ms, p99 {} ms, p99.9 {} ms ({} followed)\n\
         one flush of this disk takes {} ms (median){backlog}",
        document["messages_per_second"],
        latency["p50"],
        latency["p99"],
        latency["p999"],
        latency["followed"],
        document["flush_ms"],
    )
}

fn name(number: u32) -> String {
    format!("bench-{number}")
}

fn sink(window: Arc<Semaphore>) -> Arc<dyn countersign_role_agent::Sink> {
    Arc::new(FnSink::new(move |_| {
        window.add_permits(1);
        async { WorkResult::Done(AckOutcome::default()) }
    }))
}

fn token(issuer: &Issuer, scopes: &str, agent: Option<String>) -> Result<String, Failure> {
    let grant = Grant {
        subject: agent.clone().unwrap_or_else(|| "bench".to_owned()),
        tenant: countersign_access::TENANT_DEFAULT.to_owned(),
        agent,
        scopes: Scopes::parse(scopes).expect("these scopes exist"),
        ttl: Duration::from_secs(6 * 3600),
    };
    let issued = issuer.issue(&grant, now_unix_s());
    issued
        .map(|issued| issued.token)
        .map_err(|error| Failure::unexpected("cannot sign a token", error))
}

async fn free_address() -> Result<String, Failure> {
    let listener = listen::bind("127.0.0.1:0", "the bench").await?;
    Ok(listen::address(&listener)?.to_string())
}

fn section(name: &str, data: &Path, config: &Config) -> AgentSection {
    AgentSection {
        name: name.to_owned(),
        hub_url: format!("http://{}/hub", config.hub.listen),
        hub_proxy: None,
        hub_ca_file: None,
        ack_url: ack_url(config, &crate::roles::deployment::Addresses::default()),
        token_url: None,
        client_id: None,
        client_secret_file: None,
        token_file: None,
        data_dir: data.join("agents").join(name),
        reserve: SizeText(16 << 20),
        workers: 64,
        attempts_max: 10,
        retry_immediate: 0,
        types: BTreeMap::new(),
        retry_first: DurationText(Duration::from_secs(1)),
        retry_max: DurationText(Duration::from_secs(300)),
        sink: SinkSection {
            kind: SinkKind::Stdout,
            url: None,
            path: None,
            timeout: None,
        },
    }
}
