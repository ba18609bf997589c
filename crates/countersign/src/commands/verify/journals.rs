//! The journals: found by directory or configuration, opened for reading only.

use crate::cli::Verify as Args;
use crate::config::Config;
use crate::exit::{Exit, Failure};
use countersign_checker::Party;
use countersign_driver::journal::{Damage, History, OpenError, RealFiles, Reason, Record};
use countersign_rules::AgentName;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Every journal that was found.
#[derive(Debug, Default)]
pub(super) struct Journals {
    pub(super) centre: Option<Journal>,
    pub(super) acks: Option<Journal>,
    pub(super) sites: Vec<Journal>,
}

impl Journals {
    pub(super) fn all(&self) -> impl Iterator<Item = (Party, &Journal)> {
        let centre = self.centre.iter().map(|journal| (Party::Centre, journal));
        let acks = self.acks.iter().map(|journal| (Party::Acks, journal));
        let sites = self.sites.iter().enumerate();
        let sites = sites.map(|(number, journal)| (Party::Site(number), journal));
        centre.chain(acks).chain(sites)
    }
}

/// One journal.
#[derive(Debug)]
pub(super) struct Journal {
    pub(super) directory: PathBuf,
    /// Whose it is, when it is an agent's and was named.
    pub(super) agent: Option<AgentName>,
    history: History<RealFiles>,
    position: u64,
}

impl Journal {
    pub(super) fn named(&self) -> String {
        self.directory.display().to_string()
    }

    pub(super) fn first(&self) -> u64 {
        self.history.first()
    }

    pub(super) fn last(&self) -> u64 {
        self.history.last()
    }

    pub(super) fn epoch(&self) -> u64 {
        self.history.epoch()
    }

    pub(super) fn batches(&self) -> u64 {
        self.history.batches()
    }

    pub(super) fn torn_tail_bytes(&self) -> u64 {
        self.history.torn_tail_bytes()
    }

    /// The record read last.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn skip_to(&mut self, position: u64) {
        self.history.skip_to(position);
    }

    pub(super) fn next_record(&mut self) -> Result<Option<Record>, Failure> {
        let record = self.history.next_record();
        let record = record.map_err(|error| Failure::file(&self.directory, "read", &error))?;
        if let Some(record) = &record {
            self.position = record.position;
        }
        Ok(record)
    }

    /// Positions of the snapshots, newest first.
    pub(super) fn snapshots(&self) -> &[u64] {
        self.history.snapshots()
    }

    pub(super) fn snapshot(&self, position: u64) -> Result<Option<Vec<u8>>, Failure> {
        let body = self.history.snapshot(position);
        body.map_err(|error| Failure::file(&self.directory, "read", &error))
    }

    /// The same journal from its beginning, as it is now.
    pub(super) fn again(&self) -> Result<Self, Failure> {
        open(&self.directory, self.agent.clone())
    }

    /// Where the hash chain does not hold.
    pub(super) fn chain_breaks(&self) -> Vec<String> {
        let breaks =
            |damage: &&Damage| matches!(damage.reason, Reason::ChainBroken | Reason::BatchFrame);
        let damaged = self.history.damaged().iter().filter(breaks);
        damaged.map(ToString::to_string).collect()
    }

    /// Other damage that costs no record.
    pub(super) fn damage_without_loss(&self) -> Vec<String> {
        let other = |damage: &&Damage| {
            let chain = matches!(damage.reason, Reason::ChainBroken | Reason::BatchFrame);
            damage.positions.is_none() && !chain
        };
        let damaged = self.history.damaged().iter().filter(other);
        damaged.map(ToString::to_string).collect()
    }
}

/// Finds and opens them: the centre first, then the ack store, then the agents. So whatever one of
/// them acted on is in the next one, also while all of them run.
pub(super) fn find(args: &Args, config: Option<&Config>) -> Result<Journals, Failure> {
    let places = Places::of(&args.journals, config)?;
    let Places {
        centre,
        acks,
        sites,
    } = places;
    if centre.is_none() && acks.is_none() && sites.is_empty() {
        return Err(Failure::new(
            Exit::NotFound,
            "E-VERIFY-NO-JOURNAL",
            "no journal is found",
            "none of the directories holds one",
            "countersign verify centre=DIR acks=DIR AGENT=DIR",
        ));
    }
    let open_one =
        |place: &Option<PathBuf>| place.as_ref().map(|place| open(place, None)).transpose();
    let (centre, acks) = (open_one(&centre)?, open_one(&acks)?);
    let sites = sites.into_iter().map(|(name, place)| open(&place, name));
    Ok(Journals {
        centre,
        acks,
        sites: sites.collect::<Result<_, _>>()?,
    })
}

/// Where stores are, in the order in which [`find`] opens them, each with the place it has in a data
/// directory.
pub(in crate::commands) fn stores(
    named: &[String],
    config: Option<&Config>,
) -> Result<Vec<(PathBuf, PathBuf)>, Failure> {
    let Places {
        centre,
        acks,
        sites,
    } = Places::of(named, config)?;
    let mut stores = Vec::new();
    stores.extend(centre.map(|place| (PathBuf::from("centre"), place)));
    stores.extend(acks.map(|place| (PathBuf::from("acks"), place)));
    for (agent, place) in sites {
        let above = place.parent().and_then(Path::file_name);
        let name = match (&agent, above) {
            (Some(agent), _) => agent.as_str().to_owned(),
            (None, Some(above)) => above.to_string_lossy().into_owned(),
            (None, None) => "agent".to_owned(),
        };
        stores.push((Path::new("agents").join(name).join("inbox"), place));
    }
    Ok(stores)
}

#[derive(Debug, Default)]
struct Places {
    centre: Option<PathBuf>,
    acks: Option<PathBuf>,
    sites: Vec<(Option<AgentName>, PathBuf)>,
}

impl Places {
    /// Those that are named, or else those of the configuration.
    fn of(named: &[String], config: Option<&Config>) -> Result<Self, Failure> {
        let mut places = Self::default();
        match named.is_empty() {
            false => named.iter().try_for_each(|text| places.named(text))?,
            true => places.configured(config),
        }
        Ok(places)
    }

    fn configured(&mut self, config: Option<&Config>) {
        let Some(config) = config else { return };
        let data = &config.store.data_dir;
        self.centre = Some(data.join("centre")).filter(|place| place.is_dir());
        self.acks = Some(data.join("acks")).filter(|place| place.is_dir());
        let agent = config.agent.as_ref();
        if let Some((agent, inbox)) = agent.map(|agent| (agent, agent.data_dir.join("inbox")))
            && inbox.is_dir()
        {
            let name = AgentName::parse(&agent.name).ok();
            self.sites.push((name, inbox));
        }
    }

    /// `centre=DIR`, `acks=DIR`, `AGENT=DIR`, or a directory whose name says it.
    fn named(&mut self, text: &str) -> Result<(), Failure> {
        if let Some((what, place)) = text.split_once('=') {
            let place = PathBuf::from(place);
            match what {
                "centre" => self.centre = Some(place),
                "acks" => self.acks = Some(place),
                name => {
                    let name = AgentName::parse(name);
                    let name = name.map_err(|why| super::usage(text, &why.to_string()))?;
                    self.sites.push((Some(name), place));
                }
            }
            return Ok(());
        }
        let place = Path::new(text);
        if is_store(place) || !place.is_dir() {
            self.by_its_name(place);
        } else {
            self.within(place, DEPTH_MAX)?;
        }
        Ok(())
    }

    /// An agent's journal tells by its first message whose it is.
    fn by_its_name(&mut self, place: &Path) {
        match place.file_name().and_then(|name| name.to_str()) {
            Some("centre") => self.centre = Some(place.to_owned()),
            Some("acks") => self.acks = Some(place.to_owned()),
            _ => self.sites.push((None, place.to_owned())),
        }
    }

    /// Journals in a data directory and below it.
    fn within(&mut self, place: &Path, depth: u32) -> Result<(), Failure> {
        for entry in directories(place)? {
            if is_store(&entry) {
                self.by_its_name(&entry);
            } else if depth > 0 {
                self.within(&entry, depth - 1)?;
            }
        }
        Ok(())
    }
}

fn directories(place: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error: std::io::Error| Failure::file(place, "read", &error);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(place).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn is_store(place: &Path) -> bool {
    place.join("witness").exists()
}

fn open(directory: &Path, agent: Option<AgentName>) -> Result<Journal, Failure> {
    let history = History::open(RealFiles::read_only(directory));
    let history = history.map_err(|error| refused(directory, &error))?;
    let history =
        history.ok_or_else(|| not_a_journal(directory, "it holds no segment and no witness"))?;
    Ok(Journal {
        directory: directory.to_owned(),
        agent,
        history,
        position: 0,
    })
}

fn not_a_journal(directory: &Path, why: &str) -> Failure {
    Failure::new(
        Exit::NotFound,
        "E-VERIFY-NOT-A-JOURNAL",
        format!("{} is not a journal", directory.display()),
        why,
        "name the directory that holds the segment files, such as countersign-data/centre",
    )
}

fn refused(directory: &Path, error: &OpenError) -> Failure {
    match error {
        OpenError::Io { error, .. } if error.kind() == ErrorKind::NotFound => {
            not_a_journal(directory, "there is no such directory")
        }
        OpenError::Io { error, .. } if error.kind() == ErrorKind::PermissionDenied => Failure::new(
            Exit::NotAuthorised,
            "E-VERIFY-NOT-ALLOWED",
            format!("{} cannot be read", directory.display()),
            error.to_string(),
            "run it as the user that owns the journal",
        ),
        OpenError::Version { .. } => Failure::new(
            Exit::Unexpected,
            "E-VERIFY-VERSION",
            format!("{} was written by a newer program", directory.display()),
            error.to_string(),
            "verify it with the program that wrote it",
        ),
        other => Failure::new(
            Exit::Unexpected,
            "E-STORE-OPEN",
            format!("cannot read the journal in {}", directory.display()),
            other.to_string(),
            "look at the disk; nothing was changed",
        ),
    }
}

/// How far below a data directory journals may lie: `agents`, the agent, its journal.
const DEPTH_MAX: u32 = 2;
