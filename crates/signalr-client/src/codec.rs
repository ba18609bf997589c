//! The hub protocol of a connection: the one place that knows its encoding.

use std::borrow::Cow;

use signalr_protocol::handshake::HandshakeRequest;
use signalr_protocol::messagepack::{self, FrameSplitter};
use signalr_protocol::negotiate::TransferFormat;
use signalr_protocol::{
    CancelInvocation, Close, Completion, CompletionResult, Encoding, HubMessage, Invocation, Raw,
    Reader, RecordSplitter, StreamItem, json,
};

use crate::Closed;

/// Writes and reads the messages of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Codec(pub(crate) Encoding);

/// Puts the bodies of messages together again from chunks cut anywhere.
#[derive(Debug)]
pub(crate) enum Splitter {
    Records(RecordSplitter),
    Frames(FrameSplitter),
}

impl Codec {
    /// What a transport must be able to carry.
    pub(crate) fn transfer_format(self) -> TransferFormat {
        match self.0 {
            Encoding::Json => TransferFormat::Text,
            Encoding::MessagePack => TransferFormat::Binary,
        }
    }

    /// Always JSON text. Version 2 is sent only where stateful reconnect was granted, so that old servers keep working.
    pub(crate) fn handshake_request(self, is_stateful: bool) -> Vec<u8> {
        let name = match self.0 {
            Encoding::Json => json::NAME,
            Encoding::MessagePack => messagepack::NAME,
        };
        let mut out = Vec::new();
        let version = if is_stateful { 2 } else { 1 };
        HandshakeRequest::new(name, version).encode(&mut out);
        out
    }

    /// What a server's bytes are cut up with.
    pub(crate) fn splitter(self, bytes_max: usize) -> Splitter {
        match self.0 {
            Encoding::Json => Splitter::Records(RecordSplitter::new(Some(bytes_max))),
            Encoding::MessagePack => Splitter::Frames(FrameSplitter::new(Some(bytes_max))),
        }
    }

    /// `None` is a message of an unknown type, which must be skipped.
    pub(crate) fn decode(self, body: &[u8]) -> Result<Option<HubMessage<'_>>, Closed> {
        match self.0 {
            Encoding::Json => json::decode(body, Reader::Client).map_err(broken),
            Encoding::MessagePack => messagepack::decode(body, Reader::Client).map_err(broken),
        }
    }

    /// Any message, whole.
    pub(crate) fn encode(self, message: &HubMessage<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        match self.0 {
            Encoding::Json => json::encode(&mut out, message),
            Encoding::MessagePack => messagepack::encode(&mut out, message),
        }
        out
    }

    /// What stands for the result of a method without one.
    pub(crate) fn null(self) -> Raw<'static> {
        let null = Raw::json(&b"null"[..]);
        Raw::new(self.0, null.to_encoding(self.0).into_owned())
    }

    /// A call of a method, or of one whose answer is a stream.
    pub(crate) fn call(
        self,
        target: &str,
        id: Option<&str>,
        arguments: Raw<'_>,
        stream_ids: &[String],
        is_streaming: bool,
    ) -> Vec<u8> {
        let call = Invocation {
            headers: Vec::new(),
            invocation_id: id.map(Into::into),
            target: target.into(),
            arguments,
            stream_ids: stream_ids.iter().map(|id| id.as_str().into()).collect(),
        };
        self.encode(&match is_streaming {
            true => HubMessage::StreamInvocation(call),
            false => HubMessage::Invocation(call),
        })
    }

    pub(crate) fn cancel(self, id: &str) -> Vec<u8> {
        self.encode(&HubMessage::CancelInvocation(CancelInvocation {
            headers: Vec::new(),
            invocation_id: id.into(),
        }))
    }

    pub(crate) fn item(self, id: &str, item: Raw<'_>) -> Vec<u8> {
        self.encode(&HubMessage::StreamItem(StreamItem {
            headers: Vec::new(),
            invocation_id: id.into(),
            item,
        }))
    }

    pub(crate) fn result(self, id: &str, value: Raw<'_>) -> Vec<u8> {
        self.completion(id, CompletionResult::Value(value))
    }

    /// The end of an upload.
    pub(crate) fn end(self, id: &str) -> Vec<u8> {
        self.completion(id, CompletionResult::Void)
    }

    /// An empty text would be read as success, so it is replaced.
    pub(crate) fn failure(self, id: &str, error: &str) -> Vec<u8> {
        let error = if error.is_empty() { " " } else { error };
        self.completion(id, CompletionResult::Error(error.into()))
    }

    fn completion(self, id: &str, result: CompletionResult<'_>) -> Vec<u8> {
        self.encode(&HubMessage::Completion(Completion::new(id, result)))
    }

    /// Our goodbye.
    pub(crate) fn close(self) -> Vec<u8> {
        self.encode(&HubMessage::Close(Close::default()))
    }

    pub(crate) fn ping(self) -> Vec<u8> {
        self.encode(&HubMessage::Ping)
    }

    /// Everything up to this number was received.
    pub(crate) fn ack(self, sequence_id: i64) -> Vec<u8> {
        self.encode(&HubMessage::Ack { sequence_id })
    }

    /// The next message has this number.
    pub(crate) fn sequence(self, sequence_id: i64) -> Vec<u8> {
        self.encode(&HubMessage::Sequence { sequence_id })
    }
}

impl Splitter {
    /// Adds a chunk and gives the bodies that it completes. To be taken to the end, or to the first error.
    pub(crate) fn feed<'c>(
        &mut self,
        chunk: &'c [u8],
    ) -> impl Iterator<Item = Result<Cow<'c, [u8]>, Closed>> {
        let (records, frames) = match self {
            Self::Records(splitter) => (Some(splitter.feed(chunk)), None),
            Self::Frames(splitter) => (None, Some(splitter.feed(chunk))),
        };
        let records = records.into_iter().flatten();
        let frames = frames.into_iter().flatten();
        records
            .map(|record| record.map_err(broken))
            .chain(frames.map(|frame| frame.map_err(broken)))
    }
}

fn broken(error: impl std::fmt::Display) -> Closed {
    Closed::Protocol {
        detail: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Codec; 2] = [Codec(Encoding::Json), Codec(Encoding::MessagePack)];

    #[test]
    fn messages_come_out_whole_however_their_bytes_were_cut() {
        for codec in BOTH {
            let sent = [codec.cancel("1"), codec.ping(), codec.end("2")].concat();
            for cut in 0..=sent.len() {
                let mut splitter = codec.splitter(64);
                let mut types = Vec::new();
                for chunk in [&sent[..cut], &sent[cut..]] {
                    for body in splitter.feed(chunk) {
                        // Types that only a client sends are unknown to a client.
                        let body = body.unwrap();
                        let message = codec.decode(&body).unwrap();
                        types.push(message.map(|message| message.message_type() as u8));
                    }
                }
                assert_eq!(types, [None, Some(6), Some(3)], "{codec:?}, cut at {cut}");
            }
        }
    }

    #[test]
    fn a_message_over_the_limit_ends_the_connection() {
        for codec in BOTH {
            let sent = codec.failure("1", &"x".repeat(100));
            let mut splitter = codec.splitter(50);
            let got: Vec<_> = splitter.feed(&sent).collect();
            assert!(
                matches!(&got[..], [Err(Closed::Protocol { .. })]),
                "{got:?}"
            );
        }
    }

    #[test]
    fn no_result_reads_as_nothing_in_both_encodings() {
        for codec in BOTH {
            assert_eq!(codec.null().encoding(), codec.0);
            assert_eq!(codec.null().read::<()>(), Ok(()));
            assert_eq!(codec.null().read::<Option<u8>>(), Ok(None));
        }
    }
}
