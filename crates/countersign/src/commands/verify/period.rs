//! Which part of the journals is read: from an instant or a record to another.

use super::journals::{Journal, Journals};
use super::usage;
use crate::cli::Verify as Args;
use crate::durations::parse_duration;
use crate::exit::Failure;
use countersign_checker::Party;
use countersign_rules::Timestamp;
use countersign_rules::delivery::decode_record;

/// Where a period begins or ends.
#[derive(Clone, Copy, Debug)]
enum Bound {
    /// A record of the centre.
    Position(u64),
    At(Timestamp),
}

/// A part of every journal. A position is one of the centre's journal; the others are read from,
/// or to, the instant of that record.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Period {
    first: Option<u64>,
    last: Option<u64>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl Period {
    pub(super) fn of(args: &Args, journals: &Journals) -> Result<Self, Failure> {
        let mut period = Self::default();
        if let Some(text) = &args.since {
            match bound("--since", text)? {
                Bound::At(at) => period.since = Some(at),
                Bound::Position(position) => {
                    period.first = Some(position);
                    period.since = Some(instant_of(journals, position, "--since")?);
                }
            }
        }
        if let Some(text) = &args.until {
            match bound("--until", text)? {
                Bound::At(at) => period.until = Some(at),
                Bound::Position(position) => {
                    period.last = Some(position);
                    period.until = Some(instant_of(journals, position, "--until")?);
                }
            }
        }
        Ok(period)
    }

    pub(super) fn is_partial(self) -> bool {
        self.since.is_some() || self.until.is_some()
    }

    pub(super) fn leaves_out(self) -> Option<String> {
        match (self.since, self.until) {
            (Some(since), _) => Some(format!(
                "the period begins at {since}: what came before is left out"
            )),
            (None, Some(until)) => Some(format!(
                "the period ends at {until}: what came later is left out"
            )),
            (None, None) => None,
        }
    }

    /// Skips what lies before a position.
    pub(super) fn begin(self, party: Party, journal: &mut Journal) {
        if let (Party::Centre, Some(first)) = (party, self.first) {
            journal.skip_to(first);
        }
    }

    pub(super) fn is_over_at(self, party: Party, position: u64) -> bool {
        party == Party::Centre && self.last.is_some_and(|last| position > last)
    }

    pub(super) fn is_before(self, at: impl Into<Option<Timestamp>>) -> bool {
        let at = at.into();
        self.since
            .is_some_and(|since| at.is_some_and(|at| at < since))
    }

    pub(super) fn is_behind(self, at: impl Into<Option<Timestamp>>) -> bool {
        let at = at.into();
        self.until
            .is_some_and(|until| at.is_some_and(|at| at > until))
    }
}

fn bound(flag: &str, text: &str) -> Result<Bound, Failure> {
    if let Ok(position) = text.parse() {
        return Ok(Bound::Position(position));
    }
    if let Some(ago) = text.strip_prefix('-') {
        let ago = parse_duration(ago).map_err(|why| usage(flag, &why))?;
        let now = Timestamp(jiff::Timestamp::now().as_microsecond());
        return Ok(Bound::At(now.before(ago)));
    }
    let why = || {
        format!(
            "{text:?} is no instant; write 2026-12-24T18:00:00Z, -10m, or the number of a record of the centre"
        )
    };
    let at: jiff::Timestamp = text.parse().map_err(|_| usage(flag, &why()))?;
    Ok(Bound::At(Timestamp(at.as_microsecond())))
}

/// When the record of the centre at `position`, or the next one that can be read, was written.
fn instant_of(journals: &Journals, position: u64, flag: &str) -> Result<Timestamp, Failure> {
    let Some(centre) = &journals.centre else {
        let why = "a position is one of the centre's journal, and that is not given";
        return Err(usage(flag, why));
    };
    let mut centre = centre.again()?;
    centre.skip_to(position);
    while let Some(record) = centre.next_record()? {
        if let Some(record) = record
            .payload
            .ok()
            .as_deref()
            .and_then(|p| decode_record(p).ok())
        {
            return Ok(record.at());
        }
    }
    let last = centre.last();
    Err(usage(
        flag,
        &format!("the centre's last record is number {last}"),
    ))
}
