//! The verdicts as text and as a document; both say the same.

use super::journals::Journals;
use super::witness::Line;
use countersign_checker::{Judged, Report, Verdict, Violation};
use countersign_rules::MessageId;
use countersign_rules::delivery::End;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// Everything there is to say.
#[derive(Debug)]
pub(super) struct Summary<'a> {
    pub(super) report: &'a Report,
    pub(super) journals: &'a Journals,
    pub(super) witnesses: &'a BTreeMap<MessageId, Vec<Line>>,
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) took: Duration,
}

impl Summary<'_> {
    pub(super) fn document(&self) -> Value {
        let judged = self
            .report
            .judged
            .iter()
            .map(|judged| self.judged_document(judged));
        let journals = self.journals.all().map(|(party, journal)| {
            json!({
                "party": party_word(party), "directory": journal.directory,
                "first": journal.first(), "last": journal.last(), "epoch": journal.epoch(),
                "batches": journal.batches(), "unfinished_tail_bytes": journal.torn_tail_bytes(),
            })
        });
        json!({
            "verdict": if self.report.is_violated() { "violated" } else { "held" },
            "invariants": judged.collect::<Vec<_>>(),
            "figures": self.figures(),
            "journals": journals.collect::<Vec<_>>(),
            "records": self.records,
            "bytes": self.bytes,
            "seconds": self.took.as_secs_f64(),
            "records_per_second": self.rate(),
        })
    }

    fn judged_document(&self, judged: &Judged) -> Value {
        let witness = judged
            .witnesses
            .first()
            .map(|witness| self.witness_document(witness));
        let others = judged.witnesses.iter().skip(1);
        let others: Vec<_> = others.map(|witness| witness.says.as_str()).collect();
        json!({
            "invariant": format!("{:?}", judged.invariant),
            "promise": judged.invariant.promise(),
            "verdict": word(judged.verdict),
            "held": judged.held, "violated": judged.broken, "undecided": judged.open,
            "reasons": judged.reasons,
            "witness": witness,
            "more": others,
        })
    }

    fn witness_document(&self, witness: &Violation) -> Value {
        let lines = |id: &MessageId| {
            let lines = self.witnesses.get(id).into_iter().flatten();
            let lines = lines.map(|line| {
                json!({ "journal": line.journal, "position": line.position, "says": line.says })
            });
            lines.collect::<Vec<_>>()
        };
        let messages = witness.about.iter();
        let messages = messages.map(|id| json!({ "id": id.to_string(), "records": lines(id) }));
        let at = witness.at.filter(|(_, position)| *position > 0);
        json!({
            "says": witness.says,
            "at": at.map(|(party, position)| {
                json!({ "party": party_word(party), "position": position })
            }),
            "messages": messages.collect::<Vec<_>>(),
        })
    }

    fn figures(&self) -> Value {
        let figures = &self.report.figures;
        json!({
            "accepted": figures.accepted,
            "processed": figures.ended(End::Processed),
            "rejected": figures.ended(End::Rejected),
            "dead": figures.ended(End::Dead),
            "expired": figures.ended(End::Expired),
            "cancelled": figures.ended(End::Cancelled),
            "pending": figures.pending(),
            "forgotten": figures.forgotten,
            "reprocessed": figures.reprocessed,
            "sends_promised": figures.promised,
            "lost": figures.lost.total(),
            "lost_prefix": figures.lost.prefix,
            "lost_middle": figures.lost.middle,
            "lost_postfix": figures.lost.postfix,
            "unexpected": figures.unexpected,
            "pushes": figures.pushes,
            "duplicated_in_delivery": figures.pushed_again(),
            "causes": figures.causes,
            "inboxed": figures.inboxed,
            "arrived_again": figures.arrived_again,
            "attempts": figures.attempts,
            "acks": figures.acks,
            "acks_kept": figures.acks_kept,
            "effects": figures.effects,
            "duplicated_in_effect": figures.duplicated_in_effect,
            "effects_repeated": figures.effects_repeated,
            "possibly_repeated": figures.possibly_repeated,
            "reordered": figures.reordered,
            "false_success": figures.false_success,
            "stuck": figures.stuck,
            "corrupt": figures.corrupt,
            "starts_of_the_centre": figures.centre_starts,
            "in_flight_max": figures.in_flight_max,
            "in_flight_bytes_max": figures.in_flight_bytes_max,
        })
    }

    fn rate(&self) -> u64 {
        (self.records as f64 / self.took.as_secs_f64().max(1e-6)) as u64
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text)
            .expect("writing to memory cannot fail");
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        for (party, journal) in self.journals.all() {
            let (party, name) = (party_word(party), journal.named());
            let (first, last, batches) = (journal.first(), journal.last(), journal.batches());
            let chain = match journal.chain_breaks().first() {
                None => String::from("their hash chain is unbroken"),
                Some(place) => format!("their hash chain breaks: {place}"),
            };
            writeln!(
                text,
                "{party} {name}: records {first} to {last} in {batches} batches; {chain}"
            )?;
        }
        for judged in &self.report.judged {
            self.write_judged(text, judged)?;
        }
        self.write_figures(text)?;
        let (records, seconds, rate) = (self.records, self.took.as_secs_f64(), self.rate());
        writeln!(text, "{records} records in {seconds:.2} s, {rate} a second")?;
        let verdict = match self.report.is_violated() {
            true => "VIOLATED",
            false => "nothing is violated",
        };
        write!(text, "{verdict}")
    }

    fn write_judged(&self, text: &mut String, judged: &Judged) -> std::fmt::Result {
        let (name, promise) = (
            format!("{:?}", judged.invariant),
            judged.invariant.promise(),
        );
        let (word, held) = (word(judged.verdict), judged.held);
        match judged.verdict {
            Verdict::Held => writeln!(text, "{name:<4}{word:<10}{promise} ({held} cases)")?,
            Verdict::Violated => {
                let broken = judged.broken;
                writeln!(
                    text,
                    "{name:<4}{word:<10}{promise} ({broken} of {} cases)",
                    held + broken
                )?;
            }
            Verdict::Undecided => {
                let open = judged.open;
                writeln!(
                    text,
                    "{name:<4}{word:<10}{promise} ({held} cases held, {open} open)"
                )?;
            }
        }
        for reason in &judged.reasons {
            writeln!(text, "      why: {reason}")?;
        }
        let Some(first) = judged.witnesses.first() else {
            return Ok(());
        };
        writeln!(text, "      {}", first.says)?;
        for id in &first.about {
            writeln!(text, "      records about {id}:")?;
            for line in self.witnesses.get(id).into_iter().flatten() {
                writeln!(
                    text,
                    "        {} {}: {}",
                    line.journal, line.position, line.says
                )?;
            }
        }
        for other in judged.witnesses.iter().skip(1) {
            writeln!(text, "      also: {}", other.says)?;
        }
        Ok(())
    }

    fn write_figures(&self, text: &mut String) -> std::fmt::Result {
        let figures = self.figures();
        let line = |names: &[&str]| {
            let each = names.iter().map(|name| {
                let value = &figures[*name];
                format!("{} {value}", name.replace('_', " "))
            });
            each.collect::<Vec<_>>().join(", ")
        };
        for names in FIGURES {
            writeln!(text, "{}", line(names))?;
        }
        for (title, map) in [
            ("causes", &figures["causes"]),
            ("acks kept", &figures["acks_kept"]),
        ] {
            let each = map.as_object().into_iter().flatten();
            let each: Vec<_> = each
                .map(|(name, count)| format!("{name} {count}"))
                .collect();
            if !each.is_empty() {
                writeln!(text, "{title}: {}", each.join(", "))?;
            }
        }
        Ok(())
    }
}

/// Which figures stand together on a line.
const FIGURES: &[&[&str]] = &[
    &[
        "accepted",
        "processed",
        "rejected",
        "dead",
        "expired",
        "cancelled",
        "pending",
        "forgotten",
        "reprocessed",
    ],
    &[
        "sends_promised",
        "lost",
        "lost_prefix",
        "lost_middle",
        "lost_postfix",
        "unexpected",
        "effects",
        "duplicated_in_effect",
        "effects_repeated",
        "possibly_repeated",
        "reordered",
        "false_success",
        "stuck",
        "corrupt",
    ],
    &[
        "pushes",
        "duplicated_in_delivery",
        "inboxed",
        "arrived_again",
        "attempts",
        "acks",
        "starts_of_the_centre",
        "in_flight_max",
        "in_flight_bytes_max",
    ],
];

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Held => "held",
        Verdict::Violated => "violated",
        Verdict::Undecided => "undecided",
    }
}

fn party_word(party: countersign_checker::Party) -> &'static str {
    match party {
        countersign_checker::Party::Centre => "centre",
        countersign_checker::Party::Acks => "acks",
        countersign_checker::Party::Site(_) => "agent",
    }
}
