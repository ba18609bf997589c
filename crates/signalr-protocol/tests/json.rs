//! JSON messages beyond the recorded ones: what the official server takes and refuses.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use signalr_protocol::{BindError, CompletionResult, HubMessage, Invocation, Reader, json};

fn server(text: &str) -> Result<Option<HubMessage<'_>>, String> {
    json::decode(text.as_bytes(), Reader::Server).map_err(|error| error.to_string())
}

fn call(text: &str) -> Invocation<'_> {
    match server(text) {
        Ok(Some(HubMessage::Invocation(call))) => call,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn the_type_may_come_last_as_the_javascript_client_writes_it() {
    let call = call(r#"{"target":"Add","arguments":[1,2],"invocationId":"0","type":1}"#);
    assert_eq!(call.invocation_id.as_deref(), Some("0"));
    assert_eq!(call.arguments.as_bytes(), b"[1,2]");
}

#[test]
fn escaped_names_count_and_case_matters() {
    assert_eq!(server(r#"{"\u0074ype":6}"#), Ok(Some(HubMessage::Ping)));
    assert_eq!(
        server(r#"{"Type":6}"#),
        Err("Missing required property 'type'.".into())
    );
}

#[test]
fn what_follows_the_object_is_ignored() {
    assert_eq!(server(r#"{"type":6} x"#), Ok(Some(HubMessage::Ping)));
    assert_eq!(
        server(r#"{"type":6}{"type":7}"#),
        Ok(Some(HubMessage::Ping))
    );
}

#[test]
fn the_last_of_duplicate_fields_counts() {
    let call = call(r#"{"type":6,"target":"a","target":"b","arguments":[],"type":1}"#);
    assert_eq!(call.target, "b");
}

#[test]
fn a_null_is_not_a_missing_field() {
    for (text, error) in [
        (
            r#"{"type":1,"invocationId":null,"target":"a","arguments":[]}"#,
            "Expected 'invocationId' to be of type String.",
        ),
        (
            r#"{"type":1,"target":"a","arguments":null}"#,
            "Expected 'arguments' to be of type Array.",
        ),
        (
            r#"{"type":1,"target":"a","arguments":[],"streamIds":null}"#,
            "Null value for 'streamIds' is not valid.",
        ),
        (
            r#"{"type":1,"target":"a","arguments":[],"streamIds":["1",null]}"#,
            "Null value for 'streamIds' is not valid.",
        ),
        (
            r#"{"type":7,"error":null}"#,
            "Expected 'error' to be of type String.",
        ),
        (
            r#"{"type":7,"allowReconnect":null}"#,
            "Expected 'allowReconnect' to be true or false.",
        ),
        (
            r#"{"type":6,"headers":null}"#,
            "Expected 'headers' to be of type StartObject.",
        ),
        (
            r#"{"type":6,"headers":{"a":1}}"#,
            "Expected header 'a' to be of type String.",
        ),
        (r#"{"type":null}"#, "Expected 'type' to be of type Number."),
        (
            r#"{"type":8,"sequenceId":null}"#,
            "Expected 'sequenceId' to be of type Number.",
        ),
        (
            r#"{"type":1,"target":"a"}"#,
            "Missing required property 'arguments'.",
        ),
        (
            r#"{"type":2,"invocationId":"1"}"#,
            "Missing required property 'item'.",
        ),
        (
            r#"{"type":4,"target":"a","arguments":[]}"#,
            "Missing required property 'invocationId'.",
        ),
        (
            r#"{"type":3,"invocationId":"1","error":"e","result":null}"#,
            "The 'error' and 'result' properties are mutually exclusive.",
        ),
        (
            "[6]",
            "Unexpected JSON Token Type 'Array'. Expected a JSON Object.",
        ),
        (
            "42",
            "Unexpected JSON Token Type 'Number'. Expected a JSON Object.",
        ),
        ("", "Error reading JSON."),
        ("\u{feff}{\"type\":6}", "Error reading JSON."),
        (r#"{"type":6,}"#, "Error reading JSON."),
        (r#"{"type":6/**/}"#, "Error reading JSON."),
    ] {
        assert_eq!(server(text), Err(error.to_owned()), "{text}");
    }
}

#[test]
fn only_whole_numbers_are_types_for_a_server() {
    for text in [
        r#"{"type":1.0}"#,
        r#"{"type":6e0}"#,
        r#"{"type":4294967302}"#,
        r#"{"type":"6"}"#,
    ] {
        assert!(server(text).is_err(), "{text}");
    }
    assert_eq!(
        json::decode(br#"{"type":6.0}"#, Reader::Client),
        Ok(Some(HubMessage::Ping))
    );
}

#[test]
fn unknown_types_are_skipped() {
    assert_eq!(server(r#"{"type":99,"target":"a"}"#), Ok(None));
    assert_eq!(server(r#"{"type":-1}"#), Ok(None));
}

#[test]
fn a_server_takes_an_empty_id_for_none_and_an_empty_target_for_a_name() {
    let call = call(r#"{"type":1,"invocationId":"","target":"","arguments":[]}"#);
    assert_eq!((call.invocation_id, &*call.target), (None, ""));
}

#[test]
fn sixty_four_levels_are_read_and_one_more_is_not() {
    let nested = |levels: usize| {
        let (open, close) = ("[".repeat(levels - 1), "]".repeat(levels - 1));
        format!(r#"{{"type":6,"unknown":{open}{close}}}"#)
    };
    assert_eq!(server(&nested(64)), Ok(Some(HubMessage::Ping)));
    assert_eq!(server(&nested(65)), Err("Error reading JSON.".into()));
}

#[test]
fn brackets_and_quotes_inside_strings_do_not_end_the_object() {
    let call = call(r#"{"type":1,"target":"}\"{","arguments":["]}\\"]} rest"#);
    assert_eq!(call.target, "}\"{");
    assert_eq!(call.arguments.bind::<String>().unwrap(), "]}\\");
}

#[test]
fn bytes_that_are_no_text_spoil_the_argument_but_not_the_connection() {
    let text = b"{\"type\":1,\"target\":\"a\",\"arguments\":[\"\xff\"]}";
    let Ok(Some(HubMessage::Invocation(call))) = json::decode(text, Reader::Server) else {
        panic!("the envelope is readable");
    };
    assert!(matches!(
        call.arguments.bind::<String>(),
        Err(BindError::WrongType { .. })
    ));
    let text = b"{\"type\":1,\"target\":\"\xff\",\"arguments\":[]}";
    assert!(json::decode(text, Reader::Server).is_err());
}

#[test]
fn a_lone_surrogate_spoils_the_argument_and_is_fatal_in_a_name() {
    let call = call(r#"{"type":1,"target":"a","arguments":["\ud800"]}"#);
    assert!(call.arguments.bind::<String>().is_err());
    assert!(server(r#"{"type":1,"target":"\ud800","arguments":[]}"#).is_err());
}

#[test]
fn a_tuple_takes_as_many_arguments_as_it_has_members() {
    let args = call(r#"{"type":1,"target":"a","arguments":[1,"x"]}"#)
        .arguments
        .into_owned();
    assert_eq!(args.bind::<(i32, String)>().unwrap(), (1, "x".to_owned()));
    assert_eq!(
        args.bind::<(i32,)>(),
        Err(BindError::WrongCount {
            provided: 2,
            expected: 1
        })
    );
    assert_eq!(
        args.bind::<(i32, String, i32)>(),
        Err(BindError::WrongCount {
            provided: 2,
            expected: 3
        })
    );
    assert_eq!(
        args.bind::<()>(),
        Err(BindError::WrongCount {
            provided: 2,
            expected: 0
        })
    );
    assert!(matches!(
        args.bind::<(i32, i32)>(),
        Err(BindError::WrongType { .. })
    ));
}

#[test]
fn anything_else_takes_exactly_one_argument() {
    #[derive(serde::Deserialize, Debug, PartialEq)]
    struct Point {
        x: i32,
    }
    let one = |arguments: &str| {
        let text = format!(r#"{{"type":1,"target":"a","arguments":{arguments}}}"#);
        call(&text).arguments.into_owned()
    };
    assert_eq!(
        one(r#"[ {"x":1} ]"#).bind::<Point>().unwrap(),
        Point { x: 1 }
    );
    assert_eq!(one("[[1,2]]").bind::<Vec<i32>>().unwrap(), [1, 2]);
    assert_eq!(one("[[1,2]]").bind::<((i32, i32),)>().unwrap(), ((1, 2),));
    assert_eq!(one("[null]").bind::<Option<i32>>().unwrap(), None);
    assert_eq!(one("[]").bind::<()>(), Ok(()));
    assert_eq!(
        one("[]").bind::<Option<i32>>(),
        Err(BindError::WrongCount {
            provided: 0,
            expected: 1
        })
    );
    assert_eq!(
        one("[1,2]").bind::<i32>(),
        Err(BindError::WrongCount {
            provided: 2,
            expected: 1
        })
    );
    let raw = one("[ 1.50 ]")
        .bind::<Box<serde_json::value::RawValue>>()
        .unwrap();
    assert_eq!(raw.get(), "1.50");
}

#[test]
fn encoded_arguments_go_out_as_they_are() {
    let mut out = Vec::new();
    json::encode_invocation(
        &mut out,
        "order.placed",
        &[b"{\"a\":1.50}", b"2"],
        Some("s1"),
    );
    json::encode_invocation(&mut out, "b", &[], None);
    json::encode_invocation_array(&mut out, "c", b"[1]", None);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "{\"type\":1,\"invocationId\":\"s1\",\"target\":\"order.placed\",\"arguments\":[{\"a\":1.50},2]}\u{1e}\
         {\"type\":1,\"target\":\"b\",\"arguments\":[]}\u{1e}\
         {\"type\":1,\"target\":\"c\",\"arguments\":[1]}\u{1e}"
    );
}

#[test]
fn an_empty_error_is_never_sent_because_clients_take_it_for_success() {
    let mut out = Vec::new();
    json::encode_completion_error(&mut out, "1", "");
    let Ok(Some(HubMessage::Completion(completion))) =
        json::decode(&out[..out.len() - 1], Reader::Client)
    else {
        panic!("a completion was written");
    };
    assert!(matches!(completion.result, CompletionResult::Error(_)));
}

proptest::proptest! {
    #[test]
    fn any_text_survives_as_target_and_id(target in ".+", id in ".+") {
        let mut out = Vec::new();
        json::encode_invocation(&mut out, &target, &[], Some(&id));
        proptest::prop_assert_eq!(out.iter().filter(|byte| **byte == 0x1e).count(), 1);
        let text = String::from_utf8(out).unwrap();
        let call = call(text.trim_end_matches('\u{1e}'));
        proptest::prop_assert_eq!(call.target.as_ref(), target);
        proptest::prop_assert_eq!(call.invocation_id.as_deref(), Some(id.as_str()));
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
        let _ = json::decode(&bytes, Reader::Server);
        let _ = json::decode(&bytes, Reader::Client);
    }
}

#[test]
fn a_fraction_is_read_as_the_nearest_number_so_that_it_comes_back_as_it_was() {
    let call = call(r#"{"type":1,"target":"Echo","arguments":[9.62964972193618e-35]}"#);
    let (number,) = call.arguments.bind::<(f64,)>().unwrap();
    assert_eq!(number.to_bits(), 9.62964972193618e-35_f64.to_bits());
    let there = signalr_protocol::Raw::messagepack(call.arguments.to_messagepack().into_owned());
    assert_eq!(&*there.to_json(), b"[9.62964972193618e-35]");
}
