//! The hub's own path: the WebSocket upgrade, and refusals in the words of the official server
//! for what is asked of other transports.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::Response;

use super::request::{Parameters, authenticate};
use super::{answer, cors};
use crate::registry::{AttachError, Attachment, Known, Registry};
use crate::server::Shared;
use crate::session::{self, Opening};
use crate::wire::Wire;
use crate::{Hub, Identity, Options};

/// Read and write buffer of a WebSocket: an idle connection costs that much memory, and one that
/// echoes gains nothing from more.
const BUFFER_BYTES: usize = 1024;

/// Room for a Close message and for the headers of the frames around it.
const FAREWELL_BYTES_MAX: usize = 16 * 1024;

pub(super) async fn get<H: Hub>(
    State(shared): State<Arc<Shared<H>>>,
    uri: Uri,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let parameters = Parameters::of(&uri);
    let response = match authenticate(&shared.access, &headers, &parameters) {
        Err(refusal) => answer::refused(&refusal),
        Ok(identity) => match upgrade {
            Ok(upgrade) => open(&shared, identity, parameters, &headers, upgrade),
            Err(_) => no_upgrade(&shared, &parameters, &headers),
        },
    };
    cors::open(response, &headers, &shared.options)
}

/// Client to server bytes of a transport other than WebSockets.
pub(super) async fn post<H: Hub>(
    State(shared): State<Arc<Shared<H>>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let known = |known| match known {
        Known::Attached => answer::text(
            StatusCode::METHOD_NOT_ALLOWED,
            "POST requests are not allowed for WebSocket connections.",
        ),
        Known::Unattached => unsupported("LongPolling"),
        Known::No => answer::unknown_id(),
    };
    by_id(&shared, &uri, &headers, known)
}

/// The end of a long polling connection.
pub(super) async fn delete<H: Hub>(
    State(shared): State<Arc<Shared<H>>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let known = |known| match known {
        Known::Attached | Known::Unattached => answer::text(
            StatusCode::BAD_REQUEST,
            "Cannot terminate this connection using the DELETE endpoint.",
        ),
        Known::No => answer::unknown_id(),
    };
    by_id(&shared, &uri, &headers, known)
}

fn by_id<H: Hub>(
    shared: &Shared<H>,
    uri: &Uri,
    headers: &HeaderMap,
    answer: impl FnOnce(Known) -> Response,
) -> Response {
    let parameters = Parameters::of(uri);
    let response = match authenticate(&shared.access, headers, &parameters) {
        Err(refusal) => answer::refused(&refusal),
        Ok(_) => match parameters.id() {
            None => answer::id_required(),
            Some(id) => answer(shared.registry.known(&id, shared.options.attach_timeout)),
        },
    };
    cors::open(response, headers, &shared.options)
}

fn open<H: Hub>(
    shared: &Arc<Shared<H>>,
    identity: Identity,
    parameters: Parameters,
    headers: &HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    if shared.registry.is_draining() {
        return answer::unavailable("This server takes no new connections. Try again.");
    }
    if !cors::admits_websocket(headers, &shared.options) {
        return answer::text(
            StatusCode::FORBIDDEN,
            "Pages of this origin may not connect. Add it to the hub's allowed origins.",
        );
    }
    let id = parameters.id();
    let attached = attach(&shared.registry, id.as_deref(), &identity, &shared.options);
    let attachment = match attached {
        Ok(attachment) => attachment,
        Err(error) => return answer::not_attached(error),
    };
    let opening = Box::new(Opening {
        attachment,
        identity,
        request: parameters.into_opening(headers),
    });
    let shared = Arc::clone(shared);
    limited(upgrade, &shared.options)
        // A task of its own: that of the upgrade has room for much that is over by now.
        .on_upgrade(async move |socket| {
            tokio::spawn(session::run(shared, opening, Wire::new(socket)));
        })
}

fn attach(
    registry: &Arc<Registry>,
    id: Option<&str>,
    identity: &Identity,
    options: &Options,
) -> Result<Attachment, AttachError> {
    match id {
        Some(id) => registry.attach(id, identity, options.attach_timeout),
        None => Ok(registry.attach_fresh()),
    }
}

/// Bounds what one WebSocket may hold in memory. Nothing is unlimited.
fn limited(upgrade: WebSocketUpgrade, options: &Options) -> WebSocketUpgrade {
    let received_max = options
        .receive_frame_bytes_max
        .max(options.receive_bytes_max);
    // The largest frame is the last: all that waited, and the goodbye behind it.
    let waiting_max = options
        .outbox_bytes_max
        .saturating_add(options.message_bytes_max);
    let sent_max = waiting_max.saturating_add(FAREWELL_BYTES_MAX);
    upgrade
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_write_buffer_size(sent_max)
        .max_message_size(received_max)
        .max_frame_size(received_max)
}

/// A GET that is no upgrade asks for a transport that is not offered.
fn no_upgrade<H: Hub>(
    shared: &Shared<H>,
    parameters: &Parameters,
    headers: &HeaderMap,
) -> Response {
    let Some(id) = parameters.id() else {
        return answer::id_required();
    };
    match shared.registry.known(&id, shared.options.attach_timeout) {
        Known::No => answer::unknown_id(),
        Known::Unattached | Known::Attached if wants_events(headers) => {
            unsupported("ServerSentEvents")
        }
        Known::Unattached | Known::Attached => unsupported("LongPolling"),
    }
}

fn wants_events(headers: &HeaderMap) -> bool {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.eq_ignore_ascii_case("text/event-stream"))
}

fn unsupported(transport: &str) -> Response {
    let text = format!("{transport} transport not supported by this end point type");
    answer::text(StatusCode::NOT_FOUND, text)
}
