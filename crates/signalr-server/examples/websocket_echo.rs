//! Sends every WebSocket message back as it came: what a hub's connections stand on, without a hub.
//!
//!     cargo run -p signalr-server --example websocket_echo -- --listen 127.0.0.1:5000
//!
//! `cargo xtask autobahn` tries it with malformed and with large messages. The buffers are those of a hub's sockets, and
//! a client that breaks the protocol is told so with the same codes; only the limits are wider, for messages of 16 MiB.

use std::error::Error as _;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::any;
use tokio_tungstenite::tungstenite::Error;

/// Read and write buffer, as `signalr-server` sets them (`http/connect.rs`).
const BUFFER_BYTES: usize = 1024;

/// Twice the largest message that is sent here.
const MESSAGE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Close codes of RFC 6455, section 7.4.1.
const PROTOCOL_ERROR: u16 = 1002;
const NOT_UTF8: u16 = 1007;
const TOO_LARGE: u16 = 1009;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip_while(|word| word != "--listen");
    let address = arguments.nth(1);
    let address = address.unwrap_or_else(|| "127.0.0.1:5000".to_owned());
    let listener = tokio::net::TcpListener::bind(&address).await?;
    let app = axum::Router::new().route("/", any(open));
    axum::serve(listener, app).await
}

async fn open(upgrade: WebSocketUpgrade) -> Response {
    upgrade
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_write_buffer_size(MESSAGE_BYTES_MAX)
        .max_message_size(MESSAGE_BYTES_MAX)
        .max_frame_size(MESSAGE_BYTES_MAX)
        .on_upgrade(echo)
}

async fn echo(mut socket: WebSocket) {
    while let Some(received) = socket.recv().await {
        let answer = match received {
            Ok(message @ (Message::Text(_) | Message::Binary(_))) => message,
            // Answered below; after a Close the stream ends by itself.
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_)) => continue,
            Err(error) => {
                close(socket, &error).await;
                return;
            }
        };
        if socket.send(answer).await.is_err() {
            return;
        }
    }
}

/// Tells the client what it did wrong, if it still listens.
async fn close(mut socket: WebSocket, error: &axum::Error) {
    let error = error.source().and_then(|source| source.downcast_ref());
    let code = match error {
        Some(Error::Protocol(_)) => PROTOCOL_ERROR,
        Some(Error::Utf8(_)) => NOT_UTF8,
        Some(Error::Capacity(_)) => TOO_LARGE,
        _ => return,
    };
    let reason = Utf8Bytes::from_static("");
    let _ = socket
        .send(Message::Close(Some(CloseFrame { code, reason })))
        .await;
}
