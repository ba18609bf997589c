//! The commands' way to a server: its HTTP API, and what its answers mean for the exit code.

use crate::cli::Server;
use crate::exit::{Exit, Failure};
use crate::files::DevContext;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::Value;
use std::time::Duration;

/// A server and the token to show it.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) url: String,
    pub(crate) token: String,
    http: reqwest::Client,
}

/// An answer that is no failure.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) replayed: bool,
    pub(crate) body: Value,
}

impl Client {
    /// The server that the arguments, the environment or a running `dev` name.
    pub(crate) fn new(server: &Server) -> Result<Self, Failure> {
        let dev = DevContext::read();
        let url = server
            .url
            .clone()
            .or_else(|| dev.as_ref().map(|dev| dev.url.clone()));
        let token = server.token.clone().or_else(|| dev.map(|dev| dev.token));
        let Some(url) = url else {
            return Err(Failure::new(
                Exit::CannotConnect,
                "E-NO-SERVER",
                "no server is named",
                "neither --url nor COUNTERSIGN_URL is given, and no `countersign dev` is running",
                "countersign dev",
            ));
        };
        let token = token.ok_or_else(|| {
            Failure::new(
                Exit::NotAuthorised,
                "E-TOKEN-MISSING",
                "no token is given",
                "neither --token nor COUNTERSIGN_TOKEN is given",
                "countersign token new --scope send,read",
            )
        })?;
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .build()
            .map_err(|error| Failure::unexpected("cannot set up HTTP", error))?;
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
            token,
            http,
        })
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(&self.token)
    }

    /// A question with parameters.
    pub(crate) fn question(
        &self,
        path: &str,
        parameters: &[(String, String)],
    ) -> Result<RequestBuilder, Failure> {
        let url = format!("{}{path}", self.url);
        let url = reqwest::Url::parse_with_params(&url, parameters).map_err(|error| {
            let what = format!("{url} is no address");
            let todo = "correct --url or COUNTERSIGN_URL";
            Failure::new(Exit::Usage, "E-USAGE", what, error.to_string(), todo)
        })?;
        Ok(self.http.get(url).bearer_auth(&self.token))
    }

    /// Sends `request` and turns a refusal into the failure it is.
    pub(crate) async fn send(
        &self,
        doing: &str,
        request: RequestBuilder,
    ) -> Result<Answer, Failure> {
        let response = request
            .send()
            .await
            .map_err(|error| self.unreachable(doing, &error))?;
        let status = response.status();
        let replayed = response.headers().contains_key("idempotency-replayed");
        let text = response
            .text()
            .await
            .map_err(|error| self.unreachable(doing, &error))?;
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        if status.is_success() {
            Ok(Answer { replayed, body })
        } else {
            Err(refused(doing, status, &body))
        }
    }

    fn unreachable(&self, doing: &str, error: &reqwest::Error) -> Failure {
        let mut why = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(inner) = source {
            why = inner.to_string();
            source = inner.source();
        }
        Failure::new(
            Exit::CannotConnect,
            "E-CANNOT-CONNECT",
            format!("cannot {doing}: {} does not answer", self.url),
            why,
            "check that the server runs there (countersign dev, or countersign serve), then try again",
        )
    }
}

fn refused(doing: &str, status: StatusCode, body: &Value) -> Failure {
    let exit = match status.as_u16() {
        401 | 403 => Exit::NotAuthorised,
        404 | 410 => Exit::NotFound,
        409 | 422 => Exit::Conflict,
        400 | 413 | 415 => Exit::Usage,
        502..=504 => Exit::CannotConnect,
        _ => Exit::Unexpected,
    };
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    let detail = text("detail")
        .or(text("title"))
        .or(body.as_str())
        .unwrap_or("no reason is given");
    let hint = text("hint").unwrap_or("see the reason above");
    let code = text("code").unwrap_or("E-REFUSED");
    Failure::new(
        exit,
        code.to_owned(),
        format!("cannot {doing}: {}", status),
        detail,
        hint,
    )
}

/// Runs `task` on a runtime of its own.
pub(crate) fn block_on<T>(task: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::unexpected("cannot start the runtime", error))?
        .block_on(task)
}
