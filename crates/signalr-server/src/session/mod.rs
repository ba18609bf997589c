//! One connection from its first byte to its last, in one task.
//!
//! `handshake` chooses the protocol, `serve` reads, runs methods and writes until there is a
//! reason to stop, `ending` says goodbye accordingly. `calls` runs the hub's methods beside the
//! reading, so that pings and clients' answers never wait for them. `resume` keeps what another
//! WebSocket needs to go on where one was lost.

mod calls;
mod clocks;
mod ending;
mod handshake;
mod resume;
mod serve;

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::join3;
use tracing::{debug, error};

use self::handshake::Shaken;
use crate::auth::Identity;
use crate::connection::OpeningRequest;
use crate::outbox::Outbox;
use crate::registry::{Attachment, Presence};
use crate::server::Shared;
use crate::wire::Wire;
use crate::{Caller, ConnectionHandle, Hub};

/// The first version of the hub protocol with Ack and Sequence.
const RESUMABLE_VERSION: i32 = 2;

/// What the HTTP request says about the connection it opens.
pub(crate) struct Opening {
    pub(crate) attachment: Attachment,
    pub(crate) identity: Identity,
    pub(crate) request: OpeningRequest,
}

/// Serves one connection to its end.
///
/// Each phase is boxed: an idle connection has no room for its handshake, for its arguments on
/// their way from hand to hand, or for its end.
pub(crate) async fn run<H: Hub>(shared: Arc<Shared<H>>, opening: Box<Opening>, wire: Wire) {
    let served = Box::pin(shake(&shared, opening, wire)).await;
    if let Some(served) = served {
        served.await;
    }
}

/// Shakes hands; gives what is to be done then, or ends the connection.
async fn shake<H: Hub>(
    shared: &Arc<Shared<H>>,
    opening: Box<Opening>,
    mut wire: Wire,
) -> Option<Pin<Box<impl Future<Output = ()> + Send + use<H>>>> {
    let options = &shared.options;
    let takeover = opening.attachment.takeover().map(|takeover| &**takeover);
    let shaken = match handshake::shake(&mut wire, takeover, options).await {
        Ok(shaken) => shaken,
        Err(refusal) => {
            ending::refuse(wire, &opening.attachment, refusal, options).await;
            return None;
        }
    };
    let Opening {
        attachment,
        identity,
        request,
    } = *opening;
    let connection = ConnectionHandle::new(
        Arc::clone(attachment.id()),
        identity,
        request,
        shaken.codec,
        Outbox::new(shared.outbox_limits()),
        Arc::clone(attachment.registry()),
    );
    let shared = Arc::clone(shared);
    Some(Box::pin(attend(
        shared, attachment, connection, wire, shaken,
    )))
}

/// Serves the connection until there is a reason to end it, and ends it.
fn attend<H: Hub>(
    shared: Arc<Shared<H>>,
    attachment: Attachment,
    connection: ConnectionHandle,
    wire: Wire,
    Shaken { version, rest, .. }: Shaken,
) -> impl Future<Output = ()> + Send + use<H> {
    let caller = Caller::new(Arc::clone(&shared.hub), connection.clone(), shared.handle());
    // The answer is in the socket before anybody can push: clients bear nothing before it.
    let presence = attachment.enter(connection);
    debug!(connection = caller.id(), "connected");
    let takeover = match version >= RESUMABLE_VERSION {
        true => attachment.takeover().cloned(),
        false => {
            attachment.refuse_takeovers();
            None
        }
    };
    async move {
        let mut session = serve::Session::new(&shared, &caller, wire, takeover);
        let reason = session.serve(rest).await;
        debug!(connection = caller.id(), ?reason, "disconnecting");
        ending::part_token(&attachment, caller.transport());
        Box::pin(part(&shared, &caller, session, reason, presence)).await;
    }
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
