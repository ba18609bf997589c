//! Streams both ways, and MessagePack.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use signalr_protocol::messagepack;
use signalr_server::{Caller, Hub, HubError, HubServer, Methods, Upload};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_tungstenite::tungstenite::Message;

use support::{Client, patiently, serve};

struct Streams {
    dropped: UnboundedSender<()>,
}

struct Told(UnboundedSender<()>);

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

type This = Arc<Streams>;
type From = Caller<Streams>;

impl Hub for Streams {
    fn methods(methods: Methods<Self>) -> Methods<Self> {
        methods
            .on(
                "Add",
                async |_: This, _: From, (a, b): (i32, i32)| Ok(a + b),
            )
            .on("Hang", async |_: This, _: From, ()| {
                std::future::pending::<Result<(), HubError>>().await
            })
            .stream("Count", async |_: This, _: From, n: u32| {
                Ok(stream::iter(0..n).map(Ok))
            })
            .stream("Fail", async |_: This, _: From, ()| {
                let failure = stream::once(async { Err(HubError::new("boom")) });
                Ok(stream::iter([Ok(1)]).chain(failure))
            })
            .stream("Endless", async |hub: This, _: From, ()| {
                let told = Told(hub.dropped.clone());
                Ok(
                    stream::pending::<Result<u32, HubError>>().inspect(move |_| {
                        let _ = &told;
                    }),
                )
            })
            .stream("Always", async |hub: This, _: From, ()| {
                let told = Told(hub.dropped.clone());
                Ok(stream::repeat("x".repeat(1000)).map(move |text| {
                    let _ = &told;
                    Ok(text)
                }))
            })
            .on_upload(
                "Sum",
                async |_: This, _: From, (), mut numbers: Upload<i64>| {
                    let mut sum = 0;
                    while let Some(number) = numbers.next().await {
                        sum += number.map_err(|error| HubError::new(error.to_string()))?;
                    }
                    Ok(sum)
                },
            )
    }
}

async fn start() -> (std::net::SocketAddr, UnboundedReceiver<()>) {
    let (dropped, drops) = unbounded_channel();
    let server = HubServer::new(Streams { dropped }).with(|options| {
        options.outbox_bytes_max = 100_000;
        options.streams_max = 3;
    });
    (serve(server).await, drops)
}

async fn ask(client: &mut Client, id: &str, target: &str, arguments: Value) {
    let call = json!({"type": 4, "invocationId": id, "target": target, "arguments": arguments});
    client.send(&call.to_string()).await;
}

#[tokio::test]
async fn a_stream_gives_its_items_in_order_and_then_ends() {
    let (address, _drops) = start().await;
    let mut client = Client::connect_at(address).await;
    ask(&mut client, "7", "count", json!([3])).await;
    for item in 0..3 {
        let expected = json!({"type": 2, "invocationId": "7", "item": item});
        assert_eq!(client.next().await, expected);
    }
    assert_eq!(client.next().await, json!({"type": 3, "invocationId": "7"}));
}

#[tokio::test]
async fn a_stream_that_fails_says_so_after_its_items() {
    let (address, _drops) = start().await;
    let mut client = Client::connect_at(address).await;
    ask(&mut client, "1", "Fail", json!([])).await;
    assert_eq!(client.next().await["item"], 1);
    let error = client.next().await["error"].as_str().unwrap().to_owned();
    assert!(error.ends_with("HubException: boom"), "{error}");
}

#[tokio::test]
async fn a_cancelled_stream_is_dropped_and_ends_plainly() {
    let (address, mut drops) = start().await;
    let mut client = Client::connect_at(address).await;
    ask(&mut client, "1", "Endless", json!([])).await;
    ask(&mut client, "1", "Endless", json!([])).await;
    let twice = client.next().await;
    assert_eq!(twice["error"], "Invocation ID '1' is already in use.");
    client.send(r#"{"type":5,"invocationId":"1"}"#).await;
    assert_eq!(client.next().await, json!({"type": 3, "invocationId": "1"}));
    patiently(drops.recv()).await.unwrap();
}

#[tokio::test]
async fn a_stream_without_end_leaves_room_for_calls_and_is_dropped_with_its_connection() {
    let (address, mut drops) = start().await;
    let mut client = Client::connect_at(address).await;
    ask(&mut client, "1", "Always", json!([])).await;
    client.call("2", "Add", json!([1, 2])).await;
    assert_eq!(client.answer("2").await["result"], 3);
    drop(client);
    patiently(drops.recv()).await.unwrap();
}

#[tokio::test]
async fn so_many_streams_run_at_once_and_no_more() {
    let (address, _drops) = start().await;
    let mut client = Client::connect_at(address).await;
    for id in ["1", "2", "3", "4"] {
        ask(&mut client, id, "Endless", json!([])).await;
    }
    let refused = client.next().await;
    assert_eq!(refused["invocationId"], "4");
    let error = refused["error"].as_str().unwrap();
    assert!(error.contains("Cancel one first"), "{error}");
    client.send(r#"{"type":5,"invocationId":"2"}"#).await;
    assert_eq!(client.next().await, json!({"type": 3, "invocationId": "2"}));
    ask(&mut client, "5", "Count", json!([1])).await;
    assert_eq!(client.next().await["item"], 0);
}

#[tokio::test]
async fn kinds_of_calls_are_not_confused() {
    let (address, _drops) = start().await;
    let mut client = Client::connect_at(address).await;
    ask(&mut client, "1", "Add", json!([1, 2])).await;
    let error = client.next().await["error"].as_str().unwrap().to_owned();
    assert!(error.contains("non-streaming 'Add'"), "{error}");
    client.call("2", "Count", json!([1])).await;
    let error = client.next().await["error"].as_str().unwrap().to_owned();
    assert!(error.contains("streaming 'Count'"), "{error}");
    client.call("3", "Sum", json!([])).await;
    let error = client.next().await["error"].as_str().unwrap().to_owned();
    assert!(error.contains("expects 1"), "{error}");
}

#[tokio::test]
async fn an_upload_reaches_its_method_and_its_failure_too() {
    let (address, _drops) = start().await;
    let mut client = Client::connect_at(address).await;
    for (id, end, answer) in [
        ("1", r#"{"type":3,"invocationId":"u"}"#, json!(60)),
        (
            "2",
            r#"{"type":3,"invocationId":"u","error":"lost"}"#,
            Value::Null,
        ),
    ] {
        let call = json!({
            "type": 1, "invocationId": id, "target": "Sum", "arguments": [], "streamIds": ["u"],
        });
        client.send(&call.to_string()).await;
        for item in [10, 20, 30] {
            let item = json!({"type": 2, "invocationId": "u", "item": item});
            client.send(&item.to_string()).await;
        }
        client.send(end).await;
        let answered = client.answer(id).await;
        assert_eq!(answered["result"], answer);
        assert_eq!(answered["error"].is_string(), answer.is_null());
    }
}

#[tokio::test]
async fn calls_go_on_beside_an_upload_and_streams_beside_a_call() {
    let (address, _drops) = start().await;
    let mut client = Client::connect_at(address).await;
    let upload = json!({
        "type": 1, "invocationId": "1", "target": "Sum", "arguments": [], "streamIds": ["u"],
    });
    client.send(&upload.to_string()).await;
    client.call("2", "Add", json!([1, 2])).await;
    assert_eq!(client.next().await["result"], 3);
    client.call("3", "Hang", json!([])).await;
    ask(&mut client, "4", "Count", json!([1])).await;
    assert_eq!(client.next().await["item"], 0);
    assert_eq!(client.next().await, json!({"type": 3, "invocationId": "4"}));
    // A plain call behind one that runs waits, and so does what is behind it.
    client.call("5", "Add", json!([1, 2])).await;
    ask(&mut client, "6", "Count", json!([1])).await;
    for item in [10, 20] {
        let item = json!({"type": 2, "invocationId": "u", "item": item});
        client.send(&item.to_string()).await;
    }
    client.send(r#"{"type":3,"invocationId":"u"}"#).await;
    let answer = json!({"type": 3, "invocationId": "1", "result": 30});
    assert_eq!(client.next().await, answer);
}

#[tokio::test]
async fn so_many_uploads_run_beside_other_calls_and_no_more() {
    let (dropped, _drops) = unbounded_channel();
    let server = HubServer::new(Streams { dropped }).with(|options| {
        options.waiting_invocations_max = 2;
    });
    let mut client = Client::connect_at(serve(server).await).await;
    for id in ["1", "2", "3"] {
        let upload = json!({
            "type": 1, "invocationId": id, "target": "Sum", "arguments": [], "streamIds": [format!("u{id}")],
        });
        client.send(&upload.to_string()).await;
    }
    client.call("4", "Add", json!([1, 2])).await;
    // The third has the only place there is.
    client.send(r#"{"type":3,"invocationId":"u3"}"#).await;
    for id in ["3", "4"] {
        assert_eq!(client.next().await["invocationId"], id);
    }
}

#[tokio::test]
async fn an_upload_item_that_is_none_fails_its_stream_alone() {
    let (address, _drops) = start().await;
    let mut client = Client::open_at(address).await;
    client
        .send(r#"{"protocol":"messagepack","version":1}"#)
        .await;
    assert_eq!(client.frame().await, Message::binary(&b"{}\x1e"[..]));
    let framed = |body: &[u8]| [&[body.len() as u8], body].concat();
    // Sum with the upload "u", of which an item of three elements comes; then Add(1, 2).
    let upload = framed(b"\x96\x01\x80\xa11\xa3Sum\x90\x91\xa1u");
    let item = framed(b"\x93\x02\x80\xa1u");
    let call = framed(b"\x95\x01\x80\xa12\xa3Add\x92\x01\x02");
    client
        .send_message(Message::binary([upload, item, call].concat()))
        .await;
    let mut answers = Vec::new();
    for _ in 0..2 {
        answers.extend(client.frame().await.into_data());
        if answers.windows(2).any(|part| part == b"2\x03")
            && answers.windows(7).any(|part| part == b"message")
        {
            return;
        }
    }
    panic!("{}", answers.escape_ascii());
}

#[tokio::test]
async fn messagepack_is_spoken_in_binary_frames() {
    let (address, _drops) = start().await;
    let mut client = Client::open_at(address).await;
    client
        .send(r#"{"protocol":"messagepack","version":1}"#)
        .await;
    assert_eq!(client.frame().await, Message::binary(&b"{}\x1e"[..]));
    // Add(1, 2) under the id "1", as the official JavaScript client writes it.
    let call = b"\x0c\x95\x01\x80\xa11\xa3Add\x92\x01\x02".to_vec();
    client
        .send_message(Message::binary(call[..4].to_vec()))
        .await;
    client
        .send_message(Message::binary(call[4..].to_vec()))
        .await;
    let mut expected = Vec::new();
    messagepack::encode_completion_value(&mut expected, "1", &[3]);
    assert_eq!(client.frame().await, Message::binary(expected));
}
