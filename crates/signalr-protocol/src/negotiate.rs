//! The HTTP exchange before a connection: which transports there are, and the ids to use.
//!
//! Promise: what [`NegotiateResponse`] writes is what the official server writes, key order
//! included. What is left out: drawing ids and asking over HTTP.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// Newest version of the exchange: 1 has a secret connection token apart from the public id.
pub const VERSION_MAX: i32 = 1;

/// A way to move bytes both ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// One WebSocket.
    WebSockets,
    /// A stream of events down, POST requests up. Text only.
    ServerSentEvents,
    /// A chain of waiting GET requests down, POST requests up.
    LongPolling,
}

/// What kinds of bytes a transport can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransferFormat {
    /// UTF-8 text: enough for JSON.
    Text,
    /// Any bytes: MessagePack needs it.
    Binary,
}

/// One transport that the server offers. Names unknown to a client are kept and skipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TransportOffer {
    /// Name of the transport.
    pub transport: Cow<'static, str>,
    /// Names of the formats that it carries.
    pub transfer_formats: Vec<Cow<'static, str>>,
}

/// The server's answer to `POST {hub}/negotiate`: an offer, a redirect or a refusal.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NegotiateResponse {
    /// Stateful reconnect was asked for and granted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub use_stateful_reconnect: Option<bool>,
    /// 0 or 1; missing means 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub negotiate_version: Option<i32>,
    /// The public id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_id: Option<String>,
    /// The secret value of `?id=`, in version 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_token: Option<String>,
    /// In the order of the server's preference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available_transports: Option<Vec<TransportOffer>>,
    /// Negotiate again there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Use this bearer token from now on; only together with `url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_token: Option<String>,
    /// How long the token of this request is still good for; for clients that refresh it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_lifetime_seconds: Option<u64>,
    /// The server refuses; this is why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Present only in the answer of an old ASP.NET SignalR server, which speaks otherwise.
    #[serde(rename = "ProtocolVersion", skip_serializing_if = "Option::is_none")]
    pub classic_protocol_version: Option<String>,
}

/// Why the server cannot serve the version that the client asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// Not a 32-bit integer, empty, or given twice.
    #[error("The client requested a non-integer protocol version.")]
    NotInteger,
    /// Below what the server still speaks.
    #[error(
        "The client requested version '{requested}', but the server does not support this version."
    )]
    TooOld {
        /// What the client asked for.
        requested: i32,
    },
}

/// What a client does with the server's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Negotiated {
    /// Connect.
    Offer(Offer),
    /// Negotiate again at another address.
    Redirect {
        /// Where; its query is kept.
        url: String,
        /// The token to use there, when the server gives one.
        access_token: Option<String>,
    },
}

/// A connection that waits to be attached to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The public id.
    pub connection_id: String,
    /// The value of `?id=`.
    pub connection_token: String,
    /// In the order of the server's preference.
    pub transports: Vec<TransportOffer>,
    /// Stateful reconnect was granted.
    pub stateful_reconnect: bool,
    /// How long the server takes the token for good; `None` when it does not say.
    pub token_lifetime_seconds: Option<u64>,
}

/// Why a client cannot use the server's answer. Asking again gives the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NegotiateError {
    /// The server refused; this is what it said.
    #[error("{error}")]
    Refused {
        /// Its words.
        error: String,
    },
    /// An old ASP.NET SignalR server, which speaks another protocol.
    #[error("the server speaks ASP.NET SignalR, not ASP.NET Core SignalR")]
    Classic,
    /// Neither an offer, nor a redirect, nor a refusal.
    #[error("the negotiation response is invalid: {detail}")]
    Malformed {
        /// What is wrong with it.
        detail: String,
    },
}

impl Transport {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::WebSockets => "WebSockets",
            Self::ServerSentEvents => "ServerSentEvents",
            Self::LongPolling => "LongPolling",
        }
    }

    /// The formats this transport can carry.
    pub fn formats(self) -> &'static [TransferFormat] {
        match self {
            Self::ServerSentEvents => &[TransferFormat::Text],
            Self::WebSockets | Self::LongPolling => &[TransferFormat::Text, TransferFormat::Binary],
        }
    }

    /// The transport of this name, compared without case.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::WebSockets, Self::ServerSentEvents, Self::LongPolling]
            .into_iter()
            .find(|transport| transport.name().eq_ignore_ascii_case(name))
    }
}

impl TransferFormat {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "Text",
            Self::Binary => "Binary",
        }
    }
}

impl TransportOffer {
    /// Offers `transport` with all the formats it can carry.
    pub fn new(transport: Transport) -> Self {
        Self {
            transport: Cow::Borrowed(transport.name()),
            transfer_formats: transport
                .formats()
                .iter()
                .map(|f| f.name().into())
                .collect(),
        }
    }

    /// The transport, `None` when its name is unknown.
    pub fn kind(&self) -> Option<Transport> {
        Transport::from_name(&self.transport)
    }

    /// Whether the transport carries `format`.
    pub fn carries(&self, format: TransferFormat) -> bool {
        self.transfer_formats
            .iter()
            .any(|name| name.eq_ignore_ascii_case(format.name()))
    }
}

impl NegotiateResponse {
    /// A refusal, answered with status 200.
    pub fn refusal(error: impl ToString) -> Self {
        Self {
            error: Some(error.to_string()),
            ..Self::default()
        }
    }

    /// The answer as compact JSON.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and numbers always serialise")
    }

    /// Reads an answer and decides what to do with it.
    ///
    /// # Errors
    ///
    /// When the server refused or the answer makes no sense.
    pub fn read(json: &[u8]) -> Result<Negotiated, NegotiateError> {
        let response: Self =
            serde_json::from_slice(json).map_err(|error| NegotiateError::Malformed {
                detail: error.to_string(),
            })?;
        response.decide()
    }

    fn decide(self) -> Result<Negotiated, NegotiateError> {
        if let Some(error) = self.error.filter(|error| !error.is_empty()) {
            return Err(NegotiateError::Refused { error });
        }
        if self.classic_protocol_version.is_some() {
            return Err(NegotiateError::Classic);
        }
        if let Some(url) = self.url.filter(|url| !url.is_empty()) {
            return Ok(Negotiated::Redirect {
                url,
                access_token: self.access_token,
            });
        }
        let missing = |name: &str| NegotiateError::Malformed {
            detail: format!("no {name}"),
        };
        let connection_id = self.connection_id.ok_or_else(|| missing("connectionId"))?;
        let connection_token = match self.negotiate_version {
            None | Some(..=0) => connection_id.clone(),
            Some(_) => self
                .connection_token
                .ok_or_else(|| missing("connectionToken"))?,
        };
        Ok(Negotiated::Offer(Offer {
            connection_id,
            connection_token,
            transports: self.available_transports.unwrap_or_default(),
            stateful_reconnect: self.use_stateful_reconnect.unwrap_or(false),
            token_lifetime_seconds: self.token_lifetime_seconds,
        }))
    }
}

/// The version a server answers with, given the values of `negotiateVersion` in the query.
///
/// # Errors
///
/// When the client asked for something that this server cannot serve; the error's text is the
/// refusal.
pub fn choose_version<'a>(
    requested: impl IntoIterator<Item = &'a str>,
    version_min: i32,
) -> Result<i32, VersionError> {
    let mut requested = requested.into_iter();
    let version = match (requested.next(), requested.next()) {
        (None, _) => 0,
        (Some(text), None) => text.trim().parse().map_err(|_| VersionError::NotInteger)?,
        (Some(_), Some(_)) => return Err(VersionError::NotInteger),
    };
    if version < version_min {
        return Err(VersionError::TooOld { requested: version });
    }
    Ok(version.min(VERSION_MAX))
}
