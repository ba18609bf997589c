//! How a connection says goodbye, by the reason for which it ends.

use std::future::Future;

use bytes::Bytes;
use signalr_protocol::negotiate::Transport;
use signalr_protocol::{Close, error_text, handshake};

use super::handshake::Refusal;
use crate::outbox::{CloseCause, CloseOrder};
use crate::registry::Attachment;
use crate::wire::{CloseCode, Failure, Wire};
use crate::{Disconnect, HubError, Options};

/// Why a connection that had shaken hands ends.
#[derive(Debug)]
pub(super) enum Reason {
    /// The application, or the drain of the hub, wants it.
    Ordered(CloseOrder),
    TokenExpired,
    ClientTimeout,
    /// The client did not read.
    SlowReader,
    /// The client sent a Close message.
    Goodbye,
    /// The client sent a Close frame, which is answered already.
    Closed,
    /// The client asked over HTTP to end the connection.
    Deleted,
    /// The connection broke, or must be closed with a code because the WebSocket was misused.
    Broken(Failure),
    /// The client sent what cannot be understood.
    Malformed(String),
    /// The hub's connected event failed.
    NotConnected(HubError),
}

impl Reason {
    /// What the application is told.
    pub(super) fn disconnect(&self) -> Disconnect {
        match self {
            Self::Ordered(order) => match order.cause {
                CloseCause::Application => Disconnect::ByServer,
                CloseCause::Drain => Disconnect::Draining,
                CloseCause::SlowReader => Disconnect::SlowReader,
            },
            Self::TokenExpired => Disconnect::TokenExpired,
            Self::ClientTimeout => Disconnect::ClientTimeout,
            Self::SlowReader => Disconnect::SlowReader,
            Self::Goodbye | Self::Closed | Self::Deleted => Disconnect::ByClient,
            Self::Broken(Failure::Violated(code)) => {
                Disconnect::ProtocolError(format!("WebSocket error {}", *code as u16))
            }
            Self::Broken(Failure::Lost | Failure::TooLarge) => Disconnect::TransportLost,
            Self::Malformed(detail) => Disconnect::ProtocolError(detail.clone()),
            Self::NotConnected(_) => Disconnect::ConnectedFailed,
        }
    }

    /// What the client is told; `None` when it cannot be told anything.
    pub(super) fn message(&self, is_detailed: bool) -> Option<Close<'static>> {
        let (error, allow_reconnect) = match self {
            Self::Ordered(order) => (order.error.clone(), order.allow_reconnect),
            Self::TokenExpired | Self::Deleted => (None, true),
            Self::ClientTimeout => (Some(error_text::CLOSED_WITH_ERROR.to_owned()), true),
            Self::Goodbye => (None, false),
            Self::Malformed(detail) => (Some(closed_with(detail, is_detailed)), true),
            Self::NotConnected(error) => (
                Some(error.told(error_text::CLOSED_WITH_ERROR, is_detailed)),
                error.allows_reconnect(),
            ),
            Self::SlowReader | Self::Closed | Self::Broken(_) => return None,
        };
        Some(Close {
            error: error.map(Into::into),
            allow_reconnect,
        })
    }

    fn code(&self) -> Option<CloseCode> {
        match self {
            Self::SlowReader | Self::Broken(Failure::Lost | Failure::TooLarge) => None,
            Self::Broken(Failure::Violated(code)) => Some(*code),
            _ => Some(CloseCode::Normal),
        }
    }
}

fn closed_with(detail: &str, is_detailed: bool) -> String {
    match is_detailed {
        true => error_text::with_detail(
            error_text::CLOSED_WITH_ERROR,
            "InvalidDataException",
            detail,
        ),
        false => error_text::CLOSED_WITH_ERROR.to_owned(),
    }
}

/// Sends `last` and closes, where the reason leaves anything to close.
pub(super) fn farewell(
    wire: Wire,
    reason: &Reason,
    last: Bytes,
    options: &Options,
) -> impl Future<Output = ()> + Send {
    let code = reason.code();
    let (send_timeout, close_timeout) = (options.send_timeout, options.close_timeout);
    async move {
        if let Some(code) = code {
            wire.close(last, code, send_timeout, close_timeout).await;
        }
    }
}

/// Ends a connection that did not shake hands.
pub(super) async fn refuse(
    wire: Wire,
    attachment: &Attachment,
    refusal: Refusal,
    options: &Options,
) {
    part_token(attachment, wire.transport());
    let mut last = Vec::new();
    let code = match refusal {
        Refusal::Answer(error) => {
            handshake::encode_refused(&mut last, &error);
            CloseCode::Normal
        }
        Refusal::Ended(Some(code)) => code,
        Refusal::Ended(None) => return,
    };
    wire.close(
        last.into(),
        code,
        options.send_timeout,
        options.close_timeout,
    )
    .await;
}

/// Forgets the token before the goodbye, so that nobody dials back to what is over. Whoever polls
/// has to come once more, to be told of the end.
pub(super) fn part_token(attachment: &Attachment, transport: Transport) {
    if transport != Transport::LongPolling {
        attachment.forget_token();
    }
}
