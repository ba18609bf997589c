//! A remote site: takes messages from the hub, hands them to the back office, and tells the centre
//! what became of them.
//!
//! Promise: a message is on disk before it is said to be stored (I8), is said to be processed only
//! when the back office took it (I9), and what became of it is told until somebody has heard it,
//! whether or not the hub is there (I12). Any of this may be cut off by a crash at any instant; the
//! next start goes on from what is on disk.
//!
//! ```no_run
//! use countersign_role_agent::{Agent, Error, HttpSink, Options, TokenSource};
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! # async fn run() -> Result<(), Error> {
//! let options = Options::new("http://127.0.0.1:7420/hub", "/var/lib/countersign-agent")
//!     .with(|options| options.token = TokenSource::File("/etc/countersign/token".into()));
//! let sink = HttpSink::new("http://127.0.0.1:8080/documents", Duration::from_secs(30))?;
//! let agent = Agent::start(options, Arc::new(sink)).await?;
//! agent.run_until(async { tokio::signal::ctrl_c().await.unwrap_or_default() }).await
//! # }
//! ```
//!
//! | part | job |
//! |---|---|
//! | `connection` | one connection at a time, for ever; tokens; `ready` |
//! | `receive` | pushes into the inbox, many in one flush; holds when inbox or disk are full |
//! | `fetch`, `held` | large bodies from the centre; what waits for them |
//! | `work` | attempts: envelope to sink, result to the rules |
//! | [`sink`] | the back office: HTTP, folder, standard output, a Rust function |
//! | `poster` | acknowledgements to the ack API, for ever |
//! | `status` | whether documents get through |
//!
//! What is new, what is worked on next and what is owed is decided by `countersign_rules::site`.
//!
//! Left out so far: the sinks `command` and `sql`; large bodies do not take the proxy of the hub.

mod address;
mod agent;
mod backoff;
mod client;
mod connection;
mod delivery;
mod envelope;
mod error;
mod fetch;
mod held;
mod options;
mod poster;
mod receive;
pub mod sink;
mod status;
mod token;
mod work;

pub use agent::{Agent, AgentHandle};
pub use delivery::{Delivery, DeliveryError};
pub use error::Error;
pub use fetch::{Document, Pieces};
pub use options::Options;
pub use sink::{FnSink, FolderSink, HttpSink, Sink, StdoutSink};
pub use status::{Connection, Liveness, Status, Trouble};
pub use token::TokenSource;

/// What sinks answer and policies say, in the words of the rules.
pub use countersign_rules::ack::Outcome;
pub use countersign_rules::retry::RetryPolicy;
pub use countersign_rules::site::{Counters, Policy, WorkResult};
pub use signalr_client::Proxy as HubProxy;
