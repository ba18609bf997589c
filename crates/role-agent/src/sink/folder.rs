//! A folder as a sink: one file for each message.
//!
//! Promise: a file is there whole or not at all, and done means that it survives a power cut. The
//! same message always has the same name, so a repeated attempt makes no second file.

use super::{Attempt, Sink, failed, outcome};
use crate::{Delivery, Document, Error};
use bytes::Bytes;
use countersign_rules::site::WorkResult;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Writes each document into a folder, named `<seq>-<id>.<extension>`.
///
/// `seq` is padded to twenty digits, so that names sort in the order of sending; a deliberate
/// reprocessing adds `-g<generation>`. Readers should skip names that begin with a dot: they are
/// being written.
#[derive(Clone, Debug)]
pub struct FolderSink {
    folder: PathBuf,
}

impl FolderSink {
    /// Uses `folder`, creating it when it is not there.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn new(folder: impl Into<PathBuf>) -> Result<Self, Error> {
        let folder = folder.into();
        let created = fs::create_dir_all(&folder);
        created.map_err(|source| Error::File {
            what: folder.display().to_string(),
            source,
        })?;
        Ok(Self { folder })
    }
}

impl Sink for FolderSink {
    fn deliver<'a>(&'a self, delivery: &'a Delivery) -> Attempt<'a> {
        let (folder, name) = (self.folder.clone(), name(delivery));
        let body = match &delivery.large {
            None => Source::Held(delivery.body.clone()),
            Some(document) => Source::Large(document.clone()),
        };
        Box::pin(async move {
            let detail = name.clone();
            let written = tokio::task::spawn_blocking(move || write(&folder, &name, &body)).await;
            match written
                .map_err(io::Error::other)
                .and_then(|written| written)
            {
                Ok(Written::New) => WorkResult::Done(outcome("written", detail)),
                Ok(Written::Before) => WorkResult::Done(outcome("written-before", detail)),
                Err(error) => failed("folder", error),
            }
        })
    }
}

enum Written {
    New,
    Before,
}

fn name(delivery: &Delivery) -> String {
    let Delivery {
        seq,
        id,
        generation,
        ..
    } = delivery;
    let life = if *generation > 1 {
        format!("-g{generation}")
    } else {
        String::new()
    };
    format!("{seq:020}-{id}{life}.{}", extension(delivery.media_type()))
}

fn extension(media_type: &str) -> &'static str {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    match essence {
        "application/json" => "json",
        "application/xml" | "text/xml" => "xml",
        "text/csv" => "csv",
        "text/html" => "html",
        "text/plain" => "txt",
        _ if essence.ends_with("+json") => "json",
        _ if essence.ends_with("+xml") => "xml",
        _ => "bin",
    }
}

/// Where a document comes from.
enum Source {
    Held(Bytes),
    Large(Document),
}

fn write(folder: &Path, name: &str, body: &Source) -> io::Result<Written> {
    let finished = folder.join(name);
    if finished.try_exists()? {
        // Its name may have got there right before a crash, and not yet for good.
        sync_folder(folder)?;
        return Ok(Written::Before);
    }
    let unfinished = folder.join(format!(".{name}.part"));
    let mut file = File::create(&unfinished)?;
    match body {
        Source::Held(body) => file.write_all(body)?,
        Source::Large(document) => {
            for piece in document.pieces()? {
                file.write_all(&piece?)?;
            }
        }
    }
    file.sync_all()?;
    drop(file);
    fs::rename(&unfinished, &finished)?;
    sync_folder(folder)?;
    Ok(Written::New)
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Other systems cannot flush a folder and make the name durable with the file.
#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(fields: &str) -> Delivery {
        let envelope = format!(
            r#"{{"id":"01935d3c-7a2e-7c4b-9f10-5b0e8c1d2a3f","type":"a","seq":12{fields}}}"#
        );
        Delivery::from_envelope(Bytes::from(envelope), 1, false).unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name();
        let names = fs::read_dir(folder).unwrap().map(name);
        names.map(|name| name.into_string().unwrap()).collect()
    }

    #[tokio::test]
    async fn a_repeated_attempt_leaves_one_file_with_the_document() {
        let folder = tempfile::tempdir().unwrap();
        let sink = FolderSink::new(folder.path().join("in")).unwrap();
        let delivery = delivery(r#","content_type":"application/xml","data":"<a/>""#);
        let first = sink.deliver(&delivery).await;
        let again = sink.deliver(&delivery).await;
        assert!(matches!(first, WorkResult::Done(outcome) if outcome.code == "written"));
        assert!(matches!(again, WorkResult::Done(outcome) if outcome.code == "written-before"));
        let name = "00000000000000000012-01935d3c-7a2e-7c4b-9f10-5b0e8c1d2a3f.xml";
        assert_eq!(names(&folder.path().join("in")), [name]);
        assert_eq!(
            fs::read(folder.path().join("in").join(name)).unwrap(),
            b"<a/>"
        );
    }

    #[tokio::test]
    async fn what_a_crash_left_half_written_is_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let sink = FolderSink::new(folder.path()).unwrap();
        let delivery = delivery(r#","data":[1, 2]"#);
        fs::write(
            folder.path().join(format!(".{}.part", name(&delivery))),
            "[1",
        )
        .unwrap();
        assert!(matches!(sink.deliver(&delivery).await, WorkResult::Done(_)));
        assert_eq!(names(folder.path()), [name(&delivery)]);
        assert_eq!(
            fs::read(folder.path().join(name(&delivery))).unwrap(),
            b"[1, 2]"
        );
    }

    #[tokio::test]
    async fn a_folder_that_is_gone_fails_the_attempt_and_may_come_back() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("in");
        let sink = FolderSink::new(&folder).unwrap();
        fs::remove_dir(&folder).unwrap();
        let delivery = delivery(r#","data":1"#);
        assert!(matches!(
            sink.deliver(&delivery).await,
            WorkResult::Failed { .. }
        ));
        fs::create_dir(&folder).unwrap();
        assert!(matches!(sink.deliver(&delivery).await, WorkResult::Done(_)));
    }

    #[test]
    fn a_reprocessed_message_gets_a_file_of_its_own() {
        let again = delivery(r#","generation":2,"data":1"#);
        assert!(name(&again).ends_with("3f-g2.json"), "{}", name(&again));
    }
}
