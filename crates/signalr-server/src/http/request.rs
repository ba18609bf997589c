//! What hub requests have in common: the query, and the bearer token in one of two places.

use axum::extract::Query;
use axum::http::{HeaderMap, HeaderName, Uri, header};
use signalr_protocol::negotiate::Transport;

use crate::auth::Access;
use crate::connection::OpeningRequest;
use crate::{Identity, Refusal};

/// Name of the query parameter in which browsers send tokens with WebSockets.
const ACCESS_TOKEN: &str = "access_token";

/// Query parameters, decoded, in order.
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// A query that cannot be decoded counts as none.
    pub(super) fn of(uri: &Uri) -> Self {
        Self(
            Query::try_from_uri(uri)
                .map(|Query(pairs)| pairs)
                .unwrap_or_default(),
        )
    }

    /// All values of a parameter; its name is compared without case.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let pairs = self
            .0
            .iter()
            .filter(move |(key, _)| key.eq_ignore_ascii_case(name));
        pairs.map(|(_, value)| value.as_str())
    }

    /// Whether the client asks to be able to resume.
    pub(super) fn asks_for_stateful_reconnect(&self) -> bool {
        let mut asked = self.all("useStatefulReconnect");
        asked
            .next()
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// The connection token. Given twice, it is joined by a comma and so known to nobody.
    pub(super) fn id(&self) -> Option<String> {
        let values: Vec<&str> = self.all("id").collect();
        Some(values.join(",")).filter(|id| !id.is_empty())
    }

    /// What the application may see of the opening request: all but its secrets, unless it wants the
    /// bearer token.
    pub(super) fn into_opening(
        self,
        headers: &HeaderMap,
        transport: Transport,
        keeps_token: bool,
    ) -> OpeningRequest {
        let is_token = |key: &str| key.eq_ignore_ascii_case(ACCESS_TOKEN) && !keeps_token;
        let is_secret = |key: &str| key.eq_ignore_ascii_case("id") || is_token(key);
        let query = self.0.into_iter().filter(|(key, _)| !is_secret(key));
        let headers = headers.iter();
        let headers = headers.filter(|(name, _)| is_kept(name, keeps_token));
        OpeningRequest {
            transport,
            query: query
                .map(|(key, value)| (key.into(), value.into()))
                .collect(),
            headers: headers
                .filter_map(|(name, value)| {
                    Some((name.as_str().into(), value.to_str().ok()?.into()))
                })
                .collect(),
        }
    }
}

/// The token is secret, and what concerns the upgrade alone says nothing of the client.
fn is_kept(name: &HeaderName, keeps_token: bool) -> bool {
    let of_upgrade = [header::CONNECTION, header::UPGRADE];
    let is_token = *name == header::AUTHORIZATION && !keeps_token;
    !is_token && !of_upgrade.contains(name) && !name.as_str().starts_with("sec-websocket-")
}

/// Says who sends the request. A token in the header wins over one in the query.
pub(super) fn authenticate(
    access: &Access,
    headers: &HeaderMap,
    parameters: &Parameters,
) -> Result<Identity, Refusal> {
    let token = bearer(headers).or_else(|| parameters.all(ACCESS_TOKEN).next());
    access.admit(token)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    scheme
        .eq_ignore_ascii_case("Bearer")
        .then_some(token.trim())
}
