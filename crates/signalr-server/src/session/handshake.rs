//! The first message each way.

use bytes::Bytes;
use signalr_protocol::handshake::{self, HandshakeRequest};
use signalr_protocol::negotiate::Transport;
use signalr_protocol::{RecordSplitter, error_text};
use tokio::time;

use crate::Options;
use crate::codec::Codec;
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
pub(super) async fn shake(
    wire: &mut Wire,
    splitter: &mut RecordSplitter,
    options: &Options,
) -> Result<Shaken, Refusal> {
    let request = read(wire, splitter, options.detailed_errors);
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
    splitter: &mut RecordSplitter,
    is_detailed: bool,
) -> Result<Shaken, Refusal> {
    loop {
        let chunk = match wire.event(true).await {
            Event::Received(chunk) => chunk,
            Event::Flushed => continue,
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
        let (codec, version) = choose(&record, wire.transport(), is_detailed)?;
        return Ok(Shaken {
            codec,
            version,
            rest: chunk.slice_ref(records.rest()),
        });
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
