//! Arguments in one encoding, bound to types and rewritten in the other: no panic, bounded memory, the same values.
#![no_main]

use countersign_fuzz::bounded;
use libfuzzer_sys::fuzz_target;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use signalr_protocol::{AnyValue, HubMessage, Raw, Reader, json, messagepack};
use std::collections::BTreeMap;

/// Members of many kinds.
#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "only read")]
struct Shape {
    text: String,
    count: Option<i32>,
    ratio: f64,
    kind: Kind,
    children: Vec<Shape>,
    tags: BTreeMap<String, AnyValue>,
}

/// A variant of every form.
#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "only read")]
enum Kind {
    Plain,
    Holding(u8),
    Pair(u64, bool),
    Named { child: Box<Shape> },
}

/// Everything that a method may ask its arguments to be.
fn bind_all(arguments: &Raw<'_>) {
    let length = arguments.as_bytes().len();
    bounded(length, 256, || {
        let _ = arguments.bind::<()>();
        let _ = arguments.bind::<(i32, i64, u8)>();
        let _ = arguments.bind::<(f32, f64, bool)>();
        let _ = arguments.bind::<(String, char, Option<String>)>();
        let _ = arguments.bind::<(AnyValue, AnyValue)>();
        let _ = arguments.bind::<Shape>();
        let _ = arguments.bind::<Kind>();
        let _ = arguments.bind::<Vec<u8>>();
        let _ = arguments.bind::<BTreeMap<i64, String>>();
    });
    bounded(length, 256, || drop(arguments.read::<Value>()));
}

/// Rewritten, a value stays what it is, as far as the encodings have the same values.
fn rewrite(arguments: &Raw<'_>) {
    let length = arguments.as_bytes().len();
    bounded(length, 512, || {
        let there = Raw::messagepack(arguments.to_messagepack().into_owned());
        let text = there.to_json();
        let text = std::str::from_utf8(&text).expect("JSON is UTF-8");
        let json = Raw::json(text.as_bytes());
        let _: &RawValue = serde_json::from_str(text).expect("what is written as JSON is JSON");
        // It may be nested deeper than the reader of trees goes.
        let Ok(read) = json.read::<Value>() else {
            return;
        };
        let back = Raw::messagepack(json.to_messagepack().into_owned());
        let again: Value = serde_json::from_slice(&back.to_json()).expect("so is this");
        assert_eq!(read, again, "{text}");
    });
}

fuzz_target!(|data: &[u8]| {
    let messages = [
        json::decode(data, Reader::Server).ok().flatten(),
        messagepack::decode(data, Reader::Server).ok().flatten(),
    ];
    for message in messages.into_iter().flatten() {
        if let HubMessage::Invocation(call) | HubMessage::StreamInvocation(call) = message {
            bind_all(&call.arguments);
            rewrite(&call.arguments);
        }
    }
});
