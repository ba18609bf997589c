//! The calls of one connection: waiting in order, running beside the reading, answered when done.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use futures_util::{Future, FutureExt as _};
use signalr_protocol::{Invocation, error_text};
use tracing::{debug, warn};

use crate::methods::{Call, Method};
use crate::server::Shared;
use crate::{Caller, Hub, HubError};

/// What came of something that ran.
#[derive(Debug)]
pub(super) enum Finished {
    /// The hub's connected event.
    Connected(Result<(), HubError>),
    /// A call; to be answered when it has an id.
    Call {
        id: Option<String>,
        answer: Result<Vec<u8>, String>,
    },
}

type Running<'a> = Pin<Box<dyn Future<Output = Finished> + Send + 'a>>;

/// A call as it came, plain or asking for a stream.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) invocation: Invocation<'static>,
    pub(super) is_streaming: bool,
}

pub(super) struct Calls<'a, H: Hub> {
    shared: &'a Shared<H>,
    caller: &'a Caller<H>,
    waiting: VecDeque<Asked>,
    running: FuturesUnordered<Running<'a>>,
    /// Calls wait until the connected event is over.
    is_connected: bool,
}

impl<'a, H: Hub> Calls<'a, H> {
    /// Starts with the connected event.
    pub(super) fn new(shared: &'a Shared<H>, caller: &'a Caller<H>) -> Self {
        let running = FuturesUnordered::new();
        let event = AssertUnwindSafe(shared.hub.on_connected(caller)).catch_unwind();
        let event: Running<'a> = Box::pin(async {
            Finished::Connected(event.await.unwrap_or_else(|panic| Err(panicked(&panic))))
        });
        running.push(event);
        Self {
            shared,
            caller,
            waiting: VecDeque::new(),
            running,
            is_connected: false,
        }
    }

    pub(super) fn add(&mut self, asked: Asked) {
        self.waiting.push_back(asked);
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_running(&self) -> bool {
        !self.running.is_empty()
    }

    /// Starts the next waiting call if one may start. A call that fails at once is given back.
    pub(super) fn start_next(&mut self) -> Option<Finished> {
        let parallel = self.shared.options.parallel_invocations.max(1);
        while self.is_connected && self.running.len() < parallel {
            let asked = self.waiting.pop_front()?;
            let id = asked.invocation.invocation_id.as_deref().map(str::to_owned);
            match self.start(&asked) {
                Ok((method, call)) => self.running.push(Box::pin(self.run(id, method, call))),
                Err(error) => {
                    return Some(Finished::Call {
                        id,
                        answer: Err(error),
                    });
                }
            }
        }
        None
    }

    /// The next that is done. Never when nothing runs.
    pub(super) async fn finished(&mut self) -> Finished {
        match self.running.next().await {
            Some(finished) => {
                self.is_connected |= matches!(finished, Finished::Connected(Ok(())));
                finished
            }
            None => std::future::pending().await,
        }
    }

    /// Runs what came before the end of the connection, without answers; what was sent took
    /// effect, as far as the client can tell.
    pub(super) async fn finish(mut self) {
        if !self.is_connected
            && !matches!(self.running.next().await, Some(Finished::Connected(Ok(()))))
        {
            return;
        }
        self.is_connected = true;
        while self.start_next().is_some() || self.is_running() {
            if self.is_running() {
                self.running.next().await;
            }
        }
    }

    fn start(&self, asked: &Asked) -> Result<(&'a Method<H>, Call), String> {
        let Asked {
            invocation,
            is_streaming,
        } = asked;
        let target = &*invocation.target;
        let method = self.shared.methods.find(target).ok_or_else(|| {
            debug!(connection = self.caller.id(), target, "unknown hub method");
            error_text::unknown_method(target)
        })?;
        if *is_streaming {
            return Err(error_text::is_not_streaming(method.name));
        }
        if !invocation.stream_ids.is_empty() {
            let sent = invocation.stream_ids.len();
            return Err(error_text::wrong_upload_count(method.name, sent, 0));
        }
        let call = method.start(self.caller, &invocation.arguments).map_err(|error| {
            debug!(connection = self.caller.id(), method = method.name, %error, "bad arguments");
            let text = error_text::failed_to_invoke(method.name);
            match self.shared.options.detailed_errors {
                true => {
                    let detail = error_text::bind_detail(&error);
                    error_text::with_detail(&text, "InvalidDataException", &detail)
                }
                false => text,
            }
        })?;
        Ok((method, call))
    }

    fn run(
        &self,
        id: Option<String>,
        method: &'a Method<H>,
        call: Call,
    ) -> impl Future<Output = Finished> + Send + 'a {
        let is_detailed = self.shared.options.detailed_errors;
        let caller = self.caller;
        async move {
            let result = AssertUnwindSafe(call).catch_unwind().await;
            let answer = result.unwrap_or_else(|panic| Err(panicked(&panic))).map_err(|error| {
                warn!(connection = caller.id(), method = method.name, %error, "hub method failed");
                error.told(&error_text::method_failed(method.name), is_detailed)
            });
            Finished::Call { id, answer }
        }
    }
}

fn panicked(panic: &Box<dyn Any + Send>) -> HubError {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    HubError::internal(format!("panicked: {}", text.unwrap_or("without a text")))
}
