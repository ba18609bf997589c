//! What can go wrong, told by what the caller does next.

use std::time::Duration;

use signalr_protocol::BindError;

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The options cannot work: mend them.
    #[error("the options cannot work: {detail}")]
    Options {
        /// Which, and why.
        detail: String,
    },
    /// The caller's own token callback failed: look there.
    #[error("no token could be had: {detail}")]
    Token {
        /// What the callback said.
        detail: String,
    },
    /// The server does not accept the token, or wants one: get another.
    #[error("the server answered {status}: {detail}")]
    Unauthorised {
        /// 401 or 403.
        status: u16,
        /// What the server said.
        detail: String,
    },
    /// The server cannot be reached or is overloaded: try again later.
    #[error("the server cannot be reached: {detail}")]
    Unreachable {
        /// What was tried, and what happened.
        detail: String,
        /// When the server asked to try again, if it did.
        retry_after: Option<Duration>,
    },
    /// The server refuses, and will again: wrong address, or nothing in common. Tell the operator.
    #[error("the server refuses: {detail}")]
    Refused {
        /// What it said.
        detail: String,
    },
    /// The peer does not speak SignalR as we know it: tell the operator.
    #[error("the server broke the protocol: {detail}")]
    Protocol {
        /// How.
        detail: String,
    },
    /// There was a connection, and it ended.
    #[error(transparent)]
    Closed(#[from] Closed),
}

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Closed {
    /// This side closed it.
    #[error("the connection was closed by this side")]
    ByClient,
    /// The server said that it closes it.
    #[error("the server closed the connection{}", because(.error))]
    ByServer {
        /// Its words, when something went wrong.
        error: Option<String>,
        /// Whether it allows to come back. Without that, official clients stay away.
        allow_reconnect: bool,
    },
    /// The network connection ended without a word from the server. Come back.
    #[error("the connection was lost: {detail}")]
    Lost {
        /// What was seen.
        detail: String,
    },
    /// The server was silent for too long. Come back.
    #[error("nothing came from the server for {after:?}")]
    ServerTimeout {
        /// For how long.
        after: Duration,
    },
    /// What we sent was not taken for too long. Come back.
    #[error("the server took nothing for {after:?}")]
    SendTimeout {
        /// For how long.
        after: Duration,
    },
    /// The server sent what cannot be read, or too much of it. Coming back may help once it is mended.
    #[error("the server broke the protocol: {detail}")]
    Protocol {
        /// How.
        detail: String,
    },
}

/// Why a call has no result, or was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The method failed, or there is none. These are the server's words.
    #[error("{0}")]
    Failed(String),
    /// The arguments or the answer cannot be written in the connection's encoding: mend the caller. Nothing was sent.
    #[error("it cannot be written: {detail}")]
    Unwritable {
        /// What the encoder said.
        detail: String,
    },
    /// The message is larger than [`Options::send_bytes_max`](crate::Options::send_bytes_max). Nothing was sent.
    #[error("the message is {bytes} bytes, the limit is {bytes_max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The method ran, but its result is not of the type asked for.
    #[error("the result is not of the type asked for: {0}")]
    Result(#[from] BindError),
    /// There is no connection at the moment. Nothing was sent.
    #[error("there is no connection at the moment")]
    NotConnected,
    /// The connection ended. Whether the method ran is not known.
    #[error(transparent)]
    Closed(#[from] Closed),
}

impl Closed {
    /// Whether the server's last word allows to come back, as official clients read it.
    #[must_use]
    pub fn may_return(&self) -> bool {
        match self {
            Self::ByClient => false,
            Self::ByServer {
                allow_reconnect, ..
            } => *allow_reconnect,
            Self::Lost { .. }
            | Self::ServerTimeout { .. }
            | Self::SendTimeout { .. }
            | Self::Protocol { .. } => true,
        }
    }
}

impl Error {
    pub(crate) fn unreachable(detail: impl Into<String>) -> Self {
        Self::Unreachable {
            detail: detail.into(),
            retry_after: None,
        }
    }

    pub(crate) fn proxy_credentials() -> Self {
        Self::Options {
            detail: "the proxy wants other credentials (407)".into(),
        }
    }

    /// What the status of a refused request means for the caller.
    pub(crate) fn from_status(status: u16, retry_after: Option<Duration>, body: &str) -> Self {
        let detail = match body {
            "" => format!("status {status}"),
            body => format!("status {status}: {body}"),
        };
        match status {
            401 | 403 => {
                let detail = if body.is_empty() {
                    "no reason given"
                } else {
                    body
                }
                .to_owned();
                Self::Unauthorised { status, detail }
            }
            407 => Self::proxy_credentials(),
            408 | 425 | 429 | 500.. => Self::Unreachable {
                detail,
                retry_after,
            },
            _ => Self::Refused { detail },
        }
    }
}

fn because(error: &Option<String>) -> String {
    error
        .as_ref()
        .map(|error| format!(": {error}"))
        .unwrap_or_default()
}

/// An error and its causes in one line: the outermost alone often says only that "it" failed.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = inner.source();
    }
    text
}
