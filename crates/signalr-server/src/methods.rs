//! The table of a hub's methods: names to functions, arguments to types, results to bytes.
//!
//! Promise: a method is found whatever the case of its name, and answers under the name it was
//! declared with.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use signalr_protocol::{BindError, Raw};

use crate::{Caller, Hub, HubError};

/// A call under way; its value is the encoded result.
pub(crate) type Call = Pin<Box<dyn Future<Output = Result<Vec<u8>, HubError>> + Send>>;

type Start<H> = Box<dyn Fn(Arc<H>, Caller<H>, &Raw<'_>) -> Result<Call, BindError> + Send + Sync>;

/// The methods that clients may call on hub `H`.
pub struct Methods<H: Hub> {
    /// Keys are in ASCII lower case.
    table: HashMap<String, Method<H>>,
}

pub(crate) struct Method<H: Hub> {
    pub(crate) name: &'static str,
    start: Start<H>,
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
    pub fn on<A, R, F, Fut>(mut self, name: &'static str, method: F) -> Self
    where
        A: DeserializeOwned + Send + 'static,
        R: Serialize + 'static,
        F: Fn(Arc<H>, Caller<H>, A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, HubError>> + Send + 'static,
    {
        let start: Start<H> = Box::new(move |hub, caller, arguments| {
            let running = method(hub, caller, arguments.bind::<A>()?);
            Ok(Box::pin(
                async move { Ok(serde_json::to_vec(&running.await?)?) },
            ))
        });
        let known = self
            .table
            .insert(name.to_ascii_lowercase(), Method { name, start });
        assert!(known.is_none(), "hub method '{name}' is declared twice");
        self
    }

    pub(crate) fn find(&self, target: &str) -> Option<&Method<H>> {
        self.table.get(&target.to_ascii_lowercase())
    }
}

impl<H: Hub> Method<H> {
    /// Binds the arguments and makes the call, which does nothing before it is polled.
    pub(crate) fn start(&self, caller: &Caller<H>, arguments: &Raw<'_>) -> Result<Call, BindError> {
        (self.start)(Arc::clone(caller.hub()), caller.clone(), arguments)
    }
}

impl<H: Hub> fmt::Debug for Methods<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.table.values().map(|method| method.name))
            .finish()
    }
}
