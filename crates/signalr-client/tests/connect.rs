//! What a client says while it connects, and what it makes of the answers.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::json;
use signalr_client::{Closed, Connection, Error, Options};
use support::{Server, soon};
use tokio::net::TcpListener;

async fn refusal(options: Options) -> Error {
    soon(Connection::connect(options))
        .await
        .map(|_| ())
        .unwrap_err()
}

#[tokio::test]
async fn the_token_is_asked_for_negotiation_and_again_for_the_connect() {
    let mut server = Server::start().await;
    let asked = Arc::new(AtomicU32::new(0));
    let options = server
        .options()
        .token(move || {
            let n = asked.fetch_add(1, Ordering::SeqCst) + 1;
            async move { Ok::<_, String>(format!("token-{n}")) }
        })
        .header("x-site", "lyon")
        .unwrap();
    let (connection, _incoming) = tokio::join!(Connection::connect(options), server.peer())
        .0
        .unwrap();
    assert_eq!(connection.id(), Some("public"));
    let seen = server.seen();
    let [negotiated, connected] = &seen[..] else {
        panic!("{seen:?}")
    };
    assert_eq!(
        (negotiated.what, negotiated.query.as_str()),
        ("negotiate", "negotiateVersion=1")
    );
    assert_eq!(
        (connected.what, connected.query.as_str()),
        ("connect", "id=secret")
    );
    assert_eq!(negotiated.header("authorization"), Some("Bearer token-1"));
    assert_eq!(connected.header("authorization"), Some("Bearer token-2"));
    assert_eq!(
        negotiated.header("x-requested-with"),
        Some("XMLHttpRequest")
    );
    assert_eq!(negotiated.header("content-length"), Some("0"));
    for request in &seen {
        assert_eq!(request.header("x-site"), Some("lyon"));
    }
}

#[tokio::test]
async fn the_first_message_after_the_handshake_is_a_ping() {
    let mut server = Server::start().await;
    let (connection, mut peer) = tokio::join!(Connection::connect(server.options()), server.peer());
    let _connection = connection.unwrap();
    assert_eq!(peer.any_record().await, Some(json!({"type": 6})));
}

#[tokio::test]
async fn without_negotiation_there_is_one_request_and_no_id() {
    let mut server = Server::start().await;
    let options = server
        .options()
        .with(|options| options.skip_negotiation = true);
    let (connection, _peer) = tokio::join!(Connection::connect(options), server.peer());
    assert_eq!(connection.unwrap().0.id(), None);
    let seen = server.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].what, seen[0].query.as_str()), ("connect", ""));
}

#[tokio::test]
async fn a_redirect_is_followed_with_its_query_and_its_token() {
    let mut server = Server::start().await;
    let url = format!("http://{}/other?shard=7", server.address);
    server.negotiation(
        200,
        &[],
        json!({"url": url, "accessToken": "theirs"}).to_string(),
    );
    let options = server
        .options()
        .token(|| async { Ok::<_, String>("ours".into()) });
    let (connection, _peer) = tokio::join!(Connection::connect(options), server.peer());
    connection.unwrap();
    let seen = server.seen();
    let queries: Vec<_> = seen.iter().map(|request| request.query.as_str()).collect();
    assert_eq!(
        queries,
        [
            "negotiateVersion=1",
            "shard=7&negotiateVersion=1",
            "shard=7&id=secret"
        ]
    );
    let tokens: Vec<_> = seen
        .iter()
        .map(|request| request.header("authorization").unwrap())
        .collect();
    assert_eq!(tokens, ["Bearer ours", "Bearer theirs", "Bearer theirs"]);
}

#[tokio::test]
async fn redirects_without_end_are_refused() {
    let server = Server::start().await;
    for _ in 0..100 {
        server.negotiation(200, &[], json!({"url": server.url()}).to_string());
    }
    let error = refusal(server.options()).await;
    assert_eq!(
        error,
        Error::Refused {
            detail: "Negotiate redirection limit exceeded.".into()
        }
    );
}

#[tokio::test]
async fn a_version_0_answer_gives_one_id_for_everything() {
    let mut server = Server::start().await;
    let offer = json!({"connectionId": "only", "availableTransports":
        [{"transport": "WebSockets", "transferFormats": ["Text"]}]});
    server.negotiation(200, &[], offer.to_string());
    let (connection, _peer) = tokio::join!(Connection::connect(server.options()), server.peer());
    assert_eq!(connection.unwrap().0.id(), Some("only"));
    assert_eq!(server.seen()[1].query, "id=only");
}

#[tokio::test]
async fn each_refused_negotiation_tells_what_to_do_next() {
    let server = Server::start().await;
    let nothing_ours = json!({"connectionId": "a", "availableTransports":
        [{"transport": "CarrierPigeons", "transferFormats": ["Text"]}]});
    let table = [
        (401, json!("token expired"), "Unauthorised"),
        (403, json!(null), "Unauthorised"),
        (503, json!("draining"), "Unreachable"),
        (429, json!(null), "Unreachable"),
        (502, json!(null), "Unreachable"),
        (404, json!(null), "Refused"),
        (405, json!(null), "Refused"),
        (200, json!({"error": "no room"}), "Refused"),
        (
            200,
            json!({"ProtocolVersion": "2.1", "ConnectionId": "x"}),
            "Refused",
        ),
        (200, nothing_ours, "Refused"),
        (200, json!([1]), "Protocol"),
        (
            200,
            json!({"negotiateVersion": 1, "connectionId": "no token"}),
            "Protocol",
        ),
        (200, json!({"url": "ftp://elsewhere"}), "Protocol"),
    ];
    for (status, body, expected) in table {
        server.negotiation(status, &[], body.to_string());
        let error = refusal(server.options()).await;
        assert!(
            format!("{error:?}").starts_with(expected),
            "{status} {body}: {error:?}"
        );
    }
}

#[tokio::test]
async fn a_busy_server_says_when_to_come_back() {
    let server = Server::start().await;
    server.negotiation(503, &[("retry-after", "7")], "draining");
    let error = refusal(server.options()).await;
    let Error::Unreachable {
        detail,
        retry_after,
    } = error
    else {
        panic!("{error:?}")
    };
    assert_eq!(retry_after, Some(Duration::from_secs(7)));
    assert_eq!(detail, "status 503: draining");
}

#[tokio::test]
async fn each_refused_upgrade_tells_what_to_do_next() {
    let server = Server::start().await;
    for (status, expected) in [
        (401, "Unauthorised"),
        (503, "Unreachable"),
        (404, "Unreachable"),
    ] {
        server.upgrade(status, &[], "No Connection with that ID");
        let error = refusal(server.options()).await;
        assert!(
            format!("{error:?}").starts_with(expected),
            "{status}: {error:?}"
        );
    }
    // Nothing was offered a moment ago, so there is nothing that the server could have forgotten.
    server.upgrade(404, &[], "");
    let options = server
        .options()
        .with(|options| options.skip_negotiation = true);
    assert!(matches!(refusal(options).await, Error::Refused { .. }));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable_and_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    for skip in [false, true] {
        let options = Options::new(&format!("http://{address}/hub")).unwrap();
        let options = options.with(|options| options.skip_negotiation = skip);
        let error = refusal(options).await;
        assert!(matches!(&error, Error::Unreachable { .. }), "{error:?}");
        assert!(error.to_string().contains("refused"), "{error}");
    }
}

#[tokio::test]
async fn a_failing_token_callback_is_told_apart_from_the_server() {
    let server = Server::start().await;
    let options = server
        .options()
        .token(|| async { Err::<String, _>("vault is sealed") });
    assert_eq!(
        refusal(options).await,
        Error::Token {
            detail: "vault is sealed".into()
        }
    );
    let options = server
        .options()
        .token(|| async { Ok::<_, String>("two\nlines".into()) });
    assert!(matches!(refusal(options).await, Error::Token { .. }));
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn each_bad_handshake_is_told_apart() {
    let mut server = Server::start().await;
    for (answer, expected) in [
        (
            r#"{"error":"The protocol 'json' is not supported."}"#,
            "Refused",
        ),
        (r#"{"type":6}"#, "Protocol"),
        ("hello", "Protocol"),
    ] {
        let (error, _peer) = tokio::join!(refusal(server.options()), async {
            let mut peer = server.raw_peer().await;
            peer.send_text(&format!("{answer}\u{1e}")).await;
            peer
        });
        assert!(
            format!("{error:?}").starts_with(expected),
            "{answer}: {error:?}"
        );
    }
}

#[tokio::test]
async fn a_server_that_ends_before_the_handshake_is_unreachable() {
    let mut server = Server::start().await;
    let (error, ()) = tokio::join!(refusal(server.options()), async {
        server.raw_peer().await.close_frame().await;
    });
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_that_never_shakes_hands_is_given_up() {
    let mut server = Server::start().await;
    let options = server
        .options()
        .with(|options| options.handshake_timeout = Duration::from_millis(50));
    let (error, _peer) = tokio::join!(refusal(options), server.raw_peer());
    assert!(error.to_string().contains("shake hands"), "{error}");
}

#[tokio::test]
async fn the_handshake_may_come_in_pieces_and_share_its_frame_with_what_follows() {
    let mut server = Server::start().await;
    let (connection, mut peer) = tokio::join!(Connection::connect(server.options()), async {
        let mut peer = server.raw_peer().await;
        peer.send_text("{").await;
        let call = r#"{"type":1,"target":"early","arguments":[]}"#;
        peer.send_text(&format!("}}\u{1e}{call}\u{1e}{}", &call[..9]))
            .await;
        peer.send_text(&format!("{}\u{1e}", &call[9..])).await;
        peer
    });
    let (connection, mut incoming) = connection.unwrap();
    for _ in 0..2 {
        assert_eq!(soon(incoming.next()).await.unwrap().target(), "early");
    }
    peer.send(json!({"type": 7})).await;
    let why = Closed::ByServer {
        error: None,
        allow_reconnect: false,
    };
    assert_eq!(soon(connection.ended()).await, why);
}
