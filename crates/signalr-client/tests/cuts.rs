//! The campaign of the example `cuts`, short and with its seed given, against `signalr-server`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(dead_code, reason = "the example's report is not wanted here")]

#[path = "../examples/cuts/line.rs"]
mod line;
#[path = "../examples/cuts/tally.rs"]
mod tally;
#[path = "../examples/cuts/traffic.rs"]
mod traffic;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use signalr_client::Encoding;
use signalr_server::{Caller, Hub, HubError, HubServer, Methods};
use tokio::net::TcpListener;

use line::{Cuts, Line};
use tally::{Tally, get};
use traffic::Traffic;

#[derive(Default)]
struct Numbers {
    notes: Mutex<HashMap<String, Vec<u64>>>,
}

type This = Arc<Numbers>;
type From = Caller<Numbers>;

impl Hub for Numbers {
    fn methods(methods: Methods<Self>) -> Methods<Self> {
        methods
            .on("Note", note)
            .on("Notes", notes)
            .on("CallMe", call_me)
            .on("CallMany", call_many)
    }
}

async fn note(hub: This, _: From, (list, number): (String, u64)) -> Result<(), HubError> {
    let mut notes = hub.notes.lock().unwrap();
    notes.entry(list).or_default().push(number);
    Ok(())
}

async fn notes(hub: This, _: From, list: String) -> Result<Vec<u64>, HubError> {
    Ok(hub
        .notes
        .lock()
        .unwrap()
        .get(&list)
        .cloned()
        .unwrap_or_default())
}

async fn call_me(
    _: This,
    from: From,
    (target, arguments): (String, (u64, String)),
) -> Result<(), HubError> {
    from.push_args(&target, &arguments)?;
    Ok(())
}

async fn call_many(
    _: This,
    from: From,
    (target, count, ms): (String, u64, u64),
) -> Result<(), HubError> {
    for number in 0..count {
        from.push(&target, &number)?;
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
    Ok(())
}

async fn serve() -> SocketAddr {
    let server = HubServer::new(Numbers::default()).with(|options| {
        options.stateful_reconnect = true;
        options.parallel_invocations = 8;
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router: axum::Router = server.router("/conformance");
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

#[tokio::test]
async fn connections_cut_at_random_bytes_resume_and_lose_repeat_and_swap_nothing() {
    let address = serve().await.to_string();
    let (tally, cuts) = (Arc::new(Tally::default()), Arc::new(Cuts::default()));
    let mut all = Vec::new();
    for (seed, encoding) in [(1, Encoding::Json), (2, Encoding::MessagePack)] {
        let traffic = Traffic {
            server: format!("http://{address}"),
            line: Line::start(&address, 15, seed, true, Arc::clone(&cuts))
                .await
                .unwrap(),
            encoding,
            tally: Arc::clone(&tally),
            seed,
        };
        all.push(traffic.run());
    }
    futures_util::future::join_all(all).await;
    assert_eq!(tally.reasons(), BTreeMap::new());
    assert_eq!(tally.faults(), 0);
    assert!(get(&tally.resumed) > 0 && get(&tally.up) > 0 && get(&tally.down) > 0);
}
