//! What is known of each message: about 100 bytes for one life, whoever told of it first.

use countersign_rules::ack::Stage;
use countersign_rules::delivery::End;
use countersign_rules::{MessageId, Position, Timestamp};
use hashbrown::HashMap;
use std::collections::{BTreeMap, VecDeque};

pub(crate) type Map<K, V> = HashMap<K, V, foldhash::fast::FixedState>;

/// One life of a message: another generation is another life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The message.
    pub id: MessageId,
    /// Which life of it, from 1.
    pub generation: u32,
}

/// What is known of one life.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Life {
    pub(crate) flags: Flags,
    pub(crate) end: Option<End>,
    /// The owner's first word about its end in the ack journal.
    pub(crate) word: Option<Stage>,
    /// The site that has it, plus one.
    pub(crate) site: u16,
    /// Rows in the back office.
    pub(crate) effects: u8,
    pub(crate) recipient: u32,
    pub(crate) pushes: u32,
    pub(crate) bytes: u32,
    pub(crate) seq: u64,
    /// The first eight bytes of its body's hash.
    pub(crate) body: u64,
    /// The record about it before this one, in the centre's journal.
    pub(crate) last: Position,
    pub(crate) last_push: Position,
    pub(crate) last_at: Timestamp,
}

/// Facts that are so or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags(u32);

impl Flags {
    /// The centre accepted it.
    pub(crate) const KNOWN: u32 = 1;
    /// Its first record was told.
    pub(crate) const WHOLE: u32 = 1 << 1;
    /// Not due yet.
    pub(crate) const HELD: u32 = 1 << 2;
    /// With its site, as the centre knows now.
    pub(crate) const RECEIVED: u32 = 1 << 3;
    /// The centre wrote a receipt down, whatever became of it.
    pub(crate) const EVER_RECEIVED: u32 = 1 << 4;
    /// No receipt came in time since the last push.
    pub(crate) const OVERDUE: u32 = 1 << 5;
    /// A receipt was kept as stale.
    pub(crate) const STALE: u32 = 1 << 6;
    /// Its end was said by its site.
    pub(crate) const BY_SITE: u32 = 1 << 7;
    /// The owner said in the ack journal that it is stored.
    pub(crate) const SAID_STORED: u32 = 1 << 8;
    /// Some word of the owner said that it is processed.
    pub(crate) const SAID_DONE: u32 = 1 << 9;
    /// It came into the site's inbox.
    pub(crate) const INBOXED: u32 = 1 << 10;
    /// The site began to work on it.
    pub(crate) const STARTED: u32 = 1 << 11;
    /// The site wrote down that the back office has it.
    pub(crate) const DONE: u32 = 1 << 12;
    /// The site wrote down another end.
    pub(crate) const FAILED: u32 = 1 << 13;
    /// An attempt may have repeated the effect of another.
    pub(crate) const REPEATED: u32 = 1 << 14;
    /// A sender was promised it.
    pub(crate) const SENT: u32 = 1 << 15;
    /// The body at the site is known.
    pub(crate) const BODY: u32 = 1 << 16;
    /// What crosses journals was judged.
    pub(crate) const CLOSED: u32 = 1 << 17;

    /// Its failure parks its lane.
    pub(crate) const PARKS: u32 = 1 << 18;

    pub(crate) fn has(self, flag: u32) -> bool {
        self.0 & flag != 0
    }

    pub(crate) fn set(&mut self, flag: u32) {
        self.0 |= flag;
    }

    pub(crate) fn clear(&mut self, flag: u32) {
        self.0 &= !flag;
    }
}

/// Every life, and which one counts.
#[derive(Debug, Default)]
pub(crate) struct Lives {
    pub(crate) lives: Map<Key, Life>,
    /// Current generations that are not the first.
    generations: Map<MessageId, u32>,
    /// Lives that ended, longest ago first; those that were revived stay in it.
    pub(crate) ended: VecDeque<Key>,
    /// When those are due that were sent for later, and where that stands.
    not_before: Map<Key, Held>,
    /// The same, in the order in which they have to come due.
    held: BTreeMap<Held, MessageId>,
    pub(crate) expires_at: Map<Key, Timestamp>,
    /// Which message an idempotency key stands for, by the key's first eight bytes.
    pub(crate) keys: Map<u64, MessageId>,
    pub(crate) keys_of: Map<MessageId, u64>,
}

/// A message that is not due: of one recipient the first by instant, then by acceptance, is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Held {
    pub(crate) recipient: u32,
    pub(crate) instant: Timestamp,
    pub(crate) accepted: Position,
}

impl Lives {
    pub(crate) fn hold(&mut self, key: Key, held: Held) {
        self.not_before.insert(key, held);
        self.held.insert(held, key.id);
    }

    /// When a message is due that is not due yet.
    pub(crate) fn not_before(&self, key: Key) -> Option<Timestamp> {
        self.not_before.get(&key).map(|held| held.instant)
    }

    /// It is not held any more.
    pub(crate) fn release(&mut self, key: Key) -> Option<Held> {
        let held = self.not_before.remove(&key)?;
        self.held.remove(&held);
        Some(held)
    }

    /// One that has to come due before this.
    pub(crate) fn due_before(&self, held: Held) -> Option<MessageId> {
        let before = self.held.range(..held).next_back();
        let of_recipient = before.filter(|(before, _)| before.recipient == held.recipient);
        of_recipient.map(|(_, id)| *id)
    }

    /// The life of a message that counts now.
    pub(crate) fn current(&self, id: MessageId) -> Key {
        let generation = self.generations.get(&id).copied().unwrap_or(1);
        Key { id, generation }
    }

    pub(crate) fn begin_generation(&mut self, id: MessageId, generation: u32) {
        self.generations.insert(id, generation);
    }

    pub(crate) fn get(&self, key: Key) -> Option<&Life> {
        self.lives.get(&key)
    }

    /// The life as the centre knows it.
    pub(crate) fn known(&self, key: Key) -> Option<&Life> {
        self.get(key).filter(|life| life.flags.has(Flags::KNOWN))
    }

    pub(crate) fn entry(&mut self, key: Key) -> &mut Life {
        self.lives.entry(key).or_default()
    }

    /// Forgets all about a message.
    pub(crate) fn forget(&mut self, key: Key) {
        self.lives.remove(&key);
        self.generations.remove(&key.id);
        self.release(key);
        self.expires_at.remove(&key);
        if let Some(hash) = self.keys_of.remove(&key.id) {
            self.keys.remove(&hash);
        }
    }
}

/// The first eight bytes of a digest.
pub(crate) fn short(digest: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let length = digest.len().min(8);
    bytes[..length].copy_from_slice(&digest[..length]);
    u64::from_le_bytes(bytes)
}
