//! Stateful reconnect as the server sees it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use signalr_client::{CallError, Closed, Connection, Incoming, Options};
use support::{Peer, Server, soon};

fn granted() -> String {
    json!({"useStatefulReconnect": true, "negotiateVersion": 1, "connectionId": "public",
        "connectionToken": "secret",
        "availableTransports": [{"transport": "WebSockets", "transferFormats": ["Text"]}]})
    .to_string()
}

async fn connected(
    server: &mut Server,
    change: impl FnOnce(&mut Options),
) -> (Connection, Incoming, Peer) {
    server.negotiation(200, &[], granted());
    let options = server
        .options()
        .with(|options| options.stateful_reconnect = true);
    let (connection, peer) = tokio::join!(Connection::connect(options.with(change)), async {
        let mut peer = server.raw_peer().await;
        let hello = peer.any_record().await.unwrap();
        assert_eq!(hello, json!({"protocol": "json", "version": 2}));
        peer.send_text("{}\u{1e}").await;
        peer
    });
    let (connection, incoming) = connection.unwrap();
    (connection, incoming, peer)
}

fn call(target: &str) -> Value {
    json!({"type": 1, "target": target, "arguments": []})
}

/// The next message that is neither a ping nor an acknowledgement.
async fn sequenced(peer: &mut Peer) -> Value {
    loop {
        let record = peer.record().await.unwrap();
        if record["type"] != 8 {
            return record;
        }
    }
}

#[tokio::test]
async fn what_was_not_acknowledged_is_sent_again_and_what_comes_again_is_dropped() {
    let mut server = Server::start().await;
    let (connection, mut incoming, mut peer) = connected(&mut server, |_| {}).await;
    for target in ["a", "b", "c"] {
        connection.send(target, ()).await.unwrap();
        assert_eq!(sequenced(&mut peer).await, call(target));
    }
    peer.send(json!({"type": 8, "sequenceId": 1})).await;
    peer.send(call("one")).await;
    assert_eq!(soon(incoming.next()).await.unwrap().target(), "one");
    // Half a message is on its way when the socket dies; it comes again as a whole.
    peer.send_text("{\"type\":1,\"target\":\"tw").await;
    drop(peer);

    let mut peer = server.raw_peer().await;
    assert_eq!(
        peer.any_record().await,
        Some(json!({"type": 9, "sequenceId": 2}))
    );
    assert_eq!(sequenced(&mut peer).await, call("b"));
    assert_eq!(sequenced(&mut peer).await, call("c"));
    peer.send(json!({"type": 9, "sequenceId": 1})).await;
    for target in ["one", "two"] {
        peer.send(call(target)).await;
    }
    assert_eq!(soon(incoming.next()).await.unwrap().target(), "two");
    assert_eq!(connection.resumptions(), Some(1));
    let acknowledged = soon(async {
        loop {
            let record = peer.record().await.unwrap();
            if record["type"] == 8 && record["sequenceId"] == 2 {
                return record;
            }
        }
    });
    acknowledged.await;
    assert_eq!(server.seen().last().unwrap().query, "id=secret");
    assert_eq!(
        server.seen()[0].query,
        "negotiateVersion=1&useStatefulReconnect=true"
    );
}

#[tokio::test]
async fn a_server_that_refuses_to_resume_ends_the_connection_and_waiting_calls_are_told() {
    let mut server = Server::start().await;
    let (connection, _incoming, mut peer) = connected(&mut server, |_| {}).await;
    server.upgrade(404, &[], "No Connection with that ID");
    let (got, ()) = tokio::join!(soon(connection.invoke::<()>("x", ())), async {
        sequenced(&mut peer).await;
        drop(peer);
    });
    assert!(
        matches!(got, Err(CallError::Closed(Closed::Lost { .. }))),
        "{got:?}"
    );
    assert_eq!(connection.resumptions(), Some(0));
}

#[tokio::test]
async fn a_goodbye_is_final() {
    let mut server = Server::start().await;
    let (connection, _incoming, mut peer) = connected(&mut server, |_| {}).await;
    peer.send(json!({"type": 7, "allowReconnect": true})).await;
    let why = soon(connection.ended()).await;
    assert!(
        matches!(
            why,
            Closed::ByServer {
                allow_reconnect: true,
                ..
            }
        ),
        "{why}"
    );
    assert_eq!(connection.resumptions(), Some(0));
}

#[tokio::test]
async fn a_number_beyond_what_was_received_breaks_the_protocol() {
    let mut server = Server::start().await;
    let (connection, _incoming, mut peer) = connected(&mut server, |_| {}).await;
    peer.send(json!({"type": 9, "sequenceId": 2})).await;
    let why = soon(connection.ended()).await;
    assert!(matches!(why, Closed::Protocol { .. }), "{why}");
}

#[tokio::test]
async fn a_full_replay_buffer_stops_the_sending_but_not_the_pings() {
    let mut server = Server::start().await;
    let (connection, _incoming, mut peer) = connected(&mut server, |options| {
        options.replay_bytes_max = 10;
        options.keep_alive_interval = Duration::from_millis(10);
    })
    .await;
    connection.send("first", ()).await.unwrap();
    assert_eq!(sequenced(&mut peer).await, call("first"));
    connection.send("second", ()).await.unwrap();
    for _ in 0..10 {
        assert_eq!(peer.any_record().await, Some(json!({"type": 6})));
    }
    peer.send(json!({"type": 8, "sequenceId": 1})).await;
    assert_eq!(sequenced(&mut peer).await, call("second"));
    // Closing does not wait for an acknowledgement that never comes.
    let closing = tokio::spawn(async move { connection.close().await });
    assert_eq!(sequenced(&mut peer).await, json!({"type": 7}));
    assert!(peer.record().await.is_none());
    assert_eq!(soon(closing).await.unwrap(), Closed::ByClient);
}
