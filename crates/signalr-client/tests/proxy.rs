//! The way through an HTTP proxy, for HTTP requests and WebSockets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use signalr_client::{Connection, Error, Options, Proxy};
use support::tls::{TlsHub, serve};
use support::{Server, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

/// A proxy that remembers the first head of each connection, and wants these credentials if there are any.
struct TestProxy {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl TestProxy {
    async fn start(credentials: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let seen = heads.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, seen.clone(), credentials));
            }
        });
        Self { address, heads }
    }

    /// The first word of each head, in order.
    fn methods(&self) -> Vec<String> {
        let heads = self.heads.lock().unwrap();
        let method = |head: &String| head.split(' ').next().unwrap().to_owned();
        heads.iter().map(method).collect()
    }
}

async fn carry(
    mut client: TcpStream,
    seen: Arc<Mutex<Vec<String>>>,
    credentials: Option<&'static str>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match client.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let text = String::from_utf8(head.clone()).unwrap();
    seen.lock().unwrap().push(text.clone());
    let wanted = credentials.map(|wanted| format!("proxy-authorization: {wanted}\r\n"));
    if wanted.is_some_and(|wanted| !text.to_lowercase().contains(&wanted.to_lowercase())) {
        let refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";
        let _ = client.write_all(refusal).await;
        return;
    }
    let target = text.split(' ').nth(1).unwrap();
    let is_tunnel = text.starts_with("CONNECT ");
    let authority = match is_tunnel {
        true => target,
        false => target
            .strip_prefix("http://")
            .unwrap()
            .split('/')
            .next()
            .unwrap(),
    };
    let Ok(mut server) = TcpStream::connect(authority).await else {
        let _ = client
            .write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            .await;
        return;
    };
    match is_tunnel {
        true => client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap(),
        false => server.write_all(&head).await.unwrap(),
    }
    let _ = copy_bidirectional(&mut client, &mut server).await;
}

fn through(hub: &TlsHub, proxy: &str) -> Options {
    let options = Options::new(&format!("https://{}/hub", hub.address)).unwrap();
    options.with(|options| {
        options.tls = Some(hub.trusting.clone());
        options.proxy = Some(Proxy::new(proxy).unwrap());
    })
}

#[tokio::test]
async fn an_encrypted_hub_is_reached_through_tunnels_alone() {
    let hub = serve().await;
    // "Aladdin:open sesame"
    for credentials in [None, Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")] {
        let proxy = TestProxy::start(credentials).await;
        let login = credentials.map_or("", |_| "Aladdin:open%20sesame@");
        let options = through(&hub, &format!("http://{login}{}", proxy.address));
        let (connection, _incoming) = soon(Connection::connect(options)).await.unwrap();
        let echoed = soon(connection.invoke::<String>("echo", ("hello",))).await;
        assert_eq!(echoed, Ok("hello".into()));
        assert_eq!(proxy.methods(), ["CONNECT", "CONNECT"]);
    }
}

#[tokio::test]
async fn a_plain_hub_is_reached_by_a_forwarded_negotiation_and_a_tunnel() {
    let mut server = Server::start().await;
    let proxy = TestProxy::start(None).await;
    let options = server.options().with(|options| {
        options.proxy = Some(Proxy::new(&proxy.address.to_string()).unwrap());
    });
    let (connection, _peer) = tokio::join!(Connection::connect(options), server.peer());
    connection.unwrap();
    assert_eq!(proxy.methods(), ["POST", "CONNECT"]);
}

#[tokio::test]
async fn a_proxy_that_wants_other_credentials_is_the_options_fault() {
    let hub = serve().await;
    let plain = Server::start().await;
    let proxy = TestProxy::start(Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")).await;
    let address = format!("http://Aladdin:wrong@{}", proxy.address);
    for skip_negotiation in [false, true] {
        let through_plain = plain
            .options()
            .with(|options| options.proxy = Some(Proxy::new(&address).unwrap()));
        for options in [through(&hub, &address), through_plain] {
            let options = options.with(|options| options.skip_negotiation = skip_negotiation);
            let error = soon(Connection::connect(options))
                .await
                .map(drop)
                .unwrap_err();
            assert!(
                matches!(&error, Error::Options { detail } if detail.contains("407")),
                "{error:?}"
            );
            assert!(!error.to_string().contains("wrong"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_proxy_that_does_not_reach_the_hub_makes_it_unreachable() {
    let proxy = TestProxy::start(None).await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hub", nobody.local_addr().unwrap());
    drop(nobody);
    for skip_negotiation in [false, true] {
        let options = Options::new(&url).unwrap().with(|options| {
            options.proxy = Some(Proxy::new(&proxy.address.to_string()).unwrap());
            options.skip_negotiation = skip_negotiation;
        });
        let error = soon(Connection::connect(options))
            .await
            .map(drop)
            .unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    }
}
