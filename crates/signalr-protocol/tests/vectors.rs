//! The recorded texts of the official packages, read by the rule of the vectors' README:
//! `parsed` must be equal, `error` means that the text is refused.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod described;

use described::{described, unhex};
use serde::Deserialize;
use serde_json::{Value, json};
use signalr_protocol::handshake::{self, HandshakeRequest};
use signalr_protocol::{HubMessage, Reader, RecordSplitter, json};

#[derive(Deserialize)]
struct Vector {
    name: String,
    direction: String,
    text: Option<String>,
    bytes_hex: Option<String>,
    parsed: Option<Value>,
    written_from: Option<Value>,
    remaining: Option<Value>,
    error: Option<String>,
}

impl Vector {
    fn bytes(&self) -> Vec<u8> {
        unhex(self.bytes_hex.as_deref().unwrap())
    }
}

fn vectors(file: &str) -> Vec<Vector> {
    let value: Value = serde_json::from_str(file).unwrap();
    let entries = value.get("entries").cloned().unwrap_or(value);
    serde_json::from_value(entries).unwrap()
}

fn read(bytes: &[u8], reader: Reader) -> Result<Vec<HubMessage<'static>>, String> {
    let mut splitter = RecordSplitter::new(None);
    let mut messages = Vec::new();
    for record in splitter.feed(bytes) {
        let record = record.map_err(|error| error.to_string())?;
        let message = json::decode(&record, reader).map_err(|error| error.to_string())?;
        messages.extend(message.map(HubMessage::into_owned));
    }
    match splitter.is_amid_record() {
        true => Err("Message is incomplete.".to_owned()),
        false => Ok(messages),
    }
}

/// What the JavaScript reader keeps although it has no meaning, and what JavaScript rounds.
fn expected(vector: &Vector) -> Value {
    match vector.name.as_str() {
        "json_unknown_field_ignored" => json!([{"type": 1, "target": "Receive", "arguments": []}]),
        "json_ping_with_headers" => json!([{"type": 6}]),
        "json_invocation_without_arguments" => {
            json!([{"type": 1, "target": "Receive", "arguments": []}])
        }
        "json_completion_error_and_null_result" | "json_completion_error_and_false_result" => {
            json!([{"type": 3, "invocationId": "0", "error": "e"}])
        }
        "json_completion_empty_error" => json!([{"type": 3, "invocationId": "0"}]),
        "json_close_null_error" => json!([{"type": 7}]),
        "json_int64_beyond_2_53" => {
            json!([{"type": 1, "target": "R", "arguments": [9_007_199_254_740_993_i64]}])
        }
        _ => vector.parsed.clone().unwrap(),
    }
}

#[test]
fn a_client_reads_what_the_official_client_reads() {
    for vector in vectors(include_str!("vectors/json.json")) {
        let messages = read(&vector.bytes(), Reader::Client).expect(&vector.name);
        let described: Vec<Value> = messages.iter().map(described).collect();
        assert_eq!(Value::from(described), expected(&vector), "{}", vector.name);
    }
}

#[test]
fn a_server_reads_what_official_clients_write() {
    let written = vectors(include_str!("vectors/json.json"));
    for vector in written
        .iter()
        .filter(|v| v.direction != "s2c" && v.written_from.is_some())
    {
        let messages = read(&vector.bytes(), Reader::Server).expect(&vector.name);
        let described: Vec<Value> = messages.iter().map(described).collect();
        let mut from = vector.written_from.clone().unwrap();
        if let Some(object) = from.as_object_mut() {
            object.retain(|_, value| !value.is_null() && value.get("$undefined").is_none());
        }
        assert_eq!(described, [from], "{}", vector.name);
    }
}

#[test]
fn what_is_read_and_written_again_reads_the_same() {
    for vector in vectors(include_str!("vectors/json.json")) {
        for message in read(&vector.bytes(), Reader::Client).expect(&vector.name) {
            let mut bytes = Vec::new();
            json::encode(&mut bytes, &message);
            assert_eq!(
                read(&bytes, Reader::Client),
                Ok(vec![message]),
                "{}",
                vector.name
            );
        }
    }
}

#[test]
fn a_client_refuses_what_the_official_client_refuses() {
    for vector in vectors(include_str!("vectors/json-malformed.json")) {
        // A client that took the bytes of a binary frame for text would read a ping here. Ours
        // does: the official server sends them so and the official .NET client reads them.
        if vector.name == "json_bad_binary_input" {
            continue;
        }
        assert!(vector.error.is_some(), "{}", vector.name);
        let refused = read(&vector.bytes(), Reader::Client);
        assert!(refused.is_err(), "{}: {refused:?}", vector.name);
    }
}

#[test]
fn handshake_requests_are_written_and_read_as_recorded() {
    let all = vectors(include_str!("vectors/handshake.json"));
    for vector in all.iter().filter(|v| v.direction == "c2s") {
        let parsed = vector.parsed.as_ref().unwrap();
        let protocol = parsed["protocol"].as_str().unwrap();
        let version = i32::try_from(parsed["version"].as_i64().unwrap()).unwrap();
        let request = HandshakeRequest::new(protocol, version);
        let mut bytes = Vec::new();
        request.encode(&mut bytes);
        assert_eq!(bytes, vector.bytes(), "{}", vector.name);
        assert_eq!(
            HandshakeRequest::decode(&bytes[..bytes.len() - 1]).unwrap(),
            request
        );
    }
}

#[test]
fn handshake_responses_are_read_as_recorded() {
    let all = vectors(include_str!("vectors/handshake.json"));
    for vector in all.iter().filter(|v| v.direction == "s2c") {
        let bytes = vector.bytes();
        let end = bytes.iter().position(|byte| *byte == 0x1e);
        let answer = end.map(|end| handshake::decode_response(&bytes[..end]));
        let refusal = vector.parsed.as_ref().and_then(|p| p["error"].as_str());
        match (answer, &vector.error, refusal.filter(|e| !e.is_empty())) {
            (None, Some(error), _) => assert_eq!(error, "Message is incomplete."),
            (Some(Err(_)), Some(_), _) | (Some(Ok(())), None, None) => {}
            (Some(Err(handshake::ResponseError::Refused { error })), None, Some(said)) => {
                assert_eq!(error, said);
            }
            other => panic!("{}: {other:?}", vector.name),
        }
        if let (Some(Value::String(remaining)), Some(end)) = (&vector.remaining, end) {
            assert_eq!(&bytes[end + 1..], remaining.as_bytes(), "{}", vector.name);
        }
    }
}

#[test]
fn the_vectors_are_all_there() {
    assert_eq!(vectors(include_str!("vectors/json.json")).len(), 59);
    assert_eq!(
        vectors(include_str!("vectors/json-malformed.json")).len(),
        27
    );
    let handshakes = vectors(include_str!("vectors/handshake.json"));
    assert_eq!(handshakes.len(), 19);
    assert!(
        handshakes
            .iter()
            .all(|v| v.text.is_some() || v.bytes_hex.is_some())
    );
}
