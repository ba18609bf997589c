//! Who is connecting: tokens go in, identities come out. What a token is, the application says.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

/// Checks bearer tokens. Called for each request that carries one, so it should be quick: an
/// implementation that computes much keeps the answers of recent tokens.
pub trait TokenVerifier: Send + Sync + 'static {
    /// Says who the bearer is.
    ///
    /// # Errors
    ///
    /// When the token is not good here, or nobody can tell.
    fn verify(&self, token: &str) -> Result<Identity, Refusal>;
}

/// Who is at the other end of a connection.
#[derive(Clone)]
pub struct Identity {
    user_id: Option<Arc<str>>,
    expires_at: Option<SystemTime>,
    claims: Arc<dyn Any + Send + Sync>,
}

/// Why a request is refused. The text is sent to the client, so it must help and not tell secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The token is missing, malformed, expired or not trusted: 401. Another token may do.
    #[error("{detail}")]
    Unauthenticated {
        /// What is wrong with it, in one sentence.
        detail: String,
    },
    /// The token is good, but not for this hub: 403.
    #[error("{detail}")]
    Forbidden {
        /// What it lacks, in one sentence.
        detail: String,
    },
    /// The token cannot be checked at the moment: 503. The same request may do later.
    #[error("{detail}")]
    Unavailable {
        /// What is missing, in one sentence.
        detail: String,
    },
}

impl Identity {
    /// Nobody in particular.
    pub fn anonymous() -> Self {
        Self {
            user_id: None,
            expires_at: None,
            claims: Arc::new(()),
        }
    }

    /// The user with this id.
    pub fn user(id: impl Into<Arc<str>>) -> Self {
        Self {
            user_id: Some(id.into()),
            ..Self::anonymous()
        }
    }

    /// Sets when the token runs out; the connection is then closed and the client may come back.
    #[must_use]
    pub fn expiring_at(mut self, time: SystemTime) -> Self {
        self.expires_at = Some(time);
        self
    }

    /// Attaches what else the application knows from the token.
    #[must_use]
    pub fn with_claims<T: Any + Send + Sync>(mut self, claims: T) -> Self {
        self.claims = Arc::new(claims);
        self
    }

    /// The user's id, `None` for nobody in particular.
    pub fn user_id(&self) -> Option<&str> {
        self.user_id.as_deref()
    }

    pub(crate) fn shared_user_id(&self) -> Option<&Arc<str>> {
        self.user_id.as_ref()
    }

    /// When the token runs out, `None` for never.
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.expires_at
    }

    /// The claims, when they are of type `T`.
    pub fn claims<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.claims.downcast_ref()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("user_id", &self.user_id)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

impl Refusal {
    /// Refuses the token itself; says why in one sentence.
    pub fn unauthenticated(detail: impl Into<String>) -> Self {
        Self::Unauthenticated {
            detail: detail.into(),
        }
    }

    /// Refuses this bearer here; says why in one sentence.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::Forbidden {
            detail: detail.into(),
        }
    }
}

/// Who may use a hub.
pub(crate) enum Access {
    /// Everybody, and nobody is asked.
    Open,
    /// Everybody; whoever shows a token must show a good one.
    Optional(Box<dyn TokenVerifier>),
    /// Bearers of a good token.
    Required(Box<dyn TokenVerifier>),
}

impl Access {
    /// Decides about a request that carries `token`.
    pub(crate) fn admit(&self, token: Option<&str>) -> Result<Identity, Refusal> {
        match (self, token) {
            (Self::Open, _) | (Self::Optional(_), None) => Ok(Identity::anonymous()),
            (Self::Optional(verifier) | Self::Required(verifier), Some(token)) => {
                verifier.verify(token)
            }
            (Self::Required(_), None) => Err(Refusal::unauthenticated(
                "This hub needs a bearer token: send it as 'Authorization: Bearer <token>', or as \
                 '?access_token=<token>' where headers cannot be set.",
            )),
        }
    }
}
