//! A SignalR server on axum: typed hubs, and handles to push from anywhere.
//!
//! Promise: memory per connection is bounded, a slow reader never holds up a sender, and whoever
//! pushes learns at once whether the message was taken. Taken means queued for one connection:
//! delivery beyond that is for a layer above.
//!
//! One task serves one connection. It reads, runs the hub's methods and writes; everything that
//! waits in its queue goes out as one WebSocket frame.
//!
//! A first server, which any SignalR client can talk to at `http://127.0.0.1:5000/chat`:
//!
//! ```no_run
//! use std::sync::Arc;
//! use signalr_server::{Caller, Hub, HubError, HubServer, Methods};
//!
//! struct Chat;
//!
//! impl Hub for Chat {
//!     fn methods(methods: Methods<Self>) -> Methods<Self> {
//!         methods.on("SendMessage", send_message)
//!     }
//! }
//!
//! async fn send_message(_: Arc<Chat>, from: Caller<Chat>, (user, text): (String, String)) -> Result<(), HubError> {
//!     from.hub_handle().all().push_args("ReceiveMessage", &(user, text));
//!     Ok(())
//! }
//!
//! #[tokio::main]
//! async fn main() -> std::io::Result<()> {
//!     let app: axum::Router = HubServer::new(Chat).router("/chat");
//!     let listener = tokio::net::TcpListener::bind("127.0.0.1:5000").await?;
//!     axum::serve(listener, app).await
//! }
//! ```
//!
//! Whoever is not in a hub's method, such as a route or a background task, pushes through a
//! [`HubHandle`], which [`HubServer::handle`] gives: to all, to groups, to users, to single
//! connections, see [`Targets`]. The examples `chat`, `in_axum` and `background` show it.
//!
//! Left out on purpose: TLS, which belongs to whatever listens, and a backplane between servers.

mod admission;
mod auth;
mod caller;
mod codec;
mod connection;
mod handle;
mod http;
mod hub;
mod link;
mod live;
mod methods;
mod options;
mod outbox;
mod registry;
mod server;
mod session;
mod takeover;
mod targets;
mod uploads;
mod wire;

pub use auth::{Identity, Refusal, TokenVerifier};
pub use caller::Caller;
pub use connection::{AskError, ConnectionHandle};
pub use handle::HubHandle;
pub use hub::{Disconnect, Hub, HubError};
pub use methods::Methods;
pub use options::Options;
pub use outbox::PushError;
pub use server::HubServer;
pub use signalr_protocol::negotiate::Transport;
pub use signalr_protocol::{AnyValue, Encoding};
pub use targets::{Reach, Targets, WhenFull};
pub use uploads::{RawUpload, Upload, UploadError, Uploads};
