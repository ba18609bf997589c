//! What can happen: the events of every party.

use countersign_rules::ack::{Ack, AckItem, Stage};
use countersign_rules::delivery::{Cause, End, FanNo, Seq, Term, Why};
use countersign_rules::{LaneRule, MessageId, Position, Timestamp};

/// A party that keeps a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    /// The centre with its hub.
    Centre,
    /// The ack store.
    Acks,
    /// The agent with this number.
    Agent(usize),
}

/// What a sender wants.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The agent; one that does not exist when it is out of range.
    pub to: usize,
    /// It is for many instead.
    pub many: Option<Many>,
    /// The lane.
    pub lane: u8,
    /// The idempotency key.
    pub key: Option<[u8; 16]>,
    /// Digest of everything asked for.
    pub fingerprint: [u8; 16],
    /// The body.
    pub body: bytes::Bytes,
}

/// Whom a wish for many addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Many {
    /// The members of the one group.
    Group,
    /// Every agent.
    All,
}

/// A durable record of the centre, in short.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the fields are those of the centre's records")]
pub enum Fact {
    Started,
    Accepted {
        id: MessageId,
        agent: usize,
        seq: Seq,
        key: [u8; 16],
        expires_at: Option<Timestamp>,
        for_later: bool,
        rule: LaneRule,
        kind: usize,
        attempts_max: Option<u32>,
    },
    FannedOut {
        number: FanNo,
        id: MessageId,
        key: [u8; 16],
        rule: LaneRule,
        kind: usize,
        attempts_max: Option<u32>,
    },
    Addressed {
        number: FanNo,
        id: MessageId,
        agent: usize,
        seq: Seq,
        expires_at: Option<Timestamp>,
        not_before: Option<Timestamp>,
    },
    Offered {
        id: MessageId,
        term: Term,
        attempt: u32,
        cause: Cause,
    },
    Due {
        id: MessageId,
        seq: Seq,
        at: Timestamp,
    },
    Reprocessed {
        id: MessageId,
        generation: u32,
        seq: Seq,
    },
    Paused {
        agent: usize,
        paused: bool,
    },
    LaneParked {
        id: MessageId,
    },
    LaneResumed {
        id: MessageId,
    },
    Connected {
        agent: usize,
        term: Term,
        connection: u64,
    },
    Ready {
        agent: usize,
        term: Term,
        epoch: u64,
        cursor: Seq,
    },
    Disconnected {
        agent: usize,
        term: Term,
    },
    Overdue {
        id: MessageId,
    },
    Stored {
        id: MessageId,
    },
    Settled {
        id: MessageId,
        end: End,
        at: Timestamp,
    },
    Kept {
        id: MessageId,
        why: Why,
        stage: Stage,
    },
    AcksRead {
        through: Position,
    },
    SiteSetBack {
        agent: usize,
    },
    ReceiptsDoubted,
    Other,
}

/// Something that happened.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the fields say what the variants name")]
pub enum Event {
    /// A sender asks for the first time; `request` counts from 0.
    SendInvoke { request: usize, wish: Wish },
    /// The send API made up an id and handed the request to the centre.
    Submit {
        request: usize,
        id: MessageId,
        not_before: Option<Timestamp>,
    },
    /// An operator was told that a message is taken back.
    Cancelled { id: MessageId },
    /// The centre let a receipt out.
    Receipt { id: MessageId },
    /// The sender has its receipt.
    SendOk {
        request: usize,
        id: MessageId,
        repeated: bool,
    },
    /// The sender was refused.
    SendRefused {
        request: usize,
        id: Option<MessageId>,
        why: String,
    },
    /// The sender does not know.
    SendUnknown { request: usize },
    /// The centre wrote this down, durably.
    Recorded { position: Position, fact: Fact },
    /// The hub put a message on the wire.
    Push {
        agent: usize,
        connection: u64,
        term: Term,
        id: MessageId,
        attempt: u32,
        seq: Seq,
        at: Timestamp,
        token_expires_at: Timestamp,
    },
    /// The hub closed a connection because a newer one took over.
    Superseded { connection: u64 },
    /// The hub's live connections of one agent after it let out a batch.
    HubConnections { agent: usize, live: Vec<u64> },
    /// The hub told a client what it missed.
    Welcome {
        agent: usize,
        term: Term,
        gap: Option<u64>,
    },
    /// A push reached its agent.
    Arrived {
        agent: usize,
        id: MessageId,
        generation: u32,
        body: bytes::Bytes,
    },
    /// A message is in the agent's inbox, durably.
    InboxCommit {
        agent: usize,
        id: MessageId,
        generation: u32,
    },
    /// An attempt is about to begin, durably.
    WorkBegun {
        agent: usize,
        id: MessageId,
        generation: u32,
        attempt: u32,
    },
    /// An attempt ended without an end of its message, durably.
    ToBeTriedAgain {
        agent: usize,
        id: MessageId,
        generation: u32,
        still_working: bool,
    },
    /// A message ended at its agent, durably; `attempt` is zero when nobody tried.
    EndedAtSite {
        agent: usize,
        id: MessageId,
        generation: u32,
        attempt: u32,
        stage: Stage,
    },
    /// A message went past others of its lane, durably.
    Passed {
        agent: usize,
        over: Vec<(MessageId, u32)>,
    },
    /// A parked lane goes on at its agent, durably.
    LaneGoesOn {
        agent: usize,
        id: MessageId,
        generation: u32,
    },
    /// An attempt begins.
    HandlerStart {
        agent: usize,
        id: MessageId,
        generation: u32,
        attempt: u32,
        possibly_repeated: bool,
    },
    /// The back office committed an effect; `honours` tells whether it looks at tokens.
    Effect {
        honours: bool,
        agent: usize,
        id: MessageId,
        generation: u32,
        attempt: u32,
    },
    /// The agent heard how an attempt ended.
    HandlerEnd {
        agent: usize,
        id: MessageId,
        generation: u32,
        attempt: u32,
        result: &'static str,
    },
    /// An agent (or somebody in its name) acknowledges.
    AckInvoke {
        agent: usize,
        item: AckItem,
        forged: bool,
    },
    /// The ack store wrote it down, durably.
    AckRecorded {
        position: Position,
        agent: usize,
        ack: Ack,
    },
    /// The ack store answered 2xx.
    AckOk { agent: usize, items: Vec<AckItem> },
    /// A post to a healthy ack store was turned away.
    AckRefused { agent: usize },
    /// A host stopped.
    Crash { host: Host, point: &'static str },
    /// A host is up again.
    Start {
        host: Host,
        epoch: u64,
        epoch_changed: bool,
        /// Positions it had confirmed and has no more, or serves with other bytes.
        lost: Option<Position>,
        /// Damage that nobody did.
        damaged: Vec<String>,
    },
    /// A store could not be opened although nothing is wrong with its disk.
    NotOpened { host: Host, why: String },
    /// A flush was taken for a success.
    FlushOk { host: Host, sync_failed: bool },
    /// A flush failed: the host stops.
    FlushFailed { host: Host },
    /// A fault that is not a crash.
    Fault { what: &'static str, host: Host },
    /// A record was read from a copy with flipped bits.
    ReadDamaged {
        host: Host,
        position: Position,
        verdict: Verdict,
    },
    /// An agent lost its disk.
    StoreLost { agent: usize },
    /// All faults are over.
    Healed,
}

/// What came of reading one record from a damaged copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The bytes that were written.
    Right,
    /// Reported as damaged.
    Reported,
    /// Other bytes, without a word.
    Wrong,
    /// Nothing, without a word.
    Silent,
}

impl Event {
    /// The messages it is about.
    pub fn about(&self) -> Vec<MessageId> {
        match self {
            Event::Submit { id, .. }
            | Event::Receipt { id }
            | Event::Cancelled { id }
            | Event::SendOk { id, .. }
            | Event::Push { id, .. }
            | Event::Arrived { id, .. }
            | Event::InboxCommit { id, .. }
            | Event::EndedAtSite { id, .. }
            | Event::WorkBegun { id, .. }
            | Event::ToBeTriedAgain { id, .. }
            | Event::LaneGoesOn { id, .. }
            | Event::HandlerStart { id, .. }
            | Event::Effect { id, .. }
            | Event::HandlerEnd { id, .. } => vec![*id],
            Event::AckInvoke { item, .. } => vec![item.message],
            Event::AckRecorded { ack, .. } => vec![ack.item.message],
            Event::AckOk { items, .. } => items.iter().map(|item| item.message).collect(),
            Event::Recorded {
                fact:
                    Fact::Accepted { id, .. }
                    | Fact::FannedOut { id, .. }
                    | Fact::Addressed { id, .. }
                    | Fact::Offered { id, .. }
                    | Fact::Due { id, .. }
                    | Fact::Reprocessed { id, .. }
                    | Fact::LaneParked { id }
                    | Fact::LaneResumed { id }
                    | Fact::Overdue { id }
                    | Fact::Stored { id }
                    | Fact::Settled { id, .. }
                    | Fact::Kept { id, .. },
                ..
            } => vec![*id],
            _ => vec![],
        }
    }

    /// Whether it belongs into every witness.
    pub fn is_fault(&self) -> bool {
        matches!(
            self,
            Event::Crash { .. }
                | Event::Start { .. }
                | Event::NotOpened { .. }
                | Event::FlushFailed { .. }
                | Event::StoreLost { .. }
                | Event::Healed
        )
    }
}
