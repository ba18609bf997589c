//! The agent as a whole: its parts, started in order and stopped in order.

use crate::address::AckAddress;
use crate::backoff::Backoff;
use crate::connection::{ClientInfo, Link};
use crate::fetch::Fetch;
use crate::held::Held;
use crate::poster::Poster;
use crate::receive::Intake;
use crate::status::{Board, Status, now};
use crate::token::{TokenSource, Tokens};
use crate::work::{self, SiteOutlet, Workshop};
use crate::{Error, Options, Sink};
use countersign_claims::FolderStore;
use countersign_driver::journal::{NewStore, RealFiles};
use countersign_driver::{Handle, Opened, Service, StopReason, Waiting, open};
use countersign_rules::MessageId;
use countersign_rules::site::{Counters, Input, Known, Reply, Site};
use signalr_client::Connector;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{JoinError, JoinHandle};

/// A running agent.
///
/// Dropped, it does not stop: call [`Agent::stop`], or run it by [`Agent::run_until`].
#[derive(Debug)]
pub struct Agent {
    service: Service<Site>,
    handle: AgentHandle,
    stop: watch::Sender<bool>,
    connection: JoinHandle<()>,
    workers: JoinHandle<()>,
    poster: JoinHandle<()>,
    grace: Duration,
}

/// A cheap way to look at a running agent; clone it freely.
#[derive(Clone, Debug)]
pub struct AgentHandle {
    site: Handle<Site>,
    board: Arc<Board>,
}

impl AgentHandle {
    /// How the agent is.
    pub async fn status(&self) -> Status {
        let counters = match self.site.ask(Input::Count).await {
            Ok(Reply::Counted(counters)) => counters,
            // The status says that the store has stopped.
            _ => Counters::default(),
        };
        self.board.status(counters, &self.site.health())
    }
}

impl Agent {
    /// Opens the inbox, resumes what was unfinished, and begins to connect.
    ///
    /// Does not wait for the hub: an agent starts, works and posts acknowledgements without it.
    ///
    /// # Errors
    /// An option makes no sense, or the inbox cannot be opened.
    pub async fn start(options: Options, sink: Arc<dyn Sink>) -> Result<Self, Error> {
        options.check()?;
        let tokens = Arc::new(Tokens::new(&options.token)?);
        let connector = connector(&options, &tokens)?;
        let opened = open_inbox(&options).await?;
        let address = AckAddress::new(options.ack_url.as_deref(), &options.data_dir)?;
        let address = Arc::new(address);

        let (board, owing) = (Arc::new(Board::new()), Arc::new(Notify::new()));
        let (due, due_work) = mpsc::unbounded_channel();
        let outlet = SiteOutlet {
            due: Some(due),
            owing: Arc::clone(&owing),
        };
        let service = Service::start(opened, outlet, options.driver.clone())?;
        let site = service.handle();
        let (stop, stopped) = watch::channel(false);

        let fetch = open_bodies(&options, &tokens, &board, &site).await?;
        let workshop = Workshop {
            handle: site.clone(),
            fetch: Arc::clone(&fetch),
            sink,
            board: Arc::clone(&board),
        };
        let workers = work::run(due_work, workshop, options.stop_grace);
        let poster = Poster {
            handle: site.clone(),
            tokens: Arc::clone(&tokens),
            address: Arc::clone(&address),
            board: Arc::clone(&board),
            owing: Arc::clone(&owing),
            backoff: Backoff::new(options.post_retry_first, options.post_retry_max),
            timeout: options.post_timeout,
            client: None,
            aside: BTreeMap::new(),
        };
        let intake = Intake {
            handle: site.clone(),
            board: Arc::clone(&board),
            address,
            owing,
            inbox_max: options.inbox_max,
            // More than any limit: the site is asked before the first message is taken in.
            waiting_max: u64::MAX,
            held: Held::new(fetch),
        };
        let link = Link {
            connector,
            tokens,
            handle: site.clone(),
            board: Arc::clone(&board),
            intake,
            backoff: Backoff::new(options.reconnect_first, options.reconnect_max),
            client: ClientInfo {
                name: options.client_name,
                version: options.client_version,
            },
        };
        Ok(Self {
            service,
            handle: AgentHandle { site, board },
            stop,
            workers: tokio::spawn(workers),
            poster: tokio::spawn(poster.run()),
            connection: tokio::spawn(link.run(stopped)),
            grace: options.stop_grace,
        })
    }

    /// A way to look at it.
    pub fn handle(&self) -> AgentHandle {
        self.handle.clone()
    }

    /// How it is.
    pub async fn status(&self) -> Status {
        self.handle.status().await
    }

    /// Runs until `stop` is ready, then stops in order.
    ///
    /// # Errors
    /// The journal failed, or a part of the agent did: start it again.
    pub async fn run_until(mut self, stop: impl Future<Output = ()>) -> Result<(), Error> {
        let failed = tokio::select! {
            () = stop => None,
            failed = self.failed() => Some(failed),
        };
        match failed {
            None => self.stop().await,
            Some(error) => {
                self.stop_parts().await;
                self.service.stop();
                Err(error)
            }
        }
    }

    /// Waits until something fails that only a new start mends.
    async fn failed(&mut self) -> Error {
        tokio::select! {
            reason = self.service.ended() => Error::JournalFailed(reason.to_string()),
            ended = &mut self.connection => part_ended("the connection", ended),
            ended = &mut self.workers => match ended {
                // They end when the store does, and a little before it.
                Ok(()) => Error::JournalFailed(self.service.ended().await.to_string()),
                Err(_) => part_ended("the workers", ended),
            },
            ended = &mut self.poster => part_ended("the poster", ended),
        }
    }

    /// Closes the connection, gives running attempts their grace, and closes the inbox.
    ///
    /// What is unfinished stays in the inbox: unfinished work is taken up, and what is owed is
    /// posted, at the next start.
    ///
    /// # Errors
    /// The journal failed on the way.
    pub async fn stop(mut self) -> Result<(), Error> {
        self.stop_parts().await;
        self.service.stop();
        match self.service.ended().await {
            StopReason::Asked => Ok(()),
            reason => Err(Error::JournalFailed(reason.to_string())),
        }
    }

    async fn stop_parts(&mut self) {
        // First, so that no attempt begins that nobody runs: it would count.
        if self.handle.site.tell(Input::StopWork).await.is_err() {
            tracing::debug!("the store has stopped before the agent");
        }
        self.stop.send_replace(true);
        let (workers, connection) = (&mut self.workers, &mut self.connection);
        let ended = async { tokio::join!(finished(workers), finished(connection)) };
        // Each keeps to a time of its own; this one is for what nobody thought of.
        if tokio::time::timeout(self.grace + STOP_SLACK, ended)
            .await
            .is_err()
        {
            tracing::warn!("the agent did not stop in time");
        }
        self.workers.abort();
        self.connection.abort();
        // A post that is cut short is posted again, and answered as a duplicate.
        self.poster.abort();
    }
}

/// Waits for a part, also when it has been waited for before.
async fn finished(part: &mut JoinHandle<()>) {
    if !part.is_finished() {
        let _ = part.await;
    }
}

fn part_ended(part: &'static str, ended: Result<(), JoinError>) -> Error {
    let how = ended
        .err()
        .map_or_else(|| String::from("ended"), |error| error.to_string());
    Error::Part { part, how }
}

fn connector(options: &Options, tokens: &Arc<Tokens>) -> Result<Connector, Error> {
    let wrong = |error: signalr_client::Error| Error::option("hub_url", error.to_string());
    let mut client = signalr_client::Options::new(&options.hub_url)
        .map_err(wrong)?
        .with(|client| {
            client.incoming_max = INCOMING_MAX;
            client.proxy = options.hub_proxy.clone();
            // The agent itself comes back with a new token, so that hub and agent agree on the one in use.
            client.refresh_before_expiry = None;
        });
    if let Some(pem) = &options.hub_roots {
        let wrong = |error: signalr_client::Error| Error::option("hub_roots", error.to_string());
        client = client.trust(pem).map_err(wrong)?;
    }
    if !matches!(options.token, TokenSource::None) {
        let tokens = Arc::clone(tokens);
        client = client.token(move || {
            let tokens = Arc::clone(&tokens);
            async move { tokens.current().await.map(|token| token.text) }
        });
    }
    Connector::new(client).map_err(wrong)
}

/// Opens the store of large bodies, and removes from it what no message needs any more.
async fn open_bodies(
    options: &Options,
    tokens: &Arc<Tokens>,
    board: &Arc<Board>,
    site: &Handle<Site>,
) -> Result<Arc<Fetch>, Error> {
    let directory = options.data_dir.join("bodies");
    let unusable = |source| Error::File {
        what: directory.display().to_string(),
        source,
    };
    let store = FolderStore::open_directory(&directory).map_err(unusable)?;
    let fetch = Arc::new(Fetch::new(
        &options.hub_url,
        options.hub_roots.as_deref(),
        Arc::clone(tokens),
        Arc::clone(board),
        Arc::new(store),
        options.store.reserve_bytes,
    )?);
    let store = Arc::clone(fetch.store());
    let listed = tokio::task::spawn_blocking(move || store.list()).await;
    let listed = listed.map_err(std::io::Error::other);
    let listed = listed.and_then(|listed| listed.map_err(std::io::Error::other));
    for body in listed.map_err(unusable)? {
        let id = MessageId(body.id.0);
        let known = site.ask(Input::LookLives { id }).await;
        let begun = body.declared.map_or(0, |declared| declared.begun_at_s);
        let age_s = now().0.div_euclid(1_000_000).saturating_sub(begun);
        // What was being fetched goes on when it is pushed again.
        let is_over = match known {
            Ok(Reply::Message(Known::Ended)) => true,
            Ok(Reply::Message(Known::No)) => age_s > BODY_LIFE.as_secs() as i64,
            _ => false,
        };
        if is_over {
            fetch.remove(body.id).await;
        }
    }
    Ok(fetch)
}

async fn open_inbox(options: &Options) -> Result<Opened<Site, RealFiles, Waiting<Site>>, Error> {
    let directory = options.data_dir.join("inbox");
    let (policy, store) = (options.policy.clone(), options.store.clone());
    let opening = tokio::task::spawn_blocking(move || {
        let unusable = |source| Error::File {
            what: directory.display().to_string(),
            source,
        };
        let files = RealFiles::new(&directory).map_err(unusable)?;
        let epoch = u64::try_from(now().0).unwrap_or(1);
        let new = NewStore {
            store_id: rand::random(),
            epoch,
        };
        Ok(open(Site::new(policy), files, store, new)?)
    });
    let opened = opening.await.unwrap_or_else(|error| {
        Err(Error::Part {
            part: "the inbox",
            how: error.to_string(),
        })
    })?;
    if !opened.damaged.is_empty() {
        let positions = &opened.damaged;
        tracing::error!(
            ?positions,
            "records of the inbox are damaged; everything else is kept"
        );
    }
    Ok(opened)
}

/// Pushes that wait between the network and the inbox: what one flush takes.
const INCOMING_MAX: usize = 512;
/// How long a body that no message here needs is kept, because it may be pushed again.
const BODY_LIFE: Duration = Duration::from_secs(3 * 24 * 3600);
const STOP_SLACK: Duration = Duration::from_secs(15);
