//! Bearer tokens: where they come from, and the one in use.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderValue;

use crate::Error;

type TokenFuture = Pin<Box<dyn Future<Output = Result<String, Error>> + Send>>;

/// Gives a bearer token each time it is asked.
#[derive(Clone)]
pub(crate) struct TokenProvider(Arc<dyn Fn() -> TokenFuture + Send + Sync>);

impl TokenProvider {
    pub(crate) fn new<F, Fut, E>(callback: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<String, E>> + Send + 'static,
        E: fmt::Display + Send + 'static,
    {
        Self(Arc::new(move || {
            let token = callback();
            Box::pin(async move {
                token.await.map_err(|error| Error::Token {
                    detail: error.to_string(),
                })
            })
        }))
    }

    /// A provider of this one token: what a redirect gives.
    pub(crate) fn fixed(token: String) -> Self {
        Self::new(move || {
            let token = token.clone();
            async move { Ok::<_, String>(token) }
        })
    }

    /// The value of the `Authorization` header, marked as a secret.
    pub(crate) async fn authorization(&self) -> Result<HeaderValue, Error> {
        let token = (self.0)().await?;
        let mut value =
            HeaderValue::try_from(format!("Bearer {}", token.trim())).map_err(|_| {
                Error::Token {
                    detail: "the token may not stand in a header".to_owned(),
                }
            })?;
        value.set_sensitive(true);
        Ok(value)
    }
}

/// The token that one connection sends along: asked for once, and again when the server refuses it or it nears its
/// end. A transport of many requests would else ask for each of them.
pub(crate) struct Credentials {
    provider: Option<TokenProvider>,
    current: Mutex<Option<HeaderValue>>,
}

impl Credentials {
    pub(crate) fn new(provider: Option<TokenProvider>) -> Self {
        Self {
            provider,
            current: Mutex::default(),
        }
    }

    /// The token in use; `None` when the connection has none.
    pub(crate) async fn current(&self) -> Result<Option<HeaderValue>, Error> {
        let current = self.lock().clone();
        match current {
            Some(current) => Ok(Some(current)),
            None => self.renew().await,
        }
    }

    /// Asks for a token, which is the one in use from now on.
    pub(crate) async fn renew(&self) -> Result<Option<HeaderValue>, Error> {
        let Some(provider) = &self.provider else {
            return Ok(None);
        };
        let authorization = provider.authorization().await?;
        *self.lock() = Some(authorization.clone());
        Ok(Some(authorization))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<HeaderValue>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_token_is_asked_for_once_until_another_is_wanted() {
        let asked = AtomicU32::new(0);
        let provider = TokenProvider::new(move || {
            let n = asked.fetch_add(1, Ordering::SeqCst);
            async move { Ok::<_, String>(n.to_string()) }
        });
        let credentials = Credentials::new(Some(provider));
        for expected in ["Bearer 0", "Bearer 0"] {
            assert_eq!(credentials.current().await.unwrap().unwrap(), expected);
        }
        assert_eq!(credentials.renew().await.unwrap().unwrap(), "Bearer 1");
        assert_eq!(credentials.current().await.unwrap().unwrap(), "Bearer 1");
        assert_eq!(Credentials::new(None).current().await, Ok(None));
    }

    #[tokio::test]
    async fn a_token_is_never_shown() {
        let value = TokenProvider::fixed("s3cret".into()).authorization().await;
        assert!(!format!("{value:?}").contains("s3cret"));
    }
}
