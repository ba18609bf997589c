//! Where the agent's bearer token comes from: one for the hub and the ack API alike.
//!
//! Promise: a token is asked for at every connect and every post, fetched only when the last one
//! nears its end, and never sent anywhere but to the hub, the ack API and the token service.

use crate::Error;
use crate::backoff::retry_after;
use crate::client::{client_for, explain, parse_url, read_up_to};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Url};
use serde::Deserialize;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use tokio::sync::Mutex;

/// Where the bearer token comes from.
#[derive(Clone)]
#[non_exhaustive]
pub enum TokenSource {
    /// None is sent, for a hub that asks for none.
    None,
    /// Always this one.
    Fixed(String),
    /// The content of a file, read again for every connect and every post, so that whoever renews
    /// it only has to replace the file.
    File(PathBuf),
    /// OAuth2 client credentials (RFC 6749, section 4.4), kept until shortly before they expire.
    ClientCredentials {
        /// The token endpoint, such as `http://127.0.0.1:7422/oauth2/token`.
        token_url: String,
        /// Who the agent is.
        client_id: String,
        /// How it proves that.
        client_secret: String,
        /// Scopes to ask for, separated by spaces; empty for whatever the client may have.
        scope: String,
    },
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenSource::None => f.write_str("None"),
            TokenSource::Fixed(_) => f.write_str("Fixed"),
            TokenSource::File(path) => f.debug_tuple("File").field(path).finish(),
            TokenSource::ClientCredentials {
                token_url,
                client_id,
                ..
            } => f
                .debug_struct("ClientCredentials")
                .field("token_url", token_url)
                .field("client_id", client_id)
                .finish_non_exhaustive(),
        }
    }
}

/// A bearer token.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// Empty when none is to be sent.
    pub(crate) text: String,
    /// When a new one should be in use; `None` when nobody knows.
    pub(crate) renew_at: Option<SystemTime>,
}

impl Token {
    /// A token that is used from `now` to `expires_at`.
    fn living(text: String, now: SystemTime, expires_at: Option<SystemTime>) -> Self {
        let renew_at = expires_at.map(|end| {
            let lifetime = end.duration_since(now).unwrap_or_default();
            now + lifetime.saturating_sub(RENEW_BEFORE.min(lifetime / 3))
        });
        Self { text, renew_at }
    }

    fn is_fresh(&self, now: SystemTime) -> bool {
        self.renew_at.is_none_or(|at| now < at)
    }

    /// What to send, if anything.
    pub(crate) fn bearer(&self) -> Option<&str> {
        (!self.text.is_empty()).then_some(self.text.as_str())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("renew_at", &self.renew_at)
            .finish_non_exhaustive()
    }
}

/// Why there is no token at the moment. Trying again may do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("the token file {path} could not be read: {source}")]
    File {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("the token service could not be asked: {0}")]
    Unreachable(String),
    #[error("the token service answered {status}: {detail}")]
    Refused {
        status: u16,
        detail: String,
        retry_after: Option<Duration>,
    },
}

impl TokenError {
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            TokenError::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// The source with the last token it gave.
#[derive(Debug)]
pub(crate) struct Tokens {
    source: Source,
    /// Held while a token is fetched, so that those who need one at the same time share it.
    last: Mutex<Option<Token>>,
}

#[derive(Debug)]
enum Source {
    None,
    Fixed(String),
    File(PathBuf),
    Service {
        client: Client,
        url: Url,
        form: Vec<u8>,
    },
}

impl Tokens {
    pub(crate) fn new(source: &TokenSource) -> Result<Self, Error> {
        let source = match source {
            TokenSource::None => Source::None,
            TokenSource::Fixed(text) => Source::Fixed(text.trim().to_owned()),
            TokenSource::File(path) => Source::File(path.clone()),
            TokenSource::ClientCredentials {
                token_url,
                client_id,
                client_secret,
                scope,
            } => {
                let url = parse_url("token.token_url", token_url)?;
                let client = client_for(&url, TOKEN_TIMEOUT)?;
                Source::Service {
                    client,
                    url,
                    form: form(client_id, client_secret, scope),
                }
            }
        };
        Ok(Self {
            source,
            last: Mutex::new(None),
        })
    }

    /// A token that is good now, as far as anybody here can tell.
    pub(crate) async fn current(&self) -> Result<Token, TokenError> {
        let mut last = self.last.lock().await;
        let now = SystemTime::now();
        match &self.source {
            Source::Service { client, url, form } => {
                if let Some(token) = last.as_ref().filter(|token| token.is_fresh(now)) {
                    return Ok(token.clone());
                }
                let token = fetch(client, url.clone(), form.clone()).await?;
                *last = Some(token.clone());
                Ok(token)
            }
            Source::None => Ok(Token {
                text: String::new(),
                renew_at: None,
            }),
            Source::Fixed(text) => Ok(remembered(&mut last, text, now)),
            Source::File(path) => {
                let text = read_file(path.clone()).await;
                let text = text.map_err(|source| TokenError::File {
                    path: path.clone(),
                    source,
                })?;
                Ok(remembered(&mut last, text.trim(), now))
            }
        }
    }

    /// `token` was refused: the next one must be another, if the source can give one.
    pub(crate) async fn refused(&self, token: &Token) {
        let mut last = self.last.lock().await;
        if last.as_ref() == Some(token) {
            *last = None;
        }
    }
}

/// The token with this text, with its half-life counted from when it was first seen.
fn remembered(last: &mut Option<Token>, text: &str, now: SystemTime) -> Token {
    match last {
        Some(token) if token.text == text => token.clone(),
        _ => last
            .insert(Token::living(text.to_owned(), now, expiry_of(text)))
            .clone(),
    }
}

/// When a JWT says that it expires. Whether it is genuine, the one who gets it decides.
fn expiry_of(text: &str) -> Option<SystemTime> {
    #[derive(Deserialize)]
    struct Claims {
        exp: u64,
    }
    let payload = text.split('.').nth(1)?;
    let claims = URL_SAFE_NO_PAD.decode(payload).ok()?;
    let claims: Claims = serde_json::from_slice(&claims).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(claims.exp))
}

fn form(client_id: &str, client_secret: &str, scope: &str) -> Vec<u8> {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials")
        .append_pair("client_id", client_id)
        .append_pair("client_secret", client_secret);
    if !scope.is_empty() {
        form.append_pair("scope", scope);
    }
    form.finish().into_bytes()
}

async fn fetch(client: &Client, url: Url, form: Vec<u8>) -> Result<Token, TokenError> {
    let asked_at = SystemTime::now();
    let request = client
        .post(url)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    let mut response = request
        .body(form)
        .send()
        .await
        .map_err(|error| TokenError::Unreachable(explain(error)))?;
    let status = response.status();
    let asked = retry_after(response.headers());
    let body = read_up_to(&mut response, ANSWER_BYTES_MAX).await;
    let refused = |detail: String| TokenError::Refused {
        status: status.as_u16(),
        detail,
        retry_after: asked,
    };
    if !status.is_success() {
        return Err(refused(refusal(&body)));
    }
    #[derive(Deserialize)]
    struct Granted {
        access_token: String,
        #[serde(default)]
        expires_in: Option<u64>,
    }
    let granted: Granted = serde_json::from_slice(&body)
        .map_err(|error| refused(format!("without a token that can be read: {error}")))?;
    let expires_at = match granted.expires_in {
        Some(seconds) => asked_at.checked_add(Duration::from_secs(seconds)),
        None => expiry_of(&granted.access_token),
    };
    Ok(Token::living(granted.access_token, asked_at, expires_at))
}

/// The words of a refusal (RFC 6749, section 5.2), or the start of whatever came instead.
fn refusal(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
        #[serde(default)]
        error_description: String,
    }
    match serde_json::from_slice::<Refusal>(body) {
        Ok(said) if said.error_description.is_empty() => said.error,
        Ok(said) => format!("{}: {}", said.error, said.error_description),
        Err(_) => String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned(),
    }
}

/// How long before its end a token is renewed, or a third of its life if that is shorter.
const RENEW_BEFORE: Duration = Duration::from_secs(30);
const TOKEN_TIMEOUT: Duration = Duration::from_secs(15);
const ANSWER_BYTES_MAX: usize = 64 * 1024;

async fn read_file(path: PathBuf) -> std::io::Result<String> {
    let read = tokio::task::spawn_blocking(move || std::fs::read_to_string(path)).await;
    read.map_err(std::io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(exp: u64) -> String {
        format!(
            "e30.{}.x",
            URL_SAFE_NO_PAD.encode(format!(r#"{{"sub":"lyon","exp":{exp}}}"#))
        )
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_token_is_renewed_thirty_seconds_before_its_end_or_after_two_thirds_of_a_short_life() {
        let token = Token::living(String::from("t"), at(1000), Some(at(4600)));
        assert_eq!(token.renew_at, Some(at(4570)));
        let token = Token::living(String::from("t"), at(1000), Some(at(1009)));
        assert_eq!(token.renew_at, Some(at(1006)));
        assert!(token.is_fresh(at(1005)) && !token.is_fresh(at(1006)));
    }

    #[test]
    fn the_end_of_a_token_is_read_from_the_token_itself() {
        assert_eq!(expiry_of(&jwt(1_700_000_000)), Some(at(1_700_000_000)));
        assert_eq!(expiry_of("opaque"), None);
        assert_eq!(expiry_of("a.b.c"), None);
    }

    #[tokio::test]
    async fn a_token_file_is_read_again_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let tokens = Tokens::new(&TokenSource::File(path.clone())).unwrap();
        assert!(matches!(
            tokens.current().await,
            Err(TokenError::File { .. })
        ));
        for text in ["one", "two"] {
            std::fs::write(&path, format!("{text}\n")).unwrap();
            assert_eq!(tokens.current().await.unwrap().bearer(), Some(text));
        }
    }

    #[test]
    fn secrets_stay_out_of_debug_output() {
        let source = TokenSource::ClientCredentials {
            token_url: String::from("http://127.0.0.1:7422/oauth2/token"),
            client_id: String::from("lyon"),
            client_secret: String::from("hunter2"),
            scope: String::new(),
        };
        assert!(!format!("{source:?}").contains("hunter2"));
        assert!(!format!("{:?}", TokenSource::Fixed(String::from("hunter2"))).contains("hunter2"));
    }
}
