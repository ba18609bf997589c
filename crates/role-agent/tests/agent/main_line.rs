//! From a push to the back office and back to the ack API, when nothing goes wrong.

use crate::support::{Site, envelope, eventually, id};

#[tokio::test]
async fn a_document_reaches_the_back_office_byte_for_byte_and_its_end_reaches_the_ack_api() {
    let site = Site::new().await;
    let agent = site.start().await;
    site.hub.ready(1).await;
    site.hub.push(&envelope(1, "default", 1));

    let call = site.office.called(1).await.remove(0);
    assert_eq!(call.body, "{ \"n\" : 1.0 }".as_bytes());
    assert_eq!(call.header("idempotency-key"), format!("{}:1", id(1)));
    assert_eq!(call.header("x-message-id"), id(1));
    assert_eq!(call.header("x-message-type"), "document.insert");
    assert_eq!(
        (call.header("x-lane"), call.header("x-attempt")),
        ("default", "1")
    );
    assert_eq!(
        (call.seq(), call.header("content-type")),
        (1, "application/json")
    );
    assert!(
        call.header("traceparent")
            .starts_with("00-0af7651916cd43dd8448eb211c80319c")
    );

    let stored = site.acks.of(&id(1), "stored").await;
    assert_eq!(
        (&stored["attempt"], &stored["generation"]),
        (&1.into(), &1.into())
    );
    let ended = site.acks.of(&id(1), "acknowledged").await;
    assert_eq!(ended["outcome"]["code"], "http-201");
    assert_eq!(ended["outcome"]["data"]["row"], 1);
    assert!(ended["occurred_at"].as_str().unwrap().ends_with('Z'));
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn a_thousand_messages_of_one_lane_arrive_once_each_and_in_order() {
    let site = Site::new().await;
    let agent = site.start().await;
    site.hub.ready(1).await;
    for number in 1..=1000 {
        site.hub.push(&envelope(number, "default", 1));
    }
    let calls = site.office.called(1000).await;
    assert!(calls.iter().map(crate::support::Call::seq).eq(1..=1000));
    eventually("every end is posted", || {
        let taken = site.acks.taken();
        let ended = taken
            .iter()
            .filter(|ack| ack["stage"] == "acknowledged")
            .count();
        let stored = taken.iter().filter(|ack| ack["stage"] == "stored").count();
        (ended == 1000 && stored == 1000).then_some(())
    })
    .await;
    assert!(
        site.acks.requests() < 1500,
        "acknowledgements travel together"
    );
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn a_message_that_is_stuck_holds_up_its_own_lane_only() {
    let site = Site::new().await;
    site.office.answers(|call| match call.header("x-lane") {
        "stuck" => crate::support::Answer::Hang,
        _ => crate::support::Answer::Status(200, "", &[]),
    });
    let agent = site.start().await;
    site.hub.ready(1).await;
    site.hub.push(&envelope(1, "stuck", 1));
    site.hub.push(&envelope(2, "stuck", 1));
    site.hub.push(&envelope(3, "free", 1));
    site.acks.of(&id(3), "acknowledged").await;
    site.acks.of(&id(2), "stored").await;
    assert!(site.office.calls().iter().all(|call| call.seq() != 2));
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn a_message_pushed_again_is_worked_on_once_and_told_again() {
    let site = Site::new().await;
    let agent = site.start().await;
    site.hub.ready(1).await;
    site.hub.push(&envelope(1, "default", 1));
    site.acks.of(&id(1), "acknowledged").await;
    crate::support::status(&agent, "nothing is owed", |status| {
        status.counters.owed == 0
    })
    .await;

    site.hub.push(&envelope(1, "default", 2));
    eventually("it is told again", || {
        let stages = site.acks.stages(&id(1));
        (stages == ["stored", "acknowledged", "acknowledged"]).then_some(())
    })
    .await;
    assert_eq!(site.office.calls().len(), 1);
    assert_eq!(agent.status().await.counters.repeated, 1);
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn without_a_configured_address_acknowledgements_go_where_the_envelope_says() {
    let site = Site::new().await;
    let agent = site.start_with(|options| options.ack_url = None).await;
    site.hub.ready(1).await;
    let address = format!(r#","ack_url":"{}","data""#, site.acks.url());
    site.hub
        .push(&envelope(1, "default", 1).replace(r#","data""#, &address));
    site.acks.of(&id(1), "acknowledged").await;
    agent.stop().await.unwrap();

    // The address is known at the next start, before any message names it.
    site.acks.fails_with(Some(503));
    let agent = site.start_with(|options| options.ack_url = None).await;
    site.hub.ready(2).await;
    site.hub.push(&envelope(2, "default", 1));
    site.office.called(2).await;
    agent.stop().await.unwrap();
    site.acks.fails_with(None);
    let agent = site.start_with(|options| options.ack_url = None).await;
    site.acks.of(&id(2), "acknowledged").await;
    agent.stop().await.unwrap();
}
