//! Connections: what the server sees of them, how they end and come back, tokens, transports.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use signalr_client::{
    CallError, Client, Closed, Connection, Error, ReconnectPolicy, State, Transport,
};
use tokio::sync::mpsc;

use crate::world::{World, connect, soon};
use crate::{Case, every, once};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        every(
            "life: id and transport as the server sees them",
            id_and_transport,
        ),
        every("life: headers and query arrive", headers_and_query),
        every("life: closed by the client, gone at the server", close),
        every("life: nobody holds it, gone at the server", nobody_holds_it),
        every("life: the server ends it", abort),
        every("life: a goodbye says whether to return", goodbye),
        every(
            "life: an over-long message ends it, and it may return",
            too_large,
        ),
        every("life: idle for longer than pings and timeouts", idle),
        every(
            "life: sent back, it returns with handlers and a new id",
            returns,
        ),
        every("life: calls that wait are told of the end", waiting_calls),
        every("life: ten come and go", come_and_go),
        every("token: none is refused", no_token),
        every("token: the user and the claims", user),
        every("token: all connections of a user", to_user),
        every("token: at its end the client returns with another", expires),
        once(
            "transports: a WebSocket without negotiation",
            skip_negotiation,
        ),
        once("transports: the first that the client allows", preference),
        once("transports: negotiation of version 0", version_0),
        once("transports: an unknown hub is refused", unknown_hub),
    ]
}

async fn id_and_transport(world: World) {
    let peer = world.connect().await;
    let got: String = soon(peer.connection.invoke("GetConnectionId", ()))
        .await
        .unwrap();
    assert_eq!(got, peer.id());
    let got: String = soon(peer.connection.invoke("GetTransport", ()))
        .await
        .unwrap();
    assert_eq!(got, world.way.transport.name());
    assert_eq!(peer.connection.transport(), world.way.transport);
}

async fn headers_and_query(world: World) {
    let options = world
        .at("/conformance?colour=blue%20sky")
        .header("x-site", "lyon");
    let peer = connect(options.unwrap()).await;
    for (target, name, expected) in [
        ("GetHeader", "x-site", Some("lyon")),
        ("GetQuery", "colour", Some("blue sky")),
        ("GetQuery", "nothing", None),
    ] {
        let got: Option<String> = soon(peer.connection.invoke(target, (name,))).await.unwrap();
        assert_eq!(got.as_deref(), expected, "{target} {name}");
    }
}

/// Waits until the server knows the connection no more.
async fn gone(world: &World, id: &str) {
    let observer = world.connect().await;
    soon(async {
        while observer
            .connection
            .invoke::<bool>("IsConnected", (id,))
            .await
            .unwrap()
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

async fn close(world: World) {
    let peer = world.connect().await;
    let here: bool = soon(peer.connection.invoke("IsConnected", (peer.id(),)))
        .await
        .unwrap();
    assert!(here);
    assert_eq!(soon(peer.connection.close()).await, Closed::ByClient);
    let got = peer.connection.invoke::<i32>("Echo", (1,)).await;
    assert_eq!(got, Err(CallError::Closed(Closed::ByClient)));
    gone(&world, &peer.id()).await;
}

async fn nobody_holds_it(world: World) {
    let peer = world.connect().await;
    let id = peer.id();
    drop(peer);
    gone(&world, &id).await;
}

async fn abort(world: World) {
    let peer = world.connect().await;
    peer.connection.send("Abort", ()).await.unwrap();
    let why = soon(peer.connection.ended()).await;
    assert!(!why.may_return(), "{why}");
    gone(&world, &peer.id()).await;
}

async fn goodbye(world: World) {
    for (error, allow_reconnect) in [(None, true), (None, false), (Some("bye"), false)] {
        let peer = world.connect().await;
        let arguments = (error, allow_reconnect);
        peer.connection.send("CloseMe", arguments).await.unwrap();
        let expected = Closed::ByServer {
            error: error.map(str::to_owned),
            allow_reconnect,
        };
        assert_eq!(soon(peer.connection.ended()).await, expected);
    }
}

async fn too_large(world: World) {
    let peer = world.connect().await;
    let got = soon(
        peer.connection
            .invoke::<i32>("Length", ("x".repeat(40_000),)),
    )
    .await;
    let Err(CallError::Closed(why)) = got else {
        panic!("{got:?}")
    };
    assert!(why.may_return(), "{why}");
}

async fn idle(world: World) {
    let options = world.options().with(|options| {
        options.keep_alive_interval = Duration::from_millis(500);
        options.server_timeout = Duration::from_secs(4);
    });
    let peer = connect(options).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(
        soon(peer.connection.invoke::<i32>("Echo", (1,))).await,
        Ok(1)
    );
}

fn quickly() -> ReconnectPolicy {
    let mut policy = ReconnectPolicy::default();
    policy.ceiling_first = Duration::from_millis(10);
    policy
}

async fn returned(client: &Client, first: &Connection) -> Connection {
    let first = first.id();
    let is_new = |state: &State| matches!(state, State::Connected { id } if id.as_deref() != first);
    soon(client.state().wait_for(is_new)).await.unwrap();
    soon(client.connected()).await.unwrap()
}

async fn returns(world: World) {
    let (sender, mut heard) = mpsc::unbounded_channel();
    let client = Client::builder(world.options())
        .reconnect(quickly())
        .on("hear", move |n: i32| {
            let sender = sender.clone();
            async move { sender.send(n).unwrap() }
        })
        .answer("double", |n: i32| async move { Ok::<_, String>(n * 2) })
        .start()
        .unwrap();
    let first = soon(client.connected()).await.unwrap();
    first.send("CloseMe", (None::<String>, true)).await.unwrap();
    let second = returned(&client, &first).await;
    soon(second.invoke::<()>("CallMe", ("hear", [7])))
        .await
        .unwrap();
    assert_eq!(soon(heard.recv()).await, Some(7));
    assert_eq!(
        soon(second.invoke::<i32>("AskMe", ("double", 21))).await,
        Ok(42)
    );
    soon(client.stop()).await;
}

async fn waiting_calls(world: World) {
    let peer = world.connect().await;
    let slow = peer.connection.invoke::<i32>("Slow", (30_000, 1));
    let (got, ()) = tokio::join!(soon(slow), async {
        peer.connection
            .send("CloseMe", (None::<String>, true))
            .await
            .unwrap();
    });
    assert!(matches!(got, Err(CallError::Closed(_))), "{got:?}");
}

async fn come_and_go(world: World) {
    for n in 0..10 {
        let peer = world.connect().await;
        assert_eq!(
            soon(peer.connection.invoke::<i32>("Echo", (n,))).await,
            Ok(n)
        );
        soon(peer.connection.close()).await;
    }
}

async fn no_token(world: World) {
    let rubbish = world.at("/conformance-authorized");
    let rubbish = rubbish.token(|| async { Ok::<_, String>("rubbish".to_owned()) });
    for options in [world.at("/conformance-authorized"), rubbish] {
        let got = soon(Connection::connect(options)).await.map(|_| ());
        assert!(
            matches!(got, Err(Error::Unauthorised { status: 401, .. })),
            "{got:?}"
        );
    }
}

async fn user(world: World) {
    let peer = connect(world.as_user("ada", HOUR)).await;
    let got: String = soon(peer.connection.invoke("GetUserId", ())).await.unwrap();
    assert_eq!(got, "ada");
    let claims: Value = soon(peer.connection.invoke("GetClaims", ())).await.unwrap();
    assert!(claims.to_string().contains("ada"), "{claims}");
}

async fn to_user(world: World) {
    let name = crate::world::unique("user");
    let mut one = connect(world.as_user(&name, HOUR)).await;
    let mut two = connect(world.as_user(&name, HOUR)).await;
    let other = connect(world.as_user("somebody", HOUR)).await;
    let sending = other
        .connection
        .invoke::<()>("SendToUser", (&name, "hear", 1));
    soon(sending).await.unwrap();
    assert_eq!(one.hears_value::<i32>("hear").await, 1);
    assert_eq!(two.hears_value::<i32>("hear").await, 1);
}

/// Only a refresh, where the server offers it, would keep the first connection; it is switched off here.
async fn expires(world: World) {
    let minted = Arc::new(AtomicU32::new(0));
    let options = world.at("/conformance-authorized");
    let options = options.token({
        let (world, minted) = (world.clone(), Arc::clone(&minted));
        move || {
            // The first two are for the first connection.
            let is_first = minted.fetch_add(1, Ordering::SeqCst) < 2;
            let lifetime = if is_first {
                Duration::from_secs(3)
            } else {
                HOUR
            };
            let token = world.mint("ada", lifetime);
            async move { Ok::<_, String>(token) }
        }
    });
    let options = options.with(|options| options.refresh_before_expiry = None);
    let client = Client::builder(options)
        .reconnect(quickly())
        .start()
        .unwrap();
    let first = soon(client.connected()).await.unwrap();
    let why = soon(first.ended()).await;
    assert!(why.may_return(), "{why}");
    let second = returned(&client, &first).await;
    let got: String = soon(second.invoke("GetUserId", ())).await.unwrap();
    assert_eq!(got, "ada");
    soon(client.stop()).await;
}

async fn skip_negotiation(world: World) {
    let options = world
        .options()
        .with(|options| options.skip_negotiation = true);
    let peer = connect(options).await;
    assert_eq!(peer.connection.id(), None);
    assert_eq!(
        soon(peer.connection.invoke::<i32>("Echo", (1,))).await,
        Ok(1)
    );
}

async fn preference(world: World) {
    for (allowed, expected) in [
        (
            vec![
                Transport::LongPolling,
                Transport::ServerSentEvents,
                Transport::WebSockets,
            ],
            Transport::WebSockets,
        ),
        (
            vec![Transport::LongPolling, Transport::ServerSentEvents],
            Transport::ServerSentEvents,
        ),
    ] {
        let options = world.options().with(|options| options.transports = allowed);
        let peer = connect(options).await;
        assert_eq!(peer.connection.transport(), expected);
    }
}

async fn version_0(world: World) {
    for transport in [Transport::WebSockets, Transport::LongPolling] {
        let options = world.at("/conformance?negotiateVersion=0");
        let peer = connect(options.with(|options| options.transports = vec![transport])).await;
        let got: String = soon(peer.connection.invoke("GetConnectionId", ()))
            .await
            .unwrap();
        assert_eq!(got, peer.id());
    }
}

async fn unknown_hub(world: World) {
    let got = soon(Connection::connect(world.at("/no-such-hub")))
        .await
        .map(|_| ());
    assert!(matches!(got, Err(Error::Refused { .. })), "{got:?}");
}

const HOUR: Duration = Duration::from_secs(3600);
