//! One live connection: calls both ways, limits, timers, and every way to end.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use signalr_client::{CallError, Closed, Connection, Incoming, Options, Raw};
use support::{Peer, Server, soon};

async fn connected(server: &mut Server, options: Options) -> (Connection, Incoming, Peer) {
    let (connection, peer) = tokio::join!(Connection::connect(options), server.peer());
    let (connection, incoming) = connection.unwrap();
    (connection, incoming, peer)
}

async fn pair() -> (Connection, Incoming, Peer) {
    let mut server = Server::start().await;
    let options = server.options();
    connected(&mut server, options).await
}

async fn pair_with(change: impl FnOnce(&mut Options)) -> (Connection, Incoming, Peer) {
    let mut server = Server::start().await;
    let options = server.options().with(change);
    connected(&mut server, options).await
}

/// Answers the client's next call.
async fn answer(peer: &mut Peer, with: Value) -> Value {
    let call = peer.record().await.unwrap();
    let mut completion = json!({"type": 3, "invocationId": call["invocationId"]});
    completion
        .as_object_mut()
        .unwrap()
        .extend(with.as_object().unwrap().clone());
    peer.send(completion).await;
    call
}

#[tokio::test]
async fn a_call_is_written_as_official_servers_expect_it_and_gets_its_result() {
    let (connection, _incoming, mut peer) = pair().await;
    let (sum, call) = tokio::join!(
        connection.invoke::<i32>("add", (1, 2)),
        answer(&mut peer, json!({"result": 3}))
    );
    assert_eq!(sum, Ok(3));
    assert_eq!(
        call,
        json!({"type": 1, "target": "add", "arguments": [1, 2], "invocationId": "1"})
    );
}

#[tokio::test]
async fn each_kind_of_answer_is_told_apart() {
    let (connection, _incoming, mut peer) = pair().await;
    let error = "Failed to invoke 'x' due to an error on the server.";
    let (got, _) = tokio::join!(
        connection.invoke::<()>("x", ()),
        answer(&mut peer, json!({"error": error}))
    );
    assert_eq!(got, Err(CallError::Failed(error.into())));
    for void in [json!({}), json!({"result": null})] {
        let (got, _) = tokio::join!(connection.invoke::<()>("x", ()), answer(&mut peer, void));
        assert_eq!(got, Ok(()));
    }
    let (got, _) = tokio::join!(
        connection.invoke::<i32>("x", ()),
        answer(&mut peer, json!({"result": "text"}))
    );
    assert!(matches!(got, Err(CallError::Result(_))));
    let (got, _) = tokio::join!(
        connection.invoke_raw("x", Raw::json(&b"[1.50]"[..])),
        answer(&mut peer, json!({"result": [1]}))
    );
    assert_eq!(got.unwrap().as_bytes(), b"[1]");
}

#[tokio::test]
async fn answers_may_come_in_any_order() {
    let (connection, _incoming, mut peer) = pair().await;
    let (first, second, ()) = tokio::join!(
        connection.invoke::<i32>("a", ()),
        connection.invoke::<i32>("b", ()),
        async {
            let calls = [peer.record().await.unwrap(), peer.record().await.unwrap()];
            for call in calls.iter().rev() {
                let result = if call["target"] == "a" { 1 } else { 2 };
                let id = &call["invocationId"];
                peer.send(json!({"type": 3, "invocationId": id, "result": result}))
                    .await;
            }
        }
    );
    assert_eq!((first, second), (Ok(1), Ok(2)));
}

#[tokio::test]
async fn a_dropped_call_is_forgotten_and_its_late_answer_ignored() {
    let (connection, _incoming, mut peer) = pair().await;
    let call = {
        let invocation = connection.invoke::<i32>("slow", ());
        tokio::select! {
            _ = invocation => panic!("nobody answered"),
            call = peer.record() => call.unwrap(),
        }
    };
    peer.send(json!({"type": 3, "invocationId": call["invocationId"], "result": 1}))
        .await;
    let (got, _) = tokio::join!(
        connection.invoke::<i32>("next", ()),
        answer(&mut peer, json!({"result": 2}))
    );
    assert_eq!(got, Ok(2));
}

#[tokio::test]
async fn a_send_has_no_id_and_wants_no_answer() {
    let (connection, _incoming, mut peer) = pair().await;
    connection.send("log", ("a\u{1e}b",)).await.unwrap();
    let expected = json!({"type": 1, "target": "log", "arguments": ["a\u{1e}b"]});
    assert_eq!(peer.record().await, Some(expected));
}

#[tokio::test]
async fn a_message_over_the_limit_is_not_sent() {
    let (connection, _incoming, mut peer) =
        pair_with(|options| options.send_bytes_max = Some(100)).await;
    let error = connection
        .send("log", ("x".repeat(100),))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            CallError::TooLarge {
                bytes: 101..,
                bytes_max: 100
            }
        ),
        "{error}"
    );
    connection.send("log", ("small",)).await.unwrap();
    assert_eq!(peer.record().await.unwrap()["arguments"], json!(["small"]));
}

#[tokio::test]
async fn invocations_arrive_raw_and_in_order_however_they_are_framed() {
    let (_connection, mut incoming, mut peer) = pair().await;
    let call = |n| format!("{{\"arguments\":[ {n}.50 ],\"target\":\"t{n}\",\"type\":1}}\u{1e}");
    peer.send_text(&(call(0) + &call(1))).await;
    peer.send_text(&call(2)[..20]).await;
    peer.send_text("").await;
    peer.send_text(&(call(2)[20..].to_owned() + &call(3))).await;
    peer.send_binary(call(4).as_bytes()).await;
    for n in 0..5 {
        let invocation = soon(incoming.next()).await.unwrap();
        assert_eq!(invocation.target(), format!("t{n}"));
        assert_eq!(
            invocation.arguments().as_bytes(),
            format!("[ {n}.50 ]").as_bytes()
        );
        assert!(!invocation.wants_answer());
        assert_eq!(invocation.bind::<f64>().unwrap(), f64::from(n) + 0.5);
    }
}

#[tokio::test]
async fn what_a_client_has_no_use_for_is_skipped() {
    let (_connection, mut incoming, mut peer) = pair().await;
    for message in [
        json!({"type": 6}),
        json!({"type": 99, "anything": 1}),
        json!({"type": 2, "invocationId": "7", "item": 1}),
        json!({"type": 3, "invocationId": "7", "result": 1}),
        json!({"type": 8, "sequenceId": 1}),
    ] {
        peer.send(message).await;
    }
    peer.call("here", json!([])).await;
    assert_eq!(soon(incoming.next()).await.unwrap().target(), "here");
}

#[tokio::test]
async fn a_server_that_waits_for_an_answer_gets_exactly_one() {
    let (_connection, mut incoming, mut peer) = pair().await;
    let no_result = "Client didn't provide a result.";
    let expected = [
        json!({"result": {"a": 1}}),
        json!({"result": null}),
        json!({"error": "no paper"}),
        json!({"error": no_result}),
        json!({"error": no_result}),
    ];
    for (n, expected) in expected.iter().enumerate() {
        let id = format!("s{n}");
        peer.send(json!({"type": 1, "target": "ask", "arguments": [], "invocationId": id}))
            .await;
        let invocation = soon(incoming.next()).await.unwrap();
        assert!(invocation.wants_answer());
        match n {
            0 => invocation.answer(&json!({"a": 1})).await.unwrap(),
            1 => invocation.answer(&()).await.unwrap(),
            2 => invocation.fail("no paper").await.unwrap(),
            3 => drop(invocation),
            _ => {
                // A map with such keys is no JSON.
                let value = std::collections::HashMap::from([((1, 2), 3)]);
                let error = invocation.answer(&value).await.unwrap_err();
                assert!(matches!(error, CallError::Unwritable { .. }));
            }
        }
        let mut completion = json!({"type": 3, "invocationId": id});
        completion
            .as_object_mut()
            .unwrap()
            .extend(expected.as_object().unwrap().clone());
        assert_eq!(peer.record().await, Some(completion));
    }
    // One more than expected would come before this.
    peer.send(json!({"type": 1, "target": "ask", "arguments": [], "invocationId": "last"}))
        .await;
    drop(soon(incoming.next()).await);
    assert_eq!(peer.record().await.unwrap()["invocationId"], "last");
}

#[tokio::test]
async fn without_a_consumer_calls_are_answered_and_the_connection_goes_on() {
    let (connection, incoming, mut peer) = pair().await;
    drop(incoming);
    peer.call("ignored", json!([])).await;
    peer.send(json!({"type": 1, "target": "ask", "arguments": [], "invocationId": "s1"}))
        .await;
    assert_eq!(
        peer.record().await.unwrap()["error"],
        "Client didn't provide a result."
    );
    let (got, _) = tokio::join!(
        connection.invoke::<()>("x", ()),
        answer(&mut peer, json!({"result": null}))
    );
    assert_eq!(got, Ok(()));
}

#[tokio::test]
async fn a_slow_consumer_stops_the_reading_but_not_the_pings() {
    let (connection, mut incoming, mut peer) = pair_with(|options| {
        options.incoming_max = 2;
        options.keep_alive_interval = Duration::from_millis(20);
        // Silence that is our own doing does not count, however long it lasts.
        options.server_timeout = Duration::from_millis(200);
    })
    .await;
    // Far more than the network between them holds, so the server is held up.
    let (count, filling) = (64, "x".repeat(1024 * 1024));
    let mut sent = 0;
    while sent < count {
        let sending = peer.call("n", json!([sent, filling]));
        match tokio::time::timeout(Duration::from_millis(500), sending).await {
            Ok(()) => sent += 1,
            Err(_) => break,
        }
    }
    assert!(
        sent < count,
        "everything was taken though nobody consumed it"
    );
    for _ in 0..20 {
        assert_eq!(peer.any_record().await, Some(json!({"type": 6})));
    }
    assert_eq!(connection.why_ended(), None);
    for n in 0..sent {
        let (number, _) = soon(incoming.next())
            .await
            .unwrap()
            .bind::<(u32, String)>()
            .unwrap();
        assert_eq!(number, n);
    }
}

#[tokio::test]
async fn silence_counts_only_while_somebody_listens() {
    let timeout = Duration::from_secs(2);
    let (connection, mut incoming, mut peer) = pair_with(|options| {
        options.incoming_max = 1;
        options.server_timeout = timeout;
    })
    .await;
    for n in 0..10 {
        peer.call("n", json!([n])).await;
    }
    tokio::time::sleep(timeout.mul_f32(1.25)).await;
    for n in 0..10 {
        assert_eq!(soon(incoming.next()).await.unwrap().bind::<i32>(), Ok(n));
    }
    peer.call("still", json!([])).await;
    assert_eq!(soon(incoming.next()).await.unwrap().target(), "still");
    assert_eq!(connection.why_ended(), None);
}

#[tokio::test]
async fn a_consumer_that_waits_for_an_answer_gets_it_though_its_queue_is_full() {
    let (connection, mut incoming, mut peer) = pair_with(|options| options.incoming_max = 1).await;
    for n in 0..50 {
        peer.call("n", json!([n])).await;
    }
    let (got, _) = tokio::join!(
        connection.invoke::<i32>("x", ()),
        answer(&mut peer, json!({"result": 1}))
    );
    assert_eq!(got, Ok(1));
    for n in 0..50 {
        assert_eq!(soon(incoming.next()).await.unwrap().bind::<i32>(), Ok(n));
    }
}

#[tokio::test]
async fn what_came_before_the_end_is_handed_over_after_it() {
    let (connection, mut incoming, mut peer) = pair_with(|options| options.incoming_max = 1).await;
    let call = |n| {
        format!(
            "{}\u{1e}",
            json!({"type": 1, "target": "n", "arguments": [n]})
        )
    };
    let calls: String = (0..50).map(call).collect();
    peer.send_text(&(calls + "{\"type\":7}\u{1e}")).await;
    soon(connection.ended()).await;
    for n in 0..50 {
        assert_eq!(soon(incoming.next()).await.unwrap().bind::<i32>(), Ok(n));
    }
    assert!(soon(incoming.next()).await.is_none());
}

#[tokio::test]
async fn a_sender_waits_while_the_server_takes_nothing_and_then_the_connection_ends() {
    let (connection, _incoming, _peer) = pair_with(|options| {
        options.outbox_bytes_max = 1024;
        options.send_timeout = Duration::from_millis(300);
    })
    .await;
    let filling = "x".repeat(1024 * 1024);
    let error = soon(async {
        loop {
            if let Err(error) = connection.send("log", (&filling,)).await {
                return error;
            }
        }
    })
    .await;
    let after = Duration::from_millis(300);
    assert_eq!(error, CallError::Closed(Closed::SendTimeout { after }));
}

#[tokio::test]
async fn a_silent_server_is_given_up_and_waiting_calls_are_told() {
    let after = Duration::from_millis(100);
    let (connection, mut incoming, _peer) =
        pair_with(|options| options.server_timeout = after).await;
    let why = Closed::ServerTimeout { after };
    let error = soon(connection.invoke::<()>("x", ())).await.unwrap_err();
    assert_eq!(error, CallError::Closed(why.clone()));
    assert_eq!(soon(connection.ended()).await, why);
    assert!(soon(incoming.next()).await.is_none());
    assert!(why.may_return());
}

#[tokio::test]
async fn pings_of_the_server_keep_the_connection() {
    let (connection, mut incoming, mut peer) =
        pair_with(|options| options.server_timeout = Duration::from_millis(400)).await;
    for _ in 0..12 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        peer.send(json!({"type": 6})).await;
    }
    peer.call("still", json!([])).await;
    assert_eq!(soon(incoming.next()).await.unwrap().target(), "still");
    assert_eq!(connection.why_ended(), None);
}

#[tokio::test]
async fn a_goodbye_of_the_server_says_whether_to_return() {
    for (message, error, allow_reconnect) in [
        (json!({"type": 7}), None, false),
        (json!({"type": 7, "allowReconnect": true}), None, true),
        (json!({"type": 7, "error": "bad"}), Some("bad"), false),
    ] {
        let (connection, mut incoming, mut peer) = pair().await;
        peer.call("before", json!([])).await;
        peer.send(message).await;
        let why = soon(connection.ended()).await;
        let error = error.map(str::to_owned);
        assert_eq!(
            why,
            Closed::ByServer {
                error,
                allow_reconnect
            }
        );
        assert_eq!(why.may_return(), allow_reconnect);
        // What came before the goodbye is still handed over.
        assert_eq!(soon(incoming.next()).await.unwrap().target(), "before");
        assert!(soon(incoming.next()).await.is_none());
        assert!(peer.record().await.is_none());
        assert_eq!(peer.end, Some(Some(1000)));
    }
}

#[tokio::test]
async fn an_end_without_a_goodbye_is_a_loss() {
    let (connection, _incoming, peer) = pair().await;
    peer.close_frame().await;
    let why = soon(connection.ended()).await;
    assert!(
        matches!(why, Closed::Lost { .. }) && why.may_return(),
        "{why}"
    );
    let (connection, _incoming, peer) = pair().await;
    drop(peer);
    let why = soon(connection.ended()).await;
    assert!(
        matches!(why, Closed::Lost { .. }) && why.may_return(),
        "{why}"
    );
}

#[tokio::test]
async fn what_cannot_be_read_ends_the_connection() {
    let too_long = format!("{{\"type\":6,\"x\":\"{}\"}}\u{1e}", "y".repeat(1000));
    for text in [
        "nonsense\u{1e}",
        "{\"type\":1}\u{1e}",
        "[]\u{1e}",
        &too_long,
        &too_long[..900],
    ] {
        let (connection, _incoming, mut peer) =
            pair_with(|options| options.receive_bytes_max = 800).await;
        peer.send_text(text).await;
        let why = soon(connection.ended()).await;
        assert!(matches!(why, Closed::Protocol { .. }), "{text}: {why}");
    }
    let (connection, _incoming, mut peer) =
        pair_with(|options| options.receive_frame_bytes_max = 800).await;
    peer.send_text(&too_long).await;
    let why = soon(connection.ended()).await;
    assert!(matches!(why, Closed::Protocol { .. }), "{why}");
}

#[tokio::test]
async fn closing_sends_what_is_in_line_says_goodbye_and_fails_what_waits() {
    let (connection, mut incoming, mut peer) = pair().await;
    let waiting = connection.clone();
    let waiting = tokio::spawn(async move { waiting.invoke::<()>("never", ()).await });
    assert_eq!(peer.record().await.unwrap()["target"], "never");
    connection.send("last", ()).await.unwrap();
    let (why, ()) = tokio::join!(soon(connection.close()), async {
        assert_eq!(peer.record().await.unwrap()["target"], "last");
        assert_eq!(peer.record().await, Some(json!({"type": 7})));
        assert_eq!(peer.record().await, None);
        assert_eq!(peer.end, Some(Some(1000)));
    });
    assert_eq!(why, Closed::ByClient);
    assert_eq!(
        waiting.await.unwrap(),
        Err(CallError::Closed(Closed::ByClient))
    );
    assert_eq!(
        connection.send("x", ()).await,
        Err(CallError::Closed(Closed::ByClient))
    );
    assert!(soon(incoming.next()).await.is_none());
    assert_eq!(soon(connection.close()).await, Closed::ByClient);
}

#[tokio::test]
async fn closing_ends_though_the_server_never_says_goodbye() {
    let (connection, _incoming, _peer) =
        pair_with(|options| options.close_timeout = Duration::from_millis(50)).await;
    assert_eq!(soon(connection.close()).await, Closed::ByClient);
}

#[tokio::test]
async fn a_connection_nobody_holds_closes_itself_but_one_with_a_consumer_lives() {
    let (connection, mut incoming, mut peer) = pair().await;
    drop(connection);
    peer.call("alive", json!([])).await;
    assert_eq!(soon(incoming.next()).await.unwrap().target(), "alive");
    drop(incoming);
    assert_eq!(peer.record().await, Some(json!({"type": 7})));
}
