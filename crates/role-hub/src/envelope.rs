//! The one argument of every push.
//!
//! Everything rides in it, trace context too: invocation headers break older official Java clients,
//! and new message types break everybody. Absent is left out, never `null`.

use countersign_rules::delivery::{Accepted, Push};
use countersign_rules::{BodyRef, LaneRule, Timestamp};
use std::io::Write as _;

/// Appends the envelope of `message` as JSON.
///
/// `data` is put in as it was accepted, byte for byte.
pub fn write(to: &mut Vec<u8>, message: &Accepted<'_>, push: &Push, ack_url: &str) {
    // Ids, names, numbers and times need no escaping: they were parsed.
    let begun = write!(
        to,
        r#"{{"id":"{}","type":"{}","to":"{}","seq":{},"#,
        push.id, message.kind, push.to, push.seq
    );
    begun.expect("writing to memory cannot fail");
    text(to, "lane", message.lane);
    if message.rule != LaneRule::Block {
        text(to, "lane_rule", message.rule.as_str());
    }
    let numbers = write!(
        to,
        r#""attempt":{},"generation":{},"#,
        push.attempt, push.generation
    );
    numbers.expect("writing to memory cannot fail");
    time(to, "accepted_at", message.at);
    if let Some(at) = message.expires_at {
        time(to, "expires_at", at);
    }
    for (name, value) in [
        ("correlation_id", message.correlation_id),
        ("causation_id", message.causation_id),
        ("traceparent", message.traceparent),
        ("tracestate", message.tracestate),
        ("content_type", message.content_type),
    ] {
        if !value.is_empty() {
            text(to, name, value);
        }
    }
    if let Some(attempts_max) = message.attempts_max {
        let written = write!(to, r#""max_attempts":{attempts_max},"#);
        written.expect("writing to memory cannot fail");
    }
    text(to, "ack_url", ack_url);
    match message.body {
        Some(body) => reference(to, push, message, body),
        None => {
            to.extend_from_slice(b"\"data\":");
            to.extend_from_slice(message.data);
        }
    }
    to.push(b'}');
}

/// Where the body is that is too large to be pushed, relative to the hub's own address.
fn reference(to: &mut Vec<u8>, push: &Push, message: &Accepted<'_>, body: BodyRef) {
    let (id, bytes) = (push.id, body.bytes);
    let begun = write!(
        to,
        r#""data_ref":{{"url":"/v1/messages/{id}/body","bytes":{bytes},"sha256":""#
    );
    begun.expect("writing to memory cannot fail");
    for byte in message.body_sha256 {
        write!(to, "{byte:02x}").expect("writing to memory cannot fail");
    }
    to.extend_from_slice(b"\"}");
}

fn text(to: &mut Vec<u8>, name: &str, value: &str) {
    to.push(b'"');
    to.extend_from_slice(name.as_bytes());
    to.extend_from_slice(b"\":");
    serde_json::to_writer(&mut *to, value).expect("a text is JSON");
    to.push(b',');
}

fn time(to: &mut Vec<u8>, name: &str, at: Timestamp) {
    write!(to, r#""{name}":"{at}","#).expect("writing to memory cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_rules::{AgentName, BodyId, MessageId};
    use serde_json::{Value, json};

    fn accepted<'a>(correlation_id: &'a str, data: &'a [u8]) -> Accepted<'a> {
        Accepted {
            at: Timestamp::from_millis(1_700_000_000_123),
            id: MessageId([7; 16]),
            partition: 0,
            recipient: 0,
            seq: 5,
            generation: 1,
            key: [0; 16],
            fingerprint: [0; 16],
            body_sha256: [0; 32],
            expires_at: None,
            tenant: "default",
            to: "lyon",
            kind: "document.insert",
            lane: "customer \"7\"",
            attempts_max: None,
            correlation_id,
            causation_id: "",
            traceparent: "",
            tracestate: "",
            sender: "x",
            content_type: "",
            data,
            rule: LaneRule::Block,
            body: None,
        }
    }

    /// As it is written for the second push.
    fn written(message: &Accepted<'_>) -> Vec<u8> {
        let push = Push {
            connection: 1,
            term: 1,
            id: MessageId([7; 16]),
            to: AgentName::parse("lyon").unwrap(),
            accepted: 1,
            seq: 5,
            attempt: 2,
            generation: 1,
        };
        let mut bytes = Vec::new();
        write(&mut bytes, message, &push, "http://a/acks");
        bytes
    }

    #[test]
    fn the_envelope_is_json_that_leaves_out_what_is_absent_and_keeps_the_body_as_it_was() {
        let bytes = written(&accepted("a\u{1e}b", br#"{"n":1.50}"#));
        assert!(bytes.ends_with(br#""data":{"n":1.50}}"#));
        assert!(
            !bytes.contains(&0x1e),
            "the record separator must be escaped"
        );
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(value["id"], "07070707-0707-0707-0707-070707070707");
        assert_eq!(value["lane"], "customer \"7\"");
        assert_eq!(value["correlation_id"], "a\u{1e}b");
        assert_eq!(value["accepted_at"], "2023-11-14T22:13:20.123Z");
        assert_eq!(value["attempt"], json!(2));
        assert!(value.get("lane_rule").is_none(), "that of every client");
        assert!(value.get("causation_id").is_none() && value.get("expires_at").is_none());
    }

    #[test]
    fn a_large_body_is_referred_to() {
        let message = Accepted {
            body: Some(BodyRef {
                id: BodyId([1; 16]),
                bytes: 5_000_000,
            }),
            body_sha256: [0xab; 32],
            ..accepted("", b"")
        };
        let value: Value = serde_json::from_slice(&written(&message)).unwrap();
        assert!(value.get("data").is_none());
        let url = "/v1/messages/07070707-0707-0707-0707-070707070707/body";
        let sha256 = "ab".repeat(32);
        let told = json!({ "url": url, "bytes": 5_000_000, "sha256": sha256 });
        assert_eq!(value["data_ref"], told);
    }

    #[test]
    fn a_rule_for_the_lane_travels_with_the_message() {
        let message = Accepted {
            rule: LaneRule::Park,
            ..accepted("", b"1")
        };
        let value: Value = serde_json::from_slice(&written(&message)).unwrap();
        assert_eq!(value["lane_rule"], "park");
    }
}
