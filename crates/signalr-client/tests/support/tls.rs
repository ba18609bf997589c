//! A hub that speaks TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::serve::Listener;
use signalr_client::rustls::crypto::aws_lc_rs;
use signalr_client::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use signalr_client::rustls::{ClientConfig, RootCertStore, ServerConfig};
use signalr_server::{Caller, Hub, HubError, HubServer, Methods};
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

/// A hub behind a certificate of its own.
pub(crate) struct TlsHub {
    pub(crate) address: SocketAddr,
    /// Trusts it, and nobody else.
    pub(crate) trusting: Arc<ClientConfig>,
    pub(crate) certificate_pem: String,
}

pub(crate) async fn serve() -> TlsHub {
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
    TlsHub {
        address,
        trusting: Arc::new(client),
        certificate_pem: made.cert.pem(),
    }
}
