//! The program pushes to clients: in order, in few frames, within limits.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use serde_json::json;
use signalr_server::{Disconnect, Options, PushError};
use support::{Client, End, Server, patiently};

#[tokio::test]
async fn pushes_arrive_in_order_and_share_frames() {
    let server = Server::start().await;
    let mut client = Client::connect(&server).await;
    let connection = server.handle.connections().remove(0);
    let count = 5_000;
    // Nothing here yields to the connection's task, so all of it waits in the queue together.
    for index in 0..count {
        connection.push_raw("tick", index.to_string()).unwrap();
    }
    for index in 0..count {
        assert_eq!(
            client.next().await,
            json!({"type": 1, "target": "tick", "arguments": [index]})
        );
    }
    assert!(client.frames.len() < 50, "{} frames", client.frames.len());
    assert!(
        client
            .frames
            .iter()
            .all(|bytes| *bytes <= Options::default().send_frame_bytes)
    );
}

#[tokio::test]
async fn a_whole_encoded_message_goes_out_as_it_is() {
    let server = Server::start().await;
    let mut client = Client::connect(&server).await;
    let connection = server.handle.connections().remove(0);
    let message = "{\"type\":1,\"target\":\"raw\",\"arguments\":[1.50]}\u{1e}";
    connection.push_encoded(message).unwrap();
    connection.push_array("pair", "[1,2]").unwrap();
    assert_eq!(client.next().await["arguments"], json!([1.5]));
    assert_eq!(client.next().await["arguments"], json!([1, 2]));
}

#[tokio::test]
async fn pushes_come_from_any_thread() {
    let server = Server::start().await;
    let mut client = Client::connect(&server).await;
    let connection = server.handle.connections().remove(0);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let connection = connection.clone();
            std::thread::spawn(move || {
                for index in 0..100 {
                    connection.push("tick", &index).unwrap();
                }
            })
        })
        .collect();
    for _ in 0..400 {
        assert_eq!(client.next().await["target"], "tick");
    }
    for thread in threads {
        thread.join().unwrap();
    }
}

#[tokio::test]
async fn a_full_queue_refuses_and_takes_again_when_the_client_has_read() {
    let server = Server::start_with(|s| s.with(|o| o.outbox_messages_max = 3)).await;
    let mut client = Client::connect(&server).await;
    let connection = server.handle.connections().remove(0);
    for index in 0..3 {
        connection.push("tick", &index).unwrap();
    }
    assert_eq!(connection.push("tick", &3), Err(PushError::Full));
    for index in 0..3 {
        assert_eq!(client.next().await["arguments"], json!([index]));
    }
    patiently(async {
        while connection.queued() != (0, 0) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    connection.push("tick", &4).unwrap();
    assert_eq!(client.next().await["arguments"], json!([4]));
}

#[tokio::test]
async fn the_queue_is_bounded_in_bytes_and_one_large_message_still_passes() {
    let small = |o: &mut Options| {
        o.outbox_bytes_max = 1_000;
        o.message_bytes_max = 100_000;
    };
    let server = Server::start_with(|s| s.with(small)).await;
    let mut client = Client::connect(&server).await;
    let connection = server.handle.connections().remove(0);
    let large = "x".repeat(90_000);
    connection.push("large", &large).unwrap();
    assert_eq!(connection.push("tick", &1), Err(PushError::Full));
    assert!(matches!(
        connection.push("larger", &"x".repeat(100_000)),
        Err(PushError::TooLarge {
            bytes_max: 100_000,
            ..
        })
    ));
    assert_eq!(client.next().await["arguments"], json!([large]));
}

#[tokio::test]
async fn a_client_that_does_not_read_is_dropped_and_memory_stays_bounded() {
    let impatient = |o: &mut Options| o.send_timeout = Duration::from_millis(100);
    let mut server = Server::start_with(|s| s.with(impatient)).await;
    let client = Client::connect(&server).await;
    let connection = server.handle.connections().remove(0);
    let large = "x".repeat(50_000);
    let error = patiently(async {
        loop {
            match connection.push("tick", &large) {
                Ok(()) => tokio::task::yield_now().await,
                Err(PushError::Full) => {
                    assert!(connection.queued().1 <= Options::default().outbox_bytes_max);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(error) => return error,
            }
        }
    })
    .await;
    assert_eq!(error, PushError::Closed);
    assert_eq!(server.disconnected().await, Disconnect::SlowReader);
    drop(client);
}

#[tokio::test]
async fn what_was_queued_goes_out_before_the_goodbye() {
    let server = Server::start().await;
    let mut client = Client::connect(&server).await;
    let connection = server.handle.connections().remove(0);
    for index in 0..10 {
        connection.push("tick", &index).unwrap();
    }
    connection.close(Some("enough"), true);
    assert_eq!(connection.push("tick", &10), Err(PushError::Closed));
    let (records, end) = client.end().await;
    assert_eq!(records.len(), 11);
    assert_eq!(
        records[10],
        json!({"type": 7, "error": "enough", "allowReconnect": true})
    );
    assert_eq!(end, End::Closed(Some(1000)));
}

#[tokio::test]
async fn a_handle_outlives_its_connection_and_refuses() {
    let mut server = Server::start().await;
    let mut client = Client::connect(&server).await;
    let connection = server.handle.connections().remove(0);
    client.close().await;
    assert_eq!(server.disconnected().await, Disconnect::ByClient);
    assert!(!connection.is_open());
    assert_eq!(connection.push("tick", &1), Err(PushError::Closed));
    assert!(server.handle.connection(connection.id()).is_none());
    assert!(server.handle.connections().is_empty());
}
