//! A back office over a database in a temporary folder, called without a network.

use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use countersign_back_office::{BackOffice, Options};
use serde_json::Value;
use tempfile::TempDir;
use tower::ServiceExt;

#[derive(Clone)]
pub(crate) struct Office {
    router: axum::Router,
    _folder: Arc<TempDir>,
}

impl Office {
    pub(crate) fn new() -> Self {
        Self::with_bytes_max(1 << 20)
    }

    pub(crate) fn with_bytes_max(document_bytes_max: usize) -> Self {
        let folder = TempDir::new().unwrap();
        let mut options = Options::at(folder.path().join("office.db"));
        options.document_bytes_max = document_bytes_max;
        let router = BackOffice::open(&options).unwrap().router();
        Self {
            router,
            _folder: Arc::new(folder),
        }
    }

    pub(crate) async fn post(&self, post: Post) -> Answer {
        let mut request = Request::post("/documents");
        *request.headers_mut().unwrap() = post.head;
        self.call(request.body(Body::from(post.body)).unwrap())
            .await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Request::get(path).body(Body::empty()).unwrap())
            .await
    }

    pub(crate) async fn control(&self, wanted: Value) -> Answer {
        let request = Request::post("/control").header("content-type", "application/json");
        self.call(request.body(Body::from(wanted.to_string())).unwrap())
            .await
    }

    async fn call(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        Answer {
            status: head.status,
            head: head.headers,
            body,
        }
    }
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    head: HeaderMap,
    body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    /// Empty when there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.head
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

/// A `POST /documents` with everything that is required.
pub(crate) struct Post {
    head: HeaderMap,
    body: String,
}

pub(crate) fn post_of(key: &str, message_id: &str) -> Post {
    let post = Post {
        head: HeaderMap::new(),
        body: "<Invoice/>".into(),
    };
    post.header("idempotency-key", key)
        .header("x-message-id", message_id)
        .header("x-message-type", "document.insert")
        .header("content-type", "application/xml")
}

impl Post {
    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.head.insert(name, value.parse().unwrap());
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.head.remove(name);
        self
    }

    pub(crate) fn body(mut self, body: &str) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn json(self, body: &str) -> Self {
        self.header("content-type", "application/json").body(body)
    }
}
