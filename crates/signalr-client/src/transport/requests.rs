//! The HTTP requests of the transports that are made of them: POST up, and GET down in one way or another.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION};
use http::{HeaderMap, HeaderName, Method};
use reqwest::{Response, StatusCode, Url};

use crate::negotiate::{failed, one_line, read_at_most, retry_after};
use crate::token::Credentials;
use crate::{Closed, Error};

/// What the requests of one connection have in common.
#[derive(Debug)]
pub(crate) struct Requests {
    http: reqwest::Client,
    /// Holds the secret connection token: it belongs in no log.
    url: Url,
    headers: HeaderMap,
    credentials: Arc<Credentials>,
}

impl Requests {
    pub(crate) fn new(
        http: reqwest::Client,
        url: Url,
        headers: HeaderMap,
        credentials: Arc<Credentials>,
    ) -> Self {
        Self {
            http,
            url,
            headers,
            credentials,
        }
    }

    pub(super) async fn post(&self, body: Vec<u8>) -> Result<(), Closed> {
        let body = Some(Bytes::from(body));
        let answered = self.send(Method::POST, "*/*", body).await;
        answered.map(drop).map_err(lost)
    }

    pub(super) async fn delete(&self) {
        // It may be gone already, which is what was wanted.
        let _ = self.send(Method::DELETE, "*/*", None).await;
    }

    pub(super) async fn get(&self, accept: &'static str) -> Result<Response, Error> {
        self.send(Method::GET, accept, None).await
    }

    /// Sends one request. A token that the server does not take any more is replaced once, as the .NET client does.
    async fn send(
        &self,
        method: Method,
        accept: &'static str,
        body: Option<Bytes>,
    ) -> Result<Response, Error> {
        let authorization = self.credentials.current().await?;
        let first = self.attempt(&method, accept, &body, authorization).await;
        match first {
            Err(Error::Unauthorised { status: 401, .. }) => {}
            answered => return answered,
        }
        let authorization = self.credentials.renew().await?;
        self.attempt(&method, accept, &body, authorization).await
    }

    async fn attempt(
        &self,
        method: &Method,
        accept: &'static str,
        body: &Option<Bytes>,
        authorization: Option<http::HeaderValue>,
    ) -> Result<Response, Error> {
        let mut request = self
            .http
            .request(method.clone(), self.url.clone())
            .headers(self.headers.clone())
            .header(X_REQUESTED_WITH, "XMLHttpRequest")
            .header(ACCEPT, accept);
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if let Some(body) = body {
            request = request.body(body.clone());
        }
        let response = request.send().await.map_err(failed)?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(refused(response).await)
    }
}

async fn refused(response: Response) -> Error {
    let status = response.status();
    let wait = retry_after(response.headers());
    let body = read_at_most(response, REFUSAL_BYTES_MAX).await;
    let said = match (status, body) {
        (_, Ok(body)) if !body.is_empty() => one_line(&body),
        (StatusCode::NOT_FOUND, _) => "the server does not know this connection".to_owned(),
        _ => String::new(),
    };
    Error::from_status(status.as_u16(), wait, &said)
}

/// What a failed request means once the connection lives: the transport is over, and the next attempt finds out more.
pub(super) fn lost(error: Error) -> Closed {
    Closed::Lost {
        detail: error.to_string(),
    }
}

pub(crate) const X_REQUESTED_WITH: HeaderName = HeaderName::from_static("x-requested-with");

/// Of what a refusing server says, no more than this is read.
const REFUSAL_BYTES_MAX: usize = 16 * 1024;
