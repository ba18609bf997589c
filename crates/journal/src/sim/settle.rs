//! What a power cut leaves of the changes that were not synced.

use std::collections::BTreeMap;

use super::disk::{BLOCK_BYTES, Inode, NameChange, Operation};
use super::random::Random;
use super::{FaultCounts, Loss};

pub(super) fn apply(bytes: &mut Vec<u8>, operation: &Operation) {
    match operation {
        Operation::Write {
            offset,
            bytes: written,
        } => write(bytes, *offset, written, &[]),
        Operation::Allocate { len } if bytes.len() as u64 >= *len => {}
        Operation::Allocate { len } | Operation::SetLen { len } => resize(bytes, *len),
    }
}

fn resize(bytes: &mut Vec<u8>, len: u64) {
    bytes.resize(
        usize::try_from(len).expect("a simulated file fits the memory"),
        0,
    );
}

/// Writes at `offset`; a gap before it is filled from `stale`, else with zeros.
fn write(bytes: &mut Vec<u8>, offset: u64, written: &[u8], stale: &[u8]) {
    let start = usize::try_from(offset).expect("a simulated file fits the memory");
    while bytes.len() < start {
        bytes.push(stale.get(bytes.len()).copied().unwrap_or(0));
    }
    let overlap = written.len().min(bytes.len() - start);
    bytes[start..start + overlap].copy_from_slice(&written[..overlap]);
    bytes.extend_from_slice(&written[overlap..]);
}

pub(super) fn apply_name(names: &mut BTreeMap<String, u64>, change: &NameChange) {
    match change {
        NameChange::Link(name, number) => {
            names.insert(name.clone(), *number);
        }
        NameChange::Unlink(name) => {
            names.remove(name);
        }
        NameChange::Rename(from, to) => {
            if let Some(number) = names.remove(from) {
                names.insert(to.clone(), number);
            }
        }
    }
}

/// How kind one crash is to what was not flushed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fate {
    land_per_million: u32,
    pub(super) in_order: bool,
}

impl Fate {
    pub(super) fn draw(random: &mut Random, loss: Loss) -> Self {
        let land_per_million = match loss {
            Loss::Everything => 0,
            Loss::Nothing => 1_000_000,
            Loss::Random => [0, 50_000, 500_000, 950_000, 1_000_000][random.below(5) as usize],
        };
        Self {
            land_per_million,
            in_order: random.below(2) == 0,
        }
    }

    pub(super) fn lands(self, random: &mut Random) -> bool {
        random.chance(self.land_per_million)
    }
}

/// Decides, block by block, what of the unflushed writes is on the disk after all.
pub(super) struct Settle<'a> {
    pub(super) random: &'a mut Random,
    pub(super) counts: &'a mut FaultCounts,
    pub(super) stale: &'a [u8],
}

impl Settle<'_> {
    pub(super) fn inode(&mut self, inode: &mut Inode, fate: Fate) {
        let mut some_lost = false;
        for operation in std::mem::take(&mut inode.pending) {
            match operation {
                Operation::Write { offset, bytes } => {
                    let landed = self.write(&mut inode.durable, offset, &bytes, fate);
                    self.counts.writes_reordered += u64::from(landed && some_lost);
                    some_lost |= !landed;
                }
                other => {
                    if fate.lands(self.random) {
                        apply(&mut inode.durable, &other);
                    }
                }
            }
        }
        inode.current.clone_from(&inode.durable);
    }

    /// Lands some blocks of a write; false when none did.
    fn write(&mut self, durable: &mut Vec<u8>, offset: u64, bytes: &[u8], fate: Fate) -> bool {
        let (mut start, mut landed, mut lost) = (0, false, false);
        while start < bytes.len() {
            let at = offset + start as u64;
            let into_block = usize::try_from(at % BLOCK_BYTES as u64).expect("below a block");
            let end = (start + BLOCK_BYTES - into_block).min(bytes.len());
            let torn_off = fate.in_order && lost;
            if !torn_off && fate.lands(self.random) {
                write(durable, at, &bytes[start..end], self.stale);
                landed = true;
            } else {
                lost = true;
            }
            start = end;
        }
        self.counts.writes_torn += u64::from(landed && lost);
        self.counts.writes_lost += u64::from(!landed && lost);
        landed
    }
}
