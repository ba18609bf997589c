//! From options to a connection that has shaken hands.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use signalr_protocol::RecordSplitter;
use signalr_protocol::handshake::{ResponseError, decode_response};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::connection::{Facts, Held, Shared};
use crate::dial::{Tls, platform_tls};
use crate::driver::{self, Established, Times};
use crate::negotiate::{Destination, negotiate};
use crate::transport::{Link, connect_websocket};
use crate::{Closed, Connection, Error, Incoming, Options, codec};

/// Makes connections with the same options, one or many. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Connector {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: Options,
    http: reqwest::Client,
    tls: Tls,
}

impl Connector {
    /// Prepares HTTP and TLS.
    ///
    /// # Errors
    ///
    /// [`Error::Options`] when TLS cannot be set up on this machine.
    pub fn new(options: Options) -> Result<Self, Error> {
        let tls = match &options.tls {
            Some(tls) => Arc::clone(tls),
            None => platform_tls()?,
        };
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(rustls_config(&tls))
            .connect_timeout(options.connect_timeout)
            // Negotiation goes the way the transport goes, or what it finds out is worth nothing.
            .no_proxy()
            // The next negotiation is hours away, or the server is gone: an idle socket only costs both sides.
            .pool_max_idle_per_host(0)
            .user_agent(USER_AGENT)
            .build()
            .map_err(|error| Error::Options {
                detail: format!("HTTP cannot be set up: {error}"),
            })?;
        Ok(Self {
            inner: Arc::new(Inner { options, http, tls }),
        })
    }

    /// What it connects with.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.inner.options
    }

    /// Negotiates, connects and shakes hands, once. Dropped on the way, it leaves nothing behind on this side.
    ///
    /// # Errors
    ///
    /// [`Error`], by what can be done about it.
    pub async fn connect(&self) -> Result<(Connection, Incoming), Error> {
        let options = &self.inner.options;
        let destination = match options.skip_negotiation {
            true => Destination::hub(options),
            false => negotiate(&self.inner.http, options).await?,
        };
        let link = self.attach(&destination).await?;
        let established = within(options.handshake_timeout, "shake hands", async {
            shake_hands(link, options.receive_bytes_max).await
        })
        .await?;
        Ok(start(options, established, facts(&destination)))
    }

    async fn attach(&self, destination: &Destination) -> Result<Link, Error> {
        let options = &self.inner.options;
        let authorization = destination.authorization().await?;
        let socket = connect_websocket(options, &self.inner.tls, &destination.url, authorization);
        let attached = within(options.connect_timeout, "connect", socket).await;
        match (attached, &destination.offer) {
            // The server has forgotten what it offered a moment ago: another one answered, or it was restarted.
            (Err(Error::Refused { detail }), Some(_)) => Err(Error::unreachable(detail)),
            (attached, _) => attached,
        }
    }
}

async fn within<T>(
    limit: Duration,
    what: &str,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    timeout(limit, work).await.unwrap_or_else(|_| {
        Err(Error::unreachable(format!(
            "could not {what} within {limit:?}"
        )))
    })
}

async fn shake_hands(mut link: Link, receive_bytes_max: usize) -> Result<Established, Error> {
    let before_hello = |why: Closed| match why {
        Closed::Protocol { detail } => Error::Protocol { detail },
        why => Error::unreachable(format!("before the handshake was answered: {why}")),
    };
    link.sender
        .send(codec::handshake_request())
        .await
        .map_err(before_hello)?;
    let mut splitter = RecordSplitter::new(Some(receive_bytes_max));
    loop {
        let Some(chunk) = link.receiver.receive().await.map_err(before_hello)? else {
            return Err(Error::unreachable(
                "the server ended it before the handshake was answered",
            ));
        };
        let mut records = splitter.feed(&chunk);
        let Some(record) = records.next() else {
            continue;
        };
        let record = record.map_err(|error| Error::Protocol {
            detail: error.to_string(),
        })?;
        decode_response(&record).map_err(handshake_refused)?;
        let early: Bytes = chunk.slice_ref(records.rest());
        return Ok(Established {
            link,
            splitter,
            early,
        });
    }
}

fn handshake_refused(error: ResponseError) -> Error {
    match error {
        ResponseError::Refused { error } => Error::Refused { detail: error },
        error => Error::Protocol {
            detail: error.to_string(),
        },
    }
}

fn facts(destination: &Destination) -> Facts {
    match &destination.offer {
        None => Facts::default(),
        Some(offer) => Facts {
            id: Some(offer.connection_id.clone()),
            token_lifetime: offer.token_lifetime_seconds.map(Duration::from_secs),
        },
    }
}

fn start(options: &Options, established: Established, facts: Facts) -> (Connection, Incoming) {
    let shared = Arc::new(Shared::new(options, facts));
    let (sender, receiver) = mpsc::channel(options.incoming_max.max(1));
    let times = Times::from(options);
    tokio::spawn(driver::run(established, Arc::clone(&shared), sender, times));
    let held = Arc::new(Held { shared });
    (
        Connection::new(Arc::clone(&held)),
        Incoming::new(receiver, held),
    )
}

/// The HTTP library takes the configuration itself and not a share in it.
fn rustls_config(tls: &Tls) -> tokio_rustls::rustls::ClientConfig {
    tokio_rustls::rustls::ClientConfig::clone(tls)
}

const USER_AGENT: &str = concat!("signalr-client/", env!("CARGO_PKG_VERSION"));
