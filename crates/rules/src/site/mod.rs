//! The site: a message is kept before it is worked on, worked on until it ends, and its end is told
//! until the centre has heard it.
//!
//! *Seen* and *done* are two facts, never one: a message is seen when its record in the inbox is
//! durable, and done only when the back office's answer is (I8, I9). A crash between the two leaves
//! it to be worked on again, with the attempt counted and the repeat declared (I10, I23).
//!
//! One message of a lane is worked on at a time, in the order of arrival, which is the centre's
//! order (I6). Messages of different lanes are worked on side by side. What is behind a message that
//! failed waits for it, passes it or is held, as that message's [rule](crate::lane::LaneRule) says.
//!
//! Left out on purpose: what the work is (a sink's business), and how an acknowledgement travels
//! (a poster's business: it takes what is owed and says what arrived).

mod lanes;
mod record;
mod state;

#[cfg(test)]
mod tests;

pub use lanes::ParkedLane;
pub use record::{Record, Worked, decode_envelope, decode_record};
use state::RunningAttempt;
pub use state::{AckOwed, OwedStage, State};

use crate::ack::{FORGOTTEN, Outcome, Stage};
use crate::lane::LaneRule;
use crate::limits;
use crate::machine::{Machine, Out, Position, Start};
use crate::message::{LaneName, MessageId, TypeName};
use crate::planted::Planted;
use crate::record::RecordError;
use crate::retry::RetryPolicy;
use crate::time::{Duration, Timestamp};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;

/// What the site is told to do by whoever runs it; every default says why.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Messages worked on at the same time, each of another lane. Default: 8.
    pub workers: u32,
    /// How a message that failed is tried again.
    pub retry: RetryPolicy,
    /// The same for messages of these types. Default: none.
    pub types: BTreeMap<TypeName, RetryPolicy>,
    /// A defect planted by a test; none otherwise.
    pub planted: Planted,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            workers: 8,
            retry: RetryPolicy::default(),
            types: BTreeMap::new(),
            planted: Planted::None,
        }
    }
}

impl Policy {
    /// How a message of this type is tried again.
    pub fn retry_of(&self, kind: Option<&TypeName>) -> &RetryPolicy {
        let own = kind.and_then(|kind| self.types.get(kind));
        own.unwrap_or(&self.retry)
    }

    /// The longest wait that any type allows.
    fn wait_max(&self) -> Duration {
        let waits = self.types.values().map(|retry| retry.delay_max);
        waits.fold(self.retry.delay_max, Duration::max)
    }
}

/// A message as it came over the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Its id.
    pub id: MessageId,
    /// Which life of it.
    pub generation: u32,
    /// Its number among this site's messages.
    pub seq: u64,
    /// Number of the push that brought it.
    pub attempt: u32,
    /// Its lane.
    pub lane: LaneName,
    /// What its failure means for the messages behind it.
    pub rule: LaneRule,
    /// Its type, where the envelope could be read.
    pub kind: Option<TypeName>,
    /// Attempts before it is dead, when the sender said so.
    pub attempts_max: Option<u32>,
    /// The envelope as it came: raw JSON.
    pub envelope: Bytes,
}

/// A lane that somebody at the centre lets go on: the one that this life of a message, or an earlier
/// one, has parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resumed {
    /// The message.
    pub id: MessageId,
    /// Which life of it.
    pub generation: u32,
}

/// What can happen to the site.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Input {
    /// Pushes arrived, in this order. All of them are taken in, or, when the disk runs short, none:
    /// were some refused, later ones could get in before them (I6). Answered by
    /// [`Reply::Arrived`] once they are durable.
    Arrived(Vec<Arrival>),
    /// The centre welcomed the connection.
    Welcomed {
        /// Life of the centre's store.
        centre_epoch: u64,
        /// No message below this number will ever be pushed again.
        oldest_replayable: u64,
    },
    /// The centre says that these lanes go on. Repeated at each connect until the site no longer
    /// names them, so it need not be answered.
    Resumed(Vec<Resumed>),
    /// Work ended.
    Worked {
        /// The message.
        id: MessageId,
        /// Which life of it.
        generation: u32,
        /// The attempt.
        attempt: u32,
        /// How it ended.
        result: WorkResult,
        /// How long it took, in milliseconds.
        duration_ms: u32,
    },
    /// The poster asks what is owed to the centre. Answered by [`Reply::Owed`].
    TakeOwed {
        /// At most so many.
        at_most: usize,
    },
    /// The ack API took these, durably.
    Posted {
        /// Their numbers.
        numbers: Vec<u64>,
    },
    /// The connection asks what to say at `ready`. Answered by [`Reply::Standing`].
    LookStanding,
    /// Somebody asks for the counters. Answered by [`Reply::Counted`].
    Count,
    /// Somebody asks about one life of a message. Answered by [`Reply::Message`].
    LookMessage {
        /// The message.
        id: MessageId,
        /// Which life of it.
        generation: u32,
    },
    /// Somebody asks about all lives of a message. Answered by [`Reply::Message`].
    LookLives {
        /// The message.
        id: MessageId,
    },
    /// The process is about to end: no more attempts are started in it. An attempt begun and not
    /// ended counts (I23), so one that nobody runs must not begin. Answered once every attempt
    /// begun before was asked for; the last effect is [`Effect::NoMoreWork`].
    StopWork,
    /// The caller read back what [`Effect::CopyForward`] named.
    Carry {
        /// The message.
        id: MessageId,
        /// Which life of it.
        generation: u32,
        /// The record it stands in, as written.
        inboxed: Bytes,
    },
}

/// How one attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WorkResult {
    /// The back office has it; its effect is committed.
    Done(Outcome),
    /// The back office refused it for good.
    Rejected(Outcome),
    /// It failed and may succeed later.
    Failed {
        /// Why.
        outcome: Outcome,
        /// When the back office asked to be tried again, if it did.
        retry_after: Option<Duration>,
    },
    /// Nobody can ever work on it: it cannot be parsed. It is dead at once.
    Unusable(Outcome),
    /// The back office is working on it and has not answered: it is asked again. No attempt has
    /// failed, and the next question belongs to the same one; but after
    /// [`limits::STILL_WORKING_MAX`] of these answers the attempt has failed.
    StillWorking {
        /// What it said.
        outcome: Outcome,
        /// When it asked to be asked again, if it did.
        ask_after: Option<Duration>,
    },
}

/// What the site asks the world to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effect {
    /// Work on this message.
    Work(Work),
    /// No further [`Effect::Work`] follows in this process.
    NoMoreWork,
    /// Something is owed to the centre: the poster may ask for it.
    Owing,
    /// Read back this message's record and bring it as [`Input::Carry`].
    CopyForward {
        /// The message.
        id: MessageId,
        /// Which life of it.
        generation: u32,
        /// Where it stands.
        inboxed: Position,
    },
}

/// One attempt at one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// The message.
    pub id: MessageId,
    /// Which life of it.
    pub generation: u32,
    /// The attempt, from 1.
    pub attempt: u32,
    /// Where its [`Record::Inboxed`] (or the [`Record::Carried`] around it) stands.
    pub inboxed: Position,
    /// An earlier attempt was cut short by a crash: its effect may have happened.
    pub possibly_repeated: bool,
}

/// What the site answers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reply {
    /// To [`Input::Arrived`].
    Arrived {
        /// How many were new, and are durable now.
        new: usize,
    },
    /// To [`Input::TakeOwed`].
    Owed(Vec<AckOwed>),
    /// To [`Input::LookStanding`].
    Standing(Standing),
    /// To [`Input::Count`].
    Counted(Counters),
    /// To [`Input::LookMessage`] and [`Input::LookLives`].
    Message(Known),
    /// To every other input.
    Done,
}

/// What a site knows of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing.
    No,
    /// It has not ended.
    Unfinished,
    /// It has ended, in each life that was asked about.
    Ended,
}

/// What a site says of itself at `ready`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Life of the site's store.
    pub epoch: u64,
    /// Life of the centre's store that the numbers belong to; zero when none was met.
    pub centre_epoch: u64,
    /// Every message from this number on is remembered.
    pub floor: u64,
    /// Highest number below which all have arrived.
    pub cursor: u64,
    /// Highest number that has arrived, or will never come.
    pub highest: u64,
    /// Its parked lanes, at most [`limits::PARKED_LANES_TOLD_MAX`].
    pub parked: Vec<ParkedLane>,
}

/// How many messages of this site are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Counters {
    /// Ever arrived and new.
    pub arrived: u64,
    /// Arrived again and dropped.
    pub repeated: u64,
    /// Not ended.
    pub waiting: u64,
    /// Being worked on.
    pub running: u64,
    /// Taken by the back office.
    pub done: u64,
    /// Refused by the back office.
    pub rejected: u64,
    /// Attempts used up.
    pub dead: u64,
    /// Owed to the centre.
    pub owed: u64,
    /// Lanes that are parked.
    pub lanes_parked: u64,
    /// Of those waiting, the ones in parked lanes.
    pub held: u64,
}

/// The site.
#[derive(Debug)]
pub struct Site {
    policy: Policy,
    state: State,
    /// No more work is started in this process.
    stopping: bool,
}

impl Site {
    /// An empty site.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            state: State::default(),
            stopping: false,
        }
    }

    /// Its state, for checkers.
    pub fn state(&self) -> &State {
        &self.state
    }

    fn write(&mut self, record: &Record<'_>, out: &mut Out<Self>) -> Position {
        let position = out.record(record);
        self.state
            .apply(position, record)
            .expect("a record just decided follows from the state");
        position
    }

    fn arrived(&mut self, arrival: &Arrival, now: Timestamp, out: &mut Out<Self>) -> bool {
        let Arrival { id, generation, .. } = *arrival;
        if self.state.knows(id, generation) {
            // It was pushed again, so the centre has not heard of it: tell it again.
            if self.state.has_told(id, generation) {
                let attempt = arrival.attempt;
                self.write(
                    &Record::Repeated {
                        at: now,
                        id,
                        generation,
                        attempt,
                    },
                    out,
                );
                out.effect(Effect::Owing);
            }
            return false;
        }
        let record = Record::TakenIn {
            at: now,
            id,
            generation,
            seq: arrival.seq,
            attempt: arrival.attempt,
            lane: arrival.lane.clone(),
            rule: arrival.rule,
            kind: arrival.kind.clone(),
            attempts_max: arrival.attempts_max,
            envelope: &arrival.envelope,
        };
        self.write(&record, out);
        out.effect(Effect::Owing);
        // Each life of a message has a number of its own, so none can come from below the floor.
        if self.state.is_below_floor(arrival.seq) {
            self.end_forgotten(id, generation, now, out);
        }
        true
    }

    /// Ends a message of which it cannot be told any more whether it was worked on: the centre had
    /// promised never to push it again, so what was known of it is forgotten. A centre that lost
    /// records can break that promise. Working on it could insert it twice, and silence would leave
    /// it waiting for ever; so a person decides.
    fn end_forgotten(
        &mut self,
        id: MessageId,
        generation: u32,
        now: Timestamp,
        out: &mut Out<Self>,
    ) {
        let detail = "the centre had said that this message would never come again, so the site no \
            longer knows whether it was worked on; look in the back office, then send it anew or \
            leave it";
        let worked = Worked::Dead(Outcome {
            code: String::from(FORGOTTEN),
            detail: String::from(detail),
            data: Vec::new(),
        });
        let record = Record::Worked {
            at: now,
            id,
            generation,
            attempt: 0,
            worked,
            duration_ms: 0,
        };
        self.write(&record, out);
        out.effect(Effect::Owing);
    }

    /// Starts as much work as there are workers and lanes free for it.
    fn start_work(&mut self, now: Timestamp, out: &mut Out<Self>) {
        while !self.stopping && self.state.running() < self.policy.workers {
            let Some(next) = self.state.next_work(now, self.policy.wait_max()) else {
                return;
            };
            let retry = self.policy.retry_of(next.kind.as_ref());
            let is_bounded = !self.policy.planted.is(Planted::PoisonForever);
            if is_bounded && next.attempt > next.attempts_max.unwrap_or(retry.attempts_max) {
                // Only a crash in the last attempt leads here: it counted (I23).
                self.give_up(next.id, next.generation, next.attempt - 1, now, out);
                continue;
            }
            let (id, generation, mut attempt) = (next.id, next.generation, next.attempt);
            if self.policy.planted.is(Planted::CountDisconnects) {
                attempt += next.push.saturating_sub(1);
            }
            let is_recorded = !self.policy.planted.is(Planted::PassUnrecorded);
            if is_recorded && !next.over.is_empty() {
                let record = Record::Passed {
                    at: now,
                    id,
                    generation,
                    over: next.over,
                };
                self.write(&record, out);
            }
            self.write(
                &Record::WorkStarted {
                    at: now,
                    id,
                    generation,
                    attempt,
                },
                out,
            );
            out.effect(Effect::Work(Work {
                id,
                generation,
                attempt,
                inboxed: next.inboxed,
                possibly_repeated: next.interrupted,
            }));
        }
    }

    fn give_up(
        &mut self,
        id: MessageId,
        generation: u32,
        attempt: u32,
        now: Timestamp,
        out: &mut Out<Self>,
    ) {
        let outcome = Outcome {
            code: String::from("interrupted"),
            detail: String::from("the last attempt was cut short by a crash of the agent"),
            data: Vec::new(),
        };
        let worked = Worked::Dead(outcome);
        self.write(
            &Record::Worked {
                at: now,
                id,
                generation,
                attempt,
                worked,
                duration_ms: 0,
            },
            out,
        );
        out.effect(Effect::Owing);
    }

    fn worked(
        &mut self,
        (id, generation, attempt): (MessageId, u32, u32),
        result: WorkResult,
        duration_ms: u32,
        now: Timestamp,
        out: &mut Out<Self>,
    ) {
        // An answer to an attempt that is not running is an echo from before a restart.
        let Some(running) = self.state.running_attempt(id, generation, attempt) else {
            return;
        };
        let worked = self.judge((id, attempt), &running, result, now);
        self.write(
            &Record::Worked {
                at: now,
                id,
                generation,
                attempt,
                worked,
                duration_ms,
            },
            out,
        );
        out.effect(Effect::Owing);
        if self.policy.planted.is(Planted::ResumeUnasked) {
            self.resume(&[Resumed { id, generation }], now, out);
        }
        self.start_work(now, out);
    }

    /// What an attempt's result comes to.
    fn judge(
        &self,
        (id, attempt): (MessageId, u32),
        running: &RunningAttempt,
        result: WorkResult,
        now: Timestamp,
    ) -> Worked {
        let retry = self.policy.retry_of(running.kind.as_ref());
        let attempts_max = running.attempts_max.unwrap_or(retry.attempts_max);
        let (outcome, asked) = match result {
            WorkResult::Done(outcome) => return Worked::Done(outcome.bounded()),
            WorkResult::Rejected(outcome) => return Worked::Rejected(outcome.bounded()),
            WorkResult::Unusable(outcome) => return Worked::Dead(outcome.bounded()),
            WorkResult::StillWorking { outcome, ask_after }
                if running.still_working < limits::STILL_WORKING_MAX =>
            {
                // Never at once: a back office that is busy would be asked as fast as it answers.
                let wait = retry.asked(ask_after.unwrap_or_default().max(retry.delay_first));
                return Worked::StillWorking {
                    not_before: now + wait,
                    outcome: outcome.bounded(),
                };
            }
            WorkResult::StillWorking { outcome, ask_after } => (outcome, ask_after),
            WorkResult::Failed {
                outcome,
                retry_after,
            } => (outcome, retry_after),
        };
        if self.policy.planted.is(Planted::AcknowledgeFailure) {
            return Worked::Done(outcome);
        }
        if attempt >= attempts_max && !self.policy.planted.is(Planted::PoisonForever) {
            return Worked::Dead(outcome.bounded());
        }
        let delay = asked.map_or_else(
            || retry.delay_after(id, attempt),
            |asked| retry.asked(asked),
        );
        Worked::Again {
            not_before: now + delay,
            outcome: outcome.bounded(),
        }
    }

    /// Lets parked lanes go on that are parked for the reasons named.
    fn resume(&mut self, lanes: &[Resumed], now: Timestamp, out: &mut Out<Self>) {
        for &Resumed { id, generation } in lanes {
            let Some(lane) = self.state.parked_by(id, generation).cloned() else {
                continue;
            };
            let record = Record::LaneResumed {
                at: now,
                lane,
                id,
                generation,
            };
            self.write(&record, out);
        }
        self.start_work(now, out);
    }

    fn carry(
        &mut self,
        id: MessageId,
        generation: u32,
        inboxed: &[u8],
        now: Timestamp,
        out: &mut Out<Self>,
    ) {
        let inboxed = match decode_record(inboxed) {
            Ok(Record::Carried { inboxed, .. }) => inboxed,
            _ => inboxed,
        };
        if self.state.is_waiting(id, generation) {
            self.write(
                &Record::Carried {
                    at: now,
                    id,
                    generation,
                    inboxed,
                },
                out,
            );
        }
    }
}

impl Machine for Site {
    type Input = Input;
    type Effect = Effect;
    type Reply = Reply;
    type Image = Vec<u8>;

    fn step(&mut self, input: Input, now: Timestamp, out: &mut Out<Self>) {
        let reply = match input {
            Input::Arrived(group) => {
                let taken_in = |arrival: &&Arrival| self.arrived(arrival, now, out);
                let new = group.iter().filter(taken_in).count();
                self.start_work(now, out);
                Reply::Arrived { new }
            }
            Input::Welcomed {
                centre_epoch,
                oldest_replayable,
            } => {
                if self.state.would_forget(centre_epoch, oldest_replayable) {
                    let record = Record::Floor {
                        at: now,
                        centre_epoch,
                        oldest_replayable,
                    };
                    self.write(&record, out);
                }
                Reply::Done
            }
            Input::Resumed(lanes) => {
                self.resume(&lanes, now, out);
                Reply::Done
            }
            Input::Worked {
                id,
                generation,
                attempt,
                result,
                duration_ms,
            } => {
                self.worked((id, generation, attempt), result, duration_ms, now, out);
                Reply::Done
            }
            Input::TakeOwed { at_most } => Reply::Owed(self.state.owed(at_most)),
            Input::Posted { numbers } => {
                self.write(&Record::Posted { at: now, numbers }, out);
                Reply::Done
            }
            Input::LookStanding => Reply::Standing(self.state.standing()),
            Input::LookMessage { id, generation } => {
                Reply::Message(self.state.known(id, generation))
            }
            Input::LookLives { id } => Reply::Message(self.state.lives(id)),
            Input::Count => Reply::Counted(self.state.counters()),
            Input::StopWork => {
                self.stopping = true;
                out.effect(Effect::NoMoreWork);
                Reply::Done
            }
            Input::Carry {
                id,
                generation,
                inboxed,
            } => {
                self.carry(id, generation, &inboxed, now, out);
                Reply::Done
            }
        };
        out.reply(reply);
    }

    fn grows(input: &Input) -> bool {
        matches!(input, Input::Arrived(_))
    }

    fn deadline(&mut self, now: Timestamp, out: &mut Out<Self>) {
        self.start_work(now, out);
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        if !self.stopping && self.state.running() < self.policy.workers {
            self.state.next_due()
        } else {
            None
        }
    }

    fn restore(&mut self, position: Position, record: &[u8]) -> Result<(), RecordError> {
        let record = decode_record(record)?;
        self.state.apply(position, &record)
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
        out.effect(Effect::Owing);
        self.start_work(now, out);
    }

    fn image(&self) -> Vec<u8> {
        crate::record::encode(&self.state, Vec::new())
    }

    fn load(&mut self, image: &[u8]) -> Result<(), RecordError> {
        self.state = crate::record::decode(image)?;
        Ok(())
    }

    fn oldest_needed(&self) -> Position {
        self.state.oldest_needed()
    }

    fn release(&mut self, before: Position, bytes_max: u64, out: &mut Out<Self>) {
        let old = self.state.inboxed_before(before);
        // An envelope is reckoned at its largest, so that the estimate never errs on the dear side.
        if old.len() as u64 * crate::limits::BODY_BYTES_MAX as u64 > bytes_max {
            return;
        }
        for (id, generation, inboxed) in old {
            out.effect(Effect::CopyForward {
                id,
                generation,
                inboxed,
            });
        }
    }

    fn mark(&mut self, now: Timestamp, out: &mut Out<Self>) {
        self.write(&Record::Marked { at: now }, out);
    }
}

impl Worked {
    /// The stage to acknowledge, when the work has ended.
    pub fn stage(&self) -> Option<Stage> {
        match self {
            Worked::Done(_) => Some(Stage::Acknowledged),
            Worked::Rejected(_) => Some(Stage::Rejected),
            Worked::Dead(_) => Some(Stage::Dead),
            Worked::Again { .. } | Worked::StillWorking { .. } => None,
        }
    }

    /// What the back office said.
    pub fn outcome(&self) -> &Outcome {
        match self {
            Worked::Done(outcome)
            | Worked::Rejected(outcome)
            | Worked::Dead(outcome)
            | Worked::Again { outcome, .. }
            | Worked::StillWorking { outcome, .. } => outcome,
        }
    }

    /// When the message is tried again, if it is.
    pub fn next_at(&self) -> Option<Timestamp> {
        match self {
            Worked::Again { not_before, .. } | Worked::StillWorking { not_before, .. } => {
                Some(*not_before)
            }
            Worked::Done(_) | Worked::Rejected(_) | Worked::Dead(_) => None,
        }
    }
}
