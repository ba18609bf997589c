//! Two hard days of a real deployment: a message that its back office never takes, with ten thousand
//! healthy ones beside it; and a disk that is full while work is under way.
//!
//! The back office is the test's own, so that what it holds back decides the order of events, and no
//! clock does.

#![cfg(target_os = "linux")]

#[path = "support/run.rs"]
mod run;
mod support;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::free_ports;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

const BINARY: &str = env!("CARGO_BIN_EXE_countersign");
const AGENT: &str = "lyon";
const HEALTHY: u64 = 10_000;
const ATTEMPTS: u64 = 4;
/// Nothing here takes as long as two things that follow each other without an end to it.
const PATIENCE: Duration = Duration::from_secs(300);

/// What the back office does and has seen.
struct Office {
    /// How many healthy documents were taken; more than are let in wait.
    taken: watch::Sender<u64>,
    let_in: Semaphore,
    poison_attempts: AtomicU64,
}

impl Office {
    /// Lets in so many documents at first, and tells where it listens.
    async fn open(let_in: usize) -> (Arc<Self>, String) {
        let office = Arc::new(Self {
            taken: watch::channel(0).0,
            let_in: Semaphore::new(let_in),
            poison_attempts: AtomicU64::new(0),
        });
        let router = Router::new()
            .route("/documents", post(insert))
            .with_state(Arc::clone(&office));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        tokio::spawn(async move { axum::serve(listener, router).await });
        (office, format!("http://{address}/documents"))
    }

    async fn until_taken(&self, count: u64) {
        let mut taken = self.taken.subscribe();
        let taken = taken.wait_for(|taken| *taken >= count);
        let taken = tokio::time::timeout(PATIENCE, taken).await;
        assert!(taken.is_ok(), "{count} documents never arrived");
    }
}

async fn insert(State(office): State<Arc<Office>>, headers: HeaderMap, body: String) -> StatusCode {
    assert!(headers.contains_key("idempotency-key"), "{headers:?}");
    if !body.contains("poison") {
        office
            .let_in
            .acquire()
            .await
            .expect("it stays open")
            .forget();
        office.taken.send_modify(|taken| *taken += 1);
        return StatusCode::CREATED;
    }
    let attempt = office.poison_attempts.fetch_add(1, Ordering::SeqCst) + 1;
    if attempt == ATTEMPTS {
        // Were anything healthy behind the poison, it would never come, and this never end.
        office.until_taken(HEALTHY).await;
    }
    StatusCode::INTERNAL_SERVER_ERROR
}

/// Centre and agent as processes, with the data where it is said; killed when dropped.
struct Deployment {
    processes: Vec<Child>,
    home: PathBuf,
    api: String,
    token: String,
    http: reqwest::Client,
}

impl Deployment {
    async fn start(home: &Path, data: &Path, sink: &str) -> Self {
        let words = ["config", "init", "--agent", AGENT, "--out"];
        let made = run::run(Command::new(BINARY).args(words).arg(home));
        assert_eq!(made.0, 0, "{}", made.2);
        let port = free_ports();
        let at = |offset: u16| format!("127.0.0.1:{}", port + offset);
        let agent = format!(
            "\n[agent]\nname = \"{AGENT}\"\nhub_url = \"http://{}/hub\"\nack_url = \"http://{}/acks/v1/acks\"\n\
             token_url = \"http://{}/oauth2/token\"\nclient_id = \"{AGENT}\"\n\
             client_secret_file = \"secrets/{AGENT}.secret\"\ndata_dir = \"agent\"\nreserve = \"1MiB\"\n\
             attempts_max = 1000\nretry_first = \"10ms\"\nretry_max = \"50ms\"\n\
             [agent.sink]\nkind = \"http\"\nurl = \"{sink}\"\ntimeout = \"10m\"\n",
            at(0),
            at(1),
            at(2),
        );
        let config = home.join("countersign.toml");
        let text = std::fs::read_to_string(&config).expect("it is there") + &agent;
        std::fs::write(&config, text).expect("it is written");
        let command = |words: &[&str]| {
            let mut command = Command::new(BINARY);
            command
                .args(words)
                .env("COUNTERSIGN_CONFIG", &config)
                .env("COUNTERSIGN_HUB__LISTEN", at(0))
                .env("COUNTERSIGN_ACKS__LISTEN", at(1))
                .env("COUNTERSIGN_TOKEN__LISTEN", at(2))
                .env("COUNTERSIGN_STORE__DATA_DIR", data)
                .env("COUNTERSIGN_STORE__RESERVE", "16MiB")
                .env("COUNTERSIGN_DELIVERY__STRICT_TARGETS", "false")
                .env("RUST_LOG", "error")
                .stdout(Stdio::null());
            command
        };
        let scopes = "send,read,operate";
        let words = ["token", "new", "--scope", scopes, "--quiet"];
        let token = run::run(
            Command::new(BINARY)
                .args(words)
                .env("COUNTERSIGN_CONFIG", &config),
        );
        assert_eq!(token.0, 0, "{}", token.2);
        let start = |words| command(words).spawn().expect("the binary starts");
        let deployment = Self {
            processes: vec![start(&["serve"]), start(&["agent", "run"])],
            home: home.to_owned(),
            api: format!("http://{}", at(0)),
            token: token.1.trim().to_owned(),
            http: reqwest::Client::new(),
        };
        let begun = Instant::now();
        while deployment
            .http
            .get(format!("{}/healthz", deployment.api))
            .send()
            .await
            .is_err()
        {
            assert!(begun.elapsed() < PATIENCE, "the centre does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        deployment
    }

    /// The status and the body of the answer.
    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let request = self.http.post(format!("{}{path}", self.api));
        let request = request.bearer_auth(&self.token).json(&body);
        answer(request).await
    }

    async fn get(&self, path: &str) -> Value {
        let request = self.http.get(format!("{}{path}", self.api));
        let (status, body) = answer(request.bearer_auth(&self.token)).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    async fn send(&self, to: &str, lane: &str, number: u64) -> (u16, Value) {
        let message = json!({
            "to": { "agent": to }, "type": "document.insert", "order_key": lane,
            "data": { "number": number.to_string() },
        });
        self.post("/v1/messages", message).await
    }

    async fn wait_for(&self, id: &str, state: &str) {
        let begun = Instant::now();
        loop {
            let message = self.get(&format!("/v1/messages/{id}")).await;
            if message["state"] == state {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{id} is not {state}: {message}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends the processes and lets `verify` judge what they wrote.
    fn verify(mut self, data: &Path) {
        self.end();
        let journal = |name: &str, place: PathBuf| format!("{name}={}", place.display());
        let (code, told, failed) = run::run(
            Command::new(BINARY)
                .arg("verify")
                .args([
                    "--config".as_ref(),
                    self.home.join("countersign.toml").as_os_str(),
                ])
                .arg(journal("centre", data.join("centre")))
                .arg(journal("acks", data.join("acks")))
                .arg(journal(AGENT, self.home.join("agent/inbox"))),
        );
        assert_eq!(code, 0, "{told}{failed}");
    }

    fn end(&mut self) {
        for process in &mut self.processes {
            // It may have ended by itself; what it has not done is seen elsewhere.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        self.end();
    }
}

async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.expect("the centre answers");
    let status = answer.status().as_u16();
    let body = answer.text().await.expect("it is text");
    (status, serde_json::from_str(&body).unwrap_or(Value::Null))
}

fn id(answer: &Value) -> String {
    answer["id"].as_str().expect("it has an id").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_messages_in_other_lanes_pass_one_that_nobody_takes() {
    let home = tempfile::tempdir().expect("a directory");
    let (office, sink) = Office::open(HEALTHY as usize).await;
    let data = home.path().join("data");
    let deployment = Arc::new(Deployment::start(home.path(), &data, &sink).await);
    let poison = json!({
        "to": { "agent": AGENT }, "type": "poison", "order_key": "ill", "max_attempts": ATTEMPTS,
        "data": { "poison": true },
    });
    let (status, poison) = deployment.post("/v1/messages", poison).await;
    assert_eq!(status, 202, "{poison}");
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        let deployment = Arc::clone(&deployment);
        senders.spawn(async move {
            for number in (sender..HEALTHY).step_by(SENDERS as usize) {
                let (status, told) = deployment
                    .send(AGENT, &format!("lane-{sender}"), number)
                    .await;
                assert_eq!(status, 202, "{told}");
            }
        });
    }
    while let Some(sent) = senders.join_next().await {
        sent.expect("it was sent");
    }
    // The last attempt of the poison ends when all of these are through, and not before.
    office.until_taken(HEALTHY).await;
    let id = id(&poison);
    deployment.wait_for(&id, "dead").await;
    assert_eq!(office.poison_attempts.load(Ordering::SeqCst), ATTEMPTS);
    let timeline = deployment.get(&format!("/v1/messages/{id}/timeline")).await;
    let told = timeline.to_string();
    assert!(told.contains("dead") && told.contains("500"), "{told}");
    let begun = Instant::now();
    while deployment.get("/v1/counters").await["pending"] != 0 {
        assert!(begun.elapsed() < PATIENCE, "acknowledgements are missing");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let counters = deployment.get("/v1/counters").await;
    assert_eq!(
        (&counters["processed"], &counters["dead"]),
        (&json!(HEALTHY), &json!(1))
    );
    Arc::into_inner(deployment)
        .expect("senders are gone")
        .verify(&data);
}

/// A disk of 192 MiB, in memory; unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    fn mount(place: PathBuf) -> Option<Self> {
        std::fs::create_dir_all(&place).expect("it is made");
        let words = ["-t", "tmpfs", "-o", "size=192m", "countersign-test"];
        let mounted = Command::new("mount").args(words).arg(&place).status();
        mounted
            .is_ok_and(|status| status.success())
            .then_some(Self(place))
    }

    /// Takes all space but so much.
    fn fill(&self, leave_mib: u64) {
        let told = run::run(
            Command::new("df")
                .args(["-B1", "--output=avail"])
                .arg(&self.0),
        );
        let free: u64 = told
            .1
            .lines()
            .last()
            .expect("a line")
            .trim()
            .parse()
            .expect("a number");
        let bytes = (free - (leave_mib << 20)).to_string();
        let filler = self.0.join("filler");
        let filled = run::run(Command::new("fallocate").args(["-l", &bytes]).arg(filler));
        assert_eq!(filled.0, 0, "{}", filled.2);
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("filler")).expect("it is there");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.0).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} stays mounted", self.0.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_what_is_new_ends_what_is_old_and_recovers_by_itself() {
    let home = tempfile::tempdir().expect("a directory");
    let Some(disk) = Disk::mount(home.path().join("disk")) else {
        eprintln!("\n*** NOT TESTED: a full disk: mounting a tmpfs takes root ***\n");
        return;
    };
    let data = disk.0.clone();
    let (office, sink) = Office::open(0).await;
    let deployment = Deployment::start(home.path(), &data, &sink).await;
    let mut accepted = Vec::new();
    for number in 0..WAITING {
        let (status, told) = deployment
            .send(AGENT, &format!("lane-{number}"), number)
            .await;
        assert_eq!(status, 202, "{told}");
        accepted.push(id(&told));
    }
    let (status, absent) = deployment.send("nobody", "lane", 0).await;
    assert_eq!(status, 202, "{absent}");
    disk.fill(8);
    // The centre looks at its disk once in many flushes, so some sends are still taken; none is lost.
    let mut refused = None;
    for number in 0..LATE_MAX {
        let (status, told) = deployment
            .send(AGENT, &format!("late-{number}"), number)
            .await;
        match status {
            202 => accepted.push(id(&told)),
            other => {
                refused = Some((other, told));
                break;
            }
        }
    }
    let (status, told) = refused.expect("a full disk refuses a send");
    assert_eq!(
        (status, &told["code"]),
        (507, &json!("E-NO-SPACE")),
        "{told}"
    );
    // What was taken on ends all the same, and so does what nobody wants any more.
    office.let_in.add_permits(accepted.len() + 1);
    for id in &accepted {
        deployment.wait_for(id, "acknowledged").await;
    }
    let cancel = format!("/v1/messages/{}/cancel", id(&absent));
    let (status, told) = deployment.post(&cancel, json!({})).await;
    assert_eq!(status, 200, "{told}");
    let (status, told) = deployment.send(AGENT, "lane", 0).await;
    assert_eq!(status, 507, "{told}");
    disk.free();
    let (status, told) = deployment.send(AGENT, "lane", 0).await;
    assert_eq!(status, 202, "no restart is needed: {told}");
    deployment.wait_for(&id(&told), "acknowledged").await;
    deployment.verify(&data);
}

const SENDERS: u64 = 32;
const WAITING: u64 = 20;
/// Several times what may be taken between two looks at the disk.
const LATE_MAX: u64 = 400;
