//! Everything one process runs: opened in order, wired together, and ended in order.

use crate::cli::Role;
use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::roles::pull::{self, Blocked, Remote, TokenSource};
use crate::roles::store::Running;
use crate::roles::{acks, centre, keys, listen, store, token};
use axum::Router;
use countersign_access::{Issuer, Verifier};
use countersign_driver::{Clock, Handle};
use countersign_role_api::{Api, Watchers};
use countersign_role_hub::{Drain, HubRole};
use countersign_rules::TypeName;
use countersign_rules::ack::AckStore;
use countersign_rules::delivery::Centre;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// Time for requests under way once the hub is drained.
const REQUESTS_END: Duration = Duration::from_secs(3);

/// What `/readyz` says when acknowledgements are held up.
const ACKS_BLOCKED: &str = "an acknowledgement was written by a newer program: start that one";

/// The roles of one process.
pub(crate) struct Deployment {
    pub(crate) addresses: Addresses,
    centre: Option<Running<Centre>>,
    acks: Option<Running<AckStore>>,
    drain: Option<Drain>,
    drain_over: Duration,
    servers: JoinSet<std::io::Result<()>>,
    pull: Option<JoinHandle<()>>,
    /// Gives up large bodies that never came to their end.
    tidy: Option<JoinHandle<()>>,
    stop: watch::Sender<bool>,
}

/// Where the roles listen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Addresses {
    pub(crate) hub: Option<SocketAddr>,
    pub(crate) acks: Option<SocketAddr>,
    pub(crate) token: Option<SocketAddr>,
}

/// Sockets are bound before anything is opened, so that a port in use changes nothing on disk.
struct Listeners {
    hub: Option<TcpListener>,
    acks: Option<TcpListener>,
    token: Option<TcpListener>,
}

impl Deployment {
    /// Starts `roles`; `extra` routes are served beside the send API.
    pub(crate) async fn start(
        config: &Config,
        roles: &[Role],
        extra: Router,
    ) -> Result<Self, Failure> {
        let is_centre = roles.contains(&Role::Api) || roles.contains(&Role::Hub);
        let listeners = Listeners::bind(config, roles, is_centre).await?;
        let addresses = listeners.addresses()?;
        let verifier = Arc::new(keys::verifier(config)?);
        let (stop, stopped) = watch::channel(false);
        let mut deployment = Self {
            addresses,
            centre: None,
            acks: None,
            drain: None,
            drain_over: config.hub.drain.0,
            servers: JoinSet::new(),
            pull: None,
            tidy: None,
            stop,
        };
        if let Some(listener) = listeners.token {
            let router = token::service(config)?.router();
            deployment
                .servers
                .spawn(listen::serve(listener, router, stopped.clone()));
        }
        if let Some(listener) = listeners.acks {
            let service = acks::start(config)?;
            let router = countersign_role_ack::router(
                service.handle(),
                Arc::clone(&verifier),
                countersign_role_ack::Options::default(),
            );
            deployment.acks = Some(Running::new(service));
            deployment
                .servers
                .spawn(listen::serve(listener, router, stopped.clone()));
        }
        if let Some(listener) = listeners.hub {
            let router = deployment
                .start_centre(config, roles, &verifier, extra)
                .await?;
            deployment
                .servers
                .spawn(listen::serve(listener, router, stopped));
        }
        Ok(deployment)
    }

    async fn start_centre(
        &mut self,
        config: &Config,
        roles: &[Role],
        verifier: &Arc<Verifier>,
        extra: Router,
    ) -> Result<Router, Failure> {
        let hub = HubRole::new(countersign_role_hub::Options {
            allowed_origins: config.hub.allowed_origins.clone(),
            // A whole window must fit, beside what a repeat of it may add.
            outbox_bytes_max: usize::try_from(config.delivery.window_bytes.0.saturating_mul(2))
                .unwrap_or(usize::MAX)
                .max(8 << 20),
            connections_max: usize::try_from(config.hub.connections_max).unwrap_or(usize::MAX),
            admissions_per_second: config.hub.admissions_per_second,
            ..countersign_role_hub::Options::new(ack_url(config, &self.addresses))
        });
        let watchers = Arc::new(Watchers::default());
        let bodies = centre::bodies(config)?;
        let service = centre::start(config, hub.outlet(), Arc::clone(&watchers), bodies.clone())?;
        let handle = service.handle();
        let now = || Clock::system().now();
        let recovered = bodies.recover(&handle, now()).await;
        recovered.map_err(|why| Failure::unexpected("cannot look at the large bodies", why))?;
        self.tidy = Some(tokio::spawn(bodies.clone().tidy(now)));
        let blocked = Blocked::default();
        self.pull = self.follow_acks(config, &handle, &blocked)?;
        let mut router = extra;
        let (hub_router, drain) = hub.serve(handle.clone(), Arc::clone(verifier));
        if roles.contains(&Role::Hub) {
            router = router.merge(hub_router);
        }
        let draining = drain.clone();
        let api = Api::new(
            countersign_role_api::Options {
                body_bytes_max: usize::try_from(config.delivery.body_max.0).unwrap_or(usize::MAX),
                types: types(config),
                bodies: Some(bodies),
                is_draining: Arc::new(move || draining.is_draining()),
                trouble: Arc::new(move || blocked.is_blocked().then_some(ACKS_BLOCKED)),
                ..countersign_role_api::Options::default()
            },
            handle,
            Arc::clone(verifier),
            watchers,
        );
        router = router.merge(api.clone().bodies_router());
        if roles.contains(&Role::Api) {
            router = router.merge(api.router());
        }
        self.drain = Some(drain);
        self.centre = Some(Running::new(service));
        Ok(router)
    }

    /// The acks come from this very process, or from where the configuration says.
    fn follow_acks(
        &self,
        config: &Config,
        centre: &Handle<Centre>,
        blocked: &Blocked,
    ) -> Result<Option<JoinHandle<()>>, Failure> {
        if let Some(acks) = &self.acks {
            let following = pull::follow_local(centre.clone(), acks.handle(), blocked.clone());
            return Ok(Some(tokio::spawn(async {
                following.await;
            })));
        }
        let url = config
            .acks
            .pull_url
            .clone()
            .unwrap_or_else(|| format!("http://{}", config.acks.listen));
        let token = match &config.acks.pull_token_file {
            Some(path) => TokenSource::File(path.clone()),
            None => TokenSource::Own(Box::new(Issuer {
                keys: keys::signing(config)?,
                issuer: config.token.issuer.clone(),
                audience: config.token.audience.clone(),
            })),
        };
        let following = pull::follow_remote(centre.clone(), Remote { url, token }, blocked.clone());
        Ok(Some(tokio::spawn(async {
            following.await;
        })))
    }

    /// The engine of the centre, when it runs here.
    pub(crate) fn centre(&self) -> Option<Handle<Centre>> {
        self.centre.as_ref().map(Running::handle)
    }

    /// Runs until `stop` is done or something fails, then ends in an orderly way.
    pub(crate) async fn run_until(mut self, stop: impl Future<Output = ()>) -> Result<(), Failure> {
        let failed = tokio::select! {
            () = stop => None,
            failure = self.failed() => Some(failure),
        };
        let ended = self.end().await;
        failed.map_or(ended, Err)
    }

    async fn failed(&mut self) -> Failure {
        let Self {
            centre,
            acks,
            servers,
            pull,
            ..
        } = self;
        let centre_ended = async {
            match centre {
                Some(service) => store::ended("the centre", &service.ended().await),
                None => std::future::pending().await,
            }
        };
        let acks_ended = async {
            match acks {
                Some(service) => store::ended("the ack API", &service.ended().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            failure = centre_ended => failure,
            failure = acks_ended => failure,
            failure = reading_ended(pull) => failure,
            Some(server) = servers.join_next() => {
                let why = match server {
                    Ok(Ok(())) => "it ended".to_owned(),
                    Ok(Err(error)) => error.to_string(),
                    Err(error) => error.to_string(),
                };
                Failure::new(Exit::Unexpected, "E-SERVER", "a listener stopped", why, "start again")
            }
        }
    }

    /// Clients are asked to come back, requests are finished, stores are closed: in that order.
    async fn end(&mut self) -> Result<(), Failure> {
        if let Some(drain) = &self.drain {
            drain.over(self.drain_over).await;
        }
        self.stop.send_replace(true);
        let requests = async { while self.servers.join_next().await.is_some() {} };
        if tokio::time::timeout(REQUESTS_END, requests).await.is_err() {
            self.servers.abort_all();
        }
        if let Some(pull) = self.pull.take() {
            pull.abort();
        }
        if let Some(tidy) = self.tidy.take() {
            tidy.abort();
        }
        let centre = store::close("the centre", self.centre.take()).await;
        let acks = store::close("the ack API", self.acks.take()).await;
        centre.and(acks)
    }
}

/// Why acknowledgements are not read any more. A store that has stopped is told as itself, so its
/// own end is waited for first.
async fn reading_ended(pull: &mut Option<JoinHandle<()>>) -> Failure {
    let Some(task) = pull.as_mut() else {
        return std::future::pending().await;
    };
    let why = match task.await {
        Ok(()) => {
            tokio::time::sleep(REQUESTS_END).await;
            "it ended by itself".to_owned()
        }
        Err(error) => error.to_string(),
    };
    Failure::new(
        Exit::Unexpected,
        "E-ACKS-READING",
        "the reading of acknowledgements stopped",
        why,
        "start again: acknowledgements wait where they are, and none is lost",
    )
}

/// Where agents post acknowledgements.
pub(crate) fn ack_url(config: &Config, addresses: &Addresses) -> String {
    let base = config
        .acks
        .public_url
        .clone()
        .unwrap_or_else(|| match addresses.acks {
            Some(address) => format!("http://{address}"),
            None => format!("http://{}", config.acks.listen),
        });
    format!("{}/acks/v1/acks", base.trim_end_matches('/'))
}

impl Listeners {
    async fn bind(config: &Config, roles: &[Role], is_centre: bool) -> Result<Self, Failure> {
        let mut listeners = Self {
            hub: None,
            acks: None,
            token: None,
        };
        if is_centre {
            listeners.hub = Some(listen::bind(&config.hub.listen, "hub and send API").await?);
        }
        if roles.contains(&Role::Acks) {
            listeners.acks = Some(listen::bind(&config.acks.listen, "the ack API").await?);
        }
        if roles.contains(&Role::Token) {
            listeners.token = Some(listen::bind(&config.token.listen, "the token service").await?);
        }
        Ok(listeners)
    }

    fn addresses(&self) -> Result<Addresses, Failure> {
        let of =
            |listener: &Option<TcpListener>| listener.as_ref().map(listen::address).transpose();
        Ok(Addresses {
            hub: of(&self.hub)?,
            acks: of(&self.acks)?,
            token: of(&self.token)?,
        })
    }
}

/// What messages of each type get; names that are none were refused before.
fn types(config: &Config) -> countersign_role_api::Types {
    let types = config.delivery.types.iter();
    let types = types.filter_map(|(name, kind)| {
        let defaults = countersign_role_api::TypeDefaults {
            lane_rule: kind.lane_rule.into(),
            max_attempts: kind.max_attempts,
        };
        Some((TypeName::parse(name).ok()?, defaults))
    });
    types.collect()
}
