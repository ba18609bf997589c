//! Negotiation and handshake beyond the recorded texts.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use signalr_protocol::handshake::{self, HandshakeRequest};
use signalr_protocol::negotiate::{
    NegotiateError, NegotiateResponse, Negotiated, TransferFormat, Transport, TransportOffer,
    VersionError, choose_version,
};

#[test]
fn the_answer_has_the_keys_and_the_order_of_the_official_server() {
    let response = NegotiateResponse {
        use_stateful_reconnect: Some(true),
        negotiate_version: Some(1),
        connection_id: Some("i".into()),
        connection_token: Some("t".into()),
        available_transports: Some(vec![
            TransportOffer::new(Transport::WebSockets),
            TransportOffer::new(Transport::ServerSentEvents),
        ]),
        ..NegotiateResponse::default()
    };
    assert_eq!(
        String::from_utf8(response.to_json()).unwrap(),
        r#"{"useStatefulReconnect":true,"negotiateVersion":1,"connectionId":"i","connectionToken":"t","availableTransports":[{"transport":"WebSockets","transferFormats":["Text","Binary"]},{"transport":"ServerSentEvents","transferFormats":["Text"]}]}"#
    );
}

#[test]
fn the_version_is_chosen_as_the_official_server_chooses_it() {
    assert_eq!(choose_version([], 0), Ok(0));
    assert_eq!(choose_version(["0"], 0), Ok(0));
    assert_eq!(choose_version([" 1"], 0), Ok(1));
    assert_eq!(choose_version(["+1"], 0), Ok(1));
    assert_eq!(choose_version(["99"], 0), Ok(1));
    for bad in ["", "abc", "1.0", "99999999999"] {
        assert_eq!(
            choose_version([bad], 0),
            Err(VersionError::NotInteger),
            "{bad}"
        );
    }
    assert_eq!(choose_version(["1", "0"], 0), Err(VersionError::NotInteger));
    assert_eq!(
        choose_version(["-1"], 0).unwrap_err().to_string(),
        "The client requested version '-1', but the server does not support this version."
    );
    assert_eq!(
        choose_version([], 1),
        Err(VersionError::TooOld { requested: 0 })
    );
}

#[test]
fn version_zero_uses_the_id_as_token() {
    let answer = br#"{"connectionId":"i","availableTransports":[]}"#;
    let Ok(Negotiated::Offer(offer)) = NegotiateResponse::read(answer) else {
        panic!("an offer was made");
    };
    assert_eq!(offer.connection_token, "i");
}

#[test]
fn unknown_transports_and_formats_are_kept_and_skipped() {
    let answer =
        br#"{"negotiateVersion":1,"connectionId":"i","connectionToken":"t","availableTransports":[
        {"transport":"Pigeons","transferFormats":["Feather"]},
        {"transport":"LongPolling","transferFormats":["Text","Feather"]}]}"#;
    let Ok(Negotiated::Offer(offer)) = NegotiateResponse::read(answer) else {
        panic!("an offer was made");
    };
    assert_eq!(offer.transports[0].kind(), None);
    assert_eq!(offer.transports[1].kind(), Some(Transport::LongPolling));
    assert!(offer.transports[1].carries(TransferFormat::Text));
    assert!(!offer.transports[1].carries(TransferFormat::Binary));
}

#[test]
fn redirects_refusals_and_old_servers_are_told_apart() {
    assert_eq!(
        NegotiateResponse::read(br#"{"url":"http://b","accessToken":"x"}"#),
        Ok(Negotiated::Redirect {
            url: "http://b".into(),
            access_token: Some("x".into())
        })
    );
    assert_eq!(
        NegotiateResponse::read(br#"{"error":"no"}"#),
        Err(NegotiateError::Refused { error: "no".into() })
    );
    assert_eq!(
        NegotiateResponse::read(br#"{"ProtocolVersion":"1.5","ConnectionId":"x"}"#),
        Err(NegotiateError::Classic)
    );
    assert!(matches!(
        NegotiateResponse::read(b"<html>"),
        Err(NegotiateError::Malformed { .. })
    ));
    assert_eq!(
        NegotiateResponse::refusal("no").to_json(),
        br#"{"error":"no"}"#
    );
}

#[test]
fn a_handshake_is_read_with_the_tolerance_of_the_official_server() {
    let read = |text: &str| HandshakeRequest::decode(text.as_bytes()).map_err(|e| e.to_string());
    for text in [
        r#"{"protocol":"json","version":1}"#,
        r#" {"version":1,"protocol":"json","type":6,"minorVersion":"x"} trailing"#,
        r#"{"protocol":"x","protocol":"json","version":7,"version":1}"#,
    ] {
        assert_eq!(read(text), Ok(HandshakeRequest::new("json", 1)), "{text}");
    }
    assert_eq!(
        read(r#"{"protocol":"json"}"#).unwrap_err(),
        r#"Missing required property 'version'. Message content: {"protocol":"json"}"#
    );
    assert_eq!(
        read(r#"{"protocol":1,"version":1}"#).unwrap_err(),
        "Expected 'protocol' to be of type String."
    );
    for text in [
        r#"{"protocol":"json","version":1.0}"#,
        "[]",
        "{",
        r#"{"type":6}"#,
    ] {
        assert!(read(text).is_err(), "{text}");
    }
}

#[test]
fn handshake_answers_are_written_as_the_official_server_writes_them() {
    let mut out = Vec::new();
    handshake::encode_accepted(&mut out);
    handshake::encode_refused(&mut out, "The protocol 'x\"' is not supported.");
    assert_eq!(
        out,
        b"{}\x1e{\"error\":\"The protocol 'x\\\"' is not supported.\"}\x1e"
    );
}
