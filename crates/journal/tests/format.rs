//! The bytes of format version 1, held for ever: what was written once can be read by every later
//! version. `BLESS=1 cargo test` writes the expectation anew; a version that needs this is a new
//! version of the format.

mod common;

use std::fmt::Write;
use std::path::PathBuf;

use common::{STORE, open};
use countersign_journal::sim::SimFiles;
use countersign_journal::{Batch, File, Files, Log, OpenError, Options, verify};

const SEGMENT: &str = "segment-00000000000000000001";
const SNAPSHOT: &str = "snapshot-00000000000000000003";

fn written() -> SimFiles {
    let files = SimFiles::new(1);
    let (mut log, _) = open(&files, &Options::default());
    log.append(&Batch::from_payloads(1, ["alpha", ""]))
        .expect("there is room");
    log.flush().expect("the disk is well");
    log.append(&Batch::from_payloads(3, ["gamma"]))
        .expect("there is room");
    log.flush().expect("the disk is well");
    log.write_snapshot(3, b"state").expect("the disk is well");
    log.close().expect("the store closes");
    files
}

#[test]
fn version_1_is_written_as_it_always_was() {
    let files = written();
    for name in [SEGMENT, "witness", SNAPSHOT] {
        let dump = dump(&files.bytes(name));
        let path = golden(name);
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&path, &dump).expect("the expectation is written");
        }
        let expected = std::fs::read_to_string(&path).expect("the expectation is there");
        assert_eq!(dump, expected, "{name}");
    }
}

#[test]
fn version_1_is_read_as_it_was_written() {
    let files = SimFiles::new(2);
    for name in [SEGMENT, "witness", SNAPSHOT] {
        let expected = std::fs::read_to_string(golden(name)).expect("the expectation is there");
        let file = files.create(name).expect("the disk is well");
        file.write_at(0, &undump(&expected))
            .expect("the disk is well");
        file.sync_data().expect("the disk is well");
    }
    assert!(verify(&files).expect("the store can be read").is_sound());
    let (log, recovered) = open(&files, &Options::default());
    assert_eq!(
        (recovered.store_id, recovered.epoch, recovered.next),
        ([7; 16], 1, 4)
    );
    assert_eq!(recovered.snapshot, Some((3, b"state".to_vec())));
    let read = |position| log.reader().read(position).expect("the record is there");
    assert_eq!([read(1), read(2), read(3)], ["alpha", "", "gamma"]);
}

#[test]
fn a_newer_version_is_refused_and_left_as_it_is() {
    for (name, copies) in [
        (SEGMENT, vec![0, 2048]),
        ("witness", vec![0, 512]),
        (SNAPSHOT, vec![0]),
    ] {
        let files = written();
        files.edit(name, |bytes| {
            for copy in &copies {
                let checked = if name == "witness" { 56 } else { 248 };
                let copy = &mut bytes[*copy..*copy + 256];
                copy[8] = 2;
                let crc = crc32c::crc32c(&copy[..checked]).to_le_bytes();
                copy[checked..checked + 4].copy_from_slice(&crc);
            }
        });
        let before: Vec<_> = files.lengths();
        let refused = Log::open(files.clone(), Options::default(), STORE);
        let refused = refused.expect_err("the version is unknown");
        assert!(
            matches!(
                refused,
                OpenError::Version {
                    found: 2,
                    known: 1,
                    ..
                }
            ),
            "{refused}"
        );
        assert!(refused.to_string().contains(name), "{refused}");
        assert_eq!(files.lengths(), before);
    }
}

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/v1")
        .join(format!("{name}.txt"))
}

/// Sixteen bytes a line, lines of zeros left out, the length last.
fn dump(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (row, chunk) in bytes.chunks(16).enumerate() {
        if chunk.iter().any(|byte| *byte != 0) {
            write!(text, "{:06}", row * 16).expect("a string takes everything");
            for byte in chunk {
                write!(text, " {byte:02x}").expect("a string takes everything");
            }
            text.push('\n');
        }
    }
    writeln!(text, "{:06}", bytes.len()).expect("a string takes everything");
    text
}

fn undump(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let offset = words
            .next()
            .and_then(|word| word.parse().ok())
            .expect("an offset");
        bytes.resize(offset, 0);
        bytes.extend(words.map(|word| u8::from_str_radix(word, 16).expect("a byte")));
    }
    bytes
}
