//! What others wrote down: senders what they were promised, the back office what it holds.

use crate::Checker;
use crate::lives::{Flags, Key};
use crate::verdict::{Invariant, Violation};
use countersign_rules::MessageId;

/// What is known from outside.
#[derive(Debug, Default)]
pub(crate) struct Outside {
    /// Messages that senders were promised, in the order of their list.
    pub(crate) sent: Vec<MessageId>,
    pub(crate) has_sends: bool,
    pub(crate) has_effects: bool,
    /// The last promise of each lane, while lists are taken in order.
    pub(crate) lanes: crate::lives::Map<String, Vec<MessageId>>,
}

impl Checker {
    /// Announces the senders' list, so that one that is empty counts too.
    pub fn tell_of_sends(&mut self) {
        self.outside.has_sends = true;
    }

    /// Announces the back office's list.
    pub fn tell_of_effects(&mut self) {
        self.outside.has_effects = true;
    }

    /// A sender was promised this message. Those of one `lane` come in the order in which they were
    /// sent, each after the one before it was promised.
    pub fn sent(&mut self, id: MessageId, lane: Option<&str>) {
        self.outside.sent.push(id);
        self.lives
            .entry(Key { id, generation: 1 })
            .flags
            .set(Flags::SENT);
        if let Some(lane) = lane {
            let lanes = &mut self.outside.lanes;
            lanes.entry_ref(lane).or_default().push(id);
        }
    }

    /// The back office holds the effect of this life of a message, once more.
    pub fn effect(&mut self, key: Key) {
        self.figures.effects += 1;
        let life = self.lives.entry(key);
        life.effects = life.effects.saturating_add(1);
    }

    /// I6 by the senders' lists: numbers rise in the order of the sends of one lane.
    pub(crate) fn sends_in_order(&mut self) {
        for lane in std::mem::take(&mut self.outside.lanes).into_values() {
            let mut before: Option<(u64, MessageId)> = None;
            for id in lane {
                let first = self.lives.known(Key { id, generation: 1 });
                let Some(seq) = first.map(|life| life.seq).filter(|seq| *seq > 0) else {
                    continue;
                };
                let later = before.filter(|(highest, _)| *highest > seq);
                let violation = later.map(|(highest, other)| Violation {
                    invariant: Invariant::I6,
                    says: format!(
                        "{other} was sent before {id} in the same lane and got the higher number {highest} over {seq}"
                    ),
                    about: vec![other, id],
                    at: None,
                });
                self.figures.reordered += u64::from(violation.is_some());
                self.tallies.judge(Invariant::I6, violation);
                before = Some((seq, id));
            }
        }
    }

    /// I1: what was promised is known.
    pub(crate) fn sends_are_known(&mut self) {
        let sent = std::mem::take(&mut self.outside.sent);
        self.figures.promised = sent.len() as u64;
        let is_known = |id: &MessageId| {
            self.lives
                .known(Key {
                    id: *id,
                    generation: 1,
                })
                .is_some()
        };
        let known: Vec<bool> = sent.iter().map(is_known).collect();
        let (first, last) = (
            known.iter().position(|known| *known),
            known.iter().rposition(|known| *known),
        );
        for (index, id) in sent.iter().enumerate() {
            if known[index] {
                self.tallies.held(Invariant::I1);
                continue;
            }
            if let Some(why) = self.centre_doubt() {
                self.tallies.open(Invariant::I1, why);
                continue;
            }
            let lost = &mut self.figures.lost;
            match (first, last) {
                (Some(first), _) if index < first => lost.prefix += 1,
                (_, Some(last)) if index < last => lost.middle += 1,
                _ => lost.postfix += 1,
            }
            self.tallies.broken(Violation {
                invariant: Invariant::I1,
                says: format!("{id} was promised to its sender and the centre has no record of it"),
                about: vec![*id],
                at: None,
            });
        }
    }
}
