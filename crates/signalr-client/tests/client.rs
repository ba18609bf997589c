//! Coming back: sessions one after the other, and the client with handlers on top.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::json;
use signalr_client::{
    CallError, Client, ClientBuilder, Closed, Error, Options, ReconnectPolicy, Sessions, State,
};
use support::{Server, soon};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// Comes back almost at once, so that tests do not wait.
fn hasty() -> ReconnectPolicy {
    let mut policy = ReconnectPolicy::default();
    policy.ceiling_first = Duration::from_millis(1);
    policy.ceiling_max = Duration::from_millis(5);
    policy
}

fn client(options: Options) -> ClientBuilder {
    Client::builder(options).reconnect(hasty())
}

async fn unused_address() -> std::net::SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
}

#[tokio::test]
async fn the_first_connection_is_tried_until_the_server_is_there() {
    let address = unused_address().await;
    let options = Options::new(&format!("http://{address}/hub")).unwrap();
    let mut sessions = Sessions::new(options, hasty()).unwrap();
    let mut state = sessions.state();
    let task = tokio::spawn(async move {
        sessions
            .next()
            .await
            .map(|(c, _)| c.id().map(str::to_owned))
    });
    let failed_often =
        |state: &State| matches!(state, State::Reconnecting { failures, .. } if *failures >= 5);
    {
        let seen = soon(state.wait_for(failed_often)).await.unwrap();
        let State::Reconnecting { why, pause, .. } = &*seen else {
            unreachable!()
        };
        assert!(matches!(why, Error::Unreachable { .. }), "{why}");
        assert!(*pause <= Duration::from_millis(5));
    }
    let mut server = Server::on(TcpListener::bind(address).await.unwrap());
    let _peer = soon(server.peer()).await;
    assert_eq!(soon(task).await.unwrap(), Ok(Some("public".into())));
    assert_eq!(
        *state.borrow(),
        State::Connected {
            id: Some("public".into())
        }
    );
}

#[tokio::test]
async fn after_a_loss_there_is_a_new_connection_with_a_new_token() {
    let mut server = Server::start().await;
    let asked = Arc::new(AtomicU32::new(0));
    let options = server.options().token(move || {
        let n = asked.fetch_add(1, Ordering::SeqCst) + 1;
        async move { Ok::<_, String>(n.to_string()) }
    });
    let mut sessions = Sessions::new(options, hasty()).unwrap();
    for round in 0..3 {
        let (session, peer) = tokio::join!(soon(sessions.next()), server.peer());
        let (connection, _incoming) = session.unwrap();
        if round == 1 {
            drop(peer);
        } else {
            let mut peer = peer;
            peer.send(json!({"type": 7, "allowReconnect": true})).await;
        }
        soon(connection.ended()).await;
    }
    let tokens: Vec<_> = server
        .seen()
        .iter()
        .map(|seen| seen.header("authorization").unwrap().to_owned())
        .collect();
    assert_eq!(
        tokens,
        [
            "Bearer 1", "Bearer 2", "Bearer 3", "Bearer 4", "Bearer 5", "Bearer 6"
        ]
    );
}

#[tokio::test]
async fn refused_tokens_and_refused_connections_are_tried_again_too() {
    let mut server = Server::start().await;
    server.negotiation(401, &[], "token expired");
    server.negotiation(404, &[], "");
    server.negotiation(200, &[], json!({"error": "not now"}).to_string());
    server.upgrade(401, &[], "");
    let mut sessions = Sessions::new(server.options(), hasty()).unwrap();
    let (session, _peer) = tokio::join!(soon(sessions.next()), server.peer());
    session.unwrap();
    assert_eq!(server.seen().len(), 7);
}

#[tokio::test]
async fn a_client_that_was_sent_away_stays_away_unless_told_otherwise() {
    for return_when_sent_away in [false, true] {
        let mut server = Server::start().await;
        let mut policy = hasty();
        policy.return_when_sent_away = return_when_sent_away;
        let mut sessions = Sessions::new(server.options(), policy).unwrap();
        let (session, mut peer) = tokio::join!(soon(sessions.next()), server.peer());
        peer.send(json!({"type": 7, "error": "revoked"})).await;
        let (connection, _incoming) = session.unwrap();
        let why = soon(connection.ended()).await;
        if return_when_sent_away {
            let (session, _peer) = tokio::join!(soon(sessions.next()), server.peer());
            session.unwrap();
        } else {
            let error = soon(sessions.next()).await.map(|_| ()).unwrap_err();
            assert_eq!(error, Error::Closed(why.clone()));
            assert_eq!(
                *sessions.state().borrow(),
                State::Closed { why: why.into() }
            );
        }
    }
}

#[tokio::test]
async fn a_policy_with_an_end_gives_up_after_so_many_attempts() {
    let server = Server::start().await;
    for _ in 0..3 {
        server.negotiation(503, &[], "");
    }
    let mut policy = hasty();
    policy.attempts_max = Some(3);
    let mut sessions = Sessions::new(server.options(), policy).unwrap();
    let error = soon(sessions.next()).await.map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }));
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn a_server_that_drops_connections_at_once_is_approached_ever_more_slowly() {
    let mut server = Server::start().await;
    let mut sessions = Sessions::new(server.options(), hasty()).unwrap();
    let mut state = sessions.state();
    let dropping = tokio::spawn(async move {
        loop {
            drop(server.peer().await);
        }
    });
    let retrying = tokio::spawn(async move {
        loop {
            let (connection, _incoming) = sessions.next().await.unwrap();
            connection.ended().await;
        }
    });
    let growing =
        |state: &State| matches!(state, State::Reconnecting { failures, .. } if *failures >= 5);
    assert!(soon(state.wait_for(growing)).await.is_ok());
    dropping.abort();
    retrying.abort();
}

#[tokio::test]
async fn handlers_run_in_order_and_their_results_go_back() {
    let mut server = Server::start().await;
    let (sender, mut seen) = mpsc::unbounded_channel();
    let client = client(server.options())
        .on("Greeted", move |(name, n): (String, u32)| {
            let sender = sender.clone();
            async move {
                // A later call must not overtake one that takes longer.
                tokio::time::sleep(Duration::from_millis(u64::from(20 - n))).await;
                sender.send((name, n)).unwrap();
            }
        })
        .answer("add", |(a, b): (i32, i32)| async move {
            a.checked_add(b).ok_or("the sum is too large")
        })
        .on("void", |()| async {})
        .answer("panics", |()| async {
            if true {
                panic!("as planned")
            } else {
                Ok::<_, String>(1)
            }
        })
        .start()
        .unwrap();
    let mut peer = server.peer().await;
    for n in 0..20 {
        peer.call("greeted", json!(["Ada", n])).await;
    }
    for n in 0..20 {
        assert_eq!(soon(seen.recv()).await, Some(("Ada".into(), n)));
    }
    let no_result = json!({"error": "Client didn't provide a result."});
    for (target, arguments, expected) in [
        ("ADD", json!([1, 2]), json!({"result": 3})),
        (
            "add",
            json!([i32::MAX, 1]),
            json!({"error": "the sum is too large"}),
        ),
        (
            "add",
            json!([1]),
            json!({"error": "Client failed to parse argument(s)."}),
        ),
        (
            "add",
            json!(["a", "b"]),
            json!({"error": "Client failed to parse argument(s)."}),
        ),
        ("unknown", json!([]), no_result.clone()),
        ("void", json!([]), no_result.clone()),
        ("panics", json!([]), no_result),
        ("add", json!([2, 2]), json!({"result": 4})),
    ] {
        peer.send(
            json!({"type": 1, "target": target, "arguments": arguments, "invocationId": "s1"}),
        )
        .await;
        let mut completion = json!({"type": 3, "invocationId": "s1"});
        completion
            .as_object_mut()
            .unwrap()
            .extend(expected.as_object().unwrap().clone());
        assert_eq!(
            peer.record().await,
            Some(completion),
            "{target} {arguments}"
        );
    }
    drop(client);
    assert_eq!(peer.record().await, Some(json!({"type": 7})));
}

#[tokio::test]
async fn a_client_says_that_it_is_not_connected_and_later_that_it_is_again() {
    let address = unused_address().await;
    let options = Options::new(&format!("http://{address}/hub")).unwrap();
    let client = client(options).start().unwrap();
    assert_eq!(client.send("x", ()).await, Err(CallError::NotConnected));
    let mut server = Server::on(TcpListener::bind(address).await.unwrap());
    for round in 0..2 {
        let mut peer = soon(server.peer()).await;
        let connection = soon(client.connected()).await.unwrap();
        client.send("x", (round,)).await.unwrap();
        assert_eq!(peer.record().await.unwrap()["arguments"], json!([round]));
        drop(peer);
        soon(connection.ended()).await;
        let gone = |state: &State| !matches!(state, State::Connected { .. });
        soon(client.state().wait_for(gone)).await.unwrap();
    }
}

#[tokio::test]
async fn a_stopped_client_says_goodbye_and_gives_no_connection_any_more() {
    let mut server = Server::start().await;
    let client = client(server.options()).start().unwrap();
    let mut peer = server.peer().await;
    soon(client.connected()).await.unwrap();
    let (_, last) = tokio::join!(soon(client.stop()), async {
        let last = peer.record().await;
        assert_eq!(peer.record().await, None);
        last
    });
    assert_eq!(last, Some(json!({"type": 7})));
    let why = Error::Closed(Closed::ByClient);
    assert_eq!(client.connected().await.map(|_| ()), Err(why.clone()));
    assert_eq!(*client.state().borrow(), State::Closed { why });
    assert_eq!(client.send("x", ()).await, Err(CallError::NotConnected));
    soon(client.stop()).await;
}

#[tokio::test]
async fn a_client_that_cannot_connect_stops_at_once() {
    let options = Options::new(&format!("http://{}/hub", unused_address().await)).unwrap();
    let client = Client::builder(options).start().unwrap();
    soon(client.stop()).await;
    assert_eq!(
        client.connected().await.map(|_| ()),
        Err(Error::Closed(Closed::ByClient))
    );
}
