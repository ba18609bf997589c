//! Measures what one durable batch costs on this disk, and what the hashes cost on this processor.
//!
//! `cargo run --release -p countersign-journal --example flush -- <directory>`
//!
//! Three ways to extend a log file are compared in turns, because the disk's own speed swings:
//! growing with each append, reserved by `fallocate`, and filled with zeros beforehand; first a bare
//! file, then the journal itself. The long runs pass several rolls.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use countersign_journal::{Batch, Log, NewStore, Options, Preallocation, RealFiles};
use sha2::{Digest, Sha256};

const ROUNDS: usize = 3;
const FLUSHES: usize = 150;
const FILE_BYTES: u64 = 64 << 20;
/// Long enough to pass three rolls.
const LONG_FLUSHES: usize = 800;
const LONG_RECORDS: usize = 1024;
const RECORD_BYTES: usize = 256;

fn main() -> std::io::Result<()> {
    let directory = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "flush-bench".to_owned());
    let directory = Path::new(&directory);
    std::fs::create_dir_all(directory)?;
    hashes();
    for records in [1, 32, 256] {
        let mut modes = [const { Vec::new() }; 6];
        for _ in 0..ROUNDS {
            for (mode, times) in modes.iter_mut().enumerate() {
                times.append(&mut match mode {
                    0..=2 => raw(directory, mode, records * RECORD_BYTES)?,
                    _ => journal(
                        directory,
                        [
                            Preallocation::Grow,
                            Preallocation::Reserve,
                            Preallocation::Zeros,
                        ][mode - 3],
                        records,
                        FLUSHES,
                    )?,
                });
            }
        }
        let names = [
            "growing",
            "reserved",
            "zeros",
            "journal growing",
            "journal reserved",
            "journal zeros",
        ];
        for (name, times) in names.iter().zip(&mut modes) {
            print(name, records, times);
        }
    }
    let kinds = [
        Preallocation::Grow,
        Preallocation::Reserve,
        Preallocation::Zeros,
    ];
    let mut long = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        for (kind, times) in kinds.iter().zip(&mut long) {
            times.append(&mut journal(directory, *kind, LONG_RECORDS, LONG_FLUSHES)?);
        }
    }
    for (kind, times) in kinds.iter().zip(&mut long) {
        print(&format!("long {kind:?}"), LONG_RECORDS, times);
    }
    std::fs::remove_dir_all(directory)
}

fn hashes() {
    let bytes = vec![7_u8; 64 << 20];
    let start = Instant::now();
    let hash = Sha256::digest(&bytes);
    let sha = start.elapsed();
    let start = Instant::now();
    let crc = crc32c::crc32c(&bytes);
    let speed = |time: Duration| 64.0 / 1024.0 / time.as_secs_f64();
    let (sha, crc_speed) = (speed(sha), speed(start.elapsed()));
    println!(
        "sha-256 {sha:.2} GiB/s, crc-32c {crc_speed:.2} GiB/s ({:x} {crc:x})",
        hash[0]
    );
}

fn raw(directory: &Path, mode: usize, bytes: usize) -> std::io::Result<Vec<Duration>> {
    let path = directory.join("raw");
    let file = File::create(&path)?;
    if mode >= 1 {
        let flags = rustix::fs::FallocateFlags::empty();
        rustix::fs::fallocate(&file, flags, 0, FILE_BYTES)?;
    }
    if mode == 2 {
        let zeros = vec![0; 1 << 20];
        for mebibyte in 0..FILE_BYTES >> 20 {
            file.write_all_at(&zeros, mebibyte << 20)?;
        }
    }
    file.sync_all()?;
    let record = vec![1; bytes];
    let mut times = Vec::new();
    for flush in 0..FLUSHES {
        let start = Instant::now();
        file.write_all_at(&record, (flush * bytes) as u64)?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    std::fs::remove_file(&path)?;
    Ok(times)
}

fn journal(
    directory: &Path,
    preallocation: Preallocation,
    records: usize,
    flushes: usize,
) -> std::io::Result<Vec<Duration>> {
    let directory = directory.join("store");
    let options = Options {
        preallocation,
        ..Options::default()
    };
    let files = RealFiles::new(&directory)?;
    let identity = NewStore {
        store_id: [1; 16],
        epoch: 1,
    };
    let (mut log, _) = Log::open(files, options, identity).map_err(std::io::Error::other)?;
    let payload = vec![1; RECORD_BYTES];
    let mut times = Vec::new();
    for _ in 0..flushes {
        let batch = Batch::from_payloads(log.next_position(), (0..records).map(|_| &payload));
        let start = Instant::now();
        log.append(&batch).map_err(std::io::Error::other)?;
        log.flush().map_err(std::io::Error::other)?;
        times.push(start.elapsed());
    }
    drop(log);
    std::fs::remove_dir_all(&directory)?;
    Ok(times)
}

fn print(name: &str, records: usize, times: &mut [Duration]) {
    times.sort_unstable();
    let mean = times.iter().sum::<Duration>() / u32::try_from(times.len()).unwrap_or(1);
    let at = |percent: usize| times[times.len() * percent / 100].as_micros();
    let per_second = 1.0 / mean.as_secs_f64();
    let worst = times.last().map_or(0, Duration::as_micros);
    println!(
        "{name:22} {records:4} records a flush: {per_second:6.0} flushes/s, p50 {} us, p99 {} us, worst {worst} us",
        at(50),
        at(99)
    );
}
