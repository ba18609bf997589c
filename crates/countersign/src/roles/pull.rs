//! The centre's reading of the ack journal: in order, from where it stopped, for ever.
//!
//! How far it has come is written into the centre's journal in the same batch as what it led to,
//! so a crash at any point reads again what was not acted on, and nothing else. A record that a
//! newer program wrote is waited for; one that is damaged at its source is reported and passed.

use bytes::Bytes;
use countersign_driver::page::{self, Page};
use countersign_driver::{AskError, Handle};
use countersign_rules::Position;
use countersign_rules::ack::{Ack, AckRecord, AckStore, decode_record};
use countersign_rules::delivery::{Centre, Input, Reply};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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
pub(crate) async fn follow_local(
    centre: Handle<Centre>,
    acks: Handle<AckStore>,
    blocked: Blocked,
) -> CentreStopped {
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
                after = match bring(&centre, &page, after, &blocked).await {
                    Ok(through) => through,
                    Err(stopped) => return stopped,
                };
                acks.hold_from(after + 1);
                if blocked.is_blocked() {
                    tokio::time::sleep(PAUSE).await;
                }
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
pub(crate) async fn follow_remote(
    centre: Handle<Centre>,
    remote: Remote,
    blocked: Blocked,
) -> CentreStopped {
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
                if page.through <= after {
                    continue;
                }
                match bring(&centre, &page, after, &blocked).await {
                    Ok(through) => at = Some((epoch, through)),
                    Err(stopped) => return stopped,
                }
                if blocked.is_blocked() {
                    tokio::time::sleep(PAUSE).await;
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

/// Acts on a page as far as it is understood, and waits until that is durable; tells how far that is.
async fn bring(
    centre: &Handle<Centre>,
    page: &Page,
    after: Position,
    blocked: &Blocked,
) -> Result<Position, CentreStopped> {
    let Understood {
        acks,
        damaged,
        through,
        stopped_at,
    } = understand(page, after);
    if !damaged.is_empty() {
        tracing::error!(
            ?damaged,
            "acknowledgements are damaged where they are kept, and lost"
        );
    }
    blocked.set(stopped_at);
    if through > after {
        let source = page.epoch;
        let input = Input::Acks {
            source,
            through,
            acks,
            damaged,
        };
        centre.ask(input).await?;
    }
    Ok(through)
}

/// What a page says.
#[derive(Debug, PartialEq, Eq)]
struct Understood {
    acks: Vec<Ack>,
    /// Records that are lost at their source: waiting would not bring them back.
    damaged: Vec<Position>,
    /// Everything up to here is in one of these, or says nothing.
    through: Position,
    /// The first record that is whole and not understood: a newer program wrote it. Nothing from
    /// here on is confirmed, so the source keeps it until a program reads it that understands it.
    stopped_at: Option<Position>,
}

fn understand(page: &Page, after: Position) -> Understood {
    let mut acks = Vec::new();
    let mut stopped_at = None;
    for (position, record) in &page.records {
        match decode_record(record) {
            Ok(record @ (AckRecord::Given(_) | AckRecord::GivenNext { .. })) => {
                acks.extend(record.into_ack());
            }
            Ok(AckRecord::Started { .. } | AckRecord::Marked { .. }) => {}
            Ok(_) | Err(_) => {
                stopped_at = Some(*position);
                break;
            }
        }
    }
    let through = stopped_at.map_or(page.through, |position| position - 1);
    let through = through.max(after);
    let mut damaged = page.damaged.clone();
    damaged.retain(|position| *position <= through);
    Understood {
        acks,
        damaged,
        through,
        stopped_at,
    }
}

/// Where the reading of acknowledgements is held up, for whoever tells how the process is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Blocked(Arc<AtomicU64>);

impl Blocked {
    /// Whether a record is in the way that a newer program wrote.
    pub(crate) fn is_blocked(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    fn set(&self, at: Option<Position>) {
        let before = self.0.swap(at.unwrap_or(0), Ordering::Relaxed);
        match at {
            Some(position) if before != position => tracing::error!(
                position,
                "a record of the ack journal was written by a newer program: acknowledgements wait \
                 there until that program runs here"
            ),
            None if before != 0 => tracing::info!("acknowledgements are read again"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::extract::Query;
    use countersign_driver::Engine;
    use countersign_rules::Timestamp;
    use countersign_rules::machine::Start;
    use std::collections::HashMap;
    use tokio::sync::mpsc;

    fn known() -> Bytes {
        let mut engine: Engine<AckStore, ()> = Engine::new(AckStore::new(), 1);
        engine.start(Start::undamaged(7), Timestamp(1));
        let batch = engine.seal().batch.expect("a start is recorded");
        batch.payload(0)
    }

    fn marked() -> Bytes {
        let mut engine: Engine<AckStore, ()> = Engine::new(AckStore::new(), 1);
        engine.mark(Timestamp(1));
        let batch = engine.seal().batch.expect("a mark is recorded");
        batch.payload(0)
    }

    #[test]
    fn a_record_that_says_nothing_is_passed() {
        let read = understand(&page(&[(5, known()), (6, marked())], &[], 6), 4);
        assert_eq!((read.through, read.stopped_at), (6, None));
    }

    fn page(records: &[(Position, Bytes)], damaged: &[Position], through: Position) -> Page {
        Page {
            epoch: 7,
            through,
            records: records.to_vec(),
            damaged: damaged.to_vec(),
        }
    }

    #[test]
    fn reading_stops_before_the_first_record_that_a_newer_program_wrote() {
        let newer = Bytes::from_static(&[0xff; 8]);
        let records = [(5, known()), (7, newer), (8, known())];
        let read = understand(&page(&records, &[6, 9], 9), 4);
        assert_eq!((read.through, read.stopped_at), (6, Some(7)));
        assert_eq!(
            read.damaged,
            [6],
            "what lies behind is told when it is read"
        );
    }

    #[test]
    fn a_newer_record_that_comes_first_confirms_nothing() {
        let newer = Bytes::from_static(&[0xff; 8]);
        let read = understand(&page(&[(5, newer)], &[], 5), 4);
        assert_eq!((read.through, read.stopped_at), (4, Some(5)));
    }

    #[test]
    fn a_record_damaged_at_its_source_is_passed_and_reported() {
        let read = understand(&page(&[(5, known()), (7, known())], &[6, 8], 8), 4);
        assert_eq!((read.through, read.stopped_at), (8, None));
        assert_eq!(read.damaged, [6, 8]);
    }

    /// An ack API of a newer version: its first record is known, the second is not.
    async fn newer_ack_api(confirmed: Arc<AtomicU64>, asked: mpsc::UnboundedSender<()>) -> String {
        let serve = move |query: Query<HashMap<String, String>>| async move {
            let number = |name: &str| query.get(name).and_then(|text| text.parse::<u64>().ok());
            confirmed.fetch_max(number("confirmed").unwrap_or(0), Ordering::SeqCst);
            // The test may be over.
            let _ = asked.send(());
            let after = number("after").unwrap_or(0);
            let records = [(1, known()), (2, Bytes::from_static(&[0xff; 8]))];
            let left: Vec<_> = records.into_iter().filter(|(at, _)| *at > after).collect();
            page::encode(&page(&left, &[], 2))
        };
        let router = axum::Router::new().route("/acks/v1/journal", axum::routing::get(serve));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0");
        let listener = listener.await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}")
    }

    #[tokio::test]
    async fn a_record_of_a_newer_program_is_never_confirmed_and_is_asked_for_again() {
        let home = tempfile::tempdir().expect("a directory");
        let token = home.path().join("token");
        std::fs::write(&token, "any").expect("it is written");
        let mut config = crate::config::Config::default();
        config.store.data_dir = home.path().to_owned();
        let hub = countersign_role_hub::HubRole::new(countersign_role_hub::Options::new("none"));
        let bodies = crate::roles::centre::bodies(&config).expect("the folder is made");
        let centre = crate::roles::centre::start(&config, hub.outlet(), Arc::default(), bodies);
        let centre = centre.expect("it starts");
        let (confirmed, blocked) = (Arc::new(AtomicU64::new(0)), Blocked::default());
        let (asked, mut asks) = mpsc::unbounded_channel();
        let remote = Remote {
            url: newer_ack_api(Arc::clone(&confirmed), asked).await,
            token: TokenSource::File(token),
        };
        let following = tokio::spawn(follow_remote(centre.handle(), remote, blocked.clone()));
        // The first asks which store it is, the second reads, the others try again.
        for _ in 0..5 {
            asks.recv().await.expect("it is asked again");
        }
        assert_eq!(confirmed.load(Ordering::SeqCst), 1);
        assert!(blocked.is_blocked());
        following.abort();
    }
}
