//! The centre's archive on a disk that forgets: what a process left unwritten is gone with it, and
//! now and then batches are gone that were written.

use countersign_journal::sim::Random;
use countersign_rules::delivery::{Archive, ArchivePage, BatchName, Remembered, Unreadable};
use countersign_rules::message::MessageId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// An archive that outlives its centre.
#[derive(Clone, Debug)]
pub(crate) struct SimArchive(Arc<Mutex<Kept>>);

#[derive(Clone, Debug)]
struct Kept {
    batches: BTreeMap<u64, Batch>,
    random: Random,
    /// Batches lost in all.
    lost: u64,
}

#[derive(Clone, Debug)]
struct Batch {
    name: BatchName,
    messages: Vec<Remembered>,
    /// Its record is durable.
    released: bool,
}

impl SimArchive {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Kept {
            batches: BTreeMap::new(),
            random: Random::new(seed),
            lost: 0,
        })))
    }

    /// The archive as the next process of the centre finds it.
    pub(crate) fn found(&self) -> Self {
        let mut kept = self.kept();
        let Kept {
            batches,
            random,
            lost,
        } = &mut *kept;
        batches.retain(|_, batch| batch.released);
        // Mostly nothing is lost, at times some of it, at times all.
        let per_million = match random.below(10) {
            0 => 1_000_000,
            1..4 => 200_000,
            _ => 0,
        };
        let before = batches.len();
        batches.retain(|_, _| !random.chance(per_million));
        *lost += (before - batches.len()) as u64;
        drop(kept);
        self.clone()
    }

    /// Another archive that holds the same.
    pub(crate) fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.kept().clone())))
    }

    /// Batches lost so far.
    pub(crate) fn lost(&self) -> u64 {
        self.kept().lost
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().expect("one thread uses it")
    }

    fn newest(&self, is: impl Fn(&Remembered) -> bool) -> Option<(u64, Remembered)> {
        let kept = self.kept();
        kept.batches.iter().rev().find_map(|(number, batch)| {
            let found = batch.messages.iter().find(|message| is(message))?;
            Some((*number, *found))
        })
    }
}

impl Archive for SimArchive {
    fn has_room(&self) -> bool {
        self.kept().random.below(4) > 0
    }

    fn put(&mut self, name: BatchName, messages: &[Remembered]) {
        let batch = Batch {
            name,
            messages: messages.to_vec(),
            released: false,
        };
        self.kept().batches.insert(name.number, batch);
    }

    fn release(&mut self, through: u64) {
        for batch in self.kept().batches.range_mut(..=through) {
            batch.1.released = true;
        }
    }

    fn forget(&mut self, below: u64) {
        self.kept().batches.retain(|number, _| *number >= below);
    }

    fn find(&self, id: MessageId) -> Result<Option<(u64, Remembered)>, Unreadable> {
        Ok(self.newest(|message| message.id == id))
    }

    fn find_key(&self, key: &[u8; 16]) -> Result<Option<(u64, Remembered)>, Unreadable> {
        Ok(self.newest(|message| message.key == *key))
    }

    fn page(
        &self,
        after: Option<MessageId>,
        failures_alone: bool,
        count: usize,
    ) -> Result<ArchivePage, Unreadable> {
        let kept = self.kept();
        let mut newest = BTreeMap::new();
        for (number, batch) in &kept.batches {
            let messages = batch.messages.iter();
            newest.extend(messages.map(|message| (message.id, (*number, *message))));
        }
        let behind = newest.into_iter().filter(|(id, _)| Some(*id) > after);
        let fit = behind.filter(|(_, (_, message))| !failures_alone || message.is_failure());
        let rows: Vec<_> = fit.map(|(_, row)| row).take(count).collect();
        let last = rows.last().map(|(_, last)| last.id);
        let through = last.filter(|_| rows.len() == count);
        Ok(ArchivePage { rows, through })
    }

    fn keep_only(&mut self, wanted: &[BatchName]) -> Result<Vec<u64>, Unreadable> {
        let batches = &mut self.kept().batches;
        if !batches.values().all(|batch| wanted.contains(&batch.name)) {
            batches.clear();
        }
        let lacks = |name: &&BatchName| !batches.contains_key(&name.number);
        Ok(wanted
            .iter()
            .filter(lacks)
            .map(|name| name.number)
            .collect())
    }
}
