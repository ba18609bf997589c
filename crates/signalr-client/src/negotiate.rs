//! Asks the server over HTTP which transports there are, and for a connection to attach to.

use std::time::Duration;

use http::HeaderMap;
use http::header::{AUTHORIZATION, RETRY_AFTER};
use reqwest::{Response, StatusCode, Url};
use signalr_protocol::defaults::REDIRECTS_MAX;
use signalr_protocol::negotiate::{
    NegotiateError, NegotiateResponse, Negotiated, Offer, VERSION_MAX,
};

use crate::error::with_causes;
use crate::options::hub_url;
use crate::token::{Credentials, TokenProvider};
use crate::transport::X_REQUESTED_WITH;
use crate::{Error, Options, Transport};

/// Where to connect, as whom, and what the server said about the connection.
#[derive(Clone)]
pub(crate) struct Destination {
    pub(crate) url: Url,
    pub(crate) token: Option<TokenProvider>,
    pub(crate) offer: Option<Offer>,
}

impl Destination {
    /// The hub itself, without negotiation.
    pub(crate) fn hub(options: &Options) -> Self {
        Self {
            url: options.url.clone(),
            token: options.token.clone(),
            offer: None,
        }
    }

    /// For the connection that comes of this: its token is asked for anew.
    pub(crate) fn credentials(&self) -> Credentials {
        Credentials::new(self.token.clone())
    }
}

/// Negotiates, following redirects. The answer's address holds the secret connection token: it belongs in no log.
pub(crate) async fn negotiate(
    http: &reqwest::Client,
    options: &Options,
) -> Result<Destination, Error> {
    let mut at = Destination::hub(options);
    for _ in 0..REDIRECTS_MAX {
        match ask(http, options, &at).await? {
            Negotiated::Offer(offer) => {
                at.url
                    .query_pairs_mut()
                    .append_pair("id", &offer.connection_token);
                at.offer = Some(offer);
                return Ok(at);
            }
            Negotiated::Redirect { url, access_token } => {
                at.url = hub_url(&url).map_err(|error| Error::Protocol {
                    detail: format!("redirected to where nobody can go: {error}"),
                })?;
                if let Some(token) = access_token {
                    at.token = Some(TokenProvider::fixed(token));
                }
            }
            _ => {
                return Err(Error::Protocol {
                    detail: "an answer of an unknown kind".into(),
                });
            }
        }
    }
    Err(Error::Refused {
        detail: "Negotiate redirection limit exceeded.".into(),
    })
}

async fn ask(
    http: &reqwest::Client,
    options: &Options,
    at: &Destination,
) -> Result<Negotiated, Error> {
    let mut request = http
        .post(negotiate_url(&at.url, asks_for_resumption(options)))
        .headers(options.headers.clone())
        .header(X_REQUESTED_WITH, "XMLHttpRequest")
        .header(http::header::CONTENT_LENGTH, 0)
        .timeout(options.connect_timeout);
    if let Some(authorization) = at.credentials().current().await? {
        request = request.header(AUTHORIZATION, authorization);
    }
    let response = request.send().await.map_err(failed)?;
    let status = response.status();
    let wait = retry_after(response.headers());
    let body = read_at_most(response, ANSWER_BYTES_MAX).await?;
    if status != StatusCode::OK {
        return Err(Error::from_status(status.as_u16(), wait, &one_line(&body)));
    }
    NegotiateResponse::read(&body).map_err(|error| match error {
        NegotiateError::Refused { error } => Error::Refused { detail: error },
        NegotiateError::Classic => Error::Refused {
            detail: error.to_string(),
        },
        error => Error::Protocol {
            detail: error.to_string(),
        },
    })
}

/// `/hub/?x=1` becomes `/hub/negotiate?x=1&negotiateVersion=1`; a version the caller asks for stays.
fn negotiate_url(hub: &Url, asks_for_resumption: bool) -> Url {
    let mut url = hub.clone();
    url.set_path(&format!("{}/negotiate", hub.path().trim_end_matches('/')));
    if !hub
        .query_pairs()
        .any(|(name, _)| name.eq_ignore_ascii_case("negotiateVersion"))
    {
        url.query_pairs_mut()
            .append_pair("negotiateVersion", &VERSION_MAX.to_string());
    }
    if asks_for_resumption {
        url.query_pairs_mut()
            .append_pair("useStatefulReconnect", "true");
    }
    url
}

/// Only from a WebSocket can another take over.
pub(crate) fn asks_for_resumption(options: &Options) -> bool {
    options.stateful_reconnect && options.transports.contains(&Transport::WebSockets)
}

/// Reads an answer to its end, but no more than this many bytes.
pub(crate) async fn read_at_most(
    mut response: Response,
    bytes_max: usize,
) -> Result<Vec<u8>, Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > bytes_max {
            return Err(Error::Protocol {
                detail: format!("an answer is larger than {bytes_max} bytes"),
            });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Why a request got no answer. The address is left out: it may hold secrets in its query.
pub(crate) fn failed(error: reqwest::Error) -> Error {
    let detail = with_causes(&error.without_url());
    // The library tells it in words alone. Should they change, it counts as unreachable, which is true as well.
    match detail.contains("proxy authorization required") {
        true => Error::proxy_credentials(),
        false => Error::unreachable(detail),
    }
}

/// How long a refusing server asks us to wait. Dates are passed over: clocks differ.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds))
}

/// The beginning of a refusal's body, fit for one line of a log.
pub(crate) fn one_line(body: &[u8]) -> String {
    String::from_utf8_lossy(body)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(DETAIL_CHARS_MAX)
        .collect::<String>()
        .trim()
        .to_owned()
}

/// An answer is a few hundred bytes; tokens in redirects make it longer.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

const DETAIL_CHARS_MAX: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negotiation_goes_before_the_query_and_keeps_it() {
        for (hub, expected) in [
            ("http://h/hub", "http://h/hub/negotiate?negotiateVersion=1"),
            (
                "http://h/hub/?x=1",
                "http://h/hub/negotiate?x=1&negotiateVersion=1",
            ),
            ("http://h", "http://h/negotiate?negotiateVersion=1"),
            (
                "http://h/a?negotiateVersion=0",
                "http://h/a/negotiate?negotiateVersion=0",
            ),
        ] {
            assert_eq!(
                negotiate_url(&Url::parse(hub).unwrap(), false).as_str(),
                expected
            );
        }
    }
}
