//! What the centre tells of a message and of a recipient.

use super::{End, Labels, Seq};
use crate::machine::Position;
use crate::message::{AgentName, MessageId};
use crate::time::Timestamp;
use alloc::vec::Vec;

/// Where a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// Waits to be pushed.
    Queued,
    /// Pushed, no receipt yet.
    Offered,
    /// On the agent's disk.
    Received,
    /// Finished.
    Ended(End),
}

/// What the state knows of a message; the rest stands in its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The message.
    pub id: MessageId,
    /// Where it is.
    pub place: Place,
    /// Its recipient.
    pub agent: AgentName,
    /// Whether the recipient is connected and ready.
    pub online: bool,
    /// Its number among the recipient's messages; zero while it is not due.
    pub seq: Seq,
    /// Its last record; each names the one before.
    pub last: Position,
    /// Pushes of the current generation.
    pub pushes: u32,
    /// Which life of the message.
    pub generation: u32,
    /// Whether it has ended and was put away.
    pub is_discarded: bool,
    /// What holds it back, when it is not its turn alone.
    pub hold: Option<Hold>,
}

/// What holds a message back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hold {
    /// Its sender: it is not due before this.
    NotBefore(Timestamp),
    /// An operator, who holds everything back from its recipient.
    Paused,
    /// Its lane, here and at its site: this message ended dead or rejected, and parked it.
    LaneParked {
        /// The message.
        by: MessageId,
    },
}

/// What the state knows of a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentView {
    /// Whether it is connected and ready.
    pub online: bool,
    /// Whether everything is held back from it.
    pub paused: bool,
    /// Unfinished messages that are due.
    pub waiting: u64,
    /// Those of them that were pushed and have no receipt yet.
    pub in_flight: u64,
    /// Messages that are not due, or held in parked lanes and never pushed.
    pub held: u64,
    /// The labels it carries.
    pub labels: Labels,
    /// Its parked lanes.
    pub parked: Vec<LaneView>,
}

/// What the state knows of a parked lane. Its name stands in the record of the message that parked it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneView {
    /// The message whose end parked it.
    pub by: MessageId,
    /// Which life of it.
    pub generation: u32,
    /// That message's last record; zero when it is forgotten.
    pub last: Position,
    /// Unfinished messages of the lane, here and at the site.
    pub behind: u64,
    /// Those of them that are held here.
    pub held: u64,
}
