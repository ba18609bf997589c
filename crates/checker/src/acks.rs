//! The ack store's records: who said what.

use crate::lives::{Flags, Key};
use crate::verdict::{Invariant, Party};
use crate::{Checker, Coverage};
use countersign_rules::Position;
use countersign_rules::ack::{Ack, AckRecord, Stage};
use std::collections::BTreeMap;

/// What is known of the ack store.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    pub(crate) coverage: Coverage,
    pub(crate) damaged: Vec<Position>,
    /// Acknowledgements that the centre has not read.
    pub(crate) unread: BTreeMap<Position, (Key, Stage)>,
    pub(crate) last: Position,
    /// Life of the store.
    pub(crate) epoch: u64,
}

impl Checker {
    /// Takes in a record of the ack store.
    pub fn ack(&mut self, position: Position, record: &AckRecord) {
        self.acks.last = self.acks.last.max(position);
        if let AckRecord::Started { epoch, .. } = record {
            self.ack_store_started(*epoch);
        }
        if let AckRecord::Given(ack) | AckRecord::GivenNext { ack, .. } = record {
            self.given(position, ack);
        }
    }

    fn given(&mut self, position: Position, ack: &Ack) {
        self.figures.acks += 1;
        let key = Key {
            id: ack.item.message,
            generation: ack.item.generation,
        };
        if self.is_foreign(key, ack) {
            return;
        }
        let stage = ack.item.stage;
        self.acks.unread.insert(position, (key, stage));
        let life = self.lives.entry(key);
        match stage {
            Stage::Stored => life.flags.set(Flags::SAID_STORED),
            // What an attempt came to changes no state.
            Stage::Retrying | Stage::Working => {}
            stage => {
                life.word.get_or_insert(stage);
            }
        }
        if stage == Stage::Acknowledged {
            life.flags.set(Flags::SAID_DONE);
        }
    }

    /// Whether somebody else than the recipient says it. Of a message that nobody accepted yet it
    /// cannot be told, and then nothing rests on it.
    fn is_foreign(&self, key: Key, ack: &Ack) -> bool {
        let current = self.lives.current(key.id);
        let life = self.lives.known(key).or(self.lives.known(current));
        life.is_some_and(|life| {
            !self
                .centre
                .is_owner(life.recipient, &ack.tenant, &ack.agent)
        })
    }

    /// I18: an acknowledgement that counts as read has been acted on.
    pub(crate) fn acks_read(&mut self, position: Position, through: Position) {
        let rest = self.acks.unread.split_off(&through.saturating_add(1));
        for (at, (key, stage)) in std::mem::replace(&mut self.acks.unread, rest) {
            let current = self.lives.current(key.id);
            let is_current = current == key;
            if self.lives.known(key).is_none() && self.lives.known(current).is_none() {
                self.i29_orphans_are_kept(position, at, key.id);
            }
            let Some(life) = self.lives.known(key).filter(|_| is_current) else {
                continue;
            };
            let ended = life.end.is_some();
            let done = match stage {
                Stage::Retrying | Stage::Working => true,
                Stage::Stored => {
                    ended || life.flags.has(Flags::EVER_RECEIVED) || life.flags.has(Flags::STALE)
                }
                _ => ended,
            };
            let id = key.id;
            self.judge(Invariant::I18, (Party::Centre, position), done, || {
                let says = format!(
                    "{stage:?} of {id} (record {at} of the ack store) counts as read and was not acted on"
                );
                (says, vec![id])
            });
        }
    }
}
