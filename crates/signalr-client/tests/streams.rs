//! Streams both ways as they stand on the wire.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use futures_util::stream;
use serde_json::{Value, json};
use signalr_client::{CallError, Closed, Connection, Incoming};
use support::{Peer, Server, soon};

async fn pair() -> (Connection, Incoming, Peer) {
    let mut server = Server::start().await;
    let options = server
        .options()
        .with(|options| options.stream_bytes_max = 1000);
    let (connection, peer) = tokio::join!(Connection::connect(options), server.peer());
    let (connection, incoming) = connection.unwrap();
    (connection, incoming, peer)
}

fn item(id: &str, item: Value) -> Value {
    json!({"type": 2, "invocationId": id, "item": item})
}

#[tokio::test]
async fn a_stream_is_called_read_and_ended_as_official_servers_expect_it() {
    let (connection, _incoming, mut peer) = pair().await;
    let mut stream = connection.stream::<i32>("count", (2,)).await.unwrap();
    let call = json!({"type": 4, "invocationId": "1", "target": "count", "arguments": [2]});
    assert_eq!(peer.record().await, Some(call));
    for n in 0..2 {
        peer.send(item("1", json!(n))).await;
        assert_eq!(soon(stream.next()).await, Some(Ok(n)));
    }
    peer.send(json!({"type": 3, "invocationId": "1"})).await;
    assert_eq!(soon(stream.next()).await, None);
    // What has ended is not cancelled.
    drop(stream);
    connection.send("next", ()).await.unwrap();
    assert_eq!(peer.record().await.unwrap()["target"], "next");
}

#[tokio::test]
async fn a_stream_that_nobody_reads_any_more_is_cancelled() {
    let (connection, _incoming, mut peer) = pair().await;
    let stream = connection.stream::<i32>("count", ()).await.unwrap();
    peer.record().await.unwrap();
    drop(stream);
    let cancel = json!({"type": 5, "invocationId": "1"});
    assert_eq!(peer.record().await, Some(cancel));
    // Items that were on their way do no harm.
    peer.send(item("1", json!(1))).await;
    peer.send(json!({"type": 3, "invocationId": "1"})).await;
    connection.send("next", ()).await.unwrap();
    assert_eq!(peer.record().await.unwrap()["target"], "next");
}

#[tokio::test]
async fn a_stream_without_reader_holds_the_server_up_but_not_an_answer() {
    let (connection, _incoming, mut peer) = pair().await;
    let mut stream = connection.stream::<String>("texts", ()).await.unwrap();
    peer.record().await.unwrap();
    let text = "x".repeat(500);
    for _ in 0..20 {
        peer.send(item("1", json!(text))).await;
    }
    let (got, ()) = tokio::join!(soon(connection.invoke::<i32>("ask", ())), async {
        let id = peer.record().await.unwrap()["invocationId"].clone();
        peer.send(json!({"type": 3, "invocationId": id, "result": 7}))
            .await;
    });
    assert_eq!(got, Ok(7));
    peer.send(json!({"type": 3, "invocationId": "1", "error": "enough"}))
        .await;
    for _ in 0..20 {
        assert_eq!(soon(stream.next()).await, Some(Ok(text.clone())));
    }
    let failed = CallError::Failed("enough".into());
    assert_eq!(soon(stream.next()).await, Some(Err(failed)));
    assert_eq!(soon(stream.next()).await, None);
}

#[tokio::test]
async fn a_stream_ends_with_its_connection() {
    let (connection, _incoming, mut peer) = pair().await;
    let mut stream = connection.stream::<i32>("count", ()).await.unwrap();
    peer.record().await.unwrap();
    peer.send(item("1", json!(0))).await;
    peer.send(json!({"type": 7})).await;
    assert_eq!(soon(stream.next()).await, Some(Ok(0)));
    let got = soon(stream.next()).await;
    assert!(
        matches!(got, Some(Err(CallError::Closed(Closed::ByServer { .. })))),
        "{got:?}"
    );
}

#[tokio::test]
async fn uploads_follow_their_call_and_end_in_order() {
    let (connection, _incoming, mut peer) = pair().await;
    let call = connection
        .call("sum", ("text",))
        .upload(stream::iter([1, 2]));
    let (got, ()) = tokio::join!(soon(call.invoke::<i32>()), async {
        let call = json!({"type": 1, "invocationId": "1", "target": "sum", "arguments": ["text"],
            "streamIds": ["2"]});
        assert_eq!(peer.record().await, Some(call));
        assert_eq!(peer.record().await, Some(item("2", json!(1))));
        assert_eq!(peer.record().await, Some(item("2", json!(2))));
        let end = json!({"type": 3, "invocationId": "2"});
        assert_eq!(peer.record().await, Some(end));
        peer.send(json!({"type": 3, "invocationId": "1", "result": 3}))
            .await;
    });
    assert_eq!(got, Ok(3));
}

#[tokio::test]
async fn a_method_whose_call_was_dropped_is_told_that_its_upload_failed() {
    let (connection, _incoming, mut peer) = pair().await;
    {
        let call = connection.call("sum", ()).upload(stream::pending::<i32>());
        tokio::select! {
            _ = call.invoke::<i32>() => panic!("nobody answered"),
            call = peer.record() => assert_eq!(call.unwrap()["streamIds"], json!(["2"])),
        }
    }
    let end = peer.record().await.unwrap();
    assert_eq!(
        (&end["type"], &end["invocationId"]),
        (&json!(3), &json!("2"))
    );
    assert!(end["error"].is_string(), "{end}");
}

#[tokio::test]
async fn an_upload_stops_when_its_method_has_answered() {
    let (connection, _incoming, mut peer) = pair().await;
    let call = connection
        .call("first", ())
        .upload(stream::pending::<i32>());
    let (got, ()) = tokio::join!(soon(call.invoke::<i32>()), async {
        peer.record().await.unwrap();
        peer.send(json!({"type": 3, "invocationId": "1", "result": 1}))
            .await;
    });
    assert_eq!(got, Ok(1));
    connection.send("next", ()).await.unwrap();
    assert_eq!(peer.record().await.unwrap()["target"], "next");
}
