//! Gives the server a fresh token before the old one ends, without a new connection (`POST {hub}/refresh`, clients and
//! servers from version 11 on).
//!
//! Promise: it never ends a connection. Where the server does not know the request, or the token callback has nothing
//! better, the connection lives on until the server ends it.

use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_LENGTH};
use http::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{StatusCode, Url};
use serde::Deserialize;
use tokio::time::sleep;

use crate::negotiate::{Destination, failed, read_at_most};
use crate::token::Credentials;
use crate::transport::X_REQUESTED_WITH;
use crate::{Error, Options};

/// Refreshes the token of one connection again and again.
#[derive(Debug)]
pub(crate) struct Refresher {
    http: reqwest::Client,
    url: Url,
    connection_token: HeaderValue,
    headers: HeaderMap,
    credentials: Arc<Credentials>,
    lifetime: Duration,
    lead: Duration,
    request_timeout: Duration,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Refreshed {
    token_lifetime_seconds: Option<u64>,
}

/// What one try came to.
enum Outcome {
    /// The server takes the token for so long from now.
    Good(Option<Duration>),
    /// It may work later.
    NotNow(Error),
    /// The server knows no refresh, or not this connection.
    Never,
}

impl Refresher {
    /// `None` when there is nothing to refresh: no token, or a server that does not say how long it takes it.
    pub(crate) fn new(
        http: &reqwest::Client,
        options: &Options,
        at: &Destination,
        credentials: &Arc<Credentials>,
    ) -> Option<Self> {
        let offer = at.offer.as_ref()?;
        at.token.as_ref()?;
        let mut connection_token = HeaderValue::try_from(&offer.connection_token).ok()?;
        connection_token.set_sensitive(true);
        Some(Self {
            http: http.clone(),
            url: refresh_url(&at.url),
            connection_token,
            headers: options.headers.clone(),
            credentials: Arc::clone(credentials),
            lifetime: Duration::from_secs(offer.token_lifetime_seconds?),
            lead: options.refresh_before_expiry?,
            request_timeout: options.connect_timeout,
        })
    }

    /// Runs beside the connection. Ends when refreshing has no more sense.
    pub(crate) async fn run(&self) {
        let mut left = self.lifetime;
        loop {
            let pause = pause(left, self.lead);
            sleep(pause).await;
            match self.refresh().await {
                Outcome::Good(Some(lifetime)) => left = lifetime,
                Outcome::Good(None) => return,
                Outcome::NotNow(error) => {
                    tracing::warn!(%error, "the token could not be refreshed");
                    left = left.saturating_sub(pause);
                    if left < PAUSE_MIN {
                        return;
                    }
                }
                Outcome::Never => {
                    tracing::debug!("the server refreshes no tokens");
                    return;
                }
            }
        }
    }

    async fn refresh(&self) -> Outcome {
        let authorization = match self.credentials.renew().await {
            Ok(Some(authorization)) => authorization,
            Ok(None) => return Outcome::Never,
            Err(error) => return Outcome::NotNow(error),
        };
        let request = self
            .http
            .post(self.url.clone())
            .headers(self.headers.clone())
            .header(X_REQUESTED_WITH, "XMLHttpRequest")
            .header(X_SIGNALR_CONNECTION_TOKEN, &self.connection_token)
            .header(AUTHORIZATION, authorization)
            .header(CONTENT_LENGTH, 0)
            .timeout(self.request_timeout);
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Outcome::NotNow(failed(error)),
        };
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => return Outcome::Never,
            status => return Outcome::NotNow(Error::from_status(status.as_u16(), None, "")),
        }
        let body = match read_at_most(response, ANSWER_BYTES_MAX).await {
            Ok(body) => body,
            Err(error) => return Outcome::NotNow(error),
        };
        let refreshed = serde_json::from_slice::<Refreshed>(&body).ok();
        let seconds = refreshed.and_then(|refreshed| refreshed.token_lifetime_seconds);
        Outcome::Good(seconds.map(Duration::from_secs))
    }
}

/// As the .NET client has it: so long before the end, or in the middle of what lives shorter.
fn pause(left: Duration, lead: Duration) -> Duration {
    match left.checked_sub(lead) {
        Some(pause) if !pause.is_zero() => pause,
        _ => left / 2,
    }
    .max(PAUSE_MIN)
}

/// `/hub?id=…` becomes `/hub/refresh`: the connection's secret stands in a header instead.
fn refresh_url(connect: &Url) -> Url {
    let mut url = connect.clone();
    let path = format!("{}/refresh", connect.path().trim_end_matches('/'));
    url.set_path(&path);
    let kept: Vec<(String, String)> = connect
        .query_pairs()
        .filter(|(name, _)| name != "id")
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    url.set_query(None);
    if !kept.is_empty() {
        url.query_pairs_mut().extend_pairs(kept);
    }
    url
}

const X_SIGNALR_CONNECTION_TOKEN: HeaderName =
    HeaderName::from_static("x-signalr-connection-token");

/// A server that gives tokens no time to live is not asked more often.
const PAUSE_MIN: Duration = Duration::from_secs(1);

const ANSWER_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_refreshed_ahead_of_its_end_and_a_short_one_in_the_middle() {
        let secs = Duration::from_secs;
        assert_eq!(pause(secs(3600), secs(300)), secs(3300));
        assert_eq!(pause(secs(300), secs(300)), secs(150));
        assert_eq!(pause(secs(20), secs(300)), secs(10));
        assert_eq!(pause(secs(0), secs(300)), secs(1));
    }

    #[test]
    fn the_refresh_goes_beside_the_hub_without_the_connections_secret() {
        for (connect, expected) in [
            ("http://h/hub?id=s", "http://h/hub/refresh"),
            ("http://h/hub/?a=b&id=s", "http://h/hub/refresh?a=b"),
        ] {
            let url = refresh_url(&Url::parse(connect).unwrap());
            assert_eq!(url.as_str(), expected);
        }
    }
}
