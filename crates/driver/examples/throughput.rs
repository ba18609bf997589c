//! How many durable messages a second the loop carries without HTTP and SignalR around it:
//! accepted, pushed to a connected recipient, acknowledged, each step behind a flush.
//!
//! `cargo run --release -p countersign-driver --example throughput -- [WINDOW] [SECONDS]`

use bytes::Bytes;
use countersign_driver::journal::{self, NewStore, RealFiles};
use countersign_driver::{Bodies, Options, Outlet, Service, open};
use countersign_rules::ack::{Ack, AckItem, Outcome, Stage};
use countersign_rules::delivery::{Centre, Effect, Input, Policy, Push, Submission};
use countersign_rules::{AgentName, LaneName, MessageId, TenantName, Timestamp, TypeName};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

struct Pushes(mpsc::UnboundedSender<Push>);

impl Outlet<Centre> for Pushes {
    fn carry_out(&mut self, effect: Effect, bodies: &Bodies) -> Option<Input> {
        if let Effect::Push(push) = effect {
            bodies
                .read(push.accepted)
                .expect("a pushed message is durable");
            let _ = self.0.send(push);
        }
        None
    }
}

fn main() {
    let argument = |at| std::env::args().nth(at).and_then(|text| text.parse().ok());
    let (window, seconds) = (argument(1).unwrap_or(256), argument(2).unwrap_or(5));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime
        .expect("a runtime starts")
        .block_on(run(window, seconds));
}

async fn run(window: u64, seconds: u64) {
    let directory = std::env::current_dir()
        .expect("a directory")
        .join("target/throughput");
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).expect("a directory to write to");
    let files = RealFiles::new(&directory).expect("the directory opens");
    let new = NewStore {
        store_id: [1; 16],
        epoch: 1,
    };
    let opened = open(
        Centre::new(Policy::default()),
        files,
        journal::Options::default(),
        new,
    );
    let (pushes, mut pushed) = mpsc::unbounded_channel();
    let service = Service::start(
        opened.expect("it opens"),
        Pushes(pushes),
        Options::default(),
    );
    let service = service.expect("it starts");
    let handle = service.handle();
    let (tenant, agent) = (TenantName::parse("default"), AgentName::parse("lyon"));
    let (tenant, agent) = (tenant.expect("a name"), agent.expect("a name"));
    let connect = Input::Connect {
        tenant: tenant.clone(),
        agent: agent.clone(),
        connection: 1,
        token_expires_at: Timestamp(i64::MAX),
    };
    handle.ask(connect).await.expect("it connects");
    let ready = Input::Ready {
        parked: Vec::new(),
        connection: 1,
        agent_epoch: 0,
        floor: 0,
        cursor: 0,
        highest: None,
        centre_epoch: 0,
    };
    handle.ask(ready).await.expect("it is ready");

    let next = Arc::new(AtomicU64::new(1));
    for _ in 0..window {
        let (handle, next) = (handle.clone(), Arc::clone(&next));
        let (tenant, agent) = (tenant.clone(), agent.clone());
        tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let message = message(number, &tenant, &agent);
                if handle.ask(message).await.is_err() {
                    return;
                }
            }
        });
    }
    let (begun, mut acknowledged) = (Instant::now(), 0u64);
    let mut batch = Vec::new();
    while begun.elapsed() < Duration::from_secs(seconds) {
        batch.clear();
        pushed.recv_many(&mut batch, 4096).await;
        acknowledged += batch.len() as u64;
        let acks = batch
            .iter()
            .map(|push| ack(push.id, &tenant, &agent))
            .collect();
        let input = Input::Acks {
            damaged: vec![],
            source: 1,
            through: acknowledged,
            acks,
        };
        handle.ask(input).await.expect("it acts on acks");
    }
    let elapsed = begun.elapsed().as_secs_f64();
    let cpu = cpu_seconds();
    println!(
        "{:.0} messages/s over {elapsed:.1} s, window {window}, {:.1} us of CPU each",
        acknowledged as f64 / elapsed,
        cpu * 1e6 / acknowledged as f64,
    );
    std::process::exit(0);
}

fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(") ").next().unwrap_or_default().to_owned();
    let fields: Vec<f64> = after_name
        .split(' ')
        .filter_map(|field| field.parse().ok())
        .collect();
    // The state letter is no number, so user and system time stand one place earlier.
    (fields.get(10).unwrap_or(&0.0) + fields.get(11).unwrap_or(&0.0)) / 100.0
}

fn message(number: u64, tenant: &TenantName, agent: &AgentName) -> Input {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    Input::Submit(Box::new(Submission {
        rule: countersign_rules::LaneRule::Block,
        id: MessageId(id),
        tenant: tenant.clone(),
        to: agent.clone(),
        kind: TypeName::parse("bench.message").expect("a type"),
        lane: LaneName::default_lane(),
        key: None,
        fingerprint: [0; 16],
        body_sha256: [0; 32],
        body: None,
        expires_at: None,
        not_before: None,
        attempts_max: None,
        correlation_id: String::new(),
        causation_id: String::new(),
        traceparent: String::new(),
        tracestate: String::new(),
        sender: "bench".to_owned(),
        content_type: String::new(),
        data: Bytes::from(format!("\"{number:0254}\"")),
    }))
}

fn ack(id: MessageId, tenant: &TenantName, agent: &AgentName) -> Ack {
    let item = AckItem {
        next_at: None,
        message: id,
        stage: Stage::Acknowledged,
        attempt: 1,
        generation: 1,
        occurred_at: Timestamp(0),
        outcome: Outcome::default(),
        duration_ms: 0,
        traceparent: String::new(),
    };
    Ack {
        at: Timestamp(0),
        tenant: tenant.clone(),
        agent: agent.clone(),
        item,
    }
}
