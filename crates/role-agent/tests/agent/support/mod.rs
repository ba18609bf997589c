//! A site in a temporary folder, between a scripted hub, a scripted ack API and a scripted back
//! office, all on loopback.

mod acks;
mod hub;
mod office;

pub(crate) use acks::{Acks, Tokens};
pub(crate) use hub::Hub;
pub(crate) use office::{Answer, Call, Office};

use axum::Router;
use countersign_role_agent::{
    Agent, HttpSink, Options, Policy, RetryPolicy, Sink, Status, TokenSource,
};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;

pub(crate) struct Site {
    pub(crate) hub: Hub,
    pub(crate) acks: Acks,
    pub(crate) office: Office,
    folder: TempDir,
}

impl Site {
    pub(crate) async fn new() -> Self {
        Self {
            hub: Hub::start().await,
            acks: Acks::start().await,
            office: Office::start().await,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn options(&self) -> Options {
        let retry = RetryPolicy {
            immediate: 0,
            attempts_max: 3,
            delay_first: Duration::from_millis(5),
            delay_max: Duration::from_millis(20),
        };
        let policy = Policy {
            retry,
            ..Policy::default()
        };
        Options::new(self.hub.url(), self.folder.path()).with(|options| {
            options.ack_url = Some(self.acks.url());
            options.token = TokenSource::Fixed("secret".to_owned());
            options.policy = policy;
            options.reconnect_first = Duration::from_millis(20);
            options.reconnect_max = Duration::from_millis(100);
            options.post_retry_first = Duration::from_millis(10);
            options.post_retry_max = Duration::from_millis(50);
            options.stop_grace = Duration::ZERO;
            options.store.reserve_bytes = 0;
        })
    }

    pub(crate) async fn start(&self) -> Agent {
        self.start_with(|_| {}).await
    }

    pub(crate) async fn start_with(&self, change: impl FnOnce(&mut Options)) -> Agent {
        let sink = HttpSink::new(&self.office.url(), Duration::from_secs(20)).unwrap();
        self.start_sink(Arc::new(sink), change).await
    }

    pub(crate) async fn start_sink(
        &self,
        sink: Arc<dyn Sink>,
        change: impl FnOnce(&mut Options),
    ) -> Agent {
        Agent::start(self.options().with(change), sink)
            .await
            .unwrap()
    }
}

/// Waits until `look` finds something.
pub(crate) async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, waiting).await;
    found.unwrap_or_else(|_| panic!("never came about: {what}"))
}

/// Waits until the agent's status is as `look` wants it.
pub(crate) async fn status(
    agent: &Agent,
    what: &str,
    mut look: impl FnMut(&Status) -> bool,
) -> Status {
    let waiting = async {
        loop {
            let status = agent.status().await;
            if look(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, waiting).await;
    match found {
        Ok(status) => status,
        Err(_) => panic!("never came about: {what}: {:?}", agent.status().await),
    }
}

/// Long enough for the slowest machine; nothing waits for it unless it fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Serves `router` on a free port and gives its address.
pub(crate) async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

/// Id of message number `number`.
pub(crate) fn id(number: u64) -> String {
    format!("01935d3c-7a2e-7c4b-9f10-{number:012x}")
}

/// An envelope with a JSON document.
pub(crate) fn envelope(number: u64, lane: &str, push: u32) -> String {
    format!(
        r#"{{"id":"{}","type":"document.insert","to":"lyon","seq":{number},"lane":"{lane}","attempt":{push},"generation":1,"accepted_at":"2026-01-02T03:04:05.678Z","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","data":{{ "n" : {number}.0 }}}}"#,
        id(number)
    )
}
