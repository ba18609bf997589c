//! What the centre writes down: its state is these records and nothing else (I28).

use super::archive::Remembered;
use super::groups::{Audience, Labels};
use super::operations::{Did, Filter, OperationId, OperationKind};
use crate::ack::{Outcome, Stage};
use crate::body::{BodyId, BodyRef};
use crate::lane::LaneRule;
use crate::machine::Position;
use crate::message::{AgentName, GroupName, LaneName, MessageId, TenantName, TypeName};
use crate::record::RecordError;
use crate::time::Timestamp;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Reads a record of the centre.
///
/// # Errors
/// It is of a newer schema, or no record.
pub fn decode_record(bytes: &[u8]) -> Result<Record<'_>, RecordError> {
    let mut record = crate::record::decode(bytes)?;
    match &mut record {
        Record::AcceptedUnder { rule, accepted, .. } | Record::FannedOut { rule, accepted, .. } => {
            accepted.rule = *rule;
        }
        Record::AcceptedByReference {
            body,
            rule,
            accepted,
            ..
        } => (accepted.body, accepted.rule) = (Some(*body), *rule),
        _ => {}
    }
    Ok(record)
}

/// Reads the accepted message that stands at [`Push::accepted`](super::Push): the record itself, or
/// the one that was copied forward. That of a send to many names the whole, not a recipient: whose
/// message it is, and its id and number, stand in the push.
///
/// # Errors
/// It is of a newer schema, no record, or a record of another kind.
pub fn decode_accepted(bytes: &[u8]) -> Result<Accepted<'_>, RecordError> {
    match decode_record(bytes)? {
        Record::Accepted(accepted)
        | Record::Scheduled { accepted, .. }
        | Record::AcceptedUnder { accepted, .. }
        | Record::FannedOut { accepted, .. }
        | Record::AcceptedByReference { accepted, .. } => Ok(accepted),
        Record::Carried { accepted, .. } => decode_accepted(accepted),
        _ => Err(RecordError::Inconsistent("it is not an accepted message")),
    }
}

/// Number of a recipient within one store, given when it became known.
pub type RecipientNo = u32;

/// Number of a send to many within one store: ascending, from 1.
pub type FanNo = u32;

/// Number of a message among all of its recipient: dense, from 1.
pub type Seq = u64;

/// Number of a connection of one recipient: each new one is one higher, and only the highest counts.
pub type Term = u64;

/// A fact about the centre. Kinds are only ever added at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Record<'a> {
    /// A process started on this store: whatever was connected or in flight no longer is.
    Started {
        /// When.
        at: Timestamp,
        /// Life of the store.
        epoch: u64,
    },
    /// A recipient became known.
    Recipient {
        /// When.
        at: Timestamp,
        /// Its number.
        recipient: RecipientNo,
        /// The partition it belongs to.
        partition: u16,
        /// Its tenant.
        tenant: TenantName,
        /// Its name.
        name: AgentName,
    },
    /// A message was accepted.
    #[serde(borrow)]
    Accepted(Accepted<'a>),
    /// It is pushed over the current connection.
    Offered {
        /// When.
        at: Timestamp,
        /// The message.
        id: MessageId,
        /// Over which connection.
        term: Term,
        /// Number of this push of this generation, from 1.
        attempt: u32,
        /// Why it is pushed.
        cause: Cause,
        /// The record about this message before this one.
        previous: Position,
    },
    /// A connection was let in; every older one of this recipient no longer counts.
    Connected {
        /// When.
        at: Timestamp,
        /// Whose.
        recipient: RecipientNo,
        /// Its term.
        term: Term,
        /// The hub's number of it.
        connection: u64,
        /// End of its token.
        token_expires_at: Timestamp,
    },
    /// The client said that its handlers exist: delivery may start.
    Ready {
        /// When.
        at: Timestamp,
        /// Whose.
        recipient: RecipientNo,
        /// The connection.
        term: Term,
        /// Life of the agent's store; zero for a client that keeps none.
        agent_epoch: u64,
        /// The agent remembers every message from this number on.
        floor: Seq,
        /// Highest number below which the agent has all.
        cursor: Seq,
    },
    /// A connection ended.
    Disconnected {
        /// When.
        at: Timestamp,
        /// Whose.
        recipient: RecipientNo,
        /// Its term.
        term: Term,
    },
    /// No receipt within the ack wait: it is pushed again.
    Overdue {
        /// When.
        at: Timestamp,
        /// The message.
        id: MessageId,
        /// The record about this message before this one.
        previous: Position,
    },
    /// The agent has it on disk.
    Stored {
        /// When the centre learned it.
        at: Timestamp,
        /// The message.
        id: MessageId,
        /// The push that brought it.
        attempt: u32,
        /// When, by the agent's clock.
        occurred_at: Timestamp,
        /// The record about this message before this one.
        previous: Position,
    },
    /// The message reached a final state.
    Settled {
        /// When the centre learned it.
        at: Timestamp,
        /// The message.
        id: MessageId,
        /// The final state.
        end: End,
        /// The attempt that ended it; zero when none did.
        attempt: u32,
        /// When, by the clock of whoever ended it.
        occurred_at: Timestamp,
        /// In the words of whoever ended it.
        outcome: Outcome,
        /// How long the last attempt took, in milliseconds.
        duration_ms: u32,
        /// The record about this message before this one.
        previous: Position,
    },
    /// An acknowledgement that changes nothing and is kept as evidence.
    Kept {
        /// When.
        at: Timestamp,
        /// The message it names.
        id: MessageId,
        /// Why it changes nothing.
        why: Why,
        /// What it said.
        stage: Stage,
        /// Tenant of whoever said it.
        tenant: TenantName,
        /// Whoever said it.
        by: AgentName,
        /// When, by the agent's clock.
        occurred_at: Timestamp,
        /// The rest of what it said.
        outcome: Outcome,
        /// The record about this message before this one; zero when the message is unknown.
        previous: Position,
    },
    /// Every acknowledgement of that store up to this position has been acted on.
    AcksRead {
        /// When.
        at: Timestamp,
        /// Life of the ack store.
        source: u64,
        /// The last position acted on.
        through: Position,
    },
    /// An unfinished message was copied forward, so that an old segment can go.
    Carried {
        /// When.
        at: Timestamp,
        /// The message.
        id: MessageId,
        /// Its [`Accepted`] record, as written.
        accepted: &'a [u8],
        /// The record about this message before this one.
        previous: Position,
    },
    /// Finished messages whose retention is over are forgotten, with their idempotency keys.
    AgedOut {
        /// When.
        at: Timestamp,
        /// How many of the longest finished ones.
        count: u32,
    },
    /// The recipient knows numbers that this store has lost: the next ones are higher.
    NumbersRaised {
        /// When.
        at: Timestamp,
        /// Whose.
        recipient: RecipientNo,
        /// The highest number given, from now on.
        seq_last: Seq,
    },
    /// The recipient's store has not what it said to have: it is an older copy of itself. Whatever
    /// it was known to have is pushed again.
    SiteSetBack {
        /// When.
        at: Timestamp,
        /// Whose.
        recipient: RecipientNo,
    },
    /// Acknowledgements were lost at an ack store, by damage, or because it is another life or an older
    /// copy of the one that was read: whatever sites are known to have is pushed again,
    /// so that they say again what became of it.
    AcksDamaged {
        /// When.
        at: Timestamp,
        /// Life of the ack store.
        source: u64,
        /// Positions of the damaged records; none when records are gone altogether.
        damaged: Vec<Position>,
    },
    /// Records of this store are damaged: what sites said may be lost with them, so they are asked
    /// again as after [`Record::AcksDamaged`] (I20).
    Damaged {
        /// When.
        at: Timestamp,
        /// Their positions.
        damaged: Vec<Position>,
    },
    /// Nothing happened for a while: finished messages age by this.
    TimePassed {
        /// When.
        at: Timestamp,
    },
    /// A message was accepted that is not to be pushed before an instant. It has no number yet.
    Scheduled {
        /// The instant.
        not_before: Timestamp,
        /// The message.
        #[serde(borrow)]
        accepted: Accepted<'a>,
    },
    /// The instant has come, or the lane goes on: the message is the last of its recipient's queue.
    Due {
        /// When.
        at: Timestamp,
        /// The message.
        id: MessageId,
        /// Its number, from now on; zero when its lane is parked.
        seq: Seq,
        /// The record about this message before this one.
        previous: Position,
    },
    /// Somebody wants a message that has ended done once more. It is the last of its recipient's
    /// queue, or of its lane while that is parked, and its life has no end any more.
    Reprocessed {
        /// When.
        at: Timestamp,
        /// The message.
        id: MessageId,
        /// Its new life.
        generation: u32,
        /// Its new number; zero when it is held in its lane.
        seq: Seq,
        /// Who: the subject of the token.
        by: &'a str,
        /// The operation that did it, if it was one of many.
        operation: Option<OperationId>,
        /// It was done although its agent may no longer remember it.
        may_process_twice: bool,
        /// The record about this message before this one.
        previous: Position,
    },
    /// Somebody holds everything back from a recipient, or lets it go again.
    Paused {
        /// When.
        at: Timestamp,
        /// Whose.
        recipient: RecipientNo,
        /// Whether it is held back from now on.
        paused: bool,
        /// Why, in the words of whoever did it.
        reason: &'a str,
        /// Who: the subject of the token.
        by: &'a str,
    },
    /// A message was accepted whose failure means something else for its lane than
    /// [`LaneRule::Block`].
    AcceptedUnder {
        /// What it means.
        rule: LaneRule,
        /// It is not to be pushed before this instant, and has no number yet.
        not_before: Option<Timestamp>,
        /// The message.
        #[serde(borrow)]
        accepted: Accepted<'a>,
    },
    /// The agent has tried and will try again, or its back office is still working on the message.
    Attempted {
        /// When the centre learned it.
        at: Timestamp,
        /// The message.
        id: MessageId,
        /// [`Stage::Retrying`] or [`Stage::Working`].
        stage: Stage,
        /// The attempt.
        attempt: u32,
        /// When it ended, by the agent's clock.
        occurred_at: Timestamp,
        /// In the words of the back office.
        outcome: Outcome,
        /// How long it took, in milliseconds.
        duration_ms: u32,
        /// When the next one begins at the earliest, by the agent's clock.
        next_at: Option<Timestamp>,
        /// The record about this message before this one.
        previous: Position,
    },
    /// An agent says at `ready` that one of its lanes is parked, of which this store knows nothing.
    LaneParked {
        /// When.
        at: Timestamp,
        /// Whose.
        recipient: RecipientNo,
        /// The lane.
        lane: LaneName,
        /// The message whose end parked it.
        id: MessageId,
        /// Which life of it.
        generation: u32,
    },
    /// Somebody lets a parked lane go on, or the message that had parked it was done once more with
    /// success.
    LaneResumed {
        /// When.
        at: Timestamp,
        /// Whose.
        recipient: RecipientNo,
        /// The lane.
        lane: LaneName,
        /// The message whose end had parked it.
        id: MessageId,
        /// Which life of it.
        generation: u32,
        /// Why, in the words of whoever did it.
        reason: &'a str,
        /// Who: the subject of the token.
        by: &'a str,
    },
    /// The agent no longer names a lane as parked that was resumed: it has heard of it.
    LaneHeard {
        /// When.
        at: Timestamp,
        /// Whose.
        recipient: RecipientNo,
        /// The message whose end had parked the lane.
        id: MessageId,
        /// Which life of it.
        generation: u32,
    },
    /// The messages that ended longest ago leave the memory for the archive.
    Archived {
        /// When.
        at: Timestamp,
        /// Number of this batch, dense from 1.
        batch: u64,
        /// All that is remembered of them, so that the archive can be built again.
        messages: Vec<Remembered>,
    },
    /// A message is taken back from the archive, because it is about to change.
    Recalled {
        /// When.
        at: Timestamp,
        /// The batch it was in.
        batch: u64,
        /// What was remembered of it.
        message: Remembered,
    },
    /// Batches of the archive whose retention is over are forgotten, with their idempotency keys.
    ArchiveAged {
        /// When.
        at: Timestamp,
        /// The first that stays.
        below: u64,
    },
    /// A recipient is a member of a group from now on, or no longer.
    GroupChanged {
        /// When.
        at: Timestamp,
        /// The group's tenant, and the recipient's.
        tenant: TenantName,
        /// The group.
        group: GroupName,
        /// The version of the group, from now on.
        version: u64,
        /// The recipient.
        recipient: RecipientNo,
        /// The partition it belongs to.
        partition: u16,
        /// Its name.
        agent: AgentName,
        /// Whether it is a member.
        member: bool,
        /// Who: the subject of the token.
        by: &'a str,
    },
    /// A recipient carries these labels from now on, and no others.
    Labelled {
        /// When.
        at: Timestamp,
        /// Whose tenant.
        tenant: TenantName,
        /// Whose.
        recipient: RecipientNo,
        /// The partition it belongs to.
        partition: u16,
        /// Its name.
        agent: AgentName,
        /// The labels.
        labels: Labels,
        /// Who: the subject of the token.
        by: &'a str,
    },
    /// A message was accepted that is for many. A row for each of them follows in the same batch.
    FannedOut {
        /// Its number.
        number: FanNo,
        /// Who is addressed, as it was asked for.
        audience: Audience,
        /// The version of the list that was found.
        version: u64,
        /// How many they are.
        count: u32,
        /// How many of them have to process it for the whole to be done.
        needed: Option<u32>,
        /// Until when.
        deadline: Option<Timestamp>,
        /// What the failure of one means for its lane.
        rule: LaneRule,
        /// It is not to be pushed before this instant.
        not_before: Option<Timestamp>,
        /// What each of them gets. Its id and its key are those of the whole; it names no recipient.
        #[serde(borrow)]
        accepted: Accepted<'a>,
    },
    /// One recipient's message of a send to many.
    #[serde(borrow)]
    Addressed(Addressed<'a>),
    /// As many have processed a send to many as were asked for.
    QuorumReached {
        /// When.
        at: Timestamp,
        /// The send.
        number: FanNo,
        /// How many.
        processed: u32,
    },
    /// The deadline of a send to many has come, and fewer have processed it than were asked for.
    QuorumMissed {
        /// When.
        at: Timestamp,
        /// The send.
        number: FanNo,
        /// How many have.
        processed: u32,
        /// A bit for each row, in their order, whose recipient has not.
        missing: Vec<u8>,
    },
    /// A send to many whose retention is over is forgotten, with its idempotency key.
    FanOutAged {
        /// When.
        at: Timestamp,
        /// The send.
        number: FanNo,
    },
    /// A large body is in the store of bodies, durably: messages may refer to it.
    BodyKept {
        /// When.
        at: Timestamp,
        /// The body.
        body: BodyId,
        /// Whose it is.
        tenant: TenantName,
        /// Its length.
        bytes: u64,
        /// Its SHA-256.
        sha256: [u8; 32],
    },
    /// A message was accepted that refers to a large body instead of carrying one.
    AcceptedByReference {
        /// The body. Its SHA-256 is that of the message's body.
        body: BodyRef,
        /// What a failure means for its lane.
        rule: LaneRule,
        /// It is not to be pushed before this instant, and has no number yet.
        not_before: Option<Timestamp>,
        /// The message, without data.
        #[serde(borrow)]
        accepted: Accepted<'a>,
    },
    /// No message refers to a large body any more: it may be removed.
    BodyDropped {
        /// When.
        at: Timestamp,
        /// The body.
        body: BodyId,
    },
    /// An operation was accepted. The pairs that it is about follow in the same batch.
    OperationBegun {
        /// When.
        at: Timestamp,
        /// Its id.
        operation: OperationId,
        /// Its author's tenant.
        tenant: TenantName,
        /// What is done.
        kind: OperationKind,
        /// What named the pairs.
        filter: Filter,
        /// The record up to which the filter looked.
        as_of: Position,
        /// How many pairs it named.
        total: u32,
        /// How many are taken a second.
        rate: u32,
        /// A replay takes also what its agent may no longer remember.
        may_process_twice: bool,
        /// Why, in its author's words.
        reason: &'a str,
        /// Who: the subject of the token.
        by: &'a str,
    },
    /// Pairs that an operation is about, in the order in which they are taken.
    OperationSelected {
        /// When.
        at: Timestamp,
        /// The operation.
        operation: OperationId,
        /// Messages, each with the life that is meant; zero for one that is not known.
        pairs: Vec<(MessageId, u32)>,
    },
    /// The turn of one message of an operation has come. What was done to it stands before this, in
    /// the same batch.
    OperationDid {
        /// When.
        at: Timestamp,
        /// The operation.
        operation: OperationId,
        /// The message.
        id: MessageId,
        /// What became of it.
        did: Did,
    },
    /// Somebody stopped an operation: nothing more of it is done.
    OperationStopped {
        /// When.
        at: Timestamp,
        /// The operation.
        operation: OperationId,
        /// Who: the subject of the token.
        by: &'a str,
    },
    /// A dead letter was put away: nobody has to see to it any more.
    Discarded {
        /// When.
        at: Timestamp,
        /// The message.
        id: MessageId,
        /// The operation that did it.
        operation: OperationId,
        /// Why, in the words of whoever did it.
        reason: &'a str,
        /// Who: the subject of the token.
        by: &'a str,
        /// The record about this message before this one.
        previous: Position,
    },
    /// A dead letter that was put away was taken back.
    Restored {
        /// When.
        at: Timestamp,
        /// The message.
        id: MessageId,
        /// The operation that did it.
        operation: OperationId,
        /// Who: the subject of the token.
        by: &'a str,
        /// The record about this message before this one.
        previous: Position,
    },
}

impl Record<'_> {
    /// What stands beside a message that was accepted with a rule for its lane: that rule, and the
    /// instant before which it is not to be pushed.
    pub fn accepted_under(&self) -> Option<(LaneRule, Option<Timestamp>, &Accepted<'_>)> {
        match self {
            Record::AcceptedUnder {
                rule,
                not_before,
                accepted,
            }
            | Record::AcceptedByReference {
                rule,
                not_before,
                accepted,
                ..
            } => Some((*rule, *not_before, accepted)),
            _ => None,
        }
    }

    /// When it was written.
    pub fn at(&self) -> Timestamp {
        match self {
            Record::Accepted(accepted)
            | Record::Scheduled { accepted, .. }
            | Record::AcceptedUnder { accepted, .. }
            | Record::FannedOut { accepted, .. }
            | Record::AcceptedByReference { accepted, .. } => accepted.at,
            Record::Addressed(row) => row.at,
            Record::Started { at, .. }
            | Record::Recipient { at, .. }
            | Record::Offered { at, .. }
            | Record::Connected { at, .. }
            | Record::Ready { at, .. }
            | Record::Disconnected { at, .. }
            | Record::Overdue { at, .. }
            | Record::Stored { at, .. }
            | Record::Settled { at, .. }
            | Record::Kept { at, .. }
            | Record::AcksRead { at, .. }
            | Record::Carried { at, .. }
            | Record::AgedOut { at, .. }
            | Record::NumbersRaised { at, .. }
            | Record::SiteSetBack { at, .. }
            | Record::AcksDamaged { at, .. }
            | Record::Damaged { at, .. }
            | Record::TimePassed { at }
            | Record::Due { at, .. }
            | Record::Reprocessed { at, .. }
            | Record::Paused { at, .. }
            | Record::Attempted { at, .. }
            | Record::LaneParked { at, .. }
            | Record::LaneResumed { at, .. }
            | Record::LaneHeard { at, .. }
            | Record::Archived { at, .. }
            | Record::Recalled { at, .. }
            | Record::ArchiveAged { at, .. }
            | Record::GroupChanged { at, .. }
            | Record::Labelled { at, .. }
            | Record::QuorumReached { at, .. }
            | Record::QuorumMissed { at, .. }
            | Record::FanOutAged { at, .. }
            | Record::BodyKept { at, .. }
            | Record::BodyDropped { at, .. }
            | Record::OperationBegun { at, .. }
            | Record::OperationSelected { at, .. }
            | Record::OperationDid { at, .. }
            | Record::OperationStopped { at, .. }
            | Record::Discarded { at, .. }
            | Record::Restored { at, .. } => *at,
        }
    }
}

/// An accepted message: all that any later step needs of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted<'a> {
    /// When.
    pub at: Timestamp,
    /// Its id.
    pub id: MessageId,
    /// Its recipient's partition.
    pub partition: u16,
    /// Its recipient's number.
    pub recipient: RecipientNo,
    /// Its number among the recipient's messages; zero while it is not due, or its lane is parked.
    pub seq: Seq,
    /// Which life of the message: 1, and one more after each deliberate reprocessing.
    pub generation: u32,
    /// Digest of tenant and idempotency key; all zero without one.
    pub key: [u8; 16],
    /// Digest of everything the sender asked for: tells a retry from a reuse of the key.
    pub fingerprint: [u8; 16],
    /// SHA-256 of the body.
    pub body_sha256: [u8; 32],
    /// End of its life, if it has one.
    pub expires_at: Option<Timestamp>,
    /// The recipient's tenant.
    pub tenant: &'a str,
    /// The recipient.
    pub to: &'a str,
    /// Its type.
    pub kind: &'a str,
    /// Its lane.
    pub lane: &'a str,
    /// Attempts at the site before it is dead; the site's own policy when absent.
    pub attempts_max: Option<u32>,
    /// The sender's correlation id; empty when there is none.
    pub correlation_id: &'a str,
    /// What caused it; empty when nothing is named.
    pub causation_id: &'a str,
    /// W3C trace context of the send; empty when there was none.
    pub traceparent: &'a str,
    /// W3C trace state of the send; empty when there was none.
    pub tracestate: &'a str,
    /// Who sent it: the subject of the token.
    pub sender: &'a str,
    /// Media type of the document in the body; empty when the body is plain JSON, and otherwise the
    /// body is a JSON string with the document's text.
    pub content_type: &'a str,
    /// The body: raw JSON.
    pub data: &'a [u8],
    /// What its failure means for its lane. Stands beside it, in [`Record::AcceptedUnder`].
    #[serde(skip)]
    pub rule: LaneRule,
    /// The large body that it refers to instead of carrying one. Stands beside it, in
    /// [`Record::AcceptedByReference`].
    #[serde(skip)]
    pub body: Option<BodyRef>,
}

/// One recipient's message of a send to many: what is its own. The rest stands in the record of the
/// send, but for what a store needs whose record of the send is damaged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addressed<'a> {
    /// When.
    pub at: Timestamp,
    /// The number of the send.
    pub fan_out: FanNo,
    /// Its place among the rows of the send, from 0.
    pub index: u32,
    /// Its id.
    pub id: MessageId,
    /// Its recipient's partition.
    pub partition: u16,
    /// Its recipient's number.
    pub recipient: RecipientNo,
    /// Its number among the recipient's messages; zero while it is not due, or its lane is parked.
    pub seq: Seq,
    /// End of its life, if it has one.
    pub expires_at: Option<Timestamp>,
    /// It is not to be pushed before this instant, and has no number yet.
    pub not_before: Option<Timestamp>,
    /// A digest of its lane, and whether its failure parks it.
    pub lane: u32,
    /// Length of its body.
    pub bytes: u32,
    /// The recipient's tenant.
    pub tenant: &'a str,
    /// The recipient.
    pub to: &'a str,
    /// Where the record of the send stands.
    pub accepted: Position,
}

impl Accepted<'_> {
    /// Length of its body, wherever that is.
    pub fn bytes(&self) -> u64 {
        self.body.map_or(self.data.len() as u64, |body| body.bytes)
    }

    /// The lane as a name of its own.
    pub fn lane_name(&self) -> Option<LaneName> {
        LaneName::parse(self.lane).ok()
    }

    /// The type as a name of its own.
    pub fn type_name(&self) -> Option<TypeName> {
        TypeName::parse(self.kind).ok()
    }
}

/// Why a message is pushed (I7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Cause {
    /// For the first time.
    New,
    /// The connection it was pushed over ended before a receipt.
    Disconnected,
    /// The centre restarted before a receipt.
    Restarted,
    /// No receipt came within the ack wait.
    Overdue,
    /// The agent lost its store.
    AgentStoreLost,
    /// What its site said about it may be lost: the site is asked again.
    ReceiptDoubted,
    /// Somebody wants it done once more: the first push of another life.
    Reprocessed,
}

impl Cause {
    /// The word shown in timelines.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::New => "new",
            Cause::Disconnected => "disconnected",
            Cause::Restarted => "restarted",
            Cause::Overdue => "overdue",
            Cause::AgentStoreLost => "agent_store_lost",
            Cause::ReceiptDoubted => "receipt_doubted",
            Cause::Reprocessed => "reprocessed",
        }
    }
}

/// A final state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum End {
    /// The back office has it.
    Processed,
    /// The back office refused it.
    Rejected,
    /// Attempts used up.
    Dead,
    /// Its life was over first.
    Expired,
    /// Taken back first.
    Cancelled,
}

/// Why an acknowledgement changed nothing and was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Why {
    /// No such message: after a restore this is the only evidence of it (N6).
    Orphan,
    /// The message had ended in another way first.
    Conflict,
    /// The message had expired, died or been cancelled first.
    Late,
    /// Whoever said it is not the recipient.
    Foreign,
    /// It speaks of a generation that is not the current one.
    OtherGeneration,
    /// A receipt by a store that the agent has lost since.
    StoreLost,
}

impl Why {
    /// The word shown in timelines.
    pub fn as_str(self) -> &'static str {
        match self {
            Why::Orphan => "orphan",
            Why::Conflict => "conflict",
            Why::Late => "late",
            Why::Foreign => "foreign",
            Why::OtherGeneration => "other_generation",
            Why::StoreLost => "store_lost",
        }
    }
}
