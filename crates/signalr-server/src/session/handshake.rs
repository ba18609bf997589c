//! The first message each way.

use std::future;

use axum::extract::ws::WebSocket;
use bytes::Bytes;
use signalr_protocol::handshake::{self, HandshakeRequest};
use signalr_protocol::negotiate::Transport;
use signalr_protocol::{RecordSplitter, error_text};
use tokio::select;
use tokio::time::{self, Instant};

use crate::Options;
use crate::codec::Codec;
use crate::takeover::Takeover;
use crate::wire::{CloseCode, Event, Failure, Wire};

/// What a handshake agreed on.
#[derive(Debug)]
pub(super) struct Shaken {
    pub(super) codec: Codec,
    /// Of the hub protocol.
    pub(super) version: i32,
    /// What came behind the request in the same chunk.
    pub(super) rest: Bytes,
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum Refusal {
    /// To be told to the client.
    Answer(String),
    /// The WebSocket ended first, or must end with this code.
    Ended(Option<CloseCode>),
}

/// Reads the request and writes the answer that accepts it, to be flushed later.
///
/// Where another WebSocket may take over, it may do so here already: then the client shakes hands
/// over that one, from the beginning, in what is left of the time.
pub(super) async fn shake(
    wire: &mut Wire,
    takeover: Option<&Takeover>,
    options: &Options,
) -> Result<Shaken, Refusal> {
    let request = read(wire, takeover, options);
    let shaken = match time::timeout(options.handshake_timeout, request).await {
        Ok(shaken) => shaken?,
        Err(_) => return Err(canceled()),
    };
    if shaken.codec == Codec::MessagePack {
        wire.become_binary();
    }
    let mut answer = Vec::new();
    handshake::encode_accepted(&mut answer);
    match wire.start_send(answer.into()) {
        Ok(()) => Ok(shaken),
        Err(_) => Err(Refusal::Ended(None)),
    }
}

async fn read(
    wire: &mut Wire,
    takeover: Option<&Takeover>,
    options: &Options,
) -> Result<Shaken, Refusal> {
    let begin = || RecordSplitter::new(Some(options.receive_bytes_max));
    let mut splitter = begin();
    // When the client has been without a WebSocket for too long.
    let mut gone_at = None;
    loop {
        let event = select! {
            socket = next_socket(takeover) => {
                *wire = Wire::socket(socket);
                splitter = begin();
                gone_at = None;
                continue;
            }
            () = until(gone_at) => return Err(Refusal::Ended(None)),
            event = wire.event(true) => event,
        };
        let chunk = match event {
            Event::Received(chunk) => chunk,
            Event::Flushed => continue,
            Event::Failed(Failure::Lost) if takeover.is_some() => {
                *wire = Wire::lost();
                gone_at = Some(Instant::now() + options.attach_timeout);
                continue;
            }
            Event::Closed | Event::Deleted | Event::Failed(Failure::Lost) => {
                return Err(Refusal::Ended(None));
            }
            Event::Failed(Failure::TooLarge) => return Err(canceled()),
            Event::Failed(Failure::Violated(code)) => return Err(Refusal::Ended(Some(code))),
        };
        let mut records = splitter.feed(&chunk);
        let Some(record) = records.next() else {
            continue;
        };
        let record = record.map_err(|_| canceled())?;
        let (codec, version) = choose(&record, wire.transport(), options.detailed_errors)?;
        return Ok(Shaken {
            codec,
            version,
            rest: chunk.slice_ref(records.rest()),
        });
    }
}

/// Never where no other WebSocket may take over.
async fn next_socket(takeover: Option<&Takeover>) -> Box<WebSocket> {
    match takeover {
        Some(takeover) => takeover.taken().await,
        None => future::pending().await,
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => time::sleep_until(time).await,
        None => future::pending().await,
    }
}

fn choose(record: &[u8], transport: Transport, is_detailed: bool) -> Result<(Codec, i32), Refusal> {
    let request = HandshakeRequest::decode(record).map_err(|error| {
        let text = error_text::HANDSHAKE_FAILED;
        Refusal::Answer(match is_detailed {
            true => error_text::with_detail(text, "InvalidDataException", &error.to_string()),
            false => text.to_owned(),
        })
    })?;
    let (protocol, version) = (&*request.protocol, request.version);
    let codec = Codec::choose(protocol, version).map_err(Refusal::Answer)?;
    if codec == Codec::MessagePack && transport == Transport::ServerSentEvents {
        return Err(Refusal::Answer(error_text::transport_is_text_only(
            protocol,
        )));
    }
    Ok((codec, version))
}

fn canceled() -> Refusal {
    Refusal::Answer(error_text::HANDSHAKE_CANCELED.to_owned())
}
