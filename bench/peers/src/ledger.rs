//! Which messages were published and which were acknowledged, message by message.
//!
//! Promise: a run whose set of acknowledged messages is not exactly the set of published ones fails, so that
//! no figure comes from dropped or doubled work. A message is known by the time it was due, which it carries.
use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

#[derive(Default)]
pub struct Ledger {
    acknowledged: Mutex<HashMap<u64, u32>>,
    /// Where the peer names messages itself: the name it answered the publisher with, and the one it pushed.
    answered: Mutex<HashMap<u64, u128>>,
    pushed: Mutex<HashMap<u64, u128>>,
}

#[derive(Debug, PartialEq, Eq, Default)]
pub struct Verdict {
    pub lost: usize,
    pub doubled: usize,
    /// Acknowledged and never published.
    pub foreign: usize,
    /// Pushed under another name than the publisher was told.
    pub renamed: usize,
}

impl Verdict {
    pub fn exact(&self) -> bool {
        *self == Verdict::default()
    }
}

impl Ledger {
    pub fn acknowledged(&self, due: u64) {
        *self.acknowledged.lock().unwrap().entry(due).or_default() += 1;
    }

    pub fn answered(&self, due: u64, id: u128) {
        self.answered.lock().unwrap().insert(due, id);
    }

    pub fn pushed(&self, due: u64, id: u128) {
        self.pushed.lock().unwrap().insert(due, id);
    }

    pub fn judge(&self, published: &[u64]) -> Verdict {
        let acknowledged = self.acknowledged.lock().unwrap();
        let (answered, pushed) = (self.answered.lock().unwrap(), self.pushed.lock().unwrap());
        let known: HashSet<&u64> = published.iter().collect();
        Verdict {
            lost: published.iter().filter(|due| !acknowledged.contains_key(due)).count(),
            doubled: acknowledged.values().filter(|times| **times > 1).count(),
            foreign: acknowledged.keys().filter(|due| !known.contains(due)).count(),
            renamed: pushed.iter().filter(|(due, id)| answered.get(due) != Some(id)).count(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(acknowledged: &[u64]) -> Ledger {
        let ledger = Ledger::default();
        acknowledged.iter().for_each(|due| ledger.acknowledged(*due));
        ledger
    }

    #[test]
    fn exactly_the_published_messages_pass_in_any_order() {
        assert!(ledger(&[3, 1, 2]).judge(&[1, 2, 3]).exact());
    }

    #[test]
    fn a_lost_a_doubled_and_a_foreign_message_are_each_told() {
        let verdict = ledger(&[1, 1, 9]).judge(&[1, 2]);
        assert_eq!(
            verdict,
            Verdict {
                lost: 1,
                doubled: 1,
                foreign: 1,
                renamed: 0
            }
        );
    }

    #[test]
    fn a_message_pushed_under_another_name_is_told() {
        let ledger = ledger(&[1]);
        ledger.pushed(1, 7);
        ledger.answered(1, 8);
        assert_eq!(ledger.judge(&[1]).renamed, 1);
    }
}
