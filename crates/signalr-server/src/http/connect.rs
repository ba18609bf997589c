//! The hub's own path: the WebSocket upgrade, event streams, polls, and what is sent up beside
//! them, with refusals in the words of the official server.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use signalr_protocol::negotiate::Transport;

use super::negotiate::admit;
use super::request::{Parameters, authenticate};
use super::{answer, cors};
use crate::link::{Link, Polled};
use crate::registry::{AttachError, Attachment, PollRole, SocketRole};
use crate::server::Shared;
use crate::session::{self, Opening};
use crate::wire::Wire;
use crate::{Hub, Identity, Options};

/// Read and write buffer of a WebSocket: an idle connection costs that much memory, and one that
/// echoes gains nothing from more.
const BUFFER_BYTES: usize = 1024;

/// Room for a Close message and for the headers of the frames around it.
const FAREWELL_BYTES_MAX: usize = 16 * 1024;

/// Proxies must hand on at once what is streamed (nginx).
const UNBUFFERED: (HeaderName, HeaderValue) = (
    HeaderName::from_static("x-accel-buffering"),
    HeaderValue::from_static("no"),
);

/// A request that has shown who sends it.
struct Asked {
    identity: Identity,
    parameters: Parameters,
    headers: HeaderMap,
}

pub(super) async fn get<H: Hub>(
    State(shared): State<Arc<Shared<H>>>,
    uri: Uri,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let origin = headers.clone();
    let is_upgrade = upgrade.is_ok();
    let is_poll = !is_upgrade && !wants_events(&headers);
    let parameters = Parameters::of(&uri);
    let response = match authenticate(&shared.access, &headers, &parameters) {
        Err(refusal) => answer::refused(&refusal),
        Ok(identity) => {
            let asked = Asked {
                identity,
                parameters,
                headers,
            };
            match upgrade {
                Ok(upgrade) => open_socket(&shared, asked, upgrade),
                Err(_) if is_poll => poll(&shared, asked).await,
                Err(_) => open_events(&shared, asked),
            }
        }
    };
    let response = match (is_poll, is_upgrade) {
        (true, _) => uncached(response),
        (_, true) => hang_up(response),
        (false, false) => response,
    };
    cors::open(response, &origin, &shared.options)
}

/// Client to server bytes of a transport other than WebSockets. The answer waits until the hub
/// takes them; several at once are taken in turn.
pub(super) async fn post<H: Hub>(
    State(shared): State<Arc<Shared<H>>>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let response = match find(&shared, &uri, &headers) {
        Err(response) => *response,
        Ok((token, identity)) => bring(&shared, &token, &identity, body).await,
    };
    cors::open(response, &headers, &shared.options)
}

async fn bring<H: Hub>(
    shared: &Shared<H>,
    token: &str,
    identity: &Identity,
    body: Body,
) -> Response {
    let options = &shared.options;
    let link = match shared
        .registry
        .link(token, identity, options.attach_timeout)
    {
        Ok(link) => link,
        Err(AttachError::OtherTransport) => {
            return answer::text(
                StatusCode::METHOD_NOT_ALLOWED,
                "POST requests are not allowed for WebSocket connections.",
            );
        }
        Err(error) => return answer::not_attached(error),
    };
    let Ok(room) = link.room().await else {
        return answer::unknown_id();
    };
    // Nobody has to read what comes before a transport does, so it is bounded more tightly.
    let bytes_max = match link.transport() {
        Some(_) => received_max(options),
        None => options.receive_bytes_max,
    };
    let Ok(body) = to_bytes(body, bytes_max).await else {
        return answer::text(
            StatusCode::BAD_REQUEST,
            "The body did not arrive whole, or is longer than this hub takes at once.",
        );
    };
    if !body.is_empty() {
        room.send(body);
    }
    answer::text(StatusCode::OK, "")
}

/// The end of a long polling connection.
pub(super) async fn delete<H: Hub>(
    State(shared): State<Arc<Shared<H>>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let response = match find(&shared, &uri, &headers) {
        Err(response) => *response,
        Ok((token, identity)) => {
            let lifetime = shared.options.attach_timeout;
            match shared.registry.delete(&token, &identity, lifetime) {
                Ok(()) => answer::text(StatusCode::ACCEPTED, ""),
                Err(AttachError::OtherTransport) => answer::text(
                    StatusCode::BAD_REQUEST,
                    "Cannot terminate this connection using the DELETE endpoint.",
                ),
                Err(error) => answer::not_attached(error),
            }
        }
    };
    cors::open(response, &headers, &shared.options)
}

/// Who asks, and about which connection; or the refusal.
fn find<H: Hub>(
    shared: &Shared<H>,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<(String, Identity), Box<Response>> {
    let parameters = Parameters::of(uri);
    let identity = authenticate(&shared.access, headers, &parameters);
    let identity = identity.map_err(|refusal| Box::new(answer::refused(&refusal)))?;
    match parameters.id() {
        Some(token) => Ok((token, identity)),
        None => Err(Box::new(answer::id_required())),
    }
}

fn open_socket<H: Hub>(
    shared: &Arc<Shared<H>>,
    asked: Asked,
    upgrade: WebSocketUpgrade,
) -> Response {
    let options = &shared.options;
    if shared.registry.is_draining() {
        return answer::draining();
    }
    if !cors::admits_websocket(&asked.headers, options) {
        return answer::text(
            StatusCode::FORBIDDEN,
            "Pages of this origin may not connect. Add it to the hub's allowed origins.",
        );
    }
    if !options.transports.contains(&Transport::WebSockets) {
        return unsupported(Transport::WebSockets);
    }
    let registry = &shared.registry;
    let role = match asked.parameters.id() {
        Some(token) => registry.attach_socket(&token, &asked.identity, options.attach_timeout),
        // Nobody negotiated, so nobody has been asked yet.
        None => match admit(shared) {
            Err(refused) => return *refused,
            Ok(()) => Ok(SocketRole::Opens(registry.attach_fresh(&asked.identity))),
        },
    };
    let upgrade = limited(upgrade, options);
    match role {
        Err(error) => answer::not_attached(error),
        Ok(SocketRole::TakesOver(token, takeover)) => {
            registry.put_off_expiry(&token, &asked.identity);
            upgrade.on_upgrade(async move |socket| takeover.give(Box::new(socket)))
        }
        Ok(SocketRole::Opens(attachment)) => {
            let opening = opening(attachment, asked, Transport::WebSockets, options);
            let shared = Arc::clone(shared);
            // A task of its own: that of the upgrade has room for much that is over by now.
            upgrade.on_upgrade(async move |socket| {
                tokio::spawn(session::run(
                    shared,
                    opening,
                    Wire::socket(Box::new(socket)),
                ));
            })
        }
    }
}

/// Whoever wanted a WebSocket has no use for a connection that carries requests, and some clients
/// leave it open for as long as the server does.
fn hang_up(mut response: Response) -> Response {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

fn open_events<H: Hub>(shared: &Arc<Shared<H>>, asked: Asked) -> Response {
    let options = &shared.options;
    let Some(token) = asked.parameters.id() else {
        return answer::id_required();
    };
    if shared.registry.is_draining() {
        return answer::draining();
    }
    let lifetime = options.attach_timeout;
    if !options.transports.contains(&Transport::ServerSentEvents) {
        return match shared.registry.is_known(&token, lifetime) {
            false => answer::unknown_id(),
            true => unsupported(Transport::ServerSentEvents),
        };
    }
    let attached = shared
        .registry
        .attach_events(&token, &asked.identity, lifetime);
    let (attachment, link) = match attached {
        Ok(attached) => attached,
        Err(error) => return answer::not_attached(error),
    };
    let events = Body::from_stream(link.events());
    serve(
        shared,
        opening(attachment, asked, Transport::ServerSentEvents, options),
        link,
    );
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/event-stream"),
        ),
        (
            header::CACHE_CONTROL,
            HeaderValue::from_static("no-cache,no-store"),
        ),
        (header::PRAGMA, HeaderValue::from_static("no-cache")),
        // Keeps compression away, which would hold events back.
        (
            header::CONTENT_ENCODING,
            HeaderValue::from_static("identity"),
        ),
        UNBUFFERED,
    ];
    (headers, events).into_response()
}

/// One poll. The first one begins the connection and is answered at once.
async fn poll<H: Hub>(shared: &Arc<Shared<H>>, asked: Asked) -> Response {
    let options = &shared.options;
    let Some(token) = asked.parameters.id() else {
        return answer::id_required();
    };
    let lifetime = options.attach_timeout;
    if !options.transports.contains(&Transport::LongPolling) {
        return match shared.registry.is_known(&token, lifetime) {
            false => answer::unknown_id(),
            true => unsupported(Transport::LongPolling),
        };
    }
    match shared
        .registry
        .attach_poll(&token, &asked.identity, lifetime)
    {
        Err(error) => answer::not_attached(error),
        Ok(PollRole::Opens(..)) if shared.registry.is_draining() => answer::draining(),
        Ok(PollRole::Opens(attachment, link)) => {
            serve(
                shared,
                opening(attachment, asked, Transport::LongPolling, options),
                link,
            );
            frame(Body::empty())
        }
        Ok(PollRole::Takes(link)) => {
            shared.registry.put_off_expiry(&token, &asked.identity);
            match link.poll(options.poll_timeout).await {
                Polled::Frame(bytes) => frame(bytes.into()),
                Polled::Nothing => answer::text(StatusCode::OK, ""),
                Polled::Superseded => StatusCode::NO_CONTENT.into_response(),
                Polled::Ended => {
                    shared.registry.forget(&token);
                    StatusCode::NO_CONTENT.into_response()
                }
            }
        }
    }
}

fn frame(body: Body) -> Response {
    let bytes = HeaderValue::from_static("application/octet-stream");
    ([(header::CONTENT_TYPE, bytes), UNBUFFERED], body).into_response()
}

fn serve<H: Hub>(shared: &Arc<Shared<H>>, opening: Box<Opening>, link: Arc<Link>) {
    let wire = Wire::http(link, shared.options.attach_timeout);
    tokio::spawn(session::run(Arc::clone(shared), opening, wire));
}

fn opening(
    attachment: Attachment,
    asked: Asked,
    transport: Transport,
    options: &Options,
) -> Box<Opening> {
    let keeps_token = options.keep_token;
    Box::new(Opening {
        attachment,
        identity: asked.identity,
        request: asked
            .parameters
            .into_opening(&asked.headers, transport, keeps_token),
    })
}

/// Every answer to a poll, or somebody on the way may answer the next one with it.
fn uncached(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let now_stale = [
        (header::CACHE_CONTROL, "no-cache, no-store"),
        (header::PRAGMA, "no-cache"),
        (header::EXPIRES, "Thu, 01 Jan 1970 00:00:00 GMT"),
    ];
    for (name, value) in now_stale {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The most that is read of a client at once.
fn received_max(options: &Options) -> usize {
    options
        .receive_frame_bytes_max
        .max(options.receive_bytes_max)
}

/// Bounds what one WebSocket may hold in memory. Nothing is unlimited.
fn limited(upgrade: WebSocketUpgrade, options: &Options) -> WebSocketUpgrade {
    let received_max = received_max(options);
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

fn wants_events(headers: &HeaderMap) -> bool {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.eq_ignore_ascii_case("text/event-stream"))
}

fn unsupported(transport: Transport) -> Response {
    let name = transport.name();
    let text = format!("{name} transport not supported by this end point type");
    answer::text(StatusCode::NOT_FOUND, text)
}
