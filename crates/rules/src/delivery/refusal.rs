//! Why the centre refuses an input, with what the sender needs to know of it.

use super::OperationId;
use crate::body::BodyId;
use crate::limits::{self, OPERATION_PAIRS_MAX};
use crate::message::{AgentName, GroupName, LaneName, MessageId};

/// Why an input was refused. Nothing was recorded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Nobody registered this recipient and it never connected.
    #[error("recipient {agent} is not known")]
    UnknownRecipient {
        /// The name given.
        agent: AgentName,
    },
    /// The key was used for something else.
    #[error("the idempotency key was used before for message {id} with another content")]
    KeyReused {
        /// The message it was used for.
        id: MessageId,
    },
    /// Another message has this id, and no key says that it is the same one.
    #[error("there is another message with the id {id}")]
    IdTaken {
        /// The id.
        id: MessageId,
    },
    /// There is no such large body, or it is another tenant's, or another one than was said.
    #[error("the large body {body} is not known")]
    UnknownBody {
        /// The id given.
        body: BodyId,
    },
    /// A send to many refers to a large body.
    #[error("the large body {body} cannot go to many in one send")]
    BodyToMany {
        /// The id given.
        body: BodyId,
    },
    /// The body is over the limit.
    #[error("the body has {bytes} bytes, at most {bytes_max} are allowed")]
    BodyTooLarge {
        /// Its length.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The store holds as many unfinished messages as it may.
    #[error("the store holds {pending} unfinished messages, which is its limit")]
    Full {
        /// How many.
        pending: u64,
    },
    /// The store knows as many recipients as it may.
    #[error("the store knows {recipients} recipients, which is its limit")]
    TooManyRecipients {
        /// How many.
        recipients: usize,
    },
    /// The life of the message is over already.
    #[error("the message would expire before it is accepted")]
    AlreadyExpired,
    /// The token's life is over.
    #[error("the token has expired")]
    TokenExpired,
    /// There is no such message, or it is another tenant's.
    #[error("message {id} is not known")]
    UnknownMessage {
        /// The id given.
        id: MessageId,
    },
    /// It cannot be taken back any more.
    #[error("it is too late to cancel message {id}: {why}")]
    TooLate {
        /// The message.
        id: MessageId,
        /// What has happened to it.
        why: &'static str,
    },
    /// No such lane is parked.
    #[error("lane {lane:?} is not parked")]
    NotParked {
        /// The lane given.
        lane: LaneName,
    },
    /// There is no such group, or it is another tenant's.
    #[error("group {group} is not known")]
    UnknownGroup {
        /// The name given.
        group: GroupName,
    },
    /// A send to many would be for nobody.
    #[error("nobody is addressed: the group is empty, or nobody carries these labels")]
    NobodyAddressed,
    /// A send to many would be for more than are allowed.
    #[error("more than {max} recipients are addressed", max = limits::RECIPIENTS_PER_SEND_MAX)]
    TooManyAddressed,
    /// As many sends to many are remembered as may be.
    #[error("as many sends to many are remembered as may be")]
    TooManyFanOuts,
    /// There are as many groups, or as many memberships, as may be.
    #[error("there are as many groups or memberships as may be")]
    TooManyGroups,
    /// A recipient would carry more labels than it may.
    #[error("the recipient would carry {labels} labels, at most {max} are allowed", max = limits::LABELS_PER_RECIPIENT_MAX)]
    TooManyLabels {
        /// How many.
        labels: usize,
    },
    /// The deadline is not in the future.
    #[error("the deadline is not in the future")]
    DeadlinePassed,
    /// More have to be done than are addressed.
    #[error("{wanted} recipients have to be done and {addressed} are addressed")]
    QuorumTooLarge {
        /// How many have to be done.
        wanted: u32,
        /// How many are addressed.
        addressed: u32,
    },
    /// It stands for many messages.
    #[error("message {id} is a send to many: name one of its messages")]
    IsFanOut {
        /// The id given.
        id: MessageId,
    },
    /// Its agent no longer remembers it, so that doing it once more may do it twice (N2).
    #[error("the agent no longer remembers message {id}: doing it once more may do it twice")]
    BelowFloor {
        /// The message.
        id: MessageId,
    },
    /// There is no such operation, or it is another tenant's.
    #[error("operation {id} is not known")]
    UnknownOperation {
        /// The id given.
        id: OperationId,
    },
    /// Another operation has this id.
    #[error("there is another operation with the id {id}")]
    OperationIdTaken {
        /// The id.
        id: OperationId,
    },
    /// It is about more messages than one operation may be.
    #[error("{count} messages are meant, one operation takes at most {OPERATION_PAIRS_MAX}")]
    OperationTooLarge {
        /// How many.
        count: usize,
    },
    /// As many operations go on as may.
    #[error("{running} operations are going on, which are as many messages as may be")]
    TooManyOperations {
        /// How many.
        running: usize,
    },
    /// It is still under way, so that doing it once more would do it twice.
    #[error("message {id} has not ended")]
    NotEnded {
        /// The message.
        id: MessageId,
    },
}
