//! Messages for later: those of one instant come due in the order in which they were accepted (I6).
//!
//! They stand in a list for each instant, by the links with which they stand in a queue afterwards.
//! Nothing else tells that order: places are given again, and what is copied forward has another
//! position.

use super::messages::{Handle, Message, Standing};
use super::recipient::Ends;
use super::state::State;
use crate::planted::Planted;
use crate::time::Timestamp;
use alloc::collections::BTreeMap;

impl State {
    /// Holds a message that stands nowhere until it is due, behind the others of its instant.
    pub(super) fn hold_until(&mut self, handle: Handle, not_before: Timestamp) {
        let message = self.messages.change(handle);
        (message.standing, message.seq) = (Standing::Held, not_before.0 as u64);
        self.recipients[message.recipient as usize].held += 1;
        let together = self.held.entry(not_before).or_default();
        together.append(handle, &mut self.messages);
    }

    /// Takes a message from those that are held. It must be given another place.
    pub(super) fn hold_no_longer(&mut self, handle: Handle) {
        let Message { recipient, .. } = self.messages[handle];
        self.recipients[recipient as usize].held -= 1;
        let due = self.messages[handle].due();
        if let Some(together) = self.held.get_mut(&due) {
            together.take(handle, &mut self.messages);
            if together.first.is_none() {
                self.held.remove(&due);
            }
        }
    }

    /// The message that has been due for longest; of those due together, the one accepted first.
    pub(super) fn first_due(&self, now: Timestamp, planted: Planted) -> Option<&Message> {
        let first = self.held.first_key_value();
        let (_, together) = first.filter(|(due, _)| **due <= now)?;
        let handle = match planted.is(Planted::LastDueFirst) {
            true => together.last,
            false => together.first,
        };
        Some(&self.messages[handle?])
    }

    /// The messages that are held, told from the rest.
    pub(super) fn held_by_instant(&self) -> BTreeMap<Timestamp, Ends> {
        let mut by_instant: BTreeMap<_, Ends> = BTreeMap::new();
        let each = self.messages.each();
        for (handle, message) in each.filter(|(_, message)| message.standing == Standing::Held) {
            let together = by_instant.entry(message.due()).or_default();
            if message.before.is_none() {
                together.first = Some(handle);
            }
            if message.behind.is_none() {
                together.last = Some(handle);
            }
        }
        by_instant
    }
}
