//! The disk behind the simulated directory: what is durable, what is only in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::random::Random;
use super::settle::{Fate, Settle, apply, apply_name};
use super::{Fault, FaultCounts, FaultRates, Kind, Loss};

/// The smallest piece of a write that lands whole.
pub(super) const BLOCK_BYTES: usize = 512;
/// EIO; the kind is not stable in the standard library, the number is.
const EIO: i32 = 5;
const ENOENT: i32 = 2;
const ENOSPC: i32 = 28;

/// A change of one file.
#[derive(Debug, Clone)]
pub(super) enum Operation {
    Write { offset: u64, bytes: Vec<u8> },
    Allocate { len: u64 },
    SetLen { len: u64 },
}

#[derive(Debug, Clone)]
pub(super) enum NameChange {
    Link(String, u64),
    Unlink(String),
    Rename(String, String),
}

#[derive(Debug, Clone, Default)]
pub(super) struct Inode {
    /// What readers see.
    pub(super) current: Vec<u8>,
    /// What survives a power cut for certain.
    pub(super) durable: Vec<u8>,
    /// Changes from one to the other, in order.
    pub(super) pending: Vec<Operation>,
    handles: u64,
}

#[derive(Debug)]
pub(super) struct Disk {
    random: Random,
    inodes: BTreeMap<u64, Inode>,
    inode_next: u64,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    name_changes: Vec<NameChange>,
    locked: BTreeSet<String>,
    /// Number of the process life; handles of an earlier one are dead.
    life: u64,
    operations: u64,
    stop_at: Option<u64>,
    stopped: bool,
    planned: Vec<(Kind, u64, Fault)>,
    /// Bytes of removed files.
    graveyard: Vec<u8>,
    pub(super) rates: FaultRates,
    pub(super) capacity: Option<u64>,
    pub(super) stale_bytes: bool,
    pub(super) counts: FaultCounts,
}

impl Disk {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            inodes: BTreeMap::new(),
            inode_next: 1,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            name_changes: Vec::new(),
            locked: BTreeSet::new(),
            life: 0,
            operations: 0,
            stop_at: None,
            stopped: false,
            planned: Vec::new(),
            graveyard: Vec::new(),
            rates: FaultRates::default(),
            capacity: None,
            stale_bytes: false,
            counts: FaultCounts::default(),
        }
    }

    pub(super) fn fork(&self, seed: u64) -> Self {
        let mut inodes = self.inodes.clone();
        inodes.values_mut().for_each(|inode| inode.handles = 0);
        Self {
            random: Random::new(seed),
            inodes,
            inode_next: self.inode_next,
            names: self.names.clone(),
            durable_names: self.durable_names.clone(),
            name_changes: self.name_changes.clone(),
            locked: BTreeSet::new(),
            life: self.life + 1,
            operations: self.operations,
            stop_at: None,
            stopped: false,
            planned: Vec::new(),
            graveyard: self.graveyard.clone(),
            rates: FaultRates::default(),
            capacity: self.capacity,
            stale_bytes: self.stale_bytes,
            counts: FaultCounts::default(),
        }
    }

    pub(super) fn stop_after(&mut self, operations: u64) {
        self.stop_at = Some(self.operations + operations);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped
    }

    pub(super) fn operations(&self) -> u64 {
        self.operations
    }

    pub(super) fn fail_nth(&mut self, kind: Kind, nth: u64, fault: Fault) {
        self.planned.push((kind, nth, fault));
    }

    pub(super) fn random_bytes(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.random.fill(&mut bytes);
        bytes
    }

    pub(super) fn kill(&mut self) {
        self.counts.kills += 1;
        self.end_life();
    }

    pub(super) fn crash(&mut self, loss: Loss) {
        self.counts.crashes += 1;
        let fate = Fate::draw(&mut self.random, loss);
        self.settle_names(fate);
        for inode in self.inodes.values_mut() {
            let mut settle = Settle {
                random: &mut self.random,
                counts: &mut self.counts,
                stale: if self.stale_bytes {
                    &self.graveyard
                } else {
                    &[]
                },
            };
            settle.inode(inode, fate);
        }
        self.end_life();
    }

    fn end_life(&mut self) {
        self.life += 1;
        self.locked.clear();
        self.stop_at = None;
        self.stopped = false;
        self.planned.clear();
        self.inodes.values_mut().for_each(|inode| inode.handles = 0);
        self.bury();
    }

    fn settle_names(&mut self, fate: Fate) {
        let mut kept = true;
        for change in std::mem::take(&mut self.name_changes) {
            // Either names are journalled in order, so that all behind a lost one are lost, or
            // each has its own fate.
            let lands = fate.lands(&mut self.random);
            kept = if fate.in_order { kept && lands } else { lands };
            if kept {
                apply_name(&mut self.durable_names, &change);
            } else {
                self.counts.names_lost += 1;
            }
        }
        self.names = self.durable_names.clone();
    }

    /// Forgets files without a name that nobody has open.
    fn bury(&mut self) {
        // A power cut may bring a name back whose removal did not land.
        let linked = self.name_changes.iter().filter_map(|change| match change {
            NameChange::Link(_, number) => Some(*number),
            NameChange::Unlink(_) | NameChange::Rename(..) => None,
        });
        let named: BTreeSet<u64> = self
            .names
            .values()
            .chain(self.durable_names.values())
            .copied()
            .chain(linked)
            .collect();
        let graveyard = &mut self.graveyard;
        self.inodes.retain(|number, inode| {
            let kept = named.contains(number) || inode.handles > 0;
            if !kept && !inode.current.is_empty() {
                graveyard.clone_from(&inode.current);
            }
            kept
        });
    }

    /// Counts a changing operation; `Ok(false)` when the power goes in the middle of it.
    fn begin(&mut self, kind: Kind) -> io::Result<bool> {
        self.check_running()?;
        self.operations += 1;
        if self.stop_at.is_some_and(|stop| self.operations > stop) {
            self.stopped = true;
            return Ok(false);
        }
        self.check_planned(kind)?;
        Ok(true)
    }

    fn check_running(&self) -> io::Result<()> {
        if self.stopped { Err(stopped()) } else { Ok(()) }
    }

    fn check_planned(&mut self, kind: Kind) -> io::Result<()> {
        let mut due = None;
        for (planned, nth, fault) in &mut self.planned {
            if *planned == kind {
                *nth -= 1;
                due = if *nth == 0 { Some(*fault) } else { due };
            }
        }
        self.planned.retain(|(_, nth, _)| *nth > 0);
        match due {
            None => Ok(()),
            Some(Fault::Error) => Err(self.error()),
            Some(Fault::Full) => Err(self.full()),
        }
    }

    fn error(&mut self) -> io::Error {
        self.counts.errors += 1;
        io::Error::from_raw_os_error(EIO)
    }

    fn full(&mut self) -> io::Error {
        self.counts.full += 1;
        io::Error::from_raw_os_error(ENOSPC)
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.inodes
            .values()
            .map(|inode| inode.current.len() as u64)
            .sum()
    }

    pub(super) fn free_bytes(&self) -> io::Result<u64> {
        self.check_running()?;
        let capacity = self.capacity.unwrap_or(u64::MAX / 2);
        Ok(capacity.saturating_sub(self.used_bytes()))
    }

    fn inode(&mut self, number: u64, life: u64) -> io::Result<&mut Inode> {
        if life != self.life {
            return Err(stopped());
        }
        self.check_running()?;
        self.inodes
            .get_mut(&number)
            .ok_or_else(|| io::Error::from_raw_os_error(ENOENT))
    }

    pub(super) fn change(
        &mut self,
        number: u64,
        life: u64,
        operation: Operation,
    ) -> io::Result<()> {
        self.inode(number, life)?;
        let kind = match operation {
            Operation::Write { .. } => Kind::Write,
            Operation::Allocate { .. } => Kind::Allocate,
            Operation::SetLen { .. } => Kind::SetLen,
        };
        let result = match self.begin(kind) {
            Ok(true) => self.check_write(&operation),
            Ok(false) => {
                self.apply(number, operation);
                return Err(stopped());
            }
            Err(error) => Err(error),
        };
        let result = result.and_then(|()| self.check_room(number, &operation));
        match (result, operation) {
            (Ok(()), operation) => {
                self.apply(number, operation);
                Ok(())
            }
            (Err(error), Operation::Write { offset, mut bytes }) => {
                // A failed write leaves any part of itself behind.
                let part = self.random.below(bytes.len() as u64 + 1);
                bytes.truncate(usize::try_from(part).expect("a part of a length"));
                let room = self.room_for(number, offset, &bytes);
                bytes.truncate(room);
                self.apply(number, Operation::Write { offset, bytes });
                Err(error)
            }
            (Err(error), _) => Err(error),
        }
    }

    fn check_write(&mut self, operation: &Operation) -> io::Result<()> {
        let fails = matches!(operation, Operation::Write { .. })
            && self.random.chance(self.rates.write_errors);
        if fails { Err(self.error()) } else { Ok(()) }
    }

    fn check_room(&mut self, number: u64, operation: &Operation) -> io::Result<()> {
        let end = match operation {
            Operation::Write { offset, bytes } => offset + bytes.len() as u64,
            Operation::Allocate { len } => *len,
            Operation::SetLen { .. } => 0,
        };
        let len = self
            .inodes
            .get(&number)
            .map_or(0, |inode| inode.current.len() as u64);
        let capacity = self.capacity.unwrap_or(u64::MAX);
        if self.used_bytes().saturating_add(end.saturating_sub(len)) > capacity {
            return Err(self.full());
        }
        Ok(())
    }

    /// How many of `bytes` at `offset` fit before the disk is full.
    fn room_for(&self, number: u64, offset: u64, bytes: &[u8]) -> usize {
        let len = self
            .inodes
            .get(&number)
            .map_or(0, |inode| inode.current.len() as u64);
        let free = self
            .capacity
            .unwrap_or(u64::MAX)
            .saturating_sub(self.used_bytes());
        let limit = len.saturating_add(free).saturating_sub(offset);
        bytes
            .len()
            .min(usize::try_from(limit).unwrap_or(usize::MAX))
    }

    fn apply(&mut self, number: u64, operation: Operation) {
        if let Some(inode) = self.inodes.get_mut(&number) {
            apply(&mut inode.current, &operation);
            inode.pending.push(operation);
        }
    }

    pub(super) fn read(
        &mut self,
        number: u64,
        life: u64,
        offset: u64,
        buffer: &mut [u8],
    ) -> io::Result<usize> {
        self.inode(number, life)?;
        self.check_planned(Kind::Read)?;
        if self.random.chance(self.rates.read_errors) {
            return Err(self.error());
        }
        let current = &self.inode(number, life)?.current;
        let start = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(current.len());
        let count = buffer.len().min(current.len() - start);
        buffer[..count].copy_from_slice(&current[start..start + count]);
        Ok(count)
    }

    pub(super) fn sync(&mut self, number: u64, life: u64) -> io::Result<()> {
        self.inode(number, life)?;
        let result = match self.begin(Kind::Sync) {
            Ok(true) if self.random.chance(self.rates.sync_errors) => Err(self.error()),
            Ok(true) => Ok(()),
            Ok(false) => return Err(stopped()),
            Err(error) => Err(error),
        };
        let Disk {
            random,
            counts,
            inodes,
            ..
        } = self;
        let inode = inodes.get_mut(&number).expect("the inode was there above");
        if let Err(error) = result {
            // A part lands, the rest is forgotten: readers still see it, a second sync says yes.
            counts.syncs_failed += 1;
            let fate = Fate::draw(random, Loss::Random);
            let mut lost = FaultCounts::default();
            let current = inode.current.clone();
            Settle {
                random,
                counts: &mut lost,
                stale: &[],
            }
            .inode(inode, fate);
            inode.current = current;
            return Err(error);
        }
        for operation in inode.pending.drain(..) {
            apply(&mut inode.durable, &operation);
        }
        Ok(())
    }

    pub(super) fn len(&mut self, number: u64, life: u64) -> io::Result<u64> {
        Ok(self.inode(number, life)?.current.len() as u64)
    }

    pub(super) fn release(&mut self, number: u64, life: u64) {
        if life != self.life {
            return;
        }
        if let Some(inode) = self.inodes.get_mut(&number) {
            inode.handles = inode.handles.saturating_sub(1);
        }
        self.bury();
    }

    pub(super) fn open(&mut self, name: &str) -> io::Result<(u64, u64)> {
        self.check_running()?;
        let number = *self
            .names
            .get(name)
            .ok_or_else(|| io::Error::from_raw_os_error(ENOENT))?;
        let inode = self.inodes.get_mut(&number).expect("a named inode exists");
        inode.handles += 1;
        Ok((number, self.life))
    }

    pub(super) fn create(&mut self, name: &str) -> io::Result<(u64, u64)> {
        if self.names.contains_key(name) {
            let (number, life) = self.open(name)?;
            self.change(number, life, Operation::SetLen { len: 0 })?;
            return Ok((number, life));
        }
        let running = self.begin(Kind::Name)?;
        let number = self.inode_next;
        self.inode_next += 1;
        self.inodes.insert(
            number,
            Inode {
                handles: 1,
                ..Inode::default()
            },
        );
        self.change_name(NameChange::Link(name.to_owned(), number));
        if running {
            Ok((number, self.life))
        } else {
            Err(stopped())
        }
    }

    pub(super) fn list(&self) -> io::Result<Vec<String>> {
        self.check_running()?;
        Ok(self.names.keys().cloned().collect())
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let running = self.begin(Kind::Name)?;
        if !self.names.contains_key(from) {
            return Err(io::Error::from_raw_os_error(ENOENT));
        }
        self.change_name(NameChange::Rename(from.to_owned(), to.to_owned()));
        if running { Ok(()) } else { Err(stopped()) }
    }

    pub(super) fn remove(&mut self, name: &str) -> io::Result<()> {
        let running = self.begin(Kind::Name)?;
        if !self.names.contains_key(name) {
            return Err(io::Error::from_raw_os_error(ENOENT));
        }
        self.change_name(NameChange::Unlink(name.to_owned()));
        if running { Ok(()) } else { Err(stopped()) }
    }

    fn change_name(&mut self, change: NameChange) {
        apply_name(&mut self.names, &change);
        self.name_changes.push(change);
        self.bury();
    }

    pub(super) fn sync_dir(&mut self) -> io::Result<()> {
        match self.begin(Kind::SyncDir) {
            Ok(true) if self.random.chance(self.rates.sync_errors) => {
                self.counts.syncs_failed += 1;
                return Err(self.error());
            }
            Ok(true) => {}
            Ok(false) => return Err(stopped()),
            Err(error) => {
                self.counts.syncs_failed += 1;
                return Err(error);
            }
        }
        for change in std::mem::take(&mut self.name_changes) {
            apply_name(&mut self.durable_names, &change);
        }
        self.bury();
        Ok(())
    }

    pub(super) fn lock(&mut self, name: &str) -> io::Result<Option<u64>> {
        self.check_running()?;
        if !self.names.contains_key(name) {
            let (number, life) = self.create(name)?;
            self.release(number, life);
        }
        Ok(self.locked.insert(name.to_owned()).then_some(self.life))
    }

    pub(super) fn unlock(&mut self, name: &str, life: u64) {
        if life == self.life {
            self.locked.remove(name);
        }
    }

    pub(super) fn edit(&mut self, name: &str, mut change: impl FnMut(&mut Vec<u8>)) {
        let number = self.names[name];
        let inode = self.inodes.get_mut(&number).expect("a named inode exists");
        change(&mut inode.current);
        if inode.pending.is_empty() {
            inode.durable.clone_from(&inode.current);
        } else {
            change(&mut inode.durable);
        }
    }

    pub(super) fn bytes(&self, name: &str) -> Vec<u8> {
        self.inodes[&self.names[name]].current.clone()
    }

    pub(super) fn lengths(&self) -> Vec<(String, u64)> {
        let length = |number: &u64| self.inodes[number].current.len() as u64;
        self.names
            .iter()
            .map(|(name, number)| (name.clone(), length(number)))
            .collect()
    }
}

fn stopped() -> io::Error {
    io::Error::other("the simulated machine has stopped")
}
