//! Calls both ways: values, errors, order, addressing.

use serde_json::{Value, json};
use signalr_client::CallError;

use crate::world::{Binary, Complex, World, failure, soon, unique};
use crate::{Case, every};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        every("echo: values of every kind", echo),
        every("echo: bytes", echo_bytes),
        every("echo: three arguments", echo_three),
        every("echo: a complex value", echo_complex),
        every("echo: a complex value made by the server", make_complex),
        every("result: none, and null", no_result),
        every("error: wrong number and kind of arguments", wrong_arguments),
        every("error: an internal one keeps its text", internal_error),
        every("error: one for the caller brings its text", hub_error),
        every("error: unknown method", unknown_method),
        every(
            "error: a result of another type than asked for",
            wrong_result,
        ),
        every(
            "error: a plain call of a streaming method",
            plain_call_of_stream,
        ),
        every("calls: twenty at once", at_once),
        every("calls: a thousand, in order", many),
        every("calls: a dropped one does no harm", dropped),
        every("calls: names match whatever their case", names),
        every("sends: 300 take effect in order", sends),
        every("sends: one that fails is silent", failing_send),
        every("called: each argument arrives", called),
        every("called: 300 times in order", called_often),
        every("asked: a value, an object, null", asked),
        every("asked: the handler fails", asked_in_vain),
        every("asked: nobody answers", asked_nobody),
        every("asked: by another connection", asked_by_another),
        every("asked: an unknown connection", asked_unknown),
        every(
            "asked: the client asks in turn before it answers",
            asked_in_turn,
        ),
        every("groups: members hear, others and leavers do not", groups),
        every("groups: all but the caller", group_except_me),
        every("to one connection", to_connection),
        every("broadcast: all, and all others", broadcast),
        every("large: a megabyte down", large_down),
        every("large: 30,000 bytes up", large_up),
    ]
}

async fn echo(world: World) {
    let peer = world.connect().await;
    let long = "日本語 🦀 \u{1e} \" \\ \n".repeat(20);
    for value in [
        json!(null),
        json!(true),
        json!(0),
        json!(-7),
        json!(9_007_199_254_740_993_u64),
        json!(1.5),
        json!(""),
        json!(long),
        json!([]),
        json!([1, [2, [3]], "x"]),
        json!({"a": {"b": [null, false]}, "é": 1}),
    ] {
        let got: Value = soon(peer.connection.invoke("Echo", (&value,)))
            .await
            .unwrap();
        assert_eq!(got, value);
    }
}

async fn echo_bytes(world: World) {
    let peer = world.connect().await;
    let sent = Binary(vec![0, 1, 2, 0xFD, 0xFE, 0xFF]);
    let got: Binary = soon(peer.connection.invoke("EchoBytes", (&sent,)))
        .await
        .unwrap();
    assert_eq!(got, sent);
}

async fn echo_three(world: World) {
    let peer = world.connect().await;
    let sent = (1, "two", json!({"three": 3}));
    let got: Value = soon(peer.connection.invoke("EchoThree", sent))
        .await
        .unwrap();
    assert_eq!(got, json!([1, "two", {"three": 3}]));
}

async fn echo_complex(world: World) {
    let peer = world.connect().await;
    let sent = Complex {
        text: "sent by the client 🦀".into(),
        ratio: -0.25,
        flag: true,
        ..Complex::of_the_server()
    };
    let got: Complex = soon(peer.connection.invoke("EchoComplex", (&sent,)))
        .await
        .unwrap();
    assert_eq!(got, sent);
}

async fn make_complex(world: World) {
    let peer = world.connect().await;
    let got: Complex = soon(peer.connection.invoke("MakeComplex", ()))
        .await
        .unwrap();
    assert_eq!(got, Complex::of_the_server());
}

async fn no_result(world: World) {
    let peer = world.connect().await;
    soon(peer.connection.invoke::<()>("DoNothing", ()))
        .await
        .unwrap();
    let got: Option<String> = soon(peer.connection.invoke("ReturnNull", ()))
        .await
        .unwrap();
    assert_eq!(got, None);
}

async fn wrong_arguments(world: World) {
    let peer = world.connect().await;
    let connection = &peer.connection;
    for text in [
        failure(soon(connection.invoke::<i32>("Add", (1,))).await),
        failure(soon(connection.invoke::<i32>("Add", (1, 2, 3))).await),
        failure(soon(connection.invoke::<i32>("Add", ("a", "b"))).await),
    ] {
        assert!(text.contains("Failed to invoke 'Add'"), "{text}");
    }
    assert_eq!(soon(connection.invoke::<i32>("Add", (2, 3))).await, Ok(5));
}

async fn internal_error(world: World) {
    let peer = world.connect().await;
    let text = failure(soon(peer.connection.invoke::<()>("Throw", ("s3cret",))).await);
    assert!(
        text.contains("'Throw'") && !text.contains("s3cret"),
        "{text}"
    );
}

async fn hub_error(world: World) {
    let peer = world.connect().await;
    let text = failure(
        soon(
            peer.connection
                .invoke::<()>("ThrowHubError", ("not today",)),
        )
        .await,
    );
    assert!(text.ends_with("HubException: not today"), "{text}");
}

async fn unknown_method(world: World) {
    let peer = world.connect().await;
    let text = failure(soon(peer.connection.invoke::<()>("NoSuchMethod", ())).await);
    assert!(text.contains("Method does not exist"), "{text}");
}

async fn wrong_result(world: World) {
    let peer = world.connect().await;
    let got = soon(peer.connection.invoke::<i32>("Echo", ("text",))).await;
    assert!(matches!(got, Err(CallError::Result(_))), "{got:?}");
    assert_eq!(
        soon(peer.connection.invoke::<i32>("Echo", (7,))).await,
        Ok(7)
    );
}

async fn plain_call_of_stream(world: World) {
    let peer = world.connect().await;
    let text = failure(soon(peer.connection.invoke::<()>("Counter", (1, 0))).await);
    assert!(text.contains("streaming 'Counter' method"), "{text}");
}

async fn at_once(world: World) {
    let peer = world.connect().await;
    let calls = (0..20).map(|n| peer.connection.invoke::<i32>("Slow", (500, n)));
    let begun = tokio::time::Instant::now();
    let got = soon(futures_util::future::try_join_all(calls))
        .await
        .unwrap();
    assert_eq!(got, (0..20).collect::<Vec<_>>());
    // One after the other would take twice as long.
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
}

async fn many(world: World) {
    let peer = world.connect().await;
    let calls = (0..1000).map(|n| peer.connection.invoke::<i32>("Echo", (n,)));
    let got = soon(futures_util::future::try_join_all(calls))
        .await
        .unwrap();
    assert_eq!(got, (0..1000).collect::<Vec<_>>());
}

async fn dropped(world: World) {
    let peer = world.connect().await;
    let slow = peer.connection.invoke::<i32>("Slow", (300, 1));
    let given_up = tokio::time::timeout(std::time::Duration::from_millis(50), slow).await;
    assert!(given_up.is_err());
    assert_eq!(
        soon(peer.connection.invoke::<i32>("Slow", (400, 2))).await,
        Ok(2)
    );
}

async fn names(world: World) {
    let peer = world.connect().await;
    assert_eq!(
        soon(peer.connection.invoke::<i32>("aDD", (1, 2))).await,
        Ok(3)
    );
}

async fn sends(world: World) {
    let peer = world.connect().await;
    let list = unique("sends");
    for n in 0..300 {
        soon(peer.connection.send("Note", (&list, n)))
            .await
            .unwrap();
    }
    soon(async {
        loop {
            let got: Vec<i32> = peer.connection.invoke("Notes", (&list,)).await.unwrap();
            if got.len() == 300 {
                assert_eq!(got, (0..300).collect::<Vec<_>>());
                return;
            }
        }
    })
    .await;
}

async fn failing_send(world: World) {
    let peer = world.connect().await;
    for target in ["Throw", "NoSuchMethod"] {
        peer.connection.send(target, ("x",)).await.unwrap();
    }
    assert_eq!(
        soon(peer.connection.invoke::<i32>("Echo", (1,))).await,
        Ok(1)
    );
}

async fn called(world: World) {
    let mut peer = world.connect().await;
    let arguments = json!([1, "two", [3], {"four": 4}, null]);
    soon(peer.connection.invoke::<()>("CallMe", ("hear", &arguments)))
        .await
        .unwrap();
    type Five = (i32, String, Vec<i32>, Value, Option<i32>);
    let (one, two, three, four, five): Five = peer.hears_value("hear").await;
    assert_eq!((one, two.as_str(), five), (1, "two", None));
    assert_eq!((three, four), (vec![3], json!({"four": 4})));
}

async fn called_often(world: World) {
    let mut peer = world.connect().await;
    peer.connection
        .send("CallMany", ("hear", 300, 0))
        .await
        .unwrap();
    for expected in 0..300 {
        assert_eq!(peer.hears_value::<i32>("hear").await, expected);
    }
}

async fn asked(world: World) {
    let mut peer = world.connect().await;
    let connection = peer.connection.clone();
    for value in [json!(42), json!({"a": [1]}), json!(null)] {
        let (got, ()) = tokio::join!(
            soon(connection.invoke::<Value>("AskMe", ("ask", &value))),
            async {
                let question = peer.hears("ask").await;
                assert!(question.wants_answer());
                let value: Value = question.bind().unwrap();
                question.answer(&value).await.unwrap();
            }
        );
        assert_eq!(got.unwrap(), value);
    }
}

async fn asked_in_vain(world: World) {
    let mut peer = world.connect().await;
    let connection = peer.connection.clone();
    let (got, ()) = tokio::join!(
        soon(connection.invoke::<Value>("AskMe", ("ask", 1))),
        async {
            peer.hears("ask").await.fail("out of paper").await.unwrap();
        }
    );
    let text = failure(got);
    assert!(text.contains("out of paper"), "{text}");
}

async fn asked_nobody(world: World) {
    let mut peer = world.connect().await;
    let connection = peer.connection.clone();
    let (got, ()) = tokio::join!(
        soon(connection.invoke::<Value>("AskMe", ("ask", 1))),
        async {
            drop(peer.hears("ask").await);
        }
    );
    let text = failure(got);
    assert!(text.contains("Client didn't provide a result."), "{text}");
}

async fn asked_by_another(world: World) {
    let (asking, mut asked) = (world.connect().await, world.connect().await);
    let arguments = (asked.id(), "ask", "hello");
    let (got, ()) = tokio::join!(
        soon(asking.connection.invoke::<String>("AskClient", arguments)),
        async {
            let question = asked.hears("ask").await;
            let text: String = question.bind().unwrap();
            question.answer(&text.to_uppercase()).await.unwrap();
        }
    );
    assert_eq!(got, Ok("HELLO".into()));
}

async fn asked_unknown(world: World) {
    let peer = world.connect().await;
    let arguments = ("no-such-connection", "ask", 1);
    failure(soon(peer.connection.invoke::<Value>("AskClient", arguments)).await);
}

async fn asked_in_turn(world: World) {
    let mut peer = world.connect().await;
    let connection = peer.connection.clone();
    let (got, ()) = tokio::join!(
        soon(connection.invoke::<i32>("AskMe", ("ask", 20))),
        async {
            let question = peer.hears("ask").await;
            let n: i32 = question.bind().unwrap();
            let sum: i32 = soon(connection.invoke("Add", (n, 1))).await.unwrap();
            question.answer(&(sum * 2)).await.unwrap();
        }
    );
    assert_eq!(got, Ok(42));
}

async fn groups(world: World) {
    let (mut member, mut leaver) = (world.connect().await, world.connect().await);
    let mut stranger = world.connect().await;
    let group = unique("group");
    for peer in [&member, &leaver] {
        soon(peer.connection.invoke::<()>("JoinGroup", (&group,)))
            .await
            .unwrap();
    }
    soon(leaver.connection.invoke::<()>("LeaveGroup", (&group,)))
        .await
        .unwrap();
    let sending = stranger
        .connection
        .invoke::<()>("SendToGroup", (&group, "hear", 1));
    soon(sending).await.unwrap();
    assert_eq!(member.hears_value::<i32>("hear").await, 1);
    for peer in [&mut leaver, &mut stranger] {
        soon(peer.connection.invoke::<()>("CallMe", ("hear", [2])))
            .await
            .unwrap();
        assert_eq!(peer.hears_value::<i32>("hear").await, 2);
    }
}

async fn group_except_me(world: World) {
    let (mut one, mut two) = (world.connect().await, world.connect().await);
    let group = unique("group");
    for peer in [&one, &two] {
        soon(peer.connection.invoke::<()>("JoinGroup", (&group,)))
            .await
            .unwrap();
    }
    let sending = one
        .connection
        .invoke::<()>("SendToGroupExceptMe", (&group, "hear", 1));
    soon(sending).await.unwrap();
    assert_eq!(two.hears_value::<i32>("hear").await, 1);
    soon(one.connection.invoke::<()>("CallMe", ("hear", [2])))
        .await
        .unwrap();
    assert_eq!(one.hears_value::<i32>("hear").await, 2);
}

async fn to_connection(world: World) {
    let (one, mut two) = (world.connect().await, world.connect().await);
    let sending = one
        .connection
        .invoke::<()>("SendToConnection", (two.id(), "hear", "x"));
    soon(sending).await.unwrap();
    assert_eq!(two.hears_value::<String>("hear").await, "x");
}

async fn broadcast(world: World) {
    let (mut one, mut two) = (world.connect().await, world.connect().await);
    let target = unique("hear");
    soon(one.connection.invoke::<()>("BroadcastOthers", (&target, 1)))
        .await
        .unwrap();
    soon(one.connection.invoke::<()>("Broadcast", (&target, 2)))
        .await
        .unwrap();
    assert_eq!(two.hears_value::<i32>(&target).await, 1);
    assert_eq!(two.hears_value::<i32>(&target).await, 2);
    assert_eq!(one.hears_value::<i32>(&target).await, 2);
}

async fn large_down(world: World) {
    let peer = world.connect().await;
    let got: String = soon(peer.connection.invoke("MakeLarge", (1_000_000,)))
        .await
        .unwrap();
    assert_eq!(got, "x".repeat(1_000_000));
}

async fn large_up(world: World) {
    let peer = world.connect().await;
    let got: i32 = soon(peer.connection.invoke("Length", ("x".repeat(30_000),)))
        .await
        .unwrap();
    assert_eq!(got, 30_000);
}
