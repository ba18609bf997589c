//! The centre's reading of the ack journal: in order, from where it stopped, for ever.
//!
//! How far it has come is written into the centre's journal in the same batch as what it led to,
//! so a crash at any point reads again what was not acted on, and nothing else.

use bytes::Bytes;
use countersign_driver::page::{self, Page};
use countersign_driver::{AskError, Handle};
use countersign_rules::Position;
use countersign_rules::ack::{Ack, AckRecord, AckStore, decode_record};
use countersign_rules::delivery::{Centre, Input, Reply};
use std::time::Duration;

/// Bytes read at a time: a few thousand acknowledgements.
const PAGE_BYTES: usize = 1 << 20;
/// Pause after a failure.
const PAUSE: Duration = Duration::from_millis(500);

/// Why following ended.
#[derive(Debug)]
pub(crate) struct CentreStopped;

impl From<AskError> for CentreStopped {
    fn from(_: AskError) -> Self {
        Self
    }
}

/// Follows an ack store of this very process.
pub(crate) async fn follow_local(centre: Handle<Centre>, acks: Handle<AckStore>) -> CentreStopped {
    let source = acks.store().epoch;
    let mut durable = acks.watch_durable();
    let mut after = match read_so_far(&centre, source).await {
        Ok(after) => after,
        Err(stopped) => return stopped,
    };
    loop {
        durable.borrow_and_update();
        if after > acks.reader().durable_position() {
            if let Err(stopped) = read_again(&centre, source).await {
                return stopped;
            }
            after = 0;
        }
        match page::from_reader(acks.reader(), after, PAGE_BYTES) {
            Ok(page) if page.through > after => {
                after = page.through;
                if let Err(stopped) = bring(&centre, page).await {
                    return stopped;
                }
                acks.hold_from(after + 1);
            }
            Ok(_) => {
                if durable.changed().await.is_err() {
                    // The ack store has stopped, and with it this process.
                    return CentreStopped;
                }
            }
            Err(error) => {
                tracing::error!(%error, after, "the ack journal cannot be read");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Where and with what token to read an ack journal of another process.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    pub(crate) url: String,
    pub(crate) token: TokenSource,
}

/// Where the token for reading comes from.
#[derive(Clone, Debug)]
pub(crate) enum TokenSource {
    /// Signed here, anew for each request.
    Own(Box<countersign_access::Issuer>),
    /// Read from a file, anew for each request.
    File(std::path::PathBuf),
}

/// Follows an ack store of another process.
pub(crate) async fn follow_remote(centre: Handle<Centre>, remote: Remote) -> CentreStopped {
    let http = reqwest::Client::new();
    let mut at: Option<(u64, Position)> = None;
    let mut failing = false;
    loop {
        let (epoch, after) = at.unwrap_or((0, 0));
        match remote.fetch(&http, at).await {
            Ok(page) if at.is_none() || page.epoch != epoch => {
                // A store, or a life of it, not read in this process yet.
                match read_so_far(&centre, page.epoch).await {
                    Ok(after) => at = Some((page.epoch, after)),
                    Err(stopped) => return stopped,
                }
            }
            Ok(page) if page.through < after => {
                if let Err(stopped) = read_again(&centre, epoch).await {
                    return stopped;
                }
                at = Some((epoch, 0));
            }
            Ok(page) => {
                failing = false;
                at = Some((epoch, page.through.max(after)));
                if page.through > after
                    && let Err(stopped) = bring(&centre, page).await
                {
                    return stopped;
                }
            }
            Err(error) => {
                if !failing {
                    tracing::warn!(%error, url = remote.url, "the ack API does not answer; acks wait there");
                }
                failing = true;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

impl Remote {
    /// The records behind `at`: a life of the store and a position in it, when they are known.
    async fn fetch(
        &self,
        http: &reqwest::Client,
        at: Option<(u64, Position)>,
    ) -> Result<Page, anyhow::Error> {
        let url = format!("{}/acks/v1/journal", self.url.trim_end_matches('/'));
        let query = match at {
            Some((epoch, after)) => {
                format!("?after={after}&limit={PAGE_BYTES}&wait=20&confirmed={after}&epoch={epoch}")
            }
            None => "?limit=1".to_owned(),
        };
        let request = http.get(url + &query).bearer_auth(self.token()?);
        let response = request
            .timeout(Duration::from_secs(40))
            .send()
            .await?
            .error_for_status()?;
        let body: Bytes = response.bytes().await?;
        Ok(page::decode(body)?)
    }

    fn token(&self) -> Result<String, anyhow::Error> {
        match &self.token {
            TokenSource::File(path) => Ok(std::fs::read_to_string(path)?.trim().to_owned()),
            TokenSource::Own(issuer) => {
                let grant = countersign_access::Grant {
                    subject: "centre".to_owned(),
                    tenant: countersign_access::TENANT_DEFAULT.to_owned(),
                    agent: None,
                    scopes: countersign_access::Scopes::NONE.with(countersign_access::Scope::Pull),
                    ttl: Duration::from_secs(120),
                };
                Ok(issuer
                    .issue(&grant, jiff::Timestamp::now().as_second())?
                    .token)
            }
        }
    }
}

async fn read_so_far(centre: &Handle<Centre>, source: u64) -> Result<Position, CentreStopped> {
    match centre.ask(Input::LookAcksRead { source }).await? {
        Reply::AcksRead(position) => Ok(position),
        other => unreachable!("the question is answered by its own reply, not {other:?}"),
    }
}

/// The store holds fewer records than were read from it: begins anew, so that none is passed over.
async fn read_again(centre: &Handle<Centre>, source: u64) -> Result<(), CentreStopped> {
    tracing::error!(
        source,
        "the ack store is an older copy of the one that was read: it is read from its beginning"
    );
    centre.ask(Input::ReadAcksAgain { source }).await?;
    Ok(())
}

/// Acts on a page, and waits until that is durable.
async fn bring(centre: &Handle<Centre>, page: Page) -> Result<(), CentreStopped> {
    let acks = page
        .records
        .iter()
        .filter_map(|(position, record)| ack(*position, record))
        .collect();
    centre
        .ask(Input::Acks {
            source: page.epoch,
            through: page.through,
            acks,
            damaged: page.damaged,
        })
        .await?;
    Ok(())
}

fn ack(position: Position, record: &Bytes) -> Option<Ack> {
    match decode_record(record) {
        Ok(AckRecord::Given(ack)) => Some(ack),
        Ok(_) => None,
        Err(error) => {
            tracing::error!(%error, position, "a record of the ack journal is not understood");
            None
        }
    }
}
