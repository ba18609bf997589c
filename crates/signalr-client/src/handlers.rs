//! What runs when the server calls.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;

use futures_util::FutureExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use signalr_protocol::error_text;

use crate::Invocation;

type HandlerFuture = Pin<Box<dyn Future<Output = ()> + Send>>;
type Handler = Box<dyn Fn(Invocation) -> HandlerFuture + Send + Sync>;

/// Handlers by method name. Names are compared without case, as the JavaScript client does.
#[derive(Default)]
pub(crate) struct Handlers {
    by_name: HashMap<String, Handler>,
}

impl Handlers {
    /// A handler without a result: a server that waits for one is told that there is none.
    pub(crate) fn on<A, F, Fut>(&mut self, name: &str, handler: F)
    where
        A: DeserializeOwned,
        F: Fn(A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.add(name, move |invocation| match invocation.bind() {
            Ok(arguments) => {
                let work = handler(arguments);
                async move {
                    work.await;
                    // Dropped only now, so that the answer comes after the work.
                    drop(invocation);
                }
                .boxed()
            }
            Err(error) => unbound(invocation, &error).boxed(),
        });
    }

    /// A handler with a result.
    pub(crate) fn answer<A, R, E, F, Fut>(&mut self, name: &str, handler: F)
    where
        A: DeserializeOwned,
        R: Serialize + Send + Sync,
        E: fmt::Display + Send,
        F: Fn(A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
    {
        self.add(name, move |invocation| match invocation.bind() {
            Ok(arguments) => {
                let work = handler(arguments);
                async move {
                    let target = invocation.target().to_owned();
                    let answered = match work.await {
                        Ok(value) => invocation.answer(&value).await,
                        Err(error) => {
                            let text = error.to_string();
                            invocation.fail(&text).await
                        }
                    };
                    if let Err(error) = answered {
                        tracing::warn!(target, %error, "the answer could not be sent");
                    }
                }
                .boxed()
            }
            Err(error) => unbound(invocation, &error).boxed(),
        });
    }

    fn add<F>(&mut self, name: &str, handler: F)
    where
        F: Fn(Invocation) -> HandlerFuture + Send + Sync + 'static,
    {
        self.by_name.insert(name.to_lowercase(), Box::new(handler));
    }

    /// Runs the handler to its end. One that panics is logged, and its call answered; the connection goes on.
    pub(crate) async fn run(&self, invocation: Invocation) {
        let name = invocation.target().to_lowercase();
        let Some(handler) = self.by_name.get(&name) else {
            tracing::debug!(target = name, "no handler");
            return;
        };
        // A handler's own state is behind its own locks; ours is not touched while it runs.
        let work = AssertUnwindSafe(async { handler(invocation).await }).catch_unwind();
        if work.await.is_err() {
            tracing::error!(target = name, "the handler panicked");
        }
    }
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_name.keys()).finish()
    }
}

/// What arrives and does not fit is lost, so the log has to say it; the server learns it when it waits for an answer.
fn unbound(
    invocation: Invocation,
    error: &signalr_protocol::BindError,
) -> impl Future<Output = ()> + Send + use<> {
    tracing::warn!(target = invocation.target(), %error, "the arguments do not fit the handler");
    async move {
        let _ = invocation.fail(error_text::CLIENT_FAILED_TO_PARSE).await;
    }
}
