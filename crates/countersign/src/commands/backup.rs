//! `backup` and `restore`.
//!
//! Promise: a backup is taken beside whoever writes the store, and holds everything that was
//! answered before it began. A restore overwrites nothing, and what it makes appears whole or not
//! at all.

use crate::cli::{Backup, Restore};
use crate::commands::store::find::{self, is_backup};
use crate::commands::verify::stores;
use crate::config;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::Output;
use countersign_driver::journal::{self, BackupError, Manifest, RealFiles, Unproved};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long a running owner is given to prove its last batch: it does so within a second.
const PROOF_WAIT: Duration = Duration::from_secs(3);
/// How often it is looked at meanwhile.
const PROOF_PAUSE: Duration = Duration::from_millis(50);

pub(crate) fn backup(args: &Backup, output: Output) -> Outcome {
    let config = match (&args.config, args.stores.is_empty()) {
        (Some(path), _) => Some(config::load(path)?),
        (None, true) => Some(config::load(Path::new("countersign.toml"))?),
        (None, false) => None,
    };
    // The centre first, then the ack store, then agents: what one of them acted on is in the next.
    let stores = stores(&args.stores, config.as_ref())?;
    if stores.is_empty() {
        return Err(find::none(Path::new("the configuration"), "store"));
    }
    must_be_free(&args.into, "E-BACKUP-NOT-EMPTY")?;
    let mut taken = Vec::new();
    for (name, from) in &stores {
        let into = args.into.join(name);
        taken.push(back_up(name, from, &into)?);
    }
    let document = json!({ "into": args.into.display().to_string(), "stores": taken });
    output.answer(&document, || lines(&taken));
    Ok(ExitCode::SUCCESS)
}

fn back_up(name: &Path, from: &Path, into: &Path) -> Result<Value, Failure> {
    let begun = Instant::now();
    let to = RealFiles::new(into).map_err(|error| Failure::file(into, "create", &error))?;
    let decide = |_| match begun.elapsed() < PROOF_WAIT {
        true => {
            std::thread::sleep(PROOF_PAUSE);
            Unproved::LookAgain
        }
        // Nobody writes it: its process was killed, and its next start would take these batches.
        false => Unproved::Take,
    };
    let taken = journal::backup(&RealFiles::read_only(from), &to, decide);
    let manifest = taken.map_err(|error| refused("back up", from, &error))?;
    Ok(told(name, &manifest, "epoch"))
}

pub(crate) fn restore(args: &Restore, output: Output) -> Outcome {
    if !args.from.is_dir() {
        return Err(find::none(&args.from, "backup"));
    }
    let found = find::below(&args.from, is_backup)?;
    if found.is_empty() {
        return Err(find::none(&args.from, "finished backup"));
    }
    let mut plan = Vec::new();
    for from in found {
        let name = from.strip_prefix(&args.from).unwrap_or(Path::new(""));
        let into = match name.as_os_str().is_empty() {
            true => args.into.clone(),
            false => args.into.join(name),
        };
        must_be_free(&into, "E-RESTORE-NOT-EMPTY")?;
        plan.push((name.to_owned(), from, into));
    }
    let mut restored = Vec::new();
    for (name, from, into) in &plan {
        let manifest = restore_one(from, into)?;
        restored.push(told(name, &manifest, "new_epoch"));
    }
    let document = json!({ "into": args.into.display().to_string(), "stores": restored });
    output.answer(&document, || lines(&restored));
    output.remark(
        "start it; `countersign acks orphans` lists what agents acknowledge and was accepted after the backup",
    );
    Ok(ExitCode::SUCCESS)
}

/// Makes the store beside its place, and moves it there when it is whole.
fn restore_one(from: &Path, into: &Path) -> Result<Manifest, Failure> {
    let staged = staged(into);
    let failed = |doing: &str, error: &std::io::Error| Failure::file(&staged, doing, error);
    if staged.exists() {
        // Of a restore that was cut off.
        std::fs::remove_dir_all(&staged).map_err(|error| failed("remove", &error))?;
    }
    let to = RealFiles::new(&staged).map_err(|error| failed("create", &error))?;
    let mut jump = [0; 8];
    aws_lc_rs::rand::fill(&mut jump)
        .map_err(|error| Failure::unexpected("there is no randomness", error))?;
    let jump = u64::from_le_bytes(jump);
    let restored = journal::restore(&RealFiles::read_only(from), &to, jump);
    let manifest = restored.map_err(|error| {
        let failure = refused("restore", from, &error);
        // Nothing was there before, so nothing is lost with it.
        let _ = std::fs::remove_dir_all(&staged);
        failure
    })?;
    std::fs::rename(&staged, into).map_err(|error| failed("move into place", &error))?;
    let parent = into
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    std::fs::File::open(parent)
        .and_then(|parent| parent.sync_all())
        .map_err(|error| failed("sync the directory above", &error))?;
    Ok(manifest)
}

fn staged(into: &Path) -> PathBuf {
    let mut name = into.as_os_str().to_owned();
    name.push(".restoring");
    PathBuf::from(name)
}

/// Refuses a directory that holds something, above all a store that a process has open.
fn must_be_free(directory: &Path, code: &'static str) -> Result<(), Failure> {
    let mut entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(|error| Failure::file(directory, "read", &error))?,
    };
    if entries.next().is_none() {
        return Ok(());
    }
    let what = format!("{} is not empty", directory.display());
    if is_in_use(directory) {
        let why = "a running process has the store in it open";
        let todo = "stop that process, and move its directory away";
        return Err(Failure::new(
            Exit::Conflict,
            "E-STORE-LOCKED",
            what,
            why,
            todo,
        ));
    }
    Err(Failure::new(
        Exit::Conflict,
        code,
        what,
        "nothing is ever overwritten",
        "name a new directory, or move this one away first: it may be needed yet",
    ))
}

fn is_in_use(directory: &Path) -> bool {
    let Ok(lock) = std::fs::File::open(directory.join("lock")) else {
        return false;
    };
    matches!(
        lock.try_lock_shared(),
        Err(std::fs::TryLockError::WouldBlock)
    )
}

fn refused(doing: &str, from: &Path, error: &BackupError) -> Failure {
    let (exit, code, todo) = match error {
        BackupError::Damaged { .. } => (
            Exit::ChecksFailed,
            "E-BACKUP-DAMAGED",
            "use another backup; `countersign store check` tells all that is wrong with this one",
        ),
        BackupError::NoStore(_) | BackupError::NoManifest(_) => (
            Exit::NotFound,
            "E-STORE-NONE",
            "name the directory that was meant, such as countersign-data",
        ),
        _ => (
            Exit::Unexpected,
            "E-BACKUP",
            "look at the disk; the store itself was not changed",
        ),
    };
    let what = format!("cannot {doing} {}", from.display());
    Failure::new(exit, code, what, error.to_string(), todo)
}

fn told(name: &Path, manifest: &Manifest, epoch: &str) -> Value {
    json!({
        "store": name.display().to_string(), "first": manifest.first, "last": manifest.last,
        epoch: manifest.epoch.to_string(), "bytes": manifest.bytes(),
        "files": manifest.contents.len(),
    })
}

fn lines(told: &[Value]) -> String {
    let line = |one: &Value| {
        let name = one["store"].as_str().filter(|name| !name.is_empty());
        let (first, last, bytes) = (&one["first"], &one["last"], &one["bytes"]);
        let epoch = match one.get("new_epoch").and_then(Value::as_str) {
            Some(epoch) => format!(", new epoch {epoch}"),
            None => String::new(),
        };
        let name = name.unwrap_or("the store");
        format!("{name}: records {first} to {last}, {bytes} bytes{epoch}")
    };
    told.iter().map(line).collect::<Vec<_>>().join("\n")
}
