//! A back office that fails, an ack API that is down, messages that are wrong, and full disks.

use crate::support::{Answer, Site, envelope, eventually, id, status};
use countersign_role_agent::{FnSink, Liveness, Outcome, WorkResult};
use std::sync::Arc;

#[tokio::test]
async fn a_document_that_keeps_failing_is_dead_after_the_last_attempt_and_the_lane_goes_on() {
    let site = Site::new().await;
    site.office.answers(|call| match call.seq() {
        1 => Answer::Status(500, "out of order", &[]),
        _ => Answer::Status(200, "", &[]),
    });
    let agent = site.start().await;
    site.hub.ready(1).await;
    site.hub.push(&envelope(1, "default", 1));
    site.hub.push(&envelope(2, "default", 1));

    let dead = site.acks.of(&id(1), "dead").await;
    assert_eq!(
        (&dead["outcome"]["code"], &dead["attempt"]),
        (&"http-500".into(), &3.into())
    );
    assert_eq!(dead["outcome"]["detail"], "out of order");
    site.acks.of(&id(2), "acknowledged").await;
    let calls = site.office.calls();
    assert!(calls.iter().map(crate::support::Call::seq).eq([1, 1, 1, 2]));
    assert!(
        calls[..3]
            .iter()
            .map(|call| call.header("x-attempt"))
            .eq(["1", "2", "3"])
    );
    let key = calls[0].header("idempotency-key");
    assert!(
        calls[1..3]
            .iter()
            .all(|call| call.header("idempotency-key") == key)
    );
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn what_the_sender_said_about_attempts_counts_more_than_the_policy() {
    let site = Site::new().await;
    site.office.answers(|_| Answer::Status(500, "", &[]));
    let agent = site.start().await;
    site.hub.ready(1).await;
    let once = envelope(1, "default", 1).replace(r#","data""#, r#","max_attempts":1,"data""#);
    site.hub.push(&once);
    assert_eq!(site.acks.of(&id(1), "dead").await["attempt"], 1);
    assert_eq!(site.office.calls().len(), 1);
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn a_refused_document_is_rejected_at_once_with_the_words_of_the_back_office() {
    let site = Site::new().await;
    site.office.answers(|call| match call.seq() {
        1 => Answer::Status(422, "no such customer", &[]),
        2 => Answer::Status(
            409,
            r#"{"held_by":"x"}"#,
            &[("content-type", "application/json")],
        ),
        _ => Answer::Status(204, "", &[]),
    });
    let agent = site.start().await;
    site.hub.ready(1).await;
    for number in 1..=3 {
        site.hub.push(&envelope(number, "default", 1));
    }
    let rejected = site.acks.of(&id(1), "rejected").await;
    assert_eq!(rejected["outcome"]["code"], "http-422");
    assert_eq!(rejected["outcome"]["detail"], "no such customer");
    let rejected = site.acks.of(&id(2), "rejected").await;
    assert_eq!(rejected["outcome"]["data"]["held_by"], "x");
    let done = site.acks.of(&id(3), "acknowledged").await;
    assert_eq!(done["outcome"]["code"], "http-204");
    assert_eq!(site.office.calls().len(), 3);
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn a_back_office_that_asks_for_time_is_given_it() {
    let site = Site::new().await;
    site.office.answers(|call| match call.header("x-attempt") {
        "1" => Answer::Status(503, "closed for the night", &[("retry-after", "1")]),
        _ => Answer::Status(200, "", &[]),
    });
    let patient = |options: &mut countersign_role_agent::Options| {
        options.policy.retry.delay_max = std::time::Duration::from_secs(60);
    };
    let agent = site.start_with(patient).await;
    site.hub.ready(1).await;
    site.hub.push(&envelope(1, "default", 1));
    let first = site.office.called(1).await[0].at;
    site.acks.of(&id(1), "acknowledged").await;
    let second = site.office.calls()[1].at;
    assert!(second.duration_since(first) >= std::time::Duration::from_millis(990));
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn a_redirect_is_not_taken_for_a_success() {
    let site = Site::new().await;
    site.office
        .answers(|_| Answer::Status(303, "", &[("location", "/elsewhere")]));
    let agent = site.start().await;
    site.hub.ready(1).await;
    site.hub.push(&envelope(1, "default", 1));
    assert_eq!(
        site.acks.of(&id(1), "dead").await["outcome"]["code"],
        "http-303"
    );
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn while_the_ack_api_is_down_work_goes_on_and_everything_is_told_later_once() {
    let site = Site::new().await;
    site.acks.fails_with(Some(503));
    let agent = site.start().await;
    site.hub.ready(1).await;
    for number in 1..=20 {
        site.hub.push(&envelope(number, "default", 1));
    }
    site.office.called(20).await;
    let failing = status(&agent, "acks are failing", |status| {
        status.counters.owed == 40 && status.acks_failing.is_some()
    })
    .await;
    assert_eq!(failing.liveness, Liveness::ConnectedNotProcessing);

    site.acks.fails_with(None);
    status(&agent, "nothing is owed", |status| {
        status.counters.owed == 0
    })
    .await;
    let taken = site.acks.taken();
    assert_eq!(taken.len(), 40);
    for number in 1..=20 {
        assert_eq!(site.acks.stages(&id(number)), ["stored", "acknowledged"]);
    }
    assert_eq!(site.office.calls().len(), 20);
    assert_eq!(agent.status().await.liveness, Liveness::Processing);
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn a_proxys_page_with_status_200_takes_no_acknowledgement_off_the_list() {
    let site = Site::new().await;
    site.acks.hides_behind(Some("<html>Please log in</html>"));
    let agent = site.start().await;
    site.hub.ready(1).await;
    site.hub.push(&envelope(1, "default", 1));
    status(&agent, "acks are failing", |status| {
        status.counters.owed == 2 && status.acks_failing.is_some()
    })
    .await;

    site.acks.hides_behind(None);
    site.acks.of(&id(1), "acknowledged").await;
    assert_eq!(site.acks.stages(&id(1)), ["stored", "acknowledged"]);
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn an_acknowledgement_that_the_ack_api_cannot_read_holds_up_no_other() {
    let site = Site::new().await;
    site.acks.fails_with(Some(503));
    let agent = site.start().await;
    site.hub.ready(1).await;
    for number in 1..=9 {
        site.hub.push(&envelope(number, "default", 1));
    }
    site.office.called(9).await;
    site.acks.cannot_read(Some(&id(4)));
    site.acks.fails_with(None);
    status(&agent, "all others are told", |status| {
        status.counters.owed == 2
    })
    .await;
    assert_eq!(site.acks.taken().len(), 16);
    assert!(site.acks.stages(&id(4)).is_empty());

    // Later ones are not held up either.
    site.hub.push(&envelope(10, "default", 1));
    site.acks.of(&id(10), "acknowledged").await;
    agent.stop().await.unwrap();

    // Nothing is given up: the next start tries again.
    site.acks.cannot_read(None);
    let agent = site.start().await;
    site.acks.of(&id(4), "acknowledged").await;
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn an_envelope_that_breaks_the_rules_is_dead_at_once_and_the_next_one_is_worked_on() {
    let site = Site::new().await;
    let agent = site.start().await;
    site.hub.ready(1).await;
    site.hub
        .push(&format!(r#"{{"id":"{}","seq":"x","data":1}}"#, id(1)));
    site.hub.push(r#"{"hello":"world"}"#);
    site.hub.push(&envelope(2, "default", 1));
    let dead = site.acks.of(&id(1), "dead").await;
    assert_eq!(dead["outcome"]["code"], "envelope-malformed");
    assert_eq!(dead["attempt"], 1);
    site.acks.of(&id(2), "acknowledged").await;
    assert_eq!(site.office.calls().len(), 1);
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn a_panic_in_a_sink_is_a_failed_attempt() {
    let site = Site::new().await;
    let sink = FnSink::new(|delivery| async move {
        assert!(delivery.attempt > 1, "not at the first go");
        WorkResult::Done(Outcome {
            code: "kept".to_owned(),
            ..Outcome::default()
        })
    });
    let agent = site.start_sink(Arc::new(sink), |_| {}).await;
    site.hub.ready(1).await;
    site.hub.push(&envelope(1, "default", 1));
    let done = site.acks.of(&id(1), "acknowledged").await;
    assert_eq!(
        (&done["outcome"]["code"], &done["attempt"]),
        (&"kept".into(), &2.into())
    );
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn on_a_full_disk_nothing_is_said_to_be_stored_and_a_later_push_is_taken() {
    let site = Site::new().await;
    let agent = site
        .start_with(|options| options.store.reserve_bytes = u64::MAX)
        .await;
    site.hub.ready(1).await;
    site.hub.push(&envelope(1, "default", 1));
    let full = status(&agent, "the disk is full", |status| status.disk_full).await;
    assert_eq!(full.liveness, Liveness::ConnectedNotProcessing);
    assert_eq!(full.counters.arrived, 0);
    agent.stop().await.unwrap();
    assert!(site.acks.taken().is_empty());

    let agent = site.start().await;
    site.hub.ready(2).await;
    site.hub.push(&envelope(1, "default", 2));
    site.acks.of(&id(1), "acknowledged").await;
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn a_full_inbox_takes_nothing_more_until_the_back_office_has_caught_up() {
    let site = Site::new().await;
    site.office.answers(|_| Answer::Hang);
    let grow = |options: &mut countersign_role_agent::Options| options.inbox_max = 5;
    let agent = site.start_with(grow).await;
    site.hub.ready(1).await;
    let mut pushed = 0;
    eventually("the inbox is full", || {
        pushed += 1;
        site.hub.push(&envelope(pushed, "default", 1));
        (site.acks.taken().len() > 5).then_some(())
    })
    .await;
    let full = status(&agent, "reading is held", |status| status.inbox_full).await;
    site.hub.push(&envelope(pushed + 1, "default", 1));
    assert!(full.counters.arrived <= pushed);
    agent.stop().await.unwrap();

    site.office.answers(|_| Answer::Status(200, "", &[]));
    let agent = site.start_with(grow).await;
    site.hub.ready(2).await;
    for number in 1..=pushed + 1 {
        site.hub.push(&envelope(number, "default", 2));
    }
    for number in 1..=pushed + 1 {
        site.acks.of(&id(number), "acknowledged").await;
    }
    agent.stop().await.unwrap();
}
