//! How connections stay alive and how they end.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use serde_json::json;
use signalr_server::{Disconnect, Options};
use support::{Client, End, PlainTokens, Server, patiently};
use tokio_tungstenite::tungstenite::Message;

const CLOSED_WITH_ERROR: &str = "Connection closed with an error.";

#[tokio::test]
async fn the_server_pings_even_while_messages_flow() {
    let often = |o: &mut Options| o.keep_alive_interval = Duration::from_millis(10);
    let server = Server::start_with(|s| s.with(often)).await;
    let mut client = Client::connect(&server).await;
    let mut pings = 0;
    for index in 0.. {
        client
            .call(&index.to_string(), "Echo", json!([index]))
            .await;
        while client.next_or_ping().await["type"] == 6 {
            pings += 1;
        }
        if pings >= 3 {
            break;
        }
    }
}

#[tokio::test]
async fn a_silent_client_is_let_go_and_may_come_back() {
    let short = |o: &mut Options| o.client_timeout = Duration::from_millis(50);
    let mut server = Server::start_with(|s| s.with(short)).await;
    let mut client = Client::connect(&server).await;
    let (records, end) = client.end().await;
    let close = json!({"type": 7, "error": CLOSED_WITH_ERROR, "allowReconnect": true});
    assert_eq!(records, [close]);
    assert_eq!(end, End::Closed(Some(1000)));
    assert_eq!(server.disconnected().await, Disconnect::ClientTimeout);
}

#[tokio::test]
async fn a_connection_ends_when_its_token_does_and_may_come_back() {
    let mut server = Server::start_with(|s| s.auth(PlainTokens)).await;
    let mut client = Client::connect_to(&server, "/hub?access_token=alice/0.2").await;
    client.call("1", "User", json!([])).await;
    assert_eq!(client.next().await["result"], "alice");
    let (records, end) = client.end().await;
    assert_eq!(records, [json!({"type": 7, "allowReconnect": true})]);
    assert_eq!(end, End::Closed(Some(1000)));
    assert_eq!(server.disconnected().await, Disconnect::TokenExpired);
}

#[tokio::test]
async fn a_client_says_goodbye_by_message_or_by_frame() {
    let mut server = Server::start().await;
    let mut client = Client::connect(&server).await;
    client.send(r#"{"type":7,"error":"mine"}"#).await;
    assert_eq!(
        client.end().await,
        (vec![json!({"type": 7})], End::Closed(Some(1000)))
    );
    assert_eq!(server.disconnected().await, Disconnect::ByClient);

    let mut client = Client::connect(&server).await;
    client.close().await;
    assert_eq!(server.disconnected().await, Disconnect::ByClient);

    let client = Client::connect(&server).await;
    drop(client);
    assert_eq!(server.disconnected().await, Disconnect::TransportLost);
}

#[tokio::test]
async fn a_broken_message_ends_the_connection_and_says_nothing_of_the_inside() {
    let mut server = Server::start().await;
    for text in [
        r#"{"type":1,"#,
        r#"{"target":"Echo","arguments":[]}"#,
        "null",
    ] {
        let mut client = Client::connect(&server).await;
        client.send(text).await;
        let close = json!({"type": 7, "error": CLOSED_WITH_ERROR, "allowReconnect": true});
        assert_eq!(
            client.end().await,
            (vec![close], End::Closed(Some(1000))),
            "{text}"
        );
        assert!(matches!(
            server.disconnected().await,
            Disconnect::ProtocolError(_)
        ));
    }
}

#[tokio::test]
async fn a_message_of_the_limit_passes_and_one_more_byte_ends_the_connection() {
    let server = Server::start_with(|s| s.with(|o| o.detailed_errors = true)).await;
    let limit = Options::default().receive_bytes_max;
    let call = |bytes: usize| {
        let empty = r#"{"type":1,"invocationId":"1","target":"Note","arguments":[""]}"#;
        let filled = "x".repeat(bytes - empty.len() - 1);
        empty.replace(r#"[""]"#, &format!(r#"["{filled}"]"#))
    };
    let mut client = Client::connect(&server).await;
    client.send(&call(limit)).await;
    assert_eq!(client.answer("1").await["result"], json!(null));
    client.send(&call(limit + 1)).await;
    let error = "Connection closed with an error. InvalidDataException: The maximum message size \
                 of 32768B was exceeded. The message size can be configured in AddHubOptions.";
    let close = json!({"type": 7, "error": error, "allowReconnect": true});
    assert_eq!(client.end().await, (vec![close], End::Closed(Some(1000))));
}

#[tokio::test]
async fn a_message_without_an_end_is_cut_off_at_the_limit() {
    let server = Server::start().await;
    let mut client = Client::connect(&server).await;
    client
        .send_frame(&format!("{{\"type\":1,\"target\":\"{}", "x".repeat(40_000)))
        .await;
    let (records, end) = client.end().await;
    assert_eq!(
        (records[0]["type"].clone(), end),
        (json!(7), End::Closed(Some(1000)))
    );
}

#[tokio::test]
async fn a_frame_over_its_limit_ends_the_connection_in_order() {
    let server = Server::start_with(|s| s.with(|o| o.receive_frame_bytes_max = 40_000)).await;
    let mut client = Client::connect(&server).await;
    let one = "{\"type\":6}\u{1e}";
    client.send_frame(&one.repeat(39_000 / one.len())).await;
    client.call("1", "Echo", json!([1])).await;
    assert_eq!(client.answer("1").await["result"], 1);
    client.send_frame(&one.repeat(41_000 / one.len())).await;
    let (records, _) = client.end().await;
    assert_eq!(records[0]["allowReconnect"], true);
}

#[tokio::test]
async fn text_that_is_not_utf8_is_a_websocket_error() {
    use tokio_tungstenite::tungstenite::protocol::frame::Frame;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

    let mut server = Server::start().await;
    let mut client = Client::connect(&server).await;
    let frame = Frame::message(vec![0xff, 0xfe, 0x1e], OpCode::Data(Data::Text), true);
    client.send_message(Message::Frame(frame)).await;
    let (records, end) = client.end().await;
    assert_eq!((records, end), (vec![], End::Closed(Some(1007))));
    assert!(matches!(
        server.disconnected().await,
        Disconnect::ProtocolError(_)
    ));
}

#[tokio::test]
async fn the_program_closes_a_connection_with_or_without_a_way_back() {
    let mut server = Server::start().await;
    for (error, allow, close) in [
        (None, false, json!({"type": 7})),
        (Some("why"), false, json!({"type": 7, "error": "why"})),
        (None, true, json!({"type": 7, "allowReconnect": true})),
    ] {
        let mut client = Client::connect(&server).await;
        let id = server.handle.connections()[0].id().to_owned();
        assert!(server.handle.disconnect(&id, error, allow));
        assert_eq!(client.end().await, (vec![close], End::Closed(Some(1000))));
        assert_eq!(server.disconnected().await, Disconnect::ByServer);
        assert!(!server.handle.disconnect(&id, None, false));
    }
}

#[tokio::test]
async fn draining_sends_everybody_away_to_come_back_elsewhere() {
    let mut server = Server::start().await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(Client::connect(&server).await);
    }
    let late = server.request("/hub");
    let handle = server.handle.clone();
    let drained = tokio::spawn(async move { handle.drain(Duration::from_millis(50)).await });
    for client in &mut clients {
        let close = json!({"type": 7, "allowReconnect": true});
        assert_eq!(client.end().await, (vec![close], End::Closed(Some(1000))));
    }
    patiently(drained).await.unwrap();
    assert!(server.handle.is_draining());
    assert!(server.handle.connections().is_empty());
    assert_eq!(Client::refused(&server, late).await.0, 503);
    for _ in 0..5 {
        assert_eq!(server.disconnected().await, Disconnect::Draining);
    }
}

#[tokio::test]
async fn whoever_shakes_hands_while_the_hub_drains_is_sent_away_too() {
    let server = Server::start().await;
    let mut client = Client::open(&server, "/hub").await;
    let handle = server.handle.clone();
    let drained = tokio::spawn(async move { handle.drain(Duration::ZERO).await });
    patiently(async {
        while !server.handle.is_draining() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    client.send(r#"{"protocol":"json","version":1}"#).await;
    let (records, _) = client.end().await;
    assert_eq!(
        records,
        [json!({}), json!({"type": 7, "allowReconnect": true})]
    );
    patiently(drained).await.unwrap();
}

#[tokio::test]
async fn the_clients_close_frame_is_answered_even_if_messages_wait_for_it() {
    let mut server = Server::start().await;
    let mut client = Client::connect(&server).await;
    let connection = server.handle.connections().remove(0);
    client.close().await;
    // Some are sent before the Close frame is seen, some may wait when it is.
    while connection.push("tick", &"x".repeat(1_000)).is_ok() {
        tokio::task::yield_now().await;
    }
    let (_, end) = client.end().await;
    assert_eq!(end, End::Closed(None));
    assert_eq!(server.disconnected().await, Disconnect::ByClient);
}
