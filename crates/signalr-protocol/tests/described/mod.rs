//! A message as the vectors describe it, whatever its encoding.

use serde_json::{Map, Value, json};
use signalr_protocol::{CompletionResult, Headers, HubMessage, Invocation, Raw};

pub(crate) fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

pub(crate) fn value(raw: &Raw<'_>) -> Value {
    serde_json::from_slice(&raw.to_json()).unwrap()
}

fn with_headers(mut object: Value, headers: &Headers<'_>) -> Value {
    if !headers.is_empty() {
        let headers = headers.iter().map(|(k, v)| (k.to_string(), json!(v)));
        object["headers"] = headers.collect::<Map<_, _>>().into();
    }
    object
}

fn call(kind: u8, m: &Invocation<'_>) -> Value {
    let mut object = json!({"type": kind, "target": m.target, "arguments": value(&m.arguments)});
    if let Some(id) = &m.invocation_id {
        object["invocationId"] = json!(id);
    }
    if !m.stream_ids.is_empty() {
        object["streamIds"] = json!(m.stream_ids);
    }
    with_headers(object, &m.headers)
}

pub(crate) fn described(message: &HubMessage<'_>) -> Value {
    match message {
        HubMessage::Invocation(m) => call(1, m),
        HubMessage::StreamInvocation(m) => call(4, m),
        HubMessage::StreamItem(m) => {
            json!({"type": 2, "invocationId": m.invocation_id, "item": value(&m.item)})
        }
        HubMessage::Completion(m) => {
            let mut object = json!({"type": 3, "invocationId": m.invocation_id});
            match &m.result {
                CompletionResult::Void => {}
                CompletionResult::Value(v) => object["result"] = value(v),
                CompletionResult::Error(e) => object["error"] = json!(e),
            }
            with_headers(object, &m.headers)
        }
        HubMessage::CancelInvocation(m) => json!({"type": 5, "invocationId": m.invocation_id}),
        HubMessage::Ping => json!({"type": 6}),
        HubMessage::Close(m) => {
            let mut object = json!({"type": 7});
            if let Some(error) = &m.error {
                object["error"] = json!(error);
            }
            if m.allow_reconnect {
                object["allowReconnect"] = json!(true);
            }
            object
        }
        HubMessage::Ack { sequence_id } => json!({"type": 8, "sequenceId": sequence_id}),
        HubMessage::Sequence { sequence_id } => json!({"type": 9, "sequenceId": sequence_id}),
        _ => unreachable!("all nine types are listed"),
    }
}
