//! What is on disk when the agent goes down is gone on with when it comes up.

use crate::support::{Answer, Site, envelope, id, status};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[tokio::test]
async fn work_cut_short_is_taken_up_again_with_the_attempt_counted_and_the_repeat_declared() {
    let site = Site::new().await;
    site.office.answers(|_| Answer::Hang);
    let agent = site.start().await;
    site.hub.ready(1).await;
    site.hub.push(&envelope(1, "default", 1));
    site.office.called(1).await;
    site.acks.of(&id(1), "stored").await;
    agent.stop().await.unwrap();

    site.office.answers(|_| Answer::Status(200, "", &[]));
    let agent = site.start().await;
    let done = site.acks.of(&id(1), "acknowledged").await;
    assert_eq!(done["attempt"], 2);
    let calls = site.office.calls();
    assert_eq!(calls.len(), 2);
    assert_eq!(
        (
            calls[1].header("x-attempt"),
            calls[1].header("x-possibly-repeated")
        ),
        ("2", "true")
    );
    assert_eq!(
        calls[0].header("idempotency-key"),
        calls[1].header("idempotency-key")
    );
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn a_lane_keeps_its_order_over_a_restart() {
    let site = Site::new().await;
    site.office.answers(|call| match call.seq() {
        1 => Answer::Status(200, "", &[]),
        _ => Answer::Hang,
    });
    let agent = site.start().await;
    site.hub.ready(1).await;
    for number in 1..=5 {
        site.hub.push(&envelope(number, "default", 1));
    }
    site.office.called(2).await;
    site.acks.of(&id(5), "stored").await;
    agent.stop().await.unwrap();

    site.office.answers(|_| Answer::Status(200, "", &[]));
    let agent = site.start().await;
    site.acks.of(&id(5), "acknowledged").await;
    let calls = site.office.calls();
    assert!(
        calls
            .iter()
            .map(crate::support::Call::seq)
            .eq([1, 2, 2, 3, 4, 5])
    );
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_owed_survives_a_restart_and_is_told_without_a_hub() {
    let site = Site::new().await;
    site.acks.fails_with(Some(500));
    let agent = site.start().await;
    site.hub.ready(1).await;
    site.hub.push(&envelope(1, "default", 1));
    status(&agent, "both are owed", |status| status.counters.owed == 2).await;
    agent.stop().await.unwrap();

    site.acks.fails_with(None);
    let nowhere = |options: &mut countersign_role_agent::Options| {
        options.hub_url = "http://127.0.0.1:9/hub".to_owned();
    };
    let agent = site.start_with(nowhere).await;
    let done = site.acks.of(&id(1), "acknowledged").await;
    assert_eq!(done["outcome"]["code"], "http-201");
    assert_eq!(site.acks.stages(&id(1)), ["stored", "acknowledged"]);
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn a_message_that_was_done_is_not_done_again_when_it_is_pushed_after_a_restart() {
    let site = Site::new().await;
    let agent = site.start().await;
    site.hub.ready(1).await;
    site.hub.push(&envelope(1, "default", 1));
    site.acks.of(&id(1), "acknowledged").await;
    status(&agent, "nothing is owed", |status| {
        status.counters.owed == 0
    })
    .await;
    agent.stop().await.unwrap();

    let agent = site.start().await;
    site.hub.ready(2).await;
    site.hub.push(&envelope(1, "default", 2));
    status(&agent, "it was told again", |status| {
        status.counters.repeated == 1 && status.counters.owed == 0
    })
    .await;
    assert_eq!(site.office.calls().len(), 1);
    assert_eq!(
        site.acks.stages(&id(1)),
        ["stored", "acknowledged", "acknowledged"]
    );
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn stops_at_any_point_lose_nothing_and_insert_nothing_under_a_second_key() {
    let site = Site::new().await;
    let slow = Arc::new(AtomicU64::new(0));
    let every_third_hangs = Arc::clone(&slow);
    site.office.answers(
        move |_| match every_third_hangs.fetch_add(1, Ordering::Relaxed) % 7 {
            6 => Answer::Hang,
            _ => Answer::Status(200, "", &[]),
        },
    );
    let count = 60;
    for round in 1..=6u32 {
        // Attempts cut short count, and this test cuts many.
        let agent = site
            .start_with(|options| options.policy.retry.attempts_max = 100)
            .await;
        site.hub.ready(round as usize).await;
        for number in 1..=count {
            site.hub
                .push(&envelope(number, &format!("lane-{}", number % 4), round));
        }
        site.office.called(round as usize * 5).await;
        agent.stop().await.unwrap();
    }
    site.office.answers(|_| Answer::Status(200, "", &[]));
    let agent = site
        .start_with(|options| options.policy.retry.attempts_max = 100)
        .await;
    site.hub.ready(7).await;
    for number in 1..=count {
        site.hub
            .push(&envelope(number, &format!("lane-{}", number % 4), 7));
    }
    for number in 1..=count {
        site.acks.of(&id(number), "acknowledged").await;
    }
    let mut keys: Vec<String> = site
        .office
        .calls()
        .iter()
        .map(|call| call.header("idempotency-key").to_owned())
        .collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len() as u64, count);
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn an_orderly_stop_costs_no_message_an_attempt() {
    let site = Site::new().await;
    let (release, released) = tokio::sync::watch::channel(false);
    site.office.answers(move |_| Answer::Once(released.clone()));
    let one_worker = |options: &mut countersign_role_agent::Options| {
        options.policy.workers = 1;
        options.stop_grace = std::time::Duration::from_secs(60);
    };
    let agent = site.start_with(one_worker).await;
    site.hub.ready(1).await;
    for number in 1..=3 {
        site.hub
            .push(&envelope(number, &format!("lane-{number}"), 1));
    }
    site.acks.of(&id(3), "stored").await;
    site.office.called(1).await;
    // The first attempt ends while the agent stops: its result must start no other.
    let stopping = tokio::spawn(agent.stop());
    site.hub.left().await;
    release.send(true).unwrap();
    stopping.await.unwrap().unwrap();
    assert_eq!(site.office.calls().len(), 1);

    let agent = site.start().await;
    site.acks.of(&id(3), "acknowledged").await;
    let calls = site.office.calls();
    let seen: Vec<_> = calls
        .iter()
        .map(|call| (call.seq(), call.header("x-attempt")))
        .collect();
    assert_eq!(seen.len(), 3, "{seen:?}");
    for call in &calls[1..] {
        assert_eq!(call.header("x-attempt"), "1");
        assert!(!call.has("x-possibly-repeated"));
    }
    agent.stop().await.unwrap();
}
