//! A hub put on a path of an axum router.

use std::fmt;
use std::sync::Arc;

use axum::Router;

use crate::admission::Admission;
use crate::auth::Access;
use crate::outbox::Limits;
use crate::registry::Registry;
use crate::{Hub, HubHandle, Methods, Options, TokenVerifier, http};

/// Builds the routes of one hub.
pub struct HubServer<H: Hub> {
    hub: Arc<H>,
    options: Options,
    access: Access,
    registry: Arc<Registry>,
}

/// What all connections of a hub share.
pub(crate) struct Shared<H: Hub> {
    pub(crate) hub: Arc<H>,
    pub(crate) methods: Methods<H>,
    pub(crate) options: Options,
    pub(crate) access: Access,
    pub(crate) registry: Arc<Registry>,
    pub(crate) admission: Admission,
}

impl<H: Hub> HubServer<H> {
    /// Serves `hub`, to everybody and with default options.
    pub fn new(hub: impl Into<Arc<H>>) -> Self {
        Self {
            hub: hub.into(),
            options: Options::default(),
            access: Access::Open,
            registry: Arc::new(Registry::default()),
        }
    }

    /// Sets times and limits. Handles taken before keep the times they had.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Changes times and limits in place.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(&mut self.options);
        self
    }

    /// Admits only bearers of a good token.
    #[must_use]
    pub fn auth(mut self, verifier: impl TokenVerifier) -> Self {
        self.access = Access::Required(Box::new(verifier));
        self
    }

    /// Admits everybody, but whoever shows a token must show a good one.
    #[must_use]
    pub fn auth_optional(mut self, verifier: impl TokenVerifier) -> Self {
        self.access = Access::Optional(Box::new(verifier));
        self
    }

    /// A handle to the hub's connections.
    pub fn handle(&self) -> HubHandle {
        HubHandle::new(Arc::clone(&self.registry), &self.options)
    }

    /// The routes of the hub at `path`, such as `/hub`: `{path}` and `{path}/negotiate`.
    pub fn router<S: Clone + Send + Sync + 'static>(self, path: &str) -> Router<S> {
        http::router(
            Arc::new(Shared {
                hub: self.hub,
                methods: Methods::of_hub(),
                admission: Admission::new(self.options.admissions_per_second),
                options: self.options,
                access: self.access,
                registry: self.registry,
            }),
            path,
        )
    }
}

impl<H: Hub> Shared<H> {
    pub(crate) fn handle(&self) -> HubHandle {
        HubHandle::new(Arc::clone(&self.registry), &self.options)
    }

    pub(crate) fn outbox_limits(&self) -> Limits {
        Limits {
            messages_max: self.options.outbox_messages_max,
            bytes_max: self.options.outbox_bytes_max,
            message_bytes_max: self.options.message_bytes_max,
        }
    }
}

impl<H: Hub> fmt::Debug for HubServer<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubServer")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
