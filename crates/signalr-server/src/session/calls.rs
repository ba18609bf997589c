//! The calls of one connection: waiting in order, running beside the reading, answered when done.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;

use futures_util::future::{self, AbortHandle, Abortable, Aborted, Either};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use futures_util::{Future, FutureExt as _};
use signalr_protocol::{HubMessage, Invocation, Raw, StreamItem, error_text};
use tokio::select;
use tracing::{debug, warn};

use crate::methods::{Call, Method, Started, StreamCall};
use crate::server::Shared;
use crate::uploads::{OpenUploads, RawUpload};
use crate::{Caller, Hub, HubError, PushError};

/// What came of something that ran.
#[derive(Debug)]
pub(super) enum Finished {
    /// The hub's connected event.
    Connected(Result<(), HubError>),
    /// A call; to be answered when it has an id.
    Call {
        id: Option<String>,
        /// Whether it took the place of another.
        had_place: bool,
        answer: Result<Vec<u8>, String>,
    },
    /// A call whose answer was a stream, whose items are sent already.
    Stream { id: String, end: Result<(), String> },
}

type Running<'a> = Pin<Box<dyn Future<Output = Finished> + Send + 'a>>;

/// A call as it came, plain or asking for a stream.
#[derive(Debug)]
struct Asked {
    invocation: Invocation<'static>,
    is_streaming: bool,
    uploads: Vec<RawUpload>,
}

pub(super) struct Calls<'a, H: Hub> {
    shared: &'a Shared<H>,
    caller: &'a Caller<H>,
    waiting: VecDeque<Asked>,
    running: FuturesUnordered<Running<'a>>,
    /// How many of those that run count as such: calls that take uploads do not, or what the client
    /// does between two items would wait for the last one.
    places_taken: usize,
    /// Streams run beside the calls and do not count as such. Most connections have none.
    streaming: Option<FuturesUnordered<Running<'a>>>,
    /// How to stop each stream, by its id.
    streams: HashMap<String, AbortHandle>,
    pub(super) uploads: OpenUploads,
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
            places_taken: 0,
            streaming: None,
            streams: HashMap::new(),
            uploads: OpenUploads::new(shared.options.upload_bytes_max),
            is_connected: false,
        }
    }

    /// Its uploads begin at once, because their items follow at once.
    pub(super) fn add(&mut self, invocation: Invocation<'static>, is_streaming: bool) {
        let ids = invocation.stream_ids.iter();
        let uploads = ids.map(|id| self.uploads.begin(id)).collect();
        self.waiting.push_back(Asked {
            invocation,
            is_streaming,
            uploads,
        });
    }

    /// Stops a stream; what is no stream, or has ended, goes its way.
    pub(super) fn cancel(&self, id: &str) {
        if let Some(stream) = self.streams.get(id) {
            stream.abort();
        }
    }

    /// Whether more may be read from the client.
    pub(super) fn is_taking(&self, waiting_max: usize) -> bool {
        self.waiting.len() < waiting_max && !self.uploads.is_full()
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_running(&self) -> bool {
        !self.running.is_empty() || !self.streams.is_empty()
    }

    /// Starts the next waiting call if one may start. A call that fails at once is given back.
    pub(super) fn start_next(&mut self) -> Option<Finished> {
        let parallel = self.shared.options.parallel_invocations.max(1);
        let beside_max = self.shared.options.waiting_invocations_max;
        while self.is_connected {
            let next = self.waiting.front()?;
            let beside = self.running.len() - self.places_taken;
            let takes_uploads = !next.uploads.is_empty() && beside < beside_max;
            let needs_place = !next.is_streaming && !takes_uploads;
            if needs_place && self.places_taken >= parallel {
                return None;
            }
            let asked = self.waiting.pop_front()?;
            let id = asked.invocation.invocation_id.as_deref().map(str::to_owned);
            match self.start(asked) {
                Ok((method, Started::Plain(call))) => {
                    self.places_taken += usize::from(needs_place);
                    let call = self.run(id, needs_place, method, call);
                    self.running.push(Box::pin(call));
                }
                // A streaming call without an id is none: the decoder sees to that.
                Ok((method, Started::Streaming(call))) => {
                    self.stream(id.unwrap_or_default(), method, call);
                }
                Err(error) => {
                    return Some(Finished::Call {
                        id,
                        had_place: false,
                        answer: Err(error),
                    });
                }
            }
        }
        None
    }

    /// The next that is done. Never when nothing runs.
    pub(super) async fn finished(&mut self) -> Finished {
        let streaming = self.streaming.as_mut().map_or_else(
            || Either::Left(future::pending()),
            |streaming| Either::Right(streaming.next()),
        );
        let finished = select! {
            Some(finished) = self.running.next() => finished,
            Some(finished) = streaming => finished,
            else => future::pending().await,
        };
        match &finished {
            Finished::Connected(result) => self.is_connected |= result.is_ok(),
            Finished::Stream { id, .. } => {
                self.streams.remove(id);
            }
            Finished::Call { had_place, .. } => self.places_taken -= usize::from(*had_place),
        }
        finished
    }

    /// Runs what came before the end of the connection, without answers; what was sent took
    /// effect, as far as the client can tell. Streams end, for there is nobody to send them to.
    pub(super) async fn finish(mut self) {
        self.uploads.disconnect();
        self.streaming = None;
        self.streams.clear();
        if !self.is_connected
            && !matches!(self.running.next().await, Some(Finished::Connected(Ok(()))))
        {
            return;
        }
        self.is_connected = true;
        while self.start_next().is_some() || self.is_running() {
            self.streaming = None;
            self.streams.clear();
            let finished = self.running.next().await;
            if let Some(Finished::Call { had_place, .. }) = finished {
                self.places_taken -= usize::from(had_place);
            }
        }
    }

    fn start(&self, asked: Asked) -> Result<(&'a Method<H>, Started), String> {
        let Asked {
            invocation,
            is_streaming,
            uploads,
        } = asked;
        let target = &*invocation.target;
        let method = self.shared.methods.find(target).ok_or_else(|| {
            debug!(connection = self.caller.id(), target, "unknown hub method");
            error_text::unknown_method(target)
        })?;
        match (is_streaming, method.is_streaming()) {
            (true, false) => return Err(error_text::is_not_streaming(method.name)),
            (false, true) => return Err(error_text::is_streaming(method.name)),
            _ => {}
        }
        if uploads.len() != method.uploads {
            let sent = uploads.len();
            return Err(error_text::wrong_upload_count(
                method.name,
                sent,
                method.uploads,
            ));
        }
        if let Some(id) = invocation.invocation_id.as_deref()
            && is_streaming
            && self.streams.contains_key(id)
        {
            return Err(error_text::id_in_use(id));
        }
        let streams_max = self.shared.options.streams_max;
        if is_streaming && self.streams.len() >= streams_max {
            return Err(format!(
                "Failed to invoke '{}' because {streams_max} streams of this connection run already. Cancel one first.",
                method.name
            ));
        }
        let call = method.start(self.caller, &invocation.arguments, uploads).map_err(|error| {
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

    /// Sends the items as they come, until they end or the client wants no more.
    fn stream(&mut self, id: String, method: &'a Method<H>, call: StreamCall) {
        let (stop, stopped) = AbortHandle::new_pair();
        self.streams.insert(id.clone(), stop);
        let is_detailed = self.shared.options.detailed_errors;
        let caller = self.caller;
        let streaming = self.streaming.get_or_insert_default();
        streaming.push(Box::pin(async move {
            let items = AssertUnwindSafe(send_items(caller, &id, call)).catch_unwind();
            let end = match Abortable::new(items, stopped).await {
                Ok(end) => end.unwrap_or_else(|panic| Err(StreamError::Amid(panicked(&panic)))),
                Err(Aborted) => Ok(()),
            };
            let end = end.map_err(|error| {
                let (StreamError::Before(cause) | StreamError::Amid(cause)) = &error;
                warn!(connection = caller.id(), method = method.name, %cause, "stream failed");
                error.told(method.name, is_detailed)
            });
            Finished::Stream { id, end }
        }));
    }

    fn run(
        &self,
        id: Option<String>,
        had_place: bool,
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
            Finished::Call {
                id,
                had_place,
                answer,
            }
        }
    }
}

/// Why a stream failed.
enum StreamError {
    /// The method gave none.
    Before(HubError),
    /// It began, and did not come to its end.
    Amid(HubError),
}

impl StreamError {
    fn told(&self, method: &str, is_detailed: bool) -> String {
        match self {
            Self::Before(error) => error.told(&error_text::method_failed(method), is_detailed),
            Self::Amid(error) => error.told(error_text::STREAM_FAILED, is_detailed),
        }
    }
}

async fn send_items<H: Hub>(
    caller: &Caller<H>,
    id: &str,
    call: StreamCall,
) -> Result<(), StreamError> {
    let codec = caller.codec();
    let mut items = call.await.map_err(StreamError::Before)?;
    while let Some(item) = items.next().await {
        let item = HubMessage::StreamItem(StreamItem {
            headers: Vec::new(),
            invocation_id: id.into(),
            item: Raw::new(codec.encoding(), item.map_err(StreamError::Amid)?),
        });
        let sent = caller
            .outbox()
            .push_patiently(|out| codec.message(out, &item))
            .await;
        match sent {
            Err(PushError::Closed) => return Ok(()),
            sent => sent.map_err(|error| StreamError::Amid(error.into()))?,
        }
        // A stream that is always ready must not keep the connection from anything else.
        tokio::task::consume_budget().await;
    }
    Ok(())
}

fn panicked(panic: &Box<dyn Any + Send>) -> HubError {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    HubError::internal(format!("panicked: {}", text.unwrap_or("without a text")))
}
