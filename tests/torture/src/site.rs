//! Where everything is: ports, configuration, tokens.

use crate::Args;
use crate::clocks::Clocks;
use crate::disks::Disks;
use crate::faults::Fault;
use crate::process::{Kind, Launch};
use crate::proxy::Proxy;
use anyhow::{Context, Result, bail, ensure};
use reqwest::Client;
use serde_json::Value;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::process::Command;
use tokio::sync::Mutex;

/// The agent's name.
pub(crate) const AGENT: &str = "lyon-001";

/// The place of a run.
pub(crate) struct Site {
    pub(crate) http: Client,
    pub(crate) api: String,
    pub(crate) back_office: String,
    pub(crate) acks: String,
    pub(crate) disks: Disks,
    /// Only when clocks are to jump.
    pub(crate) clocks: Option<Clocks>,
    /// Between the agent and the hub, and between the agent and the ack API.
    pub(crate) to_hub: Proxy,
    pub(crate) to_acks: Proxy,
    pending: AtomicU64,
    /// Answers 507 that senders got.
    pub(crate) refused_for_space: AtomicU64,
    /// Tokens that senders got.
    pub(crate) tokens_issued: AtomicU64,
    binary: PathBuf,
    pub(crate) home: PathBuf,
    token_url: String,
    variables: Vec<(String, String)>,
    back_office_listen: String,
    agent_secret: String,
    secret: String,
    token: Mutex<Option<(Instant, Duration, String)>>,
    pull_token: String,
}

/// Writes the configuration of a run into `home`.
pub(crate) async fn prepare(args: &Args, home: &Path) -> Result<Site> {
    let binary = std::path::absolute(&args.binary)?;
    let (ports, held) = free_ports(4)?;
    let at = |index: usize| format!("127.0.0.1:{}", ports[index]);
    let to_hub = Proxy::start(at(0).parse()?).await?;
    let to_acks = Proxy::start(at(1).parse()?).await?;
    // Held until here, so that no proxy took one of them.
    drop(held);
    let disks = match args.faults.contains(&Fault::Disk) {
        true => Disks::mount(home, disk_bytes(args), args.keep)?,
        false => Disks::plain(home)?,
    };
    let clocks = match args.faults.contains(&Fault::Clock) {
        true => Some(Clocks::new(home)?),
        false => None,
    };
    let token_ttl = match args.faults.contains(&Fault::Tokens) {
        true => "5s".to_owned(),
        false => args.token_ttl.clone(),
    };
    let ack_url = format!("http://{}/acks/v1/acks", to_acks.address);
    let token_url = format!("http://{}/oauth2/token", at(2));
    let mut variables = vec![
        ("COUNTERSIGN_HUB__LISTEN".to_owned(), at(0)),
        ("COUNTERSIGN_ACKS__LISTEN".to_owned(), at(1)),
        ("COUNTERSIGN_TOKEN__LISTEN".to_owned(), at(2)),
        (
            "COUNTERSIGN_ACKS__PUBLIC_URL".to_owned(),
            format!("http://{}", to_acks.address),
        ),
        ("COUNTERSIGN_TOKEN__TTL".to_owned(), token_ttl),
        ("COUNTERSIGN_STORE__RESERVE".to_owned(), "16MiB".to_owned()),
        ("COUNTERSIGN_LOG__LEVEL".to_owned(), "warn".to_owned()),
    ];
    let init = ["config", "init", "--out", ".", "--agent", AGENT];
    succeed(&binary, home, &init, &[]).await?;
    let config = home.join("countersign.toml");
    let agent = format!(
        "\n[agent]\nname = \"{AGENT}\"\ndata_dir = \"disks/agent\"\nhub_url = \"http://{}/hub\"\nack_url = \"{ack_url}\"\n\
         token_url = \"{token_url}\"\nclient_id = \"{AGENT}\"\nclient_secret_file = \"secrets/{AGENT}.secret\"\n\
         reserve = \"16MiB\"\nattempts_max = 1000000\nretry_first = \"50ms\"\nretry_max = \"1s\"\n\
         workers = {}\n[agent.sink]\nkind = \"http\"\nurl = \"http://{}/documents\"\ntimeout = \"10s\"\n",
        to_hub.address,
        args.lanes.min(32),
        at(3),
    );
    let text = std::fs::read_to_string(&config)? + &agent;
    std::fs::write(&config, text)?;
    let pull = ["token", "new", "--scope", "pull", "--ttl", "6h", "--quiet"];
    let pull_token = succeed(&binary, home, &pull, &variables).await?;
    variables.push((
        "COUNTERSIGN_CONFIG".to_owned(),
        config.display().to_string(),
    ));
    let secret = std::fs::read_to_string(home.join("secrets/sender.secret"))?;
    let agent_secret = home.join(format!("secrets/{AGENT}.secret"));
    let agent_secret = std::fs::read_to_string(agent_secret)?;
    Ok(Site {
        http: Client::builder().timeout(Duration::from_secs(10)).build()?,
        api: format!("http://{}", at(0)),
        back_office: format!("http://{}", at(3)),
        acks: format!("http://{}", at(1)),
        disks,
        clocks,
        to_hub,
        to_acks,
        pending: AtomicU64::new(0),
        refused_for_space: AtomicU64::new(0),
        tokens_issued: AtomicU64::new(0),
        binary,
        home: home.to_owned(),
        token_url,
        variables,
        back_office_listen: at(3),
        agent_secret: agent_secret.trim().to_owned(),
        secret: secret.trim().to_owned(),
        token: Mutex::new(None),
        pull_token: pull_token.trim().to_owned(),
    })
}

impl Site {
    pub(crate) fn launch(&self, kind: Kind) -> Launch {
        let words: &[&str] = match kind {
            Kind::Centre => &["serve", "--roles", "api,hub"],
            Kind::Tokens => &["serve", "--roles", "token"],
            Kind::Acks => &["serve", "--roles", "acks"],
            Kind::Agent => &["agent", "run"],
            Kind::BackOffice => &[
                "back-office",
                "--data",
                "back-office",
                "--listen",
                &self.back_office_listen,
            ],
        };
        let mut variables = self.variables.clone();
        let data = self.disks.of(kind).display().to_string();
        variables.push(("COUNTERSIGN_STORE__DATA_DIR".to_owned(), data));
        if let Some(clocks) = &self.clocks {
            variables.extend(clocks.variables(kind));
        }
        Launch {
            binary: self.binary.clone(),
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            variables,
            home: self.home.clone(),
            log: self.home.join(format!("{kind:?}.log")),
        }
    }

    /// Writes a list, one document a line.
    pub(crate) fn list(&self, name: &str, lines: impl Iterator<Item = Value>) -> Result<PathBuf> {
        let path = self.home.join(name);
        let text: String = lines.map(|line| format!("{line}\n")).collect();
        std::fs::write(&path, text)?;
        Ok(path)
    }

    /// Whether `countersign verify` finds nothing violated; it prints what it finds.
    pub(crate) fn verify(&self, sends: &Path, effects: &Path) -> Result<bool> {
        let mut command = std::process::Command::new(&self.binary);
        command.args(["verify", "--sends"]).arg(sends);
        command.arg("--effects").arg(effects);
        command.args(["--config", "countersign.toml"]);
        let journal = |name: &str, place: PathBuf| format!("{name}={}", place.display());
        command.arg(journal(
            "centre",
            self.disks.of(Kind::Centre).join("centre"),
        ));
        command.arg(journal("acks", self.disks.of(Kind::Acks).join("acks")));
        command.arg(journal(AGENT, self.disks.of(Kind::Agent).join("inbox")));
        for lost in self.lost_stores()? {
            command.arg(journal(AGENT, lost.join("inbox")));
        }
        let variables = self.variables.iter().cloned();
        let status = command.envs(variables).current_dir(&self.home).status()?;
        ensure!(
            matches!(status.code(), Some(0 | 11)),
            "verify ended with {status}"
        );
        Ok(status.success())
    }

    /// What was in the agent's place before it was lost or replaced: the records there happened.
    fn lost_stores(&self) -> Result<Vec<PathBuf>> {
        let mut lost = Vec::new();
        for entry in std::fs::read_dir(&self.home)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with(LOST) && path.join("inbox").is_dir() {
                lost.push(path);
            }
        }
        lost.sort();
        Ok(lost)
    }

    /// Where the store goes that is about to be lost.
    pub(crate) fn place_of_lost(&self, number: u64) -> PathBuf {
        self.home.join(format!("{LOST}{number:04}"))
    }

    /// A token of the agent, which nobody else holds.
    pub(crate) async fn agent_token(&self) -> Result<String> {
        let (token, _) = self.fetch_token(AGENT, &self.agent_secret).await?;
        Ok(token)
    }

    /// The next send gets another token.
    pub(crate) async fn forget_token(&self) {
        *self.token.lock().await = None;
    }

    /// A token of the sender, renewed before half of its life is over.
    pub(crate) async fn token(&self) -> Result<String> {
        let mut held = self.token.lock().await;
        if let Some((since, life, token)) = &*held
            && since.elapsed() < *life / 2
        {
            return Ok(token.clone());
        }
        let (token, life) = self.fetch_token("sender", &self.secret).await?;
        self.tokens_issued.fetch_add(1, Ordering::Relaxed);
        *held = Some((Instant::now(), life, token.clone()));
        Ok(token)
    }

    async fn fetch_token(&self, client: &str, secret: &str) -> Result<(String, Duration)> {
        let request = self
            .http
            .post(&self.token_url)
            .basic_auth(client, Some(secret));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let answer = request
            .body("grant_type=client_credentials")
            .send()
            .await?
            .error_for_status()?;
        let answer: Value = answer.json().await?;
        let token = answer["access_token"].as_str().context("no access token")?;
        let life = Duration::from_secs(answer["expires_in"].as_u64().unwrap_or(10));
        Ok((token.to_owned(), life))
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        let request = self
            .http
            .get(format!("{}{path}", self.api))
            .bearer_auth(self.token().await?);
        Ok(request.send().await?.error_for_status()?.json().await?)
    }

    /// The time that a server tells, in seconds since 1970.
    pub(crate) async fn time_of(&self, url: &str) -> Option<i64> {
        let answer = self.http.get(format!("{url}/healthz")).send().await.ok()?;
        let date = answer.headers().get("date")?.to_str().ok()?;
        let date = jiff::fmt::rfc2822::parse(date).ok()?;
        Some(date.timestamp().as_second())
    }

    /// Makes each insert take half a second.
    pub(crate) async fn slow_back_office(&self, seconds: u64) -> Result<()> {
        let control =
            serde_json::json!({ "mode": "slow", "slow_ms": 500, "for_ms": seconds * 1000 });
        let url = format!("{}/control", self.back_office);
        self.patiently(self.http.post(url).json(&control)).await?;
        Ok(())
    }

    /// Sends until the answer is good: the process may just be starting.
    async fn patiently(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response> {
        let begun = Instant::now();
        loop {
            let again = request.try_clone().context("the request can be repeated")?;
            match again
                .send()
                .await
                .and_then(reqwest::Response::error_for_status)
            {
                Ok(answer) => return Ok(answer),
                Err(error) => ensure!(begun.elapsed() < Duration::from_secs(20), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Position of the last record in the ack journal.
    pub(crate) async fn ack_records(&self) -> Result<u64> {
        let mut after = 0;
        loop {
            let url = format!("{}/acks/v1/journal?after={after}&limit=4000000", self.acks);
            let answer = self
                .patiently(self.http.get(&url).bearer_auth(&self.pull_token))
                .await?;
            let page = answer.bytes().await?;
            let through = page.get(8..16).context("a page is longer")?;
            let through = u64::from_le_bytes(through.try_into().expect("eight bytes"));
            if through == after {
                return Ok(after);
            }
            after = through;
        }
    }

    /// Messages are refused to an agent that nobody knows, so it has to connect once first.
    pub(crate) async fn wait_until_agent_is_known(&self) -> Result<()> {
        let begun = Instant::now();
        loop {
            if let Ok(token) = self.token().await {
                let put = self
                    .http
                    .put(format!("{}/v1/agents/{AGENT}", self.api))
                    .bearer_auth(token);
                if let Ok(answer) = put.send().await
                    && answer.status().is_success()
                {
                    return Ok(());
                }
            }
            ensure!(
                begun.elapsed() < Duration::from_secs(30),
                "the centre does not answer"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits while anything moves; what stands still for so long is stuck.
    pub(crate) async fn wait_until_nothing_is_pending(&self, at_most: Duration) -> Result<()> {
        let (mut last, mut moved) = (Value::Null, Instant::now());
        while moved.elapsed() < at_most {
            if let Ok(counters) = self.get("/v1/counters").await {
                if counters["pending"] == 0 {
                    println!("counters {counters}");
                    return Ok(());
                }
                if counters["pending"] != last["pending"] {
                    moved = Instant::now();
                }
                last = counters;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        bail!(
            "messages are still pending: {last}; logs are in {}",
            self.home.display()
        )
    }

    /// Keeps looking at how many messages wait, so that senders do not run away from the site.
    pub(crate) async fn watch_pending(&self) {
        loop {
            if let Ok(counters) = self.get("/v1/counters").await {
                let pending = counters["pending"].as_u64().unwrap_or(0);
                self.pending.store(pending, Ordering::Relaxed);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Waits while too many messages wait, and never for long: faults want some that come meanwhile.
    pub(crate) async fn until_few_wait(&self) {
        let begun = Instant::now();
        while self.pending.load(Ordering::Relaxed) > PENDING_MAX && begun.elapsed() < HELD_BACK {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn succeed(
    binary: &Path,
    home: &Path,
    words: &[&str],
    variables: &[(String, String)],
) -> Result<String> {
    let mut command = Command::new(binary);
    command
        .args(words)
        .envs(variables.iter().cloned())
        .current_dir(home)
        .stderr(Stdio::inherit());
    let output = command.output().await?;
    ensure!(
        output.status.success(),
        "{words:?} ended with {}",
        output.status
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// Ports that are free as long as their listeners are held, and most likely afterwards.
fn free_ports(count: usize) -> Result<(Vec<u16>, Vec<TcpListener>)> {
    let listeners: Result<Vec<_>, _> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect();
    let listeners = listeners?;
    let ports: Result<Vec<_>> = listeners
        .iter()
        .map(|listener| Ok(listener.local_addr()?.port()))
        .collect();
    Ok((ports?, listeners))
}

/// Space for what a run writes, several times over: it is full when the driver fills it, not before.
fn disk_bytes(args: &Args) -> u64 {
    (512 << 20) + args.messages.unwrap_or(1_000_000) * 1024
}

/// Messages that wait before senders do.
const PENDING_MAX: u64 = 20_000;
/// How long a message is held back at most.
const HELD_BACK: Duration = Duration::from_secs(1);
/// What the directory of a lost store is called, with its number.
const LOST: &str = "lost-";
