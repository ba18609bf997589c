//! A client that stays: handlers for what the server calls, and a connection that comes back.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::handlers::Handlers;
use crate::{
    Arguments, CallError, Closed, Connection, Error, Options, ReconnectPolicy, Sessions, State,
    Streaming,
};

/// Collects what a [`Client`] is to do before it starts.
#[derive(Debug)]
pub struct ClientBuilder {
    options: Options,
    policy: ReconnectPolicy,
    handlers: Handlers,
}

/// A client that connects, and connects again, until it is stopped or the last of its clones is dropped.
///
/// Handlers run one at a time, in the order in which the server called. A handler that takes long delays the next, and
/// after [`Options::incoming_max`] of them the server: spawn what need not be in order.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    current: watch::Receiver<Option<Connection>>,
    state: watch::Receiver<State>,
    stop: watch::Sender<bool>,
}

impl Client {
    /// Begins a client for the hub of these options.
    #[must_use]
    pub fn builder(options: Options) -> ClientBuilder {
        let (policy, handlers) = (ReconnectPolicy::default(), Handlers::default());
        ClientBuilder {
            options,
            policy,
            handlers,
        }
    }

    /// Waits for a connection, and gives it. Answers at once while there is one.
    ///
    /// # Errors
    ///
    /// When the client has been stopped, or has given up.
    pub async fn connected(&self) -> Result<Connection, Error> {
        let mut current = self.inner.current.clone();
        match current.wait_for(Option::is_some).await {
            Ok(connection) => match &*connection {
                Some(connection) => Ok(connection.clone()),
                None => Err(self.why_closed()),
            },
            // The client's task has ended and with it the sender.
            Err(_) => Err(self.why_closed()),
        }
    }

    /// Follows the state, and gives the present one at once.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<State> {
        self.inner.state.clone()
    }

    /// Calls a method on the present connection and waits for its result. See [`Connection::invoke`].
    ///
    /// # Errors
    ///
    /// [`CallError::NotConnected`] while there is no connection; else as [`Connection::invoke`].
    pub async fn invoke<R: DeserializeOwned>(
        &self,
        target: &str,
        arguments: impl Arguments,
    ) -> Result<R, CallError> {
        self.current()?.invoke(target, arguments).await
    }

    /// Calls a streaming method on the present connection. See [`Connection::stream`].
    ///
    /// # Errors
    ///
    /// [`CallError::NotConnected`] while there is no connection; else as [`Connection::stream`].
    pub async fn stream<T: DeserializeOwned>(
        &self,
        target: &str,
        arguments: impl Arguments,
    ) -> Result<Streaming<T>, CallError> {
        self.current()?.stream(target, arguments).await
    }

    /// Calls a method on the present connection and wants no answer. See [`Connection::send`].
    ///
    /// # Errors
    ///
    /// [`CallError::NotConnected`] while there is no connection; else as [`Connection::send`].
    pub async fn send(&self, target: &str, arguments: impl Arguments) -> Result<(), CallError> {
        self.current()?.send(target, arguments).await
    }

    /// Closes the connection in order, and waits until that is done. The handler that runs is cut off.
    pub async fn stop(&self) {
        self.inner.stop.send_replace(true);
        let mut current = self.inner.current.clone();
        // Its sender goes with the client's task.
        while current.changed().await.is_ok() {}
    }

    fn current(&self) -> Result<Connection, CallError> {
        self.inner
            .current
            .borrow()
            .clone()
            .ok_or(CallError::NotConnected)
    }

    fn why_closed(&self) -> Error {
        match &*self.inner.state.borrow() {
            State::Closed { why } => why.clone(),
            _ => Closed::ByClient.into(),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("state", &*self.inner.state.borrow())
            .finish()
    }
}

impl ClientBuilder {
    /// Handles a method. The arguments are a tuple, `()` for none, or any other type for exactly one. A second handler
    /// for a name replaces the first.
    #[must_use]
    pub fn on<A, F, Fut>(mut self, name: &str, handler: F) -> Self
    where
        A: DeserializeOwned,
        F: Fn(A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.handlers.on(name, handler);
        self
    }

    /// Handles a method whose result the server waits for. The error's text is sent to the server.
    #[must_use]
    pub fn answer<A, R, E, F, Fut>(mut self, name: &str, handler: F) -> Self
    where
        A: DeserializeOwned,
        R: Serialize + Send + Sync,
        E: fmt::Display + Send,
        F: Fn(A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
    {
        self.handlers.answer(name, handler);
        self
    }

    /// Sets how it comes back. Default: for ever; see [`ReconnectPolicy`].
    #[must_use]
    pub fn reconnect(mut self, policy: ReconnectPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Starts to connect, and answers at once: whether the server is there is told by [`Client::state`].
    ///
    /// # Errors
    ///
    /// [`Error::Options`] when the options cannot work.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn start(self) -> Result<Client, Error> {
        let sessions = Sessions::new(self.options, self.policy)?;
        let state = sessions.state();
        let (stop, stopped) = watch::channel(false);
        let (sender, current) = watch::channel(None);
        let task = Task {
            sessions,
            handlers: self.handlers,
            current: sender,
        };
        tokio::spawn(task.run(stopped));
        Ok(Client {
            inner: Arc::new(Inner {
                current,
                state,
                stop,
            }),
        })
    }
}

struct Task {
    sessions: Sessions,
    handlers: Handlers,
    current: watch::Sender<Option<Connection>>,
}

impl Task {
    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        tokio::select! {
            biased;
            // Also when every client was dropped, and with them the sender.
            _ = stopped.wait_for(|stop| *stop) => {}
            () = self.serve() => {}
        }
        if let Some(connection) = self.current.send_replace(None) {
            connection.close().await;
            self.sessions.close();
        } else if *stopped.borrow() {
            self.sessions.close();
        }
    }

    /// Ends when the sessions do.
    async fn serve(&mut self) {
        while let Ok((connection, mut incoming)) = self.sessions.next().await {
            self.current.send_replace(Some(connection));
            while let Some(invocation) = incoming.next().await {
                self.handlers.run(invocation).await;
            }
            self.current.send_replace(None);
        }
    }
}
