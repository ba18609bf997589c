//! Looks at everything in the directory and changes nothing: the first half of an open, and the
//! whole of a verify.

use std::io;
use std::ops::RangeInclusive;

use crate::error::{Damage, OpenError, Reason};
use crate::format::{
    Bad, BatchHeader, HEADER_AREA_BYTES, HEADER_BYTES, HeaderArea, SegmentHeader, Witness,
};
use crate::index::Index;
use crate::options::{Defect, Options};
use crate::scan::{Finding, Known, Scan, scan};
use crate::segment::{read_all, segment_first, segment_name};
use crate::snapshots::{self, FoundSnapshots};
use crate::witness;
use crate::{File, Files, Position, format};

/// A segment as found.
pub(crate) struct FoundSegment {
    pub(crate) name: String,
    pub(crate) first: Position,
    /// `None` when both copies are damaged, or it belongs to another store.
    pub(crate) header: Option<SegmentHeader>,
    pub(crate) bytes: u64,
    /// Where its header area is not as written.
    damaged_at: Option<u64>,
    /// `None` when it was left for later.
    pub(crate) scan: Option<Scan>,
}

/// Everything found.
pub(crate) struct Survey {
    pub(crate) segments: Vec<FoundSegment>,
    pub(crate) snapshots: FoundSnapshots,
    pub(crate) witness: Option<Witness>,
    pub(crate) store_id: Option<[u8; 16]>,
    pub(crate) epoch: u64,
    pub(crate) damaged: Vec<Damage>,
    /// Last position that is there or was proved to have been.
    pub(crate) end: Position,
    /// Acknowledged records at the end of the log are gone.
    pub(crate) short: bool,
}

/// Surveys the directory.
///
/// # Errors
///
/// When the directory cannot be read or a newer product wrote it.
pub(crate) fn survey<F: Files>(files: &F, options: &Options) -> Result<Survey, OpenError> {
    let mut survey = look(files, options)?;
    survey
        .scan(files, options)
        .map_err(|error| failed(files, "read segments", error))?;
    survey.find_missing_start();
    Ok(survey)
}

/// Looks at the directory without reading its segments.
///
/// # Errors
///
/// When the directory cannot be read or a newer product wrote it.
pub(crate) fn look<F: Files>(files: &F, options: &Options) -> Result<Survey, OpenError> {
    let fail = |action| move |error| failed(files, action, error);
    let names = files.list().map_err(fail("list files"))?;
    let witness = witness::find(files).map_err(fail("read the witness"))?;
    let snapshots = snapshots::find(files, &names).map_err(fail("read snapshots"))?;
    check_version(
        files,
        witness
            .version
            .map(|version| (witness::WITNESS.to_owned(), version)),
    )?;
    check_version(files, snapshots.version.clone())?;
    let mut survey = Survey {
        segments: find_segments(files, &names)?,
        snapshots,
        witness: witness.newest,
        store_id: None,
        epoch: 0,
        damaged: Vec::new(),
        end: 0,
        short: false,
    };
    // The witness is made before the first segment: alone, it may be half made.
    let unborn = survey.segments.is_empty() && survey.snapshots.good.is_empty();
    if !unborn || witness.newest.is_some_and(|witness| witness.position > 0) {
        survey.damaged.extend(witness.damaged);
    }
    survey.damaged.append(&mut survey.snapshots.damaged);
    survey.identify();
    survey.check_partitions(files, options)?;
    Ok(survey)
}

pub(crate) fn failed<F: Files>(files: &F, action: &'static str, error: io::Error) -> OpenError {
    let directory = files.describe();
    if snapshots::is_full(&error) {
        return OpenError::NoSpace { directory };
    }
    OpenError::Io {
        directory,
        action,
        error,
    }
}

fn check_version<F: Files>(files: &F, found: Option<(String, u16)>) -> Result<(), OpenError> {
    let Some((file, found)) = found else {
        return Ok(());
    };
    let directory = files.describe();
    Err(OpenError::Version {
        directory,
        file,
        found,
        known: format::VERSION,
    })
}

fn find_segments<F: Files>(files: &F, names: &[String]) -> Result<Vec<FoundSegment>, OpenError> {
    let mut segments = Vec::new();
    for name in names {
        let Some(first) = segment_first(name) else {
            continue;
        };
        let fail = |error| failed(files, "read segments", error);
        let file = files.open(name).map_err(fail)?;
        let mut area = vec![0; HEADER_AREA_BYTES];
        let read = file.read_at(0, &mut area).map_err(fail)?;
        area.truncate(read);
        let area = match HeaderArea::decode(&area) {
            Err(Bad::Version(version)) => {
                check_version(files, Some((name.clone(), version)))?;
                None
            }
            Ok(area) if area.header.first == first => Some(area),
            Ok(_) | Err(Bad::Damaged) => None,
        };
        segments.push(FoundSegment {
            name: name.clone(),
            first,
            bytes: file.length().map_err(fail)?,
            header: area.map(|area| area.header),
            damaged_at: area.and_then(|area| area.damaged_at),
            scan: None,
        });
    }
    segments.sort_by_key(|segment| segment.first);
    Ok(segments)
}

impl Survey {
    /// Finds out whose files these are; those of another store count as damaged.
    fn identify(&mut self) {
        let of_segment = self.segments.iter().find_map(|segment| segment.header);
        let of_snapshot = self
            .snapshots
            .good
            .first()
            .map(|snapshot| snapshot.header.store_id);
        self.store_id = of_segment
            .map(|header| header.store_id)
            .or(self.witness.map(|witness| witness.store_id))
            .or(of_snapshot);
        let Some(store_id) = self.store_id else {
            return;
        };
        for segment in &mut self.segments {
            segment.header = segment.header.filter(|header| header.store_id == store_id);
        }
        if self
            .witness
            .is_some_and(|witness| witness.store_id != store_id)
        {
            self.witness = None;
            self.damaged.push(witness::damage(0));
        }
        let good = std::mem::take(&mut self.snapshots.good);
        for snapshot in good {
            if snapshot.header.store_id == store_id {
                self.snapshots.good.push(snapshot);
            } else {
                let name = snapshots::snapshot_name(snapshot.header.position);
                self.damaged.push(snapshots::damage(name));
            }
        }
        let of_segments = self.segments.iter().filter_map(|segment| segment.header);
        self.epoch = of_segments
            .map(|header| header.epoch)
            .chain(self.witness.map(|witness| witness.epoch))
            .chain(
                self.snapshots
                    .good
                    .iter()
                    .map(|snapshot| snapshot.header.epoch),
            )
            .max()
            .unwrap_or(0);
    }

    fn check_partitions<F: Files>(&self, files: &F, options: &Options) -> Result<(), OpenError> {
        let found = self.segments.iter().find_map(|segment| segment.header);
        let found = found.map_or(options.partition_count, |header| header.partition_count);
        let wanted = options.partition_count;
        // 0 is asked for by a verify, which takes any.
        if found == wanted || wanted == 0 {
            return Ok(());
        }
        Err(OpenError::Partitions {
            directory: files.describe(),
            found,
            wanted,
        })
    }

    /// Highest position proved durable by something beside the segments.
    pub(crate) fn floor(&self) -> Position {
        let witnessed = self.witness.map_or(0, |witness| witness.position);
        let snapshot = self
            .snapshots
            .good
            .first()
            .map_or(0, |newest| newest.header.position);
        witnessed.max(snapshot)
    }

    fn scan<F: Files>(&mut self, files: &F, options: &Options) -> io::Result<()> {
        let floor = self.floor();
        let covered = self
            .snapshots
            .good
            .iter()
            .map(|snapshot| snapshot.header.position)
            .min();
        let mut chain = Chain::default();
        self.end = floor;
        self.short = self.segments.is_empty() && floor > 0;
        for at in 0..self.segments.len() {
            let upper = self.segments.get(at + 1).map(|next| next.first - 1);
            let later = upper.is_some_and(|upper| upper <= covered.unwrap_or(0));
            let segment = &mut self.segments[at];
            self.damaged.extend(segment.header_damage());
            if later && !options.scan_everything && segment.header.is_some() {
                chain = Chain::default();
                continue;
            }
            let data = read_all(&files.open(&segment.name)?)?;
            let scan = segment.scan(&data, upper, floor, options);
            self.damaged.extend(segment.damage(&scan, &chain));
            self.end = scan.index.next() - 1;
            self.short = scan.short && upper.is_none();
            chain = Chain {
                end_hash: scan.end_hash,
            };
            segment.scan = Some(scan);
        }
        Ok(())
    }

    /// Records below the first segment that no snapshot covers are missing.
    pub(crate) fn find_missing_start(&mut self) {
        let newest = self
            .snapshots
            .good
            .first()
            .map_or(0, |newest| newest.header.position);
        let first = self
            .segments
            .first()
            .map_or(self.end + 1, |segment| segment.first);
        if first > newest + 1 {
            self.damaged.push(Damage {
                positions: Some(RangeInclusive::new(newest + 1, first - 1)),
                file: segment_name(newest + 1),
                offset: 0,
                reason: Reason::Missing,
            });
        }
    }
}

/// What is known of the chain at a border between two segments.
#[derive(Default)]
pub(crate) struct Chain {
    pub(crate) end_hash: Option<format::Hash>,
}

impl FoundSegment {
    pub(crate) fn scan(
        &self,
        data: &[u8],
        upper: Option<Position>,
        floor: Position,
        options: &Options,
    ) -> Scan {
        let Some(header) = self.header else {
            return self.unreadable(data, upper, floor);
        };
        let known = Known {
            header,
            upper,
            floor: floor.max(self.first - 1),
            trust_everything: options.defect(Defect::SkipChecksums),
            cut_at_damage: options.defect(Defect::CutAtDamage),
        };
        scan(data, &known)
    }

    /// A segment without a header: one hole. How far it reached is guessed from its batches when
    /// no later segment tells, so that no position is used twice.
    fn unreadable(&self, data: &[u8], upper: Option<Position>, floor: Position) -> Scan {
        let last = upper.unwrap_or_else(|| guess_last(data, self.first).max(floor).max(self.first));
        let mut index = Index::new(self.first, HEADER_AREA_BYTES as u64);
        let positions = (last >= self.first).then_some((self.first, last));
        if positions.is_some() {
            index.push_hole(last, Reason::Header);
        }
        let finding = Finding {
            positions,
            offset: 0,
            reason: Reason::Header,
        };
        Scan {
            index,
            findings: vec![finding],
            end: data.len() as u64,
            torn_bytes: 0,
            end_hash: None,
            batches: 0,
            short: true,
            floor: last,
            proved_end: data.len() as u64,
        }
    }

    pub(crate) fn header_damage(&self) -> Option<Damage> {
        let offset = self.damaged_at?;
        Some(
            Finding {
                positions: None,
                offset,
                reason: Reason::HeaderCopy,
            }
            .in_file(&self.name),
        )
    }

    pub(crate) fn damage(&self, scan: &Scan, chain: &Chain) -> Vec<Damage> {
        let mut findings = scan.findings.clone();
        let linked = self.header.is_none_or(|header| {
            header.chain_restarts || chain.end_hash.is_none_or(|hash| hash == header.start_hash)
        });
        if !linked {
            findings.push(Finding {
                positions: None,
                offset: 0,
                reason: Reason::ChainBroken,
            });
        }
        findings
            .into_iter()
            .map(|finding| finding.in_file(&self.name))
            .collect()
    }
}

/// The last position of batches laid end to end, their checksums unseen.
fn guess_last(data: &[u8], first: Position) -> Position {
    let mut last = first - 1;
    let mut at = HEADER_AREA_BYTES;
    while let Some(header) = data.get(at..).and_then(BatchHeader::guess) {
        if header.first != last + 1 {
            break;
        }
        last = header.last();
        at = at.saturating_add((header.bytes as usize).max(HEADER_BYTES));
    }
    last
}
