//! Every message the centre knows, unfinished or remembered, in as little memory as can be.
//!
//! Promise: at most 128 bytes a message, its id and its idempotency key included; found by either
//! in constant time; an image costs next to nothing to take, because it shares what has not changed
//! since. So it can be written beside the loop, whatever the backlog.
//!
//! Left out on purpose: what the messages of one recipient have to do with each other.

#[cfg(test)]
mod tests;

use super::record::{Cause, End, FanNo, RecipientNo, Seq};
use crate::hash;
use crate::lane::LaneMark;
use crate::machine::Position;
use crate::message::MessageId;
use crate::record::RecordError;
use crate::time::Timestamp;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::num::NonZeroU32;
use core::ops::{Index, Range};
use hashbrown::HashTable;
use serde::{Deserialize, Serialize};

/// Where a message is kept: the same in every life of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Handle(NonZeroU32);

impl Handle {
    fn new(place: usize) -> Self {
        let number = u32::try_from(place + 1).ok().and_then(NonZeroU32::new);
        Self(number.expect("the limit of unfinished messages is far below 2^32"))
    }

    /// Its block, and its place therein.
    fn split(self) -> (usize, usize) {
        let place = self.0.get() as usize - 1;
        (place / BLOCK, place % BLOCK)
    }
}

/// What is known of a message; the rest stands in its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Message {
    pub(super) id: MessageId,
    /// Digest of tenant and idempotency key; all zero without one.
    pub(super) key: [u8; 16],
    /// The beginning of the digest of everything the sender asked for.
    pub(super) fingerprint: Fingerprint,
    /// Where its accepted record stands, or the last copy of it.
    pub(super) accepted: Position,
    /// Its last record; each names the one before.
    pub(super) last: Position,
    /// While it is unfinished, the end of its life; then when it ended, by the retention clock.
    pub(super) instant: Timestamp,
    /// Its number. While it is held it has none, and this is the instant when it is due; while it is
    /// held in a parked lane, its place there.
    pub(super) seq: Seq,
    pub(super) recipient: RecipientNo,
    pub(super) bytes: u32,
    pub(super) pushes: u32,
    /// Its lane, and whether its failure parks it.
    pub(super) lane: LaneMark,
    pub(super) generation: u16,
    /// Its neighbours among its recipient's unfinished ones, among those that are due together, or
    /// among all finished ones.
    pub(super) before: Option<Handle>,
    pub(super) behind: Option<Handle>,
    pub(super) standing: Standing,
}

/// The one place where a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Standing {
    /// Not due yet.
    Held,
    /// In a lane that is parked, or that was and has not caught up. Never pushed in this life.
    InParkedLane,
    /// Never pushed in this life.
    Fresh,
    /// Has to be pushed again.
    Again(Cause),
    /// Pushed, no receipt yet.
    InFlight,
    /// On the agent's disk.
    Received,
    Ended(End),
    /// Ended, and put away: nobody has to see to it.
    Discarded(End),
}

/// Enough of a digest to tell a retry from a mistake. Nobody gains by forging it: the key, which is
/// the sender's own, is compared whole.
///
/// A message without a key that belongs to a send to many has the number of that here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fingerprint([u8; 4]);

impl Fingerprint {
    pub(super) fn of(digest: [u8; 16]) -> Self {
        let [a, b, c, d, ..] = digest;
        Self([a, b, c, d])
    }

    pub(super) fn bytes(self) -> [u8; 4] {
        self.0
    }

    pub(super) fn from_bytes(bytes: [u8; 4]) -> Self {
        Self(bytes)
    }
}

impl Message {
    /// The end of its life, while it is unfinished.
    pub(super) fn expires_at(&self) -> Option<Timestamp> {
        (self.instant != FOR_EVER).then_some(self.instant)
    }

    pub(super) fn end(&self) -> Option<End> {
        match self.standing {
            Standing::Ended(end) | Standing::Discarded(end) => Some(end),
            _ => None,
        }
    }

    /// Whether it stands in no queue, and so has no number.
    pub(super) fn is_held(&self) -> bool {
        matches!(self.standing, Standing::Held | Standing::InParkedLane)
    }

    /// Its number; zero while it has none.
    pub(super) fn number(&self) -> Seq {
        if self.is_held() { 0 } else { self.seq }
    }

    /// When it is due, while it is held.
    pub(super) fn due(&self) -> Timestamp {
        Timestamp(self.seq as i64)
    }

    /// The send to many that it belongs to.
    pub(super) fn fan_out(&self) -> Option<FanNo> {
        let number = FanNo::from_le_bytes(self.fingerprint.bytes());
        (self.key == NO_KEY && number != 0).then_some(number)
    }

    pub(super) fn is_discarded(&self) -> bool {
        matches!(self.standing, Standing::Discarded(_))
    }

    /// Whether it has ended, and nobody has it.
    pub(super) fn is_failure(&self) -> bool {
        self.end().is_some_and(|end| end != End::Processed)
    }

    pub(super) fn is_received(&self) -> bool {
        self.standing == Standing::Received
    }

    fn is_unfinished(&self) -> bool {
        self.end().is_none()
    }
}

/// No end of life.
pub(super) const FOR_EVER: Timestamp = Timestamp(i64::MAX);

/// Messages to a block. What is copied when a block changes that an image still shares: 52 KiB.
const BLOCK: usize = 512;

/// Tables to an index. One table of all would stop the loop for a second whenever it grows.
const TABLES: usize = 256;

#[derive(Clone, Debug, Default)]
pub(super) struct Messages {
    blocks: Vec<Block>,
    /// Blocks with a free place; the lowest is filled first, so that the others run empty.
    with_room: BTreeSet<u32>,
    by_id: Lookup,
    by_key: Lookup,
    /// How many accepted records each stretch of the journal holds that are still needed.
    unfinished: Stretches,
    finished: Stretches,
}

/// Two are equal when they hold the same messages in the same places: the rest follows from that.
impl PartialEq for Messages {
    fn eq(&self, other: &Self) -> bool {
        self.blocks == other.blocks
    }
}

impl Eq for Messages {}

#[derive(Clone, Debug, Default)]
struct Block {
    /// A bit for each place that is taken.
    taken: [u64; BLOCK / 64],
    /// Empty when no place is.
    places: Option<Arc<[Message]>>,
}

impl PartialEq for Block {
    fn eq(&self, other: &Self) -> bool {
        self.taken == other.taken && self.each().eq(other.each())
    }
}

impl Block {
    fn first_free(&self) -> Option<usize> {
        let word = self.taken.iter().position(|word| *word != u64::MAX)?;
        Some(word * 64 + self.taken[word].trailing_ones() as usize)
    }

    fn has(&self, place: usize) -> bool {
        self.taken[place / 64] & (1 << (place % 64)) != 0
    }

    fn put(&mut self, place: usize, message: Message) {
        self.taken[place / 64] |= 1 << (place % 64);
        let places = self
            .places
            .get_or_insert_with(|| vec![message; BLOCK].into());
        Arc::make_mut(places)[place] = message;
    }

    fn clear(&mut self, place: usize) {
        self.taken[place / 64] &= !(1 << (place % 64));
        if self.taken == [0; BLOCK / 64] {
            self.places = None;
        }
    }

    fn each(&self) -> impl Iterator<Item = (usize, &Message)> {
        let places = self.places.iter().flat_map(|places| places.iter());
        places.enumerate().filter(|(place, _)| self.has(*place))
    }
}

/// Handles by a hash of what they are looked up by.
#[derive(Clone, Default)]
struct Lookup(Vec<HashTable<Handle>>);

impl Lookup {
    fn table(hash: u64) -> usize {
        // Tables use the lowest and the highest bits.
        (hash >> 32) as usize % TABLES
    }

    fn find(&self, hash: u64, is: impl FnMut(&Handle) -> bool) -> Option<Handle> {
        self.0.get(Self::table(hash))?.find(hash, is).copied()
    }

    fn insert(&mut self, hash: u64, handle: Handle, hash_of: impl Fn(&Handle) -> u64) {
        if self.0.is_empty() {
            self.0 = vec![HashTable::new(); TABLES];
        }
        self.0[Self::table(hash)].insert_unique(hash, handle, hash_of);
    }

    fn remove(&mut self, hash: u64, handle: Handle) {
        if let Some(table) = self.0.get_mut(Self::table(hash))
            && let Ok(found) = table.find_entry(hash, |other| *other == handle)
        {
            found.remove();
        }
    }
}

impl core::fmt::Debug for Lookup {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let handles: usize = self.0.iter().map(HashTable::len).sum();
        f.debug_tuple("Lookup").field(&handles).finish()
    }
}

/// How many positions lie in each stretch of 32: the lowest is known to within a stretch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Stretches(BTreeMap<u64, u32>);

impl Stretches {
    fn add(&mut self, position: Position) {
        *self.0.entry(position / STRETCH).or_default() += 1;
    }

    fn take(&mut self, position: Position) {
        if let Some(count) = self.0.get_mut(&(position / STRETCH)) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&(position / STRETCH));
            }
        }
    }

    fn lowest(&self) -> Position {
        let first = self.0.first_key_value();
        first.map_or(Position::MAX, |(stretch, _)| stretch * STRETCH)
    }

    fn below(&self, position: Position) -> u64 {
        let stretches = self.0.range(..position / STRETCH);
        stretches.map(|(_, count)| u64::from(*count)).sum()
    }
}

const STRETCH: u64 = 32;

/// The first position at or behind `position` where a stretch begins.
pub(super) fn stretch_behind(position: Position) -> Position {
    position.div_ceil(STRETCH) * STRETCH
}

impl Index<Handle> for Messages {
    type Output = Message;

    fn index(&self, handle: Handle) -> &Message {
        let (block, place) = handle.split();
        let places = self.blocks[block].places.as_ref();
        &places.expect("a handle is given up with its message")[place]
    }
}

impl Messages {
    /// What may change of a message. Its id, its key and where its accepted record stands may not;
    /// see [`Messages::carry`].
    pub(super) fn change(&mut self, handle: Handle) -> &mut Message {
        let (block, place) = handle.split();
        let places = self.blocks[block].places.as_mut();
        &mut Arc::make_mut(places.expect("a handle is given up with its message"))[place]
    }

    /// Takes an unfinished message in.
    pub(super) fn insert(&mut self, message: Message) -> Handle {
        let block = match self.with_room.first() {
            Some(block) => *block as usize,
            None => {
                self.blocks.push(Block::default());
                self.blocks.len() - 1
            }
        };
        let place = self.blocks[block].first_free();
        let place = place.expect("only blocks with room are listed");
        self.blocks[block].put(place, message);
        self.list_room(block);
        let handle = Handle::new(block * BLOCK + place);
        self.look_up(handle, &message);
        handle
    }

    fn list_room(&mut self, block: usize) {
        match self.blocks[block].first_free() {
            Some(_) => self.with_room.insert(block as u32),
            None => self.with_room.remove(&(block as u32)),
        };
    }

    fn look_up(&mut self, handle: Handle, message: &Message) {
        let blocks = &self.blocks;
        let at = |handle: &Handle| {
            let (block, place) = handle.split();
            let places = blocks[block].places.as_ref();
            &places.expect("a handle is given up with its message")[place]
        };
        self.by_id.insert(hash::of(&message.id.0), handle, |other| {
            hash::of(&at(other).id.0)
        });
        if message.key != NO_KEY {
            self.by_key.insert(hash::of(&message.key), handle, |other| {
                hash::of(&at(other).key)
            });
        }
        let stretches = match message.is_unfinished() {
            true => &mut self.unfinished,
            false => &mut self.finished,
        };
        stretches.add(message.accepted);
    }

    /// Forgets a message.
    pub(super) fn remove(&mut self, handle: Handle) {
        let message = self[handle];
        self.by_id.remove(hash::of(&message.id.0), handle);
        self.by_key.remove(hash::of(&message.key), handle);
        let stretches = match message.is_unfinished() {
            true => &mut self.unfinished,
            false => &mut self.finished,
        };
        stretches.take(message.accepted);
        let (block, place) = handle.split();
        self.blocks[block].clear(place);
        self.list_room(block);
    }

    /// Ends a message at `passed` of the retention clock.
    pub(super) fn end(&mut self, handle: Handle, end: End, passed: Timestamp) {
        let message = self.change(handle);
        message.standing = Standing::Ended(end);
        message.instant = passed;
        let accepted = message.accepted;
        self.unfinished.take(accepted);
        self.finished.add(accepted);
    }

    /// Begins another life of a message that had ended.
    pub(super) fn revive(&mut self, handle: Handle, generation: u16) {
        let message = self.change(handle);
        message.standing = Standing::Fresh;
        message.instant = FOR_EVER;
        message.generation = generation;
        message.pushes = 0;
        let accepted = message.accepted;
        self.finished.take(accepted);
        self.unfinished.add(accepted);
    }

    /// Another copy of the accepted record of an unfinished message stands at `position`.
    pub(super) fn carry(&mut self, handle: Handle, position: Position) {
        let message = self.change(handle);
        let before = core::mem::replace(&mut message.accepted, position);
        message.last = position;
        self.unfinished.take(before);
        self.unfinished.add(position);
    }

    pub(super) fn find(&self, id: MessageId) -> Option<Handle> {
        let is = |handle: &Handle| self[*handle].id == id;
        self.by_id.find(hash::of(&id.0), is)
    }

    pub(super) fn find_key(&self, key: &[u8; 16]) -> Option<Handle> {
        let is = |handle: &Handle| self[*handle].key == *key;
        self.by_key.find(hash::of(key), is)
    }

    /// What a planted defect does.
    pub(super) fn forget_keys(&mut self) {
        self.by_key = Lookup::default();
    }

    /// Every message, in no meaningful order.
    pub(super) fn each(&self) -> impl Iterator<Item = (Handle, &Message)> {
        let blocks = self.blocks.iter().enumerate();
        blocks.flat_map(|(number, block)| {
            let each = block.each();
            each.map(move |(place, message)| (Handle::new(number * BLOCK + place), message))
        })
    }

    /// How many blocks there are.
    pub(super) fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// The messages of these blocks, as far as there are any.
    pub(super) fn in_blocks(&self, blocks: Range<usize>) -> impl Iterator<Item = &Message> {
        let end = blocks.end.min(self.blocks.len());
        let blocks = &self.blocks[blocks.start.min(end)..end];
        blocks
            .iter()
            .flat_map(Block::each)
            .map(|(_, message)| message)
    }

    /// Unfinished ones whose accepted record stands before `before`, in the order of those records,
    /// if they are no more than `at_most` or so.
    pub(super) fn accepted_before(&self, before: Position, at_most: u64) -> Option<Vec<Handle>> {
        if self.unfinished.below(before) > at_most {
            return None;
        }
        let is_old = |message: &Message| message.is_unfinished() && message.accepted < before;
        let old = self.each().filter(|(_, message)| is_old(message));
        let mut old: Vec<_> = old.map(|(handle, _)| handle).collect();
        old.sort_unstable_by_key(|handle| self.accepted_order(*handle));
        Some(old)
    }

    /// Sorts messages as they were accepted, or last copied forward; the rows of one send to many,
    /// which share a record, by recipient. A handle says nothing: places are given again.
    pub(super) fn accepted_order(&self, handle: Handle) -> (Position, RecipientNo) {
        (self[handle].accepted, self[handle].recipient)
    }

    /// No finished message has its accepted record before this.
    pub(super) fn oldest_finished(&self) -> Position {
        self.finished.lowest()
    }

    /// No message has its accepted record before this.
    pub(super) fn oldest(&self) -> Position {
        self.unfinished.lowest().min(self.finished.lowest())
    }

    /// All of them, as they are now.
    pub(super) fn image(&self) -> Blocks {
        Blocks(self.blocks.clone())
    }

    /// Reads back what [`Blocks::write`] wrote.
    pub(super) fn load(image: &[u8]) -> Result<Self, RecordError> {
        let mut rest = image;
        let count: usize = take(&mut rest)?;
        let mut messages = Self::default();
        for number in 0..count {
            let taken: [u64; BLOCK / 64] = take(&mut rest)?;
            messages.blocks.push(Block::default());
            for place in 0..BLOCK {
                if taken[place / 64] & (1 << (place % 64)) != 0 {
                    let message: Message = take(&mut rest)?;
                    messages.blocks[number].put(place, message);
                    messages.look_up(Handle::new(number * BLOCK + place), &message);
                }
            }
            messages.list_room(number);
        }
        Ok(messages)
    }
}

/// Messages as they once were.
#[derive(Debug)]
pub(super) struct Blocks(Vec<Block>);

impl Blocks {
    pub(super) fn write(&self, mut to: Vec<u8>) -> Vec<u8> {
        to = append(&self.0.len(), to);
        for block in &self.0 {
            to = append(&block.taken, to);
            for (_, message) in block.each() {
                to = append(message, to);
            }
        }
        to
    }
}

/// A message without an idempotency key has this one.
pub(super) const NO_KEY: [u8; 16] = [0; 16];

fn append(value: &impl Serialize, to: Vec<u8>) -> Vec<u8> {
    postcard::to_extend(value, to).expect("writing to memory cannot fail")
}

fn take<'a, T: Deserialize<'a>>(from: &mut &'a [u8]) -> Result<T, RecordError> {
    let malformed = |_| RecordError::Malformed {
        version: crate::record::SCHEMA_VERSION,
    };
    let (value, rest) = postcard::take_from_bytes(from).map_err(malformed)?;
    *from = rest;
    Ok(value)
}
