//! The loop over real files: durable before answered, and everything back after a restart.

#![allow(
    clippy::unwrap_used,
    reason = "the helpers of a test fail like the test itself"
)]

use bytes::Bytes;
use countersign_driver::journal::{self, NewStore, RealFiles};
use countersign_driver::{AskError, Bodies, Handle, Options, Outlet, Service, StopReason, open};
use countersign_rules::ack::{Ack, AckItem, Outcome, Stage};
use countersign_rules::delivery::{
    Centre, Effect, Input, Place, Policy, Push, Receipt, Reply, Submission, decode_accepted,
};
use countersign_rules::{
    AgentName, LaneName, MessageId, Position, TenantName, Timestamp, TypeName,
};
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
    let journal = journal::Options {
        segment_bytes,
        reserve_bytes: 0,
        ..Default::default()
    };
    start_with(directory, Policy::default(), journal, options)
}

fn start_with(
    directory: &Path,
    policy: Policy,
    journal: journal::Options,
    options: Options,
) -> (Service<Centre>, Pushed) {
    let files = RealFiles::new(directory).unwrap();
    let new = NewStore {
        store_id: [1; 16],
        epoch: 1,
    };
    let opened = open(Centre::new(policy), files, journal, new).unwrap();
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
        rule: countersign_rules::LaneRule::Block,
        id: MessageId(id),
        tenant,
        to,
        kind: TypeName::parse("document.insert").unwrap(),
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
        parked: Vec::new(),
        connection,
        agent_epoch: 0,
        floor: 0,
        cursor: 0,
        highest: None,
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
async fn a_store_that_writes_little_in_each_life_gets_a_snapshot_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options {
        snapshot_every_bytes: 20_000,
        ..Options::default()
    };
    let mut lives = 0;
    while !has_snapshot(directory.path()) {
        lives += 1;
        assert!(lives < 20, "no snapshot after {lives} lives of 3,000 bytes");
        let (service, _) = start(directory.path(), 1 << 20, options.clone());
        let handle = service.handle();
        register(&handle).await;
        submit(&handle, lives, 3_000).await;
        // One more batch, behind which the snapshot is written.
        submit(&handle, 100 + lives, 10).await;
        stop(service).await;
    }
    assert!(lives > 1, "it takes several");
}

#[tokio::test]
async fn a_snapshot_that_fails_is_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options {
        snapshot_every_bytes: 20_000,
        ..Options::default()
    };
    let (service, _) = start(directory.path(), 1 << 20, options);
    let handle = service.handle();
    register(&handle).await;
    let in_the_way = directory.path().join("snapshot.new");
    std::fs::create_dir(&in_the_way).unwrap();
    for number in 1..=10 {
        submit(&handle, number, 3_000).await;
    }
    assert!(!has_snapshot(directory.path()));
    std::fs::remove_dir(&in_the_way).unwrap();
    // Far less than leads to a snapshot by itself.
    submit(&handle, 11, 3_000).await;
    submit(&handle, 12, 10).await;
    let mut looks = 0;
    while !has_snapshot(directory.path()) {
        looks += 1;
        assert!(looks < 500, "it is not tried again");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    stop(service).await;
}

fn has_snapshot(directory: &Path) -> bool {
    !snapshot_positions(directory).is_empty()
}

/// Messages `numbers` have been processed by `lyon`.
async fn processed(handle: &Handle<Centre>, numbers: std::ops::RangeInclusive<u64>) {
    let (tenant, agent) = agent();
    let through = *numbers.end();
    let acks = numbers.map(|number| {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        Ack {
            at: Timestamp(0),
            tenant: tenant.clone(),
            agent: agent.clone(),
            item: AckItem {
                next_at: None,
                message: MessageId(id),
                stage: Stage::Acknowledged,
                attempt: 1,
                generation: 1,
                occurred_at: Timestamp(0),
                outcome: Outcome::default(),
                duration_ms: 0,
                traceparent: String::new(),
            },
        }
    });
    let acks = acks.collect();
    let input = Input::Acks {
        source: 9,
        through,
        acks,
        damaged: vec![],
    };
    handle.ask(input).await.unwrap();
}

/// A disk that is always fuller than its reserve allows.
fn full_disk() -> journal::Options {
    journal::Options {
        segment_bytes: 16 << 10,
        reserve_bytes: u64::MAX,
        ..Default::default()
    }
}

fn without_retention() -> Policy {
    Policy {
        retention: std::time::Duration::ZERO,
        ..Policy::default()
    }
}

async fn few_segments(handle: &Handle<Centre>) {
    while handle.reader().segments().len() > 2 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// A life of a store, on a disk with room, in which forty messages were accepted and the first
/// `ended` of them processed. Tells the last durable position.
async fn life_with_forty(directory: &Path, ended: u64) -> Position {
    let journal = journal::Options {
        reserve_bytes: 0,
        ..full_disk()
    };
    let options = Options::default();
    let (service, _) = start_with(directory, without_retention(), journal, options);
    let handle = service.handle();
    register(&handle).await;
    for number in 1..=40 {
        submit(&handle, number, 2_000).await;
    }
    if ended > 0 {
        processed(&handle, 1..=ended).await;
        // Until they are forgotten they hold the journal.
        while aged_out(&handle).await < ended {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
    let durable = handle.reader().durable_position();
    stop(service).await;
    durable
}

async fn aged_out(handle: &Handle<Centre>) -> u64 {
    match handle.ask(Input::Count).await.unwrap() {
        Reply::Counted(counters) => counters.aged_out,
        other => panic!("{other:?}"),
    }
}

fn start_on_full_disk(directory: &Path) -> Service<Centre> {
    let options = Options::default();
    start_with(directory, without_retention(), full_disk(), options).0
}

#[tokio::test]
async fn a_full_disk_is_freed_of_what_has_ended_while_the_store_runs() {
    let directory = tempfile::tempdir().unwrap();
    life_with_forty(directory.path(), 0).await;
    let service = start_on_full_disk(directory.path());
    let handle = service.handle();
    processed(&handle, 1..=20).await;
    let refused = handle.ask(message(99, 10)).await;
    assert!(matches!(refused, Err(AskError::NoSpace)), "{refused:?}");
    assert!(handle.reader().segments().len() > 4);
    processed(&handle, 21..=40).await;
    few_segments(&handle).await;
    stop(service).await;
}

#[tokio::test]
async fn a_full_disk_is_freed_of_what_has_ended_before_the_store_starts() {
    let directory = tempfile::tempdir().unwrap();
    life_with_forty(directory.path(), 40).await;
    let service = start_on_full_disk(directory.path());
    few_segments(&service.handle()).await;
    stop(service).await;
}

#[tokio::test]
async fn no_image_is_taken_of_a_damaged_state_before_the_damage_is_on_record() {
    let directory = tempfile::tempdir().unwrap();
    let durable = life_with_forty(directory.path(), 40).await;
    flip_a_bit(directory.path());
    let service = start_on_full_disk(directory.path());
    few_segments(&service.handle()).await;
    stop(service).await;
    let positions = snapshot_positions(directory.path());
    assert_eq!(positions.len(), 2);
    assert!(
        positions.iter().all(|position| *position > durable),
        "{positions:?} and {durable}"
    );
}

/// In the middle of a body in the second segment.
fn flip_a_bit(directory: &Path) {
    let files = std::fs::read_dir(directory).unwrap();
    let mut segments: Vec<_> = files
        .map(|file| file.unwrap().path())
        .filter(|path| path.metadata().unwrap().len() > 8_000)
        .collect();
    segments.sort();
    let mut bytes = std::fs::read(&segments[1]).unwrap();
    let body = bytes.windows(64).position(|window| window == [b'0'; 64]);
    bytes[body.unwrap() + 32] ^= 1;
    std::fs::write(&segments[1], bytes).unwrap();
}

fn snapshot_positions(directory: &Path) -> Vec<Position> {
    let names = std::fs::read_dir(directory).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter_map(|name| name.strip_prefix("snapshot-")?.parse().ok())
        .collect()
}

#[tokio::test]
async fn what_was_brought_before_the_stop_is_stepped_and_answered() {
    let directory = tempfile::tempdir().unwrap();
    let (service, _) = start(directory.path(), 1 << 20, Options::default());
    let handle = service.handle();
    register(&handle).await;
    // On the one thread of this test the loop runs only while it waits, so all of these are in the
    // queue when the stop comes.
    let mut answers = Vec::new();
    for number in 1..=100 {
        answers.push(handle.bring(message(number, 10)).await.unwrap());
    }
    service.stop();
    for answer in answers {
        assert!(matches!(answer.await, Ok(Reply::Submitted(Ok(_)))));
    }
    let late = handle.ask(message(101, 10)).await;
    assert!(matches!(late, Err(AskError::Stopped)), "{late:?}");
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
