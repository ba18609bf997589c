//! Reads every byte of a store and says whether it is as written.

use crate::error::{Damage, OpenError};
use crate::options::Options;
use crate::survey::survey;
use crate::{Files, Position};

/// What [`verify`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Id of the store; `None` when the directory holds none.
    pub store_id: Option<[u8; 16]>,
    /// Highest epoch.
    pub epoch: u64,
    /// Lowest position that was not trimmed.
    pub first: Position,
    /// Highest position.
    pub last: Position,
    /// Records that can be served.
    pub records: u64,
    /// Batches whose hash and chain hold.
    pub batches: u64,
    /// Segments.
    pub segments: u64,
    /// Bytes behind the last whole batch: the torn tail of a crash, or of a running writer.
    pub torn_tail_bytes: u64,
    /// Hash at the end of the chain, if the end is whole.
    pub end_hash: Option<[u8; 32]>,
    /// Every place that is not as written.
    pub damaged: Vec<Damage>,
}

impl Report {
    /// Whether everything is as written.
    pub fn is_sound(&self) -> bool {
        self.damaged.is_empty()
    }
}

/// Checks the whole chain and every record; changes nothing and takes no lock.
///
/// `partition_count` is not compared: any store can be verified.
///
/// # Errors
///
/// See [`OpenError`].
pub fn verify<F: Files>(files: &F) -> Result<Report, OpenError> {
    let options = Options {
        scan_everything: true,
        partition_count: 0,
        ..Options::default()
    };
    let survey = survey(files, &options)?;
    let mut report = Report {
        store_id: survey.store_id,
        epoch: survey.epoch,
        first: survey
            .segments
            .first()
            .map_or(survey.end + 1, |segment| segment.first),
        last: survey.end,
        records: 0,
        batches: 0,
        segments: survey.segments.len() as u64,
        torn_tail_bytes: 0,
        end_hash: None,
        damaged: survey.damaged,
    };
    for scan in survey
        .segments
        .iter()
        .filter_map(|segment| segment.scan.as_ref())
    {
        let first = scan.index.first();
        let lost: u64 = scan
            .index
            .holes()
            .iter()
            .map(|hole| hole.last - hole.first + 1)
            .sum();
        report.records += scan.index.next() - first - lost;
        report.batches += scan.batches;
        report.torn_tail_bytes += scan.torn_bytes;
        report.end_hash = scan.end_hash;
    }
    Ok(report)
}
