//! Stateful reconnect: another WebSocket goes on where one was lost.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use signalr_server::{Disconnect, HubServer, Options};
use support::{Client, End, Happened, PlainTokens, Server, TestHub};
use tokio_tungstenite::tungstenite::Message;

async fn server(change: impl FnOnce(&mut Options)) -> Server {
    Server::start_with(|server: HubServer<TestHub>| {
        server.auth_optional(PlainTokens).with(|options| {
            options.stateful_reconnect = true;
            change(options);
        })
    })
    .await
}

/// The path of a connection that was negotiated to be resumable.
async fn negotiated(server: &Server, user: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(server.address)
        .await
        .unwrap();
    let token = match user {
        "" => String::new(),
        user => format!("Authorization: Bearer {user}\r\n"),
    };
    let request = format!(
        "POST /hub/negotiate?negotiateVersion=1&useStatefulReconnect=true HTTP/1.1\r\nHost: here\r\n\
         Connection: close\r\n{token}Content-Length: 0\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(body["useStatefulReconnect"], true);
    format!("/hub?id={}", body["connectionToken"].as_str().unwrap())
}

async fn connected(server: &Server, path: &str) -> Client {
    let mut client = Client::open(server, path).await;
    client.send(r#"{"protocol":"json","version":2}"#).await;
    assert_eq!(client.next().await, json!({}));
    client
}

/// The next record that is neither a ping nor an acknowledgement.
async fn next(client: &mut Client) -> Value {
    loop {
        let record = client.next().await;
        if record["type"] != 8 {
            return record;
        }
    }
}

async fn sequence(client: &mut Client, number: i64) {
    let sequence = json!({"type": 9, "sequenceId": number});
    client.send(&sequence.to_string()).await;
}

#[tokio::test]
async fn what_was_not_acknowledged_comes_again_and_what_was_sent_twice_is_done_once() {
    let mut server = server(|_| {}).await;
    let path = negotiated(&server, "").await;
    let mut first = connected(&server, &path).await;
    first.call("1", "Echo", json!(["one"])).await;
    first.call("2", "Echo", json!(["two"])).await;
    assert_eq!(next(&mut first).await["result"], "one");
    assert_eq!(next(&mut first).await["result"], "two");
    first.send(r#"{"type":8,"sequenceId":1}"#).await;
    // The answer shows that the acknowledgement was read.
    first.call("3", "Note", json!(["once"])).await;
    assert_eq!(next(&mut first).await["invocationId"], "3");
    drop(first);

    let mut second = Client::open(&server, &path).await;
    assert_eq!(
        second.next().await,
        json!({"type": 9, "sequenceId": 2}),
        "the sequence comes before anything"
    );
    sequence(&mut second, 3).await;
    second.call("3", "Note", json!(["once"])).await;
    second.call("4", "Echo", json!(["four"])).await;
    assert_eq!(next(&mut second).await["result"], "two");
    assert_eq!(next(&mut second).await["invocationId"], "3");
    assert_eq!(next(&mut second).await["result"], "four");
    assert!(matches!(server.happened().await, Happened::Connected(_)));
    assert_eq!(server.happened().await, Happened::Noted("once".into()));
}

#[tokio::test]
async fn another_socket_takes_over_at_once_from_one_that_seems_to_live() {
    let server = server(|_| {}).await;
    let path = negotiated(&server, "").await;
    let mut first = connected(&server, &path).await;
    let mut second = Client::open(&server, &path).await;
    assert_eq!(second.next().await["type"], 9);
    sequence(&mut second, 1).await;
    second.call("1", "Echo", json!([1])).await;
    assert_eq!(next(&mut second).await["result"], 1);
    assert_eq!(first.end().await.1, End::Dropped, "without a Close frame");
}

#[tokio::test]
async fn half_a_message_of_the_lost_socket_is_forgotten() {
    let server = server(|_| {}).await;
    let path = negotiated(&server, "").await;
    let mut first = connected(&server, &path).await;
    first
        .send_frame(r#"{"type":1,"invocationId":"1","target":"Echo","argum"#)
        .await;
    let mut second = Client::open(&server, &path).await;
    assert_eq!(second.next().await["type"], 9);
    sequence(&mut second, 1).await;
    second.call("1", "Echo", json!(["whole"])).await;
    assert_eq!(next(&mut second).await["result"], "whole");
}

#[tokio::test]
async fn pings_and_acknowledgements_go_on_while_too_much_is_kept() {
    let server = server(|options| {
        options.stateful_bytes_max = 1;
        options.keep_alive_interval = Duration::from_millis(20);
    })
    .await;
    let path = negotiated(&server, "").await;
    let mut client = connected(&server, &path).await;
    client.call("1", "Echo", json!([1])).await;
    client.call("2", "Echo", json!([2])).await;
    assert_eq!(next(&mut client).await["result"], 1);
    // The second answer waits for the first to be acknowledged; pings do not.
    for _ in 0..3 {
        let record = client.next_or_ping().await;
        assert!(record["type"] == 6 || record["type"] == 8, "{record}");
    }
    client.send(r#"{"type":8,"sequenceId":1}"#).await;
    assert_eq!(next(&mut client).await["result"], 2);
}

#[tokio::test]
async fn a_socket_of_another_user_does_not_take_over() {
    let server = server(|_| {}).await;
    let path = negotiated(&server, "ada").await;
    let own = format!("{path}&access_token=ada");
    let mut first = connected(&server, &own).await;
    let foreign = server.request(&format!("{path}&access_token=eve"));
    assert_eq!(Client::refused(&server, foreign).await.0, 403);
    first.call("1", "User", json!([])).await;
    assert_eq!(next(&mut first).await["result"], "ada");
}

#[tokio::test]
async fn the_first_version_of_the_protocol_resumes_nothing() {
    let server = server(|_| {}).await;
    let path = negotiated(&server, "").await;
    let _first = Client::connect_to(&server, &path).await;
    let second = server.request(&path);
    assert_eq!(Client::refused(&server, second).await.0, 409);
}

#[tokio::test]
async fn a_gap_in_the_client_s_numbers_ends_the_connection() {
    let mut server = server(|_| {}).await;
    let path = negotiated(&server, "").await;
    let mut first = connected(&server, &path).await;
    first.call("1", "Echo", json!([1])).await;
    next(&mut first).await;
    drop(first);
    let mut second = Client::open(&server, &path).await;
    sequence(&mut second, 50).await;
    let why = server.disconnected().await;
    assert!(matches!(why, Disconnect::ProtocolError(_)), "{why:?}");
}

#[tokio::test]
async fn a_close_frame_ends_the_connection_for_good() {
    let mut server = server(|_| {}).await;
    let path = negotiated(&server, "").await;
    let mut first = connected(&server, &path).await;
    first.send_message(Message::Close(None)).await;
    assert_eq!(server.disconnected().await, Disconnect::ByClient);
    let second = server.request(&path);
    assert_eq!(Client::refused(&server, second).await.0, 404);
}

#[tokio::test]
async fn who_does_not_come_back_in_time_is_gone() {
    let mut server = server(|options| options.attach_timeout = Duration::from_millis(50)).await;
    let path = negotiated(&server, "").await;
    let first = connected(&server, &path).await;
    drop(first);
    assert_eq!(server.disconnected().await, Disconnect::TransportLost);
    let second = server.request(&path);
    assert_eq!(Client::refused(&server, second).await.0, 404);
}
