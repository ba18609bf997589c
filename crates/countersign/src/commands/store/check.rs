//! One store, backup or archive after another.

use super::find::{self, is_store};
use crate::exit::{Exit, Failure};
use countersign_driver::journal::{
    self, Damage, Files as _, History, MANIFEST, OpenError, RealFiles, Report,
};
use countersign_rules::delivery::decode_record as decode_centre;
use countersign_rules::{MessageId, Position};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// How often a store is looked at whose owner removes files meanwhile.
const TRIES_MAX: u32 = 5;

/// What was found in one place.
#[derive(Debug)]
pub(super) struct Checked {
    place: PathBuf,
    found: Found,
}

#[derive(Debug)]
enum Found {
    Store {
        report: Box<Report>,
        /// Messages that damaged records are about, as far as other records tell.
        messages: BTreeMap<Position, MessageId>,
        /// What differs from the manifest; `None` for a store that is no backup.
        differs: Option<Vec<String>>,
    },
    Archive(countersign_archive::Checked),
}

/// Everything in `directory` and below it.
pub(super) fn all(directory: &Path) -> Result<Vec<Checked>, Failure> {
    if !directory.is_dir() {
        return Err(find::none(directory, "store"));
    }
    let mut checked = Vec::new();
    for place in find::below(directory, is_store)? {
        checked.push(store(&place)?);
        let archive = place.with_file_name(ARCHIVE);
        if place.file_name().is_some_and(|name| name == "centre") && archive.exists() {
            let found = countersign_archive::check(&archive);
            let found = found.unwrap_or_else(|error| countersign_archive::Checked {
                unreadable: vec![error.to_string()],
                ..countersign_archive::Checked::default()
            });
            checked.push(Checked {
                place: archive,
                found: Found::Archive(found),
            });
        }
    }
    match checked.is_empty() {
        true => Err(find::none(directory, "store")),
        false => Ok(checked),
    }
}

/// The archive beside the centre's journal.
const ARCHIVE: &str = "centre-ended.sqlite";

fn store(place: &Path) -> Result<Checked, Failure> {
    let files = RealFiles::read_only(place);
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(
            Exit::Unexpected,
            "E-STORE-OPEN",
            format!("cannot read the store in {}", place.display()),
            error.to_string(),
            "look at the disk; nothing was changed",
        )
    };
    let mut tries = 0;
    let report = loop {
        match journal::verify(&files) {
            Err(OpenError::Io { error, .. })
                if error.kind() == ErrorKind::NotFound && tries < TRIES_MAX =>
            {
                tries += 1;
            }
            other => break other.map_err(|error| failed(&error))?,
        }
    };
    let messages = match report.damaged.is_empty() {
        true => BTreeMap::new(),
        false => messages(&files, &report.damaged),
    };
    let is_backup = files.list().is_ok_and(|names| {
        let is_manifest = |name: &String| name == MANIFEST;
        names.iter().any(is_manifest)
    });
    let differs = match is_backup {
        false => None,
        true => Some(match journal::manifest(&files) {
            Ok(Some(manifest)) => {
                journal::compare(&files, &manifest).map_err(|error| failed(&error))?
            }
            Ok(None) => Vec::new(),
            Err(error) => vec![error.to_string()],
        }),
    };
    Ok(Checked {
        place: place.to_owned(),
        found: Found::Store {
            report: Box::new(report),
            messages,
            differs,
        },
    })
}

/// Which messages damaged records are about: the next record about a message names the one before.
/// Only the centre's records do; those of others tell nothing here.
fn messages(files: &RealFiles, damaged: &[Damage]) -> BTreeMap<Position, MessageId> {
    let ranges = damaged.iter().filter_map(|damage| damage.positions.clone());
    let wanted: BTreeSet<Position> = ranges.flat_map(|range| range.take(LOST_MAX)).collect();
    let mut found = BTreeMap::new();
    let Ok(Some(mut history)) = History::open(files.clone()) else {
        return found;
    };
    while let Ok(Some(record)) = history.next_record() {
        let Ok(payload) = record.payload else {
            continue;
        };
        // Another party's store: its records mean something else.
        let Ok(record) = decode_centre(&payload) else {
            continue;
        };
        if let Some((id, previous)) = record.about()
            && wanted.contains(&previous)
        {
            found.insert(previous, id);
        }
    }
    found
}

/// Records of one damaged place whose messages are looked for.
const LOST_MAX: usize = 1 << 20;

impl Checked {
    pub(super) fn is_sound(&self) -> bool {
        match &self.found {
            Found::Store {
                report, differs, ..
            } => report.is_sound() && differs.as_ref().is_none_or(Vec::is_empty),
            Found::Archive(found) => found.is_sound(),
        }
    }

    pub(super) fn document(&self) -> Value {
        let place = self.place.display().to_string();
        match &self.found {
            Found::Store {
                report,
                messages,
                differs,
            } => {
                let damaged = report.damaged.iter().map(|damage| {
                    let about: Vec<_> = about(damage, messages).map(|id| id.to_string()).collect();
                    json!({
                        "place": damage.to_string(),
                        "first": damage.positions.as_ref().map(|range| *range.start()),
                        "last": damage.positions.as_ref().map(|range| *range.end()),
                        "messages": about,
                    })
                });
                json!({
                    "store": place, "sound": self.is_sound(), "epoch": report.epoch,
                    "first": report.first, "last": report.last, "records": report.records,
                    "batches": report.batches, "segments": report.segments,
                    "torn_tail_bytes": report.torn_tail_bytes,
                    "damaged": damaged.collect::<Vec<_>>(), "differs_from_manifest": differs,
                })
            }
            Found::Archive(found) => {
                let damaged = found.damaged.iter();
                let damaged = damaged.map(|(id, why)| json!({ "id": id.to_string(), "why": why }));
                json!({
                    "archive": place, "sound": self.is_sound(), "batches": found.batches,
                    "messages": found.messages, "damaged": damaged.collect::<Vec<_>>(),
                    "unreadable": found.unreadable,
                })
            }
        }
    }

    pub(super) fn text(&self) -> String {
        let mut lines = vec![self.headline()];
        match &self.found {
            Found::Store {
                report,
                messages,
                differs,
            } => {
                for damage in &report.damaged {
                    lines.push(format!("  {damage}"));
                    lines.extend(about(damage, messages).map(|id| format!("    message {id}")));
                }
                let differs = differs.iter().flatten();
                lines.extend(differs.map(|what| format!("  {what}")));
            }
            Found::Archive(found) => {
                let damaged = found.damaged.iter();
                lines.extend(damaged.map(|(id, why)| format!("  message {id}: {why}")));
                lines.extend(found.unreadable.iter().map(|why| format!("  {why}")));
                if !found.is_sound() {
                    lines.push(
                        "  stop the centre, remove the file, start again: it is built again from the journal"
                            .to_owned(),
                    );
                }
            }
        }
        lines.join("\n")
    }

    fn headline(&self) -> String {
        let verdict = match self.is_sound() {
            true => "as it was written",
            false => "DAMAGED",
        };
        let place = self.place.display();
        match &self.found {
            Found::Store {
                report, differs, ..
            } => {
                let kind = match differs {
                    Some(_) => "backup",
                    None => "store",
                };
                let (first, last, batches) = (report.first, report.last, report.batches);
                format!("{kind} {place}: {verdict}; records {first} to {last}, {batches} batches")
            }
            Found::Archive(found) => format!(
                "archive {place}: {verdict}; {} messages in {} batches",
                found.messages, found.batches
            ),
        }
    }
}

fn about<'a>(
    damage: &Damage,
    messages: &'a BTreeMap<Position, MessageId>,
) -> impl Iterator<Item = &'a MessageId> {
    let range = damage.positions.clone();
    let messages = range.map(|range| messages.range(range));
    messages.into_iter().flatten().map(|(_, id)| id)
}
