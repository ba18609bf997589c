//! From an address to a stream of bytes: TCP, and TLS where the address asks for it.
//!
//! The one place where a proxy will come in: nothing else opens a connection for a transport.

use std::fmt;
use std::sync::{Arc, OnceLock};

use reqwest::Url;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, ClientConfig};

use crate::Error;

/// How to speak TLS; shared by negotiation and transports.
pub(crate) type Tls = Arc<ClientConfig>;

/// The bytes of one connection, encrypted or not.
pub(crate) type Stream = Box<dyn Io>;

/// Both directions in one, so that they can be boxed together.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin + fmt::Debug {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + fmt::Debug> Io for T {}

pub(crate) async fn dial(url: &Url, tls: &Tls) -> Result<Stream, Error> {
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return Err(Error::Options {
            detail: "the address names no host".into(),
        });
    };
    // An IPv6 address stands in brackets in an address, and without them everywhere else.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let unreachable = |what: &str, error: std::io::Error| {
        Error::unreachable(format!("{what} {host}:{port}: {error}"))
    };
    let tcp = TcpStream::connect((host, port))
        .await
        .map_err(|error| unreachable("connect to", error))?;
    // Messages are small and answered: waiting to fill a packet only delays them.
    tcp.set_nodelay(true)
        .map_err(|error| unreachable("set up the connection to", error))?;
    if url.scheme() != "https" {
        return Ok(Box::new(tcp));
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|_| Error::Options {
        detail: format!("{host:?} is no name a certificate has"),
    })?;
    let stream = TlsConnector::from(for_websocket(tls))
        .connect(name, tcp)
        .await
        .map_err(|error| unreachable("TLS with", error))?;
    Ok(Box::new(stream))
}

/// The upgrade to a WebSocket exists in HTTP/1.1 only, so nothing else may be agreed on.
fn for_websocket(tls: &Tls) -> Tls {
    let mut config = ClientConfig::clone(tls);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// Trusts what the operating system trusts. Reading its certificates takes long, so it is done once.
pub(crate) fn platform_tls() -> Result<Tls, Error> {
    static PLATFORM: OnceLock<Result<Tls, rustls::Error>> = OnceLock::new();
    PLATFORM
        .get_or_init(|| {
            let provider = Arc::new(aws_lc_rs::default_provider());
            let config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()?
                .with_platform_verifier()?
                .with_no_client_auth();
            Ok(Arc::new(config))
        })
        .clone()
        .map_err(|error| Error::Options {
            detail: format!("TLS cannot be set up: {error}"),
        })
}
