//! Acknowledgements: what an agent may say about a message, and the store that keeps it said.
//!
//! The store knows no messages: it takes down who said what, answers once that is durable, and lets
//! the centre read it later. So it works while hub and centre are down (I12). What an
//! acknowledgement means is decided by the centre alone.
//!
//! Promise: a result `recorded` or `duplicate` is given only for what is durable (I11).

use crate::limits;
use crate::machine::{Machine, Out, Position, Start};
use crate::message::{AgentName, MessageId, TenantName};
use crate::record::{RecordError, decode};
use crate::time::Timestamp;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What an acknowledgement says happened to the message at the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Stage {
    /// It is on the agent's disk: the agent owns it now, it is not pushed again.
    Stored,
    /// The back office has it.
    Acknowledged,
    /// The back office refused it for good.
    Rejected,
    /// The agent used up its attempts.
    Dead,
    /// An attempt failed; the agent owns the message and will try again.
    Retrying,
    /// The back office has not answered yet; the agent owns the message and will ask again.
    Working,
}

impl Stage {
    /// The word used on the HTTP API.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Stored => "stored",
            Stage::Acknowledged => "acknowledged",
            Stage::Rejected => "rejected",
            Stage::Dead => "dead",
            Stage::Retrying => "retrying",
            Stage::Working => "working",
        }
    }

    /// Reads the word used on the HTTP API.
    pub fn parse(word: &str) -> Option<Self> {
        [
            Stage::Stored,
            Stage::Acknowledged,
            Stage::Rejected,
            Stage::Dead,
            Stage::Retrying,
            Stage::Working,
        ]
        .into_iter()
        .find(|stage| stage.as_str() == word)
    }
}

/// The code of an end that nobody worked for: a push strayed to a site that had forgotten its message.
/// It says nothing about the message's lane.
pub const FORGOTTEN: &str = "forgotten";

/// How the work on a message ended, in the words of whoever did it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Short and stable, for grouping: `inserted`, `http-422`, `attempts-exhausted`.
    pub code: String,
    /// One sentence for a person.
    pub detail: String,
    /// Raw JSON for a program; empty when there is none.
    pub data: Vec<u8>,
}

impl Outcome {
    /// Cuts what is longer than the limits allow.
    pub fn bounded(mut self) -> Self {
        cut(&mut self.code, limits::OUTCOME_CODE_BYTES_MAX);
        cut(&mut self.detail, limits::OUTCOME_DETAIL_BYTES_MAX);
        if self.data.len() > limits::OUTCOME_DATA_BYTES_MAX {
            self.data.clear();
        }
        self
    }
}

fn cut(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        let end = (0..=bytes_max)
            .rev()
            .find(|&at| text.is_char_boundary(at))
            .unwrap_or(0);
        text.truncate(end);
    }
}

/// One acknowledgement as the agent gave it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AckItem {
    /// The message.
    pub message: MessageId,
    /// What happened to it.
    pub stage: Stage,
    /// For `stored`, the push that brought it; else the attempt that is spoken of.
    pub attempt: u32,
    /// Which life of the message is meant: 1, and one more after each deliberate reprocessing.
    pub generation: u32,
    /// When, by the agent's clock.
    pub occurred_at: Timestamp,
    /// How the work ended; empty for `stored`.
    pub outcome: Outcome,
    /// How long the work took, in milliseconds.
    pub duration_ms: u32,
    /// Trace context of the work; empty when there is none.
    pub traceparent: String,
    /// For `retrying` and `working`, when the next try begins at the earliest, by the agent's clock.
    ///
    /// Written beside the item, in [`AckRecord::GivenNext`], because items without it are kept in
    /// their first form for ever.
    #[serde(skip)]
    pub next_at: Option<Timestamp>,
}

/// An acknowledgement with the one who gave it: the record of the ack store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// When the ack store took it down.
    pub at: Timestamp,
    /// Tenant of the token it came with.
    pub tenant: TenantName,
    /// Agent of the token it came with.
    pub agent: AgentName,
    /// What was said.
    pub item: AckItem,
}

/// Records of the ack store. Kinds are only ever added at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum AckRecord {
    /// A process started on this store.
    Started {
        /// When.
        at: Timestamp,
        /// Life of the store.
        epoch: u64,
    },
    /// An agent acknowledged.
    Given(Ack),
    /// Nothing: an image was wanted at a position of its own.
    Marked {
        /// When.
        at: Timestamp,
    },
    /// An agent acknowledged, and said when it will try again.
    GivenNext {
        /// What it said.
        ack: Ack,
        /// See [`AckItem::next_at`].
        next_at: Timestamp,
    },
}

impl AckRecord {
    /// The acknowledgement in it, if there is one.
    pub fn into_ack(self) -> Option<Ack> {
        match self {
            AckRecord::Given(ack) => Some(ack),
            AckRecord::GivenNext { mut ack, next_at } => {
                ack.item.next_at = Some(next_at);
                Some(ack)
            }
            AckRecord::Started { .. } | AckRecord::Marked { .. } => None,
        }
    }
}

/// Reads a record of the ack store.
///
/// # Errors
/// It is of a newer schema, or no record.
pub fn decode_record(bytes: &[u8]) -> Result<AckRecord, RecordError> {
    decode(bytes)
}

/// What comes to the ack store.
#[derive(Clone, Debug)]
pub struct Post {
    /// Tenant of the verified token.
    pub tenant: TenantName,
    /// Agent of the verified token.
    pub agent: AgentName,
    /// What it acknowledges, at most [`limits::ACKS_PER_POST_MAX`].
    pub items: Vec<AckItem>,
}

/// What became of one item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Posted {
    /// Taken down, durably.
    Recorded,
    /// The very same was taken down before, durably.
    Duplicate,
}

/// There is something new for the centre, up to this position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grew(pub Position);

/// The acknowledgement store.
#[derive(Clone, Debug, Default)]
pub struct AckStore {
    recent: BTreeSet<Said>,
    order: VecDeque<Said>,
}

/// What makes two acknowledgements the same words, said again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Said {
    message: MessageId,
    stage: Stage,
    attempt: u32,
    generation: u32,
    occurred_at: Timestamp,
    tenant: TenantName,
    agent: AgentName,
}

impl AckStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn remember(&mut self, said: Said) {
        if !self.recent.insert(said.clone()) {
            return;
        }
        self.order.push_back(said);
        if self.order.len() > limits::RECENT_ACKS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.recent.remove(&oldest);
        }
    }

    fn give(&mut self, post: &Post, item: AckItem, at: Timestamp, out: &mut Out<Self>) -> Posted {
        let item = AckItem {
            outcome: item.outcome.bounded(),
            ..item
        };
        let ack = Ack {
            at,
            tenant: post.tenant.clone(),
            agent: post.agent.clone(),
            item,
        };
        let said = Said::of(&ack);
        if self.recent.contains(&said) {
            return Posted::Duplicate;
        }
        out.record(&match ack.item.next_at {
            None => AckRecord::Given(ack),
            Some(next_at) => AckRecord::GivenNext { ack, next_at },
        });
        self.remember(said);
        Posted::Recorded
    }
}

impl Said {
    fn of(ack: &Ack) -> Self {
        let item = &ack.item;
        Self {
            message: item.message,
            stage: item.stage,
            attempt: item.attempt,
            generation: item.generation,
            occurred_at: item.occurred_at,
            tenant: ack.tenant.clone(),
            agent: ack.agent.clone(),
        }
    }
}

impl Machine for AckStore {
    type Input = Post;
    type Effect = Grew;
    type Reply = Vec<Posted>;
    type Image = Vec<u8>;

    fn step(&mut self, mut post: Post, now: Timestamp, out: &mut Out<Self>) {
        let items = core::mem::take(&mut post.items);
        let results = items
            .into_iter()
            .map(|item| self.give(&post, item, now, out))
            .collect();
        out.effect(Grew(out.next_position() - 1));
        out.reply(results);
    }

    fn grows(_post: &Post) -> bool {
        // An acknowledgement frees more than it takes.
        false
    }

    fn deadline(&mut self, _now: Timestamp, _out: &mut Out<Self>) {}

    fn next_deadline(&self) -> Option<Timestamp> {
        None
    }

    fn restore(&mut self, _position: Position, record: &[u8]) -> Result<(), RecordError> {
        if let Some(ack) = decode::<AckRecord>(record)?.into_ack() {
            self.remember(Said::of(&ack));
        }
        Ok(())
    }

    fn started(&mut self, start: Start, now: Timestamp, out: &mut Out<Self>) {
        let position = out.record(&AckRecord::Started {
            at: now,
            epoch: start.epoch,
        });
        out.effect(Grew(position));
    }

    fn image(&self) -> Vec<u8> {
        crate::record::encode(&self.order, Vec::new())
    }

    fn load(&mut self, image: &[u8]) -> Result<(), RecordError> {
        let order: VecDeque<Said> = decode(image)?;
        *self = Self::default();
        order.into_iter().for_each(|said| self.remember(said));
        Ok(())
    }

    fn oldest_needed(&self) -> Position {
        // Nothing is read back by the store itself; what the centre still has to read is bounded
        // by its cursor, which whoever trims this journal has to respect.
        Position::MAX
    }

    fn release(&mut self, _before: Position, _bytes_max: u64, _out: &mut Out<Self>) {}

    fn mark(&mut self, now: Timestamp, out: &mut Out<Self>) {
        out.record(&AckRecord::Marked { at: now });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec;

    fn post(occurred_at: i64) -> Post {
        Post {
            tenant: TenantName::parse("default").unwrap(),
            agent: AgentName::parse("lyon").unwrap(),
            items: vec![AckItem {
                message: MessageId([1; 16]),
                stage: Stage::Rejected,
                attempt: 1,
                generation: 1,
                occurred_at: Timestamp(occurred_at),
                outcome: Outcome {
                    code: "http-422".into(),
                    detail: "no such customer".to_string(),
                    data: vec![],
                },
                duration_ms: 3,
                traceparent: String::new(),
                next_at: None,
            }],
        }
    }

    #[test]
    fn the_same_words_again_are_a_duplicate_and_make_no_second_record() {
        let (mut store, mut out) = (AckStore::new(), Out::<AckStore>::new(1));
        store.step(post(5), Timestamp(9), &mut out);
        assert_eq!(out.take_reply().unwrap(), [Posted::Recorded]);
        store.step(post(5), Timestamp(10), &mut out);
        assert_eq!(out.take_reply().unwrap(), [Posted::Duplicate]);
        store.step(post(6), Timestamp(11), &mut out);
        assert_eq!(out.take_reply().unwrap(), [Posted::Recorded]);
        assert_eq!(out.next_position(), 3);
    }

    #[test]
    fn a_restart_remembers_recent_acknowledgements_from_records_and_from_an_image() {
        let (mut store, mut out) = (AckStore::new(), Out::<AckStore>::new(1));
        store.step(post(5), Timestamp(9), &mut out);
        let _ = out.take_reply();
        let (_, payloads, _) = out.take_records();
        let mut replayed = AckStore::new();
        replayed.restore(1, &payloads).unwrap();
        let mut image = vec![];
        replayed.save(&mut image);
        let mut loaded = AckStore::new();
        loaded.load(&image).unwrap();
        for mut store in [replayed, loaded] {
            store.step(post(5), Timestamp(12), &mut out);
            assert_eq!(out.take_reply().unwrap(), [Posted::Duplicate]);
        }
    }

    #[test]
    fn records_of_version_1_are_written_and_read_as_recorded() {
        let started = AckRecord::Started {
            at: Timestamp(1_000_000),
            epoch: 2,
        };
        let ack = Ack {
            at: Timestamp(1_000_000),
            tenant: TenantName::parse("default").unwrap(),
            agent: AgentName::parse("lyon").unwrap(),
            item: post(5).items.remove(0),
        };
        let given = AckRecord::Given(ack.clone());
        let retrying = AckItem {
            stage: Stage::Retrying,
            ..ack.item.clone()
        };
        let given_next = AckRecord::GivenNext {
            ack: Ack {
                item: retrying,
                ..ack
            },
            next_at: Timestamp(2_000_000),
        };
        let recorded = [
            (started, "010080897a02"),
            (
                given,
                "010180897a0764656661756c74046c796f6e010101010101010101010101010101010201010a08687474702d343232106e6f207375636820637573746f6d6572000300",
            ),
            (
                AckRecord::Marked {
                    at: Timestamp(1_000_000),
                },
                "010280897a",
            ),
            (
                given_next,
                "010380897a0764656661756c74046c796f6e010101010101010101010101010101010401010a08687474702d343232106e6f207375636820637573746f6d65720003008092f401",
            ),
        ];
        for (record, expected) in recorded {
            let bytes = crate::record::encode(&record, vec![]);
            let hex: String = bytes.iter().map(|b| alloc::format!("{b:02x}")).collect();
            assert_eq!(hex, expected);
            assert_eq!(decode_record(&bytes), Ok(record));
        }
    }

    #[test]
    fn overlong_prose_is_cut_at_a_character_not_refused() {
        let outcome = Outcome {
            detail: "é".repeat(limits::OUTCOME_DETAIL_BYTES_MAX),
            ..Outcome::default()
        };
        let bounded = outcome.bounded();
        assert_eq!(bounded.detail.len(), limits::OUTCOME_DETAIL_BYTES_MAX);
        assert!(bounded.detail.ends_with('é'));
    }
}
