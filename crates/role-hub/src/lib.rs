//! The product's hub: live connections in, pushes out.
//!
//! A client connects with a token that names its agent, and says `ready` (or connects with
//! `?ready=auto`). From then on the delivery engine pushes to it: one invocation a message, the
//! target is the message's type, the one argument its [envelope]. What becomes of a
//! message is never told here: acknowledgements go to the ack API.
//!
//! Promise: nothing is pushed over a connection before its term is durable, and a connection that
//! cannot take a push is closed, so that the engine offers the message again over the next one.
//!
//! Left out on purpose: what may be pushed when (`rules::delivery`), and groups of plain SignalR.

pub mod envelope;

mod connections;
mod hub;
mod outlet;
mod tokens;

pub use outlet::{HubOutlet, LANES_RESUMED};

use axum::Router;
use connections::Connections;
use countersign_access::Verifier;
use countersign_driver::Handle;
use countersign_rules::delivery::Centre;
use hub::DeliveryHub;
use signalr_server::{HubHandle, HubServer};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;
use tokens::Tokens;

/// Largest body of a message that every connection carries: what the hub sends and an agent
/// receives as one hub message (16 MiB), less room for the longest envelope around it.
pub const BODY_BYTES_MAX: usize = MESSAGE_BYTES_MAX - 64 * 1024;

/// Largest hub message sent. Clients of this product receive as much, and no more.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// How the hub works.
#[derive(Clone, Debug)]
pub struct Options {
    /// Path of the hub. Default: `/hub`.
    pub path: String,
    /// Where clients post acknowledgements; stands in every envelope.
    pub ack_url: String,
    /// Origins whose pages may connect. Default: none.
    pub allowed_origins: Vec<String>,
    /// Bytes that may wait to be sent on one connection. Default: 8 MiB, twice the engine's window,
    /// so that only a client that has stopped reading meets it.
    pub outbox_bytes_max: usize,
    /// Most connections. Default: 100,000, whose idle memory is about half a gigabyte.
    pub connections_max: usize,
    /// How many new connections a second are let in; the others are told when to come back. Default:
    /// 500: a connection costs a token check and a durable term, and official clients, which
    /// give up after some 40 s of refusals, still all come back up to 20,000 of them.
    pub admissions_per_second: NonZeroU32,
}

impl Options {
    /// Defaults, with the address for acknowledgements.
    pub fn new(ack_url: impl Into<String>) -> Self {
        Self {
            path: "/hub".to_owned(),
            ack_url: ack_url.into(),
            allowed_origins: Vec::new(),
            outbox_bytes_max: 8 << 20,
            connections_max: 100_000,
            admissions_per_second: const { NonZeroU32::new(500).expect("500 is not zero") },
        }
    }
}

/// The hub before it is connected to its engine.
#[derive(Debug)]
pub struct HubRole {
    options: Options,
    connections: Arc<Connections>,
}

impl HubRole {
    /// A hub without connections.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            connections: Arc::new(Connections::default()),
        }
    }

    /// Where the engine sends its pushes.
    pub fn outlet(&self) -> HubOutlet {
        HubOutlet::new(Arc::clone(&self.connections), &self.options.ack_url)
    }

    /// The hub's routes, in front of the engine behind `centre`.
    pub fn serve(self, centre: Handle<Centre>, verifier: Arc<Verifier>) -> (Router, Drain) {
        let hub = DeliveryHub::new(centre, self.connections);
        let server = HubServer::new(hub)
            .auth(Tokens::new(verifier))
            .with(|options| {
                options.message_bytes_max = MESSAGE_BYTES_MAX;
                options.outbox_bytes_max = self.options.outbox_bytes_max;
                // Bytes are what bounds a connection here: a window of many small messages must fit.
                options.outbox_messages_max = usize::MAX;
                options.allowed_origins = self.options.allowed_origins.clone();
                options.connections_max = self.options.connections_max;
                options.admissions_per_second = Some(self.options.admissions_per_second);
            });
        let drain = Drain(server.handle());
        (server.router(&self.options.path), drain)
    }
}

/// Ends the hub's connections in an orderly way.
#[derive(Clone, Debug)]
pub struct Drain(HubHandle);

impl Drain {
    /// Takes no new connection, and asks each present one to come back elsewhere, spread over the
    /// time `over`.
    pub async fn over(&self, over: Duration) {
        self.0.drain(over).await;
    }

    /// Whether that has begun.
    pub fn is_draining(&self) -> bool {
        self.0.is_draining()
    }
}
