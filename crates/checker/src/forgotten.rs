//! What the centre forgets, in the order in which it does: first what went to the archive, batch by
//! batch, then what stayed in memory.

use crate::Checker;
use crate::lives::Key;
use countersign_rules::MessageId;
use countersign_rules::delivery::Remembered;
use std::collections::BTreeSet;

impl Checker {
    /// The retention of so many of those in memory is over, longest ended first.
    pub(crate) fn aged_out(&mut self, count: u32) {
        let mut left = count;
        while left > 0 {
            let Some(key) = self.lives.ended.pop_front() else {
                break;
            };
            if self.has_ended(key) {
                self.forget(key);
                left -= 1;
            }
        }
    }

    /// These went to the archive: they age by its batches from here on.
    pub(crate) fn archived(&mut self, batch: u64, messages: &[Remembered]) {
        let mut there: BTreeSet<MessageId> = messages.iter().map(|message| message.id).collect();
        let mut stay = Vec::new();
        while !there.is_empty() {
            let Some(key) = self.lives.ended.pop_front() else {
                break;
            };
            if self.has_ended(key) && !there.remove(&key.id) {
                stay.push(key);
            }
        }
        for key in stay.into_iter().rev() {
            self.lives.ended.push_front(key);
        }
        let ids = messages.iter().map(|message| message.id).collect();
        self.centre.archived.push_back((batch, ids));
    }

    /// One of them is in memory again, behind the others.
    pub(crate) fn recalled(&mut self, batch: u64, id: MessageId) {
        let batches = &mut self.centre.archived;
        if let Some((_, ids)) = batches.iter_mut().find(|(number, _)| *number == batch) {
            ids.retain(|other| *other != id);
        }
        let key = self.lives.current(id);
        self.lives.ended.push_back(key);
    }

    /// The retention of these batches is over.
    pub(crate) fn archive_aged(&mut self, below: u64) {
        let batches = &mut self.centre.archived;
        let over = batches.iter().take_while(|(number, _)| *number < below);
        let over = over.count();
        let over: Vec<_> = batches.drain(..over).collect();
        for id in over.into_iter().flat_map(|(_, ids)| ids) {
            let key = self.lives.current(id);
            if self.has_ended(key) {
                self.forget(key);
            }
        }
    }

    fn has_ended(&self, key: Key) -> bool {
        let ended = self.lives.get(key).is_some_and(|life| life.end.is_some());
        ended && self.lives.current(key.id) == key
    }

    fn forget(&mut self, key: Key) {
        self.figures.forgotten += 1;
        self.close(key);
        self.operations.forget(key.id);
        self.lives.forget(key);
    }
}
