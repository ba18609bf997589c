//! A SignalR client on tokio: talks to ASP.NET Core SignalR servers and to `signalr-server`.
//!
//! [`Client`] calls the server, answers its calls with handlers, and comes back for ever when the connection is lost,
//! also when the very first attempt fails:
//!
//! ```no_run
//! use signalr_client::{Client, Options};
//!
//! # async fn first() -> Result<(), Box<dyn std::error::Error>> {
//! let options = Options::new("https://example.org/hub")?
//!     .token(|| async { std::fs::read_to_string("token") });
//! let client = Client::builder(options)
//!     .on("greeted", |(name,): (String,)| async move { println!("{name} was greeted") })
//!     .answer("time", |()| async { Ok::<_, String>("noon") })
//!     .start()?;
//!
//! let sum: i32 = client.connected().await?.invoke("add", (1, 2)).await?;
//! println!("1 + 2 = {sum}");
//! client.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! Below it lies [`Connection`], for those who keep books of their own: one connection, whose invocations arrive raw and
//! in order at an [`Incoming`] that holds a bounded number of them. While it is full nothing is read from the network,
//! so a slow consumer slows the server down; pings go out all the same. [`Sessions`] gives one such connection after
//! the other.
//!
//! # How it travels
//!
//! [`Options`] says where to and how; each default has its reason there. The server's order of transports is followed,
//! and one that does not start is passed over. [`Options::encoding`] takes [`Encoding::MessagePack`] where the server
//! speaks it. With [`Options::stateful_reconnect`] another WebSocket takes over where one was lost, with nothing lost,
//! repeated or reordered between, in both directions; where that is not possible the connection ends, every call that
//! waits is told, and [`Client`] and [`Sessions`] make a new one.
//!
//! ```no_run
//! use signalr_client::{Connection, Encoding, Options};
//!
//! # async fn second() -> Result<(), Box<dyn std::error::Error>> {
//! let options = Options::new("https://example.org/hub")?.with(|options| {
//!     options.encoding = Encoding::MessagePack;
//!     options.stateful_reconnect = true;
//! });
//! let (connection, mut incoming) = Connection::connect(options).await?;
//! connection.send("subscribe", ("prices",)).await?;
//! while let Some(call) = incoming.next().await {
//!     let (name, price): (String, f64) = call.bind()?;
//!     println!("{name} costs {price}");
//! }
//! println!("{}", connection.ended().await);
//! # Ok(())
//! # }
//! ```
//!
//! # What to do about an error
//!
//! | Error | What next |
//! | --- | --- |
//! | [`Error::Options`] | mend the options; nothing was sent |
//! | [`Error::Token`] | look at the token callback |
//! | [`Error::Unauthorised`] | get another token |
//! | [`Error::Unreachable`] | try again later, after its `retry_after` if there is one |
//! | [`Error::Refused`], [`Error::Protocol`] | tell the operator; trying again gives the same |
//! | [`CallError::Failed`] | the method's own error, in the server's words |
//! | [`CallError::Unwritable`], [`CallError::TooLarge`] | mend the call; nothing was sent |
//! | [`CallError::Result`] | the method ran; ask for the type that it gives |
//! | [`CallError::NotConnected`] | nothing was sent; wait for [`Client::connected`] |
//! | [`CallError::Closed`] | whether the method ran is not known; connect again if [`Closed::may_return`] |
//!
//! Promise: every future here may be dropped at any point. A dropped call is not undone on the server, but it leaves
//! nothing behind on this side. No call is answered twice, and each call that wants an answer gets one.

mod args;
mod call;
mod calls;
mod client;
mod codec;
mod connect;
mod connection;
mod dial;
mod driver;
mod error;
mod handlers;
mod incoming;
mod negotiate;
mod options;
mod outbox;
mod proxy;
mod reconnect;
mod refresh;
mod resume;
mod sessions;
mod streams;
mod tls;
mod token;
mod transport;
mod uploads;

pub use args::Arguments;
pub use call::Call;
pub use client::{Client, ClientBuilder};
pub use connect::Connector;
pub use connection::Connection;
pub use error::{CallError, Closed, Error};
pub use incoming::{Incoming, Invocation};
pub use options::Options;
pub use proxy::Proxy;
pub use reconnect::ReconnectPolicy;
pub use sessions::{Sessions, State};
pub use streams::Streaming;

/// The TLS library whose configuration [`Options::tls`] takes.
pub use tokio_rustls::rustls;

pub use signalr_protocol::negotiate::Transport;
pub use signalr_protocol::{BindError, Encoding, Raw};

/// The README's first client compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
