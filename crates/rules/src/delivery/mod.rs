//! The centre: which message is accepted, pushed, owned by a site, finished.
//!
//! Every unfinished message of a recipient stands in one queue ordered by its number; live sends,
//! replays and repeats are all drawn from it, lowest first, so order holds through all of them
//! (I6, I13). A push needs a current connection that said it is ready (I14), a token that lasts,
//! and room in the window (I16). Only an acknowledgement, an expiry or an operator ends a message.
//!
//! The state is changed by records alone: a step writes a record and applies it, a restart applies
//! the same records again, so audit and state cannot disagree (I28).
//!
//! Lanes order the work at the site; the queue here keeps a stronger order. Of lanes the centre knows
//! one thing: which are parked, so that what is behind is held here and not pushed.
//!
//! Left out on purpose: bodies (read back from the journal by position).

mod about;
mod acks;
mod archive;
mod bodies;
mod counters;
mod ends;
mod fanout;
mod groups;
mod image;
mod lanes;
mod later;
mod measures;
mod messages;
mod operate;
mod operations;
mod orphans;
mod presence;
mod questions;
mod quorum;
mod recipient;
mod record;
mod refusal;
mod retention;
mod state;
mod submission;
mod submit;
mod views;
mod window;

#[cfg(test)]
mod tests;

pub use archive::{Archive, ArchivePage, BatchName, NoArchive, Remembered, Unreadable, batch_name};
pub use bodies::{BodyView, NewBody};
pub use counters::Counters;
pub use fanout::{EndCounts, FanOut, FanOutReceipt, child_id};
pub use groups::{Audience, GroupSummary, GroupView, LabelChanges, Labels};
pub use image::StateImage;
pub use measures::{Measures, NeededStore};
pub use operations::{
    Candidate, Cursor, Did, Facts, Filter, ItemView, OperationId, OperationKind, OperationView,
    Order, Page, Unread, Wanted, dead_letters, is_dead_letter,
};
pub use orphans::{OrphanAck, OrphanPage};
pub use quorum::{ChildView, Children, FanOutView, Quorum, Verdict};
pub use record::{
    Accepted, Addressed, Cause, End, FanNo, RecipientNo, Record, Seq, Term, Why, decode_accepted,
    decode_record,
};
pub use refusal::Refusal;
pub use state::State;
pub use submission::Submission;
pub use views::{AgentView, Hold, LaneView, Place, View};
pub use window::Push;

use crate::ack::{Ack, Outcome};
use crate::body::BodyId;
use crate::limits;
use crate::machine::{Machine, Out, Position, Start};
use crate::message::{AgentName, GroupName, LaneName, MessageId, TenantName};
use crate::planted::Planted;
use crate::record::RecordError;
use crate::site::{ParkedLane, Resumed};
use crate::time::{Duration, Timestamp};
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use bytes::Bytes;

/// What the centre is told to do by whoever runs it; every default says why.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Partitions of the store, fixed when it was created. Default: 16, so that a store can later
    /// be spread over as many nodes.
    pub partitions: u16,
    /// Messages in flight to one recipient, pushed and not yet received. Default: 512, enough to
    /// fill a link of 50 ms at 10,000 messages/s.
    pub window_messages: u32,
    /// Bytes of bodies in flight to one recipient. Default: 4 MiB.
    pub window_bytes: u64,
    /// How long to wait for a receipt over a living connection before pushing again; doubles with
    /// each push. Default: 30 s, twice the time a site needs for a slow flush and a proxy's retry.
    pub ack_wait: Duration,
    /// Longest ack wait. Default: 10 min.
    pub ack_wait_max: Duration,
    /// Nothing is pushed in the last moments of a token, so that nothing arrives after its end
    /// (I15). Default: 500 ms.
    pub token_guard: Duration,
    /// Whether a send to a recipient that nobody registered and that never connected is refused.
    /// Default: yes, because a mistyped name would wait in silence for ever.
    pub strict_targets: bool,
    /// How long a finished message and its idempotency key are remembered. Default: 7 days.
    pub retention: Duration,
    /// Largest body in bytes. Default: [`limits::BODY_BYTES_MAX`].
    pub body_bytes_max: usize,
    /// Most unfinished messages in all. Default: [`limits::PENDING_MAX`].
    pub pending_max: u64,
    /// Most messages that have ended and are kept in memory: those before them go to the archive.
    /// Default: 65,536, some 8 MB, so that what is likely to be asked for is found at once.
    pub remembered_max: u64,
    /// Messages that go to the archive together. Default: 1,024, a record of some 70 KB.
    pub archive_batch: usize,
    /// A defect planted by a test; none otherwise.
    pub planted: Planted,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            partitions: 16,
            window_messages: 512,
            window_bytes: 4 * 1024 * 1024,
            ack_wait: Duration::from_secs(30),
            ack_wait_max: Duration::from_secs(600),
            token_guard: Duration::from_millis(500),
            strict_targets: true,
            retention: Duration::from_secs(7 * 24 * 3600),
            body_bytes_max: limits::BODY_BYTES_MAX,
            pending_max: limits::PENDING_MAX,
            remembered_max: 65_536,
            archive_batch: 1024,
            planted: Planted::None,
        }
    }
}

/// What can happen to the centre.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Input {
    /// A sender wants a message delivered. Answered by [`Reply::Submitted`].
    Submit(Box<Submission>),
    /// A sender wants a message delivered to many. Answered by [`Reply::FannedOut`].
    FanOut(Box<FanOut>),
    /// Somebody asks about a send to many. Answered by [`Reply::FanOut`].
    LookFanOut {
        /// The asker's tenant.
        tenant: TenantName,
        /// The send.
        id: MessageId,
        /// Which of its messages are to be shown.
        children: Option<Children>,
    },
    /// Somebody makes a recipient a member of a group, or no longer one. Answered by
    /// [`Reply::GroupVersion`].
    ChangeMember {
        /// Their tenant.
        tenant: TenantName,
        /// The group.
        group: GroupName,
        /// The recipient.
        agent: AgentName,
        /// Whether it is a member.
        member: bool,
        /// Who: the subject of the token.
        by: String,
    },
    /// Somebody asks about a group. Answered by [`Reply::Group`].
    LookGroup {
        /// Its tenant.
        tenant: TenantName,
        /// Its name.
        group: GroupName,
    },
    /// Somebody asks for the groups of a tenant, by name. Answered by [`Reply::Groups`].
    LookGroups {
        /// The tenant.
        tenant: TenantName,
        /// Those behind this one.
        after: Option<GroupName>,
        /// How many.
        at_most: usize,
    },
    /// Somebody changes the labels of a recipient. Answered by [`Reply::Operated`].
    Label {
        /// Its tenant.
        tenant: TenantName,
        /// Its name.
        agent: AgentName,
        /// What changes.
        changes: LabelChanges,
        /// Who: the subject of the token.
        by: String,
    },
    /// An operator makes a recipient known. Answered by [`Reply::Registered`].
    Register {
        /// Its tenant.
        tenant: TenantName,
        /// Its name.
        agent: AgentName,
    },
    /// A client connected with a good token. Answered by [`Reply::Connected`].
    Connect {
        /// Its tenant.
        tenant: TenantName,
        /// Its name.
        agent: AgentName,
        /// The hub's number of the connection, never used twice in the life of a process.
        connection: u64,
        /// End of its token.
        token_expires_at: Timestamp,
    },
    /// The client's handlers exist. Answered by [`Reply::Ready`].
    Ready {
        /// The connection.
        connection: u64,
        /// Life of the agent's store; zero for a client that keeps none.
        agent_epoch: u64,
        /// The agent remembers every message from this number on.
        floor: Seq,
        /// Highest number below which the agent has all.
        cursor: Seq,
        /// Highest number the agent has, when it says so. One lower than it told of before shows
        /// that its store was replaced by an older copy of itself.
        highest: Option<Seq>,
        /// The centre's epoch that `floor` and `cursor` belong to; zero when the agent knows none.
        centre_epoch: u64,
        /// Lanes that are parked at the agent, at most [`limits::PARKED_LANES_TOLD_MAX`].
        parked: Vec<ParkedLane>,
    },
    /// A connection ended.
    Disconnect {
        /// The connection.
        connection: u64,
    },
    /// A message can never be pushed: its body is damaged, or larger than any connection carries. It
    /// ends dead, with this reason, instead of being offered for ever (I5).
    Undeliverable {
        /// The message.
        id: MessageId,
        /// Which life of it.
        generation: u32,
        /// Why.
        reason: Outcome,
    },
    /// Acknowledgements read from an ack store, in its order.
    Acks {
        /// Life of that ack store.
        source: u64,
        /// Position of the last record read, whether it held an acknowledgement or not.
        through: Position,
        /// The acknowledgements read.
        acks: Vec<Ack>,
        /// Positions up to `through` whose records are damaged: what they said is lost.
        damaged: Vec<Position>,
    },
    /// An ack store holds fewer records than were read from it: it is an older copy of itself.
    ReadAcksAgain {
        /// Life of that ack store.
        source: u64,
    },
    /// Somebody asks about a message. Answered by [`Reply::Message`].
    Look {
        /// The asker's tenant.
        tenant: TenantName,
        /// The message.
        id: MessageId,
    },
    /// Somebody takes a message back. Answered by [`Reply::Operated`].
    Cancel {
        /// Whoever's tenant.
        tenant: TenantName,
        /// The message.
        id: MessageId,
        /// Who: the subject of the token.
        by: String,
    },
    /// Somebody wants a message that has ended done once more. Answered by [`Reply::Operated`].
    Reprocess {
        /// Whoever's tenant.
        tenant: TenantName,
        /// The message.
        id: MessageId,
        /// Also when its agent may no longer remember it, so that it may be done twice.
        may_process_twice: bool,
        /// Who: the subject of the token.
        by: String,
    },
    /// Somebody wants something done to many messages. Answered by [`Reply::Operation`].
    Begin(Box<Order>),
    /// Somebody stops an operation. Answered by [`Reply::Operation`].
    StopOperation {
        /// Whoever's tenant.
        tenant: TenantName,
        /// The operation.
        id: OperationId,
        /// Who: the subject of the token.
        by: String,
    },
    /// Somebody asks how far an operation is. Answered by [`Reply::Operation`].
    LookOperation {
        /// The asker's tenant.
        tenant: TenantName,
        /// The operation.
        id: OperationId,
        /// How many results to leave out before the first.
        after: usize,
        /// How many results to tell.
        count: usize,
    },
    /// Somebody asks for all operations. Answered by [`Reply::Operations`].
    ListOperations {
        /// The asker's tenant.
        tenant: TenantName,
    },
    /// Somebody asks which messages a filter may mean. Answered by [`Reply::Page`].
    List {
        /// The asker's tenant.
        tenant: TenantName,
        /// The filter. What it says of types, reasons and instants stands in the journal, and is
        /// left to whoever asks: see [`Facts`].
        filter: Filter,
        /// Where to go on.
        after: Option<Cursor>,
        /// Most messages to look at.
        count: usize,
    },
    /// Somebody asks for one message as a list would show it. Answered by [`Reply::Page`].
    ListOne {
        /// The asker's tenant.
        tenant: TenantName,
        /// The messages.
        ids: Vec<MessageId>,
    },
    /// Somebody holds everything back from a recipient, or lets it go again. Answered by
    /// [`Reply::Operated`].
    Pause {
        /// Its tenant.
        tenant: TenantName,
        /// Its name.
        agent: AgentName,
        /// Whether to hold back.
        paused: bool,
        /// Why.
        reason: String,
        /// Who: the subject of the token.
        by: String,
    },
    /// Somebody lets a parked lane go on. Answered by [`Reply::Operated`].
    ResumeLane {
        /// The recipient's tenant.
        tenant: TenantName,
        /// Its name.
        agent: AgentName,
        /// The lane.
        lane: LaneName,
        /// Why.
        reason: String,
        /// Who: the subject of the token.
        by: String,
    },
    /// Somebody asks about a recipient. Answered by [`Reply::Agent`].
    LookAgent {
        /// The asker's tenant.
        tenant: TenantName,
        /// Its name.
        agent: AgentName,
    },
    /// Somebody asks how far the acks of a store were read. Answered by [`Reply::AcksRead`].
    LookAcksRead {
        /// Life of that ack store.
        source: u64,
    },
    /// Somebody asks which acknowledgements name messages that are not known. Answered by
    /// [`Reply::Orphans`].
    LookOrphans {
        /// The asker's tenant.
        tenant: TenantName,
        /// Behind this message.
        after: Option<MessageId>,
        /// At most so many.
        limit: usize,
    },
    /// Somebody measures the centre. Answered by [`Reply::Measured`].
    Measure,
    /// Somebody asks for the counters. Answered by [`Reply::Counted`].
    Count,
    /// A large body is whole and durable in the store of bodies. One that is known changes nothing.
    KeepBody(NewBody),
    /// Somebody asks about a large body. Answered by [`Reply::Body`].
    LookBody {
        /// The asker's tenant.
        tenant: TenantName,
        /// The body.
        body: BodyId,
    },
    /// Whoever keeps the store of bodies asks which must be there. Answered by [`Reply::Bodies`].
    LookBodies,
    /// What [`Effect::BatchRecorded`] said, brought back.
    BatchRecorded {
        /// The batch.
        batch: u64,
    },
    /// The caller read back the accepted record of a message named by [`Effect::CopyForward`].
    Carry {
        /// The message.
        id: MessageId,
        /// Its accepted record, as written.
        accepted: Bytes,
    },
}

/// What the centre asks the world to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effect {
    /// Close this connection: a newer one of the same recipient has taken its place.
    Supersede {
        /// The connection.
        connection: u64,
    },
    /// Push a message.
    Push(Push),
    /// Tell the client that these lanes, which it has parked, go on. It is told again at each
    /// `ready` until it no longer names them.
    Resume {
        /// The connection.
        connection: u64,
        /// The lanes, by what parked them.
        lanes: Vec<Resumed>,
    },
    /// A message changed its state: whoever waits for that may look again.
    Changed {
        /// The message.
        id: MessageId,
    },
    /// A batch for the archive is recorded: bring that as [`Input::BatchRecorded`], so that the
    /// archive may keep it.
    BatchRecorded {
        /// The batch.
        batch: u64,
    },
    /// Nobody refers to this large body any more: remove it. One that a crash leaves behind is
    /// brought as [`Input::KeepBody`] at the next start, and dropped again in its time.
    DropBody {
        /// The body.
        body: BodyId,
    },
    /// Read back this message's accepted record and bring it as [`Input::Carry`].
    CopyForward {
        /// The message.
        id: MessageId,
        /// Where its accepted record stands.
        accepted: Position,
    },
}

/// What the centre answers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reply {
    /// To [`Input::Submit`].
    Submitted(Result<Receipt, Refusal>),
    /// To [`Input::FanOut`].
    FannedOut(Result<FanOutReceipt, Refusal>),
    /// To [`Input::LookFanOut`].
    FanOut(Option<Box<FanOutView>>),
    /// To [`Input::ChangeMember`].
    GroupVersion(Result<u64, Refusal>),
    /// To [`Input::LookGroup`].
    Group(Option<GroupView>),
    /// To [`Input::LookGroups`].
    Groups(Vec<GroupSummary>),
    /// To [`Input::Register`].
    Registered(Result<(), Refusal>),
    /// To [`Input::Connect`].
    Connected(Result<Term, Refusal>),
    /// To [`Input::Ready`]; `None` when the connection no longer counts.
    Ready(Option<Welcome>),
    /// To [`Input::Look`].
    Message(Option<View>),
    /// To [`Input::Cancel`], [`Input::Reprocess`], [`Input::Pause`], [`Input::Label`] and
    /// [`Input::ResumeLane`].
    Operated(Result<(), Refusal>),
    /// To [`Input::LookAgent`].
    Agent(Option<AgentView>),
    /// To [`Input::LookAcksRead`]; zero when nothing was read.
    AcksRead(Position),
    /// To [`Input::LookOrphans`].
    Orphans(OrphanPage),
    /// To [`Input::Measure`].
    Measured(Box<Measures>),
    /// To [`Input::Count`].
    Counted(Box<Counters>),
    /// To [`Input::LookBody`].
    Body(Option<BodyView>),
    /// To [`Input::LookBodies`].
    Bodies(Vec<BodyId>),
    /// To [`Input::Begin`], [`Input::StopOperation`] and [`Input::LookOperation`].
    Operation(Box<Result<OperationView, Refusal>>),
    /// To [`Input::ListOperations`], the newest first.
    Operations(Vec<OperationView>),
    /// To [`Input::List`] and [`Input::ListOne`].
    Page(Box<Page>),
    /// To every other input.
    Done,
}

/// Proof of a durable send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The message's id: another than the submitted one when the key was known.
    pub id: MessageId,
    /// Where the fact stands.
    pub position: Position,
    /// Life of the store that holds it.
    pub epoch: u64,
    /// Its number among the recipient's messages.
    pub seq: Seq,
    /// The key was known: this is the earlier message, nothing new was accepted.
    pub repeated: bool,
    /// Whether the recipient was connected and ready.
    pub online: bool,
}

/// The answer to a client that is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// Life of the centre's store.
    pub epoch: u64,
    /// No message below this number will ever be pushed again to this recipient (N2).
    pub oldest_replayable: Seq,
    /// What the client missed for good, if anything (I13).
    pub gap: Option<Gap>,
    /// Messages that may be in flight.
    pub window_messages: u32,
    /// Messages waiting at this moment.
    pub waiting: u64,
    /// Lanes that go on, which the client may still hold.
    pub resumed: Vec<Resumed>,
}

/// What a returning client missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Gap {
    /// So many messages ended (expired, cancelled) before they reached it.
    Ended {
        /// How many.
        count: u64,
    },
    /// The centre's store was restored: its numbers mean something else now.
    OtherEpoch,
}

/// The centre.
#[derive(Debug)]
pub struct Centre {
    policy: Policy,
    state: State,
    archive: Box<dyn Archive>,
    /// Recipients with something to push whose tokens seemed to be over.
    token_over: BTreeSet<RecipientNo>,
}

impl Centre {
    /// An empty centre that keeps all it remembers in memory.
    pub fn new(policy: Policy) -> Self {
        Self::with_archive(policy, NoArchive)
    }

    /// An empty centre that keeps only the last messages that have ended in memory.
    pub fn with_archive(policy: Policy, archive: impl Archive) -> Self {
        Self {
            policy,
            state: State::default(),
            archive: Box::new(archive),
            token_over: BTreeSet::new(),
        }
    }

    /// Its state, for checkers.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Writes `record` and applies it: the only way the state ever changes.
    fn write(&mut self, record: &Record<'_>, out: &mut Out<Self>) -> Position {
        let position = out.record(record);
        self.apply(position, record)
            .expect("a record just decided follows from the state");
        position
    }

    fn apply(&mut self, position: Position, record: &Record<'_>) -> Result<(), RecordError> {
        self.state.apply(position, record, &self.policy)?;
        self.apply_to_archive(record);
        Ok(())
    }
}

impl Machine for Centre {
    type Input = Input;
    type Effect = Effect;
    type Reply = Reply;
    type Image = StateImage;

    fn step(&mut self, input: Input, now: Timestamp, out: &mut Out<Self>) {
        let reply = match input {
            Input::Submit(message) => Reply::Submitted(self.submit(&message, now, out)),
            Input::FanOut(fan_out) => Reply::FannedOut(self.fan_out(&fan_out, now, out)),
            Input::LookFanOut {
                tenant,
                id,
                children,
            } => Reply::FanOut(self.look_fan_out(&tenant, id, children, out).map(Box::new)),
            Input::ChangeMember {
                tenant,
                group,
                agent,
                member,
                by,
            } => Reply::GroupVersion(self.change_member(
                (&tenant, &group),
                &agent,
                member,
                &by,
                now,
                out,
            )),
            Input::LookGroup { tenant, group } => {
                Reply::Group(self.state.group_view(&tenant, &group))
            }
            Input::LookGroups {
                tenant,
                after,
                at_most,
            } => Reply::Groups(self.state.groups_of(&tenant, after.as_ref(), at_most)),
            Input::Label {
                tenant,
                agent,
                changes,
                by,
            } => Reply::Operated(self.label(&tenant, &agent, &changes, &by, now, out)),
            Input::Register { tenant, agent } => {
                Reply::Registered(self.known_or_new(&tenant, &agent, now, out).map(|_| ()))
            }
            Input::Connect {
                tenant,
                agent,
                connection,
                token_expires_at,
            } => Reply::Connected(self.connect(
                &tenant,
                &agent,
                connection,
                token_expires_at,
                now,
                out,
            )),
            Input::Ready {
                connection,
                agent_epoch,
                floor,
                cursor,
                highest,
                centre_epoch,
                parked,
            } => Reply::Ready(self.ready(
                connection,
                agent_epoch,
                floor,
                cursor,
                highest,
                centre_epoch,
                &parked,
                now,
                out,
            )),
            Input::Disconnect { connection } => {
                self.disconnect(connection, now, out);
                Reply::Done
            }
            Input::Undeliverable {
                id,
                generation,
                reason,
            } => {
                self.undeliverable(id, generation, reason, now, out);
                Reply::Done
            }
            Input::Acks {
                source,
                through,
                acks,
                damaged,
            } => {
                self.acks(source, through, acks, damaged, now, out);
                Reply::Done
            }
            Input::ReadAcksAgain { source } => {
                self.read_acks_again(source, now, out);
                Reply::Done
            }
            Input::Look { tenant, id } => Reply::Message(self.look(&tenant, id, out)),
            Input::Cancel { tenant, id, by } => {
                Reply::Operated(self.cancel(&tenant, id, &by, now, out))
            }
            Input::Reprocess {
                tenant,
                id,
                may_process_twice,
                by,
            } => {
                let twice = may_process_twice;
                Reply::Operated(self.reprocess(&tenant, id, &by, twice, None, now, out))
            }
            Input::Begin(order) => {
                Reply::Operation(Box::new(self.begin_operation(&order, now, out)))
            }
            Input::StopOperation { tenant, id, by } => {
                Reply::Operation(Box::new(self.stop_operation(&tenant, id, &by, now, out)))
            }
            Input::LookOperation {
                tenant,
                id,
                after,
                count,
            } => {
                let view = self.look_at_operation(&tenant, id, (after, count));
                Reply::Operation(Box::new(view.ok_or(Refusal::UnknownOperation { id })))
            }
            Input::ListOperations { tenant } => Reply::Operations(self.list_operations(&tenant)),
            Input::List {
                tenant,
                filter,
                after,
                count,
            } => Reply::Page(Box::new(self.list(&tenant, &filter, after, count, out))),
            Input::ListOne { tenant, ids } => {
                Reply::Page(Box::new(self.list_named(&tenant, &ids, out)))
            }
            Input::Pause {
                tenant,
                agent,
                paused,
                reason,
                by,
            } => Reply::Operated(self.pause(&tenant, &agent, paused, (&reason, &by), now, out)),
            Input::ResumeLane {
                tenant,
                agent,
                lane,
                reason,
                by,
            } => Reply::Operated(self.resume_parked(
                &tenant,
                &agent,
                &lane,
                (&reason, &by),
                now,
                out,
            )),
            Input::LookAgent { tenant, agent } => {
                let mut view = self.state.agent(&tenant, &agent);
                for lane in view.iter_mut().flat_map(|view| &mut view.parked) {
                    lane.last = self.known(lane.by, out).map_or(0, |message| message.last);
                }
                Reply::Agent(view)
            }
            Input::BatchRecorded { batch } => {
                self.archive.release(batch);
                Reply::Done
            }
            Input::LookAcksRead { source } => Reply::AcksRead(self.state.acks_read(source)),
            Input::LookOrphans {
                tenant,
                after,
                limit,
            } => Reply::Orphans(self.state.orphans.page(&tenant, after, limit.max(1))),
            Input::Measure => Reply::Measured(Box::new(self.state.measures())),
            Input::KeepBody(body) => {
                self.keep_body(&body, now, out);
                Reply::Done
            }
            Input::LookBody { tenant, body } => Reply::Body(self.state.body(&tenant, body)),
            Input::LookBodies => Reply::Bodies(self.state.bodies()),
            Input::Count => Reply::Counted(Box::new(self.state.counters().clone())),
            Input::Carry { id, accepted } => {
                self.carry(id, &accepted, now, out);
                Reply::Done
            }
        };
        self.judge_quorums(now, out);
        self.archive_old(now, out);
        out.reply(reply);
    }

    fn grows(input: &Input) -> bool {
        matches!(
            input,
            Input::Submit(_)
                | Input::FanOut(_)
                | Input::Register { .. }
                | Input::ChangeMember { member: true, .. }
                | Input::Label { .. }
                | Input::Reprocess { .. }
                | Input::KeepBody(_)
                | Input::Begin(_)
        )
    }

    fn deadline(&mut self, now: Timestamp, out: &mut Out<Self>) {
        self.expire_due(now, out);
        self.enqueue_due(now, out);
        self.release_lanes(now, out);
        self.operate_due(now, out);
        self.push_overdue(now, out);
        self.judge_quorums(now, out);
        self.miss_quorums(now, out);
        self.age_fan_outs(now, out);
        self.age_out(now, out);
        self.drop_unclaimed(now, out);
        self.archive_old(now, out);
        self.look_at_tokens(now, out);
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        self.state.next_deadline(self.policy.retention)
    }

    fn restore(&mut self, position: Position, record: &[u8]) -> Result<(), RecordError> {
        let record = decode_record(record)?;
        self.apply(position, &record)
    }

    fn lacking(&mut self) -> Result<Vec<Position>, String> {
        self.archive_lacks().map_err(|error| error.to_string())
    }

    fn supply(&mut self, record: &[u8]) -> Result<(), RecordError> {
        self.archive_again(record)
    }

    fn started(&mut self, start: Start, now: Timestamp, out: &mut Out<Self>) {
        let record = Record::Started {
            at: now,
            epoch: start.epoch,
        };
        self.write(&record, out);
        let damaged = self.state.unknown_damage(&start.damaged);
        if !damaged.is_empty() {
            self.write(&Record::Damaged { at: now, damaged }, out);
        }
    }

    fn image(&self) -> StateImage {
        self.state.image()
    }

    fn load(&mut self, image: &[u8]) -> Result<(), RecordError> {
        self.state = State::load(image)?;
        Ok(())
    }

    fn oldest_needed(&self) -> Position {
        self.state.oldest_needed()
    }

    fn release(&mut self, before: Position, bytes_max: u64, out: &mut Out<Self>) {
        self.copy_forward(before, bytes_max, out);
    }

    fn mark(&mut self, now: Timestamp, out: &mut Out<Self>) {
        self.write(&Record::TimePassed { at: now }, out);
    }
}
