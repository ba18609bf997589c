//! `verify`: proves the invariants from the journals of centre, ack store and agents.
//!
//! Promise: it changes nothing and takes no lock, so it may run beside everything. The judging is
//! done by `countersign-checker`; here journals are found, read in an order that needs no clock
//! (sites first, then the centre with the acks that it read), and verdicts printed.

mod journals;
mod lists;
mod period;
mod print;
mod rebuild;
mod witness;

use crate::cli::Verify as Args;
use crate::config::{self, Config};
use crate::durations::parse_duration;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::Output;
use countersign_checker::{Checker, Limits, Party, Verdict};
use countersign_rules::ack::decode_record as decode_ack;
use countersign_rules::delivery::{Record as CentreRecord, decode_record as decode_centre};
use countersign_rules::site::{Record as SiteRecord, decode_record as decode_site};
pub(super) use journals::stores;
use journals::{Journal, Journals};
use period::Period;
use rebuild::Rebuild;
use std::process::ExitCode;
use std::time::Instant;

pub(crate) fn run(args: &Args, output: Output) -> Outcome {
    let begun = Instant::now();
    let config = configuration(args)?;
    let mut journals = journals::find(args, config.as_ref())?;
    let period = Period::of(args, &journals)?;
    let mut reading = Reading {
        checker: Checker::new(limits(args, config.as_ref())?),
        period,
        rebuilding: !period.is_partial(),
        policy: config.as_ref().map(crate::roles::centre::policy),
        records: 0,
        bytes: 0,
    };
    if let Some(path) = &args.sends {
        lists::sends(path, &mut reading.checker)?;
    }
    if let Some(path) = &args.effects {
        lists::effects(path, &mut reading.checker)?;
    }
    reading.announce(&journals);
    for number in 0..journals.sites.len() {
        reading.site(number, &mut journals.sites[number])?;
    }
    reading.centre(&mut journals)?;
    if reading.records == 0 {
        return Err(empty(reading.period));
    }
    let (records, bytes) = (reading.records, reading.bytes);
    let report = reading.checker.finish();
    let witnesses = witness::gather(&report, &journals)?;
    let summary = print::Summary {
        report: &report,
        journals: &journals,
        witnesses: &witnesses,
        records,
        bytes,
        took: begun.elapsed(),
    };
    output.answer(&summary.document(), || summary.text());
    let undecided = |judged: &countersign_checker::Judged| judged.verdict == Verdict::Undecided;
    let failed = report.is_violated() || (args.strict && report.judged.iter().any(undecided));
    Ok(match failed {
        true => Exit::ChecksFailed.into(),
        false => ExitCode::SUCCESS,
    })
}

/// The configuration that is named, or the one that is there when no directory is named.
fn configuration(args: &Args) -> Result<Option<Config>, Failure> {
    if let Some(path) = &args.config {
        return config::load(path).map(Some);
    }
    match args.journals.is_empty() {
        true => config::load(std::path::Path::new("countersign.toml")).map(Some),
        false => Ok(None),
    }
}

fn limits(args: &Args, config: Option<&Config>) -> Result<Limits, Failure> {
    let stuck_after =
        parse_duration(&args.stuck_after).map_err(|why| usage("--stuck-after", &why))?;
    Ok(Limits {
        window_messages: config.map(|config| config.delivery.window_messages),
        window_bytes: config.map(|config| config.delivery.window_bytes.0),
        stuck_after,
        keys_honoured: !args.keys_not_honoured,
    })
}

fn usage(what: &str, why: &str) -> Failure {
    let todo = "countersign verify --help";
    Failure::new(
        Exit::Usage,
        "E-USAGE",
        format!("{what} does not read"),
        why,
        todo,
    )
}

fn empty(period: Period) -> Failure {
    let (why, todo) = match period.is_partial() {
        true => (
            "no record of any journal lies in the period",
            "widen it with --since and --until, or leave both out",
        ),
        false => (
            "the journals hold no record",
            "check that these are the directories meant",
        ),
    };
    Failure::new(
        Exit::NotFound,
        "E-VERIFY-EMPTY",
        "there is nothing to verify",
        why,
        todo,
    )
}

/// A record that is none of the kind expected, although its checksum holds.
fn not_understood(journal: &Journal, position: u64, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        Exit::Usage,
        "E-VERIFY-RECORD",
        format!("record {position} of {} is not understood", journal.named()),
        error.to_string(),
        "say what the directory holds, as centre=DIR, acks=DIR or AGENT=DIR; a newer program's \
         journal needs that program",
    )
}

/// What is known while journals are read.
struct Reading {
    checker: Checker,
    period: Period,
    rebuilding: bool,
    policy: Option<countersign_rules::delivery::Policy>,
    records: u64,
    bytes: u64,
}

impl Reading {
    /// Says which journals will be told, and what of them will not.
    fn announce(&mut self, journals: &Journals) {
        for (number, site) in journals.sites.iter().enumerate() {
            if let Some(name) = &site.agent {
                self.checker.name_site(number, name.clone());
            }
        }
        for (party, journal) in journals.all() {
            self.checker.tell_of(party);
            let (first, name) = (journal.first(), journal.named());
            if first > 1 {
                let why = format!("{name} begins at record {first}: what came before was trimmed");
                self.checker.leave_out(party, why);
            }
            if let Some(why) = self.period.leaves_out() {
                self.checker.leave_out(party, why);
            }
        }
    }

    /// The next record of the period, damaged ones told and left out.
    fn next(
        &mut self,
        party: Party,
        journal: &mut Journal,
    ) -> Result<Option<(u64, bytes::Bytes)>, Failure> {
        loop {
            let Some(record) = journal.next_record()? else {
                return Ok(None);
            };
            if self.period.is_over_at(party, record.position) {
                return Ok(None);
            }
            match record.payload {
                Ok(payload) => {
                    self.records += 1;
                    self.bytes += payload.len() as u64;
                    return Ok(Some((record.position, payload)));
                }
                Err(_) => self.checker.damaged(party, record.position),
            }
        }
    }

    fn site(&mut self, number: usize, journal: &mut Journal) -> Result<(), Failure> {
        let party = Party::Site(number);
        let mut rebuild = Rebuild::of_site(self.rebuilding, journal)?;
        self.period.begin(party, journal);
        while let Some((position, payload)) = self.next(party, journal)? {
            let record =
                decode_site(&payload).map_err(|error| not_understood(journal, position, &error))?;
            let at = at_of_site(&record);
            if self.period.is_before(at) {
                self.records -= 1;
                continue;
            }
            if self.period.is_behind(at) {
                self.records -= 1;
                break;
            }
            let mut digest = None;
            if let SiteRecord::Inboxed { envelope, .. } | SiteRecord::TakenIn { envelope, .. } =
                &record
            {
                let head = lists::head(envelope);
                if let Some(name) = head.to {
                    self.checker.name_site(number, name);
                }
                digest = head.body_sha256;
            }
            self.checker
                .site_record(number, position, &record, digest.as_ref());
            rebuild.take(position, &payload, &mut self.checker, journal)?;
        }
        self.end_of(party, journal);
        Ok(())
    }

    /// The centre, and before each of its notes how far acks were read, those acks.
    fn centre(&mut self, journals: &mut Journals) -> Result<(), Failure> {
        let Journals { centre, acks, .. } = journals;
        let mut rebuild = match acks {
            Some(acks) => {
                let rebuild = Rebuild::of_acks(self.rebuilding, acks)?;
                self.period.begin(Party::Acks, acks);
                rebuild
            }
            None => Rebuild::none(),
        };
        if let Some(centre) = centre {
            self.centre_records(centre, acks.as_mut(), &mut rebuild)?;
            self.later_arrivals(centre)?;
        }
        if let Some(acks) = acks {
            self.acks_through(acks, u64::MAX, &mut rebuild)?;
            self.end_of(Party::Acks, acks);
        }
        Ok(())
    }

    fn centre_records(
        &mut self,
        centre: &mut Journal,
        mut acks: Option<&mut Journal>,
        acks_rebuild: &mut Rebuild,
    ) -> Result<(), Failure> {
        let mut rebuild = Rebuild::of_centre(self.rebuilding, centre, self.policy.clone())?;
        self.period.begin(Party::Centre, centre);
        while let Some((position, payload)) = self.next(Party::Centre, centre)? {
            let record = decode_centre(&payload)
                .map_err(|error| not_understood(centre, position, &error))?;
            if self.period.is_before(record.at()) {
                self.records -= 1;
                continue;
            }
            if self.period.is_behind(record.at()) {
                self.records -= 1;
                break;
            }
            if let (
                CentreRecord::AcksRead {
                    source, through, ..
                },
                Some(acks),
            ) = (&record, acks.as_deref_mut())
                && *source == acks.epoch()
            {
                self.acks_through(acks, *through, acks_rebuild)?;
            }
            self.checker.centre(position, &record);
            rebuild.take(position, &payload, &mut self.checker, centre)?;
        }
        self.end_of(Party::Centre, centre);
        Ok(())
    }

    fn acks_through(
        &mut self,
        acks: &mut Journal,
        through: u64,
        rebuild: &mut Rebuild,
    ) -> Result<(), Failure> {
        while acks.position() < through {
            let Some((position, payload)) = self.next(Party::Acks, acks)? else {
                return Ok(());
            };
            let record =
                decode_ack(&payload).map_err(|error| not_understood(acks, position, &error))?;
            let at = at_of_ack(&record);
            if self.period.is_before(at) || self.period.is_behind(at) {
                self.records -= 1;
                continue;
            }
            self.checker.ack(position, &record);
            rebuild.take(position, &payload, &mut self.checker, acks)?;
        }
        Ok(())
    }

    /// Sites were looked at after the centre: what was accepted between is theirs by right.
    fn later_arrivals(&mut self, centre: &Journal) -> Result<(), Failure> {
        let mut again = centre.again()?;
        again.skip_to(centre.last() + 1);
        while let Some(record) = again.next_record()? {
            if let Ok(payload) = &record.payload
                && let Ok(record) = decode_centre(payload)
            {
                self.checker.accepted_later(&record);
            }
        }
        Ok(())
    }

    /// What the hash chain of a journal says, once it was read.
    fn end_of(&mut self, party: Party, journal: &Journal) {
        let name = self.checker.name_of(party);
        let broken = journal.chain_breaks();
        for damage in journal.damage_without_loss() {
            self.checker
                .damaged_without_loss(format!("{name}: {damage}"));
        }
        for place in &broken {
            self.checker.state_differs(format!("{name}: {place}"));
        }
        self.checker.state_agrees(journal.batches());
    }
}

fn at_of_site(record: &SiteRecord<'_>) -> Option<countersign_rules::Timestamp> {
    match record {
        SiteRecord::Started { at, .. }
        | SiteRecord::Inboxed { at, .. }
        | SiteRecord::TakenIn { at, .. }
        | SiteRecord::Passed { at, .. }
        | SiteRecord::LaneResumed { at, .. }
        | SiteRecord::Repeated { at, .. }
        | SiteRecord::WorkStarted { at, .. }
        | SiteRecord::Worked { at, .. }
        | SiteRecord::Posted { at, .. }
        | SiteRecord::Floor { at, .. }
        | SiteRecord::Carried { at, .. }
        | SiteRecord::Damaged { at, .. }
        | SiteRecord::Marked { at } => Some(*at),
        _ => None,
    }
}

fn at_of_ack(record: &countersign_rules::ack::AckRecord) -> Option<countersign_rules::Timestamp> {
    use countersign_rules::ack::AckRecord;
    match record {
        AckRecord::Started { at, .. } | AckRecord::Marked { at } => Some(*at),
        AckRecord::Given(ack) | AckRecord::GivenNext { ack, .. } => Some(ack.at),
        _ => None,
    }
}
