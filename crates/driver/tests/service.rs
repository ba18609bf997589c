//! The loop over real files: durable before answered, and everything back after a restart.

#![allow(
    clippy::unwrap_used,
    reason = "the helpers of a test fail like the test itself"
)]

use bytes::Bytes;
use countersign_driver::journal::{self, NewStore, RealFiles};
use countersign_driver::{Bodies, Handle, Options, Outlet, Service, StopReason, open};
use countersign_rules::delivery::{
    Centre, Effect, Input, Place, Policy, Push, Receipt, Reply, Submission, decode_accepted,
};
use countersign_rules::{AgentName, LaneName, MessageId, TenantName, Timestamp, TypeName};
use std::path::Path;
use tokio::sync::mpsc;

/// Sends what is pushed, with its body, to the test.
struct Pushes(mpsc::UnboundedSender<(Push, Vec<u8>)>);

impl Outlet<Centre> for Pushes {
    fn carry_out(&mut self, effect: Effect, bodies: &Bodies) -> Option<Input> {
        match effect {
            Effect::Push(push) => {
                let record = bodies
                    .read(push.accepted)
                    .expect("a pushed message is durable");
                let body = decode_accepted(&record)
                    .expect("it is an accepted message")
                    .data
                    .to_vec();
                let _ = self.0.send((push, body));
                None
            }
            Effect::CopyForward { id, accepted } => Some(Input::Carry {
                id,
                accepted: bodies.read(accepted).expect("it is durable"),
            }),
            _ => None,
        }
    }
}

type Pushed = mpsc::UnboundedReceiver<(Push, Vec<u8>)>;

fn start(directory: &Path, segment_bytes: u64, options: Options) -> (Service<Centre>, Pushed) {
    let files = RealFiles::new(directory).unwrap();
    let journal = journal::Options {
        segment_bytes,
        reserve_bytes: 0,
        ..Default::default()
    };
    let new = NewStore {
        store_id: [1; 16],
        epoch: 1,
    };
    let opened = open(Centre::new(Policy::default()), files, journal, new).unwrap();
    let (pushes, pushed) = mpsc::unbounded_channel();
    (
        Service::start(opened, Pushes(pushes), options).unwrap(),
        pushed,
    )
}

fn agent() -> (TenantName, AgentName) {
    (
        TenantName::parse("default").unwrap(),
        AgentName::parse("lyon").unwrap(),
    )
}

fn message(number: u64, body_bytes: usize) -> Input {
    let (tenant, to) = agent();
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    Input::Submit(Box::new(Submission {
        id: MessageId(id),
        tenant,
        to,
        kind: TypeName::parse("document.insert").unwrap(),
        lane: LaneName::default_lane(),
        key: None,
        fingerprint: [0; 16],
        body_sha256: [0; 32],
        expires_at: None,
        attempts_max: None,
        correlation_id: String::new(),
        causation_id: String::new(),
        traceparent: String::new(),
        tracestate: String::new(),
        sender: "test".to_owned(),
        content_type: String::new(),
        data: Bytes::from(format!("\"{number:0body_bytes$}\"")),
    }))
}

async fn submit(handle: &Handle<Centre>, number: u64, body_bytes: usize) -> Receipt {
    match handle.ask(message(number, body_bytes)).await.unwrap() {
        Reply::Submitted(receipt) => receipt.unwrap(),
        other => panic!("{other:?}"),
    }
}

async fn stop(mut service: Service<Centre>) {
    service.stop();
    assert_eq!(service.ended().await, StopReason::Asked);
}

async fn register(handle: &Handle<Centre>) {
    let (tenant, agent) = agent();
    handle.ask(Input::Register { tenant, agent }).await.unwrap();
}

async fn connect(handle: &Handle<Centre>, connection: u64) {
    let (tenant, agent) = agent();
    let token_expires_at = Timestamp(i64::MAX);
    handle
        .ask(Input::Connect {
            tenant,
            agent,
            connection,
            token_expires_at,
        })
        .await
        .unwrap();
    let ready = Input::Ready {
        connection,
        agent_epoch: 0,
        floor: 0,
        cursor: 0,
        centre_epoch: 0,
    };
    handle.ask(ready).await.unwrap();
}

#[tokio::test]
async fn an_answered_send_is_durable_and_still_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let (service, _) = start(directory.path(), 1 << 20, Options::default());
    let handle = service.handle();
    register(&handle).await;
    let sends = (1..=100).map(|number| submit(&handle, number, 10));
    let receipts = join_all(sends).await;
    let durable = handle.reader().durable_position();
    assert!(receipts.iter().all(|receipt| receipt.position <= durable));
    stop(service).await;

    let (service, mut pushed) = start(directory.path(), 1 << 20, Options::default());
    connect(&service.handle(), 1).await;
    for number in 1..=100u64 {
        let (push, body) = pushed.recv().await.unwrap();
        assert_eq!(
            (push.seq, body),
            (number, format!("\"{number:010}\"").into_bytes())
        );
    }
    stop(service).await;
}

#[tokio::test]
async fn snapshots_shorten_the_journal_and_lose_no_unfinished_message() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options {
        snapshot_every_bytes: 16 << 10,
        carry_beyond_bytes: 256 << 10,
        ..Options::default()
    };
    let (service, _) = start(directory.path(), 64 << 10, options.clone());
    let handle = service.handle();
    register(&handle).await;
    // One that waits for ever, and many that expire at once and are forgotten.
    submit(&handle, 1, 10).await;
    for number in 2..=400 {
        submit(&handle, number, 2_000).await;
    }
    let (tenant, _) = agent();
    stop(service).await;
    let (service, _) = start(directory.path(), 64 << 10, options);
    let handle = service.handle();
    let mut id = [0; 16];
    id[..8].copy_from_slice(&1u64.to_be_bytes());
    match handle
        .ask(Input::Look {
            tenant,
            id: MessageId(id),
        })
        .await
        .unwrap()
    {
        Reply::Message(Some(view)) => assert_eq!(view.place, Place::Queued),
        other => panic!("{other:?}"),
    }
    let snapshots = std::fs::read_dir(directory.path()).unwrap();
    let names = snapshots.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(
        names.into_iter().any(|name| name.starts_with("snapshot")),
        "a snapshot was taken"
    );
    stop(service).await;
}

#[tokio::test]
async fn a_second_process_on_the_same_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (service, _) = start(directory.path(), 1 << 20, Options::default());
    let files = RealFiles::new(directory.path()).unwrap();
    let new = NewStore {
        store_id: [1; 16],
        epoch: 1,
    };
    let again = open::<_, _, ()>(
        Centre::new(Policy::default()),
        files,
        journal::Options::default(),
        new,
    );
    let refused = again.expect_err("the directory is in use").to_string();
    assert!(refused.contains("in use"), "{refused}");
    stop(service).await;
}

async fn join_all<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut results = Vec::new();
    let mut pending: Vec<_> = futures.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        pending.retain_mut(|future| match future.as_mut().poll(context) {
            std::task::Poll::Ready(result) => {
                results.push(result);
                false
            }
            std::task::Poll::Pending => true,
        });
        if pending.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    results
}
