//! The table of a hub's methods: names to functions, arguments to types, results to bytes.
//!
//! Promise: a method is found whatever the case of its name, and answers under the name it was
//! declared with.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use signalr_protocol::{BindError, Raw};

use crate::uploads::{RawUpload, Uploads};
use crate::{Caller, Hub, HubError};

/// A call under way; its value is the encoded result.
pub(crate) type Call = Pin<Box<dyn Future<Output = Result<Vec<u8>, HubError>> + Send>>;

/// Encoded items.
pub(crate) type Items = Pin<Box<dyn Stream<Item = Result<Vec<u8>, HubError>> + Send>>;

/// A call under way whose answer is a stream.
pub(crate) type StreamCall = Pin<Box<dyn Future<Output = Result<Items, HubError>> + Send>>;

type Start<H, C> =
    Box<dyn Fn(Arc<H>, Caller<H>, &Raw<'_>, Vec<RawUpload>) -> Result<C, BindError> + Send + Sync>;

/// The methods that clients may call on hub `H`.
pub struct Methods<H: Hub> {
    /// Keys are in ASCII lower case.
    table: HashMap<String, Method<H>>,
}

pub(crate) struct Method<H: Hub> {
    pub(crate) name: &'static str,
    /// How many streams the client sends with a call.
    pub(crate) uploads: usize,
    kind: Kind<H>,
}

enum Kind<H: Hub> {
    Plain(Start<H, Call>),
    Streaming(Start<H, StreamCall>),
}

/// What a method became when it was started. It does nothing before it is polled.
pub(crate) enum Started {
    Plain(Call),
    Streaming(StreamCall),
}

impl<H: Hub> Methods<H> {
    pub(crate) fn of_hub() -> Self {
        H::methods(Self {
            table: HashMap::new(),
        })
    }

    /// Adds the method `name`, matched by clients without regard to ASCII case.
    ///
    /// The argument type is a tuple of the arguments, `()` for none, or the type of the only one;
    /// a single argument that is a tuple itself is written `((A, B),)`. A result of `()` is null
    /// on the wire.
    ///
    /// # Panics
    ///
    /// When a method of that name was added before.
    #[must_use]
    pub fn on<A, R, F, Fut>(self, name: &'static str, method: F) -> Self
    where
        A: DeserializeOwned + Send + 'static,
        R: Serialize + 'static,
        F: Fn(Arc<H>, Caller<H>, A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, HubError>> + Send + 'static,
    {
        self.on_upload(name, move |hub, caller, arguments, ()| {
            method(hub, caller, arguments)
        })
    }

    /// Adds a method that takes streams too, as an [`Upload`](crate::Upload) or a tuple of two.
    /// The other arguments are those that are no streams.
    ///
    /// # Panics
    ///
    /// When a method of that name was added before.
    #[must_use]
    pub fn on_upload<A, U, R, F, Fut>(self, name: &'static str, method: F) -> Self
    where
        A: DeserializeOwned + Send + 'static,
        U: Uploads,
        R: Serialize + 'static,
        F: Fn(Arc<H>, Caller<H>, A, U) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, HubError>> + Send + 'static,
    {
        let start: Start<H, Call> = Box::new(move |hub, caller, arguments, uploads| {
            let encoding = caller.connection().encoding();
            let running = method(hub, caller, arguments.bind::<A>()?, typed(uploads)?);
            Ok(Box::pin(async move {
                Ok(Raw::write(encoding, &running.await?)?.into_bytes())
            }))
        });
        self.add(name, U::COUNT, Kind::Plain(start))
    }

    /// Adds a method that answers with a stream. The client may stop it: then, and when the
    /// connection ends, the stream or the future that was to give it is dropped.
    ///
    /// Items are taken from the stream as fast as the client reads them.
    ///
    /// # Panics
    ///
    /// When a method of that name was added before.
    #[must_use]
    pub fn stream<A, S, T, F, Fut>(self, name: &'static str, method: F) -> Self
    where
        A: DeserializeOwned + Send + 'static,
        S: Stream<Item = Result<T, HubError>> + Send + 'static,
        T: Serialize + 'static,
        F: Fn(Arc<H>, Caller<H>, A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<S, HubError>> + Send + 'static,
    {
        self.stream_upload(name, move |hub, caller, arguments, ()| {
            method(hub, caller, arguments)
        })
    }

    /// Adds a method that takes streams and answers with one; see [`Methods::on_upload`] and
    /// [`Methods::stream`].
    ///
    /// # Panics
    ///
    /// When a method of that name was added before.
    #[must_use]
    pub fn stream_upload<A, U, S, T, F, Fut>(self, name: &'static str, method: F) -> Self
    where
        A: DeserializeOwned + Send + 'static,
        U: Uploads,
        S: Stream<Item = Result<T, HubError>> + Send + 'static,
        T: Serialize + 'static,
        F: Fn(Arc<H>, Caller<H>, A, U) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<S, HubError>> + Send + 'static,
    {
        let start: Start<H, StreamCall> = Box::new(move |hub, caller, arguments, uploads| {
            let encoding = caller.connection().encoding();
            let running = method(hub, caller, arguments.bind::<A>()?, typed(uploads)?);
            Ok(Box::pin(async move {
                let items = running.await?;
                let items = items.map(move |item| Ok(Raw::write(encoding, &item?)?.into_bytes()));
                Ok(Box::pin(items) as Items)
            }))
        });
        self.add(name, U::COUNT, Kind::Streaming(start))
    }

    fn add(mut self, name: &'static str, uploads: usize, kind: Kind<H>) -> Self {
        let method = Method {
            name,
            uploads,
            kind,
        };
        let known = self.table.insert(name.to_ascii_lowercase(), method);
        assert!(known.is_none(), "hub method '{name}' is declared twice");
        self
    }

    pub(crate) fn find(&self, target: &str) -> Option<&Method<H>> {
        self.table.get(&target.to_ascii_lowercase())
    }
}

/// The number of uploads is compared before a method is started.
fn typed<U: Uploads>(uploads: Vec<RawUpload>) -> Result<U, BindError> {
    let provided = uploads.len();
    U::from_raw(uploads).ok_or(BindError::WrongCount {
        provided,
        expected: U::COUNT,
    })
}

impl<H: Hub> Method<H> {
    pub(crate) fn is_streaming(&self) -> bool {
        matches!(self.kind, Kind::Streaming(_))
    }

    /// Binds the arguments and makes the call.
    pub(crate) fn start(
        &self,
        caller: &Caller<H>,
        arguments: &Raw<'_>,
        uploads: Vec<RawUpload>,
    ) -> Result<Started, BindError> {
        let hub = Arc::clone(caller.hub());
        let caller = caller.clone();
        match &self.kind {
            Kind::Plain(start) => start(hub, caller, arguments, uploads).map(Started::Plain),
            Kind::Streaming(start) => {
                start(hub, caller, arguments, uploads).map(Started::Streaming)
            }
        }
    }
}

impl<H: Hub> fmt::Debug for Methods<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.table.values().map(|method| method.name))
            .finish()
    }
}
