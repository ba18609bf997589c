//! What the official .NET client put on the wire, and what a scripted server answered it, by the rule of the vectors'
//! README: per socket the payloads are joined, and values are compared where spelling is free.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod described;

use std::collections::BTreeMap;

use described::{described, unhex};
use serde::Deserialize;
use serde_json::Value;
use signalr_protocol::handshake::{HandshakeRequest, decode_response};
use signalr_protocol::messagepack::{self, FrameSplitter};
use signalr_protocol::negotiate::NegotiateResponse;
use signalr_protocol::{HubMessage, Reader, RecordSplitter, json};

#[derive(Deserialize)]
struct Entry {
    name: String,
    protocol: String,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    direction: String,
    kind: String,
    opcode: Option<String>,
    /// Requests have none; those of one entry belong to one connection.
    socket: Option<u32>,
    method: Option<String>,
    target: Option<String>,
    text: Option<String>,
    bytes_hex: Option<String>,
}

impl Step {
    fn payload(&self) -> Vec<u8> {
        match (&self.text, &self.bytes_hex) {
            (Some(text), _) => text.as_bytes().to_vec(),
            (None, Some(hex)) => unhex(hex),
            // Once a text stands in for a stack trace, and its bytes were left out.
            (None, None) => Vec::new(),
        }
    }

    fn carries_messages(&self) -> bool {
        match self.kind.as_str() {
            "frame" => self.opcode.as_deref() != Some("close"),
            "http" => {
                let target = self.target.as_deref().unwrap_or_default();
                self.method.as_deref() == Some("POST") && !target.contains("/negotiate")
            }
            _ => false,
        }
    }
}

impl Entry {
    /// All that went one way, by socket.
    fn joined(&self, direction: &str) -> BTreeMap<Option<u32>, Vec<u8>> {
        let mut joined = BTreeMap::<_, Vec<u8>>::new();
        let steps = self.steps.iter().filter(|step| step.carries_messages());
        for step in steps.filter(|step| step.direction == direction) {
            let bytes = joined.entry(step.socket).or_default();
            bytes.extend(step.payload());
        }
        joined
    }

    /// The messages of one socket, each with its body.
    fn messages(&self, bytes: &[u8], reader: Reader) -> Result<Vec<Message>, String> {
        let mut messages = Vec::new();
        for body in self.bodies(bytes)? {
            let message = match self.protocol.as_str() {
                "json" => json::decode(&body, reader).map_err(|error| error.to_string())?,
                _ => messagepack::decode(&body, reader).map_err(|error| error.to_string())?,
            };
            let message = message.map(HubMessage::into_owned);
            messages.push(Message { body, message });
        }
        Ok(messages)
    }

    fn bodies(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
        let mut bodies = Vec::new();
        match self.protocol.as_str() {
            "json" => {
                let mut splitter = RecordSplitter::new(Some(1 << 20));
                for body in splitter.feed(bytes) {
                    bodies.push(body.map_err(|error| error.to_string())?.into_owned());
                }
            }
            _ => {
                let mut splitter = FrameSplitter::new(Some(1 << 20));
                for body in splitter.feed(bytes) {
                    bodies.push(body.map_err(|error| error.to_string())?.into_owned());
                }
            }
        }
        Ok(bodies)
    }

    fn encoded(&self, message: &HubMessage<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        match self.protocol.as_str() {
            "json" => json::encode(&mut out, message),
            _ => messagepack::encode(&mut out, message),
        }
        self.bodies(&out).unwrap().remove(0)
    }
}

struct Message {
    body: Vec<u8>,
    message: Option<HubMessage<'static>>,
}

fn entries() -> Vec<Entry> {
    serde_json::from_str(include_str!("vectors/dotnet-client.json")).unwrap()
}

/// Takes the handshake off the front, where the entry has it. One that never ends takes all.
fn handshake<'a>(bytes: &'a [u8], begins: &[u8]) -> (Option<&'a [u8]>, &'a [u8]) {
    if !bytes.starts_with(begins) {
        return (None, bytes);
    }
    match bytes.iter().position(|byte| *byte == 0x1E) {
        Some(end) => (Some(&bytes[..end]), &bytes[end + 1..]),
        None => (Some(bytes), &[]),
    }
}

#[test]
fn the_servers_reader_takes_all_that_the_client_sends_and_gives_it_back() {
    let (mut handshakes, mut read) = (0, 0);
    for entry in entries() {
        for bytes in entry.joined("c2s").values() {
            let (hello, rest) = handshake(bytes, br#"{"protocol""#);
            if let Some(hello) = hello {
                handshakes += 1;
                let request = HandshakeRequest::decode(hello).expect(&entry.name);
                assert_eq!(request.protocol, entry.protocol, "{}", entry.name);
                let mut again = Vec::new();
                request.encode(&mut again);
                assert_eq!(&again[..again.len() - 1], hello, "{}", entry.name);
            }
            for Message { body, message } in
                entry.messages(rest, Reader::Server).expect(&entry.name)
            {
                read += 1;
                let message = message.expect("the client sends no unknown types");
                let again = entry.encoded(&message);
                if entry.protocol == "json" {
                    let value = |text: &[u8]| serde_json::from_slice::<Value>(text).unwrap();
                    assert_eq!(value(&again), value(&body), "{}", entry.name);
                    assert_eq!(described(&message), value(&body), "{}", entry.name);
                } else {
                    assert_eq!(again, body, "{}", entry.name);
                }
            }
        }
    }
    assert_eq!((handshakes, read), (51, 340), "none is left out");
}

/// What the scripted server sent so that it could not be read. Of MessagePack the .NET client also refuses null where the
/// headers belong, which the JavaScript client reads, and so does ours.
const UNREADABLE: [&str; 6] = [
    "dotnet_bad_message_json",
    "dotnet_bad_message_messagepack",
    "dotnet_bad_message_no_reconnect_json",
    "dotnet_bad_message_no_reconnect_messagepack",
    "dotnet_null_id_json",
    "dotnet_null_id_no_reconnect_json",
];
const NO_HANDSHAKE: [&str; 4] = [
    "dotnet_handshake_error_json",
    "dotnet_handshake_error_messagepack",
    "dotnet_handshake_ping_first_json",
    "dotnet_handshake_ping_first_messagepack",
];

#[test]
fn the_clients_reader_refuses_what_the_official_client_refuses() {
    let (mut unreadable, mut no_handshake) = (Vec::new(), Vec::new());
    for entry in entries() {
        let sent = entry.joined("c2s");
        for (socket, bytes) in entry.joined("s2c") {
            let has_hello = sent[&socket].starts_with(br#"{"protocol""#);
            let (answer, rest) = match has_hello {
                true => handshake(&bytes, b""),
                false => (None, &bytes[..]),
            };
            match answer.map(decode_response) {
                None | Some(Ok(())) if entry.messages(rest, Reader::Client).is_err() => {
                    unreadable.push(entry.name.clone());
                }
                None | Some(Ok(())) => {}
                Some(Err(_)) => no_handshake.push(entry.name.clone()),
            }
        }
    }
    assert_eq!(unreadable, UNREADABLE);
    assert_eq!(no_handshake, NO_HANDSHAKE);
}

#[test]
fn negotiations_are_read_or_refused_as_by_the_official_client() {
    let mut refused = Vec::new();
    for entry in entries() {
        let answers = entry
            .steps
            .iter()
            .filter(|step| step.direction == "s2c" && step.kind == "http");
        for text in answers.filter_map(|step| step.text.as_deref()) {
            if text.starts_with("{\"") && NegotiateResponse::read(text.as_bytes()).is_err() {
                refused.push(entry.name.clone());
            }
        }
    }
    let expected = [
        "dotnet_negotiate_error_json",
        "dotnet_negotiate_error_messagepack",
        "dotnet_negotiate_old_json",
        "dotnet_negotiate_old_messagepack",
    ];
    assert_eq!(refused, expected);
}

/// Whatever comes of it: the readers answer.
#[test]
fn cut_short_or_with_any_byte_changed_it_is_read_or_refused_without_a_panic() {
    for entry in entries() {
        for bytes in entry
            .joined("c2s")
            .values()
            .chain(entry.joined("s2c").values())
        {
            for at in 0..bytes.len() {
                let mut changed = bytes.clone();
                changed[at] = changed[at].wrapping_mul(31).wrapping_add(at as u8 | 1);
                for reader in [Reader::Server, Reader::Client] {
                    let _ = entry.messages(&bytes[..at], reader);
                    let _ = entry.messages(&changed, reader);
                }
            }
        }
    }
}
