//! Clients call methods of the hub, and the hub asks clients.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use signalr_server::{AskError, HubError};
use support::{Client, End, Happened, Server, patiently};

async fn error_of(server: &Server, target: &str, arguments: Value) -> String {
    let mut client = Client::connect(server).await;
    client.call("1", target, arguments).await;
    client.answer("1").await["error"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn a_method_is_found_whatever_its_case_and_answers() {
    let server = Server::start().await;
    let mut client = Client::connect(&server).await;
    client.call("a", "eCHO", json!([{"x": 1.5}])).await;
    assert_eq!(
        client.next().await,
        json!({"type": 3, "invocationId": "a", "result": {"x": 1.5}})
    );
    client.call("b", "add", json!([1, 2])).await;
    assert_eq!(client.answer("b").await["result"], 3);
}

#[tokio::test]
async fn a_method_without_a_result_answers_null() {
    let server = Server::start().await;
    let mut client = Client::connect(&server).await;
    client.call("1", "Nothing", json!([])).await;
    assert_eq!(
        client.next().await,
        json!({"type": 3, "invocationId": "1", "result": null})
    );
}

#[tokio::test]
async fn a_call_that_ends_the_connection_is_not_answered() {
    let server = Server::start().await;
    let mut client = Client::connect(&server).await;
    client.call("1", "Leave", json!([])).await;
    assert_eq!(client.next().await, json!({"type": 7}));
}

#[tokio::test]
async fn a_number_that_json_has_not_fails_the_call_instead_of_becoming_null() {
    let server = Server::start().await;
    for text in ["NaN", "inf", "-inf"] {
        assert_eq!(
            error_of(&server, "Number", json!([text])).await,
            "An unexpected error occurred invoking 'Number' on the server."
        );
    }
    let mut client = Client::connect(&server).await;
    client.call("1", "Number", json!(["1.5"])).await;
    assert_eq!(client.answer("1").await["result"], json!([null, 1.5]));
}

#[tokio::test]
async fn errors_have_the_words_of_the_official_server() {
    let server = Server::start().await;
    assert_eq!(
        error_of(&server, "nowhere", json!([])).await,
        "Failed to invoke 'nowhere' due to an error on the server. HubException: Method does not \
         exist."
    );
    assert_eq!(
        error_of(&server, "add", json!([1])).await,
        "Failed to invoke 'Add' due to an error on the server."
    );
    assert_eq!(
        error_of(&server, "add", json!([1, "2"])).await,
        "Failed to invoke 'Add' due to an error on the server."
    );
    assert_eq!(
        error_of(&server, "FAIL", json!(["no such order"])).await,
        "An unexpected error occurred invoking 'Fail' on the server. HubException: no such order"
    );
    for target in ["Break", "Panic"] {
        assert_eq!(
            error_of(&server, target, json!(["a secret"])).await,
            format!("An unexpected error occurred invoking '{target}' on the server.")
        );
    }
}

#[tokio::test]
async fn detailed_mode_tells_what_is_wrong() {
    let server = Server::start_with(|s| s.with(|o| o.detailed_errors = true)).await;
    assert_eq!(
        error_of(&server, "Add", json!([1])).await,
        "Failed to invoke 'Add' due to an error on the server. InvalidDataException: Invocation \
         provides 1 argument(s) but target expects 2."
    );
    assert_eq!(
        error_of(&server, "Add", json!([1, "2"])).await,
        "Failed to invoke 'Add' due to an error on the server. InvalidDataException: Error binding \
         arguments. Make sure that the types of the provided values match the types of the hub \
         method being invoked."
    );
    let text = error_of(&server, "Break", json!(["a detail"])).await;
    assert!(text.ends_with("Error: a detail"), "{text}");
}

#[tokio::test]
async fn a_call_without_an_id_is_never_answered() {
    let server = Server::start().await;
    let mut client = Client::connect(&server).await;
    for target in ["Echo", "Fail", "Nowhere"] {
        client
            .send(&json!({"type": 1, "target": target, "arguments": ["x"]}).to_string())
            .await;
    }
    client.call("1", "Echo", json!(["loud"])).await;
    assert_eq!(
        client.next().await,
        json!({"type": 3, "invocationId": "1", "result": "loud"})
    );
}

#[tokio::test]
async fn streams_are_refused_in_the_words_of_the_official_server() {
    let server = Server::start().await;
    let mut client = Client::connect(&server).await;
    client
        .send(r#"{"type":4,"invocationId":"1","target":"Echo","arguments":[1]}"#)
        .await;
    assert_eq!(
        client.answer("1").await["error"],
        "The client attempted to invoke the non-streaming 'Echo' method with a streaming invocation."
    );
    client
        .send(r#"{"type":1,"invocationId":"2","target":"Echo","arguments":[],"streamIds":["9"]}"#)
        .await;
    assert_eq!(
        client.answer("2").await["error"],
        "An unexpected error occurred invoking 'Echo' on the server. HubException: Client sent 1 \
         stream(s), Hub method expects 0."
    );
}

#[tokio::test]
async fn messages_that_mean_nothing_here_are_passed_over() {
    let server = Server::start().await;
    let mut client = Client::connect(&server).await;
    for text in [
        r#"{"type":77,"invocationId":"1"}"#,
        r#"{"type":2,"invocationId":"x","item":1}"#,
        r#"{"type":3,"invocationId":"x"}"#,
        r#"{"type":5,"invocationId":"x"}"#,
        r#"{"type":8,"sequenceId":4}"#,
        r#"{"type":9,"sequenceId":4}"#,
    ] {
        client.send(text).await;
    }
    client.call("1", "Echo", json!(["alive"])).await;
    assert_eq!(client.next().await["result"], "alive");
}

#[tokio::test]
async fn calls_of_one_connection_take_effect_in_order() {
    let mut server = Server::start().await;
    let mut client = Client::connect(&server).await;
    client.call("w", "Wait", json!([])).await;
    let notes: Vec<String> = (0..200).map(|index| index.to_string()).collect();
    for note in &notes {
        client
            .send(&json!({"type": 1, "target": "Note", "arguments": [note]}).to_string())
            .await;
    }
    server.hub.gate.add_permits(1);
    client.answer("w").await;
    let mut seen = Vec::new();
    while seen.len() < notes.len() {
        if let Happened::Noted(note) = server.happened().await {
            seen.push(note);
        }
    }
    assert_eq!(seen, notes);
}

#[tokio::test]
async fn calls_run_at_once_where_that_is_allowed() {
    let server = Server::start_with(|s| s.with(|o| o.parallel_invocations = 2)).await;
    let mut client = Client::connect(&server).await;
    client.call("w", "Wait", json!([])).await;
    client.call("e", "Echo", json!(["past it"])).await;
    assert_eq!(client.next().await["invocationId"], "e");
    server.hub.gate.add_permits(1);
    assert_eq!(client.next().await["invocationId"], "w");
}

#[tokio::test]
async fn a_waiting_call_holds_up_neither_pings_nor_pushes() {
    let server =
        Server::start_with(|s| s.with(|o| o.keep_alive_interval = Duration::from_millis(20))).await;
    let mut client = Client::connect(&server).await;
    client.call("w", "Wait", json!([])).await;
    assert_eq!(client.next_or_ping().await, json!({"type": 6}));
    server.handle.connections()[0].push("news", &1).unwrap();
    assert_eq!(
        client.next().await,
        json!({"type": 1, "target": "news", "arguments": [1]})
    );
    server.hub.gate.add_permits(1);
    assert_eq!(client.next().await["invocationId"], "w");
}

#[tokio::test]
async fn a_method_can_ask_its_caller_while_it_runs() {
    let server = Server::start().await;
    let mut client = Client::connect(&server).await;
    client.call("1", "AskMe", json!([21])).await;
    let question = client.next().await;
    assert_eq!(question["target"], "ask");
    assert_eq!(question["arguments"], json!([21]));
    let id = question["invocationId"].as_str().unwrap();
    client
        .send(&json!({"type": 3, "invocationId": id, "result": 42}).to_string())
        .await;
    assert_eq!(client.answer("1").await["result"], 42);
}

#[tokio::test]
async fn a_question_fails_as_the_client_says_and_without_a_result() {
    let server = Server::start().await;
    let mut client = Client::connect(&server).await;
    let connection = server.handle.connections().remove(0);
    let ask = || {
        let connection = connection.clone();
        tokio::spawn(async move {
            connection
                .ask::<_, i32>("ask", &1, Duration::from_secs(20))
                .await
        })
    };
    for (end, error) in [
        (
            json!({"error": "boom"}),
            AskError::Refused("boom".to_owned()),
        ),
        (json!({}), AskError::NoResult),
    ] {
        let asked = ask();
        let mut answer = json!({"type": 3, "invocationId": client.next().await["invocationId"]});
        answer
            .as_object_mut()
            .unwrap()
            .extend(end.as_object().unwrap().clone());
        client.send(&answer.to_string()).await;
        assert_eq!(patiently(asked).await.unwrap(), Err(error));
    }
    let asked = ask();
    client.next().await;
    client.close().await;
    assert_eq!(patiently(asked).await.unwrap(), Err(AskError::Disconnected));
}

#[tokio::test]
async fn a_question_without_an_answer_ends_after_its_time_and_is_forgotten() {
    let server = Server::start().await;
    let mut client = Client::connect(&server).await;
    let connection = server.handle.connections().remove(0);
    let within = Duration::from_millis(20);
    let answer = connection.ask::<_, i32>("ask", &1, within).await;
    assert_eq!(answer, Err(AskError::TimedOut(within)));
    let id = client.next().await["invocationId"].clone();
    client
        .send(&json!({"type": 3, "invocationId": id, "result": 1}).to_string())
        .await;
    client.call("1", "Echo", json!(["alive"])).await;
    assert_eq!(client.answer("1").await["result"], "alive");
}

#[tokio::test]
async fn calls_wait_for_the_connected_event() {
    let mut server = Server::start().await;
    server.hub.doors.send_replace(false);
    let mut client = Client::connect(&server).await;
    client
        .send(&json!({"type": 1, "target": "Note", "arguments": ["call"]}).to_string())
        .await;
    server.handle.connections()[0].push("early", &0).unwrap();
    assert_eq!(client.next().await["target"], "early");
    server.hub.doors.send_replace(true);
    assert!(matches!(server.happened().await, Happened::Connected(_)));
    assert_eq!(server.happened().await, Happened::Noted("call".to_owned()));
}

#[tokio::test]
async fn a_failed_connected_event_closes_for_good() {
    let mut server = Server::start().await;
    *server.hub.refusal.lock().unwrap() = Some(HubError::new("not today"));
    let mut client = Client::connect(&server).await;
    let (records, end) = client.end().await;
    let error = "Connection closed with an error. HubException: not today";
    assert_eq!(records, [json!({"type": 7, "error": error})]);
    assert_eq!(end, End::Closed(Some(1000)));
    assert_eq!(
        server.disconnected().await,
        signalr_server::Disconnect::ConnectedFailed
    );
}

#[tokio::test]
async fn a_failed_connected_event_lets_the_client_come_back_when_it_says_so() {
    let server = Server::start().await;
    let error = HubError::new("later").with_reconnect();
    *server.hub.refusal.lock().unwrap() = Some(error);
    let mut client = Client::connect(&server).await;
    let (records, _) = client.end().await;
    assert_eq!(records[0]["allowReconnect"], true);
}

#[tokio::test]
async fn what_was_sent_before_the_goodbye_takes_effect() {
    let mut server = Server::start().await;
    let mut client = Client::connect(&server).await;
    let note = r#"{"type":1,"target":"Note","arguments":["last words"]}"#;
    client
        .send_frame(&format!("{note}\u{1e}{{\"type\":7}}\u{1e}"))
        .await;
    let mut seen = vec![
        server.happened().await,
        server.happened().await,
        server.happened().await,
    ];
    seen.retain(|happened| matches!(happened, Happened::Noted(_)));
    assert_eq!(seen, [Happened::Noted("last words".to_owned())]);
}
