//! Known defects that a test can switch on, to prove that the checker meant for them sees them.
//!
//! Without the feature `planted-bugs`, [`Planted`] has one value, "none", and every question about
//! it is answered `false` at compile time.

/// One planted defect; [`Planted::None`] in every real build.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Planted {
    /// No defect.
    #[default]
    None,
    /// I1: a send is answered although its record was never written.
    AcceptWithoutRecord,
    /// I2: the body of another message is pushed.
    PushForeignBody,
    /// I3: idempotency keys are not remembered over a restart.
    ForgetKeys,
    /// I3: the keys of messages in the archive are not looked for.
    ForgetArchivedKeys,
    /// I4: a message leaves the pending ones without reaching a final state.
    DropOnDisconnect,
    /// I6: what was pushed in vain goes to the end of its queue.
    RequeueAtEnd,
    /// I7: a message is pushed twice without a cause.
    PushTwice,
    /// I9: a failed attempt is acknowledged as done.
    AcknowledgeFailure,
    /// I11: a second final acknowledgement overrides the first.
    LastAckWins,
    /// I13: what was pushed but not received is not offered again.
    NoReoffer,
    /// I14: an older connection stays current.
    NoSupersede,
    /// I18: the ack cursor moves on although the acks were not applied.
    CursorBeforeAcks,
    /// I16: a recipient that an operator has paused is pushed to.
    PushPaused,
    /// I24: a message is done once more as if nothing had been done before.
    SameGeneration,
    /// I24: an operation takes another message than the one that it named.
    ReplayNeighbour,
    /// I24: after a restart an operation takes again what it took last.
    RepeatReplay,
    /// I24: what its agent no longer remembers is done once more, although nobody allowed it.
    IgnoreFloor,
    /// I25: a message is said to be taken back, and is not.
    CancelWithoutRecord,
    /// I25: a message is pushed before it is due.
    PushBeforeDue,
    /// I6: a message goes past another that waits, and nothing is recorded of it.
    PassUnrecorded,
    /// I6: a lane goes on by itself after it was parked.
    ResumeUnasked,
    /// I6: what is sent into a parked lane is pushed.
    PushParked,
    /// I6: of what is due together, the last that was sent goes first.
    LastDueFirst,
    /// I23: a push that repeats, because a connection ended, counts as an attempt.
    CountDisconnects,
    /// I23: a message is tried for ever.
    PoisonForever,
    /// I26: one of those who are addressed gets nothing.
    SkipMember,
    /// I26: whoever left a group is still addressed.
    KeepMember,
    /// N14: a quorum is said to be reached one too early.
    QuorumTooEarly,
    /// I1: a message is accepted that refers to a body which is not there.
    ReferUnknownBody,
}

impl Planted {
    /// Whether this is the defect `bug`. Always `false` without the feature `planted-bugs`.
    pub fn is(self, bug: Planted) -> bool {
        cfg!(feature = "planted-bugs") && self == bug
    }
}
