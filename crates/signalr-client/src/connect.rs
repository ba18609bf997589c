//! From options to a connection that has shaken hands.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::Url;
use signalr_protocol::RecordSplitter;
use signalr_protocol::handshake::{ResponseError, decode_response};
use signalr_protocol::negotiate::TransportOffer;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::connection::{Facts, Held, Shared};
use crate::driver::{self, Established, Limits, Upkeep};
use crate::negotiate::{Destination, asks_for_resumption, negotiate};
use crate::refresh::Refresher;
use crate::tls::{self, Tls};
use crate::token::Credentials;
use crate::transport::{
    Link, Requests, connect_long_polling, connect_server_sent_events, connect_websocket,
};
use crate::{Closed, Connection, Encoding, Error, Incoming, Options, ReconnectPolicy, Transport};

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
    /// [`Error::Options`] when TLS cannot be set up on this machine, or when none of the transports carries the encoding.
    pub fn new(options: Options) -> Result<Self, Error> {
        can_carry(&options)?;
        let tls = tls::from_options(&options)?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(rustls_config(&tls))
            .connect_timeout(options.connect_timeout)
            // What the options say goes, not what the environment does.
            .no_proxy()
            // Polls and posts follow each other; the next negotiation is hours away, and an idle socket costs both sides.
            .pool_idle_timeout(POOL_IDLE)
            .user_agent(USER_AGENT);
        let http = match &options.proxy {
            Some(proxy) => proxy.apply(http)?,
            None => http,
        };
        let http = http.build().map_err(|error| Error::Options {
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
    /// A transport that cannot be started is passed over for the next that server and options allow, after another
    /// negotiation, as official clients do.
    ///
    /// # Errors
    ///
    /// [`Error`], by what can be done about it.
    pub async fn connect(&self) -> Result<(Connection, Incoming), Error> {
        let options = &self.inner.options;
        let (link, session) = match options.skip_negotiation {
            true => self.attach_unnegotiated().await?,
            false => self.attach().await?,
        };
        let hello = options.codec().handshake_request(session.facts.is_stateful);
        let established = within(options.handshake_timeout, "shake hands", async {
            shake_hands(link, hello, options.receive_bytes_max).await
        })
        .await?;
        Ok(self.start(established, session))
    }

    async fn attach_unnegotiated(&self) -> Result<(Link, Session), Error> {
        if !self
            .inner
            .options
            .transports
            .contains(&Transport::WebSockets)
        {
            return Err(Error::Options {
                detail: "only WebSockets can be connected without negotiation".into(),
            });
        }
        self.open(Destination::hub(&self.inner.options), Transport::WebSockets)
            .await
    }

    async fn attach(&self) -> Result<(Link, Session), Error> {
        let options = &self.inner.options;
        let mut failures = Failures::default();
        loop {
            let destination = negotiate(&self.inner.http, options).await?;
            let Some(transport) = failures.next_transport(&destination, options) else {
                return Err(failures.into_error(&destination, options.encoding));
            };
            match self.open(destination, transport).await {
                Ok(attached) => return Ok(attached),
                // These are not the transport's fault, so another one fares no better.
                Err(error @ (Error::Token { .. } | Error::Unauthorised { status: 401, .. })) => {
                    return Err(error);
                }
                Err(error) => {
                    tracing::debug!(transport = transport.name(), %error, "a transport does not start");
                    failures.tried.push((transport, error));
                }
            }
        }
    }

    async fn open(&self, at: Destination, transport: Transport) -> Result<(Link, Session), Error> {
        let options = &self.inner.options;
        let credentials = Arc::new(at.credentials());
        let requests = || {
            Arc::new(Requests::new(
                self.inner.http.clone(),
                at.url.clone(),
                options.headers.clone(),
                Arc::clone(&credentials),
            ))
        };
        let bytes_max = options.receive_frame_bytes_max;
        let opened = within(options.connect_timeout, "connect", async {
            match transport {
                Transport::WebSockets => {
                    let authorization = credentials.current().await?;
                    connect_websocket(options, &self.inner.tls, &at.url, authorization).await
                }
                Transport::ServerSentEvents => {
                    connect_server_sent_events(requests(), bytes_max).await
                }
                Transport::LongPolling => connect_long_polling(requests(), bytes_max).await,
            }
        });
        let link = match (opened.await, &at.offer) {
            // The server has forgotten what it offered a moment ago: another one answered, or it was restarted.
            (Err(Error::Refused { detail }), Some(_)) => return Err(Error::unreachable(detail)),
            (opened, _) => opened?,
        };
        let facts = facts(&at, transport, options);
        let redial = facts.is_stateful.then(|| Redial {
            connector: self.clone(),
            url: at.url.clone(),
            credentials: Arc::clone(&credentials),
        });
        let session = Session {
            facts,
            redial,
            refresh: Refresher::new(&self.inner.http, options, &at, &credentials),
        };
        Ok((link, session))
    }

    fn start(&self, established: Established, session: Session) -> (Connection, Incoming) {
        let options = &self.inner.options;
        let Session {
            facts,
            redial,
            refresh,
        } = session;
        let limits = Limits::new(options, facts.transport);
        let shared = Arc::new(Shared::new(options, facts));
        let (sender, receiver) = mpsc::channel(options.incoming_max.max(1));
        let task = driver::run(
            established,
            Arc::clone(&shared),
            sender,
            limits,
            Upkeep { redial, refresh },
        );
        tokio::spawn(task);
        let held = Arc::new(Held { shared });
        (
            Connection::new(Arc::clone(&held)),
            Incoming::new(receiver, held),
        )
    }
}

/// What goes with a live transport.
struct Session {
    facts: Facts,
    redial: Option<Redial>,
    refresh: Option<Refresher>,
}

/// Opens another WebSocket for a connection that has lost its own.
#[derive(Debug)]
pub(crate) struct Redial {
    connector: Connector,
    url: Url,
    credentials: Arc<Credentials>,
}

impl Redial {
    /// Tries until it works, the server refuses, or the time is up.
    pub(crate) async fn run(&self) -> Result<Link, Error> {
        let limit = self.connector.inner.options.resume_timeout;
        within(limit, "resume", self.try_again_and_again()).await
    }

    async fn try_again_and_again(&self) -> Result<Link, Error> {
        let policy = ReconnectPolicy::default();
        let mut failures = 0;
        loop {
            match self.once().await {
                Err(Error::Unreachable { retry_after, .. }) => {
                    failures += 1;
                    sleep(policy.pause(failures, retry_after, rand::random())).await;
                }
                opened => return opened,
            }
        }
    }

    async fn once(&self) -> Result<Link, Error> {
        let Inner { options, tls, .. } = &*self.connector.inner;
        within(options.connect_timeout, "connect", async {
            let authorization = self.credentials.renew().await?;
            connect_websocket(options, tls, &self.url, authorization).await
        })
        .await
    }
}

/// The transports that did not start.
#[derive(Default)]
struct Failures {
    tried: Vec<(Transport, Error)>,
}

impl Failures {
    /// The first of the server's list that both sides can use and that was not tried yet.
    fn next_transport(&self, at: &Destination, options: &Options) -> Option<Transport> {
        let format = options.codec().transfer_format();
        let offers = at.offer.iter().flat_map(|offer| &offer.transports);
        offers
            .filter(|offer| offer.carries(format))
            .filter_map(TransportOffer::kind)
            .filter(|transport| transport.formats().contains(&format))
            .filter(|transport| options.transports.contains(transport))
            .find(|transport| self.tried.iter().all(|(tried, _)| tried != transport))
    }

    /// What the caller does next is what the best of the failures calls for.
    fn into_error(mut self, at: &Destination, encoding: Encoding) -> Error {
        match self.tried.len() {
            0 => nothing_in_common(at, encoding),
            1 => self.tried.remove(0).1,
            _ => self.all_failed(),
        }
    }

    fn all_failed(self) -> Error {
        let told: Vec<_> = self
            .tried
            .iter()
            .map(|(transport, error)| format!("{}: {error}", transport.name()))
            .collect();
        let detail = told.join("; ");
        let mut waits = Vec::new();
        for (_, error) in self.tried {
            match error {
                Error::Unreachable { retry_after, .. } => waits.push(retry_after),
                error @ Error::Unauthorised { .. } => return error,
                _ => {}
            }
        }
        match waits.into_iter().max() {
            Some(retry_after) => Error::Unreachable {
                detail,
                retry_after,
            },
            None => Error::Refused { detail },
        }
    }
}

fn nothing_in_common(at: &Destination, encoding: Encoding) -> Error {
    let offers = at.offer.iter().flat_map(|offer| &offer.transports);
    let offered = |offer: &TransportOffer| match encoding {
        Encoding::Json => offer.transport.to_string(),
        Encoding::MessagePack => format!(
            "{} ({})",
            offer.transport,
            offer.transfer_formats.join(", ")
        ),
    };
    let names: Vec<_> = offers.map(offered).collect();
    let names = names.join(", ");
    let purpose = match encoding {
        Encoding::Json => "",
        Encoding::MessagePack => " with MessagePack, which wants one for Binary",
    };
    Error::Refused {
        detail: format!("none of the server's transports can be used here{purpose}: [{names}]"),
    }
}

/// Server-sent events carry text alone.
fn can_carry(options: &Options) -> Result<(), Error> {
    let format = options.codec().transfer_format();
    let carries = |transport: &Transport| transport.formats().contains(&format);
    match options.transports.is_empty() || options.transports.iter().any(carries) {
        true => Ok(()),
        false => Err(Error::Options {
            detail: format!(
                "none of the transports {:?} carries {:?}",
                options.transports, options.encoding
            ),
        }),
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

async fn shake_hands(
    mut link: Link,
    hello: Vec<u8>,
    receive_bytes_max: usize,
) -> Result<Established, Error> {
    let before_hello = |why: Closed| match why {
        Closed::Protocol { detail } => Error::Protocol { detail },
        why => Error::unreachable(format!("before the handshake was answered: {why}")),
    };
    link.sender.send(hello).await.map_err(before_hello)?;
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
        return Ok(Established { link, early });
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

fn facts(destination: &Destination, transport: Transport, options: &Options) -> Facts {
    let offer = destination.offer.as_ref();
    Facts {
        id: offer.map(|offer| offer.connection_id.clone()),
        token_lifetime: offer
            .and_then(|offer| offer.token_lifetime_seconds)
            .map(Duration::from_secs),
        transport,
        is_stateful: transport == Transport::WebSockets
            && asks_for_resumption(options)
            && offer.is_some_and(|offer| offer.stateful_reconnect),
    }
}

/// The HTTP library takes the configuration itself and not a share in it.
fn rustls_config(tls: &Tls) -> tokio_rustls::rustls::ClientConfig {
    tokio_rustls::rustls::ClientConfig::clone(tls)
}

pub(crate) const USER_AGENT: &str = concat!("signalr-client/", env!("CARGO_PKG_VERSION"));

/// How long a socket waits for the next request.
const POOL_IDLE: Duration = Duration::from_secs(20);
