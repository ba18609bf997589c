//! One connection from its first byte to its last, in one task.
//!
//! `handshake` chooses the protocol, `serve` reads, runs methods and writes until there is a
//! reason to stop, `ending` says goodbye accordingly. `calls` runs the hub's methods beside the
//! reading, so that pings and clients' answers never wait for them.

mod calls;
mod clocks;
mod ending;
mod handshake;
mod serve;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::ws::WebSocket;
use futures_util::FutureExt as _;
use futures_util::future::join3;
use signalr_protocol::RecordSplitter;
use tracing::{debug, error};

use crate::auth::Identity;
use crate::connection::OpeningRequest;
use crate::outbox::Outbox;
use crate::registry::{Attachment, Presence};
use crate::server::Shared;
use crate::wire::Wire;
use crate::{Caller, ConnectionHandle, Hub};

/// What the HTTP request says about the connection it opens.
pub(crate) struct Opening {
    pub(crate) attachment: Attachment,
    pub(crate) identity: Identity,
    pub(crate) request: OpeningRequest,
}

/// Serves one connection to its end.
pub(crate) async fn run<H: Hub>(shared: Arc<Shared<H>>, opening: Opening, socket: WebSocket) {
    let options = &shared.options;
    let mut wire = Wire::new(socket);
    let mut splitter = RecordSplitter::new(Some(options.receive_bytes_max));
    let shaken = match handshake::shake(&mut wire, &mut splitter, options).await {
        Ok(shaken) => shaken,
        Err(refusal) => {
            return Box::pin(ending::refuse(wire, &opening.attachment, refusal, options)).await;
        }
    };
    let Opening {
        attachment,
        identity,
        request,
    } = opening;
    let connection = ConnectionHandle::new(
        Arc::clone(attachment.id()),
        identity,
        request,
        shaken.codec,
        Outbox::new(shared.outbox_limits()),
        Arc::clone(attachment.registry()),
    );
    let caller = Caller::new(Arc::clone(&shared.hub), connection.clone(), shared.handle());
    // The answer is in the socket before anybody can push: clients bear nothing before it.
    let presence = attachment.enter(connection);
    debug!(connection = caller.id(), "connected");
    drop(splitter);
    let mut session = serve::Session::new(&shared, &caller, wire);
    let reason = session.serve(shaken.rest).await;
    debug!(connection = caller.id(), ?reason, "disconnecting");
    attachment.forget_token();
    // Boxed, so that a connection has no room for its end before it ends.
    Box::pin(part(&shared, &caller, session, reason, presence)).await;
}

/// Says goodbye while calls under way go on and the hub is told.
async fn part<H: Hub>(
    shared: &Shared<H>,
    caller: &Caller<H>,
    session: serve::Session<'_, H>,
    reason: ending::Reason,
    presence: Presence,
) {
    let (farewell, calls) = session.end(&reason, presence);
    let told = AssertUnwindSafe(shared.hub.on_disconnected(caller, reason.disconnect()));
    let told = async {
        if told.catch_unwind().await.is_err() {
            error!(
                connection = caller.id(),
                "the hub's disconnected event panicked"
            );
        }
    };
    join3(farewell, calls.finish(), told).await;
}
