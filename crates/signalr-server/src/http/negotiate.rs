//! `POST {hub}/negotiate`: ids for a connection, and the ways to attach to it.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::{IntoResponse as _, Response};
use signalr_protocol::negotiate::{NegotiateResponse, TransportOffer, choose_version};
use tokio::time::Instant;

use super::request::{Parameters, authenticate};
use super::{answer, cors, refresh};
use crate::server::Shared;
use crate::{Hub, Identity};

pub(super) async fn negotiate<H: Hub>(
    State(shared): State<Arc<Shared<H>>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let parameters = Parameters::of(&uri);
    let response = match authenticate(&shared.access, &headers, &parameters) {
        Err(refusal) => answer::refused(&refusal),
        Ok(_) if shared.registry.is_draining() => answer::draining(),
        Ok(identity) => match admit(&shared) {
            Err(refused) => *refused,
            Ok(()) => offer(&shared, &parameters, &identity),
        },
    };
    cors::open(response, &headers, &shared.options)
}

/// Lets one more connection in, or says when it may ask again.
pub(super) fn admit<H: Hub>(shared: &Shared<H>) -> Result<(), Box<Response>> {
    let options = &shared.options;
    if shared.registry.count(options.attach_timeout) >= options.connections_max {
        let full = answer::full("This server has as many connections as it takes. Try again.");
        return Err(Box::new(full));
    }
    let admitted = shared.admission.admit(Instant::now());
    admitted.map_err(|wait| Box::new(answer::crowded(wait)))
}

fn offer<H: Hub>(shared: &Shared<H>, parameters: &Parameters, identity: &Identity) -> Response {
    let options = &shared.options;
    let asked = parameters.all("negotiateVersion");
    let version = match choose_version(asked, options.negotiate_version_min) {
        Ok(version) => version,
        Err(error) => return json(&NegotiateResponse::refusal(error)),
    };
    let has_own_token = version > 0;
    let is_stateful = options.stateful_reconnect && parameters.asks_for_stateful_reconnect();
    let ids = shared.registry.negotiate(
        identity,
        has_own_token,
        is_stateful,
        options.attach_timeout,
        options.unattached_max,
    );
    let Some(ids) = ids else {
        return answer::full("Too many connections wait for their transport. Try again.");
    };
    let offers = options.transports.iter().copied().map(TransportOffer::new);
    json(&NegotiateResponse {
        use_stateful_reconnect: is_stateful.then_some(true),
        negotiate_version: Some(version),
        connection_id: Some(ids.id.to_string()),
        connection_token: has_own_token.then(|| ids.token.to_string()),
        available_transports: Some(offers.collect()),
        token_lifetime_seconds: refresh::lifetime_seconds(identity, options),
        ..NegotiateResponse::default()
    })
}

fn json(response: &NegotiateResponse) -> Response {
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, response.to_json()).into_response()
}
