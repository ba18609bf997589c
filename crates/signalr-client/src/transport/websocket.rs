//! One WebSocket, by tungstenite over a stream that `dial` gave.

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Request};
use reqwest::Url;
use signalr_protocol::negotiate::TransferFormat;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::{
    CloseFrame, WebSocketConfig, frame::coding::CloseCode,
};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::Link;
use crate::dial::{Stream, dial};
use crate::error::with_causes;
use crate::negotiate::{one_line, retry_after};
use crate::tls::Tls;
use crate::{Closed, Error, Options};

type Socket = WebSocketStream<Stream>;

#[derive(Debug)]
pub(crate) struct Receiver(SplitStream<Socket>);

#[derive(Debug)]
pub(crate) struct Sender {
    socket: SplitSink<Socket, Message>,
    format: TransferFormat,
}

/// Opens a WebSocket at `url` (an `http` or `https` address).
pub(crate) async fn connect(
    options: &Options,
    tls: &Tls,
    url: &Url,
    authorization: Option<HeaderValue>,
) -> Result<Link, Error> {
    let request = upgrade_request(url, &options.headers, authorization)?;
    let stream = dial(url, tls, options.proxy.as_ref()).await?;
    let (socket, _) = client_async_with_config(request, stream, Some(config(options)))
        .await
        .map_err(refused)?;
    let (sender, receiver) = socket.split();
    Ok(Link {
        receiver: super::Receiver::WebSocket(Receiver(receiver)),
        sender: super::Sender::WebSocket(Sender {
            socket: sender,
            format: options.codec().transfer_format(),
        }),
    })
}

impl Receiver {
    pub(crate) async fn receive(&mut self) -> Result<Option<Bytes>, Closed> {
        loop {
            // Text or Binary makes no difference: servers mix them. Ping and Pong are tungstenite's business.
            match self.0.next().await {
                None | Some(Ok(Message::Close(_)) | Err(WsError::ConnectionClosed)) => {
                    return Ok(None);
                }
                Some(Ok(Message::Text(text))) => return Ok(Some(text.into())),
                Some(Ok(Message::Binary(bytes))) => return Ok(Some(bytes)),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(lost(&error)),
            }
        }
    }
}

impl Sender {
    pub(crate) async fn send(&mut self, frame: Vec<u8>) -> Result<(), Closed> {
        let message = match self.format {
            TransferFormat::Binary => Message::binary(frame),
            TransferFormat::Text => match String::from_utf8(frame) {
                Ok(text) => Message::text(text),
                // Only a caller's own raw arguments can be no text. A server reads Binary too, and refuses the call.
                Err(error) => Message::binary(error.into_bytes()),
            },
        };
        let sent = self.socket.send(message).await;
        sent.map_err(|error| lost(&error))
    }

    pub(crate) async fn close(&mut self) {
        let frame = CloseFrame {
            code: CloseCode::Normal,
            reason: "".into(),
        };
        let _ = self.socket.send(Message::Close(Some(frame))).await;
    }
}

fn upgrade_request(
    url: &Url,
    headers: &HeaderMap,
    authorization: Option<HeaderValue>,
) -> Result<Request<()>, Error> {
    let mut url = url.clone();
    let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
    let bad = || Error::Options {
        detail: "the address does not work for a WebSocket".into(),
    };
    url.set_scheme(scheme).map_err(|()| bad())?;
    let mut request = url.as_str().into_client_request().map_err(|_| bad())?;
    for (name, value) in headers {
        request.headers_mut().append(name, value.clone());
    }
    if let Some(authorization) = authorization {
        request.headers_mut().insert(AUTHORIZATION, authorization);
    }
    Ok(request)
}

/// Small buffers: the library's own are filled with zeros and held for each connection, 128 KiB of them.
fn config(options: &Options) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_message_size(Some(options.receive_frame_bytes_max))
        .max_frame_size(Some(options.receive_frame_bytes_max))
}

fn refused(error: WsError) -> Error {
    match error {
        WsError::Http(response) => {
            let body = response.body().as_deref().map(one_line).unwrap_or_default();
            let status = response.status().as_u16();
            Error::from_status(status, retry_after(response.headers()), &body)
        }
        WsError::Protocol(ProtocolError::HandshakeIncomplete) => {
            Error::unreachable("the connection ended during the upgrade to a WebSocket")
        }
        WsError::Protocol(error) => Error::Protocol {
            detail: format!("the upgrade to a WebSocket failed: {error}"),
        },
        error => Error::unreachable(format!("WebSocket: {}", with_causes(&error))),
    }
}

fn lost(error: &WsError) -> Closed {
    match error {
        WsError::Capacity(_) | WsError::Utf8(_) | WsError::AttackAttempt => Closed::Protocol {
            detail: error.to_string(),
        },
        WsError::Protocol(inner) if *inner != ProtocolError::ResetWithoutClosingHandshake => {
            Closed::Protocol {
                detail: error.to_string(),
            }
        }
        error => Closed::Lost {
            detail: with_causes(error),
        },
    }
}

const BUFFER_BYTES: usize = 8 * 1024;
