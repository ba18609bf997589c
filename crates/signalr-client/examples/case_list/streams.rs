//! Streams both ways.

use futures_util::stream;
use serde_json::{Value, json};
use signalr_client::{CallError, Streaming};

use crate::world::{World, failure, soon, unique};
use crate::{Case, every};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        every("stream: items in order, then its end", counter),
        every("stream: without items", empty),
        every("stream: ten thousand items, read late", many),
        every("stream: three at once", three_at_once),
        every("stream: fails midway with its error", fails),
        every(
            "stream: unknown method, and one that does not stream",
            no_stream,
        ),
        every("stream: dropped, the server stops", dropped),
        every("stream: ends with its connection", ends_with_connection),
        every("stream: an unreadable item does not end it", unreadable),
        every("upload: the sum", upload),
        every("upload: nothing", upload_nothing),
        every("upload: two beside a text", upload_two),
        every("upload: a thousand come back as a stream", upload_echo),
        every("upload: the client fails it", upload_fails),
        every("upload: without an answer", upload_note),
        every("upload: dropped, the method is told", upload_dropped),
    ]
}

async fn rest<T: serde::de::DeserializeOwned>(stream: &mut Streaming<T>) -> Vec<T> {
    let mut items = Vec::new();
    while let Some(item) = soon(stream.next()).await {
        items.push(item.unwrap());
    }
    items
}

async fn counter(world: World) {
    let peer = world.connect().await;
    let mut stream = soon(peer.connection.stream::<i32>("Counter", (100, 1)))
        .await
        .unwrap();
    assert_eq!(rest(&mut stream).await, (0..100).collect::<Vec<_>>());
    assert_eq!(soon(stream.next()).await, None);
}

async fn empty(world: World) {
    let peer = world.connect().await;
    let mut stream = soon(peer.connection.stream::<i32>("Counter", (0, 0)))
        .await
        .unwrap();
    assert_eq!(soon(stream.next()).await, None);
}

async fn many(world: World) {
    let options = world
        .options()
        .with(|options| options.stream_bytes_max = 2_000);
    let peer = crate::world::connect(options).await;
    let mut stream = soon(peer.connection.stream::<i32>("Counter", (10_000, 0)))
        .await
        .unwrap();
    // An answer is found behind what is not read, and takes nothing of it away.
    assert_eq!(
        soon(peer.connection.invoke::<i32>("Echo", (1,))).await,
        Ok(1)
    );
    assert_eq!(rest(&mut stream).await, (0..10_000).collect::<Vec<_>>());
}

async fn three_at_once(world: World) {
    let peer = world.connect().await;
    let begin = |n: i32| peer.connection.stream::<i32>("Counter", (n, 1));
    let (a, b, c) = tokio::join!(begin(30), begin(20), begin(10));
    for (stream, count) in [(a, 30), (b, 20), (c, 10)] {
        let got = rest(&mut stream.unwrap()).await;
        assert_eq!(got, (0..count).collect::<Vec<_>>());
    }
}

async fn fails(world: World) {
    let peer = world.connect().await;
    let calling = peer
        .connection
        .stream::<i32>("CounterThenThrow", (3, "midway"));
    let mut stream = soon(calling).await.unwrap();
    for expected in 0..3 {
        assert_eq!(soon(stream.next()).await, Some(Ok(expected)));
    }
    let text = failure(soon(stream.next()).await.unwrap());
    assert!(text.contains("midway"), "{text}");
    assert_eq!(soon(stream.next()).await, None);
}

async fn no_stream(world: World) {
    let peer = world.connect().await;
    for (target, said) in [
        ("NoSuchStream", "Method does not exist"),
        ("DoNothing", "non-streaming 'DoNothing' method"),
    ] {
        let mut stream = soon(peer.connection.stream::<i32>(target, ()))
            .await
            .unwrap();
        let text = failure(soon(stream.next()).await.unwrap());
        assert!(text.contains(said), "{text}");
    }
}

async fn dropped(world: World) {
    let mut peer = world.connect().await;
    let calling = peer.connection.stream::<i32>("Endless", (1, "tag"));
    let mut stream = soon(calling).await.unwrap();
    for expected in 0..3 {
        assert_eq!(soon(stream.next()).await, Some(Ok(expected)));
    }
    drop(stream);
    assert_eq!(peer.hears_value::<String>("StreamCanceled").await, "tag");
}

async fn ends_with_connection(world: World) {
    let peer = world.connect().await;
    let calling = peer.connection.stream::<i32>("Endless", (1, "tag"));
    let mut stream = soon(calling).await.unwrap();
    assert_eq!(soon(stream.next()).await, Some(Ok(0)));
    soon(peer.connection.close()).await;
    soon(async {
        loop {
            match stream.next().await {
                Some(Ok(_)) => {}
                Some(Err(CallError::Closed(_))) => return,
                other => panic!("{other:?}"),
            }
        }
    })
    .await;
    assert_eq!(soon(stream.next()).await, None);
}

async fn unreadable(world: World) {
    let peer = world.connect().await;
    let items = stream::iter([json!(1), json!("two"), json!(3)]);
    let calling = peer
        .connection
        .call("UploadEcho", ())
        .upload(items)
        .stream();
    let mut stream: Streaming<i32> = soon(calling).await.unwrap();
    assert_eq!(soon(stream.next()).await, Some(Ok(1)));
    assert!(matches!(
        soon(stream.next()).await,
        Some(Err(CallError::Result(_)))
    ));
    assert_eq!(soon(stream.next()).await, Some(Ok(3)));
    assert_eq!(soon(stream.next()).await, None);
}

async fn upload(world: World) {
    let peer = world.connect().await;
    let call = peer
        .connection
        .call("UploadSum", ())
        .upload(stream::iter(1..=100));
    assert_eq!(soon(call.invoke::<i32>()).await, Ok(5050));
}

async fn upload_nothing(world: World) {
    let peer = world.connect().await;
    let call = peer
        .connection
        .call("UploadSum", ())
        .upload(stream::empty::<i32>());
    assert_eq!(soon(call.invoke::<i32>()).await, Ok(0));
}

async fn upload_two(world: World) {
    let peer = world.connect().await;
    let call = peer
        .connection
        .call("UploadTwo", ("sums",))
        .upload(stream::iter([1, 2, 3]))
        .upload(stream::iter([10, 20]));
    assert_eq!(
        soon(call.invoke::<Value>()).await,
        Ok(json!(["sums", 6, 30]))
    );
}

async fn upload_echo(world: World) {
    let peer = world.connect().await;
    let call = peer
        .connection
        .call("UploadEcho", ())
        .upload(stream::iter(0..1000));
    let mut stream: Streaming<i32> = soon(call.stream()).await.unwrap();
    assert_eq!(rest(&mut stream).await, (0..1000).collect::<Vec<_>>());
}

async fn upload_fails(world: World) {
    let peer = world.connect().await;
    let items = stream::iter([Ok(1), Err("the source ran dry")]);
    let call = peer.connection.call("UploadSum", ()).try_upload(items);
    let text = failure(soon(call.invoke::<i32>()).await);
    assert!(text.contains("UploadSum"), "{text}");
}

async fn upload_note(world: World) {
    let peer = world.connect().await;
    let list = unique("upload");
    let items = stream::iter([json!(list), json!("a"), json!("b")]);
    let call = peer.connection.call("UploadNote", ()).upload(items);
    soon(call.send()).await.unwrap();
    soon(async {
        loop {
            let got: Vec<String> = peer.connection.invoke("Notes", (&list,)).await.unwrap();
            if got == ["a", "b"] {
                return;
            }
        }
    })
    .await;
}

async fn upload_dropped(world: World) {
    let peer = world.connect().await;
    let call = peer
        .connection
        .call("UploadSum", ())
        .upload(stream::pending::<i32>());
    let given_up =
        tokio::time::timeout(std::time::Duration::from_millis(100), call.invoke::<i32>());
    assert!(given_up.await.is_err());
    assert_eq!(
        soon(peer.connection.invoke::<i32>("Echo", (1,))).await,
        Ok(1)
    );
}
