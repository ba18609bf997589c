//! I29, as far as records tell: a store that goes on from an older copy of itself does so in another
//! life, and what is acknowledged and not known there is kept.
//!
//! Left out on purpose: upgrades with mixed versions, and what a restore lost: no record of the
//! restored store tells of that, so whatever depends on it is left open.

use crate::verdict::{Invariant, Party};
use crate::{Checker, Coverage};
use countersign_rules::delivery::RecipientNo;
use countersign_rules::{MessageId, Position};

impl Checker {
    /// The centre began to run in this life of its store.
    pub(crate) fn i29_another_life_is_a_higher_one(&mut self, position: Position, epoch: u64) {
        let before = std::mem::replace(&mut self.centre.epoch, epoch);
        if before == 0 || before == epoch {
            return;
        }
        self.judge(
            Invariant::I29,
            (Party::Centre, position),
            epoch > before,
            || {
                let says = format!("the centre goes on in life {epoch} behind life {before}");
                (says, Vec::new())
            },
        );
        self.centre.restored = Some(format!(
            "the centre was restored, or lost its end, before record {position}: what was accepted there \
             meanwhile is told by no record"
        ));
        self.doubt_receipts(position);
    }

    /// An agent knows numbers that the centre never gave in this life of its store.
    pub(crate) fn i29_nobody_knows_more(&mut self, position: Position, recipient: RecipientNo) {
        let name = self.centre.name_of(recipient);
        if let Some(why) = self.centre.coverage.doubt("the centre") {
            return self.tallies.open(Invariant::I29, why);
        }
        // Numbers of damaged records are lost without a restore.
        if !self.centre.reckoned.is_empty() || !self.centre.damaged.is_empty() {
            let why = String::from("an agent knows numbers whose records may be damaged ones");
            return self.tallies.open(Invariant::I29, why);
        }
        self.judge(Invariant::I29, (Party::Centre, position), false, || {
            let says = format!(
                "{name} knows numbers that the centre did not give in this life of its store: the store \
                 was replaced by an older copy that did not begin another life"
            );
            (says, Vec::new())
        });
    }

    /// An acknowledgement of an unknown message counts as read: it is kept and listed.
    pub(crate) fn i29_orphans_are_kept(&mut self, position: Position, at: Position, id: MessageId) {
        if self.centre.coverage != Coverage::Whole {
            return;
        }
        let kept = self.centre.orphans.contains(&id);
        self.judge(Invariant::I29, (Party::Centre, position), kept, || {
            let says = format!(
                "an acknowledgement of {id}, which is not known, counts as read (record {at} of the ack \
                 store) and was not kept"
            );
            (says, vec![id])
        });
    }

    /// The ack store began to run in this life.
    pub(crate) fn ack_store_started(&mut self, epoch: u64) {
        let before = std::mem::replace(&mut self.acks.epoch, epoch);
        if before != 0 && before != epoch {
            self.acks.unread.clear();
            let why = "the ack store was restored, or lost its end: some of its records are lost";
            self.leave_out(Party::Acks, why);
        }
    }

    /// Why what is not known at the centre may have been known once.
    pub(crate) fn centre_doubt(&self) -> Option<String> {
        let doubt = self.centre.coverage.doubt("the centre");
        doubt.or_else(|| self.centre.restored.clone())
    }
}
