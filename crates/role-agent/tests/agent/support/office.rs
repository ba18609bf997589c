//! A back office that does what the test tells it.

use super::{eventually, serve};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) at: Instant,
}

impl Call {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .unwrap_or_else(|| panic!("no header {name}"))
            .to_str()
            .unwrap()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.headers.contains_key(name)
    }

    /// The message's number.
    pub(crate) fn seq(&self) -> u64 {
        self.header("x-seq").parse().unwrap()
    }
}

/// What to do with a request.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Status(u16, &'static str, &'static [(&'static str, &'static str)]),
    /// Never.
    Hang,
    /// As an insert, once this is true.
    Once(tokio::sync::watch::Receiver<bool>),
}

type Decide = Arc<dyn Fn(&Call) -> Answer + Send + Sync>;

#[derive(Clone)]
pub(crate) struct Office {
    calls: Arc<Mutex<Vec<Call>>>,
    decide: Arc<Mutex<Decide>>,
    url: String,
}

impl Office {
    pub(crate) async fn start() -> Self {
        let mut office = Self {
            calls: Arc::default(),
            decide: Arc::new(Mutex::new(Arc::new(|_| inserted()))),
            url: String::new(),
        };
        let router = Router::new()
            .route("/documents", post(take))
            .with_state(office.clone());
        office.url = serve(router).await;
        office
    }

    pub(crate) fn url(&self) -> String {
        format!("{}/documents", self.url)
    }

    /// Answers as `decide` says from now on.
    pub(crate) fn answers(&self, decide: impl Fn(&Call) -> Answer + Send + Sync + 'static) {
        *self.decide.lock().unwrap() = Arc::new(decide);
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    /// The calls, once there are `count`.
    pub(crate) async fn called(&self, count: usize) -> Vec<Call> {
        eventually(&format!("{count} calls of the back office"), || {
            let calls = self.calls();
            (calls.len() >= count).then_some(calls)
        })
        .await
    }
}

pub(crate) fn inserted() -> Answer {
    Answer::Status(
        201,
        r#"{"row": 1}"#,
        &[("content-type", "application/json")],
    )
}

async fn take(State(office): State<Office>, headers: HeaderMap, body: Bytes) -> Response {
    let at = Instant::now();
    let call = Call { headers, body, at };
    let decide = Arc::clone(&office.decide.lock().unwrap());
    let mut answer = decide(&call);
    office.calls.lock().unwrap().push(call);
    if let Answer::Once(released) = &mut answer {
        let _ = released.wait_for(|released| *released).await;
        answer = inserted();
    }
    match answer {
        Answer::Hang | Answer::Once(_) => std::future::pending().await,
        Answer::Status(status, text, headers) => {
            let mut response = (StatusCode::from_u16(status).unwrap(), text).into_response();
            for (name, value) in headers {
                response.headers_mut().insert(*name, value.parse().unwrap());
            }
            response
        }
    }
}
