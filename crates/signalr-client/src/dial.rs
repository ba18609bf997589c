//! From an address to a stream of bytes: TCP, a proxy's tunnel where there is one, and TLS where the address asks for
//! it. Nothing else opens a connection for a WebSocket.

use std::fmt;
use std::io;

use http::header::{HOST, PROXY_AUTHORIZATION, USER_AGENT};
use http::{Method, Request};
use hyper_util::rt::TokioIo;
use reqwest::Url;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::Error;
use crate::error::with_causes;
use crate::proxy::{Hop, Proxy};
use crate::tls::{self, Tls};

/// The bytes of one connection, encrypted or not.
pub(crate) type Stream = Box<dyn Io>;

/// Both directions in one, so that they can be boxed together.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin + fmt::Debug {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + fmt::Debug> Io for T {}

pub(crate) async fn dial(url: &Url, tls: &Tls, proxy: Option<&Proxy>) -> Result<Stream, Error> {
    let target = Target::of(url)?;
    let stream = match proxy.and_then(|proxy| proxy.hop(url)) {
        None => connect(&target).await?,
        Some(hop) => tunnel(&target, &hop, tls).await?,
    };
    target.encrypt_if_asked(stream, tls).await
}

/// Where one TCP connection leads.
struct Target {
    host: String,
    port: u16,
    is_encrypted: bool,
}

impl Target {
    fn of(url: &Url) -> Result<Self, Error> {
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return Err(Error::Options {
                detail: "the address names no host".into(),
            });
        };
        // An IPv6 address stands in brackets in an address, and without them everywhere else.
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Ok(Self {
            host: host.to_owned(),
            port,
            is_encrypted: url.scheme() == "https",
        })
    }

    /// As it stands in a `CONNECT` request, brackets included.
    fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        }
    }

    fn unreachable(&self, what: &str, error: impl fmt::Display) -> Error {
        Error::unreachable(format!("{what} {}: {error}", self.authority()))
    }

    async fn encrypt_if_asked(&self, stream: Stream, tls: &Tls) -> Result<Stream, Error> {
        if !self.is_encrypted {
            return Ok(stream);
        }
        let name = ServerName::try_from(self.host.clone()).map_err(|_| Error::Options {
            detail: format!("{:?} is no name a certificate has", self.host),
        })?;
        let stream = TlsConnector::from(tls::for_websocket(tls))
            .connect(name, stream)
            .await
            .map_err(|error| self.unreachable("TLS with", error))?;
        Ok(Box::new(stream))
    }
}

async fn connect(target: &Target) -> Result<Stream, Error> {
    let stream = async {
        let tcp = TcpStream::connect((target.host.as_str(), target.port)).await?;
        // Messages are small and answered: waiting to fill a packet only delays them.
        tcp.set_nodelay(true)?;
        Ok::<_, io::Error>(tcp)
    };
    match stream.await {
        Ok(tcp) => Ok(Box::new(tcp)),
        Err(error) => Err(target.unreachable("connect to", error)),
    }
}

/// Asks the proxy for a tunnel (RFC 9110, section 9.3.6).
async fn tunnel(target: &Target, hop: &Hop, tls: &Tls) -> Result<Stream, Error> {
    let proxy = Target::of(&hop.url)?;
    let stream = connect(&proxy).await?;
    let stream = proxy.encrypt_if_asked(stream, tls).await?;
    let failed = |error: hyper::Error| proxy.unreachable("the proxy", with_causes(&error));
    let (mut requests, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    // It ends with the answer's last holder, and so also when this future is dropped.
    tokio::spawn(connection.with_upgrades());
    let request = connect_request(target, hop)?;
    let answer = requests.send_request(request).await.map_err(failed)?;
    if !answer.status().is_success() {
        return Err(refused(&proxy, answer.status().as_u16()));
    }
    let upgraded = hyper::upgrade::on(answer).await.map_err(failed)?;
    Ok(Box::new(TokioIo::new(upgraded)))
}

fn connect_request(target: &Target, hop: &Hop) -> Result<Request<String>, Error> {
    let authority = target.authority();
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri(authority.as_str())
        .header(HOST, authority.as_str())
        .header(USER_AGENT, crate::connect::USER_AGENT);
    if let Some(authorization) = &hop.authorization {
        request = request.header(PROXY_AUTHORIZATION, authorization);
    }
    request.body(String::new()).map_err(|_| Error::Options {
        detail: "the address does not work for a proxy".into(),
    })
}

/// A proxy that wants other credentials, or forbids the target, does so until somebody mends it.
fn refused(proxy: &Target, status: u16) -> Error {
    let detail = format!("the proxy {} answered {status}", proxy.authority());
    match status {
        407 => Error::proxy_credentials(),
        408 | 425 | 429 | 500.. => Error::unreachable(detail),
        _ => Error::Refused { detail },
    }
}
