//! One message goes to many: to everybody, to groups, to users, and to nobody twice.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use signalr_server::{
    Caller, Disconnect, Encoding, Hub, HubError, HubServer, Methods, Options, Reach, WhenFull,
};
use support::{Client, PlainTokens, Server, patiently};
use tokio_tungstenite::tungstenite::Message;

/// A client and the id that the server knows it by.
async fn connect(server: &Server) -> (Client, String) {
    connect_as(server, "/hub").await
}

async fn connect_as(server: &Server, path_and_query: &str) -> (Client, String) {
    let before = ids(server);
    let client = Client::connect_to(server, path_and_query).await;
    let id = ids(server).into_iter().find(|id| !before.contains(id));
    (client, id.unwrap())
}

fn ids(server: &Server) -> Vec<String> {
    let connections = server.handle.connections();
    connections.iter().map(|c| c.id().to_owned()).collect()
}

fn taken(reach: Reach) -> usize {
    assert!(reach.is_complete(), "{reach:?}");
    reach.taken
}

/// The arguments of the next message; `end` is what everybody gets at last.
async fn got(client: &mut Client) -> Vec<Value> {
    let mut got = Vec::new();
    loop {
        match client.next().await["arguments"].take() {
            end if end == json!(["end"]) => return got,
            arguments => got.push(arguments[0].clone()),
        }
    }
}

async fn all_got<const N: usize>(server: &Server, clients: [&mut Client; N]) -> [Vec<Value>; N] {
    server.handle.all().push("end", "end");
    let mut all = [const { Vec::new() }; N];
    for (got_by_one, client) in all.iter_mut().zip(clients) {
        *got_by_one = got(client).await;
    }
    all
}

#[tokio::test]
async fn everybody_gets_what_goes_to_all_and_the_excepted_do_not() {
    let server = Server::start().await;
    let ((mut a, _), (mut b, b_id), (mut c, c_id)) = (
        connect(&server).await,
        connect(&server).await,
        connect(&server).await,
    );
    assert_eq!(taken(server.handle.all().push("m", &1)), 3);
    assert_eq!(taken(server.handle.all_except([&*b_id]).push("m", &2)), 2);
    let ids = [b_id, c_id, "nobody".to_owned()];
    assert_eq!(taken(server.handle.all_except(ids).push("m", &3)), 1);
    let got = all_got(&server, [&mut a, &mut b, &mut c]).await;
    assert_eq!(got[0], [1, 2, 3]);
    assert_eq!(got[1], [1]);
    assert_eq!(got[2], [1, 2]);
}

#[tokio::test]
async fn connections_are_reached_by_id_and_unknown_ones_are_silently_nothing() {
    let server = Server::start().await;
    let ((mut a, a_id), (mut b, b_id)) = (connect(&server).await, connect(&server).await);
    assert_eq!(taken(server.handle.client(&*a_id).push("m", &1)), 1);
    assert_eq!(taken(server.handle.client("nobody").push("m", &2)), 0);
    let ids = [&*a_id, &*b_id, &*a_id, "nobody"];
    assert_eq!(taken(server.handle.clients(ids).push("m", &3)), 2);
    let got = all_got(&server, [&mut a, &mut b]).await;
    assert_eq!(got[0], [1, 3]);
    assert_eq!(got[1], [3]);
}

#[tokio::test]
async fn joining_twice_is_one_membership_and_one_leaving_ends_it() {
    let server = Server::start().await;
    let (mut a, id) = connect(&server).await;
    assert!(server.handle.join(&id, "room"));
    assert!(server.handle.join(&id, "room"));
    assert_eq!(taken(server.handle.group("room").push("m", &1)), 1);
    assert!(server.handle.leave(&id, "room"));
    assert!(!server.handle.leave(&id, "room"));
    assert_eq!(taken(server.handle.group("room").push("m", &2)), 0);
    assert_eq!(all_got(&server, [&mut a]).await[0], [1]);
}

#[tokio::test]
async fn group_names_have_case_and_an_empty_one_is_a_name() {
    let server = Server::start().await;
    let (mut a, id) = connect(&server).await;
    server.handle.join(&id, "Room");
    assert_eq!(taken(server.handle.group("room").push("m", &1)), 0);
    assert_eq!(taken(server.handle.group("").push("m", &2)), 0);
    server.handle.join(&id, "");
    assert_eq!(taken(server.handle.group("").push("m", &3)), 1);
    assert_eq!(all_got(&server, [&mut a]).await[0], [3]);
}

#[tokio::test]
async fn a_member_of_several_groups_gets_one_message_once() {
    let server = Server::start().await;
    let ((mut a, a_id), (mut b, b_id)) = (connect(&server).await, connect(&server).await);
    server.handle.join(&a_id, "x");
    server.handle.join(&a_id, "y");
    server.handle.join(&b_id, "y");
    assert_eq!(
        taken(server.handle.groups(["x", "y", "z"]).push("m", &1)),
        2
    );
    assert_eq!(
        taken(server.handle.group_except("y", [&*a_id]).push("m", &2)),
        1
    );
    let got = all_got(&server, [&mut a, &mut b]).await;
    assert_eq!(got[0], [1]);
    assert_eq!(got[1], [1, 2]);
}

#[tokio::test]
async fn an_unknown_connection_joins_nothing() {
    let server = Server::start().await;
    assert!(!server.handle.join("nobody", "room"));
    assert!(server.handle.group_names().is_empty());
}

#[tokio::test]
async fn groups_end_with_their_last_connection_and_leave_nothing_behind() {
    let mut server = Server::start_with(|s| s.auth_optional(PlainTokens)).await;
    let (mut a, a_id) = connect_as(&server, "/hub?access_token=ann").await;
    let (mut b, b_id) = connect_as(&server, "/hub?access_token=ann").await;
    for room in 0..100 {
        server.handle.join(&a_id, &format!("room {room}"));
    }
    server.handle.join(&b_id, "room 7");
    let a_handle = server.handle.connection(&a_id).unwrap();
    assert_eq!(a_handle.groups().len(), 100);
    a.close().await;
    server.disconnected().await;
    assert_eq!(server.handle.group_names(), ["room 7".into()]);
    assert_eq!(taken(server.handle.group("room 7").push("m", &1)), 1);
    assert_eq!(taken(server.handle.user("ann").push("m", &2)), 1);
    assert!(
        !a_handle.join("room 1"),
        "an ended connection joins nothing"
    );
    assert!(a_handle.groups().is_empty());
    b.close().await;
    server.disconnected().await;
    assert!(server.handle.group_names().is_empty());
    assert!(server.handle.user("ann").connections().is_empty());
    assert_eq!(server.handle.all().push("m", &3), Reach::default());
}

#[tokio::test]
async fn all_connections_of_a_user_get_what_goes_to_it() {
    let server = Server::start_with(|s| s.auth_optional(PlainTokens)).await;
    let (mut phone, _) = connect_as(&server, "/hub?access_token=ann").await;
    let (mut page, _) = connect_as(&server, "/hub?access_token=ann").await;
    let (mut other, _) = connect_as(&server, "/hub?access_token=bob").await;
    let (mut nobody, _) = connect(&server).await;
    assert_eq!(taken(server.handle.user("ann").push("m", &1)), 2);
    assert_eq!(taken(server.handle.user("Ann").push("m", &2)), 0);
    assert_eq!(
        taken(server.handle.users(["ann", "bob", "eve"]).push("m", &3)),
        3
    );
    let got = all_got(&server, [&mut phone, &mut page, &mut other, &mut nobody]).await;
    assert_eq!(
        got,
        [
            vec![json!(1), json!(3)],
            vec![json!(1), json!(3)],
            vec![json!(3)],
            vec![]
        ]
    );
}

/// Calls the hub's handles from inside.
struct Rooms;

impl Hub for Rooms {
    fn methods(methods: Methods<Self>) -> Methods<Self> {
        methods
            .on(
                "Say",
                async |_: Arc<Self>, from: Caller<Self>, text: String| {
                    let others = from.others_in("hall").push("said", &text);
                    let all = from.others().push_args("said", &(1, &text));
                    Ok((others.taken, all.taken, from.groups().len()))
                },
            )
            .on(
                "Leave",
                async |_: Arc<Self>, from: Caller<Self>, room: String| Ok(from.leave(&room)),
            )
    }

    async fn on_connected(&self, caller: &Caller<Self>) -> Result<(), HubError> {
        assert!(caller.join("hall"));
        Ok(())
    }
}

#[tokio::test]
async fn a_hub_method_joins_leaves_and_speaks_to_the_others() {
    let address = support::serve(HubServer::new(Rooms)).await;
    let mut a = Client::connect_at(address).await;
    let mut b = Client::connect_at(address).await;
    // The answer to its own call says that the other's connected event is over.
    b.call("1", "Leave", json!(["elsewhere"])).await;
    assert_eq!(b.answer("1").await["result"], false);
    a.call("1", "Say", json!(["hello"])).await;
    assert_eq!(a.answer("1").await["result"], json!([1, 1, 1]));
    assert_eq!(b.next().await["arguments"], json!(["hello"]));
    assert_eq!(b.next().await["arguments"], json!([1, "hello"]));
    b.call("2", "Leave", json!(["hall"])).await;
    assert_eq!(b.answer("2").await["result"], true);
    a.call("2", "Say", json!(["anyone"])).await;
    assert_eq!(a.answer("2").await["result"], json!([0, 1, 1]));
}

#[tokio::test]
async fn one_broadcast_reaches_each_client_in_its_encoding() {
    let server = Server::start().await;
    let mut text = Client::connect(&server).await;
    let mut binary = Client::open(&server, "/hub").await;
    binary
        .send(r#"{"protocol":"messagepack","version":1}"#)
        .await;
    assert_eq!(binary.frame().await.into_data(), "{}\u{1e}");
    patiently(async {
        while server.handle.all().connections().len() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let encodings = server.handle.connections();
    assert!(
        encodings
            .iter()
            .any(|c| c.encoding() == Encoding::MessagePack)
    );
    assert_eq!(taken(server.handle.all().push("m", &json!({"a": 1}))), 2);
    assert_eq!(taken(server.handle.all().push_raw("m", "{\"a\": 1}")), 2);
    assert_eq!(taken(server.handle.all().push_array("m", "[{\"a\":1}]")), 2);
    assert_eq!(
        taken(server.handle.all().push_args("m", &(json!({"a": 1}),))),
        2
    );
    let message = b"\x0c\x96\x01\x80\xc0\xa1m\x91\x81\xa1a\x01\x90";
    let mut received = Vec::new();
    while received.len() < 4 * message.len() {
        match binary.frame().await {
            Message::Binary(bytes) => received.extend_from_slice(&bytes),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(received, message.repeat(4));
    for _ in 0..4 {
        assert_eq!(text.next().await["arguments"], json!([{"a": 1}]));
    }
}

#[tokio::test]
async fn broadcasts_and_messages_of_one_connection_keep_their_order_and_share_frames() {
    let server = Server::start().await;
    let mut client = Client::connect(&server).await;
    let connection = server.handle.connections().remove(0);
    for index in 0..3_000 {
        match index % 3 {
            0 => connection.push("own", &index).unwrap(),
            _ => assert_eq!(taken(server.handle.all().push("all", &index)), 1),
        }
    }
    for index in 0..3_000 {
        assert_eq!(client.next().await["arguments"], json!([index]));
    }
    assert!(client.frames.len() < 50, "{} frames", client.frames.len());
    let frame_max = Options::default().send_frame_bytes;
    assert!(client.frames.iter().all(|bytes| *bytes <= frame_max));
}

#[tokio::test]
async fn a_reader_that_stops_delays_nobody_and_is_ended_so_that_it_may_come_back() {
    let few = |o: &mut Options| o.outbox_messages_max = 16;
    let mut server = Server::start_with(|s| s.with(few)).await;
    let (mut reader, _) = connect(&server).await;
    let (mut stopped, stopped_id) = connect(&server).await;
    // More than the kernel's buffers hold, so that the queue of the one who reads nothing fills.
    let filling = "x".repeat(100_000);
    let mut ended = None;
    for index in 0..1_000 {
        let reach = server.handle.all().push_args("m", &(index, &filling));
        assert_eq!(reach.closed, 0);
        let record = reader.next().await;
        assert_eq!(record["arguments"][0], index);
        if reach.full > 0 {
            assert_eq!((reach.taken, reach.full), (1, 1));
            ended = Some(index);
            break;
        }
        assert_eq!(reach.taken, 2);
    }
    let ended = ended.expect("the queue of the one that reads nothing fills");
    assert!(
        !server
            .handle
            .connection(&stopped_id)
            .is_some_and(|c| c.is_open())
    );
    let reach = server.handle.all().push("m", "later");
    assert_eq!((reach.taken, reach.closed), (1, 1));
    // It gets all that it was promised, and is told that this is not all.
    let (records, _) = stopped.end().await;
    let (close, messages) = records.split_last().unwrap();
    assert_eq!(close, &json!({"type": 7, "allowReconnect": true}));
    assert_eq!(messages.len(), ended);
    assert_eq!(server.disconnected().await, Disconnect::SlowReader);
    assert_eq!(reader.next().await["arguments"], json!(["later"]));
}

#[tokio::test]
async fn a_sender_may_choose_that_a_slow_reader_misses_messages() {
    let none = |o: &mut Options| o.outbox_messages_max = 0;
    let server = Server::start_with(|s| s.with(none)).await;
    let (_client, id) = connect(&server).await;
    let reach = server
        .handle
        .all()
        .when_full(WhenFull::SkipMessage)
        .push("m", &1);
    assert_eq!((reach.taken, reach.full), (0, 1));
    assert!(server.handle.connection(&id).unwrap().is_open());
}

#[tokio::test]
async fn a_message_over_the_limit_is_counted_and_ends_nobody() {
    let small = |o: &mut Options| o.message_bytes_max = 100;
    let server = Server::start_with(|s| s.with(small)).await;
    let mut client = Client::connect(&server).await;
    let reach = server.handle.all().push("m", &"x".repeat(100));
    assert_eq!((reach.taken, reach.too_large), (0, 1));
    assert_eq!(taken(server.handle.all().push("m", &1)), 1);
    assert_eq!(client.next().await["arguments"], json!([1]));
}

#[tokio::test]
async fn a_sender_that_waits_for_room_loses_nobody() {
    let few = |o: &mut Options| o.outbox_messages_max = 8;
    let server = Server::start_with(|s| s.with(few)).await;
    let (mut a, _) = connect(&server).await;
    let handle = server.handle.clone();
    let sender = tokio::spawn(async move {
        for index in 0..2_000 {
            assert!(handle.all().caught_up(Duration::from_secs(20)).await);
            assert_eq!(taken(handle.all().push("m", &index)), 1);
        }
    });
    for index in 0..2_000 {
        assert_eq!(a.next().await["arguments"], json!([index]));
    }
    sender.await.unwrap();
}

#[tokio::test]
#[should_panic(expected = "a tuple or a list")]
async fn arguments_that_are_no_list_are_a_fault_of_the_program() {
    let server = Server::start().await;
    let _client = connect(&server).await;
    server.handle.all().push_args("m", &5);
}
