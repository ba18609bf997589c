//! `POST {hub}/refresh`: a newer token for a connection that lives.
//!
//! The connection token comes in a header, as the official client sends it, or as `id` in the
//! query. The token must be of the user who opened the connection.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use serde::Serialize;
use tracing::error;

use super::request::{Parameters, authenticate};
use super::{answer, cors};
use crate::server::Shared;
use crate::{Caller, ConnectionHandle, Hub, Identity, Options};

const CONNECTION_TOKEN: &str = "x-signalr-connection-token";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Refreshed<'a> {
    connection_id: &'a str,
    refreshed_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_lifetime_seconds: Option<u64>,
}

pub(super) async fn refresh<H: Hub>(
    State(shared): State<Arc<Shared<H>>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let parameters = Parameters::of(&uri);
    let response = match authenticate(&shared.access, &headers, &parameters) {
        Err(refusal) => answer::refused(&refusal),
        Ok(_) if !shared.options.token_refresh => answer::text(
            StatusCode::NOT_FOUND,
            "This hub takes no newer tokens. Connect anew with it.",
        ),
        Ok(identity) => renew(&shared, identity, &parameters, &headers),
    };
    cors::open(response, &headers, &shared.options)
}

fn renew<H: Hub>(
    shared: &Arc<Shared<H>>,
    identity: Identity,
    parameters: &Parameters,
    headers: &HeaderMap,
) -> Response {
    let token = headers.get(CONNECTION_TOKEN);
    let token = token.and_then(|token| token.to_str().ok().map(str::to_owned));
    let Some(token) = token.or_else(|| parameters.id()) else {
        return answer::id_required();
    };
    let Some(connection) = shared.registry.by_token(&token) else {
        return answer::unknown_id();
    };
    if connection.identity().user_id() != identity.user_id() {
        return answer::text(
            StatusCode::FORBIDDEN,
            "This connection belongs to another user. Connect anew with this token.",
        );
    }
    let refreshed = Refreshed {
        connection_id: connection.id(),
        refreshed_at: jiff::Timestamp::now().to_string(),
        token_lifetime_seconds: lifetime_seconds(&identity, &shared.options),
    };
    let answer = Json(refreshed).into_response();
    connection.renew(identity);
    tell_hub(Arc::clone(shared), connection);
    answer
}

/// In a task of its own: whoever asks may hang up before the hub is through with it.
fn tell_hub<H: Hub>(shared: Arc<Shared<H>>, connection: ConnectionHandle) {
    tokio::spawn(async move {
        let caller = Caller::new(Arc::clone(&shared.hub), connection, shared.handle());
        let told = AssertUnwindSafe(shared.hub.on_auth_refreshed(&caller));
        if told.catch_unwind().await.is_err() {
            error!(
                connection = caller.id(),
                "the hub's refreshed event panicked"
            );
        }
    });
}

/// How long the bearer's token is still good for; `None` when that ends no connection.
pub(super) fn lifetime_seconds(identity: &Identity, options: &Options) -> Option<u64> {
    let expires_at = identity
        .expires_at()
        .filter(|_| options.close_on_token_expiry && options.token_refresh)?;
    let left = expires_at.duration_since(SystemTime::now());
    Some(left.unwrap_or_default().as_secs())
}
