//! One call, put together before it is made.

use std::fmt;
use std::sync::Arc;

use futures_util::Stream;
use serde::Serialize;
use serde::de::DeserializeOwned;
use signalr_protocol::{CompletionResult, Raw};

use crate::uploads::{self, Items, Uploads};
use crate::{Arguments, CallError, Connection, Streaming};

/// A call of a method, with streams among its arguments if it wants some. Nothing is sent until it is told how the
/// answer is wanted: [`invoke`](Self::invoke), [`stream`](Self::stream) or [`send`](Self::send).
pub struct Call<'a> {
    connection: &'a Connection,
    target: &'a str,
    /// Written at once, so that the futures hold no more than bytes.
    arguments: Result<Raw<'static>, CallError>,
    uploads: Vec<Items>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(
        connection: &'a Connection,
        target: &'a str,
        arguments: impl Arguments,
    ) -> Self {
        let encoding = connection.shared().codec.0;
        let arguments = arguments.write(encoding).map(Raw::into_owned);
        Self {
            connection,
            target,
            arguments,
            uploads: Vec::new(),
        }
    }

    /// Adds a stream of items. Streams go to the method's stream parameters in the order in which they are added,
    /// wherever those stand among the others.
    ///
    /// The items are sent by a task of their own, at the pace of the connection. It ends when the method has answered,
    /// when the call is dropped (the method is then told that the stream failed), and with the connection.
    #[must_use]
    pub fn upload<S>(mut self, items: S) -> Self
    where
        S: Stream + Send + 'static,
        S::Item: Serialize,
    {
        self.uploads
            .push(uploads::items(self.connection.shared().codec.0, items));
        self
    }

    /// The same for a stream that may fail: the method is told the error's text.
    #[must_use]
    pub fn try_upload<S, T, E>(mut self, items: S) -> Self
    where
        S: Stream<Item = Result<T, E>> + Send + 'static,
        T: Serialize,
        E: fmt::Display,
    {
        self.uploads
            .push(uploads::try_items(self.connection.shared().codec.0, items));
        self
    }

    /// Calls, and waits for the result. See [`Connection::invoke`].
    ///
    /// # Errors
    ///
    /// As [`Connection::invoke`].
    pub async fn invoke<R: DeserializeOwned>(self) -> Result<R, CallError> {
        Ok(self.invoke_raw().await?.read()?)
    }

    /// Calls, and gives the result as it came. See [`Connection::invoke_raw`].
    ///
    /// # Errors
    ///
    /// As [`Connection::invoke`].
    pub async fn invoke_raw(self) -> Result<Raw<'static>, CallError> {
        let shared = Arc::clone(self.connection.shared());
        let waiting = shared.calls.begin();
        let mut uploads = self.begin(Some(&waiting.id()), false).await?;
        let answer = waiting.answer().await;
        uploads.answered();
        match answer {
            Some(CompletionResult::Value(value)) => Ok(value),
            Some(CompletionResult::Void) => Ok(shared.codec.null()),
            Some(CompletionResult::Error(error)) => Err(CallError::Failed(error.into_owned())),
            None => Err(shared.why_closed().into()),
        }
    }

    /// Calls a streaming method, and gives its items. Whether there is such a method is told by the first of them.
    ///
    /// # Errors
    ///
    /// [`CallError`] when the call could not be put in line.
    pub async fn stream<T: DeserializeOwned>(self) -> Result<Streaming<T>, CallError> {
        let held = Arc::clone(self.connection.held());
        let (id, queue) = held.shared.calls.begin_stream();
        // Made before the wait: dropped while the call waits to get in line, it forgets the stream.
        let mut streaming = Streaming::new(held, id, queue, Uploads::none());
        match self.begin(Some(&id.to_string()), true).await {
            Ok(uploads) => {
                streaming.began(uploads);
                Ok(streaming)
            }
            Err(error) => Err(error),
        }
    }

    /// Calls, and wants no answer. See [`Connection::send`].
    ///
    /// # Errors
    ///
    /// [`CallError`] when the call could not be put in line.
    pub async fn send(self) -> Result<(), CallError> {
        let shared = Arc::clone(self.connection.shared());
        let uploads = self.begin(None, false).await?;
        uploads.detach(&shared);
        Ok(())
    }

    /// Puts the call in line, and begins to send what belongs to it.
    async fn begin(self, id: Option<&str>, is_streaming: bool) -> Result<Uploads, CallError> {
        let shared = self.connection.shared();
        let arguments = self.arguments?;
        let ids: Vec<String> = self
            .uploads
            .iter()
            .map(|_| shared.calls.next_id().to_string())
            .collect();
        let codec = shared.codec;
        let message = codec.call(self.target, id, arguments, &ids, is_streaming);
        shared.send(&message).await?;
        Ok(Uploads::start(shared, ids, self.uploads))
    }
}

impl fmt::Debug for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("target", &self.target)
            .field("uploads", &self.uploads.len())
            .finish_non_exhaustive()
    }
}
