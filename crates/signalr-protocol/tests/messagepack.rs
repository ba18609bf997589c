//! The recorded bytes of the official packages, and what no peer should send.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod described;

use std::collections::BTreeMap;

use described::{described, unhex, value};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use signalr_protocol::messagepack::{self, FrameSplitter};
use signalr_protocol::{AnyValue, BindError, CompletionResult, Encoding, HubMessage, Raw, Reader};

#[derive(Deserialize)]
struct Vector {
    name: String,
    direction: String,
    bytes_hex: Option<String>,
    parsed: Option<Value>,
    written_from: Option<Value>,
    made_by: Option<String>,
}

impl Vector {
    fn bytes(&self) -> Vec<u8> {
        unhex(self.bytes_hex.as_deref().unwrap())
    }
}

fn vectors() -> Vec<Vector> {
    serde_json::from_str(include_str!("vectors/messagepack.json")).unwrap()
}

fn malformed() -> Vec<Vector> {
    serde_json::from_str(include_str!("vectors/messagepack-malformed.json")).unwrap()
}

fn read(bytes: &[u8], reader: Reader) -> Result<Vec<HubMessage<'static>>, String> {
    let mut splitter = FrameSplitter::new(None);
    let mut messages = Vec::new();
    for body in splitter.feed(bytes) {
        let body = body.map_err(|error| error.to_string())?;
        let message = messagepack::decode(&body, reader).map_err(|error| error.to_string())?;
        messages.extend(message.map(HubMessage::into_owned));
    }
    match splitter.is_amid_message() {
        true => Err("incomplete".to_owned()),
        false => Ok(messages),
    }
}

/// Drops what says nothing, and takes 2 and 2.0 for the same number, as JavaScript does.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let says_nothing = |name: &str, value: &Value| match name {
                "headers" | "streamIds" => {
                    value.is_null() || value == &json!([]) || value == &json!({})
                }
                "error" | "invocationId" => value.is_null(),
                "allowReconnect" => value == &json!(false),
                _ => value.get("$undefined").is_some(),
            };
            let kept = object.iter().filter(|(name, v)| !says_nothing(name, v));
            kept.map(|(name, v)| (name.clone(), plain(v)))
                .collect::<Map<_, _>>()
                .into()
        }
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Number(number) => json!(number.as_f64().unwrap()),
        other => other.clone(),
    }
}

/// Whether the values in it are such that JSON has none of the kind.
fn is_beyond_json(value: &Value) -> bool {
    let text = value.to_string();
    ["$bin", "$timestamp", "$float", "$ext", "$undefined"]
        .iter()
        .any(|tag| text.contains(tag))
}

#[test]
fn a_client_reads_what_the_official_client_reads() {
    for vector in vectors() {
        let messages = read(&vector.bytes(), Reader::Client).expect(&vector.name);
        let parsed = vector.parsed.as_ref().unwrap();
        assert_eq!(
            messages.len(),
            parsed.as_array().unwrap().len(),
            "{}",
            vector.name
        );
        if !is_beyond_json(parsed) {
            // That reader says of every message that it has no stream ids.
            let mut described: Value = messages.iter().map(described).collect();
            for message in described.as_array_mut().unwrap() {
                message.as_object_mut().unwrap().remove("streamIds");
            }
            assert_eq!(plain(&described), plain(parsed), "{}", vector.name);
        }
    }
}

#[test]
fn a_server_reads_what_official_clients_write() {
    for vector in vectors().iter().filter(|v| v.direction != "s2c") {
        let messages = read(&vector.bytes(), Reader::Server).expect(&vector.name);
        let from = vector.written_from.as_ref().unwrap();
        if !is_beyond_json(from) {
            assert_eq!(
                plain(&described(&messages[0])),
                plain(from),
                "{}",
                vector.name
            );
        }
    }
}

#[test]
fn what_is_read_is_written_in_the_same_bytes_but_for_the_forms_of_the_official_server() {
    for vector in vectors() {
        let bytes = vector.bytes();
        let mut written = Vec::new();
        let messages = read(&bytes, Reader::Server);
        let is_refused = vector.name == "msgpack_headers_nil"
            || vector.name == "msgpack_completion_unknown_result_kind";
        assert_eq!(messages.is_err(), is_refused, "{}", vector.name);
        let Ok(messages) = messages else { continue };
        for message in &messages {
            messagepack::encode(&mut written, message);
        }
        assert_eq!(read(&written, Reader::Server), Ok(messages.clone()));
        let is_same_form = vector.made_by.as_deref() == Some("writer")
            && !matches!(
                messages[0],
                HubMessage::Close(_) | HubMessage::Invocation(_) | HubMessage::StreamInvocation(_)
            );
        if is_same_form && vector.name != "msgpack_ack_large" {
            assert_eq!(written, bytes, "{}", vector.name);
        }
    }
}

#[test]
fn forms_of_the_official_server_are_written_to_the_byte() {
    let mut out = Vec::new();
    messagepack::encode_close(&mut out, None, false);
    assert_eq!(out, unhex("049307c0c2"));
    out.clear();
    messagepack::encode_close(&mut out, None, true);
    assert_eq!(out, unhex("049307c0c3"));
    out.clear();
    messagepack::encode_completion_value(&mut out, "0", &[0xC0]);
    assert_eq!(out, unhex("07950380a13003c0"));
    out.clear();
    messagepack::encode_invocation(&mut out, "Receive", &[&[0xA1, 0x61], &[1]], None);
    assert_eq!(out, unhex("11960180c0a75265636569766592a1610190"));
}

#[test]
fn malformed_bytes_are_refused() {
    for vector in malformed() {
        // Not bytes at all, but what the package's API was given.
        if vector.name == "msgpack_bad_text_input" {
            continue;
        }
        let refused = read(&vector.bytes(), Reader::Client);
        assert!(refused.is_err(), "{}: {refused:?}", vector.name);
    }
}

#[test]
fn the_vectors_are_all_there() {
    assert_eq!(vectors().len(), 66);
    assert_eq!(malformed().len(), 22);
}

#[test]
fn arguments_that_lie_about_their_length_fail_to_bind_and_nothing_more() {
    for arguments in [
        "ddffffffff",
        "dfffffffff",
        "91dbffffffff",
        "9192",
        "2a",
        "c1",
    ] {
        let body = [unhex("960180a130a152"), unhex(arguments), vec![0x90]].concat();
        let message = messagepack::decode(&body, Reader::Server).unwrap();
        let Some(HubMessage::Invocation(call)) = message else {
            panic!("{arguments}: {message:?}");
        };
        assert!(call.arguments.bind::<(Vec<u8>,)>().is_err(), "{arguments}");
        assert!(messagepack::decode(&body, Reader::Client).is_err());
    }
}

#[test]
fn nesting_is_bounded_where_types_would_follow_it() {
    for (levels, is_read) in [(200, true), (600, false), (1_000_000, false)] {
        let bytes = [vec![0x91; levels], vec![0xC0]].concat();
        let raw = Raw::messagepack(bytes);
        assert_eq!(raw.to_json().len() > 4, is_read, "{levels}");
        assert_eq!(raw.read::<Value>().is_ok(), is_read, "{levels}");
    }
}

#[test]
fn a_length_over_the_limit_is_refused_before_its_bytes_come() {
    let mut splitter = FrameSplitter::new(Some(100));
    assert!(splitter.feed(&[100, 0]).next().unwrap().is_err());
    let mut splitter = FrameSplitter::new(Some(100));
    assert!(splitter.feed(&[99, 0]).next().is_none());
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Part {
    text: String,
    count: i64,
    ratio: f64,
    nothing: Option<u8>,
    tags: BTreeMap<String, Vec<i32>>,
    kind: Kind,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Kind {
    Plain,
    Sized { bytes: u64 },
    Named(String),
    Pair(i8, i8),
}

#[test]
fn typed_values_come_back_as_they_went() {
    for kind in [
        Kind::Plain,
        Kind::Sized { bytes: u64::MAX },
        Kind::Named("n".to_owned()),
        Kind::Pair(-1, 1),
    ] {
        let part = Part {
            text: "ä".repeat(300),
            count: i64::MIN,
            ratio: 1.5,
            nothing: None,
            tags: BTreeMap::from([("k".to_owned(), vec![1, -1, 70_000])]),
            kind,
        };
        let raw = Raw::write(Encoding::MessagePack, &part).unwrap();
        assert_eq!(raw.read::<Part>().unwrap(), part);
    }
}

#[test]
fn arguments_are_bound_by_number_and_type() {
    let two = Raw::messagepack(unhex("9201a162"));
    assert_eq!(two.bind::<(i32, String)>().unwrap(), (1, "b".to_owned()));
    let wrong = BindError::WrongCount {
        provided: 2,
        expected: 1,
    };
    assert_eq!(two.bind::<i32>(), Err(wrong));
    assert!(matches!(
        two.bind::<(i32, i32)>(),
        Err(BindError::WrongType { .. })
    ));
    assert_eq!(Raw::messagepack(vec![0x90]).bind::<()>(), Ok(()));
    assert_eq!(Raw::messagepack(vec![0x91, 2]).bind::<f64>(), Ok(2.0));
}

#[test]
fn any_value_keeps_its_bytes_and_changes_its_encoding_where_it_must() {
    let bytes = unhex("91c403000102");
    let any: AnyValue = Raw::messagepack(bytes.clone()).read().unwrap();
    let back = Raw::write(Encoding::MessagePack, &any).unwrap();
    assert_eq!(back.as_bytes(), bytes);
    let text = Raw::write(Encoding::Json, &any).unwrap();
    assert_eq!(text.as_bytes(), br#"["AAEC"]"#);
    let any: AnyValue = Raw::json(&br#"{"b":1.50,"a":[-1,null]}"#[..])
        .read()
        .unwrap();
    let bytes = Raw::write(Encoding::MessagePack, &any).unwrap();
    assert_eq!(value(&bytes), json!({"a": [-1, null], "b": 1.5}));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for reader in [Reader::Server, Reader::Client] {
            let _ = read(&bytes, reader);
            let _ = messagepack::decode(&bytes, reader);
        }
        let raw = Raw::messagepack(bytes);
        let _ = raw.to_json();
        let _ = raw.read::<Value>();
        let _ = raw.bind::<(Part, AnyValue)>();
    }

    #[test]
    fn cuts_anywhere_make_no_difference(
        sizes in proptest::collection::vec(0_usize..400, 1..6),
        cut in 1_usize..50,
    ) {
        let mut stream = Vec::new();
        for size in &sizes {
            let text = vec![b'x'; *size];
            let raw = Raw::write(Encoding::MessagePack, core::str::from_utf8(&text).unwrap());
            messagepack::encode_completion_value(&mut stream, "1", raw.unwrap().as_bytes());
        }
        let mut splitter = FrameSplitter::new(Some(500));
        let mut bodies = Vec::new();
        for chunk in stream.chunks(cut) {
            bodies.extend(splitter.feed(chunk).map(|body| body.unwrap().into_owned()));
        }
        let mut whole = FrameSplitter::new(None);
        let at_once: Vec<_> = whole.feed(&stream).map(|body| body.unwrap().into_owned()).collect();
        prop_assert_eq!(bodies, at_once);
        prop_assert!(!splitter.is_amid_message());
    }
}

/// A map whose only key is a map whose only key is one, and so on.
fn keys_in_keys(levels: usize) -> Vec<u8> {
    let mut bytes = vec![0x81; levels];
    bytes.push(0xC0);
    bytes.extend(vec![0xC0; levels]);
    bytes
}

#[test]
fn a_key_that_is_a_map_costs_no_text_within_text() {
    let bytes = keys_in_keys(24);
    assert_eq!(&*Raw::messagepack(bytes).to_json(), b"null");
}

#[test]
fn a_key_that_is_a_scalar_becomes_its_text() {
    let bytes = [0x83, 0x01, 0xC0, 0xC3, 0xC0, 0xC4, 0x01, 0xFF, 0xC0];
    let text = Raw::messagepack(&bytes[..]).to_json().into_owned();
    assert_eq!(text, br#"{"1":null,"true":null,"/w==":null}"#);
}

#[test]
fn what_a_client_leaves_out_of_an_item_or_an_error_does_not_cost_it_the_connection() {
    let completion = b"\x08\x95\x03\x80\xa277\x01\xc0";
    let messages = read(completion, Reader::Server).unwrap();
    let [HubMessage::Completion(completion)] = &*messages else {
        panic!("{messages:?}");
    };
    assert_eq!(completion.result, CompletionResult::Error("".into()));
    let item = b"\x06\x93\x02\x80\xa277";
    let messages = read(item, Reader::Server).unwrap();
    let [HubMessage::StreamItem(item)] = &*messages else {
        panic!("{messages:?}");
    };
    assert!(matches!(
        item.item.read::<Value>(),
        Err(BindError::WrongType { .. })
    ));
    // The same from a server would be believed by no official client.
    for message in [
        &b"\x08\x95\x03\x80\xa277\x01\xc0"[..],
        b"\x06\x93\x02\x80\xa277",
    ] {
        read(message, Reader::Client).unwrap_err();
    }
}

#[test]
fn bytes_are_no_text_even_where_they_could_be() {
    let bytes = Raw::messagepack(&b"\xc4\x03bin"[..]);
    assert!(bytes.read::<String>().is_err());
    assert!(bytes.read::<Option<String>>().is_err());
    assert!(bytes.read::<BTreeMap<String, String>>().is_err());
    let argument = Raw::messagepack(&b"\x91\xc4\x03bin"[..]);
    assert!(argument.bind::<String>().is_err());
    let text = Raw::messagepack(&b"\xa3bin"[..]);
    assert_eq!(text.read::<String>().unwrap(), "bin");
}

#[test]
fn a_number_that_json_has_not_is_an_error_there_and_a_number_here() {
    #[derive(Serialize)]
    struct Deep {
        nothing: Option<i32>,
        list: Vec<(f32, BTreeMap<&'static str, f64>)>,
    }
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let list = vec![(1.5, BTreeMap::from([("a", number)]))];
        let deep = Deep {
            nothing: None,
            list,
        };
        Raw::write(Encoding::Json, &deep).unwrap_err();
        let written = Raw::write_or_null(Encoding::Json, &deep).unwrap();
        let expected = br#"{"nothing":null,"list":[[1.5,{"a":null}]]}"#;
        assert_eq!(written.as_bytes(), expected);
        let packed = Raw::write(Encoding::MessagePack, &number).unwrap();
        let back: f64 = packed.read().unwrap();
        assert_eq!(back.is_nan(), number.is_nan());
    }
    let deep = Deep {
        nothing: None,
        list: vec![(1.5, BTreeMap::from([("null", 0.25)]))],
    };
    let written = Raw::write(Encoding::Json, &deep).unwrap();
    let expected = br#"{"nothing":null,"list":[[1.5,{"null":0.25}]]}"#;
    assert_eq!(written.as_bytes(), expected);
}
