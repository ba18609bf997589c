//! What can be set on a connection, and why the defaults are what they are.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use reqwest::Url;
use signalr_protocol::defaults;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::CertificateDer;

use crate::codec::Codec;
use crate::token::TokenProvider;
use crate::{Encoding, Error, Proxy, Transport, tls};

/// Where to connect and how. The times are those of the official clients where they have them.
#[derive(Clone)]
#[non_exhaustive]
pub struct Options {
    pub(crate) url: Url,
    pub(crate) token: Option<TokenProvider>,
    /// Sent with negotiation and with each connect. Default: none; `Authorization` comes from the token callback.
    pub headers: HeaderMap,
    /// Which transports may be used. Default: all three. The server's list says in which order they are tried; one that
    /// cannot be started is passed over, as official clients do.
    pub transports: Vec<Transport>,
    /// How hub messages are written. Default: JSON, which every server reads and every transport carries. MessagePack is
    /// smaller and carries bytes as they are; it takes WebSockets or long polling, and a server that was told to speak it.
    pub encoding: Encoding,
    /// Asks the server to let another WebSocket take over from one that was lost, with nothing lost or repeated between
    /// (hub protocol version 2). Default: false, as official clients have it. Whether it was granted, and how often it
    /// was used, tells [`Connection::resumptions`](crate::Connection::resumptions).
    pub stateful_reconnect: bool,
    /// How many bytes that the server has not acknowledged are kept to be sent again before nothing more is sent.
    /// Default: 100,000, as official clients have it.
    pub replay_bytes_max: usize,
    /// How long a lost WebSocket is tried to be replaced. Default: 15 s, after which servers forget the connection.
    pub resume_timeout: Duration,
    /// How long before its end a token is refreshed, where the server says at negotiation how long it takes it for good;
    /// a token that lives shorter is refreshed in the middle. Default: 5 minutes, as the .NET client has it. `None` never
    /// refreshes.
    pub refresh_before_expiry: Option<Duration>,
    /// Connects without negotiation, by a WebSocket. Default: false. Saves a round trip where the server is known to offer
    /// WebSockets; the connection then has no id on this side.
    pub skip_negotiation: bool,
    /// How long the negotiation and, after it, the network connection may each take. Default: 15 s.
    pub connect_timeout: Duration,
    /// How long the server may take to shake hands once it is connected. Default: 15 s.
    pub handshake_timeout: Duration,
    /// How often the server is pinged, whatever else is sent. Default: 15 s; servers give a client up after 30 s.
    pub keep_alive_interval: Duration,
    /// How long the server may be silent. Default: 30 s; servers ping every 15 s. The time during which this side does
    /// not read, because [`Incoming`](crate::Incoming) is full, does not count.
    pub server_timeout: Duration,
    /// How long one send may stall before the connection is given up. Default: 10 s.
    pub send_timeout: Duration,
    /// How long a closing connection waits for the server's goodbye. Default: 5 s.
    pub close_timeout: Duration,
    /// Largest hub message received, in bytes, framing included. Default: 16 MiB.
    pub receive_bytes_max: usize,
    /// Largest WebSocket message, server-sent event or answer to a poll received, in bytes: a server may put many hub
    /// messages into one. Default: 64 MiB.
    pub receive_frame_bytes_max: usize,
    /// Largest hub message sent, in bytes, framing included. Default: no limit on this side. ASP.NET Core servers take
    /// 32 KiB unless told otherwise, and close the connection without saying why when a message is larger.
    pub send_bytes_max: Option<usize>,
    /// How many bytes wait to be sent before a sender has to wait. Default: 1 MiB. A single message may be larger.
    pub outbox_bytes_max: usize,
    /// How many invocations wait in [`Incoming`](crate::Incoming) before nothing more is read from the network.
    /// Default: 64. Zero is taken for one.
    pub incoming_max: usize,
    /// How many bytes of stream items may wait for their readers, all streams together, before nothing more is read
    /// from the network. Default: 1 MiB.
    pub stream_bytes_max: usize,
    /// The proxy for HTTP requests and WebSockets. Default: none, whatever the environment says;
    /// [`Proxy::from_environment`] reads it.
    pub proxy: Option<Proxy>,
    /// TLS as a whole: only these roots, client certificates. Default: the platform's certificate store, and what
    /// [`trust`](Self::trust) adds to it.
    pub tls: Option<Arc<ClientConfig>>,
    pub(crate) extra_roots: Vec<CertificateDer<'static>>,
}

impl Options {
    /// Options for the hub at this `http`, `https`, `ws` or `wss` address, and the defaults for the rest.
    ///
    /// # Errors
    ///
    /// [`Error::Options`] when the address is none of these.
    pub fn new(url: &str) -> Result<Self, Error> {
        Ok(Self {
            url: hub_url(url)?,
            token: None,
            headers: HeaderMap::new(),
            transports: vec![
                Transport::WebSockets,
                Transport::ServerSentEvents,
                Transport::LongPolling,
            ],
            encoding: Encoding::Json,
            stateful_reconnect: false,
            replay_bytes_max: 100_000,
            resume_timeout: Duration::from_secs(15),
            refresh_before_expiry: Some(Duration::from_secs(300)),
            skip_negotiation: false,
            connect_timeout: defaults::HANDSHAKE_TIMEOUT,
            handshake_timeout: defaults::HANDSHAKE_TIMEOUT,
            keep_alive_interval: defaults::KEEP_ALIVE_INTERVAL,
            server_timeout: defaults::PEER_TIMEOUT,
            send_timeout: defaults::SEND_TIMEOUT,
            close_timeout: defaults::CLOSE_TIMEOUT,
            receive_bytes_max: 16 * 1024 * 1024,
            receive_frame_bytes_max: 64 * 1024 * 1024,
            send_bytes_max: None,
            outbox_bytes_max: 1024 * 1024,
            incoming_max: 64,
            stream_bytes_max: 1024 * 1024,
            proxy: None,
            tls: None,
            extra_roots: Vec::new(),
        })
    }

    /// Sets the callback that gives the bearer token. It is called for the negotiation and again for each connect, so
    /// it should keep a token until shortly before it expires.
    #[must_use]
    pub fn token<F, Fut, E>(mut self, callback: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<String, E>> + Send + 'static,
        E: fmt::Display + Send + 'static,
    {
        self.token = Some(TokenProvider::new(callback));
        self
    }

    /// Adds a header to negotiation and connects.
    ///
    /// # Errors
    ///
    /// [`Error::Options`] when name or value may not stand in a header.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, Error> {
        let bad = |what| Error::Options {
            detail: format!("the header {name:?} has {what}"),
        };
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad("an invalid name"))?;
        let value = HeaderValue::from_str(value).map_err(|_| bad("an invalid value"))?;
        self.headers.append(key, value);
        Ok(self)
    }

    /// Trusts the authorities in this PEM text besides those of the platform: for a server, or a proxy that looks into
    /// TLS, whose certificate a company made itself. Has no effect when [`tls`](Self::tls) is set.
    ///
    /// # Errors
    ///
    /// [`Error::Options`] when there is no certificate in it, or one that cannot be read.
    pub fn trust(mut self, pem: &[u8]) -> Result<Self, Error> {
        self.extra_roots.extend(tls::read_pem(pem)?);
        Ok(self)
    }

    pub(crate) fn codec(&self) -> Codec {
        Codec(self.encoding)
    }

    /// Changes any of the public fields within a chain of calls.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// Leaves out the token, and the values of headers, which may be secrets too.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("url", &self.url.as_str())
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("skip_negotiation", &self.skip_negotiation)
            .finish_non_exhaustive()
    }
}

/// The address over HTTP: negotiation needs it, and the WebSocket address follows from it.
pub(crate) fn hub_url(text: &str) -> Result<Url, Error> {
    let bad = |why: &str| Error::Options {
        detail: format!("the address {text:?} {why}"),
    };
    let text = match text.split_once("://") {
        Some(("ws", rest)) => format!("http://{rest}"),
        Some(("wss", rest)) => format!("https://{rest}"),
        _ => text.to_owned(),
    };
    let mut url = Url::parse(&text).map_err(|error| bad(&format!("cannot be read: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(bad("must begin with http, https, ws or wss"));
    }
    url.set_fragment(None);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn websocket_addresses_are_taken_for_their_http_ones() {
        assert_eq!(
            hub_url("ws://h:1/hub?a=b#f").unwrap().as_str(),
            "http://h:1/hub?a=b"
        );
        assert_eq!(hub_url("wss://h/hub").unwrap().as_str(), "https://h/hub");
    }

    #[test]
    fn other_addresses_are_refused_with_their_text() {
        for url in ["", "hub", "ftp://h/hub", "http://"] {
            let error = Options::new(url).unwrap_err();
            assert!(
                matches!(&error, Error::Options { detail } if detail.contains(url)),
                "{error}"
            );
        }
    }

    #[test]
    fn a_token_is_never_shown() {
        let options = Options::new("http://h/")
            .unwrap()
            .token(|| async { Ok::<_, String>("s3cret".into()) })
            .header("x-key", "s3cret")
            .unwrap();
        assert!(!format!("{options:?}").contains("s3cret"));
    }
}
