//! Connections that speak MessagePack: what differs from JSON.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use serde_json::json;
use signalr_client::{CallError, Connection, Encoding, Error, Options, Transport};
use support::{Peer, Server, soon};

fn messagepack(options: &mut Options) {
    options.encoding = Encoding::MessagePack;
}

async fn refusal(options: Options) -> Error {
    match soon(Connection::connect(options)).await {
        Ok(_) => panic!("it should have been refused"),
        Err(error) => error,
    }
}

/// After the handshake, with the first ping taken.
async fn greeted(server: &mut Server) -> Peer {
    let mut peer = server.raw_peer().await;
    assert_eq!(
        peer.frame().await.unwrap(),
        b"{\"protocol\":\"messagepack\",\"version\":1}\x1e"
    );
    // An answer and the first message in one frame.
    peer.send_binary(b"{}\x1e\x02\x91\x06").await;
    assert_eq!(peer.frame().await.unwrap(), [2, 0x91, 6]);
    peer
}

#[tokio::test]
async fn calls_go_out_in_binary_frames_and_answers_are_read_from_any_cut() {
    let mut server = Server::start().await;
    let options = server.options().with(messagepack);
    let (connected, mut peer) = tokio::join!(Connection::connect(options), greeted(&mut server));
    let (connection, mut incoming) = connected.unwrap();
    let (got, ()) = tokio::join!(connection.invoke::<u32>("add", (1, "b")), async {
        // [1, {}, "1", "add", [1, "b"]]
        let call = b"\x0e\x96\x01\x80\xa11\xa3add\x92\x01\xa1b\x90";
        assert_eq!(peer.frame().await.unwrap(), call);
        // [1, {}, nil, "hear", [true], []], [3, {}, "1", 3, 7]
        let sent = b"\x0c\x96\x01\x80\xc0\xa4hear\x91\xc3\x90\x07\x95\x03\x80\xa11\x03\x07";
        for byte in sent {
            peer.send_binary(&[*byte]).await;
        }
    });
    assert_eq!(got, Ok(7));
    let heard = soon(incoming.next()).await.unwrap();
    assert_eq!((heard.target(), heard.bind()), ("hear", Ok(true)));
}

#[tokio::test]
async fn a_message_that_cannot_be_read_ends_the_connection() {
    let mut server = Server::start().await;
    let options = server.options().with(messagepack);
    let (connected, mut peer) = tokio::join!(Connection::connect(options), greeted(&mut server));
    let (connection, _incoming) = connected.unwrap();
    let waiting = connection.invoke::<()>("x", ());
    let (got, ()) = tokio::join!(soon(waiting), peer.send_binary(&[0x02, 0xC1, 0xC1]));
    let Err(CallError::Closed(closed)) = got else {
        panic!("{got:?}");
    };
    assert!(
        closed.to_string().contains("broke the protocol"),
        "{closed}"
    );
}

#[tokio::test]
async fn a_transport_for_text_alone_is_passed_over() {
    let server = Server::start().await;
    let offer = json!({"negotiateVersion": 1, "connectionId": "a", "connectionToken": "b",
        "availableTransports": [{"transport": "WebSockets", "transferFormats": ["Text"]},
            {"transport": "ServerSentEvents", "transferFormats": ["Text", "Binary"]}]});
    server.negotiation(200, &[], offer.to_string());
    let error = refusal(server.options().with(messagepack)).await;
    let text = error.to_string();
    assert!(matches!(error, Error::Refused { .. }), "{text}");
    assert!(
        text.contains("MessagePack") && text.contains("WebSockets (Text)"),
        "{text}"
    );
}

#[tokio::test]
async fn options_without_a_transport_that_carries_it_are_refused_at_once() {
    let options = Options::new("http://h/hub").unwrap().with(messagepack);
    let error =
        refusal(options.with(|options| options.transports = vec![Transport::ServerSentEvents]))
            .await;
    assert!(
        matches!(&error, Error::Options { detail } if detail.contains("MessagePack")),
        "{error}"
    );
}
