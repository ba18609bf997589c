//! TLS: one configuration for negotiation and for the WebSocket.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::serve::Listener;
use signalr_client::rustls::crypto::aws_lc_rs;
use signalr_client::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use signalr_client::rustls::{ClientConfig, RootCertStore, ServerConfig};
use signalr_client::{Connection, Error, Options};
use signalr_server::{Caller, Hub, HubError, HubServer, Methods};
use support::soon;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

struct Echo;

impl Hub for Echo {
    fn methods(methods: Methods<Self>) -> Methods<Self> {
        methods.on("echo", echo)
    }
}

async fn echo(_: Arc<Echo>, _: Caller<Echo>, text: String) -> Result<String, HubError> {
    Ok(text)
}

struct TlsListener {
    tcp: TcpListener,
    tls: TlsAcceptor,
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = self.tcp.accept().await.unwrap();
            if let Ok(stream) = self.tls.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.tcp.local_addr()
    }
}

/// A hub behind a certificate of its own, and a configuration that trusts it.
async fn serve() -> (SocketAddr, Arc<ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let certificate: CertificateDer<'static> = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let listener = TlsListener {
        tcp,
        tls: Arc::new(server).into(),
    };
    let router: axum::Router = HubServer::new(Echo).router("/hub");
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, Arc::new(client))
}

#[tokio::test]
async fn a_server_with_a_trusted_certificate_is_reached_with_and_without_negotiation() {
    let (address, tls) = serve().await;
    for (scheme, skip_negotiation) in [("https", false), ("wss", true)] {
        let options = Options::new(&format!("{scheme}://{address}/hub")).unwrap();
        let options = options.with(|options| {
            options.tls = Some(tls.clone());
            options.skip_negotiation = skip_negotiation;
        });
        let (connection, _incoming) = soon(Connection::connect(options)).await.unwrap();
        let echoed = soon(connection.invoke::<String>("echo", ("hello",))).await;
        assert_eq!(echoed, Ok("hello".into()));
    }
}

#[tokio::test]
async fn a_certificate_nobody_trusts_is_named_as_the_reason() {
    let (address, _) = serve().await;
    for skip_negotiation in [false, true] {
        let options = Options::new(&format!("https://{address}/hub"))
            .unwrap()
            .with(|options| options.skip_negotiation = skip_negotiation);
        let error = soon(Connection::connect(options))
            .await
            .map(|_| ())
            .unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error}");
        assert!(error.to_string().contains("certificate"), "{error}");
    }
}
